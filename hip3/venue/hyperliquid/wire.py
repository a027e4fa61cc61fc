"""The venue's JSON as types (PROTOCOL 2, 3): what each row looks like and what it becomes in the core.

Typed decoding goes from text straight to `Decimal`, so no float ever exists. Unknown keys are ignored and optional ones
may be missing, because the venue adds and moves fields (PROTOCOL 1.2). Enumerations stay text (TYP-5).

Refused, with ValueError: numbers that are infinite, NaN or absurdly large or small (`Decimal` would accept them from text
and fail later, inside a decision), and levels whose price is not positive.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from hip3.core.events import (
    AccountState,
    AssetCtx,
    Book,
    Fill,
    Funding,
    Level,
    OrderUpdate,
    Position,
)
from hip3.core.ids import OrderSide

Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
"""Ids, times and counters: they must fit the 64-bit integers of the store."""

_MAX_MAGNITUDE = 40
"""The core's arithmetic has 40 digits (`units.EXACT`); the widest number seen on the wire has 22."""


T = TypeVar("T")

UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)
"""All that reading foreign text can raise: bad JSON or types, nesting, lone surrogates, absurd numbers."""


def read(body: object, kind: type[T]) -> T:
    """`body` as `kind`: bytes are JSON text, anything else was decoded before. Raises one of UNREADABLE."""
    return msgspec.json.decode(body, type=kind) if isinstance(body, bytes) else msgspec.convert(body, type=kind)


def number(value: Decimal) -> Decimal:
    """`value` where it is an ordinary number; raises ValueError for NaN, infinity and magnitudes beyond 1e±40."""
    if value.is_finite() and -_MAX_MAGNITUDE < value.adjusted() < _MAX_MAGNITUDE:
        return value
    raise ValueError("a number is not finite or beyond any price, size or amount")


def _optional(value: Decimal | None) -> Decimal | None:
    return None if value is None else number(value)


def checked_level(level: Level) -> Level:
    if number(level.px) <= 0 or number(level.sz) < 0:
        raise ValueError("a level has a price that is not positive or a negative size")
    return level


class CtxData(Struct, gc=False, rename="camel"):
    """Prices of one market; the recordings and some markets lack some of them."""

    oracle_px: Decimal | None = None
    mark_px: Decimal | None = None
    mid_px: Decimal | None = None
    open_interest: Decimal | None = None
    funding: Decimal | None = None

    def event(self, coin: str) -> AssetCtx:
        return AssetCtx(
            coin,
            _optional(self.oracle_px),
            _optional(self.mark_px),
            _optional(self.mid_px),
            _optional(self.open_interest),
            _optional(self.funding),
        )


class BookData(Struct, gc=False):
    """`levels` is `[bids, asks]`, best first; the REST answer has the same form."""

    coin: str
    time: Count
    levels: tuple[list[Level], list[Level]]

    def event(self) -> Book:
        bids, asks = self.levels
        return Book(self.coin, self.time, tuple(map(checked_level, bids)), tuple(map(checked_level, asks)))


class OrderRow(Struct, gc=False, rename="camel"):
    """An order in `orderUpdates`, `openOrders`, `frontendOpenOrders` and `orderStatus`; `sz` is what remains."""

    coin: str
    side: OrderSide
    limit_px: Decimal
    sz: Decimal
    oid: Count
    timestamp: Count
    orig_sz: Decimal
    cloid: str | None = None
    reduce_only: bool = False
    is_trigger: bool = False
    """Only `frontendOpenOrders` says so (PROTOCOL 3)."""

    def update(self, status: str, status_time_ms: int) -> OrderUpdate:
        return OrderUpdate(
            coin=self.coin,
            side=self.side,
            limit_px=number(self.limit_px),
            sz=number(self.sz),
            orig_sz=number(self.orig_sz),
            oid=self.oid,
            cloid=self.cloid,
            status=status,
            status_time_ms=status_time_ms,
            reduce_only=self.reduce_only,
            is_trigger=self.is_trigger,
        )


class OrderWithStatus(Struct, gc=False, rename="camel"):
    order: OrderRow
    status: str
    status_timestamp: Count

    def event(self) -> OrderUpdate:
        return self.order.update(self.status, self.status_timestamp)


class OrderStatusAnswer(Struct, gc=False):
    """`order` is there where `status` is `order`; `unknownOid` has nothing."""

    status: str
    order: OrderWithStatus | None = None


class LiquidationData(Struct, gc=False, rename="camel"):
    liquidated_user: str | None = None


class FillRow(Struct, gc=False, rename="camel"):
    """One fill of `userFills`, `userFillsByTime` or the stream (PROTOCOL 2.3)."""

    coin: str
    px: Decimal
    sz: Decimal
    side: OrderSide
    time: Count
    start_position: Decimal
    dir: str
    closed_pnl: Decimal
    oid: Count
    crossed: bool
    fee: Decimal
    tid: Count
    fee_token: str
    cloid: str | None = None
    liquidation: LiquidationData | None = None

    def event(self, user: str | None) -> Fill:
        """`user` (lower case) tells a liquidation of ours from a fill against somebody else's."""
        return Fill(
            coin=self.coin,
            px=number(self.px),
            sz=number(self.sz),
            side=self.side,
            time_ms=self.time,
            start_position=number(self.start_position),
            dir=self.dir,
            closed_pnl=number(self.closed_pnl),
            oid=self.oid,
            tid=self.tid,
            crossed=self.crossed,
            fee=number(self.fee),
            fee_token=self.fee_token,
            cloid=self.cloid,
            liquidation=self._is_ours(user),
        )

    def _is_ours(self, user: str | None) -> bool:
        if self.liquidation is None:
            return False
        who = self.liquidation.liquidated_user
        return who is None or user is None or who.lower() == user


class FundingRow(Struct, gc=False):
    """One payment of `userFundings` (PROTOCOL 2.3); what a payer pays is negative."""

    time: Count
    coin: str
    usdc: Decimal
    szi: Decimal

    def event(self) -> Funding:
        return Funding(self.coin, self.time, number(self.usdc), number(self.szi))


class LeverageData(Struct, gc=False):
    value: Count


class PositionData(Struct, gc=False, rename="camel"):
    coin: str
    szi: Decimal
    leverage: LeverageData
    unrealized_pnl: Decimal
    margin_used: Decimal
    entry_px: Decimal | None = None

    def event(self) -> Position:
        return Position(
            coin=self.coin,
            szi=number(self.szi),
            entry_px=_optional(self.entry_px),
            unrealized_pnl=number(self.unrealized_pnl),
            margin_used=number(self.margin_used),
            leverage=self.leverage.value,
        )


class AssetPosition(Struct, gc=False):
    position: PositionData


class MarginSummary(Struct, gc=False, rename="camel"):
    account_value: Decimal


class AccountData(Struct, gc=False, rename="camel"):
    """`clearinghouseState` (PROTOCOL 3)."""

    margin_summary: MarginSummary
    withdrawable: Decimal
    asset_positions: list[AssetPosition]
    time: Count

    def event(self, dex: str) -> AccountState:
        return AccountState(
            dex=dex,
            time_ms=self.time,
            account_value=number(self.margin_summary.account_value),
            withdrawable=number(self.withdrawable),
            positions=tuple(p.position.event() for p in self.asset_positions),
        )


# Answers of /info that the core has no type for.


class FeesData(Struct, gc=False, rename="camel"):
    user_cross_rate: Decimal
    user_add_rate: Decimal


class RateLimitData(Struct, gc=False, rename="camel"):
    cum_vlm: Decimal
    n_requests_used: Count
    n_requests_cap: Count
    n_requests_surplus: Count = 0


class RoleOwner(Struct, gc=False):
    user: str | None = None
    master: str | None = None


class RoleData(Struct, gc=False):
    role: str
    data: RoleOwner | None = None


class AgentData(Struct, gc=False, rename="camel"):
    name: str
    address: str
    valid_until: Count | None = None


class StatusData(Struct, gc=False, rename="camel"):
    time: Count
    special_statuses: object = None


class UniverseName(Struct, gc=False):
    name: str


class MetaNames(Struct, gc=False):
    universe: list[UniverseName]
