"""Positions and trades: from fills, from the venue's statement, across reconnects and restarts."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core import facts as f
from hip3.core.consequences import Adopted, Closed, Consequence, Corrected, Doubted, Filled, FillsSnapshot, PositionsAgree
from hip3.core.events import Fill, Funding
from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.ledger import entry_time
from hip3.core.trades import MarketPosition, Trade
from hip3.fsm.order import OrderState
from hip3.fsm.position import PositionState
from tests.core.core_builders import (
    SNDK,
    T0,
    D,
    Desk,
    account,
    answer_filled,
    answer_resting,
    fill,
    fills,
    held,
    update,
    updates,
)


def strange(sz: str, *, start: str, px: str = "600", time_ms: int = T0 + 100, tid: int = 1, fee: str = "0.01") -> Fill:
    """A fill that no order of this run explains; a negative size sells."""
    side = OrderSide.SELL if sz.startswith("-") else OrderSide.BUY
    order = Desk().order(side, "1")
    return attrs.evolve(
        fill(order, sz.lstrip("-"), px=px, start=start, time_ms=time_ms, tid=tid, fee=fee), cloid="0x" + "ee" * 16, oid=999
    )


def of_kind(found: list[Consequence], kind: type[Consequence]) -> list[Consequence]:
    return [c for c in found if isinstance(c, kind)]


def one_trade(found: list[Consequence]) -> Trade:
    (closed,) = [c for c in found if isinstance(c, Closed)]
    return closed.trade


# ---- fills make positions


def test_a_position_is_its_fills() -> None:
    """POS-1: signed size, average entry, the venue's time of the first fill, the last fill, and fees."""
    desk = Desk()
    desk.apply(
        fills(strange("0.10", start="0", px="600", time_ms=T0 + 1)),
        fills(strange("0.30", start="0.10", px="604", time_ms=T0 + 5, tid=2)),
    )
    position = desk.position()
    assert (position.szi, position.entry_px, position.side) == (D("0.40"), D(603), OrderSide.BUY)
    assert (position.entry_ms, position.last_fill_ms, position.fees_usd) == (T0 + 1, T0 + 5, D("0.02"))
    assert position.unrealized_usd(D(613)) == D(4)


def test_a_round_trip_is_a_trade() -> None:
    """POS-2, JRN-1: size, entry and exit averages, realised before fees, fees, edge signed by side, holding time."""
    desk = Desk()
    entry = desk.order(OrderSide.SELL, "0.10")
    desk.apply(fills(fill(entry, "0.10", px="600", fee="0.05")), answer_filled(entry, "0.10"))
    close = desk.order(OrderSide.BUY, "0.10", reduce_only=True)
    desk.position().exit_reason = "time_stop"
    desk.apply(fills(fill(close, "0.04", px="597", start="-0.10", tid=2, time_ms=T0 + 900, fee="0.02")))
    assert desk.position().realized_usd == D("0.12")
    found = desk.apply(fills(fill(close, "0.06", px="592", start="-0.06", tid=3, time_ms=T0 + 1100, fee="0.03")))
    trade = one_trade(found)
    assert (trade.side, trade.sz, trade.entry_px, trade.exit_px) == (OrderSide.SELL, D("0.10"), D(600), D(594))
    assert (trade.realized_usd, trade.fees_usd, trade.pnl_usd) == (D("0.60"), D("0.10"), D("0.50"))
    assert trade.actual_edge_bps == D(100)
    assert (trade.holding_ms, trade.exit_reason) == (1000, "time_stop")
    assert (desk.position().szi, desk.position().entry_ms, desk.position().fees_usd) == (D(0), None, D(0))


def test_a_fill_through_zero_ends_one_trade_and_opens_the_next() -> None:
    """POS-1: long 0.10, sold 0.25: one trade of 0.10, then a short of 0.15 from that fill; the fee is shared by size."""
    desk = Desk()
    desk.apply(fills(strange("0.10", start="0", fee="0")))
    found = desk.apply(fills(strange("-0.25", start="0.10", px="606", time_ms=T0 + 500, tid=2, fee="0.05")))
    trade = one_trade(found)
    assert (trade.sz, trade.realized_usd, trade.fees_usd) == (D("0.10"), D("0.60"), D("0.02"))
    position = desk.position()
    assert (position.szi, position.entry_px, position.fees_usd) == (D("-0.15"), D(606), D("0.03"))
    assert (position.entry_ms, position.state, position.side) == (T0 + 500, PositionState.OPEN, OrderSide.SELL)


def test_a_fill_that_does_not_start_where_we_stand_is_doubt() -> None:
    """RDY-3, POS-3: each fill's own `start_position` is checked; it is booked and the gap is asked about."""
    desk = Desk()
    found = desk.apply(fills(strange("0.10", start="0.05")))
    (doubt,) = [c for c in found if isinstance(c, Doubted)]
    assert doubt.subject == SNDK.coin
    assert desk.position().szi == D("0.10")


signed_lots = st.integers(-50, 50).filter(bool).map(lambda n: Decimal(n) / 100)
cents = st.integers(50_000, 70_000).map(lambda n: Decimal(n) / 100)


@given(st.lists(st.tuples(signed_lots, cents), min_size=1, max_size=12))
def test_money_is_conserved_over_any_fills(moves: list[tuple[Decimal, Decimal]]) -> None:
    """POS-1, TYP-1: trades' profit + what is realised and open = cash in and out; sizes add up; flat exactly at zero."""
    position = MarketPosition(SNDK.coin)
    cash, size, fees = D(0), D(0), D(0)
    trades: list[Trade] = []
    for tid, (sz, px) in enumerate(moves):
        one = strange(str(sz), start=str(size), px=str(px), tid=tid, time_ms=T0 + tid, fee="0.03")
        trade = position.apply(one)
        trades += [trade] if trade else []
        size += sz
        cash -= sz * px
        fees += one.fee
        assert position.szi == size
        assert (position.state is PositionState.FLAT) is (size == 0)
        assert (position.entry_ms is None) is (size == 0)
    mark = D(613)
    booked = sum((t.realized_usd for t in trades), D(0)) + position.realized_usd + position.unrealized_usd(mark)
    tolerance = D("1e-18")  # averages are divisions of Decimal at 28 digits
    assert abs(booked - (cash + size * mark)) < tolerance
    assert abs(sum((t.fees_usd for t in trades), D(0)) + position.fees_usd - fees) < tolerance
    assert all(t.sz > 0 and t.entry_ms <= t.exit_ms for t in trades)


# ---- the venue's statement


def test_the_first_statement_is_adopted() -> None:
    """REC-1, POS-1: an earlier run's position is taken from the venue, its entry time from the history of fills."""
    desk = Desk(synced=False)
    history = (
        strange("0.10", start="0", time_ms=T0 - 9000, tid=1),
        strange("-0.10", start="0.10", time_ms=T0 - 8000, tid=2),
        strange("0.05", start="0", time_ms=T0 - 5000, tid=3),
        strange("0.05", start="0.05", time_ms=T0 - 1000, tid=4),
    )
    found = desk.apply(f.LinkUp(), fills(*history, snapshot=True), account(held("0.10", "601")))
    assert found == [FillsSnapshot(4), Adopted(SNDK.coin, D("0.10")), PositionsAgree(T0)]
    position = desk.position()
    assert (position.szi, position.entry_px, position.entry_ms) == (D("0.10"), D(601), T0 - 5000)
    assert position.state is PositionState.OPEN


@pytest.mark.parametrize(
    ("szi", "opened"), [("0.10", T0 - 5000), ("-0.10", None), ("0.90", None)], ids=["reached", "other side", "too short"]
)
def test_entry_time_is_the_fill_that_left_zero_behind(szi: str, opened: int | None) -> None:
    """POS-1: walking back from the newest fill; None where the history does not reach the start of this position."""
    history = [
        strange("0.05", start="0", time_ms=T0 - 5000, tid=3),
        strange("0.05", start="0.05", time_ms=T0 - 1000, tid=4),
    ]
    assert entry_time(history, SNDK.coin, D(szi)) == opened


def test_entry_time_after_a_flip_is_the_flip() -> None:
    """POS-1: the fill that crossed zero opened the position of today."""
    history = [strange("0.10", start="0", time_ms=T0 - 50, tid=1), strange("-0.30", start="0.10", time_ms=T0 - 20, tid=2)]
    assert entry_time(history, SNDK.coin, D("-0.20")) == T0 - 20


def test_an_entry_time_that_is_not_known_is_the_statements() -> None:
    """POS-1: restored from fills, else now."""
    desk = Desk(synced=False)
    desk.sync(held("-0.10"), time_ms=T0 + 3)
    assert desk.position().entry_ms == T0 + 3


def test_nothing_is_compared_before_both_readings_are_here() -> None:
    """RDY-1, RDY-3: history of fills and state of the account, in either order; one alone proves nothing."""
    for first, second in ((fills(snapshot=True), account(held("0.10"))), (account(held("0.10")), fills(snapshot=True))):
        desk = Desk(synced=False)
        desk.apply(f.LinkUp())
        assert of_kind(desk.apply(first), PositionsAgree) == []
        assert not desk.books.synced
        assert of_kind(desk.apply(second), PositionsAgree)
        assert desk.position().szi == D("0.10")


def test_fills_after_the_statement_stay_booked() -> None:
    """RDY-3: a statement is compared as of its own time; what came after it is added to it, not lost."""
    desk = Desk(synced=False)
    desk.apply(f.LinkUp(), fills(snapshot=True), fills(strange("0.02", start="0.10", time_ms=T0 + 50)))
    found = desk.apply(account(held("0.10"), time_ms=T0))
    assert Adopted(SNDK.coin, D("0.10")) in found
    assert desk.position().szi == D("0.12")
    assert of_kind(desk.sync(held("0.12"), time_ms=T0 + 99), Corrected) == []


def test_an_older_statement_is_no_correction() -> None:
    """POS-3: a statement read before a fill agrees with what we held then."""
    desk = Desk()
    desk.apply(fills(strange("0.10", start="0", time_ms=T0 + 100)))
    assert of_kind(desk.apply(account(time_ms=T0 + 50)), Corrected) == []
    assert of_kind(desk.apply(account(held("0.10"), time_ms=T0 + 100)), Corrected) == [], "its own block is in it"
    assert desk.position().szi == D("0.10")


def test_a_correction_takes_the_venues_word_and_keeps_the_entry_time() -> None:
    """POS-3: a different size on the same side is corrected, and the entry time is not reset (LESSONS 11)."""
    desk = Desk()
    desk.apply(fills(strange("0.10", start="0", time_ms=T0 + 100)))
    desk.apply(account(held("0.07"), time_ms=T0 + 500))
    found = desk.apply(account(held("0.07"), time_ms=T0 + 800))
    assert Corrected(SNDK.coin, D("0.10"), D("0.07")) in found
    assert (desk.position().szi, desk.position().entry_ms) == (D("0.07"), T0 + 100)


def test_a_difference_must_be_stated_twice() -> None:
    """POS-3, LESSONS 30: one statement that differs is a doubt; the same again corrects; until then nothing agrees."""
    desk = Desk()
    desk.apply(fills(strange("0.10", start="0", time_ms=T0 + 100)))
    empty = desk.apply(account(time_ms=T0 + 500))
    assert [type(c) for c in empty] == [Doubted]
    other = desk.apply(account(held("0.07"), time_ms=T0 + 600))
    assert [type(c) for c in other] == [Doubted]
    assert of_kind(desk.apply(account(held("0.10"), time_ms=T0 + 700)), PositionsAgree)
    assert [type(c) for c in desk.apply(account(held("0.07"), time_ms=T0 + 800))] == [Doubted], "forgotten by agreement"
    assert desk.position().szi == D("0.10")


def test_a_market_with_an_order_in_flight_is_not_corrected() -> None:
    """POS-3: the two may differ by what the order did; it is compared once the order has ended."""
    desk = Desk()
    order = desk.order(sz="0.10")
    assert of_kind(desk.apply(account(held("0.10"), time_ms=T0 + 500)), Corrected) == []
    desk.apply(answer_filled(order, "0.10"), fills(fill(order, "0.10")))
    assert of_kind(desk.apply(account(held("0.10"), time_ms=T0 + 900)), Corrected) == []
    assert desk.position().szi == D("0.10")


def test_each_dex_is_compared_with_its_own_statement() -> None:
    """META-1, LESSONS 22: a statement of the main dex says nothing about a market of another."""
    desk = Desk()
    desk.apply(fills(strange("0.10", start="0")))
    assert of_kind(desk.apply(account(time_ms=T0 + 500, dex="")), Corrected) == []
    assert desk.position().szi == D("0.10")


# ---- across a reconnect


def test_snapshot_fills_never_reopen_a_closed_position() -> None:
    """RDY-3: the history is booked for our own unknown fills only; what is old or applied stays as it is."""
    desk = Desk()
    entry = desk.order(sz="0.10")
    bought = fill(entry, "0.10")
    desk.apply(fills(bought), answer_filled(entry, "0.10"))
    close = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    sold = fill(close, "0.10", start="0.10", tid=2, time_ms=T0 + 300)
    desk.apply(fills(sold), answer_filled(close, "0.10"))
    old = strange("0.50", start="0", time_ms=T0 - 99_000, tid=77)
    found = desk.apply(f.LinkDown(), f.LinkUp(), fills(sold, bought, old, snapshot=True), account(time_ms=T0 + 900))
    assert of_kind(found, Filled) + of_kind(found, Corrected) == []
    assert (desk.position().szi, desk.position().state) == (D(0), PositionState.FLAT)


def test_fills_missed_while_the_link_was_down_are_booked_from_the_history() -> None:
    """RDY-3, POST-4: our own fill that only the snapshot tells is applied once, and settles its order."""
    desk = Desk()
    order = desk.order(sz="0.10")
    desk.apply(f.LinkDown(), f.OrderDoubted(order.cloid, "link lost"), f.LinkUp())
    missed = fill(order, "0.10")
    found = desk.apply(fills(missed, snapshot=True), account(held("0.10"), time_ms=T0 + 900))
    assert len(of_kind(found, Filled)) == 1
    assert of_kind(found, Corrected) == []
    assert (order.state, desk.position().szi, desk.position().entry_ms) == (OrderState.FILLED, D("0.10"), missed.time_ms)
    assert desk.apply(fills(missed)) == []


def test_updates_before_the_account_read_are_applied_after_it_in_venue_order() -> None:
    """RDY-3: buffered, sorted by the venue's time, none dropped."""
    desk = Desk()
    opened = desk.order(sz="0.10")
    desk.apply(fills(fill(opened, "0.10")), answer_filled(opened, "0.10"))
    desk.apply(f.LinkDown(), f.LinkUp(), fills(snapshot=True))
    later = strange("-0.10", start="0.25", time_ms=T0 + 700, tid=3)
    sooner = strange("0.15", start="0.10", time_ms=T0 + 600, tid=2)
    assert desk.apply(fills(later), fills(sooner)) == []
    assert desk.position().szi == D("0.10")
    found = desk.apply(account(held("0.10"), time_ms=T0 + 500))
    assert [c.fill.tid for c in found if isinstance(c, Filled)] == [2, 3]
    assert of_kind(found, Doubted) == []
    assert desk.position().szi == D("0.15")


def test_a_status_and_its_fill_that_were_buffered_both_count() -> None:
    """RDY-3: order updates wait for the account as fills do."""
    desk = Desk()
    order = desk.order(sz="0.10")
    desk.apply(f.LinkDown(), f.LinkUp(), fills(snapshot=True), updates(update(order, "filled", sz="0.06")))
    desk.apply(fills(fill(order, "0.04")))
    assert order.state is OrderState.SENT
    desk.apply(account(time_ms=T0))
    assert (order.state, order.is_pending, desk.position().szi) == (OrderState.FILLED, False, D("0.04"))


def test_a_resting_order_that_is_listed_stays_open() -> None:
    """RDY-1, RDY-3: open orders are read over REST after a reconnect; an order in doubt that is listed is open."""
    desk = Desk()
    known = desk.order(sz="0.10", tif=TimeInForce.GTC)
    desk.apply(f.OrderDoubted(known.cloid, "link lost"), f.LinkDown(), f.LinkUp(), fills(snapshot=True))
    desk.apply(account(orders=[update(known, "open", sz="0.10")]))
    assert (known.state, desk.ledger.in_doubt()) == (OrderState.OPEN, [])


def test_a_resting_order_that_is_not_listed_any_more_is_doubt() -> None:
    """RDY-3, invariant 6: its end was in the frames that were lost: it is asked about, never left open for ever."""
    desk = Desk()
    order = desk.order(sz="0.10", tif=TimeInForce.GTC)
    desk.apply(answer_resting(order), f.LinkDown(), f.LinkUp(), fills(snapshot=True))
    found = desk.apply(account(time_ms=T0 + 500))
    assert [c.subject for c in found if isinstance(c, Doubted)] == [order.cloid.value]
    assert (order.state, desk.ledger.in_doubt()) == (OrderState.UNKNOWN, [order])


def test_after_a_disconnect_live_events_wait_again() -> None:
    """RDY-2: a new session starts from nothing: a snapshot and an account of before do not count for it."""
    desk = Desk()
    desk.apply(f.LinkDown(), f.LinkUp())
    assert not desk.books.synced
    assert desk.apply(fills(strange("0.10", start="0"))) == []
    assert desk.position().szi == D(0)
    assert of_kind(desk.apply(account()), PositionsAgree) == []


@given(st.lists(st.tuples(signed_lots, st.booleans()), max_size=8), st.data())
def test_a_reconnect_at_any_moment_converges(moves: list[tuple[Decimal, bool]], data: st.DataObject) -> None:
    """RDY-3, invariant 4: whatever part of the fills a broken link hid, after the reading we hold what the venue says."""
    desk = Desk()
    size, made = D(0), []
    for tid, (sz, seen) in enumerate(moves):
        one = strange(str(sz), start=str(size), tid=tid, time_ms=T0 + 100 + tid)
        made.append(one)
        size += sz
        if seen:
            desk.apply(fills(one))
    cut = data.draw(st.integers(0, len(made)))
    desk.apply(f.LinkDown(), f.LinkUp(), fills(*made[:cut], snapshot=True))
    for one in data.draw(st.permutations(made[cut:])):  # live again: told late, after the snapshot
        desk.apply(fills(one))
    stated = account(*([held(str(size))] if size else []), time_ms=T0 + 500)
    desk.apply(stated)
    assert desk.position().szi == size
    assert desk.apply(stated) == [PositionsAgree(T0 + 500)]
    assert desk.position().state is (PositionState.OPEN if size else PositionState.FLAT)


def test_an_empty_history_is_a_history() -> None:
    """RDY-1: an account that never traded gets a snapshot without fills; the condition holds."""
    desk = Desk(synced=False)
    desk.apply(f.LinkUp())
    assert desk.apply(fills(snapshot=True)) == [FillsSnapshot(0)]


def test_a_position_goes_over_a_restart_with_its_funding() -> None:
    """JRN-1, EXIT-1: what was kept is what goes on; the form without funding, of an earlier version, is read as well."""
    desk = Desk()
    desk.apply(fills(strange("0.10", start="0", fee="0.01")))
    position = desk.position()
    paid = Funding(position.coin, T0 + 3_600_000, D("-0.03"), D("0.10"))
    assert position.pay(paid)
    assert not position.pay(paid)
    again = MarketPosition(position.coin)
    again.restore(position.dump())
    assert again.dump() == position.dump()
    assert (again.funding_usd, again.pay(paid)) == (D("-0.03"), False)
    before = MarketPosition(position.coin)
    before.restore("1|" + "|".join(position.dump().split("|")[1:15]))
    assert (before.szi, before.entry_ms, before.funding_usd) == (position.szi, position.entry_ms, D(0))
    with pytest.raises(ValueError, match="is no form 2 position"):
        MarketPosition(position.coin).restore("3|0.1")
