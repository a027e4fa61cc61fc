"""Typed reads of a store, while a bot writes to it or when none runs. Reads change nothing and need no lock.

While a bot runs, the newest records may still be in its spool, some 20 ms; after a kill they are there until the next start
applies them. `everything_in` reads both; `behind` says how many groups the spool alone has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import attrs
from attrs import define, field, frozen
from sqlalchemy import Connection, Engine, RowMapping, Select, Table, func, select, text
from sqlalchemy.exc import DBAPIError

from hip3.core.records import (
    FillRecord,
    FollowUpRecord,
    IncidentRecord,
    IntentRecord,
    ResultRecord,
    SignalRecord,
    TradeRecord,
)
from hip3.store import schema
from hip3.store.audit import ChainHead, Verdict, head_of, verify
from hip3.store.checks import BadRow, check_row
from hip3.store.database import NO_SPOOL, SAVE_THE_REST, Place, connect, is_postgres, no_store, open_reader, refusal
from hip3.store.encoding import mapping_of
from hip3.store.errors import StoreDamaged
from hip3.store.lock import lock_holder, server_lock_holder
from hip3.store.overlay import Overlay
from hip3.store.rows import TABLES
from hip3.store.segments import read_spool
from hip3.store.versions import check_version, program_versions

T = TypeVar("T")
FOREVER_MS = (1 << 63) - 1


@frozen
class OrderRow:
    """An order: each of its sendings, and the last that was recorded of it; None where nothing was."""

    intents: tuple[IntentRecord, ...]
    result: ResultRecord | None
    run_id: str


@frozen
class RunRow:
    """One run of the bot; `ended_ms` is None where it did not end in order."""

    account: str
    run_id: str
    config_hash: str
    started_ms: int
    ended_ms: int | None


@frozen
class AuditRow:
    """One row of the audit log."""

    seq: int
    account: str
    run_id: str
    config_hash: str
    timestamp_ms: int
    category: str
    entity_id: str
    from_state: str
    to_state: str
    reason_code: str
    reason_message: str
    event_id: str
    metadata: Mapping[str, object]
    prev_hash: str
    hash: str


TABLE_OF: Mapping[type, Table] = TABLES | {RunRow: schema.runs, AuditRow: schema.audit_log}


def record_of(cls: type[T], row: RowMapping) -> T:
    """A record from the columns that are named like its fields; mappings from their JSON. Raises BadRow."""
    check_row(TABLE_OF[cls], dict(row))
    values = {a.name: row[a.name] for a in attrs.fields(cast(Any, cls))}
    for name in ("inputs", "trail", "evidence", "metadata"):
        if name in values:
            values[name] = mapping_of(values[name])
    return cls(**values)


@define
class Repository:
    """Reads one store. Every method may raise StoreMissing, StoreUnusable, StoreDamaged or SchemaVersionMismatch."""

    place: Place
    spool: Overlay | None = None
    """What the spool holds besides; None reads the database alone."""
    _engine: Engine | None = field(default=None, init=False)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One read transaction: what is read together belongs together."""
        if self.spool is not None:
            self.spool.look()
        if self._engine is None:
            engine = open_reader(self.place)
            try:
                with connect(engine, self.place) as connection:
                    _refuse_unknown(connection, self.place)
            except BaseException:
                engine.dispose()
                raise
            self._engine = engine
        try:
            with connect(self._engine, self.place) as connection, connection.begin():
                if self.spool is not None:
                    self._lay(self.spool, connection)
                yield connection
        except DBAPIError as e:
            raise refusal(self.place.name, e, "cannot be read", on_server=self.place.file is None) from e
        except BadRow as e:
            raise StoreDamaged(f"{self.place.name}: {e}; {SAVE_THE_REST}") from e

    @staticmethod
    def _lay(spool: Overlay, connection: Connection) -> None:
        try:
            spool.lay(connection)
        except BaseException:
            connection.invalidate()  # half of it may be there
            raise

    def close(self) -> None:
        """Lets the connection go; a later read makes another."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _records(self, cls: type[T], query: Select[Any]) -> list[T]:
        with self._reading() as connection:
            return [record_of(cls, row) for row in connection.execute(query).mappings()]

    # ---- what a run goes on from

    def state(self, account: str) -> dict[str, str]:
        """The values that the runs of the account kept, by key."""
        table = schema.system_state
        with self._reading() as connection:
            rows = connection.execute(select(table).where(table.c.account == account)).mappings().all()
            for row in rows:
                check_row(table, dict(row))
            return {row["key"]: row["value"] for row in rows}

    def state_times(self, account: str) -> dict[str, int]:
        """When each of the values of `state` was put, Unix ms."""
        table = schema.system_state
        with self._reading() as connection:
            rows = connection.execute(select(table.c.key, table.c.updated_at_ms).where(table.c.account == account))
            return {row.key: row.updated_at_ms for row in rows}

    def unfinished_orders(self, account: str) -> list[OrderRow]:
        """Orders without a terminal result, the oldest first: what became of them must be asked of the venue."""
        table = schema.order_intents
        query = select(table).where(table.c.account == account, table.c.settled_ms.is_(None))
        with self._reading() as connection:
            found: dict[str, list[tuple[IntentRecord, str]]] = {}
            for row in connection.execute(query.order_by(table.c.created_ms, table.c.nonce)).mappings():
                found.setdefault(row["cloid"], []).append((record_of(IntentRecord, row), row["run_id"]))
            return [
                OrderRow(tuple(i for i, _ in sent), _last_result(connection, account, cloid), sent[-1][1])
                for cloid, sent in found.items()
            ]

    def order(self, account: str, cloid: str) -> OrderRow | None:
        """One order, finished or not."""
        table = schema.order_intents
        query = select(table).where(table.c.account == account, table.c.cloid == cloid).order_by(table.c.nonce)
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
            if not rows:
                return None
            intents = tuple(record_of(IntentRecord, row) for row in rows)
            return OrderRow(intents, _last_result(connection, account, cloid), rows[-1]["run_id"])

    def intents(self, account: str, since_ms: int = 0, until_ms: int = FOREVER_MS) -> list[IntentRecord]:
        """Sendings of orders from `since_ms` to before `until_ms`, in that order."""
        table = schema.order_intents
        query = _span(table, account, "sent_ms", since_ms, until_ms)
        return self._records(IntentRecord, query.order_by(table.c.sent_ms, table.c.nonce))

    def results_between(self, account: str, since_ms: int = 0, until_ms: int = FOREVER_MS) -> list[ResultRecord]:
        """What was recorded of any order from `since_ms` to before `until_ms`, in the order of recording."""
        table = schema.order_results
        return self._records(ResultRecord, _span(table, account, "at_ms", since_ms, until_ms).order_by(table.c.id))

    def results(self, account: str, cloid: str) -> list[ResultRecord]:
        """Everything that was recorded of an order, in order."""
        table = schema.order_results
        query = select(table).where(table.c.account == account, table.c.cloid == cloid)
        return self._records(ResultRecord, query.order_by(table.c.id))

    def fills(self, account: str, since_ms: int = 0, until_ms: int = FOREVER_MS) -> list[FillRecord]:
        """Fills from `since_ms` to before `until_ms`, by time."""
        table = schema.fills
        query = _span(table, account, "time_ms", since_ms, until_ms)
        return self._records(FillRecord, query.order_by(table.c.time_ms, table.c.coin, table.c.tid))

    def processed(self, account: str, since_ms: int = 0) -> set[str]:
        """Keys of the venue's events from `since_ms` on whose effects are in the store."""
        table = schema.processed_events
        query = select(table.c.event_key).where(table.c.account == account, table.c.time_ms >= since_ms)
        with self._reading() as connection:
            return set(connection.execute(query).scalars())

    def incidents(self, account: str, *, open_only: bool = False) -> list[IncidentRecord]:
        """Incidents, the oldest first."""
        table = schema.incidents
        query = select(table).where(table.c.account == account).order_by(table.c.opened_ms)
        return self._records(IncidentRecord, query.where(table.c.closed_ms.is_(None)) if open_only else query)

    def runs(self, account: str) -> list[RunRow]:
        """Every run of the account, the oldest first."""
        table = schema.runs
        return self._records(RunRow, select(table).where(table.c.account == account).order_by(table.c.started_ms))

    def last_run(self, account: str, other_than: str = "") -> RunRow | None:
        """The run of the account that began last; a run that is under way asks for one other than itself."""
        table = schema.runs
        query = select(table).where(table.c.account == account, table.c.run_id != other_than)
        with self._reading() as connection:
            row = connection.execute(query.order_by(table.c.started_ms.desc()).limit(1)).mappings().first()
            return None if row is None else record_of(RunRow, row)

    def accounts(self) -> list[str]:
        """Accounts that ever ran here."""
        with self._reading() as connection:
            return sorted(connection.execute(select(schema.runs.c.account).distinct()).scalars())

    # ---- what a report tells of

    def trades(self, account: str, since_ms: int = 0, until_ms: int = FOREVER_MS) -> list[TradeRecord]:
        """Trades that ended from `since_ms` to before `until_ms`, in that order."""
        table = schema.trades
        query = _span(table, account, "exit_ms", since_ms, until_ms)
        return self._records(TradeRecord, query.order_by(table.c.exit_ms, table.c.id))

    def signals(self, account: str, since_ms: int = 0, until_ms: int = FOREVER_MS) -> list[SignalRecord]:
        """Signals that were detected from `since_ms` to before `until_ms`, in that order."""
        table = schema.signals
        query = _span(table, account, "detected_ms", since_ms, until_ms)
        return self._records(SignalRecord, query.order_by(table.c.detected_ms, table.c.signal_id))

    def signal(self, account: str, signal_id: str) -> SignalRecord | None:
        """One signal."""
        table = schema.signals
        found = self._records(SignalRecord, select(table).where(table.c.account == account, table.c.signal_id == signal_id))
        return found[0] if found else None

    def last_signal(self, account: str, coin: str | None = None) -> SignalRecord | None:
        """The newest signal, of `coin` where given."""
        table = schema.signals
        query = (
            select(table).where(table.c.account == account).order_by(table.c.detected_ms.desc(), table.c.signal_id.desc())
        )
        found = self._records(SignalRecord, (query if coin is None else query.where(table.c.coin == coin)).limit(1))
        return found[0] if found else None

    def count_signals(self, account: str, since_ms: int, until_ms: int) -> int:
        """Signals that were detected from `since_ms` to before `until_ms`."""
        spanned = _span(schema.signals, account, "detected_ms", since_ms, until_ms).subquery()
        with self._reading() as connection:
            return int(connection.execute(select(func.count()).select_from(spanned)).scalar_one())

    def follow_ups(self, account: str, since_ms: int = 0, until_ms: int = FOREVER_MS) -> list[FollowUpRecord]:
        """Follow-ups that were measured from `since_ms` to before `until_ms`, in that order."""
        table = schema.follow_ups
        query = _span(table, account, "at_ms", since_ms, until_ms)
        return self._records(FollowUpRecord, query.order_by(table.c.at_ms, table.c.signal_id, table.c.after_ms))

    # ---- the audit log

    def audit(
        self, *, after_seq: int = 0, limit: int | None = None, category: str | None = None, entity_id: str | None = None
    ) -> list[AuditRow]:
        """Rows after number `after_seq`, in order; with `limit` the first so many of them."""
        return self._records(AuditRow, _audit_query(after_seq, category, entity_id).limit(limit))

    def audit_tail(self, count: int, category: str | None = None) -> list[AuditRow]:
        """The last rows, the newest last."""
        table = schema.audit_log
        query = _audit_query(0, category, None).order_by(None).order_by(table.c.seq.desc()).limit(count)
        return self._records(AuditRow, query)[::-1]

    def audit_head(self) -> ChainHead:
        """Number and hash of the last row; no row is looked at."""
        text = self.state(schema.OWN).get(schema.AUDIT_HEAD)
        try:
            return head_of(text)
        except ValueError as e:
            raise StoreDamaged(f"{self.place.name}: system_state {schema.AUDIT_HEAD} is {text!r}; {SAVE_THE_REST}") from e

    def verify_audit(self) -> Verdict:
        """Checks the whole chain."""
        with self._reading() as connection:
            return verify(connection)

    # ---- the store itself

    def counts(self) -> dict[str, int]:
        """Rows of each table; looks at all of them."""
        with self._reading() as connection:
            return {
                name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
                for name, table in schema.METADATA.tables.items()
            }

    def writer(self) -> str | None:
        """Who writes to the store now, in words; None where nobody holds its lock."""
        holder = lock_holder(self.place.lock_file)
        if holder is not None:
            return f"process {holder}"
        with self._reading() as connection:
            return server_lock_holder(connection)

    def size(self) -> tuple[int, int]:
        """Bytes that the database takes, and those among them that are free for new rows; of a server 0 free."""
        with self._reading() as connection:
            if is_postgres(connection):
                return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()), 0
            page, pages, free = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_size", "page_count", "freelist_count")
            )
            return page * pages, page * free

    def behind(self) -> int:
        """Groups in the spool that the database did not have at this read. Raises OSError."""
        if self.spool is not None:
            self.state(schema.OWN)
            return self.spool.groups
        segments = read_spool(self.place.spool)
        heads = [s.header for s in segments if s.header is not None]
        if not heads:
            return 0
        applied = int(self.state(schema.OWN).get(schema.SPOOL + heads[-1].spool_id, "0"))
        return sum(group.seq > applied for segment in segments for group in segment.groups)


def everything_in(place: Place) -> Repository:
    """Reads what was committed, whether the database has it already or only the spool (STO-4)."""
    return Repository(place, None if place.spool == NO_SPOOL else Overlay(place.spool))


def _refuse_unknown(connection: Connection, place: Place) -> None:
    """Raises SchemaVersionMismatch, and StoreMissing for a database without a table."""
    if check_version(connection, program_versions(), place.name) is None:
        raise no_store(place)


def _last_result(connection: Connection, account: str, cloid: str) -> ResultRecord | None:
    table = schema.order_results
    query = select(table).where(table.c.account == account, table.c.cloid == cloid).order_by(table.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else record_of(ResultRecord, row)


def _span(table: Table, account: str, column: str, since_ms: int, until_ms: int) -> Select[Any]:
    at = table.c[column]
    return select(table).where(table.c.account == account, at >= since_ms, at < until_ms)


def _audit_query(after_seq: int, category: str | None, entity_id: str | None) -> Select[Any]:
    table = schema.audit_log
    query = select(table).where(table.c.seq > after_seq).order_by(table.c.seq)
    if category is not None:
        query = query.where(table.c.category == category)
    return query if entity_id is None else query.where(table.c.entity_id == entity_id)
