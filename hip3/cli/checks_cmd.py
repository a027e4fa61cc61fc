"""`hip3 preflight|poststart|validate-run`: checks before and after a start, one line each, and the evidence of both."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.keys_cmd import terminal_passphrase
from hip3.cli.words import printable
from hip3.io.clock import SystemClock
from hip3.ops.evidence import Evidence, EvidenceUnwritable, keep_evidence
from hip3.ops.findings import Finding, all_ok, finding_lines, finding_object
from hip3.ops.journal_file import state_dir
from hip3.ops.local_socket import NoAnswer
from hip3.ops.poststart import Poststart
from hip3.ops.poststart import poststart as look_after
from hip3.ops.preflight import Preflight
from hip3.ops.preflight import preflight as look_before
from hip3.ops.status_server import ask
from hip3.settings import EXIT_CONFIGURATION, ConfigError, LoadedSettings, load_for_check

EXIT_OK, EXIT_FAILED, EXIT_INTERNAL = 0, 3, 5
WITHIN_S = 5.0


def preflight(*, config: Config = None, as_json: Json = False) -> int:
    """Check everything that a start needs: configuration, key, venue, markets, balance, store, disk. Changes nothing.

    Exit code 0: nothing failed; 3: something did, with what to do.

    Example: hip3 preflight --config config/testnet.toml
    """
    found = trio.run(look_before, Preflight(config=config, passphrase=terminal_passphrase()))
    return _tell(found, "preflight_ok", as_json=as_json)


def poststart(*, config: Config = None, as_json: Json = False) -> int:
    """Check that the running bot does its work: mode, READY, links, cursor, audit log, records, backlog.

    Takes up to ten seconds, for it waits to see the audit log grow. Exit code 0: nothing failed; 2: configuration; 3:
    something failed, or no bot is running.

    Example: hip3 poststart --config config/testnet.toml
    """
    try:
        loaded = load_for_check(config, os.environ)
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    return _tell(trio.run(look_after, _poststart(loaded)), "poststart_ok", as_json=as_json)


def validate_run(*, config: Config = None, as_json: Json = False) -> int:
    """Check the running bot with preflight and poststart, and keep the result as evidence in the state folder.

    Exit code 0: nothing failed; 2: configuration; 3: something failed; 5: the evidence could not be written.

    Example: hip3 validate-run --config config/testnet.toml
    """
    try:
        loaded = load_for_check(config, os.environ)
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    clock, state = SystemClock(), state_dir(os.environ)
    began = clock.wall_ms()
    given = Preflight(config=config, passphrase=terminal_passphrase(), own_holder=_running(state))
    before = trio.run(look_before, given)
    after = trio.run(look_after, _poststart(loaded))
    evidence = Evidence(str(loaded.source_path), loaded.hash, began, clock.wall_ms(), before, after)
    try:
        page, data = keep_evidence(evidence, state)
    except EvidenceUnwritable as e:
        print(f"hip3 validate-run: {printable(str(e))}", file=sys.stderr)
        return EXIT_INTERNAL
    if as_json:
        print(json.dumps(evidence.object() | {"files": [str(page), str(data)]}, sort_keys=True))
    else:
        lines = [*finding_lines(before, "preflight_ok"), *finding_lines(after, "poststart_ok"), f"evidence: {page}"]
        print("\n".join(map(printable, [*lines, f"validate_run_ok {str(evidence.ok).lower()}"])))
    return EXIT_OK if evidence.ok else EXIT_FAILED


def _poststart(loaded: LoadedSettings) -> Poststart:
    state = state_dir(os.environ)
    return Poststart(loaded=loaded, state=state, ask=lambda: ask(state, WITHIN_S), clock=SystemClock())


def _tell(found: Sequence[Finding], name: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(finding_object(found, name), sort_keys=True))
    else:
        print("\n".join(map(printable, finding_lines(found, name))))
    return EXIT_OK if all_ok(found) else EXIT_FAILED


def _running(state: Path) -> str | None:
    """The process of the bot of this state folder, None where none answers."""
    try:
        return str(ask(state, WITHIN_S)["run"]["pid"])
    except (NoAnswer, KeyError):
        return None
