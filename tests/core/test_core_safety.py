"""Causes and the mode that they make (SAFE-1 to SAFE-4)."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hip3.core.causes import Cause, Clears, ReasonCode, Safety, Severity, Watch
from hip3.fsm.safety import SafetyMode

SAFE, LIVE, HALT = SafetyMode.ARMED_SAFE, SafetyMode.ARMED_LIVE, SafetyMode.HALT


class Wall:
    """Wall time of the cases."""

    def __init__(self) -> None:
        self.ms = 1000

    def __call__(self) -> int:
        self.ms += 1
        return self.ms


def safety() -> tuple[Safety, list[tuple[SafetyMode, SafetyMode, ReasonCode, str]]]:
    changes: list[tuple[SafetyMode, SafetyMode, ReasonCode, str]] = []
    return Safety(lambda *change: changes.append(change), Wall()), changes


def add(s: Safety, severity: Severity, clears: Clears = Clears.AUTO, code: ReasonCode = ReasonCode.WS_DISCONNECT) -> None:
    s.add(code, severity, "link", f"{severity.name} {clears.name}", clears)


def test_a_start_is_safe_until_promotion() -> None:
    """SAFE-1, SAFE-2: ARMED_SAFE with BOOTSTRAP; promotion, and nothing else, makes it LIVE."""
    s, changes = safety()
    assert (s.mode, [c.code for c in s.causes], s.allows_entry) == (SAFE, [ReasonCode.BOOTSTRAP], False)
    assert not s.clear(ReasonCode.BOOTSTRAP, "process")
    assert s.promote(ReasonCode.AUTO_PROMOTE, "ready and reconciled")
    assert (s.mode, s.causes, s.allows_entry) == (LIVE, (), True)
    assert changes == [(SAFE, LIVE, ReasonCode.AUTO_PROMOTE, "ready and reconciled")]


@pytest.mark.parametrize(("severity", "mode"), [(Severity.SAFE, SAFE), (Severity.HALT, HALT)])
def test_the_mode_is_the_most_severe_cause(severity: Severity, mode: SafetyMode) -> None:
    """SAFE-1: the mode follows in the same step, and its change names the cause."""
    s, changes = safety()
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    add(s, severity)
    assert s.mode is mode
    assert changes[-1] == (LIVE, mode, ReasonCode.WS_DISCONNECT, f"{severity.name} AUTO")


def test_promotion_is_blocked_by_every_other_cause() -> None:
    """SAFE-3: a cause that holds refuses promotion, which then changes nothing."""
    s, changes = safety()
    add(s, Severity.SAFE)
    assert [c.code for c in s.blocking_promotion()] == [ReasonCode.WS_DISCONNECT]
    assert not s.promote(ReasonCode.AUTO_PROMOTE, "go")
    assert (s.mode, len(s.causes), changes) == (SAFE, 2, [])
    assert s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.promote(ReasonCode.AUTO_PROMOTE, "go")


def test_a_promoted_bot_returns_to_live_by_itself() -> None:
    """SAFE-1, STOP-3: when the last SAFE cause clears itself, a promoted bot is live again; before promotion it is not."""
    s, _ = safety()
    add(s, Severity.SAFE)
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is SAFE
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    add(s, Severity.SAFE)
    add(s, Severity.SAFE, code=ReasonCode.CLOCK_SKEW)
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is SAFE, "another cause holds"
    s.clear(ReasonCode.CLOCK_SKEW, "link")
    assert s.mode is LIVE


def test_after_a_halt_promotion_is_needed_again() -> None:
    """SAFE-1, STOP-1: an operator ends a HALT towards ARMED_SAFE; policy does not promote from there, an operator does."""
    s, changes = safety()
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    add(s, Severity.HALT)
    s.end(s.causes, ReasonCode.MANUAL_UNHALT, "operator", "me: looked")
    assert (s.mode, [c.code for c in s.causes]) == (SAFE, [ReasonCode.MANUAL_UNHALT])
    assert [(a, b) for a, b, _, _ in changes[1:]] == [(LIVE, HALT), (HALT, SAFE)]
    assert not s.promote(ReasonCode.AUTO_PROMOTE, "go")
    assert s.promote(ReasonCode.MANUAL_PROMOTE, "go")
    assert (s.mode, s.causes) == (LIVE, ())


def test_no_source_takes_a_halt_back() -> None:
    """STOP-1, LESSONS 33: a HALT is a latch: said to clear by itself it does not, and an operator must end it."""
    s, _ = safety()
    add(s, Severity.HALT, Clears.AUTO)
    assert not s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert (s.mode, s.causes[0].clears) == (HALT, Clears.OPERATOR)


def test_an_operator_ends_only_what_is_his_to_end() -> None:
    """SAFE-1: a cause that ends with the process, one that ends by itself, one that is gone: refused, nothing changes."""
    s, changes = safety()
    add(s, Severity.HALT, Clears.NEVER)
    add(s, Severity.SAFE, Clears.AUTO, code=ReasonCode.CLOCK_SKEW)
    add(s, Severity.HALT, Clears.OPERATOR, code=ReasonCode.DAILY_LOSS)
    by_code = {c.code: c for c in s.causes}
    for code in (ReasonCode.WS_DISCONNECT, ReasonCode.CLOCK_SKEW):
        with pytest.raises(ValueError, match=code.value):
            s.end([by_code[ReasonCode.DAILY_LOSS], by_code[code]], ReasonCode.MANUAL_UNHALT, "operator", "x")
        assert {c.code: c for c in s.causes} == by_code
    s.end([by_code[ReasonCode.DAILY_LOSS]], ReasonCode.MANUAL_UNHALT, "operator", "x")
    assert s.mode is HALT, "the cause that never clears holds it"
    with pytest.raises(ValueError, match="DAILY_LOSS"):
        s.end([by_code[ReasonCode.DAILY_LOSS]], ReasonCode.MANUAL_UNHALT, "operator", "again")
    assert [(a, b) for a, b, _, _ in changes] == [(SAFE, HALT)]


def test_ending_a_cause_forgets_its_evidence() -> None:
    """LESSONS 32: the source is asked whether it holds still, and told when it was ended; every HALT is an incident."""
    s, _ = safety()
    forgotten: list[Cause] = []
    s.watch(ReasonCode.DAILY_LOSS, Watch(lambda c: f"{c.source} says so", forgotten.append))
    add(s, Severity.HALT, Clears.OPERATOR, code=ReasonCode.DAILY_LOSS)
    add(s, Severity.HALT, Clears.OPERATOR, code=ReasonCode.DAILY_LOSS)
    assert s.incident == 2
    (cause, _) = s.causes
    assert s.why_still(cause) == "link says so"
    s.end([cause], ReasonCode.MANUAL_UNHALT, "operator", "x")
    assert forgotten == [cause]


def test_what_an_operator_must_end_is_followed_by_a_promotion() -> None:
    """SAFE-1, RISK-3: a cause that clears by itself leaves a promoted bot live; one that an operator ends does not."""
    s, _ = safety()
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    s.add(ReasonCode.OPERATOR_HOLD, Severity.SAFE, "operator", "wait", Clears.OPERATOR)
    add(s, Severity.SAFE)
    s.end([c for c in s.causes if c.code is ReasonCode.OPERATOR_HOLD], ReasonCode.MANUAL_UNHALT, "operator", "x")
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert (s.mode, [c.code for c in s.causes]) == (SAFE, [ReasonCode.MANUAL_UNHALT])


@pytest.mark.parametrize("clears", [Clears.OPERATOR, Clears.NEVER])
def test_a_cause_that_does_not_clear_itself_stays(clears: Clears) -> None:
    """SAFE-1, STOP-1: its own source cannot take back what only an operator may."""
    s, _ = safety()
    add(s, Severity.HALT, clears)
    assert not s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is HALT


def test_a_source_clears_only_its_own_cause() -> None:
    """SAFE-1: the same code of another source stays in force."""
    s, _ = safety()
    s.add(ReasonCode.WS_DISCONNECT, Severity.SAFE, "market data", "down", Clears.AUTO)
    add(s, Severity.SAFE)
    assert not s.clear(ReasonCode.WS_DISCONNECT, "nobody")
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert {c.source for c in s.blocking_promotion()} == {"market data"}


def test_a_repeated_cause_keeps_its_first_time() -> None:
    """SAFE-1: a newer message is shown, the age is that of the first."""
    s, _ = safety()
    add(s, Severity.SAFE)
    (first,) = s.blocking_promotion()
    s.add(ReasonCode.WS_DISCONNECT, Severity.SAFE, "link", "again", Clears.AUTO)
    (second,) = s.blocking_promotion()
    assert (second.since_ms, second.message) == (first.since_ms, "again")


def test_a_repeated_cause_is_never_weaker() -> None:
    """SAFE-1: a disconnect while flat does not loosen the HALT of a disconnect while exposed (LESSONS 33)."""
    s, _ = safety()
    add(s, Severity.HALT, Clears.OPERATOR)
    add(s, Severity.SAFE, Clears.AUTO)
    (cause,) = s.blocking_promotion()
    assert (cause.severity, cause.clears, cause.message) == (Severity.HALT, Clears.OPERATOR, "HALT OPERATOR")
    assert not s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is HALT


def test_a_repeated_cause_may_be_stricter() -> None:
    """SAFE-1: a cause that grows from SAFE to HALT takes the mode with it."""
    s, _ = safety()
    add(s, Severity.SAFE)
    add(s, Severity.HALT, Clears.OPERATOR)
    (cause,) = s.blocking_promotion()
    assert (s.mode, cause.severity, cause.clears) == (HALT, Severity.HALT, Clears.OPERATOR)


CODES = st.sampled_from([ReasonCode.WS_DISCONNECT, ReasonCode.CLOCK_SKEW, ReasonCode.INTERNAL_ERROR])


class Modes(RuleBasedStateMachine):
    """Adds, clears and promotes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.safety, self.changes = safety()

    @rule(code=CODES, severity=st.sampled_from(Severity), clears=st.sampled_from(Clears), source=st.sampled_from("ab"))
    def add(self, code: ReasonCode, severity: Severity, clears: Clears, source: str) -> None:
        before = set(self.safety.causes)
        self.safety.add(code, severity, source, "x", clears)
        kept = {(c.code, c.source) for c in before} - {(code, source)}
        assert kept <= {(c.code, c.source) for c in self.safety.causes}

    @rule(code=CODES, source=st.sampled_from("ab"))
    def clear(self, code: ReasonCode, source: str) -> None:
        self.safety.clear(code, source)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """STOP-1: whatever an operator ends, what is left stays as it was."""
        theirs = [c for c in self.safety.causes if c.clears is Clears.OPERATOR]
        ended = data.draw(st.lists(st.sampled_from(theirs), unique=True)) if theirs else []
        ended = [c for c in ended if c.code is not ReasonCode.MANUAL_UNHALT]
        kept = set(self.safety.causes) - set(ended)
        self.safety.end(ended, ReasonCode.MANUAL_UNHALT, "operator", "x")
        assert {c for c in self.safety.causes if c.code is not ReasonCode.MANUAL_UNHALT} == {
            c for c in kept if c.code is not ReasonCode.MANUAL_UNHALT
        }

    @rule()
    def promote(self) -> None:
        blocked = bool(self.safety.blocking_promotion())
        assert self.safety.promote(ReasonCode.AUTO_PROMOTE, "go") is not blocked

    @rule()
    def read(self) -> None:
        before = (self.safety.mode, self.safety.causes)
        assert self.safety.blocking_promotion() is not None
        assert (self.safety.mode, self.safety.causes) == before

    @invariant()
    def the_mode_is_that_of_the_causes(self) -> None:
        """SAFE-1: HALT exactly while a HALT cause holds; LIVE only with no cause at all."""
        severities = {c.severity for c in self.safety.causes}
        assert (self.safety.mode is HALT) is (Severity.HALT in severities)
        assert self.safety.mode is not LIVE or not severities
        assert self.safety.allows_entry is (self.safety.mode is LIVE)

    @invariant()
    def no_change_leads_from_halt_to_live(self) -> None:
        """SAFE-1: every change is told once, and none skips ARMED_SAFE on the way up."""
        assert all(a is not b for a, b, _, _ in self.changes)
        assert all(a[1] is b[0] for a, b in zip(self.changes, self.changes[1:], strict=False))
        assert (HALT, LIVE) not in {(a, b) for a, b, _, _ in self.changes}


TestModes = Modes.TestCase
