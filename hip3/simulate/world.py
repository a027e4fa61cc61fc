"""A world of one bot and one exchange under Trio's mock clock. Everything is real but the clock and the sockets.

Tests drive it from the venue's side (market data, faults, foreign orders) or the operator's (stop), and look at what
reached the exchange. It refuses to reach into the bot: what a test changes, it changes as the outside world would.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from attrs import define, field

from hip3.app import App, Outcome
from hip3.bot import Bot
from hip3.core.events import Fill, OrderUpdate, Position
from hip3.core.journal import Journal, Note
from hip3.core.records import MemoryRecorder
from hip3.core.remembered import Remembered, remembered_from
from hip3.core.run_mode import RunMode
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Faults
from hip3.exchange.inmemory import InMemory
from hip3.exchange.seam import MarketSource
from hip3.io.clock import TrioClock
from hip3.io.dial import Dial
from hip3.ops.paper import PaperVenue, make_paper
from hip3.ops.session import Ended, Keeping, Reach, run_session
from hip3.ops.stop import Stop
from hip3.settings.schema import Settings

START_MS = 1_767_225_600_000  # 2026-01-01, a Thursday
STEP_S = 0.005


@define
class MachineClock:
    """What the bot's machine shows: the true time, and by how much somebody has set its wall clock wrong."""

    true: TrioClock
    wrong_ms: int = 0
    readings: int = 0

    def wall_ms(self) -> int:
        self.readings += 1
        return self.true.wall_ms() + self.wrong_ms

    def mono_ms(self) -> int:
        self.readings += 1
        return self.true.mono_ms()


@define
class World:
    """Handles of a running world. `bot` is there from `started` on."""

    venue: PaperVenue
    faults: Faults
    stop: Stop
    journal: Journal
    clock: TrioClock
    """The true time, which is the venue's."""
    machine: MachineClock
    """The clock of the bot's machine; a test may set it."""
    memory: InMemory
    recorder: MemoryRecorder = field(factory=MemoryRecorder)
    """What the bot made durable, unless `keeping` takes it."""
    keeping: Keeping | None = None
    """A store of the caller's own for the next start."""
    started: trio.Event = field(factory=trio.Event)
    ended: trio.Event = field(factory=trio.Event)
    app: App | None = None
    result: Ended | None = None
    notes: list[Note] = field(factory=list)
    _bot_scope: trio.CancelScope = field(factory=trio.CancelScope)
    _launch: Callable[[Settings | None, str | None, RunMode | None], None] = lambda _settings, _hash, _run_mode: None

    @property
    def exchange(self) -> Exchange:
        return self.venue.exchange

    @property
    def bot(self) -> Bot:
        assert self.app is not None, "the bot has not been built yet: await world.started.wait()"
        return self.app.bot

    @property
    def user(self) -> str:
        return self.venue.account.user

    # ---- what the venue saw

    def actions(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Actions that reached the exchange, oldest first; of one type where given."""
        seen = [envelope.raw_action for _, envelope in self.exchange.received]
        return [a for a in seen if kind is None or a["type"] == kind]

    def orders(self, *, reduce_only: bool | None = None) -> list[dict[str, Any]]:
        """Orders on the wire, in the venue's short keys (a, b, p, s, r, t, c)."""
        rows = [order for action in self.actions("order") for order in action["orders"]]
        return [o for o in rows if reduce_only is None or o["r"] is reduce_only]

    @property
    def entries(self) -> list[dict[str, Any]]:
        return self.orders(reduce_only=False)

    @property
    def closes(self) -> list[dict[str, Any]]:
        return self.orders(reduce_only=True)

    def positions(self) -> dict[str, Position]:
        return {p.coin: p for p in self.exchange.positions(self.user)}

    def open_orders(self) -> tuple[OrderUpdate, ...]:
        return self.exchange.open_orders(self.user)

    def fills(self) -> tuple[Fill, ...]:
        return self.exchange.fills(self.user)

    # ---- what the bot said

    def events(self, name: str | None = None) -> list[Note]:
        """Notes of the journal so far; of one event where given."""
        self.notes += self.journal.drain()
        return [n for n in self.notes if name is None or n.event == name]

    # ---- time

    async def at(self, mono_ms: int) -> None:
        """Waits until the true clock shows `mono_ms`, and for what others do at that moment."""
        await trio.sleep(max(0, mono_ms - self.clock.mono_ms()) / 1000)
        await trio.testing.wait_all_tasks_blocked()

    async def until(self, condition: Callable[[], bool], within_s: float = 60.0) -> None:
        """Waits in virtual time, in steps of 5 ms. Raises TimeoutError, naming the condition's source line.

        Steps before the next deadline of any task are left out: nobody does anything until then. Not so where the
        condition asks the bot's clock, whose answer changes by itself.
        """
        with trio.move_on_after(within_s) as scope:
            readings = self.machine.readings
            while not condition():
                asked, steps = self.machine.readings > readings, 1
                if not asked:
                    await trio.testing.wait_all_tasks_blocked()
                    idle_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
                    steps = max(1, math.ceil(idle_s / STEP_S))
                await trio.sleep(steps * STEP_S)
                readings = self.machine.readings
        if scope.cancelled_caught:
            raise TimeoutError(f"not within {within_s} virtual seconds: {condition.__code__.co_qualname}")

    async def ready(self) -> None:
        """Until the bot may trade."""
        await self.started.wait()
        await self.until(lambda: self.bot.ready.is_ready and self.bot.safety.allows_entry)

    async def end(self, reason: str = "Ctrl+C") -> Outcome:
        """Requests the stop and waits for the end of the way out."""
        self.stop.request(reason)
        await self.ended.wait()
        assert self.result is not None
        return self.result.outcome

    async def kill(self) -> None:
        """Ends the bot between two of its steps as `kill -9` would: no way out, and its sockets are gone."""
        self._bot_scope.cancel()
        await self.ended.wait()

    def restart(
        self, settings: Settings | None = None, config_hash: str | None = None, run_mode: RunMode | None = None
    ) -> None:
        """Another process against the same exchange, with what the last one made durable; after `kill` or `end`.

        None goes on with what was given before. Handles of the bot are those of the new one from `started` on.
        """
        assert self.ended.is_set(), "the last run has not ended"
        self.app, self.result, self.notes = None, None, []
        self.started, self.ended = trio.Event(), trio.Event()
        self.stop, self.journal, self._bot_scope = Stop(), Journal(), trio.CancelScope()
        self._launch(settings, config_hash, run_mode)


@asynccontextmanager
async def open_world(
    settings: Settings,
    source: MarketSource,
    *,
    config: ExchangeConfig | None = None,
    faults: Faults | None = None,
    start_ms: int = START_MS,
    journal: Journal | None = None,
    through: Callable[[Dial], Dial] = lambda dial: dial,
    recorder: MemoryRecorder | None = None,
    keeping: Keeping | None = None,
    config_hash: str = "",
    run_mode: RunMode = RunMode.LIVE,
) -> AsyncIterator[World]:
    """Starts exchange and bot at the wall time `start_ms`. The block may end before the bot, which is then cancelled.

    `through` puts something of the test's own between the bot's links and the exchange.
    """
    clock, stop = TrioClock.starting_at(start_ms), Stop()
    own_journal = journal if journal is not None else Journal()
    struck = faults if faults is not None else Faults()
    venue = make_paper(settings, source, clock, faults=struck, config=config)
    memory = InMemory(venue.exchange)
    machine = MachineClock(clock)
    world = World(venue, struck, stop, own_journal, clock, machine, memory, recorder or MemoryRecorder(), keeping)

    def on_app(app: App) -> None:
        world.app = app
        world.started.set()

    def remember(_account: str | None) -> Remembered:
        return remembered_from(world.recorder.records, clock.wall_ms())

    given = (settings, config_hash, run_mode)

    def launch(new: Settings | None, new_hash: str | None, new_mode: RunMode | None) -> None:
        nonlocal given
        given = (new or given[0], given[1] if new_hash is None else new_hash, new_mode or given[2])
        nursery.start_soon(run)

    world._launch = launch

    async def run() -> None:
        reach = Reach("http://exchange.invalid", through(memory.dial), venue.account, memory.transport())
        try:
            with world._bot_scope:
                world.result = await run_session(
                    given[0],
                    reach,
                    clock=machine,
                    rng=random.Random(1),
                    journal=world.journal,
                    stop=world.stop,
                    on_app=on_app,
                    keeping=world.keeping or Keeping(world.recorder, remember, given[1]),
                    run_mode=given[2],
                )
        finally:
            world.ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        nursery.start_soon(run)
        yield world
        nursery.cancel_scope.cancel()
