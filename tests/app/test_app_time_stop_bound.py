"""How late a time stop can be when the venue is away for two seconds: never more than LATE_MS (EXIT-1, DESIGN 9.8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Disconnect, Drop, FaultAction, HttpAnswer, Point, Rule
from hip3.simulate.invariants import late_ms
from hip3.simulate.world import World, open_world
from tests.app.app_builders import bot_settings, cut_account, cut_market, dislocated

TIME_STOP_MS = 3000
OUTAGE_MS = 2000
POST_TIMEOUT_MS = 5000
LATE_MS = late_ms(POST_TIMEOUT_MS)
IN_PEACE_MS = 100 + 100 + 150 + 85 + 15
"""Without any trouble: one period of the timers, one of the scheduler, the way to the mempool, a block, rounding."""
PHASES_MS = (-1900, -300, 0, 60, 150)
"""When the outage begins, after the time stop is due: before, around and in the middle of the close's way."""


def rules(action: FaultAction, *points: Point) -> list[Rule]:
    return [Rule(point, action, uses=None) for point in points]


def mute() -> list[Rule]:
    """Connections stay up; nothing arrives and nothing is answered."""
    return rules(Drop(), Point.INFO, Point.BEFORE_ADMISSION, Point.AFTER_COMMIT, Point.FRAME)


def erring() -> list[Rule]:
    """Every request is answered with a 502 and not carried out; the market's data flow."""
    return rules(HttpAnswer(502, "Bad Gateway"), Point.INFO, Point.BEFORE_ADMISSION)


def gone() -> list[Rule]:
    """No connection is accepted, and what is asked is never answered."""
    return [*rules(Disconnect(), Point.CONNECT), *mute()]


async def lateness_ms(policy: str, outage: Callable[[], list[Rule]], phase_ms: int | None) -> int:
    """By the venue's own fills: how much longer than its time stop the position lived. None is no outage."""
    settings = bot_settings({"position.time_stop_ms": TIME_STOP_MS, "safety.halt_on_disconnect": policy})
    source = dislocated().pulse(60).source()
    async with open_world(settings, source, config=ExchangeConfig()) as world:
        await world.ready()
        await world.until(lambda: bool(world.positions()))
        entry = world.fills()[0]
        if phase_ms is not None:
            due_s = (entry.time_ms + TIME_STOP_MS + phase_ms - world.clock.wall_ms()) / 1000
            await trio.sleep(due_s)
            await away(world, outage)
        await world.until(lambda: not world.positions())
        assert (await world.end()).exit_code == 0
        return world.fills()[-1].time_ms - entry.time_ms - TIME_STOP_MS


async def away(world: World, outage: Callable[[], list[Rule]]) -> None:
    """Two seconds of it."""
    world.faults.add(*outage())
    if outage is gone:
        cut_account(world)
        cut_market(world)
    await trio.sleep(OUTAGE_MS / 1000)
    world.faults.rules.clear()


async def test_time_stop_in_peace() -> None:
    """EXIT-1: with a venue that answers the position ends within two periods and the order's way of its time stop."""
    assert 0 <= await lateness_ms("exposed", mute, None) <= IN_PEACE_MS


@pytest.mark.parametrize("outage", [mute, erring, gone])
@pytest.mark.parametrize("policy", ["exposed", "never"])
async def test_time_stop_under_an_outage_of_two_seconds(policy: str, outage: Callable[[], list[Rule]]) -> None:
    """EXIT-1, DESIGN 9.8: whenever the outage begins and whatever it looks like, the close is at most LATE_MS late."""
    worst = {phase: await lateness_ms(policy, outage, phase) for phase in PHASES_MS}
    assert OUTAGE_MS <= max(worst.values()) <= LATE_MS, worst  # it did hit the close, and no more than that
