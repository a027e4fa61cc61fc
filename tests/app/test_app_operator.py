"""An operator's commands to the running bot, from the bytes of the command to the wire and the audit log (OPS-5, STOP-5)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.records import StateRecord
from hip3.exchange.faults import Delay, Disconnect, Faults, HttpAnswer, Point, ReplaceBody, Rule
from hip3.fsm.safety import SafetyMode
from hip3.ops import latch
from hip3.ops.commands import MOST_REASON, Operator
from hip3.ops.control_server import command, open_control_socket
from hip3.simulate.world import START_MS, open_world
from tests.app.app_builders import FAST, Script, bot_settings, by_hand, closes, dislocated, entries, judged
from tests.app.failures.scenes import Tripwire
from tests.app.operator_desk import BRIEF, HALT, LIVE, SAFE, audit, beside, codes, flat_in_halt, operate, refusals

# ---- tightening


async def test_a_hold_stops_entries_and_a_promotion_ends_it() -> None:
    """STOP-5, OPS-5, SAFE-1: after a hold no entry leaves, the time stop works; policy does not undo it, a person does."""
    async with open_world(bot_settings(BRIEF), Script().calm().rising(2, 14).source(), config=FAST) as world:
        await world.until(lambda: len(entries(world)) == 1, 4)
        answer = operate(world, "hold")
        assert (answer["ok"], answer["before"], answer["mode"], codes(answer)) == (True, LIVE, SAFE, ["OPERATOR_HOLD"])
        assert answer["causes"][0]["message"] == "ada: a test"
        await world.at(8000)
        assert (len(entries(world)), len(closes(world)), world.positions()) == (1, 1, {})
        assert "OPERATOR_HOLD" in str(judged(world, "Rejected(HardStop)")[0].fields["detail"])
        answer = operate(world, "promote")
        assert (answer["ok"], answer["mode"], codes(answer)) == (True, LIVE, [])
        await world.until(lambda: len(entries(world)) > 1, 3)
        assert audit(world) == [
            ("ada", LIVE, SAFE, "OPERATOR_HOLD"),
            ("ada", SAFE, SAFE, "MANUAL_PROMOTE"),
            ("ada", SAFE, LIVE, "MANUAL_PROMOTE"),
        ]


async def test_a_kill_cancels_and_flattens_at_once() -> None:
    """STOP-5, STOP-2, LESSONS 41: OPERATOR_KILL is a HALT: what the venue lists is cancelled and closed; no entry."""
    async with open_world(bot_settings(), Script().calm().rising(2, 9).source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()) and not world.bot.posts.in_flight, 4)
        status = await by_hand(world, OrderSide.BUY, "590", "0.05", tif=TimeInForce.GTC)
        answer = operate(world, "kill")
        assert (answer["mode"], codes(answer)) == (HALT, ["OPERATOR_KILL"])
        await flat_in_halt(world)
        assert (world.positions(), world.open_orders()) == ({}, ())
        assert [i["o"] for a in world.actions("cancel") for i in a["cancels"]] == [status["resting"]["oid"]]
        await world.at(9500)
        assert len(entries(world)) == 1
        assert audit(world) == [("ada", LIVE, HALT, "OPERATOR_KILL")]


@pytest.mark.parametrize("mode", [LIVE, SAFE, HALT])
async def test_an_operator_flattens_in_every_mode(mode: str) -> None:
    """SAFE-1, STOP-5: a kill closes a position by somebody else's hand in each mode, in HALT too."""
    settings = bot_settings({"safety.startup_policy": "auto" if mode == LIVE else "manual"})
    async with open_world(settings, Script().calm().pulse(40).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("ready_trading")), 3)
        await world.at(500)
        if mode == HALT:
            operate(world, "kill")
            await flat_in_halt(world)
        assert world.bot.safety.mode.name == mode
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        answer = operate(world, "kill")
        assert (answer["ok"], answer["mode"]) == (True, HALT)
        await world.until(lambda: not world.positions(), 5)
        assert len(closes(world)) == 1


async def test_hold_and_kill_are_never_refused() -> None:
    """STOP-5, LESSONS 6: without a reason, with a page of it, without a store, in HALT and on the way out."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        assert Operator(world.bot).answer(b'{"command": "hold"}', "ada")["ok"]
        assert world.bot.safety.causes[0].message == "ada: no reason given"
        world.recorder.fails = "the disk is full"
        assert operate(world, "kill", reason="x\n" * 2000)["mode"] == HALT
        assert len(world.bot.safety.causes[0].message) == MOST_REASON + len("ada: ")
        assert operate(world, "hold")["ok"]
        world.recorder.fails = None
        world.stop.request("Ctrl+C")
        await world.until(lambda: world.bot.lifecycle.state.name != "RUNNING", 2)
        assert operate(world, "hold")["ok"]
        assert operate(world, "kill")["ok"]
        await world.ended.wait()
        assert world.result is not None
        assert (world.result.outcome.exit_code, world.result.outcome.flat) == (0, True)


async def test_an_observer_can_be_held_and_killed() -> None:
    """STOP-5, PRD-1: there is nothing to flatten, and the mode says so; a promotion stays impossible."""
    settings = bot_settings({"mode": "observation", "safety.startup_policy": "manual"})
    async with open_world(settings, Script().calm().source(), config=FAST) as world:
        await world.started.wait()
        assert operate(world, "hold")["mode"] == SAFE
        assert operate(world, "kill")["mode"] == HALT
        assert operate(world, "unhalt")["mode"] == SAFE
        assert set(refusals(operate(world, "promote"))) == {"OBSERVATION", "READY"}
        assert (await world.end()).exit_code == 0


# ---- promotion


async def test_a_promotion_by_hand_is_what_policy_manual_waits_for() -> None:
    """SAFE-3, SAFE-4: before READY it is refused by name; then MANUAL_PROMOTE lets entries out; a second one is nothing."""
    slow = Rule(Point.INFO, Delay(1000), lambda s: s == "clearinghouseState", uses=1)
    settings = bot_settings({"safety.startup_policy": "manual"})
    source = Script().calm().rising(2, 9).source()
    async with open_world(settings, source, config=FAST, faults=Faults([slow])) as world:
        await world.started.wait()
        assert set(refusals(operate(world, "promote"))) == {"GUARD_HOLD", "READY", "RECONCILE"}
        await world.until(lambda: world.bot.ready.is_ready, 5)
        await world.at(3500)
        assert (entries(world), world.bot.safety.mode) == ([], SafetyMode.ARMED_SAFE)
        assert operate(world, "promote")["mode"] == LIVE
        await world.until(lambda: len(entries(world)) == 1, 3)
        assert operate(world, "promote")["did"] == "nothing: ARMED_LIVE already"
        (change,) = world.events("safety_mode")
        assert (change.fields["reason"], change.fields["message"]) == ("MANUAL_PROMOTE", "ada: a test")


async def test_a_promotion_is_refused_while_a_cause_holds() -> None:
    """SAFE-3, LESSONS 37: a cause that ends by itself is no operator's to end: it is named, and the hold stays too."""
    body = json.dumps({"time": START_MS + 6000, "specialStatuses": None})
    skewed = Rule(Point.INFO, ReplaceBody(body), lambda s: s == "exchangeStatus", uses=2)
    async with open_world(bot_settings(), Script().calm().pulse(70).source(), config=FAST, faults=Faults([skewed])) as world:
        await world.until(lambda: world.app is not None and world.bot.ready.is_ready, 4)
        operate(world, "hold")
        answer = operate(world, "promote")
        assert refusals(answer) == ["CLOCK_SKEW"]
        assert "ends by itself" in answer["refused"][0]["why"]
        assert (set(codes(answer)), answer["mode"]) == ({"OPERATOR_HOLD", "CLOCK_SKEW", "BOOTSTRAP"}, SAFE)
        assert ("ada", SAFE, SAFE, "REFUSED") in audit(world)
        await world.at(62_000)
        assert operate(world, "promote")["mode"] == LIVE


async def test_a_promotion_is_refused_while_an_order_is_in_doubt() -> None:
    """SAFE-3: the books are not reconciled while the venue has not said what became of an order."""
    lost = Rule(Point.BEFORE_ADMISSION, Disconnect(), lambda s: s == "order")
    mute = Rule(Point.INFO, HttpAnswer(500), lambda s: s == "orderStatus", uses=None)
    settings = bot_settings({"safety.halt_on_disconnect": "never"})
    faults = Faults([lost, mute, Rule(Point.BEFORE_ADMISSION, Delay(60_000), lambda s: s == "noop", uses=None)])
    async with open_world(settings, dislocated().pulse(40).source(), config=FAST, faults=faults) as world:
        await world.until(lambda: bool(world.app and world.bot.ledger.in_doubt()), 5)
        operate(world, "hold")
        await world.until(lambda: world.bot.ready.is_ready, 8)
        answer = operate(world, "promote")
        assert refusals(answer) == ["RECONCILE"]
        assert "is in doubt" in answer["refused"][0]["why"]


@pytest.mark.parametrize("raw", [b"", b"kill", b"[]", b'{"command": "sell"}', b'{"command": "hold", "by": "eve"}', b"\xff"])
async def test_what_is_no_command_changes_nothing(raw: bytes) -> None:
    """LESSONS 37: an unknown word or field, a name stated in the command: an error, and no row."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        assert str(Operator(world.bot).answer(raw, "ada")["error"]).startswith("not a command: ")
        assert (world.bot.safety.mode, audit(world)) == (SafetyMode.ARMED_LIVE, [])


@pytest.mark.parametrize(
    ("words", "refuses"),
    [
        ({"command": "promote"}, True),
        ({"command": "unhalt", "reason": " "}, True),
        ({"command": "maintenance-skip"}, True),
        ({"command": "reset-safety", "mode": "ARMED_LIVE", "reason_code": "MANUAL_PROMOTE"}, True),
        ({"command": "reset-safety", "mode": "HALT", "reason_code": "OPERATOR_KILL"}, False),
        ({"command": "hold"}, False),
        ({"command": "kill"}, False),
    ],
)
async def test_what_loosens_needs_a_reason_and_what_tightens_none(words: dict[str, str], refuses: bool) -> None:
    """STOP-1, STOP-5, REC-3: over the socket too; without one nothing is done and no row is written."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        answer = Operator(world.bot).answer(json.dumps(words).encode(), "ada")
        assert ("needs a reason" in str(answer.get("error"))) == refuses
        assert (audit(world) == []) == refuses


async def test_commands_come_over_the_socket(tmp_path: Path) -> None:
    """OPS-1, OPS-5: hold and promote from another thread, through the socket, while the bot trades."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        async with trio.open_nursery() as ring_0:
            control = open_control_socket(tmp_path, 7)
            ring_0.start_soon(control.serve, Operator(world.bot).answer)
            held = await beside(lambda: command(tmp_path, {"command": "hold", "reason": "lunch"}, 5.0))
            assert (held["mode"], world.bot.safety.mode) == (SAFE, SafetyMode.ARMED_SAFE)
            live = await beside(lambda: command(tmp_path, {"command": "promote", "reason": "back"}, 5.0))
            assert (live["mode"], live["by"]) == (LIVE, held["by"])
            ring_0.cancel_scope.cancel()


# ---- over the life of the process


async def test_a_halt_outlives_the_process() -> None:
    """STOP-1, SAFE-2, LESSONS 9, 36: killed in HALT and started again: HALT, flattened anew; entries by a person only."""
    async with open_world(bot_settings(), Script().calm().pulse(200).rising(80, 90).source(), config=FAST) as world:
        await world.ready()
        operate(world, "kill")
        since = world.bot.safety.causes[0].since_ms
        await world.kill()
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")  # while nobody looks
        world.restart()
        await world.started.wait()
        assert (world.bot.safety.mode, world.bot.safety.causes[0].since_ms) == (SafetyMode.HALT, since)
        await flat_in_halt(world)
        assert world.positions() == {}
        assert (await world.end()).exit_code == 0
        world.restart()
        await world.started.wait()
        assert world.bot.safety.mode is SafetyMode.HALT
        await flat_in_halt(world)
        assert operate(world, "unhalt")["mode"] == SAFE
        await world.kill()
        await trio.sleep(60)  # more starts in a minute are more questions than the venue answers
        world.restart()
        await world.started.wait()
        await world.until(lambda: world.bot.ready.is_ready, 5)
        await world.at(82_000)
        assert (entries(world), world.bot.safety.mode) == ([], SafetyMode.ARMED_SAFE)  # an unhalt is no promotion
        assert operate(world, "promote")["mode"] == LIVE
        await world.until(lambda: bool(entries(world)), 5)
        await world.end()
        world.restart()
        await world.ready()  # nothing is left of it: policy promotes


async def test_a_hold_outlives_the_process() -> None:
    """SAFE-2: restart keeps: policy auto does not promote over an operator's hold."""
    async with open_world(bot_settings(), Script().calm().pulse(30).rising(6, 9).source(), config=FAST) as world:
        await world.ready()
        operate(world, "hold")
        assert (await world.end()).exit_code == 0
        world.restart()
        await world.started.wait()
        await world.at(9000)
        assert (entries(world), world.bot.safety.mode) == ([], SafetyMode.ARMED_SAFE)
        assert "OPERATOR_HOLD" in [c.code.value for c in world.bot.safety.causes]


async def test_a_crash_is_a_halt_of_the_next_start() -> None:
    """STOP-1, LESSONS 9: restarted by whoever restarts it, a bot that crashed waits for somebody to look."""
    journal = Tripwire(event="signal_judged", armed=True)
    source = Script().calm().pulse(60).rising(2, 4).rising(20, 24, start_px=620).source()
    async with open_world(bot_settings(), source, config=FAST, journal=journal) as world:
        await world.ended.wait()
        assert world.result is not None
        assert world.result.outcome.exit_code == 5
        world.restart()
        await world.started.wait()
        cause = world.bot.safety.causes[0]
        assert (world.bot.safety.mode, cause.code.value, cause.clears.value) == (
            SafetyMode.HALT,
            "INTERNAL_ERROR",
            "operator",
        )
        await flat_in_halt(world)
        assert operate(world, "unhalt")["mode"] == SAFE


async def test_a_damaged_latch_halts_the_next_start() -> None:
    """STOP-1: text in the store that nobody can read means HALT, and an operator can end it once he has looked."""
    async with open_world(bot_settings(), Script().calm().pulse(60).rising(4, 9).source(), config=FAST) as world:
        await world.ready()
        await world.end()
        world.recorder.put(StateRecord(latch.KEY, '{"version": 1, "causes": [', world.clock.wall_ms()))
        world.recorder.commit()
        world.restart()
        await world.started.wait()
        assert world.bot.safety.mode is SafetyMode.HALT
        await flat_in_halt(world)
        assert codes(operate(world, "hold"))[0] == "INTERNAL_ERROR"
        await world.at(9500)
        assert entries(world) == []
        assert operate(world, "unhalt")["mode"] == SAFE
