"""Nonces of one signer: unique, increasing, close to the venue's time (NON-1, NON-2, PROTOCOL 5.5).

A raw clock as nonce collides under concurrency and repeats when the clock steps back, so the clock is only a floor: each
nonce is above the last one. Issuing has no suspension point, so concurrent tasks cannot share a nonce; two processes must
not share a key. The caller persists `last` and gives it back after a restart.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from attrs import frozen

from hip3.venue.hyperliquid.errors import ClockSkewError

WARN_SKEW_MS = 2_000
ERROR_SKEW_MS = 5_000
"""Bounds of NON-2: beyond the first warn, beyond the second stay out of ARMED_LIVE (an `expiresAfter` would mislead)."""


class Skew(enum.Enum):
    """Verdict on the distance between the local clock and the venue's."""

    OK = "ok"
    WARN = "warn"
    ERROR = "error"


@frozen
class ClockCheck:
    """One comparison of clocks. `offset_ms` is server minus local."""

    skew: Skew
    offset_ms: int

    def require(self) -> None:
        """Raises ClockSkewError where the verdict is ERROR."""
        if self.skew is Skew.ERROR:
            raise ClockSkewError(
                f"the local clock differs from the venue's by {-self.offset_ms} ms, at most {ERROR_SKEW_MS} ms is "
                "accepted; synchronise the clock (NTP) and try again"
            )


def judge_skew(offset_ms: int) -> Skew:
    """OK up to 2000 ms, WARN above, ERROR above 5000 ms, either way (NON-2)."""
    distance = abs(offset_ms)
    if distance > ERROR_SKEW_MS:
        return Skew.ERROR
    return Skew.WARN if distance > WARN_SKEW_MS else Skew.OK


def compare_clocks(server_ms: int, local_ms: int, asked_ms: int | None = None) -> ClockCheck:
    """The venue's time beside ours, Unix ms, when its answer came.

    With `asked_ms`, ours when the question left: the venue looked at its clock somewhere between, so what lies between is
    no distance; an answer that took ten seconds does not say that the clocks are ten seconds apart.
    """
    offset_ms = server_ms - local_ms
    if asked_ms is not None and offset_ms < 0:
        offset_ms = min(0, server_ms - asked_ms)
    return ClockCheck(judge_skew(offset_ms), offset_ms)


class NonceSource:
    """Issues the nonces of one key."""

    def __init__(
        self, wall_ms: Callable[[], int], last: int = 0, on_issue: Callable[[int], None] = lambda _nonce: None
    ) -> None:
        """`wall_ms` gives Unix ms; `last` is the last nonce issued by an earlier run; `on_issue` hears of each new one."""
        if last < 0:
            raise ValueError(f"the last nonce cannot be negative, got {last}")
        self._wall_ms = wall_ms
        self._last = last
        self._offset_ms = self._apart_ms = 0
        self._on_issue = on_issue

    @property
    def last(self) -> int:
        """No nonce at or below this is issued any more; what to persist."""
        return self._last

    @property
    def offset_ms(self) -> int:
        """Server time minus local time at the last `sync`; 0 before it."""
        return self._offset_ms

    @property
    def apart_ms(self) -> int:
        """How far the venue's time is from ours, less what the way of question and answer explains; 0 in ordinary times."""
        return self._apart_ms

    def next(self) -> int:
        """A new nonce: `max(last + 1, now + offset)` (NON-1)."""
        self._last = max(self._last + 1, self._wall_ms() + self._offset_ms)
        self._on_issue(self._last)
        return self._last

    def sync(self, server_ms: int, asked_ms: int | None = None) -> ClockCheck:
        """Follows the venue's time (Unix ms): the next nonce is not below it, and never below an issued one (NON-2).

        `asked_ms` is when the question left, by our wall clock; None: the answer took no time.
        """
        now = self._wall_ms()
        check = compare_clocks(server_ms, now, asked_ms)
        self._offset_ms, self._apart_ms = server_ms - now, check.offset_ms
        self._last = max(self._last, server_ms - 1)
        return check
