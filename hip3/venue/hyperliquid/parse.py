"""Text of the venue to events of the core: WebSocket frames, and answers of `/info` (PROTOCOL 2, 3).

`parse_frame` takes a frame as text or bytes. The REST readers take the body either as the raw bytes of the HTTP answer or
as JSON that was decoded before (the payload of a WebSocket `post`); bytes are the faster way.

One error leaves this module, `WireError`, and only for text that cannot be what it claims to be. An unknown status, fill
`dir`, channel or error text is data and passes through (TYP-5). An empty answer is only ever what the venue called empty:
`null`, an error text or a shape that is not the expected one raises, so a failed query never reads as "nothing there".
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

import msgspec
from attrs import frozen

from hip3.core.events import AccountState, AssetCtx, Book, Fill, Ignored, OrderUpdate, VenueEvent
from hip3.venue.hyperliquid import frames, wire
from hip3.venue.hyperliquid.errors import WireError

T = TypeVar("T")
R = TypeVar("R")

_FRAME: msgspec.json.Decoder[frames.Frame] = msgspec.json.Decoder(frames.Frame)
_ENVELOPE = msgspec.json.Decoder(frames.Envelope)
_GREETING = "Websocket connection"
"""Plain text that the venue once sent first: `Websocket connection established.` (PROTOCOL 2.1)."""


def parse_frame(raw: str | bytes) -> VenueEvent:
    """The event of one WebSocket frame. A channel that the bot does not use, and the greeting, are `Ignored`.

    Raises WireError for text that is no frame and for a frame of a used channel that breaks its form; never anything else.
    """
    try:
        return _FRAME.decode(raw).event()
    except wire.UNREADABLE as e:
        return _other_frame(raw, e)


def _other_frame(raw: str | bytes, problem: Exception) -> VenueEvent:
    greeting = _GREETING if isinstance(raw, str) else _GREETING.encode()
    if raw.startswith(greeting):  # type: ignore[arg-type]  # both have the type of `raw`, which mypy cannot see
        return Ignored("greeting")
    try:
        channel = _ENVELOPE.decode(raw).channel
    except wire.UNREADABLE as e:
        raise WireError("frame", f"is not a message with a channel: {e}", raw) from None
    if channel in frames.USED_CHANNELS:
        raise WireError(f"frame of channel {channel}", str(problem), raw) from None
    return Ignored(channel)


def _read(request: str, body: object, kind: type[T], convert: Callable[[T], R]) -> R:
    """`convert` of `body` read as `kind`: bytes are JSON text, anything else was decoded before. Raises WireError."""
    try:
        return convert(wire.read(body, kind))
    except wire.UNREADABLE as e:
        raise WireError(f"answer to {request}", str(e), body) from None


def parse_book(body: object) -> Book:
    """`l2Book`. Raises WireError also for `null`, which is how the venue answers for a coin that it does not know."""
    return _read("l2Book", body, wire.BookData, wire.BookData.event)


def parse_open_orders(body: object) -> tuple[OrderUpdate, ...]:
    """`frontendOpenOrders` or `openOrders`: every row as an order of status `open`, trigger orders included.

    `children` of a row are not repeated: those that rest have rows of their own, and cancelling the parent takes the
    others with it (PROTOCOL 4.3).
    """

    def convert(rows: list[wire.OrderRow]) -> tuple[OrderUpdate, ...]:
        return tuple(row.update("open", row.timestamp) for row in rows)

    return _read("frontendOpenOrders", body, list[wire.OrderRow], convert)


def parse_order_status(body: object) -> OrderUpdate | None:
    """`orderStatus`: the order, or None for `unknownOid`.

    None soon after sending proves nothing: the index lags by about a second (PROTOCOL 3).
    """

    def convert(answer: wire.OrderStatusAnswer) -> OrderUpdate | None:
        if answer.status == "unknownOid":
            return None
        if answer.order is None:
            raise ValueError("expected `order` or the status `unknownOid`")
        return answer.order.event()

    return _read("orderStatus", body, wire.OrderStatusAnswer, convert)


def parse_user_fills(body: object, user: str | None = None) -> tuple[Fill, ...]:
    """`userFills` or `userFillsByTime`, in the order of the answer.

    With `user` a fill against somebody else's liquidation is not marked as one of ours; without it every fill that
    names a liquidation is.
    """
    owner = None if user is None else user.lower()

    def convert(rows: list[wire.FillRow]) -> tuple[Fill, ...]:
        return tuple(row.event(owner) for row in rows)

    return _read("userFills", body, list[wire.FillRow], convert)


def parse_account_state(dex: str, body: object) -> AccountState:
    """`clearinghouseState` of `dex` (the answer does not say which dex it is of)."""
    return _read("clearinghouseState", body, wire.AccountData, lambda data: data.event(dex))


def parse_asset_ctxs(meta_and_ctxs: object) -> dict[str, AssetCtx]:
    """`metaAndAssetCtxs`: context of every coin of the dex, delisted ones included."""

    def convert(answer: tuple[wire.MetaNames, list[wire.CtxData]]) -> dict[str, AssetCtx]:
        meta, ctxs = answer
        if len(meta.universe) != len(ctxs):
            raise ValueError(f"{len(meta.universe)} markets and {len(ctxs)} contexts do not belong together")
        return {m.name: ctx.event(m.name) for m, ctx in zip(meta.universe, ctxs, strict=True)}

    return _read("metaAndAssetCtxs", meta_and_ctxs, tuple[wire.MetaNames, list[wire.CtxData]], convert)


def parse_all_mids(body: object) -> dict[str, Decimal]:
    """`allMids` of one dex: the mid in USD by coin name, the last trade where the book has none; some coins are absent."""

    def convert(mids: dict[str, Decimal]) -> dict[str, Decimal]:
        return {coin: wire.number(px) for coin, px in mids.items()}

    return _read("allMids", body, dict[str, Decimal], convert)


@frozen
class UserFees:
    """An account's base rates as fractions (0.00045 is 4.5 bp), tier and staking discount included (PROTOCOL 9)."""

    cross_rate: Decimal
    add_rate: Decimal


def parse_fees(body: object) -> UserFees:
    """`userFees`."""

    def convert(data: wire.FeesData) -> UserFees:
        return UserFees(wire.number(data.user_cross_rate), wire.number(data.user_add_rate))

    return _read("userFees", body, wire.FeesData, convert)


@frozen
class RateLimit:
    """The address budget: `used` of `cap` lifetime requests, `surplus` bought in addition (PROTOCOL 8)."""

    cum_vlm: Decimal
    used: int
    cap: int
    surplus: int

    @property
    def remaining(self) -> int:
        """Requests left; never negative."""
        return max(0, self.cap + self.surplus - self.used)


def parse_rate_limit(body: object) -> RateLimit:
    """`userRateLimit`."""

    def convert(data: wire.RateLimitData) -> RateLimit:
        cum_vlm = wire.number(data.cum_vlm)
        return RateLimit(cum_vlm, data.n_requests_used, data.n_requests_cap, data.n_requests_surplus)

    return _read("userRateLimit", body, wire.RateLimitData, convert)


@frozen
class UserRole:
    """What an address is; the set of roles is open. `account` is the owner of an agent or sub-account, lower case."""

    role: str
    account: str | None


def parse_user_role(body: object) -> UserRole:
    """`userRole`."""

    def convert(data: wire.RoleData) -> UserRole:
        owner = None if data.data is None else data.data.user or data.data.master
        return UserRole(data.role, None if owner is None else owner.lower())

    return _read("userRole", body, wire.RoleData, convert)


@frozen
class ExtraAgent:
    """A named agent of an account; `address` in lower case, `valid_until_ms` None where it does not expire."""

    name: str
    address: str
    valid_until_ms: int | None


def parse_extra_agents(body: object) -> tuple[ExtraAgent, ...]:
    """`extraAgents`."""

    def convert(rows: list[wire.AgentData]) -> tuple[ExtraAgent, ...]:
        return tuple(ExtraAgent(row.name, row.address.lower(), row.valid_until) for row in rows)

    return _read("extraAgents", body, list[wire.AgentData], convert)


@frozen
class ExchangeStatus:
    """The venue's clock, and what it says of itself (the form of `special` is not documented; None is normal)."""

    time_ms: int
    special: object


def parse_exchange_status(body: object) -> ExchangeStatus:
    """`exchangeStatus`."""

    def convert(data: wire.StatusData) -> ExchangeStatus:
        return ExchangeStatus(data.time, data.special_statuses)

    return _read("exchangeStatus", body, wire.StatusData, convert)
