"""Takes signals through the gates: registers and queues what passes, and keeps what was seen of the rest (GATE-1, GATE-3).

Part of the executor's step, without a suspension point: what the gates look at is what is queued. Refuses to hold up the
order's way: a signal is told of after the bytes have left, and its trail is made later, by a task that nothing waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from attrs import define, evolve, field

from hip3.core import facts
from hip3.core.budget import ActionBudget
from hip3.core.causes import Safety
from hip3.core.clock import Clock
from hip3.core.detector import Signal
from hip3.core.explain import Seen, Witness
from hip3.core.gates import Caps, EntryView, Refusal, Verdict, check_entry
from hip3.core.ids import CloidFactory, TimeInForce
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState
from hip3.core.orders import OrderIntent
from hip3.core.outlook import SignalBook, signal_fields
from hip3.core.risk import DailyLimits
from hip3.core.scheduler import Enqueued, Scheduler
from hip3.core.scribe import Scribe
from hip3.core.throttles import Throttles


@define
class Opener:
    """Hands new orders to the scheduler. `expires_after_ms` and `max_mark_age_ms` are those of the executor."""

    caps: Caps
    expires_after_ms: int
    max_mark_age_ms: int
    ledger: Ledger
    scheduler: Scheduler
    markets: Mapping[str, MarketState]
    safety: Safety
    limits: DailyLimits
    throttles: Throttles
    budget: ActionBudget
    not_ready: Callable[[str], str | None]
    """The first missing READY condition for a market, or None."""
    messages_left: Callable[[int], int]
    """Messages that entries may still send in this minute, by the monotonic time of now (WS-3)."""
    cloids: CloidFactory
    offset_ms: Callable[[], int]
    """The venue's clock less ours."""
    put: Callable[[facts.Fact], None]
    book: SignalBook
    witness: Witness
    scribe: Scribe
    clock: Clock
    journal: Journal
    _judged: list[tuple[Signal, Verdict, Seen]] = field(factory=list)
    """Since the last `tell`."""

    def consider(self, signal: Signal, in_flight: int) -> None:
        """Gates, register and enqueue in one step. Raises ChannelFull where a refusal of the queue cannot be told."""
        coin = signal.coin
        view = EntryView(
            allows_entry=self.safety.allows_entry,
            not_ready=self.not_ready(coin),
            ledger=self.ledger,
            markets=self.markets,
            now_ms=self.clock.mono_ms(),
            max_mark_age_ms=self.max_mark_age_ms,
            caps=self.caps,
            entries_left_today=self.limits.entries_left(self.clock.wall_ms()),
            budget_left=self.budget.entries_left(self.clock.mono_ms()),
            messages_left=self.messages_left(self.clock.mono_ms()),
            throttle=self.throttles.view(coin, self.clock.wall_ms()),
        )
        seen = self.witness.see(coin, view, self.clock.wall_ms())
        refused = check_entry(coin, signal.sz, view)
        if refused is None:
            refused = self._place(signal, in_flight)
        elif refused.refusal is Refusal.HARD_STOP:
            causes = ", ".join(c.code.value for c in self.safety.causes)
            refused = evolve(refused, detail=causes or self.safety.mode.name)
        self._judged.append((signal, refused, seen))

    def _place(self, signal: Signal, in_flight: int) -> Verdict:
        now = self.clock.wall_ms()
        intent = OrderIntent(
            cloid=self.cloids.next(),
            spec=signal.spec,
            side=signal.side,
            sz=signal.sz,
            px=signal.px,
            tif=TimeInForce.IOC,
            reduce_only=False,
            created_at_ms=now,
            signal_id=signal.id,
            expires_after_ms=now + self.offset_ms() + self.expires_after_ms,
            edge_bps=signal.edge_bps,
            reference_px=signal.reference_px,
        )
        self.scribe.event_id = f"signal:{signal.id}"
        self.ledger.register(intent)
        result = self.scheduler.enqueue_new(intent, in_flight)
        if not result.accepted:
            self.put(facts.OrderDropped(intent.cloid, result.value))
            refusal = Refusal.QUEUE_FULL if result is Enqueued.QUEUE_FULL else Refusal.INFLIGHT_FULL
            return Verdict(refusal, result.value)
        self.throttles.on_entry(intent.coin, now)
        return Verdict(None, intent.cloid.value, degraded=result is Enqueued.DEGRADED)

    def tell(self) -> None:
        """Journals signals, what became of them, and what every filter and gate says of them (OPS-7).

        The order's way is short, so this comes after it, and the trail costs nothing before somebody makes it.
        """
        judged, self._judged = self._judged, []
        for signal, verdict, seen in judged:
            now = self.clock.wall_ms()
            self.book.judged(signal, verdict)
            cloid = verdict.detail if verdict.refusal is None else None
            make = partial(self.witness.trail, signal, seen, verdict)
            trail = self.scribe.signal(signal, str(verdict), verdict.detail, cloid, make)
            self.journal.note(signal.detected_wall_ms, "info", "signal", **signal_fields(signal))
            if verdict.refusal is None:
                self.journal.note(now, "info", "order_enqueued", cloid=verdict.detail, signal=signal.id, coin=signal.coin)
            self.journal.note(
                now,
                "info",
                "signal_judged",
                signal=signal.id,
                coin=signal.coin,
                verdict=str(verdict),
                detail=verdict.detail,
            )
            self.journal.note_later(now, "debug", "signal_trail", trail)
