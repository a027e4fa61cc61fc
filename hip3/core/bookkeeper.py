"""Applies facts to the ledger and says what followed: fills, finished trades, rejects, doubts.

RDY-3: between the subscription and the first reading of the account, own events are buffered; they are applied after it
in the venue's time order and none is dropped. Snapshot fills never open a position: positions come from the venue's
state, fills give entry time and price, and each fill counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from attrs import define, field

from hip3.core import facts as f
from hip3.core import units
from hip3.core.consequences import (
    Adopted,
    Closed,
    Consequence,
    Corrected,
    Doubted,
    Filled,
    FillsSnapshot,
    Funded,
    OrderEnded,
    OrderRejected,
    OrderRests,
    PositionsAgree,
    StrayOrder,
)
from hip3.core.events import Fill, Funding, OrderUpdate, OrderUpdates, UserFills, UserFundings
from hip3.core.exits import ExitReason
from hip3.core.ids import ClientOrderId
from hip3.core.ledger import Ledger, TrackedOrder, entry_time
from hip3.core.orders import OrderOutcome, OutcomeKind
from hip3.fsm.order import OrderEvent, OrderState
from hip3.fsm.position import PositionEvent, PositionState
from hip3.fsm.table import Refused

LISTED_AFTER_MS = 10_000
"""A reading of open orders is at most this old: the deadline of its questions. An order younger may not be in it yet."""

DISPROVED_BY_A_FILL = frozenset({OrderState.EXPIRED, OrderState.REJECTED})
"""Ends that say that nothing was executed: a fill after them means that the venue is to be asked."""

StatusEvent = Callable[[str], OrderEvent | None]
"""The order event of a venue status text; None for one that nobody knows."""


@define
class Bookkeeper:
    """One fact in, its consequences out. `now_ms` is wall time."""

    ledger: Ledger
    status_event: StatusEvent
    synced: bool = False
    """False between a link's start and the first reading of the account after it."""
    _buffer: list[OrderUpdate | Fill] = field(factory=list)
    _history: list[Fill] = field(factory=list)
    _history_read: bool = False
    _known_since_ms: int | None = None
    """Venue time of this run's first reading; what happened before it is in that reading."""
    _account: f.AccountRead | None = None
    _suspected: dict[str, Decimal] = field(factory=dict)
    """What the venue stated once and we do not have, by coin."""
    _compared: dict[str, tuple[Decimal, Decimal]] = field(factory=dict)

    def apply(self, fact: f.Fact, now_ms: int) -> list[Consequence]:
        """What followed from one fact. Refused pairs of the order machine become doubt, never an exception."""
        match fact:
            case f.OrderSent(cloid, at_ms):
                return self._event(cloid, OrderEvent.SEND, at_ms, sent=True)
            case f.OrderDropped(cloid, reason):
                return self._event(cloid, OrderEvent.DROP, now_ms, error=reason)
            case f.OrderDoubted(cloid, reason):
                return [*self._event(cloid, OrderEvent.DOUBT, now_ms, error=reason), Doubted(str(cloid), reason)]
            case f.OrderAbsent(cloid, proof):
                return self._event(cloid, OrderEvent.ABSENT, now_ms, error=proof)
            case f.OrderAnswered():
                return self._answered(fact)
            case f.CancelAnswered(cloid, outcome, at_ms):
                return self._cancel_answered(cloid, outcome, at_ms)
            case f.OrderStatusRead():
                return self._status_read(fact, now_ms)
            case OrderUpdates(updates):
                return self._own_events(list(updates), now_ms)
            case UserFundings(_, payments, _):
                return self._fundings(payments)
            case UserFills(_, fills, is_snapshot):
                return self._fills(list(fills), is_snapshot, now_ms)
            case f.FillsRead(fills):
                return self._missed(fills)
            case f.LinkUp() | f.LinkDown() | f.AccountRead():
                return self._session(fact, now_ms)

    def _session(self, fact: f.LinkUp | f.LinkDown | f.AccountRead, now_ms: int) -> list[Consequence]:
        """A connection begins or ends with nothing read; a reading is compared once the fills are known as well."""
        if isinstance(fact, f.AccountRead):
            self._account = fact
            return self._try_sync(now_ms)
        self.synced = False
        self._buffer.clear()
        self._history_read = False
        self._account = None
        return []

    def go_on_from(self, venue_ms: int) -> None:
        """The books already hold everything up to the venue's `venue_ms`: later fills are news, and a statement that differs
        must be made twice."""
        self._known_since_ms = venue_ms

    # ---- orders

    def _event(
        self, cloid: ClientOrderId, event: OrderEvent, at_ms: int, *, sent: bool = False, error: str | None = None
    ) -> list[Consequence]:
        order = self.ledger.find(cloid.value, None)
        if order is None:
            return [Doubted(str(cloid), f"{event.name} for an order that is not known")]
        if sent:
            order.sent_ms = at_ms
        if error is not None:
            order.error = error
        return self._move(order, event, at_ms)

    def _move(self, order: TrackedOrder, event: OrderEvent, at_ms: int) -> list[Consequence]:
        was_pending = order.is_pending
        try:
            moved = self.ledger.move(order, event, at_ms)
        except Refused as refused:
            # Said by the venue, an impossible event is doubt: it is asked about, never guessed at.
            return [Doubted(str(order.cloid), str(refused))]
        if moved and order.rests:
            return [OrderRests(order)]
        return [OrderEnded(order)] if was_pending and not order.is_pending else []

    def _answered(self, fact: f.OrderAnswered) -> list[Consequence]:
        outcome = fact.outcome
        order = self.ledger.find(fact.cloid.value, None)
        if order is None:
            return [Doubted(str(fact.cloid), "an answer for an order that is not known")]
        self.ledger.learn_oid(order, outcome.oid)
        if outcome.kind is OutcomeKind.REFUSED:
            return self._reject(order, outcome.error or "refused", fact.at_ms)
        if outcome.kind is OutcomeKind.IN_DOUBT:
            why = outcome.error or "the answer could not be read"
            return [*self._move(order, OrderEvent.DOUBT, fact.at_ms), Doubted(str(fact.cloid), why)]
        if outcome.filled_sz is None:
            return self._move(order, OrderEvent.ACK, fact.at_ms)
        order.reported_sz = max(order.reported_sz, outcome.filled_sz)
        return self._move(order, OrderEvent.SETTLE, fact.at_ms)

    def _cancel_answered(self, cloid: ClientOrderId, outcome: OrderOutcome, at_ms: int) -> list[Consequence]:
        """A refusal does not tell filled from gone (PROTOCOL 4.3): what became of the order must be asked."""
        if outcome.kind is OutcomeKind.CONFIRMED:
            return self._event(cloid, OrderEvent.CANCEL, at_ms)
        order = self.ledger.find(cloid.value, None)
        if order is None or order.is_terminal:
            return []
        why = f"its cancel was not confirmed: {outcome.error or outcome.kind.value}"
        return [*self._move(order, OrderEvent.DOUBT, at_ms), Doubted(str(cloid), why)]

    def _own_events(self, events: list[OrderUpdate], now_ms: int) -> list[Consequence]:
        if not self.synced:
            self._buffer.extend(events)
            return []
        return [c for event in events for c in self._update(event, now_ms)]

    def _update(self, update: OrderUpdate, now_ms: int) -> list[Consequence]:
        order = self.ledger.find(update.cloid, update.oid)
        if order is None:
            return []  # another client of this account, or an earlier run
        self.ledger.learn_oid(order, update.oid)
        event = self.status_event(update.status)
        if event is None:
            doubt = self._move(order, OrderEvent.DOUBT, now_ms)
            return [*doubt, Doubted(str(order.cloid), f"unknown order status {update.status!r}")]
        if event is OrderEvent.SETTLE:
            # `sz` is what remains: zero, or what an IOC did not get (PROTOCOL 7.1).
            order.reported_sz = max(order.reported_sz, order.intent.sz - update.sz)
        if event is OrderEvent.REJECT:
            return self._reject(order, update.status, update.status_time_ms)
        return self._move(order, event, update.status_time_ms)

    def _reject(self, order: TrackedOrder, error: str, at_ms: int) -> list[Consequence]:
        """Answer and frame both say it, in either order; it is one rejection, and the first text stays."""
        before = order.state
        ended = self._move(order, OrderEvent.REJECT, at_ms)
        if order.state is before or order.state is not OrderState.REJECTED:
            return ended
        order.error = error
        return [OrderRejected(order, error), *ended]

    def _status_read(self, fact: f.OrderStatusRead, now_ms: int) -> list[Consequence]:
        """Status and fills were read together, so what the fills do not show was not executed."""
        result = [c for fill in fact.fills for c in self._fill(fill)]
        result += self._update(fact.update, now_ms)
        order = self.ledger.find(fact.cloid.value, fact.update.oid)
        if order is not None and order.is_terminal and order.awaits_fills:
            order.reported_sz = order.filled_sz
            self.ledger.settle(order)
            result.append(OrderEnded(order))
        return result

    # ---- fills

    def _fills(self, fills: list[Fill], is_snapshot: bool, now_ms: int) -> list[Consequence]:
        if is_snapshot:
            self._history = fills
            self._history_read = True
            return [FillsSnapshot(len(fills)), *self._try_sync(now_ms)]
        if not self.synced:
            self._buffer.extend(fills)
            return []
        return [c for fill in fills for c in self._fill(fill)]

    def _fill(self, fill: Fill) -> list[Consequence]:
        if not self.ledger.see_fill(fill):
            return []
        position = self.ledger.position(fill.coin)
        if fill.time_ms <= position.adopted_ms:
            order = self.ledger.find(fill.cloid, fill.oid)
            counted: list[Consequence] = [Filled(fill, order)]  # the size that was taken over has its effect
            return counted if order is None else [*counted, *self._fill_order(order, fill)]
        result: list[Consequence] = []
        if fill.start_position != position.szi:
            why = f"a fill starts from {fill.start_position}, we had {position.szi}"
            result.append(Doubted(fill.coin, why))
        order = self.ledger.find(fill.cloid, fill.oid)
        result.append(Filled(fill, order))
        if order is not None and order.is_stop:
            position.exit_reason = ExitReason.PROTECTIVE_STOP.value
        trade = position.apply(fill)
        self.ledger.remember_applied(fill)
        if order is not None:
            result += self._fill_order(order, fill)
        if trade is not None:
            result.append(Closed(trade))
        return result

    def _fill_order(self, order: TrackedOrder, fill: Fill) -> list[Consequence]:
        was_pending = order.is_pending
        disproved = [Doubted(fill.coin, _disproof(order))] if order.state in DISPROVED_BY_A_FILL else []
        self.ledger.learn_oid(order, fill.oid)
        order.late_fills += order.is_terminal and not order.awaits_fills
        order.filled_sz += fill.sz
        order.filled_notional += fill.sz * fill.px
        event = OrderEvent.FILL_ALL if order.filled_sz >= order.intent.sz else OrderEvent.FILL_PART
        moved = self._move(order, event, fill.time_ms)
        self.ledger.settle(order)
        if was_pending and not order.is_pending and not moved:
            moved = [OrderEnded(order)]
        return [*disproved, *moved]

    def _fundings(self, payments: Iterable[Funding]) -> list[Consequence]:
        """Books payments on what is held, each once; those of a snapshot as well, for some may be news after a reconnect."""
        positions = self.ledger.positions
        paid = sorted(payments, key=lambda p: p.time_ms)
        return [Funded(p) for p in paid if p.coin in positions and positions[p.coin].pay(p)]

    # ---- the account's state

    def _try_sync(self, now_ms: int) -> list[Consequence]:
        if self._account is None or not self._history_read:
            return []
        result: list[Consequence] = []
        account, self._account = self._account, None
        is_first = self._known_since_ms is None
        if not self.synced:
            result += self._first_sync(account, now_ms)
        else:
            result += self._doubt_unlisted(account, now_ms, at_least_ms=LISTED_AFTER_MS)
        stray = [StrayOrder(u) for u in account.open_orders if self.ledger.find(u.cloid, u.oid) is None]
        return [*result, *stray, *self._compare(account, at_once=is_first)]

    def _first_sync(self, account: f.AccountRead, now_ms: int) -> list[Consequence]:
        """Books what was missed, in the venue's order: fills since the first reading, then what was buffered."""
        self.synced = True
        if self._known_since_ms is None:
            self._known_since_ms = max((state.time_ms for state in account.states), default=now_ms)
        result = self._missed(self._history)
        for update in account.open_orders:
            result += self._update(update, now_ms)
        buffered, self._buffer = self._buffer, []
        for event in sorted(buffered, key=lambda x: x.time_ms if isinstance(x, Fill) else x.status_time_ms):
            result += self._fill(event) if isinstance(event, Fill) else self._update(event, now_ms)
        return [*result, *self._doubt_unlisted(account, now_ms)]

    def _doubt_unlisted(self, account: f.AccountRead, now_ms: int, at_least_ms: int = 0) -> list[Consequence]:
        """An order that rests by our book and is not listed has ended; how, must be asked. Of those sent so long ago."""
        cloids, oids = {u.cloid for u in account.open_orders}, {u.oid for u in account.open_orders}
        result: list[Consequence] = []
        for order in list(self.ledger.orders.values()):
            rested = order.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED)
            is_old = now_ms - (order.sent_ms or 0) >= at_least_ms
            if rested and is_old and order.cloid.value not in cloids and order.oid not in oids:
                result += self._move(order, OrderEvent.DOUBT, now_ms)
                result.append(Doubted(str(order.cloid), "it rested, and the venue does not list it any more"))
        return result

    def _compare(self, account: f.AccountRead, *, at_once: bool) -> list[Consequence]:
        """Compares our sizes, as of the statement's own time, with each dex; takes the venue's word where they differ.

        But for the first statement of a run a difference must be stated twice: one wrong answer has deleted live positions
        elsewhere (POS-3, LESSONS 30). Until then nothing agrees, and the caller asks again.
        """
        result: list[Consequence] = []
        agrees = True
        self._compared.clear()
        for state in account.states:
            venue = {p.coin: p for p in state.positions}
            ours = {c for c in self.ledger.positions if (c.partition(":")[0] if ":" in c else "") == state.dex}
            for coin in sorted(ours | venue.keys()):
                stated = venue[coin].szi if coin in venue else units.ZERO
                had = self.ledger.size_at(coin, state.time_ms)
                if not self.ledger.is_moving(coin) and (had != 0 or stated != 0):
                    self._compared[coin] = (had, stated)
                if had == stated or self.ledger.is_moving(coin):
                    # With an order in flight the two may differ by what it did; it is compared when it ends.
                    self._suspected.pop(coin, None)
                    continue
                if not at_once and self._suspected.get(coin) != stated:
                    self._suspected[coin] = stated
                    result.append(Doubted(coin, f"the venue states {stated}, we have {had}"))
                    agrees = False
                    continue
                self._suspected.pop(coin, None)
                entry_px = venue[coin].entry_px if coin in venue else None
                opened = entry_time(self._history, coin, stated) or state.time_ms
                position = self.ledger.position(coin)
                later = position.szi - had  # fills after the statement stay booked
                position.adopt(stated + later, entry_px or position.entry_px, opened)
                position.adopted_ms = state.time_ms
                result.append(Adopted(coin, stated) if at_once else Corrected(coin, had, stated))
        if agrees:
            result.append(PositionsAgree(max((s.time_ms for s in account.states), default=0)))
        return result

    def take_compared(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Our size and the venue's of each market that either holds, by the last reading; each reading is told once."""
        told, self._compared = self._compared, {}
        return told

    def mark_overdue(self, coin: str) -> bool:
        """Says that a position should have been flat by now; True the first time."""
        position = self.ledger.position(coin)
        before = position.state
        position.fire(PositionEvent.OVERDUE)
        return before is not position.state and position.state is PositionState.FLATTEN_FAILED

    def _missed(self, fills: Iterable[Fill]) -> list[Consequence]:
        """Books fills of a list, oldest first, where they are of this run's time or orders.

        Whose orders they were does not matter: the flatten's own closes and the operator's would else end a position
        without a trade, and the loss limit would not hear of them (LESSONS 18).
        """
        result: list[Consequence] = []
        for fill in sorted(fills, key=lambda x: (x.time_ms, x.tid)):
            since = self._known_since_ms
            if (since is not None and fill.time_ms > since) or self.ledger.find(fill.cloid, fill.oid) is not None:
                result += self._fill(fill)
            else:
                self.ledger.see_fill(fill)  # before this run: its effect is in the venue's statement
        return result


def _disproof(order: TrackedOrder) -> str:
    return f"a fill of order {order.cloid}, which had ended {order.state.name}: nothing of it should have been executed"
