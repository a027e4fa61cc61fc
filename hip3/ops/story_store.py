"""The story of one signal out of a store: its trail, order, answers, fills, exit and trade, across runs (OPS-7).

What the store has no row of (the numbers of posts, prices of a moment) is in the journal of the run, where that is kept
still; `with_journal` adds it. Lines of both have the same form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from attrs import evolve

from hip3.core.journal import Note
from hip3.core.records import NOT_JUDGED, REPLACED, FillRecord, SignalRecord, TradeRecord
from hip3.fsm.order import OrderState
from hip3.ops.journal_file import entry_of
from hip3.ops.stores import OpenStore
from hip3.ops.story import Entry, Story, wall_ms
from hip3.store.repository import FOREVER_MS, AuditRow, OrderRow
from hip3.store.retention import PRUNED_MS

FOLLOWED_MS = 60_000
"""Follow-ups of a signal are looked for so long after it; the last one is due after 5 s (DET-5)."""
CLOCKS_APART_MS = 2_000
"""Fills carry the venue's time, signals ours."""
_TOLD = frozenset(
    {
        "signal_judged",
        "signal_replaced",
        "order_enqueued",
        "reduce_only_enqueued",
        "stop_enqueued",
        "order_sent",
        "in_doubt",
        "order_filled",
        "order_canceled",
        "order_rejected",
        "order_expired",
        "action_rejected",
        "mark_released",
        "fill",
        "position_closed",
    }
)
"""What the store tells of; a journal's lines of these kinds would say it twice."""


def find_stored(stores: Sequence[OpenStore], signal_id: str) -> Story | None:
    """The story of a signal in the first of `stores` that has it. Raises the errors of the store."""
    for store in stores:
        for account in dict.fromkeys(r.account for r in reversed(store.runs)):
            signal = store.reader.signal(account, signal_id)
            if signal is not None:
                return _story(store, account, signal)
    return None


def last_stored(stores: Sequence[OpenStore], coin: str | None) -> str | None:
    """The id of the newest signal, of `coin` where given."""
    found = [
        signal
        for store in stores
        for account in {r.account for r in store.runs}
        if (signal := store.reader.last_signal(account, coin)) is not None
    ]
    return max(found, key=lambda s: (s.detected_ms, s.signal_id)).signal_id if found else None


def with_journal(stored: Story, journal: Story | None) -> Story:
    """The stored story with what only the journal tells; the trail of the journal where the store has none yet."""
    if journal is None:
        return stored
    more = [e for e in journal.events if e["event"] not in _TOLD]
    events = sorted((*stored.events, *more), key=wall_ms)
    return evolve(stored, journal=journal.journal, trail=stored.trail or journal.trail, events=tuple(events))


# ---- one story


def _story(store: OpenStore, account: str, signal: SignalRecord) -> Story:
    follow_ups = store.reader.follow_ups(account, signal.detected_ms, signal.detected_ms + FOLLOWED_MS)
    events = sorted(_events(store, account, signal), key=wall_ms)
    pruned = signal.trail.get(PRUNED_MS)
    trail = _entry(signal.detected_ms, "signal_trail", dict(signal.trail)) if signal.trail and pruned is None else None
    return Story(
        journal=None,
        store=store.name,
        pruned_ms=None if pruned is None else _whole(pruned),
        head=tuple(_head(store, account, signal)),
        signal=_entry(signal.detected_ms, "signal", {"signal": signal.signal_id, **signal.inputs}),
        trail=trail,
        events=tuple(events),
        follow_ups=tuple(
            _entry(f.at_ms, "follow_up", {"signal": f.signal_id, "after_ms": f.after_ms, "edge_bps": f.edge_bps})
            for f in follow_ups
            if f.signal_id == signal.signal_id
        ),
    )


def _head(store: OpenStore, account: str, signal: SignalRecord) -> Iterator[Entry]:
    """What the journal says of a run at its start, as far as the store knows it."""
    run = next((r for r in reversed(store.runs) if r.account == account and r.started_ms <= signal.detected_ms), None)
    if run is not None:
        yield _entry(run.started_ms, "config_loaded", {"hash": run.config_hash})
        yield _entry(run.started_ms, "run_started", {"run": run.run_id})
        yield _entry(run.started_ms, "network", {"network": store.source.network})
    if signal.verdict == NOT_JUDGED:
        yield _entry(signal.detected_ms, "mode", {"mode": "observation"})


def _events(store: OpenStore, account: str, signal: SignalRecord) -> Iterator[Entry]:
    if signal.cloid is not None:
        yield from _traded(store, account, signal, signal.cloid)
    whose = {"signal": signal.signal_id, "coin": signal.coin}
    if signal.verdict == REPLACED:
        yield _entry(signal.detected_ms, "signal_replaced", {**whose, "by": signal.detail.removeprefix("by ")})
    elif signal.verdict != NOT_JUDGED:
        judged_ms = signal.detected_ms + _whole(signal.trail.get("judged_after_ms"))
        yield _entry(judged_ms, "signal_judged", {**whose, "verdict": signal.verdict, "detail": signal.detail})


def _traded(store: OpenStore, account: str, signal: SignalRecord, cloid: str) -> Iterator[Entry]:
    """The entry, and from its first fill to flat, or to now: closing orders, fills of the way out, the trade."""
    reader, since = store.reader, signal.detected_ms - CLOCKS_APART_MS
    entry = reader.order(account, cloid)
    if entry is None:
        yield from _never_sent(store, account, signal, cloid)
        return
    yield from _order(store, account, entry)
    fills = [f for f in reader.fills(account, since) if f.coin == signal.coin]
    entered = [f for f in fills if f.cloid == cloid]
    if not entered:
        return
    trade = next((t for t in reader.trades(account, since) if t.signal_id == signal.signal_id), None)
    flat_ms = FOREVER_MS if trade is None else trade.exit_ms
    for fill in fills:
        if fill.cloid == cloid or (fill.side != entered[0].side and entered[0].time_ms <= fill.time_ms <= flat_ms):
            yield _fill(fill)
    until = flat_ms if trade is None else flat_ms + CLOCKS_APART_MS
    closing = [
        i.cloid
        for i in reader.intents(account, entry.intents[0].created_ms, until)
        if i.coin == signal.coin and i.reduce_only
    ]
    for order in (reader.order(account, closing_cloid) for closing_cloid in dict.fromkeys(closing)):
        if order is not None:
            yield from _order(store, account, order)
    if trade is not None:
        yield _closed(trade)


def _order(store: OpenStore, account: str, order: OrderRow) -> Iterator[Entry]:
    """An order from its making to its end; states on the way that a journal does not tell either are left out."""
    first = order.intents[0]
    made: dict[str, object] = {"cloid": first.cloid, "coin": first.coin, "side": first.side}
    kind = "stop_enqueued" if first.trigger_px is not None else "reduce_only_enqueued"
    close = {"sz": first.sz, "px": first.px, "trigger_px": first.trigger_px}
    if first.reduce_only:
        yield _entry(first.created_ms, kind, made | close)
    else:
        yield _entry(first.created_ms, "order_enqueued", made | {"signal": first.signal_id})
    for sent in order.intents:
        yield _entry(sent.sent_ms, "order_sent", made | {"sz": sent.sz, "px": sent.px, "nonce": sent.nonce})
    for row in _moves(store, account, first.cloid, OrderState.UNKNOWN):
        why = row.reason_message or row.reason_code
        yield _entry(row.timestamp_ms, "in_doubt", {"subject": first.cloid, "why": why}, "warning")
    ended = order.result
    if ended is not None and ended.is_terminal:
        fields = made | {"filled": ended.filled_sz}
        if ended.error and ended.state == OrderState.REJECTED.name:
            yield _entry(ended.at_ms, "action_rejected", made | {"error": ended.error}, "warning")
        yield _entry(ended.at_ms, f"order_{ended.state.lower()}", fields)


def _moves(store: OpenStore, account: str, cloid: str, to: OrderState) -> list[AuditRow]:
    rows = store.reader.audit(category="order", entity_id=cloid)
    return [row for row in rows if row.account == account and row.to_state == to.name]


def _never_sent(store: OpenStore, account: str, signal: SignalRecord, cloid: str) -> Iterator[Entry]:
    """An order that was registered and has no intent: no byte of it left. The audit log says what ended it."""
    for row in _moves(store, account, cloid, OrderState.CANCELED):
        fields = {"cloid": cloid, "coin": signal.coin, "reason": row.reason_message or row.reason_code}
        yield _entry(row.timestamp_ms, "mark_released", fields, "warning")


def _fill(fill: FillRecord) -> Entry:
    fields = {"coin": fill.coin, "cloid": fill.cloid, "side": fill.side, "px": fill.px, "sz": fill.sz, "fee": fill.fee}
    return _entry(fill.time_ms, "fill", fields)


def _closed(trade: TradeRecord) -> Entry:
    fields: Mapping[str, object] = {
        "coin": trade.coin,
        "signal": trade.signal_id,
        "side": trade.side,
        "sz": trade.sz,
        "entry_px": trade.entry_px,
        "exit_px": trade.exit_px,
        "holding_ms": trade.exit_ms - trade.entry_ms,
        "exit_reason": trade.exit_reason,
        "pnl_usd": trade.realized_usd - trade.fees_usd + trade.funding_usd,
        "fees_usd": trade.fees_usd,
        "expected_edge_bps": trade.expected_edge_bps,
        "actual_edge_bps": trade.actual_edge_bps,
    }
    return _entry(trade.exit_ms, "position_closed", fields)


def _entry(at_ms: int, event: str, fields: Mapping[str, object], level: str = "info") -> Entry:
    """A line as the journal would hold it: decimals are text."""
    plain = {k: format(v, "f") if isinstance(v, Decimal) else v for k, v in fields.items() if v is not None}
    return entry_of(Note(at_ms, level, event, plain))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
