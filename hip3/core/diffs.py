"""How often the venue's statement had to correct our books: the measure of the `snapshot_diff` guard. Pure.

One correction is a fill that no message brought. Several within minutes mean that the books cannot be relied on, and every
cap is computed from them: that is HOLD.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from hip3.core.guards import GuardLevel

WINDOW_MS = 300_000
MOST = 2
"""Ours: corrections within five readings of the account (POS-3) that are still an accident."""


@define
class SnapshotDiffs:
    """Times are monotonic ms."""

    has_agreed: bool = False
    """A comparison of this run has ended in agreement; what was taken over before it was found, not corrected."""
    corrections: deque[tuple[int, str]] = field(factory=lambda: deque(maxlen=MOST + 1))

    def corrected(self, what: str, now_ms: int) -> None:
        """The venue's size replaced ours."""
        if self.has_agreed:
            self.corrections.append((now_ms, what))

    def agreed(self) -> None:
        self.has_agreed = True

    def judge(self, now_ms: int) -> tuple[GuardLevel, str]:
        """How the guard stands after a comparison that ended in agreement."""
        while self.corrections and self.corrections[0][0] <= now_ms - WINDOW_MS:
            self.corrections.popleft()
        if not self.corrections:
            return GuardLevel.OK, "our sizes are the venue's"
        level = GuardLevel.HOLD if len(self.corrections) > MOST else GuardLevel.WARN
        return level, f"{len(self.corrections)} corrections in five minutes, last: {self.corrections[-1][1]}"
