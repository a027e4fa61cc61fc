"""The seam between a source of market data and the simulated exchange.

A source says what the rest of the world does: the depth that other people quote, the oracle, the trades among others.
The exchange owns everything about its accounts. A source refuses to know accounts, orders or the wall clock: its time
is milliseconds since the start of the run, and it is pulled lazily, so a run of hours needs no memory for its events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from hip3.core.events import Level
from hip3.core.ids import OrderSide


@frozen
class MarketListing:
    """One entry of a dex's universe, as the venue's `meta` would state it (PROTOCOL 1.3).

    `coin` is the full wire name (`xyz:SNDK`). `oracle_px` seeds oracle and mark until the source's first CtxChange.
    """

    coin: str
    sz_decimals: int
    max_leverage: int
    oracle_px: Decimal
    margin_mode: str = "cross"
    """`cross` (the flag is absent on the wire), `noCross` or `strictIsolated`."""
    fee_scale: Decimal | None = None
    """The deployer's fee scale; None on the main dex."""
    growth_mode: bool = False
    delisted: bool = False
    prev_day_px: Decimal | None = None
    """None: the same as `oracle_px`."""
    oi_cap_usd: Decimal | None = None
    """Cap of the open interest in USD; None is uncapped."""


@frozen
class DexListing:
    """A dex and its universe in listing order, which is what asset ids count (PROTOCOL 1.2); delisted keep their slot.

    `name` is empty for the venue's own dex.
    """

    name: str
    universe: tuple[MarketListing, ...]
    full_name: str = ""
    fee_scale: Decimal = Decimal(1)
    """Deployer fee scale of the whole dex, where `MarketListing.fee_scale` does not say otherwise."""
    collateral_token: int = 0
    """Spot token index of the collateral; 0 is USDC."""


@frozen
class BookChange:
    """The complete external depth of one market (top N levels), best first; an empty side is a one-sided book.

    What an order of an account took from a level stays gone until a BookChange states another size for that price, or
    the price left the depth and came back.
    """

    coin: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@frozen
class CtxChange:
    """The context of one market; None leaves the last value. `open_interest` in coins, `funding` the hourly rate."""

    coin: str
    oracle_px: Decimal | None = None
    mark_px: Decimal | None = None
    open_interest: Decimal | None = None
    funding: Decimal | None = None
    premium: Decimal | None = None


@frozen
class Print:
    """A trade among others; `side` is the aggressor's. It moves no external depth: the next BookChange does."""

    coin: str
    side: OrderSide
    px: Decimal
    sz: Decimal


SourceEvent = BookChange | CtxChange | Print
TimedEvent = tuple[int, SourceEvent]
"""Milliseconds since the start of the run, and what happened."""


class MarketSource(Protocol):
    """What the exchange needs from a model or a recording."""

    def listings(self) -> Sequence[DexListing]:
        """Every dex in deployment order, the venue's own (`name=""`) first, decoys and delisted markets included."""
        ...

    def events(self) -> Iterator[TimedEvent]:
        """The world's events with non-decreasing times; called once per run, pulled lazily, may be endless."""
        ...

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:
        """External depth was taken by an account (`side` is the taker's); returns how the makers react, after `at_ms`.

        The exchange merges the answer into the stream of `events()`. A source that does not react returns ().
        """
        ...
