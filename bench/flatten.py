"""How long from a trigger to a flat account, in real time: scripts/bench flatten [--runs N] [--json]

The exchange runs in a process of its own with the paper venue's delays; the bot is a whole session over real loopback
sockets. Somebody else with a key of the account gives it five positions and fifty resting orders on two dexes. Then
either a stop is requested, as Ctrl+C does, or the venue cuts every WebSocket, lets nobody connect again, and the HALT of
WS_DISCONNECT flattens. Two times: until the venue shows nothing, by the venue, and until the certificate says so, which is
what the limits are for.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import trio
from attrs import define, field, frozen

from hip3.app import App
from hip3.bot import Account
from hip3.core.events import Level
from hip3.core.ids import CloidFactory, MarketKey, MarketSpec, OrderSide, TimeInForce
from hip3.core.journal import Journal
from hip3.core.orders import OrderIntent
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Disconnect, Faults, Point, Rule
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import BookChange, CtxChange, DexListing, MarketListing
from hip3.exchange.server import serve
from hip3.exchange.ws import Session
from hip3.fsm.safety import SafetyMode
from hip3.io.clock import SystemClock
from hip3.io.dial import dialer
from hip3.io.rest import RestClient, http_client
from hip3.ops.session import Reach, run_session
from hip3.ops.stop import Stop
from hip3.settings import schema
from hip3.venue.hyperliquid import actions
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.outcomes import read_order_outcomes
from hip3.venue.hyperliquid.signing import Signer, TradingKey

D = Decimal
ROOT = Path(__file__).resolve().parents[1]
STOCKS = tuple(f"xyz:BENCH{n}" for n in range(4))
ELSEWHERE = "BTC"
"""On the main dex, which the bot does not trade."""
PRICES = dict.fromkeys(STOCKS, D(600)) | {ELSEWHERE: D(90_000)}
SIZES = dict.fromkeys(STOCKS, "0.2") | {ELSEWHERE: "0.001"}
ORDERS_EACH = 10
STOP_LIMIT_S = 3.0
CUT_LIMIT_S = 6.0
"""Of the issue: from the signal, and from the death of the WebSocket."""
CUT = "cut"
LOOK_S = 0.001
PATIENCE_S = 60.0


# ---- the venue's process


def listings() -> tuple[DexListing, ...]:
    stocks = tuple(MarketListing(coin, 3, 10, PRICES[coin], growth_mode=True, fee_scale=D(1)) for coin in STOCKS)
    return (DexListing("", (MarketListing(ELSEWHERE, 5, 40, PRICES[ELSEWHERE]),)), DexListing("xyz", stocks))


def calm(until_s: int = 600) -> list[tuple[int, BookChange | CtxChange]]:
    """Books around their oracles; a size changes every 2 s, which shows a market that is alive."""
    events: list[tuple[int, BookChange | CtxChange]] = []
    for coin, px in PRICES.items():
        events.append((0, CtxChange(coin, px, px, D(1000))))
        for second in range(0, until_s, 2):
            size, step = D(50 + second // 2 % 2), px / 10_000
            bids = (Level(px - step, size), Level(px - 100 * step, D(5000)))
            asks = (Level(px + step, size), Level(px + 100 * step, D(5000)))
            events.append((second * 1000, BookChange(coin, bids, asks)))
    return sorted(events, key=lambda event: event[0])


async def venue(user: str, agent: str, hand: str) -> None:
    """Serves until it is ended. Says its port, then `flat NS` whenever the account shows nothing any more."""
    clock, faults = SystemClock(), Faults()
    exchange = Exchange(ScriptedSource(listings(), calm()), clock, ExchangeConfig(), faults)
    for dex in ("", "xyz"):
        exchange.fund(user, dex, D(100_000))
    for name, key in (("bench", agent), ("hand", hand)):
        exchange.approve_agent(user, key, clock.wall_ms() + 86_400_000, name)

    async def obey() -> None:
        async for line in trio.wrap_file(sys.stdin):
            if line.strip() == CUT:
                faults.add(Rule(Point.CONNECT, Disconnect(), uses=None))
                for session in list(exchange.hub.sessions):
                    assert isinstance(session, Session)
                    session.cut()
                print(f"{CUT} {time.monotonic_ns()}", flush=True)

    async def watch() -> None:
        was_flat = True
        while True:
            is_flat = not exchange.positions(user) and not exchange.open_orders(user)
            if is_flat and not was_flat:
                print(f"flat {time.monotonic_ns()}", flush=True)
            was_flat = is_flat
            await trio.sleep(LOOK_S)

    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, exchange, "127.0.0.1", 0)
        print(port, flush=True)
        nursery.start_soon(obey)
        nursery.start_soon(watch)


# ---- the other hand on the account


@frozen
class Hand:
    """Somebody else with a key of the account."""

    rest: RestClient
    signer: Signer
    nonces: NonceSource
    cloids: CloidFactory
    specs: dict[str, MarketSpec]

    async def place(self, coin: str, orders: Sequence[tuple[Decimal, str, TimeInForce]]) -> None:
        """Bids, `(px, sz, tif)`; each must be taken."""
        spec, now = self.specs[coin], SystemClock().wall_ms()
        intents = [
            OrderIntent(self.cloids.next(), spec, OrderSide.BUY, D(sz), px, tif, reduce_only=False, created_at_ms=now)
            for px, sz, tif in orders
        ]
        answer = await self.rest.exchange(self.signer.sign(actions.order_action(intents), self.nonces.next()))
        errors = [o.error for o in read_order_outcomes(answer, len(intents)) if o.error]
        assert not errors, errors

    async def fill_the_account(self) -> None:
        """Five positions and fifty resting orders."""
        for coin, px in PRICES.items():
            orders = [(px * D("1.002"), SIZES[coin], TimeInForce.IOC)]
            for n in range(ORDERS_EACH):
                below = (px * (D("0.98") - D(n) / 1000)).quantize(D(1))
                orders.append((below, SIZES[coin], TimeInForce.GTC))
            await self.place(coin, orders)


def specs() -> dict[str, MarketSpec]:
    """What the bot reads from the listing, for the hand."""
    stocks = {c: MarketSpec(MarketKey.parse(c), 110_000 + n, 3, 10) for n, c in enumerate(STOCKS)}
    return stocks | {ELSEWHERE: MarketSpec(MarketKey.parse(ELSEWHERE), 0, 5, 40)}


# ---- one run


@define
class Run:
    """One trigger and what came of it; times in ns of the machine's monotonic clock."""

    trigger: str
    began: int = 0
    flat: int | None = None
    certified: int | None = None
    halted: bool = False

    def seconds(self, until: int | None) -> float:
        return float("inf") if until is None else (until - self.began) / 1e9


@define
class Bench:
    """The bot's process of one run."""

    venue: trio.Process
    run: Run
    stop: Stop = field(factory=Stop)
    journal: Journal = field(factory=Journal)
    app: App | None = None
    _cut: trio.Event = field(factory=trio.Event)

    async def listen(self, *, task_status: trio.TaskStatus[int]) -> None:
        """Takes the venue's lines."""
        assert self.venue.stdout is not None
        rest = b""
        async for data in self.venue.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                word, _, at = line.decode().partition(" ")
                if word == "flat" and self.run.began:
                    self.run.flat = int(at)
                elif word == CUT:
                    self.run.began = int(at)
                    self._cut.set()
                elif word.isdecimal():
                    task_status.started(int(word))

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(PATIENCE_S) as scope:
            while not condition():
                self.journal.drain()
                await trio.sleep(LOOK_S)
        if scope.cancelled_caught:
            raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")

    async def drive(self, hand: Hand) -> None:
        """Trades nothing itself: waits for READY, has the account filled, pulls the trigger and waits for the end."""
        await self.until(lambda: self.app is not None and self.app.bot.safety.allows_entry, "READY")
        assert self.app is not None
        bot = self.app.bot
        await hand.fill_the_account()
        await self.until(lambda: len(bot.ledger.held()) == len(STOCKS), "the bot knows of the positions")
        if self.run.trigger == CUT:
            assert self.venue.stdin is not None
            await self.venue.stdin.send_all(f"{CUT}\n".encode())
            await self._cut.wait()
            await self.until(lambda: bot.halt_flatten is not None and bot.halt_flatten.certificate.flat, "a certificate")
            self.run.certified = time.monotonic_ns()
            self.run.halted = bot.safety.mode is SafetyMode.HALT
        else:
            self.run.began = time.monotonic_ns()
        self.stop.request("SIGINT")


async def measure(trigger: str) -> Run:
    """One run of one trigger, each with a venue and an account of its own."""
    user = TradingKey(secrets.token_bytes(32)).address
    agent, other = TradingKey(secrets.token_bytes(32)), TradingKey(secrets.token_bytes(32))
    command = [sys.executable, "-m", "bench.flatten", "--venue", user, agent.address, other.address]
    clock = SystemClock()
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    bench = Bench(process, Run(trigger))
    settings = schema.resolved(
        schema.Settings(
            markets=tuple(schema.Market(coin=coin) for coin in STOCKS),
            safety=schema.Safety(startup_policy=schema.StartupPolicy.AUTO),
            position=schema.PositionKeys(time_stop_ms=600_000, reduce_only_timeout_ms=700_000),
        )
    )

    def on_app(app: App) -> None:
        bench.app = app

    try:
        async with trio.open_nursery() as nursery, http_client(None) as client:
            port: int = await nursery.start(bench.listen)
            url = f"http://127.0.0.1:{port}"
            nonces, cloids = NonceSource(clock.wall_ms), CloidFactory(clock.wall_ms() - 1)
            hand = Hand(RestClient(client, clock, url), Signer(other, Network.PAPER), nonces, cloids, specs())
            nursery.start_soon(bench.drive, hand)
            reach = Reach(url, dialer(f"ws://127.0.0.1:{port}/ws"), Account(user, Signer(agent, Network.PAPER)))
            ended = await run_session(
                settings, reach, clock=clock, rng=random.Random(1), journal=bench.journal, stop=bench.stop, on_app=on_app
            )
            certificate = ended.outcome.certificate
            if trigger != CUT and certificate is not None and certificate.flat:
                bench.run.certified = time.monotonic_ns()
            await trio.sleep(0.05)  # the venue's last line
            nursery.cancel_scope.cancel()
    finally:
        process.terminate()
        await process.wait()
    return bench.run


def main() -> int:
    """Exit code 1 where a limit is exceeded, or where an account was not certified flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each trigger")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--venue", nargs=3, metavar=("USER", "AGENT", "HAND"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.venue:
        trio.run(venue, *given.venue)
        return 0
    rows, over = [], 0
    for trigger, name, limit in (
        ("stop", "Ctrl+C", STOP_LIMIT_S),
        (CUT, "dead WebSocket, HALT", CUT_LIMIT_S),
    ):
        runs = [trio.run(measure, trigger) for _ in range(given.runs)]
        flat = sorted(r.seconds(r.flat) for r in runs)
        certified = sorted(r.seconds(r.certified) for r in runs)
        holds = certified[-1] < limit and all(r.halted or trigger != CUT for r in runs)
        over += not holds
        rows.append(
            {
                "trigger": name,
                "runs": len(runs),
                "venue_flat_s": {"median": round(flat[len(flat) // 2], 3), "worst": round(flat[-1], 3)},
                "certified_s": {"median": round(certified[len(runs) // 2], 3), "worst": round(certified[-1], 3)},
                "limit_s": limit,
                "holds": holds,
            }
        )
    if given.json:
        print(json.dumps(rows))
        return int(over > 0)
    for row in rows:
        print(f"{row['trigger']}: five positions, fifty resting orders, two dexes; {row['runs']} runs")
        for what, key in (("the venue shows nothing", "venue_flat_s"), ("certified flat", "certified_s")):
            times = row[key]
            assert isinstance(times, dict)
            print(f"  {what:<26} median {times['median']:6.3f} s   worst {times['worst']:6.3f} s")
        print(f"  limit {row['limit_s']:g} s for the certificate: {'ok' if row['holds'] else 'OVER'}")
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
