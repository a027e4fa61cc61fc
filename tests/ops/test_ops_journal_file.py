"""The journal on disk: where it lies, how large it gets, what is kept, and what a reader finds in it."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from hip3.core.journal import Note
from hip3.fsm.safety import SafetyMode
from hip3.ops.journal_file import (
    KEPT_RUNS,
    LogFile,
    LogUnwritable,
    earlier_part,
    entries,
    journals,
    open_run_journal,
    state_dir,
)

T0 = 1_767_225_600_000


def note(n: int, **fields: object) -> Note:
    return Note(T0 + n, "info", "signal", {"n": n, **fields})


def test_where_the_state_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OPS-7: HIP3_STATE_DIR, else $XDG_STATE_HOME/hip3, else ~/.local/state/hip3; empty and relative ones do not count."""
    monkeypatch.setenv("HOME", str(tmp_path))
    default = tmp_path / ".local" / "state" / "hip3"
    assert state_dir({}) == default
    assert state_dir({"HIP3_STATE_DIR": " ", "XDG_STATE_HOME": "relative"}) == default
    assert state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/hip3")
    assert state_dir({"HIP3_STATE_DIR": "~/own", "XDG_STATE_HOME": "/x"}) == tmp_path / "own"


def test_a_run_gets_a_journal_of_its_own_that_only_its_user_can_read(tmp_path: Path) -> None:
    """OPS-7: folders 0700, file 0600; the name says when the run began and which process it is."""
    state = tmp_path / "state"
    log = open_run_journal(state, T0 + 999, 42)
    log.close()
    assert log.path == state / "journal" / "20260101T000000Z-42.jsonl"
    assert [oct(p.stat().st_mode & 0o777) for p in (state, log.path.parent, log.path)] == ["0o700", "0o700", "0o600"]


def test_only_the_last_runs_are_kept(tmp_path: Path) -> None:
    """LESSONS 29: the folder is bounded: the run written last goes last, its earlier part goes with it."""
    for n in range(KEPT_RUNS + 3):
        log = open_run_journal(tmp_path, T0 + n * 1000, n)
        log.close()
        log.path.write_text("{}\n")
        earlier_part(log.path).write_text("{}\n")
        os.utime(log.path, (n, n))
    kept = journals(tmp_path)
    assert [p.name.partition("-")[2] for p in kept] == [f"{n}.jsonl" for n in range(KEPT_RUNS + 2, 2, -1)]
    assert len(list((tmp_path / "journal").iterdir())) == 2 * KEPT_RUNS


def test_a_start_that_was_refused_costs_no_run_its_journal(tmp_path: Path) -> None:
    """END-3, LESSONS 34: a second bot that is refused over and over says nothing, so its journals count for none."""
    log = open_run_journal(tmp_path, T0, 1)
    log.write([Note(T0, "info", "run_started", {})])
    for n in range(3 * KEPT_RUNS):
        refused = open_run_journal(tmp_path, T0 + n * 1000, 100 + n)
        refused.close()
        os.utime(refused.path, (T0 / 1000 + n, T0 / 1000 + n))
    last = open_run_journal(tmp_path, T0 + 3_600_000, 2)
    log.close()
    last.close()
    assert {path.name for path in journals(tmp_path)} == {last.path.name, log.path.name}


def test_a_full_part_becomes_the_earlier_one_and_says_so(tmp_path: Path) -> None:
    """OPS-7: at most two parts; the new one begins with a line that says whether anything older was dropped."""
    log = open_run_journal(tmp_path, T0, 1, part_bytes=1000)
    for n in range(60):
        assert log.write([note(n)]) is None
    log.close()
    assert max(log.path.stat().st_size, earlier_part(log.path).stat().st_size) <= 1000
    first = json.loads(log.path.read_text().splitlines()[0])
    assert first == {
        "level": "info",
        "event": "journal_turned",
        "earlier": earlier_part(log.path).name,
        "dropped_older": True,
    }
    found = [e["n"] for e in entries(log.path) if e["event"] == "signal"]
    assert found == list(range(found[0], 60))  # type: ignore[call-overload]  # the numbers that this test wrote
    assert journals(tmp_path) == [log.path]


def test_a_named_log_has_no_bound(tmp_path: Path) -> None:
    """CFG-8: what the operator names with --log is appended to and never turned."""
    log = LogFile(tmp_path / "own.jsonl")
    log.write([note(n, text="x" * 500) for n in range(100)])
    log.close()
    assert len(list(entries(log.path))) == 100
    assert not earlier_part(log.path).exists()


def test_values_keep_their_digits(tmp_path: Path) -> None:
    """TYP-1: decimals are text in plain notation, enumerations their names, and nested values likewise."""
    log = LogFile(tmp_path / "x.jsonl")
    log.write([note(5, px=Decimal("1E-7"), mode=SafetyMode.HALT, gates=[{"usd": Decimal("0.10")}])])
    log.close()
    (entry,) = entries(log.path)
    assert entry == {
        "time": "2026-01-01T00:00:00.005Z",
        "level": "info",
        "event": "signal",
        "n": 5,
        "px": "0.0000001",
        "mode": "HALT",
        "gates": [{"usd": "0.10"}],
    }


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    """LESSONS 34: a process that was killed in the middle of a line leaves the lines before it readable."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"event":"a"}\n\xff\xfe\n[1]\n\n{"event":"b"}\n{"event":"to')
    assert [e["event"] for e in entries(path)] == ["a", "b"]


def test_a_folder_that_cannot_be_written_names_the_remedy(tmp_path: Path) -> None:
    """STYLE, errors: place, cause and what to do."""
    (tmp_path / "journal").write_text("a file in its place")
    with pytest.raises(
        LogUnwritable, match=r"folder .*/journal: File exists; set HIP3_STATE_DIR to one that can be written"
    ):
        open_run_journal(tmp_path, T0, 1)
