"""A WebSocket link and a peer whose every move the test decides, in memory."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio
import trio.testing
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream, wrap_server_stream

from hip3.core.events import VenueEvent
from hip3.core.journal import Journal
from hip3.fsm.connection import ConnectionState
from hip3.io.clock import TrioClock
from hip3.io.link import Link, LinkConfig, SharedLimits
from hip3.venue.hyperliquid import subscriptions
from hip3.venue.hyperliquid.subscriptions import Subscription

Behaviour = Callable[[WebSocketConnection], Awaitable[None]]
USER = "0x" + "Ab" * 20
ACCOUNT = (subscriptions.order_updates(USER), subscriptions.user_fills(USER))
BBO = '{"channel":"bbo","data":{"coin":"BTC","time":%d,"bbo":[{"px":"1.0","sz":"1.0","n":1},null]}}'


@define
class Consumer:
    """Writes down what the link tells, with the virtual second."""

    calls: list[tuple[str, float]] = field(factory=list)
    events: list[VenueEvent] = field(factory=list)
    reasons: list[str] = field(factory=list)

    def on_event(self, event: VenueEvent, recv_mono_ms: int) -> None:
        self.events.append(event)

    def on_subscribing(self) -> None:
        self.calls.append(("subscribing", trio.current_time()))

    def on_live(self) -> None:
        self.calls.append(("live", trio.current_time()))

    def on_lost(self, reason: str) -> None:
        self.calls.append(("lost", trio.current_time()))
        self.reasons.append(reason)

    def times(self, what: str) -> list[float]:
        return [at for name, at in self.calls if name == what]


class FullBuffer(trio.abc.Stream):
    """A socket whose buffer is full after so many writes: what is written then waits for ever."""

    def __init__(self, inner: trio.abc.Stream, takes: int) -> None:
        self._inner = inner
        self._takes = takes

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._takes == 0:
            await trio.sleep_forever()
        self._takes -= 1
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


@define
class Peer:
    """The venue's end. `behaviour` serves each connection; `dials` are the times at which somebody dialled."""

    behaviour: Behaviour
    refuses: bool = False
    takes: int | None = None
    """So many writes of the client and no byte after them, the handshake included; None takes all."""
    dials: list[float] = field(factory=list)

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[WebSocketConnection]:
        self.dials.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.refuses:
            raise OSError("connection refused")
        near, server = trio.testing.memory_stream_pair()
        client: trio.abc.Stream = FullBuffer(near, self.takes) if self.takes is not None else near
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, server)
            # Annotated as a socket's stream; any stream works, and the library's own tests use others.
            ws = await wrap_client_stream(nursery, client, "venue.invalid", "/ws")  # type: ignore[arg-type]
            try:
                yield ws
            finally:
                nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            ws = await request.accept()
            try:
                await self.behaviour(ws)
            except ConnectionClosed:
                pass
            finally:
                await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()


async def acknowledge(ws: WebSocketConnection, count: int) -> None:
    """Acks the next `count` subscriptions in the venue's normal form, addresses in lower case."""
    for _ in range(count):
        request = json.loads(await ws.get_message())
        echo = {k: v.lower() if k == "user" else v for k, v in request["subscription"].items()} | {"extra": None}
        data = {"method": "subscribe", "subscription": echo}
        await ws.send_message(json.dumps({"channel": "subscriptionResponse", "data": data}))


async def polite(ws: WebSocketConnection) -> None:
    """Acks two subscriptions and answers every ping."""
    await acknowledge(ws, 2)
    await answer_pings(ws)


async def answer_pings(ws: WebSocketConnection) -> None:
    while True:
        if json.loads(await ws.get_message()) == {"method": "ping"}:
            await ws.send_message('{"channel":"pong"}')


async def mute(ws: WebSocketConnection) -> None:
    """Acks two subscriptions and never says a word again, whatever it is sent."""
    await acknowledge(ws, 2)
    while True:
        await ws.get_message()


@define
class Rig:
    """A link under test with everything around it."""

    link: Link
    consumer: Consumer
    journal: Journal
    limits: SharedLimits


@asynccontextmanager
async def linked(
    peer: Peer,
    wanted: Sequence[Subscription] = ACCOUNT,
    *,
    require_all: bool = True,
    config: LinkConfig | None = None,
    limits: SharedLimits | None = None,
) -> AsyncIterator[Rig]:
    """A running link to `peer`."""
    consumer, journal, shared = Consumer(), Journal(), limits or SharedLimits()
    link = Link(
        "account",
        peer.dial,
        wanted,
        consumer,
        clock=TrioClock.starting_at(1_767_225_600_000),
        rng=random.Random(7),
        journal=journal,
        limits=shared,
        require_all_acks=require_all,
        config=config,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        yield Rig(link, consumer, journal, shared)
        nursery.cancel_scope.cancel()
    assert link.state is ConnectionState.DOWN
