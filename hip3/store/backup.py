"""Backups of a SQLite store: made while the bot runs, read back before they get a name, restored only when whole (STO-6).

Of a store on PostgreSQL nothing is copied here: `pg_dump` does that, and better.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import trio
from attrs import define, field, frozen
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from hip3.core.clock import Clock
from hip3.store import schema
from hip3.store.audit import ChainHead, verify
from hip3.store.database import SAVE_THE_REST, Place, cause_of, connect, open_reader, place_of_file
from hip3.store.errors import SchemaVersionMismatch, StoreDamaged, StoreError, StoreUnusable, os_words
from hip3.store.versions import check_version, database_version, program_versions

if TYPE_CHECKING:
    from hip3.store.writer import RunSync

DAY_MS = 86_400_000
LOOK_S = 60.0
"""How often it is looked whether a day has begun."""
PART = ".part"
_NAME = re.compile(r"backup-\d{8}-\d{4}\.db")
NO_SERVER = "a store on PostgreSQL is copied with pg_dump and put back with pg_restore (docs/state.md)"


@frozen
class Contents:
    """What was found in a copy when it was read back."""

    version: str
    rows: dict[str, int]
    head: ChainHead


def backup_name(wall_ms: int) -> str:
    """`backup-YYYYMMDD-HHMM.db`, UTC."""
    return f"backup-{datetime.fromtimestamp(wall_ms // 1000, UTC):%Y%m%d-%H%M}.db"


def backups_in(folder: Path) -> list[Path]:
    """The finished backups, the newest first."""
    return sorted((p for p in folder.glob("backup-*.db") if _NAME.fullmatch(p.name)), reverse=True)


def file_of(place: Place) -> Path:
    """The database file. Raises StoreUnusable for a server."""
    if place.file is None:
        raise StoreUnusable(f"{place.name}: {NO_SERVER}")
    return place.file


def make_backup(file: Path, folder: Path, wall_ms: int) -> tuple[Path, Contents]:
    """A copy as of one moment, while others write; read back, then named. One of the same minute is replaced.

    Raises StoreMissing, StoreUnusable where it cannot be written, StoreDamaged where what was read back is not whole.
    """
    open_reader(place_of_file(file)).dispose()  # says so where there is none
    path = folder / backup_name(wall_ms)
    part = path.with_name(path.name + PART)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _copy(file, part)
        contents = check_copy(part)
        _sync(part)
        part.replace(path)
        _sync(folder)
    except (OSError, sqlite3.Error) as e:
        _discard(part)
        said = os_words(e) if isinstance(e, OSError) else f"{cause_of(e)}; look at the space and the rights there"
        raise StoreUnusable(f"backup {path}: cannot be made: {said}") from e
    except StoreDamaged as e:
        _discard(part)
        said = str(e).removeprefix(f"{part}: ")
        raise StoreDamaged(f"{file}: its copy was read back and {said}; no backup was made. {SAVE_THE_REST}") from e
    except BaseException:
        _discard(part)
        raise
    return path, contents


def _discard(part: Path) -> None:
    with suppress(OSError):  # it may never have been there
        part.unlink()


def _copy(file: Path, part: Path) -> None:
    """One step of SQLite's own backup: a read transaction, which a writer in WAL mode does not wait for."""
    with (
        closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(part)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")  # the copy is one file


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_copy(file: Path) -> Contents:
    """Reads a whole database: pages, tables, audit chain. Raises StoreDamaged, SchemaVersionMismatch or StoreMissing."""
    place = place_of_file(file)
    engine = open_reader(place)
    try:
        with connect(engine, place) as connection, connection.begin():
            return _contents(connection, file)
    except SQLAlchemyError as e:
        raise StoreDamaged(f"{file}: is damaged: {cause_of(e)}") from e
    finally:
        engine.dispose()


def _contents(connection: Connection, file: Path) -> Contents:
    said = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    if list(said) != ["ok"]:
        raise StoreDamaged(f"{file}: is damaged: {'; '.join(map(str, said[:3]))}")
    version = database_version(connection, str(file))
    if version is None:
        raise StoreDamaged(f"{file}: holds no tables: a copy that was not finished?")
    if version == program_versions().head:
        check_version(connection, program_versions(), str(file))
    rows = {name: _count(connection, name) for name in schema.METADATA.tables if name in _names(connection)}
    verdict = verify(connection)
    if not verdict.is_whole:
        raise StoreDamaged(f"{file}: its audit chain is broken: {verdict.faults[0]}")
    return Contents(version, rows, verdict.head)


def _names(connection: Connection) -> set[str]:
    return set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())


def _count(connection: Connection, name: str) -> int:
    return int(connection.execute(select(func.count()).select_from(schema.METADATA.tables[name])).scalar_one())


# ---- daily


@define
class DailyBackup:
    """One backup for each day of UTC, made by the writer's task in a thread of its own; the newest `keep` stay."""

    file: Path
    folder: Path
    keep: int
    on_done: Callable[[str, str], None]
    """Level and sentence of what was done."""
    failed_ms: int | None = field(default=None, init=False)

    async def run(self, run_sync: RunSync, clock: Clock) -> None:
        """Looks every minute, until cancelled. A backup that fails is told of and tried again after an hour."""
        while True:
            now = clock.wall_ms()
            waits = self.failed_ms is not None and 0 <= now - self.failed_ms < DAY_MS // 24
            if not waits and not self._has_today(now):
                await run_sync(partial(self.make, now))
            await trio.sleep(LOOK_S)

    def _has_today(self, now_ms: int) -> bool:
        today = backup_name(now_ms)[: len("backup-YYYYMMDD")]
        newest = backups_in(self.folder)[:1]
        return bool(newest) and newest[0].name[: len(today)] >= today

    def make(self, now_ms: int) -> None:
        """One backup, now; old ones go."""
        try:
            for unfinished in self.folder.glob(f"backup-*.db{PART}"):
                unfinished.unlink(missing_ok=True)  # what a process that died left of one
            path, contents = make_backup(self.file, self.folder, now_ms)
            for old in backups_in(self.folder)[self.keep :]:
                old.unlink(missing_ok=True)
        except (StoreError, OSError) as e:
            self.failed_ms = now_ms
            self.on_done("error", f"no backup was made: {e}")
        else:
            self.failed_ms = None
            self.on_done("info", f"backup {path}: {sum(contents.rows.values())} rows, read back whole")


# ---- restore


def restore(place: Place, backup: Path, wall_ms: int) -> tuple[Path | None, Contents]:
    """Puts a backup in the place of the store, whose lock the caller holds. Returns where the replaced one is kept.

    The backup is read as a whole first. Raises StoreDamaged or SchemaVersionMismatch for one that is not whole or is newer
    than the program; then nothing was changed. The spool goes with the store that it belongs to.
    """
    file = file_of(place)
    if not backup.is_file():
        raise StoreUnusable(f"{backup}: there is no such file; `hip3 store info` lists the backups")
    contents = check_copy(backup)
    if contents.version not in program_versions().known:
        raise SchemaVersionMismatch(
            f"{backup}: its schema {contents.version} is unknown to this version of hip3 ({program_versions().head})"
        )
    fresh = file.with_name(file.name + ".restoring")
    try:
        shutil.copyfile(backup, fresh)
        fresh.chmod(0o600)
        _sync(fresh)
        kept = put_aside(place, "replaced", wall_ms)
        fresh.replace(file)
        _sync(file.parent)
    except OSError as e:
        fresh.unlink(missing_ok=True)
        raise StoreUnusable(f"{file}: cannot be restored: {cause_of(e)}") from e
    return kept, contents


def put_aside(place: Place, why: str, wall_ms: int) -> Path | None:
    """Moves the files of a store and its spool into a folder beside it; None where there is none. Raises OSError."""
    file = file_of(place)
    parts = [p for p in (file, Path(f"{file}-wal"), Path(f"{file}-shm"), place.spool) if p.exists()]
    if not parts:
        return None
    stamp = f"{datetime.fromtimestamp(wall_ms // 1000, UTC):%Y%m%d-%H%M%S}-{wall_ms % 1000:03d}"
    folder = file.with_name(f"{file.name}.{why}-{stamp}")
    folder.mkdir(mode=0o700)
    for part in parts:
        part.replace(folder / part.name)
    return folder


def describe(contents: Contents) -> dict[str, Any]:
    """For machines: what is in a copy."""
    return {
        "schema_version": contents.version,
        "rows": contents.rows,
        "audit_rows": contents.head.seq,
        "audit_head": contents.head.hash,
    }
