"""A Unix socket of the running bot in its state folder: mode 0600, one holder, gone with its process.

What is said over it is its users' business (`status_server.py`, `control_server.py`). A lock beside it is the kernel's and
ends with its process, so a socket file without a holder is stale and is replaced; nothing but a socket is ever removed.
"""

from __future__ import annotations

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
from hip3.store.held import Held, hold_file

MOST_BYTES = 1 << 20
"""Ours: forty markets with ten events are some 40 kB."""
BACKLOG = 8


class SocketUnavailable(Exception):
    """There will be no such socket; the message says where, why, and what to do."""


@define
class LocalSocket:
    """An open socket and the lock that proves that its process lives."""

    path: Path
    listener: trio.SocketListener
    _lock_fd: int

    def close(self) -> None:
        """Takes the socket file away, then the lock; the second call does nothing."""
        if self._lock_fd < 0:
            return
        self.path.unlink(missing_ok=True)
        self.listener.socket.close()
        os.close(self._lock_fd)
        self._lock_fd = -1


def open_local_socket(path: Path, pid: int) -> LocalSocket:
    """Listens at `path`, a lock file beside it. Raises SocketUnavailable: another bot holds it, or it cannot be made."""
    state = path.parent
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_fd = _lock(path, pid)
    except OSError as e:
        raise SocketUnavailable(f"{state}: {e.strerror or e}; set {STATE_VAR} to a folder that can be written") from e
    try:
        return LocalSocket(path, _listen(path), lock_fd)
    except OSError as e:
        os.close(lock_fd)
        raise SocketUnavailable(f"{path}: {e.strerror or e}; set {STATE_VAR} to another folder, with a short path") from e
    except SocketUnavailable:
        os.close(lock_fd)
        raise


def _lock(path: Path, pid: int) -> int:
    """Takes the lock for the life of the process and writes its holder into it."""
    try:
        return hold_file(path.with_suffix(".lock"), pid)
    except Held as holder:
        raise SocketUnavailable(
            f"{path} is served by another bot, process {holder}; this one has no {path.stem} socket. "
            f"Give each bot a {STATE_VAR} of its own"
        ) from None


def _listen(path: Path) -> trio.SocketListener:
    """Nobody can connect before the mode is right: a bound socket refuses until it listens."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketUnavailable(f"{path} is there and is no socket; move it away")
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


def encode(what: str, answer: Callable[[], Mapping[str, object]]) -> bytes:
    """The answer as one line of JSON; one that fails or is too long is an error object, never an exception."""
    try:
        data = json.dumps(dict(answer()), default=json_value).encode() + b"\n"
    except Exception as e:
        data = json.dumps({"error": f"{what} could not be made: {type(e).__name__}: {e}"}).encode() + b"\n"
    if len(data) <= MOST_BYTES:
        return data
    return json.dumps({"error": f"{what} has {len(data)} bytes, more than {MOST_BYTES}"}).encode() + b"\n"


# ---- the client's side


class NoAnswer(Exception):
    """Nothing was read; `running` says whether a bot is there. The message says where was looked."""

    def __init__(self, message: str, *, running: bool) -> None:
        super().__init__(message)
        self.running = running


def converse(path: Path, request: bytes, timeout_s: float, expects: str) -> dict[str, Any]:
    """Sends `request`, which may be empty, and reads the one object of the answer, which has `expects`. Raises NoAnswer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            if request:
                sock.sendall(request)
            data = _read_all(sock)
    except FileNotFoundError:
        raise NoAnswer(f"no running bot: there is no socket at {path}", running=False) from None
    except ConnectionRefusedError:
        what = "was left behind by one that is gone" if path.is_socket() else "is no socket; move it away"
        raise NoAnswer(f"no running bot: {path} {what}", running=False) from None
    except PermissionError:
        raise NoAnswer(
            f"{path} is another user's: be the user whose bot it is, or set {STATE_VAR} to your own folder", running=True
        ) from None
    except TimeoutError:
        raise NoAnswer(f"a bot holds {path}, but did not answer within {timeout_s:g} s", running=True) from None
    except OSError as e:
        raise NoAnswer(f"no running bot: {path}: {e.strerror or e}", running=False) from None
    return _one_object(path, data, expects)


def _one_object(path: Path, data: bytes, expects: str) -> dict[str, Any]:
    """The answer of a bot: an object with `expects`, or with an error. Raises NoAnswer."""
    if not data:
        raise NoAnswer(f"a bot holds {path}, but hung up without an answer: ask again", running=True)
    try:
        answer: object = json.loads(data)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and (expects in answer or "error" in answer):
        return answer
    raise NoAnswer(
        f"what answers at {path} is no bot of this version of hip3 (it said {data[:40]!r}); end that program, or "
        f"set {STATE_VAR} to the folder of the bot",
        running=True,
    )


def _read_all(sock: socket.socket) -> bytes:
    """All until the other side hangs up, or more than a bot ever says."""
    data = b""
    while len(data) <= MOST_BYTES and (chunk := sock.recv(1 << 16)):
        data += chunk
    return data
