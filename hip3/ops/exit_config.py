"""From settings to what closing, the exit rules and the protective stop are told. Decides nothing."""

from __future__ import annotations

from hip3.core.exits import ExitConfig, ExitRules
from hip3.core.protection import ProtectionConfig
from hip3.settings.schema import Settings


def exit_config(settings: Settings) -> ExitConfig:
    p = settings.position
    return ExitConfig(
        time_stop_ms=p.time_stop_ms,
        reduce_only_timeout_ms=p.reduce_only_timeout_ms,
        slippage_bps=p.flatten_slippage_bps,
        slippage_step_bps=p.flatten_slippage_step_bps,
        slippage_cap_bps=p.flatten_slippage_cap_bps,
    )


def exit_rules(settings: Settings) -> ExitRules:
    """The rules of EXIT-2; they look at data of the age that the detector takes for fresh."""
    p = settings.position
    return ExitRules(
        min_holding_ms=p.min_holding_ms,
        exit_threshold_bps=p.exit_threshold_bps,
        take_profit_bps=p.take_profit_bps,
        edge_evaporation_bps=p.edge_evaporation_bps,
        oracle_reversal_bps=p.oracle_reversal_bps,
        protective_stop_bps=p.protective_stop_bps,
        max_bbo_age_ms=settings.detector.max_bbo_age_ms,
        max_ctx_age_ms=settings.detector.max_ctx_age_ms,
    )


def protection_config(settings: Settings) -> ProtectionConfig | None:
    """None without `protective_stop_bps`: nothing rests at the venue (EXIT-5)."""
    stop_bps = settings.position.protective_stop_bps
    if stop_bps is None:
        return None
    return ProtectionConfig(stop_bps, settings.executor.expires_after_ms, settings.detector.max_ctx_age_ms)
