"""Places what reduces: the one closing order of a market, and the stops that protect positions (EXIT-3, EXIT-4, EXIT-5).

Part of the executor's step, without a suspension point: what it looks at is what is queued. Refuses to close while HALT
lasts, when the halt procedure owns all closing (DESIGN 6), and to protect what is being flattened on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import define, field

from hip3.core import facts
from hip3.core.causes import ReasonCode, Safety
from hip3.core.clock import Clock
from hip3.core.exits import ExitConfig, ExitReason, ExitRequest, closing_intent
from hip3.core.ids import CloidFactory
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState
from hip3.core.orders import CancelIntent, OrderIntent
from hip3.core.protection import Now, ProtectionConfig, Withdraw, due_steps, stop_intent
from hip3.core.scheduler import Scheduler
from hip3.core.trades import MarketPosition
from hip3.fsm.safety import SafetyMode

UNPRICED_SAID_MS = 1_000
"""Ours: the first quotes are there a few tenths of a second after the subscription."""


@define
class Closer:
    """Hands closing orders, stops and their cancels to the scheduler."""

    exits: ExitConfig
    protection: ProtectionConfig | None
    """None: no stops at the venue."""
    ledger: Ledger
    scheduler: Scheduler
    markets: Mapping[str, MarketState]
    safety: Safety
    cloids: CloidFactory
    offset_ms: Callable[[], int]
    """The venue's clock less ours."""
    put: Callable[[facts.Fact], None]
    clock: Clock
    journal: Journal
    unpriced: dict[tuple[str, int | None], int | None] = field(factory=dict)
    """Positions without a price to close at: since when (monotonic ms), None once that was said."""
    """Positions, by coin and entry time, that were reported as impossible to price."""

    def close(self, request: ExitRequest, in_flight: int) -> None:
        """Places the one closing order of a market, whatever the number of reasons (EXIT-3)."""
        position = self.ledger.position(request.coin)
        if position.szi == 0 or self.ledger.pending_close(request.coin) is not None:
            return
        if self.safety.mode is SafetyMode.HALT:
            return
        market = self.markets.get(request.coin)
        if market is None:
            self._say_unpriced(position, "not a configured market; the flatten of the way out closes it")
            return
        cloid = self.cloids.next()
        intent = closing_intent(position, market, self.exits, cloid, self.clock.wall_ms(), request.reason)
        if intent is None:
            self._say_unpriced(position, "no quote, mark or reference is known")
            return
        event = "time_stop_triggered" if request.reason is ExitReason.TIME_STOP else "flatten_triggered"
        reason = request.reason.value
        self._note("info", event, coin=request.coin, age_ms=request.age_ms, reason=reason, signal=intent.signal_id)
        self._enqueue(intent, "reduce_only_enqueued", in_flight, px=intent.px)

    @property
    def may_protect(self) -> bool:
        """False while somebody else ends what is held: the halt procedure, or the flatten of the way out."""
        return self.safety.mode is not SafetyMode.HALT and not self.safety.holds(ReasonCode.SHUTDOWN)

    def protect(self, in_flight: int) -> None:
        """Has a stop rest for each position and none for what is flat (EXIT-5)."""
        if self.protection is None or not self.may_protect:
            return
        now = self._now()
        for step in list(due_steps(self.ledger, self.markets, self.protection, now)):
            if isinstance(step, Withdraw):
                self._withdraw(step, now)
            else:
                intent = stop_intent(step, self.protection, self.cloids.next(), now)
                self._enqueue(intent, "stop_enqueued", in_flight, trigger_px=intent.trigger_px)

    def is_protection_due(self) -> bool:
        """True where `protect` would do something."""
        if self.protection is None or not self.may_protect:
            return False
        steps = due_steps(self.ledger, self.markets, self.protection, self._now())
        return next(steps, None) is not None

    def _now(self) -> Now:
        wall = self.clock.wall_ms()
        return Now(self.clock.mono_ms(), wall, wall + self.offset_ms())

    def _withdraw(self, step: Withdraw, now: Now) -> None:
        intent = step.order.intent
        if not self.scheduler.enqueue_cancel(CancelIntent(intent.spec, intent.cloid.value, None)).accepted:
            self._note("critical", "cancel_queue_full", coin=intent.coin, cloid=intent.cloid.value)
            return
        self.ledger.ask_cancel(step.order, now.wall_ms)
        self._note("info", "stop_withdrawn", coin=intent.coin, cloid=intent.cloid.value, why=step.why)

    def _enqueue(self, intent: OrderIntent, event: str, in_flight: int, **fields: object) -> None:
        self.ledger.register(intent)
        result = self.scheduler.enqueue_reduce_only(intent, in_flight)
        if not result.accepted:
            self.put(facts.OrderDropped(intent.cloid, result.value))
            self._note("critical", "reduce_only_queue_full", coin=intent.coin)
            return
        cloid = intent.cloid.value
        self._note("info", event, cloid=cloid, coin=intent.coin, sz=intent.sz, **fields, signal=intent.signal_id)

    def _say_unpriced(self, position: MarketPosition, why: str) -> None:
        """Once for each position, and not before it has lasted: market data come a moment after a start (LESSONS 29)."""
        key, now = (position.coin, position.entry_ms), self.clock.mono_ms()
        since = self.unpriced.setdefault(key, now)
        if since is not None and now - since >= UNPRICED_SAID_MS:
            self.unpriced[key] = None
            self._note("critical", "close_unpriced", coin=position.coin, szi=position.szi, why=why)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)
