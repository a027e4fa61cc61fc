"""The command `hip3`: one program, its sub-commands. Each returns its exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from cyclopts import App, CycloptsError

import hip3

EXIT_CONFIGURATION, EXIT_INTERNAL = 2, 5  # END-3
OPS_COMMANDS = ("hold", "kill", "promote", "unhalt", "maintenance-skip", "reset-safety")
DRILL_COMMANDS = ("kill", "disconnect", "watchdog", "restart")
STORE_COMMANDS = ("backup", "restore", "rebuild", "copy", "migrate", "info")
AUDIT_COMMANDS = ("verify", "tail", "export")
COMMANDS = {
    "run": "run_cmd:run",
    "status": "status_cmd:status",
    "doctor": "doctor_cmd:doctor",
    "preflight": "checks_cmd:preflight",
    "poststart": "checks_cmd:poststart",
    "validate-run": "checks_cmd:validate_run",
    "flatten": "flatten_cmd:flatten",
    "watchdog": "watchdog_cmd:watchdog",
    "verify": "verify_cmd:verify",
    "explain": "explain_cmd:explain",
    "report": "report_cmd:report",
    "replay": "market_cmd:replay",
    "record": "market_cmd:record",
    "exchange": "exchange_cmd:exchange",
}
"""Module of this package and function of each command. It is imported when it is used: together they cost 1.2 s of
processor time, the database library alone 0.3 s, and a hold or a kill should not wait for what it does not need."""
GROUPS = {
    "config": (
        "Check, show and hash a configuration.",
        {name: f"config_cmd:config_{name}" for name in ("check", "show", "hash")},
    ),
    "keys": (
        "API wallet keys.",
        {"new": "keys_cmd:keys_new", "address": "keys_cmd:keys_address", "rotate": "rotate_cmd:keys_rotate"},
    ),
    "ops": (
        "Command the running bot.",
        {name: f"ops_cmd:ops_{name.replace('-', '_')}" for name in OPS_COMMANDS},
    ),
    "drill": (
        "Rehearse what must work when it matters, with real processes.",
        {name: f"drill_cmd:drill_{name}" for name in DRILL_COMMANDS},
    ),
    "store": ("The state store.", {name: f"store_cmd:{name}" for name in STORE_COMMANDS}),
    "audit": ("The audit log.", {name: f"audit_cmd:{name}" for name in AUDIT_COMMANDS}),
    "fsm": ("State machines.", {"export": "fsm_cmd:fsm_export"}),
}


EXIT_INTERRUPTED = 130
"""As a shell says of SIGINT: 128 + 2. A command that something depends on takes the signal itself."""
EXIT_PIPE = 141
"""What a shell says of a program that SIGPIPE ended: 128 + 13."""


def make_app(*, described: bool = False) -> App:
    """The command line, built anew for each caller: there is no module state.

    `described`: every command is imported, so that a list of them says what each does.
    """

    def command(place: str) -> str | Callable[..., int]:
        module, _, function = f"hip3.cli.{place}".partition(":")
        return cast("Callable[..., int]", getattr(import_module(module), function)) if described else f"{module}:{function}"

    app = App(
        name="hip3",
        help="A trading bot for HIP-3 perpetuals on Hyperliquid. Without a configuration it trades on paper.",
        version=hip3.__version__,
        result_action="return_value",
    )
    for name, place in COMMANDS.items():
        app.command(command(place), name=name)
    for group, (help_text, commands) in GROUPS.items():
        inner = App(name=group, help=help_text)
        for name, place in commands.items():
            inner.command(command(place), name=name)
        app.command(inner)
    return app


def main(tokens: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its code; 2 for an argument that means nothing."""
    tokens = sys.argv[1:] if tokens is None else tokens
    asks_for_a_list = all(token in GROUPS or token in ("--help", "-h") for token in tokens)
    try:
        code = make_app(described=asks_for_a_list)(tokens, exit_on_error=False)
        sys.stdout.flush()
    except CycloptsError:
        sys.exit(EXIT_CONFIGURATION)  # cyclopts has printed what is wrong
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has enough of it (`| head`); the interpreter must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)
    except Exception as e:  # a refusal would have a code and a sentence of its own: this is neither done nor refused
        traceback.print_exc()
        print(f"hip3: internal error: {type(e).__name__}: {e}; please report it with the lines above", file=sys.stderr)
        sys.exit(EXIT_INTERNAL)
    sys.exit(code if isinstance(code, int) else 0)
