"""The HTTP pipeline and the queries of `/info`, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Faults
from hip3.exchange.http import WeightWindow
from hip3.exchange.inmemory import InMemory

if TYPE_CHECKING:
    from tests.exchange.conftest import Trader

D = Decimal
NewExchange = Callable[..., Exchange]
JSON = {"content-type": "application/json"}
START_MS = 1_767_225_600_000


@asynccontextmanager
async def client_of(exchange: Exchange) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running in-memory exchange."""
    memory = InMemory(exchange)
    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        async with httpx.AsyncClient(transport=memory.transport(), base_url="http://exchange.invalid", timeout=30) as client:
            yield client
        nursery.cancel_scope.cancel()


async def ask(client: httpx.AsyncClient, **query: Any) -> Any:
    """The JSON of an info answer."""
    answer = await client.post("/info", json=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/info", "/exchange"])
async def test_what_the_parser_refuses(new_exchange: NewExchange, path: str, autojump_clock: trio.testing.MockClock) -> None:
    """SIM-2: 415 without the JSON content type, 400 for no JSON, 422 for another shape, each with the venue's text."""
    async with client_of(new_exchange()) as client:
        wrong = await client.post(path, content=b"{}", headers={"content-type": "text/plain"})
        assert (wrong.status_code, wrong.text) == (415, "Expected request with `Content-Type: application/json`")
        broken = await client.post(path, content=b"{oops", headers=JSON)
        assert (broken.status_code, broken.text) == (400, "Failed to parse the request body as JSON")
        shape = "Failed to deserialize the JSON body into the target type"
        for body in (b"{}", b"[]", b"3", b'{"type":"noSuchThing"}', b'{"type":"meta","type":"meta"}'):
            odd = await client.post(path, content=body, headers=JSON)
            assert (odd.status_code, odd.text) == (422, shape), body
        assert (await client.post("/other", content=b"{}", headers=JSON)).status_code == 404


BAD_ORDERS: list[dict[str, Any]] = [
    {"p": 601},
    {"p": "-1"},
    {"p": "1e2"},
    {"p": "0.123456789"},
    {"s": ""},
    {"b": 1},
    {"a": "110002"},
    {"a": True},
    {"c": "123"},
    {"c": "0X" + "0" * 32},
    {"t": {"limit": {"tif": "Fok"}}},
]


@pytest.mark.parametrize("change", BAD_ORDERS)
async def test_orders_of_the_wrong_shape_are_422_and_use_no_nonce(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], change: dict[str, Any],
    autojump_clock: trio.testing.MockClock,
) -> None:  # fmt: skip
    """SIM-2: numbers are unsigned plain decimals in text with 8 decimals at most, cloids are 0x and 32 hex digits."""
    exchange = new_exchange()
    body = trader.order(wire_order("buy", "601", "0.1"))
    body["action"]["orders"][0] |= change
    async with client_of(exchange) as client:
        assert (await client.post("/exchange", json=body)).status_code == 422
    assert exchange.nonces() == ()


async def test_unknown_fields_of_the_envelope_and_the_action_are_422(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: strict outside, as measured."""
    body = trader.sign({"type": "noop"})
    async with client_of(new_exchange()) as client:
        assert (await client.post("/exchange", json={**body, "extra": 1})).status_code == 422
        odd = {**body, "action": {"type": "noop", "extra": 1}}
        assert (await client.post("/exchange", json=odd)).status_code == 422
        assert (await client.post("/exchange", json=body)).status_code == 200


async def test_ip_weight_is_limited_and_comes_back_after_a_minute(
    new_exchange: NewExchange, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: past the weight of a minute the answer is 429 with body `null`."""
    async with client_of(new_exchange(ip_weight_per_min=40)) as client:
        for _ in range(2):
            await ask(client, type="meta")
        refused = await client.post("/info", json={"type": "allMids"})
        assert (refused.status_code, refused.text) == (429, "null")
        await trio.sleep(60)
        await ask(client, type="allMids")


def test_weight_window_slides() -> None:
    """SIM-2: weight returns when it is a minute old, not at the turn of a minute."""
    window = WeightWindow(10)
    assert window.take(6, 0)
    assert window.take(4, 59_000)
    assert not window.take(1, 59_999)
    assert window.take(6, 60_000)
    assert not window.take(1, 60_000)


async def test_metadata_numbers_assets_by_listing_order(
    new_exchange: NewExchange, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: perpDexs starts with null, delisted markets keep their slot, flags are absent rather than false."""
    async with client_of(new_exchange()) as client:
        dexs = await ask(client, type="perpDexs")
        assert dexs[0] is None
        assert dexs[1]["name"] == "xyz"
        names = [row["name"] for row in (await ask(client, type="meta", dex="xyz"))["universe"]]
        assert names.index("xyz:SNDK") == 2
        alphabetical = [coin for coin, _ in dexs[1]["assetToFundingMultiplier"]]
        assert alphabetical.index("xyz:SNDK") != 2
        meta, ctxs = await ask(client, type="metaAndAssetCtxs", dex="xyz")
        assert len(meta["universe"]) == len(ctxs)
        gone, sndk, hood = meta["universe"][1:4]
        assert gone["isDelisted"] is True
        assert (sndk["growthMode"], sndk["deployerFeeScale"]) == ("enabled", "1.0")
        assert "isDelisted" not in sndk
        assert "marginMode" not in sndk
        assert hood["marginMode"] == "noCross"
        assert ctxs[2] | {"midPx": "600.0", "oraclePx": "600.0", "impactPxs": ["599.0", "601.0"]} == ctxs[2]
        assert (ctxs[0]["midPx"], ctxs[0]["impactPxs"], ctxs[0]["premium"]) == (None, None, None)
        assert (await client.post("/info", json={"type": "meta", "dex": "nope"})).status_code == 500


async def test_market_queries(new_exchange: NewExchange, autojump_clock: trio.testing.MockClock) -> None:
    """SIM-1: mids, books and status have the venue's shapes; an unknown coin's book is null."""
    async with client_of(new_exchange()) as client:
        assert await ask(client, type="allMids") == {"BTC": "90000.0"}
        assert (await ask(client, type="allMids", dex="xyz"))["xyz:SNDK"] == "600.0"
        book = await ask(client, type="l2Book", coin="xyz:SNDK")
        assert book["levels"][0][0] == {"px": "599.0", "sz": "1.0", "n": 1}
        assert await ask(client, type="l2Book", coin="xyz:NOPE") is None
        assert await ask(client, type="perpsAtOpenInterestCap", dex="xyz") == ["xyz:CAPPED"]
        await trio.sleep(3600)
        venue_ms = (await ask(client, type="exchangeStatus"))["time"]
        assert START_MS + 3_600_000 <= venue_ms <= START_MS + 3_602_000  # also when nothing happened for an hour
        spot = await ask(client, type="spotMeta")
        assert spot["tokens"][0]["name"] == "USDC"


async def test_account_queries_follow_a_trade(
    new_exchange: NewExchange, trader: Trader, stranger: Trader, wire_order: Callable[..., Any],
    autojump_clock: trio.testing.MockClock,
) -> None:  # fmt: skip
    """SIM-1: state, fills, orders and limits agree with each other, per dex; a stranger's account is empty."""
    cloid, user = "0x" + "0" * 31 + "9", trader.address
    async with client_of(new_exchange()) as client:
        orders = [wire_order("buy", "601", "0.1"), wire_order("buy", "590", "0.2", tif="Gtc", cloid=cloid)]
        answer = (await client.post("/exchange", json=trader.order(*orders))).json()
        filled, resting = answer["response"]["data"]["statuses"]
        state = await ask(client, type="clearinghouseState", user=user, dex="xyz")
        (held,) = state["assetPositions"]
        assert (held["position"]["coin"], held["position"]["szi"]) == ("xyz:SNDK", "0.1")
        assert held["position"]["entryPx"] == "601.0"
        assert D(state["marginSummary"]["accountValue"]) == D(10_000) - D("0.1") - D("0.005409")
        assert (await ask(client, type="clearinghouseState", user=user))["assetPositions"] == []
        (fill,) = await ask(client, type="userFills", user=user)
        assert (fill["oid"], fill["dir"], fill["fee"], fill["crossed"]) == (
            filled["filled"]["oid"], "Open Long", "0.005409", True,
        )  # fmt: skip
        by_time = await ask(client, type="userFillsByTime", user=user, startTime=fill["time"])
        assert by_time == [fill]
        assert await ask(client, type="userFillsByTime", user=user, startTime=fill["time"] + 1) == []
        (row,) = await ask(client, type="openOrders", user=user, dex="xyz")
        assert (row["oid"], row["cloid"], "reduceOnly" in row) == (resting["resting"]["oid"], cloid, False)
        (front,) = await ask(client, type="frontendOpenOrders", user=user, dex="xyz")
        assert (front["tif"], front["orderType"], front["isTrigger"]) == ("Gtc", "Limit", False)
        assert await ask(client, type="openOrders", user=user) == []
        by_cloid = await ask(client, type="orderStatus", user=user, oid=cloid)
        assert by_cloid["order"]["status"] == "open"
        assert await ask(client, type="orderStatus", user=stranger.address, oid=cloid) == {"status": "unknownOid"}
        history = await ask(client, type="historicalOrders", user=user)
        assert [h["status"] for h in history] == ["open", "filled"]
        limits = await ask(client, type="userRateLimit", user=user)
        assert (limits["cumVlm"], limits["nRequestsUsed"], limits["nRequestsCap"]) == ("60.1", 2, 10_006)
        assert (await ask(client, type="userFees", user=user))["userCrossRate"] == "0.00045"
        assert await ask(client, type="userRole", user=user) == {"role": "user"}
        data = await ask(client, type="activeAssetData", user=user, coin="xyz:SNDK")
        assert data["leverage"] == {"type": "cross", "value": 10}
        empty = await ask(client, type="clearinghouseState", user=stranger.address, dex="xyz")
        assert (empty["assetPositions"], empty["marginSummary"]["accountValue"]) == ([], "0.0")
        bad = await client.post("/info", json={"type": "openOrders", "user": "me"})
        assert bad.status_code == 422


async def test_order_status_may_lag(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-4: right after an accepted order the status may be unknown, and is known later; so absence proves nothing."""
    faults = Faults()
    async with client_of(new_exchange(faults=faults, order_status_delay_ms=1000)) as client:
        answer = (await client.post("/exchange", json=trader.order(wire_order("buy", "601", "0.1")))).json()
        oid = answer["response"]["data"]["statuses"][0]["filled"]["oid"]
        query = {"type": "orderStatus", "user": trader.address, "oid": oid}
        assert await ask(client, **query) == {"status": "unknownOid"}
        await trio.sleep(1.1)
        assert (await ask(client, **query))["status"] == "order"
        faults.world.unknown_order_status = True
        assert await ask(client, **query) == {"status": "unknownOid"}
