"""The tables of STO-2. SQLAlchemy Core only; decimals are text, whole numbers have 64 bits, times are Unix ms.

Every row belongs to an account (its address in lower case) and to the run that wrote it. `system_state` of the account
"store" is the store's own: how far each spool was applied, and the head of the audit chain.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text, TypeDecorator
from sqlalchemy.engine import Dialect

from hip3.store.encoding import decimal_text

VERSION_TABLE = "schema_version"
OWN = "store"
"""The account of the store's own keys in `system_state`."""
AUDIT_HEAD = "audit.head"
SPOOL = "spool."
"""With the id of a spool: the number of its last group that is in the database."""


class DecimalText(TypeDecorator[Decimal]):
    """A Decimal as plain digits in a TEXT column; anything else, a float above all, is refused."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - its signature
        """Raises TypeError for what is not a Decimal."""
        if value is None:
            return None
        if not isinstance(value, Decimal):
            raise TypeError(f"expected a Decimal, found {type(value).__name__}: money is never a float")
        return decimal_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 - its signature
        """Exactly what was stored; what is no decimal comes as it is, for `checks.py` to name."""
        try:
            return None if value is None else Decimal(value)
        except (InvalidOperation, TypeError, ValueError):
            return value  # type: ignore[return-value]  # damage


BIG_SERIAL = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows itself only where the type is INTEGER, which has 64 bits there."""

METADATA = MetaData()


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null, primary_key=key)


def _int(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null, primary_key=key, autoincrement=False)


def _money(name: str, *, null: bool = False) -> Column[Decimal]:
    return Column(name, DecimalText, nullable=null)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _serial() -> Column[int]:
    return Column("id", BIG_SERIAL, primary_key=True, autoincrement=True)


system_state = Table(
    "system_state",
    METADATA,
    _text("account", key=True),
    _text("key", key=True),
    _text("value"),
    _int("updated_at_ms"),
)

runs = Table(
    "runs",
    METADATA,
    _text("account", key=True),
    _text("run_id", key=True),
    _text("config_hash"),
    _int("started_ms"),
    _int("ended_ms", null=True),
)

order_intents = Table(
    "order_intents",
    METADATA,
    _text("account", key=True),
    _text("cloid", key=True),
    _int("nonce", key=True),
    _text("run_id"),
    _text("coin"),
    _int("asset"),
    _text("side"),
    _money("sz"),
    _money("px"),
    _text("tif"),
    _flag("reduce_only"),
    _int("created_ms"),
    _int("sent_ms"),
    _text("signal_id", null=True),
    _int("expires_after_ms", null=True),
    _money("trigger_px", null=True),
    _money("edge_bps", null=True),
    _money("reference_px", null=True),
    _int("settled_ms", null=True),
)
"""`settled_ms` is null until a result was terminal: what a start has to ask the venue about is one short look-up."""
_OPEN = order_intents.c.settled_ms.is_(None)
Index("order_intents_time", order_intents.c.account, order_intents.c.sent_ms)
Index("order_intents_open", order_intents.c.account, sqlite_where=_OPEN, postgresql_where=_OPEN)

order_results = Table(
    "order_results",
    METADATA,
    _serial(),
    _text("account"),
    _text("run_id"),
    _text("cloid"),
    _text("state"),
    _int("at_ms"),
    _flag("is_terminal"),
    _int("oid", null=True),
    _money("filled_sz"),
    _money("reported_sz"),
    _money("avg_px", null=True),
    _text("error", null=True),
)
Index("order_results_cloid", order_results.c.account, order_results.c.cloid, order_results.c.id)
Index("order_results_time", order_results.c.account, order_results.c.at_ms)

fills = Table(
    "fills",
    METADATA,
    _text("account", key=True),
    _text("coin", key=True),
    _int("time_ms", key=True),
    _int("tid", key=True),
    _text("run_id"),
    _int("oid"),
    _text("cloid", null=True),
    _text("side"),
    _money("px"),
    _money("sz"),
    _money("fee"),
    _text("fee_token"),
    _text("dir"),
    _money("closed_pnl", null=True),
    _money("start_position", null=True),
)
Index("fills_time", fills.c.account, fills.c.time_ms)

trades = Table(
    "trades",
    METADATA,
    _serial(),
    _text("account"),
    _text("run_id"),
    _text("coin"),
    _text("side"),
    _money("sz"),
    _money("entry_px"),
    _money("exit_px"),
    _int("entry_ms"),
    _int("exit_ms"),
    _money("realized_usd"),
    _money("fees_usd"),
    _text("exit_reason"),
    _money("funding_usd"),
    _text("signal_id", null=True),
    _money("expected_edge_bps", null=True),
    _money("actual_edge_bps", null=True),
)
Index("trades_time", trades.c.account, trades.c.exit_ms)

signals = Table(
    "signals",
    METADATA,
    _text("account", key=True),
    _text("signal_id", key=True),
    _text("run_id"),
    _text("coin"),
    _text("side"),
    _int("detected_ms"),
    _money("edge_bps"),
    _text("verdict"),
    _text("detail"),
    _text("cloid", null=True),
    _text("inputs"),
    _text("trail"),
)
Index("signals_time", signals.c.account, signals.c.detected_ms)

follow_ups = Table(
    "follow_ups",
    METADATA,
    _text("account", key=True),
    _text("signal_id", key=True),
    _int("after_ms", key=True),
    _text("run_id"),
    _int("at_ms"),
    _money("edge_bps", null=True),
)
Index("follow_ups_time", follow_ups.c.account, follow_ups.c.at_ms)

processed_events = Table(
    "processed_events",
    METADATA,
    _text("account", key=True),
    _text("event_key", key=True),
    _text("run_id"),
    _int("time_ms"),
    _int("at_ms"),
)
Index("processed_events_time", processed_events.c.account, processed_events.c.time_ms)

audit_log = Table(
    "audit_log",
    METADATA,
    _int("seq", key=True),
    _text("account"),
    _text("run_id"),
    _text("config_hash"),
    _int("timestamp_ms"),
    _text("category"),
    _text("entity_id"),
    _text("from_state"),
    _text("to_state"),
    _text("reason_code"),
    _text("reason_message"),
    _text("event_id"),
    _text("metadata"),
    _text("prev_hash"),
    _text("hash"),
)
Index("audit_log_entity", audit_log.c.category, audit_log.c.entity_id, audit_log.c.seq)

approvals = Table(
    "approvals",
    METADATA,
    _text("account", key=True),
    _text("approval_id", key=True),
    _text("action"),
    _text("reason"),
    _text("config_hash"),
    _text("causes"),
    _text("requested_by"),
    _int("requested_ms"),
    _int("expires_ms"),
    _text("decided_by", null=True),
    _int("decided_ms", null=True),
    _text("decision", null=True),
)

incidents = Table(
    "incidents",
    METADATA,
    _text("account", key=True),
    _text("incident_id", key=True),
    _text("run_id"),
    _text("code"),
    _int("opened_ms"),
    _text("message"),
    _int("closed_ms", null=True),
    _text("evidence"),
)
