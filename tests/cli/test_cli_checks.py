"""`hip3 preflight`, `poststart` and `validate-run` as a user calls them: real exchanges, a real bot in a process."""

from __future__ import annotations

import json
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hip3.cli.main import make_app
from hip3.ops.findings import PoststartCheck, PreflightCheck
from hip3.ops.status_server import socket_path
from hip3.venue.hyperliquid.signing import TradingKey
from tests.cli import cli_venue

KEY = "9d" * 32
"""Nobody's key: the exchange is embedded and ends with the process."""
USER = "0x" + "12" * 20
CONFIG = f"""
network = "paper"
user_address = "{USER}"
[signer]
key_source = {{type = "env_var", var_name = "HIP3_TEST_KEY"}}
[safety]
startup_policy = "auto"
[detector]
dedup = false
direction = false
[position]
time_stop_ms = 2000
reduce_only_timeout_ms = 8000
[[markets]]
coin = "xyz:NVDA"
threshold_bps = 0.1
"""
READY_WITHIN_S = 40
ASKED = ("agent", "rest", "websocket", "clock", "markets", "prices", "balance")
"""The checks that need the venue."""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HIP3_TEST_KEY", KEY)
    return tmp_path / "state"


def hip3(*tokens: str) -> int:
    code = make_app()(list(tokens), exit_on_error=False)
    assert isinstance(code, int)
    return code


def levels(report: dict[str, Any]) -> dict[str, str]:
    return {row["check"]: row["level"] for row in report["checks"]}


def test_paper_without_any_configuration_passes_and_nothing_is_left(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-2, PRD-3: the embedded exchange is started, asked over real HTTP and WebSocket, and ended; no file is made."""
    assert hip3("preflight") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [check.value for check in PreflightCheck]
    assert {line.split()[0] for line in lines[:-1]} <= {"PASS", "WARN"}  # WARN: a small disk
    assert lines[-1] == "preflight_ok true"
    assert not state.exists()


def test_a_venue_that_is_down_fails_and_the_rest_is_still_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-2: REST and WebSocket are refused; key, store, lock and disk have their lines; exit code 3, no secret."""
    with socket.socket() as closed:  # bound and not listening: whoever dials is refused
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        urls = f'info_url = "http://127.0.0.1:{port}"\nws_url = "ws://127.0.0.1:{port}/ws"\n'
        config = tmp_path / "down.toml"
        config.write_text(urls + CONFIG)
        assert hip3("preflight", "--config", str(config), "--json") == 3
    out = capsys.readouterr().out
    report = json.loads(out)
    found = levels(report)
    assert report["preflight_ok"] is False
    assert list(found) == [check.value for check in PreflightCheck]
    assert {found[check] for check in ASKED} == {"FAIL"}
    assert {found[check] for check in found if check not in (*ASKED, "disk")} == {"PASS"}
    assert KEY not in out.lower()


def test_a_configuration_that_is_wrong_leaves_the_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-2, LESSONS 3: what cannot be checked is no PASS."""
    config = tmp_path / "wrong.toml"
    config.write_text('network = "paper"\nnonsense = 1\n')
    assert hip3("preflight", "--config", str(config), "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert "nonsense" in report["checks"][0]["value"]
    assert {check for check, level in levels(report).items() if level != "FAIL"} == {"disk"}
    assert hip3("poststart", "--config", str(config)) == 2
    assert hip3("validate-run", "--config", str(config)) == 2


def test_an_exchange_that_cannot_be_started_fails_every_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-2, SIM-3: a recording that is not there; each line that needed the exchange says so."""
    config = tmp_path / "replay.toml"
    config.write_text(
        'network = "paper"\n[paper]\nsource = "replay"\nrecording = "gone.jsonl"\n[[markets]]\ncoin = "xyz:NVDA"\n'
    )
    assert hip3("preflight", "--config", str(config), "--json") == 3
    rows = json.loads(capsys.readouterr().out)["checks"]
    assert len([row for row in rows if "gone.jsonl" in row["value"] and row["level"] == "FAIL"]) == len(ASKED)


def test_without_a_bot_poststart_fails_and_says_so(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-3: a bot that is not running is one clear FAIL, and nothing else passes."""
    assert hip3("poststart", "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert levels(report) == dict.fromkeys((check.value for check in PoststartCheck), "FAIL")
    assert str(socket_path(state)) in report["checks"][0]["value"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bot.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def bot(config: Path, state: Path) -> Iterator[None]:
    """`hip3 run` on paper, until it has traded; afterwards it must end flat."""
    arguments = ("run", "--config", str(config), "--plain")
    with cli_venue.hip3(*arguments, cwd=config.parent, HIP3_STATE_DIR=str(state)) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + READY_WITHIN_S
        for line in process.stdout:
            if "filled at" in line or time.monotonic() > deadline:
                break
        yield
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err


def test_a_running_bot_is_validated_and_the_evidence_kept(
    bot: None, config: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-2, OPS-3, OPS-4: poststart, then both with the evidence; a second bot's preflight finds the lock held."""
    assert hip3("poststart", "--config", str(config), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["poststart_ok"] is True
    found = levels(report)
    assert found["running"] == found["ready"] == found["cursor"] == found["journal"] == "PASS"
    assert found["audit"] in ("PASS", "WARN")  # that it grows in time is seen in virtual time
    assert hip3("validate-run", "--config", str(config), "--json") == 0
    evidence = json.loads(capsys.readouterr().out)
    page, data = map(Path, evidence.pop("files"))
    assert json.loads(data.read_text()) == evidence
    assert evidence["validate_run_ok"] is True
    assert evidence["config"]["hash"] in page.read_text()
    assert evidence["versions"]["hip3"]
    assert "| running | PASS |" in page.read_text()
    assert {stat.S_IMODE(file.stat().st_mode) for file in (page, data)} == {0o600}
    assert page.parent.parent == state
    everything = (page.read_text() + data.read_text()).lower()
    assert KEY not in everything
    assert TradingKey.from_text(KEY).address.lower() in everything
    assert hip3("preflight", "--config", str(config), "--json") == 3
    alone = json.loads(capsys.readouterr().out)
    assert {check for check, level in levels(alone).items() if level == "FAIL"} == {"lock"}
    (state / "evidence").rename(state / "kept")
    (state / "evidence").write_text("a file in its place")
    assert hip3("validate-run", "--config", str(config)) == 5
    assert "set HIP3_STATE_DIR" in capsys.readouterr().err
