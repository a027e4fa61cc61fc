"""What stands between the present mode and the next looser one, one obstacle for each thing, named (SAFE-3, STOP-1).

Pure questions over the causes in force. Nothing here changes a mode: `Safety.end` and `Safety.promote` do, for those who
have asked here first and found nothing.
"""

from __future__ import annotations

from attrs import frozen

from hip3.core.causes import PROMOTION_ENDS, Cause, Clears, Safety, Severity


@frozen
class Obstacle:
    """One thing that forbids. `what` is its name (a reason code, or a condition), `why` says how it is at present."""

    what: str
    why: str

    def as_dict(self) -> dict[str, str]:
        return {"what": self.what, "why": self.why}


def obstacle_of(safety: Safety, cause: Cause) -> Obstacle | None:
    """Why an operator cannot end `cause` now; None where he can."""
    if cause.clears is Clears.NEVER:
        return Obstacle(cause.code.value, f"ends with this process only: {cause.message}")
    if cause.clears is Clears.AUTO:
        return Obstacle(cause.code.value, f"ends by itself when it is over, and holds: {cause.message}")
    still = safety.why_still(cause)
    return None if still is None else Obstacle(cause.code.value, f"holds still: {still}")


def halts(safety: Safety) -> tuple[Cause, ...]:
    """The causes that hold HALT."""
    return tuple(c for c in safety.causes if c.severity is Severity.HALT)


def holds(safety: Safety) -> tuple[Cause, ...]:
    """The causes that forbid entries only, besides those that a promotion ends by itself."""
    return tuple(c for c in safety.causes if c.severity is Severity.SAFE and c.code not in PROMOTION_ENDS)


def endable(safety: Safety, causes: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """Those of `causes` that an operator can end now."""
    return tuple(c for c in causes if obstacle_of(safety, c) is None)


def obstacles(safety: Safety, causes: tuple[Cause, ...]) -> list[Obstacle]:
    """What of `causes` an operator cannot end now, most severe first."""
    return [found for cause in causes if (found := obstacle_of(safety, cause)) is not None]
