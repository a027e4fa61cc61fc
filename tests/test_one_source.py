"""One source of truth for each concept: one latch, one predicate, one cap table, one flatten, one entry point (LESSONS 2).

What can be made or called in one place alone is looked for in the source of the whole program. A second place is not always
wrong, but it is never an accident: whoever adds one, adds it here with its reason.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "hip3"

CALLS: dict[str, dict[str, str]] = {
    "Safety": {
        "hip3/wiring.py": "the latch of the running bot",
        "hip3/ops/stopped.py": "the same class, filled from what a stopped bot has kept",
    },
    "check_entry": {"hip3/core/opening.py": "the one way of a signal to an order"},
    "enqueue_new": {"hip3/core/opening.py": "and the one way of an order to the queue"},
    "effective_caps": {
        "hip3/wiring.py": "the gates",
        "hip3/ops/detector_config.py": "the size of an order",
        "hip3/ops/preflight_venue.py": "shown and compared with the balance before a start",
        "hip3/settings/rules.py": "compared with the minimum when a file is read",
        "hip3/settings/describe.py": "shown at the start",
        "hip3/simulate/invariants.py": "watched from outside",
    },
    "Flattener": {
        "hip3/app.py": "HALT and the way out",
        "hip3/ops/flatten_tool.py": "`hip3 flatten` and `hip3 watchdog`",
    },
    "closing_price": {
        "hip3/core/exits.py": "exits in normal running",
        "hip3/io/flatten.py": "the flatten",
    },
    "order_action": {
        "hip3/tasks/executor.py": "orders of the bot",
        "hip3/io/flatten.py": "closes of the flatten",
    },
    "cancel_action": {"hip3/io/flatten.py": "what the venue lists; the executor cancels by its own ids"},
    "build": {"hip3/ops/session.py": "the one place that makes a bot"},
    "NonceSource": {
        "hip3/wiring.py": "of the bot's key",
        "hip3/ops/flatten_tool.py": "of the key of another process",
    },
}
"""Function or class: the files that call it, and as what."""

ASKS_THE_PREDICATE = {
    "hip3/core/opening.py": "the gates",
    "hip3/tasks/executor.py": "dequeue, batch, and the last look before the bytes",
}
"""Where `Safety.allows_entry` decides; elsewhere it is shown."""
SHOWS_THE_PREDICATE = {
    "hip3/core/gates.py",
    "hip3/ops/status_view.py",
    "hip3/ops/verify.py",
    "hip3/simulate/world.py",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PROGRAM.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


SOURCES = tuple(sources())


def callers(name: str) -> set[str]:
    """Files with a call of a function, class or method of this plain name."""
    return {place for place, names in all_calls().items() if name in names}


@functools.cache
def all_calls() -> dict[str, set[str]]:
    """What each file calls; read once for all questions."""
    return {place: called(tree) for place, tree in SOURCES}


def called(tree: ast.Module) -> set[str]:
    """Plain names of everything that a file calls, without the sections of the settings, which are data."""
    data = {"schema", *imported(tree, "hip3.settings.schema")}
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Name(name)) if name not in data:
                found.add(name)
            case ast.Call(ast.Attribute(ast.Name(owner), name)) if owner not in data:
                found.add(name)
            case ast.Call(ast.Attribute(value, name)) if not isinstance(value, ast.Name):
                found.add(name)
    return found


def imported(tree: ast.Module, module: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == module:
            yield from (alias.asname or alias.name for alias in node.names)


@pytest.mark.parametrize("name", CALLS)
def test_a_concept_has_the_places_that_are_known(name: str) -> None:
    """LESSONS 2: neither a second place that decides the same, nor a place that is gone."""
    assert callers(name) == set(CALLS[name])


def test_one_predicate_says_whether_an_entry_may_leave() -> None:
    """LESSONS 2, SAFE-1: nothing that sends looks at the mode ARMED_LIVE itself; what asks the predicate is known."""
    asks = {place for place, tree in SOURCES if any(_reads(n, "allows_entry") for n in ast.walk(tree))}
    assert asks == set(ASKS_THE_PREDICATE) | SHOWS_THE_PREDICATE
    looks = {place for place, tree in SOURCES if any(_reads(n, "ARMED_LIVE") for n in ast.walk(tree))}
    sends = {place for place in looks if place.startswith(("hip3/core/", "hip3/tasks/", "hip3/io/", "hip3/venue/"))}
    assert sends == {"hip3/core/causes.py"}


def _reads(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name


def test_a_second_place_is_found() -> None:
    """LESSONS 2, the test of the test: names that many call have many places, and those that nobody calls have none."""
    assert len(callers("note")) > 10
    assert callers("no_such_function") == set()
