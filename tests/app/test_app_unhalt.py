"""The end of a HALT by an operator's hand: what refuses it, what it needs, and what it leaves (STOP-1, OPS-5)."""

from __future__ import annotations

import pytest

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Disconnect, Point, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import START_MS, open_world
from tests.app.app_builders import FAST, SNDK, Script, bot_settings, by_hand, closes, cut_account, dislocated, entries
from tests.app.operator_desk import BRIEF, HALT, LIVE, SAFE, audit, codes, flat_in_halt, is_certified, operate, refusals
from tests.app.test_app_metadata import from_now_on, sndk


async def test_an_unhalt_is_refused_while_its_cause_holds() -> None:
    """STOP-1, STOP-3: while the link is down WS_DISCONNECT holds; afterwards ARMED_SAFE, and nothing enters by policy."""
    settings = bot_settings({**BRIEF, "safety.halt_on_disconnect": "always"})
    async with open_world(settings, Script().calm().pulse(60).rising(12, 24).source(), config=FAST) as world:
        await world.ready()
        down = Rule(Point.CONNECT, Disconnect(), uses=None)
        world.faults.add(down)
        cut_account(world)
        await flat_in_halt(world)
        answer = operate(world, "unhalt")
        assert refusals(answer) == ["WS_DISCONNECT"]
        assert "holds still: not READY" in answer["refused"][0]["why"]
        assert answer["mode"] == HALT
        assert refusals(operate(world, "promote"))[0] == "WS_DISCONNECT"
        world.faults.rules.remove(down)
        await world.until(lambda: world.bot.ready.is_ready and is_certified(world), 60)
        answer = operate(world, "unhalt")
        assert (answer["mode"], codes(answer)) == (SAFE, ["MANUAL_UNHALT"])
        began = world.clock.mono_ms()
        await world.at(began + 3000)
        assert (entries(world), world.bot.safety.mode) == ([], SafetyMode.ARMED_SAFE)
        assert operate(world, "promote")["mode"] == LIVE
        await world.until(lambda: bool(entries(world)), 10)


async def test_an_unhalt_needs_a_certificate_or_an_acceptance() -> None:
    """STOP-1, STOP-2: not flat is refused with what is left; accepted by word, it is ARMED_SAFE and the time stop closes."""
    script = dislocated().quote(3000, None, "600.1").quote(16_000, "599", "600.1").pulse(30)
    settings = bot_settings({**BRIEF, "shutdown.flatten_deadline_s": 2, "position.time_stop_ms": 8000})
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()) and not world.bot.posts.in_flight, 4)
        await world.at(3200)
        operate(world, "kill")
        assert refusals(operate(world, "unhalt")) == ["FLAT_CERTIFICATE"]
        await world.until(lambda: world.bot.halt_flatten is not None, 5)
        answer = operate(world, "unhalt")
        assert refusals(answer) == ["FLAT_CERTIFICATE"]
        assert f"{SNDK}" in answer["refused"][0]["why"]
        answer = operate(world, "unhalt", accept_residue=True)
        assert (answer["ok"], answer["mode"]) == (True, SAFE)
        assert "what is left accepted" in answer["causes"][0]["message"]
        await world.until(lambda: not world.positions(), 30)
        assert world.bot.safety.mode is SafetyMode.ARMED_SAFE


async def test_a_certificate_of_one_incident_is_not_valid_for_the_next() -> None:
    """LESSONS 32, STOP-2: a second HALT during the first is looked at again at once, and only then can it be ended."""
    async with open_world(bot_settings(), Script().calm().pulse(30).source(), config=FAST) as world:
        await world.ready()
        operate(world, "kill")
        await flat_in_halt(world)
        operate(world, "kill", reason="again")
        assert refusals(operate(world, "unhalt")) == ["FLAT_CERTIFICATE"]
        began = world.clock.mono_ms()
        await flat_in_halt(world)
        assert world.clock.mono_ms() - began < 2000
        assert operate(world, "unhalt")["mode"] == SAFE
        operate(world, "kill")
        assert refusals(operate(world, "unhalt")) == ["FLAT_CERTIFICATE"]


async def test_a_kill_during_a_flatten_joins_it() -> None:
    """STOP-2, STOP-5: the flatten that runs goes on, a second look follows, and nothing is closed twice."""
    settings = bot_settings({"safety.halt_on_disconnect": "exposed"})
    async with open_world(settings, dislocated().pulse(30).source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()) and not world.bot.posts.in_flight, 4)
        cut_account(world)
        await world.until(lambda: bool(world.events("way_out")), 3)
        answer = operate(world, "kill")
        assert set(codes(answer)) == {"WS_DISCONNECT", "OPERATOR_KILL"}
        await flat_in_halt(world)
        assert (len(closes(world)), world.positions()) == (1, {})
        assert len(world.events("halt_flatten")) == 2
        await world.until(lambda: world.bot.ready.is_ready and not world.bot.is_exposed, 10)
        assert operate(world, "unhalt")["mode"] == SAFE


async def test_a_position_opened_after_the_certificate_forbids_an_unhalt() -> None:
    """STOP-2: a certificate says how it was; a fill since then is exposure, until the procedure has closed it."""
    async with open_world(bot_settings(), Script().calm().pulse(30).source(), config=FAST) as world:
        await world.ready()
        operate(world, "kill")
        await flat_in_halt(world)
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await world.until(lambda: bool(world.bot.ledger.held()), 3)
        assert refusals(operate(world, "unhalt")) == ["EXPOSURE"]
        await world.until(lambda: not world.positions() and not world.bot.is_exposed, 10)
        assert operate(world, "unhalt")["mode"] == SAFE


async def test_the_loss_of_a_day_holds_until_the_day_is_over() -> None:
    """GATE-6, RISK-1, STOP-1: an operator cannot trade on after the day's loss; at midnight UTC he can end the HALT."""
    settings = bot_settings({**BRIEF, "safety.auto_stop_loss_usd": 0.01})
    late = START_MS + 86_400_000 - 30_000
    async with open_world(settings, dislocated().pulse(60).source(), config=FAST, start_ms=late) as world:
        await world.until(lambda: bool(world.app) and world.bot.safety.mode is SafetyMode.HALT, 8)
        await flat_in_halt(world)
        answer = operate(world, "unhalt")
        assert refusals(answer) == ["DAILY_LOSS"]
        assert "holds still: lost 0.0" in answer["refused"][0]["why"]
        await world.at(30_500)
        assert operate(world, "unhalt")["mode"] == SAFE


async def test_a_store_that_fails_holds_its_halt_until_it_writes_again() -> None:
    """STO-4, STOP-1: the command itself is the proof: its audit row can be written or it cannot."""
    async with open_world(bot_settings(), Script().calm().pulse(30).source(), config=FAST) as world:
        await world.ready()
        world.recorder.fails = "no space left"
        operate(world, "hold")
        assert world.bot.safety.mode is SafetyMode.HALT
        await flat_in_halt(world)
        assert refusals(operate(world, "unhalt")) == ["STORAGE_UNAVAILABLE"]
        world.recorder.fails = None
        assert operate(world, "unhalt")["mode"] == SAFE
        assert ("ada", HALT, SAFE, "MANUAL_UNHALT") in audit(world)


async def test_what_ends_with_the_process_is_not_an_operators_to_end() -> None:
    """SAFE-1, META-4: a market that changed while exposed is a HALT that only a new start ends; it is named."""
    async with open_world(bot_settings({"safety.halt_on_disconnect": "never"}), dislocated().pulse(30).source()) as world:
        await world.until(lambda: bool(world.positions()) and not world.bot.posts.in_flight, 5)
        await from_now_on(world, sndk("growthMode", "disabled"))
        cut_account(world)
        await flat_in_halt(world)
        assert codes(operate(world, "hold"))[0] == "PARAM_CHANGE"
        answer = operate(world, "unhalt", accept_residue=True)
        assert refusals(answer) == ["PARAM_CHANGE"]
        assert "ends with this process only" in answer["refused"][0]["why"]
        assert answer["mode"] == HALT


# ---- reset-safety


@pytest.mark.parametrize(
    ("options", "says", "mode"),
    [
        ({"mode": "SAFE", "reason_code": "MANUAL_UNHALT"}, "--mode", LIVE),
        ({"mode": HALT, "reason_code": "MANUAL_UNHALT"}, "--reason-code", LIVE),
        ({"mode": SAFE, "reason_code": "DAILY_LOSS"}, "--reason-code", LIVE),
        ({"mode": SAFE, "reason_code": "MANUAL_UNHALT"}, "MODE", LIVE),
        ({"mode": LIVE, "reason_code": "MANUAL_PROMOTE"}, "MODE", LIVE),
        ({"mode": SAFE, "reason_code": "OPERATOR_HOLD"}, None, SAFE),
        ({"mode": SAFE, "reason_code": "MANUAL_UNHALT", "allow_non_halt": True}, None, SAFE),
        ({"mode": LIVE, "reason_code": "MANUAL_PROMOTE", "allow_non_halt": True}, None, LIVE),
        ({"mode": HALT, "reason_code": "OPERATOR_KILL"}, None, HALT),
    ],
)
async def test_a_reset_goes_where_its_command_may_go(options: dict[str, object], says: str | None, mode: str) -> None:
    """OPS-5: from ARMED_LIVE, each wanted mode with each kind of reason; what is refused says which argument."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        answer = operate(world, "reset-safety", **options)
        assert answer["mode"] == mode
        assert [o["what"] for o in answer["refused"]] == ([says] if says else [])


async def test_a_reset_of_a_halt_is_an_unhalt_and_a_second_step_promotes() -> None:
    """OPS-5, SAFE-1, SAFE-3: never straight to live; without a HALT --allow-non-halt is needed; a hold is ended by it."""
    async with open_world(bot_settings(), Script().calm().pulse(30).source(), config=FAST) as world:
        await world.ready()
        operate(world, "kill")
        await flat_in_halt(world)
        live = {"mode": LIVE, "reason_code": "MANUAL_PROMOTE", "allow_non_halt": True}
        assert refusals(operate(world, "reset-safety", **live)) == ["MODE"]
        unhalt = {"mode": SAFE, "reason_code": "MANUAL_UNHALT"}
        assert operate(world, "reset-safety", **unhalt)["mode"] == SAFE
        operate(world, "hold")
        answer = operate(world, "reset-safety", **unhalt, allow_non_halt=True)
        assert (answer["did"].split(";")[0], codes(answer)) == ("ARMED_SAFE: OPERATOR_HOLD ended", ["MANUAL_UNHALT"])
        assert operate(world, "reset-safety", **live)["mode"] == LIVE
