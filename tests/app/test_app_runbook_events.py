"""The events and metrics of the runbook's table, as one entry and one close leave them (RUN-1)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hip3.cli.words import SENTENCES, SPECIAL
from hip3.ops.status_view import status_view
from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, bot_settings, dislocated

FOR_ONE_TRADE = (
    *("ws_connected", "subscribed", "user_fills_snapshot", "open_orders_loaded", "ready_trading"),
    *("action_signed", "post_response", "order_enqueued", "order_filled", "fill", "position_updated"),
    *("position_reconciled", "time_stop_triggered", "reduce_only_enqueued", "position_closed"),
    *("nonce_issued", "inflight", "inflight_high_water"),
)


async def test_one_trade_leaves_the_events_of_the_runbook() -> None:
    """RUN-1: each name of the table is journaled and has words; nonces rise, and sent less ended is what is in flight."""
    settings = bot_settings({"position.time_stop_ms": 70_000, "position.reduce_only_timeout_ms": 90_000})
    async with open_world(settings, dislocated().pulse(90).source(), config=FAST) as world:
        await world.ready()
        await world.until(lambda: bool(world.events("position_closed")), 90)
        nonces = [int(str(n.fields["nonce"])) for n in world.events("nonce_issued")]
        assert nonces == sorted(set(nonces))
        signed = world.events("action_signed")[0].fields
        assert (signed["nonce"] in nonces, len(str(signed["hash"]))) == (True, 66)
        seen = world.events("position_reconciled")[0].fields
        assert (seen["diff"], seen["tracker"] == seen["venue"]) == (Decimal(0), True)
        numbers: list[dict[str, Any]] = [n.fields for n in world.events("inflight")]
        assert [n["sent"] - n["completed"] for n in numbers] == [n["current"] for n in numbers]
        assert numbers[-1]["current"] == 0
        counts: Any = status_view(world.bot, pid=1, config_hash="")["counts"]
        orders = ("accepted", "rejected", "timeout", "send_failure")
        assert [counts[f"order_{name}_total"] for name in orders] == [1, 0, 0, 0]
        assert [counts[name] for name in ("batch_sent_total", "batch_complete_total", "inflight_current")] == [2, 2, 0]
        missing = [name for name in FOR_ONE_TRADE if not world.events(name)]
        assert missing == []
        assert [name for name in FOR_ONE_TRADE if name not in SENTENCES and name not in SPECIAL] == []
