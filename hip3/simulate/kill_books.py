"""What must be true of a store and an exchange after the bot was killed and came back (STO-4, REC-1 to 3, DESIGN 9).

The store is read by SQL of its own and not by the code that the bot reads it with; the exchange is asked for its own books.
It finds and says; it changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import define, field
from sqlalchemy import BindParameter, Connection, bindparam, text

from hip3.core.events import Fill
from hip3.core.ids import is_our_cloid
from hip3.core.records import FillRecord, IntentRecord, ProcessedRecord, Record, ResultRecord, SignalRecord, TradeRecord
from hip3.core.records import Transition as AuditRecord
from hip3.core.units import ZERO
from hip3.exchange.exchange import Exchange
from hip3.exchange.requests import Envelope, Noop, OrderRequest
from hip3.simulate.invariants import orders_of
from hip3.store.database import Place, open_reader
from hip3.store.segments import Group, read_spool

Row = tuple[object, ...]


def acknowledged(spool: Path) -> tuple[list[Group], list[str]]:
    """The groups that a spool holds, and what of it is damaged; what was torn off while it was written does not count."""
    segments = read_spool(spool)
    return [group for s in segments for group in s.groups], [text for s in segments for text in s.damage]


def _row_of(record: Record, run_id: str) -> tuple[str, Row] | None:
    """The table of a record and the row by which it is found again; None for state, which later runs write over."""
    if isinstance(record, AuditRecord):
        r = record
        return "audit_log", (run_id, r.at_ms, r.category, r.entity_id, r.from_state, r.to_state, r.reason_code, r.event_id)
    if isinstance(record, IntentRecord):
        return "order_intents", (run_id, record.cloid, record.nonce)
    if isinstance(record, ResultRecord):
        return "order_results", (run_id, record.cloid, record.state, record.at_ms, str(record.filled_sz))
    if isinstance(record, FillRecord):
        return "fills", (record.coin, record.time_ms, record.tid)
    if isinstance(record, TradeRecord):
        return "trades", (run_id, record.coin, record.entry_ms, record.exit_ms)
    if isinstance(record, SignalRecord):
        return "signals", (run_id, record.signal_id)
    if isinstance(record, ProcessedRecord):
        return "processed_events", (record.event_key,)
    return None


_COLUMNS: Mapping[str, str] = {
    "audit_log": "run_id, timestamp_ms, category, entity_id, from_state, to_state, reason_code, event_id",
    "order_intents": "run_id, cloid, nonce",
    "order_results": "run_id, cloid, state, at_ms, filled_sz",
    "fills": "coin, time_ms, tid",
    "trades": "run_id, coin, entry_ms, exit_ms",
    "signals": "run_id, signal_id",
    "processed_events": "event_key",
}
_KEYED = frozenset({"order_intents", "fills", "signals", "processed_events"})
"""Tables of one row for each thing, whoever wrote it first and however often it was written again."""


def _rows(db: Connection, query: str, **values: object) -> list[Any]:
    """Tuples, whatever the database; a list among the values is what `in` takes."""
    lists: list[BindParameter[Any]] = [
        bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list)
    ]
    return [tuple(row) for row in db.execute(text(query).bindparams(*lists), values)]


def _normal(row: Row) -> Row:
    """Decimals by value: 0 and 0.0 are the same size."""
    return (*row[:-1], Decimal(str(row[-1])).normalize())


@define
class Books:
    """One account at one exchange and in one database, over all runs of a harness."""

    exchange: Exchange
    user: str
    place: Place
    owed: dict[int, Group] = field(factory=dict)
    """By number: what killed runs had committed and no check has found in the database yet."""
    sent: dict[str, list[int]] = field(factory=dict)
    """Nonces by cloid of every order that reached the venue."""
    entries: set[str] = field(factory=set)
    """Cloids of entries among them."""
    broken: list[str] = field(factory=list)
    _last: Envelope | None = None
    _last_nonce: int = 0
    rows_checked: int = 0

    # ---- the wire

    def look(self) -> None:
        """Reads what reached the venue since the last look; often enough that its log of 10,000 actions does not turn."""
        for envelope in self._new():
            if envelope.nonce <= self._last_nonce and not isinstance(envelope.action, Noop):
                self.broken.append(f"nonce {envelope.nonce} came after {self._last_nonce}")
            self._last_nonce = max(self._last_nonce, envelope.nonce)
            for order in orders_of(envelope):
                if order.cloid is not None and is_our_cloid(order.cloid):
                    self._order(order, order.cloid, envelope.nonce)

    def _order(self, order: OrderRequest, cloid: str, nonce: int) -> None:
        if not order.reduce_only:
            if cloid in self.sent:
                self.broken.append(f"entry {cloid} was sent twice, nonces {self.sent[cloid]} and {nonce}")
            self.entries.add(cloid)
        self.sent.setdefault(cloid, []).append(nonce)

    def _new(self) -> Sequence[Envelope]:
        new: list[Envelope] = []
        for _, envelope in reversed(self.exchange.received):
            if envelope is self._last:
                break
            new.append(envelope)
        if new:
            self._last = new[0]
        return new[::-1]

    # ---- the comparison, once quiet

    def compare(self) -> list[str]:
        """Everything that does not hold now, with what was seen since the last comparison; empty where all is well."""
        self.look()
        engine = open_reader(self.place)
        with engine.connect() as db, db.begin():
            found = [*self.broken, *self._lost_rows(db), *self._orders(db), *self._fills(db), *self._trades(db)]
            found += self._before_ready(db)
        engine.dispose()
        self.broken.clear()
        return found

    def _lost_rows(self, db: Connection) -> Iterator[str]:
        """1: every committed record is in the database, and there as often as it was committed."""
        wanted: dict[str, Counter[Row]] = {}
        for group in self.owed.values():
            for record in group.records:
                found = _row_of(record, group.header.run_id)
                if found is not None:
                    wanted.setdefault(found[0], Counter())[found[1]] += 1
        runs = sorted({group.header.run_id for group in self.owed.values()})
        for table, rows in wanted.items():
            yield from self._lost_of(db, table, rows, runs)
        self.owed.clear()

    def _lost_of(self, db: Connection, table: str, rows: Counter[Row], runs: Sequence[str]) -> Iterator[str]:
        query = f"select {_COLUMNS[table]} from {table}"  # noqa: S608 - names of our own
        if "run_id" not in _COLUMNS[table]:
            held = Counter(_rows(db, query))
        else:
            held = Counter(_rows(db, f"{query} where run_id in :runs", runs=list(runs)))
        if table == "order_results":
            rows, held = (Counter({_normal(k): n for k, n in c.items()}) for c in (rows, held))
        self.rows_checked += rows.total()
        for row, count in rows.items():
            if held[row] < (1 if table in _KEYED else count):
                yield f"lost: {table} has {held[row]} of {count} {row}"
            elif table not in _KEYED and held[row] > count:
                yield f"doubled: {table} has {held[row]} of {count} {row}"

    def _orders(self, db: Connection) -> Iterator[str]:
        """2: each order at the venue has its intent; each entry and each signal was executed at most once."""
        intents = {(c, n): s for c, n, s in _rows(db, "select cloid, nonce, signal_id from order_intents")}
        for cloid, nonces in self.sent.items():
            for nonce in nonces:
                if (cloid, nonce) not in intents:
                    yield f"order {cloid}, nonce {nonce}, reached the venue and has no intent"
        executed = {(f.cloid, f.oid) for f in self.exchange.fills(self.user) if f.cloid in self.entries}
        by_cloid = Counter(cloid for cloid, _ in executed)
        yield from (f"entry {cloid} was executed {n} times" for cloid, n in by_cloid.items() if n > 1)
        signals = {c: s for (c, _), s in intents.items()}
        by_signal = Counter(signals.get(str(cloid)) for cloid in by_cloid)
        yield from (f"signal {s} gave {n} executed entries" for s, n in by_signal.items() if n > 1 and s is not None)

    def _fills(self, db: Connection) -> Iterator[str]:
        """3: the fills are the venue's, each once; 6: no entry was filled where something was held."""
        venue = {f.key: f for f in self.exchange.fills(self.user)}
        ours = set(_rows(db, "select coin, time_ms, tid from fills"))
        yield from (f"fill {key} is not in the store: {venue[key]}" for key in venue.keys() - ours)
        yield from (f"fill {key} is in the store and not the venue's" for key in ours - venue.keys())
        first: dict[int, Fill] = {}
        for fill in venue.values():
            first.setdefault(fill.oid, fill)
        for fill in first.values():
            if fill.cloid in self.entries and fill.start_position != 0:
                yield f"entry {fill.cloid} on {fill.coin} was filled on top of {fill.start_position}"

    def _trades(self, db: Connection) -> Iterator[str]:
        """3: each fill is in one trade, the result is that of the fills; 6: entry times are those of the first fill."""
        fills = self.exchange.fills(self.user)
        trades = _rows(db, "select coin, sz, entry_ms, exit_ms, realized_usd, fees_usd, funding_usd from trades")
        opened = {(f.coin, f.time_ms) for f in fills if f.start_position == 0}
        closed = {(f.coin, f.time_ms) for f in fills if f.start_position + f.signed_sz == 0}
        traded: dict[str, Decimal] = {}
        for coin, sz, entry_ms, exit_ms, _, _, _ in trades:
            traded[coin] = traded.get(coin, ZERO) + Decimal(sz)
            if (coin, entry_ms) not in opened or (coin, exit_ms) not in closed:
                yield f"trade of {coin} from {entry_ms} to {exit_ms}: no such first and last fill at the venue"
        for coin in {f.coin for f in fills}:
            filled = sum((f.sz for f in fills if f.coin == coin), ZERO)
            if filled != 2 * traded.get(coin, ZERO):
                yield f"{coin}: fills of {filled} in all, trades of {traded.get(coin, ZERO)} (half of it was expected)"
        pnl = sum((Decimal(r) - Decimal(fee) + Decimal(funding) for *_, r, fee, funding in trades), ZERO)
        kept = dict(_rows(db, "select key, value from system_state where account = :of", of=self.user)).get("risk.pnl_usd")
        if kept is not None and Decimal(kept) != pnl:
            yield f"the risk counter is {kept} USD, the trades add up to {pnl}"

    def _before_ready(self, db: Connection) -> Iterator[str]:
        """6: no run sent an entry before its first READY (READY-1)."""
        first = (
            "select run_id, min(timestamp_ms) from audit_log where category = 'ready' and to_state = 'READY' group by run_id"
        )
        ready = dict(_rows(db, first))
        query = "select run_id, cloid, sent_ms from order_intents where not reduce_only order by sent_ms desc limit 200"
        for run_id, cloid, sent_ms in _rows(db, query):
            if run_id not in ready or sent_ms < ready[run_id]:
                yield f"run {run_id} sent entry {cloid} before it was READY"
