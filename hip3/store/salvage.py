"""`hip3 store rebuild`: a new database from what is readable of a damaged one, and of its spool (STO-6).

Nothing is thrown away: the old files are put aside whole. Rows are copied as they are, table by table, from both ends
towards the damage. What is derived is made anew: which orders are open, the head of the audit chain, how far the spool was
applied. Audit rows that are lost stay lost, and `hip3 audit verify` goes on saying which: a rebuilt chain proves nothing
about them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import define, field
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from hip3.core.clock import Clock
from hip3.store import schema
from hip3.store.apply import Applier, note_by_hand, own_state
from hip3.store.audit import ChainHead, head_text
from hip3.store.backup import file_of, put_aside
from hip3.store.checks import why_wrong
from hip3.store.database import BUSY, Place, connect, is_kind, open_reader, place_of_file, refusal
from hip3.store.errors import SchemaVersionMismatch, StoreDamaged, StoreMissing, StoreUnusable, os_words
from hip3.store.rows import Batch
from hip3.store.segments import Group, Segment, read_spool
from hip3.store.store import apply_all, open_applier
from hip3.store.versions import database_version, program_versions

REBUILDING = ".rebuilding"
NOT_DAMAGE = (*BUSY, "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_NOMEM")
"""What keeps a whole file from being read: its rows are not lost, so nothing is rebuilt without them."""


@define
class Rebuilt:
    """What was saved, and a sentence for each thing that was not."""

    kept: Path | None = None
    rows: dict[str, int] = field(factory=dict)
    groups: int = 0
    """Groups of the spool that were applied besides."""
    lost: list[str] = field(factory=list)


def rebuild(place: Place, clock: Clock) -> Rebuilt:
    """Builds the store anew; the caller holds its lock. Raises StoreMissing, StoreUnusable."""
    file = file_of(place)
    if not file.exists() and not place.spool.exists():
        raise StoreMissing(f"{file}: there is neither a database nor a spool")
    fresh = place_of_file(file.with_name(file.name + REBUILDING))
    assert fresh.file is not None
    done = Rebuilt()
    _refuse_unknown(place)
    try:
        for leftover in _files(fresh.file):
            leftover.unlink(missing_ok=True)
        applier = open_applier(fresh, clock, None)
        try:
            _copy_tables(file, fresh.file, done)
            segments = read_spool(place.spool)
            _derive(applier, segments, done)
            _apply_spool(applier, segments, done)
            _say(applier, done)
        finally:
            applier.close()
        _to_one_file(fresh.file)
        done.kept = put_aside(place, "before-rebuild", clock.wall_ms())
        fresh.file.replace(file)
    except OSError as e:
        raise StoreUnusable(f"{file}: cannot be rebuilt: {os_words(e)}; the old files are as they were") from e
    except (sqlite3.Error, SQLAlchemyError) as e:
        said = refusal(str(file), e, "cannot be rebuilt", on_server=False)
        raise StoreUnusable(f"{said}; the old files are as they were") from e
    return done


def _files(file: Path) -> tuple[Path, ...]:
    return (file, Path(f"{file}-wal"), Path(f"{file}-shm"), Path(f"{file}.spool"))


def _to_one_file(file: Path) -> None:
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.execute("PRAGMA journal_mode = DELETE")


def _refuse_unknown(place: Place) -> None:
    """Raises SchemaVersionMismatch for a database of another version: what this one does not know would be left out.

    One whose version cannot be read is rebuilt as one of this version. Raises StoreUnusable for one that is in use.
    """
    try:
        engine = open_reader(place)
    except StoreMissing:
        return
    head, version = program_versions().head, None
    try:
        with connect(engine, place) as connection:
            version = database_version(connection, place.name)
    except (StoreDamaged, SchemaVersionMismatch):
        pass  # what there is to be saved
    finally:
        engine.dispose()
    if version not in (None, head):
        raise SchemaVersionMismatch(
            f"{place.name}: has schema {version!r}, this version of hip3 works with {head}; run the version that wrote it, "
            "or `hip3 store migrate` for an older one. Nothing was changed"
        )


# ---- rows of the damaged file


def _copy_tables(old: Path, new: Path, done: Rebuilt) -> None:
    if not old.exists():
        done.lost.append(f"{old}: there is no database; only the spool was read")
        return
    with (
        closing(sqlite3.connect(f"file:{quote(str(old))}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(new, isolation_level=None)) as target,
    ):
        target.execute("BEGIN")
        for name, table in schema.METADATA.tables.items():
            done.rows[name] = _copy_table(source, target, name, [c.name for c in table.columns], done)
        target.execute("COMMIT")


def _copy_table(
    source: sqlite3.Connection, target: sqlite3.Connection, name: str, columns: Sequence[str], done: Rebuilt
) -> int:
    """Rows by their internal number, upwards until one cannot be read, then downwards from the end until one cannot."""
    found = ", ".join(f'"{column}"' for column in columns)
    into = f'INSERT OR IGNORE INTO "{name}" ({found}) VALUES ({", ".join("?" * len(columns))})'  # noqa: S608 - names of ours
    count = 0
    stopped: str | None = None
    table = schema.METADATA.tables[name]
    left_out: dict[str, None] = {}
    for order in ("", " DESC"):
        query = f'SELECT {found} FROM "{name}" NOT INDEXED ORDER BY rowid{order}'  # noqa: S608 - as above
        rows = _rows(source, query)
        while True:
            try:
                row = next(rows, None)
            except sqlite3.DatabaseError as e:
                if is_kind(e, NOT_DAMAGE):
                    raise
                stopped = str(e)
                break
            if row is None:
                break
            wrong = why_wrong(table, dict(zip(columns, row, strict=True)))
            if wrong is not None:
                left_out[wrong] = None  # both ways may meet it
            else:
                count += target.execute(into, row).rowcount
        if stopped is None:
            break
    done.lost += [f"{wrong}: the row was left out" for wrong in left_out]
    if stopped is not None:
        done.lost.append(f"table {name}: {count} rows were readable, others were not: {stopped}")
    return count


def _rows(source: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    yield from source.execute(query)


# ---- what is derived


def _derive(applier: Applier, segments: Sequence[Segment], done: Rebuilt) -> None:
    """The head of the chain from its last row, the open orders from the results, positions that are missing."""
    connection = applier.connection()
    log, results, intents = schema.audit_log, schema.order_results, schema.order_intents
    now = applier.clock.wall_ms()
    with connection.begin():
        last = connection.execute(select(log.c.seq, log.c.hash).order_by(log.c.seq.desc()).limit(1)).first()
        settled = (
            select(func.min(results.c.at_ms))
            .where(results.c.account == intents.c.account, results.c.cloid == intents.c.cloid, results.c.is_terminal)
            .scalar_subquery()
        )
        connection.execute(intents.update().values(settled_ms=settled))
        own = own_state(connection)
        known = {key for key, value in own.items() if not key.startswith(schema.SPOOL) or value.isdecimal()}
        batch = Batch(ChainHead(0, ""))
        if last is not None:
            batch.set_state(schema.OWN, schema.AUDIT_HEAD, head_text(ChainHead(last.seq, last.hash)), now)
        elif schema.AUDIT_HEAD in known:
            batch.set_state(schema.OWN, schema.AUDIT_HEAD, None, now)
        for segment in segments:
            if segment.header and schema.SPOOL + segment.header.spool_id not in known:
                key = schema.SPOOL + segment.header.spool_id
                known.add(key)
                done.lost.append(f"how far spool {segment.header.spool_id} was applied: all that is left of it was, again")
                batch.set_state(schema.OWN, key, str(segment.header.first_seq - 1), now)
        batch.write(connection)


def _apply_spool(applier: Applier, segments: Sequence[Segment], done: Rebuilt) -> None:
    """Every readable group that the database does not have, around those that are damaged."""
    for segment in segments:
        done.lost += segment.damage
        if segment.header is None:
            continue
        applied = applier.position(segment.header.spool_id) or 0
        groups: list[Group] = [group for group in segment.groups if group.seq > applied]
        missing = sorted(set(range(applied + 1, segment.last_seq + 1)) - {group.seq for group in groups})
        if groups and missing:
            done.lost.append(f"{segment.path.name}: groups {missing[0]} to {missing[-1]}, {len(missing)} of them")
        apply_all(applier, groups)
        done.groups += len(groups)


def _say(applier: Applier, done: Rebuilt) -> None:
    what = f"rebuilt: {sum(done.rows.values())} rows and {done.groups} groups saved"
    note_by_hand(applier, "REBUILT", what, {"rows": done.rows, "groups": done.groups, "lost": done.lost})
