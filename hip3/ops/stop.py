"""Asking the process to stop: once to end flat, twice to give up flattening (END-1, END-2)."""

from __future__ import annotations

import trio


class Stop:
    """The first request starts the way out; a second one gives up what is left of it."""

    def __init__(self) -> None:
        self.requested = trio.Event()
        self.gave_up = trio.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        if not self.requested.is_set():
            self.reason = reason
            self.requested.set()
        else:
            self.gave_up.set()

    def request_once(self, reason: str) -> None:
        """As `request`, but never counts as the second: for limits and ends of data, which are not a person's hand."""
        if not self.requested.is_set():
            self.request(reason)
