"""`hip3 report` as a user calls it: what is read, what is printed, which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hip3.cli.main import make_app
from hip3.cli.report_cmd import since_ms
from hip3.core.journal import Journal
from hip3.ops.journal_file import open_run_journal
from tests.cli.cli_runs import T0, run_paper
from tests.ops.test_ops_report_source import head, signal, traded


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def report(*tokens: str) -> int:
    code = make_app()(["report", *tokens], exit_on_error=False)
    assert isinstance(code, int)
    return code


def journal(state: Path, *runs: str) -> None:
    """A journal of one trade for each run, ten in each minute after the start of 2026."""
    folder = state / "journal"
    folder.mkdir()
    for run in runs:
        text = head(run) + "".join(traded(run, n, 60 * n) for n in range(1, 11)) + signal(run, 99, 5)
        (folder / f"{run}.jsonl").write_text(text)


async def test_a_real_run_is_reported_as_its_summary_counts_it(
    state: Path, capsys: pytest.CaptureFixture[str], autojump_clock: object
) -> None:
    """JRN-1, JRN-2: the whole bot on the embedded exchange, its journal on disk, the report of it: the same numbers."""
    notes = Journal()
    ended = await run_paper(120, journal=notes)
    log = open_run_journal(state, T0, 1)
    log.write(notes.drain())
    log.close()
    assert report("--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    tally = ended.bot.tally
    assert told["totals"]["trades"] == tally.trades > 3
    assert told["totals"]["pnl_usd"] == pytest.approx(float(tally.pnl_usd), abs=1e-5)
    assert told["totals"]["entries"]["accepted"] == tally.entries_filled
    assert told["totals"]["entries"]["rejected"] == tally.entries_rejected
    assert told["totals"]["entries"]["timed_out"] == tally.entries_unresolved
    assert told["means"]["expected_edge_bps"]["n"] == tally.edge_trades
    assert told["means"]["actual_edge_bps"]["mean"] == pytest.approx(float(tally.mean_actual_edge_bps or 0), abs=1e-5)
    assert told["signals"]["total"] == ended.bot.signal_book.count
    assert told["decision"] == "NOT YET"
    assert told["checkpoints"][-1]["missing"] == 100 - tally.trades
    timed = [t for t in told["trades"] if t["exit_reason"] == "time_stop"]
    assert timed
    assert all(0 < t["flat_time_ms"] < 5000 for t in timed)
    assert {d["after_ms"] for d in told["decay"]} == {0, 1000, 3000, 5000}


def test_the_verdict_comes_first_and_the_caveats_are_there(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JRN-2, JRN-3: decision, checkpoints with intervals and n, the share not traded, and what it cannot say."""
    journal(state, "aa")
    assert report() == 0
    text = capsys.readouterr().out
    assert text.startswith(" NOT YET  90 more trades at least to the gate of phase C")
    assert "10 trades: PASS" in text
    assert "0.722 to 1.000" in text
    assert "Phase C gate: NOT YET, 90 missing" in text
    assert "1 of 11 (9 %)" in text
    assert "All trades ended alike: there is no spread to take an interval from." in text
    assert "no gate was asked" in text


def test_a_narrow_terminal_shows_less_of_each_trade(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JRN-1: in 80 columns a trade is one line, with edges, PnL and reason; wider it has all its figures."""
    journal(state, "aa")
    assert report() == 0
    assert "flat s" in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert report() == 0
    text = capsys.readouterr().out
    assert "flat s" not in text
    assert "time stop" in text


def test_the_page_is_written(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JRN-2: --html writes the page beside what is printed; a folder that is not there is refused with its name."""
    journal(state, "aa")
    page = state / "report.html"
    assert report("--html", str(page)) == 0
    assert "<title>hip3 report: NOT YET</title>" in page.read_text()
    assert f"page: {page}" in capsys.readouterr().out.replace("\n", "")
    missing = state / "no" / "report.html"
    assert report("--html", str(missing)) == 2
    assert f"{missing}: cannot be written: No such file or directory; name another file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "trades"),
    [
        (["--since", "2026-01-01T00:05"], 6),
        (["--since", "2026-01-01T01:05+01:00"], 6),
        (["--run", "aa"], 10),
        (["--run", "aa", "--since", "2026-01-01"], 10),
        (["--account", "0x" + "ab" * 20], 20),
    ],
)
def test_what_is_reported_can_be_chosen(
    state: Path, tokens: list[str], trades: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """JRN-3: by time, run and account; a choice of time is said in the report."""
    journal(state, "aa", "bb") if "--account" in tokens else journal(state, "aa")
    assert report("--json", *tokens) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["trades"] == trades
    assert report(*tokens) == 0
    assert ("chosen by whoever asked" in capsys.readouterr().out) is ("--since" in tokens)


@pytest.mark.parametrize("name", ["report.html", "notes.txt", "folder", "/dev/full"])
def test_a_page_takes_the_place_of_a_page_and_of_nothing_else(
    name: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JRN-2, END-3: written whole, over an earlier page only: no file of somebody else is written over."""
    journal(state, "aa")
    (state / "report.html").write_text("<!doctype html>\nan earlier one")
    (state / "notes.txt").write_text("precious")
    (state / "folder").mkdir()
    code = report("--html", str(state / name))
    err = capsys.readouterr().err
    assert (code, f"--html {state / name}: " in err) == ((0, False) if name == "report.html" else (2, True))
    assert (state / "notes.txt").read_text() == "precious"
    assert ("<title>" in (state / "report.html").read_text()) == (code == 0)
    assert [p.name for p in state.iterdir() if p.name.endswith(".part")] == []


def test_a_journal_can_be_named(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JRN-1: a file kept with --log elsewhere is read as well; one that is not there is refused."""
    path = state / "own.jsonl"
    path.write_text(head("aa") + traded("aa", 1, 60))
    assert report("--journal", str(path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["totals"]["trades"] == 1
    assert report("--journal", str(state / "gone.jsonl")) == 2
    assert "gone.jsonl: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "code", "said"),
    [
        (["--since", "yesterday"], 2, "--since yesterday: expected a date (2026-01-31)"),
        (["--run", "zz"], 3, "nothing to report: no signal, order or trade of run zz"),
        (["--since", "2027-01-01"], 3, "earlier than --since"),
    ],
)
def test_what_cannot_be_reported_has_its_code(
    state: Path, tokens: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """JRN-3: 2 for an argument that means nothing, 3 for nothing to report; standard output is empty, or one object."""
    journal(state, "aa")
    assert report(*tokens) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert report(*tokens, "--json") == code
    assert json.loads(capsys.readouterr().out)["exit_code"] == code


def test_before_the_first_run_it_says_what_to_do(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JRN-3: nothing on disk yet: exit code 3, where was looked, and the command that makes something."""
    assert report() == 3
    said = capsys.readouterr().err
    assert "hip3 run --duration 60" in said
    assert str(state) in said


def test_spans_of_since() -> None:
    """JRN-3: minutes, hours and days back from now; a date without a zone is UTC."""
    now = 1_767_225_600_000
    assert since_ms("30m", now) == now - 1_800_000
    assert since_ms("24h", now) == now - 86_400_000
    assert since_ms("7d", now) == now - 7 * 86_400_000
    assert since_ms("2026-01-01", now) == round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)


def test_a_reader_that_goes_away_is_no_verdict(state: Path) -> None:
    """OPS-1: `hip3 report | head` ends as any command does, not with an exit code of its own."""
    journal(state, "aa")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hip3", "report"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ours
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")
