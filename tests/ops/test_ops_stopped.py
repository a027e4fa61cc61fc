"""Commands to a bot that does not run: on what it kept, by the same rules, written down or refused (STOP-1, OPS-1)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hip3.core.causes import Cause, Clears, ReasonCode, Safety, Severity
from hip3.core.records import StateRecord, Transition
from hip3.core.remembered import ENDED_KEY, Remembered
from hip3.core.risk import DAY_MS, DailyLimits
from hip3.fsm.safety import SafetyMode
from hip3.ops import latch
from hip3.ops.commands import Request
from hip3.ops.stopped import Obeyed, obey_stopped

NOW = 20_000 * DAY_MS + 1000
KILLED = Cause(ReasonCode.OPERATOR_KILL, Severity.HALT, "operator", NOW - 500, "me", Clears.OPERATOR)
CRASHED = Cause(ReasonCode.INTERNAL_ERROR, Severity.HALT, "process", NOW - 500, "KeyError", Clears.NEVER)
HELD = Cause(ReasonCode.OPERATOR_HOLD, Severity.SAFE, "operator", NOW - 500, "me", Clears.OPERATOR)
LOST = Cause(ReasonCode.DAILY_LOSS, Severity.HALT, "risk", NOW - 500, "lost", Clears.OPERATOR)
FLAT, EXPOSED = f"flat|{NOW - 100}", f"exposed|{NOW - 100}"


def memory(*causes: Cause, ended: str = FLAT) -> Remembered:
    text = latch.write(causes)
    return Remembered({ENDED_KEY: ended} | ({latch.KEY: text} if text is not None else {}))


def obey(command: str, kept: Remembered, *, lost: str = "0", **options: object) -> Obeyed:
    limits = DailyLimits(None, Decimal(20), NOW // DAY_MS, 0, -Decimal(lost))
    request = Request(command=command, reason="a test", **options)  # type: ignore[arg-type]  # as it comes from a user
    return obey_stopped(request, "ada", kept, limits, NOW)


def next_start(obeyed: Obeyed) -> Safety:
    """The causes with which the next run begins."""
    safety = Safety(lambda *_: None, lambda: NOW)
    for record in obeyed.records:
        if isinstance(record, StateRecord):
            latch.restore(safety, record.value)
    return safety


def codes(safety: Safety) -> list[str]:
    return [c.code.value for c in safety.causes if c.code is not ReasonCode.BOOTSTRAP]


def refused(obeyed: Obeyed) -> list[str]:
    assert [type(r) for r in obeyed.records] == [Transition], "refused: nothing but the row of it is written"
    assert obeyed.records[0].reason_code == "REFUSED" if isinstance(obeyed.records[0], Transition) else False
    told = obeyed.answer["refused"]
    assert isinstance(told, list)
    return [o["what"] for o in told]


@pytest.mark.parametrize("cause", [KILLED, CRASHED], ids=lambda c: c.code.value)
def test_a_halt_that_ended_flat_can_be_ended(cause: Cause) -> None:
    """STOP-1, SAFE-2: the next start is ARMED_SAFE policy does not promote it; a crash is an operator's to end by now."""
    obeyed = obey("unhalt", memory(cause, HELD))
    assert (obeyed.answer["ok"], obeyed.answer["before"], obeyed.answer["mode"]) == (True, "HALT", "ARMED_SAFE")
    after = next_start(obeyed)
    assert (after.mode, set(codes(after))) == (SafetyMode.ARMED_SAFE, {"MANUAL_UNHALT", "OPERATOR_HOLD"})
    assert not after.promote(ReasonCode.AUTO_PROMOTE, "policy")
    row = obeyed.records[0]
    assert isinstance(row, Transition)
    assert (row.category, row.entity_id, row.from_state, row.to_state) == ("operator", "ada", "HALT", "ARMED_SAFE")
    assert (row.reason_code, row.reason_message) == ("MANUAL_UNHALT", "a test")


@pytest.mark.parametrize("ended", [EXPOSED, "", f"flat|{NOW - 900}", "flat|yesterday"])
def test_a_halt_without_a_flat_end_after_it_is_kept(ended: str) -> None:
    """STOP-2, LESSONS 32: ended exposed, killed, or flat before the cause came: refused, unless it is accepted by word."""
    assert refused(obey("unhalt", memory(KILLED, ended=ended))) == ["FLAT_CERTIFICATE"]
    accepted = obey("unhalt", memory(KILLED, ended=ended), accept_residue=True)
    assert next_start(accepted).mode is SafetyMode.ARMED_SAFE


def test_the_loss_of_today_holds() -> None:
    """GATE-6: out of the store's own trades: 21 USD today are over the limit, none are not."""
    assert refused(obey("unhalt", memory(LOST), lost="21")) == ["DAILY_LOSS"]
    assert obey("unhalt", memory(LOST)).answer["ok"]


def test_tightening_is_never_refused() -> None:
    """STOP-5: a hold and a kill are there at the next start, whatever else is."""
    assert codes(next_start(obey("hold", memory()))) == ["OPERATOR_HOLD"]
    assert next_start(obey("kill", memory(HELD, ended=""))).mode is SafetyMode.HALT


def test_a_damaged_latch_can_be_looked_at_and_ended() -> None:
    """STOP-1: damaged text is a HALT here as at a start; ended by word, the next start is ARMED_SAFE."""
    damaged = Remembered({ENDED_KEY: FLAT, latch.KEY: "{"})
    assert refused(obey("unhalt", damaged)) == ["FLAT_CERTIFICATE"]
    assert next_start(obey("unhalt", damaged, accept_residue=True)).mode is SafetyMode.ARMED_SAFE


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("promote", {}, "MODE"),
        ("maintenance-skip", {}, "MODE"),
        ("unhalt", {}, "MODE"),
        ("reset-safety", {"mode": "SAFE"}, "--mode"),
        ("reset-safety", {"mode": "HALT", "reason_code": "DAILY_LOSS"}, "--reason-code"),
        ("reset-safety", {"mode": "ARMED_LIVE", "reason_code": "MANUAL_PROMOTE"}, "MODE"),
        ("reset-safety", {"mode": "ARMED_SAFE", "reason_code": "MANUAL_UNHALT"}, "MODE"),
    ],
)
def test_what_needs_a_process_or_a_halt_is_refused(command: str, options: dict[str, str], says: str) -> None:
    """OPS-5, SAFE-3: nobody promotes what does not run; arguments are judged as on a running bot."""
    assert refused(obey(command, memory(HELD), **options)) == [says]


@pytest.mark.parametrize(
    ("mode", "code", "kept", "after"),
    [
        ("HALT", "OPERATOR_KILL", (), ["OPERATOR_KILL"]),
        ("ARMED_SAFE", "OPERATOR_HOLD", (), ["OPERATOR_HOLD"]),
        ("ARMED_SAFE", "MANUAL_UNHALT", (KILLED,), ["MANUAL_UNHALT"]),
        ("ARMED_SAFE", "MANUAL_UNHALT", (HELD,), ["MANUAL_UNHALT"]),
    ],
)
def test_a_reset_of_a_stopped_bot(mode: str, code: str, kept: tuple[Cause, ...], after: list[str]) -> None:
    """OPS-5: the same ways as on a running one."""
    assert codes(next_start(obey("reset-safety", memory(*kept), mode=mode, reason_code=code, allow_non_halt=True))) == after
