"""The runaway breaker: what leaves in a minute, from the wire to the end of entries and back (RISK-4)."""

from __future__ import annotations

import pytest
import trio

from hip3.core.guards import GuardLevel, GuardName
from hip3.exchange.faults import Drop, Faults, Point, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, MU, SNDK, Script, bot_settings, closes, entries, judged
from tests.app.operator_desk import codes, operate, refusals

BRIEF = {"position.time_stop_ms": 2000}
RISING = Script().calm().rising(2, 30)
BOTH = Script().calm(SNDK, MU).rising(2, 30).rising(2, 30, coin=MU)


def causes(world: World) -> list[str]:
    return [cause.code.value for cause in world.bot.safety.causes]


@pytest.mark.parametrize(
    ("key", "coins", "script"),
    [
        ("risk.max_orders_per_market_per_min", (SNDK,), RISING),
        ("risk.max_orders_per_min", (SNDK, MU), BOTH),
    ],
)
async def test_orders_above_their_limit_stop_entries_for_a_while(key: str, coins: tuple[str, ...], script: Script) -> None:
    """RISK-4: the order above the limit trips RUNAWAY; closes go on; after the cooldown it trades again."""
    keys = {**BRIEF, key: 4, "risk.runaway_cooldown_ms": 8000}
    async with open_world(bot_settings(keys, coins=coins), script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("runaway")), 12)
        (trip,) = world.events("runaway")
        assert f"{key} = 4" in str(trip.fields["why"])
        assert causes(world) == ["RUNAWAY"]
        report = world.bot.guards.last(GuardName.RUNAWAY_BREAKER)
        assert report is not None
        assert report.level is GuardLevel.ERROR
        sent = len(entries(world))
        await world.until(lambda: len(closes(world)) == sent, 4)
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 4)
        assert len(entries(world)) == sent
        await world.until(lambda: world.bot.safety.mode is SafetyMode.ARMED_LIVE, 14)
        await world.until(lambda: len(entries(world)) > sent, 3)


@pytest.mark.parametrize("cooldown_ms", [3000, 6000])
async def test_another_cooldown_ends_at_another_time(cooldown_ms: int) -> None:
    """RISK-4: entries stop for `runaway_cooldown_ms` after the last order above the limit, to the second."""
    keys = {"risk.max_orders_per_min": 1, "risk.runaway_cooldown_ms": cooldown_ms, "position.time_stop_ms": 1000}
    async with open_world(bot_settings(keys), RISING.source(), config=FAST) as world:
        await world.ready()
        await world.at(15_000)
        stopped, live = (n.wall_ms for n in world.events("safety_mode")[1:3])
        assert 0 <= live - stopped - cooldown_ms <= 1000
        assert world.events("safety_mode")[2].fields["after"] == "ARMED_LIVE"


async def test_a_restart_does_not_cut_the_cooldown_short() -> None:
    """RISK-4, SAFE-2, LESSONS 36: the next process has not counted what left, so a person lets entries out again."""
    keys = {**BRIEF, "risk.max_orders_per_min": 2, "risk.runaway_cooldown_ms": 4000}
    async with open_world(bot_settings(keys), RISING.source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("runaway")), 12)
        sent = len(entries(world))
        await world.kill()
        world.restart()
        await world.started.wait()
        await world.until(lambda: world.bot.ready.is_ready, 20)
        await trio.sleep(6)
        assert causes(world) == ["RUNAWAY", "BOOTSTRAP"]
        assert len(entries(world)) == sent
        assert operate(world, "promote")["mode"] == "ARMED_LIVE"


async def test_below_the_limits_or_with_them_off_nothing_trips() -> None:
    """RISK-4: 0 is off, and the default is far above what the pace of entries allows."""
    for keys in ({}, {"risk.max_orders_per_min": 0, "risk.max_orders_per_market_per_min": 0}):
        async with open_world(bot_settings({**BRIEF, **keys}), RISING.source(), config=FAST) as world:
            await world.at(20_000)
            assert world.events("runaway") == []
            assert len(entries(world)) == 6


@pytest.mark.parametrize(
    ("key", "coins"), [("risk.max_cancels_per_market_per_min", (SNDK,)), ("risk.max_cancels_per_min", (SNDK, MU))]
)
async def test_cancels_above_their_limit_stop_entries_and_go_on_themselves(key: str, coins: tuple[str, ...]) -> None:
    """RISK-4, GATE-4: stops whose end is not heard are withdrawn; the cancels trip it, and later ones leave as well."""
    keys = {**BRIEF, key: 1, "position.protective_stop_bps": 100, "risk.runaway_cooldown_ms": 3000}
    deaf = Faults([Rule(Point.FRAME, Drop(), lambda s: s == "orderUpdates", uses=None)])
    async with open_world(bot_settings(keys, coins=coins), BOTH.source(), config=FAST, faults=deaf) as world:
        await world.until(lambda: bool(world.events("runaway")), 14)
        assert f"{key} = 1" in str(world.events("runaway")[0].fields["why"])
        assert "cancels" in str(world.events("runaway")[0].fields["why"])
        await world.until(lambda: world.positions() == {} and world.open_orders() == (), 6)
        await world.at(25_000)
        assert len(world.actions("cancelByCloid") + world.actions("cancel")) > 2


async def test_a_third_trip_within_an_hour_waits_for_a_person() -> None:
    """RISK-3, RISK-4: the guard is HOLD; a promotion is refused while it is, and ends the hold after the cooldown."""
    keys = {**BRIEF, "risk.max_orders_per_min": 1, "risk.runaway_cooldown_ms": 1500}
    async with open_world(bot_settings(keys), Script().calm().rising(2, 60).source(), config=FAST) as world:
        await world.ready()
        await world.until(lambda: "GUARD_HOLD" in causes(world), 40)
        assert len(world.events("runaway")) == 3
        assert set(refusals(operate(world, "promote"))) >= {"GUARD_HOLD"}
        await world.until(lambda: causes(world) == ["GUARD_HOLD"], 10)
        sent = len(entries(world))
        await world.at(world.clock.mono_ms() + 4000)
        assert len(entries(world)) == sent
        assert codes(operate(world, "promote")) == []
        await world.until(lambda: len(entries(world)) > sent, 4)
