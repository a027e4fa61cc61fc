"""Orders and positions out of facts, in every order in which the venue may tell them."""

from __future__ import annotations

import attrs
import pytest

from hip3.core import facts as f
from hip3.core.consequences import Consequence, Doubted, Filled, OrderEnded, OrderRejected
from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.ledger import KEPT_FINISHED
from hip3.core.orders import OrderOutcome, OutcomeKind
from hip3.fsm.order import OrderState
from hip3.fsm.position import PositionState
from hip3.fsm.table import Refused
from tests.core.core_builders import (
    SNDK,
    T0,
    D,
    Desk,
    answer_filled,
    answer_refused,
    answer_resting,
    fill,
    fills,
    opened,
    update,
    updates,
)


def kinds(consequences: list[Consequence]) -> list[str]:
    return [type(c).__name__ for c in consequences]


def test_an_order_is_registered_before_it_can_be_sent() -> None:
    """ORD-1, ORD-2: registered is PENDING, handed to the socket is SENT; both are pending."""
    desk = Desk()
    order = desk.order(sent=False)
    assert (order.state, desk.position().state) == (OrderState.PENDING, PositionState.OPENING)
    desk.ledger.mark_sent(order.cloid, T0 + 1)
    assert (order.state, order.sent_ms) == (OrderState.SENT, T0 + 1)
    assert list(desk.ledger.pending(SNDK.coin)) == [order]
    assert desk.ledger.is_exposed


def test_an_id_is_registered_once() -> None:
    """ORD-2: the same id twice is an error, also when the first order has ended."""
    desk = Desk()
    intent = desk.intent()
    order = desk.ledger.register(intent)
    with pytest.raises(ValueError, match="registered already"):
        desk.ledger.register(intent)
    desk.apply(f.OrderDropped(order.cloid, "queue full"))
    with pytest.raises(ValueError, match="registered already"):
        desk.ledger.register(intent)


def test_a_refused_registration_leaves_nothing_behind() -> None:
    """ORD-2, EXIT-3: a closing order without a position, or a second entry, is refused and blocks nothing."""
    desk = Desk()
    with pytest.raises(Refused):
        desk.order(OrderSide.SELL, reduce_only=True)
    assert not list(desk.ledger.pending(SNDK.coin))
    assert (desk.position().closing, desk.position().close_attempts) == (None, 0)
    first = desk.order()
    with pytest.raises(Refused):
        desk.order()
    assert list(desk.ledger.pending(SNDK.coin)) == [first]


@pytest.mark.parametrize("seen", ["nothing", "doubt", "fill", "open", "doubt, fill"])
def test_a_closing_order_may_be_sent_again(seen: str) -> None:
    """POST-3: after a time-out the same order goes again, whatever of the first sending is booked by then."""
    desk = Desk()
    opened(desk)
    close = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    if "doubt" in seen:
        desk.apply(f.OrderDoubted(close.cloid, "no answer"))
    if "fill" in seen:
        desk.apply(fills(fill(close, "0.04", start="0.10", tid=2)))
    if "open" in seen:
        desk.apply(updates(update(close, "open", sz="0.10")))
    desk.ledger.mark_sent(close.cloid, T0 + 6000)
    assert (close.state, close.sent_ms) == (OrderState.SENT, T0 + 6000)


def test_an_entry_is_never_sent_again() -> None:
    """POST-4, invariant 3: the second sending of an entry is refused in every state; an ended order has none to send."""
    desk = Desk()
    entry = desk.order(sz="0.10")
    for fact in (None, f.OrderDoubted(entry.cloid, "no answer"), fills(fill(entry, "0.04"))):
        if fact is not None:
            desk.apply(fact)
        with pytest.raises(Refused, match="is never sent again"):
            desk.ledger.mark_sent(entry.cloid, T0)
    desk.apply(answer_refused(entry))
    with pytest.raises(KeyError):
        desk.ledger.mark_sent(entry.cloid, T0)


def test_a_market_has_one_closing_order_in_flight() -> None:
    """EXIT-3: whatever the number of reasons, a second closing order is refused, also when the flatten is overdue."""
    desk = Desk()
    opened(desk)
    first = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    for overdue in (False, True):
        if overdue:
            assert desk.books.mark_overdue(SNDK.coin)
            assert not desk.books.mark_overdue(SNDK.coin)
            assert desk.position().state is PositionState.FLATTEN_FAILED
        with pytest.raises(ValueError, match="closing order in flight"):
            desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    assert desk.ledger.pending_close(SNDK.coin) is first


def test_a_market_is_opening_until_its_last_entry_has_ended() -> None:
    """EXIT-3: the end of an old entry, in doubt since before the flatten, says nothing about the one now in flight."""
    desk = Desk()
    old = desk.order(sz="0.10")
    desk.apply(f.OrderDoubted(old.cloid, "no answer"), fills(fill(old, "0.04")))
    close = desk.order(OrderSide.SELL, "0.04", reduce_only=True)
    desk.apply(answer_filled(close, "0.04"), fills(fill(close, "0.04", start="0.04", tid=2)))
    assert desk.position().state is PositionState.FLAT
    entry = desk.order()
    desk.apply(updates(update(old, "filled", sz="0.06")))
    assert (old.is_pending, desk.position().state) == (False, PositionState.OPENING)
    desk.apply(answer_refused(entry))
    assert desk.position().state is PositionState.FLAT


def test_a_refused_close_never_leaves_the_market_stuck() -> None:
    """EXIT-3: refused or partly filled, the next attempt may be made at once."""
    desk = Desk()
    opened(desk)
    refused = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    desk.apply(answer_refused(refused))
    assert (desk.position().state, desk.position().closing) == (PositionState.OPEN, None)
    partial = desk.order(OrderSide.SELL, "0.10", reduce_only=True)
    desk.apply(answer_filled(partial, "0.04"), fills(fill(partial, "0.04", start="0.10", tid=2)))
    assert (desk.position().state, desk.position().szi) == (PositionState.OPEN, D("0.06"))
    last = desk.order(OrderSide.SELL, "0.06", reduce_only=True)
    assert desk.position().close_attempts == 3
    found = desk.apply(answer_filled(last, "0.06"), fills(fill(last, "0.06", start="0.06", tid=3)))
    assert "Closed" in kinds(found)
    assert (desk.position().state, desk.position().close_attempts) == (PositionState.FLAT, 0)


def test_a_fill_may_come_before_the_answer() -> None:
    """ORD-1: the fill ends the order; the answer that says the same changes nothing."""
    desk = Desk()
    order = desk.order(sz="0.02")
    found = desk.apply(fills(fill(order, "0.02")))
    assert kinds(found) == ["Filled", "OrderEnded"]
    assert order.state is OrderState.FILLED
    assert desk.apply(answer_filled(order, "0.02"), updates(update(order, "filled"))) == []
    assert (desk.position().szi, order.late_fills) == (D("0.02"), 0)


def test_an_answer_may_come_before_its_fill() -> None:
    """ORD-3: the answer settles an IOC without any frame; the order stays pending until the fill is here."""
    desk = Desk()
    order = desk.order(sz="0.02")
    assert desk.apply(answer_filled(order, "0.02")) == []
    assert order.state is OrderState.FILLED
    assert (order.awaits_fills, order.is_pending, desk.position().szi) == (True, True, D(0))
    assert desk.ledger.in_doubt() == [order]
    assert kinds(desk.apply(fills(fill(order, "0.02")))) == ["Filled", "OrderEnded"]
    assert (order.is_pending, desk.position().szi, order.late_fills) == (False, D("0.02"), 0)


def test_a_fill_counts_once() -> None:
    """RDY-3: the same coin, time and trade id again, in a frame or a snapshot, is known already."""
    desk = Desk()
    order = desk.order(sz="0.02")
    one = fill(order, "0.02")
    desk.apply(fills(one))
    assert desk.apply(fills(one), fills(one, one)) == []
    assert (desk.position().szi, order.filled_sz) == (D("0.02"), D("0.02"))


def test_two_fills_of_one_order_both_count() -> None:
    """ORD-1: fills are known by their own key, not by their order (LESSONS 17)."""
    desk = Desk()
    order = desk.order(sz="0.05")
    desk.apply(fills(fill(order, "0.02", tid=1)), fills(fill(order, "0.03", start="0.02", tid=2)))
    assert (order.state, desk.position().szi) == (OrderState.FILLED, D("0.05"))


def test_a_fill_after_the_cancel_is_counted_beside_the_state() -> None:
    """ORD-1, ORD-2: an ended order stays addressable; its late fill moves the position and not the order's end."""
    desk = Desk()
    order = desk.order(sz="0.05", tif=TimeInForce.GTC)
    desk.apply(answer_resting(order), updates(update(order, "canceled", sz="0.05")))
    assert (order.state, order.is_pending) == (OrderState.CANCELED, False)
    found = desk.apply(fills(fill(order, "0.02")))
    assert kinds(found) == ["Filled"]
    assert isinstance(found[0], Filled)
    assert found[0].order is order
    assert (order.state, order.late_fills, order.filled_sz) == (OrderState.CANCELED, 1, D("0.02"))
    assert (desk.position().szi, desk.position().state) == (D("0.02"), PositionState.OPEN)


def test_a_fill_that_disproves_an_end_has_the_account_read() -> None:
    """ORD-1, LESSONS 13: EXPIRED and REJECTED say that nothing was executed; a fill moves the position and is doubt."""
    for disproved in ("absent", "rejected"):
        desk = Desk()
        order = desk.order(sz="0.02")
        if disproved == "absent":
            desk.apply(
                f.OrderDoubted(order.cloid, "no answer"), f.OrderAbsent(order.cloid, "not known 2 s after its expiry")
            )
        else:
            desk.apply(answer_refused(order, "no match"))
        assert order.state is (OrderState.EXPIRED if disproved == "absent" else OrderState.REJECTED)
        found = desk.apply(fills(fill(order, "0.02")))
        assert kinds(found) == ["Filled", "Doubted"]
        assert (desk.position().szi, order.late_fills) == (D("0.02"), 1)
        assert isinstance(found[1], Doubted)
        assert found[1].subject == order.intent.coin


@pytest.mark.parametrize("said_by", ["answer", "update"])
@pytest.mark.parametrize("fills_first", [False, True])
def test_a_partly_filled_ioc_ends(said_by: str, fills_first: bool) -> None:
    """ORD-3, POST-2: `filled` may be partial, in the answer or in the frame; the rest is gone and the market is free."""
    desk = Desk()
    order = desk.order(sz="0.10")
    end: f.Fact = answer_filled(order, "0.04") if said_by == "answer" else updates(update(order, "filled", sz="0.06"))
    executed = fills(fill(order, "0.04"))
    desk.apply(*((executed, end) if fills_first else (end, executed)))
    assert (order.state, order.filled_sz, order.is_pending) == (OrderState.FILLED, D("0.04"), False)
    assert (desk.position().szi, desk.position().state) == (D("0.04"), PositionState.OPEN)


def test_a_reject_is_told_once_by_answer_and_frame() -> None:
    """ORD-1: whichever comes first is the rejection; the other is not a second one."""
    for answer_first in (True, False):
        desk = Desk()
        order = desk.order()
        said: list[f.Fact] = [answer_refused(order, "no match"), updates(update(order, "iocCancelRejected", sz="0.02"))]
        first, second = said if answer_first else said[::-1]
        assert kinds(desk.apply(first)) == ["OrderRejected", "OrderEnded"]
        assert (order.state, order.error) == (OrderState.REJECTED, "no match" if answer_first else "iocCancelRejected")
        assert kinds(desk.apply(second)) == []
        assert (desk.position().state, desk.ledger.is_exposed) == (PositionState.FLAT, False)


def test_a_reject_of_the_rest_keeps_what_was_executed() -> None:
    """ORD-1: an order that was hit in part and then refused is cancelled, not rejected; its fills stand."""
    desk = Desk()
    order = desk.order(sz="0.10")
    found = desk.apply(fills(fill(order, "0.04")), updates(update(order, "iocCancelRejected", sz="0.06")))
    assert kinds(found) == ["Filled", "OrderEnded"]
    assert (order.state, order.filled_sz, order.is_pending) == (OrderState.CANCELED, D("0.04"), False)


def test_an_unknown_status_is_doubt() -> None:
    """TYP-5: a status that nobody knows makes the order UNKNOWN and says so; it raises nothing and frees nothing."""
    desk = Desk()
    order = desk.order()
    found = desk.apply(updates(update(order, "quantumRejectedMaybe", sz="0.02")))
    assert kinds(found) == ["Doubted"]
    assert isinstance(found[0], Doubted)
    assert "quantumRejectedMaybe" in found[0].why
    assert (order.state, desk.ledger.in_doubt()) == (OrderState.UNKNOWN, [order])


def test_orders_of_others_are_left_alone() -> None:
    """TYP-4: frames about another client's order are not ours; its fills move the position all the same."""
    desk = Desk()
    other = Desk().order()
    foreign = attrs.evolve(update(other, "open", sz="0.02"), cloid="0x" + "00" * 16)
    assert desk.apply(updates(foreign), updates(attrs.evolve(foreign, cloid=None))) == []
    strange = attrs.evolve(fill(other, "0.02"), cloid=None)
    found = desk.apply(fills(strange))
    assert isinstance(found[0], Filled)
    assert found[0].order is None
    assert desk.position().szi == D("0.02")


def test_an_order_is_found_by_its_number_where_the_id_is_missing() -> None:
    """ORD-2: the number is learned from whatever names it first; a fill without cloid then finds its order."""
    desk = Desk()
    order = desk.order(sz="0.02")
    desk.apply(answer_filled(order, "0.02", oid=4242), fills(fill(order, "0.02", oid=4242, with_cloid=False)))
    assert (order.filled_sz, order.is_pending) == (D("0.02"), False)


def test_facts_about_orders_that_are_not_known_are_doubt() -> None:
    """ORD-2: a fact for an order that nobody registered is reported, never applied to another."""
    stranger = Desk().order()
    desk = Desk()
    for fact in (f.OrderDropped(stranger.cloid, "x"), answer_filled(stranger, "0.02"), f.OrderAbsent(stranger.cloid, "x")):
        assert kinds(desk.apply(fact)) == ["Doubted"]
    assert not desk.ledger.is_exposed


def test_an_impossible_event_is_doubt_not_an_exception() -> None:
    """ORD-1: absence of an order that is known to be open contradicts itself: it is asked about, and nothing is ended."""
    desk = Desk()
    order = desk.order(tif=TimeInForce.GTC)
    desk.apply(answer_resting(order))
    assert kinds(desk.apply(f.OrderAbsent(order.cloid, "not found"))) == ["Doubted"]
    assert order.state is OrderState.OPEN


def test_silence_is_doubt_and_only_proof_ends_it() -> None:
    """ORD-1, POST-4: no answer keeps it pending; open is an answer, absence after the expiry is proof."""
    desk = Desk()
    order = desk.order(tif=TimeInForce.GTC)
    assert kinds(desk.apply(f.OrderDoubted(order.cloid, "no answer in 5 s"), now_ms=T0 + 5000)) == ["Doubted"]
    assert (order.state, order.doubted_ms, order.is_pending) == (OrderState.UNKNOWN, T0 + 5000, True)
    desk.apply(answer_resting(order))
    assert (order.state, desk.ledger.in_doubt()) == (OrderState.OPEN, [])
    lost = Desk()
    gone = lost.order()
    lost.apply(f.OrderDoubted(gone.cloid, "no answer"))
    assert kinds(lost.apply(f.OrderAbsent(gone.cloid, "expired; unknown to status and fills"))) == ["OrderEnded"]
    assert (gone.state, lost.position().state) == (OrderState.EXPIRED, PositionState.FLAT)


@pytest.mark.parametrize("proof", ["fill", "open"])
def test_a_doubted_ioc_stays_in_doubt_until_its_end_is_known(proof: str) -> None:
    """ORD-3, invariant 6: a fill or an `open` proves that it was admitted, not what became of the rest; the query does."""
    desk = Desk()
    order = desk.order(sz="0.10")
    desk.apply(f.OrderDoubted(order.cloid, "no answer"))
    seen = fill(order, "0.04")
    desk.apply(fills(seen) if proof == "fill" else updates(update(order, "open", sz="0.10")))
    assert order.state in (OrderState.PARTIALLY_FILLED, OrderState.OPEN)
    assert desk.ledger.in_doubt() == [order]
    desk.apply(f.OrderStatusRead(order.cloid, update(order, "filled", sz="0.06"), (seen,)))
    assert (order.state, desk.ledger.in_doubt(), order.is_pending) == (OrderState.FILLED, [], False)
    assert desk.position().szi == D("0.04")


def test_a_status_read_with_its_fills_settles_an_order() -> None:
    """POST-4: what the fills read together with the status do not show was not executed, as after a shrunk close."""
    desk = Desk()
    opened(desk, "0.10")
    close = desk.order(OrderSide.SELL, "0.25", reduce_only=True)
    done = fill(close, "0.10", start="0.10", tid=5)
    desk.apply(fills(done), updates(update(close, "filled", sz="0")))
    assert close.awaits_fills, "the venue shrank it to the position, and the frame still counts from the asked size"
    assert kinds(desk.apply(f.OrderStatusRead(close.cloid, update(close, "filled", sz="0"), (done,)))) == ["OrderEnded"]
    assert (desk.position().state, desk.ledger.is_exposed) == (PositionState.FLAT, False)


def test_finished_orders_are_kept_within_bounds() -> None:
    """ORD-2: the last 2000 ended orders stay addressable, the oldest go."""
    desk = Desk()
    first = desk.order(sent=False)
    desk.apply(f.OrderDropped(first.cloid, "purged"))
    for _ in range(KEPT_FINISHED):
        order = desk.order(sent=False)
        desk.apply(f.OrderDropped(order.cloid, "purged"))
    assert len(desk.ledger.finished) == KEPT_FINISHED
    assert desk.ledger.find(first.cloid.value, None) is None
    assert desk.ledger.find(order.cloid.value, None) is order


def test_an_answer_that_cannot_be_read_is_doubt() -> None:
    """POST-2: in doubt is an outcome of its own: pending, and asked about."""
    desk = Desk()
    order = desk.order()
    found = desk.apply(f.OrderAnswered(order.cloid, OrderOutcome(OutcomeKind.IN_DOUBT, error="one error for two"), T0))
    assert kinds(found) == ["Doubted"]
    assert desk.ledger.in_doubt() == [order]


def test_a_late_answer_still_reaches_its_order() -> None:
    """POST-5: an answer after the time-out settles the doubt."""
    desk = Desk()
    order = desk.order()
    desk.apply(f.OrderDoubted(order.cloid, "no answer"))
    found = desk.apply(answer_refused(order))
    assert [type(c) for c in found] == [OrderRejected, OrderEnded]
    assert order.state is OrderState.REJECTED
