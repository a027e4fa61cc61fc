"""What ends a cause, and the mode after: those whose end no other test drives (SAFE-1, SAFE-4)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.run_mode import RunMode
from hip3.exchange.faults import HttpAnswer, Point
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, Script, bot_settings, by_hand, cut_account, cut_market, dislocated, entries
from tests.app.failures.scenes import SNDK, lost, settings_of, trading, unfenced, world_of
from tests.app.operator_desk import BRIEF, LIVE, SAFE, codes, flat_in_halt, operate, refusals
from tests.app.test_app_metadata import from_now_on, sndk
from tests.app.test_app_store import disk


def causes(world: World) -> list[tuple[str, str, str]]:
    """Code, severity and who may end it, of those in force."""
    return [(c.code.value, c.severity.name, c.clears.value) for c in world.bot.safety.causes]


async def trades_again(world: World) -> None:
    """Until another entry leaves."""
    before = len(entries(world))
    await world.until(lambda: len(entries(world)) > before, 30)


async def released(world: World) -> None:
    """The HALT is ended by a person as soon as nothing stands against it, then promoted, and an entry leaves."""
    await flat_in_halt(world)
    await world.until(lambda: world.bot.ready.is_ready and not world.bot.is_exposed, 30)
    answer = operate(world, "unhalt")
    assert (answer["mode"], "MANUAL_UNHALT" in codes(answer)) == (SAFE, True)
    assert operate(world, "promote")["mode"] == LIVE
    await trades_again(world)


async def restarted(world: World) -> None:
    assert (await world.end()).exit_code == 0
    world.restart()
    await world.started.wait()


async def test_a_kill_is_ended_by_unhalt_and_promote() -> None:
    """STOP-1, STOP-5: OPERATOR_KILL to ARMED_SAFE to ARMED_LIVE, and an entry leaves."""
    async with open_world(bot_settings(BRIEF), Script().calm().pulse(90).rising(2, 40).source(), config=FAST) as world:
        await world.until(lambda: bool(entries(world)), 5)
        operate(world, "kill")
        assert causes(world) == [("OPERATOR_KILL", "HALT", "operator")]
        await released(world)


@pytest.mark.parametrize("how", ["observation", "backfill-only"])
async def test_an_observer_is_followed_by_a_run_that_trades(how: str) -> None:
    """PRD-1, REC-5: OBSERVATION never clears in its process; the next start that trades has none, and trades."""
    watching = bot_settings({**BRIEF, "mode": "observation"} if how == "observation" else BRIEF)
    run_mode = RunMode.LIVE if how == "observation" else RunMode.BACKFILL_ONLY
    source = Script().calm().pulse(90).rising(6, 40).source()
    async with open_world(watching, source, config=FAST, run_mode=run_mode) as world:
        await world.started.wait()
        assert ("OBSERVATION", "SAFE", "never") in causes(world)
        if how == "observation":
            await world.until(lambda: bool(world.events("signal")), 10)
            assert refusals(operate(world, "promote"))[0] == "OBSERVATION"
            await world.end()
        await world.ended.wait()
        world.restart(bot_settings(BRIEF), run_mode=RunMode.LIVE)
        await world.ready()
        assert causes(world) == []
        await trades_again(world)


async def test_foreign_orders_end_with_a_promotion_of_whoever_has_seen_them() -> None:
    """REC-1: FOREIGN_ORDERS holds until a person promotes; the order is left alone, and entries leave beside it."""
    async with open_world(bot_settings(BRIEF), Script().calm().pulse(90).rising(20, 60).source(), config=FAST) as world:
        await world.ready()
        await world.kill()
        await by_hand(world, OrderSide.BUY, "580", "0.1", tif=TimeInForce.GTC)
        world.restart()
        await world.started.wait()
        await world.until(lambda: world.bot.ready.is_ready, 10)
        assert ("FOREIGN_ORDERS", "SAFE", "operator") in causes(world)
        await world.at(23_001)
        assert entries(world) == []
        answer = operate(world, "promote")
        assert (answer["mode"], codes(answer)) == (LIVE, [])
        await trades_again(world)
        assert len(world.open_orders()) == 1


async def test_a_database_that_is_mended_in_time_is_traded_on_by_itself(tmp_path: Path) -> None:
    """STO-4, SAFE-4 STORAGE_UNAVAILABLE: ARMED_SAFE while it refuses, ARMED_LIVE with its next record, by nobody's hand."""
    keys = {**BRIEF, "store.failed_after_ms": 60_000, "position.reduce_only_timeout_ms": 30_000}
    async with disk(tmp_path, keys) as state:
        kept = await state.open()
        source = Script().calm().pulse(90).rising(2, 60).source()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
            await world.ready()
            state.worlds.append(world)
            with closing(sqlite3.connect(state.file)) as db, db:
                db.execute("alter table order_intents rename to mislaid")
            await world.until(lambda: causes(world) == [("STORAGE_UNAVAILABLE", "SAFE", "auto")], 20)
            with closing(sqlite3.connect(state.file)) as db, db:
                db.execute("alter table mislaid rename to order_intents")
            await world.until(lambda: world.bot.safety.mode is SafetyMode.ARMED_LIVE, 20)
            await trades_again(world)
            assert (await world.end()).exit_code == 0
        assert await kept.store.drain_and_close(5)


async def test_a_doubt_that_halted_is_ended_by_a_person_once_the_venue_has_answered(autojump_clock: object) -> None:
    """POST-4, STOP-1: EXECUTION_RETRY_BUDGET_EXCEEDED as a HALT: unhalt is refused while the order is in doubt."""
    async with world_of(settings_of(SNDK, safety={"halt_on_retry_budget": True}), trading(SNDK)) as world:
        await world.ready()
        mute = lost("orderStatus", Point.INFO, action=HttpAnswer(500))
        world.faults.add(lost("order", Point.BEFORE_ADMISSION, uses=1), unfenced(), mute)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 60)
        assert [code for code, _, _ in causes(world)] == ["EXECUTION_RETRY_BUDGET_EXCEEDED"]
        await flat_in_halt(world)
        assert refusals(operate(world, "unhalt"))[0] == "EXECUTION_RETRY_BUDGET_EXCEEDED"
        world.faults.rules.clear()
        await world.until(lambda: not world.bot.ledger.orders, 60)
        assert operate(world, "unhalt")["mode"] == SAFE
        assert operate(world, "promote")["mode"] == LIVE


async def test_a_changed_market_is_traded_on_after_a_new_start() -> None:
    """META-4: PARAM_CHANGE while flat ends with the process: the next start reads the new value, and trades."""
    async with open_world(bot_settings(BRIEF), Script().calm().pulse(90).rising(12, 60).source(), config=FAST) as world:
        await world.ready()
        await from_now_on(world, sndk("growthMode", "disabled"))
        cut_market(world)
        await world.until(lambda: causes(world) == [("PARAM_CHANGE", "SAFE", "never")], 6)
        assert refusals(operate(world, "promote"))[0] == "PARAM_CHANGE"
        await restarted(world)
        await world.ready()
        assert causes(world) == []
        await trades_again(world)


async def test_a_market_that_changed_while_exposed_is_an_operators_to_end_in_the_next_run() -> None:
    """META-4, SAFE-2, STOP-1: PARAM_CHANGE as a HALT outlives the process; there a person ends it, and it trades."""
    settings = bot_settings({**BRIEF, "position.time_stop_ms": 60_000, "safety.halt_on_disconnect": "never"})
    async with open_world(settings, dislocated().pulse(90).rising(30, 80).source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()) and not world.bot.posts.in_flight, 5)
        await from_now_on(world, sndk("growthMode", "disabled"))
        cut_account(world)
        await flat_in_halt(world)
        assert ("PARAM_CHANGE", "HALT", "never") in causes(world)
        assert refusals(operate(world, "unhalt")) == ["PARAM_CHANGE"]
        await restarted(world)
        assert ("PARAM_CHANGE", "HALT", "operator") in causes(world)
        await released(world)
