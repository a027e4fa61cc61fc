"""Records become rows: which table takes which record, and what a later record does to an earlier one.

A batch collects the rows of many groups and writes them with one statement a table. Nothing here may fail on a record that
was accepted: a row that is there already is left or replaced, never an error, for an error would hold up all that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import define, field
from sqlalchemy import Connection, Executable, Table, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite

from hip3.core.records import (
    FillRecord,
    FollowUpRecord,
    IncidentRecord,
    IntentRecord,
    ProcessedRecord,
    Record,
    ResultRecord,
    SignalRecord,
    StateRecord,
    TradeRecord,
    Transition,
)
from hip3.store import schema
from hip3.store.audit import ChainHead, audit_row
from hip3.store.database import is_postgres
from hip3.store.encoding import mapping_text
from hip3.store.segments import Header

Row = dict[str, Any]
TABLES: dict[type, Table] = {
    IntentRecord: schema.order_intents,
    ResultRecord: schema.order_results,
    FillRecord: schema.fills,
    TradeRecord: schema.trades,
    SignalRecord: schema.signals,
    FollowUpRecord: schema.follow_ups,
    ProcessedRecord: schema.processed_events,
    IncidentRecord: schema.incidents,
}
REPLACED = (schema.signals, schema.follow_ups, schema.incidents, schema.runs, schema.system_state)
"""A later row of the same key takes the place of the earlier one; in the other tables the first one stays."""
_FIELDS = {cls: tuple(a.name for a in attrs.fields(cls)) for cls in TABLES}


def clean(value: object) -> object:
    """A value as a column takes it: mappings as JSON; text without NUL, which PostgreSQL cannot hold."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd") if "\x00" in value else value
    return mapping_text(value) if isinstance(value, Mapping) else value


def row_of(record: Record, header: Header) -> Row:
    """The columns of a record that has a table of its own."""
    row: Row = {name: clean(getattr(record, name)) for name in _FIELDS[type(record)]}
    row["account"], row["run_id"] = header.account, header.run_id
    return row


@define
class Batch:
    """Rows of some groups, in order within each table, and the head of the audit chain after them."""

    head: ChainHead
    rows: dict[str, list[Row]] = field(factory=dict)
    state: dict[tuple[str, str], Row | None] = field(factory=dict)
    """The last value of each key of `system_state`; None takes it away."""
    settled: list[Row] = field(factory=list)

    def add(self, record: Record, header: Header) -> None:
        """Takes one record."""
        if isinstance(record, StateRecord):
            self.set_state(header.account, record.key, record.value, record.at_ms)
        elif isinstance(record, Transition):
            row = audit_row(record, header, self.head)
            self.head = ChainHead(row["seq"], row["hash"])
            self.rows.setdefault(schema.audit_log.name, []).append(row)
        else:
            self.rows.setdefault(TABLES[type(record)].name, []).append(row_of(record, header))
            if isinstance(record, ResultRecord) and record.is_terminal:
                self.settled.append({"b_account": header.account, "b_cloid": record.cloid, "b_at_ms": record.at_ms})

    def set_state(self, account: str, key: str, value: str | None, at_ms: int) -> None:
        """A value of `system_state`, or None to take it away."""
        text = None if value is None else clean(value)
        row = {"account": account, "key": key, "value": text, "updated_at_ms": at_ms}
        self.state[account, key] = None if value is None else row

    def write(self, connection: Connection, into: Mapping[str, Table] = schema.METADATA.tables) -> None:
        """All rows, inside the caller's transaction; `into` are other tables of the same columns, by the same names."""
        for name, rows in self.rows.items():
            connection.execute(_insert(name, into, connection), rows)
        if self.settled:
            connection.execute(_settle(into[schema.order_intents.name]), self.settled)
        table = into[schema.system_state.name]
        kept = [row for row in self.state.values() if row is not None]
        if kept:
            connection.execute(_insert(schema.system_state.name, into, connection), kept)
        for (account, key), row in self.state.items():
            if row is None:
                connection.execute(table.delete().where(table.c.account == account, table.c.key == key))


def _settle(intents: Table) -> Executable:
    return (
        update(intents)
        .where(intents.c.account == bindparam("b_account"), intents.c.cloid == bindparam("b_cloid"))
        .where(intents.c.settled_ms.is_(None))
        .values(settled_ms=bindparam("b_at_ms"))
    )


def _insert(name: str, into: Mapping[str, Table], connection: Connection) -> Executable:
    """An insert that leaves or replaces a row of the same key, as `REPLACED` says; an audit row is never left out."""
    table, replaces = into[name], schema.METADATA.tables[name] in REPLACED
    if name == schema.audit_log.name:
        return table.insert()
    keys = [column.name for column in table.primary_key.columns]
    rest = [column.name for column in table.columns if column.name not in keys]
    if is_postgres(connection):
        onto = postgresql.insert(table)
        return onto.on_conflict_do_update(index_elements=keys, set_=_new(onto, rest)) if replaces else _keep(onto)
    other = sqlite.insert(table)
    return other.on_conflict_do_update(index_elements=keys, set_=_new(other, rest)) if replaces else _keep(other)


def _new(insert: postgresql.Insert | sqlite.Insert, names: list[str]) -> dict[str, Any]:
    return {name: insert.excluded[name] for name in names}


def _keep(insert: postgresql.Insert | sqlite.Insert) -> Executable:
    return insert.on_conflict_do_nothing()
