"""Opens WebSockets to real endpoints, with the library's dangerous defaults replaced and the socket in our hands.

trio-websocket 0.12 leaves a socket open where the server closes first, so the stream is ours and is closed here whatever
happens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, ConnectionTimeout, HandshakeError, WebSocketConnection, wrap_client_stream

DIAL_S = 10.0
CLOSE_S = 1.0
# The library's defaults: over 1 MiB it hangs up, which a userFills snapshot of 2000 rows comes near; with a queue of 1 it
# answers no ping while the queue is full.
MAX_MESSAGE_BYTES = 16 << 20
MESSAGE_QUEUE = 4096
RECEIVE_BYTES = 64 << 10

Dial = Callable[[], AbstractAsyncContextManager[WebSocketConnection]]

CONNECTION_FAILURES = (
    OSError,
    ConnectionClosed,
    ConnectionTimeout,
    HandshakeError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)
"""What a connection may die of, while it is opened and later; perhaps within a group."""


@asynccontextmanager
async def dial(url: str) -> AsyncIterator[WebSocketConnection]:
    """A connection to a `ws://` or `wss://` URL; raises one of CONNECTION_FAILURES, perhaps in a group."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "wss"
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with trio.fail_after(DIAL_S):
        stream: trio.abc.Stream
        if tls:
            stream = await trio.open_ssl_over_tcp_stream(host, parts.port or 443, https_compatible=True)
        else:
            stream = await trio.open_tcp_stream(host, parts.port or 80)
    async with stream, trio.open_nursery() as nursery:
        with trio.fail_after(DIAL_S):
            ws = await wrap_client_stream(
                nursery,
                stream,
                parts.netloc,
                resource,
                message_queue_size=MESSAGE_QUEUE,
                max_message_size=MAX_MESSAGE_BYTES,
                receive_buffer_size=RECEIVE_BYTES,
            )
        try:
            yield ws
        finally:
            with trio.move_on_after(CLOSE_S):
                await ws.aclose()
            nursery.cancel_scope.cancel()


def dialer(url: str) -> Dial:
    """Dials `url` anew at each call."""
    return lambda: dial(url)
