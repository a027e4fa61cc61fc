"""What the code can refuse, do and be told is listed in wiring.toml with the test that proves its wiring (LESSONS 1).

The ids come out of the code: an addition to an enumeration or to the schema fails here until its test exists.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from hip3.core.cause_catalog import KINDS
from hip3.core.causes import ReasonCode
from hip3.core.exits import ExitReason
from hip3.core.filters import Filter
from hip3.core.gates import Refusal
from hip3.core.quality import QualityGate
from hip3.fsm.safety import SafetyMode
from hip3.ops.findings import PoststartCheck, PreflightCheck
from hip3.settings.fields import KIND
from hip3.settings.schema import KEY_SOURCES, Market, Settings
from hip3.settings.structure import section_class

ROOT = Path(__file__).resolve().parents[1]
END_TO_END = "tests/app/"
WIRING = tomllib.loads((ROOT / "tests" / "wiring.toml").read_text())
ORDER_KINDS = ("new", "reduce_only", "cancel", "flatten")


def mode_cells() -> set[str]:
    """The table of DESIGN 6: what each mode lets out."""
    return {f"{mode.name}.{kind}" for mode in SafetyMode for kind in ORDER_KINDS}


def option_keys() -> set[str]:
    """Every key that a configuration file may hold, dotted."""
    return set(_keys_of(Settings, ""))


def _keys_of(cls: type, prefix: str) -> Iterator[str]:
    for attribute in attrs.fields(cls):
        name = f"{prefix}{attribute.name}"
        if KIND in attribute.metadata:
            yield name
        elif attribute.name == "markets":
            yield from _keys_of(Market, "markets.")
        elif attribute.name == "key_source":
            for kind, source in KEY_SOURCES.items():
                yield from _keys_of(source, f"{name}.{kind}.")
        else:
            yield from _keys_of(section_class(attribute), f"{name}.")


def filter_reasons() -> set[str]:
    """Every reason that the detector can give: its filters, its gates, and the names in its own code."""
    source = (ROOT / "hip3" / "core" / "detector.py").read_text()
    return {f.value for f in Filter} | {g.value for g in QualityGate} | set(reasons_in(source))


def reasons_in(source: str) -> Iterator[str]:
    """Text constants given to `_refuse`, or returned by a function whose result may be text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_refuse":
            yield from _results(node.args[-1])
        elif isinstance(node, ast.FunctionDef) and node.returns is not None and "| str" in ast.unparse(node.returns):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield from _results(inner.value)


def _results(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be; those inside a call or a condition are not its value."""
    if isinstance(node, ast.IfExp):
        yield from (*_results(node.body), *_results(node.orelse))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


REQUIRED: dict[str, Callable[[], set[str]]] = {
    "gates": lambda: {r.value for r in Refusal},
    "modes": mode_cells,
    "causes": lambda: {c.name for c in ReasonCode},
    "clearings": lambda: {f"{k.code.name}.{k.severity.name}.{k.clears.value}" for k in KINDS if k.severity and k.clears},
    "exits": lambda: {e.value for e in ExitReason},
    "filters": filter_reasons,
    "options": option_keys,
    "preflight": lambda: {c.value for c in PreflightCheck},
    "poststart": lambda: {c.value for c in PoststartCheck},
}
FROM_FRAME_TO_WIRE = {"gates", "modes", "causes", "clearings", "exits", "poststart"}


def addresses_of(section: str) -> Iterator[tuple[str, str]]:
    """(id, test) pairs of one section."""
    for key, value in WIRING.get(section, {}).items():
        for test in [value] if isinstance(value, str) else value:
            yield key, test


def what_is_wrong_with(test: str, section: str) -> str | None:
    """None for the address of a test that exists, runs, and is of the kind that counts for the section."""
    place, _, name = test.partition("::")
    if section in FROM_FRAME_TO_WIRE and not place.startswith(END_TO_END):
        return f"is not under {END_TO_END}: only a test from frame to wire counts here"
    path = ROOT / place
    if not path.is_file():
        return "names a file that does not exist"
    return what_is_wrong_in(path.read_text(), name)


def what_is_wrong_in(source: str, name: str) -> str | None:
    """The same for the source of the file: `test_name` or `TestClass::test_name`, without parameters."""
    body: list[ast.stmt] = ast.parse(source).body
    *classes, function = name.split("::")
    for outer in classes:
        found = next((n for n in body if isinstance(n, ast.ClassDef) and n.name == outer), None)
        body = found.body if found else []
    node = next((n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == function), None)
    if node is None or not function.startswith("test"):
        return "names a test that does not exist"
    if any(word in ast.unparse(d) for d in node.decorator_list for word in ("skip", "xfail")):
        return "names a test that is switched off"
    return None


def test_there_is_no_section_that_nobody_checks() -> None:
    """LESSONS 1: each section of wiring.toml has ids that the code requires."""
    assert set(WIRING) == set(REQUIRED)


@pytest.mark.parametrize("section", REQUIRED)
def test_every_id_of_the_code_has_a_test(section: str) -> None:
    """LESSONS 1 and 4: a gate, mode, cause, exit, filter or key without a test that drives it fails the build."""
    missing = sorted(REQUIRED[section]() - WIRING[section].keys())
    assert not missing, f"[{section}] has no test for: {', '.join(missing)}"


@pytest.mark.parametrize("section", REQUIRED)
def test_no_id_is_left_over(section: str) -> None:
    """LESSONS 5: an id that the code no longer has goes."""
    assert sorted(WIRING[section].keys() - REQUIRED[section]()) == []


@pytest.mark.parametrize("section", REQUIRED)
def test_every_named_test_exists_and_runs(section: str) -> None:
    """LESSONS 1: an entry that points nowhere, at a test that is switched off or at one of the wrong kind fails."""
    wrong = [f"{key}: {test} {why}" for key, test in addresses_of(section) if (why := what_is_wrong_with(test, section))]
    assert wrong == []


SWITCHED_OFF = """
class TestA:
    def test_b(self): ...
@pytest.mark.skip
def test_c(): ...
@pytest.mark.xfail(strict=True)
async def test_d(): ...
"""
REFUSING = """
class D:
    def a(self) -> int | str:
        return 1 if self.b() == "no" else "one"
    def b(self) -> str:
        return "name"
    def c(self):
        self._refuse(coin, "two")
"""


def test_wrong_addresses_are_found() -> None:
    """The test of the test: each way in which an entry can point at nothing."""
    here = "tests/test_wiring.py"
    assert what_is_wrong_with(f"{here}::test_wrong_addresses_are_found", "filters") is None
    assert what_is_wrong_with(f"{here}::test_wrong_addresses_are_found", "gates") is not None
    assert what_is_wrong_with(f"{here}::test_of_nothing", "filters") == "names a test that does not exist"
    assert what_is_wrong_with(f"{here}::mode_cells", "filters") == "names a test that does not exist"
    assert what_is_wrong_with("tests/test_nowhere.py::test_x", "filters") == "names a file that does not exist"
    source = SWITCHED_OFF
    assert what_is_wrong_in(source, "TestA::test_b") is None
    assert what_is_wrong_in(source, "TestB::test_b") is not None
    assert what_is_wrong_in(source, "test_b") is not None
    assert {what_is_wrong_in(source, name) for name in ("test_c", "test_d")} == {"names a test that is switched off"}


def test_the_ids_come_out_of_the_code() -> None:
    """The test of the test: keys of every depth, every cell, and each way in which the detector names a reason."""
    assert {
        "network",
        "markets.coin",
        "safety.max_notional_usd",
        "detector.dedup",
        "paper.seed",
        "signer.key_source.keystore.passphrase_env",
    } <= option_keys()
    assert len(mode_cells()) == 12
    assert set(reasons_in(REFUSING)) == {"one", "two"}
