"""Why we may not trade: the set of active causes, and the safety mode computed from it (SAFE-1).

A cause never overwrites another, nothing deletes another component's cause, and reading changes nothing. Starting
leaves ARMED_SAFE with BOOTSTRAP, which only promotion clears. A HALT is a latch (STOP-1): its own source cannot take it
back; an operator ends it, or the recovery of STOP-4. What an operator may do when is in `clearing.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

from attrs import evolve, frozen

from hip3.fsm.machines import Driver
from hip3.fsm.safety import SAFETY_TABLE, SafetyEvent, SafetyMode


class ReasonCode(enum.Enum):
    """The codes of SAFE-4 that can occur so far."""

    BOOTSTRAP = "BOOTSTRAP"
    AUTO_PROMOTE = "AUTO_PROMOTE"
    MANUAL_PROMOTE = "MANUAL_PROMOTE"
    OPERATOR_HOLD = "OPERATOR_HOLD"
    OPERATOR_KILL = "OPERATOR_KILL"
    MANUAL_UNHALT = "MANUAL_UNHALT"
    HALT_RECOVERY_AUTO = "HALT_RECOVERY_AUTO"
    MAINTENANCE_SKIP = "MAINTENANCE_SKIP"
    OBSERVATION = "OBSERVATION"
    WS_DISCONNECT = "WS_DISCONNECT"
    CLOCK_SKEW = "CLOCK_SKEW"
    DAILY_LOSS = "DAILY_LOSS"
    CUMULATIVE_LOSS = "CUMULATIVE_LOSS"
    CONSECUTIVE_LOSSES = "CONSECUTIVE_LOSSES"
    REJECT_RATE = "REJECT_RATE"
    SLIPPAGE = "SLIPPAGE"
    RUNAWAY = "RUNAWAY"
    GUARD_HOLD = "GUARD_HOLD"
    MAINTENANCE_WINDOW = "MAINTENANCE_WINDOW"
    FLATTEN_FAILED = "FLATTEN_FAILED"
    EXECUTION_RETRY_BUDGET_EXCEEDED = "EXECUTION_RETRY_BUDGET_EXCEEDED"
    SNAPSHOT_STALE = "SNAPSHOT_STALE"
    PARAM_CHANGE = "PARAM_CHANGE"
    SHUTDOWN = "SHUTDOWN"
    RECONCILE_WARN = "RECONCILE_WARN"
    RECONCILE_CRITICAL = "RECONCILE_CRITICAL"
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


PROMOTION_ENDS = frozenset({ReasonCode.BOOTSTRAP, ReasonCode.MANUAL_UNHALT, ReasonCode.HALT_RECOVERY_AUTO})
"""Causes that say nothing but "not promoted (again) yet". Promotion by policy ends the first alone: after a HALT a person
promotes."""


@frozen
class Watch:
    """What the source of a cause knows about it, for whoever wants to end it."""

    still: Callable[[Cause], str | None]
    """Why it holds still, in words; None where it does no more."""
    forget: Callable[[Cause], None] = lambda _cause: None
    """Told when the cause was ended: evidence of this incident is never valid for the next (LESSONS 32)."""


ModeListener = Callable[[SafetyMode, SafetyMode, ReasonCode, str], None]


class Safety:
    """The active causes and the mode they make.

    `allows_entry` is the one predicate that every path to the wire asks, without a suspension point before the bytes.
    """

    def __init__(self, on_change: ModeListener, wall_ms: Callable[[], int]) -> None:
        self._causes: dict[tuple[ReasonCode, str], Cause] = {}
        self._watches: dict[ReasonCode, Watch] = {}
        self.on_causes: Callable[[], None] = lambda: None
        """Called after each change of the set, in the same step."""
        self.incident = 0
        """Counts the HALTs said, repeated ones too: what was certified or proved before one says nothing about it."""
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

    def watch(self, code: ReasonCode, watch: Watch) -> None:
        """The source of causes of `code` says how to find out whether one holds still."""
        self._watches[code] = watch

    def why_still(self, cause: Cause) -> str | None:
        """Why `cause` holds still by its own source; None where it does no more, or where it was a thing of a moment."""
        watch = self._watches.get(cause.code)
        return None if watch is None else watch.still(cause)

    def add(self, code: ReasonCode, severity: Severity, source: str, message: str, clears: Clears) -> None:
        """Puts a cause in force. The mode follows in the same step.

        Repeating one keeps its first time and never weakens it: the severer severity and the stricter clearing stand,
        so a disconnect while flat cannot loosen the HALT of a disconnect while exposed (LESSONS 33). A HALT that would
        clear by itself is an operator's to end: it is a latch (STOP-1).
        """
        self._put(Cause(code, severity, source, self._wall_ms(), message, clears))

    def keep(self, cause: Cause) -> None:
        """Puts a cause of an earlier run in force, with its time. It may tighten the mode and never loosens it (SAFE-2)."""
        self._put(cause)

    def _put(self, cause: Cause) -> None:
        if cause.severity is Severity.HALT and cause.clears is Clears.AUTO:
            cause = evolve(cause, clears=Clears.OPERATOR)
        key = (cause.code, cause.source)
        known = self._causes.get(key)
        if known is None:
            self._causes[key] = cause
        else:
            worst = max(known.severity, cause.severity, key=lambda s: s.value)
            strictest = max(known.clears, cause.clears, key=tuple(Clears).index)
            text = cause.message if worst is cause.severity else known.message
            since_ms = min(known.since_ms, cause.since_ms)  # one of an earlier run is older than what the start found out
            self._causes[key] = evolve(known, severity=worst, message=text, clears=strictest, since_ms=since_ms)
        self._why = (cause.code, cause.message)
        if cause.severity is Severity.HALT:
            self.incident += 1
        if cause.severity is Severity.HALT or cause.clears is not Clears.AUTO:
            self._promoted = False  # what does not end by itself ends with a promotion
        self._driver.fire(SafetyEvent.HALT if cause.severity is Severity.HALT else SafetyEvent.HOLD)
        self.on_causes()

    def clear(self, code: ReasonCode, source: str) -> bool:
        """Its own source takes a cause back, where the cause allows that. True where it was in force and is gone."""
        cause = self._causes.get((code, source))
        if cause is None or cause.clears is not Clears.AUTO:
            return False
        del self._causes[code, source]
        self._why = (code, f"cleared: {cause.message}")
        if self._promoted and not self._causes:
            self._driver.fire(SafetyEvent.PROMOTE)
        self.on_causes()
        return True

    def end(self, causes: Iterable[Cause], code: ReasonCode, source: str, message: str) -> None:
        """Ends `causes` by the word of an operator, or by STOP-4; ARMED_SAFE with the cause `code` where no HALT is left.

        The causes must be in force and clear by an operator. Raises ValueError, unchanged, where one does not.
        """
        ended = tuple(causes)
        for cause in ended:
            if self._causes.get((cause.code, cause.source)) != cause or cause.clears is not Clears.OPERATOR:
                raise ValueError(f"{cause.code.value} of {cause.source}: not in force as given, or not an operator's to end")
        self._why = (code, message)
        self._causes[code, source] = Cause(code, Severity.SAFE, source, self._wall_ms(), message, Clears.OPERATOR)
        for cause in ended:
            self._causes.pop((cause.code, cause.source))
            if (watch := self._watches.get(cause.code)) is not None:
                watch.forget(cause)
        self._promoted = False
        self._driver.fire(SafetyEvent.HOLD)
        if not any(c.severity is Severity.HALT for c in self._causes.values()):
            self._driver.fire(SafetyEvent.RELEASE)
        self.on_causes()

    def blocking_promotion(self, code: ReasonCode = ReasonCode.AUTO_PROMOTE) -> tuple[Cause, ...]:
        """What holds besides what a promotion of this kind ends; empty where it may be asked for."""
        return tuple(c for c in self.causes if c.severity is Severity.HALT or c.code not in _ends(code))

    def promote(self, code: ReasonCode, message: str) -> bool:
        """ARMED_SAFE to ARMED_LIVE where no other cause holds (SAFE-3); False, unchanged, otherwise."""
        if self.blocking_promotion(code):
            return False
        self._causes.clear()
        self._promoted = True
        self._why = (code, message)
        self._driver.fire(SafetyEvent.PROMOTE)
        self.on_causes()
        return True


def _ends(code: ReasonCode) -> frozenset[ReasonCode]:
    """The causes that a promotion ends by itself."""
    return PROMOTION_ENDS if code is ReasonCode.MANUAL_PROMOTE else frozenset({ReasonCode.BOOTSTRAP})
