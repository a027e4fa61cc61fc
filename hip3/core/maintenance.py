"""Maintenance calendar: planned windows in which no entry is made (`risk.maintenance_windows`, UTC). Pure."""

from __future__ import annotations

from hip3.core.guards import GuardLevel
from hip3.core.windows import Window, in_any

MINUTE_MS = 60_000
AHEAD_MIN = 10
"""Ours: a warning comes this long before a window, twenty time stops of 30 s."""


def judge_calendar(windows: tuple[Window, ...], wall_ms: int) -> tuple[GuardLevel, str]:
    """How the `maintenance_calendar` guard stands at the Unix time `wall_ms`: ERROR inside, WARN shortly before."""
    if not windows:
        return GuardLevel.OK, "no window is configured"
    if in_any(windows, wall_ms):
        return GuardLevel.ERROR, "a maintenance window is open"
    for ahead in range(1, AHEAD_MIN + 1):
        if in_any(windows, wall_ms + ahead * MINUTE_MS):
            return GuardLevel.WARN, f"a maintenance window opens within {ahead} min"
    return GuardLevel.OK, f"none of {len(windows)} windows is open or near"
