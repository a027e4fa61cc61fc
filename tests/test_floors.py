"""The floors of DESIGN 2, enforced on every file of hip3/: who may import whom, and what no file may do.

The rules are data below. Each is also tried on a snippet that breaks it, so a rule that looks at nothing fails here.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "hip3").rglob("*.py"))

CLOCKS = ("time", "datetime", "random", "secrets", "sched")
NETWORK = ("socket", "ssl", "http", "urllib.request", "asyncio", "select", "selectors")
CONCURRENCY = ("asyncio", "threading", "multiprocessing", "concurrent")


@frozen
class Floor:
    """One folder or file: what of ours and of others it may import, and which parts of the standard library it may not."""

    place: str
    ours: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Third-party packages; "*" is any."""
    never: tuple[str, ...] = ()
    """Of the standard library."""


# The most specific place rules. A name stands for what is below it: "hip3.core" is the whole package.
FLOORS = (
    Floor("hip3/__init__.py", ours=(), never=(*CLOCKS, *NETWORK)),
    Floor("hip3/__main__.py", ours=("hip3.cli.main",)),
    Floor("hip3/fsm/", ours=("hip3.fsm",), others=("attrs",), never=(*CLOCKS, *NETWORK, *CONCURRENCY, "logging")),
    Floor(
        "hip3/fsm/machines.py",
        ours=("hip3.fsm",),
        others=("attrs", "transitions"),
        never=(*CLOCKS, *NETWORK, *CONCURRENCY, "logging"),
    ),
    Floor(
        "hip3/core/",
        ours=("hip3.fsm", "hip3.core"),
        others=("attrs",),
        never=(*CLOCKS, *NETWORK, *CONCURRENCY, "logging", "os", "pathlib", "subprocess", "json"),
    ),
    Floor(
        "hip3/venue/",
        ours=("hip3.core", "hip3.venue"),
        others=("attrs", "msgspec", "msgpack", "eth_account", "eth_hash", "eth_utils", "eth_keys", "coincurve"),
        never=(*CLOCKS, *NETWORK, *CONCURRENCY, "logging", "os", "pathlib", "subprocess"),
    ),
    # Floor 1.5. The names of the networks and their addresses have one home, which is the venue's.
    Floor(
        "hip3/settings/",
        ours=("hip3", "hip3.core", "hip3.settings", "hip3.venue.hyperliquid.endpoints"),
        others=("attrs", "cattrs", "eth_utils"),
        never=(*CLOCKS, *NETWORK, *CONCURRENCY, "subprocess"),
    ),
    Floor(
        "hip3/io/",
        ours=("hip3.fsm", "hip3.core", "hip3.settings", "hip3.venue", "hip3.io"),
        others=("attrs", "trio", "trio_websocket", "httpx", "msgspec", "eth_account"),
        never=CONCURRENCY,
    ),
    Floor(
        "hip3/tasks/",
        ours=("hip3.fsm", "hip3.core", "hip3.settings", "hip3.venue", "hip3.io", "hip3.tasks.channels"),
        others=("attrs", "trio"),
        never=(*CLOCKS, *NETWORK, *CONCURRENCY, "logging"),
    ),
    Floor(
        "hip3/store/",
        ours=("hip3.core", "hip3.store"),
        others=("attrs", "sqlalchemy", "alembic", "trio", "msgspec", "psycopg"),
        never=(*NETWORK, *CONCURRENCY),
    ),
    *(
        Floor(place, ours=("hip3",), others=("*",), never=CONCURRENCY)
        for place in ("hip3/app.py", "hip3/bot.py", "hip3/wiring.py", "hip3/cli/", "hip3/ops/", "hip3/console/")
    ),
    Floor(
        "hip3/exchange/",
        ours=("hip3.core", "hip3.venue", "hip3.exchange"),
        others=("attrs", "msgspec", "msgpack", "trio", "trio_websocket", "httpx", "starlette", "hypercorn", "eth_account"),
        never=CONCURRENCY,
    ),
    Floor("hip3/simulate/", ours=("hip3",), others=("*",), never=CONCURRENCY),
)


def floor_of(place: str) -> Floor | None:
    """The most specific rule for a file, None where no floor holds it."""
    return max((f for f in FLOORS if place.startswith(f.place)), key=lambda f: len(f.place), default=None)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import; `from hip3.core import units` is `hip3.core.units` where that is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                part = ROOT / Path(*base.split("."), alias.name) if base.startswith("hip3") else None
                is_module = part is not None and (part.is_dir() or part.with_suffix(".py").is_file())
                yield node.lineno, f"{base}.{alias.name}" if is_module else base


def within(name: str, allowed: tuple[str, ...]) -> bool:
    """True where `name` is one of the packages or below one; plain `hip3` is only the version."""
    return any(name == a or (a not in ("hip3",) and name.startswith(f"{a}.")) for a in allowed)


def broken_floors(place: str, source: str) -> list[str]:
    """What a file imports and may not."""
    floor = floor_of(place)
    if floor is None:
        return [f"{place}: no floor holds this file; give it one in tests/test_floors.py"]
    anything_of_ours = floor.ours == ("hip3",)
    result = []
    for line, name in imports(ast.parse(source)):
        top = name.partition(".")[0]
        if name.startswith("."):
            verdict = "relative"
        elif top == "hip3":
            verdict = "" if anything_of_ours or within(name, floor.ours) else "of ours, but above"
        elif top in sys.stdlib_module_names:
            verdict = "of the standard library, but forbidden here" if within(name, floor.never) else ""
        else:
            verdict = "" if "*" in floor.others or top in floor.others else "third-party, but not allowed here"
        if name.startswith("transitions") and place != "hip3/fsm/machines.py":
            verdict = "only for hip3/fsm/machines.py"
        if verdict:
            result.append(f"{place}:{line}: import of {name} is {verdict}")
    return sorted(set(result))


def _call_name(call: ast.Call) -> str:
    func: ast.expr = call.func
    if isinstance(func, ast.Subscript):  # open_memory_channel[T](n)
        func = func.value
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _is_infinite(node: ast.expr) -> bool:
    text = ast.unparse(node)
    return text.endswith("inf") or ("inf" in text and text.startswith("float("))


def unbounded_channels(place: str, source: str) -> list[str]:
    """Memory channels without a capacity (DESIGN 4)."""
    return [
        f"{place}:{node.lineno}: a channel without a bound"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _call_name(node) == "open_memory_channel"
        if not node.args or any(map(_is_infinite, node.args))
    ]


DATED = {"move_on_after", "move_on_at", "fail_after", "fail_at"}


def undated_shields(place: str, source: str) -> list[str]:
    """Shields without a deadline (DESIGN 7): in the same call, or on the same scope in the same block."""
    result = []
    tree = ast.parse(source)
    bounded = {id(item.context_expr) for node in ast.walk(tree) for item in _items_with_a_dated_one(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in bounded:
            given = {k.arg: k.value for k in node.keywords}
            shield = given.get("shield")
            shielded = shield is not None and not (isinstance(shield, ast.Constant) and shield.value is False)
            dated = _call_name(node) in DATED or any(k in given and not _is_infinite(given[k]) for k in _DEADLINES)
            if shielded and not dated:
                result.append(f"{place}:{node.lineno}: a shield without a deadline")
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list):
                result += [f"{place}:{n}: a shield without a deadline" for n in _late_shields(block)]
    return sorted(set(result))


_DEADLINES = ("deadline", "relative_deadline")


def _items_with_a_dated_one(node: ast.AST) -> list[ast.withitem]:
    """The items of `with CancelScope(shield=True), move_on_after(1):`, whose second bounds the first."""
    items = node.items if isinstance(node, ast.With | ast.AsyncWith) else []
    calls = [i.context_expr for i in items if isinstance(i.context_expr, ast.Call)]
    return items if any(_call_name(call) in DATED for call in calls) else []


def _late_shields(block: list[ast.stmt]) -> Iterator[int]:
    """Lines of `x.shield = True` in a block that sets no `x.deadline`."""
    set_here = {
        ast.unparse(target)
        for statement in block
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Attribute)
    }
    for statement in block:
        if not isinstance(statement, ast.Assign):
            continue
        if isinstance(statement.value, ast.Constant) and statement.value.value is False:
            continue
        for target in statement.targets:
            if isinstance(target, ast.Attribute) and target.attr == "shield":
                scope = ast.unparse(target.value)
                if not any(f"{scope}.{name}" in set_here for name in _DEADLINES):
                    yield statement.lineno


MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MAKERS = {"list", "dict", "set", "bytearray", "deque", "defaultdict", "Counter", "OrderedDict"}


def module_state(place: str, source: str) -> list[str]:
    """Mutable values in lower-case module names, and `global` statements (STYLE: no module state)."""
    tree = ast.parse(source)
    result = [f"{place}:{n.lineno}: global {', '.join(n.names)}" for n in ast.walk(tree) if isinstance(n, ast.Global)]
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if not isinstance(value, MUTABLE) and not (isinstance(value, ast.Call) and _call_name(value) in MAKERS):
            continue
        names = [t.id for t in targets if isinstance(t, ast.Name) and not t.id.startswith("__")]
        result += [f"{place}:{node.lineno}: {n} is mutable state of the module" for n in names if n != n.upper()]
    return result


every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())


@every_file
def test_a_file_imports_only_what_its_floor_allows(path: Path) -> None:
    """PRD-3, DESIGN 2: imports go down the floors, and each floor uses only the libraries it was given."""
    assert broken_floors(path.relative_to(ROOT).as_posix(), path.read_text()) == []


@every_file
def test_a_file_has_no_unbounded_channel_and_no_undated_shield(path: Path) -> None:
    """PRD-4, DESIGN 4 and 7: channels are bounded, and a shield always has a deadline."""
    place, source = path.relative_to(ROOT).as_posix(), path.read_text()
    assert unbounded_channels(place, source) + undated_shields(place, source) == []


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.relative_to(ROOT).parts[1] in {"core", "fsm", "venue", "tasks", "io"}],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_a_file_keeps_no_module_state(path: Path) -> None:
    """PRD-4: what changes is an argument or an attribute, never a name of a module."""
    assert module_state(path.relative_to(ROOT).as_posix(), path.read_text()) == []


@pytest.mark.parametrize(
    ("place", "source", "said"),
    [
        ("hip3/core/x.py", "import trio", "import of trio is third-party"),
        ("hip3/core/x.py", "def f():\n    import time", "import of time is of the standard library"),
        ("hip3/core/x.py", "from random import Random", "import of random"),
        ("hip3/core/x.py", "import httpx, msgspec", "import of msgspec"),
        ("hip3/core/x.py", "import logging.handlers", "import of logging.handlers"),
        (
            "hip3/core/x.py",
            "from hip3.venue.hyperliquid import actions",
            "hip3.venue.hyperliquid.actions is of ours, but above",
        ),
        ("hip3/core/x.py", "from . import units", "relative"),
        ("hip3/core/x.py", "from transitions import Machine", "only for hip3/fsm/machines.py"),
        ("hip3/fsm/x.py", "from hip3.core import units", "hip3.core.units is of ours, but above"),
        ("hip3/fsm/diagram.py", "import transitions", "only for hip3/fsm/machines.py"),
        ("hip3/cli/x.py", "import transitions", "only for hip3/fsm/machines.py"),
        ("hip3/venue/hyperliquid/x.py", "import trio", "third-party"),
        ("hip3/venue/hyperliquid/x.py", "import hip3.io.rest", "of ours, but above"),
        ("hip3/settings/x.py", "from hip3.venue.hyperliquid.actions import order_action", "of ours, but above"),
        ("hip3/settings/x.py", "import trio", "third-party"),
        ("hip3/io/x.py", "import sqlalchemy", "third-party"),
        ("hip3/io/x.py", "from hip3.tasks.channels import FACTS", "of ours, but above"),
        ("hip3/tasks/x.py", "from hip3.tasks import executor", "hip3.tasks.executor is of ours, but above"),
        ("hip3/tasks/x.py", "from hip3.app import run", "of ours, but above"),
        ("hip3/tasks/x.py", "import time", "standard library"),
        ("hip3/exchange/x.py", "import hip3.tasks.channels", "of ours, but above"),
        ("hip3/exchange/x.py", "from hip3.app import run", "of ours, but above"),
        ("hip3/exchange/x.py", "import asyncio", "standard library"),
        ("hip3/new/x.py", "", "no floor holds this file"),
    ],
)
def test_a_forbidden_import_is_found(place: str, source: str, said: str) -> None:
    """The test of the test: each rule above refuses a file that breaks it."""
    assert any(said in line for line in broken_floors(place, source))


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("hip3/core/x.py", "from __future__ import annotations\nfrom decimal import Decimal\nfrom hip3.core import units"),
        ("hip3/tasks/x.py", "import trio\nfrom hip3.tasks.channels import FACTS"),
        ("hip3/settings/x.py", "import tomllib\nfrom hip3.venue.hyperliquid.endpoints import Network"),
        ("hip3/cli/x.py", "import rich\nfrom hip3.app import run"),
    ],
)
def test_an_allowed_import_is_left_alone(place: str, source: str) -> None:
    """The test of the test: the rules are not so strict that nothing passes."""
    assert broken_floors(place, source) == []


@pytest.mark.parametrize(
    "source",
    ["trio.open_memory_channel(math.inf)", "trio.open_memory_channel[int](float('inf'))", "open_memory_channel(inf)"],
)
def test_an_unbounded_channel_is_found(source: str) -> None:
    """The test of the test: every way to write a channel without a bound."""
    assert unbounded_channels("x.py", source)
    assert not unbounded_channels("x.py", "trio.open_memory_channel[int](1024)")


@pytest.mark.parametrize(
    "source",
    [
        "with trio.CancelScope(shield=True): pass",
        "with trio.CancelScope(shield=wanted): pass",
        "with trio.CancelScope(shield=True, deadline=math.inf): pass",
        "scope.shield = True",
        "def f():\n    other.deadline = 3\n    scope.shield = True",
    ],
)
def test_an_undated_shield_is_found(source: str) -> None:
    """The test of the test: a shield is found in a call and in an assignment."""
    assert undated_shields("x.py", source)


@pytest.mark.parametrize(
    "source",
    [
        "with trio.move_on_after(20, shield=True): pass",
        "with trio.CancelScope(shield=True, deadline=trio.current_time() + 20): pass",
        "def f():\n    scope.deadline = 3\n    scope.shield = True",
        "with trio.CancelScope(shield=True), trio.move_on_after(1): pass",
        "with trio.CancelScope(shield=False): pass",
    ],
)
def test_a_dated_shield_is_left_alone(source: str) -> None:
    """The test of the test: a deadline in the same call or block is enough."""
    assert undated_shields("x.py", source) == []


@pytest.mark.parametrize(
    "source", ["seen = []", "cache: dict[str, int] = {}", "q = deque()", "def f():\n    global q\n    q = 1"]
)
def test_module_state_is_found(source: str) -> None:
    """The test of the test: a list, a dict, a made container, and a `global`."""
    assert module_state("x.py", source)
    assert not module_state("x.py", "LIMITS = {1: 2}\n__all__ = ['a']\nname = 'x'")
