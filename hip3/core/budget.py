"""The account's action budget (GATE-5): a fuel tank at the venue that trading volume refills, and a pace of our own.

`nRequestsUsed` may not exceed `nRequestsCap`, 10 000 plus one per USD traded (PROTOCOL 8). What is below the reserve is kept
for cancels and flatten. Once the venue says that the tank is empty, one action per 11 s passes, and it is never an entry.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from hip3.core.guards import GuardLevel

RESERVE = 200
"""Enough to cancel 100 resting orders and close 20 positions five times over; ours, the venue names none."""
TRICKLE_MS = 11_100
"""Gap at which the venue was seen to take single actions with the budget used up; 10 s are documented (PROTOCOL 8)."""
MINUTE_MS = 60_000
LOW = 1000
"""Ours: a tenth of what an account begins with; from here on `rate_limit` warns (LESSONS 40)."""


@define
class TokenBucket:
    """A minute's worth of actions, refilled evenly. Cancels and closes draw on it and are never refused (GATE-4).

    Counted in sixty-thousandths of an action, of which `per_min` come back each millisecond: no fraction is lost.
    """

    per_min: int
    _level: int = field(init=False)
    _at_ms: int | None = None

    def __attrs_post_init__(self) -> None:
        self._level = self.per_min * MINUTE_MS

    def left(self, now_ms: int) -> int:
        """Whole actions that may go now; negative where exits took more than there was. `now_ms` is monotonic."""
        passed = 0 if self._at_ms is None else now_ms - self._at_ms
        self._level = min(self.per_min * MINUTE_MS, self._level + passed * self.per_min)
        self._at_ms = now_ms
        return self._level // MINUTE_MS

    def spend(self, items: int, now_ms: int) -> None:
        self.left(now_ms)
        self._level -= items * MINUTE_MS


@define
class ActionBudget:
    """The gauge: the venue's last answer, less what went out since. Unknown (no answer yet) counts as empty.

    All times are monotonic.
    """

    cap: int | None = None
    used: int = 0
    since: int = 0
    bucket: TokenBucket | None = None
    next_action_ms: int | None = None
    """The venue said that the budget is used up: when the next action may go. None while it does not say so."""
    on_known: Callable[[], None] = lambda: None
    """Called whenever the venue has said something of it; the `rate_limit` guard reports then."""

    def read(self, used: int, cap: int) -> None:
        """Takes the venue's own count, which includes what went out before; room in it ends the exhaustion."""
        self.cap, self.used, self.since = cap, used, 0
        if used < cap:
            self.next_action_ms = None
        self.on_known()

    def refused(self, now_ms: int) -> bool:
        """The venue refused an action for want of budget. True where this is news."""
        is_news = self.next_action_ms is None
        self.next_action_ms = now_ms + TRICKLE_MS
        self.on_known()
        return is_news

    def spend(self, items: int, now_ms: int) -> None:
        """One action leaves. Each order and each cancel of it counts one, failing ones included (PROTOCOL 8)."""
        self.since += items
        if self.bucket is not None:
            self.bucket.spend(items, now_ms)
        if self.next_action_ms is not None:
            self.next_action_ms = now_ms + TRICKLE_MS

    @property
    def is_exhausted(self) -> bool:
        """The venue said so, and has not said otherwise since."""
        return self.next_action_ms is not None

    def holds(self, now_ms: int) -> bool:
        """True while no action at all may go."""
        return self.next_action_ms is not None and now_ms < self.next_action_ms

    @property
    def left(self) -> int:
        """Actions at the venue before the reserve is touched."""
        return 0 if self.cap is None or self.is_exhausted else self.cap - self.used - self.since - RESERVE

    def judge(self) -> tuple[GuardLevel, str]:
        """How the `rate_limit` guard stands, and the numbers."""
        if self.is_exhausted:
            return GuardLevel.ERROR, f"the venue refuses actions: {self.used} used of {self.cap}"
        level = GuardLevel.ERROR if self.left <= 0 else GuardLevel.WARN if self.left < LOW else GuardLevel.OK
        return level, f"{self.used} used of {self.cap}, {self.left} left before the reserve of {RESERVE}"

    def entries_left(self, now_ms: int) -> int:
        """Entries that may go now: by the venue's budget and by our own pace."""
        return self.left if self.bucket is None else min(self.left, self.bucket.left(now_ms))
