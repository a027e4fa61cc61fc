"""Flat certificates for people and on disk: one JSON and one text file each in the state folder, mode 0600 (STOP-2).

Evidence, never memory: nothing that trades reads them. A disk that fails is told of and ends nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hip3.io.certificate import FlatCertificate
from hip3.ops.files import replace_file
from hip3.ops.journal_file import iso_text

FOLDER = "certificates"
KEPT = 200
"""Files; a HALT that goes on for a day writes some 2000, of which the last hundred tell how it stands."""


def certificate_body(c: FlatCertificate, time_text: Callable[[int], str]) -> list[str]:
    """What was asked of which dex and when, what was cancelled and closed, and what is left; one line each, indented."""
    lines = [f"  asked {time_text(a.at_ms)}  dex {a.dex or 'main'}, {a.what}: {a.answer}" for a in c.asked]
    lines += [f"  cancelled  {text}" for text in c.cancelled] or ["  cancelled  nothing"]
    lines += [f"  closed     {text}" for text in c.closed] or ["  closed     nothing"]
    lines += [f"  problem    {text}" for text in c.problems]
    lines += [f"  left       {text}" for text in c.residual] or ["  left       nothing"]
    return lines


def certificate_text(c: FlatCertificate) -> str:
    """The whole certificate as text, the verdict first."""
    head = "FLAT" if c.flat else "NOT FLAT"
    lines = [
        f"{head}: account {c.account}, {iso_text(c.started_ms)} to {iso_text(c.finished_ms)}",
        f"  reason     {c.reason}",
        *certificate_body(c, iso_text),
        *(f"  sent {iso_text(s.at_ms)}  {s.what}: {s.answer}" for s in c.sent),
    ]
    return "\n".join("".join(ch if ch.isprintable() else "?" for ch in line) for line in lines)


def write_certificate(state: Path, c: FlatCertificate, pid: int) -> Path:
    """Writes the JSON and the text file, each whole or not at all, and returns the JSON's path. Raises OSError."""
    folder = state / FOLDER
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    stamp = f"{datetime.fromtimestamp(c.started_ms // 1000, UTC):%Y%m%dT%H%M%S}{c.started_ms % 1000:03d}Z-{pid}"
    path = folder / f"{stamp}.json"
    replace_file(folder / f"{stamp}.txt", certificate_text(c) + "\n")
    replace_file(path, json.dumps(c.as_dict(), indent=1) + "\n")
    for old in sorted(folder.glob("*Z-*.*"), key=lambda p: p.name, reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def keep_in(state: Path, pid: int) -> Callable[[FlatCertificate], str | None]:
    """What an App is given to keep its certificates: writes one, and returns why it could not."""

    def keep(certificate: FlatCertificate) -> str | None:
        try:
            write_certificate(state, certificate, pid)
        except OSError as e:
            return f"{state / FOLDER}: {e.strerror or e}"
        return None

    return keep
