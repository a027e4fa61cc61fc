#!/usr/bin/env python
"""Which test drives which requirement: scripts/spec_table.py [--write]

Reads `tests/spec_ids.toml` (the ids, and what is missing of each) and the docstrings of all tests, where the part before
the first colon cites ids: "POST-3, EXE-3: ...". Prints the tables with counts and, below them, the ids without a test; with
`--write` it puts them into docs/orders.md and docs/requirements.md, without counts, so that one more test does not make
them out of date. It does not judge whether a test does what it says.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ORDERS, REST = "docs/orders.md", "docs/requirements.md"
OF_ORDERS = ("KEY", "SIG", "NON", "WS", "META", "MD", "RDY", "DET", "GATE", "BAT", "POST", "EXE", "ORD", "POS", "EXIT")
"""Families of the order's way; every other one is on the page of the rest."""
BEGIN, END = "<!-- spec table: begin -->", "<!-- spec table: end -->"
SHOWN = 3
FOLDERS = ("app", "tasks", "core", "io", "venue")
"""The nearer to the whole bot, the better a test shows that something is wired."""
_ID = re.compile(r"\b([A-Z]+-\d+)\b")


def spec_ids() -> dict[str, dict[str, str]]:
    """Id to `about` and, where something of it is not built, `missing`."""
    return tomllib.loads((ROOT / "tests" / "spec_ids.toml").read_text())


def citations() -> Iterator[tuple[str, list[str]]]:
    """Every test as "tests/path.py::name", with the ids that its docstring cites."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                head = (ast.get_docstring(node) or "").partition(":")[0]
                yield f"{path.relative_to(ROOT).as_posix()}::{node.name}", _ID.findall(head)


def tests_by_id() -> dict[str, list[str]]:
    """Id to its tests: first those of the whole bot, then those that are about this id more than about others."""
    ranked: dict[str, list[tuple[int, int, int, str]]] = {}
    for test, ids in citations():
        folder = test.split("/")[1]
        rank = FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)
        for place, spec_id in enumerate(ids):
            ranked.setdefault(spec_id, []).append((rank, place, len(ids), test))
    return {spec_id: [entry[-1] for entry in sorted(entries)] for spec_id, entries in ranked.items()}


def page_of(spec_id: str) -> str:
    """The page that has the id in its table."""
    return ORDERS if spec_id.partition("-")[0] in OF_ORDERS else REST


def table(page: str, *, counts: bool) -> str:
    """The Markdown table of a page. The last cell is empty where nothing is missing, "not yet" begins it without tests."""
    found = tests_by_id()
    lines = ["| id | about | tests | missing |", "|---|---|---|---|"]
    for spec_id, row in spec_ids().items():
        if page_of(spec_id) != page:
            continue
        tests = found.get(spec_id, [])
        shown = "<br>".join(f"`{test}`" for test in tests[:SHOWN])
        if counts and len(tests) > SHOWN:
            shown += f" and {len(tests) - SHOWN} more"
        missing = row.get("missing", "")
        lines.append(f"| {spec_id} | {row['about']} | {shown} | {missing if tests else f'**not yet**: {missing}'} |")
    return "\n".join(lines)


def main() -> int:
    """Exit code 1 where an id has neither a test nor a word about what is missing."""
    for page in (ORDERS, REST):
        if "--write" in sys.argv[1:]:
            before, _, rest = (ROOT / page).read_text().partition(BEGIN)
            (ROOT / page).write_text(f"{before}{BEGIN}\n{table(page, counts=False)}\n{END}{rest.partition(END)[2]}")
        else:
            print(table(page, counts=True))
    found = tests_by_id()
    bare = {spec_id: row.get("missing") for spec_id, row in spec_ids().items() if spec_id not in found}
    for spec_id, missing in bare.items():
        print(f"no test: {spec_id} ({missing or 'UNEXPLAINED'})", file=sys.stderr)
    return int(None in bare.values())


if __name__ == "__main__":
    sys.exit(main())
