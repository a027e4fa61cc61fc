"""`hip3 store` and `hip3 audit` as a user calls them: what is printed, what is changed, which exit code."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hip3.cli.main import make_app
from hip3.ops.keep import store_place
from hip3.settings.schema import Settings
from hip3.store.store import Store, open_store
from hip3.store.writer import inline
from tests.store.store_builders import ACCOUNT, START_MS, HandClock, intent, kill, move, one_of_each, put_all, run_info


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HIP3_CONFIG", raising=False)
    return tmp_path


def opened(state: Path, run_id: str = "run-1") -> Store:
    """The store that a run of the packaged paper configuration would write to."""
    return open_store(store_place(Settings(), state), run_info(run_id), HandClock(), run_sync=inline)


@pytest.fixture
def written(state: Path) -> Path:
    """A store after a run; its file."""
    store = opened(state)
    put_all(store, *one_of_each())
    put_all(store, intent(2), move(2))
    store.writer.applier.apply(store.writer.spool.take(100))
    kill(store)
    return state / "store" / "paper.db"


def call(*tokens: str) -> int:
    code = make_app()(list(tokens), exit_on_error=False)
    assert isinstance(code, int)
    return code


def machine(capsys: pytest.CaptureFixture[str], *tokens: str) -> dict[str, Any]:
    """The object of a command's --json; its exit code is in it."""
    code = call(*tokens, "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == code
    return found


def test_without_a_store_every_reading_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: exit code 3 and one sentence with the place and what makes a store."""
    for tokens in (["store", "info"], ["store", "backup"], ["store", "rebuild"], ["audit", "verify"], ["audit", "tail"]):
        assert call(*tokens) == 3
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert "paper.db" in said.err
        assert said.out == ""


def test_info_shows_what_is_there(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-6, OPS-1: rows, accounts with their last run, the head of the chain, what the spool holds besides."""
    found = machine(capsys, "store", "info")
    assert (found["store"], found["rows"]["order_intents"], found["audit_rows"]) == (str(written), 2, 2)
    assert found["accounts"][ACCOUNT]["run_id"] == "run-1"
    assert found["bytes"] > 100_000
    assert found["bytes"] % 4096 == found["free_bytes"] == 0
    assert call("store", "info") == 0
    said = capsys.readouterr().out
    assert "audit_log 2" in said
    assert f"size     {found['bytes'] / 1e6:.1f} MB\n" in said


def test_what_only_the_spool_holds_is_said(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-4, LESSONS 3: a reader beside a killed bot is told that the newest records are not in the database."""
    store = opened(state)
    put_all(store, intent(1))
    kill(store)
    assert machine(capsys, "store", "info")["groups_in_spool"] == 1
    assert call("store", "info") == 0
    assert "1 groups are not in the database yet" in capsys.readouterr().out


def test_backup_and_restore(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-6: a copy with its contents, put back later; the replaced store stays."""
    made = machine(capsys, "store", "backup")
    assert made["rows"]["fills"] == 1
    raw = sqlite3.connect(written)
    raw.execute("DELETE FROM fills")
    raw.commit()
    raw.close()
    put_back = machine(capsys, "store", "restore", made["backup"])
    assert put_back["rows"]["fills"] == 1
    assert Path(put_back["replaced"], "paper.db").exists()
    assert machine(capsys, "store", "info")["rows"]["fills"] == 1
    assert machine(capsys, "audit", "verify")["whole"] is True


def test_a_damaged_backup_is_refused(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-6: exit code 3, and the store is as it was."""
    backup = Path(machine(capsys, "store", "backup")["backup"])
    backup.write_bytes(backup.read_bytes()[:9000])
    before = written.read_bytes()
    assert call("store", "restore", str(backup)) == 3
    assert str(backup) in capsys.readouterr().err
    assert written.read_bytes() == before


def test_what_writes_is_refused_while_a_bot_writes(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """END-3: exit code 6 and the process that holds it; a backup and reading go on beside it."""
    store = opened(state)
    put_all(store, intent(1))
    store.writer.applier.apply(store.writer.spool.take(1))
    backup = machine(capsys, "store", "backup")["backup"]
    for tokens in (["store", "restore", backup], ["store", "rebuild"], ["store", "migrate"]):
        assert call(*tokens) == 6
        assert "process 4242" in capsys.readouterr().err
    assert call("store", "info") == 0
    assert call("audit", "verify") == 0
    kill(store)


def test_times_that_go_back_are_explained(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-3: a row with the venue's time may follow a later one of ours; `verify` says so and blames no clock alone."""
    store = opened(state)
    put_all(store, move(1, at_ms=START_MS + 150), move(2, at_ms=START_MS))
    store.writer.applier.apply(store.writer.spool.take(100))
    kill(store)
    assert call("audit", "verify") == 0
    said = capsys.readouterr().out
    assert "1 rows carry an earlier time than the row before them: the venue's own time, or a clock set back" in said
    assert "chain    whole" in said


def test_rebuild_says_what_it_saved(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-6: from a store that is well everything, and the old files are kept."""
    found = machine(capsys, "store", "rebuild")
    assert (found["lost"], found["rows"]["order_intents"]) == ([], 2)
    assert Path(found["kept"], "paper.db").exists()
    assert call("store", "rebuild") == 0
    assert "lost     nothing" in capsys.readouterr().out


def test_migrate_makes_a_store_and_refuses_a_newer_one(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-5: exit code 3 for a schema of a later version, which is left alone."""
    assert machine(capsys, "store", "migrate")["schema_version"] == "0001"
    raw = sqlite3.connect(state / "store" / "paper.db")
    raw.execute("UPDATE schema_version SET version_num = '0042'")
    raw.commit()
    raw.close()
    for tokens in (["store", "migrate"], ["store", "info"], ["audit", "verify"]):
        assert call(*tokens) == 3
        assert "is newer than this version" in capsys.readouterr().err


def test_a_server_says_what_copies_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-6: of PostgreSQL the command names pg_dump, and one that is not there costs a sentence."""
    config = tmp_path / "hip3.toml"
    config.write_text('network = "paper"\n[store]\nurl = "postgresql://127.0.0.1:1/hip3"\n')
    assert call("store", "restore", "x.db", "--config", str(config)) == 3
    assert "pg_dump" in capsys.readouterr().err
    assert call("store", "info", "--config", str(config)) == 3
    assert "is the server running" in capsys.readouterr().err


def test_an_edited_log_is_named_row_by_row(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-3: exit code 3; the row is in the text and in the object."""
    assert call("audit", "verify") == 0
    assert "chain    whole" in capsys.readouterr().out
    raw = sqlite3.connect(written)
    raw.execute("UPDATE audit_log SET reason_code = 'X' WHERE seq = 2")
    raw.commit()
    raw.close()
    found = machine(capsys, "audit", "verify")
    assert (found["exit_code"], found["whole"], found["faults"]) == (3, False, ["row 2: was changed after it was written"])
    assert call("audit", "verify") == 3
    assert "FAULT    row 2" in capsys.readouterr().out


def test_the_tail_and_the_export_show_the_rows(written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-3, OPS-1: the last rows as lines, all of them as JSON lines that hold the hashes; a file is never overwritten."""
    assert call("audit", "tail", "-n", "1") == 0
    line = capsys.readouterr().out
    assert "PENDING -> SENT BYTES_LEFT: order 2 left" in line
    assert line.count("\n") == 1
    assert [row["seq"] for row in machine(capsys, "audit", "tail", "--category", "order")["rows"]] == [1, 2]
    assert call("audit", "export", "--out", str(tmp_path / "a.jsonl")) == 0
    rows = [json.loads(text) for text in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(row["seq"], row["to_state"]) for row in rows] == [(1, "SENT"), (2, "SENT")]
    assert rows[1]["prev_hash"] == rows[0]["hash"]
    assert call("audit", "export", "--out", str(tmp_path / "a.jsonl")) == 3
    assert "a.jsonl: is there already; name another file, or remove it" in capsys.readouterr().err
    assert call("audit", "export", "--out", str(tmp_path / "no" / "a.jsonl")) == 3
    assert "a.jsonl: cannot be written: No such file or directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
    for rows_wanted in ("0", "-1"):
        assert call("audit", "tail", "-n", rows_wanted) == 2
        assert f"-n {rows_wanted}: expected a number above 0" in capsys.readouterr().err
    assert call("audit", "tail", "--category", "zebra") == 0
    assert "has no row of category zebra" in capsys.readouterr().out
    assert call("audit", "export", "--after", "1") == 0
    assert [json.loads(text)["seq"] for text in capsys.readouterr().out.splitlines()] == [2]
