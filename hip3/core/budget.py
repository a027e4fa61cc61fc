"""The account's action budget at the venue (GATE-5): a fuel tank that trading volume refills (PROTOCOL 8).

`nRequestsUsed` may never exceed `nRequestsCap`, 10 000 plus one per USD traded. What is below the reserve is kept for
cancels and flatten.
"""

from __future__ import annotations

from attrs import define

RESERVE = 200
"""Enough to cancel 100 resting orders and close 20 positions five times over; ours, the venue names none."""


@define
class ActionBudget:
    """The gauge: the venue's last answer, less what went out since. Unknown (no answer yet) counts as empty."""

    cap: int | None = None
    used: int = 0
    since: int = 0

    def read(self, used: int, cap: int) -> None:
        """Takes the venue's own count, which includes what went out before."""
        self.cap, self.used, self.since = cap, used, 0

    def spend(self, items: int) -> None:
        """Each order and each cancel of an action counts one, failing ones included (PROTOCOL 8)."""
        self.since += items

    @property
    def left(self) -> int:
        """Entries that may still go out before the reserve is touched."""
        return 0 if self.cap is None else self.cap - self.used - self.since - RESERVE
