"""Risk task: the one place that execution events come to (RISK-1, LESSONS 18). Two halves.

`put` judges an event in the step of whoever tells of it: a limit that a fill crosses holds before the next order can leave.
`run` writes the log of the events, which keep coming whatever was crossed (RISK-2), and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from hip3.core.bookkeeper import Closed, Corrected, Filled, OrderRejected
from hip3.core.causes import Clears, ReasonCode, Safety, Severity
from hip3.core.clock import Clock
from hip3.core.execution import ExecutionEvent, FlattenFailed, SendFailed, SlippageMeasured
from hip3.core.journal import Journal
from hip3.core.risk import DailyLimits
from hip3.core.risk_monitor import Crossing, RiskMonitor
from hip3.tasks.channels import Mailbox
from hip3.venue.hyperliquid.refusals import classify_error, classify_rejection

SEND_FAILURES_IN_A_ROW = 5  # POST-6
SOURCE = "risk"
"""Of every cause that a crossed limit puts in force."""


@define
class RiskTask:
    events: Mailbox[ExecutionEvent]
    monitor: RiskMonitor
    limits: DailyLimits
    safety: Safety
    clock: Clock
    journal: Journal
    keep: Callable[[str, str], None] = lambda _key, _value: None
    """Told of each counter of the monitor that changed; the next run goes on from them."""
    send_failures: int = field(default=0, init=False)
    _kept: dict[str, str] = field(factory=dict, init=False)

    def put(self, event: ExecutionEvent) -> None:
        """Judges one event now and keeps it for the log. Raises ChannelFull; by then it was judged."""
        self._acknowledge()
        crossing = self._judge(event)
        if crossing is not None:
            self.safety.add(crossing.code, Severity.HALT, SOURCE, crossing.message, Clears.OPERATOR)
        self._keep_counters()
        self.events.put(event)

    def _keep_counters(self) -> None:
        state = self.monitor.state()
        for key, value in state.items():
            if self._kept.get(key) != value:
                self.keep(key, value)
        self._kept = state

    async def run(self) -> None:
        """Serves until cancelled."""
        async for event in self.events:
            self._tell(event)

    # ---- judged in the sender's step

    def _acknowledge(self) -> None:
        """Where an operator has cleared what was crossed, its count starts anew; the latch itself is in `Safety` alone."""
        crossed = self.monitor.crossed
        if crossed is not None and not any(c.code is crossed and c.source == SOURCE for c in self.safety.causes):
            self._note("warning", "risk_acknowledged", code=crossed.value)
            self.monitor.acknowledge()

    def _judge(self, event: ExecutionEvent) -> Crossing | None:
        """What the event made cross, first of all since the last acknowledgement."""
        now = self.clock.wall_ms()
        match event:
            case Closed(trade):
                self.safety.clear(ReasonCode.FLATTEN_FAILED, trade.coin)
                crossing = self.monitor.on_trade(trade.pnl_usd)
                today = self.limits.on_trade(trade, now)
                if crossing is None and today is not None:
                    return self.monitor.cross(ReasonCode.DAILY_LOSS, today)
                return crossing
            case SlippageMeasured():
                return self.monitor.on_slippage(event.slippage_bps)
            case OrderRejected(_, error):
                reasons = (classify_error(error), classify_rejection(error))  # told by the answer or by a frame
                return self.monitor.on_reject(now, is_benign=any(r.is_benign for r in reasons))
            case FlattenFailed():
                message = f"{event.coin}: {event.szi} still held after {event.age_ms} ms"
                self.safety.add(ReasonCode.FLATTEN_FAILED, Severity.SAFE, event.coin, message, Clears.AUTO)
                return self.monitor.on_flatten_failed()
            case Corrected():
                if event.venue == 0:  # flat without a fill that tells of it: settled, or closed before what the venue lists
                    self.safety.clear(ReasonCode.FLATTEN_FAILED, event.coin)
        return None

    # ---- told afterwards

    def _tell(self, event: ExecutionEvent) -> None:
        """The line of an event that no one else journals, and the count of sends that failed in a row (POST-6)."""
        match event:
            case FlattenFailed():
                self._note("critical", "flatten_failed", coin=event.coin, szi=event.szi, age_ms=event.age_ms)
            case SendFailed():
                self.send_failures += 1
                level = "critical" if self.send_failures >= SEND_FAILURES_IN_A_ROW else "warning"
                coin, signal, row = event.coin, event.signal_id, self.send_failures
                self._note(level, "order_send_failure", coin=coin, signal=signal, in_a_row=row, why=event.why)
            case Filled() | OrderRejected():
                self.send_failures = 0  # the venue answered an order
            case SlippageMeasured():
                bps, signal = event.slippage_bps, event.signal_id
                self._note("info", "slippage_measured", coin=event.coin, slippage_bps=bps, signal=signal)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)
