"""The status socket: private, one per state folder, gone with its process, and no burden to it."""

from __future__ import annotations

import itertools
import json
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from hip3.ops.local_socket import BACKLOG, MOST_BYTES, NoAnswer, SocketUnavailable, encode
from hip3.ops.status_server import ANSWER_WITHIN_S, StatusSocket, ask, open_status_socket, socket_path


async def asked(state: Path) -> dict[str, Any]:
    """What the command's own client gets, from a thread of its own as it is another process in life."""
    return await trio.to_thread.run_sync(ask, state, 5.0)


async def test_one_object_then_the_server_hangs_up(tmp_path: Path, nursery: trio.Nursery) -> None:
    """OPS-7: each connection gets the state as it is then, without asking for anything."""
    count = iter(range(9))
    nursery.start_soon(open_status_socket(tmp_path, 1).serve, lambda: {"run": next(count)})
    assert [await asked(tmp_path) for _ in range(2)] == [{"run": 0}, {"run": 1}]


async def test_only_the_user_can_connect(tmp_path: Path) -> None:
    """OPS-7, KEY-4: mode 0600, in a folder that is made 0700."""
    state = tmp_path / "state"
    status = open_status_socket(state, 1)
    mode = socket_path(state).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert oct(mode & 0o777) == "0o600"
    assert oct(state.stat().st_mode & 0o777) == "0o700"
    status.close()


async def test_a_second_bot_names_the_first(tmp_path: Path) -> None:
    """OPS-7, LEAD-1: the holder's process is named, the first goes on, and its socket is untouched."""
    first = open_status_socket(tmp_path, 4711)
    with pytest.raises(SocketUnavailable, match=r"served by another bot, process 4711.* HIP3_STATE_DIR of its own"):
        open_status_socket(tmp_path, 4712)
    assert socket_path(tmp_path).exists()
    first.close()
    open_status_socket(tmp_path, 4712).close()


async def test_what_a_killed_process_left_is_replaced(tmp_path: Path, nursery: trio.Nursery) -> None:
    """OPS-7, LESSONS 35: the lock is the kernel's: a socket file without a holder is stale, and only then removed."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(socket_path(tmp_path)))
    left.close()
    with pytest.raises(NoAnswer, match="was left behind by one that is gone") as failed:
        ask(tmp_path, 1)
    assert not failed.value.running
    nursery.start_soon(open_status_socket(tmp_path, 1).serve, lambda: {"run": True})
    assert await asked(tmp_path) == {"run": True}


async def test_nothing_but_a_socket_is_removed(tmp_path: Path) -> None:
    """LESSONS 35: a file that happens to have the name stays, and the lock is free again."""
    socket_path(tmp_path).write_text("precious")
    for _ in range(2):
        with pytest.raises(SocketUnavailable, match="is no socket; move it away"):
            open_status_socket(tmp_path, 1)
    assert socket_path(tmp_path).read_text() == "precious"


async def test_it_is_gone_when_its_task_ends(tmp_path: Path) -> None:
    """OPS-7: cancelled, the file is away and the lock free; the second close does nothing."""
    status = open_status_socket(tmp_path, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(status.serve, dict)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    status.close()
    assert not socket_path(tmp_path).exists()
    with pytest.raises(NoAnswer, match="no running bot: there is no socket at"):
        ask(tmp_path, 1)
    open_status_socket(tmp_path, 2).close()


async def test_a_task_that_never_ran_closes_too(tmp_path: Path) -> None:
    """OPS-7: a run that ends in the step in which the task was started leaves no file."""
    status = open_status_socket(tmp_path, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(status.serve, dict)
        nursery.cancel_scope.cancel()
    assert not socket_path(tmp_path).exists()


@pytest.fixture
def busy(tmp_path: Path) -> StatusSocket:
    return open_status_socket(tmp_path, 1)


async def test_a_client_that_does_not_read_is_cut_off(
    tmp_path: Path, busy: StatusSocket, nursery: trio.Nursery, autojump_clock: object
) -> None:
    """OPS-7: its answer has a deadline, and then the next client is served."""
    nursery.start_soon(busy.serve, lambda: {"long": "x" * (MOST_BYTES - 100)})
    silent = trio.socket.socket(socket.AF_UNIX)
    await silent.connect(str(socket_path(tmp_path)))
    began = trio.current_time()
    stream = await trio.open_unix_socket(str(socket_path(tmp_path)))
    data = b"".join([chunk async for chunk in stream])
    assert len(json.loads(data)["long"]) == MOST_BYTES - 100
    assert ANSWER_WITHIN_S <= trio.current_time() - began < 2 * ANSWER_WITHIN_S
    silent.close()
    await stream.aclose()


async def test_many_that_ask_take_turns(
    tmp_path: Path, busy: StatusSocket, nursery: trio.Nursery, autojump_clock: object
) -> None:
    """OPS-7: however many ask at once, answers are made at most twenty times a second."""
    made: list[float] = []

    def answer() -> dict[str, object]:
        made.append(trio.current_time())
        return {}

    nursery.start_soon(busy.serve, answer)
    streams = [await trio.open_unix_socket(str(socket_path(tmp_path))) for _ in range(BACKLOG)]
    for stream in streams:
        assert b"".join([chunk async for chunk in stream]) == b"{}\n"
        await stream.aclose()
    assert all(later - earlier >= 0.049 for earlier, later in itertools.pairwise(made))


async def test_a_client_that_is_gone_harms_nobody(
    tmp_path: Path, busy: StatusSocket, nursery: trio.Nursery, autojump_clock: object
) -> None:
    """OPS-7: one that hangs up at once leaves the next one its answer."""
    gone = await trio.open_unix_socket(str(socket_path(tmp_path)))
    await gone.aclose()
    nursery.start_soon(busy.serve, lambda: {"long": "x" * 500_000})
    stream = await trio.open_unix_socket(str(socket_path(tmp_path)))
    assert len(b"".join([chunk async for chunk in stream])) > 500_000
    await stream.aclose()


def test_a_status_that_fails_is_an_error_object() -> None:
    """OPS-7: nothing that the picture of the state may raise reaches the trading process."""

    def broken() -> dict[str, object]:
        raise KeyError("xyz:SNDK")

    assert json.loads(encode("the status", broken)) == {"error": "the status could not be made: KeyError: 'xyz:SNDK'"}
    assert "bytes, more than" in json.loads(encode("the status", lambda: {"x": "y" * MOST_BYTES}))["error"]


async def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    """STYLE, errors: Unix sockets have paths of about a hundred bytes; the remedy is another folder."""
    state = tmp_path / ("d" * 120)
    with pytest.raises(SocketUnavailable, match="with a short path"):
        open_status_socket(state, 1)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"[1]\n", r"is no bot of this version of hip3 \(it said b'\[1\]"),
        (b"not json", "is no bot of this version of hip3"),
        (b'{"hello": 1}', "is no bot of this version of hip3 .* set HIP3_STATE_DIR to the folder of the bot"),
        (b"x" * (MOST_BYTES + 1), "is no bot of this version of hip3"),
        (b"", "hung up without an answer: ask again"),
    ],
)
async def test_an_answer_that_means_nothing_is_refused(tmp_path: Path, said: bytes, message: str) -> None:
    """LESSONS 3: no evidence is not OK: what cannot be read is an error with its place."""
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(socket_path(tmp_path)))
    listener.listen(1)

    async def reply() -> None:
        client, _ = await listener.accept()
        with suppress(trio.BrokenResourceError):  # it hangs up when it has read enough
            await trio.SocketStream(client).send_all(said)
        client.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reply)
        with pytest.raises(NoAnswer, match=message):
            await asked(tmp_path)
    listener.close()


def test_a_bot_that_does_not_answer_is_not_called_absent(tmp_path: Path) -> None:
    """LESSONS 3: a held socket without an answer is a running bot of which nothing is known."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(tmp_path)))
        listener.listen(1)
        with pytest.raises(NoAnswer, match="did not answer within") as failed:
            ask(tmp_path, 0.05)
    assert failed.value.running


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """STYLE, errors: the folder, the cause, the variable that names another one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SocketUnavailable, match=r"file/state: Not a directory; set HIP3_STATE_DIR"):
        open_status_socket(tmp_path / "file" / "state", os.getpid())
