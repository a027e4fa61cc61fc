"""Position task: owns orders and positions; applies facts one by one and tells everyone what followed (POS-1, POS-2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal

from attrs import define, field

from hip3.core import facts as f
from hip3.core.bookkeeper import Bookkeeper
from hip3.core.clock import Clock
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
from hip3.core.diffs import SnapshotDiffs
from hip3.core.events import OrderUpdate
from hip3.core.execution import EventSink, SlippageMeasured
from hip3.core.exits import pause_ms
from hip3.core.fees import FeeCheck
from hip3.core.guards import GuardLevel, GuardName, Guards
from hip3.core.ids import is_our_cloid
from hip3.core.journal import Journal
from hip3.core.ledger import TrackedOrder
from hip3.core.protection import AGAIN_MS
from hip3.core.ready import Ready
from hip3.core.scribe import INGEST_KEY, Scribe
from hip3.core.tally import Tally
from hip3.core.trades import MarketPosition, Trade
from hip3.fsm.order import OrderEvent, OrderState
from hip3.fsm.ready import Condition
from hip3.tasks.channels import Doorbell, Mailbox
from hip3.venue.hyperliquid.refusals import RefusalReason, classify_error, classify_rejection
from hip3.venue.hyperliquid.statuses import StatusClass, classify_status

KEPT_TRADES = 1000
ASK_BEFORE_CLOSE_MS = 2_000
"""Room for two readings of the account at 0.3 s each (PROTOCOL 7.2); then closing goes on whatever they say."""

_EVENT_OF = {
    StatusClass.OPEN: OrderEvent.ACK,
    StatusClass.FILLED: OrderEvent.SETTLE,
    StatusClass.CANCELED: OrderEvent.CANCEL,
    StatusClass.REJECTED: OrderEvent.REJECT,
}


def status_event(status: str) -> OrderEvent | None:
    """The order event that a venue status stands for; None for one that nobody knows (TYP-5)."""
    return _EVENT_OF.get(classify_status(status))


@define
class PositionTask:
    bookkeeper: Bookkeeper
    facts: Mailbox[f.Fact]
    events: EventSink
    ready: Ready
    tally: Tally
    wake_executor: Doorbell
    wake_reconcile: Doorbell
    read_account_soon: Callable[[], None]
    clock: Clock
    journal: Journal
    fees: FeeCheck
    scribe: Scribe
    guards: Guards
    cancel_stray: Callable[[OrderUpdate], bool] = lambda _update: False
    """Asks for the cancel of an order that an earlier run left; False where this run does not know its market."""
    on_drift: Callable[[str, Decimal, Decimal], None] = lambda _coin, _ours, _venue: None
    """Told of each correction: coin, our signed size, the venue's (REC-4)."""
    on_agree: Callable[[], None] = lambda: None
    """Told when a statement of the venue agrees with the books in everything, and nothing had to be corrected for it."""
    on_foreign: Callable[[OrderUpdate], None] = lambda _update: None
    """Told of each order at the first reading of a run that is not ours, or that nobody can cancel (REC-1)."""
    on_change: Callable[[], None] = lambda: None
    """Called after each fact, in the same step; for invariants and displays."""
    _strays: set[int] = field(factory=set)
    _foreign_may_block: bool = True
    """Until the account was compared for the first time: what is found then was there before us."""
    diffs: SnapshotDiffs = field(factory=SnapshotDiffs)
    trades: deque[Trade] = field(factory=lambda: deque(maxlen=KEPT_TRADES))

    async def run(self) -> None:
        """Serves until cancelled."""
        async for fact in self.facts:
            self.handle(fact)

    def handle(self, fact: f.Fact) -> None:
        """Applies one fact and passes on what followed; all that is to be remembered of it is one commit (REC-2)."""
        with self.scribe.step(f.event_id(fact)):
            self._apply(fact)
        self.on_change()

    def _apply(self, fact: f.Fact) -> None:
        consequences = self.bookkeeper.apply(fact, self.clock.wall_ms())
        for consequence in consequences:
            self._pass_on(consequence)
        if any(isinstance(c, PositionsAgree) for c in consequences):
            if any(isinstance(c, Corrected) for c in consequences):
                self.read_account_soon()  # what had to be corrected must be seen to agree by itself
            else:
                self.on_agree()
        if isinstance(fact, f.AccountRead):
            for coin, (ours, venue) in self.bookkeeper.take_compared().items():
                self._note("info", "position_reconciled", coin=coin, tracker=ours, venue=venue, diff=ours - venue)
            # `orderUpdates` has no snapshot: its ack, which came before this reading, and this reading stand for it.
            self.ready.set(Condition.ORDER_SNAPSHOT, holds=True)
            self._note("info", "open_orders_loaded", count=len(fact.open_orders))
            self.scribe.state(INGEST_KEY, str(self.clock.wall_ms()))
        if self.bookkeeper.synced:
            self._foreign_may_block = False  # the first reading was compared: what comes now came after us

    def _pass_on(self, consequence: Consequence) -> None:
        match consequence:
            case Filled():
                self._filled(consequence)
            case Funded(payment):
                self.scribe.position(self.bookkeeper.ledger.position(payment.coin))
                self._note("info", "funding", coin=payment.coin, usd=payment.usd, szi=payment.szi)
            case Closed():
                self._closed(consequence)
            case OrderEnded(order):
                self._ended(order)
            case OrderRests(order):
                self.scribe.result(order)
                self._note("info", "order_open", cloid=str(order.cloid), coin=order.intent.coin)
                self.wake_executor.ring()
            case OrderRejected():
                self._rejected(consequence)
            case Doubted(subject, why):
                self._note("warning", "in_doubt", subject=subject, why=why)
                if subject in self.bookkeeper.ledger.positions:
                    self.ready.set(Condition.POSITION_SYNCED, holds=False)
                    self.guards.report(GuardName.SNAPSHOT_DIFF, GuardLevel.WARN, f"{subject}: {why}")
                    self.read_account_soon()
                else:
                    self.wake_reconcile.ring()
            case Corrected(coin, ours, venue):
                why = "the venue stated it twice"
                self.scribe.transition("reconcile", coin, str(ours), str(venue), "CORRECTED", why)
                self.scribe.position(self.bookkeeper.ledger.position(coin))
                self._note("warning", "position_corrected", coin=coin, ours=ours, venue=venue, why=why)
                self.diffs.corrected(f"{coin} from {ours} to {venue}", self.clock.mono_ms())
                self.on_drift(coin, ours, venue)
                self.events.put(consequence)
            case Adopted() | StrayOrder() | FillsSnapshot() | PositionsAgree():
                self._about_account(consequence)

    def _about_account(self, consequence: Adopted | StrayOrder | FillsSnapshot | PositionsAgree) -> None:
        match consequence:
            case Adopted(coin, venue):
                self.scribe.position(self.bookkeeper.ledger.position(coin))
                self._note("warning", "position_adopted", coin=coin, venue=venue)
            case StrayOrder(update):
                self._stray(update)
            case FillsSnapshot(count):
                self.ready.set(Condition.FILLS_SNAPSHOT, holds=True)
                self._note("info", "user_fills_snapshot", count=count)
                self.wake_reconcile.ring()
            case PositionsAgree(time_ms):
                ledger = self.bookkeeper.ledger
                if time_ms and not any(ledger.is_moving(coin) for coin in ledger.positions):
                    self.scribe.cursor(time_ms, "statement")
                self.diffs.agreed()
                self.guards.report(GuardName.SNAPSHOT_DIFF, *self.diffs.judge(self.clock.mono_ms()))
                self.ready.set(Condition.POSITION_SYNCED, holds=True)

    def _stray(self, update: OrderUpdate) -> None:
        """An earlier run's order is cancelled; another's is told of, and blocks LIVE where it was there first (REC-1)."""
        is_new = update.oid not in self._strays
        self._strays.add(update.oid)
        if is_our_cloid(update.cloid) and self.cancel_stray(update):
            if is_new:
                self._note("warning", "stray_order", oid=update.oid, cloid=update.cloid, coin=update.coin)
                self.scribe.transition("recovery", str(update.cloid), "OPEN", "CANCEL_ASKED", "STRAY_ORDER", update.coin)
            return
        if is_new:
            self._note("warning", "foreign_order", oid=update.oid, cloid=update.cloid, coin=update.coin)
        if self._foreign_may_block:
            self.on_foreign(update)

    def _closed(self, closed: Closed) -> None:
        trade = closed.trade
        self.trades.append(trade)
        self.tally.on_trade(trade)
        self.scribe.trade(trade)
        self._note(
            "info",
            "position_closed",
            coin=trade.coin,
            signal=trade.signal_id,
            side=trade.side.name,
            sz=trade.sz,
            entry_px=trade.entry_px,
            exit_px=trade.exit_px,
            pnl_usd=trade.pnl_usd,
            fees_usd=trade.fees_usd,
            funding_usd=trade.funding_usd,
            expected_edge_bps=trade.expected_edge_bps,
            actual_edge_bps=trade.actual_edge_bps,
            holding_ms=trade.holding_ms,
            exit_reason=trade.exit_reason,
        )
        self.events.put(closed)
        if trade.slippage_bps is not None:
            self.events.put(SlippageMeasured(trade.coin, trade.slippage_bps, trade.signal_id, trade.exit_ms))

    def _ended(self, order: TrackedOrder) -> None:
        self.tally.on_order_ended(order)
        self.scribe.result(order)
        coin = order.intent.coin
        self._note("info", f"order_{order.state.name.lower()}", cloid=str(order.cloid), coin=coin, filled=order.filled_sz)
        position = self.bookkeeper.ledger.position(coin)
        if order.is_stop and position.szi != 0 and order.state is not OrderState.EXPIRED:
            # Whoever ended it might end the next one as well, so that one waits; a position that is over forgets this.
            position.stop_not_before_ms = self.clock.mono_ms() + AGAIN_MS
        if order.intent.may_be_resent and order.filled_sz == 0:
            self._closed_nothing(position)
        self.wake_executor.ring()

    def _rejected(self, rejected: OrderRejected) -> None:
        order, error = rejected.order, rejected.error
        coin = order.intent.coin
        self._note("info", "action_rejected", cloid=str(order.cloid), coin=coin, error=error)
        if order.is_stop:
            self._note("critical", "stop_refused", coin=coin, cloid=str(order.cloid), error=error)
        elif order.intent.reduce_only:
            signal = order.intent.signal_id
            self._note("critical", "close_refused", coin=coin, cloid=str(order.cloid), signal=signal, error=error)
        reasons = (classify_error(error), classify_rejection(error))  # told by the answer or by a frame
        if order.intent.reduce_only and RefusalReason.REDUCE_ONLY in reasons:
            self._nothing_to_close(coin)
        self.events.put(rejected)

    def _closed_nothing(self, position: MarketPosition) -> None:
        """A close that got nothing: the next one waits, the longer the more there were (GATE-5)."""
        wait_until = self.clock.mono_ms() + pause_ms(position.close_attempts)
        position.close_not_before_ms = max(position.close_not_before_ms, wait_until)

    def _nothing_to_close(self, coin: str) -> None:
        """The venue says that our position is not there: the account is read before a close is tried again."""
        position = self.bookkeeper.ledger.position(coin)
        position.close_not_before_ms = self.clock.mono_ms() + ASK_BEFORE_CLOSE_MS
        self.read_account_soon()

    def _filled(self, filled: Filled) -> None:
        fill, order = filled.fill, filled.order
        self.tally.on_fill(fill)
        position = self.bookkeeper.ledger.position(fill.coin)
        self.scribe.fill(fill)
        self.scribe.position(position)
        if order is not None:
            self.scribe.result(order)
        self._note(
            "info",
            "fill",
            coin=fill.coin,
            cloid=fill.cloid,
            side=fill.side.name,
            px=fill.px,
            sz=fill.sz,
            fee=fill.fee,
            late=order is not None and order.state is OrderState.CANCELED,
        )
        mismatch = self.fees.see(fill) if order is not None else None
        if mismatch is not None:
            self._note(
                "warning",
                "fee_mismatch",
                coin=mismatch.coin,
                assumed_bps=mismatch.assumed_bps,
                measured_bps=mismatch.measured_bps,
                used_bps=mismatch.used_bps,
            )
        self._note("info", "position_updated", coin=fill.coin, szi=position.szi, entry_px=position.entry_px)
        self.events.put(filled)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)
