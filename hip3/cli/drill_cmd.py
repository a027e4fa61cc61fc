"""`hip3 drill`: rehearses kill, disconnect, watchdog and restart with real processes, and writes what it saw (OPS-8)."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import trio
from attrs import asdict, frozen
from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.words import printable
from hip3.core.errors import first_leaf
from hip3.io.clock import SystemClock
from hip3.ops.drill import (
    BOT_KEY,
    DRILLS,
    WATCHDOG_KEY,
    DrillFailed,
    Site,
    Stage,
    child_env,
    paper_site,
    throw_away,
)
from hip3.ops.files import replace_file
from hip3.ops.journal_file import STATE_VAR, iso_text, state_dir
from hip3.ops.stop import stop_signals
from hip3.settings import ConfigError, load
from hip3.settings.describe import endpoints_of
from hip3.settings.schema import Settings, StartupPolicy
from hip3.venue.hyperliquid.endpoints import Network

EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION = 0, 1, 2
FOLDER = "drills"

NetworkName = Annotated[str, Parameter(name="--network", help="paper, or testnet with --config.")]
Wait = Annotated[float, Parameter(name="--wait", help="Seconds that the bot may take to hold a position.")]
WatchdogVar = Annotated[str, Parameter(help="Variable with the watchdog's own agent key, where --config is given.")]


@frozen
class Report:
    """What a drill saw. `when` is the start, UTC; `missing` is empty where it passed."""

    drill: str
    network: str
    when: str
    passed: bool
    steps: tuple[str, ...]
    missing: str
    took_s: float


def drill_kill(*, network: NetworkName = "paper", config: Config = None, wait: Wait = 60, as_json: Json = False) -> int:
    """Rehearse OPERATOR_KILL: a bot with a position is killed, the account is flat, the HALT is ended.

    Exit code 0: passed; 1: failed, with what was missing; 2: configuration. The report is in drills/ of the state folder.

    Example: hip3 drill kill --network paper
    """
    return _drill("kill", network, config, wait, WATCHDOG_KEY, as_json=as_json)


def drill_disconnect(
    *, network: NetworkName = "paper", config: Config = None, wait: Wait = 60, as_json: Json = False
) -> int:
    """Rehearse a lost link: the WebSocket is cut while a position is held; HALT, and flat over REST. Paper only.

    Exit code 0: passed; 1: failed, with what was missing; 2: configuration. The report is in drills/ of the state folder.

    Example: hip3 drill disconnect
    """
    return _drill("disconnect", network, config, wait, WATCHDOG_KEY, as_json=as_json)


def drill_watchdog(
    *,
    network: NetworkName = "paper",
    config: Config = None,
    wait: Wait = 60,
    env_var: WatchdogVar = WATCHDOG_KEY,
    as_json: Json = False,
) -> int:
    """Rehearse `kill -9` of a bot with a position: `hip3 watchdog` flattens within stale_ms and 5 s.

    Exit code 0: passed; 1: failed, with what was missing; 2: configuration. The report is in drills/ of the state folder.

    Example: hip3 drill watchdog --network testnet --config config/testnet.toml --env-var WATCHDOG_KEY
    """
    return _drill("watchdog", network, config, wait, env_var, as_json=as_json)


def drill_restart(*, network: NetworkName = "paper", config: Config = None, wait: Wait = 60, as_json: Json = False) -> int:
    """Rehearse `kill -9` of a bot with a position and a new start: it ends flat, and the audit chain is whole.

    Exit code 0: passed; 1: failed, with what was missing; 2: configuration. The report is in drills/ of the state folder.

    Example: hip3 drill restart --json
    """
    return _drill("restart", network, config, wait, WATCHDOG_KEY, as_json=as_json)


def _drill(name: str, network: str, config: Path | None, wait_s: float, env_var: str, *, as_json: bool) -> int:
    try:
        settings = load(config, os.environ).settings if config is not None else None
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    why_not = _refusal(network, settings) if wait_s > 0 else f"--wait {wait_s:g}: expected seconds above 0"
    if why_not is not None:
        print(f"hip3 drill: {why_not}", file=sys.stderr)
        return EXIT_CONFIGURATION
    began_ms = SystemClock().wall_ms()
    folder = state_dir(os.environ) / FOLDER / f"{name}-{began_ms // 1000}"
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as e:
        print(f"hip3 drill: {folder}: {e.strerror or e}; set {STATE_VAR} to a folder that can be written", file=sys.stderr)
        return EXIT_CONFIGURATION
    account, keys = throw_away()
    own = {BOT_KEY: keys[0], WATCHDOG_KEY: keys[1]} if settings is None else {}
    stage = Stage(folder, child_env(folder, own), wait_s)
    missing = ""
    try:
        if settings is None:
            trio.run(_on_paper, name, stage, account, keys)
        else:
            assert config is not None
            assert settings.user_address is not None
            site = Site(
                network,
                settings.user_address,
                config.resolve(),
                settings.watchdog.stale_ms,
                env_var,
                settings.info_url,
                promotes=settings.safety.startup_policy is StartupPolicy.MANUAL,
            )
            trio.run(_run, name, stage, site)
    except* DrillFailed as group:
        missing = str(first_leaf(group))
    took_s = round((SystemClock().wall_ms() - began_ms) / 1000, 1)
    return _told(
        Report(name, network, iso_text(began_ms), not missing, tuple(stage.steps), missing, took_s), folder, as_json
    )


def _refusal(network: str, settings: Settings | None) -> str | None:
    """Why a drill cannot take place there."""
    if network not in (Network.PAPER.value, Network.TESTNET.value):
        return f"--network {network}: a drill ends processes that hold a position; expected paper or testnet"
    if settings is None:
        return None if network == Network.PAPER.value else "--network testnet needs --config with account and key"
    if settings.network.value != network:
        return f"--network {network}: the configuration is for {settings.network.value}"
    if settings.user_address is None or endpoints_of(settings) is None:
        return "the configuration names no account, or no venue that outlives the bot; leave --config out on paper"
    return None


async def _on_paper(name: str, stage: Stage, account: str, keys: tuple[str, str]) -> None:
    async def drill() -> None:
        async with paper_site(stage, account, keys) as site:
            await DRILLS[name](stage, site)

    await _unless_stopped(stage, drill)


async def _run(name: str, stage: Stage, site: Site) -> None:
    await _unless_stopped(stage, lambda: DRILLS[name](stage, site))


async def _unless_stopped(stage: Stage, drill: Callable[[], Awaitable[None]]) -> None:
    """The drill; whatever ends it, a signal too, ends what it had started. Raises DrillFailed."""
    by: list[str] = []
    async with trio.open_nursery() as nursery:

        async def watch(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with trio.open_signal_receiver(*stop_signals()) as received:
                task_status.started()
                async for number in received:
                    by.append(signal.Signals(number).name)
                    nursery.cancel_scope.cancel()

        await nursery.start(watch)
        try:
            await drill()
        finally:
            await stage.stop_all()
        nursery.cancel_scope.cancel()
    if by:
        raise DrillFailed(
            f"interrupted by {by[0]}; what it had started was ended. hip3 flatten --verify says what the account holds"
        )


def _told(report: Report, folder: Path, as_json: bool) -> int:
    """Prints the report and keeps it beside the drill's logs, as JSON and as Markdown."""
    code = EXIT_OK if report.passed else EXIT_FAILED
    text = markdown(report)
    data = json.dumps(asdict(report) | {"exit_code": code, "folder": str(folder)}, sort_keys=True)
    replace_file(folder / "report.json", data + "\n")
    replace_file(folder / "report.md", text)
    print(data if as_json else "\n".join([*map(printable, text.splitlines()), f"kept in {folder}"]))
    return code


def markdown(report: Report) -> str:
    """The report for people."""
    verdict = "PASS" if report.passed else "FAIL"
    lines = [f"# Drill: {report.drill} on {report.network}, {verdict}", "", f"{report.when}, {report.took_s} s", ""]
    lines += [f"- {step}" for step in report.steps]
    lines += [f"- MISSING: {report.missing}"] if report.missing else []
    return "\n".join(lines) + "\n"
