"""Many orders through the whole path in one process: does memory stay, do the counts agree, is a market left blocked?

`scripts/soak` runs it: bot and exchange over in-memory streams in virtual time, five markets that are dislocated every
second, each position closed by its time stop. It refuses to judge speed; `scripts/bench` does that.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import trio
import trio.testing
from attrs import frozen

from hip3.core.events import Level
from hip3.core.ids import OrderSide
from hip3.core.records import MemoryRecorder
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.seam import BookChange, CtxChange, DexListing, MarketListing, TimedEvent
from hip3.settings import schema
from hip3.simulate.invariants import Watch
from hip3.simulate.plan import goes_on
from hip3.simulate.world import World, open_world

COINS = tuple(f"xyz:{name}" for name in ("SNDK", "MU", "NVDA", "AMD", "TSLA"))
ORDERS = 50_000
WARM_UP = 0.5
"""Share of the orders after which what is bounded is full: the longest memory is 20,000 fills (core/ledger)."""
SAMPLES = 8
TOLERANCE = 0.05
EVERY_MS = 1000  # the cadence of activeAssetCtx (PROTOCOL 2.3): one new reference, one signal
TIME_STOP_MS = 250
STALLED_S = 120
"""Two minutes of signals without an order: something ended trading, and the soak would never end."""
VENUE = ExchangeConfig(latency_ms=20, block_ms=10, response_ms=20, free_requests=10_000_000)
"""Near, so that an entry and its close end within one period; a budget that never ends."""
PX = Decimal(600)


@frozen
class SwingingSource:
    """Every second the oracle is 33 bps above or below a quote that stays, by turns; without an end."""

    def listings(self) -> Sequence[DexListing]:
        stocks = tuple(MarketListing(coin, 3, 10, PX, fee_scale=Decimal(1), growth_mode=True) for coin in COINS)
        return [DexListing("", (MarketListing("BTC", 5, 40, Decimal(90000)),)), DexListing("xyz", stocks)]

    def events(self) -> Iterator[TimedEvent]:
        nth = 0
        while True:
            at_ms = nth * EVERY_MS + EVERY_MS // 2
            swing = Decimal(2 if nth % 2 else -2) + Decimal(nth % 97) / 1000  # never the same price twice in a row
            for coin in COINS:
                yield at_ms, self._quote(coin, nth)
                yield at_ms, CtxChange(coin, oracle_px=PX + swing, mark_px=PX)
            nth += 1

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:  # noqa: ARG002 - the protocol's arguments
        """Depth comes back with the next quote."""
        return ()

    def _quote(self, coin: str, nth: int) -> BookChange:
        sz = Decimal(10) + Decimal(nth % 10) / 10
        return BookChange(coin, (Level(PX - Decimal("0.1"), sz),), (Level(PX + Decimal("0.1"), sz),))


@frozen
class Sample:
    """Resident memory after so many orders."""

    orders: int
    rss_mib: float


@frozen
class SoakReport:
    """`samples` begin after the warm-up. `broken` is empty where every invariant held."""

    orders: int
    trades: int
    sent: int
    completed: int
    in_flight: int
    blocked: tuple[str, ...]
    samples: tuple[Sample, ...]
    exit_code: int
    broken: tuple[str, ...]
    cpu_s: float
    virtual_s: float

    @property
    def growth(self) -> float:
        """Of the last sample over the first, as a fraction."""
        return self.samples[-1].rss_mib / self.samples[0].rss_mib - 1

    @property
    def passed(self) -> bool:
        counts = self.in_flight == 0 and self.sent == self.completed and not self.blocked
        return counts and not self.broken and self.exit_code == 0 and abs(self.growth) <= TOLERANCE

    @property
    def text(self) -> str:
        lines = [
            f"{self.orders} orders, {self.trades} trades in {self.virtual_s:.0f} virtual s and {self.cpu_s:.0f} s of CPU",
            f"posts: {self.sent} sent, {self.completed} completed, {self.in_flight} in flight",
            f"blocked markets: {', '.join(self.blocked) or 'none'}",
            *(f"  after {s.orders:6} orders {s.rss_mib:7.1f} MiB" for s in self.samples),
            f"memory {self.growth:+.1%} after the warm-up (allowed: {TOLERANCE:.0%} either way)",
            *self.broken,
            "passed" if self.passed else f"FAILED, exit code of the run {self.exit_code}",
        ]
        return "\n".join(lines)


def soak_settings() -> schema.Settings:
    """Paper, promoted at once, with a cap that five markets fit in, no limit that its fees could meet, no pace to keep."""
    return schema.resolved(
        goes_on(
            schema.Settings(
                markets=tuple(schema.Market(coin=coin) for coin in COINS),
                executor=schema.Executor(actions_per_min=10**6),
                limits=schema.Limits(max_notional_total_usd=Decimal(50 * len(COINS))),
                position=schema.PositionKeys(time_stop_ms=TIME_STOP_MS),
                safety=schema.Safety(startup_policy=schema.StartupPolicy.AUTO),
            )
        )
    )


async def soak(orders: int) -> SoakReport:
    """Runs until so many orders have been sent, then to a flat end. Give it a mock clock."""
    started_s, began = trio.current_time(), time.process_time()
    marks = [int(orders * (WARM_UP + (1 - WARM_UP) * n / (SAMPLES - 1))) for n in range(SAMPLES)]
    recorder = MemoryRecorder(keeps=False)
    async with open_world(soak_settings(), SwingingSource(), config=VENUE, recorder=recorder) as world:
        watch = Watch(world.exchange, world.user, world.clock, world.journal)
        recorder.on_commit = watch.kept.on_commit
        await world.started.wait()
        watch.attach(world.bot)
        samples = [await _sample(world, mark) for mark in marks]
        outcome = await world.end("the soak is over")
        watch.finish(outcome)
        bot = world.bot
        return SoakReport(
            orders=bot.tally.orders,
            trades=bot.tally.trades,
            sent=bot.posts.sent,
            completed=bot.posts.completed,
            in_flight=bot.posts.in_flight,
            blocked=tuple(coin for coin in bot.coins if bot.ledger.position(coin).szi or any(bot.ledger.pending(coin))),
            samples=tuple(samples),
            exit_code=outcome.exit_code,
            broken=tuple(str(b) for b in watch.broken),
            cpu_s=time.process_time() - began,
            virtual_s=trio.current_time() - started_s,
        )


async def _sample(world: World, orders: int) -> Sample:
    seen, since_s = -1, trio.current_time()
    while (sent := world.bot.tally.orders) < orders:
        if sent > seen:
            seen, since_s = sent, trio.current_time()
        if world.ended.is_set():
            raise RuntimeError(f"the run ended after {sent} orders: {world.result}")
        if trio.current_time() - since_s > STALLED_S:
            causes = ", ".join(f"{c.code.value}: {c.message}" for c in world.bot.safety.causes)
            raise RuntimeError(
                f"no order for {STALLED_S} s after {sent}; {world.bot.safety.mode.name}, {causes or 'no cause'}"
            )
        await trio.sleep(EVERY_MS / 1000)
    gc.collect()
    return Sample(world.bot.tally.orders, rss_mib())


def rss_mib() -> float:
    """Resident memory of this process; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """`scripts/soak [orders]`; exit code 1 where something did not hold."""
    orders = int(sys.argv[1]) if len(sys.argv) > 1 else ORDERS
    report = trio.run(soak, orders, clock=trio.testing.MockClock(autojump_threshold=0))
    print(report.text)  # noqa: T201 - a script's output
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
