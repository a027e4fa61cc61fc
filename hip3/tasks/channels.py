"""The channels between tasks: each has a name, a capacity and a policy for when it is full (DESIGN 4).

State conflates, facts queue, nothing is unbounded. A fact that does not fit ends trading: losing a fill is worse.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Generic, TypeVar

import trio
from attrs import define, field, frozen

from hip3.core.detector import Signal
from hip3.core.events import PostResponse

T = TypeVar("T")


@frozen
class LinkBroken:
    """The account link is gone: no post in flight on it will be answered."""

    reason: str


Answer = PostResponse | LinkBroken
"""What lies in the executor's `answers`."""


class WhenFull(enum.Enum):
    HALT = "HALT (INTERNAL_ERROR)"
    REPLACE = "the newest replaces, counted"


@frozen
class ChannelSpec:
    """Declaration of one channel; `docs/architecture.md` is checked against these."""

    name: str
    source: str
    target: str
    carries: str
    capacity: int | None
    """None: one per market."""
    when_full: WhenFull


SIGNALS = ChannelSpec("signals", "ingest", "executor", "signals", None, WhenFull.REPLACE)
FACTS = ChannelSpec("facts", "ingest, executor, reconcile", "position", "order and fill facts", 1024, WhenFull.HALT)
EXITS = ChannelSpec("exits", "timers", "executor", "exits, read before signals", 64, WhenFull.HALT)
ANSWERS = ChannelSpec("answers", "ingest", "executor", "answers to posts and lost links", 256, WhenFull.HALT)
EVENTS = ChannelSpec("events", "position, executor", "risk", "execution events", 1024, WhenFull.HALT)
CHANNELS = (SIGNALS, FACTS, EXITS, ANSWERS, EVENTS)


class ChannelFull(Exception):
    """A channel of facts is full: its reader is stuck, and what cannot be handed over would be lost."""

    def __init__(self, spec: ChannelSpec) -> None:
        super().__init__(f"channel {spec.name} ({spec.target}) is full at {spec.capacity}: its reader does not keep up")
        self.spec = spec


class Mailbox(Generic[T]):
    """A bounded memory channel with its declaration and the most that ever lay in it."""

    def __init__(self, spec: ChannelSpec) -> None:
        assert spec.capacity is not None
        self.spec = spec
        self.peak = 0
        self._send, self._receive = trio.open_memory_channel[T](spec.capacity)

    def put(self, item: T) -> None:
        """Hands over in this step. Raises ChannelFull."""
        try:
            self._send.send_nowait(item)
        except trio.WouldBlock:
            raise ChannelFull(self.spec) from None
        self.peak = max(self.peak, len(self))

    def __len__(self) -> int:
        return self._receive.statistics().current_buffer_used

    async def get(self) -> T:
        return await self._receive.receive()

    def get_nowait(self) -> T | None:
        """The next item, or None where there is none."""
        try:
            return self._receive.receive_nowait()
        except trio.WouldBlock:
            return None

    def __aiter__(self) -> AsyncIterator[T]:
        return self  # a generator in its place would outlive a reader that crashes, and be closed by nobody

    async def __anext__(self) -> T:
        return await self._receive.receive()


class Doorbell:
    """Wakes one task. Ringing twice wakes it once; a ring while it is awake is not lost."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[None](1)

    def ring(self) -> None:
        with suppress(trio.WouldBlock):  # it is ringing already
            self._send.send_nowait(None)

    async def wait(self) -> None:
        await self._receive.receive()


@define
class SignalSlots:
    """One signal per market; a newer one replaces an older one that nobody has taken (MD-1)."""

    replaced: int = 0
    peak: int = 0
    _slots: dict[str, Signal] = field(factory=dict)

    def put(self, signal: Signal) -> Signal | None:
        """Puts a signal in its market's place; returns the one that it replaced."""
        old = self._slots.pop(signal.coin, None)
        self._slots[signal.coin] = signal
        self.replaced += old is not None
        self.peak = max(self.peak, len(self._slots))
        return old

    def take(self) -> list[Signal]:
        """All that wait, oldest first."""
        if not self._slots:
            return []
        signals = list(self._slots.values())
        self._slots.clear()
        return signals
