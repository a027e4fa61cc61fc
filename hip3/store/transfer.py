"""`hip3 store copy`: a whole store into an empty place, from a file to a server or back, read back before it counts (STO-1).

Rows go as they are, table by table, in one transaction of the target. It ends with a comparison of every row and of the
audit chain, and is committed only where both agree: a copy that breaks, at whatever moment, leaves empty tables, and can be
made again. The source is left as its own next start would leave it: what waited in its spool is in its database.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

from attrs import frozen
from sqlalchemy import Column, Connection, MetaData, Table, Text, func, inspect, select

from hip3.core.clock import Clock
from hip3.store import schema
from hip3.store.apply import Applier
from hip3.store.audit import Verdict, verify
from hip3.store.database import Place, connect, in_words, is_postgres, no_store, open_reader, without_deadline
from hip3.store.errors import StoreDamaged, StoreUnusable
from hip3.store.lock import take_lock
from hip3.store.store import apply_all, groups_left, open_applier
from hip3.store.versions import check_version, program_versions

BATCH_ROWS = 1000
"""Ours: rows of one statement; with their inputs some 2 MB."""

Content = tuple[int, int]
"""Rows of a table, and the sum of their hashes: the same for the same rows in whatever order."""
Row = tuple[Any, ...]


@frozen
class Copied:
    """What the target holds now, as it was read back. `verdict` is that of both audit chains."""

    rows: dict[str, int]
    groups: int
    """Groups of the source's spool that were applied to it first."""
    verdict: Verdict


def copy_store(source: Place, target: Place, clock: Clock, backups: Path, pid: int) -> Copied:
    """Copies everything, with the locks of both places held; `pid` is the process that whoever is refused is told of.

    An older source is migrated first, with a copy in `backups`. Raises StoreMissing for a source without a store,
    StoreInUse, SchemaVersionMismatch, StoreDamaged for a source that is not whole, and StoreUnusable: the target is not
    empty, cannot be written or keeps other rows than it was given. Then the target holds no row.
    """
    if _is_same(source, target):
        raise StoreUnusable(f"{target.name}: is the store that was to be copied; name another place")
    _refuse_missing(source)
    _refuse_full(target)
    with ExitStack() as held:
        # Two databases of one state folder have one spool, and its lock.
        for path in sorted({source.lock_file, target.lock_file}):
            held.callback(take_lock(path, pid).release)
        giver = open_applier(source, clock, backups)
        held.callback(giver.close)
        with in_words(source):
            giver.check_audit_end()
            _, _, left = groups_left(source, giver)
            apply_all(giver, left)
            _refuse_other_spool(source, target, giver)
        taker = open_applier(target, clock, None)
        held.callback(taker.close)
        rows, verdict = _copy(giver, taker)
    return Copied(rows, len(left), verdict)


def _is_same(one: Place, other: Place) -> bool:
    if one.file is None or other.file is None:
        return one.url == other.url
    return one.file.resolve() == other.file.resolve()


# ---- what is refused


def _refuse_missing(source: Place) -> None:
    engine = open_reader(source)
    try:
        with in_words(source), connect(engine, source) as connection:
            if check_version(connection, program_versions(), source.name) is None:
                raise no_store(source)
    finally:
        engine.dispose()


def _refuse_full(target: Place) -> None:
    """Before anything is made there. Raises SchemaVersionMismatch where tables of others are."""
    if target.file is not None and not target.file.exists():
        return
    engine = open_reader(target)
    try:
        with in_words(target), connect(engine, target) as connection:
            if check_version(connection, program_versions(), target.name) is not None:
                _refuse_rows(connection, target)
    finally:
        engine.dispose()


def _refuse_rows(connection: Connection, target: Place) -> None:
    there = set(inspect(connection).get_table_names())
    count = {n: _count(connection, table) for n, table in schema.METADATA.tables.items() if n in there}
    held = ", ".join(f"{name} {rows}" for name, rows in count.items() if rows)
    if held:
        remedy = "move it away" if target.file is not None else "name an empty database, or drop this one and create it anew"
        raise StoreUnusable(f"{target.name}: is not empty, it holds {held}; {remedy}. Nothing was changed")


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _refuse_other_spool(source: Place, target: Place, giver: Applier) -> None:
    """The target's next start applies what its spool holds, so there may be nothing that the copied rows do not have."""
    _, _, left = groups_left(target, giver)
    if left:
        raise StoreUnusable(
            f"spool {target.spool}: holds {len(left)} groups of another store than {source.name}; move it away. "
            "Nothing was changed"
        )


# ---- the copy


def _copy(giver: Applier, taker: Applier) -> tuple[dict[str, int], Verdict]:
    source, target = giver.connection(), taker.connection()
    tables = [_plain(table) for table in schema.METADATA.tables.values()]
    with in_words(taker.place), source.begin(), target.begin():
        without_deadline(source)
        without_deadline(target)
        _refuse_rows(target, taker.place)
        given = {table.name: _copy_table(giver, taker, table) for table in tables}
        _go_on_counting(target)
        found = {table.name: _content(taker, table) for table in tables}
        with in_words(giver.place):
            expected = verify(source)
        verdict = verify(target)
        _refuse_other_rows(taker.place, given, found)
        if verdict != expected:
            raise StoreDamaged(
                f"{taker.place.name}: {_chain(verdict)}, that of the source {_chain(expected)}; nothing was kept"
            )
    return {name: rows for name, (rows, _) in found.items()}, verdict


def _plain(table: Table) -> Table:
    """The table with its decimals as the text that they are stored as."""
    kinds = {c.name: Text() if isinstance(c.type, schema.DecimalText) else c.type for c in table.columns}
    return Table(table.name, MetaData(), *(Column(name, kind) for name, kind in kinds.items()))


def _copy_table(giver: Applier, taker: Applier, table: Table) -> Content:
    rows = total = 0
    names, insert = [c.name for c in table.columns], table.insert()
    with closing(_batches(giver, table)) as batches:
        for batch in batches:
            taker.connection().execute(insert, [dict(zip(names, row, strict=True)) for row in batch])
            rows, total = rows + len(batch), total + _hashes(batch)
    return rows, total


def _content(applier: Applier, table: Table) -> Content:
    rows = total = 0
    with closing(_batches(applier, table)) as batches:
        for batch in batches:
            rows, total = rows + len(batch), total + _hashes(batch)
    return rows, total


def _batches(applier: Applier, table: Table) -> Generator[Sequence[Row], None, None]:
    """The rows of a table. A place that cannot be read is named, whatever the caller does between two batches."""
    query = select(table)
    with in_words(applier.place), applier.connection().execute(query, execution_options={"yield_per": BATCH_ROWS}) as found:
        for batch in found.partitions():
            yield [tuple(row) for row in batch]


def _hashes(batch: Sequence[Row]) -> int:
    return sum(int.from_bytes(blake2b(repr(row).encode(), digest_size=16).digest()) for row in batch)


def _go_on_counting(target: Connection) -> None:
    """A server numbers new rows after those that were copied; SQLite does by itself."""
    if not is_postgres(target):
        return
    for table in schema.METADATA.tables.values():
        serial = table.autoincrement_column
        if serial is not None:
            last = select(func.max(serial)).scalar_subquery()
            target.execute(select(func.setval(func.pg_get_serial_sequence(table.name, serial.name), last)))


def _refuse_other_rows(target: Place, given: dict[str, Content], found: dict[str, Content]) -> None:
    wrong = [
        f"{name}: {rows} rows were written, {found[name][0]} read back" + ("" if rows != found[name][0] else " and differ")
        for name, (rows, _) in given.items()
        if given[name] != found[name]
    ]
    if wrong:
        raise StoreUnusable(f"{target.name}: does not keep what it is given: {'; '.join(wrong)}; nothing was kept")


def _chain(verdict: Verdict) -> str:
    return f"has an audit chain of {verdict.rows} rows with {verdict.fault_count} faults and head {verdict.head.hash[:16]}"
