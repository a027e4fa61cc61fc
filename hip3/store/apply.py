"""Groups into the database: one transaction for many whole groups, in which the spool's position moves too (REC-2).

So a group that was delivered twice, because the answer to a commit was lost or the process died, has its effect once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import define, field
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from hip3.core.clock import Clock
from hip3.core.records import Transition
from hip3.store import schema
from hip3.store.audit import EMPTY, ChainHead, head_of, head_text
from hip3.store.database import SAVE_THE_REST, Place, connect
from hip3.store.errors import StoreDamaged, StoreUnusable
from hip3.store.lock import hold_server_lock
from hip3.store.rows import Batch
from hip3.store.segments import FORMAT, Group, Header

BY_HAND = "by-hand-"
"""Begins the run id of what an operator's command wrote while no bot ran; it is in the audit log and not among the runs."""


@define
class Applier:
    """The one connection that writes. Used by one thread at a time; every method may raise SQLAlchemyError or StoreError."""

    place: Place
    engine: Engine
    clock: Clock
    _connection: Connection | None = field(default=None, init=False)
    _file: tuple[int, int] | None = field(default=None, init=False)
    """Device and number of the file that was opened first."""
    _has_written: bool = field(default=False, init=False)
    """With the present connection, so that its write-ahead log is there."""

    def connection(self) -> Connection:
        """Connects where it has to; on a server it holds the lock before anything else is said."""
        self._refuse_another_file()
        if self._connection is None:
            fresh = connect(self.engine, self.place)
            try:
                hold_server_lock(fresh, self.place.name)
            except BaseException:
                self._drop(fresh)
                raise
            self._connection = fresh
        return self._connection

    def position(self, spool_id: str) -> int | None:
        """Number of the spool's last group in the database; None where it never saw this spool."""
        connection = self.connection()
        with connection.begin():
            found = own_state(connection).get(schema.SPOOL + spool_id)
        if found is None:
            return None
        try:
            return int(found)
        except ValueError:
            name = schema.SPOOL + spool_id
            raise StoreDamaged(
                f"{self.place.name}: system_state {name} is {found!r}, expected a number; {SAVE_THE_REST}"
            ) from None

    def _refuse_another_file(self) -> None:
        """Raises StoreUnusable where the file that is written to is no longer the one at its place: what goes into it is
        lost with the process. It stays so: what was written before is gone from there too."""
        file = self.place.file
        if file is None:
            return
        try:
            found = file.stat()
            now = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            now = None
        self._file = self._file or now
        if self._connection is not None and self._has_written and not Path(f"{file}-wal").exists():
            now = None
        if now is None or now != self._file:
            self._file = (-1, -1)
            raise StoreUnusable(
                f"{file}: was removed or replaced while this process writes to it; end the bot (it flattens), then "
                f"{SAVE_THE_REST}"
            )

    def check_audit_end(self) -> None:
        """Raises StoreDamaged where the last row of the audit log is not the one that the head names (STO-3)."""
        connection = self.connection()
        log = schema.audit_log
        with connection.begin():
            head = own_state(connection).get(schema.AUDIT_HEAD)
            last = connection.execute(select(log.c.seq, log.c.hash).order_by(log.c.seq.desc()).limit(1)).first()
        found = EMPTY if last is None else ChainHead(last.seq, last.hash)
        try:
            if head_of(head) == found:
                return
        except ValueError:
            pass  # a head that nobody can read is another one
        raise StoreDamaged(
            f"{self.place.name}: the last row of the audit log (row {found.seq}) is not the one that its head names: it was "
            "changed. `hip3 audit verify` says where; a backup restores it, `hip3 store rebuild` goes on from what is there"
        )

    def apply(self, groups: Sequence[Group]) -> None:
        """Writes the groups that the database does not have yet: all of them or, with an exception, none."""
        if not groups:
            return
        connection = self.connection()
        try:
            with connection.begin():
                self._write(connection, groups)
            self._has_written = True
        except BaseException:
            self.disconnect()
            raise

    def _write(self, connection: Connection, groups: Sequence[Group]) -> None:
        batch_of(groups, own_state(connection), self.clock.wall_ms()).write(connection)

    def begin_run(self, header: Header) -> None:
        """Registers the run, and that its spool is known from here on. A command by hand is no run."""
        connection = self.connection()
        with connection.begin():
            batch = Batch(head_of(None))
            if not header.run_id.startswith(BY_HAND):
                batch.rows[schema.runs.name] = [_run_row(header, None)]
            if schema.SPOOL + header.spool_id not in own_state(connection):
                position = str(header.first_seq - 1)
                batch.set_state(schema.OWN, schema.SPOOL + header.spool_id, position, header.opened_ms)
            batch.write(connection)

    def end_run(self, header: Header) -> None:
        """The run ended in order, with everything written."""
        if header.run_id.startswith(BY_HAND):
            return
        connection = self.connection()
        with connection.begin():
            batch = Batch(head_of(None))
            batch.rows[schema.runs.name] = [_run_row(header, self.clock.wall_ms())]
            batch.write(connection)

    def disconnect(self) -> None:
        """Lets the connection go, whatever state it is in; the next call makes another."""
        connection, self._connection, self._has_written = self._connection, None, False
        if connection is not None:
            self._drop(connection)

    def forget(self) -> None:
        """Never touches the connection again: a thread that was given up may still use it."""
        self._connection, self._has_written = None, False

    def close(self) -> None:
        """Ends the connection and its engine."""
        self.disconnect()
        self.engine.dispose()

    @staticmethod
    def _drop(connection: Connection) -> None:
        with suppress(SQLAlchemyError):  # a broken one cannot even be closed
            connection.invalidate()
        with suppress(SQLAlchemyError):
            connection.close()


def batch_of(groups: Sequence[Group], own: Mapping[str, str], now_ms: int) -> Batch:
    """The rows of those groups that a database with the state `own` of its own does not have yet, and that state after."""
    batch = Batch(head_of(own.get(schema.AUDIT_HEAD)))
    for group in groups:
        key = schema.SPOOL + group.header.spool_id
        if group.seq <= int(own.get(key, "0")):
            continue
        for record in group.records:
            batch.add(record, group.header)
        batch.set_state(schema.OWN, key, str(group.seq), now_ms)
    if batch.rows.get(schema.audit_log.name):
        batch.set_state(schema.OWN, schema.AUDIT_HEAD, head_text(batch.head), now_ms)
    return batch


def note_by_hand(applier: Applier, to_state: str, message: str, facts: Mapping[str, object]) -> None:
    """An audit row about what an operator did to the store itself; it is of no run."""
    now = applier.clock.wall_ms()
    header = Header(FORMAT, f"{BY_HAND}{now:x}", schema.OWN, f"{now:x}", "", 1, now)
    row = Transition(now, "operator", "store", "", to_state, f"STORE_{to_state}", message, "", facts)
    applier.apply([Group(1, header, (row,))])


def _run_row(header: Header, ended_ms: int | None) -> dict[str, object]:
    return {
        "account": header.account,
        "run_id": header.run_id,
        "config_hash": header.config_hash,
        "started_ms": header.opened_ms,
        "ended_ms": ended_ms,
    }


def own_state(connection: Connection) -> Mapping[str, str]:
    """The store's own values, by key."""
    table = schema.system_state
    rows = connection.execute(select(table.c.key, table.c.value).where(table.c.account == schema.OWN))
    return {row.key: row.value for row in rows}
