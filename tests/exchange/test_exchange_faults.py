"""Faults at their points: what a client sees, and what the exchange did nevertheless."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trio_websocket

from hip3.core.ids import OrderSide
from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import (
    Delay,
    Disconnect,
    Drop,
    Duplicate,
    Faults,
    HttpAnswer,
    Point,
    RefuseText,
    ReplaceBody,
    Rule,
)
from hip3.exchange.inmemory import ConnectRefused, InMemory
from hip3.exchange.seam import BookChange, CtxChange

if TYPE_CHECKING:
    from tests.exchange.conftest import Trader

D = Decimal
NewExchange = Callable[..., Exchange]
WireOrder = Callable[..., Any]
SNDK = "xyz:SNDK"


@asynccontextmanager
async def reach(exchange: Exchange) -> AsyncIterator[tuple[InMemory, trio.Nursery, httpx.AsyncClient]]:
    """A running in-memory exchange, a nursery for connections, and an HTTP client with a 5 s time-out."""
    memory = InMemory(exchange)
    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        async with httpx.AsyncClient(transport=memory.transport(), base_url="http://exchange.invalid", timeout=5) as client:
            yield memory, nursery, client
        nursery.cancel_scope.cancel()


async def test_an_answer_lost_before_admission_means_it_never_happened(
    new_exchange: NewExchange, trader: Trader, wire_order: WireOrder, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-4: the client times out, the nonce is free, nothing was traded."""
    exchange = new_exchange(faults=Faults([Rule(Point.BEFORE_ADMISSION, Drop())]))
    body = trader.order(wire_order("buy", "601", "0.1"))
    async with reach(exchange) as (_, _, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/exchange", json=body)
        assert exchange.nonces() == ()
        again = (await client.post("/exchange", json=body)).json()
        assert "filled" in again["response"]["data"]["statuses"][0]


async def test_an_answer_lost_after_commit_means_it_did_happen(
    new_exchange: NewExchange, trader: Trader, wire_order: WireOrder, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-4: the same time-out, but the order was executed; sending the same bytes again says duplicate nonce."""
    exchange = new_exchange(faults=Faults([Rule(Point.AFTER_COMMIT, Drop())]))
    body = trader.order(wire_order("buy", "601", "0.1"))
    async with reach(exchange) as (_, _, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/exchange", json=body)
        assert len(exchange.fills(trader.address)) == 1
        again = (await client.post("/exchange", json=body)).json()
        assert again["response"] == f"Invalid nonce: duplicate nonce {body['nonce']}"
        assert len(exchange.fills(trader.address)) == 1


BODIES = [
    (RefuseText("Only when it rains"), 200, '{"status":"err","response":"Only when it rains"}'),
    (HttpAnswer(429), 429, "null"),
    (HttpAnswer(502, "<html>Bad Gateway</html>"), 502, "<html>Bad Gateway</html>"),
    (ReplaceBody('{"status":"ok","resp'), 200, '{"status":"ok","resp'),
]


@pytest.mark.parametrize(("action", "status", "text"), BODIES)
@pytest.mark.parametrize("point", [Point.BEFORE_ADMISSION, Point.AFTER_COMMIT])
async def test_other_answers_than_the_true_one(
    new_exchange: NewExchange,
    trader: Trader,
    wire_order: WireOrder,
    point: Point,
    action: Any,
    status: int,
    text: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """SIM-4: 429, 5xx and malformed bodies, before and after the commit; only the latter traded."""
    exchange = new_exchange(faults=Faults([Rule(point, action)]))
    async with reach(exchange) as (_, _, client):
        answer = await client.post("/exchange", json=trader.order(wire_order("buy", "601", "0.1")))
        assert (answer.status_code, answer.text) == (status, text)
        assert len(exchange.fills(trader.address)) == (point is Point.AFTER_COMMIT)


async def test_http_errors_of_a_post_are_of_type_error(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-4: over the socket an HTTP error is text of `type: error`, with the id."""
    exchange = new_exchange(faults=Faults([Rule(Point.BEFORE_ADMISSION, HttpAnswer(429))]))
    async with reach(exchange) as (memory, nursery, _):
        connection = await memory.connect_ws(nursery)
        payload = trader.sign({"type": "noop"})
        request = {"method": "post", "id": 4, "request": {"type": "action", "payload": payload}}
        await connection.send_message(json.dumps(request))
        answer = json.loads(await connection.get_message())
        assert answer["data"] == {"id": 4, "response": {"type": "error", "payload": "429 null"}}


async def test_cut_connections(new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock) -> None:
    """SIM-4: before connecting, on a frame, and instead of an answer, over both transports."""
    faults = Faults([Rule(Point.CONNECT, Disconnect()), Rule(Point.FRAME, Disconnect(), lambda channel: channel == "pong")])
    exchange = new_exchange(faults=faults)
    async with reach(exchange) as (memory, nursery, client):
        with pytest.raises(ConnectRefused):
            await memory.connect_ws(nursery)
        connection = await memory.connect_ws(nursery)
        await connection.send_message('{"method":"ping"}')
        with pytest.raises(trio_websocket.ConnectionClosed):
            await connection.get_message()
        faults.add(Rule(Point.AFTER_COMMIT, Disconnect()), Rule(Point.INFO, Disconnect()))
        with pytest.raises(httpx.ReadError):
            await client.post("/exchange", json=trader.sign({"type": "noop"}))
        with pytest.raises(httpx.ReadError):
            await client.post("/info", json={"type": "meta"})
        assert len(exchange.nonces()) == 1


async def test_frames_are_dropped_delayed_doubled_and_replaced(
    new_exchange: NewExchange, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-4: a delayed frame is overtaken by later ones, which is how frames are reordered."""
    faults = Faults(
        [
            Rule(Point.FRAME, Delay(1000), lambda channel: channel == "subscriptionResponse"),
            Rule(Point.FRAME, Duplicate(), lambda channel: channel == "pong"),
            Rule(Point.FRAME, Drop(), lambda channel: channel == "pong"),
            Rule(Point.FRAME, ReplaceBody("?"), lambda channel: channel == "pong"),
        ]
    )
    async with reach(new_exchange(faults=faults)) as (memory, nursery, _):
        connection = await memory.connect_ws(nursery)
        await connection.send_message(json.dumps({"method": "subscribe", "subscription": {"type": "bbo", "coin": SNDK}}))
        channels = [json.loads(await connection.get_message())["channel"] for _ in range(2)]
        assert channels == ["bbo", "subscriptionResponse"]
        for _ in range(4):
            await connection.send_message('{"method":"ping"}')
        got = [await connection.get_message() for _ in range(4)]
        assert got == ['{"channel":"pong"}', '{"channel":"pong"}', "?", '{"channel":"pong"}']


async def test_a_delayed_action_misses_its_block(
    new_exchange: NewExchange,
    trader: Trader,
    wire_order: WireOrder,
    wire_book: Callable[..., BookChange],
    autojump_clock: trio.testing.MockClock,
) -> None:
    """SIM-4: late on the way in, it meets another book."""
    events = [(0, wire_book(SNDK, [], [("601", "1")])), (1000, wire_book(SNDK, [], [("605", "1")]))]
    exchange = new_exchange(events, Faults([Rule(Point.BEFORE_ADMISSION, Delay(2000), skip=1)]))
    async with reach(exchange) as (_, _, client):
        first = (await client.post("/exchange", json=trader.order(wire_order("buy", "601", "0.1")))).json()
        second = (await client.post("/exchange", json=trader.order(wire_order("buy", "601", "0.1")))).json()
    assert "filled" in first["response"]["data"]["statuses"][0]
    assert "error" in second["response"]["data"]["statuses"][0]


async def test_the_world_can_freeze_the_oracle_and_lose_a_side_of_the_book(
    new_exchange: NewExchange, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-4: a frozen oracle keeps its price while the mark moves; a missing side is null in the bbo and no mid."""
    faults = Faults()
    events = [(2000, CtxChange(SNDK, oracle_px=D(650), mark_px=D(650)))]
    faults.world.frozen_oracles.add(SNDK)
    exchange = new_exchange(events, faults)
    async with reach(exchange) as (_, _, client):
        await trio.sleep(3)
        ctx = (await client.post("/info", json={"type": "metaAndAssetCtxs", "dex": "xyz"})).json()[1][2]
        assert (ctx["oraclePx"], ctx["markPx"]) == ("600.0", "650.0")
    exchange = new_exchange(faults=faults)
    async with reach(exchange) as (memory, nursery, client):
        await trio.sleep(1)
        faults.world.one_sided[SNDK] = OrderSide.SELL
        connection = await memory.connect_ws(nursery)
        await trio.sleep(1)
        await connection.send_message(json.dumps({"method": "subscribe", "subscription": {"type": "bbo", "coin": SNDK}}))
        await connection.get_message()
        assert json.loads(await connection.get_message())["data"]["bbo"][1] is None
        ctx = (await client.post("/info", json={"type": "metaAndAssetCtxs", "dex": "xyz"})).json()[1][2]
        assert (ctx["midPx"], ctx["premium"], ctx["impactPxs"]) == (None, None, None)


def test_rules_are_used_up_and_remembered() -> None:
    """SIM-4: a rule strikes after `skip`, `uses` times, and the strikes are listed."""
    faults = Faults([Rule(Point.INFO, Drop(), lambda kind: kind == "meta", skip=1, uses=2)])
    struck = [faults.at(Point.INFO, kind) for kind in ("meta", "allMids", "meta", "meta", "meta")]
    assert struck == [None, None, Drop(), Drop(), None]
    assert len(faults.struck) == 2
