"""WebSocket frames as types (PROTOCOL 2.2, 2.3): one struct per channel that the bot uses, and the event that it becomes.

A frame is told by its `channel`, so one decoding pass finds and reads it. What is not in the union `Frame` is a channel
that the bot does not use.
"""

from __future__ import annotations

from msgspec import Struct

from hip3.core.events import (
    AssetCtx,
    Bbo,
    Book,
    ChannelError,
    Level,
    OrderUpdates,
    Pong,
    PostResponse,
    Subscribed,
    UserFills,
    UserFundings,
)
from hip3.venue.hyperliquid.wire import BookData, Count, CtxData, FillRow, FundingRow, OrderWithStatus, checked_level


class BboData(Struct, gc=False):
    """`[bid, ask]`, either null (PROTOCOL 2.3)."""

    coin: str
    time: Count
    bbo: tuple[Level | None, Level | None]


class ActiveAssetCtx(Struct, gc=False):
    coin: str
    ctx: CtxData


class UserFillsData(Struct, gc=False, rename="camel"):
    user: str
    fills: list[FillRow]
    is_snapshot: bool = False


class UserFundingsData(Struct, gc=False, rename="camel"):
    user: str
    fundings: list[FundingRow]
    is_snapshot: bool = False


class SubscriptionEcho(Struct, gc=False):
    type: str
    coin: str | None = None
    user: str | None = None


class AckData(Struct, gc=False):
    method: str
    subscription: SubscriptionEcho


class PostBody(Struct):
    type: str
    payload: object = None


class PostData(Struct):
    id: Count
    response: PostBody


class BboFrame(Struct, tag_field="channel", tag="bbo", gc=False):
    data: BboData

    def event(self) -> Bbo:
        bid, ask = self.data.bbo
        if bid is not None:
            checked_level(bid)
        if ask is not None:
            checked_level(ask)
        return Bbo(self.data.coin, self.data.time, bid, ask)


class CtxFrame(Struct, tag_field="channel", tag="activeAssetCtx", gc=False):
    data: ActiveAssetCtx

    def event(self) -> AssetCtx:
        return self.data.ctx.event(self.data.coin)


class BookFrame(Struct, tag_field="channel", tag="l2Book", gc=False):
    data: BookData

    def event(self) -> Book:
        return self.data.event()


class OrderUpdatesFrame(Struct, tag_field="channel", tag="orderUpdates", gc=False):
    data: list[OrderWithStatus]

    def event(self) -> OrderUpdates:
        return OrderUpdates(tuple(row.event() for row in self.data))


class UserFillsFrame(Struct, tag_field="channel", tag="userFills", gc=False):
    data: UserFillsData

    def event(self) -> UserFills:
        user = self.data.user.lower()
        return UserFills(user, tuple(row.event(user) for row in self.data.fills), self.data.is_snapshot)


class UserFundingsFrame(Struct, tag_field="channel", tag="userFundings", gc=False):
    data: UserFundingsData

    def event(self) -> UserFundings:
        return UserFundings(self.data.user.lower(), tuple(row.event() for row in self.data.fundings), self.data.is_snapshot)


class AckFrame(Struct, tag_field="channel", tag="subscriptionResponse", gc=False):
    data: AckData

    def event(self) -> Subscribed:
        echo = self.data.subscription
        user = None if echo.user is None else echo.user.lower()
        return Subscribed(kind=echo.type, coin=echo.coin, user=user, method=self.data.method)


class PostFrame(Struct, tag_field="channel", tag="post"):
    data: PostData

    def event(self) -> PostResponse:
        body = self.data.response
        return PostResponse(self.data.id, body.type, body.payload)


class PongFrame(Struct, tag_field="channel", tag="pong", gc=False):
    def event(self) -> Pong:
        return Pong()


class ErrorFrame(Struct, tag_field="channel", tag="error", gc=False):
    data: str

    def event(self) -> ChannelError:
        return ChannelError(self.data)


Frame = (
    BboFrame
    | CtxFrame
    | BookFrame
    | OrderUpdatesFrame
    | UserFillsFrame
    | UserFundingsFrame
    | AckFrame
    | PostFrame
    | PongFrame
    | ErrorFrame
)

USED_CHANNELS = frozenset(
    {
        "bbo",
        "activeAssetCtx",
        "l2Book",
        "orderUpdates",
        "userFills",
        "userFundings",
        "subscriptionResponse",
        "post",
        "pong",
        "error",
    }
)
"""The tags of `Frame`; a test holds the two together."""


class Envelope(Struct, gc=False):
    """A frame of any channel, its data unread."""

    channel: str
