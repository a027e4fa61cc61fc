"""`hip3 drill` as it is called: real processes on loopback, and the report that stays (OPS-8)."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_venue import call_hip3, configured, external_venue, hip3, run_hip3


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: the name of a local socket holds 107 bytes, and a drill's lies four folders deep."""
    with tempfile.TemporaryDirectory(prefix="h3-") as folder:
        yield Path(folder)


def drilled(folder: Path, name: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """A drill on paper: exit code and its report, which is also in the state folder."""
    code, out, err = run_hip3("drill", name, *arguments, "--json", cwd=folder)
    assert out, err
    report: dict[str, Any] = json.loads(out)
    kept = Path(report["folder"])
    assert json.loads((kept / "report.json").read_text()) == report
    text = (kept / "report.md").read_text()
    assert f"# Drill: {name} on paper, {'PASS' if code == 0 else 'FAIL'}" in text
    assert report["when"] in text
    return code, report


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        (
            "kill",
            ("holds a position", "HALT, OPERATOR_KILL", "OPERATOR_KILL ended", "no order and no", "exit code 0"),
        ),
        (
            "restart",
            (
                "holds a position",
                "kill -9",
                "process",
                "going on from the last run",
                "exit code 0",
                "no order and no",
                "chain is whole",
            ),
        ),
        ("disconnect", ("holds a position", "connections cut", "WS_DISCONNECT", "no order", "exit code 0", "no order")),
        ("watchdog", ("hip3 run", "kill -9", "the watchdog flattened after", "no order and no position")),
    ],
)
def test_a_drill_passes_on_paper(name: str, steps: tuple[str, ...], tmp_path: Path) -> None:
    """OPS-8, END-1, STOP-1, STOP-3, DEAD-1, STO-3, LESSONS 9: each step is seen, in this order; the report has its date."""
    code, report = drilled(tmp_path, name)
    assert code == 0, report
    assert (report["passed"], report["missing"]) == (True, "")
    assert len(report["steps"]) == len(steps), report["steps"]
    assert all(words in seen for words, seen in zip(steps, report["steps"], strict=True)), report["steps"]


def test_a_drill_takes_place_on_a_configured_venue(tmp_path: Path) -> None:
    """OPS-8, SAFE-3: with the configuration, the key and the venue that are given; a bot that waits for it is promoted."""
    with external_venue(tmp_path) as venue:
        config = configured(tmp_path, venue)
        config.write_text(config.read_text().replace('startup_policy = "auto"', 'startup_policy = "manual"'))
        code, report = drilled(tmp_path, "kill", "--config", str(config))
        assert code == 0, report
        assert "hip3 ops promote: granted" in report["steps"]
        assert (venue.positions(), venue.open_orders()) == ([], [])


def test_a_drill_without_a_position_fails_and_says_so(tmp_path: Path) -> None:
    """OPS-8: exit code 1, what was missing and where the logs are; the processes are ended."""
    code, report = drilled(tmp_path, "kill", "--wait", "0.01")
    assert (code, report["passed"]) == (1, False)
    assert "a position of the bot: not within 0.01 s" in report["missing"]


def processes_of(folder: Path) -> list[str]:
    """What runs with its state in a drill's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"HIP3_STATE_DIR={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue  # it has ended, or is not ours
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="who runs where is read from /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_drill_ends_what_it_started(number: signal.Signals, tmp_path: Path) -> None:
    """OPS-8, LESSONS 9: no bot goes on trading without its drill; the report says who ended it; exit code 1."""
    with hip3("drill", "kill", "--wait", "30", "--json", cwd=tmp_path) as process:
        deadline = time.monotonic() + 30
        while not (beats := list(tmp_path.glob("drills/*/heartbeat.json"))) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        folder = beats[0].parent
        assert processes_of(folder)
        process.send_signal(number)
        out, err = process.communicate(timeout=40)
    report = json.loads(out)
    assert (process.returncode, report["passed"], err) == (1, False, "")
    assert f"interrupted by {number.name}" in report["missing"]
    assert json.loads((folder / "heartbeat.json").read_text())["state"] == "STOPPED"
    assert processes_of(folder) == []


def test_a_drill_whose_folder_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """OPS-8: exit code 2 with the folder and the variable that names another; nothing was started."""
    state = tmp_path / "state"
    state.write_text("a file")
    code, out, err = run_hip3("drill", "kill", cwd=tmp_path, HIP3_STATE_DIR=str(state))
    assert (code, out) == (2, "")
    assert f"{state}/drills/kill-" in err
    assert "set HIP3_STATE_DIR to a folder that can be written" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--network", "mainnet"), "expected paper or testnet"),
        (("--wait", "0"), "expected seconds above 0"),
        (("--network", "testnet"), "needs --config"),
        (("--config", "own.toml"), "leave --config out on paper"),
        (("--network", "testnet", "--config", "own.toml"), "the configuration is for paper"),
    ],
)
def test_a_drill_that_cannot_take_place_is_refused(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-8: exit code 2, and nothing was started; never on mainnet."""
    (tmp_path / "own.toml").write_text('network = "paper"\n')
    assert call_hip3("drill", "restart", *arguments, cwd=tmp_path) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert not (tmp_path / "drills").exists()
