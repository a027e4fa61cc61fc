"""One market of the synthetic world: its state, what of it is visible, and how the venue would state its context.

It knows no time and schedules nothing; `synthetic.py` does.
"""

from __future__ import annotations

import math
import random
from decimal import Decimal

from attrs import define

from hip3.core.events import Level
from hip3.core.ids import OrderSide
from hip3.exchange.models import calibration as cal
from hip3.exchange.models.makers import BPS, MakerBook
from hip3.exchange.models.oracle import JumpMix, OraclePath
from hip3.exchange.seam import BookChange, CtxChange, MarketListing

# Quotes further than this from the oracle are endangered: seen by their maker, raced for by others. About the cost of
# a taker here, 2 x 0.9 bps of fee and the spread back. ASSUMED.
ENDANGERED_BPS = 6.0
# The deployer's mark input follows the basis over this time, as the venue's own mark does on its main dex. ASSUMED.
MARK_BASIS_MEMORY_S = 150


@define
class Market:
    """State of one quoted market. `mark` and `basis` (relative) are what `ctx_change` last stated."""

    model: cal.MarketModel
    path: OraclePath
    book: MakerBook
    rng: random.Random
    """Of the quotes only: the path has its own, so what accounts do never moves the oracle."""
    open_interest: float
    mark: float
    basis: float = 0.0
    last_trade: int | None = None
    pulled: OrderSide | None = None
    """A side that shows nothing for the moment."""
    racing: bool = False
    """Another taker is on its way."""


def make_market(model: cal.MarketModel, listing: MarketListing, jumps: JumpMix, seeds: random.Random) -> Market:
    """A market at its listed price. Draws two seeds from `seeds`: one for the price's path, one for the quotes."""
    path_rng, quote_rng = (random.Random(seeds.getrandbits(64)) for _ in range(2))
    px = float(listing.oracle_px)
    return Market(
        model=model,
        path=OraclePath.start(px, model.sigma_bps, jumps, path_rng),
        book=MakerBook(listing.sz_decimals, px, model.half_spread_bps, model.touch_usd, quote_rng),
        rng=quote_rng,
        open_interest=model.open_interest,
        mark=px,
    )


def endangered(market: Market) -> OrderSide | None:
    """The side whose best quote invites takers, judged by the published oracle."""
    grid, oracle = market.book.grid, market.path.oracle
    ask, bid = market.book.best_units(OrderSide.SELL), market.book.best_units(OrderSide.BUY)
    if ask is not None and grid.usd(ask) <= oracle * (1 - ENDANGERED_BPS / BPS):
        return OrderSide.SELL
    if bid is not None and grid.usd(bid) >= oracle * (1 + ENDANGERED_BPS / BPS):
        return OrderSide.BUY
    return None


def visible(market: Market, side: OrderSide, levels: int) -> tuple[Level, ...]:
    """The best `levels` of a side as a client sees them."""
    return () if market.pulled is side else market.book.depth(side, levels)


def book_change(market: Market, levels: int) -> BookChange:
    """The market's depth as an event."""
    return BookChange(
        coin=market.model.coin,
        bids=visible(market, OrderSide.BUY, levels),
        asks=visible(market, OrderSide.SELL, levels),
    )


def ctx_change(market: Market, elapsed_s: float) -> CtxChange:
    """What the deployer and the venue state: oracle, mark, open interest, premium and the funding it leads to.

    Mark: the median of the deployer's input (oracle plus mean basis) and the local mark, itself the median of best bid,
    best ask and last trade (PROTOCOL 1.5); of two numbers the median is the middle.
    """
    grid, path = market.book.grid, market.path
    fronts = [market.book.best_units(side) for side in (OrderSide.BUY, OrderSide.SELL)]
    local = None
    if fronts[0] is not None and fronts[1] is not None:
        bid, ask = grid.usd(fronts[0]), grid.usd(fronts[1])
        last = (bid + ask) / 2 if market.last_trade is None else grid.usd(market.last_trade)
        local = sorted((bid, ask, last))[1]
        basis = (bid + ask) / 2 / path.oracle - 1
        keep = math.exp(-elapsed_s / MARK_BASIS_MEMORY_S)
        market.basis = basis + (market.basis - basis) * keep
    stated = path.oracle * (1 + market.basis)
    mark = stated if local is None else (stated + local) / 2
    limit = market.mark * cal.MARK_MAX_STEP
    market.mark = min(max(mark, market.mark - limit), market.mark + limit)
    clamped = min(max(cal.FUNDING_INTEREST - market.basis, -cal.FUNDING_CLAMP), cal.FUNDING_CLAMP)
    return CtxChange(
        coin=market.model.coin,
        oracle_px=grid.decimal(grid.nearest(path.oracle)),
        mark_px=grid.decimal(grid.nearest(market.mark)),
        open_interest=grid.size(max(0, round(market.open_interest * 10**grid.sz_decimals))),
        funding=_rate(cal.FUNDING_MULTIPLIER / 8 * (market.basis + clamped)),
        premium=_rate(market.basis),
    )


def _rate(value: float) -> Decimal:
    """A rate with the ten decimals that the venue shows."""
    return Decimal(round(value * 10**10)).scaleb(-10)
