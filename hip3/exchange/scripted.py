"""A market source that is a list, and a clock for virtual time: for tests and small demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal

import trio

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


class TrioClock:
    """A clock that follows Trio's, virtual where Trio's is; `start_ms` is the Unix time at which it was made."""

    def __init__(self, start_ms: int) -> None:
        self._start_s = trio.current_time()
        self._start_ms = start_ms

    def wall_ms(self) -> int:
        return self._start_ms + self.mono_ms()

    def mono_ms(self) -> int:
        # Rounded: a sleep of 0.085 s from 0.1 s ends at 0.18499..., which must not read as 184.
        return round((trio.current_time() - self._start_s) * 1000)
