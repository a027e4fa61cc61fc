"""What is wrong with a configuration, as data: place, value found, what is allowed.

A problem never carries a secret: values that look like keys are masked where the problem is made (`secrets.py`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

EXIT_CONFIGURATION = 2
"""Process exit code of every configuration and key error (CFG-2, END-3)."""


class Kind(enum.Enum):
    """WRONG makes the file itself unusable; NEEDED is something only the operator can fill in before a start."""

    WRONG = "wrong"
    NEEDED = "needed_to_start"


@frozen
class Problem:
    """One thing to correct. `value` is as shown to the user (already masked), None where nothing was found."""

    path: str
    value: str | None
    allowed: str
    kind: Kind = Kind.WRONG

    def __str__(self) -> str:
        found = "not set" if self.value is None else self.value
        return f"{self.path}: {found}: {self.allowed}"


@frozen
class Contradiction:
    """Keys that are legal alone and not together. `involves` are the dotted paths it was derived from.

    One that involves a key which is itself wrong is not reported: it would be a guess about a default.
    """

    problem: Problem
    involves: tuple[str, ...]


class NotAllowed(ValueError):
    """A value outside what its key allows; `allowed` is the sentence for the user and never quotes the value."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


class ConfigError(Exception):
    """A configuration that must not start anything; lists every problem found. Exit code 2."""

    exit_code = EXIT_CONFIGURATION

    def __init__(self, source: Path | str, problems: Iterable[Problem]) -> None:
        self.source = str(source)
        self.problems = tuple(problems)
        super().__init__(self.source, self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        head = f"configuration {self.source}: {count} problem{'s' if count != 1 else ''}, nothing was started"
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])
