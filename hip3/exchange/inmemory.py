"""The same handlers without sockets: WebSockets over trio memory streams, HTTP through an httpx transport.

For virtual time: nothing here touches the operating system, so the autojump clock can run ahead. Refuses to be a second
implementation: every byte goes through the session and the routes that the real server uses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import trio
import trio.testing
import trio_websocket

from hip3.exchange.answers import Cut
from hip3.exchange.exchange import Exchange
from hip3.exchange.http import Routes
from hip3.exchange.ws import TransportClosed, may_connect, serve_connection


class ConnectRefused(OSError):
    """The exchange does not accept the connection (limit or fault); an OSError, as a socket would raise."""


class _StreamTransport:
    """A server-side trio-websocket as the session's transport; closing drops the stream without a close frame."""

    def __init__(self, connection: trio_websocket.WebSocketConnection, stream: trio.abc.Stream) -> None:
        self._connection = connection
        self._stream = stream

    async def send_text(self, text: str) -> None:
        try:
            await self._connection.send_message(text)
        except (trio_websocket.ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            raise TransportClosed from None

    async def receive_text(self) -> str:
        try:
            message = await self._connection.get_message()
        except trio_websocket.ConnectionClosed:
            raise TransportClosed from None
        return message if isinstance(message, str) else message.decode(errors="replace")

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


class InMemory:
    """An exchange within reach of one program. `run` must run while anything is connected."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._routes = Routes(exchange)
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drives the exchange and its sessions until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._exchange.run)
            task_status.started()
            await trio.sleep_forever()

    async def open_stream(self) -> trio.abc.Stream:
        """The client's end of a new connection to `/ws`, the server waiting for the handshake. Raises ConnectRefused."""
        await trio.lowlevel.checkpoint()
        if self._nursery is None:
            raise RuntimeError("InMemory.run has not been started; start it in a nursery first")
        if not may_connect(self._exchange):
            raise ConnectRefused("the exchange refuses the connection")
        client, server = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, server)
        return client

    async def connect_ws(self, nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
        """An open client connection that lives in the caller's nursery. Raises ConnectRefused."""
        stream = await self.open_stream()
        # The annotation asks for a socket; any trio stream works, and the library's own tests use memory streams.
        return await trio_websocket.wrap_client_stream(nursery, stream, "exchange.invalid", "/ws")  # type: ignore[arg-type]

    def dial(self) -> AbstractAsyncContextManager[trio_websocket.WebSocketConnection]:
        """A client connection for the length of a block; what a bot's links use in place of a URL. Raises ConnectRefused."""
        return self._dial()

    @asynccontextmanager
    async def _dial(self) -> AsyncIterator[trio_websocket.WebSocketConnection]:
        async with trio.open_nursery() as nursery:
            connection = await self.connect_ws(nursery)
            try:
                yield connection
            finally:
                nursery.cancel_scope.cancel()

    def transport(self) -> httpx.AsyncBaseTransport:
        """For `httpx.AsyncClient(transport=..., base_url="http://exchange.invalid")`."""
        return _HttpTransport(self._routes)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            try:
                request = await trio_websocket.wrap_server_stream(nursery, stream)
                connection = await request.accept()
            except (trio_websocket.HandshakeError, trio.BrokenResourceError, trio.ClosedResourceError):
                nursery.cancel_scope.cancel()
                return
            await serve_connection(self._exchange, _StreamTransport(connection, stream))
            nursery.cancel_scope.cancel()


class _HttpTransport(httpx.AsyncBaseTransport):
    """Requests straight to the routes; a cut connection is a ReadError."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        read_s = request.extensions.get("timeout", {}).get("read")
        with trio.move_on_after(read_s if read_s is not None else float("inf")):
            answer = await self._routes.handle(request.url.path, request.headers.get("content-type", ""), body)
            if isinstance(answer, Cut):
                raise httpx.ReadError("the exchange cut the connection", request=request)
            headers = {"content-type": answer.content_type}
            return httpx.Response(answer.status, headers=headers, text=answer.body, request=request)
        raise httpx.ReadTimeout("the exchange did not answer", request=request)
