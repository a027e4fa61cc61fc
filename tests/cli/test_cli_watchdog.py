"""Exchange, bot and watchdog as three processes; and the script that stops a bot (DEAD-1, RUN-2)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.cli_venue import BOT_KEY, GUARD_KEY, NVDA, USER, ExternalVenue, configured, external_venue, hip3, run_hip3
from tests.cli.test_cli_run import lines_until

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "mainnet_microtest_stop.sh"
STALE_S = 2.0


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Real processes: waits for what another one does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {condition.__code__.co_qualname}"
        time.sleep(0.05)


def test_a_killed_bot_is_flattened_by_another_process(tmp_path: Path) -> None:
    """DEAD-1, LESSONS 9, 12: `kill -9` while a position is held: the watchdog closes it with its own key, certifies it."""
    with external_venue(tmp_path) as venue:
        config = str(configured(tmp_path, venue))
        own = run_hip3("watchdog", "--config", config, "--env-var", "BOT_KEY", cwd=tmp_path)
        assert own[0] == 2
        assert "nonces of two processes collide" in own[2]
        with (
            hip3("run", "--config", config, "--plain", cwd=tmp_path) as bot,
            hip3("watchdog", "--config", config, "--env-var", "GUARD_KEY", cwd=tmp_path) as dog,
        ):
            lines_until(dog.stdout, "is well")
            lines_until(bot.stdout, "filled at")
            within(10, lambda: bool(venue.positions()))
            bot.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            said = lines_until(dog.stdout, "FLAT: account")
            took_s = time.monotonic() - killed
            assert (venue.positions(), venue.open_orders()) == ([], [])
            assert STALE_S - 0.5 < took_s < STALE_S + 5 + 5  # 5 s are the promise; the rest is this machine's
            assert any("no heartbeat for" in line for line in said)
            dog.send_signal(signal.SIGTERM)
            assert dog.wait(10) == 0
            assert GUARD_KEY[2:] not in "".join(said).lower()
    assert list((tmp_path / "certificates").glob("*.json"))


def stop_script(tmp_path: Path, venue: ExternalVenue, *key: str, **environment: str) -> tuple[int, str]:
    """Runs the script against the venue of the test; exit code and output."""
    ended = subprocess.run(  # noqa: S603 - our own script
        [str(SCRIPT), "--account", USER, "--network", "paper", "--url", venue.url, *key],
        env={
            **os.environ,
            "HIP3": f"{sys.executable} -m hip3",
            "HIP3_STATE_DIR": str(tmp_path),
            "GUARD_KEY": GUARD_KEY,
            **environment,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_stop_script_ends_a_bot_flat_and_verifies(tmp_path: Path) -> None:
    """RUN-2, END-1: by the pid file, with SIGINT, then the venue is asked: exit code 0.

    LESSONS 9: a pid file that was left behind names somebody else by now: that process is left alone, the venue is asked.
    """
    with external_venue(tmp_path) as venue:
        config = str(configured(tmp_path, venue))
        with hip3("run", "--config", config, "--plain", cwd=tmp_path) as bot:
            lines_until(bot.stdout, "filled at")
            assert (tmp_path / "run.pid").read_text() == f"{bot.pid}\n"
            code, said = stop_script(tmp_path, venue)
            assert (code, bot.wait(10)) == (0, 0)
        assert "SIGINT" in said
        assert "SIGTERM" not in said
        assert f"FLAT: account {USER}" in said
        assert venue.positions() == []
        assert not (tmp_path / "run.pid").exists()
        venue.place(NVDA, 50)
        with subprocess.Popen(["/bin/sleep", "60"]) as other:
            (tmp_path / "run.pid").write_text(f"{other.pid}\n")
            code, said = stop_script(tmp_path, venue)
            assert other.poll() is None
            other.kill()
        assert (code, "is no bot any more" in said, "NOT FLAT" in said) == (4, True, True)


def test_the_stop_script_escalates_and_flattens_what_a_dead_bot_left(tmp_path: Path) -> None:
    """RUN-2: a bot that hears no signal is killed at last; what it held is flattened with the key that was given."""
    with external_venue(tmp_path) as venue:
        config = str(configured(tmp_path, venue))
        with hip3("run", "--config", config, "--plain", cwd=tmp_path) as bot:
            lines_until(bot.stdout, "filled at")
            within(10, lambda: bool(venue.positions()))
            bot.send_signal(signal.SIGSTOP)  # it hangs
            quick = {"WAIT_INT_S": "1", "WAIT_TERM_S": "1"}
            code, said = stop_script(tmp_path, venue, "--env-var", "GUARD_KEY", **quick)
            assert bot.wait(10) == -signal.SIGKILL
        assert code == 0, said
        assert [word for word in ("SIGINT", "SIGTERM", "SIGKILL") if word in said] == ["SIGINT", "SIGTERM", "SIGKILL"]
        assert venue.positions() == []


@pytest.mark.parametrize("arguments", [(), ("--account", USER), ("--account",), ("--what", "x")])
def test_the_stop_script_says_how_it_is_used(arguments: tuple[str, ...]) -> None:
    """RUN-2: exit code 2 and its options for anything that it does not understand."""
    ended = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - ours
    assert ended.returncode == 2
    assert "--account 0x" in ended.stderr


def test_a_watchdog_that_could_not_guard_is_refused(tmp_path: Path) -> None:
    """DEAD-1, END-3: exit code 2 with the cause and what to do: the bot's own key source, and its own signer."""
    where = ExternalVenue("http://127.0.0.1:9", None, None, None)  # type: ignore[arg-type]  # nothing is asked of it
    config = configured(tmp_path, where)
    for variable, other, says in (
        ("BOT_KEY", {}, "the key is signer.key_source, the bot's own"),
        ("GUARD_KEY", {"GUARD_KEY": BOT_KEY}, "is signer_address, the bot's own signer"),
    ):
        code, out, err = run_hip3("watchdog", "--config", str(config), "--env-var", variable, cwd=tmp_path, **other)
        assert (code, out) == (2, "")
        assert says in err
        assert "Approve a second agent" in err
        assert BOT_KEY[2:] not in err
