"""Writes down what must outlive the process: every transition, intent, result, fill and trade, as records (STO-3, STO-4).

What happens in a step is noted as it happens, cheaply, and becomes records at the step's end, in one commit: they belong
together (REC-2). An intent is the exception: it is committed by itself before the order's bytes leave. Trouble with the
storage is told once to `on_trouble` and never raises here, because what reduces or cancels must go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import cache

from attrs import define, evolve, field

from hip3.core.detector import Signal
from hip3.core.events import Fill
from hip3.core.ledger import TrackedOrder
from hip3.core.orders import OrderIntent, OrderOutcome, OutcomeKind
from hip3.core.outlook import signal_fields
from hip3.core.posts import Post
from hip3.core.records import (
    FillRecord,
    FollowUpRecord,
    IntentRecord,
    ProcessedRecord,
    Record,
    Recorder,
    ResultRecord,
    SignalRecord,
    StateRecord,
    StorageUnavailable,
    TradeRecord,
    Transition,
)
from hip3.core.trades import MarketPosition, Trade
from hip3.core.units import ZERO
from hip3.fsm.order import OrderEvent, OrderState
from hip3.fsm.position import PositionEvent, PositionState
from hip3.fsm.post import PostEvent, PostState

NONCE_KEY = "nonce"
CURSOR_TIME_KEY = "last_processed_timestamp_ms"
CURSOR_EVENT_KEY = "last_processed_event_key"
INGEST_KEY = "last_ingest_ms"
POSITION_KEY = "position."
RISK_KEY = "risk."

UNTOLD = 512
"""Signals that may wait for their trail; beyond it the oldest stays without, which costs evidence and nothing else."""

Trail = Callable[[], dict[str, object]]
_Late = Callable[[], Record]
_ENDS = {
    OutcomeKind.CONFIRMED: OrderState.FILLED,
    OutcomeKind.REFUSED: OrderState.REJECTED,
    OutcomeKind.NOT_SENT: OrderState.EXPIRED,
    OutcomeKind.IN_DOUBT: OrderState.UNKNOWN,
}
"""How an order that is done at once has ended, whole; a part of it filled is CANCELED, its rest being gone."""


@define
class Scribe:
    """`wall_ms` is our clock; `on_trouble` gets a sentence when a commit fails, once until one succeeds again."""

    recorder: Recorder
    wall_ms: Callable[[], int]
    on_trouble: Callable[[str], None]
    on_recovered: Callable[[], None] = lambda: None
    event_id: str = ""
    """What the present step is about: a fact, a post, a command. It stands on every transition of the step; empty between
    steps, for a row that names the wrong event is worse than one that names none."""
    is_failing: bool = False
    commits: int = 0
    failures: int = 0
    _later: list[_Late] = field(factory=list)
    _untold: deque[tuple[SignalRecord, Trail]] = field(factory=lambda: deque(maxlen=UNTOLD))
    _nonce: int = 0
    _nonce_kept: int = 0
    _is_whole: bool = True
    """False within a step: what was noted so far is not all of it."""

    # ---- the order path

    def intents(self, orders: Iterable[OrderIntent], nonce: int, sent_ms: int) -> bool:
        """Makes the orders of one action survive the process, before its bytes leave; False where that failed."""
        self._put_intents(orders, nonce, sent_ms)
        return self._commit(more=True)

    def closes(self, orders: Sequence[OrderIntent], nonce: int) -> None:
        """The same for closing orders of a flatten, which no ledger follows: the venue's list of positions says what they
        did. So they are on record as settled, and unknown until `closed`; the next start has nothing to ask about them."""
        now = self.wall_ms()
        self._put_intents(orders, nonce, now)
        for o in orders:
            self.recorder.put(ResultRecord(o.cloid.value, OrderState.UNKNOWN.name, now, True, error="flatten: sent"))
        self._commit()

    def closed(self, order: OrderIntent, outcome: OrderOutcome) -> None:
        """What the venue answered about one of `closes`."""
        filled = outcome.filled_sz or ZERO
        is_partial = outcome.kind is OutcomeKind.CONFIRMED and filled < order.sz
        state = OrderState.CANCELED if is_partial else _ENDS[outcome.kind]
        row = ResultRecord(
            order.cloid.value,
            state.name,
            self.wall_ms(),
            True,
            outcome.oid,
            filled,
            filled,
            outcome.avg_px,
            outcome.error,
        )
        self._later.append(lambda: row)
        self.commit()

    def _put_intents(self, orders: Iterable[OrderIntent], nonce: int, sent_ms: int) -> None:
        for o in orders:
            self.recorder.put(
                IntentRecord(
                    o.cloid.value,
                    o.spec.key.coin,
                    o.spec.asset_id,
                    o.side.name,
                    o.sz,
                    o.px,
                    o.tif.name,
                    o.reduce_only,
                    nonce,
                    o.created_at_ms,
                    sent_ms,
                    o.signal_id,
                    o.expires_after_ms,
                    o.trigger_px,
                    o.edge_bps,
                    o.reference_px,
                )
            )

    def nonce(self, nonce: int) -> None:
        """The last nonce issued; the next run goes on above it (NON-1)."""
        self._nonce = nonce

    # ---- transitions of the hot machines

    def order_moved(self, order: TrackedOrder, before: OrderState | None, event: OrderEvent | None, at_ms: int) -> None:
        """`before` None: it was registered."""
        after, error, about = order.state.name, order.error or "", self.event_id
        came, why = before.name if before else "", event.name if event else "REGISTERED"
        key, coin = order.cloid.value, order.intent.coin
        self._later.append(lambda: Transition(at_ms, "order", key, came, after, why, error, about, {"coin": coin}))

    def position_moved(self, position: MarketPosition, before: PositionState, event: PositionEvent) -> None:
        at, about, coin, after = self.wall_ms(), self.event_id, position.coin, position.state.name
        why = position.exit_reason if event in (PositionEvent.CLOSE_PLACED, PositionEvent.WENT_FLAT) else ""
        facts = {"szi": position.szi}
        self._later.append(lambda: Transition(at, "position", coin, before.name, after, event.name, why, about, facts))

    def post_moved(self, post: Post, before: PostState | None, event: PostEvent | None) -> None:
        at, after, key, nonce = self.wall_ms(), post.state.name, str(post.id), post.nonce
        came, why = before.name if before else "", event.name if event else "REGISTERED"
        about = f"nonce:{nonce}"
        self._later.append(lambda: Transition(at, "post", key, came, after, why, "", about, {"nonce": nonce}))

    # ---- everything else

    def transition(
        self,
        category: str,
        entity_id: str,
        before: str,
        after: str,
        reason_code: str,
        message: str = "",
        metadata: Mapping[str, object] | None = None,
        event_id: str | None = None,
    ) -> None:
        """A row of the audit log about a cold machine, a decision or an operator; `event_id` None is that of the step."""
        at, facts = self.wall_ms(), metadata or {}
        about = self.event_id if event_id is None else event_id
        row = Transition(at, category, entity_id, before, after, reason_code, message, about, facts)
        self._later.append(lambda: row)

    def result(self, order: TrackedOrder) -> None:
        """What is known of an order now."""
        avg = order.filled_notional / order.filled_sz if order.filled_sz else None
        row = ResultRecord(
            order.cloid.value,
            order.state.name,
            self.wall_ms(),
            not order.is_pending,
            order.oid,
            order.filled_sz,
            order.reported_sz,
            avg,
            order.error,
        )
        self._later.append(lambda: row)

    def fill(self, fill: Fill) -> None:
        """A fill that was booked: the row, its key, and the cursor, in one commit with what followed from it (REC-2)."""
        key, now = ":".join(map(str, fill.key)), self.wall_ms()
        self._later.append(lambda: _fill_record(fill))
        self._later.append(lambda: ProcessedRecord(key, fill.time_ms, now))
        self.cursor(fill.time_ms, key)

    def cursor(self, time_ms: int, event_key: str) -> None:
        """Everything of the account up to the venue's `time_ms` is in the books."""
        now = self.wall_ms()
        self._later.append(lambda: StateRecord(CURSOR_TIME_KEY, str(time_ms), now))
        self._later.append(lambda: StateRecord(CURSOR_EVENT_KEY, event_key, now))

    def position(self, position: MarketPosition) -> None:
        """A position as it is now; the next run goes on from it."""
        self.state(POSITION_KEY + position.coin, position.dump() if position.szi != 0 else None)

    def trade(self, trade: Trade) -> None:
        self._later.append(lambda: _trade_record(trade))

    def signal(self, signal: Signal, verdict: str, detail: str, cloid: str | None, trail: Trail) -> Trail:
        """A signal and what became of it at the gates; what each of them said comes later, with `trails`.

        Returns `trail` so that it is made once, whoever asks first: `trails`, or the reader of the journal.
        """
        row = SignalRecord(
            signal.id,
            signal.coin,
            signal.side.name,
            signal.detected_wall_ms,
            signal.edge_bps,
            verdict,
            detail,
            cloid,
            signal_fields(signal),
        )
        once = cache(trail)
        self._later.append(lambda: row)
        self._untold.append((row, once))
        return once

    def trails(self, most: int) -> None:
        """Puts `most` of the signals that wait again, the oldest first, with what every filter and gate said (OPS-7).

        To make a trail costs some 0.1 ms, so this is for a task that nothing waits for.
        """
        for _ in range(min(most, len(self._untold))):
            row, trail = self._untold.popleft()
            self.put(evolve(row, trail=trail()))

    def follow_up(self, signal_id: str, after_ms: int, edge_bps: Decimal | None) -> None:
        row = FollowUpRecord(signal_id, after_ms, self.wall_ms(), edge_bps)
        self._later.append(lambda: row)

    def state(self, key: str, value: str | None) -> None:
        """A value that the next run goes on from."""
        row = StateRecord(key, value, self.wall_ms())
        self._later.append(lambda: row)

    def put(self, record: Record) -> None:
        """A record that nothing here makes."""
        self._later.append(lambda: record)

    # ---- the end of a step

    @contextmanager
    def step(self, event_id: str) -> Iterator[None]:
        """What is noted inside is one commit, at the end: a cause that comes up half-way does not cut it in two (REC-2).

        For steps without a suspension point: nothing can act on a cause before the step that brought it has ended.
        """
        self.event_id = event_id
        self._is_whole = False
        try:
            yield
        finally:
            self._is_whole = True
            self.event_id = ""
        self.commit()

    def commit(self) -> bool:
        """Makes what was noted survive the process, as one whole; True also where there was nothing. Never raises.

        Within a `step` it is left to the step's end.
        """
        if not self._is_whole:
            return True
        if self._nonce > self._nonce_kept:
            self.state(NONCE_KEY, str(self._nonce))
            self._nonce_kept = self._nonce
        if not self._later:
            return True
        for make in self._later:
            self.recorder.put(make())
        self._later.clear()
        return self._commit()

    def _commit(self, *, more: bool = False) -> bool:
        try:
            self.recorder.commit(more=more)
        except StorageUnavailable as e:
            self.failures += 1
            if not self.is_failing:
                self.is_failing = True
                self.on_trouble(str(e))
            return False
        self.commits += 1
        if self.is_failing:
            self.is_failing = False
            self.on_recovered()
        return True


def _fill_record(fill: Fill) -> FillRecord:
    return FillRecord(
        fill.coin,
        fill.time_ms,
        fill.tid,
        fill.oid,
        fill.cloid,
        fill.side.name,
        fill.px,
        fill.sz,
        fill.fee,
        fill.fee_token,
        fill.dir,
        fill.closed_pnl,
        fill.start_position,
    )


def _trade_record(trade: Trade) -> TradeRecord:
    return TradeRecord(
        coin=trade.coin,
        side=trade.side.name,
        sz=trade.sz,
        entry_px=trade.entry_px,
        exit_px=trade.exit_px,
        entry_ms=trade.entry_ms,
        exit_ms=trade.exit_ms,
        realized_usd=trade.realized_usd,
        fees_usd=trade.fees_usd,
        funding_usd=trade.funding_usd,
        exit_reason=trade.exit_reason,
        signal_id=trade.signal_id,
        expected_edge_bps=trade.expected_edge_bps,
        actual_edge_bps=trade.actual_edge_bps,
    )
