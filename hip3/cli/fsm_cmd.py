"""`hip3 fsm export`: draws the state machines that run (FSM-1). Reads no configuration and starts nothing."""

from __future__ import annotations

import enum
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hip3.core.cause_catalog import codes_by_event
from hip3.fsm import diagram
from hip3.fsm.machines import ALL_TABLES

_DOT_TIMEOUT_S = 30  # ours: the largest machine takes graphviz well under a second
EXIT_USAGE = 2


class Format(enum.Enum):
    """What can be written. `svg` and `png` need graphviz."""

    MERMAID = "mermaid"
    DOT = "dot"
    MARKDOWN = "markdown"
    SVG = "svg"
    PNG = "png"


class ExportError(Exception):
    """The drawing was not made; the text says what to do."""


def fsm_export(
    *,
    format: Annotated[Format, Parameter(name="--format", help="What to write.")] = Format.MARKDOWN,
    machine: Annotated[str | None, Parameter(name="--machine", help="One machine by name; else all.")] = None,
    out: Annotated[Path | None, Parameter(name="--out", help="Folder to write to; else standard output.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="List the written files as JSON.")] = False,
) -> int:
    """Draw the state machines from the declarations that run.

    Exit code 0: written; 2: it could not be, and standard error says why.

    Example: hip3 fsm export --format mermaid --machine order
    """
    try:
        written = export(format, machine, out)
    except ExportError as e:
        print(e, file=sys.stderr)
        return EXIT_USAGE
    if as_json:
        print(json.dumps({"ok": True, "files": [str(path) for path in written]}))
    elif out is not None:
        print("\n".join(str(path) for path in written))
    return 0


def export(format: Format, machine: str | None = None, out: Path | None = None) -> list[Path]:
    """Writes the chosen machines into `out`, or prints text formats where `out` is None; returns the files written.

    Markdown of all machines has an index page (FSM-1). Raises ExportError for an unknown machine, a folder that cannot be
    written, and for images without graphviz or without a folder.
    """
    tables = _chosen(machine)
    codes = codes_by_event()
    if format in (Format.SVG, Format.PNG):
        if out is None:
            raise ExportError(f"--format {format.value} writes files: name a folder with --out DIR")
        contents: dict[str, str | bytes] = {
            f"{t.name}.{format.value}": _render(diagram.dot(t, codes), format) for t in tables
        }
    elif format is Format.MARKDOWN and machine is None:
        contents = dict(diagram.pages(tables, codes))
    else:
        draw, suffix = _TEXT[format]
        contents = {f"{t.name}.{suffix}": draw(t, codes) for t in tables}
    if out is None:
        print("\n".join(str(text).rstrip("\n") for text in contents.values()))
        return []
    return _write(contents, out)


_TEXT = {
    Format.MERMAID: (diagram.mermaid, "mmd"),
    Format.DOT: (diagram.dot, "dot"),
    Format.MARKDOWN: (diagram.page, "md"),
}


def _chosen(machine: str | None) -> tuple[diagram.AnyTable, ...]:
    chosen = tuple(t for t in ALL_TABLES if machine in (None, t.name))
    if not chosen:
        raise ExportError(f"--machine {machine}: no such machine; there are {', '.join(t.name for t in ALL_TABLES)}")
    return chosen


def _render(source: str, format: Format) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise ExportError(
            f"--format {format.value} needs graphviz, and its program `dot` was not found on PATH: install the package "
            "graphviz, or use --format mermaid or markdown, which need nothing"
        )
    command = [program, f"-T{format.value}"]
    try:
        # The program was found on PATH; its input is our own text, not a shell's.
        done = subprocess.run(command, input=source.encode(), capture_output=True, check=True, timeout=_DOT_TIMEOUT_S)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ExportError(f"graphviz gave no drawing within {_DOT_TIMEOUT_S} s: use --format mermaid") from None
    except (OSError, subprocess.CalledProcessError) as e:
        said = getattr(e, "stderr", b"") or b""
        raise ExportError(f"graphviz failed ({e}): {said.decode(errors='replace').strip()}") from None
    return done.stdout


def _write(contents: dict[str, str | bytes], out: Path) -> list[Path]:
    written = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            path = out / name
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            written.append(path)
    except OSError as e:
        raise ExportError(f"--out {out}: cannot be written: {e.strerror}; name a folder that you may write to") from None
    return written
