"""All tests of this folder run in virtual time; none of them can wait for the real one by forgetting to ask for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

HERE = Path(__file__).parent


def virtual_run(test: Callable[[], Any], *, clock: trio.abc.Clock | None, instruments: Sequence[Any]) -> Any:
    """`trio.run` with a clock that jumps ahead when nothing runs, unless the test brought one."""
    chosen = clock if clock is not None else trio.testing.MockClock(autojump_threshold=0)
    return trio.run(test, clock=chosen, instruments=instruments)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Chooses the runner of the asynchronous tests below this folder; the hook is given those of the whole suite."""
    for item in items:
        if item.path.is_relative_to(HERE) and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.trio(run=virtual_run))
