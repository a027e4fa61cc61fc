"""A HALT that cannot be ended flat: its own cause beside the first one, from fault to end (STOP-2, SAFE-4, RISK-1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hip3.cli.doctor_cmd import diagnosis, diagnosis_lines
from hip3.core.records import Transition
from hip3.exchange.faults import HttpAnswer, Point, RefuseText, Rule
from hip3.fsm.safety import SafetyMode
from hip3.ops.journal_file import json_value
from hip3.ops.status_view import status_view
from hip3.simulate.world import World
from tests.app.failures.scenes import SNDK, cut, holding, settings_of, trading, world_of
from tests.app.operator_desk import operate, refusals

UNANSWERED = Rule(Point.INFO, HttpAnswer(500), uses=None)
"""Every question fails: nobody can say what is held."""
REFUSED = Rule(Point.BEFORE_ADMISSION, RefuseText("Only post-only orders allowed"), lambda kind: kind == "order", uses=None)
"""Every close is refused, again and again."""
faults = pytest.mark.parametrize("fault", [UNANSWERED, REFUSED], ids=["unanswered", "refused"])


def failed(world: World) -> list[tuple[str, str, str]]:
    """FLATTEN_FAILED of the halt procedure in force: severity, source, who ends it."""
    found = [c for c in world.bot.safety.causes if (c.code.value, c.source) == ("FLATTEN_FAILED", "halt procedure")]
    return [(c.severity.name, c.source, c.clears.value) for c in found]


def tries(world: World) -> int:
    return len(world.events("halt_flatten"))


def status(world: World) -> Any:
    """The status as its bytes go to `hip3 status` and `hip3 doctor`."""
    return json.loads(json.dumps(status_view(world.bot, pid=1, config_hash=""), default=json_value))


def audited(world: World) -> list[tuple[str, str]]:
    """Rows of the audit log about it: what it forbade before and after."""
    rows = [r for r in world.recorder.records if isinstance(r, Transition) and r.category == "cause"]
    return [(r.from_state, r.to_state) for r in rows if r.entity_id == "FLATTEN_FAILED:halt procedure"]


async def halted(world: World, fault: Rule) -> None:
    """A position is held, the links are lost, and the flatten of the HALT cannot do its work."""
    await holding(world, SNDK)
    world.faults.add(fault)
    cut(world)
    await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 5)


async def flat(world: World) -> None:
    await world.until(lambda: any(n.fields["flat"] for n in world.events("halt_flatten")), 120)


@faults
async def test_one_try_that_fails_is_a_cause_until_a_certificate_says_flat(autojump_clock: object, fault: Rule) -> None:
    """STOP-2, SAFE-1, SAFE-4 FLATTEN_FAILED: shown with what is left by status, doctor, journal and audit log; the first
    cause keeps its time; a flat certificate ends it, and the HALT waits for its operator as ever."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await halted(world, fault)
        (first,) = world.bot.safety.causes
        await world.until(lambda: bool(failed(world)), 40)
        assert failed(world) == [("SAFE", "halt procedure", "auto")]
        assert world.bot.safety.causes[0] == first
        (shown,) = [c for c in status(world)["safety"]["causes"] if c["code"] == "FLATTEN_FAILED"]
        assert "has failed 1 times in a row; left: " in shown["message"]
        said = "\n".join(diagnosis_lines(diagnosis(status(world))))
        assert "SAFE FLATTEN_FAILED, by halt procedure" in said
        assert "with a certificate that says flat" in said
        assert [n.fields["after"] for n in world.events("cause") if n.fields["code"] == "FLATTEN_FAILED"] == ["SAFE"]
        world.faults.rules.remove(fault)
        await world.until(lambda: not failed(world), 60)
        assert (world.positions(), world.bot.safety.mode) == ({}, SafetyMode.HALT)
        assert [c for c in world.bot.safety.causes if c.severity.name == "HALT"] == [first]
        assert audited(world) == [("none", "SAFE"), ("SAFE", "none")]
        await world.until(lambda: world.bot.ready.is_ready, 30)
        assert operate(world, "unhalt")["mode"] == "ARMED_SAFE"
        assert operate(world, "promote")["mode"] == "ARMED_LIVE"


@faults
async def test_tries_above_the_limit_are_a_halt_of_their_own_and_go_on(autojump_clock: object, fault: Rule) -> None:
    """RISK-1, STOP-1, STOP-2: the fourth failure in a row is a latch; trying goes on; unhalt only with a flat certificate,
    and after it the bot trades as before."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await halted(world, fault)
        first = world.bot.safety.causes[0]
        await world.until(lambda: tries(world) == 3, 120)
        assert failed(world) == [("SAFE", "halt procedure", "auto")]
        await world.until(lambda: failed(world) == [("HALT", "halt procedure", "operator")], 60)
        assert tries(world) == 4
        incident = world.bot.safety.incident
        await world.until(lambda: tries(world) == 7, 300)
        assert world.bot.safety.incident == incident  # said once: it is one incident
        assert first in world.bot.safety.causes
        assert "FLAT_CERTIFICATE" in refusals(operate(world, "unhalt"))
        world.faults.rules.remove(fault)
        await flat(world)
        assert failed(world) == [("HALT", "halt procedure", "operator")]
        await world.until(lambda: world.bot.ready.is_ready, 30)
        answer = operate(world, "unhalt")
        assert (answer["mode"], [c["code"] for c in answer["causes"]]) == ("ARMED_SAFE", ["MANUAL_UNHALT"])
        assert operate(world, "promote")["mode"] == "ARMED_LIVE"


async def test_the_limit_of_tries_is_the_configured_one(autojump_clock: object) -> None:
    """RISK-1: `risk.max_flatten_failures` = 1: the second try; 0 is off, and the cause stays one that ends by itself."""
    for most, expected in ((1, "HALT"), (0, "SAFE")):
        settings = settings_of(SNDK, risk={"max_flatten_failures": most})
        async with world_of(settings, trading(SNDK)) as world:
            await halted(world, UNANSWERED)
            await world.until(lambda: tries(world) == (2 if most else 6), 300)  # noqa: B023 - waited for in this round
            assert [severity for severity, _, _ in failed(world)] == [expected]


async def test_what_an_operator_accepts_is_no_cause_any_more(autojump_clock: object) -> None:
    """STOP-1, SAFE-1: with the residue accepted nobody tries any more, so nothing is left that could only end by a try."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await halted(world, REFUSED)
        await world.until(lambda: bool(failed(world)), 40)
        await world.until(lambda: world.bot.ready.is_ready, 30)
        answer = operate(world, "unhalt", accept_residue=True)
        assert (answer["mode"], [c["code"] for c in answer["causes"]]) == ("ARMED_SAFE", ["MANUAL_UNHALT"])
        assert audited(world)[-1] == ("SAFE", "none")


async def test_it_outlives_the_process_as_the_halt_that_it_is(autojump_clock: object) -> None:
    """SAFE-2, STOP-1: killed after the limit: the next run begins in HALT, flattens, and a person ends it."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await halted(world, UNANSWERED)
        await world.until(lambda: tries(world) == 5, 200)
        await world.kill()
        world.faults.rules.clear()
        world.restart()
        await world.started.wait()
        assert failed(world) == [("HALT", "halt procedure", "operator")]
        await flat(world)
        assert (world.positions(), world.bot.safety.mode) == ({}, SafetyMode.HALT)
        await world.until(lambda: world.bot.ready.is_ready, 30)
        assert operate(world, "unhalt")["ok"]
