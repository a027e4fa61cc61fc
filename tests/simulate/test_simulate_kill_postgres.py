"""The real process with its store on a real PostgreSQL: a second bot, the server killed under it, then the bot itself."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from hip3.simulate.kill import LOOK_S, USER, Killer, harness
from hip3.simulate.kill_plan import Kind, Moment
from tests.postgres_server import OwnServer

WITHIN_S = 20.0
"""Far beyond what a busy machine needs for any of it."""
ORDER = Moment(1, Kind.ORDER, after_s=0.01, then_s=0, pause_s=0, is_busy=False)
"""Killed 10 ms after an order: what is on record of it is in the spool alone."""


async def until(killer: Killer, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first status of which it is true; what reached the venue meanwhile is counted."""
    with trio.fail_after(WITHIN_S):
        while (view := await killer.status()) is None or not holds(view):  # noqa: ASYNC110 - another process
            await trio.sleep(LOOK_S)
    killer.books.look()
    return view


def is_unavailable(view: dict[str, Any]) -> bool:
    return any(cause["code"] == "STORAGE_UNAVAILABLE" for cause in view["safety"]["causes"])


async def refused(killer: Killer) -> str:
    """What a second bot says, on another state folder and the same database; it must end with exit code 6."""
    env = {**os.environ, "HIP3_STATE_DIR": str(killer.folder / "other")}
    command = [sys.executable, "-m", "hip3", "run", "--config", "bot.toml", "--plain"]
    done = await trio.run_process(
        command, cwd=killer.folder, env=env, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    said = done.stdout.decode()
    assert done.returncode == 6, said
    return said


def test_simulate_kill_the_server_then_the_bot(own_postgres: OwnServer, postgres_url: str) -> None:
    """STO-1, STO-4, END-3, SAFE-4: one bot a database; with the server gone a named cause, no entry, exits go on; with it
    back entries again, nothing lost; then SIGKILL of the bot: store and exchange agree row by row, the chain is whole."""
    lines: list[str] = []

    async def work(killer: Killer) -> None:
        await killer.start()
        await killer.ready()
        assert killer.run is not None
        assert f"hip3 process {killer.run.pid} on {os.uname().nodename} (session " in await refused(killer)

        await until(killer, lambda view: bool(view["positions"]))
        await trio.to_thread.run_sync(own_postgres.crash)
        await until(killer, lambda view: is_unavailable(view) and not view["safety"]["allows_entry"])
        await until(killer, lambda view: not view["positions"] and not view["orders"])
        entries, closed = len(killer.books.entries), len(killer.exchange.fills(USER))
        assert closed >= 2
        assert not killer.exchange.positions(USER)
        await trio.sleep(1)  # five markets give a signal each in it
        killer.books.look()
        assert len(killer.books.entries) == entries
        await trio.to_thread.run_sync(own_postgres.start)
        await until(killer, lambda view: not is_unavailable(view) and view["safety"]["allows_entry"])

        await killer.go([ORDER])
        assert len(killer.books.entries) > entries

    with tempfile.TemporaryDirectory(prefix="hip3-kill-") as folder:  # a socket's path must be short
        killer = trio.run(harness, Path(folder), lines.append, work, postgres_url)
    assert killer.starts == 2
    assert killer.books.rows_checked > 0
    assert len(lines) == 1
