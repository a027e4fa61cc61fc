"""READY-TRADING as a value: four conditions over the ready machine (RDY-1, RDY-2). `is_ready` is synchronous.

Waiting for it is the shell's business: `on_change` is called in the same step in which the state changes.
"""

from __future__ import annotations

from collections.abc import Callable

from hip3.fsm.machines import Driver
from hip3.fsm.ready import READY_TABLE, Condition, ReadyEvent, ReadyState

_CONDITIONS = tuple(Condition)


class Ready:
    """The account's four conditions. A disconnect clears all that came over the session."""

    def __init__(self, on_change: Callable[[ReadyState, ReadyState], None]) -> None:
        self._held: set[Condition] = set()
        self._driver = Driver(READY_TABLE, lambda a, _e, b: on_change(a, b))

    @property
    def state(self) -> ReadyState:
        return self._driver.state

    @property
    def is_ready(self) -> bool:
        return self._driver.state is ReadyState.READY

    @property
    def missing(self) -> tuple[Condition, ...]:
        return tuple(c for c in _CONDITIONS if c not in self._held) if len(self._held) < len(_CONDITIONS) else ()

    def holds(self, condition: Condition) -> bool:
        return condition in self._held

    def link_up(self) -> None:
        self._driver.fire(ReadyEvent.LINK_UP)

    def link_down(self) -> None:
        """The account session is gone: orders, fills and positions must be read again; market data has its own link."""
        self._held &= {Condition.MD_READY}
        self._driver.fire(ReadyEvent.LINK_DOWN)

    def set(self, condition: Condition, *, holds: bool) -> None:
        """Records one condition. Until a session lives, `md_ready` alone can hold."""
        if holds:
            if condition is not Condition.MD_READY and self.state is ReadyState.NOT_READY:
                return
            self._held.add(condition)
            if not self.missing and self.state is ReadyState.SYNCING:
                self._driver.fire(ReadyEvent.COMPLETE)
            return
        self._held.discard(condition)
        self._driver.fire(ReadyEvent.LOST)
