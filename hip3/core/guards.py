"""Guards (RISK-3): seven things that must be well, each said by the code that measures it, with evidence and its age.

A guard that has never reported is HOLD, and so is one whose last report is too old: no evidence is not OK (LESSONS 3). HOLD
is a cause. Where evidence was missing, it ends with the evidence. Where a report itself said HOLD, it ends when the guard
has reported something better **and** an operator has ended it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from attrs import frozen

from hip3.core.causes import Cause, Clears, ReasonCode, Safety, Severity


class GuardName(enum.Enum):
    CANCEL_ON_DISCONNECT = "cancel_on_disconnect"
    RATE_LIMIT = "rate_limit"
    CLOCK_SKEW = "clock_skew"
    SNAPSHOT_DIFF = "snapshot_diff"
    KILL_CAPS = "kill_caps"
    RUNAWAY_BREAKER = "runaway_breaker"
    MAINTENANCE_CALENDAR = "maintenance_calendar"


class GuardLevel(enum.Enum):
    """WARN is for people. ERROR: its owner has its own way to stop entries. HOLD: entries end by the guard itself."""

    OK = "OK"
    WARN = "WARN"
    ERROR = "ERROR"
    HOLD = "HOLD"


@frozen
class Report:
    """What a guard said last; times are monotonic. From `until_ms` on its evidence is none any more; None: for ever."""

    level: GuardLevel
    evidence: str
    at_ms: int
    until_ms: int | None = None


MAX_AGE_MS: dict[GuardName, int | None] = {
    GuardName.CANCEL_ON_DISCONNECT: None,
    GuardName.RATE_LIMIT: 300_000,
    GuardName.CLOCK_SKEW: 300_000,
    GuardName.SNAPSHOT_DIFF: 300_000,
    GuardName.KILL_CAPS: 10_000,
    GuardName.RUNAWAY_BREAKER: 10_000,
    GuardName.MAINTENANCE_CALENDAR: 10_000,
}
"""Ours: five readings of the account, or ten looks of the risk task, were missed. A session is told of when it changes, and
what the venue has promised with it has an end of its own (`Report.until_ms`)."""


class Guards:
    """The reports and the causes that follow from them. `mono_ms` is the clock of their ages."""

    def __init__(self, safety: Safety, mono_ms: Callable[[], int], on_report: Callable[[GuardName, Report], None]) -> None:
        """`on_report` is called where a guard's level has changed."""
        self._safety = safety
        self._mono_ms = mono_ms
        self._on_report = on_report
        self._reports: dict[GuardName, Report] = {}
        self._silent: set[GuardName] = set()

    def arm(self) -> None:
        """From here on a guard without a report holds; for a bot that trades."""
        for name in GuardName:
            self._hold_for_silence(name, "it has never reported")

    def report(self, name: GuardName, level: GuardLevel, evidence: str, until_ms: int | None = None) -> None:
        """The owner of `name` says how it is, and until when that is known; the cause follows in the same step."""
        before = self._reports.get(name)
        was_level = self.level(name) if before is not None else None
        report = self._reports[name] = Report(level, evidence, self._mono_ms(), until_ms)
        self._silent.discard(name)
        if level is GuardLevel.HOLD:
            if before is None or before.level is not GuardLevel.HOLD:
                self._safety.add(ReasonCode.GUARD_HOLD, Severity.SAFE, name.value, evidence, Clears.OPERATOR)
        else:
            self._safety.clear(ReasonCode.GUARD_HOLD, name.value)  # where it was silence; else an operator ends it
        if was_level is not level:
            self._on_report(name, report)

    def unknown(self, name: GuardName, why: str) -> None:
        """The owner of `name` does not know: HOLD until its next report, which ends it."""
        if self._reports.pop(name, None) is not None or name not in self._silent:
            self._fall_silent(name, why)

    def look(self) -> None:
        """Guards whose last report is too old, or has run out, hold from now on."""
        now = self._mono_ms()
        for name, most_ms in MAX_AGE_MS.items():
            report = self._reports.get(name)
            if report is None or name in self._silent:
                continue
            age_ms = now - report.at_ms
            if most_ms is not None and age_ms > most_ms:
                self._fall_silent(name, f"its last report is {age_ms} ms old, at most {most_ms}: {report.evidence}")
            elif report.until_ms is not None and now >= report.until_ms:
                self._fall_silent(name, f"its last report, {age_ms} ms ago, has run out: {report.evidence}")

    def _fall_silent(self, name: GuardName, why: str) -> None:
        self._hold_for_silence(name, why)
        self._on_report(name, Report(GuardLevel.HOLD, why, self._mono_ms()))

    def _hold_for_silence(self, name: GuardName, why: str) -> None:
        self._silent.add(name)
        self._safety.add(ReasonCode.GUARD_HOLD, Severity.SAFE, name.value, f"{name.value}: {why}", Clears.AUTO)

    def last(self, name: GuardName) -> Report | None:
        """The last report; None where there is none."""
        return self._reports.get(name)

    def level(self, name: GuardName) -> GuardLevel:
        """HOLD without a report, or with one that is too old."""
        report = self._reports.get(name)
        return GuardLevel.HOLD if report is None or name in self._silent else report.level

    def why_still(self, cause: Cause) -> str | None:
        """Why a HOLD cannot be ended now; None where its guard has reported something better since."""
        name = GuardName(cause.source)
        if self.level(name) is not GuardLevel.HOLD:
            return None
        report = self._reports.get(name)
        return f"{name.value} is HOLD: {report.evidence if report else 'it has never reported'}"
