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
from attrs import field, frozen

from hip3.app import App
from hip3.core.journal import Journal
from hip3.exchange.faults import Faults
from hip3.exchange.inmemory import InMemory
from hip3.exchange.models.replay import ReplaySource
from hip3.io.clock import TrioClock
from hip3.ops.paper import make_paper
from hip3.ops.session import Ended, Reach, run_session
from hip3.ops.stop import Stop
from hip3.settings.schema import Settings
from hip3.simulate.invariants import Broken, Watch
from hip3.simulate.plan import Plan, goes_on
from hip3.venue.hyperliquid.signing import TradingKey

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
        return f"seed {self.seed:5}  {counts}  {self.mode:10}  {verdict}"


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
    with repeatable(plan.seed):
        return trio.run(_run, settings, source, plan, clock=trio.testing.MockClock(autojump_threshold=0))


async def _run(settings: Settings, source: ReplaySource, plan: Plan) -> Trial:
    clock, journal, stop = TrioClock.starting_at(source.started_wall_ms), Journal(), Stop()
    rng = random.Random(plan.seed)
    keys = TradingKey(rng.randbytes(32)).address, TradingKey(rng.randbytes(32))
    faults = Faults()
    last_ms = 0

    def data_over() -> None:
        stop.request_once("the recording has ended")

    paper = make_paper(settings, source, clock, given=keys, on_end=data_over, faults=faults)
    watch = Watch(paper.exchange, paper.account.user, clock, journal)
    memory = InMemory(paper.exchange)
    ended: Ended | None = None
    mode = ""

    async def see_the_end() -> None:
        nonlocal mode, last_ms
        await stop.requested.wait()
        mode = watch.bot.safety.mode.name if watch.bot is not None else "-"
        last_ms = clock.mono_ms()
        await trio.sleep(END_MS / 1000)
        raise NeverEnded(f"seed {plan.seed}: the bot runs on {END_MS // 1000} s after the end of its data")

    def begin(app: App) -> None:
        # Strikes begin with the bot's own life: a start that is refused for a fault is right, and shows nothing.
        watch.attach(app.bot)
        faults.add(*plan.rules())

    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        nursery.start_soon(watch.run)
        nursery.start_soon(see_the_end)
        ended = await run_session(
            settings,
            Reach("http://exchange.invalid", memory.dial, paper.account, memory.transport()),
            clock=clock,
            rng=rng,
            journal=journal,
            stop=stop,
            on_app=begin,
        )
        nursery.cancel_scope.cancel()
    assert ended is not None
    watch.finish(ended.outcome)
    return Trial(
        seed=plan.seed,
        exit_code=ended.outcome.exit_code,
        trades=ended.bot.tally.trades,
        entries=watch.entries,
        strikes=faults.strikes,
        mode=mode,
        broken=tuple(watch.broken),
        ended=ended,
        watch=watch,
    )
