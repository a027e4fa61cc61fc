"""READY-TRADING from the venue's frames and answers (RDY-1 to RDY-3), and markets without data (MD-2)."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal

import trio

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Delay, Disconnect, Drop, Faults, Point, ReplaceBody, Rule
from hip3.fsm.lifecycle import LifecycleState
from hip3.fsm.ready import Condition, ReadyState
from hip3.simulate.world import World, open_world
from tests.app.app_builders import (
    ASSETS,
    FAST,
    MU,
    SNDK,
    Script,
    bot_settings,
    by_hand,
    closes,
    cut_account,
    cut_market,
    dislocated,
    entries,
    verdicts,
)

D = Decimal
BRIEF = {"position.time_stop_ms": 2000}


def names(world: World) -> list[str]:
    return [n.event for n in world.events()]


async def test_ready_needs_all_four_conditions_and_says_which_it_has() -> None:
    """RDY-1, RUN-1: acks, the snapshot of fills, orders and positions over REST, market data; each leaves its event."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.started.wait()
        assert world.bot.ready.state is ReadyState.NOT_READY
        assert world.bot.ready.missing == tuple(Condition)
        await world.ready()
        seen = names(world)
        for event in ("ws_connected", "subscribed", "user_fills_snapshot", "open_orders_loaded", "ready_trading"):
            assert event in seen
        assert seen.index("user_fills_snapshot") < seen.index("ready_trading") < seen.index("safety_mode")


async def test_an_account_without_any_order_becomes_ready() -> None:
    """RDY-1, PROTOCOL 2.2: `orderUpdates` sends nothing at all before the first order; its ack is enough."""
    kept: list[str] = []

    def strikes(channel: str) -> bool:
        kept.append(channel)
        return False

    faults = Faults([Rule(Point.FRAME, Drop(), strikes)])
    async with open_world(bot_settings(), Script().calm().source(), config=FAST, faults=faults) as world:
        await world.ready()
        assert "orderUpdates" not in kept
        assert "userFills" in kept


async def test_a_lost_session_clears_what_came_over_it() -> None:
    """RDY-2: the account's conditions fall with its session, market data stay; the log names what is missing."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        cut_account(world)
        await world.until(lambda: not world.bot.ready.is_ready, 1)
        assert world.bot.ready.holds(Condition.MD_READY)
        lost = world.events("not_ready")[-1].fields
        assert lost["missing"] == ["order_snapshot", "fills_snapshot", "position_synced"]
        await world.ready()


async def test_lost_market_data_clear_only_their_condition() -> None:
    """RDY-2, MD-2: without market data the account's conditions stand, and it is READY again when they are back."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        cut_market(world)
        await world.until(lambda: not world.bot.ready.is_ready, 1)
        assert world.bot.ready.missing == (Condition.MD_READY,)
        assert world.events("not_ready")[-1].fields["missing"] == ["md_ready"]
        await world.ready()


async def test_snapshot_fills_never_reopen_a_closed_position() -> None:
    """RDY-3, LESSONS 17: after a round trip the session is lost; the history comes again and nothing is counted twice."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("position_closed")), 6)
        cut_account(world)
        await world.until(lambda: len(world.events("user_fills_snapshot")) == 2, 3)
        await world.ready()
        assert world.events("user_fills_snapshot")[-1].fields["count"] == 2
        assert world.bot.ledger.held() == []
        assert (world.bot.tally.fills, world.bot.tally.trades, len(closes(world))) == (2, 1, 1)


async def test_fills_before_the_account_was_read_are_applied_after_it() -> None:
    """RDY-3: a fill between the subscription and the first reading waits for it and is booked once."""
    slow = Rule(Point.INFO, Delay(2000), lambda s: s == "clearinghouseState", skip=1)
    settings = bot_settings({"position.time_stop_ms": 20_000})
    async with open_world(settings, Script().calm().source(), config=FAST, faults=Faults([slow])) as world:
        await world.until(lambda: bool(world.events("user_fills_snapshot")), 2)
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await world.at(1000)
        assert world.bot.ledger.held() == []  # not yet: what it comes on top of is not known
        await world.ready()
        await world.until(lambda: bool(world.bot.ledger.held()), 1)
        (position,) = world.bot.ledger.held()
        fill = world.fills()[0]
        assert (position.szi, position.entry_ms, position.entry_px) == (D("0.05"), fill.time_ms, D("600.1"))
        await world.at(4000)
        assert position.szi == D("0.05")


async def test_one_empty_answer_does_not_make_a_position_flat() -> None:
    """POS-3, LESSONS 30: the reading after 60 s shows no position, the next one does; the time stop closes it as if nothing.

    The first difference is a doubt: it is read again at once, and the answer that shows the position ends the doubt.
    """
    empty = {"marginSummary": {"accountValue": "1000"}, "withdrawable": "1000", "assetPositions": [], "time": 0}
    script = Script().calm().pulse(64).rising(58, 58)
    async with open_world(bot_settings({"position.time_stop_ms": 4000}), script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 60)
        body = json.dumps({**empty, "time": world.clock.wall_ms() + 2500})
        world.faults.add(Rule(Point.INFO, ReplaceBody(body), lambda s: s == "clearinghouseState"))
        await world.until(lambda: not world.positions(), 8)
        assert len(world.events("in_doubt")) == 1
        assert world.events("position_corrected") == []
        assert len(closes(world)) == 1


async def test_a_market_without_quotes_does_not_block_the_others() -> None:
    """MD-2: no BBO of MU within 10 s: it is left out and said so, SNDK trades; when MU is quoted it trades as well."""
    count = itertools.count()
    silent = Rule(Point.FRAME, Drop(), lambda s: s == "bbo" and next(count) in (1, 3), uses=2)  # MU's, in both rounds
    script = Script().calm(SNDK, MU).rising(11, 12).pulse(20).quote(14_000, "599.9", "600.1", sz="11", coin=MU)
    script.rising(15, 17, coin=MU)
    settings = bot_settings(coins=(SNDK, MU))
    async with open_world(settings, script.source(), config=FAST, faults=Faults([silent])) as world:
        await world.until(lambda: bool(world.events("market_excluded")), 12)
        assert world.clock.mono_ms() >= 10_000
        assert world.events("market_excluded")[0].fields["coin"] == MU
        await world.until(lambda: SNDK in world.positions(), 4)
        await world.until(lambda: MU in world.positions(), 6)
        assert [n.fields["coin"] for n in world.events("market_included")] == [MU]
        assert [order["a"] for order in entries(world)] == [ASSETS[SNDK], ASSETS[MU]]


async def test_a_market_with_half_a_book_does_not_block_the_others() -> None:
    """MD-2: a one-sided market is not traded; the others are READY at once."""
    settings = bot_settings(coins=(SNDK, MU))
    script = dislocated(2, SNDK, MU).quote(0, "599.9", None, coin=MU)
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: SNDK in world.positions(), 4)
        assert verdicts(world, MU) == []


async def test_what_is_missing_is_said_again_while_it_lasts() -> None:
    """RDY-2, OBS-1, LESSONS 38: no quotes: after 5 s, then each 30 s, a line names what a market lacks."""
    mute = Rule(Point.FRAME, Drop(), lambda s: s == "bbo", uses=None)
    async with open_world(bot_settings(), Script().calm().source(), config=FAST, faults=Faults([mute])) as world:
        await world.at(70_000)
        said = world.events("still_not_ready")
        assert [n.fields["for_s"] for n in said] == [5, 35, 65]
        assert said[0].level == "warning"
        assert [n.fields["missing"] for n in said] == [["md_ready"]] * 3
        assert said[0].fields["markets"] == [f"{SNDK}: no BBO yet"]
        assert world.bot.lifecycle.state is LifecycleState.SYNC


async def test_a_usual_start_says_nothing_of_what_is_missing() -> None:
    """RDY-2: READY within 5 s, and RUNNING with it; a session that is lost begins the count anew."""
    async with open_world(bot_settings(), Script().calm().pulse(60).source(), config=FAST) as world:
        await world.ready()
        await world.until(lambda: world.bot.lifecycle.state is LifecycleState.RUNNING, 1)
        await world.at(10_000)
        assert world.events("still_not_ready") == []
        world.faults.add(Rule(Point.CONNECT, Disconnect(), uses=None))
        cut_account(world)
        await world.until(lambda: bool(world.events("still_not_ready")), 8)
        said = world.events("still_not_ready")[0].fields
        assert said["missing"] == ["order_snapshot", "fills_snapshot", "position_synced"]
        assert (said["markets"], said["for_s"]) == ([], 5)


async def test_who_waits_for_ready_is_woken_when_it_holds() -> None:
    """RDY-2: `wait_ready` returns in the step after the last condition, at once where it holds, and again after a loss."""
    async with open_world(bot_settings(), Script().calm().pulse(60).source(), config=FAST) as world:
        await world.started.wait()
        for _ in range(2):
            with trio.fail_after(10):
                await world.bot.ready_watch.wait_ready()
            assert world.bot.ready.is_ready
            assert world.events()[-1].event != "not_ready"
            cut_account(world)
            await world.until(lambda: not world.bot.ready.is_ready, 2)


async def test_a_market_that_was_left_out_is_subscribed_anew() -> None:
    """MD-2: no quote comes and none changes: after 10 s it is left out and retried, again after 30 s; then it trades."""
    lost = Rule(Point.FRAME, Drop(), lambda s: s == "bbo", uses=None)
    script = Script().calm().oracle(12_500, "602").oracle(42_500, "603")
    async with open_world(bot_settings(), script.source(), config=FAST, faults=Faults([lost])) as world:
        await world.until(lambda: bool(world.events("market_retried")), 11)
        assert world.clock.mono_ms() >= 10_000
        await world.at(30_000)
        assert len(world.events("market_retried")) == 1
        world.faults.rules.clear()
        await world.until(lambda: bool(world.events("market_included")), 12)
        assert 40_000 <= world.clock.mono_ms() <= 42_000
        assert world.bot.market_link.connects == 1
        await world.until(lambda: bool(world.positions()), 4)
