"""Every entry gate from a venue frame to the wire, or to the order that is not there (GATE-1 to GATE-4, LESSONS 1)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from decimal import Decimal

import attrs
import pytest

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Delay, Drop, FaultAction, Faults, HttpAnswer, Point, RefuseText, ReplaceBody, Rule
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import (
    ASSETS,
    FAST,
    MU,
    NVDA,
    SLOW,
    SNDK,
    Script,
    bot_settings,
    by_hand,
    closes,
    cut_account,
    cut_market,
    dislocated,
    entries,
    judged,
    sent,
    verdicts,
)

D = Decimal
SMALL = {"detector.max_order_notional_usd": 20, "position.time_stop_ms": 2000}
"""Orders of 20 USD in a market of 50: a second one would fit, so the caps are not what refuses it."""
BRIEF = {"position.time_stop_ms": 2000}


def is_kind(kind: str) -> Callable[[str], bool]:
    return lambda subject: subject == kind


async def wait_for(world: World, verdict: str, within_s: float = 10) -> str:
    """Waits until the gates have said this of some signal; returns the first one's detail."""
    found: list[str] = []

    def seen() -> bool:
        found.extend(str(n.fields["detail"]) for n in judged(world, verdict))
        return bool(found)

    await world.until(seen, within_s)
    return found[0]


def entry_coins(world: World) -> list[int]:
    return [order["a"] for order in world.entries]


async def test_a_signal_in_live_mode_reaches_the_wire() -> None:
    """GATE-1: with every gate open a dislocation in the venue's frames becomes one order at the venue."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 5)
        assert verdicts(world) == ["Queued"]
        assert entry_coins(world) == [ASSETS[SNDK]]
        assert world.positions()[SNDK].szi > 0


async def test_hard_stop_before_promotion() -> None:
    """GATE-1, SAFE-2: with startup_policy manual the start stays ARMED_SAFE: signals are judged, no entry is sent."""
    settings = bot_settings({"safety.startup_policy": "manual"})
    async with open_world(settings, Script().calm().rising(2, 5).source(), config=FAST) as world:
        await world.until(lambda: len(verdicts(world)) == 4, 7)
        assert set(verdicts(world)) == {"Rejected(HardStop)"}
        assert judged(world, "Rejected(HardStop)")[0].fields["detail"] == "BOOTSTRAP"
        assert world.actions() == []


async def test_hard_stop_passes_when_its_cause_goes() -> None:
    """GATE-1, STOP-3: while the account link is down a signal is refused and nothing is sent; after READY it trades."""
    async with open_world(bot_settings(), Script().calm().rising(2, 8).source(), config=FAST) as world:
        await world.ready()
        await world.at(1900)
        cut_account(world)
        assert "WS_DISCONNECT" in await wait_for(world, "Rejected(HardStop)", 1)
        assert world.entries == []
        await wait_for(world, "Queued")
        await world.until(lambda: bool(world.positions()), 1)


async def test_not_ready_until_market_data_is_judged_ready() -> None:
    """GATE-1, MD-2: the first frames after a reconnect of the market data may hold a signal; it is refused by md_ready."""
    async with open_world(bot_settings(), Script().calm().rising(3, 8).source(), config=FAST) as world:
        await world.ready()
        await world.at(2300)
        cut_market(world)
        assert await wait_for(world, "Rejected(NotReady)", 3) == "md_ready"
        assert world.entries == []
        await wait_for(world, "Queued", 5)


async def test_not_ready_without_acks_of_market_data() -> None:
    """GATE-1, MD-2: data that come without the acks of their subscriptions do not make a market ready."""
    async with open_world(bot_settings(), Script().calm().rising(3, 9).source(), config=FAST) as world:
        await world.ready()
        world.faults.add(Rule(Point.FRAME, Drop(), is_kind("subscriptionResponse"), uses=2))
        cut_market(world)
        assert await wait_for(world, "Rejected(NotReady)", 5) == "no ack of bbo"
        assert world.entries == []
        cut_market(world)
        await wait_for(world, "Queued", 5)


async def test_not_ready_without_a_mark() -> None:
    """GATE-2: a context without a mark price is NotReady, never a notional of zero."""
    no_mark = json.dumps({"channel": "activeAssetCtx", "data": {"coin": SNDK, "ctx": {"oraclePx": "601.5"}}})
    faults = Faults([Rule(Point.FRAME, ReplaceBody(no_mark), is_kind("activeAssetCtx"), skip=2)])
    async with open_world(bot_settings(), dislocated(4).source(), config=FAST, faults=faults) as world:
        assert await wait_for(world, "Rejected(NotReady)", 5) == f"no fresh mark of {SNDK}"
        assert world.entries == []
        await wait_for(world, "Queued", 5)


async def test_not_ready_while_the_mark_of_a_held_market_is_stale() -> None:
    """GATE-2: each held market counts at its own mark; where that is stale nothing is opened elsewhere either."""
    every_second = itertools.cycle([False, True])  # contexts go out in the order of subscription: SNDK, MU
    lost = Rule(Point.FRAME, Drop(), lambda s: s == "activeAssetCtx" and next(every_second), skip=4, uses=6)
    settings = bot_settings({"detector.max_order_notional_usd": 20}, coins=(SNDK, MU))
    script = Script().calm(SNDK, MU).oracle(1500, "602", coin=MU).rising(8, 14).pulse(15)
    async with open_world(settings, script.source(), config=FAST, faults=Faults([lost])) as world:
        await world.until(lambda: MU in world.positions(), 4)
        assert await wait_for(world, "Rejected(NotReady)", 9) == f"no fresh mark of {MU}, which is held or pending"
        assert entry_coins(world) == [ASSETS[MU]]
        await world.until(lambda: SNDK in world.positions(), 8)


CONDITIONS: dict[str, tuple[Point, str, FaultAction, int]] = {
    "order_snapshot": (Point.INFO, "frontendOpenOrders", HttpAnswer(500), 2),
    "fills_snapshot": (Point.FRAME, "userFills", Delay(4000), 1),
    "position_synced": (Point.INFO, "clearinghouseState", HttpAnswer(502, "<html>"), 2),
    "md_ready": (Point.FRAME, "bbo", Drop(), 4),
}


@pytest.mark.parametrize("missing", CONDITIONS)
async def test_no_entry_while_a_condition_of_ready_is_missing(missing: str) -> None:
    """GATE-1, RDY-1: without any one of the four conditions signals become no order; with it, the next one does.

    The first three belong to the account session, without which the mode is ARMED_SAFE: HardStop refuses before NotReady.
    """
    point, subject, action, uses = CONDITIONS[missing]
    skip = 1 if point is Point.INFO else 0  # the start asks too, and refuses without an answer
    faults = Faults([Rule(point, action, is_kind(subject), skip=skip, uses=uses)])
    script = Script().calm().rising(2, 9)
    for second in range(1, 9):  # a quote that changes, so that the market is heard of again
        script.quote(second * 1000, f"599.{80 + second}", "600.1")
    async with open_world(bot_settings(), script.source(), config=FAST, faults=faults) as world:
        await world.started.wait()
        await world.at(2200)
        assert missing in [c.value for c in world.bot.ready.missing]
        assert world.entries == []
        assert "Queued" not in verdicts(world)
        await wait_for(world, "Queued", 9)


async def test_max_position_per_market_is_refused_and_free_after_the_close() -> None:
    """GATE-2: position + this order over 50 USD is refused, not cut down; after the close the market trades again."""
    async with open_world(bot_settings(BRIEF), Script().calm().rising(2, 9).source(), config=FAST) as world:
        detail = await wait_for(world, "Rejected(MaxPositionPerMarket)", 5)
        assert "> 50 USD" in detail
        assert len(world.entries) == 1
        await world.until(lambda: len(world.entries) == 2, 6)
        assert verdicts(world)[0] == verdicts(world)[-1] == "Queued"


async def test_max_position_per_market_judges_at_the_mark() -> None:
    """GATE-2: the notional is size x mark: an order of 49 USD at its price is over 50 USD at a mark two per cent above."""
    script = Script().calm().oracle(1500, "602", mark="613").oracle(3500, "603", mark="600")
    async with open_world(bot_settings(), script.source(), config=FAST) as world:
        await wait_for(world, "Rejected(MaxPositionPerMarket)", 4)
        assert world.entries == []
        await wait_for(world, "Queued", 4)


async def test_max_position_total_over_two_markets() -> None:
    """GATE-2: two markets that are each within 50 USD do not pass a total of 60; when the first is closed the other may."""
    settings = bot_settings({**BRIEF, "limits.max_notional_total_usd": 60}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).rising(3, 8, coin=MU)
    async with open_world(settings, script.source(), config=FAST) as world:
        assert "> 60 USD in total" in await wait_for(world, "Rejected(MaxPositionTotal)", 5)
        assert entry_coins(world) == [ASSETS[SNDK]]
        await world.until(lambda: entry_coins(world) == [ASSETS[SNDK], ASSETS[MU]], 6)
        assert world.exchange.peak_exposure_usd(world.user) < 60


async def test_pending_entries_count_towards_the_total() -> None:
    """GATE-2: an order that is still on its way counts as if it were filled."""
    settings = bot_settings({"limits.max_notional_total_usd": 60}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).rising(3, 3, coin=MU)
    async with open_world(settings, script.source(), config=SLOW) as world:
        await wait_for(world, "Rejected(MaxPositionTotal)", 4)
        assert world.positions() == {}  # the first order was still in flight
        assert entry_coins(world) == [ASSETS[SNDK]]


async def test_a_closing_order_in_flight_is_not_counted() -> None:
    """GATE-2: reduce-only orders are not counted: held 49 + closing 49 + wanted 49 fits into 110."""
    settings = bot_settings({"position.time_stop_ms": 2000, "limits.max_notional_total_usd": 110}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).rising(7, 7, coin=MU)
    async with open_world(settings, script.source(), config=SLOW) as world:
        await world.until(lambda: len(world.closes) == 1, 9)
        await wait_for(world, "Queued", 1)
        await world.until(lambda: entry_coins(world) == [ASSETS[SNDK], ASSETS[MU]], 2)
        assert SNDK in world.positions()  # its close is still on the way


async def test_already_has_position_and_free_after_the_close() -> None:
    """GATE-1: a market that is held takes no second entry, though it would fit the caps; after the close it does."""
    async with open_world(bot_settings(SMALL), Script().calm().rising(2, 9).source(), config=FAST) as world:
        await wait_for(world, "Skipped(AlreadyHasPosition)", 5)
        assert len(world.entries) == 1
        await world.until(lambda: len(world.entries) == 2, 6)
        assert len(world.closes) == 1


async def test_pending_order_exists_while_the_answer_is_on_its_way() -> None:
    """GATE-1, GATE-3: while an entry is in flight a second signal of the market is skipped; later it trades again."""
    async with open_world(bot_settings(SMALL), Script().calm().rising(2, 12).source(), config=SLOW) as world:
        assert await wait_for(world, "Skipped(PendingOrderExists)", 5)
        assert len(world.entries) == 1
        await world.until(lambda: len(world.entries) == 2, 12)


async def test_daily_trade_limit_lasts_until_the_day_ends() -> None:
    """GATE-6: after `max_daily_trades` entries the rest of the UTC day has none; the next day begins anew."""
    settings = bot_settings({**BRIEF, "safety.max_daily_trades": 1})
    midnight = START_MS - 10_000
    script = Script().calm().rising(2, 12)
    async with open_world(settings, script.source(), config=FAST, start_ms=midnight) as world:
        await wait_for(world, "Skipped(DailyTradeLimit)", 8)
        assert len(world.entries) == 1
        await world.until(lambda: len(world.entries) == 2, 8)
        assert sent(world)[-1][0] > 10_000


async def test_budget_exhausted_keeps_the_reserve_and_refills_with_volume() -> None:
    """GATE-5: the last 200 actions of the address are kept for cancels and exits; what was traded buys new ones."""
    config = attrs.evolve(FAST, free_requests=201)
    script = Script().calm().rising(2, 6).rising(64, 66, start_px=620)
    for second in range(8, 64, 8):
        script.quote(second * 1000, f"599.{80 - second % 16}", "600.1")
    async with open_world(bot_settings(BRIEF), script.source(), config=config) as world:
        await wait_for(world, "Skipped(BudgetExhausted)", 8)
        assert len(world.entries) == 1
        assert len(world.closes) == 1  # the exit had the reserve
        await world.until(lambda: len(world.entries) == 2, 70)


async def test_queue_full_releases_its_market() -> None:
    """GATE-1, GATE-3, BAT-3: three markets at once, room for one in the queue: the third is refused and free again."""
    settings = bot_settings({"executor.queue_new": 1, "executor.period_ms": 300, **SMALL}, coins=(SNDK, MU, NVDA))
    script = Script().calm(SNDK, MU, NVDA)
    for coin in (SNDK, MU, NVDA):
        script.rising(2, 3, coin=coin)
    async with open_world(settings, script.source(), config=FAST) as world:
        await wait_for(world, "Rejected(QueueFull)", 4)
        assert verdicts(world).count("Queued") == 2
        refused = judged(world, "Rejected(QueueFull)")[0].fields["coin"]
        await world.until(lambda: len(world.entries) == 3, 3)
        assert verdicts(world, str(refused)) == ["Rejected(QueueFull)", "Queued"]


async def test_inflight_full_refuses_and_frees_when_the_answer_comes() -> None:
    """BAT-3: with as many posts in flight as allowed a new order is refused; when the answer is there it goes."""
    settings = bot_settings({"executor.max_inflight": 1, "executor.high_water": 1, **SMALL}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).rising(3, 6, coin=MU)
    async with open_world(settings, script.source(), config=SLOW) as world:
        await wait_for(world, "Rejected(InflightFull)", 4)
        assert entry_coins(world) == [ASSETS[SNDK]]
        await world.until(lambda: entry_coins(world) == [ASSETS[SNDK], ASSETS[MU]], 6)


async def test_above_the_high_water_mark_new_orders_wait() -> None:
    """BAT-2, BAT-3: at the high-water mark a new order is QueuedDegraded and leaves only when posts were answered."""
    settings = bot_settings({"executor.max_inflight": 2, "executor.high_water": 1, **SMALL}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).rising(3, 3, coin=MU)
    async with open_world(settings, script.source(), config=SLOW) as world:
        await wait_for(world, "QueuedDegraded", 4)
        await world.until(lambda: len(world.entries) == 2, 4)
        first, second = (at for at, _ in sent(world))
        assert second - first >= SLOW.latency_ms  # it went when the first was answered


def refused_no_match(script: Script) -> Script:
    return script.quote(2030, "602.5", "603")  # after the signal's frame, before the order's arrival


def partly_filled(script: Script) -> Script:
    return script.quote(2030, "599.9", "600.1", sz="0.05")


ENDS: dict[str, tuple[Callable[[Script], Script], Faults, Decimal]] = {
    "filled": (lambda script: script, Faults(), D(10)),
    "refused: no match": (refused_no_match, Faults(), D(10)),
    "refused: minimum notional": (lambda script: script, Faults(), D(100)),
    "filled in part": (partly_filled, Faults(), D(10)),
    "refused: whole action": (
        lambda script: script,
        Faults([Rule(Point.BEFORE_ADMISSION, RefuseText("Insufficient margin to place order."), is_kind("order"))]),
        D(10),
    ),
    "in doubt, then proved absent": (
        lambda script: script,
        Faults([Rule(Point.BEFORE_ADMISSION, HttpAnswer(429), is_kind("order"))]),
        D(10),
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_market_is_free_again_after_each_end(end: str) -> None:
    """GATE-3: pending is derived from live orders: after every way in which an entry ends the next signal is sent."""
    spoil, faults, minimum = ENDS[end]
    script = spoil(Script().calm().rising(2, 2)).quote(4000, "599.9", "600.1").rising(6, 9, start_px=620)
    config = attrs.evolve(FAST, min_notional_usd=minimum)
    fresh = Faults([attrs.evolve(rule) for rule in faults.rules])
    settings = bot_settings({**BRIEF, "executor.expires_after_ms": 1000})
    async with open_world(settings, script.source(), config=config, faults=fresh) as world:
        await world.until(lambda: len(world.entries) == 2, 8)
        assert verdicts(world).count("Queued") == 2
        assert world.entries[0]["c"] != world.entries[1]["c"]
        first = world.bot.ledger.find(world.entries[0]["c"], None)
        assert first is not None
        assert not first.is_pending


async def test_reduce_only_passes_in_armed_safe() -> None:
    """GATE-4: in ARMED_SAFE, where every entry is refused, a time stop still closes."""
    settings = bot_settings({"safety.startup_policy": "manual", **BRIEF})
    async with open_world(settings, Script().calm().rising(2, 5).source(), config=FAST) as world:
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await world.until(lambda: bool(closes(world)), 5)
        await world.until(lambda: not world.positions(), 1)
        assert entries(world) == []
        assert "Rejected(HardStop)" in verdicts(world)
