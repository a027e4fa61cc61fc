"""Missed stops, one by one (JRN-2, JRN-3)."""

from __future__ import annotations

import pytest

from hip3.core.missed import Away, MissedStop, missed_stops
from hip3.core.report import make_report
from hip3.ops.report_object import report_object
from hip3.ops.report_view import missed_sheet
from tests.core.report_builders import COIN, given, overdue, trade

STOP_MS, LATE_MS = 30_000, 7_000
"""Of `given`."""


def one(away: tuple[Away, ...], held_ms: int = 100_000) -> MissedStop:
    """The missed stop of a position that was due 30 s after its entry."""
    report = make_report(given(trade(0, held_ms=held_ms), away=away))
    [found] = report.missed
    return found


ENTRY = make_report(given(trade(0))).trades[0].entry_ms
DUE = ENTRY + STOP_MS


@pytest.mark.parametrize(
    ("away", "told_apart", "away_ms"),
    [
        ((), False, 0),
        ((Away(DUE - 10_000, ENTRY + 95_000),), True, 65_000),
        ((Away(DUE, ENTRY + 93_000),), True, 63_000),  # closed 7 s after the start
        ((Away(DUE, ENTRY + 92_999),), False, 62_999),  # the next run was late as well
        ((Away(DUE + 1, ENTRY + 95_000),), False, 0),  # a bot ran when it was due
        ((Away(DUE - 10_000, DUE),), False, 0),  # and here again
        ((Away(0, 1), Away(DUE - 1, ENTRY + 95_000)), True, 65_000),
    ],
    ids=["no word", "down over it", "at once", "late after the start", "after it was due", "back in time", "the second"],
)
def test_only_what_the_absence_explains_is_told_apart(away: tuple[Away, ...], told_apart: bool, away_ms: int) -> None:
    """JRN-3: due while no bot ran, and closed within the usual bound of the next start; every one of them counts."""
    found = one(away)
    assert (found.while_away, found.away_ms, found.late_ms) == (told_apart, away_ms, 70_000)


def test_a_stop_that_was_kept_is_not_listed() -> None:
    """JRN-2: within time stop and bound nothing is missed, whoever was away."""
    assert make_report(given(trade(0, held_ms=STOP_MS + LATE_MS), away=(Away(0, 2**60),))).missed == ()


def test_a_position_that_nothing_ends_is_listed_too() -> None:
    """JRN-2, JRN-3: given up, and no trade on record: its market is named, and nothing explains it."""
    report = make_report(given(trade(0), transitions=(overdue(5),)))
    assert report.missed == (MissedStop(COIN, None, None, None, None, 0, False),)
    [row] = missed_sheet(report).rows
    assert "not ended on record" in row


def test_every_view_has_the_same_stops() -> None:
    """JRN-3: the table and the object tell of each with the time without a bot; the title has both counts."""
    down = Away(DUE - 10_000, ENTRY + 95_000)
    report = make_report(given(trade(0, held_ms=100_000), trade(2, held_ms=100_000), away=(down,)))
    sheet = missed_sheet(report)
    assert sheet.title == "Missed stops: 2, of which 1 due while no bot ran"
    assert [row[5] for row in sheet.rows] == ["no bot ran", "missed by a running bot"]
    listed = report_object(report)["missed_stops"]
    assert isinstance(listed, list)
    assert [(m["no_bot_ms"], m["while_no_bot_ran"]) for m in listed] == [(65_000, True), (0, False)]
    gate = report.checkpoints[-1]
    [remark] = [f.remark for f in gate.findings if f.rule.text == "missed stops = 0"]
    assert remark.endswith("1 of them due while no bot ran")


def test_nothing_missed_says_nothing() -> None:
    """JRN-3: no table and no remark about what did not happen."""
    report = make_report(given(trade(0)))
    assert missed_sheet(report).rows == ()
    assert missed_stops(report.trades, (), (), STOP_MS, LATE_MS) == ()
