"""Posts in flight: one record per request, each with a deadline (POST-1), and the in-flight count (BAT-6).

`sent - completed == in_flight` always holds, because the count is derived from the records that were sent and have not
ended. A record that ended stays known for a while, so that a late answer still finds its orders (POST-5).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from attrs import define, field

from hip3.core.scheduler import Batch
from hip3.fsm.post import POST_TABLE, POST_TERMINAL, PostEvent, PostState

KEPT_ENDED = 1000


@define
class Post:
    """One request. `registered_ms` and `deadline_ms` are monotonic."""

    id: int
    batch: Batch
    nonce: int
    registered_ms: int
    deadline_ms: int
    state: PostState = PostState.REGISTERED
    was_sent: bool = False
    answered_ms: int | None = None
    _on_end: list[Callable[[], None]] = field(factory=list, eq=False, repr=False)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Has `call` called when the post ends, at once where it has: half of a future, the other half waits (POST-1)."""
        if self.is_ended:
            call()
        else:
            self._on_end.append(call)

    def settle_waiters(self) -> None:
        """Tells those who wait; for the book of posts."""
        calls, self._on_end = self._on_end, []
        for call in calls:
            call()

    @property
    def is_ended(self) -> bool:
        return self.state in POST_TERMINAL


@define
class PostBook:
    timeout_ms: int
    sent: int = 0
    completed: int = 0
    high_water: int = 0
    on_change: Callable[[Post, PostState | None, PostEvent | None], None] = field(
        default=lambda _post, _before, _event: None, eq=False, repr=False
    )
    """Told of each post registered (no state before, no event) and of each change of state, in the same step."""
    _next_id: int = 0
    _live: OrderedDict[int, Post] = field(factory=OrderedDict)
    _ended: OrderedDict[int, Post] = field(factory=OrderedDict)

    @property
    def in_flight(self) -> int:
        return self.sent - self.completed

    @property
    def metrics(self) -> dict[str, int]:
        """Counts of posts by their metric names (SPEC 29): sent - complete = current."""
        return {
            "batch_sent_total": self.sent,
            "batch_complete_total": self.completed,
            "inflight_current": self.in_flight,
            "inflight_high_water": self.high_water,
        }

    @property
    def live(self) -> tuple[Post, ...]:
        return tuple(self._live.values())

    @property
    def next_deadline_ms(self) -> int | None:
        """Posts share one time-out, so the oldest ends first."""
        return next(iter(self._live.values())).deadline_ms if self._live else None

    def register(self, batch: Batch, nonce: int, now_ms: int) -> Post:
        """A record with an id of its own sequence; the id is never part of what is signed."""
        self._next_id += 1
        post = Post(self._next_id, batch, nonce, now_ms, now_ms + self.timeout_ms)
        self._live[post.id] = post
        self.on_change(post, None, None)
        return post

    def handed_over(self, post: Post) -> None:
        """The socket took the bytes: from here it is in flight."""
        if post.is_ended:
            return
        before = post.state
        post.state = POST_TABLE.next(before, PostEvent.HANDED_OVER)
        self.on_change(post, before, PostEvent.HANDED_OVER)
        post.was_sent = True
        self.sent += 1
        self.high_water = max(self.high_water, self.in_flight)

    def end(self, post: Post, event: PostEvent) -> bool:
        """Ends a post once; False where it had ended before."""
        if post.is_ended:
            return False
        before = post.state
        post.state = POST_TABLE.next(before, event)
        self.on_change(post, before, event)
        self.completed += post.was_sent
        del self._live[post.id]
        self._ended[post.id] = post
        while len(self._ended) > KEPT_ENDED:
            self._ended.popitem(last=False)
        post.settle_waiters()
        return True

    def find(self, post_id: int) -> Post | None:
        """A live or recently ended post."""
        return self._live.get(post_id) or self._ended.get(post_id)

    def overdue(self, now_ms: int) -> list[Post]:
        return [p for p in self._live.values() if p.deadline_ms <= now_ms]
