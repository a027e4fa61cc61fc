"""The way out of the whole bot: every stop ends flat, or says what is left (SPEC 17, DESIGN 3)."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Delay, Disconnect, Faults, HttpAnswer, Point, Rule
from hip3.fsm.lifecycle import LifecycleState
from hip3.fsm.order import OrderState
from hip3.ops.session import StoppedEarly
from hip3.settings.schema import HaltOnDisconnect
from hip3.simulate.world import START_MS, World
from tests.app.failures.scenes import (
    AMD,
    MU,
    NVDA,
    SNDK,
    TSLA,
    another_hand,
    breaking_dial,
    calm,
    cut,
    holding,
    jump,
    lost,
    quotes,
    refuse_connections,
    script,
    settings_of,
    steps,
    trading,
    unfenced,
    world_of,
)

EVERY_INFO = Rule(Point.INFO, HttpAnswer(500), uses=None)


def is_empty(world: World) -> bool:
    """The venue lists nothing of the account."""
    return not world.positions() and not world.open_orders()


async def test_a_flat_bot_stops_without_sending_anything(autojump_clock: object) -> None:
    """END-1, END-3: a stop while flat asks the venue, sends no action, and exits 0."""
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.ready()
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat, outcome.residual) == (0, True, ())
        assert world.actions() == []
        assert world.bot.lifecycle.state is LifecycleState.STOPPED


async def test_the_position_is_closed_before_the_exit(autojump_clock: object) -> None:
    """END-1, LESSONS 12: a stop while holding closes the position reduce-only, in less than two seconds of the venue's time;
    until the venue shows none the process does not end."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        began = trio.current_time()
        world.stop.request("Ctrl+C")
        await world.until(lambda: not world.positions())
        assert not world.ended.is_set()
        await world.ended.wait()
        assert world.result is not None
        outcome = world.result.outcome
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert is_empty(world)
        assert [(o["b"], o["t"]) for o in world.closes] == [(False, {"limit": {"tif": "Ioc"}})]
        assert trio.current_time() - began < 2  # measured: 1.46 s, of which 1.3 s are four answers of the venue


async def test_three_positions_leave_in_one_action(autojump_clock: object) -> None:
    """END-1: what can be closed together is closed together."""
    coins = (SNDK, NVDA)
    async with world_of(settings_of(*coins), trading(*coins)) as world:
        await holding(world, *coins)
        async with another_hand(world) as hand:
            await hand.take(MU, OrderSide.SELL, "0.2")
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat, len(world.closes)) == (0, True, 3)
        assert is_empty(world)
        closing = [a for a in world.actions("order") if a["orders"][0]["r"]]
        assert [len(a["orders"]) for a in closing] == [3]


async def test_a_post_in_flight_settles_before_anything_is_cancelled(autojump_clock: object) -> None:
    """END-1: the answer to an entry in flight is awaited, so its fill is known before the venue is asked what to close."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        await world.until(lambda: bool(world.entries))
        assert world.bot.posts.in_flight == 1
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)
        notes = [n.event if n.event != "way_out" else n.fields["step"] for n in world.events()]
        assert notes.index("settle") < notes.index("post_response") < notes.index("close")
        assert len(world.entries) == len(world.closes) == 1
        assert world.bot.posts.in_flight == 0


async def test_no_entry_leaves_after_the_stop(autojump_clock: object) -> None:
    """END-1: from the step of the request on no new order is sent, whatever the market does."""
    source = script(calm(SNDK, NVDA), jump(SNDK, 2500), jump(NVDA, 5500))
    async with world_of(settings_of(SNDK, NVDA), source) as world:
        await holding(world, SNDK)
        world.faults.add(lost("frontendOpenOrders", Point.INFO, action=Delay(4000)))
        await trio.sleep(5.4 - trio.current_time())
        await world.end()
        assert trio.current_time() > 9  # the oracle of the other market jumped meanwhile
        assert len(world.entries) == 1


async def test_orders_and_positions_of_others_on_the_account_go_too(autojump_clock: object) -> None:
    """END-1, STOP-2: whatever the venue lists is cancelled and closed, ours or not, also in a market that is not ours."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        async with another_hand(world) as hand:
            await hand.rest_bids(SNDK, 2)
            await hand.rest_bids(TSLA, 1)
            await hand.take(AMD, OrderSide.SELL, "0.2")
        assert len(world.open_orders()) == 3
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert is_empty(world)
        assert outcome.certificate is not None
        assert len(outcome.certificate.cancelled) == 3
        assert {line.split()[2] for line in outcome.certificate.closed} == {SNDK, AMD}
        assert steps(world).index("cancel") < steps(world).index("close")


async def test_the_certificate_says_what_was_asked_when_and_answered(autojump_clock: object) -> None:
    """STOP-2: the certificate names every question of every dex, when it was asked, the answer, and what was done."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        held = world.positions()[SNDK].szi
        stopped_ms = world.clock.wall_ms()
        certificate = (await world.end()).certificate
        assert certificate is not None
        assert stopped_ms <= certificate.started_ms < certificate.finished_ms == world.clock.wall_ms()
        asked = {(a.dex, a.what): a for a in certificate.asked}
        both = ("open orders", "positions")
        assert asked.keys() == {("", "list of dexes"), *((dex, what) for dex in ("", "xyz") for what in both)}
        assert asked["", "list of dexes"].answer == "main, xyz"
        assert asked["xyz", "open orders"].answer == "0 listed"
        assert asked["xyz", "positions"].answer.startswith("0 held, account value 999.")
        assert all(certificate.started_ms < a.at_ms <= certificate.finished_ms for a in asked.values())
        assert certificate.closed == (f"sell {held} {SNDK} at {quotes(SNDK, Decimal(600)).bids[0].px}",)
        assert certificate.as_dict()["flat"] is True


async def test_a_second_request_gives_up_and_lists_what_is_left(autojump_clock: object) -> None:
    """END-2: the second request ends the flatten; exit 4, and the list is what the venue says at that moment."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        async with another_hand(world) as hand:
            await hand.rest_bids(TSLA, 1)
        world.faults.add(lost("cancel", Point.BEFORE_ADMISSION))
        world.stop.request("Ctrl+C")
        await trio.sleep(0.4)
        outcome = await world.end("Ctrl+C again")
        assert (outcome.exit_code, outcome.flat) == (4, False)
        position, order = world.positions()[SNDK], world.open_orders()[0]
        assert outcome.residual == (
            f"order {order.oid}: buy 0.2 {TSLA} at {order.limit_px:.1f}",
            f"position: {position.szi} {SNDK}, entry {position.entry_px}",
        )
        assert world.bot.lifecycle.state is LifecycleState.STOPPED_EXPOSED


async def test_giving_up_is_never_exit_0(autojump_clock: object) -> None:
    """END-2: a flatten that was given up is not called clean, even where the last look shows nothing."""
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.ready()
        world.stop.request("Ctrl+C")
        outcome = await world.end("Ctrl+C again")
        assert outcome.exit_code == 4
        assert outcome.residual == ()
        assert is_empty(world)


async def test_a_venue_that_answers_500_is_never_flat(autojump_clock: object) -> None:
    """END-1, END-3, META-1: when no question is answered within the deadline, what is left is "not known" and exit is 4."""
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.ready()
        world.faults.add(EVERY_INFO)
        began = trio.current_time()
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (4, False)
        assert outcome.residual == (
            "list of dexes: not known; one that was not asked may hold anything",
            *(f"{what} of dex {dex}: not known" for dex in ("main", "xyz") for what in ("open orders", "positions")),
        )
        assert outcome.certificate is not None
        assert "not verified flat within 20 s" in outcome.certificate.problems
        assert any("answered 500" in problem for problem in outcome.certificate.problems)
        assert trio.current_time() - began == pytest.approx(20, abs=0.1)


async def test_a_market_without_buyers_leaves_the_position_on_the_list(autojump_clock: object) -> None:
    """END-1, END-3: without a level to close against the flatten ends at its deadline, with the position listed."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.world.one_sided[SNDK] = OrderSide.BUY
        outcome = await world.end()
        position = world.positions()[SNDK]
        assert (outcome.exit_code, outcome.flat) == (4, False)
        assert outcome.residual == (f"position: {position.szi} {SNDK}, entry {position.entry_px}",)
        assert outcome.certificate is not None
        assert f"{SNDK}: no level to close against" in outcome.certificate.problems


async def test_the_websocket_may_be_dead(autojump_clock: object) -> None:
    """END-4: with every connection refused the flatten works over HTTP alone."""
    async with world_of(settings_of(SNDK, safety={"halt_on_disconnect": HaltOnDisconnect.NEVER}), trading(SNDK)) as world:
        await holding(world, SNDK)
        refuse_connections(world)
        cut(world)
        await world.until(lambda: bool(world.events("ws_lost")))
        assert world.positions()
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert is_empty(world)


async def test_a_stop_while_the_venue_is_read_sends_nothing(autojump_clock: object) -> None:
    """END-1: before the bot was built there is nothing of ours to end: the session raises StoppedEarly at once."""
    faults = Faults([lost("meta", Point.INFO, uses=1, action=Delay(60_000))])
    with pytest.RaisesGroup(StoppedEarly):
        async with world_of(settings_of(SNDK), script(calm(SNDK)), faults=faults) as world:
            await trio.sleep(1)
            world.stop.request("Ctrl+C")
            try:
                await trio.sleep(1)
            finally:
                assert trio.current_time() == pytest.approx(1, abs=0.1)
                assert world.actions() == []
                assert not world.started.is_set()


async def test_a_stop_before_the_first_sync_still_asks_the_venue(autojump_clock: object) -> None:
    """END-1: what an earlier run left is ended too, though this one was never ready to trade."""
    faults = Faults([Rule(Point.CONNECT, Disconnect(), uses=None)])
    async with world_of(settings_of(SNDK), script(calm(SNDK)), faults=faults) as world:
        await world.started.wait()
        async with another_hand(world) as hand:
            await hand.take(SNDK, OrderSide.BUY, "0.1")
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat, len(world.closes)) == (0, True, 1)
        assert is_empty(world)


async def test_an_entry_in_doubt_is_waited_for_and_closed_when_it_lands(autojump_clock: object) -> None:
    """END-1, POST-4: while an entry may still be admitted nothing is called flat; this one lands late and is closed."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1, action=Delay(7000)), unfenced()])
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await world.ready()
        await world.until(lambda: bool(world.entries))
        sent_ms = world.clock.wall_ms()
        outcome = await world.end()
        assert len(world.fills()) == 2
        assert world.fills()[0].time_ms - sent_ms > 7000
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert is_empty(world)


async def test_an_entry_that_never_lands_holds_the_verdict_until_its_expiry(autojump_clock: object) -> None:
    """END-1, POST-4: the certificate is not written before the order can no longer be admitted."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION), unfenced()])
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await world.ready()
        await world.until(lambda: bool(world.entries))
        expires_ms = world.exchange.received[0][1].expires_after_ms
        outcome = await world.end()
        assert expires_ms is not None
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert outcome.certificate is not None
        verdict = [a for a in outcome.certificate.asked if a.what in ("open orders", "positions")]
        assert len(verdict) == 4
        assert all(a.at_ms > expires_ms for a in verdict)
        assert "wait" in steps(world)


async def test_a_burned_nonce_ends_the_wait_for_an_entry(autojump_clock: object) -> None:
    """END-1, POST-4: the noop takes the nonce of the entry in doubt during the way out: the verdict is no longer held up."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION)])
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await world.ready()
        await world.until(lambda: bool(world.entries))
        expires_ms = world.exchange.received[0][1].expires_after_ms
        outcome = await world.end()
        assert expires_ms is not None
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert "wait" in steps(world)
        assert world.clock.wall_ms() < expires_ms


async def test_an_unexpired_doubt_beyond_the_deadline_is_listed(autojump_clock: object) -> None:
    """END-3: an entry that may still be admitted when the deadline passes is part of what is left."""
    settings = settings_of(SNDK, executor={"expires_after_ms": 29_000})
    faults = Faults([lost("order", Point.BEFORE_ADMISSION), unfenced()])
    async with world_of(settings, trading(SNDK), faults=faults) as world:
        await world.ready()
        await world.until(lambda: bool(world.entries))
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (4, False)
        assert len(outcome.residual) == 1
        assert "may still be admitted" in outcome.residual[0]
        order = next(iter(world.bot.ledger.orders.values()))
        assert order.state is OrderState.UNKNOWN


async def test_the_deadline_covers_a_venue_that_never_answers(autojump_clock: object) -> None:
    """END-1: with every question left unanswered the way out still ends, within settle, deadline and a last look."""
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.ready()
        world.faults.add(lost("frontendOpenOrders", Point.INFO))
        began = trio.current_time()
        outcome = await world.end()
        assert outcome.exit_code == 4
        assert trio.current_time() - began <= 2 + 20 + 1
        assert world.clock.wall_ms() > START_MS


async def test_a_dial_that_hangs_does_not_hold_the_stop(autojump_clock: object) -> None:
    """END-1: a link that is waiting to dial again is ended with the rest."""
    dial = breaking_dial(range(1, 1000), OSError("network is unreachable"))
    async with world_of(settings_of(SNDK), script(calm(SNDK)), dial=dial) as world:
        await world.started.wait()
        await trio.sleep(30)
        began = trio.current_time()
        outcome = await world.end()
        assert (outcome.exit_code, trio.current_time() - began < 1) == (0, True)
