"""`hip3 doctor`: why the bot does not trade, and what would change that. Reads, and can change nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.words import age_text, printable
from hip3.core.cause_catalog import kind_of, remedy
from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.fsm.safety import SafetyMode
from hip3.io.clock import SystemClock
from hip3.ops.journal_file import state_dir
from hip3.ops.last_run import LastRun, last_run
from hip3.ops.local_socket import NoAnswer
from hip3.ops.status_server import ask
from hip3.ops.stored_status import stored_view
from hip3.ops.stores import known_sources, reading
from hip3.settings import ConfigError
from hip3.store.errors import StoreError

EXIT_OK, EXIT_FORBIDDEN, EXIT_CONFIGURATION, EXIT_NO_BOT, EXIT_NO_ANSWER = 0, 1, 2, 3, 5
WITHIN_S = 5.0
WAYS = {
    "promote": ("to ARMED_LIVE", 'hip3 ops promote --reason "..."'),
    "unhalt": ("to ARMED_SAFE", 'hip3 ops unhalt --reason "..."'),
    "recovery": ("to ARMED_SAFE without an operator", "no command: with the evidence it happens by itself"),
}


def doctor(*, config: Config = None, as_json: Json = False) -> int:
    """Explain the present mode: each cause, since when, who put it there, what would end it, with the exact command.

    With no bot running: in which mode the next start begins by its store, and what ends that. --config names another store.
    Exit code 0: entries may leave; 1: something forbids them; 3: no bot is running; 5: a bot is there, but did not answer;
    2: configuration.

    Example: hip3 doctor
    """
    state = state_dir(os.environ)
    try:
        answer = ask(state, WITHIN_S)
    except NoAnswer as e:
        if e.running:
            return _failed(str(e), as_json=as_json)
        return _stopped(str(e), state, config, as_json=as_json)
    if "error" in answer:
        return _failed(str(answer["error"]), as_json=as_json)
    found = diagnosis(answer)
    code = EXIT_OK if found["allows_entry"] and not found["causes"] and not found["not_ready"] else EXIT_FORBIDDEN
    if as_json:
        print(json.dumps(found | {"exit_code": code}, sort_keys=True))
    else:
        print("\n".join(map(printable, diagnosis_lines(found))))
    return code


def _failed(message: str, *, as_json: bool) -> int:
    print(f"hip3 doctor: {printable(message)}", file=sys.stderr)
    if as_json:
        print(json.dumps({"exit_code": EXIT_NO_ANSWER, "error": message}, sort_keys=True))
    return EXIT_NO_ANSWER


# ---- a running bot


def diagnosis(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What the status of a bot means: its causes with their remedies, and what stands against each way out."""
    safety, ready = answer["safety"], answer["ready"]
    not_ready = [f"{name} is missing" for name, c in ready["conditions"].items() if not c["holds"]]
    not_ready += [f"{m['coin']}: {m['missing']}" for m in answer["markets"] if m["missing"]]
    return {
        "mode": safety["mode"],
        "age_ms": safety["age_ms"],
        "allows_entry": safety["allows_entry"],
        "lifecycle": answer["lifecycle"]["state"],
        "causes": [cause | _about(cause) for cause in safety["causes"]],
        "against": safety["against"],
        "not_ready": not_ready,
    }


def _about(cause: Mapping[str, Any]) -> dict[str, str]:
    code, severity, clears = ReasonCode(cause["code"]), Severity[cause["severity"]], Clears(cause["clears"])
    kind = kind_of(code, severity, clears)
    return {"ends": kind.ends if kind is not None else "", "command": remedy(code, severity, clears)}


def diagnosis_lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    if found["allows_entry"]:
        may = "entries may leave"
    elif found["mode"] == SafetyMode.HALT.name:
        may = "no entry leaves; everything that the venue lists is cancelled and closed"
    else:
        may = "no entry leaves; exits and cancels go on"
    lines = [f"{found['mode']} for {_age(found['age_ms'])}, {found['lifecycle']}: {may}"]
    lines += [line for cause in found["causes"] for line in _cause_lines(cause)]
    for way, obstacles in found["against"].items():
        where, command = WAYS[way]
        if not obstacles:
            lines.append(f"  nothing stands against the way {where}: {command}")
            continue
        lines.append(f"  against the way {where} ({command}):")
        lines += [f"      {o['what']}: {o['why']}" for o in obstacles]
    lines += [f"  not ready: {text}" for text in found["not_ready"]]
    return lines


def _cause_lines(cause: Mapping[str, Any]) -> list[str]:
    lines = [
        f"  {cause['severity']} {cause['code']}, by {cause['source']}, for {_age(cause['age_ms'])}: {cause['message']}",
        f"      ends: {cause['ends']}",
        f"      command: {cause['command']}",
    ]
    return [*lines, f"      holds still: {cause['still']}"] if cause["still"] else lines


def _age(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else age_text(ms)


# ---- a stopped one


def _stopped(message: str, state: Path, config: Path | None, *, as_json: bool) -> int:
    """What the store says of the next start, and the journal of the last one; changes neither."""
    stored, trouble = None, None
    try:
        with reading(known_sources(state, config, os.environ)) as stores:
            stored = stored_view(stores, SystemClock().wall_ms())
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except StoreError as e:
        trouble = f"the store cannot be read: {e}"
    try:
        run = last_run(state)
    except OSError as e:
        run, message = None, f"{message}; its journal cannot be read: {e.strerror or e}"
    start = None if stored is None else _next_start(stored)
    lines = [] if run is None else last_run_lines(run)
    if as_json:
        told = {"exit_code": EXIT_NO_BOT, "error": message, "store_error": trouble, "next_start": start, "last_run": lines}
        print(json.dumps(told, sort_keys=True))
        return EXIT_NO_BOT
    for text in filter(None, (message, trouble)):
        print(f"hip3 doctor: {printable(text)}", file=sys.stderr)
    shown = ([] if start is None else next_start_lines(start)) + lines
    print("\n".join(map(printable, shown or ["no run of this state folder is known"])))
    return EXIT_NO_BOT


def _next_start(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The next start of the account that ran last, each cause with what ends it."""
    start = stored["next_start"]
    causes = [cause | _about(cause) for cause in start["causes"]]
    return {**start, "causes": causes, "store": stored["store"], "account": stored["account"]}


def next_start_lines(start: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    lines = [f"the next start, by {start['store']}, account {start['account'] or 'none'}, begins in {start['mode']}:"]
    lines += [line for cause in start["causes"] for line in _cause_lines(cause)]
    for obstacles in start["against"].values():
        if not obstacles:
            lines.append('  nothing stands against the end of the HALT before it: hip3 ops unhalt --reason "..."')
            continue
        lines.append('  against the end of the HALT before it (hip3 ops unhalt --reason "..."):')
        lines += [f"      {o['what']}: {o['why']}" for o in obstacles]
    if start["policy_promotes"]:
        lines.append("  ARMED_LIVE follows by itself when READY-TRADING holds (startup_policy = auto)")
    else:
        lines.append('  ARMED_LIVE follows by hand, when READY-TRADING holds: hip3 ops promote --reason "..."')
    return lines


def last_run_lines(run: LastRun) -> list[str]:
    """What the last run left, out of its journal."""
    lines = [f"the last run, by {run.journal}:"]
    if run.mode is None:
        lines.append("  it never left ARMED_SAFE")
    else:
        m = run.mode
        lines.append(f"  mode {m.get('after')} since {m.get('time')}: {m.get('reason')} ({m.get('message')})")
    if run.crash is not None:
        lines.append(f"  it crashed at {run.crash.get('time')}: {run.crash.get('error')}")
    if run.lifecycle is not None:
        lines.append(f"  {run.lifecycle.get('after')} since {run.lifecycle.get('time')}")
    return lines
