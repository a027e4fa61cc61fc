"""A close that comes late because no bot ran: it counts as a missed stop and is told apart (JRN-2, JRN-3)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hip3.core.report import Report, make_report
from hip3.ops.heartbeat import Heart
from hip3.ops.report_source import Selection
from hip3.ops.report_store import read_stores
from hip3.ops.report_view import checkpoint_sheet, missed_sheet
from hip3.ops.stores import source_at
from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, dislocated
from tests.app.test_app_store import Disk, disk

AWAY_S = 20


async def killed_while_holding(state: Disk, *, beats: bool, away_s: float = AWAY_S) -> Report:
    """A run that holds a position, killed at some moment and followed by another: the report of its store."""
    kept = await state.open()
    source = dislocated().pulse(90).source()
    async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
        await world.until(lambda: bool(world.events("fill")))
        if beats:
            Heart(world.bot, state.folder, 1, 1000).beat()
        await world.kill()
        kept.store.close()
        await trio.sleep(away_s)
        again = await state.open()
        world.keeping = again.keeping
        world.restart()
        await world.started.wait()
        await world.until(lambda: not world.positions(), 20)
        assert (await world.end()).exit_code == 0
        assert await again.store.drain_and_close(5)
    return make_report(read_stores([source_at(str(state.file))], Selection()))


def remark(report: Report) -> str:
    """Of the criterion about missed stops at the gate of phase C."""
    sheet = checkpoint_sheet(report.checkpoints[-1])
    return next(row[-1] for row in sheet.rows if row[0].startswith("missed stops"))


async def test_a_stop_that_was_due_while_no_bot_ran_counts_and_is_told_apart(tmp_path: Path) -> None:
    """JRN-2, JRN-3: `kill -9` while holding, a start after the time stop: missed, and named with the time without a bot."""
    async with disk(tmp_path) as state:
        report = await killed_while_holding(state, beats=True)
    assert report.totals.missed_stops.k == 1
    [missed] = report.missed
    assert missed.while_away
    assert missed.away_ms == pytest.approx((AWAY_S - 4) * 1000, abs=500)  # it was due 4 s after its entry
    assert missed.late_ms is not None
    assert missed.away_ms < missed.late_ms < missed.away_ms + 8000
    assert remark(report).endswith("1 of them due while no bot ran")
    [row] = missed_sheet(report).rows
    assert row[-2] == "no bot ran"


async def test_without_a_sign_of_life_nothing_is_excused(tmp_path: Path) -> None:
    """JRN-3: no heartbeat says until when a bot ran, so the late close is a missed stop like any other."""
    async with disk(tmp_path) as state:
        report = await killed_while_holding(state, beats=False)
    assert [(m.while_away, m.away_ms) for m in report.missed] == [(False, 0)]
    assert remark(report).endswith("0 of them due while no bot ran")


async def test_a_start_says_when_no_bot_ran(tmp_path: Path) -> None:
    """JRN-3, STO-3: from the last heartbeat to the start, in the audit log and the journal; nothing after a flat end."""
    async with disk(tmp_path) as state:
        report = await killed_while_holding(state, beats=True, away_s=1)
        assert report.missed == ()  # back before it was due
        [away] = report.input.away
        assert 900 <= away.to_ms - away.from_ms <= 1200
        kept = await state.open()
        source, now = dislocated().pulse(30).source(), state.clock.wall_ms()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping, start_ms=now) as world:
            await world.ready()
            [found] = world.events("recovered")
            assert found.fields["ended_flat"] is True
        said = state.ask("select from_state, to_state from audit_log where reason_code = 'NO_BOT_RAN'")
    assert said == [(str(away.from_ms), str(away.to_ms))]
