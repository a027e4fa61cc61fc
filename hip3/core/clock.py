"""Time as an argument: nothing in the project reads a clock that it was not given (TYP-1)."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time is for the venue (nonces, expiry, fills); monotonic time is for ages and deadlines. Both integer ms."""

    def wall_ms(self) -> int:
        """Unix time in milliseconds; may step backwards."""
        ...

    def mono_ms(self) -> int:
        """Milliseconds on a clock that never steps backwards; only differences mean anything."""
        ...
