"""A local socket that takes an operator's commands: one JSON line in, one JSON object out, then it hangs up (OPS-1).

Mode 0600, and the kernel says who is at the other end: only the user whose process this is. Who gave a command is that
user's name, never one that the command states (LESSONS 37). What a command does is `commands.py`'s business.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from attrs import define

from hip3.ops.local_socket import LocalSocket, converse, encode, open_local_socket

SOCKET_NAME = "control.sock"
WITHIN_S = 1.0
"""A client that has not sent its line, or not taken its answer, within so long is hung up on."""
MOST_REQUEST_BYTES = 16 * 1024
"""Ours: a command with a reason of a page fits."""
MOST_CLIENTS = 16
"""At once: one that connects and says nothing must not keep a kill waiting."""

Answer = Callable[[bytes, str], Mapping[str, object]]
"""Gets the request and the user who sent it. Called in one step."""


def control_path(state: Path) -> Path:
    """Where a bot of this state folder takes commands."""
    return state / SOCKET_NAME


@define
class ControlSocket:
    """Takes commands of one user until cancelled; then the socket file is gone."""

    socket: LocalSocket
    uid: int

    async def serve(self, answer: Answer) -> None:
        """Each client in a task of its own, each bounded in bytes and time."""
        limit = trio.CapacityLimiter(MOST_CLIENTS)
        try:
            async with trio.open_nursery() as clients:
                while True:
                    await limit.acquire_on_behalf_of(borrower := object())
                    try:
                        stream = await self.socket.listener.accept()
                    except OSError:
                        limit.release_on_behalf_of(borrower)
                        await trio.sleep(WITHIN_S)  # no file handle left: the next try waits
                        continue
                    clients.start_soon(self._serve_one, stream, answer, limit, borrower)
        finally:
            self.close()

    async def _serve_one(
        self, stream: trio.SocketStream, answer: Answer, limit: trio.CapacityLimiter, borrower: object
    ) -> None:
        try:
            with suppress(trio.BrokenResourceError), trio.move_on_after(WITHIN_S):
                await self._converse(stream, answer)
            await trio.aclose_forcefully(stream)
        finally:
            limit.release_on_behalf_of(borrower)

    async def _converse(self, stream: trio.SocketStream, answer: Answer) -> None:
        uid = peer_uid(stream.socket)
        if uid != self.uid:
            refusal = f"user {user_name(uid)} may not command a process of {user_name(self.uid)}"
            await stream.send_all(encode("the answer", lambda: {"error": refusal}))
            return
        request = b""
        while b"\n" not in request and len(request) <= MOST_REQUEST_BYTES:
            chunk = await stream.receive_some(4096)
            if not chunk:
                return  # it hung up without a whole line: nothing was commanded
            request += chunk
        who = user_name(uid)
        if len(request) > MOST_REQUEST_BYTES:
            await stream.send_all(encode("the answer", lambda: {"error": f"more than {MOST_REQUEST_BYTES} bytes"}))
            return
        await stream.send_all(encode("the answer", lambda: answer(request.partition(b"\n")[0], who)))

    def close(self) -> None:
        """Takes the socket file away; the second call does nothing."""
        self.socket.close()


def peer_uid(sock: trio.socket.SocketType) -> int:
    """The user at the other end, by the kernel; where it does not tell, only our own user can open a file of mode 0600."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getuid()
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return int(uid)


def user_name(uid: int) -> str:
    """The name of a user of this machine; its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def open_control_socket(state: Path, pid: int) -> ControlSocket:
    """Listens in the state folder. Raises SocketUnavailable."""
    return ControlSocket(open_local_socket(control_path(state), pid), os.getuid())


def command(state: Path, request: Mapping[str, object], timeout_s: float) -> dict[str, Any]:
    """Has the bot of this state folder do what `request` says; its answer. Raises NoAnswer."""
    return converse(control_path(state), json.dumps(dict(request)).encode() + b"\n", timeout_s, "ok")
