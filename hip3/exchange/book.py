"""The book of one market: other people's depth as the source states it, and the resting orders of our accounts.

Price-time priority. At one price the external depth stands ahead of our orders: whether a real order would have had a
better place is unknown, and the worse assumption does not flatter. Orders that wait for their trigger are kept beside
both sides. Refuses to know accounts, margin or fees.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

from attrs import define, frozen

from hip3.core.events import Level
from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.units import ZERO
from hip3.exchange.requests import Trigger


@define(eq=False)
class Order:
    """One order of an account, from its execution to its end and after. `sz` is what remains, `orig_sz` what was asked."""

    oid: int
    address: str
    asset: int
    coin: str
    side: OrderSide
    px: Decimal
    sz: Decimal
    orig_sz: Decimal
    tif: TimeInForce
    reduce_only: bool
    cloid: str | None
    created_ms: int
    status: str = "open"
    status_ms: int = 0
    filled_sz: Decimal = ZERO
    trigger: Trigger | None = None
    has_fired: bool = False

    @property
    def is_open(self) -> bool:
        return self.status in ("open", "triggered")

    @property
    def is_waiting(self) -> bool:
        """A trigger order that has not fired: nobody can trade with it."""
        return self.trigger is not None and not self.has_fired


@frozen
class Quote:
    """Who stands first in line on a side: an account's order, or external depth where `order` is None."""

    px: Decimal
    sz: Decimal
    order: Order | None


@frozen
class DepthLevel:
    """One level as the venue shows it, `n` orders in `sz`."""

    px: Decimal
    sz: Decimal
    n: int


def _better(side: OrderSide, a: Decimal, b: Decimal) -> bool:
    return a > b if side.is_buy else a < b


def crosses(side: OrderSide, limit_px: Decimal, opposite_px: Decimal) -> bool:
    """True where an order of `side` at `limit_px` would trade with a quote at `opposite_px`."""
    return limit_px >= opposite_px if side.is_buy else limit_px <= opposite_px


class Book:
    """Both sides; `side` always names the side that rests."""

    def __init__(self) -> None:
        self._external: dict[OrderSide, tuple[Level, ...]] = {OrderSide.BUY: (), OrderSide.SELL: ()}
        self._taken: dict[OrderSide, dict[Decimal, Decimal]] = {OrderSide.BUY: {}, OrderSide.SELL: {}}
        self._resting: dict[OrderSide, list[Order]] = {OrderSide.BUY: [], OrderSide.SELL: []}
        self._waiting: list[Order] = []
        self.hidden: OrderSide | None = None
        """A side whose external depth is gone for as long as this says so (the one-sided book of SIM-4)."""

    def replace_external(self, bids: tuple[Level, ...], asks: tuple[Level, ...]) -> None:
        """The source's new depth. A level whose stated size did not change keeps what was taken from it."""
        for side, levels in ((OrderSide.BUY, bids), (OrderSide.SELL, asks)):
            taken = self._taken[side]
            if taken:  # rare: most of the depth is never touched by our accounts
                before = {level.px: level.sz for level in self._external[side]}
                same = {level.px for level in levels if before.get(level.px) == level.sz}
                self._taken[side] = {px: sz for px, sz in taken.items() if px in same}
            self._external[side] = levels

    def take_external(self, side: OrderSide, px: Decimal, sz: Decimal) -> None:
        """Removes `sz` from the external level at `px`; it must be there."""
        left = next((left for at, left in self._quoted(side) if at == px), ZERO)
        if left < sz:
            raise ValueError(f"{sz} taken at {px}, where {left} is left")
        self._taken[side][px] = self._taken[side].get(px, ZERO) + sz

    def _quoted(self, side: OrderSide) -> Iterator[tuple[Decimal, Decimal]]:
        """External price and size left, best first, empty levels left out."""
        if side is self.hidden:
            return
        taken = self._taken[side]
        for level in self._external[side]:
            left = level.sz - taken[level.px] if level.px in taken else level.sz
            if left > 0:
                yield level.px, left

    def first_external(self, side: OrderSide) -> Quote | None:
        """The best external level with anything left."""
        for px, left in self._quoted(side):
            return Quote(px, left, None)
        return None

    def first_resting(self, side: OrderSide) -> Order | None:
        return self._resting[side][0] if self._resting[side] else None

    def first(self, side: OrderSide) -> Quote | None:
        """Who a taker meets first on `side`; external depth before our orders at one price."""
        external, order = self.first_external(side), self.first_resting(side)
        if order is not None and (external is None or _better(side, order.px, external.px)):
            return Quote(order.px, order.sz, order)
        return external

    def best(self, side: OrderSide) -> Decimal | None:
        quote = self.first(side)
        return quote.px if quote is not None else None

    def mid(self) -> Decimal | None:
        """Middle of the best prices; None where a side is empty."""
        bid, ask = self.best(OrderSide.BUY), self.best(OrderSide.SELL)
        return (bid + ask) / 2 if bid is not None and ask is not None else None

    def depth(self, side: OrderSide, levels: int) -> list[DepthLevel]:
        """The best `levels` prices of a side, external and ours summed."""
        sizes = {px: (left, 1) for px, left in islice(self._quoted(side), levels)}
        for order in self._resting[side]:
            sz, n = sizes.get(order.px, (ZERO, 0))
            sizes[order.px] = (sz + order.sz, n + 1)
        ranked = sorted(sizes.items(), reverse=side.is_buy) if self._resting[side] else list(sizes.items())
        return [DepthLevel(px, sz, n) for px, (sz, n) in ranked[:levels]]

    def add(self, order: Order) -> None:
        """Rests an order behind those of its price; one that waits for its trigger is kept apart, unseen."""
        if order.is_waiting:
            self._waiting.append(order)
            return
        line = self._resting[order.side]
        place = len(line)
        while place > 0 and _better(order.side, order.px, line[place - 1].px):
            place -= 1
        line.insert(place, order)

    def remove(self, order: Order) -> None:
        (self._waiting if order.is_waiting else self._resting[order.side]).remove(order)

    def waiting(self) -> Iterator[Order]:
        """Trigger orders that have not fired, oldest first; a copy, so the caller may remove."""
        return iter(list(self._waiting))

    def resting(self, side: OrderSide) -> Iterator[Order]:
        """Our resting orders in priority; a copy, so the caller may remove."""
        return iter(list(self._resting[side]))
