"""Real processes killed at random moments; `scripts/kill_moments` kills two hundred (docs/state.md)."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import trio

from hip3.simulate.kill import USER, Killer, kill_moments
from hip3.simulate.kill_plan import Kind, draw

MOMENTS = list(draw(seed=10, count=10))

WRONG = ("has no intent", "is not in the store", "fills of", "the risk counter is")


def tampered(killer: Killer) -> list[str]:
    """What the comparison says of a store from which an intent and the last fill and trade were taken."""
    with closing(sqlite3.connect(str(killer.books.place.file))) as db, db:
        db.execute(
            "delete from order_intents where sent_ms = (select max(sent_ms) from order_intents where reduce_only = 0)"
        )
        db.execute("delete from fills where rowid = (select max(rowid) from fills)")
        db.execute("delete from trades where id = (select max(id) from trades)")
    return killer.books.compare()


def test_simulate_kill_draws_the_same_moments_from_a_seed() -> None:
    """SIM-5: a seed is a plan; ten moments of it hold every kind of kill."""
    assert list(draw(seed=10, count=10)) == MOMENTS
    assert Counter(m.kind for m in MOMENTS).keys() == set(Kind)


def test_simulate_kill_at_ten_moments_loses_and_doubles_nothing() -> None:
    """STO-4, REC-1, REC-2, NON-1, DESIGN 9.4, 9.7, 9.10, 9.11: SIGKILL, restart, compare; at the end flat and exit 0."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="hip3-kill-") as folder:  # a socket's path must be short
        killer = trio.run(kill_moments, MOMENTS, Path(folder), lines.append)
        found = tampered(killer)
    assert len(lines) == len(MOMENTS)
    assert killer.starts > len(MOMENTS)
    assert killer.books.rows_checked > 0
    assert len(killer.books.entries) >= len(MOMENTS) / 2
    assert not killer.exchange.positions(USER)
    for word in WRONG:  # the comparison is no empty proof
        assert any(word in sentence for sentence in found), (word, found)
