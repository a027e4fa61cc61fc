"""Fixtures of the whole-bot tests: they run in virtual time, all of them."""

from __future__ import annotations

import pytest
import trio.testing


@pytest.fixture(autouse=True)
def virtual_time(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """Trio's mock clock: nothing in this folder waits for real time."""
    return autojump_clock
