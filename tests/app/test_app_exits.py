"""Exits from the clock and the venue's frames to closing orders on the wire (EXIT-1, EXIT-3, EXIT-4, POS-1, GATE-4)."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal

import attrs
import pytest

from hip3.core.ids import ClientOrderId, OrderSide
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Delay, Drop, Faults, Point, ReplaceBody, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import START_MS, World, open_world
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
    dislocated,
    entries,
    judged,
    sent,
)

D = Decimal
BRIEF = {"position.time_stop_ms": 2000, "position.reduce_only_timeout_ms": 4000}
VENUE = ExchangeConfig()
"""The venue's own pace: at least 300 ms from send to answer."""
TIMER_MS = 50
"""The period of the timers: a time stop is late by at most this, and the order's own way."""


async def closed(world: World, coin: str = SNDK, within_s: float = 10) -> None:
    """Waits until a position was there and the venue shows none."""
    await world.until(lambda: coin in world.positions(), within_s)
    await world.until(lambda: coin not in world.positions(), within_s)


async def test_time_stop_closes_the_whole_position() -> None:
    """EXIT-1, EXIT-4: after time_stop_ms one reduce-only IOC of the whole size, 50 bps beyond the opposing level."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await closed(world)
        ((at_ms, order),) = closes(world)
        entry_ms = world.fills()[0].time_ms - START_MS
        assert 2000 < at_ms - entry_ms <= 2000 + 2 * TIMER_MS
        assert (order["a"], order["b"], order["r"]) == (ASSETS[SNDK], False, True)
        assert (order["s"], order["p"]) == (entries(world)[0]["s"], "596.9")  # 599.9 less 50 bps, down to a tick
        assert order["t"] == {"limit": {"tif": "Ioc"}}
        assert ClientOrderId(str(order["c"])).is_ours
        assert sent(world)[-1][1].expires_after_ms is None  # a close that lands late still only closes
        assert len(world.events("time_stop_triggered")) == 1


async def test_a_short_position_is_bought_back() -> None:
    """EXIT-4: the side is opposite, the price is rounded up."""
    script = Script().calm().oracle(1500, "598")
    async with open_world(bot_settings(BRIEF), script.source(), config=FAST) as world:
        await closed(world)
        ((_, order),) = closes(world)
        assert (order["b"], order["p"]) == (True, "603.11")  # 600.1 and 50 bps are 603.1005


async def test_a_partial_close_goes_on_with_a_fresh_price_and_wider_slippage() -> None:
    """EXIT-3, EXIT-4: what an IOC did not get is the next order's whole size, 75 bps beyond the level that is there now."""
    script = dislocated().depth(3000, [("599.9", "0.03"), ("590", "100")], [("600.1", "10")])
    async with open_world(bot_settings(BRIEF), script.source(), config=FAST) as world:
        await closed(world)
        first, second = (order for _, order in closes(world))
        assert (first["s"], first["p"]) == ("0.082", "596.9")
        assert (second["s"], second["p"]) == ("0.052", "585.57")  # 590 less 75 bps is 585.575
        assert first["c"] != second["c"]


async def test_a_refused_close_is_tried_again_one_at_a_time() -> None:
    """EXIT-3, POST-3, LESSONS 8: without bids each attempt is refused and followed by the next, never two at once,
    widening to the cap.

    The first three go at once, then the pauses grow: a book without bids must not use up the account's actions (GATE-5).
    """
    script = dislocated().quote(3500, None, "600.1").quote(12_000, "599", "600.1")
    settings = bot_settings({**BRIEF, "position.reduce_only_timeout_ms": 20_000})
    async with open_world(settings, script.source(), config=VENUE) as world:
        await closed(world, within_s=20)
        attempts = closes(world)
        prices = [D(str(order["p"])) for _, order in attempts]
        assert prices[:4] == [D("597"), D("595.5"), D("594"), D("592.5")]  # 50, 75, 100, 125 bps below the mark of 600
        assert set(prices[6:-1]) == {D("588")}  # 200 bps, the cap
        times = [at for at, _ in attempts]
        round_trip_ms = VENUE.latency_ms + VENUE.response_ms
        assert all(later - earlier >= round_trip_ms for earlier, later in itertools.pairwise(times))
        assert len({order["c"] for _, order in attempts}) == len(attempts) >= 8
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(gaps[:2]) < 600
        refused = world.events("close_refused")
        assert [n.fields["cloid"] for n in refused] == [order["c"] for _, order in attempts[:-1]]
        assert {n.level for n in refused} == {"critical"}  # POST-3: an alert, and nothing of it is sent again
        assert min(gaps[4:]) > 1000
        assert len(world.events("action_rejected")) == len(attempts) - 1


async def test_an_overdue_position_is_said_loudly_and_closing_goes_on() -> None:
    """EXIT-1, POS-2: over reduce_only_timeout_ms: one critical event, no entries, attempts go on; flat, it clears."""
    script = dislocated(2, SNDK).quote(3000, None, "600.1").quote(9000, "599", "600.1")
    script.calm(MU).pulse(20, coin=MU).rising(7, 19, coin=MU)
    async with open_world(bot_settings(BRIEF, coins=(SNDK, MU)), script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("flatten_failed")), 9)
        assert world.bot.safety.mode is SafetyMode.ARMED_SAFE
        said_ms = world.clock.mono_ms()
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 3)
        assert "FLATTEN_FAILED" in str(judged(world, "Rejected(HardStop)")[0].fields["detail"])
        await world.until(lambda: not world.positions(), 9)
        assert closes(world)[-2][0] > said_ms  # it kept trying
        notes = world.events("flatten_failed")
        assert [n.level for n in notes] == ["critical"]
        assert not any(order["a"] == ASSETS[MU] for order in entries(world))
        await world.until(lambda: any(order["a"] == ASSETS[MU] for order in entries(world)), 9)


@pytest.mark.parametrize("history", ["whole", "lost"])
async def test_an_overdue_position_that_someone_else_closed_frees_the_bot(history: str) -> None:
    """EXIT-3, LESSONS 32: closed by hand while the link was down, a failed flatten does not hold the bot for ever.

    Neither where the venue's list of fills tells of it, nor where only its statement of positions does.
    """
    settings = bot_settings({**BRIEF, "safety.halt_on_disconnect": "never"}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).quote(3000, None, "600.1").quote(7600, "599", "600.1")
    script.calm(MU).rising(9, 14, coin=MU)
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("flatten_failed")), 9)
        await world.at(7500)
        cut_account(world)
        if history == "lost":
            empty = {"channel": "userFills", "data": {"isSnapshot": True, "user": world.user, "fills": []}}
            world.faults.add(Rule(Point.FRAME, ReplaceBody(json.dumps(empty)), lambda s: s == "userFills"))
        await world.at(7700)
        await by_hand(world, OrderSide.SELL, "599", entries(world)[0]["s"], reduce_only=True)
        await world.until(lambda: any(order["a"] == ASSETS[MU] for order in entries(world)), 9)


async def test_dust_is_closed_whole() -> None:
    """EXIT-4, LESSONS 41: 1.2 USD, far below the venue's minimum of 10, goes in one order, whole, and is taken."""
    async with open_world(bot_settings(BRIEF), Script().calm().source(), config=FAST) as world:
        await by_hand(world, OrderSide.BUY, "600.1", "0.02")
        await by_hand(world, OrderSide.SELL, "599.9", "0.018")
        await closed(world)
        assert [order["s"] for _, order in closes(world)] == ["0.002"]


def late_boot(delay_ms: int = 4000) -> Faults:
    """The venue's first answer takes that long, so that the bot comes late to what is there."""
    return Faults([Rule(Point.INFO, Delay(delay_ms), lambda s: s == "perpDexs")])


async def test_a_position_found_at_the_start_keeps_its_age() -> None:
    """POS-1, EXIT-1: adopted with the time of its first fill, it is closed 6 s after that, not after the boot."""
    settings = bot_settings({"position.time_stop_ms": 6000})
    async with open_world(settings, Script().calm().source(), config=FAST, faults=late_boot()) as world:
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await by_hand(world, OrderSide.SELL, "599.9", "0.02")
        await closed(world)
        ((at_ms, order),) = closes(world)
        assert world.bot.started_ms > START_MS + 4000
        assert 6000 < at_ms <= 6100 + 2 * TIMER_MS
        assert (order["b"], order["s"]) == (False, "0.03")
        assert world.bot.trader is not None
        trades = world.bot.trader.position.trades
        await world.until(lambda: bool(trades), 1)
        assert trades[0].entry_ms == world.fills()[0].time_ms < START_MS + 100


async def test_a_position_older_than_the_history_is_aged_from_when_it_was_found() -> None:
    """POS-1: where the venue's fills do not reach back to the entry, its age counts from the first reading."""
    config = attrs.evolve(FAST, fill_retention=1)
    settings = bot_settings({"position.time_stop_ms": 3000})
    async with open_world(settings, Script().calm().source(), config=config, faults=late_boot()) as world:
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await by_hand(world, OrderSide.BUY, "600.1", "0.03")
        await closed(world)
        ((at_ms, order),) = closes(world)
        assert order["s"] == "0.08"
        assert 7000 < at_ms <= 7500


async def test_a_resync_does_not_put_the_time_stop_off() -> None:
    """EXIT-1, LESSONS 11: the session is lost and everything is read again; the position is closed at its own time."""
    settings = bot_settings({"position.time_stop_ms": 4000, "safety.halt_on_disconnect": "never"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 4)
        entry_ms = world.fills()[0].time_ms - START_MS
        await world.at(3000)
        cut_account(world)
        await world.until(lambda: not world.positions(), 6)
        assert world.bot.trader is not None
        assert world.bot.trader.account_link.connects == 2
        assert 4000 < closes(world)[0][0] - entry_ms <= 4000 + 2 * TIMER_MS


async def test_what_was_closed_by_hand_is_not_closed_again() -> None:
    """EXIT-3, POS-3: the owner closes the position; the bot sends nothing and may trade the market again."""
    async with open_world(bot_settings(BRIEF), dislocated().rising(6, 8, start_px=620).source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 4)
        await by_hand(world, OrderSide.SELL, "599.9", entries(world)[0]["s"], reduce_only=True)
        await world.until(lambda: len(entries(world)) == 2, 7)
        assert closes(world) == []


async def test_what_was_added_by_hand_is_closed_with_the_rest() -> None:
    """EXIT-4: the size of the close is that of the position, whoever bought it."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 4)
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await world.until(lambda: not world.positions(), 4)
        assert [order["s"] for _, order in closes(world)] == ["0.132"]


async def test_a_position_in_a_market_that_is_not_configured() -> None:
    """GATE-2, EXIT-1: it blocks entries and is reported, not repeated without end; the way out closes it with the rest."""
    async with open_world(bot_settings(BRIEF), Script().calm(SNDK, MU).rising(3, 6).source(), config=FAST) as world:
        await by_hand(world, OrderSide.BUY, "600.1", "0.05", coin=MU)
        await world.until(lambda: bool(judged(world, "Rejected(NotReady)")), 5)
        assert MU in str(judged(world, "Rejected(NotReady)")[0].fields["detail"])
        await world.at(5000)
        assert entries(world) == []
        assert len(world.events("close_unpriced")) == 1
        assert world.events("close_unpriced")[0].level == "critical"
        outcome = await world.end()
        assert (outcome.exit_code, world.positions()) == (0, {})


async def test_a_close_whose_answer_is_lost_is_sent_again_under_its_id() -> None:
    """POST-3, EXIT-3: unanswered, it is requeued with the same id; nothing is closed twice and the market is free after."""
    faults = Faults([Rule(Point.BEFORE_ADMISSION, Drop(), lambda s: s == "order", skip=1)])
    settings = bot_settings({**BRIEF, "executor.post_timeout_ms": 500})
    script = dislocated().rising(7, 9, start_px=620)
    async with open_world(settings, script.source(), config=FAST, faults=faults) as world:
        await closed(world)
        first, second = closes(world)
        assert first[1]["c"] == second[1]["c"]
        assert 500 <= second[0] - first[0] <= 600
        await world.until(lambda: len(entries(world)) == 2, 5)


@pytest.mark.parametrize("reason", ["time_stop", "halt", "shutdown"])
async def test_a_trade_says_why_it_ended(reason: str) -> None:
    """JRN-1: closed by its time stop, by a HALT or by the end of the run: the trade is booked and says which."""
    settings = bot_settings({**BRIEF, "safety.halt_on_disconnect": "always"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("position_updated")), 4)
        if reason == "halt":
            cut_account(world)
        if reason == "shutdown":
            await world.end()
        assert world.bot.trader is not None
        trades = world.bot.trader.position.trades
        await world.until(lambda: bool(trades), 5)
        assert not world.positions()
        assert [trade.exit_reason for trade in trades] == [reason]
        assert world.bot.tally.trades == 1


async def test_a_loss_taken_by_the_halt_procedure_counts() -> None:
    """LESSONS 18: the position is closed while the session is down; its loss is in tally and limits all the same."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("position_updated")), 4)
        cut_account(world)
        await world.until(lambda: bool(world.events("position_closed")), 5)
        assert world.bot.tally.pnl_usd == world.bot.limits.pnl_usd < 0
        assert world.bot.tally.pnl_usd == sum((f.closed_pnl - f.fee for f in world.fills()), D(0))


async def test_a_stop_while_a_close_is_under_way_keeps_its_reason() -> None:
    """JRN-1: the time stop had sent its close when the way out began; the trade ended by the time stop."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await world.until(lambda: len(closes(world)) == 1)
        assert SNDK in world.positions()
        assert (await world.end()).exit_code == 0
        (note,) = world.events("position_closed")
        assert note.fields["exit_reason"] == "time_stop"
