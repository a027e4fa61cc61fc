"""A mean that fades with time: each value counts for as long as it stood. One per market and purpose (LESSONS 23).

The step is `w = dt / (dt + tau)`, the implicit Euler form of a first-order lag: a weight between 0 and 1 for every
dt, exact in Decimal, without an exponential. A value enters when time has passed over it, so the newest quote is
compared with a mean that does not contain it. A mean per update would count a burst of a hundred quotes in a second
as much as a hundred quiet seconds.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import define

from hip3.core.units import ZERO


@define
class TimeMean:
    """`mean` over about the last `tau_ms`; `seen_ms` is how much time it has covered since the last reset."""

    tau_ms: int
    mean: Decimal = ZERO
    seen_ms: int = 0
    _standing: Decimal | None = None
    _since_ms: int = 0

    def observe(self, value: Decimal | None, now_ms: int) -> None:
        """`value` stands from now on; None is unknown, and time with an unknown value counts for nothing."""
        if self._standing is not None and now_ms > self._since_ms:
            passed = now_ms - self._since_ms
            if self.seen_ms == 0:
                self.mean = self._standing
            else:
                self.mean += (self._standing - self.mean) * passed / (passed + self.tau_ms)
            self.seen_ms += passed
        self._standing = value
        self._since_ms = now_ms

    def warm(self, warmup_ms: int) -> Decimal | None:
        """The mean once it has covered `warmup_ms`, and some time at all; None before."""
        return self.mean if self.seen_ms > 0 and self.seen_ms >= warmup_ms else None
