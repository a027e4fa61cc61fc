"""`hip3 config check|show|hash`: what a configuration says and what is wrong with it. Starts nothing, reads no key."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hip3.settings import (
    EXIT_CONFIGURATION,
    ConfigError,
    LoadedSettings,
    Problem,
    describe,
    load_for_check,
    plain,
    to_toml,
)

Config = Annotated[Path | None, Parameter(name="--config", help="Configuration file; else HIP3_CONFIG, else paper.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON object on standard output.")]


def config_check(
    *,
    config: Config = None,
    start: Annotated[bool, Parameter(negative="", help="Also demand what a start needs (account, key).")] = False,
    as_json: Json = False,
) -> int:
    """Check a configuration file and list every problem.

    Exit code 0: the file is right (what only you can fill in is listed); 2: it is not, or with --start not complete.

    Example: hip3 config check --config config/testnet.toml
    """
    loaded = _load(config, os.environ, as_json=as_json)
    if loaded is None:
        return EXIT_CONFIGURATION
    if as_json:
        print(json.dumps(_report(loaded), indent=2))
    else:
        print("\n".join(_lines(loaded)))
    return EXIT_CONFIGURATION if start and loaded.needed else 0


def config_show(*, config: Config = None, as_json: Json = False) -> int:
    """Print the resolved configuration, defaults included, as TOML that loads to the same.

    Exit code 0: printed; 2: the configuration is refused.

    Example: hip3 config show --config config/mainnet_micro.toml
    """
    loaded = _load(config, os.environ, as_json=as_json)
    if loaded is None:
        return EXIT_CONFIGURATION
    if as_json:
        print(json.dumps(_identity(loaded) | {"settings": plain(loaded.settings)}, indent=2))
    else:
        # Without the hash: 64 hex digits in a file are taken for a key when it is loaded again (CFG-7).
        print(f"# resolved from {loaded.source_path}\n{to_toml(loaded.settings)}", end="")
    return 0


def config_hash(*, config: Config = None, as_json: Json = False) -> int:
    """Print the SHA-256 of the resolved configuration, as it stands in the start log.

    Exit code 0: printed; 2: the configuration is refused.

    Example: hip3 config hash --config config/paper.toml
    """
    loaded = _load(config, os.environ, as_json=as_json)
    if loaded is None:
        return EXIT_CONFIGURATION
    print(json.dumps(_identity(loaded)) if as_json else loaded.hash)
    return 0


def print_config_error(error: ConfigError, *, as_json: bool = False) -> None:
    """Shows every problem: text on standard error, or for machines one JSON object on standard output."""
    if as_json:
        problems = [_problem(each) for each in error.problems]
        print(json.dumps({"file": error.source, "ok": False, "ready_to_start": False, "problems": problems}, indent=2))
    else:
        print(error, file=sys.stderr)


def _load(config: Path | None, env: Mapping[str, str], *, as_json: bool) -> LoadedSettings | None:
    try:
        return load_for_check(config, env)
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return None


def _identity(loaded: LoadedSettings) -> dict[str, object]:
    return {"file": str(loaded.source_path), "hash": loaded.hash}


def _report(loaded: LoadedSettings) -> dict[str, object]:
    needed = [_problem(each) for each in loaded.needed]
    start = {line.event: dict(line.fields) for line in describe(loaded)}
    return _identity(loaded) | {"ok": True, "ready_to_start": not needed, "problems": needed, "start": start}


def _problem(problem: Problem) -> dict[str, object]:
    return {"path": problem.path, "value": problem.value, "allowed": problem.allowed, "kind": problem.kind.value}


def _lines(loaded: LoadedSettings) -> list[str]:
    lines = [str(line) for line in describe(loaded)]
    if not loaded.needed:
        return [*lines, "configuration ok, ready to start"]
    count = len(loaded.needed)
    head = f"configuration ok, NOT ready to start: {count} key{'s' if count != 1 else ''} to fill in"
    return [*lines, head, *(f"  {problem}" for problem in loaded.needed)]
