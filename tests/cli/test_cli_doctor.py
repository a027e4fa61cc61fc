"""`hip3 doctor` on a process that runs, on one that is gone, and on none."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest

from hip3.ops.status_server import socket_path
from tests.cli.test_cli_status_cmd import hip3, lines_until, start


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HIP3_TEST_KEY", "9d" * 32)
    return tmp_path


def test_a_process_is_examined_while_it_runs_and_after_it_ended(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: exit code 0 while entries may leave, 1 in HALT with the command that ends it, 3 when it is gone."""
    process = start(state)
    try:
        printed = lines_until(process, "filled at")
        assert hip3("doctor", "--json") == 0
        assert json.loads(capsys.readouterr().out)["mode"] == "ARMED_LIVE"
        assert hip3("ops", "kill", "--reason", "a look") == 0
        assert hip3("doctor") == 1
        shown = capsys.readouterr().out
        assert "HALT OPERATOR_KILL, by operator, for " in shown
        assert 'command: hip3 ops unhalt --reason "..."' in shown
        process.send_signal(signal.SIGINT)
        printed += process.communicate(timeout=40)[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
    assert process.returncode == 0, printed
    files = {path: path.read_bytes() for path in (state / "store").rglob("*") if path.is_file() and path.suffix != ".db-shm"}
    assert hip3("doctor") == 3
    said = capsys.readouterr()
    assert "begins in HALT:" in said.out
    assert "  HALT OPERATOR_KILL, by operator, for " in said.out
    assert 'nothing stands against the end of the HALT before it: hip3 ops unhalt --reason "..."' in said.out
    assert "ARMED_LIVE follows by hand" in said.out
    assert "mode HALT since " in said.out
    assert "STOPPED since " in said.out
    assert "no running bot" in said.err
    assert {path: path.read_bytes() for path in files} == files  # it reads only
    assert hip3("ops", "unhalt", "--reason", "looked", "--config", str(state / "eager.toml")) == 0
    capsys.readouterr()
    (state / "journal").rename(state / "elsewhere")
    assert hip3("doctor", "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert told["last_run"] == []
    start_next = told["next_start"]
    assert (start_next["mode"], start_next["against"], start_next["policy"]) == ("ARMED_SAFE", {}, "auto")
    assert {c["code"] for c in start_next["causes"]} == {"BOOTSTRAP", "MANUAL_UNHALT"}
    assert start_next["policy_promotes"] is False
    assert [c["command"] for c in start_next["causes"]] == ['hip3 ops promote --reason "..."'] * 2


def test_a_killed_bot_is_examined_by_its_store(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1, STOP-1, SAFE-2: `kill -9` in HALT: the store alone says what the next start begins in, and that an unhalt
    before it is refused for what nobody has looked at; so it is, and so the start begins."""
    process = start(state)
    try:
        lines_until(process, "filled at")
        assert hip3("ops", "kill", "--reason", "a look") == 0
    finally:
        process.kill()
        process.communicate(timeout=10)
    for journal in (state / "journal").iterdir():
        journal.unlink()
    capsys.readouterr()
    assert hip3("doctor") == 3
    shown = capsys.readouterr().out
    assert "begins in HALT:" in shown
    assert "against the end of the HALT before it" in shown
    assert "FLAT_CERTIFICATE: the last run did not end in order" in shown
    assert hip3("doctor", "--json") == 3
    told = json.loads(capsys.readouterr().out)["next_start"]
    assert hip3("ops", "unhalt", "--reason", "x", "--config", str(state / "eager.toml"), "--json") == 1
    refused = json.loads(capsys.readouterr().out)["refused"]
    assert told["against"]["unhalt"] == refused
    process = start(state)
    try:
        printed = lines_until(process, "HALT")
        process.send_signal(signal.SIGINT)
        printed += process.communicate(timeout=40)[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
    assert "ARMED_SAFE -> HALT: OPERATOR_KILL" in printed


def test_a_store_that_cannot_be_read_is_told_beside_the_journal(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LESSONS 3: a damaged store is no clean start."""
    (state / "store").mkdir()
    (state / "store" / "paper.db").write_bytes(b"this is no database, and it is long enough to be looked at" * 40)
    assert hip3("doctor") == 3
    assert "hip3 doctor: the store cannot be read: " in capsys.readouterr().err
    assert hip3("doctor", "--json") == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["next_start"], "not a database" in told["store_error"]) == (None, True)


def test_without_any_run_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: exit code 3, and where was looked; for machines too."""
    assert hip3("doctor") == 3
    assert capsys.readouterr().out == "no run of this state folder is known\n"
    assert hip3("doctor", "--json") == 3
    assert json.loads(capsys.readouterr().out)["last_run"] == []


def test_a_bot_that_does_not_answer_is_not_called_well(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LESSONS 3: a held socket without an answer is exit code 5."""
    monkeypatch.setattr("hip3.cli.doctor_cmd.WITHIN_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(state)))
        listener.listen(1)
        assert hip3("doctor") == 5
    assert "did not answer within" in capsys.readouterr().err
