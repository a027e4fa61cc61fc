"""Halt: while the mode is HALT this task owns all closing. It flattens, certifies, and waits for the operator (STOP-2)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio
from attrs import define, field

from hip3.core.clock import Clock
from hip3.core.journal import Journal
from hip3.tasks.channels import Doorbell

BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 30.0
LOOK_AGAIN_S = 60.0  # as the account is read in normal running (POS-3)


class Certificate(Protocol):
    """What a flatten gives back, as far as this task looks at it."""

    @property
    def flat(self) -> bool: ...

    def as_dict(self) -> dict[str, object]: ...


@define
class HaltTask:
    """`flatten` runs the one procedure; `purge` empties the queue of new orders."""

    is_halted: Callable[[], bool]
    purge: Callable[[str], int]
    flatten: Callable[[], Awaitable[Certificate]]
    clock: Clock
    journal: Journal
    bell: Doorbell = field(factory=Doorbell)
    last: Certificate | None = None

    async def run(self) -> None:
        """Serves until cancelled; never gives up while HALT lasts."""
        while True:
            # The account is looked at again while HALT lasts: somebody else may open a position after the certificate.
            with trio.move_on_after(LOOK_AGAIN_S if self.is_halted() else math.inf):
                await self.bell.wait()
            if self.is_halted():
                await self._end_flat()

    async def _end_flat(self) -> None:
        backoff = BACKOFF_FIRST_S
        while self.is_halted():
            self.purge("HALT")
            self.last = await self.flatten()
            level = "critical" if not self.last.flat else "warning"
            self.journal.note(self.clock.wall_ms(), level, "halt_flatten", **self.last.as_dict())
            if self.last.flat:
                return
            await trio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_MOST_S)
