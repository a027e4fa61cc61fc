"""A market source that is a list: for tests and small demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal

from hip3.core.ids import OrderSide
from hip3.exchange.seam import DexListing, TimedEvent

Reaction = Callable[[str, OrderSide, Decimal, Decimal, int], Sequence[TimedEvent]]


class ScriptedSource:
    """Emits the given `(at_ms, event)` in their order, and reacts to takes by `reaction` where one is given."""

    def __init__(
        self, dexs: Sequence[DexListing], events: Iterable[TimedEvent] = (), reaction: Reaction | None = None
    ) -> None:
        self._dexs = tuple(dexs)
        self._events = tuple(events)
        self._reaction = reaction

    def listings(self) -> Sequence[DexListing]:
        return self._dexs

    def events(self) -> Iterator[TimedEvent]:
        return iter(self._events)

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:
        return self._reaction(coin, side, px, sz, at_ms) if self._reaction is not None else ()
