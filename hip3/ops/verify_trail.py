"""What a verification looks at: the notes of its run in order, and the identity of the posts in flight at each of them.

It hears every note in the step in which it is made, so "at all times" (RUN-1, item 9) is as often as the bot says anything.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field

from hip3.core.journal import Note
from hip3.core.posts import PostBook

KEPT_NOTES = 20_000
"""A verification makes some 2000."""
KEPT_BROKEN = 20


@define
class Trail:
    """Notes by their number in the run; `posts` is set when the bot is there."""

    posts: PostBook | None = None
    count: int = 0
    looks: int = 0
    """How often the identity was looked at."""
    broken: deque[str] = field(factory=lambda: deque(maxlen=KEPT_BROKEN))
    """When it did not hold, and the numbers."""
    _notes: deque[tuple[int, Note]] = field(factory=lambda: deque(maxlen=KEPT_NOTES))

    def hear(self, note: Note) -> None:
        """Keeps one note and looks at the posts."""
        self._notes.append((self.count, note))
        self.count += 1
        if self.posts is None:
            return
        self.looks += 1
        live = sum(post.was_sent for post in self.posts.live)
        if live != self.posts.in_flight:
            self.broken.append(f"{live} posts wait for an answer, sent - complete = {self.posts.in_flight} at {note.event}")

    def of(self, event: str, since: int = 0, **fields: object) -> list[Note]:
        """Notes of an event from number `since` on whose fields have these values, oldest first."""
        found = [note for number, note in self._notes if number >= since and note.event == event]
        return [note for note in found if all(str(note.fields.get(k)) == str(v) for k, v in fields.items())]
