"""The WebSocket session over in-memory streams, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio_websocket
from attrs import define

from hip3.exchange.exchange import Exchange
from hip3.exchange.inmemory import ConnectRefused, InMemory
from hip3.exchange.seam import BookChange, CtxChange

if TYPE_CHECKING:
    from tests.exchange.conftest import Trader

NewExchange = Callable[..., Exchange]
Book = Callable[..., BookChange]
SNDK = "xyz:SNDK"


@define
class Client:
    """A raw client: what it sends and gets is the wire."""

    connection: trio_websocket.WebSocketConnection

    async def send(self, message: Any) -> None:
        await self.connection.send_message(message if isinstance(message, str) else json.dumps(message))

    async def get(self) -> Any:
        return json.loads(await self.connection.get_message())

    async def subscribe(self, **subscription: Any) -> Any:
        """Subscribes and returns the ack."""
        await self.send({"method": "subscribe", "subscription": subscription})
        return await self.get()

    async def until(self, channel: str) -> Any:
        """The data of the next frame of a channel; others are passed over."""
        while True:
            message = await self.get()
            if message["channel"] == channel:
                return message.get("data")

    async def quiet(self, seconds: float) -> bool:
        """True where nothing arrives for that long."""
        with trio.move_on_after(seconds):
            await self.get()
            return False
        return True

    async def action(self, post_id: int, body: Any) -> None:
        await self.send({"method": "post", "id": post_id, "request": {"type": "action", "payload": body}})


@asynccontextmanager
async def connected(exchange: Exchange) -> AsyncIterator[Client]:
    """One client of a running exchange."""
    async with trio.open_nursery() as nursery:
        memory = InMemory(exchange)
        await nursery.start(memory.run)
        yield Client(await memory.connect_ws(nursery))
        nursery.cancel_scope.cancel()


async def test_ping_is_answered_with_a_pong_without_data(
    new_exchange: NewExchange, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: the application ping."""
    async with connected(new_exchange()) as client:
        await client.send({"method": "ping"})
        assert await client.get() == {"channel": "pong"}


async def test_acks_echo_the_servers_form(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: absent options are filled in, addresses come back in lower case."""
    async with connected(new_exchange()) as client:
        ack = await client.subscribe(type="l2Book", coin=SNDK)
        assert ack == {
            "channel": "subscriptionResponse",
            "data": {
                "method": "subscribe",
                "subscription": {"type": "l2Book", "coin": SNDK, "nSigFigs": None, "mantissa": None, "fast": False},
            },
        }
        await client.until("l2Book")
        ack = await client.subscribe(type="userFills", user=trader.key.address)
        assert ack["data"]["subscription"] == {"type": "userFills", "user": trader.address, "aggregateByTime": False}


FULL_STATE = ["bbo", "l2Book", "activeAssetCtx"]


@pytest.mark.parametrize("kind", FULL_STATE)
async def test_state_channels_start_with_full_state(
    new_exchange: NewExchange, kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: the first message is the whole state and carries no isSnapshot."""
    async with connected(new_exchange()) as client:
        await client.subscribe(type=kind, coin=SNDK)
        message = await client.get()
        assert message["channel"] == kind
        assert message["data"]["coin"] == SNDK
        assert "isSnapshot" not in message["data"]


async def test_bbo_is_an_array_of_two_objects_and_follows_changes_by_block(
    new_exchange: NewExchange, wire_book: Book, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: one frame per block at most, one time per block, null for a side that is empty."""
    events = [
        (0, wire_book(SNDK, [("599", "1")], [("601", "1")])),
        (1000, wire_book(SNDK, [("599", "2")], [("601", "1")])),
        (1001, wire_book(SNDK, [("599", "3")], [("601", "1")])),
        (2000, wire_book(SNDK, [], [("601", "1")])),
        (3000, CtxChange(SNDK, mark_px=None)),
    ]
    async with connected(new_exchange(events)) as client:
        await client.subscribe(type="bbo", coin=SNDK)
        first = (await client.get())["data"]
        assert first["bbo"] == [{"px": "599.0", "sz": "1.0", "n": 1}, {"px": "601.0", "sz": "1.0", "n": 1}]
        second = await client.until("bbo")
        assert second["bbo"][0]["sz"] == "3.0"
        assert second["time"] % 85 == first["time"] % 85
        third = await client.until("bbo")
        assert third["bbo"][0] is None
        assert await client.quiet(30)


async def test_periodic_channels_keep_their_cadence(
    new_exchange: NewExchange, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: fast books twice a second, contexts every second, default books and mids every five (PROTOCOL 2.3)."""
    async with connected(new_exchange()) as client:
        await client.subscribe(type="l2Book", coin=SNDK, fast=True)
        await client.subscribe(type="l2Book", coin=SNDK)
        await client.subscribe(type="activeAssetCtx", coin=SNDK)
        await client.subscribe(type="allMids", dex="xyz")
        seen: dict[str, int] = {}
        with trio.move_on_after(20):
            while True:
                message = await client.get()
                name = message["channel"] + ("+fast" if message["data"].get("fast") else "")
                seen[name] = seen.get(name, 0) + 1
        assert 38 <= seen["l2Book+fast"] <= 42
        assert 19 <= seen["activeAssetCtx"] <= 22
        assert 3 <= seen["l2Book"] <= 6
        assert 3 <= seen["allMids"] <= 6


async def test_user_channels_start_as_the_table_says(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: orderUpdates and userEvents say nothing, userFills starts with isSnapshot true even when empty."""
    async with connected(new_exchange()) as client:
        for kind in ("orderUpdates", "userEvents"):
            await client.subscribe(type=kind, user=trader.address)
            assert await client.quiet(10)
        await client.subscribe(type="userFills", user=trader.address)
        assert (await client.get())["data"] == {"isSnapshot": True, "user": trader.address, "fills": []}


async def test_an_order_over_the_socket_and_everything_it_causes(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: post answer, orderUpdates without user or flag, userFills without isSnapshot, trades, new bbo."""
    async with connected(new_exchange()) as client:
        for kind in ("orderUpdates", "userFills", "userEvents"):
            await client.subscribe(type=kind, user=trader.address)
        await client.subscribe(type="trades", coin=SNDK)
        await client.subscribe(type="bbo", coin=SNDK)
        for _ in range(3):  # beside the five acks: the snapshots of fills, trades and bbo
            await client.get()
        cloid = "0x" + "0" * 31 + "7"
        await client.action(5, trader.order(wire_order("buy", "601", "1.5", cloid=cloid)))
        seen: dict[str, Any] = {}
        while len(seen) < 6:
            message = await client.get()
            seen[message["channel"]] = message["data"]
        status = seen["post"]["response"]["payload"]["response"]["data"]["statuses"][0]["filled"]
        assert (seen["post"]["id"], status["totalSz"], status["cloid"]) == (5, "1.0", cloid)
        (update,) = seen["orderUpdates"]
        assert (update["status"], update["order"]["sz"], update["order"]["origSz"]) == ("filled", "0.5", "1.5")
        assert "reduceOnly" not in update["order"]
        assert set(seen["userFills"]) == {"user", "fills"}
        (fill,) = seen["userFills"]["fills"]
        assert fill["cloid"] == cloid
        assert seen["user"] == {"fills": [fill]}
        assert seen["trades"][0]["tid"] == fill["tid"]
        assert seen["bbo"]["bbo"][1]["px"] == "602.0"


async def test_a_rejection_is_pushed_and_a_late_subscriber_gets_history(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: a runtime reject comes on orderUpdates for an oid never seen; later subscribers get fills as a snapshot."""
    exchange = new_exchange()
    async with connected(exchange) as client:
        await client.subscribe(type="orderUpdates", user=trader.address)
        await client.action(1, trader.order(wire_order("buy", "600", "1")))
        (update,) = await client.until("orderUpdates")
        assert update["status"] == "iocCancelRejected"
        await client.action(2, trader.order(wire_order("buy", "601", "1")))
        await client.until("post")
        await client.subscribe(type="userFills", user=trader.address)
        snapshot = await client.until("userFills")
        assert snapshot["isSnapshot"] is True
        assert len(snapshot["fills"]) == 1
        await client.subscribe(type="trades", coin=SNDK)
        assert len(await client.until("trades")) == 1


async def test_a_refused_action_is_of_type_action(
    new_exchange: NewExchange, stranger: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: `type` stays action and the payload says err; `type: error` is for HTTP errors."""
    async with connected(new_exchange()) as client:
        await client.action(12, stranger.sign({"type": "noop"}))
        text = f"User or API Wallet {stranger.address} does not exist."
        assert await client.get() == {
            "channel": "post",
            "data": {"id": 12, "response": {"type": "action", "payload": {"status": "err", "response": text}}},
        }


async def test_info_posts_are_answered_by_id_and_may_overtake_actions(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: an info post sent after an action is answered before it."""
    async with connected(new_exchange()) as client:
        await client.action(1, trader.sign({"type": "noop"}))
        query = {"type": "l2Book", "coin": SNDK}
        await client.send({"method": "post", "id": 2, "request": {"type": "info", "payload": query}})
        first, second = await client.get(), await client.get()
        assert first["data"]["id"] == 2
        assert first["data"]["response"]["type"] == "info"
        assert first["data"]["response"]["payload"]["type"] == "l2Book"
        assert first["data"]["response"]["payload"]["data"]["coin"] == SNDK
        assert second["data"]["id"] == 1


MALFORMED: list[Any] = [
    "not json",
    {"method": "dance"},
    [],
    {"method": "subscribe", "subscription": {"type": "noSuchType", "coin": SNDK}},
    {"method": "subscribe", "subscription": {"type": "webData2", "user": "0x" + "1" * 40}},
    {"method": "subscribe", "subscription": {"type": "userFills", "user": "me"}},
    {"method": "post", "id": 9, "request": {"type": "info", "payload": {"type": "noSuchType"}}},
    {"method": "post", "id": 9, "request": {"type": "action", "payload": {"action": {"type": "noop"}}}},
    {"method": "post", "id": 9, "request": {"type": "explorer", "payload": {}}},
    {"method": "post", "id": "9", "request": {}},
]


@pytest.mark.parametrize("message", MALFORMED)
async def test_malformed_requests_are_quoted_on_the_error_channel_without_an_id(
    new_exchange: NewExchange, message: Any, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: nothing answers the post's id; the request in the text is the only handle. The socket lives."""
    async with connected(new_exchange()) as client:
        await client.send(message)
        text = message if isinstance(message, str) else json.dumps(message)
        expected = {"channel": "error", "data": f"Error parsing JSON into valid websocket request: {text}"}
        assert await client.get() == expected
        await client.send({"method": "ping"})
        assert await client.get() == {"channel": "pong"}


async def test_subscription_errors(new_exchange: NewExchange, autojump_clock: trio.testing.MockClock) -> None:
    """SIM-1: twice, not at all, and for a market that is not there."""
    async with connected(new_exchange()) as client:
        await client.subscribe(type="trades", coin=SNDK)
        await client.get()
        twice = await client.subscribe(type="trades", coin=SNDK)
        assert twice == {"channel": "error", "data": f'Already subscribed: {{"type":"trades","coin":"{SNDK}"}}'}
        unsubscribe = {"method": "unsubscribe", "subscription": {"type": "trades", "coin": SNDK}}
        await client.send(unsubscribe)
        assert (await client.get())["data"] == unsubscribe
        await client.send(unsubscribe)
        assert (await client.get())["data"] == f'Already unsubscribed: {{"type":"trades","coin":"{SNDK}"}}'
        wrong = await client.subscribe(type="bbo", coin="xyz:NOPE")
        assert wrong["data"] == 'Invalid subscription {"type":"bbo","coin":"xyz:NOPE"}'


async def test_limits_of_a_connection(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: channels, users and posts in flight are limited, each with the venue's text."""
    exchange = new_exchange(max_users=1, max_subscriptions=2, max_pending_posts=1)
    async with connected(exchange) as client:
        await client.subscribe(type="orderUpdates", user="0x" + "1" * 40)
        refused = await client.subscribe(type="orderUpdates", user="0x" + "2" * 40)
        assert refused["data"] == "Cannot track more than 1 total users."
        await client.subscribe(type="userEvents", user="0x" + "1" * 40)
        refused = await client.subscribe(type="bbo", coin=SNDK)
        assert refused["data"] == "Cannot subscribe to more than 2 channels."
        await client.action(1, trader.sign({"type": "noop"}))
        await client.action(2, trader.sign({"type": "noop"}))
        assert (await client.get())["data"] == "too many pending post requests id=2"
        assert (await client.get())["data"]["id"] == 1
        await client.action(3, trader.sign({"type": "noop"}))
        assert (await client.get())["data"]["id"] == 3


async def test_connections_are_limited(new_exchange: NewExchange, autojump_clock: trio.testing.MockClock) -> None:
    """SIM-2: the eleventh connection is refused, and one that left makes room."""
    exchange = new_exchange(max_connections=1)
    async with trio.open_nursery() as nursery:
        memory = InMemory(exchange)
        await nursery.start(memory.run)
        first = await memory.connect_ws(nursery)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectRefused):
            await memory.connect_ws(nursery)
        await first.aclose()
        await trio.sleep(1)
        await memory.connect_ws(nursery)
        nursery.cancel_scope.cancel()


async def test_a_socket_on_which_nothing_is_sent_for_a_minute_is_cut(
    new_exchange: NewExchange, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: one ping at the start does not save it, and there is no close frame (1006)."""
    async with connected(new_exchange()) as client:
        start = trio.current_time()
        await client.send({"method": "ping"})
        await client.get()
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            await client.get()
        assert 59 < trio.current_time() - start < 62
        assert closed.value.reason is None or closed.value.reason.code == 1006


async def test_pings_keep_a_socket_open(new_exchange: NewExchange, autojump_clock: trio.testing.MockClock) -> None:
    """SIM-1: each pong restarts the minute."""
    async with connected(new_exchange()) as client:
        for _ in range(5):
            await trio.sleep(50)
            await client.send({"method": "ping"})
            assert await client.get() == {"channel": "pong"}
