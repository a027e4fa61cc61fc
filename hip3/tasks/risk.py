"""Risk task: the one place that execution events come to (RISK-1, LESSONS 18). Two halves.

`put` judges an event in the step of whoever tells of it: a limit that a fill crosses holds before the next order can leave.
`run` writes the log of the events, which keep coming whatever was crossed (RISK-2), and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

import trio
from attrs import define, field

from hip3.core import units
from hip3.core.breaker import TRIPS_HOLD, RunawayBreaker
from hip3.core.causes import Clears, ReasonCode, Safety, Severity
from hip3.core.clock import Clock
from hip3.core.consequences import Closed, Corrected, Filled, OrderRejected
from hip3.core.execution import ActionSent, ExecutionEvent, FlattenFailed, SendFailed, SlippageMeasured
from hip3.core.guards import GuardLevel, GuardName, Guards
from hip3.core.journal import Journal
from hip3.core.maintenance import judge_calendar
from hip3.core.risk import DailyLimits
from hip3.core.risk_monitor import Crossing, RiskMonitor
from hip3.core.throttles import Throttles
from hip3.core.windows import Window
from hip3.tasks.channels import Mailbox
from hip3.venue.hyperliquid.refusals import classify_error, classify_rejection

SEND_FAILURES_IN_A_ROW = 5  # POST-6
SOURCE = "risk"
"""Of every cause that a crossed limit puts in force."""
THROTTLE_KEY = "throttle."
LOOK_S = 1.0
"""A cooldown or a window ends, or begins, late by at most this."""
WARN_SHARE = Decimal("0.8")
"""Ours: share of a limit from which its guard warns."""


@define
class RiskTask:
    events: Mailbox[ExecutionEvent]
    monitor: RiskMonitor
    breaker: RunawayBreaker
    throttles: Throttles
    guards: Guards
    windows: tuple[Window, ...]
    """Of maintenance."""
    limits: DailyLimits
    safety: Safety
    clock: Clock
    journal: Journal
    keep: Callable[[str, str], None] = lambda _key, _value: None
    """Told of each counter of monitor and throttles that changed; the next run goes on from them."""
    send_failures: int = field(default=0, init=False)
    _kept: dict[str, str] = field(factory=dict, init=False)

    def put(self, event: ExecutionEvent) -> None:
        """Judges one event now and keeps it for the log. Raises ChannelFull; by then it was judged."""
        self._acknowledge()
        crossing = self._judge(event)
        self._keep_counters()  # before the cause, whose commit then holds both
        if crossing is not None:
            self.safety.add(crossing.code, Severity.HALT, SOURCE, crossing.message, Clears.OPERATOR)
        self.events.put(event)

    def _keep_counters(self) -> None:
        state = self.monitor.state() | {THROTTLE_KEY + key: value for key, value in self.throttles.state().items()}
        for key, value in state.items():
            if self._kept.get(key) != value:
                self.keep(key, value)
        self._kept = state

    def restore(self, kept: Mapping[str, str]) -> None:
        """Goes on from what an earlier run gave to `keep`. Raises ValueError where that cannot be read."""
        throttles = {k.removeprefix(THROTTLE_KEY): v for k, v in kept.items() if k.startswith(THROTTLE_KEY)}
        self.monitor.restore({k: v for k, v in kept.items() if not k.startswith(THROTTLE_KEY)})
        if throttles:  # an older version kept none
            self.throttles.restore(throttles)

    async def run(self) -> None:
        """Serves until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._log)
            while True:
                self.look()
                await trio.sleep(LOOK_S)

    async def _log(self) -> None:
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
                self.throttles.on_trade(trade.coin, trade.pnl_usd, now)
                crossing = self.monitor.on_trade(trade.pnl_usd)
                today = self.limits.on_trade(trade, now)
                if crossing is None and today is not None:
                    return self.monitor.cross(ReasonCode.DAILY_LOSS, today)
                return crossing
            case ActionSent(orders, cancels):
                self._count(orders, cancels)
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

    def _count(self, orders: tuple[str, ...], cancels: tuple[str, ...]) -> None:
        """RISK-4: what left, and the end of entries where it was too much."""
        now = self.clock.mono_ms()
        why = self.breaker.sent(orders, cancels, now)
        if why is not None:
            self._note("critical", "runaway", why=why, cooldown_ms=self.breaker.config.cooldown_ms)
            self.safety.add(ReasonCode.RUNAWAY, Severity.SAFE, SOURCE, why, Clears.AUTO)
            self._report_breaker(now)

    # ---- judged because time passes

    def look(self) -> None:
        """Cooldown, calendar, and the guards that this task owns."""
        now, wall = self.clock.mono_ms(), self.clock.wall_ms()
        if self.breaker.over(now):
            self.safety.clear(ReasonCode.RUNAWAY, SOURCE)
        self._report_breaker(now)
        self._report_caps()
        level, evidence = judge_calendar(self.windows, wall)
        self.guards.report(GuardName.MAINTENANCE_CALENDAR, level, evidence)
        if level is not GuardLevel.ERROR:
            self.safety.clear(ReasonCode.MAINTENANCE_WINDOW, SOURCE)
        elif not self.safety.holds(ReasonCode.MAINTENANCE_WINDOW):
            self.safety.add(ReasonCode.MAINTENANCE_WINDOW, Severity.SAFE, SOURCE, evidence, Clears.AUTO)
        self.guards.look()

    def _report_breaker(self, now_ms: int) -> None:
        breaker, fullest = self.breaker, self.breaker.fullest(now_ms)
        if breaker.tripped_until_ms is not None:
            level = GuardLevel.HOLD if len(breaker.trips) >= TRIPS_HOLD else GuardLevel.ERROR
            evidence = f"tripped, {len(breaker.trips)} times within an hour: {breaker.why}"
        elif fullest is None:
            level, evidence = GuardLevel.OK, "nothing was sent"
        else:
            used, limit, what = fullest
            level = GuardLevel.WARN if used > limit * WARN_SHARE else GuardLevel.OK
            evidence = f"{used} {what} in a minute, at most {limit}"
        self.guards.report(GuardName.RUNAWAY_BREAKER, level, evidence)

    def _report_caps(self) -> None:
        """The caps that end trading: how much of the nearest is used up."""
        caps = [("today", -self.limits.pnl_usd, self.limits.max_loss_usd)]
        if self.monitor.config.max_cumulative_loss_usd is not None:
            caps.append(("in all", -self.monitor.pnl_usd, self.monitor.config.max_cumulative_loss_usd))
        what, loss, cap = max(caps, key=lambda row: row[1] / row[2])
        if self.monitor.crossed is not None:
            level = GuardLevel.ERROR
        else:
            level = GuardLevel.WARN if loss > cap * WARN_SHARE else GuardLevel.OK
        crossed = f"{self.monitor.crossed.value} was crossed; " if self.monitor.crossed else ""
        self.guards.report(GuardName.KILL_CAPS, level, f"{crossed}loss {what}: {max(loss, units.ZERO):.4f} of {cap} USD")

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
