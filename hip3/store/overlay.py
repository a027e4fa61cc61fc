"""What the spool holds and the database does not, laid over one reader's view of the database (STO-4, LESSONS 3).

After a kill the last groups are in the spool alone until the next start. A reader lays them over its own connection: for
each table that they touch a temporary table with their rows, and a temporary view of the table's own name, which a database
finds before the table. So every query of the repository sees both, and neither file nor server is changed. Rows are made
by the code that the writer uses.

Not done: a copy of the database (3 GB after a million signals), and a transaction that is rolled back (it would hold the
writer's lock while somebody reads). What it costs is in docs/state.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from sqlalchemy import Column, Connection, MetaData, Table, and_, bindparam, func, select, text

from hip3.store import schema
from hip3.store.apply import batch_of, own_state
from hip3.store.database import SAVE_THE_REST, is_postgres, may_write_temporary
from hip3.store.errors import StoreDamaged
from hip3.store.rows import Batch, Row
from hip3.store.segments import Group, Segment, pending, read_spool

SPOOLED = "spooled_"
STORED_STATE = "stored_state"
"""What the database itself says of how far the spool was applied, under the view that hides it."""
LAID = "hip3_spool_laid"
TRIES = 5
"""A running bot may delete a segment, which the database has, between our listing and our reading."""
_SETTLED_BY = ("account", "cloid")


def _temporary(table: Table) -> Table:
    columns = [
        Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable, autoincrement=False) for c in table.columns
    ]
    return Table(SPOOLED + table.name, MetaData(), *columns, prefixes=["TEMPORARY"])


TEMPORARY: Mapping[str, Table] = {name: _temporary(table) for name, table in schema.METADATA.tables.items()}
APPENDED = {schema.order_results.name, schema.trades.name, schema.audit_log.name}
"""Their rows are numbered on, so none takes the place of another."""


@frozen
class _Laid:
    """On one connection: the spool's position in the database when it was laid, and what takes it away."""

    on: int | None
    take_away: tuple[str, ...]


@define
class Overlay:
    """The spool of `folder` as it was at the first look, for the connections of one reader."""

    folder: Path
    trouble: str | None = field(default=None, init=False)
    """Why it could not be read, or not laid over: then the database alone is shown."""
    _segments: list[Segment] | None = field(default=None, init=False)
    _groups: list[Group] | None = field(default=None, init=False)

    @property
    def groups(self) -> int:
        """How many groups were in the spool alone at the last read."""
        return len(self._groups or ())

    def look(self) -> None:
        """Reads the spool, once; before the transaction that reads the database, which may only have more of it."""
        if self._segments is not None:
            return
        try:
            self._segments = _read(self.folder)
        except OSError as e:
            self._segments, self.trouble = [], f"spool {self.folder}: cannot be read: {e.strerror or e}"

    def lay(self, connection: Connection) -> None:
        """At the beginning of a transaction: it, and those after it, see what the spool holds besides.

        After an exception the connection is of no more use.
        """
        heads = [s.header for s in self._segments or () if s.header is not None]
        if not heads or self._groups == []:
            return
        with may_write_temporary(connection):
            laid: _Laid | None = connection.info.get(LAID)
            applied = _position(connection, heads[-1].spool_id, under_view=laid is not None)
            if laid is not None and laid.on == applied:
                return
            if self._groups is None:
                self._groups = self._pending(applied)
            self._groups = [group for group in self._groups if group.seq > (applied or 0)]
            for statement in laid.take_away if laid is not None else ():
                connection.execute(text(statement))
            connection.info[LAID] = _Laid(applied, _build(connection, self._groups)) if self._groups else None

    def _pending(self, applied: int | None) -> list[Group]:
        try:
            return pending(self._segments or (), applied)
        except StoreDamaged as e:
            self.trouble = str(e)
            return []


def _read(folder: Path) -> list[Segment]:
    for _ in range(TRIES - 1):
        try:
            return read_spool(folder)
        except FileNotFoundError:
            continue
    return read_spool(folder)


def _position(connection: Connection, spool_id: str, *, under_view: bool) -> int | None:
    table = STORED_STATE if under_view else schema.system_state.name
    query = text(f"SELECT value FROM {table} WHERE account = :account AND key = :key")  # noqa: S608 - names of ours
    found = connection.execute(query, {"account": schema.OWN, "key": schema.SPOOL + spool_id}).scalar()
    try:
        return None if found is None else int(found)
    except ValueError:
        raise StoreDamaged(
            f"system_state {schema.SPOOL}{spool_id} is {found!r}, expected a number; {SAVE_THE_REST}"
        ) from None


def _build(connection: Connection, groups: Sequence[Group]) -> tuple[str, ...]:
    """Makes the tables and views that the groups need; returns the statements that take them away."""
    batch = batch_of(groups, own_state(connection), groups[-1].header.opened_ms)
    _number(connection, batch)
    touched = {*batch.rows, schema.system_state.name}
    if batch.settled:
        touched.add(schema.order_intents.name)
    for name in sorted(touched):
        TEMPORARY[name].create(connection)
        _copy_what_changes(connection, name, batch)
    batch.write(connection, TEMPORARY)
    under = "" if is_postgres(connection) else "main."
    views = {name: _view(schema.METADATA.tables[name], under) for name in sorted(touched)}
    views = {STORED_STATE: f"SELECT account, key, value FROM {under}{schema.system_state.name}"} | views  # noqa: S608 - ours
    for name, query in views.items():
        connection.execute(text(f"CREATE TEMPORARY VIEW {name} AS {query}"))
    away = [f"DROP VIEW {name}" for name in views]
    return (*away, *(f"DROP TABLE {TEMPORARY[name].name}" for name in sorted(touched)))


def _number(connection: Connection, batch: Batch) -> None:
    """Numbers the rows that a database would number, on from its last."""
    for table in (schema.order_results, schema.trades):
        rows = batch.rows.get(table.name)
        if rows:
            last = connection.execute(select(func.max(table.c.id))).scalar() or 0
            for n, row in enumerate(rows, 1):
                row["id"] = last + n


def _copy_what_changes(connection: Connection, name: str, batch: Batch) -> None:
    """Rows of the database that the batch meets: a later record replaces, settles or leaves them in the copy."""
    table, copy = schema.METADATA.tables[name], TEMPORARY[name]
    if name in APPENDED:
        return
    if table is schema.system_state:
        connection.execute(copy.insert().from_select(list(copy.columns), select(table)))
        return
    keys = _SETTLED_BY if table is schema.order_intents else tuple(c.name for c in table.primary_key.columns)
    met = _keys(keys, batch.rows.get(name, ()))
    if table is schema.order_intents:
        met |= {(row["b_account"], row["b_cloid"]) for row in batch.settled}
    chosen = select(table).where(and_(*(table.c[key] == bindparam(f"k_{key}") for key in keys)))
    if not met:
        return
    values = [{f"k_{key}": value for key, value in zip(keys, row, strict=True)} for row in sorted(met)]
    connection.execute(copy.insert().from_select(list(copy.columns), chosen), values)


def _keys(names: Sequence[str], rows: Iterable[Row]) -> set[tuple[Any, ...]]:
    return {tuple(row[name] for name in names) for row in rows}


def _view(table: Table, under: str) -> str:
    """The rows of the spool, and those of the database that they leave; `system_state` was copied whole."""
    columns = ", ".join(f'"{c.name}"' for c in table.columns)
    spooled = f"SELECT {columns} FROM {SPOOLED}{table.name}"  # noqa: S608 - names of ours
    if table is schema.system_state:
        return spooled
    stored = f"SELECT {columns} FROM {under}{table.name} AS stored"  # noqa: S608 - as above
    if table.name not in APPENDED:
        same = " AND ".join(f's."{c.name}" = stored."{c.name}"' for c in table.primary_key.columns)
        stored += f" WHERE NOT EXISTS (SELECT 1 FROM {SPOOLED}{table.name} AS s WHERE {same})"  # noqa: S608 - as above
    return f"{stored} UNION ALL {spooled}"
