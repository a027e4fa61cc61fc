"""`hip3 status` and `hip3 explain` as a user calls them, against a real process."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hip3.cli.main import make_app
from hip3.ops.status_server import socket_path

KEY = "9d" * 32
"""Nobody's key: the exchange is embedded and ends with the process."""
CONFIG = """
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
latency_ms = 20
response_ms = 10
[[markets]]
coin = "xyz:NVDA"
threshold_bps = 0.1
[[markets]]
coin = "xyz:TSLA"
threshold_bps = 0.1
"""
"""Takes the first quote that is better than the oracle at all, so that there is a signal within a second or two."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HIP3_TEST_KEY", KEY)
    return tmp_path


def hip3(*tokens: str) -> int:
    code = make_app()(list(tokens), exit_on_error=False)
    assert isinstance(code, int)
    return code


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    config = folder / "eager.toml"
    config.write_text(CONFIG.format(user="0x" + "12" * 20))
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "hip3", "run", "--config", str(config), "--plain", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=dict(os.environ),
    )


def lines_until(process: subprocess.Popen[str], word: str) -> str:
    """What the process printed up to the first line with `word`; fails where it ends before."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if word in line:
            return seen
    pytest.fail(f"it ended before {word!r}:\n{seen}")


def test_a_running_bot_is_asked_and_its_signal_explained(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7, KEY-4: status while it runs, explain out of its journal; then no socket is left, and no secret anywhere."""
    process = start(state)
    try:
        printed = lines_until(process, "filled at")
        assert hip3("status", "--json") == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert answer["counts"]["fills"] >= 1
        assert answer["run"]["pid"] == process.pid
        assert answer["safety"]["mode"] == "ARMED_LIVE"
        assert hip3("status") == 0
        shown = capsys.readouterr().out
        assert f"process {process.pid}" in shown
        assert answer["run"]["config_hash"] in shown
        process.send_signal(signal.SIGINT)
        printed += process.communicate(timeout=40)[0]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
    assert process.returncode == 0, printed
    assert not socket_path(state).exists()
    (journal,) = (state / "journal").iterdir()
    assert f"journal of this run: {journal}" in printed
    for said_once in ("config_loaded: ", "signer_address: ", "journal of this run: ", "store: "):
        assert printed.count(said_once) == 1, said_once
    assert hip3("explain", "--last") == 0
    explained = capsys.readouterr().out
    assert "gates, asked" in explained
    assert str(journal) in explained
    everything = "\n".join((printed, json.dumps(answer), shown, explained, journal.read_text()))
    assert KEY not in everything.lower()
    assert str(int(KEY, 16)) not in everything
    assert hip3("status") == 3
    said = capsys.readouterr()
    assert "no running bot: there is no socket at" in said.err
    assert f"last run {answer['run']['id']} on paper" in said.out
    assert "ended flat: the venue showed nothing" in said.out
    assert hip3("status", "--json") == 3
    stored: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert stored["exit_code"] == 3
    assert stored["stored"]["account"] == answer["run"]["account"].lower()
    assert stored["stored"]["run"]["config_hash"] == answer["run"]["config_hash"]
    assert stored["stored"]["day"]["fills"] >= answer["counts"]["fills"]
    (journal.rename(state / "elsewhere.jsonl")).unlink()
    assert hip3("explain", "--last") == 0
    assert "store " + str(state / "store" / "paper.db") in capsys.readouterr().out


def test_a_store_that_cannot_be_read_is_said(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7, LESSONS 3: no bot is still the answer; a damaged store is no picture and never an empty one."""
    (state / "store").mkdir()
    (state / "store" / "paper.db").write_bytes(b"this is no database, and it is long enough to be looked at" * 40)
    assert hip3("status", "--json") == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["stored"] is None
    assert "not a database" in answer["store_error"]
    assert hip3("status") == 3
    assert "the store cannot be read: " in capsys.readouterr().err
    assert hip3("explain", "--last") == 2
    assert "--journal reads a journal in its place" in capsys.readouterr().err


def test_the_configuration_names_the_store(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7, CFG-3: --config reads the store of that network, where there is one; a wrong configuration is refused."""
    config = state / "c.toml"
    config.write_text('network = "testnet"\nmode = "observation"\n[[markets]]\ncoin = "xyz:NVDA"\n')
    assert hip3("status", "--config", str(config), "--json") == 3
    assert json.loads(capsys.readouterr().out)["stored"] is None
    config.write_text("network = 5")
    assert hip3("status", "--config", str(config)) == 2
    assert hip3("explain", "--last", "--config", str(config)) == 2
    assert hip3("report", "--config", str(config)) == 2


def test_a_run_goes_on_without_socket_and_journal(state: Path) -> None:
    """OPS-7, LESSONS 35: another bot holds the socket, and the journal has no place: both are said, and trading goes on."""
    (state / "journal").write_text("a file in its place")
    with (state / "status.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711\n")
        held.flush()
        process = start(state)
        try:
            printed = lines_until(process, "hip3 status cannot ask this bot")
            process.send_signal(signal.SIGINT)
            printed += process.communicate(timeout=40)[0]
        finally:
            process.kill()
            process.wait(10)
    assert process.returncode == 0, printed
    assert "no journal is kept, hip3 explain will know nothing of this run" in printed
    assert "hip3 status cannot ask this bot" in printed
    assert "served by another bot, process 4711" in printed
    assert (state / "journal").read_text() == "a file in its place"


def test_no_bot_is_exit_code_3(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7: where was looked stands in the message, for people and for machines."""
    assert hip3("status") == 3
    said = capsys.readouterr()
    assert said.err == f"hip3 status: no running bot: there is no socket at {socket_path(state)}\n"
    assert said.out == ""
    assert hip3("status", "--json") == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 3
    assert str(socket_path(state)) in answer["error"]


def test_what_a_killed_bot_left_is_no_bot(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-7, LESSONS 3: a socket file is no evidence of a process."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path(state)))
    assert hip3("status") == 3
    assert "was left behind by one that is gone" in capsys.readouterr().err


def test_an_answer_that_could_not_be_made_is_no_status(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LESSONS 3: a bot that cannot say how it is does not count as fine: exit code 5 and its own words."""
    process_code = "\n".join(
        (
            "import socket, sys",
            "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(2); print('up', flush=True)",
            "for _ in range(2):",
            '    c, _a = s.accept(); c.sendall(b\'{"error": "the status could not be made: KeyError"}\'); c.close()',
        )
    )
    with subprocess.Popen(  # noqa: S603 - four lines above
        [sys.executable, "-c", process_code, str(socket_path(state))], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        assert hip3("status") == 5
        assert "the status could not be made: KeyError" in capsys.readouterr().err
        assert hip3("status", "--json") == 5
        assert json.loads(capsys.readouterr().out)["exit_code"] == 5
