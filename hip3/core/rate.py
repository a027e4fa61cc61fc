"""Sliding-window counters for the venue's limits (PROTOCOL 2.6, 3). Pure: the time is an argument."""

from __future__ import annotations

from collections import deque

from attrs import define, field


@define
class SlidingWindow:
    """At most `limit` units in any `window_ms`."""

    limit: int
    window_ms: int
    used: int = 0
    _spent: deque[tuple[int, int]] = field(factory=deque)

    def _expire(self, now_ms: int) -> None:
        while self._spent and self._spent[0][0] <= now_ms - self.window_ms:
            self.used -= self._spent.popleft()[1]

    def room(self, now_ms: int) -> int:
        self._expire(now_ms)
        return self.limit - self.used

    def spend(self, now_ms: int, units: int = 1) -> None:
        """Counts units that were used, whether or not there was room for them."""
        self._expire(now_ms)
        self._spent.append((now_ms, units))
        self.used += units

    def wait_ms(self, now_ms: int, units: int = 1) -> int:
        """How long until `units` fit; 0 where they fit now."""
        self._expire(now_ms)
        excess = self.used + units - self.limit
        if excess <= 0:
            return 0
        for at_ms, spent in self._spent:
            excess -= spent
            if excess <= 0:
                return max(0, at_ms + self.window_ms - now_ms)
        return self.window_ms
