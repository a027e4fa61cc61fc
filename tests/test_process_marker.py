"""Which tests start processes is known before they run, and a start that was not foreseen fails its test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli import cli_venue
from tests.process_marker import Watch, starts_process


def helper() -> None:
    subprocess.run([sys.executable, "--version"], check=True, capture_output=True)


class Desk:
    def work(self) -> None:
        helper()


def through_a_helper() -> None:
    helper()


def through_a_class() -> None:
    Desk().work()


def through_a_module() -> None:
    with cli_venue.external_venue(Path()):
        pass


def inside_another() -> None:
    def inner() -> None:
        helper()

    inner()


def none_at_all() -> None:
    assert os.getpid() == int(str(os.getpid()))


@pytest.mark.parametrize("function", [helper, through_a_helper, through_a_class, through_a_module, inside_another])
def test_what_reaches_the_start_of_a_process_is_known(function: Callable[[], None]) -> None:
    """LESSONS 1: a helper, a method, another file of the tests or an inner function: each way leads to the marker."""
    assert starts_process(function)
    assert not starts_process(none_at_all)


def test_the_marker_chooses(request: pytest.FixtureRequest) -> None:
    """LESSONS 1: the suite that runs is marked: a test that starts a process has the marker, another has not."""
    marked = {item.name: item.get_closest_marker("process") is not None for item in request.session.items}
    assert marked[request.node.name] is False
    assert marked.get("test_a_start_without_the_marker_fails", True) is True


def test_a_start_without_the_marker_fails() -> None:
    """LESSONS 1: the interpreter itself tells of it, so that no way around the reading of the code is left."""
    watch = Watch()
    watch.install()
    with pytest.raises(pytest.fail.Exception, match="sample starts a process without the marker"), watch.over("sample"):
        helper()
    with watch.over("sample"), watch.allowed():
        helper()
    with watch.over(None):
        helper()
    with watch.over("sample"):
        none_at_all()
