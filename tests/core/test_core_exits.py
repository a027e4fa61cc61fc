"""When a position must go, and at what price."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core import facts as f
from hip3.core import units
from hip3.core.exits import ExitConfig, ExitReason, age_ms, closing_intent, closing_price, due_exits, overdue, slippage_bps
from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.market import MarketState
from tests.core.core_builders import (
    SNDK,
    T0,
    D,
    Desk,
    account,
    answer_filled,
    answer_refused,
    bbo,
    ctx,
    fill,
    fills,
    held,
    market,
    spec,
)

CONFIG = ExitConfig(
    time_stop_ms=30_000,
    reduce_only_timeout_ms=60_000,
    slippage_bps=D(50),
    slippage_step_bps=D(25),
    slippage_cap_bps=D(200),
)


def holding(sz: str = "0.10", side: OrderSide = OrderSide.BUY) -> Desk:
    """A desk with one position, entered at T0."""
    desk = Desk()
    order = desk.order(side, sz)
    desk.apply(fills(fill(order, sz, time_ms=T0)), answer_filled(order, sz))
    return desk


@pytest.mark.parametrize(("age", "due"), [(29_999, False), (30_000, False), (30_001, True), (10**9, True)])
def test_the_time_stop_is_due_above_its_age(age: int, due: bool) -> None:
    """EXIT-1: older than `time_stop_ms` must go; at the limit it may stay."""
    found = due_exits(holding().ledger, CONFIG, T0 + age, 0)
    assert [(e.coin, e.reason, e.age_ms) for e in found] == ([(SNDK.coin, ExitReason.TIME_STOP, age)] if due else [])


@pytest.mark.parametrize(("age", "late"), [(60_000, False), (60_001, True)])
def test_a_position_is_overdue_above_the_timeout(age: int, late: bool) -> None:
    """EXIT-1: older than `reduce_only_timeout_ms` is said, and closing goes on."""
    desk = holding()
    assert bool(overdue(desk.ledger, CONFIG, T0 + age)) is late
    assert due_exits(desk.ledger, CONFIG, T0 + age, 0)


def test_each_key_changes_when() -> None:
    """EXIT-1: the two ages are the configuration's."""
    desk = holding()
    assert due_exits(desk.ledger, attrs.evolve(CONFIG, time_stop_ms=10), T0 + 11, 0)
    assert overdue(desk.ledger, attrs.evolve(CONFIG, reduce_only_timeout_ms=20), T0 + 21)


def test_the_age_is_never_negative() -> None:
    """EXIT-1: a wall clock behind the venue's makes an age of zero, not a position that never ends."""
    assert age_ms(holding().position(), T0 - 5000) == 0
    assert age_ms(Desk().position(), T0) == 0


def test_neither_resync_nor_more_fills_put_the_time_stop_off() -> None:
    """EXIT-1: the age counts from the first fill, through reconnects, corrections and further fills (LESSONS 11)."""
    desk = holding()
    desk.apply(f.LinkDown())
    desk.sync(held("0.10"), time_ms=T0 + 20_000)
    desk.sync(held("0.08"), time_ms=T0 + 25_000)
    more = desk.order(sz="0.02")
    desk.apply(fills(fill(more, "0.02", start="0.08", time_ms=T0 + 29_000, tid=9)), answer_filled(more, "0.02"))
    assert [e.age_ms for e in due_exits(desk.ledger, CONFIG, T0 + 30_001, 0)] == [30_001]


def test_the_time_stop_survives_a_restart() -> None:
    """EXIT-1: a new run takes the entry time from the venue's fills, so the old age goes on."""
    history = tuple(holding().ledger.recent_fills.values())
    desk = Desk(synced=False)
    desk.apply(f.LinkUp(), fills(*history, snapshot=True), account(held("0.10"), time_ms=T0 + 29_000))
    assert [e.age_ms for e in due_exits(desk.ledger, CONFIG, T0 + 30_001, 0)] == [30_001]


def test_one_closing_order_at_a_time() -> None:
    """EXIT-3: while a closing order is in flight nothing is due; when it ends without closing, it is due again."""
    desk = holding()
    close = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    assert due_exits(desk.ledger, CONFIG, T0 + 30_001, 0) == []
    desk.apply(f.OrderDoubted(close.cloid, "no answer"))
    assert due_exits(desk.ledger, CONFIG, T0 + 40_000, 0) == []
    desk.apply(answer_refused(close))
    assert due_exits(desk.ledger, CONFIG, T0 + 40_000, 0)


def test_an_overdue_position_keeps_trying() -> None:
    """EXIT-3: FLATTEN_FAILED is said and not the end: the next attempt is due, and its success is FLAT."""
    desk = holding()
    assert desk.books.mark_overdue(SNDK.coin)
    assert due_exits(desk.ledger, CONFIG, T0 + 60_001, 0)
    close = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    desk.apply(answer_filled(close, "0.10"), fills(fill(close, "0.10", start="0.10", tid=5)))
    assert due_exits(desk.ledger, CONFIG, T0 + 70_000, 0) == []
    assert not desk.ledger.is_exposed


def quoted(bid: str | None = "599", ask: str | None = "601") -> MarketState:
    state = market(mark="600")
    state.on_bbo(bbo(SNDK.coin, bid, ask), 0)
    return state


@pytest.mark.parametrize(
    ("held_side", "side", "px"),
    [(OrderSide.BUY, OrderSide.SELL, "596"), (OrderSide.SELL, OrderSide.BUY, "604.01")],
)
def test_a_closing_order_is_a_reduce_only_ioc_for_the_whole_position(held_side: OrderSide, side: OrderSide, px: str) -> None:
    """EXIT-4: opposite side, whole size, 50 bps through the opposing level, rounded to a legal tick."""
    desk = holding(side=held_side)
    intent = closing_intent(desk.position(), quoted(), CONFIG, desk.cloids.next(), T0, ExitReason.TIME_STOP)
    assert intent is not None
    assert (intent.side, intent.sz, intent.tif, intent.reduce_only) == (side, D("0.10"), TimeInForce.IOC, True)
    assert intent.px == D(px)
    assert desk.position().exit_reason == "time_stop"


def test_a_dust_position_is_closed_whole() -> None:
    """EXIT-4: below 10 USD a whole close is exempt from the minimum, so nothing is left over (PROTOCOL 6)."""
    desk = holding("0.001")
    intent = closing_intent(desk.position(), quoted(), CONFIG, desk.cloids.next(), T0, ExitReason.HALT)
    assert intent is not None
    assert (intent.sz, intent.notional < 10) == (D("0.001"), True)


@pytest.mark.parametrize(("attempt", "bps"), [(1, 50), (2, 75), (3, 100), (7, 200), (99, 200)])
def test_each_attempt_may_slip_more_up_to_the_cap(attempt: int, bps: int) -> None:
    """EXIT-4: 50 bps, 25 more each time, never above 200."""
    assert slippage_bps(CONFIG, attempt) == bps


def test_the_next_attempt_takes_a_fresh_and_wider_price() -> None:
    """EXIT-3, EXIT-4: after a refused close the price comes from the book of now, one step wider."""
    desk = holding()
    close = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    desk.apply(answer_refused(close))
    intent = closing_intent(desk.position(), quoted("500", "501"), CONFIG, desk.cloids.next(), T0, ExitReason.TIME_STOP)
    assert intent is not None
    assert intent.px == D(500) * (1 - D(75) / units.BPS) == D("496.25")


def test_without_a_book_the_mark_prices_the_close_and_without_anything_nothing_does() -> None:
    """EXIT-4: the opposing level, else the mark, else the last reference; with none of them no price is made up."""
    desk = holding()

    def px(state: MarketState) -> Decimal | None:
        intent = closing_intent(desk.position(), state, CONFIG, desk.cloids.next(), T0, ExitReason.HALT)
        return intent.px if intent else None

    assert px(quoted(bid=None)) == D(597)
    only_reference = MarketState(SNDK)
    only_reference.on_ctx(ctx(SNDK.coin, "600"), 0)
    only_reference.on_connect()
    assert px(only_reference) == D(597)
    assert px(MarketState(SNDK)) is None


touches = st.integers(1, 10**9).map(lambda n: Decimal(n) / 1000)


@given(touches, st.integers(0, 5), st.sampled_from(OrderSide), st.integers(1, 20))
def test_a_closing_price_is_legal_and_bounded(touch: Decimal, sz_decimals: int, side: OrderSide, attempt: int) -> None:
    """EXIT-4, TYP-3: a legal tick beyond the touch, by no more than the attempt's slippage and one tick."""
    px = closing_price(spec("xyz:ANY", sz_decimals), side, touch, CONFIG, attempt)
    bound = touch * (1 + slippage_bps(CONFIG, attempt) / units.BPS * side.sign)
    tick = Decimal(1).scaleb(-units.price_decimals(bound, sz_decimals))
    assert units.is_legal_price(px, sz_decimals)
    assert abs(px - bound) <= tick
    assert (px - bound) * side.sign >= 0 or px == tick


def test_the_reasons_are_the_specifications() -> None:
    """EXIT-1, EXIT-2, EXIT-5, END-1, STOP-2, REC-1, RUN-1: what can close a position."""
    rules = {"take_profit", "mark_regression", "edge_evaporation", "oracle_reversal"}
    assert {r.value for r in ExitReason} == {
        *("time_stop", "protective_stop", *rules),
        *("recovered", "verify", "halt", "shutdown"),
    }
