"""Clocks for the shell: the machine's, and one that follows Trio's time so that a whole run can be virtual."""

from __future__ import annotations

import time

import trio
from attrs import frozen


@frozen
class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


@frozen
class TrioClock:
    """Both clocks follow `trio.current_time()`, which a test or a replay may run in virtual time."""

    start_wall_ms: int
    start_trio_s: float

    @classmethod
    def starting_at(cls, wall_ms: int) -> TrioClock:
        """A clock that shows `wall_ms` now; needs a running Trio loop."""
        return cls(wall_ms, trio.current_time())

    def wall_ms(self) -> int:
        return self.start_wall_ms + self.mono_ms()

    def mono_ms(self) -> int:
        return round((trio.current_time() - self.start_trio_s) * 1000)
