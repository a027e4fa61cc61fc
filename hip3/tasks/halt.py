"""Halt: while the mode is HALT this task owns all closing. It flattens, certifies, and waits for the operator (STOP-2).

It never gives up while HALT lasts. What fails is told after each try, so that it becomes a cause (`Bot.on_halt_flatten`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from hip3.core.clock import Clock
from hip3.core.journal import Journal
from hip3.io.certificate import FlatCertificate
from hip3.tasks.channels import Doorbell

BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 30.0
LOOK_AGAIN_S = 60.0  # as the account is read in normal running (POS-3)


@define
class HaltTask:
    """`flatten` runs the one procedure; `purge` empties the queue of new orders; `tell` gets each certificate of a HALT that
    lasts still, with how many tries in a row have not ended flat."""

    is_halted: Callable[[], bool]
    purge: Callable[[str], int]
    flatten: Callable[[], Awaitable[FlatCertificate]]
    tell: Callable[[FlatCertificate, int], None]
    clock: Clock
    journal: Journal
    bell: Doorbell = field(factory=Doorbell)

    async def run(self) -> None:
        """Serves until cancelled; never gives up while HALT lasts."""
        while True:
            # The account is looked at again while HALT lasts: somebody else may open a position after the certificate.
            with trio.move_on_after(LOOK_AGAIN_S if self.is_halted() else math.inf):
                await self.bell.wait()
            if self.is_halted():
                await self._end_flat()

    async def _end_flat(self) -> None:
        backoff, failed_in_a_row = BACKOFF_FIRST_S, 0
        while self.is_halted():
            self.purge("HALT")
            last = await self.flatten()
            failed_in_a_row += not last.flat
            level = "critical" if not last.flat else "warning"
            self.journal.note(self.clock.wall_ms(), level, "halt_flatten", **last.as_dict())
            if self.is_halted():
                self.tell(last, failed_in_a_row)
            if last.flat:
                return
            await trio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_MOST_S)
