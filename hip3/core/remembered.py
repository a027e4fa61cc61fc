"""What an earlier run of the account left, and how a new one goes on from it (SPEC 19, SAFE-2).

A run that begins with a memory begins with doubt: every order that was not known to have ended is UNKNOWN, every position
is the one last booked, and the venue is asked before anything is believed. Restarting keeps or tightens; it never loosens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from attrs import field, frozen

from hip3.core import units
from hip3.core.bookkeeper import Bookkeeper
from hip3.core.exits import ExitReason
from hip3.core.ids import ClientOrderId, MarketSpec, OrderSide, TimeInForce
from hip3.core.ledger import Ledger
from hip3.core.orders import OrderIntent
from hip3.core.records import FillRecord, IntentRecord, Record, ResultRecord, StateRecord, TradeRecord, Transition
from hip3.core.risk import DAY_MS, DailyLimits
from hip3.core.scribe import CURSOR_TIME_KEY, INGEST_KEY, NONCE_KEY, POSITION_KEY
from hip3.core.trades import NO_REASON
from hip3.fsm.table import Refused

OVERLAP_MS = 5_000  # REC-1: fills since the cursor are asked for from so much earlier
RECOVERY, ACCOUNT, NO_BOT_RAN = "recovery", "account", "NO_BOT_RAN"
"""Category, entity and reason of the audit row with which a run says from when to when no bot ran, Unix ms; there is none
after a flat end, nor where the last sign of life is not known."""
RUN_KEY = "run"
"""Start of the run: `<run id>|<wall ms>|<configuration hash>`."""
ENDED_KEY = "run_ended"
"""Its end: `flat|<wall ms>` or `exposed|<wall ms>`; taken away at the next start."""


@frozen
class RememberedOrder:
    """An order not known to have ended: its last sending, and the last that was known of it."""

    intent: IntentRecord
    result: ResultRecord | None


@frozen
class Remembered:
    """Of one account. `values` are state records by key; `seen_fills` keys booked since the cursor, less OVERLAP_MS."""

    values: Mapping[str, str] = field(factory=dict)
    orders: tuple[RememberedOrder, ...] = ()
    seen_fills: tuple[tuple[str, int, int], ...] = ()
    entries_today: int = 0
    pnl_today_usd: Decimal = units.ZERO
    last_row_ms: int | None = None
    """Time of the last row of the audit log; None where there is none."""
    alive_ms: int | None = None
    """Our time of the last run's last heartbeat, where it is known."""

    @property
    def is_empty(self) -> bool:
        """No earlier run of this account is known."""
        return RUN_KEY not in self.values

    @property
    def nonce(self) -> int:
        """The highest nonce known to have been issued."""
        return max([self._int(NONCE_KEY) or 0, *(o.intent.nonce for o in self.orders)])

    @property
    def cursor_ms(self) -> int | None:
        """Venue time up to which everything is in the books; where that is not readable, the start of the last run."""
        cursor = self._int(CURSOR_TIME_KEY)
        if cursor is not None or CURSOR_TIME_KEY not in self.values or self._run_parts is None:
            return cursor
        return int(self._run_parts[1])

    @property
    def ingest_ms(self) -> int | None:
        """Our time at which the account was last followed."""
        return self._int(INGEST_KEY)

    @property
    def config_hash(self) -> str | None:
        """Of the last run."""
        parts = self._run_parts
        return parts[2] if parts is not None and parts[2] else None

    @property
    def ended_flat(self) -> bool:
        """The last run ended by itself, and the venue showed nothing."""
        return self.values.get(ENDED_KEY, "").startswith("flat|")

    @property
    def written_ms(self) -> int | None:
        """The latest time of our clock that an earlier run is known to have written; None where none is."""
        stamps = [self.values.get(key, "").split("|")[1:2] for key in (RUN_KEY, ENDED_KEY)]
        known = [int(text) for stamp in stamps for text in stamp if text.isdecimal()]
        return max([*known, *(at for at in (self.ingest_ms, self.last_row_ms) if at is not None)], default=None)

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Keys whose value is not what a run keeps, each with a sentence: what it said of the account is not known."""
        whole = {
            key: f"{key} is {self.values[key]!r}, expected a whole number"
            for key in (CURSOR_TIME_KEY, INGEST_KEY, NONCE_KEY)
            if key in self.values and self._int(key) is None
        }
        if RUN_KEY in self.values and self._run_parts is None:
            whole[RUN_KEY] = f"{RUN_KEY} is {self.values[RUN_KEY]!r}, expected a run, its time and its configuration"
        return whole

    @property
    def _run_parts(self) -> tuple[str, str, str] | None:
        parts = self.values.get(RUN_KEY, "").split("|")
        return (parts[0], parts[1], parts[2]) if len(parts) == 3 and is_number(parts[1]) else None

    def _int(self, key: str) -> int | None:
        text = self.values.get(key, "")
        return int(text) if is_number(text) else None


def is_number(text: str) -> bool:
    """ASCII digits, as this program writes them."""
    return text.isascii() and text.isdecimal()


NOTHING = Remembered()


def remembered_from(records: Iterable[Record], now_ms: int) -> Remembered:
    """What `records`, oldest first and of one account, leave to a run that starts at `now_ms`."""
    values: dict[str, str] = {}
    intents: dict[str, IntentRecord] = {}
    results: dict[str, ResultRecord] = {}
    fills: list[FillRecord] = []
    pnl, entries, day = units.ZERO, set[str](), now_ms // DAY_MS
    last_row_ms: int | None = None
    for record in records:
        if isinstance(record, StateRecord):
            values.pop(record.key, None)
            if record.value is not None:
                values[record.key] = record.value
        elif isinstance(record, IntentRecord):
            intents[record.cloid] = record
            if not record.reduce_only and record.sent_ms // DAY_MS == day:
                entries.add(record.cloid)
        elif isinstance(record, ResultRecord):
            results[record.cloid] = record
        elif isinstance(record, FillRecord):
            fills.append(record)
        elif isinstance(record, Transition):
            last_row_ms = record.at_ms
        elif isinstance(record, TradeRecord) and record.exit_ms // DAY_MS == day:
            pnl += record.realized_usd - record.fees_usd + record.funding_usd
    open_orders = tuple(
        RememberedOrder(intent, results.get(cloid))
        for cloid, intent in intents.items()
        if cloid not in results or not results[cloid].is_terminal
    )
    since = (Remembered(values).cursor_ms or 0) - OVERLAP_MS
    since = min([since, *(o.intent.created_ms - OVERLAP_MS for o in open_orders)])
    seen = tuple((f.coin, f.time_ms, f.tid) for f in fills if f.time_ms >= since)
    return Remembered(values, open_orders, seen, len(entries), pnl, last_row_ms)


# ---- going on


def resume_limits(limits: DailyLimits, memory: Remembered, now_ms: int) -> None:
    """Today's entries and result are those of the day, not of the run (GATE-6)."""
    limits.day = now_ms // DAY_MS
    limits.entries, limits.pnl_usd = memory.entries_today, memory.pnl_today_usd


def resume_books(
    bookkeeper: Bookkeeper, memory: Remembered, specs: Mapping[str, MarketSpec], now_ms: int
) -> list[tuple[str, str]]:
    """Puts positions and unfinished orders back; what could not be, as (subject, why), must be shown to somebody.

    After a run that ended flat there is nothing to go on from: the first statement is believed, as at the very first start.
    Positions keep their entry time (EXIT-1). Orders come back in doubt: they are asked about, fenced by their nonce, and
    never sent again.
    """
    if memory.cursor_ms is None:
        return []
    ledger, strange = bookkeeper.ledger, []
    for key in memory.seen_fills:
        ledger.seen_fills[key] = None
    for name, text in memory.values.items():
        if not name.startswith(POSITION_KEY):
            continue
        coin = name.removeprefix(POSITION_KEY)
        try:
            ledger.position(coin).restore(text)
        except ValueError as e:
            strange.append((coin, str(e)))
    for order in memory.orders:
        why = _resume_order(ledger, order, specs, now_ms)
        if why is not None:
            strange.append((order.intent.cloid, why))
    if not memory.ended_flat:
        bookkeeper.go_on_from(memory.cursor_ms - OVERLAP_MS)
    return strange


def _resume_order(ledger: Ledger, order: RememberedOrder, specs: Mapping[str, MarketSpec], now_ms: int) -> str | None:
    """One order back into the books, in doubt; the reason where it cannot be."""
    sent = order.intent
    spec = specs.get(sent.coin)
    if spec is None:
        return f"{sent.coin} is not among the markets of this run; its order is not followed"
    try:
        intent = _intent_of(sent, spec)
        ledger.recover(intent, order.result, sent.nonce, sent.sent_ms, now_ms)
    except KeyError as e:
        return f"its record holds {e}, which no order has; it is not followed"
    except (Refused, ValueError) as e:
        return str(e)
    position = ledger.position(sent.coin)
    if position.closing == intent.cloid and position.exit_reason == NO_REASON:
        position.exit_reason = ExitReason.RECOVERED.value
    return None


def _intent_of(sent: IntentRecord, spec: MarketSpec) -> OrderIntent:
    """The order as it was sent. Raises KeyError and ValueError for a record that no order left."""
    return OrderIntent(
        cloid=ClientOrderId(sent.cloid),
        spec=spec,
        side=OrderSide[sent.side],
        sz=sent.sz,
        px=sent.px,
        tif=TimeInForce[sent.tif],
        reduce_only=sent.reduce_only,
        created_at_ms=sent.created_ms,
        signal_id=sent.signal_id,
        expires_after_ms=sent.expires_after_ms,
        trigger_px=sent.trigger_px,
        edge_bps=sent.edge_bps,
        reference_px=sent.reference_px,
    )
