"""Our orders and positions: the one place that says what is pending, what is held, and what is in doubt.

The position task applies facts; the executor may only `register` an order, in the same step in which the gates let it
pass, `mark_sent` it, in the step that hands over its bytes, and note that its cancel is queued. What is *pending* in a
market is derived from the orders that are not finished: there is no counter beside them that could drift (GATE-3).
Quantities come from fills alone; an answer that reports a fill keeps its order pending until the fill itself has arrived.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from decimal import Decimal

from attrs import define, field

from hip3.core import units
from hip3.core.events import Fill
from hip3.core.ids import ClientOrderId, TimeInForce
from hip3.core.orders import OrderIntent
from hip3.core.records import ResultRecord
from hip3.core.trades import EntrySignal, MarketPosition
from hip3.fsm.order import ORDER_TABLE, TERMINAL, OrderEvent, OrderState
from hip3.fsm.position import PositionEvent, PositionState
from hip3.fsm.table import Refused

# Finished orders stay addressable for late fills: the venue itself keeps about 2000 records (PROTOCOL 3).
KEPT_FINISHED = 2000
KEPT_FILLS = 20_000


@define
class TrackedOrder:
    """One order of this run (ORD-2). Sizes in base units; `*_ms` wall time."""

    intent: OrderIntent
    state: OrderState = OrderState.PENDING
    oid: int | None = None
    filled_sz: Decimal = units.ZERO
    filled_notional: Decimal = units.ZERO
    reported_sz: Decimal = units.ZERO
    """Executed size by the venue's answer; its fills may still be on their way."""
    sent_ms: int | None = None
    ended_ms: int | None = None
    doubted_ms: int | None = None
    queries: int = 0
    asked_ms: int = 0
    """When the venue was last asked about it."""
    nonce: int | None = None
    """Of the action it was last sent with; None where nothing is left to prove by it (POST-4)."""
    error: str | None = None
    late_fills: int = 0
    cancel_asked_ms: int | None = None

    @property
    def cloid(self) -> ClientOrderId:
        return self.intent.cloid

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def awaits_fills(self) -> bool:
        """The venue reported more than the fills that have arrived."""
        return self.reported_sz > self.filled_sz

    @property
    def is_pending(self) -> bool:
        """It can still change the position: alive, in doubt, or its fills are on their way."""
        return not self.is_terminal or self.awaits_fills

    @property
    def is_stop(self) -> bool:
        """It protects a position from the venue's side (EXIT-5)."""
        return self.intent.is_stop

    @property
    def rests(self) -> bool:
        """The venue has it, and nothing of it was executed."""
        return self.state is OrderState.OPEN

    @property
    def is_under_way(self) -> bool:
        """It is not known to rest, nor to have ended with all its fills."""
        return self.awaits_fills or self.state in (OrderState.PENDING, OrderState.SENT, OrderState.UNKNOWN)

    @property
    def remaining_sz(self) -> Decimal:
        return max(units.ZERO, self.intent.sz - self.filled_sz)


OnMove = Callable[[TrackedOrder, OrderState | None, OrderEvent | None, int], None]
OnPosition = Callable[[MarketPosition, PositionState, PositionEvent], None]


@define
class Ledger:
    """Orders by cloid, positions by coin, fills once each."""

    orders: dict[str, TrackedOrder] = field(factory=dict)
    """Orders that are pending."""
    finished: OrderedDict[str, TrackedOrder] = field(factory=OrderedDict)
    positions: dict[str, MarketPosition] = field(factory=dict)
    recent_fills: OrderedDict[tuple[str, int, int], Fill] = field(factory=OrderedDict)
    """Fills that moved a position, newest last."""
    seen_fills: OrderedDict[tuple[str, int, int], None] = field(factory=OrderedDict)
    on_move: OnMove = field(default=lambda _order, _before, _event, _at_ms: None, eq=False, repr=False)
    """Told of each order registered (no state before, no event) and of each change of state, in the same step."""
    on_position: OnPosition = field(default=lambda _position, _before, _event: None, eq=False, repr=False)
    _by_oid: dict[int, str] = field(factory=dict)

    # ---- reading

    def position(self, coin: str) -> MarketPosition:
        position = self.positions.get(coin)
        if position is None:
            position = self.positions[coin] = MarketPosition(coin, on_fire=self.on_position)
        return position

    def find(self, cloid: str | None, oid: int | None) -> TrackedOrder | None:
        """Our order by cloid, else by oid; finished ones included."""
        key = cloid if cloid is not None else self._by_oid.get(oid) if oid is not None else None
        if key is None:
            return None
        return self.orders.get(key) or self.finished.get(key)

    def pending(self, coin: str) -> Iterator[TrackedOrder]:
        """Entries and closing orders; a stop at the venue is neither, and keeps nothing from being placed (EXIT-5)."""
        return (o for o in self.orders.values() if o.intent.coin == coin and not o.is_stop)

    def stops(self, coin: str) -> Iterator[TrackedOrder]:
        """Protective stops, oldest first."""
        return (o for o in self.orders.values() if o.intent.coin == coin and o.is_stop)

    def is_moving(self, coin: str) -> bool:
        """True where our size may lag behind what an order has done: any but a stop that has not fired."""
        return any(o.intent.coin == coin and (o.awaits_fills or not o.is_stop) for o in self.orders.values())

    def has_pending_entry(self, coin: str) -> bool:
        return any(not o.intent.reduce_only for o in self.pending(coin))

    def pending_close(self, coin: str) -> TrackedOrder | None:
        return next((o for o in self.pending(coin) if o.intent.reduce_only), None)

    def in_doubt(self) -> list[TrackedOrder]:
        """Orders whose fate is unknown, or whose reported fills have not come.

        An IOC that was in doubt stays so until its end is known: a fill or an `open` proves that it was admitted, and
        not what became of its rest, which may have ended without any frame (ORD-3).
        """
        return [o for o in self.orders.values() if o.state is OrderState.UNKNOWN or o.awaits_fills or _may_have_ended(o)]

    def held(self) -> list[MarketPosition]:
        return [p for p in self.positions.values() if p.szi != 0]

    @property
    def is_exposed(self) -> bool:
        return bool(self.orders) or any(p.szi != 0 for p in self.positions.values())

    # ---- the executor's steps

    def register(self, intent: OrderIntent) -> TrackedOrder:
        """Creates the order as PENDING, before it can be sent.

        Raises ValueError for an id that is known already and for a second closing order of a market (EXIT-3), Refused for
        a market that cannot take the order now. What raises has registered nothing.
        """
        key = intent.cloid.value
        if key in self.orders or key in self.finished:
            raise ValueError(f"order {key} is registered already; each order has its own id")
        position = self.position(intent.coin)
        if intent.is_stop:
            pass  # it closes nothing now: position and closing order are as they were
        elif intent.reduce_only:
            other = self.pending_close(intent.coin)
            if other is not None:
                raise ValueError(f"{intent.coin} has a closing order in flight, {other.cloid} is {other.state.name}")
            position.fire(PositionEvent.CLOSE_PLACED)
            position.closing = intent.cloid
            position.close_attempts += 1
        else:
            position.fire(PositionEvent.ENTRY_PLACED)
            if position.szi == 0:
                position.signal = _entry_signal(intent)
        order = self.orders[key] = TrackedOrder(intent)
        self.on_move(order, None, None, intent.created_at_ms)
        return order

    def recover(
        self, intent: OrderIntent, known: ResultRecord | None, nonce: int, sent_ms: int, now_ms: int
    ) -> TrackedOrder:
        """An order that an earlier run sent and did not see end: registered, and in doubt. Raises as `register` does."""
        order = self.register(intent)
        if known is not None:
            order.filled_sz, order.reported_sz, order.error = known.filled_sz, known.reported_sz, known.error
            order.filled_notional = known.filled_sz * known.avg_px if known.avg_px is not None else units.ZERO
            self.learn_oid(order, known.oid)
        self.mark_sent(intent.cloid, sent_ms, nonce)
        self.move(order, OrderEvent.DOUBT, now_ms)
        return order

    def mark_sent(self, cloid: ClientOrderId, at_ms: int, nonce: int | None = None) -> None:
        """Its bytes are about to be handed to the socket: from here on silence is doubt.

        A closing order may be sent again, also before the doubt about its first sending was booked; nothing else may.
        Raises Refused, KeyError for an order that has ended or was never registered.
        """
        order = self.orders[cloid.value]
        if order.state is not OrderState.PENDING:
            if not order.intent.may_be_resent:
                raise Refused(ORDER_TABLE.name, order.state, OrderEvent.SEND, "an entry or a stop is never sent again")
            self.move(order, OrderEvent.DOUBT, at_ms)
        self.move(order, OrderEvent.SEND, at_ms)
        order.sent_ms = at_ms
        order.nonce = nonce

    def mark_unsent(self, cloid: ClientOrderId, at_ms: int) -> None:
        """No byte of it left: it is again what it was before `mark_sent`, in doubt where an earlier sending still is.

        Does nothing for one that was not marked, or that the earlier sending has moved on. Raises Refused where the venue
        speaks of one that was never sent: then the proof is worth nothing, and the path that gave it is broken.
        """
        order = self.orders.get(cloid.value)
        if order is None or order.state in (OrderState.PENDING, OrderState.UNKNOWN):
            return
        if order.doubted_ms is not None:
            if order.state is OrderState.SENT:
                self.move(order, OrderEvent.DOUBT, at_ms)
            return
        self.move(order, OrderEvent.UNSENT, at_ms)
        order.sent_ms = order.nonce = None

    def ask_cancel(self, order: TrackedOrder, at_ms: int) -> None:
        """Its cancel is queued: it is not asked for again at once."""
        order.cancel_asked_ms = at_ms

    # ---- the position task's steps

    def move(self, order: TrackedOrder, event: OrderEvent, at_ms: int) -> bool:
        """Applies an event of the order machine; True where the state changed. Raises Refused for an impossible pair."""
        before = order.state
        order.state = ORDER_TABLE.next(before, event)
        if order.state is OrderState.UNKNOWN and before is not OrderState.UNKNOWN:
            order.doubted_ms = at_ms
            order.queries = 0
        if order.is_terminal and order.ended_ms is None:
            order.ended_ms = at_ms
        if order.state is not before:
            self.on_move(order, before, event, at_ms)
        self.settle(order)
        return order.state is not before

    def settle(self, order: TrackedOrder) -> None:
        """Takes an order that can no longer change the position out of the pending ones."""
        key = order.cloid.value
        if order.is_pending or key not in self.orders:
            return
        del self.orders[key]
        self.finished[key] = order
        while len(self.finished) > KEPT_FINISHED:
            _, old = self.finished.popitem(last=False)
            if old.oid is not None:
                self._by_oid.pop(old.oid, None)
        position = self.position(order.intent.coin)
        if order.is_stop:
            return
        if order.intent.reduce_only:
            if position.closing == order.cloid:
                position.closing = None
            position.fire(PositionEvent.CLOSE_ENDED)
        elif not self.has_pending_entry(order.intent.coin):
            position.fire(PositionEvent.ENTRY_ENDED)

    def learn_oid(self, order: TrackedOrder, oid: int | None) -> None:
        if oid is not None and order.oid != oid:
            order.oid = oid
            self._by_oid[oid] = order.cloid.value

    def see_fill(self, fill: Fill) -> bool:
        """Marks a fill as known; False where it was known already (each fill counts once, RDY-3)."""
        if fill.key in self.seen_fills:
            return False
        self.seen_fills[fill.key] = None
        while len(self.seen_fills) > KEPT_FILLS:
            self.seen_fills.popitem(last=False)
        return True

    def remember_applied(self, fill: Fill) -> None:
        """Keeps a fill that moved a position, so that an older statement of the venue can be compared fairly."""
        self.recent_fills[fill.key] = fill
        while len(self.recent_fills) > KEPT_FINISHED:
            self.recent_fills.popitem(last=False)

    def size_at(self, coin: str, time_ms: int) -> Decimal:
        """Our signed size as it was at the venue's `time_ms`: fills after it are taken off again."""
        later = sum((f.signed_sz for f in self.recent_fills.values() if f.coin == coin and f.time_ms > time_ms), units.ZERO)
        return self.position(coin).szi - later


def _entry_signal(intent: OrderIntent) -> EntrySignal | None:
    if intent.signal_id is None or intent.edge_bps is None or intent.reference_px is None:
        return None
    return EntrySignal(intent.signal_id, intent.edge_bps, intent.reference_px)


def _may_have_ended(order: TrackedOrder) -> bool:
    return order.doubted_ms is not None and order.intent.tif is TimeInForce.IOC and not order.is_terminal


def entry_time(fills: list[Fill], coin: str, szi: Decimal) -> int | None:
    """When the position of `szi` was opened, from the fills that the venue lists (POS-1): the fill that left zero behind.

    Walks back from the newest fill; None where the list does not reach that far.
    """
    held = szi
    for fill in sorted((f for f in fills if f.coin == coin), key=lambda f: (f.time_ms, f.tid), reverse=True):
        before = held - fill.signed_sz
        if before == 0 or (before > 0) != (held > 0):
            return fill.time_ms
        held = before
    return None


__all__ = ["KEPT_FILLS", "Ledger", "PositionState", "TrackedOrder", "entry_time"]
