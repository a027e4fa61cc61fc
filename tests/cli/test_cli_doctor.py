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
    assert hip3("doctor") == 3
    said = capsys.readouterr()
    assert "mode HALT since " in said.out
    assert "OPERATOR_KILL" in said.out
    assert "STOPPED since " in said.out
    assert "no running bot" in said.err


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
