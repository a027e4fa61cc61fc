"""Makers of one synthetic market: who quotes what, around which price, and what is left of it.

Prices are integers in units of `10^-(6 - szDecimals)` and sizes integers in lots, so that a price is legal by
construction and becomes a Decimal without rounding. A maker quotes around its own belief and never crosses another's
quotes: while one maker's stale ask stands, another's better bid waits below it, as post-only orders do. This module
refuses to know time, the oracle or accounts: `synthetic.py` says when a maker thinks and what it then believes.
"""

from __future__ import annotations

import random
from decimal import Decimal

from attrs import define, field, frozen

from hip3.core.events import Level
from hip3.core.ids import OrderSide
from hip3.core.units import MAX_SIGNIFICANT_FIGURES, PERP_MAX_DECIMALS, price_decimals
from hip3.exchange.models.calibration import LEVEL_GAP_BPS, LEVEL_USD_LOG_SD, LEVEL_USD_MEDIAN, TOUCH_USD_LOG_SD

BPS = 1e4
# Rungs are cached as Levels; a drifting price would let the cache grow for ever.
MAX_CACHED_PRICES = 4096


class PriceGrid:
    """Integer prices of one market: rounding to the tick (PROTOCOL 6) and conversion to Decimal."""

    def __init__(self, sz_decimals: int) -> None:
        self.decimals = PERP_MAX_DECIMALS - sz_decimals
        self.sz_decimals = sz_decimals
        self._units_per_usd: int = 10**self.decimals
        self._cache: dict[int, Decimal] = {}

    def tick(self, units: int) -> int:
        """The tick at this price: 1 up to five significant figures, then powers of ten, at most a whole dollar."""
        power = min(len(str(units)) - MAX_SIGNIFICANT_FIGURES, self.decimals)
        tick: int = 10 ** max(0, power)
        return tick

    def nearest(self, px: float) -> int:
        """The legal price nearest to `px`; at least one unit."""
        units = max(1, round(px * self._units_per_usd))
        tick = self.tick(units)
        return round(units / tick) * tick

    def above(self, units: int) -> int:
        """The next legal price up."""
        return units + self.tick(units)

    def below(self, units: int) -> int:
        """A legal price down by one tick; not positive where there is none."""
        return units - self.tick(units)

    def usd(self, units: int) -> float:
        return units / self._units_per_usd

    def decimal(self, units: int) -> Decimal:
        """The price as the venue would state it, without trailing zeros beyond its tick."""
        known = self._cache.get(units)
        if known is None:
            if len(self._cache) >= MAX_CACHED_PRICES:
                self._cache.clear()
            exact = Decimal(units).scaleb(-self.decimals)
            known = exact.quantize(Decimal(1).scaleb(-price_decimals(exact, self.sz_decimals)))
            self._cache[units] = known
        return known

    def size(self, lots: int) -> Decimal:
        return Decimal(lots).scaleb(-self.sz_decimals)


@define
class Rung:
    """One level of one maker: price in units, size in lots, and the same as a Level."""

    units: int
    lots: int
    level: Level


@frozen
class MakerStyle:
    """How a maker quotes. `lag_scale` multiplies the configured lag; offsets are in bps from its belief."""

    name: str
    rungs: int
    inset_bps: float
    """Added to the market's half spread at the first rung."""
    lag_scale: float
    touch_sized: bool


# ASSUMED shape: a quick maker at the touch, a slow one just behind it, a deep one that holds the book.
# Together 20 levels, which is what l2Book shows.
STYLES = (
    MakerStyle("touch", rungs=2, inset_bps=0.0, lag_scale=0.4, touch_sized=True),
    MakerStyle("slow", rungs=6, inset_bps=0.5, lag_scale=1.0, touch_sized=True),
    MakerStyle("deep", rungs=14, inset_bps=2.5, lag_scale=1.0, touch_sized=False),
)


@define
class Maker:
    """A maker's quotes. `reprice_at_ms` is its pending decision, None where it is content."""

    style: MakerStyle
    belief: float
    bids: list[Rung] = field(factory=list)
    asks: list[Rung] = field(factory=list)
    reprice_at_ms: int | None = None
    hit: bool = False
    """A quote was taken since the last decision: nothing of it is refreshed before the next."""

    def side(self, side: OrderSide) -> list[Rung]:
        return self.bids if side is OrderSide.BUY else self.asks


class MakerBook:
    """The makers of one market and the book that their quotes add up to."""

    def __init__(self, sz_decimals: int, px: float, half_spread_bps: float, touch_usd: float, rng: random.Random) -> None:
        self.grid = PriceGrid(sz_decimals)
        self._lots_per_coin: int = 10**sz_decimals
        self._half_spread_bps = half_spread_bps
        self._touch_usd = touch_usd
        self._rng = rng
        self._shown: dict[OrderSide, tuple[Level, ...]] = {}
        self.makers = tuple(Maker(style, px) for style in STYLES)
        for maker in self.makers:
            self.quote(maker, px)

    def quote(self, maker: Maker, belief: float) -> bool:
        """Replaces all quotes of `maker` with fresh ones around `belief`, kept from crossing the others'.

        Returns True where another's quote held one of them back.
        """
        maker.belief = belief
        maker.hit = False
        self._shown.clear()
        # ASSUMED log-sd 0.3 of the spread from one quoting to the next; BBO has spread at one tick throughout.
        half = (self._half_spread_bps * self._rng.lognormvariate(0.0, 0.3) + maker.style.inset_bps) / BPS
        best_ask = self._best(OrderSide.SELL, maker)
        best_bid = self._best(OrderSide.BUY, maker)
        first_bid = self.grid.nearest(belief * (1 - half))
        first_ask = max(self.grid.nearest(belief * (1 + half)), self.grid.above(first_bid))
        bid = first_bid if best_ask is None else min(first_bid, self.grid.below(best_ask))
        ask = first_ask if best_bid is None else max(first_ask, self.grid.above(best_bid))
        maker.bids = self._ladder(maker.style, bid, -1)
        maker.asks = self._ladder(maker.style, ask, +1)
        return bid != first_bid or ask != first_ask

    def resize_front(self, maker: Maker, side: OrderSide) -> None:
        """Draws a new size for the maker's best rung on `side`, if it has one."""
        rungs = maker.side(side)
        if rungs:
            self._shown.pop(side, None)
            rungs[0] = self._rung(rungs[0].units, self._lots(rungs[0].units, touch=True))

    def take(self, taker: OrderSide, units: int, lots: int) -> list[Maker]:
        """Removes up to `lots` at one price from the side that `taker` hits; returns the makers that lost quotes."""
        self._shown.pop(taker.opposite(), None)
        lost = []
        for maker in self.makers:
            rungs = maker.side(taker.opposite())
            for index, rung in enumerate(rungs):
                if rung.units != units or not lots:
                    continue
                taken = min(rung.lots, lots)
                lots -= taken
                maker.hit = True
                lost.append(maker)
                rungs[index] = self._rung(units, rung.lots - taken)
            rungs[:] = [rung for rung in rungs if rung.lots]
        return lost

    def withdraw(self, maker: Maker, side: OrderSide) -> None:
        """Cancels all quotes of `maker` on `side`."""
        self._shown.pop(side, None)
        maker.side(side).clear()

    def depth(self, side: OrderSide, levels: int) -> tuple[Level, ...]:
        """The `levels` best prices of a side, best first, quotes at one price added up."""
        shown = self._shown.get(side)
        if shown is None:
            # Kept until the side changes: most updates touch one side only.
            shown = self._shown[side] = self._added_up(side)
        return shown[:levels]

    def _added_up(self, side: OrderSide) -> tuple[Level, ...]:
        by_price: dict[int, Rung] = {}
        for maker in self.makers:
            for rung in maker.side(side):
                same = by_price.get(rung.units)
                by_price[rung.units] = rung if same is None else self._rung(rung.units, rung.lots + same.lots)
        ordered = sorted(by_price, reverse=side is OrderSide.BUY)
        return tuple(by_price[units].level for units in ordered)

    def best_units(self, side: OrderSide) -> int | None:
        """The best price of a side, None where nobody quotes it."""
        return self._best(side, None)

    def _best(self, side: OrderSide, excluded: Maker | None) -> int | None:
        fronts = [m.side(side)[0].units for m in self.makers if m is not excluded and m.side(side)]
        if not fronts:
            return None
        return max(fronts) if side is OrderSide.BUY else min(fronts)

    def _ladder(self, style: MakerStyle, first: int, step: int) -> list[Rung]:
        rungs = []
        units = first
        for index in range(style.rungs):
            if units <= 0:
                break
            rungs.append(self._rung(units, self._lots(units, touch=style.touch_sized and index == 0)))
            px = self.grid.usd(units) * (1 + step * self._rng.expovariate(1 / LEVEL_GAP_BPS) / BPS)
            next_tick = self.grid.above(units) if step > 0 else self.grid.below(units)
            units = max(self.grid.nearest(px), next_tick) if step > 0 else min(self.grid.nearest(px), next_tick)
        return rungs

    def _lots(self, units: int, *, touch: bool) -> int:
        usd = (
            self._touch_usd * self._rng.lognormvariate(0.0, TOUCH_USD_LOG_SD)
            if touch
            else LEVEL_USD_MEDIAN * self._rng.lognormvariate(0.0, LEVEL_USD_LOG_SD)
        )
        return max(1, round(usd / self.grid.usd(units) * self._lots_per_coin))

    def _rung(self, units: int, lots: int) -> Rung:
        return Rung(units, lots, Level(self.grid.decimal(units), self.grid.size(lots)))
