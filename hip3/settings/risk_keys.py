# ruff: noqa: RUF009 - `setting` makes attrs fields, which ruff cannot see
"""`[risk]` of the configuration (section 16 of the specification). Each limit is off at 0, or where it is not set."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from attrs import frozen

from hip3.settings.fields import Number, Whole, Windows, setting


def _count(default: int | None, *, low: int = 0) -> Any:
    return setting(Whole(low, None), default=default)


def _amount(default: str | None) -> Any:
    return setting(Number(Decimal(0)), default=None if default is None else Decimal(default))


@frozen(kw_only=True)
class RiskKeys:
    """`[risk]`: triggers (RISK-1), runaway breaker (RISK-4), caps and throttles of entries (RISK-5, RISK-6), calendar."""

    max_cumulative_loss_usd: Decimal = _amount("20")
    max_consecutive_losses: int = _count(5)
    max_flatten_failures: int = _count(3)
    max_rejects_per_hour: int | None = _count(None)
    """Not set: 10 on mainnet, off elsewhere."""
    max_slippage_bps: Decimal | None = _amount(None)
    """Not set: 50 on mainnet, off elsewhere."""
    max_orders_per_min: int = _count(200)
    """Ours, as the next three: at `executor.actions_per_min` = 34 a first minute has at most 68 entries and closes each."""
    max_orders_per_market_per_min: int = _count(150)
    max_cancels_per_min: int = _count(200)
    max_cancels_per_market_per_min: int = _count(150)
    runaway_cooldown_ms: int = _count(60_000, low=1)
    """A window of the breaker."""
    max_open_positions: int = _count(0)
    max_hourly_drawdown_usd: Decimal = _amount("0")
    reentry_delay_ms: int = _count(0)
    correlation_cooldown_ms: int = _count(0)
    max_entries_per_market_per_min: int = _count(0)
    tilt_losses: int = _count(0)
    tilt_pause_ms: int = _count(300_000, low=1)
    """Ours: ten positions at the longest, 30 s each."""
    maintenance_windows: tuple[str, ...] | None = setting(Windows(), default=None)
