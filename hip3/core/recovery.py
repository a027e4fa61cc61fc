"""Recovery from HALT without an operator: only for causes on a list, and only on evidence of this incident (STOP-4).

Evidence is counted, never remembered over an incident: each HALT that is said, a repeated one too, begins at nothing, and
so does a reading that fails (LESSONS 32). Recovery leads to ARMED_SAFE; whoever wants entries promotes.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from hip3.core.causes import Cause, ReasonCode

NEEDED: dict[ReasonCode, int] = {
    ReasonCode.SNAPSHOT_STALE: 1,
    ReasonCode.BACKFILL_WINDOW_EXCEEDED: 1,
    ReasonCode.RECONCILE_CRITICAL: 3,
}
"""How many clean reconciles in a row end a HALT of this cause; what is not here is an operator's to end."""


@define
class Evidence:
    """Of one incident (`Safety.incident`): clean reconciles in a row, and whether its gap was skipped by an operator."""

    incident: int = 0
    clean: int = 0
    is_skipped: bool = False

    def agreed(self, incident: int) -> None:
        """The venue's statement agrees with the books in everything."""
        self._turn_to(incident)
        self.clean += 1

    def disturbed(self, incident: int) -> None:
        """A reading failed, or the books had to be corrected: the row begins anew."""
        self._turn_to(incident)
        self.clean = 0

    def skipped(self, incident: int) -> None:
        """An operator has recorded that the gap of this incident is not to be filled (REC-3)."""
        self._turn_to(incident)
        self.is_skipped = True

    def _turn_to(self, incident: int) -> None:
        if incident != self.incident:
            self.incident, self.clean, self.is_skipped = incident, 0, False


def lacking(causes: Sequence[Cause], evidence: Evidence, incident: int) -> str | None:
    """What a recovery from `causes` waits for, in words; None where the evidence is enough. Changes nothing."""
    found = evidence if evidence.incident == incident else Evidence(incident)
    for cause in causes:
        needed = NEEDED.get(cause.code)
        if needed is None:
            return f"{cause.code.value} is not on the list: an operator ends it"
        if cause.code is ReasonCode.BACKFILL_WINDOW_EXCEEDED and not found.is_skipped:
            return "a maintenance skip that covers the gap"
        if found.clean < needed:
            return f"{needed - found.clean} more clean reconciles"
    return None
