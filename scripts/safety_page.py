#!/usr/bin/env python
"""The table of causes in docs/safety.md, made of the declarations that run: scripts/safety_page.py [--write]"""

from __future__ import annotations

import sys
from pathlib import Path

from hip3.core.cause_catalog import KINDS, Kind, remedy

PAGE = Path(__file__).resolve().parents[1] / "docs" / "safety.md"
BEGIN, END = "<!-- causes: begin -->", "<!-- causes: end -->"


def table() -> str:
    """Every cause as a Markdown table; reasons that are no cause follow below."""
    lines = ["| cause | forbids | comes when | who ends it | how it ends | command |", "|---|---|---|---|---|---|"]
    lines += [_row(kind) for kind in KINDS if kind.severity is not None]
    reasons = [f"{k.code.value} ({k.when})" for k in KINDS if k.severity is None]
    return "\n".join([*lines, "", f"Reasons of a change that are no cause: {'; '.join(reasons)}."])


def _row(kind: Kind) -> str:
    assert kind.severity is not None
    assert kind.clears is not None
    forbids = "entries" if kind.severity.name == "SAFE" else "HALT"
    who = {"auto": "itself", "operator": "an operator", "never": "a new process"}[kind.clears.value]
    command = remedy(kind.code, kind.severity, kind.clears)
    shown = f"`{command}`" if command.startswith("hip3") else command
    return f"| {kind.code.value} | {forbids} | {kind.when} | {who} | {kind.ends} | {shown} |"


def page_with(text: str) -> str:
    """The page with `text` between the marks."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page_with(table()))
    else:
        print(table())
