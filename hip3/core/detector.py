"""Oracle-dislocation taker (DET-1): finds quotes that lag the oracle by more than it costs to take them.

Pure: market state and time in, a signal or the name of what refused it out. It runs for the market that changed and
decides nothing about whether we may trade; that is the gates' business.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from attrs import field, frozen

from hip3.core import units
from hip3.core.events import Bbo, Level
from hip3.core.filters import Dislocation, FilterConfig, Filters
from hip3.core.ids import MarketSpec, OrderSide
from hip3.core.market import MarketState
from hip3.core.quality import Quality, QualityConfig, QualityGate

VENUE_MIN_NOTIONAL_USD = Decimal(10)  # PROTOCOL 6, "Min notional"
CAP_HEADROOM = Decimal("0.99")  # DET-3: leaves room for the mark to differ from our price


@frozen
class DetectorConfig:
    """Numbers of DET-1 and DET-3. `*_bps` basis points, `*_usd` US dollars, `*_ms` milliseconds."""

    slippage_bps: Decimal
    min_edge_bps: Decimal
    size_alpha: Decimal
    min_order_notional_usd: Decimal
    max_order_notional_usd: Decimal
    """The smallest of all caps on one order (CFG-5)."""
    min_book_notional_usd: Decimal
    normal_book_notional_usd: Decimal
    max_bbo_age_ms: int
    """0 is no limit."""
    max_ctx_age_ms: int
    dedup: bool
    direction: bool
    filters: FilterConfig = field(factory=FilterConfig)
    quality: QualityConfig = field(factory=QualityConfig)
    thresholds_bps: dict[str, Decimal] = field(factory=dict)
    """A market's own total cost, in place of fee + slippage + minimum edge."""


@frozen
class Signal:
    """One dislocation worth taking, with every input it was computed from (DET-5). Prices USD, edges bps."""

    id: str
    spec: MarketSpec
    side: OrderSide
    px: Decimal
    """Limit price: legal, rounded against us."""
    sz: Decimal
    touch_px: Decimal
    touch_sz: Decimal
    reference_px: Decimal
    edge_bps: Decimal
    """Edge at the touched price before cost: what the trade earns, fees apart, if the price comes to the reference."""
    cost_bps: Decimal
    taker_fee_bps: Decimal
    slippage_bps: Decimal
    min_edge_bps: Decimal
    liquidity_factor: Decimal
    bbo: Bbo
    bbo_age_ms: int
    ctx_age_ms: int
    detected_wall_ms: int
    detected_mono_ms: int
    reference_move: int = 0
    """Direction of the reference's last change: +1, -1, or 0 where it was not seen to move."""
    last_reference_px: Decimal | None = None
    """The reference of the signal before it on this side; None for the first."""
    dislocation: Dislocation | None = None
    """What the filters saw of it."""

    @property
    def coin(self) -> str:
        return self.spec.key.coin


def edge_bps(side: OrderSide, px: Decimal, reference: Decimal) -> Decimal:
    """How far `px` is better than the reference for an order of `side`, in bps of the reference."""
    return (reference - px) / reference * units.BPS * side.sign


def liquidity_factor(book_notional: Decimal, low: Decimal, normal: Decimal) -> Decimal:
    """0 at or below `low` USD at the touched level, 1 at or above `normal`, linear between (DET-3)."""
    if book_notional <= low:
        return units.ZERO
    if book_notional >= normal:
        return Decimal(1)
    return (book_notional - low) / (normal - low)


class Detector:
    """Evaluates one market at a time. `rejected[coin]` counts, per named reason, what it did not signal."""

    def __init__(self, config: DetectorConfig, run_tag: str, taker_fee_bps: dict[str, Decimal]) -> None:
        self.config = config
        self.taker_fee_bps = taker_fee_bps
        self.rejected: dict[str, Counter[str]] = {}
        self.last_reason: dict[str, str] = {}
        self.filters = Filters(config.filters, dedup=config.dedup, direction=config.direction)
        self.quality = Quality(config.quality)
        self._watches = self.filters.observes or self.quality.observes
        self._run_tag = run_tag
        self._sequence = 0

    def cost_bps(self, coin: str) -> Decimal:
        """What a dislocation must exceed: the market's own threshold, else fee + slippage + minimum edge."""
        own = self.config.thresholds_bps.get(coin)
        if own is not None:
            return own
        return self.taker_fee_bps[coin] + self.config.slippage_bps + self.config.min_edge_bps

    def evaluate(self, market: MarketState, mono_ms: int, wall_ms: int) -> Signal | None:
        """At most one signal; None with the reason counted where there is none."""
        bad = self._watch(market, mono_ms, wall_ms) if self._watches else None
        bbo, reference = market.bbo, market.reference_px
        if bbo is None or reference is None or market.bbo_recv_ms is None or market.ctx_recv_ms is None:
            return None
        if bbo.bid is None or bbo.ask is None:
            self._refuse(market.coin, "one_sided")
            return None
        cost = self.cost_bps(market.coin)
        if bbo.ask.px <= reference * (1 - cost / units.BPS):
            side, level = OrderSide.BUY, bbo.ask
        elif bbo.bid.px >= reference * (1 + cost / units.BPS):
            side, level = OrderSide.SELL, bbo.bid
        else:
            return None
        if bad is None and not self._watches and self.quality.is_on:
            bad = self.quality.judge(market, mono_ms, wall_ms)
        judged = bad.value if bad is not None else self._judge(market, side, level, reference, cost, mono_ms, wall_ms)
        if isinstance(judged, str):
            self._refuse(market.coin, judged)
            return None
        return judged

    def _watch(self, market: MarketState, mono_ms: int, wall_ms: int) -> QualityGate | None:
        """Shows a frame to what remembers; the gate of quality that refuses now."""
        if self.filters.observes:
            self.filters.observe(market, mono_ms)
        return self.quality.judge(market, mono_ms, wall_ms) if self.quality.is_on else None

    def _judge(
        self,
        market: MarketState,
        side: OrderSide,
        level: Level,
        reference: Decimal,
        cost: Decimal,
        mono_ms: int,
        wall_ms: int,
    ) -> Signal | str:
        config, coin = self.config, market.coin
        bbo = market.bbo
        assert bbo is not None
        assert bbo.bid is not None
        assert bbo.ask is not None
        assert market.bbo_recv_ms is not None
        assert market.ctx_recv_ms is not None
        bbo_age, ctx_age = mono_ms - market.bbo_recv_ms, mono_ms - market.ctx_recv_ms
        if 0 < config.max_bbo_age_ms < bbo_age:
            return "stale_bbo"
        if ctx_age > config.max_ctx_age_ms:
            return "stale_reference"
        memory = self.filters.memory(coin)
        factor = liquidity_factor(level.px * level.sz, config.min_book_notional_usd, config.normal_book_notional_usd)
        edge = edge_bps(side, level.px, reference)
        seen = Dislocation(
            side=side,
            bid_px=bbo.bid.px,
            ask_px=bbo.ask.px,
            reference_px=reference,
            edge_bps=edge,
            cost_bps=cost,
            depth=factor,
            mono_ms=mono_ms,
            wall_ms=wall_ms,
            ctx_age_ms=ctx_age,
            max_ctx_age_ms=config.max_ctx_age_ms,
            reference_move=market.reference_move,
            reference_run=market.reference_run,
            reference_was=market.reference_was,
            reference_moved_ms=market.reference_moved_ms,
            last_signal_px=memory.last_reference.get(side),
            touch_since_ms=memory.touch_since_ms.get(side),
            mean_spread_bps=self.filters.mean_spread(memory),
            mean_gap_bps=self.filters.mean_gap(memory),
        )
        rejecting = self.filters.first_to_reject(seen)
        if rejecting is not None:
            return rejecting.value
        px = self._limit_price(market.spec, side, level.px, reference, cost)
        sz = self._size(market.spec, level, factor, px, reference)
        if isinstance(sz, str):
            return sz
        memory.last_reference[side] = reference
        self._sequence += 1
        fee = self.taker_fee_bps[coin]
        return Signal(
            id=f"{self._run_tag}-{self._sequence}",
            spec=market.spec,
            side=side,
            px=px,
            sz=sz,
            touch_px=level.px,
            touch_sz=level.sz,
            reference_px=reference,
            edge_bps=edge,
            cost_bps=cost,
            taker_fee_bps=fee,
            slippage_bps=config.slippage_bps,
            min_edge_bps=config.min_edge_bps,
            liquidity_factor=factor,
            bbo=bbo,
            bbo_age_ms=bbo_age,
            ctx_age_ms=ctx_age,
            detected_wall_ms=wall_ms,
            detected_mono_ms=mono_ms,
            reference_move=market.reference_move,
            last_reference_px=seen.last_signal_px,
            dislocation=seen,
        )

    def _limit_price(self, spec: MarketSpec, side: OrderSide, touch: Decimal, reference: Decimal, cost: Decimal) -> Decimal:
        """The touched price plus the slippage that the cost already pays for, rounded against us, then judged.

        Where the rounded price keeps less than cost minus that allowance, the touched price itself is the limit: it is
        on the book, so it is legal, and it was judged above (TYP-3).
        """
        allowance = min(self.config.slippage_bps, cost)
        wanted = touch * (1 + allowance / units.BPS * side.sign)
        px = units.round_price(wanted, spec.sz_decimals, up=side.is_buy)
        return px if edge_bps(side, px, reference) >= cost - allowance else touch

    def _size(self, spec: MarketSpec, level: Level, factor: Decimal, px: Decimal, reference: Decimal) -> Decimal | str:
        """Size in lots, or the reason why there is none.

        The cap is judged at the dearer of limit and reference, the minimum at the cheaper of limit and touch: the venue
        takes size x limit price (PROTOCOL 6), and a sell's limit is below the touch.
        """
        config = self.config
        floor_px = min(px, level.px)
        low = units.round_size_up(config.min_order_notional_usd / floor_px, spec.sz_decimals)
        high = units.round_size(CAP_HEADROOM * config.max_order_notional_usd / max(px, reference), spec.sz_decimals)
        if low > high:
            return "lot_above_cap"
        if low > level.sz:
            return "thin_book"
        wanted = units.round_size(config.size_alpha * factor * level.sz, spec.sz_decimals)
        sz = min(max(wanted, low), high)
        return sz if sz * floor_px >= VENUE_MIN_NOTIONAL_USD else "below_venue_minimum"

    def _refuse(self, coin: str, reason: str) -> None:
        self.rejected.setdefault(coin, Counter())[reason] += 1
        self.last_reason[coin] = reason
