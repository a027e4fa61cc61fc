"""A HALT that ends without an operator: only causes on the list, only on evidence of this incident (STOP-4, LESSONS 32)."""

from __future__ import annotations

from hip3.core.ids import OrderSide
from hip3.core.records import IncidentRecord
from hip3.exchange.faults import Faults, HttpAnswer, Point, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, Script, bot_settings, by_hand, dislocated, entries
from tests.app.operator_desk import LIVE, audit, codes, operate, refusals
from tests.app.test_app_drift import SILENT

UNREAD = Rule(Point.INFO, HttpAnswer(500), lambda s: s == "clearinghouseState", uses=None)
SAFE, HALT = SafetyMode.ARMED_SAFE, SafetyMode.HALT


def changes(world: World) -> list[tuple[str, str]]:
    """Every change of the mode with its reason."""
    return [(str(n.fields["after"]), str(n.fields["reason"])) for n in world.events("safety_mode")]


async def in_mode(world: World, mode: SafetyMode, within_s: float) -> None:
    await world.until(lambda: world.app is not None and world.bot.safety.mode is mode, within_s)


async def test_a_position_that_nobody_could_compare_for_long_is_a_halt_that_ends_with_the_answer() -> None:
    """STOP-4, REC-4: SNAPSHOT_STALE: 3 min unread while exposed: HALT; once answered: flat, a clean reading, ARMED_SAFE."""
    settings = bot_settings({"position.time_stop_ms": 900_000, "position.reduce_only_timeout_ms": 950_000})
    source = dislocated().pulse(300).rising(240, 270).source()
    async with open_world(settings, source, config=FAST, faults=Faults([])) as world:
        await world.until(lambda: bool(world.positions()) and not world.bot.posts.in_flight, 5)
        world.faults.add(UNREAD)
        await in_mode(world, HALT, 250)
        assert 180_000 < world.clock.mono_ms() < 195_000
        assert [c.code.value for c in world.bot.safety.causes] == ["SNAPSHOT_STALE"]
        await world.until(lambda: bool(world.events("halt_flatten")), 40)
        assert refusals(operate(world, "unhalt")) == ["FLAT_CERTIFICATE"]
        world.faults.rules.clear()
        await in_mode(world, SAFE, 60)
        assert world.positions() == {}
        assert changes(world)[-1] == ("ARMED_SAFE", "HALT_RECOVERY_AUTO")
        before = len(entries(world))
        await world.at(243_000)
        assert (len(entries(world)), world.bot.safety.mode) == (before, SAFE)  # policy does not promote after a HALT
        assert operate(world, "promote")["mode"] == LIVE
        await world.until(lambda: len(entries(world)) > before, 5)


async def test_a_stale_snapshot_while_flat_is_no_halt() -> None:
    """REC-4: without exposure entries wait, however long, and go on by themselves."""
    async with open_world(bot_settings(), Script().calm().pulse(400).source(), config=FAST, faults=Faults([])) as world:
        await world.ready()
        world.faults.add(UNREAD)
        await world.at(200_000)
        assert ("HALT", "SNAPSHOT_STALE") not in changes(world)
        world.faults.rules.clear()
        await in_mode(world, SafetyMode.ARMED_LIVE, 10)


async def test_a_critical_drift_ends_after_three_clean_reconciles_in_a_row() -> None:
    """STOP-4, LESSONS 32: two and a failure are none; the row that counts is of this incident and has three."""
    async with open_world(bot_settings(), Script().calm().pulse(900).source(), config=FAST) as world:
        await world.ready()
        world.faults.add(*SILENT)
        await by_hand(world, OrderSide.BUY, "610", "0.1")
        await in_mode(world, HALT, 90)
        await world.until(lambda: not world.positions(), 20)
        world.faults.rules.clear()
        await world.until(lambda: world.bot.evidence.clean == 2, 200)
        world.faults.add(UNREAD)
        await world.until(lambda: world.bot.evidence.clean == 0, 90)
        world.faults.rules.clear()
        assert world.bot.safety.mode is HALT
        await world.until(lambda: world.bot.evidence.clean == 2, 200)
        operate(world, "kill")  # another incident: what was counted is over, and this cause is not on the list
        await world.until(lambda: world.bot.evidence.clean == 3, 300)
        assert world.bot.safety.mode is HALT
        assert operate(world, "unhalt")["ok"]


async def test_three_clean_reconciles_are_enough() -> None:
    """STOP-4: the same without a disturbance: ARMED_SAFE by HALT_RECOVERY_AUTO, within four minutes."""
    async with open_world(bot_settings(), Script().calm().pulse(400).source(), config=FAST) as world:
        await world.ready()
        world.faults.add(*SILENT)
        await by_hand(world, OrderSide.BUY, "610", "0.1")
        await in_mode(world, HALT, 90)
        world.faults.rules.clear()
        await in_mode(world, SAFE, 240)
        assert changes(world)[-1] == ("ARMED_SAFE", "HALT_RECOVERY_AUTO")
        assert codes(operate(world, "promote")) == []


async def test_a_gap_ends_by_a_maintenance_skip_of_this_incident() -> None:
    """STOP-4, REC-3: without a skip it stays; the skip is written down, covers this gap alone, and no other HALT."""
    settings = bot_settings({"reconcile.backfill_window_ms": 60_000})
    async with open_world(settings, dislocated().pulse(900).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        assert refusals(operate(world, "maintenance-skip")) == ["BACKFILL_WINDOW_EXCEEDED"]
        await world.kill()
        await world.at(90_000)
        world.restart()
        await world.started.wait()
        assert world.bot.safety.mode is HALT
        await world.until(lambda: world.bot.evidence.clean >= 2, 200)
        assert world.bot.safety.mode is HALT
        answer = operate(world, "maintenance-skip", reason="the host was moved")
        assert answer["did"].startswith("the gap is skipped: the account was not followed for ")
        await in_mode(world, SAFE, 5)
        (skip,) = [r for r in world.recorder.records if isinstance(r, IncidentRecord) and r.code == "MAINTENANCE_SKIP"]
        assert skip.message == "ada: the host was moved"
        assert "was not followed for" in str(skip.evidence["skipped"])
        assert ("ada", "HALT", "HALT", "MAINTENANCE_SKIP") in audit(world)
        assert changes(world)[-1] == ("ARMED_SAFE", "HALT_RECOVERY_AUTO")


async def test_a_skip_is_over_with_the_next_halt() -> None:
    """LESSONS 32: the evidence of one incident is never valid for the next."""
    settings = bot_settings({"reconcile.backfill_window_ms": 60_000})
    async with open_world(settings, dislocated().pulse(900).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        await world.kill()
        await world.at(90_000)
        world.restart()
        await world.started.wait()
        world.faults.add(UNREAD)
        assert operate(world, "maintenance-skip")["ok"]
        operate(world, "kill")
        world.faults.rules.clear()
        await world.until(lambda: world.bot.evidence.clean >= 2, 300)
        assert not world.bot.evidence.is_skipped
        assert world.bot.safety.mode is HALT
