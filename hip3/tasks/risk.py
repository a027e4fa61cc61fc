"""Risk task: watches execution events and puts causes in force. Events keep flowing after a trigger (RISK-2)."""

from __future__ import annotations

from attrs import define

from hip3.core.bookkeeper import Closed, Corrected, Filled, OrderRejected
from hip3.core.causes import Clears, ReasonCode, Safety, Severity
from hip3.core.clock import Clock
from hip3.core.execution import ExecutionEvent, FlattenFailed, SendFailed, SlippageMeasured
from hip3.core.journal import Journal
from hip3.core.risk import DailyLimits
from hip3.tasks.channels import Mailbox

SEND_FAILURES_IN_A_ROW = 5  # POST-6


@define
class RiskTask:
    events: Mailbox[ExecutionEvent]
    limits: DailyLimits
    safety: Safety
    clock: Clock
    journal: Journal
    send_failures: int = 0

    async def run(self) -> None:
        """Serves until cancelled."""
        async for event in self.events:
            self.handle(event)

    def handle(self, event: ExecutionEvent) -> None:
        """Judges one event."""
        now = self.clock.wall_ms()
        if isinstance(event, Closed):
            self.safety.clear(ReasonCode.FLATTEN_FAILED, event.trade.coin)
            why = self.limits.on_trade(event.trade, now)
            if why is not None:
                self.safety.add(ReasonCode.DAILY_LOSS, Severity.HALT, "risk", why, Clears.OPERATOR)
        elif isinstance(event, Corrected):
            if event.venue == 0:  # flat without a fill that tells of it: settled, or closed before what the venue lists
                self.safety.clear(ReasonCode.FLATTEN_FAILED, event.coin)
        elif isinstance(event, FlattenFailed):
            message = f"{event.coin}: {event.szi} still held after {event.age_ms} ms"
            self.journal.note(now, "critical", "flatten_failed", coin=event.coin, szi=event.szi, age_ms=event.age_ms)
            self.safety.add(ReasonCode.FLATTEN_FAILED, Severity.SAFE, event.coin, message, Clears.AUTO)
        elif isinstance(event, SendFailed):
            self.send_failures += 1
            level = "critical" if self.send_failures >= SEND_FAILURES_IN_A_ROW else "warning"
            self.journal.note(now, level, "order_send_failure", coin=event.coin, in_a_row=self.send_failures, why=event.why)
        elif isinstance(event, SlippageMeasured):
            bps, signal = event.slippage_bps, event.signal_id
            self.journal.note(now, "info", "slippage_measured", coin=event.coin, slippage_bps=bps, signal=signal)
        elif isinstance(event, Filled | OrderRejected):
            self.send_failures = 0  # the venue answered an order
