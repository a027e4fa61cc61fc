"""What we ask of the venue: order and cancel intents, and what became of them."""

from __future__ import annotations

import enum
from decimal import Decimal

from attrs import frozen

from hip3.core.ids import ClientOrderId, MarketSpec, OrderSide, TimeInForce


@frozen
class OrderIntent:
    """One order, complete before it is queued: the price is legal, the size is in lots, the id is final.

    `expires_after_ms` (Unix ms) makes absence after it a proof that the order never was; every entry carries one.
    """

    cloid: ClientOrderId
    spec: MarketSpec
    side: OrderSide
    sz: Decimal
    px: Decimal
    tif: TimeInForce
    reduce_only: bool
    created_at_ms: int
    signal_id: str | None = None
    expires_after_ms: int | None = None
    edge_bps: Decimal | None = None
    """Of an entry's signal, at the touched price, before cost."""
    reference_px: Decimal | None = None
    trigger_px: Decimal | None = None
    """Makes it a stop (EXIT-5): the venue holds it back until the mark has come down (a sell) or up (a buy) to this price,
    then executes it at once with `px` as the bound."""

    @property
    def is_stop(self) -> bool:
        return self.trigger_px is not None

    @property
    def may_be_resent(self) -> bool:
        """Where its fate is not known. An entry could execute twice; a stop could rest twice under one id (PROTOCOL 5.4)."""
        return self.reduce_only and self.trigger_px is None

    @property
    def coin(self) -> str:
        return self.spec.key.coin

    @property
    def notional(self) -> Decimal:
        return self.sz * self.px


@frozen
class CancelIntent:
    """Cancels one order, by cloid where it has one, else by oid."""

    spec: MarketSpec
    cloid: str | None
    oid: int | None


class OutcomeKind(enum.Enum):
    """The four things that can be known about an order after a post (POST-2)."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    IN_DOUBT = "in_doubt"


@frozen
class OrderOutcome:
    """What one post says about one of its orders.

    CONFIRMED with `filled_sz` is a fill, perhaps partial (an IOC's rest is gone); CONFIRMED without it rests with `oid`.
    """

    kind: OutcomeKind
    oid: int | None = None
    filled_sz: Decimal | None = None
    avg_px: Decimal | None = None
    error: str | None = None
