"""A whole run for the tests of what the user sees: the real bot on the real embedded exchange, in virtual time."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import attrs
import trio
from rich.console import Console

from hip3.app import App, stop_after
from hip3.bot import Bot
from hip3.cli.status import render
from hip3.core.journal import Journal, Note
from hip3.exchange.inmemory import InMemory
from hip3.io.clock import TrioClock
from hip3.ops.paper import make_paper, paper_source
from hip3.ops.session import Ended, Reach, run_session
from hip3.ops.stop import Stop
from hip3.settings import load
from hip3.settings.schema import Mode, Settings
from hip3.venue.hyperliquid.signing import TradingKey

T0 = 1_767_225_600_000
"""Unix ms at which the runs start: 2026-01-01T00:00:00Z."""
LOOK_S = 0.25


def paper_settings(*, mode: Mode = Mode.TRADING) -> Settings:
    return attrs.evolve(load(None, {}).settings, mode=mode)


async def run_paper(
    duration_s: float,
    *,
    settings: Settings | None = None,
    journal: Journal | None = None,
    given: tuple[str, TradingKey] | None = None,
    on_app: Callable[[App, trio.Nursery], None] = lambda _app, _nursery: None,
    look: Callable[[App], None] = lambda _app: None,
) -> Ended:
    """Runs the packaged paper set-up for `duration_s` of virtual time.

    `on_app` may start tasks beside the run; `look` is called every quarter of a second while it lasts, the way out included.
    """
    used = settings or paper_settings()
    assert used.paper is not None
    clock, stop = TrioClock.starting_at(T0), Stop()
    source = paper_source(used.paper, used, lambda name: (_ for _ in ()).throw(AssertionError(name)))
    venue = make_paper(used, source, clock, given=given)
    memory = InMemory(venue.exchange)
    async with trio.open_nursery() as beside:
        await beside.start(memory.run)
        beside.start_soon(stop_after, duration_s, stop)

        async def looking(app: App) -> None:
            while True:
                look(app)
                await trio.sleep(LOOK_S)

        def started(app: App) -> None:
            on_app(app, beside)
            beside.start_soon(looking, app)

        reach = Reach("http://exchange.invalid", memory.dial, venue.account, memory.transport())
        ended = await run_session(
            used, reach, clock=clock, rng=random.Random(1), journal=journal or Journal(), stop=stop, on_app=started
        )
        beside.cancel_scope.cancel()
    return ended


def picture(bot: Bot, app: App, events: list[Note], width: int, height: int) -> list[str]:
    """The lines of the live picture as a terminal of this size shows them, without colours."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(render(bot, app, events, width, height))
    return captured.get().splitlines()
