"""The journal on disk: one file of JSON lines a run, in the user's state folder, bounded, the last runs kept (OBS-1, OPS-7).

It is evidence for people and for `hip3 explain`, never memory of the bot: nothing that trades reads it. A disk that fails
is told of and ends nothing.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
from structlog.processors import JSONRenderer

from hip3.core.journal import Note

STATE_VAR = "HIP3_STATE_DIR"
FOLDER = "journal"
SUFFIX = ".jsonl"
EARLIER = ".earlier.jsonl"
KEPT_RUNS = 10
EMPTY_MS = 60_000
"""A younger journal without a line may be that of a run that begins."""
PART_BYTES = 32 << 20
"""A run keeps its present part and the one before it: at most 64 MiB, some 13 000 signals of 5 kB; ten runs are 640 MiB."""
FIRST_EVENT = "config_loaded"
"""With it every run begins; a file given by --log may hold several."""


def state_dir(env: Mapping[str, str]) -> Path:
    """Where a user's runs keep what outlives them: HIP3_STATE_DIR, else $XDG_STATE_HOME/hip3, else ~/.local/state/hip3."""
    own, xdg = env.get(STATE_VAR, "").strip(), env.get("XDG_STATE_HOME", "").strip()
    if own:
        return Path(own).expanduser().absolute()
    return Path(xdg) / "hip3" if Path(xdg).is_absolute() else Path.home() / ".local" / "state" / "hip3"


def iso_text(wall_ms: int) -> str:
    """ISO 8601 with milliseconds, UTC: `2026-01-01T00:00:00.050Z`."""
    return f"{datetime.fromtimestamp(wall_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{wall_ms % 1000:03d}Z"


# ---- writing


class LogUnwritable(Exception):
    """The log file cannot be opened: path, cause and remedy. Raised before anything is started."""


class LogFile:
    """Appends notes as JSON lines: `time` (ISO 8601, ms, Z), `level`, `event`, then the note's fields.

    Unbuffered, so that a line is with the operating system when `write` returns. A line torn by a full disk is closed by
    the next write that succeeds, which begins with a `log_gap` line that says how many notes are missing.
    """

    def __init__(self, path: Path, part_bytes: int | None = None) -> None:
        """Opens `path` for appending, mode 0600. A part of `part_bytes` becomes the earlier one, in place of the last.

        Raises LogUnwritable.
        """
        self.path = path
        self._part_bytes = part_bytes
        self._torn = False
        self._gap = 0
        self._render = JSONRenderer(default=json_value)
        try:
            self._open()
        except OSError as e:
            cause = e.strerror or str(e)
            raise LogUnwritable(f"log file {path}: {cause}; name a file that can be written, in a folder that exists") from e

    def write(self, notes: Sequence[Note]) -> str | None:
        """Appends `notes`; the error where the disk refused some, which count as missing then. Never raises OSError."""
        written = 0
        try:
            if self._gap:
                self._put({"level": "error", "event": "log_gap", "lost": self._gap})
                self._gap = 0
            for note in notes:
                self._put(entry_of(note))
                written += 1
        except OSError as e:
            self._gap += len(notes) - written
            return f"{self.path}: {e.strerror or e}"
        return None

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file = open(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0)  # noqa: SIM115
        self._size = os.fstat(self._file.fileno()).st_size

    def _put(self, entry: dict[str, object]) -> None:
        line = str(self._render(None, "", entry)) + "\n"
        data = (("\n" if self._torn else "") + line).encode()
        if self._part_bytes is not None and self._size and self._size + len(data) > self._part_bytes:
            self._turn()
        while data:
            sent = self._file.write(data)
            self._size += sent
            self._torn = sent < len(data)
            data = data[sent:]

    def _turn(self) -> None:
        """The present part becomes the earlier one; what the earlier one held is gone, and the new part says so."""
        earlier = earlier_part(self.path)
        dropped = earlier.exists()
        os.replace(self.path, earlier)
        self._file.close()
        self._open()
        self._put({"level": "info", "event": "journal_turned", "earlier": earlier.name, "dropped_older": dropped})


def entry_of(note: Note) -> dict[str, object]:
    """A note as a line holds it: time, level and event, then its fields."""
    entry: dict[str, object] = {"time": iso_text(note.wall_ms), "level": note.level, "event": note.event}
    for name, value in note.fields.items():
        entry[name if name not in entry else f"{name}_"] = value
    return entry


def json_value(value: object) -> object:
    """What JSON has no form for: decimals as plain text, enumerations by name."""
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.name if isinstance(value, enum.Enum) else str(value)


# ---- a run's own file


def earlier_part(path: Path) -> Path:
    """The part before the present one of a bounded journal."""
    return path.with_suffix(EARLIER)


def open_run_journal(state: Path, wall_ms: int, pid: int, part_bytes: int = PART_BYTES) -> LogFile:
    """A new journal in the state folder, which is made, mode 0700, where it is missing. Older runs but the last go.

    Raises LogUnwritable, with the variable that names another folder.
    """
    folder = state / FOLDER
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        stamp = datetime.fromtimestamp(wall_ms // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
        kept, begun = _with_lines(journals(state))
        for old in (
            *kept[KEPT_RUNS - 1 :],
            *(path for path in begun if path.stat().st_mtime_ns < (wall_ms - EMPTY_MS) * 1_000_000),
        ):
            old.unlink(missing_ok=True)
            earlier_part(old).unlink(missing_ok=True)
    except OSError as e:
        cause = e.strerror or str(e)
        raise LogUnwritable(f"folder {folder}: {cause}; set {STATE_VAR} to one that can be written") from e
    return LogFile(folder / f"{stamp}-{pid}{SUFFIX}", part_bytes)


def _with_lines(found: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Those that hold something, and those of starts that were refused before they said anything: they count for none."""
    kept = [path for path in found if path.stat().st_size]
    return kept, [path for path in found if path not in kept]


def journals(state: Path) -> list[Path]:
    """The journals kept, the one written last first. Raises OSError for a folder that cannot be read."""
    try:
        names = os.listdir(state / FOLDER)
    except FileNotFoundError:
        return []
    found = [state / FOLDER / name for name in names if name.endswith(SUFFIX) and not name.endswith(EARLIER)]
    return sorted(found, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)


# ---- reading


def entries(path: Path) -> Iterator[dict[str, object]]:
    """The lines of a journal, its earlier part first, each as a dict. A torn or foreign line is left out.

    Raises OSError for a file that cannot be read.
    """
    decode = msgspec.json.Decoder(dict[str, object]).decode
    for part in (earlier_part(path), path):
        if part != path and not part.exists():
            continue
        with part.open("rb") as file:
            for line in file:
                try:
                    yield decode(line)
                except msgspec.DecodeError:
                    continue
