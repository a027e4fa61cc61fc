"""Evidence for the end of a HALT: counted for one incident, gone with the next (STOP-4, LESSONS 32)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hip3.core.causes import Cause, Clears, ReasonCode, Severity
from hip3.core.recovery import NEEDED, Evidence, lacking


def halt(code: ReasonCode) -> Cause:
    return Cause(code, Severity.HALT, "x", 0, "m", Clears.OPERATOR)


@given(st.lists(st.tuples(st.sampled_from(["agreed", "disturbed", "skipped", "next"])), max_size=30))
def test_only_an_unbroken_row_of_this_incident_counts(steps: list[tuple[str]]) -> None:
    """STOP-4: over any sequence: a row of clean reconciles since the last HALT or failure; a skip of this HALT."""
    evidence, incident, clean, skipped = Evidence(), 1, 0, False
    for (step,) in steps:
        if step == "next":
            incident, clean, skipped = incident + 1, 0, False
            continue
        getattr(evidence, step)(incident)
        clean = clean + 1 if step == "agreed" else 0 if step == "disturbed" else clean
        skipped = skipped or step == "skipped"
    before = (evidence.incident, evidence.clean, evidence.is_skipped)
    assert (lacking([halt(ReasonCode.SNAPSHOT_STALE)], evidence, incident) is None) is (clean >= 1)
    assert (lacking([halt(ReasonCode.RECONCILE_CRITICAL)], evidence, incident) is None) is (clean >= 3)
    assert (lacking([halt(ReasonCode.BACKFILL_WINDOW_EXCEEDED)], evidence, incident) is None) is (clean >= 1 and skipped)
    assert (evidence.incident, evidence.clean, evidence.is_skipped) == before, "asking changes nothing"


@given(st.sampled_from([c for c in ReasonCode if c not in NEEDED]), st.sampled_from(sorted(NEEDED, key=lambda c: c.value)))
def test_one_cause_that_is_not_listed_keeps_the_halt(other: ReasonCode, listed: ReasonCode) -> None:
    """STOP-4: however good the evidence, a cause that is not on the list is an operator's to end."""
    evidence = Evidence(1, 100, True)
    assert lacking([halt(listed)], evidence, 1) is None
    assert other.value in str(lacking([halt(listed), halt(other)], evidence, 1))
