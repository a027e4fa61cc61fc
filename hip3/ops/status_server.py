"""A local socket that says how the bot is: one JSON object per connection, then it hangs up (OPS-7, PRD-2).

It takes no command and reads nothing from its clients, so a reader cannot change or hold up trading: one client at a time,
one bounded answer, a deadline, a pause. Where it cannot serve, the bot trades without it and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from attrs import define

from hip3.ops.local_socket import LocalSocket, converse, encode, open_local_socket

SOCKET_NAME = "status.sock"
ANSWER_WITHIN_S = 1.0
"""A client that takes no bytes for so long is hung up on."""
PAUSE_S = 0.05
"""Between two answers: however many ask, at most twenty answers a second are made, each in about a millisecond."""


def socket_path(state: Path) -> Path:
    """Where a bot of this state folder listens."""
    return state / SOCKET_NAME


@define
class StatusSocket:
    """Answers everyone who may connect with how the bot is."""

    socket: LocalSocket

    async def serve(self, answer: Callable[[], Mapping[str, object]]) -> None:
        """Answers until cancelled; then the socket file is gone. `answer` is asked in one step and must change nothing."""
        try:
            while True:
                await self._serve_one(answer)
                await trio.sleep(PAUSE_S)
        finally:
            self.close()

    async def _serve_one(self, answer: Callable[[], Mapping[str, object]]) -> None:
        try:
            stream = await self.socket.listener.accept()
        except OSError:
            return  # no file handle left, or a client that is gone again: the pause follows
        with suppress(trio.BrokenResourceError), trio.move_on_after(ANSWER_WITHIN_S):
            await stream.send_all(encode("the status", answer))
        await trio.aclose_forcefully(stream)

    def close(self) -> None:
        """Takes the socket file away; the second call does nothing."""
        self.socket.close()


def open_status_socket(state: Path, pid: int) -> StatusSocket:
    """Listens in the state folder. Raises SocketUnavailable."""
    return StatusSocket(open_local_socket(socket_path(state), pid))


def ask(state: Path, timeout_s: float) -> dict[str, Any]:
    """The status of the bot of this state folder. Raises NoAnswer."""
    return converse(socket_path(state), b"", timeout_s, "run")
