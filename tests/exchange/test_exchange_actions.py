"""Actions beside new orders: cancel, modify, dead-man switch, leverage, budget, and what is not modelled."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.exchange.conftest import Kit

D = Decimal
CLOID = "0x68697033000101234567890100000001"
SNDK = 110_002


def test_cancel_by_oid_and_by_cloid(kit: Kit) -> None:
    """SIM-2: both forms cancel; gone, unknown and wrong asset have one text."""
    oid = kit.place(kit.a, "buy", "590", "1", tif="Gtc")["resting"]["oid"]
    kit.place(kit.a, "buy", "590", "1", tif="Gtc", cloid=CLOID)
    gone = {"error": "Order was never placed, already canceled, or filled. asset=110002"}
    wrong = {"error": "Order was never placed, already canceled, or filled. asset=0"}
    by_oid = [{"a": 0, "o": oid}, {"a": SNDK, "o": oid}, {"a": SNDK, "o": oid}, {"a": SNDK, "o": 12}]
    assert kit.statuses(kit.a, {"type": "cancel", "cancels": by_oid}) == [wrong, "success", gone, gone]
    by_cloid = {"type": "cancelByCloid", "cancels": [{"asset": SNDK, "cloid": CLOID}]}
    assert kit.statuses(kit.b, by_cloid) == [gone]
    assert kit.statuses(kit.a, by_cloid) == ["success"]


def test_modify_gives_a_new_oid_under_the_same_cloid(kit: Kit, wire_order: Callable[..., dict[str, Any]]) -> None:
    """SIM-1: `modify` answers default and the old order is canceled before the new one opens."""
    old = kit.place(kit.a, "buy", "590", "1", tif="Gtc", cloid=CLOID)["resting"]["oid"]
    kit.frames(kit.a)
    change = {"type": "modify", "oid": CLOID, "order": wire_order("buy", "591", "2", tif="Gtc", cloid=CLOID)}
    assert kit.do(kit.a, change) == {"status": "ok", "response": {"type": "default"}}
    assert kit.frames(kit.a) == ["canceled", "open"]
    (replacement,) = kit.engine.state.account(kit.a).open.values()
    assert (replacement.px, replacement.sz, replacement.cloid) == (D(591), D(2), CLOID)
    assert replacement.oid != old
    again = {"type": "modify", "oid": old, "order": wire_order("buy", "592", "1", tif="Gtc")}
    assert kit.do(kit.a, again) == {"status": "err", "response": "Cannot modify canceled or filled order"}


def test_batch_modify_answers_statuses_and_forces_post_only(kit: Kit, wire_order: Callable[..., dict[str, Any]]) -> None:
    """SIM-1: without `a` a replacement that would match is refused as post-only; with it, it trades."""
    oid = kit.place(kit.a, "buy", "590", "1", tif="Gtc")["resting"]["oid"]
    crossing = wire_order("buy", "601", "1", tif="Gtc")
    answer = kit.statuses(kit.a, {"type": "batchModify", "modifies": [{"oid": oid, "order": crossing}]})
    assert answer[0]["error"].startswith("Post only order would have immediately matched")
    oid = kit.place(kit.a, "buy", "590", "1", tif="Gtc")["resting"]["oid"]
    answer = kit.statuses(kit.a, {"type": "batchModify", "modifies": [{"oid": oid, "order": crossing}], "a": True})
    assert answer[0]["filled"]["totalSz"] == "1.0"
    answer = kit.statuses(kit.a, {"type": "batchModify", "modifies": [{"oid": oid, "order": crossing}]})
    assert answer == [{"error": "Cannot modify canceled or filled order. asset=110002"}]


def test_a_cloid_is_a_name_and_no_idempotency_key(kit: Kit) -> None:
    """SIM-2: once the first order is terminal the same cloid executes again; the look-up gives the latest."""
    first = kit.place(kit.a, "buy", "602", "0.1", cloid=CLOID)["filled"]["oid"]
    second = kit.place(kit.a, "buy", "602", "0.1", cloid=CLOID)["filled"]["oid"]
    account = kit.engine.state.account(kit.a)
    assert second != first
    found = account.find(CLOID)
    assert found is not None
    assert found.oid == second
    assert account.find(first) is not None
    assert kit.szi(kit.a) == D("0.2")


def test_order_records_are_forgotten_by_count_but_never_while_open(new_kit: Callable[..., Kit]) -> None:
    """SIM-2: the retention counts orders; an open order survives any number of newer ones."""
    kit = new_kit(order_retention=5)
    oid = kit.place(kit.a, "buy", "590", "1", tif="Gtc")["resting"]["oid"]
    for _ in range(10):
        kit.place(kit.a, "buy", "500", "1")
    account = kit.engine.state.account(kit.a)
    assert len(account.records) == 5
    assert account.find(oid) is not None


def test_schedule_cancel_is_gated_by_volume_and_then_cancels_everything(new_kit: Callable[..., Kit]) -> None:
    """SIM-2: below the gate it is refused with both figures; above it the orders end scheduledCancel in time."""
    kit = new_kit()
    now = kit.engine.state.now_ms
    refused = kit.do(kit.a, {"type": "scheduleCancel", "time": now + 10_000})
    text = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0."
    assert refused["response"] == text
    kit = new_kit(scheduled_cancel_volume_usd=D(0))
    oid = kit.place(kit.a, "buy", "590", "1", tif="Gtc")["resting"]["oid"]
    now = kit.engine.state.now_ms
    assert kit.do(kit.a, {"type": "scheduleCancel", "time": now + 100})["status"] == "err"
    assert kit.do(kit.a, {"type": "scheduleCancel", "time": now + 10_000})["status"] == "ok"
    kit.engine.begin_block(now + 9_999)
    assert kit.engine.state.account(kit.a).records[oid].status == "open"
    kit.engine.begin_block(now + 10_000)
    assert kit.engine.state.account(kit.a).records[oid].status == "scheduledCancel"


LEVERAGE = [
    (SNDK, True, 11, "Invalid leverage value"),
    (SNDK, True, 0, "Invalid leverage value"),
    (110_003, True, 5, "Cross margin is not allowed for this asset."),
]


@pytest.mark.parametrize(("asset", "cross", "value", "text"), LEVERAGE)
def test_leverage_refusals(kit: Kit, asset: int, cross: bool, value: int, text: str) -> None:
    """SIM-2: leverage is bounded by the market, cross only where it is allowed."""
    action = {"type": "updateLeverage", "asset": asset, "isCross": cross, "leverage": value}
    assert kit.do(kit.a, action) == {"status": "err", "response": text}


def test_leverage_changes_what_an_order_needs(kit: Kit) -> None:
    """SIM-2: initial margin is notional over leverage; the margin mode is fixed while a position is open."""
    kit.do(kit.a, {"type": "updateLeverage", "asset": SNDK, "isCross": True, "leverage": 1})
    assert kit.place(kit.a, "buy", "590", "17", tif="Gtc")["error"].startswith("Insufficient margin")
    kit.place(kit.a, "buy", "601", "0.1")
    switch = kit.do(kit.a, {"type": "updateLeverage", "asset": SNDK, "isCross": False, "leverage": 1})
    assert switch["response"] == "Cannot switch leverage type with open position."


def test_unknown_asset_groupings_and_builder_fees(kit: Kit, wire_order: Callable[..., dict[str, Any]]) -> None:
    """SIM-2: what is not modelled is refused by name, never executed."""
    unknown = kit.do(kit.a, {"type": "order", "orders": [wire_order("buy", "1", "1", asset=77)], "grouping": "na"})
    assert unknown["status"] == "err"
    answer = kit.do(kit.a, {"type": "order", "orders": [wire_order("buy", "601", "1")], "grouping": "normalTpsl"})
    assert answer["response"] == "Not simulated by this exchange: grouping normalTpsl"
    builder = {"b": "0x" + "1" * 40, "f": 10}
    action = {"type": "order", "orders": [wire_order("buy", "601", "1")], "grouping": "na", "builder": builder}
    assert kit.statuses(kit.a, action) == [{"error": "Builder fee has not been approved asset=110002"}]
    assert kit.szi(kit.a) == 0


def test_budget_runs_out_trickles_and_grows_with_volume(new_kit: Callable[..., Kit]) -> None:
    """SIM-2: each order counts one; past the cap one action passes per 10 s; growth-mode volume counts a tenth."""
    kit = new_kit(free_requests=3)
    for _ in range(3):
        kit.place(kit.a, "buy", "500", "1")
    passed = kit.place(kit.a, "buy", "500", "1")  # the first action over the cap is let through
    assert "error" in passed
    refused = kit.do(kit.a, {"type": "noop"})
    assert refused["response"] == (
        "Too many cumulative requests sent (5 > 3) for cumulative volume traded $0. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    assert kit.do(kit.a, {"type": "noop"}, after_ms=10_000)["status"] == "ok"
    assert kit.do(kit.a, {"type": "cancel", "cancels": [{"a": SNDK, "o": 1}]})["status"] == "ok"  # up to twice the cap
    kit.do(kit.b, {"type": "updateLeverage", "asset": SNDK, "isCross": True, "leverage": 10})
    kit.place(kit.b, "buy", "601", "1")
    assert kit.engine.budget_cap(kit.engine.state.account(kit.b)) == 3 + 60
