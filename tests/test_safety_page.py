"""docs/safety.md and the catalogue of causes say what the code does (LESSONS 5)."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from hip3.cli.main import OPS_COMMANDS
from hip3.core.cause_catalog import KINDS, Kind, codes_by_event, kind_of, remedy
from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.core.recovery import NEEDED
from hip3.fsm.safety import SafetyMode

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "safety.md").read_text()
SPEC = importlib.util.spec_from_file_location("safety_page", ROOT / "scripts" / "safety_page.py")
assert SPEC is not None
assert SPEC.loader is not None
safety_page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(safety_page)


def test_every_reason_code_is_in_the_catalogue() -> None:
    """SAFE-4: a new code needs a row in hip3/core/cause_catalog.py: when it comes, what it forbids, who ends it."""
    assert {k.code for k in KINDS} == set(ReasonCode)
    assert len({(k.code, k.severity, k.clears) for k in KINDS}) == len(KINDS)
    assert all(k.when and (k.ends or k.severity is None) for k in KINDS)


def test_the_page_has_the_catalogue() -> None:
    """LESSONS 5: run scripts/safety_page.py --write when this fails."""
    assert safety_page.page_with(safety_page.table()) == PAGE


def test_every_code_is_used_by_the_program() -> None:
    """LESSONS 1: a code that nothing puts in force, and that is the reason of no change, is not declared."""
    elsewhere = [p for p in (ROOT / "hip3").rglob("*.py") if p.name not in ("causes.py", "cause_catalog.py")]
    used = {name for p in elsewhere for name in re.findall(r"ReasonCode\.([A-Z_]+)", p.read_text())}
    assert {c.name for c in ReasonCode} == used


def test_a_halt_never_clears_itself() -> None:
    """STOP-1: in the catalogue as in the code; those that STOP-4 ends are marked."""
    halts = [k for k in KINDS if k.severity is Severity.HALT]
    assert all(k.clears is not Clears.AUTO for k in halts)
    assert {k.code for k in halts if "STOP-4" in k.ends} == set(NEEDED)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.severity is not None], ids=lambda k: f"{k.code.value}")
def test_a_cause_in_force_finds_its_kind(kind: Kind) -> None:
    """OPS-1: what doctor says of a cause is what the catalogue says of its code, severity and clearing."""
    assert kind.severity is not None
    assert kind.clears is not None
    assert kind_of(kind.code, kind.severity, kind.clears) is kind
    assert remedy(kind.code, kind.severity, kind.clears)


def test_nobody_is_told_to_interrupt_a_way_out() -> None:
    """END-2: the way out has begun, so a Ctrl+C would be the second signal, which gives the flatten up."""
    for code in (ReasonCode.SHUTDOWN, ReasonCode.INTERNAL_ERROR):
        assert remedy(code, Severity.HALT, Clears.NEVER).startswith("wait until")
    assert "Ctrl+C" in remedy(ReasonCode.PARAM_CHANGE, Severity.HALT, Clears.NEVER)


def test_commands_and_modes_named_on_the_page_exist() -> None:
    """LESSONS 5: names in documents are checked against the code."""
    named = set(re.findall(r"hip3 ops ([a-z-]+)", PAGE)) | set(
        re.findall(r"hip3 ops ([a-z-]+)", (ROOT / "docs" / "operations.md").read_text())
    )
    assert named == set(OPS_COMMANDS)
    assert all(re.search(rf"^\| {mode.name} \|", PAGE, re.MULTILINE) for mode in SafetyMode)
    drawn = {code for codes in codes_by_event().values() for code in codes}
    assert drawn <= {c.value for c in ReasonCode}


@pytest.mark.parametrize(
    "question", ["What can send an order in HALT?", "What clears WS_DISCONNECT?", "Ctrl+C and SIGTERM", "The second one"]
)
def test_the_page_answers_what_a_reviewer_asks(question: str) -> None:
    """SAFE-1, END-2: the questions of a review stand on the page in their own words."""
    assert question in PAGE
