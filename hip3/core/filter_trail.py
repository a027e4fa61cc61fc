"""What every filter of the detector says of a signal, with its inputs (OPS-7, DET-4 to DET-6). It decides nothing.

Judged anew from what the signal carries, after its order has left.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from hip3.core import units
from hip3.core.detector import DetectorConfig, Signal
from hip3.core.filters import Filter, rules, spread_bps
from hip3.core.quality import QualityConfig, QualityGate

Inputs = dict[str, object]


@frozen
class FilterStep:
    """What one filter says of a signal. `rejects` is its own opinion, which counts only where it is `on`.

    None: it cannot have one, because the number that it compares with is not set.
    """

    name: str
    on: bool
    rejects: bool | None
    inputs: Inputs

    def as_dict(self) -> dict[str, object]:
        verdict = ("reject" if self.rejects else "pass") if self.on else "off"
        said: dict[str, object] = {"name": self.name, "verdict": verdict, "inputs": self.inputs}
        return said if self.on or self.rejects is None else {**said, "would_reject": self.rejects}


def filter_trail(signal: Signal, config: DetectorConfig) -> tuple[FilterStep, ...]:
    """Every filter of the detector, in its order, judged anew from the inputs that the signal carries (DET-4, DET-5)."""
    edge: Inputs = {
        "touch_px": signal.touch_px,
        "reference_px": signal.reference_px,
        "edge_bps": signal.edge_bps,
        "cost_bps": signal.cost_bps,
        "taker_fee_bps": signal.taker_fee_bps,
        "slippage_bps": signal.slippage_bps,
        "min_edge_bps": signal.min_edge_bps,
    }
    own = config.thresholds_bps.get(signal.coin)
    if own is not None:
        edge["threshold_bps"] = own  # the market's own cost, in place of the three parts
    size: Inputs = {
        "sz": signal.sz,
        "px": signal.px,
        "touch_sz": signal.touch_sz,
        "liquidity_factor": signal.liquidity_factor,
        "size_alpha": config.size_alpha,
        "min_order_notional_usd": config.min_order_notional_usd,
        "max_order_notional_usd": config.max_order_notional_usd,
    }
    return (
        FilterStep("edge", True, _is_short(signal), edge),
        _age("stale_bbo", signal.bbo_age_ms, config.max_bbo_age_ms),
        _age("stale_reference", signal.ctx_age_ms, config.max_ctx_age_ms),
        *_quality(signal, config.quality),
        *_filters(signal, config),
        FilterStep("size", True, signal.sz <= 0, size),
    )


def _is_short(signal: Signal) -> bool:
    """True where the touch is not better than the reference by the cost: the detector's own comparison (DET-1)."""
    limit = signal.reference_px * (1 - signal.side.sign * signal.cost_bps / units.BPS)
    return (limit - signal.touch_px) * signal.side.sign < 0


def _quality(signal: Signal, c: QualityConfig) -> Iterable[FilterStep]:
    """The gates on data quality (DET-6): those that are on have let the market pass, or there would be no signal."""
    bbo = signal.bbo
    assert bbo.bid is not None
    assert bbo.ask is not None
    spread = spread_bps(bbo.bid.px, bbo.ask.px)
    rows: tuple[tuple[QualityGate, bool, Inputs, int], ...] = (
        (QualityGate.HALTED, c.halted, {}, c.halted_cooldown_ms),
        (QualityGate.BLACKOUT, bool(c.blackout_windows), {"wall_ms": signal.detected_wall_ms}, c.blackout_cooldown_ms),
        (
            QualityGate.TIME_BACK,
            c.time_back_ms > 0,
            {"bbo_time_ms": bbo.time_ms, "max_back_ms": c.time_back_ms},
            c.time_back_cooldown_ms,
        ),
        (QualityGate.MARK_MID, c.mark_mid_bps > 0, {"max_bps": c.mark_mid_bps}, c.mark_mid_cooldown_ms),
        (
            QualityGate.SPREAD_SHOCK,
            c.spread_shock_multiple > 0,
            {"spread_bps": spread, "multiple": c.spread_shock_multiple},
            c.spread_shock_cooldown_ms,
        ),
        (QualityGate.OI_CAP, c.oi_cap_share > 0, {"max_share": c.oi_cap_share}, c.oi_cap_cooldown_ms),
    )
    for gate, on, inputs, cooldown_ms in rows:
        yield FilterStep(gate.value, on, False if on else None, {**inputs, "cooldown_ms": cooldown_ms} if on else {})


def _filters(signal: Signal, config: DetectorConfig) -> Iterable[FilterStep]:
    """The filters of DET-4. Of those that are off, the two that need no number say what they would do, the others what they
    would have compared: a narrower condition is chosen from measured numbers (LESSONS 28)."""
    seen = signal.dislocation
    if seen is None:
        return
    for rule in rules(config.filters, dedup=config.dedup, direction=config.direction):
        judges = rule.on or rule.name in (Filter.DIRECTION, Filter.DEDUP)
        yield FilterStep(rule.name.value, rule.on, rule.rejects(seen) if judges else None, rule.inputs(seen))


def _age(name: str, age_ms: int, most_ms: int) -> FilterStep:
    return FilterStep(
        name, most_ms > 0, age_ms > most_ms if most_ms > 0 else None, {"age_ms": age_ms, "max_age_ms": most_ms}
    )
