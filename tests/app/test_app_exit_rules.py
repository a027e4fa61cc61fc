"""The rules of EXIT-2 from the venue's frames to closing orders on the wire; each is off until it has a number."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hip3.exchange.faults import Drop, Faults, Point, Rule
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import FAST, Script, bot_settings, closes, dislocated

STOP_S = 8
PATIENT = {"position.time_stop_ms": STOP_S * 1000}
LOOK_MS = 100
"""The period of the timers."""
WAY_MS = 100
"""From a frame of the venue to the bot, and the bot's post to the venue."""

RETURNED = dislocated().quote(4000, "601.8", "602")  # the bid is 3.3 bps below the oracle
BETTER = dislocated().quote(4000, "601.5", "601.7")  # 23.3 bps above the entry of 600.1
BACK = dislocated().oracle(3500, "600.2")  # 1.7 bps above the entry
TURNED = dislocated().oracle(3500, "601.3")  # 11.6 bps below the oracle of the signal
DOWN = Script().calm().oracle(1500, "598")  # sold at 599.9
SHORT_RETURNED = Script(list(DOWN.events)).quote(4000, "598", "598.2")
SHORT_BETTER = Script(list(DOWN.events)).quote(4000, "598.5", "598.7")
SHORT_BACK = Script(list(DOWN.events)).oracle(3500, "599.8")
SHORT_TURNED = Script(list(DOWN.events)).oracle(3500, "598.7")


async def first_close(world: World) -> tuple[int, str]:
    """Ms of the run of the first close, and the reason that its trade was booked with."""
    assert world.bot.trader is not None
    trades = world.bot.trader.position.trades
    await world.until(lambda: bool(trades), 12)
    assert len(closes(world)) == 1
    return closes(world)[0][0], trades[0].exit_reason


@pytest.mark.parametrize(
    ("script", "rule", "reason"),
    [
        (RETURNED, {"position.exit_threshold_bps": 4}, "mark_regression"),
        (BETTER, {"position.take_profit_bps": 23}, "take_profit"),
        (BACK, {"position.edge_evaporation_bps": 2}, "edge_evaporation"),
        (TURNED, {"position.oracle_reversal_bps": 11}, "oracle_reversal"),
        (SHORT_RETURNED, {"position.exit_threshold_bps": 4}, "mark_regression"),
        (SHORT_BETTER, {"position.take_profit_bps": 20}, "take_profit"),
        (SHORT_BACK, {"position.edge_evaporation_bps": 2}, "edge_evaporation"),
        (SHORT_TURNED, {"position.oracle_reversal_bps": 11}, "oracle_reversal"),
    ],
)
async def test_a_rule_closes_when_its_frame_comes(script: Script, rule: Mapping[str, object], reason: str) -> None:
    """EXIT-2: long or short, one look after the frame that fulfils it, in one order, and the trade says which rule."""
    await world_of(script, rule, (4000, reason))


async def world_of(script: Script, rule: Mapping[str, object], expected: tuple[int, str]) -> None:
    """Runs the script; the close must be on its way within a look of `expected`."""
    async with open_world(bot_settings({**PATIENT, **rule}), script.source(), config=FAST) as world:
        await world.started.wait()
        at_ms, reason = await first_close(world)
        assert reason == expected[1]
        assert expected[0] <= at_ms <= expected[0] + LOOK_MS + WAY_MS


@pytest.mark.parametrize(
    ("script", "rule"),
    [
        (RETURNED, {}),
        (RETURNED, {"position.exit_threshold_bps": 3}),
        (BETTER, {"position.take_profit_bps": 24}),
        (BACK, {"position.edge_evaporation_bps": 1}),
        (TURNED, {"position.oracle_reversal_bps": 12}),
        (BETTER, {"position.edge_evaporation_bps": 1, "position.oracle_reversal_bps": 12}),
    ],
)
async def test_without_its_rule_a_position_waits_for_the_time_stop(script: Script, rule: Mapping[str, object]) -> None:
    """EXIT-2: off, or not fulfilled by a hair, or another rule's case: the position stays until its time is over."""
    async with open_world(bot_settings({**PATIENT, **rule}), script.source(), config=FAST) as world:
        await world.started.wait()
        at_ms, reason = await first_close(world)
        assert reason == "time_stop"
        entry_ms = world.fills()[0].time_ms - START_MS
        assert STOP_S * 1000 <= at_ms - entry_ms <= STOP_S * 1000 + LOOK_MS + WAY_MS


async def test_no_rule_looks_at_a_position_before_its_minimum_age() -> None:
    """EXIT-2: the book is back at once, and the close leaves when min_holding_ms are over."""
    rule = {"position.exit_threshold_bps": 40, "position.min_holding_ms": 3000}
    async with open_world(bot_settings({**PATIENT, **rule}), dislocated().source(), config=FAST) as world:
        await world.started.wait()
        at_ms, reason = await first_close(world)
        entry_ms = world.fills()[0].time_ms - START_MS
        assert reason == "mark_regression"
        assert 3000 <= at_ms - entry_ms <= 3000 + LOOK_MS + WAY_MS


@pytest.mark.parametrize("channel", ["bbo", "activeAssetCtx"])
async def test_old_data_fires_no_rule(channel: str) -> None:
    """EXIT-2, LESSONS 3: the last frames fulfil the rule but are too old when its age is reached: the time stop closes."""
    rule = {"position.exit_threshold_bps": 40, "position.min_holding_ms": 4500, "detector.max_bbo_age_ms": 2000}
    quiet = Rule(Point.FRAME, Drop(), lambda s: s == channel, uses=None)
    script = dislocated().quote(1900, "599.8", "600.1").pulse(12)
    async with open_world(bot_settings({**PATIENT, **rule}), script.source(), config=FAST, faults=Faults()) as world:
        await world.until(lambda: bool(world.fills()), 4)
        world.faults.add(quiet)
        assert (await first_close(world))[1] == "time_stop"


async def test_a_close_that_a_rule_began_is_carried_through() -> None:
    """EXIT-3: half filled, the rest goes at the next price, although the book has left the oracle again meanwhile."""
    script = dislocated().depth(4000, [("601.8", "0.03"), ("590", "100")], [("602", "10")]).quote(4060, "599", "600.1")
    settings = bot_settings({**PATIENT, "position.exit_threshold_bps": 4})
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: len(closes(world)) == 2, 6)
        assert [order["s"] for _, order in closes(world)] == ["0.082", "0.052"]
        assert closes(world)[1][0] < 4500
        assert world.bot.trader is not None
        trades = world.bot.trader.position.trades
        await world.until(lambda: bool(trades), 1)
        assert trades[0].exit_reason == "mark_regression"
