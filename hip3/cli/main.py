"""The command `hip3`: one program, its sub-commands. Each returns its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from cyclopts import App, CycloptsError

import hip3
from hip3.cli import (
    checks_cmd,
    config_cmd,
    doctor_cmd,
    drill_cmd,
    exchange_cmd,
    explain_cmd,
    flatten_cmd,
    fsm_cmd,
    keys_cmd,
    market_cmd,
    ops_cmd,
    report_cmd,
    rotate_cmd,
    run_cmd,
    status_cmd,
    verify_cmd,
    watchdog_cmd,
)

EXIT_CONFIGURATION = 2  # END-3
STORE_COMMANDS = ("backup", "restore", "rebuild", "copy", "migrate", "info")
AUDIT_COMMANDS = ("verify", "tail", "export")


EXIT_PIPE = 141
"""What a shell says of a program that SIGPIPE ended: 128 + 13."""


def _group(name: str, help_text: str, commands: Mapping[str, Callable[..., int]]) -> App:
    group = App(name=name, help=help_text)
    for command, function in commands.items():
        group.command(function, name=command)
    return group


def _lazy_group(name: str, help_text: str, module: str, commands: Sequence[str]) -> App:
    """As `_group`; the module is imported when one of its commands is used: the database library costs 0.3 s."""
    group = App(name=name, help=help_text)
    for command in commands:
        group.command(f"{module}:{command}", name=command)
    return group


def make_app() -> App:
    """The command line, built anew for each caller: there is no module state."""
    app = App(
        name="hip3",
        help="A trading bot for HIP-3 perpetuals on Hyperliquid. Without a configuration it trades on paper.",
        version=hip3.__version__,
        result_action="return_value",
    )
    app.command(run_cmd.run, name="run")
    app.command(status_cmd.status, name="status")
    app.command(doctor_cmd.doctor, name="doctor")
    app.command(checks_cmd.preflight, name="preflight")
    app.command(checks_cmd.poststart, name="poststart")
    app.command(checks_cmd.validate_run, name="validate-run")
    app.command(flatten_cmd.flatten, name="flatten")
    app.command(watchdog_cmd.watchdog, name="watchdog")
    app.command(verify_cmd.verify, name="verify")
    app.command(explain_cmd.explain, name="explain")
    app.command(report_cmd.report, name="report")
    app.command(market_cmd.replay, name="replay")
    app.command(market_cmd.record, name="record")
    app.command(exchange_cmd.exchange, name="exchange")
    config = {"check": config_cmd.config_check, "show": config_cmd.config_show, "hash": config_cmd.config_hash}
    app.command(_group("config", "Check, show and hash a configuration.", config))
    app.command(
        _group(
            "keys",
            "API wallet keys.",
            {"new": keys_cmd.keys_new, "address": keys_cmd.keys_address, "rotate": rotate_cmd.keys_rotate},
        )
    )
    app.command(_group("ops", "Command the running bot.", ops_cmd.COMMANDS))
    app.command(_group("drill", "Rehearse what must work when it matters, with real processes.", drill_cmd.COMMANDS))
    app.command(_lazy_group("store", "The state store.", "hip3.cli.store_cmd", STORE_COMMANDS))
    app.command(_lazy_group("audit", "The audit log.", "hip3.cli.audit_cmd", AUDIT_COMMANDS))
    app.command(_group("fsm", "State machines.", {"export": fsm_cmd.fsm_export}))
    return app


def main(tokens: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code; 2 for an argument that means nothing."""
    try:
        code = make_app()(tokens, exit_on_error=False)
        sys.stdout.flush()
    except CycloptsError:
        sys.exit(EXIT_CONFIGURATION)  # cyclopts has printed what is wrong
    except BrokenPipeError:
        # Whoever read the output has enough of it (`| head`); the interpreter must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)
    sys.exit(code if isinstance(code, int) else 0)
