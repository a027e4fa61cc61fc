"""What happened, as (time, event name, fields). Appending costs well under a microsecond; formatting happens elsewhere.

The journal is bounded: when its reader falls behind, the oldest notes are dropped and counted, never the trading.
Event names are those of the runbooks (SPEC 29).
"""

from __future__ import annotations

from collections import deque

from attrs import define, field, frozen

CAPACITY = 8192  # DESIGN 4: all -> writer; prose is dropped and counted


@frozen
class Note:
    """One event. `wall_ms` is Unix ms; `level` is debug, info, warning, error or critical."""

    wall_ms: int
    level: str
    event: str
    fields: dict[str, object]


@define
class Journal:
    dropped: int = 0
    total: int = 0
    _notes: deque[Note] = field(factory=deque)

    def note(self, wall_ms: int, level: str, event: str, **fields: object) -> None:
        if len(self._notes) >= CAPACITY:
            self._notes.popleft()
            self.dropped += 1
        self.total += 1
        self._notes.append(Note(wall_ms, level, event, fields))

    def drain(self) -> list[Note]:
        """Hands over what has come since the last call."""
        notes = list(self._notes)
        self._notes.clear()
        return notes
