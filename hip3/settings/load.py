"""Finds, reads and checks a configuration file; nothing else starts before this has passed (CFG-1, CFG-2).

Refuses an empty file: it would run the paper defaults while the operator believes that a file decides. Opens the file
and nothing more: no key is read, no host is looked up.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import frozen

import hip3
from hip3.settings.canonical import config_hash
from hip3.settings.errors import ConfigError, Kind, Problem
from hip3.settings.rules import contradictions
from hip3.settings.schema import Settings, resolved
from hip3.settings.secrets import find_secrets, find_secrets_in_text, masked
from hip3.settings.structure import structure

CONFIG_VAR = "HIP3_CONFIG"
DEFAULT_CONFIG = "paper.toml"
MAX_FILE_BYTES = 1 << 20
"""Ours: the largest shipped file has some kilobytes; a device or a recording named by mistake ends here."""


@frozen
class LoadedSettings:
    """Settings that passed every check, where they came from, and their hash (CFG-6)."""

    settings: Settings
    source_path: Path
    hash: str
    needed: tuple[Problem, ...] = ()
    """What must be filled in before a start; empty unless the caller asked not to refuse it."""

    def resolve_path(self, text: str) -> Path:
        """A path of the configuration: `~` is the home directory, a relative path lies beside the file."""
        path = Path(text).expanduser()
        return path if path.is_absolute() else self.source_path.parent / path


def load(path: Path | str | None, env: Mapping[str, str]) -> LoadedSettings:
    """The configuration of a start: `path` (--config), else HIP3_CONFIG, else the packaged paper default.

    Raises ConfigError with every problem, what a start still needs included.
    """
    loaded = load_for_check(path, env)
    if loaded.needed:
        raise ConfigError(loaded.source_path, loaded.needed)
    return loaded


def load_for_check(path: Path | str | None, env: Mapping[str, str]) -> LoadedSettings:
    """As `load`, but what only the operator can fill in is listed in `needed` and not refused."""
    source = select(path, env)
    settings, needed = _checked(source, _read(source))
    return LoadedSettings(settings, source, config_hash(settings), needed)


def from_text(text: str, source: str = "<text>") -> Settings:
    """Settings of a TOML text, checked as `load` does. Raises ConfigError."""
    settings, needed = _checked(Path(source), text.encode())
    if needed:
        raise ConfigError(source, needed)
    return settings


def _checked(source: Path, content: bytes) -> tuple[Settings, tuple[Problem, ...]]:
    """Resolved settings and what a start still needs. Raises ConfigError with all problems where one is WRONG."""
    settings, problems = structure(_parse(source, content))
    if settings is not None:
        problems += contradictions(settings, tuple(problem.path for problem in problems))
    if settings is None or any(problem.kind is Kind.WRONG for problem in problems):
        raise ConfigError(source, problems)
    return resolved(settings), tuple(problems)


def select(path: Path | str | None, env: Mapping[str, str]) -> Path:
    """Which file is meant, absolute (CFG-1). Raises ConfigError for a name that is set and empty."""
    for name, chosen in (("--config", path), (CONFIG_VAR, env.get(CONFIG_VAR))):
        if chosen is None:
            continue
        if not str(chosen).strip():
            raise ConfigError(name, [Problem(name, '""', "the path of a configuration file; it is set and empty")])
        return Path(chosen).expanduser().absolute()
    return packaged_config(DEFAULT_CONFIG)


def packaged_config(name: str) -> Path:
    """A shipped configuration file: `hip3/_config` in an installed wheel, `config` beside the package in a checkout."""
    package = Path(hip3.__file__).parent
    candidates = (package / "_config" / name, package.parent / "config" / name)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise ConfigError(name, [Problem(name, None, f"not found at {looked}; the installation is incomplete: reinstall")])


def _read(source: Path) -> bytes:
    try:
        with source.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as e:
        why = e.strerror or type(e).__name__
        raise ConfigError(source, [Problem(str(source), why, "a readable TOML file; check --config")]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(source, [Problem(str(source), "too long", f"a TOML file of at most {MAX_FILE_BYTES} bytes")])
    return content


def _parse(source: Path, content: bytes) -> dict[str, Any]:
    """Parsed TOML without secrets. Raises ConfigError for a secret first: its line may be what breaks the syntax."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError(source, [Problem(f"byte {e.start}", None, "a TOML file in UTF-8; save it as UTF-8")]) from None
    data: dict[str, Any] = {}
    syntax: list[Problem] = []
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as e:
        syntax = [Problem("TOML syntax", masked(str(e)), "correct the file at that place")]
    except RecursionError:
        syntax = [Problem("TOML syntax", "nested too deeply", "tables at most three deep, as in the shipped files")]
    _refuse(source, [*find_secrets(data), *find_secrets_in_text(text, data)])
    _refuse(source, syntax)
    if not data:
        remedy = "an empty file is refused, it would run the paper defaults; set at least: network = "
        _refuse(source, [Problem(str(source), "nothing set", f'{remedy}"paper"')])
    return data


def _refuse(source: Path, problems: Iterable[Problem]) -> None:
    found = list(problems)
    if found:
        raise ConfigError(source, found)
