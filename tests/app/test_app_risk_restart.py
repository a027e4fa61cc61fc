"""What risk monitor and throttles have counted outlives the process: killed and started again (RISK-1, LESSONS 36)."""

from __future__ import annotations

import pytest

from hip3.core.records import StateRecord
from hip3.core.scribe import RISK_KEY
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, Script, bot_settings, dislocated, entries, judged
from tests.app.restarts import again
from tests.app.test_app_risk import causes, halted, released

BRIEF = {"position.time_stop_ms": 2000}
TRIPS = dislocated().rising(10, 10, start_px=604).rising(14, 14, start_px=606).rising(18, 30, start_px=608).pulse(60)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"risk.max_cumulative_loss_usd": 0.04}, "CUMULATIVE_LOSS"),
        ({"risk.max_consecutive_losses": 1}, "CONSECUTIVE_LOSSES"),
        ({"risk.max_slippage_bps": 20}, "SLIPPAGE"),
    ],
)
async def test_counts_go_on_over_a_restart(keys: dict[str, float], code: str) -> None:
    """RISK-1: losses before and after a kill add up to one crossing."""
    needed = 3 if code == "SLIPPAGE" else 2
    settings = bot_settings({**BRIEF, "safety.auto_stop_loss_usd": 50, **keys})
    async with open_world(settings, TRIPS.source(), config=FAST) as world:
        await world.until(lambda: len(world.events("position_closed")) == 1, 8)
        await again(world)
        await world.ready()
        await halted(world, 30)
        assert causes(world) == [code]
        assert len(world.events("position_closed")) == needed - 1  # of this process


async def test_what_an_operator_ended_is_not_crossed_again_by_a_restart() -> None:
    """RISK-1, STOP-1: released, killed and started again it trades, and the count that had crossed begins at zero."""
    settings = bot_settings({**BRIEF, "risk.max_cumulative_loss_usd": 0.04})
    script = dislocated().rising(6, 6, start_px=604).rising(18, 40, start_px=608).pulse(60)
    async with open_world(settings, script.source(), config=FAST) as world:
        await halted(world)
        await released(world)
        await again(world)
        await world.ready()
        await world.until(lambda: len(world.events("position_closed")) == 1, 30)
        assert world.bot.safety.mode is SafetyMode.ARMED_LIVE
        await halted(world, 20)
        assert len(world.events("position_closed")) == 2


async def test_a_throttle_goes_on_over_a_restart() -> None:
    """RISK-6, LESSONS 36: the hour's loss keeps entries out after a kill as before it."""
    settings = bot_settings({**BRIEF, "risk.max_hourly_drawdown_usd": 0.01})
    async with open_world(settings, TRIPS.source(), config=FAST) as world:
        await world.until(lambda: len(world.events("position_closed")) == 1, 8)
        await again(world)
        await world.ready()
        await world.until(lambda: bool(judged(world, "Skipped(HourlyDrawdown)")), 20)
        assert len(entries(world)) == 1


async def test_damaged_counters_are_a_halt() -> None:
    """RISK-1, SAFE-2: counters that cannot be read are no fresh start: HALT, until a person has looked."""
    async with open_world(bot_settings(BRIEF), Script().calm().pulse(30).source(), config=FAST) as world:
        await world.ready()
        await world.kill()
        world.recorder.commits.append((StateRecord(f"{RISK_KEY}pnl_usd", "much", 0),))
        world.restart()
        await world.started.wait()
        assert world.bot.safety.mode is SafetyMode.HALT
        assert "risk counters" in world.bot.safety.causes[0].message
