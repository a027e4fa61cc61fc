"""The venue's own dead-man switch: `scheduleCancel`, set ahead and put off again while the bot lives (DEAD-1, PROTOCOL 4.3).

When nobody puts it off any more, the venue cancels every resting order of the account; positions stay, which is the
watchdog's business. An account below the venue's volume gate is refused, and that is shown. Where protective stops are
configured it stays off: it would cancel them and leave the positions of a dead bot without any (EXIT-5).
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import trio
from attrs import define

from hip3.core.budget import ActionBudget
from hip3.core.clock import Clock
from hip3.core.journal import Journal
from hip3.core.orders import OutcomeKind
from hip3.io.rest import QueryFailed, Venue
from hip3.venue.hyperliquid.actions import schedule_cancel_action
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.outcomes import read_default_outcome
from hip3.venue.hyperliquid.signing import Signer

RENEWALS = 3
"""Of one span: two may be lost."""
REFUSED_PAUSE_S = 3600.0
"""A volume gate of 1,000,000 USD does not open within minutes."""


class SwitchState(enum.Enum):
    OFF = "off"
    UNSET = "not set yet"
    ARMED = "armed"
    REFUSED = "refused by the venue"
    WITHDRAWN = "withdrawn"


@define
class DeadManSwitch:
    """One account's switch. `may_send` is asked before each action: a dry run sets nothing."""

    rest: Venue
    signer: Signer
    nonces: NonceSource
    budget: ActionBudget
    span_s: int
    """How far ahead it is set; 0 is off."""
    off_because: str
    """Why it is off although `span_s` is set; empty where it is not."""
    may_send: Callable[[], bool]
    clock: Clock
    journal: Journal
    on_armed: Callable[[int], None]
    """Told of each time the venue accepts, with the monotonic ms at which it fires."""
    on_refused: Callable[[str], None]
    """Told of each refusal, in the venue's words."""
    state: SwitchState = SwitchState.UNSET
    due_ms: int | None = None
    """The venue's time at which it fires."""
    why: str = ""
    """The venue's words of a refusal, or why it is off."""

    async def run(self) -> None:
        """Renews until cancelled; a state that changes is told once."""
        if self.span_s == 0 or self.off_because or not self.may_send():
            self.state, self.why = SwitchState.OFF, "watchdog.schedule_cancel_s = 0, or a run that sends nothing"
            if self.span_s and self.off_because:
                self._become(SwitchState.OFF, self.off_because)
            return
        while self.state is not SwitchState.WITHDRAWN:
            refused = await self._set()
            await trio.sleep(REFUSED_PAUSE_S if refused else self.span_s / RENEWALS)

    async def withdraw(self) -> None:
        """Takes back what is armed: the end is clean, and nothing rests. Never raises."""
        was_armed, self.state = self.state is SwitchState.ARMED, SwitchState.WITHDRAWN
        if was_armed:
            problem = await self._send(None)
            level = "info" if problem is None else "warning"
            self.journal.note(self.clock.wall_ms(), level, "dead_man_withdrawn", why=problem or "the bot ends flat")

    async def _set(self) -> bool:
        """Puts the time off; True where the venue refused it."""
        asked_ms = self.clock.mono_ms()
        due_ms = self.clock.wall_ms() + self.nonces.offset_ms + 1000 * self.span_s
        problem = await self._send(due_ms)
        if self.state is SwitchState.WITHDRAWN:
            return False
        if problem is None:
            self.due_ms = due_ms
            self._become(SwitchState.ARMED, "")
            self.on_armed(asked_ms + 1000 * self.span_s)
            return False
        if problem.startswith(_NO_ANSWER):
            self.journal.note(self.clock.wall_ms(), "warning", "dead_man_unanswered", why=problem)
            return False
        self.due_ms = None
        self._become(SwitchState.REFUSED, problem)
        self.on_refused(problem)
        return True

    async def _send(self, due_ms: int | None) -> str | None:
        """None where the venue took it, else what it said, or that it did not answer."""
        self.budget.spend(1, self.clock.mono_ms())
        try:
            payload = await self.rest.exchange(self.signer.sign(schedule_cancel_action(due_ms), self.nonces.next()))
        except QueryFailed as e:
            return f"{_NO_ANSWER}: {e}"
        outcome = read_default_outcome(payload)
        return None if outcome.kind is OutcomeKind.CONFIRMED else outcome.error or f"{_NO_ANSWER} that can be read"

    def _become(self, state: SwitchState, why: str) -> None:
        if (state, why) == (self.state, self.why):
            return
        self.state, self.why = state, why
        level = "warning" if state is SwitchState.REFUSED else "info"
        self.journal.note(self.clock.wall_ms(), level, "dead_man", state=state.value, why=why, span_s=self.span_s)


_NO_ANSWER = "no answer"
