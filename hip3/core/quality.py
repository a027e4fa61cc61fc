"""Gates on the quality of one market's data: may its numbers be believed now (DET-6)? Each has its own counter and cooldown.

A gate says nothing about a dislocation; it says that the market's data or state is not what a decision may rest on.
It refuses while its condition holds and, with a cooldown, until the condition has not been seen for that long. What a
gate needs and does not know (no mark, a mean still warming up) counts as bad. Gates that are off are not in the list.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from decimal import Decimal

from attrs import define, field, frozen

from hip3.core import units
from hip3.core.averages import TimeMean
from hip3.core.filters import HALF, spread_bps
from hip3.core.market import MarketState
from hip3.core.windows import Window, in_any


class QualityGate(enum.Enum):
    """The gates in the order in which they are asked; the value is the name under which a refusal is counted."""

    HALTED = "halted"
    BLACKOUT = "blackout"
    STALE_BBO = "stale_bbo"
    STALE_REFERENCE = "stale_reference"
    TIME_BACK = "time_back"
    MARK_MID = "mark_mid"
    SPREAD_SHOCK = "spread_shock"
    OI_CAP = "oi_cap"


@frozen
class QualityConfig:
    """Numbers of the gates; zero, empty or False switches one off, and a cooldown of 0 is none."""

    max_bbo_age_ms: int = 0
    bbo_age_cooldown_ms: int = 0
    max_ctx_age_ms: int = 0
    ctx_age_cooldown_ms: int = 0
    time_back_ms: int = 0
    time_back_cooldown_ms: int = 0
    mark_mid_bps: Decimal = units.ZERO
    mark_mid_cooldown_ms: int = 0
    spread_shock_multiple: Decimal = units.ZERO
    spread_shock_ewma_ms: int = 60_000
    spread_shock_cooldown_ms: int = 0
    oi_cap_share: Decimal = units.ZERO
    oi_cap_cooldown_ms: int = 0
    halted: bool = False
    halted_cooldown_ms: int = 0
    blackout_windows: tuple[Window, ...] = ()
    blackout_cooldown_ms: int = 0


@define
class Seen:
    """What the gates remember of one market since its last connect."""

    connects: int
    spread: TimeMean
    newest_ms: int | None = None
    """The latest venue time of a BBO."""
    bbo_recv_ms: int | None = None
    ctx_recv_ms: int | None = None
    bad_ms: dict[QualityGate, int] = field(factory=dict)
    """When each gate last saw its condition (monotonic); this one outlives a connection."""


# ---- the conditions


def is_old(last_ms: int | None, before_ms: int | None, now_ms: int, max_age_ms: int) -> bool:
    """BBO age and ctx age: the last receipt is too long ago, or it ended a silence that was too long (`before_ms`)."""
    if last_ms is None or now_ms - last_ms > max_age_ms:
        return True
    return before_ms is not None and last_ms - before_ms > max_age_ms


def is_time_back(time_ms: int, newest_ms: int | None, step_ms: int) -> bool:
    """Server time going backwards: by the venue's clock the quote is `step_ms` or more older than one seen before."""
    return newest_ms is not None and newest_ms - time_ms >= step_ms


def is_divergent(mark: Decimal | None, mid: Decimal, max_bps: Decimal) -> bool:
    """Mark-mid divergence: the middle of the quote is more than `max_bps` from the mark, or there is no mark."""
    return mark is None or abs(units.to_bps(mid - mark, mark)) > max_bps


def is_shock(spread: Decimal, mean: Decimal | None, multiple: Decimal) -> bool:
    """Spread shock: the spread is more than `multiple` of the market's own mean, or that mean is not known yet."""
    return mean is None or spread > multiple * mean


def is_at_cap(open_interest: Decimal | None, mark: Decimal | None, cap_usd: Decimal | None, share: Decimal) -> bool:
    """Open-interest cap: the open interest, in coins, at the mark is `share` of the venue's cap or more (PROTOCOL 1.4).

    At the cap the venue refuses what increases. A market without a cap never is there.
    """
    if cap_usd is None:
        return False
    return open_interest is None or mark is None or open_interest * mark >= share * cap_usd


# ---- which of them are on

Holds = Callable[[MarketState, Seen, int, int], bool]
"""(market, memory, monotonic ms, wall ms) to whether the condition holds."""


def _active(c: QualityConfig) -> list[tuple[QualityGate, bool, Holds, int]]:
    """Every gate with whether it is on, its condition and its cooldown. Ages without a cooldown are the detector's own."""

    def shocked(m: MarketState, seen: Seen, _now: int, _wall: int) -> bool:
        quote = m.both_px
        return quote is not None and is_shock(
            spread_bps(*quote), seen.spread.warm(c.spread_shock_ewma_ms), c.spread_shock_multiple
        )

    def divergent(m: MarketState, _seen: Seen, _now: int, _wall: int) -> bool:
        quote = m.both_px
        mark = m.ctx.mark_px if m.ctx else None
        return quote is not None and is_divergent(mark, (quote[0] + quote[1]) * HALF, c.mark_mid_bps)

    def capped(m: MarketState, _seen: Seen, _now: int, _wall: int) -> bool:
        interest, mark = (m.ctx.open_interest, m.ctx.mark_px) if m.ctx else (None, None)
        return is_at_cap(interest, mark, m.oi_cap_usd, c.oi_cap_share)

    return [
        (QualityGate.HALTED, c.halted, lambda m, *_: m.halted, c.halted_cooldown_ms),
        (
            QualityGate.BLACKOUT,
            bool(c.blackout_windows),
            lambda _m, _s, _now, wall: in_any(c.blackout_windows, wall),
            c.blackout_cooldown_ms,
        ),
        (
            QualityGate.STALE_BBO,
            c.max_bbo_age_ms > 0 and c.bbo_age_cooldown_ms > 0,
            lambda m, s, now, _: is_old(m.bbo_recv_ms, s.bbo_recv_ms, now, c.max_bbo_age_ms),
            c.bbo_age_cooldown_ms,
        ),
        (
            QualityGate.STALE_REFERENCE,
            c.ctx_age_cooldown_ms > 0,
            lambda m, s, now, _: is_old(m.ctx_recv_ms, s.ctx_recv_ms, now, c.max_ctx_age_ms),
            c.ctx_age_cooldown_ms,
        ),
        (
            QualityGate.TIME_BACK,
            c.time_back_ms > 0,
            lambda m, s, *_: m.bbo is not None and is_time_back(m.bbo.time_ms, s.newest_ms, c.time_back_ms),
            c.time_back_cooldown_ms,
        ),
        (QualityGate.MARK_MID, c.mark_mid_bps > 0, divergent, c.mark_mid_cooldown_ms),
        (QualityGate.SPREAD_SHOCK, c.spread_shock_multiple > 0, shocked, c.spread_shock_cooldown_ms),
        (QualityGate.OI_CAP, c.oi_cap_share > 0, capped, c.oi_cap_cooldown_ms),
    ]


class Quality:
    """The gates that are on, in order, and what they remember of each market."""

    def __init__(self, config: QualityConfig) -> None:
        self.config = config
        self._on = tuple((gate, holds, cooldown) for gate, on, holds, cooldown in _active(config) if on)
        self._seen: dict[str, Seen] = {}
        self._nothing = Seen(0, TimeMean(config.spread_shock_ewma_ms))  # for gates that remember nothing
        remembering = {QualityGate.TIME_BACK, QualityGate.SPREAD_SHOCK}
        self.observes = any(cooldown > 0 or gate in remembering for gate, _, cooldown in self._on)
        """Whether `judge` must see every frame; without it, asking at a dislocation is enough."""

    @property
    def is_on(self) -> bool:
        return bool(self._on)

    def judge(self, market: MarketState, mono_ms: int, wall_ms: int) -> QualityGate | None:
        """The first gate that refuses now."""
        if self.observes:
            return self._judge_and_remember(market, mono_ms, wall_ms)
        for gate, holds, _ in self._on:
            if holds(market, self._nothing, mono_ms, wall_ms):
                return gate
        return None

    def _judge_and_remember(self, market: MarketState, mono_ms: int, wall_ms: int) -> QualityGate | None:
        """Every gate looks, whatever the first one says, so that each remembers when its condition held."""
        seen, quote = self._seen_of(market), market.both_px
        seen.spread.observe(None if quote is None else spread_bps(*quote), mono_ms)
        refusing: QualityGate | None = None
        for gate, holds, cooldown_ms in self._on:
            if holds(market, seen, mono_ms, wall_ms):
                seen.bad_ms[gate] = mono_ms
                refusing = refusing or gate
            elif cooldown_ms > 0 and (last := seen.bad_ms.get(gate)) is not None and mono_ms - last < cooldown_ms:
                refusing = refusing or gate
        if market.bbo is not None:
            seen.newest_ms = max(seen.newest_ms or 0, market.bbo.time_ms)
        seen.bbo_recv_ms, seen.ctx_recv_ms = market.bbo_recv_ms, market.ctx_recv_ms
        return refusing

    def _seen_of(self, market: MarketState) -> Seen:
        seen = self._seen.get(market.coin)
        if seen is None or seen.connects != market.connects:
            bad = seen.bad_ms if seen is not None else {}
            seen = Seen(market.connects, TimeMean(self.config.spread_shock_ewma_ms), bad_ms=bad)
            self._seen[market.coin] = seen
        return seen
