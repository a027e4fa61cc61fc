"""The seven guards: from what the owner of each measures to its level, to the mode where it holds, and back (RISK-3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from hip3.cli.status_cmd import status_lines
from hip3.core.guards import GuardLevel, GuardName
from hip3.core.ids import OrderSide
from hip3.exchange.faults import Drop, Faults, HttpAnswer, Point, ReplaceBody, Rule
from hip3.fsm.safety import SafetyMode
from hip3.ops.journal_file import json_value
from hip3.ops.status_view import status_view
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import FAST, Script, bot_settings, by_hand, cut_account, dislocated, entries, judged, verdicts
from tests.app.operator_desk import codes, operate, refusals

BRIEF = {"position.time_stop_ms": 2000}


def held(world: World) -> set[str]:
    """Guards whose HOLD is in force."""
    return {c.source for c in world.bot.safety.causes if c.code.value == "GUARD_HOLD"}


def level(world: World, name: GuardName) -> GuardLevel:
    return world.bot.guards.level(name)


async def becomes(world: World, name: GuardName, expected: GuardLevel) -> None:
    await world.until(lambda: level(world, name) is expected, 1)


async def corrected(world: World, times: int) -> None:
    """Until so many corrections were made: two readings of the account, a minute apart."""
    await world.until(lambda: len(world.events("position_corrected")) == times, 130)


async def test_a_guard_that_has_never_reported_holds_until_it_does() -> None:
    """RISK-3: at the start the silent ones are causes; within 3 s all have said OK, and policy promotes by itself."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.started.wait()
        assert {"cancel_on_disconnect", "snapshot_diff"} <= held(world) <= {name.value for name in GuardName}
        await world.ready()
        assert world.clock.mono_ms() < 3000
        assert {level(world, name) for name in GuardName} == {GuardLevel.OK}
        assert held(world) == set()


async def test_a_silent_comparison_keeps_entries_out() -> None:
    """RISK-3: while the account cannot be read, snapshot_diff has said nothing: entries are refused, then it trades."""
    broken = Rule(Point.INFO, HttpAnswer(500), lambda s: s == "clearinghouseState", skip=1, uses=2)
    source = Script().calm().rising(2, 9).source()
    async with open_world(bot_settings(), source, config=FAST, faults=Faults([broken])) as world:
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 4)
        assert held(world) == {"snapshot_diff"}
        assert "GUARD_HOLD" in str(judged(world, "Rejected(HardStop)")[0].fields["detail"])
        await world.until(lambda: bool(entries(world)), 9)
        assert held(world) == set()


async def test_evidence_that_grows_old_holds_until_there_is_new() -> None:
    """RISK-3, LESSONS 3: five minutes without an answer about clock and budget are no OK; the next answer ends it."""
    mute = Rule(Point.INFO, HttpAnswer(500), lambda s: s == "exchangeStatus", skip=2, uses=None)
    script = Script().calm().pulse(420).rising(310, 312)
    async with open_world(bot_settings(), script.source(), config=FAST, faults=Faults([mute])) as world:
        await world.ready()
        await world.until(lambda: bool(held(world)), 400)
        assert held(world) == {"clock_skew", "rate_limit"}
        assert 300_000 < world.clock.mono_ms() < 306_000
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 10)
        assert entries(world) == []
        world.faults.rules.clear()
        await world.until(lambda: held(world) == set() and world.bot.safety.mode is SafetyMode.ARMED_LIVE, 10)


async def test_the_status_shows_each_guard_with_evidence_and_age() -> None:
    """RISK-3, LESSONS 3: level, words and age of every guard, and the age grows until the next report."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()

        def shown() -> dict[str, dict[str, Any]]:
            view = json.loads(json.dumps(status_view(world.bot, pid=1, config_hash="0"), default=json_value))
            return {row["name"]: row for row in view["guards"]}

        before = shown()
        assert set(before) == {name.value for name in GuardName}
        assert all(row["level"] == "OK" and row["evidence"] for row in before.values())
        text = status_lines(json.loads(json.dumps(status_view(world.bot, pid=1, config_hash="0"), default=json_value)))
        assert any("guard    OK    rate_limit: 0 used of 10000" in line for line in text)
        await trio.sleep(5)
        after = shown()
        assert after["rate_limit"]["age_ms"] == before["rate_limit"]["age_ms"] + 5000
        assert after["kill_caps"]["age_ms"] <= 1000


# ---- what each measures


@pytest.mark.parametrize(
    ("offset_ms", "expected", "mode"),
    [
        (1900, GuardLevel.OK, SafetyMode.ARMED_LIVE),
        (3000, GuardLevel.WARN, SafetyMode.ARMED_LIVE),
        (6000, GuardLevel.ERROR, SafetyMode.ARMED_SAFE),
    ],
)
async def test_clock_skew_is_the_distance_of_the_clocks(offset_ms: int, expected: GuardLevel, mode: SafetyMode) -> None:
    """RISK-3, NON-2: server time is asked at the start and every 60 s; above 2 s it warns, above 5 s entries end."""
    body = json.dumps({"time": START_MS + offset_ms, "specialStatuses": None})
    skewed = Rule(Point.INFO, ReplaceBody(body), lambda s: s == "exchangeStatus", uses=2)
    async with open_world(bot_settings(), Script().calm().pulse(70).source(), config=FAST, faults=Faults([skewed])) as world:
        await world.started.wait()
        await world.at(2000)
        assert (level(world, GuardName.CLOCK_SKEW), world.bot.safety.mode) == (expected, mode)
        await world.at(63_000)  # the answer after a minute shows none
        assert (level(world, GuardName.CLOCK_SKEW), world.bot.safety.mode) == (GuardLevel.OK, SafetyMode.ARMED_LIVE)


@pytest.mark.parametrize(("used", "expected"), [(100, GuardLevel.OK), (9000, GuardLevel.WARN), (9900, GuardLevel.ERROR)])
async def test_rate_limit_is_the_rest_of_the_action_budget(used: int, expected: GuardLevel) -> None:
    """RISK-3, LESSONS 40: below a tenth it warns; in the reserve no entry goes (GATE-5)."""
    body = json.dumps({"cumVlm": "0", "nRequestsUsed": used, "nRequestsCap": 10_000, "nRequestsSurplus": 0})
    said = Rule(Point.INFO, ReplaceBody(body), lambda s: s == "userRateLimit", uses=None)
    async with open_world(bot_settings(), dislocated().source(), config=FAST, faults=Faults([said])) as world:
        await world.ready()
        await world.at(3000)
        assert level(world, GuardName.RATE_LIMIT) is expected
        report = world.bot.guards.last(GuardName.RATE_LIMIT)
        assert report is not None
        assert f"{used} used of 10000" in report.evidence
        assert bool(entries(world)) is (expected is not GuardLevel.ERROR)


async def test_cancel_on_disconnect_follows_the_session() -> None:
    """RISK-3, STOP-3: OK while the session lives, ERROR while it is lost; a policy of never is a warning for as long."""
    for policy, alive in (("exposed", GuardLevel.OK), ("never", GuardLevel.WARN)):
        settings = bot_settings({"safety.halt_on_disconnect": policy})
        async with open_world(settings, Script().calm().source(), config=FAST) as world:
            await world.ready()
            assert level(world, GuardName.CANCEL_ON_DISCONNECT) is alive
            cut_account(world)
            await becomes(world, GuardName.CANCEL_ON_DISCONNECT, GuardLevel.ERROR)
            await world.ready()
            assert level(world, GuardName.CANCEL_ON_DISCONNECT) is alive


async def test_kill_caps_warn_before_they_end_trading() -> None:
    """RISK-3: from four fifths of a loss limit it warns, and it is ERROR while a crossed one is not acknowledged."""
    script = dislocated().rising(6, 6, start_px=620).rising(10, 10, start_px=640)
    async with open_world(
        bot_settings({**BRIEF, "risk.max_cumulative_loss_usd": 0.06}), script.source(), config=FAST
    ) as world:
        await world.until(lambda: len(world.events("position_closed")) == 1, 6)
        await world.at(5500)
        assert level(world, GuardName.KILL_CAPS) is GuardLevel.OK
        await world.until(lambda: len(world.events("position_closed")) == 2, 6)
        await world.at(9500)
        assert level(world, GuardName.KILL_CAPS) is GuardLevel.WARN
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 6)
        await world.at(14_000)
        assert level(world, GuardName.KILL_CAPS) is GuardLevel.ERROR


async def test_a_maintenance_window_stops_entries_while_it_is_open() -> None:
    """RISK-3: a warning before, MAINTENANCE_WINDOW inside, exits go on, and it trades again by itself afterwards."""
    keys = {**BRIEF, "risk.maintenance_windows": ["Thu 00:01-00:02"], "position.time_stop_ms": 3000}
    script = Script().calm().pulse(130).rising(58, 59).rising(62, 64, start_px=620).rising(122, 124, start_px=640)
    async with open_world(bot_settings(keys), script.source(), config=FAST) as world:
        await world.ready()
        assert level(world, GuardName.MAINTENANCE_CALENDAR) is GuardLevel.WARN
        await world.until(lambda: len(entries(world)) == 1, 60)
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 6)
        assert [c.code.value for c in world.bot.safety.causes] == ["MAINTENANCE_WINDOW"]
        assert level(world, GuardName.MAINTENANCE_CALENDAR) is GuardLevel.ERROR
        await world.until(lambda: world.positions() == {}, 4)
        await world.at(121_500)
        assert (world.bot.safety.mode, len(entries(world))) == (SafetyMode.ARMED_LIVE, 1)
        await world.until(lambda: len(entries(world)) == 2, 4)
        assert level(world, GuardName.MAINTENANCE_CALENDAR) is GuardLevel.OK


async def test_books_that_are_corrected_again_and_again_wait_for_a_person() -> None:
    """RISK-3: a third correction within five minutes is HOLD; a promotion is refused until it is better, then ends it."""
    deaf = (
        Rule(Point.FRAME, Drop(), lambda s: s == "userFills", uses=None),
        Rule(Point.INFO, ReplaceBody("[]"), lambda s: s == "userFillsByTime", uses=None),
    )
    patient = {"position.time_stop_ms": 3_000_000, "position.reduce_only_timeout_ms": 3_000_000}
    keys = {**patient, "reconcile.drift_critical_usd": 1000}
    source = Script().calm().pulse(500).source()
    async with open_world(bot_settings(keys), source, config=FAST) as world:
        await world.ready()
        await by_hand(world, OrderSide.BUY, "600.1", "0.02")
        await world.until(lambda: bool(world.events("fill")), 2)
        world.faults.add(*deaf)
        for n in range(1, 4):
            await by_hand(world, OrderSide.BUY, "600.1", "0.02")
            await corrected(world, n)
            await world.until(lambda: world.bot.ready.is_ready, 5)
            expected = GuardLevel.HOLD if n == 3 else GuardLevel.WARN
            assert level(world, GuardName.SNAPSHOT_DIFF) is expected
        assert (held(world), world.bot.safety.mode) == ({"snapshot_diff"}, SafetyMode.ARMED_SAFE)
        assert "GUARD_HOLD" in refusals(operate(world, "promote"))
        await world.until(lambda: level(world, GuardName.SNAPSHOT_DIFF) is not GuardLevel.HOLD, 320)
        assert held(world) == {"snapshot_diff"}  # better, and still a person's to end
        assert codes(operate(world, "promote")) == []
        assert world.bot.safety.mode is SafetyMode.ARMED_LIVE


async def test_a_measured_hold_outlives_the_process() -> None:
    """RISK-3, SAFE-2, LESSONS 36: killed and started again, the guard's own reports are better, and it is a person's to end
    all the same; what was mere silence is measured anew and keeps nothing."""
    deaf = (
        Rule(Point.FRAME, Drop(), lambda s: s == "userFills", uses=None),
        Rule(Point.INFO, ReplaceBody("[]"), lambda s: s == "userFillsByTime", uses=None),
    )
    keys = {"position.time_stop_ms": 3_000_000, "position.reduce_only_timeout_ms": 3_000_000}
    settings = bot_settings({**keys, "reconcile.drift_critical_usd": 1000})
    async with open_world(settings, Script().calm().pulse(200).rising(80, 120).source(), config=FAST) as world:
        await world.ready()
        await by_hand(world, OrderSide.BUY, "600.1", "0.02")
        await world.until(lambda: bool(world.events("fill")), 2)
        world.faults.add(*deaf)
        for n in range(1, 4):
            await by_hand(world, OrderSide.BUY, "600.1", "0.02")
            await corrected(world, n)
        (cause,) = [c for c in world.bot.safety.causes if c.source == "snapshot_diff"]
        assert (cause.code.value, cause.clears.value) == ("GUARD_HOLD", "operator")
        await world.kill()
        world.faults.rules.clear()
        world.restart()
        await world.until(lambda: world.app is not None and world.bot.ready.is_ready, 20)
        await becomes(world, GuardName.SNAPSHOT_DIFF, GuardLevel.OK)
        await world.until(lambda: held(world) == {"snapshot_diff"}, 5)
        (kept,) = [c for c in world.bot.safety.causes if c.source == "snapshot_diff"]
        assert (kept.since_ms, kept.clears.value) == (cause.since_ms, "operator")
        assert world.bot.safety.mode is SafetyMode.ARMED_SAFE
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 60)
        assert operate(world, "promote")["mode"] == "ARMED_LIVE"
        before = len(judged(world, "Rejected(HardStop)"))
        await world.until(lambda: len(verdicts(world)) > before, 5)  # refused for the position that is held, or not at all
        assert len(judged(world, "Rejected(HardStop)")) == before
