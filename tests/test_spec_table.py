"""The tables of requirements in docs/orders.md and docs/requirements.md agree with tests/spec_ids.toml and the docstrings
of the tests, the names of docs/orders.md with the code.

A further test of an id does not make the table out of date: it holds no counts.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from hip3.fsm.order import OrderState

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "spec_table.py"
REMEDY = "bring tests/spec_ids.toml up to date and run scripts/spec_table.py --write"
FAMILIES = {
    "KEY": 5, "SIG": 5, "NON": 3, "WS": 4, "META": 4, "MD": 2, "RDY": 3, "DET": 6, "GATE": 6, "BAT": 7, "POST": 6, "EXE": 4,
    "ORD": 3, "POS": 3, "EXIT": 5,
    "PRD": 6, "CFG": 8, "TYP": 5, "SAFE": 4, "STOP": 5, "DEAD": 1, "RISK": 6, "END": 4, "STO": 6, "REC": 5, "OPS": 9,
    "FSM": 3, "SIM": 5, "JRN": 3, "OBS": 3, "RUN": 2,
}  # fmt: skip
"""How many requirements each section has, numbered from 1."""


@pytest.fixture(scope="module")
def tests_by_id() -> dict[str, list[str]]:
    made: Callable[[], dict[str, list[str]]] = runpy.run_path(str(SCRIPT))["tests_by_id"]
    return made()


@pytest.fixture(scope="module")
def ids() -> dict[str, dict[str, str]]:
    read: Callable[[], dict[str, dict[str, str]]] = runpy.run_path(str(SCRIPT))["spec_ids"]
    return read()


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """Cells of the committed tables by id: about, tests, missing."""
    found: dict[str, list[str]] = {}
    for page in ("orders.md", "requirements.md"):
        text = (ROOT / "docs" / page).read_text()
        table = text.partition("<!-- spec table: begin -->\n")[2].partition("\n<!-- spec table: end -->")[0]
        cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]]
        found |= {row[0]: row[1:] for row in cells}
    return found


def test_every_requirement_is_listed(ids: dict[str, dict[str, str]], rows: dict[str, list[str]]) -> None:
    """LESSONS 1: no id of the sections about keys to exits is left out, in the list or in the table."""
    wanted = [f"{family}-{n}" for family, count in FAMILIES.items() for n in range(1, count + 1)]
    assert list(ids) == wanted
    assert list(rows) == wanted, REMEDY


def test_every_requirement_has_a_test_or_says_what_is_missing(
    ids: dict[str, dict[str, str]], tests_by_id: dict[str, list[str]]
) -> None:
    """LESSONS 1: an id that no docstring cites says what is not built."""
    assert [i for i in ids if i not in tests_by_id and not ids[i].get("missing")] == []


def test_the_table_says_what_the_list_says(ids: dict[str, dict[str, str]], rows: dict[str, list[str]]) -> None:
    """LESSONS 5: words and what is missing are those of the list; a row without a test says "not yet" and why.

    The first test of an id does not fail here, only make the row modest; who takes the `missing` away must write the table.
    """
    for spec_id, (about, tests, missing) in rows.items():
        assert about == ids[spec_id]["about"], REMEDY
        listed = ids[spec_id].get("missing", "")
        assert missing == (listed if tests else f"**not yet**: {listed}"), f"{spec_id}: {REMEDY}"
        assert tests or listed, f"{spec_id}: {REMEDY}"


def test_every_test_of_the_table_cites_its_requirement(
    rows: dict[str, list[str]], tests_by_id: dict[str, list[str]]
) -> None:
    """LESSONS 5: a test that was renamed, removed, or is about something else now is not listed."""
    for spec_id, (_, tests, _) in rows.items():
        listed = re.findall(r"`([^`]+)`", tests)
        assert set(listed) <= set(tests_by_id.get(spec_id, [])), f"{spec_id}: {REMEDY}"


def test_the_script_prints_the_table_and_what_has_no_test(tests_by_id: dict[str, list[str]]) -> None:
    """Without an argument it writes nothing: the table with counts, and on standard error the ids without a test."""
    found = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert found.returncode == 0
    assert f"and {len(tests_by_id['POST-4']) - 3} more" in found.stdout
    assert "no test: META-4" in found.stderr or "META-4" in tests_by_id


def test_the_names_of_the_page_are_those_of_the_code() -> None:
    """LESSONS 5: each journal event and each key that the page names is in the code."""
    page = (ROOT / "docs" / "orders.md").read_text().partition("## Requirements")[0]
    source = "".join(path.read_text() for path in sorted((ROOT / "hip3").rglob("*.py")))
    ended = {f"order_{state.name.lower()}" for state in OrderState}  # the one event whose name is put together
    names = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", page))
    assert sorted(name for name in names - ended if f'"{name}"' not in source) == []
    options = tomllib.loads((ROOT / "tests" / "wiring.toml").read_text())["options"]
    assert sorted(set(re.findall(r"`([a-z]+\.[a-z_]+)`", page)) - options.keys()) == []
