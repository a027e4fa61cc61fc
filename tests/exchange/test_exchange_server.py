"""The exchange on a real loopback port: our stack, a plain client, and the official SDK unmodified."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trio_websocket
from eth_account import Account as EthAccount
from hyperliquid.exchange import Exchange as SdkExchange
from hyperliquid.info import Info as SdkInfo
from hyperliquid.utils.error import ClientError
from hyperliquid.utils.types import Cloid

from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Disconnect, Faults, Point, Rule
from hip3.exchange.server import NotLoopback, PortBusy, bind, serve
from hip3.io.clock import TrioClock

if TYPE_CHECKING:
    from tests.exchange.conftest import Trader

D = Decimal
NewExchange = Callable[..., Exchange]
SNDK = "xyz:SNDK"
QUICK = {"latency_ms": 5, "block_ms": 20, "response_ms": 5}


@asynccontextmanager
async def served(exchange: Exchange) -> AsyncIterator[int]:
    """The port of a running server; stopping it is checked to take less than a second."""
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, exchange, "127.0.0.1", 0)
        yield port
        started = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - started < 1


async def test_orders_and_queries_over_real_sockets(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any]
) -> None:
    """SIM-1: `/info`, `/exchange` and `/ws` on one port; the stop does not wait for the open WebSocket."""
    exchange = new_exchange(**QUICK)
    async with served(exchange) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with trio_websocket.open_websocket_url(f"ws://127.0.0.1:{port}/ws") as socket_:
            subscription = {"type": "orderUpdates", "user": trader.address}
            await socket_.send_message(json.dumps({"method": "subscribe", "subscription": subscription}))
            assert json.loads(await socket_.get_message())["channel"] == "subscriptionResponse"
            answer = await client.post("/exchange", json=trader.order(wire_order("buy", "601", "0.1")))
            assert answer.json()["response"]["data"]["statuses"][0]["filled"]["totalSz"] == "0.1"
            update = json.loads(await socket_.get_message())
            assert update["data"][0]["status"] == "filled"
        meta = await client.post("/info", json={"type": "meta", "dex": "xyz"})
        assert meta.json()["universe"][2]["name"] == SNDK
        assert (await client.get("/info")).status_code == 405


async def test_a_server_stops_within_a_second_with_clients_connected(new_exchange: NewExchange) -> None:
    """SIM-1: an open WebSocket and an idle HTTP connection do not hold it (checked by `served`)."""
    async with trio.open_nursery() as nursery:
        async with served(new_exchange(**QUICK)) as port:
            client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}")
            await client.post("/info", json={"type": "allMids"})
            # Our own stream: after a close without a frame trio-websocket leaves the socket it opened to the collector.
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            connection = await trio_websocket.wrap_client_stream(nursery, stream, "127.0.0.1", "/ws")
            await connection.send_message('{"method":"ping"}')
            assert await connection.get_message() == '{"channel":"pong"}'
        await client.aclose()
        with pytest.raises(trio_websocket.ConnectionClosed):
            await connection.get_message()
        await stream.aclose()


async def test_a_cut_answer_breaks_the_http_connection(new_exchange: NewExchange, trader: Trader) -> None:
    """SIM-4: instead of an answer the socket closes; the client sees a protocol error, and the action had happened."""
    exchange = new_exchange(faults=Faults([Rule(Point.AFTER_COMMIT, Disconnect())]), **QUICK)
    async with served(exchange) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/exchange", json=trader.sign({"type": "noop"}))
        assert len(exchange.nonces()) == 1


def test_a_busy_port_says_so() -> None:
    """SIM-1: the error names host and port and the remedy."""
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortBusy, match=f"localhost:{port} is in use"):
            bind("localhost", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::"])  # noqa: S104 - refused, that is the point
def test_only_loopback_is_served(host: str) -> None:
    """SIM-1: an address that others could reach is refused before any socket is opened."""
    with pytest.raises(NotLoopback, match="loopback only"):
        bind(host, 0)


def test_loopback_by_its_three_names() -> None:
    """SIM-1: 127.0.0.1, localhost and ::1."""
    for host in ("127.0.0.1", "localhost", *(["::1"] if socket.has_dualstack_ipv6() else [])):
        bind(host, 0).close()


def real_clock_exchange(new_exchange: NewExchange) -> Exchange:
    """An exchange whose wall clock is now: the SDK signs with its own clock as nonce."""
    exchange = new_exchange(**QUICK)
    return Exchange(exchange._source, TrioClock.starting_at(int(time.time() * 1000)), exchange.config)


def use_sdk(port: int, agent_key: bytes, master: str) -> dict[str, Any]:
    """A foreign client's session, synchronous: query, place, look up, cancel, take, modify."""
    url = f"http://127.0.0.1:{port}"
    info = SdkInfo(url, skip_ws=True, perp_dexs=["", "xyz"], timeout=10)
    client = SdkExchange(EthAccount.from_key(agent_key), url, account_address=master, perp_dexs=["", "xyz"], timeout=10)
    seen: dict[str, Any] = {
        "asset": info.name_to_asset(SNDK),
        "meta": info.meta(dex="xyz"),
        "state": info.user_state(master, dex="xyz"),
        "book": info.l2_snapshot(SNDK),
        "mids": info.all_mids(dex="xyz"),
        "fees": info.user_fees(master),
        "role": info.user_role(client.wallet.address),
    }
    cloid = Cloid.from_int(42)
    seen["resting"] = client.order(SNDK, True, 0.5, 590.0, {"limit": {"tif": "Gtc"}}, cloid=cloid)
    oid = seen["resting"]["response"]["data"]["statuses"][0]["resting"]["oid"]
    seen["by_oid"] = info.query_order_by_oid(master, oid)
    seen["by_cloid"] = info.query_order_by_cloid(master, cloid)
    seen["modified"] = client.modify_order(oid, SNDK, True, 0.6, 591.0, {"limit": {"tif": "Gtc"}}, cloid=cloid)
    seen["open"] = info.frontend_open_orders(master, dex="xyz")
    seen["canceled"] = client.cancel_by_cloid(SNDK, cloid)
    seen["ioc"] = client.order(SNDK, True, 0.1, 601.0, {"limit": {"tif": "Ioc"}})
    seen["leverage"] = client.update_leverage(5, SNDK)
    seen["small"] = client.order(SNDK, True, 0.01, 601.0, {"limit": {"tif": "Ioc"}})
    seen["closed"] = client.market_close(SNDK)
    seen["fills"] = info.user_fills(master)
    try:
        info.post("/info", {"type": "noSuchType"})
    except ClientError as error:
        seen["unknown"] = (error.status_code, error.error_message)
    for sdk in (info, client, client.info):
        sdk.session.close()
    return seen


async def test_the_official_sdk_trades_unmodified(new_exchange: NewExchange, trader: Trader, stranger: Trader) -> None:
    """SIM-1: SDK 0.24.0 resolves the asset, queries, places, looks up, modifies, cancels, takes and closes, by an agent."""
    exchange = real_clock_exchange(new_exchange)
    exchange.fund(trader.address, "xyz", D(10_000))
    exchange.approve_agent(trader.address, stranger.address, exchange.engine.state.now_ms + 86_400_000, "sdk")
    async with served(exchange) as port:
        with trio.fail_after(30):
            seen = await trio.to_thread.run_sync(use_sdk, port, (8).to_bytes(32, "big"), trader.address)
    assert seen["asset"] == 110_002
    assert seen["state"]["withdrawable"] == "10000.0"
    assert seen["book"]["levels"][1][0]["px"] == "601.0"
    assert seen["mids"][SNDK] == "600.0"
    assert seen["role"] == {"role": "agent", "data": {"user": trader.address}}
    assert seen["by_oid"]["order"]["status"] == "open"
    assert seen["by_cloid"]["order"]["order"]["limitPx"] == "590.0"
    assert "resting" in seen["modified"]["response"]["data"]["statuses"][0]
    assert [(o["limitPx"], o["sz"], o["tif"]) for o in seen["open"]] == [("591.0", "0.6", "Alo")]
    assert seen["canceled"]["response"]["data"]["statuses"] == ["success"]
    assert seen["ioc"]["response"]["data"]["statuses"][0]["filled"]["totalSz"] == "0.1"
    assert seen["leverage"] == {"status": "ok", "response": {"type": "default"}}
    assert "minimum value" in seen["small"]["response"]["data"]["statuses"][0]["error"]
    assert seen["closed"]["response"]["data"]["statuses"][0]["filled"]["totalSz"] == "0.1"
    assert [fill["dir"] for fill in seen["fills"]] == ["Close Long", "Open Long"]
    assert seen["unknown"] == (422, "Failed to deserialize the JSON body into the target type")
    assert exchange.positions(trader.address) == ()


def use_sdk_stream(port: int, master: str) -> list[Any]:
    """Subscribes by the SDK's own thread and waits for a book, a bbo and the snapshot of fills."""
    info = SdkInfo(f"http://127.0.0.1:{port}", perp_dexs=["xyz"], timeout=10)
    got: list[Any] = []
    for subscription in (
        {"type": "l2Book", "coin": SNDK},
        {"type": "bbo", "coin": SNDK},
        {"type": "userFills", "user": master},
        {"type": "orderUpdates", "user": master},
    ):
        info.subscribe(subscription, got.append)
    until = time.monotonic() + 10
    while len({message["channel"] for message in got}) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    info.disconnect_websocket()
    assert info.ws_manager is not None
    info.ws_manager.join(5)
    info.session.close()
    return got


async def test_the_official_sdk_streams_unmodified(new_exchange: NewExchange, trader: Trader) -> None:
    """SIM-1: its WebSocket, whose URL it makes from the base URL, gets books, bbo and fills."""
    exchange = real_clock_exchange(new_exchange)
    async with served(exchange) as port:
        with trio.fail_after(30):
            got = await trio.to_thread.run_sync(use_sdk_stream, port, trader.address)
    assert {message["channel"] for message in got} == {"l2Book", "bbo", "userFills"}
