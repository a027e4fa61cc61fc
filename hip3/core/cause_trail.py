"""The history of the causes: a line and a row of the audit log for each that came, grew worse or ended (SAFE-1, STO-3).

With the mode or without it: a cause that joins a HALT changes no mode, and still somebody must be able to find it later.
"""

from __future__ import annotations

from attrs import define, field

from hip3.core.causes import Cause, ReasonCode, Safety, Severity
from hip3.core.journal import Journal
from hip3.core.scribe import Scribe
from hip3.fsm.safety import SafetyMode

NONE = "none"


@define
class CauseTrail:
    """What was told last. The rows join the next commit."""

    safety: Safety
    scribe: Scribe
    journal: Journal
    _mode: SafetyMode = field(default=SafetyMode.ARMED_SAFE, init=False)
    _told: dict[tuple[ReasonCode, str], Cause] = field(factory=dict, init=False)

    def tell(self) -> None:
        """What has changed since the last call."""
        before, now = self._told, {(c.code, c.source): c for c in self.safety.causes}
        same_mode = self.safety.mode is self._mode  # else `safety_mode` has said it loudly
        self._mode, self._told = self.safety.mode, now
        for key in (*now, *(before.keys() - now.keys())):
            was, becomes = _standing(before.get(key)), _standing(now.get(key))
            if was != becomes:
                joins_a_halt = becomes == Severity.HALT.name and same_mode
                self._tell(now.get(key) or before[key], was, becomes, "critical" if joins_a_halt else "debug")

    def _tell(self, cause: Cause, was: str, becomes: str, level: str) -> None:
        code, why = cause.code.value, cause.message
        fields = {"code": code, "source": cause.source, "before": was, "after": becomes, "message": why}
        self.journal.note(self.scribe.wall_ms(), level, "cause", **fields)
        facts = {"mode": self.safety.mode.name, "clears": cause.clears.value}
        self.scribe.transition("cause", f"{code}:{cause.source}", was, becomes, code, why, facts)


def _standing(cause: Cause | None) -> str:
    """What a cause forbids, or that it is not in force."""
    return NONE if cause is None else cause.severity.name
