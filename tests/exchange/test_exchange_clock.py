"""The block clock: who comes first, what a block has in common, when answers arrive."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import trio

from hip3.core.ids import OrderSide
from hip3.exchange.answers import Reply
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import BookChange, DexListing, MarketListing, TimedEvent
from hip3.io.clock import TrioClock

if TYPE_CHECKING:
    from tests.exchange.conftest import Trader

D = Decimal
NewExchange = Callable[..., Exchange]
Book = Callable[..., BookChange]
START_MS = 1_767_225_600_000
SNDK = "xyz:SNDK"


async def outcome(exchange: Exchange, *bodies: Any, for_s: float = 2) -> list[tuple[int, Any]]:
    """Submits in order at one moment; `(ms of the run, body)` of each answer as it arrived."""
    answers: list[tuple[int, Any]] = []

    def take(answer: Any) -> None:
        assert isinstance(answer, Reply)
        answers.append((exchange.elapsed_ms(), json.loads(answer.body)))

    async with trio.open_nursery() as nursery:
        await nursery.start(exchange.run)
        for body in bodies:
            exchange.submit(body, take)
        await trio.sleep(for_s)
        nursery.cancel_scope.cancel()
    return answers


async def test_makers_may_cancel_before_a_taker_arrives(
    new_exchange: NewExchange,
    trader: Trader,
    wire_order: Callable[..., Any],
    wire_book: Book,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """SIM-3, LESSONS 25, 42: a quote that was there when the order was sent, and gone before its block, cannot be hit."""
    events = [
        (0, wire_book(SNDK, [("599", "1")], [("601", "1")])),
        (140, wire_book(SNDK, [("599", "1")], [("605", "1")])),
    ]
    ((_, body),) = await outcome(new_exchange(events), trader.order(wire_order("buy", "601", "1")))
    assert body["response"]["data"]["statuses"][0]["error"].startswith("Order could not immediately match")


async def test_even_a_maker_that_moves_after_the_arrival_is_ahead_within_the_block(
    new_exchange: NewExchange,
    trader: Trader,
    wire_order: Callable[..., Any],
    wire_book: Book,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """SIM-3: cancels of a block go before takers; the order arrives at 150 ms, the makers move at 160, the block is 170."""
    events = [
        (0, wire_book(SNDK, [("599", "1")], [("601", "1")])),
        (160, wire_book(SNDK, [("599", "1")], [("605", "1")])),
    ]
    ((_, body),) = await outcome(new_exchange(events), trader.order(wire_order("buy", "601", "1")))
    assert "error" in body["response"]["data"]["statuses"][0]


async def test_latency_block_and_way_back_add_up(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-3: sent at 0, in the mempool at 150, in the block of 170, answered at 320 ms."""
    ((at_ms, _),) = await outcome(new_exchange(), trader.sign({"type": "noop"}))
    assert at_ms == 320


async def test_cancels_and_post_only_orders_of_a_block_go_before_takers(
    new_exchange: NewExchange,
    trader: Trader,
    stranger: Trader,
    wire_order: Callable[..., Any],
    autojump_clock: trio.testing.MockClock,
) -> None:
    """SIM-2: sent after the taker but in the same block, a cancel is executed before it."""
    exchange = new_exchange([])
    exchange.fund(stranger.address, "xyz", D(10_000))
    cloid = "0x" + "0" * 31 + "1"
    rest = trader.order(wire_order("sell", "600", "1", tif="Alo", cloid=cloid))
    assert "resting" in (await outcome(exchange, rest))[0][1]["response"]["data"]["statuses"][0]
    take = stranger.order(wire_order("buy", "600", "1"))
    cancel = trader.sign({"type": "cancelByCloid", "cancels": [{"asset": 110_002, "cloid": cloid}]})
    answers = [body["response"] for _, body in await outcome(exchange, take, cancel)]
    assert [a["type"] for a in answers] == ["cancel", "order"]
    assert answers[0]["data"]["statuses"] == ["success"]
    assert "error" in answers[1]["data"]["statuses"][0]


async def test_everything_of_a_block_has_one_time(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-3: two orders of one block fill with the same stamp, which is the block's."""
    exchange = new_exchange()
    await outcome(exchange, trader.order(wire_order("buy", "601", "0.1")), trader.order(wire_order("buy", "601", "0.2")))
    assert {fill.time_ms for fill in exchange.fills(trader.address)} == {START_MS + 170}


def sndk_dex() -> list[DexListing]:
    listing = MarketListing(SNDK, 3, 10, D(600))
    decoys = tuple(MarketListing(f"xyz:D{n}", 3, 10, D(1)) for n in range(2))
    return [DexListing("", ()), DexListing("xyz", (*decoys, listing))]


async def test_the_source_reacts_to_what_is_taken_from_it(
    trader: Trader, wire_order: Callable[..., Any], wire_book: Book, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-3: makers are told of a take and answer with a later event, which is merged into the stream."""
    seen: list[tuple[OrderSide, Decimal, int]] = []

    def refill(coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> list[TimedEvent]:
        seen.append((side, sz, at_ms))
        return [(at_ms + 500, wire_book(coin, [("599", "1")], [("603", "2")]))]

    source = ScriptedSource(sndk_dex(), [(0, wire_book(SNDK, [("599", "1")], [("601", "1")]))], refill)
    exchange = Exchange(source, TrioClock.starting_at(START_MS), ExchangeConfig())
    exchange.fund(trader.address, "xyz", D(10_000))
    await outcome(exchange, trader.order(wire_order("buy", "601", "1")))
    assert seen == [(OrderSide.BUY, D(1), 170)]
    assert exchange.engine.state.directory.by_coin[SNDK].book.best(OrderSide.SELL) == D(603)


async def test_a_source_that_lies_about_time_is_stopped(wire_book: Book, autojump_clock: trio.testing.MockClock) -> None:
    """SIM-3: events that go back in time, or name an unlisted coin, end the run with an error that says so."""
    for events, text in (
        ([(100, wire_book(SNDK, [], [])), (99, wire_book(SNDK, [], []))], "went back from 100 to 99"),
        ([(0, wire_book("xyz:NOPE", [], []))], "xyz:NOPE"),
    ):
        exchange = Exchange(ScriptedSource(sndk_dex(), events), TrioClock.starting_at(START_MS))
        await trio.sleep(0.5)
        with pytest.raises(ValueError, match=text):
            exchange.step()


async def test_hours_without_events_cost_nothing(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-5: empty blocks are not made; a day passes with a handful of steps."""
    exchange = new_exchange()
    await outcome(exchange, trader.sign({"type": "noop"}), for_s=86_400)
    assert len(exchange.nonces()) == 1
