"""The rules of EXIT-2 and the steps of EXIT-5 as pure functions: thresholds to the hair, ages, order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from hip3.core import facts as f
from hip3.core.exits import ExitReason, ExitRequest, ExitRules, ruled_exits
from hip3.core.ids import MarketSpec, OrderSide, TimeInForce
from hip3.core.ledger import TrackedOrder
from hip3.core.market import MarketState
from hip3.core.orders import OrderOutcome, OutcomeKind
from hip3.core.protection import (
    AGAIN_MS,
    ORPHAN_MS,
    Now,
    Protect,
    ProtectionConfig,
    Withdraw,
    due_steps,
    is_through,
    stop_intent,
    trigger_px,
)
from hip3.core.units import is_legal_price
from hip3.fsm.order import OrderState
from hip3.fsm.position import PositionState
from hip3.venue.hyperliquid.actions import order_action
from hip3.venue.hyperliquid.errors import MalformedAction
from tests.core.core_builders import (
    MU,
    SNDK,
    T0,
    D,
    Desk,
    account,
    answer_refused,
    answer_resting,
    bbo,
    ctx,
    fill,
    fills,
    held,
    opened,
    update,
    updates,
)

OFF = ExitRules(
    min_holding_ms=0,
    exit_threshold_bps=None,
    take_profit_bps=None,
    edge_evaporation_bps=None,
    oracle_reversal_bps=None,
    protective_stop_bps=None,
    max_bbo_age_ms=10_000,
    max_ctx_age_ms=3000,
)
ALL = {"exit_threshold_bps": D(5), "take_profit_bps": D(20), "edge_evaporation_bps": D(2), "oracle_reversal_bps": D(10)}
STOP = ProtectionConfig(stop_bps=D(100), expires_after_ms=10_000, max_mark_age_ms=3000)


def rules(**on: Any) -> ExitRules:
    return evolve(OFF, **on)


def quoted(bid: str, ask: str, oracle: str, mark: str | None = None) -> MarketState:
    market = MarketState(SNDK)
    market.on_bbo(bbo(SNDK.coin, bid, ask), 0)
    market.on_ctx(ctx(SNDK.coin, oracle, mark), 0)
    return market


def asked(desk: Desk, market: MarketState, on: ExitRules, *, age_ms: int = 1000, mono_ms: int = 0) -> list[ExitRequest]:
    entry_ms = desk.position().entry_ms
    assert entry_ms is not None
    return list(ruled_exits(desk.ledger, {SNDK.coin: market}, on, entry_ms + age_ms, mono_ms))


@pytest.mark.parametrize(
    ("on", "market", "reason"),
    [
        ({"exit_threshold_bps": D(10)}, ("599.4", "600.6", "600"), ExitReason.MARK_REGRESSION),
        ({"exit_threshold_bps": D("9.99")}, ("599.4", "600.6", "600"), None),
        ({"exit_threshold_bps": D(0)}, ("600", "600.1", "600"), ExitReason.MARK_REGRESSION),
        ({"exit_threshold_bps": D(0)}, ("601", "601.1", "600"), ExitReason.MARK_REGRESSION),
        ({"take_profit_bps": D(10)}, ("600.6", "601", "700"), ExitReason.TAKE_PROFIT),
        ({"take_profit_bps": D("10.01")}, ("600.6", "601", "700"), None),
        ({"edge_evaporation_bps": D(10)}, ("590", "591", "600.6"), ExitReason.EDGE_EVAPORATION),
        ({"edge_evaporation_bps": D("9.99")}, ("590", "591", "600.6"), None),
        ({"edge_evaporation_bps": D(0)}, ("590", "591", "599"), ExitReason.EDGE_EVAPORATION),
        (ALL, ("602", "602.1", "602"), ExitReason.TAKE_PROFIT),
        ({}, ("602", "602.1", "602"), None),
    ],
)
def test_a_rule_holds_from_its_number_on(
    on: dict[str, Any], market: tuple[str, str, str], reason: ExitReason | None
) -> None:
    """EXIT-2: long at 600; inclusive, past it as well, and of several the first in the documented order."""
    desk = Desk()
    opened(desk)
    assert [r.reason for r in asked(desk, quoted(*market), rules(**on))] == ([reason] if reason else [])


def test_a_reversal_needs_the_oracle_of_the_signal() -> None:
    """EXIT-2: a position that no signal of this run opened has no oracle to have turned from."""
    desk = Desk()
    opened(desk)
    assert asked(desk, quoted("500", "501", "500"), rules(oracle_reversal_bps=D(1))) == []


@pytest.mark.parametrize(
    ("age_ms", "mono_ms", "due"), [(1999, 0, False), (2000, 0, True), (2000, 3000, True), (2000, 3001, False)]
)
def test_a_rule_waits_for_age_and_fresh_data(age_ms: int, mono_ms: int, due: bool) -> None:
    """EXIT-2: min_holding_ms inclusive; a context older than its limit fires nothing."""
    desk = Desk()
    opened(desk)
    on = rules(exit_threshold_bps=D(5), min_holding_ms=2000)
    assert bool(asked(desk, quoted("600", "600.1", "600"), on, age_ms=age_ms, mono_ms=mono_ms)) is due


def test_the_age_of_a_quote_is_unlimited_at_zero() -> None:
    """EXIT-2, DET-6: 0 switches the limit off, as for the detector."""
    desk = Desk()
    opened(desk)
    market = quoted("600", "600.1", "600")
    market.on_ctx(ctx(SNDK.coin, "600"), 50_000)
    assert asked(desk, market, rules(exit_threshold_bps=D(5)), mono_ms=50_000) == []
    assert asked(desk, market, rules(exit_threshold_bps=D(5), max_bbo_age_ms=0), mono_ms=50_000)


def test_no_rule_speaks_while_a_close_is_in_flight_and_a_begun_close_goes_on() -> None:
    """EXIT-3: one close at a time; refused, it is asked for again for the same reason, though the rule is over."""
    desk = Desk()
    opened(desk)
    away = quoted("590", "591", "602")
    close = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    desk.position().exit_reason = "take_profit"
    assert asked(desk, away, rules(**ALL)) == []
    desk.apply(answer_refused(close))
    assert [r.reason for r in asked(desk, away, rules(**ALL))] == [ExitReason.TAKE_PROFIT]


# ---- the protective stop


def now(ms: int = 1000) -> Now:
    return Now(mono_ms=0, wall_ms=T0 + ms, venue_ms=T0 + ms)


def steps(desk: Desk, market: MarketState | None = None, ms: int = 1000) -> list[Protect | Withdraw]:
    markets = {SNDK.coin: market if market is not None else quoted("599", "600", "600")}
    return list(due_steps(desk.ledger, markets, STOP, now(ms)))


def placed(desk: Desk, *, rests: bool = True, ms: int = 1000) -> TrackedOrder:
    """The stop that the one due step asks for, sent and, where it `rests`, known to rest."""
    (step,) = [s for s in steps(desk, ms=ms) if isinstance(s, Protect)]
    order = desk.ledger.register(stop_intent(step, STOP, desk.cloids.next(), now(ms)))
    desk.ledger.mark_sent(order.cloid, T0 + ms)
    if rests:
        desk.apply(answer_resting(order, oid=500 + order.cloid.sequence), now_ms=T0 + ms)
    return order


def test_a_position_needs_one_stop_and_a_resting_one_is_enough() -> None:
    """EXIT-5: missing it is due; on its way or resting nothing is; it is no closing order and blocks none (EXIT-3)."""
    desk = Desk()
    assert steps(desk) == []
    opened(desk)
    stop = placed(desk, rests=False)
    assert steps(desk) == []
    desk.apply(answer_resting(stop))
    assert (steps(desk), stop.state) == ([], OrderState.OPEN)
    ledger, position = desk.ledger, desk.position()
    assert (list(ledger.pending(SNDK.coin)), ledger.pending_close(SNDK.coin)) == ([], None)
    assert (position.state, position.close_attempts) == (PositionState.OPEN, 0)
    assert desk.order(OrderSide.SELL, "0.10", reduce_only=True).state is OrderState.SENT


def test_a_stop_that_fires_moves_position_and_trade() -> None:
    """EXIT-5, JRN-1: its fill closes; the trade says so; nothing is pending and nothing is due."""
    desk = Desk()
    opened(desk)
    stop = placed(desk)
    desk.apply(updates(update(stop, "filled", oid=501)), fills(fill(stop, "0.10", px="594", start="0.10", oid=501)))
    assert (desk.position().szi, desk.ledger.is_exposed, stop.state) == (D(0), False, OrderState.FILLED)
    assert steps(desk, ms=5000) == []


def test_a_stop_reported_filled_waits_for_its_fills() -> None:
    """ORD-3, EXIT-5: executed by its status, the fills still to come: it is moving, so the venue's size is not compared."""
    desk = Desk()
    opened(desk)
    stop = placed(desk)
    assert not desk.ledger.is_moving(SNDK.coin)
    desk.apply(updates(update(stop, "filled", oid=501)))
    assert desk.ledger.is_moving(SNDK.coin)
    assert stop in desk.ledger.in_doubt()


@pytest.mark.parametrize("state", ["resting", "in doubt"])
def test_a_stop_is_never_sent_twice(state: str) -> None:
    """POST-3, EXIT-5: it rests; another sending could rest beside it."""
    desk = Desk()
    opened(desk)
    stop = placed(desk, rests=state == "resting")
    if state == "in doubt":
        desk.apply(f.OrderDoubted(stop.cloid, "no answer"))
    assert not stop.intent.may_be_resent
    with pytest.raises(Exception, match="never sent again"):
        desk.ledger.mark_sent(stop.cloid, T0 + 9000)


def test_a_stop_without_a_position_is_withdrawn_after_a_moment() -> None:
    """EXIT-5: the venue's own end of it is waited for; then it is asked for once in AGAIN_MS."""
    desk = Desk()
    opened(desk)
    stop = placed(desk)
    close = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    closed_ms = 2000
    desk.apply(fills(fill(close, "0.10", start="0.10", time_ms=T0 + closed_ms, oid=78, tid=2)))
    assert steps(desk, ms=closed_ms + ORPHAN_MS - 1) == []
    (step,) = steps(desk, ms=closed_ms + ORPHAN_MS)
    assert isinstance(step, Withdraw)
    desk.ledger.ask_cancel(step.order, T0 + 3000)
    assert steps(desk, ms=3000 + AGAIN_MS - 1) == []
    assert len(steps(desk, ms=3000 + AGAIN_MS)) == 1
    desk.apply(f.CancelAnswered(stop.cloid, OrderOutcome(OutcomeKind.CONFIRMED), T0 + 4000))
    assert (stop.state, desk.ledger.is_exposed) == (OrderState.CANCELED, False)


@pytest.mark.parametrize("kind", [OutcomeKind.REFUSED, OutcomeKind.IN_DOUBT])
def test_a_cancel_that_is_not_confirmed_is_doubt(kind: OutcomeKind) -> None:
    """PROTOCOL 4.3: the refusal does not tell filled from gone; an order that has ended is not doubted any more."""
    desk = Desk()
    opened(desk)
    stop = placed(desk)
    refused = f.CancelAnswered(stop.cloid, OrderOutcome(kind, error="already canceled, or filled"), T0 + 4000)
    desk.apply(refused)
    assert stop in desk.ledger.in_doubt()
    desk.apply(updates(update(stop, "reduceOnlyCanceled", sz="0.10", oid=501)))
    assert (desk.apply(refused), stop.state) == ([], OrderState.CANCELED)


def test_a_larger_position_gets_its_stop_first_and_loses_the_old_one_then() -> None:
    """EXIT-5: never bare: the new one is placed beside the old one, which goes when the new one rests."""
    desk = Desk()
    opened(desk)
    old = placed(desk)
    more = desk.order(sz="0.05")
    desk.apply(fills(fill(more, "0.05", px="606", start="0.10", time_ms=T0 + 300, tid=5, oid=79)))
    new = placed(desk, rests=False)
    assert (new.intent.sz, new.intent.trigger_px) == (D("0.15"), D("595.98"))  # 602 less 100 bps
    assert steps(desk) == []
    desk.apply(answer_resting(new, oid=600))
    assert steps(desk) == [Withdraw(old, "another one covers the position")]


def test_nothing_is_placed_where_it_could_not_help() -> None:
    """EXIT-5: while an entry is being filled, a close is in flight, the mark is through, or one was just refused."""
    desk = Desk()
    entry = desk.order(sz="0.10")
    desk.apply(fills(fill(entry, "0.04", tid=900)))
    assert steps(desk) == []
    desk.apply(f.OrderDoubted(entry.cloid, "no answer"))
    assert len(steps(desk)) == 1  # what is held is held
    assert steps(desk, quoted("590", "591", "600", "594")) == []
    desk.position().stop_not_before_ms = T0 + 1001
    assert steps(desk) == []
    desk.position().stop_not_before_ms = 0
    desk.apply(updates(update(entry, "filled", sz="0.06")))
    desk.order(OrderSide.SELL, "0.04", reduce_only=True)
    assert steps(desk) == []


def test_a_market_that_is_not_ours_to_trade_is_left_alone() -> None:
    """EXIT-5: no metadata, no order; the flatten of the way out looks it up."""
    desk = Desk(synced=False)
    desk.sync(held("0.5", of=MU))
    assert steps(desk) == []


def test_a_stop_that_the_venue_stops_listing_is_asked_about() -> None:
    """POS-3: believed to rest and missing from a later reading: doubt; one sent a moment ago may not be in it yet."""
    desk = Desk()
    opened(desk)
    stop = placed(desk)
    listed = [update(stop, "open", sz="0.10", oid=501)]
    for orders, ms, state in ((listed, 20_000, "OPEN"), ([], 5_000, "OPEN"), ([], 20_000, "UNKNOWN")):
        read = account(held("0.10"), time_ms=T0 + ms, orders=orders)
        desk.apply(read, now_ms=T0 + ms)
        assert stop.state.name == state


SPECS = st.builds(lambda d: MarketSpec(SNDK.key, 1, d, 10), st.integers(0, 5))


@given(SPECS, st.sampled_from(OrderSide), st.integers(1, 9_000), st.integers(1, 10**9))
def test_a_stop_has_a_legal_price_that_is_never_nearer_than_asked(
    spec: MarketSpec, side: OrderSide, bps: int, px: int
) -> None:
    """EXIT-5, TYP-3: on a tick, on the losing side of the entry, and at least `protective_stop_bps` away from it."""
    entry = Decimal(px) / 1000
    stop = trigger_px(spec, side, entry, Decimal(bps))
    assert is_legal_price(stop, spec.sz_decimals)
    floor = Decimal(1).scaleb(-(6 - spec.sz_decimals))  # below one tick there is no price
    wanted = entry * (1 - Decimal(bps) / 10_000 * side.sign)
    assert (wanted - stop) * side.sign >= 0 or stop == floor


@pytest.mark.parametrize(
    ("side", "mark", "through"), [("BUY", "594.01", False), ("BUY", "594", True), ("SELL", "606", True)]
)
def test_through_includes_the_price_itself(side: str, mark: str, through: bool) -> None:
    """PROTOCOL 6: the venue refuses a stop at the mark, and fires one that the mark reaches."""
    desk = Desk()
    desk.sync(held("0.1" if side == "BUY" else "-0.1"), time_ms=T0 + 1)
    desk.sync(held("0.1" if side == "BUY" else "-0.1"), time_ms=T0 + 2)
    assert is_through(desk.position(), SNDK, D(mark), D(100)) is through


def test_a_stop_on_the_wire_is_reduce_only_or_is_none() -> None:
    """PROTOCOL 4.1, 4.2: a trigger that could open would kill its whole batch, so it is never built."""
    desk = Desk()
    opened(desk)
    stop = placed(desk).intent
    orders: Any = order_action([stop])["orders"]
    assert orders[0]["t"] == {"trigger": {"isMarket": True, "triggerPx": "594", "tpsl": "sl"}}
    assert stop.tif is TimeInForce.GTC
    loose = evolve(stop, reduce_only=False)
    with pytest.raises(MalformedAction, match="must be reduce-only"):
        order_action([loose])


def test_a_snapshot_of_fills_knows_a_stop_of_this_run() -> None:
    """RDY-3, EXIT-5: it fired while the link was down: the history's fill is booked as its own, and the trade with it."""
    desk = Desk()
    opened(desk)
    stop = placed(desk)
    gone = fill(stop, "0.10", px="594", start="0.10", time_ms=T0 + 9000, tid=44, oid=501)
    desk.apply(f.LinkDown(), f.LinkUp(), fills(gone, snapshot=True), account(time_ms=T0 + 9500), now_ms=T0 + 9600)
    assert (desk.position().szi, stop.filled_sz) == (D(0), D("0.10"))
