"""From settings to the limits of the risk monitor; some have a default of their own on mainnet (RISK-1). Decides nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from hip3.core.risk_monitor import RiskConfig
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


def _on(limit: Limit | None) -> Limit | None:
    """None for a limit that is 0: off."""
    return limit or None
