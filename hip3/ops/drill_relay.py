"""A relay on loopback before a paper exchange, whose connections can be cut: for the drill of a lost link (OPS-8)."""

from __future__ import annotations

import trio
from attrs import define, field

CHUNK = 65_536


@define
class Relay:
    """Passes bytes to and from 127.0.0.1:`port`."""

    port: int
    _open: set[trio.CancelScope] = field(factory=set, init=False)

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        """Serves until cancelled; starts with its own port."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        own_port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve, listeners)
            task_status.started(own_port)

    def cut(self) -> int:
        """Closes every connection without a word; the number of them. New ones are taken as before."""
        scopes = list(self._open)
        for scope in scopes:
            scope.cancel()
        return len(scopes)

    async def _serve(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                async with (
                    client,
                    await trio.open_tcp_stream("127.0.0.1", self.port) as venue,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(_pass, client, venue, scope)
                    nursery.start_soon(_pass, venue, client, scope)
            except* OSError:
                pass  # the exchange is gone: so is this connection
            finally:
                self._open.discard(scope)


async def _pass(source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(CHUNK):
            await target.send_all(data)
    except trio.BrokenResourceError:
        pass
    scope.cancel()
