"""Where the database is, and connections to it: a SQLite file, or PostgreSQL by URL (STO-1).

Connections to PostgreSQL have a deadline on everything, so that a server that no longer answers is an error and not a wait.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hip3.store.errors import StoreDamaged, StoreMissing, StoreUnusable, os_words

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_MS = 5000
"""Ours: how long a statement waits for another process's lock on the file before it is an error, and is tried again."""
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 10_000
POSTGRES_OPTIONS = f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={BUSY_TIMEOUT_MS} -c timezone=UTC"


NO_SPOOL = Path()
"""Of a server that was named alone: which folder of which machine the spool of its bot is in, it does not say."""


@frozen
class Place:
    """Where a store is: its database, and the folder of its spool on this machine, or NO_SPOOL."""

    url: URL
    spool: Path

    @property
    def file(self) -> Path | None:
        """The database file; None for a server."""
        return Path(self.url.database) if self.url.get_backend_name() == "sqlite" and self.url.database else None

    @property
    def name(self) -> str:
        """For messages: the file, or the URL as `store.url` names it, without a password."""
        if self.file is not None:
            return str(self.file)
        return self.url.set(drivername="postgresql").render_as_string(hide_password=True)

    @property
    def lock_file(self) -> Path:
        """Held by whoever writes: beside the file, or in the spool's folder for a server."""
        return Path(f"{self.file}.lock") if self.file is not None else Path(f"{self.spool}.lock")


def place_of_file(path: Path) -> Place:
    """A SQLite store; its spool lies beside it."""
    return Place(URL.create("sqlite+pysqlite", database=str(path)), Path(f"{path}.spool"))


def place_of_url(url: str, spool: Path) -> Place:
    """A store at `postgresql://[user@]host[:port]/database`. Raises StoreUnusable for another kind of URL."""
    try:
        parts = make_url(url)
    except ArgumentError:
        parts = None
    if parts is None or parts.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise StoreUnusable("store.url: expected postgresql://[user@]host[:port]/database, found something else")
    return Place(parts.set(drivername="postgresql+psycopg"), spool)


def open_engine(place: Place, *, writes: bool) -> Engine:
    """Connections to the place. A reader's can change nothing. Nothing is connected yet."""
    if place.file is not None:
        return _sqlite(place.file, writes=writes)
    mode = "off" if writes else "on"
    engine = create_engine(
        place.url,
        pool_size=1,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"{POSTGRES_OPTIONS} -c default_transaction_read_only={mode}",
            "application_name": application_name(),
            "keepalives_idle": 5,
            "tcp_user_timeout": STATEMENT_TIMEOUT_MS,
        },
    )
    return engine if writes else engine.execution_options(isolation_level="REPEATABLE READ")


def application_name() -> str:
    """What a session tells the server of itself, for whoever finds its lock taken: process and machine, 63 bytes at most."""
    return f"hip3 process {os.getpid()} on {os.uname().nodename}"[:63]


def _sqlite(file: Path, *, writes: bool) -> Engine:
    # Read-only also keeps the last reader that leaves from moving the write-ahead log of a killed bot into the file.
    uri = f"{file.absolute().as_uri()}?mode={'rwc' if writes else 'ro'}"
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(file)),
        # One connection goes from worker thread to worker thread, one at a time.
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False),
    )
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "connect")
    def _connected(raw: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves, so that DDL is inside the transaction too
        for pragma in ("foreign_keys = ON", *(_WRITER_PRAGMAS if writes else _READER_PRAGMAS)):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


_READER_PRAGMAS = ("temp_store = MEMORY", "query_only = ON")
_WRITER_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 1000")
"""FULL: a segment of the spool is deleted once the database has its groups, so it must keep them over a power cut."""


def open_reader(place: Place) -> Engine:
    """For reading only. Raises StoreMissing where there is no store."""
    try:
        is_there = place.file is None or place.file.exists()
    except OSError as e:
        raise StoreUnusable(f"{place.name}: {os_words(e)}") from e
    if not is_there:
        raise no_store(place)
    return open_engine(place, writes=False)


def no_store(place: Place) -> StoreMissing:
    """A file that is not there, or a database without a table."""
    return StoreMissing(f"{place.name}: there is no store; `hip3 run` makes one, or name another place in store.url")


def connect(engine: Engine, place: Place) -> Connection:
    """A connection. Raises StoreUnusable, or StoreDamaged for a file that is no database, with what the system said."""
    try:
        return engine.connect()
    except (SQLAlchemyError, sqlite3.Error) as e:
        raise refusal(place.name, e, "cannot be opened", on_server=place.file is None) from e


@contextmanager
def in_words(place: Place) -> Iterator[None]:
    """What the database refuses becomes `refusal`, for whoever opens a store and has nobody who would try again."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as e:
        raise refusal(place.name, e, "cannot be used", on_server=place.file is None) from e


SAVE_THE_REST = "`hip3 store restore` puts a backup in its place, `hip3 store rebuild` saves what is readable"
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_REMEDIES = {
    BUSY: "another program holds a lock on it: end that one (`fuser -v FILE` names it)",
    ("SQLITE_FULL",): "the disk is full: free some space",
    ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH"): "give the user of this process the right to write there, "
    "or set another state folder",
}


def refusal(place: str, error: BaseException, what: str, *, on_server: bool) -> StoreDamaged | StoreUnusable:
    """What the database said, in one sentence with the place and a remedy. Damage is what SQLite itself calls so."""
    said = f"{place}: {what}: {cause_of(error)}"
    if is_kind(error, DAMAGE):
        return StoreDamaged(f"{said}; {SAVE_THE_REST}")
    if on_server:
        return StoreUnusable(f"{said}; is the server running, and may this user log in (pg_hba.conf, ~/.pgpass)?")
    found = next((remedy for kinds, remedy in _REMEDIES.items() if is_kind(error, kinds)), None)
    return StoreUnusable(f"{said}; {found or 'look at the rights and the space of its folder, and at its disk'}")


def is_kind(error: BaseException, kinds: Sequence[str]) -> bool:
    """Whether SQLite gave one of these names, or an extension of it, to what it refused."""
    name = getattr(getattr(error, "orig", None) or error, "sqlite_errorname", "")
    return str(name).startswith(tuple(kinds))


def cause_of(error: BaseException) -> str:
    """What the database said, in one line, without the statement and its values."""
    original: Any = getattr(error, "orig", None) or error
    return " ".join(str(original).split()) or type(original).__name__


@contextmanager
def may_write_temporary(connection: Connection) -> Iterator[None]:
    """At the beginning of a reader's transaction: what is temporary may be made and filled; after it nothing is written."""
    if is_postgres(connection):
        connection.exec_driver_sql("SET TRANSACTION READ WRITE")
        yield
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        return
    connection.exec_driver_sql("PRAGMA query_only = OFF")  # the file itself is opened for reading
    yield
    connection.exec_driver_sql("PRAGMA query_only = ON")


def is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def try_advisory_lock(connection: Connection, key: int) -> bool:
    """PostgreSQL's lock of the session: held as long as this very connection lives."""
    return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar())


def without_deadline(connection: Connection) -> None:
    """The present transaction may have statements that go through whole tables."""
    if is_postgres(connection):
        connection.execute(text("SET LOCAL statement_timeout = 0"))
