"""Facts about our own orders and account, in the order in which they became known. The position task applies them."""

from __future__ import annotations

from attrs import frozen

from hip3.core.events import AccountState, Fill, OrderUpdate, OrderUpdates, UserFills, UserFundings
from hip3.core.ids import ClientOrderId
from hip3.core.orders import OrderOutcome


@frozen
class OrderSent:
    """Its bytes are being handed to the socket."""

    cloid: ClientOrderId
    at_ms: int


@frozen
class OrderDropped:
    """It never left: purged, refused by a queue, or the socket was dead before any byte."""

    cloid: ClientOrderId
    reason: str


@frozen
class OrderAnswered:
    """What the answer to its post says of it, late answers included. `at_ms` is wall time."""

    cloid: ClientOrderId
    outcome: OrderOutcome
    at_ms: int


@frozen
class CancelAnswered:
    """What the answer to its post says of a cancel. `at_ms` is wall time."""

    cloid: ClientOrderId
    outcome: OrderOutcome
    at_ms: int


@frozen
class OrderDoubted:
    """No answer in time, or the link broke after sending."""

    cloid: ClientOrderId
    reason: str


@frozen
class OrderAbsent:
    """Proved never to have been admitted."""

    cloid: ClientOrderId
    proof: str


@frozen
class OrderStatusRead:
    """The venue's answer to an `orderStatus` query, read together with the account's fills since the order was made."""

    cloid: ClientOrderId
    update: OrderUpdate
    fills: tuple[Fill, ...]


@frozen
class LinkUp:
    """The account session is subscribed; own events are complete from here on."""


@frozen
class LinkDown:
    """The account session is gone; own events may be missed from here on."""


@frozen
class AccountRead:
    """The venue's state of every dex traded, read after the session was subscribed."""

    states: tuple[AccountState, ...]
    open_orders: tuple[OrderUpdate, ...]


@frozen
class FillsRead:
    """Fills of the account that were asked for because frames may have failed to bring them."""

    fills: tuple[Fill, ...]


Fact = (
    OrderSent
    | OrderDropped
    | OrderAnswered
    | CancelAnswered
    | OrderDoubted
    | OrderAbsent
    | OrderStatusRead
    | OrderUpdates
    | UserFills
    | UserFundings
    | LinkUp
    | LinkDown
    | AccountRead
    | FillsRead
)


def event_id(fact: Fact) -> str:
    """What an audit row names as its cause: the kind of the fact and what of it tells it from others."""
    match fact:
        case OrderUpdates(updates):
            return "OrderUpdates:" + ",".join(f"{u.oid}@{u.status_time_ms}" for u in updates[:3])
        case UserFills(_, fills, is_snapshot):
            return "UserFills:snapshot" if is_snapshot else "UserFills:" + ",".join(str(fill.tid) for fill in fills[:3])
        case UserFundings(_, payments, is_snapshot):
            newest = max((p.time_ms for p in payments), default=0)
            return f"UserFundings:{'snapshot' if is_snapshot else newest}"
        case AccountRead(states, _):
            return f"AccountRead:{max((s.time_ms for s in states), default=0)}"
        case FillsRead() | LinkUp() | LinkDown():
            return type(fact).__name__
        case _:
            return f"{type(fact).__name__}:{fact.cloid}"
