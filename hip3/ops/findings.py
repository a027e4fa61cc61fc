"""What a check of the operator's found: its name, PASS, WARN or FAIL, the value, and the remedy (OPS-2, OPS-3).

A check that could not be made is a FAIL, never a PASS (LESSONS 3).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from attrs import frozen


class Level(enum.Enum):
    """WARN is something to know of that forbids nothing."""

    PASS = "PASS"  # noqa: S105 - a verdict
    WARN = "WARN"
    FAIL = "FAIL"


class PreflightCheck(enum.Enum):
    """What `hip3 preflight` looks at, in the order of its lines (OPS-2)."""

    CONFIG = "config"
    HASH = "hash"
    ENVIRONMENT = "environment"
    KEY = "key"
    AGENT = "agent"
    REST = "rest"
    WEBSOCKET = "websocket"
    CLOCK = "clock"
    MARKETS = "markets"
    PRICES = "prices"
    BALANCE = "balance"
    STORE = "store"
    SCHEMA = "schema"
    LOCK = "lock"
    DISK = "disk"


class PoststartCheck(enum.Enum):
    """What `hip3 poststart` looks at, in the order of its lines (OPS-3)."""

    RUNNING = "running"
    CONFIG = "config"
    MODE = "mode"
    READY = "ready"
    LINKS = "links"
    CURSOR = "cursor"
    AUDIT = "audit"
    RECORDS = "records"
    BACKLOG = "backlog"
    JOURNAL = "journal"


Check = PreflightCheck | PoststartCheck


@frozen
class Finding:
    """The answer of one check. `remedy` is empty where nothing is to be done, or where the value says it."""

    check: Check
    level: Level
    value: str
    remedy: str = ""

    @property
    def failed(self) -> bool:
        return self.level is Level.FAIL


def passed(check: Check, value: str) -> Finding:
    return Finding(check, Level.PASS, value)


def warned(check: Check, value: str, remedy: str = "") -> Finding:
    return Finding(check, Level.WARN, value, remedy)


def failed(check: Check, value: str, remedy: str = "") -> Finding:
    return Finding(check, Level.FAIL, value, remedy)


def complete(checks: Iterable[Check], found: Iterable[Finding], why_missing: str) -> list[Finding]:
    """One finding for each check, in order; a check that nobody answered is a FAIL that says `why_missing`."""
    by_check = {finding.check: finding for finding in found}
    return [by_check.get(check) or failed(check, f"not checked: {why_missing}") for check in checks]


def all_ok(findings: Sequence[Finding]) -> bool:
    """True where something was checked and nothing failed."""
    return bool(findings) and not any(finding.failed for finding in findings)


def finding_lines(findings: Sequence[Finding], name: str) -> list[str]:
    """One line each, and the verdict under `name` on the last."""
    lines = [
        f"{f.level.value}  {f.check.value:<11}  {' '.join(f.value.split())}" + (f"  -> {f.remedy}" if f.remedy else "")
        for f in findings
    ]
    return [*lines, f"{name} {str(all_ok(findings)).lower()}"]


def finding_object(findings: Sequence[Finding], name: str) -> dict[str, object]:
    """The same for machines."""
    rows = [{"check": f.check.value, "level": f.level.value, "value": f.value, "remedy": f.remedy} for f in findings]
    return {name: all_ok(findings), "checks": rows}
