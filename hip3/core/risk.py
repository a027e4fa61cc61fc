"""Risk of the running session: money lost, entries made today, positions that would not close.

The limits are `safety.auto_stop_loss_usd` and `safety.max_daily_trades`. A UTC day starts the counts anew. They live in
memory: a restart begins at zero until the store exists.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import define

from hip3.core import units
from hip3.core.trades import Trade

DAY_MS = 86_400_000


@define
class DailyLimits:
    """Counts of one UTC day. `pnl_usd` is realised, after fees."""

    max_trades: int | None
    max_loss_usd: Decimal
    day: int = 0
    entries: int = 0
    pnl_usd: Decimal = units.ZERO

    def _roll(self, wall_ms: int) -> None:
        day = wall_ms // DAY_MS
        if day > self.day:  # the wall clock may step back; that is no new day, and losses stay counted
            self.day, self.entries, self.pnl_usd = day, 0, units.ZERO

    def entries_left(self, wall_ms: int) -> int | None:
        """Entries that may still be made today; None where they are not limited."""
        self._roll(wall_ms)
        return None if self.max_trades is None else self.max_trades - self.entries

    def on_entry(self, wall_ms: int) -> None:
        self._roll(wall_ms)
        self.entries += 1

    def on_trade(self, trade: Trade, wall_ms: int) -> str | None:
        """Books a finished trade; says why trading must end where the day's loss is over the limit."""
        self._roll(wall_ms)
        self.pnl_usd += trade.pnl_usd
        return self.exceeded(wall_ms)

    def exceeded(self, wall_ms: int) -> str | None:
        """Why trading must end today; None where the day's loss is within the limit."""
        self._roll(wall_ms)
        if -self.pnl_usd > self.max_loss_usd:
            return f"lost {-self.pnl_usd:.4f} USD today, more than safety.auto_stop_loss_usd = {self.max_loss_usd}"
        return None
