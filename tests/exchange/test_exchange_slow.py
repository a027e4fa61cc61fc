"""Clients that do not read: what waits for them is bounded, and nobody else notices."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from hip3.exchange.exchange import Exchange
from hip3.exchange.outbox import Frame, Outbox
from hip3.exchange.ws import serve_connection

if TYPE_CHECKING:
    from tests.exchange.conftest import Trader

NewExchange = Callable[..., Exchange]


class Stuck:
    """A transport whose client sends one message and then neither reads nor writes."""

    def __init__(self, first: str) -> None:
        self._first = [first]
        self.closed = False

    async def receive_text(self) -> str:
        if self._first:
            return self._first.pop()
        await trio.sleep_forever()
        raise AssertionError

    async def send_text(self, text: str) -> None:
        await trio.sleep_forever()

    async def close(self) -> None:
        self.closed = True


async def test_a_client_that_does_not_read_is_cut_and_holds_nobody_up(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-1: its facts are bounded: over the bound the session ends; the exchange goes on for everybody else."""
    exchange = new_exchange(ws_outbox_frames=3)
    subscribe = {"method": "subscribe", "subscription": {"type": "orderUpdates", "user": trader.address}}
    stuck = Stuck(json.dumps(subscribe))
    async with trio.open_nursery() as nursery:
        await nursery.start(exchange.run)
        nursery.start_soon(serve_connection, exchange, stuck)
        answers: list[Any] = []
        for _ in range(6):
            exchange.submit(trader.order(wire_order("buy", "601", "0.1")), answers.append)
            await trio.sleep(1)
        assert len(answers) == 6
        assert stuck.closed
        assert exchange.hub.sessions == []
        nursery.cancel_scope.cancel()


async def test_outbox_conflates_state_and_never_drops_facts(autojump_clock: trio.testing.MockClock) -> None:
    """SIM-1: of a state channel the newest waits, facts keep their order, and one fact too many closes the session."""
    box = Outbox(2)
    box.put(Frame("bbo", "old", key="bbo"))
    box.put(Frame("userFills", "one"))
    box.put(Frame("bbo", "new", key="bbo"))
    box.put(Frame("userFills", "two"))
    assert [(f.text if (f := await box.take()) else None) for _ in range(3)] == ["new", "one", "two"]
    for text in ("a", "b", "c"):
        box.put(Frame("userFills", text))
    assert box.overflowed
    assert await box.take() is None
