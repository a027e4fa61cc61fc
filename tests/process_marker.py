"""The marker `process`: on every test that starts processes of its own, put there by what the test's code reaches.

`scripts/test -m "not process"` is the quick loop. What the reading of the code does not see, such as a command of ours that
starts processes itself, is seen when it happens: a test without the marker that starts one fails (`Watch`). A server that a
fixture of the session keeps for many tests is nobody's own and does not count.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest
from attrs import define

MARKER = "process: starts processes of its own, which takes seconds; set by tests/process_marker.py"
STARTERS = frozenset({"subprocess", "multiprocessing"})
STARTING_CALLS = frozenset({"run_process", "open_process", "kill_moments"})
"""Of Trio; and the one of ours that is called for its processes alone."""
STARTING_FIXTURES = frozenset({"own_postgres"})
"""For tests that stop and start a server."""
STARTING_EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})
"""Audit events of the interpreter."""


@functools.cache
def starts_process(function: Callable[..., object]) -> bool:
    """Whether the code of a test, with the helpers of tests/ that it calls, names what starts a process."""
    todo, seen = [function], set[int]()
    while todo:
        found = inspect.unwrap(todo.pop())
        code = getattr(found, "__code__", None)
        if code is None or id(code) in seen:
            continue
        seen.add(id(code))
        names = set(_names(code))
        values = [found.__globals__.get(name) for name in names]
        modules = [value for value in values if isinstance(value, types.ModuleType)]
        if names & STARTING_CALLS or any(module.__name__ in STARTERS for module in modules):
            return True
        values += [getattr(module, name, None) for module in modules for name in names]
        for value in values:
            todo.extend(_ours(value))
    return False


def _names(code: types.CodeType) -> Iterator[str]:
    """Globals and attributes that the code names, the functions inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _ours(value: object) -> Iterator[Callable[..., object]]:
    """The functions behind a name, where they are helpers of the tests; of a class its methods."""
    if not str(getattr(value, "__module__", "")).startswith("tests."):
        return
    if inspect.isclass(value):
        yield from (method for _, method in inspect.getmembers(value, inspect.isfunction))
    elif callable(value):
        yield value


def mark(item: pytest.Item) -> None:
    """Marks a test that starts a process itself or through a fixture that is made for it."""
    if not isinstance(item, pytest.Function):
        return
    functions = [item.function]
    for fixtures in item._fixtureinfo.name2fixturedefs.values():
        functions += [fixture.func for fixture in fixtures if fixture.scope != "session"]
    if STARTING_FIXTURES & set(item.fixturenames) or any(map(starts_process, functions)):
        item.add_marker(pytest.mark.process)


def unmarked(item: pytest.Item) -> str | None:
    """The name of a test that may start no process."""
    return item.nodeid if item.get_closest_marker("process") is None else None


def _importing() -> bool:
    """Whether a module is being imported: some libraries look at the machine with a program of the system."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@define(eq=False)
class Watch:
    """Sees every start of a process; `test` is None where one may be started. Its methods are hooks of pytest."""

    test: str | None = None
    started: str | None = None

    def install(self) -> None:
        """From now on; the interpreter keeps its hooks for good."""
        sys.addaudithook(self.on_event)

    def on_event(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.test is not None and event in STARTING_EVENTS and not _importing():
            self.started = f"{event} {arguments[:2]}"

    @contextmanager
    def over(self, test: str | None) -> Iterator[None]:
        """Fails at the end where a process was started for `test`."""
        before, self.test, self.started = self.test, test, None
        try:
            yield
        finally:
            self.test = before
        if self.started is not None:
            pytest.fail(
                f"{test} starts a process without the marker: {self.started}; put @pytest.mark.process on it", pytrace=False
            )

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """While a fixture of the session starts what serves many tests."""
        before, self.test = self.test, None
        try:
            yield
        finally:
            self.test = before

    @pytest.hookimpl(tryfirst=True)  # before -m chooses by the markers
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            mark(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        with self.over(unmarked(item)):
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        with self.over(unmarked(item)):
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        if fixturedef.scope != "session":
            return (yield)
        with self.allowed():
            return (yield)
