"""Runaway breaker (RISK-4): counts orders and cancels that left in the last minute, per market and in total.

A bot that sends far more than its own pace allows is broken, whatever the reason. Over a limit it trips: entries stop for a
cooldown. It refuses nothing itself and never sees a decision about a cancel, a close or a flatten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from attrs import define, field, frozen

from hip3.core.rate import SlidingWindow

WINDOW_MS = 60_000  # RISK-4
TRIPS_KEPT_MS = 3_600_000
TRIPS_HOLD = 3
"""Ours: a cooldown has not helped when it trips a third time within an hour; a person must look (RISK-3)."""


@frozen
class BreakerConfig:
    """Most orders and cancels of a minute; None is off. `cooldown_ms`: how long entries stop after a trip."""

    max_orders: int | None = None
    max_orders_per_market: int | None = None
    max_cancels: int | None = None
    max_cancels_per_market: int | None = None
    cooldown_ms: int = 60_000


@define
class RunawayBreaker:
    """All times are monotonic ms."""

    config: BreakerConfig
    tripped_until_ms: int | None = None
    why: str = ""
    trips: deque[int] = field(factory=deque)
    """When it tripped in the last hour."""
    _windows: dict[tuple[str, str | None], SlidingWindow] = field(factory=dict)
    """By what is counted and market, None for all markets; made at first use, so as many as there are markets."""

    def sent(self, orders: Iterable[str], cancels: Iterable[str], now_ms: int) -> str | None:
        """Counts what left, by the coins of its orders and cancels. Why it trips, where it does and was not tripped."""
        over = None
        for coin in orders:
            over = self._count("orders", coin, self.config.max_orders_per_market, now_ms) or over
            over = self._count("orders", None, self.config.max_orders, now_ms) or over
        for coin in cancels:
            over = self._count("cancels", coin, self.config.max_cancels_per_market, now_ms) or over
            over = self._count("cancels", None, self.config.max_cancels, now_ms) or over
        if over is None:
            return None
        was_tripped = self.tripped_until_ms is not None
        self.tripped_until_ms, self.why = now_ms + self.config.cooldown_ms, over
        if was_tripped:
            return None
        self.trips.append(now_ms)
        return over

    def _count(self, what: str, coin: str | None, limit: int | None, now_ms: int) -> str | None:
        if limit is None:
            return None
        window = self._windows.setdefault((what, coin), SlidingWindow(limit, WINDOW_MS))
        window.spend(now_ms)
        if window.used <= limit:
            return None
        key = f"risk.max_{what}_{'' if coin is None else 'per_market_'}per_min"
        return f"{window.used} {what} of {coin or 'all markets'} in a minute, more than {key} = {limit}"

    def over(self, now_ms: int) -> bool:
        """True where the cooldown has ended just now."""
        while self.trips and self.trips[0] <= now_ms - TRIPS_KEPT_MS:
            self.trips.popleft()
        if self.tripped_until_ms is None or now_ms < self.tripped_until_ms:
            return False
        self.tripped_until_ms = None
        return True

    def fullest(self, now_ms: int) -> tuple[int, int, str] | None:
        """Used, limit and words of the window nearest to its limit; None where nothing was counted."""
        rows = [
            (w.limit - w.room(now_ms), w.limit, f"{what} of {coin or 'all markets'}")
            for (what, coin), w in self._windows.items()
        ]
        return max(rows, key=lambda row: row[0] * 1_000_000 // row[1], default=None)
