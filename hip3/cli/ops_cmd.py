"""`hip3 ops`: an operator's commands, to the running bot over its control socket, to a stopped one through its store.

Says what was done, or what stands against it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.words import printable
from hip3.core.records import StorageUnavailable
from hip3.io.clock import SystemClock
from hip3.ops.commands import Request, lacks_reason
from hip3.ops.control_server import command, user_name
from hip3.ops.journal_file import state_dir
from hip3.ops.local_socket import NoAnswer
from hip3.settings import ConfigError, load

EXIT_OK, EXIT_REFUSED, EXIT_CONFIGURATION, EXIT_NO_BOT, EXIT_NO_ANSWER, EXIT_IN_USE = 0, 1, 2, 3, 5, 6
WITHIN_S = 5.0

Reason = Annotated[str, Parameter(help="Why; it stands in the audit log.")]
AcceptResidue = Annotated[
    bool, Parameter(negative="", help="Leave HALT although the account is not certified flat: what is left is accepted.")
]


def ops_hold(*, reason: Reason = "", config: Config = None, as_json: Json = False) -> int:
    """Stop entries: ARMED_SAFE until a promotion. Exits and cancels go on. Cannot be refused.

    Exit code 0: done; 3: no bot and no store; 5: no answer.

    Example: hip3 ops hold --reason "earnings tonight"
    """
    return _send({"command": "hold", "reason": reason}, config, as_json=as_json)


def ops_kill(*, reason: Reason = "", config: Config = None, as_json: Json = False) -> int:
    """HALT: purge, cancel everything, flatten, and wait for an operator. Cannot be refused.

    Exit code 0: done, the flatten goes on; 3: no bot and no store; 5: no answer.

    Example: hip3 ops kill --reason "prices look wrong"
    """
    return _send({"command": "kill", "reason": reason}, config, as_json=as_json)


def ops_promote(*, reason: Reason, config: Config = None, as_json: Json = False) -> int:
    """Let entries out: ARMED_SAFE to ARMED_LIVE, where READY-TRADING holds, the books agree and no cause holds.

    Ends a hold. Exit code 0: done; 1: refused, with what lacks; 3: no bot and no store; 5: no answer.

    Example: hip3 ops promote --reason "checked by hand"
    """
    return _send({"command": "promote", "reason": reason}, config, as_json=as_json)


def ops_unhalt(
    *, reason: Reason, accept_residue: AcceptResidue = False, config: Config = None, as_json: Json = False
) -> int:
    """End a HALT: to ARMED_SAFE, where no cause of it holds still and the account is certified flat. Then promote.

    Exit code 0: done; 1: refused, with what holds still; 3: no bot and no store; 5: no answer.

    Example: hip3 ops unhalt --reason "the link is stable again"
    """
    return _send({"command": "unhalt", "reason": reason, "accept_residue": accept_residue}, config, as_json=as_json)


def ops_maintenance_skip(*, reason: Reason, config: Config = None, as_json: Json = False) -> int:
    """Record that the time in which nobody followed the account is not to be followed up, for this incident only.

    The HALT of the gap then ends by itself after a clean reconcile. Exit code 0: done; 1: there is no such gap; 3: no bot is
    running; 5: one is, but did not answer.

    Example: hip3 ops maintenance-skip --reason "the venue was down, nothing traded"
    """
    return _send({"command": "maintenance-skip", "reason": reason}, config, as_json=as_json)


def ops_reset_safety(
    *,
    mode: Annotated[str, Parameter(help="The mode that is wanted: HALT, ARMED_SAFE or ARMED_LIVE.")],
    reason_code: Annotated[
        str, Parameter(help="OPERATOR_KILL, OPERATOR_HOLD or MANUAL_UNHALT, MANUAL_PROMOTE, as the mode demands.")
    ],
    reason_message: Annotated[str, Parameter(help="Why; it stands in the audit log.")],
    allow_non_halt: Annotated[bool, Parameter(negative="", help="Also where the mode is not HALT.")] = False,
    accept_residue: AcceptResidue = False,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Reset the latch to a mode, by the rules of the command that leads there: kill, hold, unhalt or promote.

    Exit code 0: done; 1: refused, with what stands against it; 3: no bot and no store; 5: no answer.

    Example: hip3 ops reset-safety --mode ARMED_SAFE --reason-code MANUAL_UNHALT --reason-message "link is stable"
    """
    request = {
        "command": "reset-safety",
        "reason": reason_message,
        "mode": mode,
        "reason_code": reason_code,
        "allow_non_halt": allow_non_halt,
        "accept_residue": accept_residue,
    }
    return _send(request, config, as_json=as_json)


def _send(request: Mapping[str, object], config: Path | None, *, as_json: bool) -> int:
    """To the running bot; where none runs, to what the last run of the configured account kept."""
    if lacks_reason(msgspec.convert(dict(request), Request)):
        return _failed(f"{request['command']}: the reason is empty; say why, it stands in the audit log", 2, as_json=as_json)
    state = state_dir(os.environ)
    try:
        answer = command(state, request, WITHIN_S)
    except NoAnswer as e:
        if e.running:
            return _failed(str(e), EXIT_NO_ANSWER, as_json=as_json)
        return _to_stopped(request, config, state, str(e), as_json=as_json)
    if "error" in answer:
        return _failed(str(answer["error"]), EXIT_NO_ANSWER, as_json=as_json)
    return _told(answer, as_json=as_json)


def _to_stopped(request: Mapping[str, object], config: Path | None, state: Path, looked: str, *, as_json: bool) -> int:
    """The command on a stopped bot; `looked` says why it is thought to be one."""
    from hip3.ops.stopped_store import command_stopped  # noqa: PLC0415 - the database is not loaded for a running bot
    from hip3.store.errors import StoreError, StoreInUse, StoreMissing  # noqa: PLC0415 - as above

    try:
        asked = msgspec.convert(dict(request), Request)
        answer = command_stopped(load(config, os.environ), state, asked, user_name(os.getuid()), SystemClock())
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except StoreMissing as e:
        return _failed(f"{looked}; {e}", EXIT_NO_BOT, as_json=as_json)
    except StoreInUse as e:
        return _failed(f"{looked}; {e}", EXIT_IN_USE, as_json=as_json)
    except (StoreError, StorageUnavailable) as e:
        return _failed(f"{looked}; {e}", EXIT_NO_ANSWER, as_json=as_json)
    return _told(answer, as_json=as_json)


def _told(answer: dict[str, Any], *, as_json: bool) -> int:
    code = EXIT_OK if answer["ok"] else EXIT_REFUSED
    if as_json:
        print(json.dumps(answer | {"exit_code": code}, sort_keys=True))
    else:
        print("\n".join(map(printable, answer_lines(answer))), file=sys.stdout if answer["ok"] else sys.stderr)
    return code


def _failed(message: str, code: int, *, as_json: bool) -> int:
    print(f"hip3 ops: {printable(message)}", file=sys.stderr)
    if as_json:
        print(json.dumps({"exit_code": code, "error": message}, sort_keys=True))
    return code


def answer_lines(answer: Mapping[str, Any]) -> list[str]:
    """The answer for people: what was done or what stands against it, then the mode and its causes."""
    lines = [answer["did"]] if answer["ok"] else [f"{answer['command']} is refused:"]
    lines += [f"  {o['what']}: {o['why']}" for o in answer["refused"]]
    lines.append(f"mode {answer['mode']}" + (f" (was {answer['before']})" if answer["before"] != answer["mode"] else ""))
    return [*lines, *(f"  {c['severity']} {c['code']} by {c['source']}: {c['message']}" for c in answer["causes"])]
