"""From `[detector]` of the configuration to the numbers of the core. Decides nothing; every key has its place here."""

from __future__ import annotations

from hip3.core.detector import DetectorConfig
from hip3.core.filters import FilterConfig
from hip3.core.quality import QualityConfig
from hip3.core.windows import parse_window
from hip3.settings.caps import effective_caps
from hip3.settings.schema import Settings


def detector_config(settings: Settings) -> DetectorConfig:
    """All of `[detector]`, with the smallest cap of one order (CFG-5)."""
    d = settings.detector
    return DetectorConfig(
        slippage_bps=d.slippage_bps,
        min_edge_bps=d.min_edge_bps,
        size_alpha=d.size_alpha,
        min_order_notional_usd=d.min_order_notional_usd,
        max_order_notional_usd=effective_caps(settings).order_usd,
        min_book_notional_usd=d.min_book_notional_usd,
        normal_book_notional_usd=d.normal_book_notional_usd,
        max_bbo_age_ms=d.max_bbo_age_ms,
        max_ctx_age_ms=d.max_ctx_age_ms,
        dedup=d.dedup,
        direction=d.direction,
        filters=filter_config(settings),
        quality=quality_config(settings),
        thresholds_bps={m.coin: m.threshold_bps for m in settings.markets if m.threshold_bps is not None},
    )


def filter_config(settings: Settings) -> FilterConfig:
    """`[detector.filters]`."""
    f = settings.detector.filters
    return FilterConfig(
        min_oracle_move_bps=f.min_oracle_move_bps,
        min_oracle_run=f.min_oracle_run,
        quote_lag_min_ms=f.quote_lag_min_ms,
        quote_lag_max_ms=f.quote_lag_max_ms,
        max_spread_bps=f.max_spread_bps,
        adaptive_spread_multiple=f.adaptive_spread_multiple,
        adaptive_ewma_ms=f.adaptive_ewma_ms,
        baseline_ewma_ms=f.baseline_ewma_ms,
        baseline_warmup_ms=f.baseline_warmup_ms,
        session_windows=tuple(map(parse_window, f.session_windows or ())),
        min_confidence=f.min_confidence,
    )


def quality_config(settings: Settings) -> QualityConfig:
    """`[detector.quality]`, and the limits of age, whose cooldowns are there."""
    q = settings.detector.quality
    return QualityConfig(
        max_bbo_age_ms=settings.detector.max_bbo_age_ms,
        bbo_age_cooldown_ms=q.bbo_age_cooldown_ms,
        max_ctx_age_ms=settings.detector.max_ctx_age_ms,
        ctx_age_cooldown_ms=q.ctx_age_cooldown_ms,
        time_back_ms=q.time_back_ms,
        time_back_cooldown_ms=q.time_back_cooldown_ms,
        mark_mid_bps=q.mark_mid_bps,
        mark_mid_cooldown_ms=q.mark_mid_cooldown_ms,
        spread_shock_multiple=q.spread_shock_multiple,
        spread_shock_ewma_ms=q.spread_shock_ewma_ms,
        spread_shock_cooldown_ms=q.spread_shock_cooldown_ms,
        oi_cap_share=q.oi_cap_share,
        oi_cap_cooldown_ms=q.oi_cap_cooldown_ms,
        halted=q.halted,
        halted_cooldown_ms=q.halted_cooldown_ms,
        blackout_windows=tuple(map(parse_window, q.blackout_windows or ())),
        blackout_cooldown_ms=q.blackout_cooldown_ms,
    )
