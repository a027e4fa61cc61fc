"""Clocks for the shell: the machine's, a virtual one that follows Trio's time, that of a run, and the venue's."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio
from attrs import frozen

from hip3.core.clock import Clock


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


@frozen
class SteadyClock:
    """The wall time of the start, carried on by the monotonic clock: setting the machine's clock does not make it jump.

    Ages, deadlines and nonces of a run are on it, so a jump forward closes no position before its time and ends no wait for
    an order in doubt, and one back delays none. How far it is from the venue's is measured (NON-2), as ever; a machine that
    slept stands still on it, which the next measurement shows.
    """

    machine: Clock
    start_wall_ms: int
    start_mono_ms: int

    @classmethod
    def over(cls, machine: Clock) -> SteadyClock:
        """A clock that shows what `machine` shows now."""
        return cls(machine, machine.wall_ms(), machine.mono_ms())

    def wall_ms(self) -> int:
        return self.start_wall_ms + self.machine.mono_ms() - self.start_mono_ms

    def mono_ms(self) -> int:
        return self.machine.mono_ms()


@frozen
class VenueClock:
    """A run's clock, moved by as far as the venue's time is from it: for calendars, and for the age of what the venue has
    stamped. It jumps with what is measured, so nothing waits by it."""

    run: Clock
    apart_ms: Callable[[], int]

    def wall_ms(self) -> int:
        return self.run.wall_ms() + self.apart_ms()

    def mono_ms(self) -> int:
        return self.run.mono_ms()
