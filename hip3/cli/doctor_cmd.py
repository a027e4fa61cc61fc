"""`hip3 doctor`: why the bot does not trade, and what would change that. Reads, and can change nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hip3.cli.config_cmd import Json
from hip3.cli.words import age_text, printable
from hip3.core.cause_catalog import kind_of, remedy
from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.ops.journal_file import state_dir
from hip3.ops.last_run import LastRun, last_run
from hip3.ops.local_socket import NoAnswer
from hip3.ops.status_server import ask

EXIT_OK, EXIT_FORBIDDEN, EXIT_NO_BOT, EXIT_NO_ANSWER = 0, 1, 3, 5
WITHIN_S = 5.0
WAYS = {
    "promote": ("to ARMED_LIVE", 'hip3 ops promote --reason "..."'),
    "unhalt": ("to ARMED_SAFE", 'hip3 ops unhalt --reason "..."'),
    "recovery": ("to ARMED_SAFE without an operator", "none: it happens by itself"),
}


def doctor(*, as_json: Json = False) -> int:
    """Explain the present mode: each cause, since when, who put it there, what would end it, with the exact command.

    Exit code 0: entries may leave; 1: something forbids them; 3: no bot is running (what its last run left is shown);
    5: a bot is there, but did not answer.

    Example: hip3 doctor
    """
    state = state_dir(os.environ)
    try:
        answer = ask(state, WITHIN_S)
    except NoAnswer as e:
        if e.running:
            return _failed(str(e), as_json=as_json)
        return _stopped(str(e), state, as_json=as_json)
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
    severity, clears = Severity[cause["severity"]], Clears(cause["clears"])
    kind = kind_of(ReasonCode(cause["code"]), severity, clears)
    return {"ends": kind.ends if kind is not None else "", "command": remedy(severity, clears)}


def diagnosis_lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    may = "entries may leave" if found["allows_entry"] else "no entry leaves; exits and cancels go on"
    lines = [f"{found['mode']} for {_age(found['age_ms'])}, {found['lifecycle']}: {may}"]
    for cause in found["causes"]:
        lines += [
            f"  {cause['severity']} {cause['code']}, by {cause['source']}, for {_age(cause['age_ms'])}: {cause['message']}",
            f"      ends: {cause['ends']}",
            f"      command: {cause['command']}",
        ]
        if cause["still"]:
            lines.append(f"      holds still: {cause['still']}")
    for way, obstacles in found["against"].items():
        where, command = WAYS[way]
        if not obstacles:
            lines.append(f"  nothing stands against the way {where}: {command}")
            continue
        lines.append(f"  against the way {where} ({command}):")
        lines += [f"      {o['what']}: {o['why']}" for o in obstacles]
    lines += [f"  not ready: {text}" for text in found["not_ready"]]
    return lines


def _age(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else age_text(ms)


# ---- a stopped one


def _stopped(message: str, state: Path, *, as_json: bool) -> int:
    try:
        run = last_run(state)
    except OSError as e:
        run, message = None, f"{message}; its journal cannot be read: {e.strerror or e}"
    lines = [] if run is None else last_run_lines(run)
    if as_json:
        told = {"exit_code": EXIT_NO_BOT, "error": message, "last_run": lines}
        print(json.dumps(told, sort_keys=True))
        return EXIT_NO_BOT
    print(f"hip3 doctor: {printable(message)}", file=sys.stderr)
    print("\n".join(map(printable, lines or ["no run of this state folder is known"])))
    return EXIT_NO_BOT


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
    if run.is_halted:
        lines.append('  a start that goes on from its store begins in HALT: then hip3 ops unhalt --reason "..."')
    return lines
