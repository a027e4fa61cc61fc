"""The guard `cancel_on_disconnect` (RISK-3): what ends resting orders when nobody can cancel them over the session any more.

Three things are measured by those who own them, and the worst of them is the report: the account session (`Bot`), the
venue's own switch (`DeadManSwitch`, where `watchdog.schedule_cancel_s` is set), and the heartbeat that a watchdog follows
(`Heart`). A refused switch is a warning with the venue's words, for the account cannot change it from here; one that is
not known to be armed is no evidence, and that is HOLD until there is some (LESSONS 3).
"""

from __future__ import annotations

import enum

from attrs import define, field

from hip3.core.guards import GuardLevel, GuardName, Guards

NAME = GuardName.CANCEL_ON_DISCONNECT


class Session(enum.Enum):
    """The account session, as far as this guard looks at it."""

    NOT_YET = "not yet live"
    LIVE = "live"
    LOST = "lost"


@define
class DisconnectGuard:
    """What is known of each means; every change is a report in the same step."""

    guards: Guards
    policy: str
    """`safety.halt_on_disconnect`; `never` is a warning."""
    is_switch_wanted: bool
    """`scheduleCancel` is configured, not in the way of protective stops, and the run sends."""
    session: Session = field(default=Session.NOT_YET, init=False)
    refused: str | None = field(default=None, init=False)
    """The venue's words where it refuses the switch."""
    armed_until_ms: int | None = field(default=None, init=False)
    """Monotonic time at which the venue's switch fires; None while it was never accepted, or is refused."""
    heart_trouble: str | None = field(default=None, init=False)
    """Why the heartbeat cannot be written."""

    def on_session(self, session: Session) -> None:
        self.session = session
        self._report()

    def on_armed(self, until_ms: int) -> None:
        """The venue has accepted `scheduleCancel`; it fires at `until_ms` (monotonic)."""
        self.armed_until_ms, self.refused = until_ms, None
        self._report()

    def on_refused(self, words: str) -> None:
        """The venue refuses `scheduleCancel`."""
        self.armed_until_ms, self.refused = None, words
        self._report()

    def on_heart(self, trouble: str | None) -> None:
        """The heartbeat was written (None), or why it could not be."""
        if trouble != self.heart_trouble:
            self.heart_trouble = trouble
            self._report()

    def _report(self) -> None:
        if self.session is Session.NOT_YET:
            return None
        if self.session is Session.LOST:
            return self.guards.report(
                NAME, GuardLevel.ERROR, f"the session is lost: nothing can be cancelled over it; {self._switch()}"
            )
        if self.is_switch_wanted and self.refused is None and self.armed_until_ms is None:
            return self.guards.unknown(NAME, "the venue has not answered scheduleCancel yet")
        is_weak = self.policy == "never" or self.refused is not None or self.heart_trouble is not None
        said = [
            f"the session lives; {self._switch()}; entries are IOC and expire; safety.halt_on_disconnect = {self.policy}"
        ]
        if self.heart_trouble is not None:
            said.append(f"a watchdog takes this bot for dead, its heartbeat cannot be written: {self.heart_trouble}")
        level = GuardLevel.WARN if is_weak else GuardLevel.OK
        return self.guards.report(NAME, level, "; ".join(said), self.armed_until_ms)

    def _switch(self) -> str:
        if not self.is_switch_wanted:
            return "scheduleCancel is off"
        if self.refused is not None:
            return f"the venue refuses scheduleCancel: {self.refused}"
        return (
            "the venue cancels by itself (scheduleCancel)"
            if self.armed_until_ms is not None
            else "scheduleCancel is not set"
        )
