"""Closing in the running bot: exits of the executor, and HALT, which owns all closing while it lasts (SPEC 14, 15)."""

from __future__ import annotations

import trio

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Delay, HttpAnswer, Point
from hip3.fsm.order import OrderState
from hip3.fsm.position import PositionState
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import World
from tests.app.failures.scenes import (
    AMD,
    MU,
    NVDA,
    PRICES,
    SNDK,
    TSLA,
    another_hand,
    calm,
    cut,
    holding,
    jump,
    lost,
    refuse_connections,
    script,
    settings_of,
    trading,
    unfenced,
    world_of,
)


async def halted(world: World) -> None:
    await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT)


async def certified(world: World) -> None:
    """Until HALT has ended flat."""
    await world.until(lambda: any(n.fields["flat"] for n in world.events("halt_flatten")), within_s=120)


async def test_the_whole_way_out_with_five_positions_and_fifty_orders(autojump_clock: object) -> None:
    """END-1: from the request to the exit in 3 s: measured 2.9 s, of which 2.7 s are six answers of the venue."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        async with another_hand(world) as hand:
            for coin in (NVDA, TSLA, MU, AMD):
                await hand.take(coin, OrderSide.BUY, "0.2")
            for coin in PRICES:
                await hand.rest_bids(coin, 10)
        assert (len(world.positions()), len(world.open_orders())) == (5, 50)
        began = trio.current_time()
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert (world.positions(), world.open_orders()) == ({}, ())
        assert trio.current_time() - began < 3.5


async def test_halt_cancels_closes_certifies_and_waits(autojump_clock: object) -> None:
    """STOP-2, STOP-3: a link lost while exposed: everything the venue lists goes, ours or not; then nothing more happens."""
    source = script(calm(*PRICES), jump(SNDK, 2500), jump(NVDA, 15_500))
    async with world_of(settings_of(SNDK, NVDA), source) as world:
        await holding(world, SNDK)
        async with another_hand(world) as hand:
            await hand.rest_bids(TSLA, 2)
            await hand.take(AMD, OrderSide.SELL, "0.2")
        cut(world)
        await halted(world)
        await certified(world)
        assert (world.positions(), world.open_orders()) == ({}, ())
        assert trio.current_time() < 12
        await trio.sleep(20)
        assert world.bot.safety.mode is SafetyMode.HALT
        first, *again = world.events("halt_flatten")
        assert first.fields["closed"]
        assert all(look.fields["flat"] and look.fields["orders_sent"] == 0 for look in again)
        verdicts = [str(n.fields["verdict"]) for n in world.events("signal_judged")]
        assert verdicts == ["Queued", "Rejected(HardStop)"]
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)


async def test_halt_works_without_any_websocket(autojump_clock: object) -> None:
    """END-4, STOP-3: nobody can connect any more; HALT flattens over HTTP all the same."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        refuse_connections(world)
        cut(world)
        await certified(world)
        assert world.positions() == {}
        assert world.bot.trader is not None
        assert not world.bot.trader.account_link.is_up


async def test_halt_leaves_room_to_ask(autojump_clock: object) -> None:
    """STOP-2, PROTOCOL 8: no buyer for two minutes: HALT never gives up, and never asks so often that the venue refuses."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.world.one_sided[SNDK] = OrderSide.BUY
        cut(world)
        await halted(world)
        await trio.sleep(120)
        tries = world.events("halt_flatten")
        assert len(tries) >= 3
        assert all(n.level == "critical" and n.fields["residual"] for n in tries)
        assert "429" not in str([n.fields["problems"] for n in tries])
        del world.faults.world.one_sided[SNDK]
        await certified(world)
        assert world.positions() == {}


async def test_halt_owns_all_closing(autojump_clock: object) -> None:
    """DESIGN 6: the time stop passes while HALT is closing; one closing order is sent, not two."""
    settings = settings_of(SNDK, position={"time_stop_ms": 4000})
    async with world_of(settings, trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.add(lost("l2Book", Point.INFO, uses=1, action=Delay(4000)))
        cut(world)
        await certified(world)
        assert len(world.closes) == 1
        assert world.events("time_stop_triggered") == []


async def test_a_close_in_the_queue_is_left_to_halt(autojump_clock: object) -> None:
    """DESIGN 6, LESSONS 8: a close that waits for its tick when HALT comes is dropped, not sent beside the flatten's own."""
    settings = settings_of(SNDK, executor={"period_ms": 8000}, position={"time_stop_ms": 5000})
    async with world_of(settings, trading(SNDK)) as world:
        await holding(world, SNDK)
        await world.until(lambda: bool(world.events("reduce_only_enqueued")))
        cut(world)
        await certified(world)
        await trio.sleep(10)
        assert len(world.closes) == 1
        assert world.positions() == {}
        await world.until(lambda: not world.bot.ledger.orders)


async def test_a_stop_during_halt_takes_over(autojump_clock: object) -> None:
    """END-1, STOP-2: Ctrl+C while HALT is still trying: one flatten runs, the way out's, and it ends as any other."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.world.one_sided[SNDK] = OrderSide.BUY
        cut(world)
        await halted(world)
        await trio.sleep(3)
        world.stop.request("Ctrl+C")
        await trio.sleep(3)
        world.faults.world.one_sided.clear()
        await world.ended.wait()
        assert world.result is not None
        assert (world.result.outcome.exit_code, world.result.outcome.flat) == (0, True)
        assert len(world.closes) == 1


async def test_one_closing_order_at_a_time(autojump_clock: object) -> None:
    """EXIT-3, LESSONS 8: the close is on its way for four seconds, the time stop is over all along: one order is sent."""
    settings = settings_of(SNDK, position={"time_stop_ms": 3000})
    async with world_of(settings, trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.add(lost("order", Point.BEFORE_ADMISSION, uses=1, action=Delay(4000)))
        await world.until(lambda: bool(world.closes))
        assert world.bot.ledger.position(SNDK).state is PositionState.CLOSING
        await world.until(lambda: not world.positions())
        await trio.sleep(5)
        assert len(world.closes) == 1
        assert world.bot.ledger.position(SNDK).state is PositionState.FLAT


async def test_an_entry_that_lands_after_the_link_was_lost_is_closed(autojump_clock: object) -> None:
    """STOP-2, DESIGN 9.9: HALT calls nothing flat while an entry may still be admitted; this one lands and is closed."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        world.faults.add(lost("order", Point.BEFORE_ADMISSION, uses=1, action=Delay(6000)), unfenced())
        await world.ready()
        await world.until(lambda: bool(world.entries))
        cut(world)
        await certified(world)
        assert len(world.fills()) == 2
        assert world.positions() == {}
        await world.until(lambda: not world.bot.ledger.orders)
        entry = next(o for o in world.bot.ledger.finished.values() if not o.intent.reduce_only)
        assert entry.state is OrderState.FILLED
        assert not world.bot.ledger.held()


async def test_an_account_that_cannot_be_read_does_not_stop_halt(autojump_clock: object) -> None:
    """LESSONS 7: the venue answers 500 about positions for ten seconds: HALT says so, and is flat when it can know."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.add(lost("clearinghouseState", Point.INFO, action=HttpAnswer(500)))
        world.exchange.call_later(10_000, world.faults.rules.clear)
        cut(world)
        await certified(world)
        assert world.positions() == {}
        problems = world.events("halt_flatten")[-1].fields["problems"]
        assert "answered 500" in str(problems)


async def test_a_position_that_appears_during_halt_is_closed(autojump_clock: object) -> None:
    """STOP-2: while HALT lasts nothing stays open on the account, whoever opened it and whenever."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        cut(world)
        await certified(world)
        async with another_hand(world) as hand:
            await hand.take(SNDK, OrderSide.BUY, "0.1")
        await world.until(lambda: not world.positions(), within_s=90)


async def test_positions_of_before_the_orders_were_listed_prove_nothing(autojump_clock: object) -> None:
    """END-2, DESIGN 9.9, LESSONS 7: orders are not listed until the last seconds, and then positions are not: what filled in
    between is not known, so it is not flat, and the list of what is left says so."""
    async with world_of(settings_of(SNDK), script(calm(*PRICES))) as world:
        await world.ready()
        deadline_s = world.bot.settings.shutdown.flatten_deadline_s

        def turn() -> None:
            world.faults.rules.clear()
            world.faults.add(lost("clearinghouseState", Point.INFO))

        world.faults.add(lost("frontendOpenOrders", Point.INFO, action=HttpAnswer(500)))
        world.exchange.call_later(int(deadline_s * 1000) - 4000, turn)
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (4, False)
        assert outcome.residual
        assert all("not known since" in sentence for sentence in outcome.residual)


async def test_answers_of_a_time_of_doubt_do_not_certify(autojump_clock: object) -> None:
    """END-1, DESIGN 9.9: an entry executes after its dex answered "0 held" and before the slowest other question ends. Its
    doubt is over by then; the answer is asked for again all the same, and what the entry opened is closed."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.add(unfenced(), lost("order", Point.BEFORE_ADMISSION, uses=1, action=Delay(6_000)))
        await world.until(lambda: world.bot.posts.in_flight > 0)
        world.faults.add(lost("perpDexs", Point.INFO, uses=1))
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)
        assert len(world.fills()) == 2
        assert world.positions() == {}
