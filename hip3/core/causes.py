"""Why we may not trade: the set of active causes, and the safety mode computed from it (SAFE-1).

A cause never overwrites another, nothing deletes another component's cause, and reading changes nothing. Starting
leaves ARMED_SAFE with BOOTSTRAP, which only promotion clears.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from attrs import frozen

from hip3.fsm.machines import Driver
from hip3.fsm.safety import SAFETY_TABLE, SafetyEvent, SafetyMode


class ReasonCode(enum.Enum):
    """The codes of SAFE-4 that can occur so far."""

    BOOTSTRAP = "BOOTSTRAP"
    AUTO_PROMOTE = "AUTO_PROMOTE"
    OBSERVATION = "OBSERVATION"
    WS_DISCONNECT = "WS_DISCONNECT"
    CLOCK_SKEW = "CLOCK_SKEW"
    DAILY_LOSS = "DAILY_LOSS"
    CUMULATIVE_LOSS = "CUMULATIVE_LOSS"
    CONSECUTIVE_LOSSES = "CONSECUTIVE_LOSSES"
    REJECT_RATE = "REJECT_RATE"
    SLIPPAGE = "SLIPPAGE"
    FLATTEN_FAILED = "FLATTEN_FAILED"
    EXECUTION_RETRY_BUDGET_EXCEEDED = "EXECUTION_RETRY_BUDGET_EXCEEDED"
    SNAPSHOT_STALE = "SNAPSHOT_STALE"
    PARAM_CHANGE = "PARAM_CHANGE"
    SHUTDOWN = "SHUTDOWN"
    CONFIG_HASH_CHANGED = "CONFIG_HASH_CHANGED"
    BACKFILL_WINDOW_EXCEEDED = "BACKFILL_WINDOW_EXCEEDED"
    FOREIGN_ORDERS = "FOREIGN_ORDERS"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Severity(enum.Enum):
    """What a cause forbids: SAFE forbids entries, HALT ends trading and flattens."""

    SAFE = 1
    HALT = 2


class Clears(enum.Enum):
    """Who may clear a cause, the strictest last."""

    AUTO = "auto"
    OPERATOR = "operator"
    NEVER = "never"


@frozen
class Cause:
    """One reason in force. `since_ms` is wall time."""

    code: ReasonCode
    severity: Severity
    source: str
    since_ms: int
    message: str
    clears: Clears


ModeListener = Callable[[SafetyMode, SafetyMode, ReasonCode, str], None]


class Safety:
    """The active causes and the mode they make.

    `allows_entry` is the one predicate that every path to the wire asks, without a suspension point before the bytes.
    """

    def __init__(self, on_change: ModeListener, wall_ms: Callable[[], int]) -> None:
        self._causes: dict[tuple[ReasonCode, str], Cause] = {}
        self._wall_ms = wall_ms
        self._listener = on_change
        self._why = (ReasonCode.BOOTSTRAP, "start")
        self._promoted = False
        self._driver = Driver(SAFETY_TABLE, lambda a, _event, b: self._listener(a, b, *self._why))
        self.add(ReasonCode.BOOTSTRAP, Severity.SAFE, "process", "started; not promoted yet", Clears.OPERATOR)

    @property
    def mode(self) -> SafetyMode:
        return self._driver.state

    @property
    def allows_entry(self) -> bool:
        return self._driver.state is SafetyMode.ARMED_LIVE

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Most severe first, then oldest."""
        if not self._causes:
            return ()  # the usual case while trading, asked on the way of every order
        return tuple(sorted(self._causes.values(), key=lambda c: (-c.severity.value, c.since_ms)))

    def holds(self, code: ReasonCode) -> bool:
        """True while a cause of this code is in force, whoever put it there."""
        return any(known is code for known, _source in self._causes)

    def add(self, code: ReasonCode, severity: Severity, source: str, message: str, clears: Clears) -> None:
        """Puts a cause in force. The mode follows in the same step.

        Repeating one keeps its first time and never weakens it: the severer severity and the stricter clearing stand,
        so a disconnect while flat cannot loosen the HALT of a disconnect while exposed (LESSONS 33).
        """
        known = self._causes.get((code, source))
        if known is None:
            self._causes[code, source] = Cause(code, severity, source, self._wall_ms(), message, clears)
        else:
            worst = max(known.severity, severity, key=lambda s: s.value)
            strictest = max(known.clears, clears, key=tuple(Clears).index)
            text = message if worst is severity else known.message
            self._causes[code, source] = Cause(code, worst, source, known.since_ms, text, strictest)
        self._why = (code, message)
        if severity is Severity.HALT:
            self._promoted = False  # whoever ends a HALT must be promoted again
        self._driver.fire(SafetyEvent.HALT if severity is Severity.HALT else SafetyEvent.HOLD)

    def clear(self, code: ReasonCode, source: str) -> bool:
        """Its own source takes a cause back, where the cause allows that. True where it was in force and is gone."""
        cause = self._causes.get((code, source))
        if cause is None or cause.clears is not Clears.AUTO:
            return False
        del self._causes[code, source]
        self._why = (code, f"cleared: {cause.message}")
        if not any(c.severity is Severity.HALT for c in self._causes.values()):
            self._driver.fire(SafetyEvent.RELEASE)
        if self._promoted and not self._causes:
            self._driver.fire(SafetyEvent.PROMOTE)
        return True

    def blocking_promotion(self) -> tuple[Cause, ...]:
        """What holds besides BOOTSTRAP; empty where promotion may be asked for."""
        return tuple(c for c in self.causes if c.code is not ReasonCode.BOOTSTRAP)

    def promote(self, code: ReasonCode, message: str) -> bool:
        """ARMED_SAFE to ARMED_LIVE where no other cause holds (SAFE-3); False, unchanged, otherwise."""
        if self.blocking_promotion():
            return False
        self._causes.clear()
        self._promoted = True
        self._why = (code, message)
        self._driver.fire(SafetyEvent.PROMOTE)
        return True
