"""Real processes killed at random moments; `scripts/kill_moments` kills two hundred (docs/state.md)."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import trio

from hip3.simulate.kill import USER, Kind, draw, kill_moments

MOMENTS = list(draw(seed=7, count=10))


def test_simulate_kill_draws_the_same_moments_from_a_seed() -> None:
    """SIM-5: a seed is a plan; ten moments of it hold every kind of kill."""
    assert list(draw(seed=7, count=10)) == MOMENTS
    assert Counter(m.kind for m in MOMENTS).keys() == set(Kind)


def test_simulate_kill_at_ten_moments_loses_and_doubles_nothing() -> None:
    """STO-4, REC-1, REC-2, NON-1, DESIGN 9.4, 9.7, 9.10, 9.11: SIGKILL, restart, compare; at the end flat and exit 0."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hip3-kill-") as folder:  # a socket's path must be short
        killer = trio.run(kill_moments, MOMENTS, Path(folder), lines.append)
    assert len(lines) == len(MOMENTS)
    assert killer.starts > len(MOMENTS)
    assert killer.books.rows_checked > 0
    assert len(killer.books.entries) >= len(MOMENTS) / 2
    assert not killer.exchange.positions(USER)
