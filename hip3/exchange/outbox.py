"""Frames that wait for one client: market data conflates, facts queue, and both are bounded.

State frames have a key (channel and coin); a newer one takes the place of the one that waits, so their number is bounded
by the subscriptions. Facts (fills, order updates, trades, answers) are never dropped: one more than the bound and the
session is closed, because a client that silently misses a fill is worse off than one that must reconnect.
"""

from __future__ import annotations

from collections import OrderedDict

import trio
from attrs import frozen


@frozen
class Frame:
    """Text for the wire. `key` is None for a fact, else what a newer frame replaces. `spared` skips the faults."""

    channel: str
    text: str
    key: str | None = None
    spared: bool = False


class Outbox:
    """One client's queue; `put` is synchronous, one task takes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: OrderedDict[str | int, Frame] = OrderedDict()
        self._facts = 0
        self._serial = 0
        self._news = trio.Event()
        self.overflowed = False
        self.peak = 0
        self.conflated = 0

    def put(self, frame: Frame) -> None:
        """Queues a frame; over the bound of facts everything is dropped and `overflowed` is set."""
        if self.overflowed:
            return
        if frame.key is not None:
            self.conflated += frame.key in self._frames
            self._frames[frame.key] = frame
        elif self._facts >= self._capacity:
            self.overflowed = True
            self._frames.clear()
        else:
            self._facts += 1
            self._serial += 1
            self._frames[self._serial] = frame
        self.peak = max(self.peak, len(self._frames))
        self._news.set()

    async def take(self) -> Frame | None:
        """The next frame in order; None once the box overflowed."""
        while not self._frames and not self.overflowed:
            self._news = trio.Event()
            await self._news.wait()
        if self.overflowed:
            return None
        _, frame = self._frames.popitem(last=False)
        self._facts -= frame.key is None
        return frame
