"""Small files of the state folder: replaced in one step, private to the user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def replace_file(path: Path, text: str) -> None:
    """Writes a file, mode 0600, in one step: who reads it finds the old content or the new. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """A text file, mode 0600, that gets its name when all of it is written. Raises OSError, FileExistsError where one is
    there: it is never written over."""
    if path.exists():
        raise FileExistsError(path)
    part = path.with_name(f".{path.name}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
            yield file
        os.link(part, path)
    finally:
        with suppress(OSError):
            part.unlink()


class PidTaken(Exception):
    """The pid file names another process that lives: where, which, and what to do."""


def write_pid(path: Path, pid: int) -> None:
    """Names this process in `path`, for the script that stops it. Raises PidTaken, OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    other = read_pid(path)
    if other is not None and other != pid and _lives(other):
        raise PidTaken(f"{path} names process {other}, which lives; give each bot a state folder of its own")
    replace_file(path, f"{pid}\n")


def remove_pid(path: Path, pid: int) -> None:
    """Takes the file away where it names this process. Raises OSError."""
    if read_pid(path) == pid:
        path.unlink(missing_ok=True)


def read_pid(path: Path) -> int | None:
    """The process that `path` names; None where there is no such file or no number in it."""
    try:
        text = path.read_text().strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isascii() and text.isdecimal() and int(text) > 1 else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
