"""`python -m hip3 run` as a user runs it: a real process, real signals, a real loopback exchange."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from hip3.ops.stop import stop_signals

KEY = "0x" + "7e" * 32
"""Nobody's key: the exchange is embedded and ends with the process."""
USER = "0x" + "12" * 20
EAGER = """
network = "paper"
user_address = "{user}"
[signer]
key_source = {{type = "env_var", var_name = "HIP3_TEST_KEY"}}
[safety]
startup_policy = "auto"
[detector]
dedup = false
direction = false
[paper]
latency_ms = {latency_ms}
response_ms = 10
port = {port}
[[markets]]
coin = "xyz:NVDA"
threshold_bps = 0.1
[[markets]]
coin = "xyz:TSLA"
threshold_bps = 0.1
"""
"""Takes the first quote that is better than the oracle at all, so that a position is held within a second or two."""


@contextmanager
def bot(tmp_path: Path, *arguments: str, port: int = 0, latency_ms: int = 20) -> Iterator[subprocess.Popen[str]]:
    """A running `hip3 run --json`; its lines come on standard error, its report on standard output."""
    config = tmp_path / "eager.toml"
    config.write_text(EAGER.format(user=USER, port=port, latency_ms=latency_ms))
    environment = {**os.environ, "HIP3_TEST_KEY": KEY, "HIP3_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "hip3", "run", "--config", str(config), "--json", *arguments]
    process = subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def lines_until(stream: IO[str] | None, word: str) -> list[str]:
    """Lines up to the first with `word`; fails where the process ends before."""
    assert stream is not None
    seen: list[str] = []
    for line in stream:
        seen.append(line)
        if word in line:
            return seen
    pytest.fail(f"it ended before {word!r}:\n" + "".join(seen))


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, the report, and the rest of standard error."""
    out, err = process.communicate(timeout=40)
    return process.returncode, json.loads(out.splitlines()[-1]), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_while_holding_ends_flat(tmp_path: Path, number: signal.Signals) -> None:
    """PRD-2, END-1, END-3, LESSONS 9: SIGINT and SIGTERM alike close what is held, certify it, and exit 0."""
    with bot(tmp_path) as process:
        lines_until(process.stderr, "filled at")
        process.send_signal(number)
        code, report, err = ended(process)
    assert code == 0
    assert (report["exit_code"], report["flat"], report["residual"]) == (0, True, [])
    assert report["certificate"]["closed"]
    kept = [json.loads(path.read_text()) for path in (tmp_path / "certificates").glob("*.json")]
    assert [(c["flat"], c["reason"]) for c in kept] == [(True, f"stop: {report['stop_reason']}")]
    assert json.loads((tmp_path / "heartbeat.json").read_text())["state"] == "STOPPED"
    assert not (tmp_path / "run.pid").exists()
    assert report["trades"] >= 1
    assert report["fills"] >= 2
    assert report["stop_reason"] == ("Ctrl+C" if number is signal.SIGINT else "SIGTERM")
    assert "FLAT" in err


def test_a_closed_terminal_ends_flat(tmp_path: Path) -> None:
    """END-1, END-3, LESSONS 9: SIGHUP with nobody left to read: what is held is closed and certified; exit code 0.

    A second one is no second signal: nobody gave up.
    """
    with bot(tmp_path) as process:
        lines_until(process.stderr, "filled at")
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        assert process.wait(40) == 0
    kept = [json.loads(path.read_text()) for path in (tmp_path / "certificates").glob("*.json")]
    assert [(c["flat"], c["reason"]) for c in kept] == [(True, "stop: the terminal was closed")]
    assert kept[0]["closed"]
    assert json.loads((tmp_path / "heartbeat.json").read_text())["state"] == "STOPPED"


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    """END-1: under nohup a closed terminal is no reason to stop."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals() == (signal.SIGINT, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in stop_signals()


def test_two_signals_give_up_and_list_what_is_left(tmp_path: Path) -> None:
    """END-2, END-3: the second signal gives up flattening; what the venue still shows is listed; exit code 4."""
    with bot(tmp_path, latency_ms=1500) as process:  # so that the close is still on its way at the second signal
        lines_until(process.stderr, "filled at")
        process.send_signal(signal.SIGINT)
        lines_until(process.stderr, "STOPPING")
        process.send_signal(signal.SIGINT)
        code, report, err = ended(process)
    assert code == 4
    assert report["exit_code"] == 4
    assert report["flat"] is False
    assert any("xyz:" in text for text in report["residual"])
    assert "NOT FLAT" in err


def test_duration_ends_by_the_same_road(tmp_path: Path) -> None:
    """END-1: `--duration` ends as Ctrl+C does."""
    with bot(tmp_path, "--duration", "2") as process:
        code, report, _ = ended(process)
    assert code == 0
    assert report["flat"] is True
    assert report["certificate"]["flat"] is True
    assert report["stop_reason"] == "--duration 2 s is over"


def test_no_key_is_in_any_output(tmp_path: Path) -> None:
    """KEY-4: neither lines, report nor log of a run that trades contain the key that signed."""
    log = tmp_path / "run.jsonl"
    with bot(tmp_path, "--duration", "3", "--log", str(log), "--debug") as process:
        out, err = process.communicate(timeout=40)
    written = out + err + log.read_text()
    assert "action_signed" in written
    assert KEY[2:] not in written.lower()


def test_a_busy_port_refuses_the_start(tmp_path: Path) -> None:
    """END-3: a port in use is named with its remedy; exit code 3, nothing half-started, no trace-back."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with bot(tmp_path, port=port) as process:
            code, report, err = ended(process)
    assert code == 3
    assert (report["exit_code"], report["flat"], report["residual"]) == (3, None, [])
    assert f"127.0.0.1:{port} is in use" in err
    assert "Traceback" not in err
