"""From settings to what risk monitor, breaker and throttles are told; some limits have a mainnet default (RISK-1)."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from hip3.core.breaker import BreakerConfig
from hip3.core.risk_monitor import RiskConfig
from hip3.core.throttles import ThrottleConfig
from hip3.core.windows import Window, parse_window
from hip3.settings.schema import Settings
from hip3.venue.hyperliquid.endpoints import Network

MAINNET_REJECTS_PER_HOUR = 10
MAINNET_SLIPPAGE_BPS = Decimal(50)
"""Defaults of RISK-1 where real money trades; elsewhere these two are off unless they are set."""

Limit = TypeVar("Limit", int, Decimal)


def risk_config(settings: Settings) -> RiskConfig:
    """The limits in force: what is set, else the default of the network; 0 switches one off."""
    r, is_mainnet = settings.risk, settings.network is Network.MAINNET
    rejects = r.max_rejects_per_hour
    slippage_bps = r.max_slippage_bps
    if is_mainnet:
        rejects = MAINNET_REJECTS_PER_HOUR if rejects is None else rejects
        slippage_bps = MAINNET_SLIPPAGE_BPS if slippage_bps is None else slippage_bps
    return RiskConfig(
        max_cumulative_loss_usd=_on(r.max_cumulative_loss_usd),
        max_consecutive_losses=_on(r.max_consecutive_losses),
        max_flatten_failures=_on(r.max_flatten_failures),
        max_rejects_per_hour=_on(rejects),
        max_slippage_bps=_on(slippage_bps),
    )


def breaker_config(settings: Settings) -> BreakerConfig:
    """The limits of RISK-4."""
    r = settings.risk
    return BreakerConfig(
        max_orders=_on(r.max_orders_per_min),
        max_orders_per_market=_on(r.max_orders_per_market_per_min),
        max_cancels=_on(r.max_cancels_per_min),
        max_cancels_per_market=_on(r.max_cancels_per_market_per_min),
        cooldown_ms=r.runaway_cooldown_ms,
    )


def throttle_config(settings: Settings) -> ThrottleConfig:
    """The throttles of RISK-6 but for concurrent positions, which is a cap (`max_positions`)."""
    r = settings.risk
    return ThrottleConfig(
        max_hourly_drawdown_usd=_on(r.max_hourly_drawdown_usd),
        reentry_delay_ms=_on(r.reentry_delay_ms),
        correlation_cooldown_ms=_on(r.correlation_cooldown_ms),
        max_entries_per_market_per_min=_on(r.max_entries_per_market_per_min),
        tilt_losses=_on(r.tilt_losses),
        tilt_pause_ms=r.tilt_pause_ms if r.tilt_losses else None,
    )


def max_positions(settings: Settings) -> int | None:
    """Markets that may be held at one time; None is off."""
    return _on(settings.risk.max_open_positions)


def maintenance_windows(settings: Settings) -> tuple[Window, ...]:
    """Planned windows without entries."""
    return tuple(parse_window(text) for text in settings.risk.maintenance_windows or ())


def _on(limit: Limit | None) -> Limit | None:
    """None for a limit that is 0: off."""
    return limit or None
