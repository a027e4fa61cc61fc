"""`hip3 ops` as an operator calls it, against a real process and against none."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from hip3.cli.main import OPS_COMMANDS
from hip3.ops.control_server import control_path
from tests.cli.test_cli_status_cmd import hip3, lines_until, start

REASON = ("--reason", "a test")
RESET = ("--mode", "HALT", "--reason-code", "OPERATOR_KILL", "--reason-message", "a test")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HIP3_TEST_KEY", "9d" * 32)
    return tmp_path


def test_a_running_bot_is_held_killed_unhalted_and_promoted(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-5, STOP-5, OPS-1: each command against a process that trades, its answer, its exit code, its words in the log."""

    def ops(*tokens: str) -> tuple[int, dict[str, Any]]:
        code = hip3("ops", *tokens, "--json")
        return code, json.loads(capsys.readouterr().out)

    process = start(state)
    try:
        printed = lines_until(process, "filled at")
        code, answer = ops("hold", *REASON)
        assert (code, answer["mode"], answer["exit_code"]) == (0, "ARMED_SAFE", 0)
        code, answer = ops("kill")
        assert (code, answer["mode"]) == (0, "HALT")
        assert hip3("ops", "promote", *REASON) == 1
        refused = capsys.readouterr().err
        assert "promote is refused:\n  OPERATOR_KILL: HALT, to be ended first" in refused
        assert "mode HALT" in refused
        printed += lines_until(process, "waiting for the operator")
        code, answer = ops("unhalt", *REASON)
        assert (code, answer["mode"]) == (0, "ARMED_SAFE"), answer
        assert hip3("ops", "promote", *REASON) == 0
        assert "ARMED_LIVE: entries leave from now on" in capsys.readouterr().out
        process.send_signal(signal.SIGTERM)
        printed += process.communicate(timeout=40)[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
    assert process.returncode == 0, printed
    assert "commands hold: no entry leaves any more" in printed
    assert "commands promote, refused: OPERATOR_KILL" in printed
    assert not control_path(state).exists()


@pytest.mark.parametrize("name", OPS_COMMANDS)
def test_without_a_bot_a_command_says_where_it_looked(name: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: exit code 3, for people and for machines."""
    assert hip3("ops", name, *(RESET if name == "reset-safety" else REASON), "--json") == 3
    said = capsys.readouterr()
    assert said.err.startswith(f"hip3 ops: no running bot: there is no socket at {control_path(state)}; this configuration")
    assert json.loads(said.out)["exit_code"] == 3


@pytest.mark.parametrize("name", ["promote", "unhalt", "maintenance-skip"])
def test_what_loosens_needs_a_reason(name: str, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STOP-1, REC-3: an empty reason is no reason, and nothing is asked of anybody."""
    assert hip3("ops", name, "--reason", "  ") == 2
    assert f"{name}: the reason is empty; say why, it stands in the audit log" in capsys.readouterr().err


def test_a_bot_that_hangs_is_not_called_absent(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LESSONS 3: a held socket without an answer is exit code 5: the operator must look, and signals are left."""
    monkeypatch.setattr("hip3.cli.ops_cmd.WITHIN_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(control_path(state)))
        listener.listen(1)
        assert hip3("ops", "kill") == 5
    assert "did not answer within" in capsys.readouterr().err


def test_a_stopped_bot_is_commanded_through_its_store(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """STOP-1, SAFE-2, LESSONS 9, OPS-1: killed while running, HALT at the next start; unhalted while stopped, ARMED_SAFE."""
    config = ("--config", str(state / "eager.toml"))

    def run_until(word: str, *, kill: bool) -> str:
        process = start(state)
        try:
            printed = lines_until(process, word)
            if kill:
                assert hip3("ops", "kill", "--json") == 0
            process.send_signal(signal.SIGINT)
            return printed + process.communicate(timeout=40)[0]
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)

    run_until("filled at", kill=True)
    assert hip3("ops", "promote", *REASON, *config) == 1
    assert "MODE: no process runs" in capsys.readouterr().err
    printed = run_until("waiting for the operator", kill=False)
    assert "ARMED_SAFE -> HALT: OPERATOR_KILL" in printed
    assert hip3("ops", "unhalt", *REASON, *config) == 0
    assert "OPERATOR_KILL ended; the next start is ARMED_SAFE until a promotion" in capsys.readouterr().out
    assert hip3("ops", "hold", *REASON, *config, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["mode"], {c["code"] for c in answer["causes"]}) == (
        "ARMED_SAFE",
        {"MANUAL_UNHALT", "OPERATOR_HOLD", "BOOTSTRAP"},
    )
    assert hip3("status", *config) == 3
    assert "ended flat: the venue showed nothing" in capsys.readouterr().out  # the run's end, not the commands'
    printed = run_until("READY", kill=False)
    assert "HALT" not in printed
    assert "ARMED_LIVE" not in printed
