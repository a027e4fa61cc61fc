"""What a store remembers of an account for its next run (SPEC 19): the same as hip3.core.remembered makes of the records.

It looks only at what is open, at today and at the fills since the cursor, each by an index, however old the store is.
"""

from __future__ import annotations

from hip3.core import units
from hip3.core.records import IntentRecord
from hip3.core.remembered import OVERLAP_MS, Remembered, RememberedOrder
from hip3.core.risk import DAY_MS
from hip3.store.repository import Repository


def remember(repository: Repository, account: str, now_ms: int) -> Remembered:
    """What the runs of `account` left to one that starts at `now_ms`. Raises what the repository raises."""
    day_ms = now_ms - now_ms % DAY_MS
    values = repository.state(account)
    orders = tuple(RememberedOrder(row.intents[-1], row.result) for row in repository.unfinished_orders(account))
    since = min([Remembered(values).cursor_ms or 0, *(order.intent.created_ms for order in orders)]) - OVERLAP_MS
    seen = tuple((fill.coin, fill.time_ms, fill.tid) for fill in repository.fills(account, since))
    trades = repository.trades(account, day_ms, day_ms + DAY_MS)
    pnl = sum((trade.realized_usd - trade.fees_usd + trade.funding_usd for trade in trades), units.ZERO)
    entries = _entries(repository.intents(account, day_ms, day_ms + DAY_MS))
    last = repository.audit_tail(1)
    return Remembered(values, orders, seen, entries, pnl, last[0].timestamp_ms if last else None)


def _entries(intents: list[IntentRecord]) -> int:
    return len({intent.cloid for intent in intents if not intent.reduce_only})
