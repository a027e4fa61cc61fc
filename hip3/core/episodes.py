"""Episodes of dislocation: how often the quotes stood away from the reference, counted once each.

A dislocation is quoted many times while it lasts, and counting updates counts it dozens of times (LESSONS 25). An
*episode* is a maximal run of consecutive BBO updates of one market whose edge against the latest reference is at least
the threshold. This module decides nothing about trading: it knows no cost, no filter, no size and no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal

from attrs import define, frozen

from hip3.core.events import AssetCtx, Bbo, Level, MarketEvent
from hip3.core.ids import OrderSide
from hip3.core.market import Reference
from hip3.core.units import BPS, to_bps


class QuoteSource(enum.Enum):
    """Which frames count as BBO updates. The values are the venue's channels."""

    BBO = "bbo"
    BOOK = "l2Book"
    """The best levels of `l2Book`, for recordings without `bbo`; at best two updates a second (PROTOCOL 2.3)."""


@frozen
class Episode:
    """One finished run. Times are the venue's; it lasts until the update that ended it, or the last one seen."""

    coin: str
    side: OrderSide
    """The taker's side at the widest edge: BUY where the ask stood below the reference."""
    start_ms: int
    end_ms: int
    updates: int
    max_edge_bps: Decimal

    @property
    def duration_ms(self) -> int:
        return self.end_ms - self.start_ms


@define
class Tally:
    """Counts of one market. `bbo_updates` are those that had a reference to be judged against."""

    bbo_updates: int = 0
    before_reference: int = 0
    reference_updates: int = 0
    one_sided: int = 0
    episodes: int = 0
    max_edge_bps: Decimal | None = None


@define
class _Market:
    tally: Tally
    reference: Decimal | None = None
    side: OrderSide = OrderSide.BUY
    start_ms: int = 0
    last_ms: int = 0
    updates: int = 0
    widest: Decimal = Decimal(0)


class EpisodeCounter:
    """Counts episodes per market from a stream of events.

    `threshold_bps` is inclusive and compared without division, so no rounding decides. A market without a reference yet
    has no episodes. A one-sided book has the edge of the side that is there (a bid above the reference is one, with or
    without an ask); an empty book has none and ends a run. A context that lacks the reference leaves the last one, as
    the venue states what it knows.
    """

    def __init__(self, reference: Reference, threshold_bps: Decimal, *, quotes: QuoteSource = QuoteSource.BBO) -> None:
        if not threshold_bps.is_finite() or threshold_bps < 0:
            raise ValueError(f"threshold_bps: expected a finite number of at least 0, got {threshold_bps}")
        self.reference = reference
        self.threshold_bps = threshold_bps
        self.quotes = quotes
        self._markets: dict[str, _Market] = {}

    @property
    def bbo_updates(self) -> int:
        """Updates judged: those before a market's first reference are not among them."""
        return sum(m.tally.bbo_updates for m in self._markets.values())

    @property
    def reference_updates(self) -> int:
        return sum(m.tally.reference_updates for m in self._markets.values())

    @property
    def episodes(self) -> int:
        """Episodes begun, a running one included."""
        return sum(m.tally.episodes for m in self._markets.values())

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """Counts by coin, in order of first appearance."""
        return {coin: market.tally for coin, market in self._markets.items()}

    def observe(self, event: MarketEvent) -> Episode | None:
        """Takes the next event; returns the episode that it ended, if it did."""
        if isinstance(event, AssetCtx):
            self._observe_ctx(event)
            return None
        ended = None
        if isinstance(event, Bbo):
            if self.quotes is QuoteSource.BBO:
                ended = self._quote(event.coin, event.time_ms, event.bid, event.ask)
            return ended
        bid = event.bids[0] if event.bids else None
        ask = event.asks[0] if event.asks else None
        if self.quotes is QuoteSource.BOOK:
            ended = self._quote(event.coin, event.time_ms, bid, ask)
        # After the quote: a book judged against its own middle could never stand away from it.
        if self.reference is Reference.MID and bid and ask:
            self._refer(event.coin, (bid.px + ask.px) / 2)
        return ended

    def finish(self) -> tuple[Episode, ...]:
        """Ends what is still running, at the last update seen; returns those episodes."""
        running = [(coin, m) for coin, m in self._markets.items() if m.updates]
        return tuple(_end(coin, market, market.last_ms) for coin, market in running)

    def _observe_ctx(self, ctx: AssetCtx) -> None:
        match self.reference:
            case Reference.ORACLE:
                value = ctx.oracle_px
            case Reference.MARK:
                value = ctx.mark_px
            case Reference.MID:
                value = ctx.mid_px
        if value is not None and value > 0:
            self._refer(ctx.coin, value)

    def _market(self, coin: str) -> _Market:
        market = self._markets.get(coin)
        if market is None:
            market = self._markets[coin] = _Market(Tally())
        return market

    def _refer(self, coin: str, value: Decimal) -> None:
        market = self._market(coin)
        market.reference = value
        market.tally.reference_updates += 1

    def _quote(self, coin: str, time_ms: int, bid: Level | None, ask: Level | None) -> Episode | None:
        market = self._market(coin)
        tally = market.tally
        if market.reference is None:
            tally.before_reference += 1
            return None
        tally.bbo_updates += 1
        if bid is None or ask is None:
            tally.one_sided += 1
        gap, side = _widest_gap(market.reference, bid, ask)
        if gap is not None:
            edge_bps = to_bps(gap, market.reference)
            tally.max_edge_bps = edge_bps if tally.max_edge_bps is None else max(tally.max_edge_bps, edge_bps)
            if gap * BPS >= self.threshold_bps * market.reference:
                _extend(market, time_ms, edge_bps, side)
                return None
        return _end(coin, market, time_ms) if market.updates else None


def _widest_gap(reference: Decimal, bid: Level | None, ask: Level | None) -> tuple[Decimal | None, OrderSide]:
    below = None if ask is None else reference - ask.px
    above = None if bid is None else bid.px - reference
    if below is None or (above is not None and above > below):
        return above, OrderSide.SELL
    return below, OrderSide.BUY


def _extend(market: _Market, time_ms: int, edge_bps: Decimal, side: OrderSide) -> None:
    if not market.updates:
        market.tally.episodes += 1
        market.start_ms = time_ms
    if not market.updates or edge_bps > market.widest:
        market.widest = edge_bps
        market.side = side
    market.updates += 1
    market.last_ms = time_ms


def _end(coin: str, market: _Market, end_ms: int) -> Episode:
    episode = Episode(coin, market.side, market.start_ms, end_ms, market.updates, market.widest)
    market.updates = 0
    return episode
