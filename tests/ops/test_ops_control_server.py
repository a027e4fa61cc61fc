"""The control socket: private, told by the kernel who commands, and never kept waiting by a silent client."""

from __future__ import annotations

import getpass
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from hip3.ops.control_server import (
    MOST_CLIENTS,
    MOST_REQUEST_BYTES,
    WITHIN_S,
    ControlSocket,
    command,
    control_path,
    open_control_socket,
)
from hip3.ops.local_socket import NoAnswer, SocketUnavailable


def echo(raw: bytes, who: str) -> dict[str, object]:
    return {"ok": True, "raw": raw.decode(), "who": who}


@pytest.fixture
def control(tmp_path: Path) -> ControlSocket:
    return open_control_socket(tmp_path, 1)


async def said(path: Path, data: bytes) -> dict[str, Any] | None:
    """What a client gets that sends `data` in one piece."""
    stream = await trio.open_unix_socket(str(control_path(path)))
    async with stream:
        await stream.send_all(data)
        answer = b"".join([chunk async for chunk in stream])
    return json.loads(answer) if answer else None


async def test_a_command_is_answered_and_its_user_is_the_kernels_word(
    tmp_path: Path, control: ControlSocket, nursery: trio.Nursery
) -> None:
    """OPS-5, LESSONS 37: one line in, one object out; what comes after the line is not read."""
    nursery.start_soon(control.serve, echo)
    answer = await trio.to_thread.run_sync(command, tmp_path, {"command": "hold"}, 5.0)
    assert answer == {"ok": True, "raw": '{"command": "hold"}', "who": getpass.getuser()}
    assert await said(tmp_path, b"one\ntwo\n") == {"ok": True, "raw": "one", "who": getpass.getuser()}


async def test_only_the_user_can_command(tmp_path: Path, control: ControlSocket) -> None:
    """OPS-5, KEY-4: a socket of mode 0600 with a holder; a second bot is told of the first."""
    mode = control_path(tmp_path).stat().st_mode
    assert (stat.S_ISSOCK(mode), oct(mode & 0o777)) == (True, "0o600")
    with pytest.raises(SocketUnavailable, match="this one has no control socket"):
        open_control_socket(tmp_path, 2)
    control.close()
    assert not control_path(tmp_path).exists()
    with pytest.raises(NoAnswer, match="no running bot: there is no socket at"):
        command(tmp_path, {}, 1.0)


async def test_another_user_is_refused(tmp_path: Path, control: ControlSocket, nursery: trio.Nursery) -> None:
    """OPS-5: whoever gets past the mode of the file is refused by the id that the kernel tells; nothing is done."""
    asked: list[bytes] = []
    control.uid += 12_345  # the process is another user's

    def answer(raw: bytes, who: str) -> dict[str, object]:
        asked.append(raw)
        return echo(raw, who)

    nursery.start_soon(control.serve, answer)
    refused = await said(tmp_path, b"")
    assert refused is not None
    assert refused == {"error": f"user {getpass.getuser()} may not command a process of uid {os.getuid() + 12_345}"}
    assert asked == []


async def test_silent_clients_do_not_keep_a_kill_waiting(
    tmp_path: Path, control: ControlSocket, nursery: trio.Nursery, autojump_clock: object
) -> None:
    """STOP-5: all but one of the places are taken by clients that say nothing; the next is served at once."""
    nursery.start_soon(control.serve, echo)
    silent = [await trio.open_unix_socket(str(control_path(tmp_path))) for _ in range(MOST_CLIENTS - 1)]
    began = trio.current_time()
    answer = await said(tmp_path, b"kill\n")
    assert answer is not None
    assert trio.current_time() - began < WITHIN_S / 2
    await trio.sleep(WITHIN_S + 0.1)
    for stream in silent:
        assert await stream.receive_some() == b"", "hung up on"
        await stream.aclose()


async def test_half_a_line_commands_nothing(tmp_path: Path, control: ControlSocket, nursery: trio.Nursery) -> None:
    """OPS-5: a client that dies in the middle of its line has not commanded; one that never ends it is refused."""
    asked: list[bytes] = []

    def answer(raw: bytes, who: str) -> dict[str, object]:
        asked.append(raw)
        return echo(raw, who)

    nursery.start_soon(control.serve, answer)
    stream = await trio.open_unix_socket(str(control_path(tmp_path)))
    await stream.send_all(b'{"command": "promote"')
    await stream.aclose()
    refused = await said(tmp_path, b"x" * (MOST_REQUEST_BYTES + 1))
    assert refused == {"error": f"more than {MOST_REQUEST_BYTES} bytes"}
    assert asked == []
