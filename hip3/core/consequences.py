"""What follows from a fact that the books take in: the vocabulary between the bookkeeper and the tasks that act on it."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from hip3.core.events import Fill, Funding, OrderUpdate
from hip3.core.ledger import TrackedOrder
from hip3.core.trades import Trade


@frozen
class Filled:
    """One fill was booked. `order` is None for a fill that no order of this run explains."""

    fill: Fill
    order: TrackedOrder | None


@frozen
class Funded:
    """A funding payment was booked on a position that is held."""

    payment: Funding


@frozen
class Closed:
    """A position ended."""

    trade: Trade


@frozen
class OrderEnded:
    """An order is out of the pending ones."""

    order: TrackedOrder


@frozen
class OrderRests:
    """The venue has it, unexecuted."""

    order: TrackedOrder


@frozen
class OrderRejected:
    order: TrackedOrder
    error: str


@frozen
class Doubted:
    """Something is not known and must be asked: an order, or the size of a coin that does not add up."""

    subject: str
    why: str


@frozen
class Corrected:
    """The venue's statement replaced our size of a market."""

    coin: str
    ours: Decimal
    venue: Decimal


@frozen
class Adopted:
    """The first statement of a run that has no earlier books: taken as it is."""

    coin: str
    venue: Decimal


@frozen
class StrayOrder:
    """An order that rests at the venue and is in no book of this run: an earlier run's, or somebody else's."""

    update: OrderUpdate


@frozen
class FillsSnapshot:
    """The venue's history of fills came; READY's `fills_snapshot` holds."""

    count: int


@frozen
class PositionsAgree:
    """Our sizes equal the venue's statement; READY's `position_synced` holds."""

    time_ms: int


Consequence = (
    Filled
    | Funded
    | Closed
    | OrderEnded
    | OrderRests
    | OrderRejected
    | Doubted
    | Corrected
    | Adopted
    | StrayOrder
    | FillsSnapshot
    | PositionsAgree
)
