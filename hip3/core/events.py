"""What the venue tells us, as plain values. The venue package makes them from frames; the core consumes them.

Prices, sizes and fees are `Decimal`; `*_ms` is Unix milliseconds by the venue's clock unless it says otherwise.
Enumerations of the venue stay text here (`status`, `dir`): they are open sets (TYP-5).
"""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from hip3.core.ids import OrderSide


@frozen
class Level:
    """One price level: price and total size resting there."""

    px: Decimal
    sz: Decimal


@frozen
class Bbo:
    """Best bid and offer of one market; either side may be missing."""

    coin: str
    time_ms: int
    bid: Level | None
    ask: Level | None


@frozen
class AssetCtx:
    """Context of one market. It has no time of its own; its age is the time since it was received."""

    coin: str
    oracle_px: Decimal | None
    mark_px: Decimal | None
    mid_px: Decimal | None
    open_interest: Decimal | None
    funding: Decimal | None


@frozen
class Book:
    """Depth of one market, best level first on both sides."""

    coin: str
    time_ms: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@frozen
class OrderUpdate:
    """One element of an `orderUpdates` frame, or an order read over REST. `sz` is what remains, `orig_sz` what was asked."""

    coin: str
    side: OrderSide
    limit_px: Decimal
    sz: Decimal
    orig_sz: Decimal
    oid: int
    cloid: str | None
    status: str
    status_time_ms: int
    reduce_only: bool = False
    is_trigger: bool = False
    """Waits for its trigger price. Frames never say so, `frontendOpenOrders` does."""


@frozen
class Fill:
    """One fill. Unique by (coin, time_ms, tid); `fee` is negative for a rebate; `crossed` means we took liquidity."""

    coin: str
    px: Decimal
    sz: Decimal
    side: OrderSide
    time_ms: int
    start_position: Decimal
    dir: str
    closed_pnl: Decimal
    oid: int
    tid: int
    crossed: bool
    fee: Decimal
    fee_token: str
    cloid: str | None = None
    liquidation: bool = False

    @property
    def key(self) -> tuple[str, int, int]:
        return (self.coin, self.time_ms, self.tid)

    @property
    def signed_sz(self) -> Decimal:
        return self.sz if self.side is OrderSide.BUY else -self.sz


@frozen
class OrderUpdates:
    updates: tuple[OrderUpdate, ...]


@frozen
class UserFills:
    """`is_snapshot` is True on the first message after a subscribe only; the key is absent later (PROTOCOL 2.2)."""

    user: str
    fills: tuple[Fill, ...]
    is_snapshot: bool


@frozen
class Funding:
    """One hourly payment on a position. `usd` is positive where the account received it; `szi` the size it was paid on."""

    coin: str
    time_ms: int
    usd: Decimal
    szi: Decimal


@frozen
class UserFundings:
    """`is_snapshot` is True on the first message after a subscribe only: that one is history (PROTOCOL 2.2)."""

    user: str
    payments: tuple[Funding, ...]
    is_snapshot: bool


@frozen
class Subscribed:
    """The venue's ack. The echo is normalised, so it is matched on kind, coin and user, never on equality."""

    kind: str
    coin: str | None
    user: str | None
    method: str = "subscribe"


@frozen
class PostResponse:
    """Answer to one post. `kind` is `action`, `info` or `error`; `payload` is the decoded JSON of the answer's body."""

    id: int
    kind: str
    payload: object


@frozen
class Pong:
    pass


@frozen
class ChannelError:
    """Text of the `error` channel; it has no id, the offending request is quoted in the text."""

    text: str


@frozen
class Ignored:
    """A frame of a channel that the bot does not use."""

    channel: str


@frozen
class Position:
    """A position as the venue states it; `szi` is signed, a flat coin has no entry."""

    coin: str
    szi: Decimal
    entry_px: Decimal | None
    unrealized_pnl: Decimal
    margin_used: Decimal
    leverage: int


@frozen
class AccountState:
    """`clearinghouseState` of one dex at `time_ms`."""

    dex: str
    time_ms: int
    account_value: Decimal
    withdrawable: Decimal
    positions: tuple[Position, ...]


MarketEvent = Bbo | AssetCtx | Book
AccountEvent = OrderUpdates | UserFills | UserFundings
VenueEvent = MarketEvent | AccountEvent | Subscribed | PostResponse | Pong | ChannelError | Ignored
