"""The causes that outlive the process: what is kept, what comes back, and what damaged text means (SAFE-2, STOP-1)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.causes import Cause, Clears, ReasonCode, Safety, Severity
from hip3.fsm.safety import SafetyMode
from hip3.ops import latch

CAUSES = st.builds(
    Cause,
    st.sampled_from(ReasonCode),
    st.sampled_from(Severity),
    st.text(max_size=8),
    st.integers(0, 2**53),
    st.text(max_size=20),
    st.sampled_from(Clears),
)


def safety() -> Safety:
    return Safety(lambda *_: None, lambda: 1_000_000)


def with_causes(causes: list[Cause]) -> Safety:
    made = safety()
    for cause in causes:
        made.keep(cause)
    return made


STRICTNESS = {SafetyMode.ARMED_LIVE: 0, SafetyMode.ARMED_SAFE: 1, SafetyMode.HALT: 2}


@given(st.lists(CAUSES, max_size=5), st.booleans())
def test_a_restart_keeps_or_tightens(causes: list[Cause], promoted: bool) -> None:
    """SAFE-2, LESSONS 36: the next start is at least as strict, with every HALT and all that an operator must end."""
    before = safety()
    if promoted:
        before.promote(ReasonCode.AUTO_PROMOTE, "go")
    for cause in causes:
        before.keep(cause)
    after = safety()
    latch.restore(after, latch.dump(before))
    assert STRICTNESS[after.mode] >= STRICTNESS[before.mode]
    assert {(c.code, c.source, c.since_ms, c.message) for c in latch.kept(before)} <= {
        (c.code, c.source, c.since_ms, c.message) for c in after.causes
    }
    assert not any(c.clears is Clears.NEVER for c in after.causes), "its process has ended: an operator may look"
    if latch.kept(before):
        assert not after.promote(ReasonCode.AUTO_PROMOTE, "policy")


@given(st.lists(CAUSES, max_size=5), st.lists(CAUSES, max_size=3))
def test_a_restore_loosens_nothing(old: list[Cause], new: list[Cause]) -> None:
    """LESSONS 33: what a start has found out by itself stays in force as it is, or becomes stricter."""
    after = with_causes(new)
    before = {(c.code, c.source): c for c in after.causes}
    latch.restore(after, latch.dump(with_causes(old)))
    now = {(c.code, c.source): c for c in after.causes}
    order = list(Clears)
    for key, cause in before.items():
        assert now[key].severity.value >= cause.severity.value
        assert order.index(now[key].clears) >= order.index(cause.clears)


def test_nothing_is_kept_of_a_bot_that_trades() -> None:
    """SAFE-2: no text, and a start without one is ARMED_SAFE by BOOTSTRAP; a down link is measured anew."""
    live = safety()
    live.promote(ReasonCode.AUTO_PROMOTE, "go")
    assert latch.dump(live) is None
    live.add(ReasonCode.WS_DISCONNECT, Severity.SAFE, "account", "down", Clears.AUTO)
    live.add(ReasonCode.SHUTDOWN, Severity.SAFE, "process", "Ctrl+C", Clears.NEVER)
    assert latch.dump(live) is None
    start = safety()
    latch.restore(start, None)
    assert [c.code for c in start.causes] == [ReasonCode.BOOTSTRAP]


GOOD = latch.dump(with_causes([Cause(ReasonCode.DAILY_LOSS, Severity.HALT, "risk", 1, "lost", Clears.OPERATOR)])) or ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        GOOD[:-1],
        GOOD.replace("HALT", "SAFE"),
        GOOD.replace('"version": 1', '"version": 2'),
        json.dumps({"version": 1, "causes": [], "check": latch._check([])}),
    ],
)
def test_a_damaged_latch_is_a_halt(text: str) -> None:
    """STOP-1: cut off, edited, of another version, empty: nobody knows what it said, so an operator must look."""
    start = safety()
    latch.restore(start, text)
    assert (start.mode, start.causes[0].code, start.causes[0].clears) == (
        SafetyMode.HALT,
        ReasonCode.INTERNAL_ERROR,
        Clears.OPERATOR,
    )
    assert "cannot be read" in start.causes[0].message


@given(st.text(max_size=60))
def test_no_text_raises_or_opens(text: str) -> None:
    """STOP-1: whatever the text is, a start that was given one is not promoted by policy."""
    start = safety()
    latch.restore(start, text)
    assert start.mode is SafetyMode.HALT


def test_a_code_that_this_version_does_not_know_is_a_halt() -> None:
    """STOP-1: what a newer version kept is not forgotten by an older one."""
    rows = [{"code": "NEW", "severity": "SAFE", "source": "x", "since_ms": 1, "message": "m", "clears": "operator"}]
    start = safety()
    latch.restore(start, json.dumps({"version": 1, "causes": rows, "check": latch._check(rows)}))
    assert start.mode is SafetyMode.HALT
    assert "NEW" in start.causes[0].message
