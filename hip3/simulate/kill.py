"""Kills real runs of the bot at random moments and looks whether anything was lost or done twice (STO-4, REC-1 to 3).

`scripts/kill_moments` runs it. The exchange lives in this process and is reached over a loopback port; the bot is a process
of its own, `hip3 run` (`kill_runs.py`), with a key file and a state folder, and is ended by SIGKILL: while it starts, while
it trades, with an order under way, and on its way out. It is then started again; once it is READY and everything is quiet,
store and exchange are compared (`kill_books.py`). At the end it is stopped in order and must be flat. The moments are drawn
from a seed; what the machine does between two of them is not, so a seed repeats the plan and not the outcome.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio
from attrs import define

from hip3.core.events import Level
from hip3.core.ids import OrderSide
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.seam import BookChange, CtxChange, DexListing, TimedEvent
from hip3.exchange.server import serve
from hip3.io.clock import SystemClock
from hip3.ops.local_socket import NoAnswer
from hip3.ops.paper import AGENT_LIFE_MS
from hip3.ops.status_server import ask
from hip3.simulate.kill_books import Books, acknowledged
from hip3.simulate.kill_plan import Kind, Moment, draw
from hip3.simulate.kill_runs import Run, Runs
from hip3.simulate.soak import COINS, PX, SwingingSource
from hip3.store.database import place_of_file, place_of_url
from hip3.store.repository import Repository
from hip3.venue.hyperliquid.signing import TradingKey

USER = "0x" + "6b" * 20
KEY = "0x" + "4d" * 32
"""Nobody's: the exchange ends with this process."""
EVERY_MS = 500
TIME_STOP_MS = 800
VENUE = ExchangeConfig(
    latency_ms=60, block_ms=20, response_ms=60, free_requests=10_000_000, ip_weight_per_min=1_000_000, max_connections=100
)
"""150 ms from send to answer; budgets that starting a bot every few seconds does not use up."""
CONFIG = """\
network = "paper"
ws_url = "ws://127.0.0.1:{port}/ws"
info_url = "http://127.0.0.1:{port}"
user_address = "{user}"
[signer]
key_source = {{type = "file", path = "agent.key"}}
[safety]
startup_policy = "auto"
halt_on_disconnect = "never"
auto_stop_loss_usd = 1000000000
[risk]
max_cumulative_loss_usd = 0
max_consecutive_losses = 0
max_flatten_failures = 0
[limits]
max_notional_total_usd = 250
[position]
time_stop_ms = {time_stop_ms}
protective_stop_bps = 300
"""
READY_S, QUIET_S, END_S = 60.0, 30.0, 60.0
"""Ours: far beyond what a busy machine needs for a start, for closing what is held, and for the way out."""
AWAY_MS = 60_000
"""Longer than a server that is stopped and started needs, so that its absence holds entries and is no HALT."""
LOOK_S = 0.03
STILL_S = 0.4
"""Quiet is flat, at rest and nothing on the wire for so long: two ways to the venue and back."""
VERIFY_EVERY = 10
"""The whole audit chain is read after each so many moments, and at the end: it grows by some hundred rows a moment."""


@define
class Swings:
    """The soak's market at another pace, which can be told to be calm."""

    is_busy: bool = True

    def listings(self) -> Sequence[DexListing]:
        return SwingingSource().listings()

    def events(self) -> Iterator[TimedEvent]:
        nth = 0
        while True:
            at_ms = nth * EVERY_MS + EVERY_MS // 2
            swing = Decimal(2 if nth // 2 % 2 else -2) + Decimal(nth % 97) / 1000 if self.is_busy else Decimal(0)
            sz = Decimal(10) + Decimal(nth % 10) / 10
            for coin in COINS:
                yield at_ms, BookChange(coin, (Level(PX - Decimal("0.1"), sz),), (Level(PX + Decimal("0.1"), sz),))
                yield at_ms, CtxChange(coin, oracle_px=PX + swing, mark_px=PX)
            nth += 1

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:  # noqa: ARG002 - the protocol's arguments
        """Depth comes back with the next quote."""
        return ()


class Violated(Exception):
    """Something that must hold did not; one sentence each."""

    def __init__(self, what: Sequence[str]) -> None:
        super().__init__("; ".join(what))
        self.what = tuple(what)


@define
class Killer:
    """Runs of one bot against one exchange, one after the other, in one folder."""

    folder: Path
    exchange: Exchange
    market: Swings
    books: Books
    say: Callable[[str], None]
    runs: Runs
    run: Run | None = None
    """The present one."""
    starts: int = 0
    start_s: float = 2.0
    """How long the last start took, to READY."""

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def spool(self) -> Path:
        return self.books.place.spool

    # ---- the process

    async def start(self) -> None:
        """Another run. Its output goes to a file of its own."""
        self.starts += 1
        self.run = await self.runs.start(self.folder / f"run-{self.starts:04d}.txt")

    async def kill(self) -> None:
        """SIGKILL, and what the run had committed is on record."""
        assert self.run is not None
        await self.run.kill()
        groups, damage = acknowledged(self.spool)
        self.books.owed.update((group.seq, group) for group in groups)
        self.books.look()
        if damage:
            raise Violated(damage)

    async def status(self) -> dict[str, Any] | None:
        """The status of the present process; None while it has none."""
        assert self.run is not None
        if self.run.code is not None:
            raise Violated([f"run {self.starts} ended by itself with exit code {self.run.code}"])
        try:
            view = await trio.to_thread.run_sync(ask, self.state, 5.0)
        except NoAnswer:
            return None
        run = view.get("run")
        return view if isinstance(run, dict) and run.get("pid") == self.run.pid else None

    async def ready(self) -> None:
        """Until the present run may trade. Raises Violated where that takes too long."""
        began, view = trio.current_time(), None
        while view is None or view["ready"]["state"] != "READY" or not view["safety"]["allows_entry"]:
            if trio.current_time() - began > READY_S:
                why = "no status" if view is None else f"{view['ready']['conditions']}, {view['safety']['causes']}"
                raise Violated([f"run {self.starts} was not READY within {READY_S:g} s: {why}"])
            await trio.sleep(LOOK_S)
            view = await self.status()
        self.start_s = trio.current_time() - began

    # ---- one moment

    async def strike(self, moment: Moment) -> None:
        """Kills the present run, or the one after it, as the moment says; the next one is then started."""
        await self._an_action()
        await trio.sleep(moment.after_s)
        if moment.kind is Kind.LEAVING:
            assert self.run is not None
            self.run.send_signal(signal.SIGINT)
            with trio.move_on_after(moment.then_s):
                await self.run.ended.wait()
            if self.run.code:
                raise Violated([f"run {self.starts} ended with exit code {self.run.code} on SIGINT, expected 0"])
        self.market.is_busy = moment.is_busy
        await self.kill()
        if moment.kind is Kind.STARTING:
            await self.start()
            await trio.sleep(moment.then_s * self.start_s)
            await self.kill()
        await trio.sleep(moment.pause_s)
        await self.start()

    async def _an_action(self) -> None:
        """Until something reaches the venue; a market that gives no signal does not hold the moment up."""
        seen = self.exchange.received[-1] if self.exchange.received else None
        with trio.move_on_after(3):
            while not self.exchange.received or self.exchange.received[-1] is seen:  # noqa: ASYNC110 - the exchange announces nothing
                await trio.sleep(0.002)

    async def quiet(self) -> None:
        """Until nothing is held, rests or is under way, here and at the venue, and the database has everything."""
        self.market.is_busy = False
        began, still_since, seen, restless = trio.current_time(), trio.current_time(), -1, "?"
        while trio.current_time() - still_since < STILL_S or restless:
            if trio.current_time() - began > QUIET_S:
                raise Violated([f"not quiet {QUIET_S:g} s after READY: {restless or 'orders go on'}"])
            await trio.sleep(LOOK_S)
            restless = self._restless(await self.status())
            count = len(self.exchange.fills(USER)) + len(self.books.sent)
            self.books.look()
            if count != seen or restless:
                seen, still_since = count, trio.current_time()

    def _restless(self, view: dict[str, Any] | None) -> str:
        """What is not at rest, in words; empty where all is."""
        if view is None:
            return "no status"
        found = {
            "the venue holds": [f"{p.szi} {p.coin}" for p in self.exchange.positions(USER)],
            "at the venue rest": [str(o.oid) for o in self.exchange.open_orders(USER)],
            "the books hold": [f"{p['szi']} {p['coin']}" for p in view["positions"]],
            "orders are pending": [f"{o['cloid']} {o['state']}" for o in view["orders"]],
            "posts are in flight": view["posts"]["in_flight"],
            "groups wait for the database": self._behind(),
        }
        return "; ".join(f"{what}: {value}" for what, value in found.items() if value)

    def _behind(self) -> int:
        with closing(Repository(self.books.place)) as repository:
            return repository.behind()

    def check(self, *, whole_chain: bool) -> None:
        """Compares store and exchange. Raises Violated."""
        found = self.books.compare()
        if whole_chain:
            with closing(Repository(self.books.place)) as repository:
                verdict = repository.verify_audit()
            found += [f"audit: {fault}" for fault in verdict.faults]
        if found:
            raise Violated(found)

    async def end(self) -> None:
        """The last run ends in order: exit code 0, flat, everything in the database. Raises Violated."""
        assert self.run is not None
        self.run.send_signal(signal.SIGINT)
        with trio.move_on_after(END_S):
            await self.run.ended.wait()
        if self.run.code != 0:
            raise Violated([f"the last run ended with {self.run.code}, expected exit code 0 in {END_S:g} s"])
        held = [*self.exchange.positions(USER), *self.exchange.open_orders(USER)]
        if held:
            raise Violated([f"exit code 0, but the venue shows {held}"])
        self.check(whole_chain=True)

    async def go(self, moments: Sequence[Moment]) -> None:
        """All moments, a line each, and an end in order. Raises Violated at the first that shows something."""
        if self.run is None:
            await self.start()
            await self.ready()
        for moment in moments:
            self.market.is_busy = True
            await self.strike(moment)
            await self.ready()
            ready_s = self.start_s
            await self.quiet()
            self.check(whole_chain=moment.number % VERIFY_EVERY == 0)
            counts = f"{len(self.books.entries):5} entries  {len(self.exchange.fills(USER)):5} fills"
            self.say(f"moment {moment.number:4}  {moment.kind.value:8}  READY in {ready_s:4.1f} s  {counts}  ok")
        self.market.is_busy = True
        await trio.sleep(1)
        await self.end()


def prepare(folder: Path, port: int, store_url: str | None) -> None:
    """The files of the bot: configuration, key (mode 0600), state folder."""
    config = CONFIG.format(port=port, user=USER, time_stop_ms=TIME_STOP_MS)
    config += "" if store_url is None else f'[store]\nurl = "{store_url}"\nfailed_after_ms = {AWAY_MS}\n'
    (folder / "bot.toml").write_text(config + "".join(f'[[markets]]\ncoin = "{coin}"\n' for coin in COINS))
    key = folder / "agent.key"
    key.touch(mode=0o600)
    key.write_text(KEY + "\n")
    (folder / "state").mkdir(mode=0o700)


Work = Callable[[Killer], Awaitable[None]]
"""What is done with the runs of a harness."""


async def harness(folder: Path, say: Callable[[str], None], work: Work, store_url: str | None = None) -> Killer:
    """Calls `work` with an exchange, a market and an account that is known there; no run was started yet.

    `folder` must be empty and have a short path. The store is a file in it or, with `store_url`, an empty database of a
    PostgreSQL server. Raises Violated; ends what it started.
    """
    market, clock = Swings(), SystemClock()
    exchange = Exchange(market, clock, VENUE)
    exchange.fund(USER, "xyz", Decimal(10_000))
    exchange.approve_agent(USER, TradingKey.from_text(KEY).address, clock.wall_ms() + AGENT_LIFE_MS, "hip3")
    runs = Runs(folder, {**os.environ, "HIP3_STATE_DIR": str(folder / "state")})
    store = folder / "state" / "store"
    place = place_of_file(store / "paper.db") if store_url is None else place_of_url(store_url, store / "paper.spool")
    killer = Killer(folder, exchange, market, Books(exchange, USER, place), say, runs)
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(serve, exchange, "127.0.0.1", 0)
        prepare(folder, port, store_url)
        await nursery.start(runs.serve)
        await work(killer)
        nursery.cancel_scope.cancel()
    return killer


async def kill_moments(
    moments: Sequence[Moment], folder: Path, say: Callable[[str], None], store_url: str | None = None
) -> Killer:
    """The moments, one after the other, in a `harness`."""
    return await harness(folder, say, lambda killer: killer.go(moments), store_url)


def main(arguments: Sequence[str] | None = None) -> int:
    """`scripts/kill_moments`; exit code 1 where something did not hold, and then the folder is kept."""
    parser = argparse.ArgumentParser(prog="scripts/kill_moments", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store-url", help="an empty database, postgresql://[user@]host[:port]/database; else a file")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="hip3-kill-"))
    say = _line
    say(f"{options.moments} moments of seed {options.seed} in {folder}")
    broken: tuple[str, ...] = ()
    try:
        killer = trio.run(kill_moments, list(draw(options.seed, options.moments)), folder, say, options.store_url)
    except* Violated as group:
        broken = tuple(text for e in _leaves(group) for text in e.what)
    if broken:
        for text in broken[:20]:
            say(f"VIOLATED: {text}")
        say(f"{len(broken)} violations; stores, output and configuration are kept in {folder}")
        say(f"to repeat the plan: scripts/kill_moments --moments {options.moments} --seed {options.seed}")
        return 1
    sent, rows = sum(map(len, killer.books.sent.values())), killer.books.rows_checked
    fills = len(killer.exchange.fills(USER))
    say(f"{killer.starts - 1} kills, {sent} orders, {fills} fills; {rows} records of killed runs, each in the database once")
    say("store and exchange agree, the audit chain verifies; the last run ended flat with exit code 0")
    shutil.rmtree(folder)
    return 0


def _leaves(group: BaseExceptionGroup[Violated]) -> Iterator[Violated]:
    for e in group.exceptions:
        if isinstance(e, BaseExceptionGroup):
            yield from _leaves(e)
        else:
            yield e


def _line(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a script's output


if __name__ == "__main__":
    sys.exit(main())
