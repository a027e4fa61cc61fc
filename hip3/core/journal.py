"""What happened, as (time, event name, fields). Appending costs well under a microsecond; formatting happens elsewhere:
fields that cost more to make are made for the reader, from a snapshot that no later step changes.

The journal is bounded: when its reader falls behind, the oldest notes are dropped and counted, never the trading.
Event names are those of the runbooks (SPEC 29).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ParamSpec

from attrs import define, field, frozen

CAPACITY = 8192  # DESIGN 4: all -> writer; prose is dropped and counted


@frozen
class Note:
    """One event. `wall_ms` is Unix ms; `level` is debug, info, warning, error or critical."""

    wall_ms: int
    level: str
    event: str
    fields: dict[str, object]


@frozen
class _Unmade:
    """A note whose fields nobody has asked for yet."""

    wall_ms: int
    level: str
    event: str
    make: Callable[[], dict[str, object]]


_P = ParamSpec("_P")


@define
class Journal:
    dropped: int = 0
    total: int = 0
    tap: Callable[[Note], None] | None = None
    """Hears each note whose fields are made, in the step in which it comes; for what judges a run while it lasts."""
    _notes: deque[Note | _Unmade] = field(factory=deque)

    def note(self, wall_ms: int, level: str, event: str, **fields: object) -> None:
        note = Note(wall_ms, level, event, fields)
        self._append(note)
        if self.tap is not None:
            self.tap(note)

    def note_later(
        self,
        wall_ms: int,
        level: str,
        event: str,
        make: Callable[_P, dict[str, object]],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """A note whose fields `make` gives when it is drained. What is handed to `make` must not change until then."""
        self._append(_Unmade(wall_ms, level, event, lambda: make(*args, **kwargs)))

    def _append(self, note: Note | _Unmade) -> None:
        if len(self._notes) >= CAPACITY:
            self._notes.popleft()
            self.dropped += 1
        self.total += 1
        self._notes.append(note)

    def drain(self) -> list[Note]:
        """Hands over what has come since the last call."""
        notes = list(self._notes)
        self._notes.clear()
        return [n if isinstance(n, Note) else Note(n.wall_ms, n.level, n.event, n.make()) for n in notes]
