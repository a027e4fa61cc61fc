"""The writer: a task that drains the spool into the database, many commits in one transaction (STO-4, DESIGN 3).

It belongs to ring 0 and is the last to close. The database is used in a worker thread, which `run_sync` stands for; virtual
time does not see threads, so simulations hand in a function that calls at once. A database that fails is tried again, and
told of, until the spool is full; nothing that was committed is given up.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import trio
from attrs import define, field

from hip3.core.clock import Clock
from hip3.store.apply import Applier
from hip3.store.backup import DailyBackup
from hip3.store.database import cause_of
from hip3.store.errors import FAILURES
from hip3.store.retention import Retention
from hip3.store.spool import Spool

MOST_ROWS = 2048
"""Records of one transaction, about: a backlog is worked off in steps that can be told of."""
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0

OnTrouble = Callable[[str | None], None]


class RunSync(Protocol):
    """Calls a function of the database, in a thread or at once."""

    def __call__(self, function: Callable[[], Any], /) -> Awaitable[Any]: ...


in_thread: RunSync = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
"""A thread that is given up goes on alone: what it commits, the next start finds done."""


async def inline(function: Callable[[], Any], /) -> Any:
    """Calls at once: for virtual time."""
    await trio.lowlevel.checkpoint()
    return function()


@define
class Writer:
    """Drains one spool. `run` until `drain_and_close`."""

    spool: Spool
    applier: Applier
    clock: Clock
    group_commit_ms: int
    run_sync: RunSync
    on_trouble: OnTrouble
    """Called with a sentence when the database begins to fail, and with None when it takes records again."""
    backup: DailyBackup | None = None
    retention: Retention | None = None
    transactions: int = 0
    trouble: str | None = None
    """What the database says now; None while it works."""
    _bell: trio.Event = field(factory=trio.Event, init=False)
    _closing: bool = field(default=False, init=False)
    _given_up: bool = field(default=False, init=False)
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _running: bool = field(default=False, init=False)
    _finished: trio.Event = field(factory=trio.Event, init=False)
    _turn: trio.Lock = field(factory=trio.Lock, init=False)
    """The connection is used by one at a time: the writer, or what prunes between two of its transactions."""

    def __attrs_post_init__(self) -> None:
        self.spool.on_commit = self._ring

    def _ring(self) -> None:
        self._bell.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Writes until the store is closed or the task is cancelled. Raises nothing of the database."""
        assert not self._running, "one writer, one task"
        self._running = True
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    if self.backup is not None:
                        nursery.start_soon(self.backup.run, self.run_sync, self.clock)
                    if self.retention is not None:
                        nursery.start_soon(
                            self.retention.run, self.applier, self.spool.header, self.clock, self._in_database
                        )
                    task_status.started()
                    await self._drain()
                    async with self._turn:  # a transaction of a few rows is not cut in half
                        nursery.cancel_scope.cancel()
        finally:
            self._running = False
            self._finished.set()

    async def _drain(self) -> None:
        while True:
            if self.spool.waiting:
                await self._step()
            elif self._closing:
                return
            else:
                self._bell = trio.Event()
                await self._bell.wait()
                await self._let_more_come()

    async def _let_more_come(self) -> None:
        """Group commit: what comes within a few milliseconds shares one transaction."""
        if not self._closing:
            with trio.move_on_after(self.group_commit_ms / 1000):
                await trio.sleep(math.inf)

    async def _step(self) -> None:
        """One transaction, tried until it succeeds."""
        pause_s = BACKOFF_FIRST_S
        while True:
            groups = self.spool.take(MOST_ROWS)
            try:
                await self._in_database(partial(self.applier.apply, groups))
            except FAILURES as e:
                self._say(self._failure(e))
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, BACKOFF_MAX_S)
                continue
            self.transactions += 1
            self.spool.applied(groups[-1].seq)
            self._say(self.spool.why_gone())
            return

    async def _in_database(self, function: Callable[[], Any]) -> Any:
        async with self._turn:
            done = False
            try:
                found = await self.run_sync(function)
                done = True
            except FAILURES:
                done = True
                raise
            finally:
                if not done:  # cancelled: the thread may still be at work on the connection
                    self._given_up = True
                    self.applier.forget()
            return found

    def _failure(self, error: BaseException) -> str:
        waiting = f"{self.spool.rows} of at most {self.spool.max_rows} records wait in {self.spool.folder}"
        return f"store {self.applier.place.name}: {cause_of(error)}; it is tried again; {waiting}"

    def _say(self, trouble: str | None) -> None:
        """Tells of the beginning and of the end; in between the sentence is kept up to date for whoever looks."""
        if (trouble is None) is not (self.trouble is None):
            self.on_trouble(trouble)
        self.trouble = trouble

    async def drain_and_close(self, deadline_s: float) -> bool:
        """Writes what waits, for at most `deadline_s`, and lets the database go. True where all of it was written.

        What is left stays in the spool and is written by the next start. Shielded; may be called after `run` was cancelled.
        """
        self._closing = True
        self.spool.publish()
        self._ring()
        with trio.move_on_after(deadline_s, shield=True):
            if self._running:
                await self._finished.wait()
            elif not self._given_up:
                await self._drain()
            if not self.spool.waiting and not self._given_up:
                await self._finish()
        self._scope.cancel()
        self.spool.close()
        self.let_go()
        return not self.spool.waiting

    def let_go(self) -> None:
        """Closes the connection, unless a thread that was given up may still be at work on it."""
        if not self._given_up:
            self.applier.close()

    async def _finish(self) -> None:
        try:
            await self._in_database(partial(self.applier.end_run, self.spool.header))
        except FAILURES as e:
            self._say(self._failure(e))
