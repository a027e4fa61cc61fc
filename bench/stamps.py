"""Hooks at the operating system's socket calls. Import before trio, which takes hold of them when it is imported."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

Hook = Callable[[int, int], None]
"""Told the file descriptor and the number of bytes, after the call returned."""


class Hooks:
    """Who is told; nobody until a benchmark sets it."""

    received: Hook | None = None
    sent: Hook | None = None


_receive, _send = socket.socket.recv, socket.socket.send


def _recv(sock: socket.socket, *args: Any) -> bytes:
    data = _receive(sock, *args)
    if Hooks.received is not None:
        Hooks.received(sock.fileno(), len(data))
    return data


def _sent(sock: socket.socket, *args: Any) -> int:
    count = _send(sock, *args)
    if Hooks.sent is not None:
        Hooks.sent(sock.fileno(), count)
    return count


socket.socket.recv = _recv  # type: ignore[method-assign, assignment]
socket.socket.send = _sent  # type: ignore[method-assign, assignment]
