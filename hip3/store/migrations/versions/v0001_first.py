"""The first version: the tables of STO-2, runs and follow-ups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Makes every table and index."""
    _state()
    _orders()
    _market()
    _evidence()


def _state() -> None:
    op.create_table(
        "system_state",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "key"),
    )
    op.create_table(
        "runs",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("account", "run_id"),
    )


def _orders() -> None:
    op.create_table(
        "order_intents",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("cloid", sa.Text, nullable=False),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("coin", sa.Text, nullable=False),
        sa.Column("asset", sa.BigInteger, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("sz", sa.Text, nullable=False),
        sa.Column("px", sa.Text, nullable=False),
        sa.Column("tif", sa.Text, nullable=False),
        sa.Column("reduce_only", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("sent_ms", sa.BigInteger, nullable=False),
        sa.Column("signal_id", sa.Text, nullable=True),
        sa.Column("expires_after_ms", sa.BigInteger, nullable=True),
        sa.Column("trigger_px", sa.Text, nullable=True),
        sa.Column("edge_bps", sa.Text, nullable=True),
        sa.Column("reference_px", sa.Text, nullable=True),
        sa.Column("settled_ms", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("account", "cloid", "nonce"),
    )
    still_open = sa.text("settled_ms IS NULL")
    op.create_index("order_intents_open", "order_intents", ["account"], sqlite_where=still_open, postgresql_where=still_open)
    op.create_index("order_intents_time", "order_intents", ["account", "sent_ms"])
    op.create_table(
        "order_results",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("cloid", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("is_terminal", sa.Boolean, nullable=False),
        sa.Column("oid", sa.BigInteger, nullable=True),
        sa.Column("filled_sz", sa.Text, nullable=False),
        sa.Column("reported_sz", sa.Text, nullable=False),
        sa.Column("avg_px", sa.Text, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("order_results_cloid", "order_results", ["account", "cloid", "id"])
    op.create_index("order_results_time", "order_results", ["account", "at_ms"])


def _market() -> None:
    op.create_table(
        "fills",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("coin", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("tid", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("oid", sa.BigInteger, nullable=False),
        sa.Column("cloid", sa.Text, nullable=True),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("px", sa.Text, nullable=False),
        sa.Column("sz", sa.Text, nullable=False),
        sa.Column("fee", sa.Text, nullable=False),
        sa.Column("fee_token", sa.Text, nullable=False),
        sa.Column("dir", sa.Text, nullable=False),
        sa.Column("closed_pnl", sa.Text, nullable=True),
        sa.Column("start_position", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("account", "coin", "time_ms", "tid"),
    )
    op.create_index("fills_time", "fills", ["account", "time_ms"])
    op.create_table(
        "trades",
        sa.Column("id", SERIAL, nullable=False, autoincrement=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("coin", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("sz", sa.Text, nullable=False),
        sa.Column("entry_px", sa.Text, nullable=False),
        sa.Column("exit_px", sa.Text, nullable=False),
        sa.Column("entry_ms", sa.BigInteger, nullable=False),
        sa.Column("exit_ms", sa.BigInteger, nullable=False),
        sa.Column("realized_usd", sa.Text, nullable=False),
        sa.Column("fees_usd", sa.Text, nullable=False),
        sa.Column("exit_reason", sa.Text, nullable=False),
        sa.Column("funding_usd", sa.Text, nullable=False),
        sa.Column("signal_id", sa.Text, nullable=True),
        sa.Column("expected_edge_bps", sa.Text, nullable=True),
        sa.Column("actual_edge_bps", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("trades_time", "trades", ["account", "exit_ms"])
    op.create_table(
        "signals",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("signal_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("coin", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("detected_ms", sa.BigInteger, nullable=False),
        sa.Column("edge_bps", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("cloid", sa.Text, nullable=True),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("trail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account", "signal_id"),
    )
    op.create_index("signals_time", "signals", ["account", "detected_ms"])
    op.create_table(
        "follow_ups",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("signal_id", sa.Text, nullable=False),
        sa.Column("after_ms", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("edge_bps", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("account", "signal_id", "after_ms"),
    )
    op.create_index("follow_ups_time", "follow_ups", ["account", "at_ms"])
    op.create_table(
        "processed_events",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("event_key", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("account", "event_key"),
    )
    op.create_index("processed_events_time", "processed_events", ["account", "time_ms"])


def _evidence() -> None:
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("from_state", sa.Text, nullable=False),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("reason_code", sa.Text, nullable=False),
        sa.Column("reason_message", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("prev_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("audit_log_entity", "audit_log", ["category", "entity_id", "seq"])
    op.create_table(
        "approvals",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("approval_id", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("config_hash", sa.Text, nullable=False),
        sa.Column("causes", sa.Text, nullable=False),
        sa.Column("requested_by", sa.Text, nullable=False),
        sa.Column("requested_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=True),
        sa.Column("decided_ms", sa.BigInteger, nullable=True),
        sa.Column("decision", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("account", "approval_id"),
    )
    op.create_table(
        "incidents",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("incident_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("opened_ms", sa.BigInteger, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("closed_ms", sa.BigInteger, nullable=True),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("account", "incident_id"),
    )
