"""The journal keeps notes in order, and makes those that cost something only for a reader."""

from __future__ import annotations

from hip3.core.journal import CAPACITY, Journal


def test_fields_are_made_for_the_reader_and_in_their_place() -> None:
    """OPS-7, DESIGN 8: noting calls nothing; draining gives all notes in the order in which they came."""
    journal, made = Journal(), []

    def make(value: int, *, twice: bool) -> dict[str, object]:
        made.append(value)
        return {"value": value * (1 + twice)}

    journal.note(1, "info", "before")
    journal.note_later(2, "debug", "costly", make, 21, twice=True)
    journal.note(3, "info", "after")
    assert made == []
    assert [(n.wall_ms, n.event, n.fields) for n in journal.drain()] == [
        (1, "before", {}),
        (2, "costly", {"value": 42}),
        (3, "after", {}),
    ]
    assert (made, journal.drain()) == ([21], [])


def test_what_nobody_read_in_time_is_dropped_unmade_and_counted() -> None:
    """OBS-1: the oldest go first, whatever kind they are."""
    journal, made = Journal(), []

    def make() -> dict[str, object]:
        made.append(1)
        return {}

    journal.note_later(0, "debug", "costly", make)
    for n in range(CAPACITY):
        journal.note(n, "info", "plain")
    assert (len(journal.drain()), journal.dropped, journal.total, made) == (CAPACITY, 1, CAPACITY + 1, [])
