"""What a block of the exchange did, as values: the engine emits them, the wire layer turns them into frames."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from hip3.core.events import Fill, Funding, OrderUpdate
from hip3.core.ids import OrderSide
from hip3.exchange.book import Order
from hip3.exchange.market import Trade


@frozen
class OrderChanged:
    """One element of an `orderUpdates` frame of `address`, as the order stood at that moment."""

    address: str
    update: OrderUpdate
    created_ms: int


@frozen
class Filled:
    address: str
    fill: Fill


@frozen
class FundingPaid:
    address: str
    payment: Funding
    rate: Decimal


@frozen
class Traded:
    """A public trade, ours or others'."""

    trade: Trade


@frozen
class NonUserCanceled:
    """An exchange-side cancel; not sent for reduceOnlyCanceled (PROTOCOL 7.2)."""

    address: str
    coin: str
    oid: int


@frozen
class ExternalTaken:
    """External depth went to an account; `side` is the taker's. The source may react."""

    coin: str
    side: OrderSide
    px: Decimal
    sz: Decimal


Effect = OrderChanged | Filled | FundingPaid | Traded | NonUserCanceled | ExternalTaken


def update_of(order: Order) -> OrderUpdate:
    """The order as `orderUpdates` states it now."""
    return OrderUpdate(
        coin=order.coin,
        side=order.side,
        limit_px=order.px,
        sz=order.sz,
        orig_sz=order.orig_sz,
        oid=order.oid,
        cloid=order.cloid,
        status=order.status,
        status_time_ms=order.status_ms,
        reduce_only=order.reduce_only,
    )
