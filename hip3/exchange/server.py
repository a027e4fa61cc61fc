"""The exchange on a loopback port: `/info`, `/exchange` and `/ws` by Starlette on hypercorn's Trio worker.

One port, because the official SDK derives its WebSocket URL from the base URL. Refuses any address that is not loopback:
this venue has no money in it and no protection around it.
"""

from __future__ import annotations

import ipaddress
import math
import socket

import trio
from hypercorn.config import Config, Sockets
from hypercorn.trio.run import worker_serve
from hypercorn.utils import wrap_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from hip3.exchange.answers import Cut
from hip3.exchange.exchange import Exchange
from hip3.exchange.http import Routes
from hip3.exchange.ws import TransportClosed, may_connect, serve_connection

BACKLOG = 128
GRACE_S = 0.3
"""How long open connections may take when the server stops; the whole stop is under a second."""
IDLE_HTTP_S = 75.0
"""Keep-alive of idle HTTP connections."""
ABNORMAL = 1011  # the nearest a server may send to 1006, which stands for "no close frame at all"


class PortBusy(Exception):
    """Something else listens there."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is in use; stop what listens there or choose another port (0 takes a free one)")
        self.host = host
        self.port = port


class NotLoopback(Exception):
    """An address that other machines could reach."""

    def __init__(self, host: str) -> None:
        super().__init__(f"the exchange listens on loopback only, found {host!r}; use 127.0.0.1, ::1 or localhost")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket on a loopback address; port 0 takes a free one. Raises NotLoopback, PortBusy."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise NotLoopback(host) from None
    if not ip.is_loopback:
        raise NotLoopback(host)
    sock = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise PortBusy(host, port) from error
    return sock


class _CutResponse(Response):
    """Promises a body and sends none, which makes the server drop the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})


class _StarletteTransport:
    """A WebSocket of Starlette as the session's transport."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send_text(self, text: str) -> None:
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError, trio.BrokenResourceError, trio.ClosedResourceError):
            raise TransportClosed from None

    async def receive_text(self) -> str:
        try:
            message = await self._websocket.receive()
        except RuntimeError:  # Starlette's word for a connection that is over
            raise TransportClosed from None
        text = message.get("text")
        if not isinstance(text, str):  # a disconnect, or bytes, which the venue does not take
            raise TransportClosed
        return text

    async def close(self) -> None:
        try:
            await self._websocket.close(ABNORMAL)
        except (WebSocketDisconnect, RuntimeError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client went first


def application(exchange: Exchange) -> Starlette:
    """The ASGI application of an exchange."""
    routes = Routes(exchange)

    async def post(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        answer = await routes.handle(request.url.path, content_type, await request.body())
        if isinstance(answer, Cut):
            return _CutResponse()
        return Response(answer.body, answer.status, media_type=answer.content_type)

    async def websocket(connection: WebSocket) -> None:
        if not may_connect(exchange):
            await connection.close()
            return
        await connection.accept()
        await serve_connection(exchange, _StarletteTransport(connection))

    return Starlette(
        routes=[
            Route("/info", post, methods=["POST"]),
            Route("/exchange", post, methods=["POST"]),
            WebSocketRoute("/ws", websocket),
        ]
    )


async def serve(
    exchange: Exchange, host: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Runs the exchange and serves it until cancelled; `started` gives the real port. Raises NotLoopback, PortBusy."""
    with bind(host, port) as listener:
        real_port: int = listener.getsockname()[1]
        config = Config()
        config.errorlog = None  # quiet: what happened is in the exchange's own log
        config.accesslog = None
        config.graceful_timeout = GRACE_S
        config.shutdown_timeout = GRACE_S
        config.keep_alive_timeout = IDLE_HTTP_S
        config.websocket_ping_interval = None
        app = wrap_app(application(exchange), math.inf, "asgi")  # type: ignore[arg-type] # WSGI only, unused
        async with trio.open_nursery() as nursery:
            await nursery.start(exchange.run)
            await nursery.start(_run_hypercorn, app, config, Sockets([], [listener], []))
            exchange.note(f"listening on {host}:{real_port}")
            task_status.started(real_port)


async def _run_hypercorn(app: object, config: Config, sockets: Sockets, *, task_status: trio.TaskStatus[object]) -> None:
    await worker_serve(app, config, sockets=sockets, task_status=task_status)  # type: ignore[arg-type] # untyped seam
