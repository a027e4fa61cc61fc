"""Sockets that a test can shut: the link is up, and no byte goes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, field
from trio_websocket import WebSocketConnection

from hip3.io.dial import Dial


class Valve(trio.abc.Stream):
    """A socket that takes no bytes while it is shut."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self.shut = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        while self.shut:  # noqa: ASYNC110 - the test's hand on the valve, no event announces it
            await trio.sleep(0.01)
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


@define
class Plumbing:
    """Puts a valve into each connection."""

    valves: list[Valve] = field(factory=list)

    def through(self, dial: Dial) -> Dial:
        @asynccontextmanager
        async def dialed() -> AsyncIterator[WebSocketConnection]:
            async with dial() as ws:
                valve = Valve(ws._stream)
                ws._stream = valve  # the library has no other way to a socket of one's own
                self.valves.append(valve)
                yield ws

        return dialed

    def shut(self, *, shut: bool = True) -> None:
        """Of all connections that there are now."""
        for valve in self.valves:
            valve.shut = shut
