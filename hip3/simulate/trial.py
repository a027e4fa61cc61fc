"""One run of the whole bot over market data, in virtual time, with a plan of faults and somebody who watches.

Two trials of one plan over one source are the same, event for event: time is virtual, keys come from the seed, and Trio's
order of tasks, random by design, is drawn from the seed too. It refuses real time: give it a source that ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import trio
import trio._core._run as trio_run  # the private switch that Trio keeps for repeatable tests; see `repeatable`
import trio.testing
from attrs import define, evolve, field, frozen

from hip3.app import App
from hip3.core.journal import Journal
from hip3.core.records import MemoryRecorder
from hip3.core.remembered import Remembered, remembered_from
from hip3.exchange.faults import Faults
from hip3.exchange.inmemory import InMemory
from hip3.exchange.models.replay import ReplaySource
from hip3.io.clock import TrioClock
from hip3.ops.boot import PreflightRefused
from hip3.ops.paper import PaperVenue, make_paper
from hip3.ops.session import Ended, Keeping, Reach, run_session
from hip3.ops.stop import Stop
from hip3.settings.schema import Settings
from hip3.simulate.invariants import Broken, Watch
from hip3.simulate.plan import Plan, goes_on
from hip3.venue.hyperliquid.signing import TradingKey

AGAIN_MS = 1_000
"""From a kill, or a start that a fault refused, to the next start: what a supervisor waits."""
END_MS = 600_000
"""After the data: no way out takes ten minutes, so a run that is not over by then never ends."""


@frozen
class Trial:
    """How one run went. `broken` is empty where every invariant held."""

    seed: int
    exit_code: int
    trades: int
    entries: int
    strikes: int
    kills: int
    mode: str
    """The safety mode at the end of trading."""
    broken: tuple[Broken, ...]
    ended: Ended = field(repr=False)
    watch: Watch = field(repr=False)

    @property
    def line(self) -> str:
        """For a person who reads two hundred of them."""
        verdict = "ok" if not self.broken else "; ".join(str(b) for b in self.broken)
        counts = f"exit {self.exit_code}  {self.trades:3} trades  {self.entries:3} entries  {self.strikes:3} faults"
        counts += f"  {self.kills} kills"
        return f"seed {self.seed:5}  {counts}  {self.mode:10}  {verdict}"


WAY_OUT_S = 120
"""The default is 20 s, which a venue that goes on failing can use up; then exit code 4 is the right answer, and it says
nothing about the books. With this a minute's REST weight, used up by restarts and lost answers, has come back."""


class NeverEnded(Exception):
    """A run that did not stop when its data were over."""


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Trio schedules tasks in the order of a generator with this seed, as it does under pytest-trio."""
    before, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # declared final for readers, switched by tests
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        trio_run._r.setstate(state)


def run_trial(settings: Settings, source: ReplaySource, plan: Plan) -> Trial:
    """Runs to the end of the source and flat. Raises what a refused start raises, and NeverEnded."""
    settings = settings if plan.ends_trading else goes_on(settings)
    settings = evolve(settings, shutdown=evolve(settings.shutdown, flatten_deadline_s=WAY_OUT_S))
    with repeatable(plan.seed):
        return trio.run(_run, settings, source, plan, clock=trio.testing.MockClock(autojump_threshold=0))


async def _run(settings: Settings, source: ReplaySource, plan: Plan) -> Trial:
    run = _Run.made(settings, source, plan)
    async with trio.open_nursery() as nursery:
        await nursery.start(run.memory.run)
        nursery.start_soon(run.watch.run)
        nursery.start_soon(run.see_the_end)
        for kill_ms in plan.kills_ms:
            nursery.start_soon(run.kill_at, kill_ms)
        ended = await run.to_the_end()
        nursery.cancel_scope.cancel()
    watch = run.watch
    watch.finish(ended.outcome)
    return Trial(
        seed=plan.seed,
        exit_code=ended.outcome.exit_code,
        trades=watch.kept.trades,
        entries=watch.entries,
        strikes=watch.exchange.faults.strikes,
        kills=run.kills,
        mode=run.mode,
        broken=tuple(watch.broken),
        ended=ended,
        watch=watch,
    )


@define
class _Run:
    """One exchange, and the processes that trade on it one after the other."""

    settings: Settings
    plan: Plan
    clock: TrioClock
    rng: random.Random
    paper: PaperVenue
    memory: InMemory
    journal: Journal
    watch: Watch
    recorder: MemoryRecorder
    over: trio.Event
    """The data are."""
    kills: int = 0
    mode: str = "-"
    _stop: Stop = field(factory=Stop)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    @classmethod
    def made(cls, settings: Settings, source: ReplaySource, plan: Plan) -> _Run:
        clock, journal, over = TrioClock.starting_at(source.started_wall_ms), Journal(), trio.Event()
        rng = random.Random(plan.seed)
        agent = rng.randbytes(32), rng.randbytes(32)
        keys = TradingKey(agent[0]).address, TradingKey(agent[1])
        paper = make_paper(settings, source, clock, given=keys, on_end=over.set, faults=Faults())
        watch = Watch(paper.exchange, paper.account.user, clock, journal, secrets=(agent[1].hex(),))
        recorder = MemoryRecorder(watch.kept.on_commit)
        return cls(settings, plan, clock, rng, paper, InMemory(paper.exchange), journal, watch, recorder, over)

    async def to_the_end(self) -> Ended:
        """Starts a process, and another one after each kill, until one has ended by itself."""
        while True:
            ended = await self._process()
            if ended is not None:
                return ended
            await trio.sleep(AGAIN_MS / 1000)

    async def _process(self) -> Ended | None:
        """One life; None where it was killed, or refused to start once the first one had."""
        self._stop, self._scope = Stop(), trio.CancelScope()
        ended: Ended | None = None
        is_refused = False
        try:
            with self._scope:
                reach = Reach("http://exchange.invalid", self.memory.dial, self.paper.account, self.memory.transport())
                ended = await run_session(
                    self.settings,
                    reach,
                    clock=self.clock,
                    rng=self.rng,
                    journal=self.journal,
                    stop=self._stop,
                    on_app=self._begin,
                    keeping=Keeping(self.recorder, self._remember),
                )
        except* PreflightRefused:
            is_refused = True
            if not self.kills:
                raise
        if is_refused:
            return None
        if ended is None:
            self.watch.detach()
        return ended

    def _begin(self, app: App) -> None:
        # Strikes begin with the bot's own life: a first start that is refused for a fault is right, and shows nothing.
        self.watch.attach(app.bot)
        if not self.kills:
            self.watch.exchange.faults.add(*self.plan.rules())

    def _remember(self, _account: str | None) -> Remembered:
        return remembered_from(self.recorder.records, self.clock.wall_ms())

    async def kill_at(self, after_ms: int) -> None:
        """Ends the process between two of its steps, where one is trading; once the data are over it ends by itself."""
        await trio.sleep(after_ms / 1000)
        if self.watch.bot is not None and not self.over.is_set():
            self.kills += 1
            self._scope.cancel()

    async def see_the_end(self) -> None:
        """Stops the process when the data are over, and the whole run where that leads nowhere."""
        await self.over.wait()
        for _ in range(END_MS // AGAIN_MS):
            bot = self.watch.bot
            if bot is not None and not self._stop.requested.is_set():
                self.mode = bot.safety.mode.name
                self._stop.request_once("the recording has ended")
            await trio.sleep(AGAIN_MS / 1000)
        raise NeverEnded(f"seed {self.plan.seed}: the bot runs on {END_MS // 1000} s after the end of its data")
