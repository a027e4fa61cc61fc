"""Answers of /info become facts, or a WireError; one that failed is never an empty one."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given

from hip3.venue.hyperliquid import parse
from hip3.venue.hyperliquid.errors import WireError
from tests.venue.any_json import json_values


def body(shared_data: Path, name: str) -> bytes:
    return (shared_data / "info" / name).read_bytes()


def test_recorded_open_orders(shared_data: Path) -> None:
    """META-1: open orders with trigger orders and children; what rests is listed once."""
    rows = parse.parse_open_orders(body(shared_data, "epigone/frontend_open_orders_3.json"))
    assert [(o.coin, o.status, o.reduce_only) for o in rows] == [
        ("LIT", "open", False),
        ("HYPE", "open", False),
        ("CASHCAT", "open", True),
    ]
    family = parse.parse_open_orders(body(shared_data, "python_sdk/get_frontend_open_orders.json"))
    assert sorted(o.oid for o in family) == [3184595905, 3184595906, 3184595907]
    assert parse.parse_open_orders(b"[]") == ()


def test_recorded_order_status(shared_data: Path) -> None:
    """POST-4: an order that is found, and `unknownOid` as None."""
    found = parse.parse_order_status(body(shared_data, "go_sdk/orderStatus_37907159219_testnet_22Aug2025.json"))
    assert found is not None
    assert (found.oid, found.status, found.sz, found.orig_sz) == (37907159219, "filled", Decimal(0), Decimal("0.0025"))
    assert parse.parse_order_status(body(shared_data, "go_sdk/orderStatus_141622259364_mainnet_22Aug2025.json")) is None


def test_recorded_account_state_of_a_dex(shared_data: Path) -> None:
    """POS-3: positions of the dex that was asked, signed, coins with their prefix."""
    state = parse.parse_account_state("xyz", body(shared_data, "epigone/clearinghouse_state_xyz.json"))
    assert (state.dex, state.time_ms, state.account_value) == ("xyz", 1785869786830, Decimal("192356.348271"))
    assert [(p.coin, p.szi, p.leverage) for p in state.positions] == [
        ("xyz:SKHX", Decimal("0.009"), 10),
        ("xyz:SP500", Decimal("-331.233"), 20),
    ]
    empty = parse.parse_account_state("", body(shared_data, "go_sdk/clearinghouseState_mainnet_13Dec2025.json"))
    assert empty.positions == ()


def test_recorded_fills(shared_data: Path) -> None:
    """TYP-5: thousands of real fills, dust conversions, settlements and liquidations among them, all read."""
    assert parse.parse_user_fills(body(shared_data, "epigone/user_fills_2.json"))[1].dir == "Spot Dust Conversion"
    path = next((shared_data / "series" / "user_fills").glob("0xf5b0*.json.gz"))
    raw = json.loads(gzip.decompress(path.read_bytes()))
    rows = raw if isinstance(raw, list) else next(v for v in raw.values() if isinstance(v, list))
    assert len(parse.parse_user_fills(rows)) == len(rows) == 2000


def test_recorded_contexts_and_book(shared_data: Path) -> None:
    """META-1: contexts belong to the coins of the universe by position; the REST book has the form of the frame."""
    ctxs = parse.parse_asset_ctxs(body(shared_data, "go_sdk/metaAndAssetCtxs_dex-xyz_mainnet_06Feb2026.json"))
    assert ctxs["xyz:XYZ100"].oracle_px == Decimal("24657.0")
    assert "xyz:SNDK" in ctxs
    book = parse.parse_book(body(shared_data, "python_sdk/get_l2_snapshot.json"))
    assert book.bids[0].px < book.asks[0].px


def test_recorded_account_facts(shared_data: Path) -> None:
    """META-1, KEY-3: fees, budget, role, agents and the venue's clock."""
    mock = json.loads(body(shared_data, "gct_mock_20261006.json"))["responses"]
    by_request = {(r["request"]["type"], r["request"].get("user")): r["body"] for r in mock}
    assert parse.parse_fees(by_request["userFees", "<user>"]) == parse.UserFees(Decimal("0.000315"), Decimal("0.000105"))
    owner = "0x14791697260e4c9a71f18484c9f997b308e59325"
    assert parse.parse_user_role(by_request["userRole", "<agent>"]) == parse.UserRole("agent", owner)
    assert parse.parse_user_role(by_request["userRole", "<sub-account>"]) == parse.UserRole("subAccount", owner)
    assert parse.parse_user_role(b'{"role":"missing"}') == parse.UserRole("missing", None)
    agents = parse.parse_extra_agents(body(shared_data, "python_sdk/extra_agents.json"))
    assert agents[0] == parse.ExtraAgent("ok", "0x286edfa08c04f6899dab3bfdecf2dd133f9733b9", 1767776120478)
    assert parse.parse_extra_agents([{"name": "n", "address": "0xAB", "validUntil": None}])[0].valid_until_ms is None
    behaviour = json.loads(body(shared_data, "error_and_status_behaviour.json"))
    limits = [parse.parse_rate_limit(e["body"]) for e in behaviour[4:5]]
    assert limits == [parse.RateLimit(Decimal("168.41"), 147, 10168, 0)]
    assert limits[0].remaining == 10021
    assert parse.parse_exchange_status(behaviour[3]["body"]) == parse.ExchangeStatus(1787195273903, None)


READERS: list[Callable[[object], object]] = [
    parse.parse_book,
    parse.parse_open_orders,
    parse.parse_order_status,
    parse.parse_user_fills,
    lambda found: parse.parse_account_state("xyz", found),
    parse.parse_asset_ctxs,
    parse.parse_fees,
    parse.parse_rate_limit,
    parse.parse_user_role,
    parse.parse_extra_agents,
    parse.parse_exchange_status,
]


@pytest.mark.parametrize("answer", [None, "text", 7, {"error": "x"}, b"null", b"", b"<html>", [{}], {"status": "order"}])
@pytest.mark.parametrize("reader", READERS)
def test_failed_answers_are_never_empty(reader: Callable[[object], object], answer: object) -> None:
    """META-1: null, an error text or a foreign shape raises; it never reads as "nothing there"."""
    with pytest.raises(WireError, match="answer to"):
        reader(answer)


@pytest.mark.parametrize("reader", READERS)
@given(answer=json_values)
def test_any_answer_is_read_or_a_wire_error(reader: Callable[[object], object], answer: object) -> None:
    """META-1: fuzz: decoded rubbish raises WireError and nothing else."""
    with contextlib.suppress(WireError):
        reader(answer)


def test_contexts_that_do_not_fit_the_universe() -> None:
    """META-1: one context too few would give every later coin the price of its neighbour."""
    with pytest.raises(WireError, match="do not belong together"):
        parse.parse_asset_ctxs([{"universe": [{"name": "A"}, {"name": "B"}]}, [{"markPx": "1"}]])
