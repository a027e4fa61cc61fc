"""A venue for the benchmark, in a process of its own: quotes that dislocate and are withdrawn before an order can land.

Each cycle the oracle moves up, then an ask is left behind for a moment. So every cycle gives one signal by a BBO frame
and one order that finds nothing, and the market is free for the next cycle.
"""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal

import trio

from hip3.core.events import Level
from hip3.core.ids import OrderSide
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.seam import BookChange, CtxChange, DexListing, MarketListing, TimedEvent
from hip3.exchange.server import serve
from hip3.io.clock import SystemClock

BLOCK_MS = 5
LATENCY_MS = 40
D = Decimal
WRAP = 400
"""Cycles until the price starts again from below; the last ones before that are quiet, so that nothing can fill."""


class LeftBehind:
    """A source of dislocations for ever: one a cycle and market, the markets one after the other."""

    def __init__(self, markets: int, cycle_ms: int) -> None:
        self._coins = [f"xyz:BENCH{i}" for i in range(markets)]
        self._cycle_ms = cycle_ms

    def listings(self) -> Sequence[DexListing]:
        universe = tuple(MarketListing(c, 3, 10, D(600), growth_mode=True, fee_scale=D(1)) for c in self._coins)
        return (DexListing("", (MarketListing("BTC", 5, 40, D(90000)),)), DexListing("xyz", universe))

    def events(self) -> Iterator[TimedEvent]:
        return heapq.merge(*(self._market(i, coin) for i, coin in enumerate(self._coins)), key=lambda event: event[0])

    def _market(self, index: int, coin: str) -> Iterator[TimedEvent]:
        offset = index * self._cycle_ms // len(self._coins)
        for cycle in itertools.count():
            at = offset + cycle * self._cycle_ms
            fair = D(600) + D(cycle % WRAP) / 10
            yield at, CtxChange(coin, fair, fair, D(1000))
            yield at, _book(coin, fair - D("0.1"), fair + D("0.1"))
            if cycle % WRAP < WRAP - 20:
                # The ask stays 20 bps behind for a fifth of a cycle; an order takes longer than that.
                behind = fair - fair * D("0.002")
                yield at + self._cycle_ms // 2, _book(coin, behind - D("0.2"), behind)
                yield at + self._cycle_ms * 7 // 10, _book(coin, fair - D("0.1"), fair + D("0.1"))

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:  # noqa: ARG002 - the protocol's
        return ()


def _book(coin: str, bid: Decimal, ask: Decimal) -> BookChange:
    cent = D("0.01")
    return BookChange(coin, (Level(bid.quantize(cent), D(20)),), (Level(ask.quantize(cent), D(20)),))


async def main(user: str, agent: str, markets: int, cycle_ms: int) -> None:
    clock = SystemClock()
    config = ExchangeConfig(
        latency_ms=LATENCY_MS, block_ms=BLOCK_MS, response_ms=0, ctx_every_ms=BLOCK_MS, free_requests=1_000_000
    )
    exchange = Exchange(LeftBehind(markets, cycle_ms), clock, config)
    exchange.fund(user, "xyz", D(100_000))
    exchange.approve_agent(user, agent, clock.wall_ms() + 86_400_000, "bench")
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, exchange, "127.0.0.1", 0)
        print(port, flush=True)
        # Never idle: to wake a sleeping processor of a virtual machine costs its writer about a millisecond, and the
        # writer is the bot. A network card would not make it pay for that.
        while True:
            await trio.lowlevel.checkpoint()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
