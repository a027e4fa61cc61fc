"""A local socket that says how the bot is: one JSON object per connection, then it hangs up (OPS-7, PRD-2).

It takes no command and reads nothing from its clients, so a reader cannot change or hold up trading: one client at a time,
one bounded answer, a deadline, a pause. Where it cannot serve, the bot trades without it and says why.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from attrs import define

from hip3.ops.journal_file import STATE_VAR, json_value

SOCKET_NAME = "status.sock"
LOCK_NAME = "status.lock"
MOST_BYTES = 1 << 20
"""Ours: forty markets with ten events are some 40 kB."""
BACKLOG = 8
ANSWER_WITHIN_S = 1.0
"""A client that takes no bytes for so long is hung up on."""
PAUSE_S = 0.05
"""Between two answers: however many ask, at most twenty answers a second are made, each in about a millisecond."""


class StatusUnavailable(Exception):
    """There will be no status socket; the message says where, why, and what to do."""


def socket_path(state: Path) -> Path:
    """Where a bot of this state folder listens."""
    return state / SOCKET_NAME


@define
class StatusSocket:
    """An open socket, mode 0600, and the lock that proves that its process lives."""

    path: Path
    _listener: trio.SocketListener
    _lock_fd: int

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
            stream = await self._listener.accept()
        except OSError:
            return  # no file handle left, or a client that is gone again: the pause follows
        with suppress(trio.BrokenResourceError), trio.move_on_after(ANSWER_WITHIN_S):
            await stream.send_all(encode(answer))
        await trio.aclose_forcefully(stream)

    def close(self) -> None:
        """Takes the socket file away, then the lock; the second call does nothing."""
        if self._lock_fd < 0:
            return
        self.path.unlink(missing_ok=True)
        self._listener.socket.close()
        os.close(self._lock_fd)
        self._lock_fd = -1


def encode(answer: Callable[[], Mapping[str, object]]) -> bytes:
    """The answer as one line of JSON; an answer that fails or is too long is an error object, never an exception."""
    try:
        data = json.dumps(dict(answer()), default=json_value).encode() + b"\n"
    except Exception as e:
        data = json.dumps({"error": f"the status could not be made: {type(e).__name__}: {e}"}).encode() + b"\n"
    if len(data) <= MOST_BYTES:
        return data
    return json.dumps({"error": f"the status has {len(data)} bytes, more than {MOST_BYTES}"}).encode() + b"\n"


def open_status_socket(state: Path, pid: int) -> StatusSocket:
    """Listens in the state folder. Raises StatusUnavailable: another bot holds it, or it cannot be made.

    The lock is the kernel's and ends with its process, so a socket file without a holder is stale and is replaced; nothing
    but a socket is ever removed.
    """
    path = socket_path(state)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = _lock(state / LOCK_NAME, pid)
    except OSError as e:
        raise StatusUnavailable(f"{state}: {e.strerror or e}; set {STATE_VAR} to a folder that can be written") from e
    try:
        return StatusSocket(path, _listen(path), lock_fd)
    except OSError as e:
        os.close(lock_fd)
        raise StatusUnavailable(f"{path}: {e.strerror or e}; set {STATE_VAR} to another folder, with a short path") from e
    except StatusUnavailable:
        os.close(lock_fd)
        raise


def _lock(path: Path, pid: int) -> int:
    """Takes the lock for the life of the process and writes its holder into it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise StatusUnavailable(
            f"{path.parent / SOCKET_NAME} is served by another bot, process {holder}; this one has no status socket. "
            f"Give each bot a {STATE_VAR} of its own"
        ) from None
    os.ftruncate(fd, 0)
    os.write(fd, f"{pid}\n".encode())
    return fd


def _listen(path: Path) -> trio.SocketListener:
    """Nobody can connect before the mode is right: a bound socket refuses until it listens."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StatusUnavailable(f"{path} is there and is no socket; move it away")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        sock.close()
        raise


# ---- the client's side


class NoAnswer(Exception):
    """Nothing was read; `running` says whether a bot is there. The message says where was looked."""

    def __init__(self, message: str, *, running: bool) -> None:
        super().__init__(message)
        self.running = running


def ask(state: Path, timeout_s: float) -> dict[str, Any]:
    """The status of the bot of this state folder. Raises NoAnswer."""
    path = socket_path(state)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            answer: object = json.loads(_read_all(sock))
    except FileNotFoundError:
        raise NoAnswer(f"no running bot: there is no socket at {path}", running=False) from None
    except ConnectionRefusedError:
        raise NoAnswer(f"no running bot: {path} was left behind by one that is gone", running=False) from None
    except TimeoutError:
        raise NoAnswer(f"a bot holds {path}, but did not answer within {timeout_s:g} s", running=True) from None
    except (OSError, ValueError) as e:
        raise NoAnswer(f"{path}: {e}", running=False) from None
    if not isinstance(answer, dict):
        raise NoAnswer(f"{path}: expected one JSON object, found {type(answer).__name__}", running=True)
    return answer


def _read_all(sock: socket.socket) -> bytes:
    """All until the other side hangs up. Raises ValueError for more than MOST_BYTES."""
    data = b""
    while chunk := sock.recv(1 << 16):
        data += chunk
        if len(data) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes; that is no hip3")
    return data
