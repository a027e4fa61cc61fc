"""What one step makes durable (REC-2)."""

from __future__ import annotations

import pytest

from hip3.core.records import MemoryRecorder, StateRecord, Transition
from hip3.core.scribe import Scribe


def scribe() -> tuple[Scribe, MemoryRecorder]:
    recorder = MemoryRecorder()
    return Scribe(recorder, lambda: 1, lambda _why: None), recorder


def test_a_cause_in_the_middle_does_not_cut_a_step_in_two() -> None:
    """REC-2, LESSONS 31: what asks for a commit half-way gets the step's; all of it names the step's event."""
    pen, recorder = scribe()
    with pen.step("UserFills:1,2"):
        pen.cursor(10, "the first fill")
        pen.transition("safety", "process", "ARMED_LIVE", "HALT", "CUMULATIVE_LOSS")
        assert pen.commit()  # as a mode change does
        pen.cursor(20, "the second fill")
    (commit,) = recorder.commits
    assert [r.value for r in commit if isinstance(r, StateRecord)] == ["10", "the first fill", "20", "the second fill"]
    assert [r.event_id for r in commit if isinstance(r, Transition)] == ["UserFills:1,2"]


def test_between_steps_a_row_names_no_event() -> None:
    """STO-3: a step that has ended is not the cause of what comes after it, and a commit is one again."""
    pen, recorder = scribe()
    with pen.step("timer"):
        pass
    pen.transition("safety", "process", "ARMED_SAFE", "HALT", "CLOCK_SKEW")
    assert pen.commit()
    assert [r.event_id for r in recorder.records if isinstance(r, Transition)] == [""]


def test_a_step_that_breaks_leaves_its_notes_to_the_next_commit() -> None:
    """STO-4: the error is not hidden, and what was noted before it is kept with what the way out notes."""
    pen, recorder = scribe()

    def broken() -> None:
        with pen.step("fact"):
            pen.state("key", "value")
            raise LookupError

    with pytest.raises(LookupError):
        broken()
    assert recorder.commits == []
    assert pen.commit()
    assert [r.value for r in recorder.records if isinstance(r, StateRecord)] == ["value"]
