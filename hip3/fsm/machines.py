"""Cold machines, run by the `transitions` library. This is the only module that imports it.

Hot machines (order, post, position) ask their table directly: an event through `transitions` costs about 7 us, through
the table 0.2 us (DESIGN 5). The library's machine is built from the same rows, so there is one declaration.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Generic, TypeVar

from transitions import Machine

from hip3.fsm.connection import CONNECTION_TABLE
from hip3.fsm.lifecycle import LIFECYCLE_TABLE
from hip3.fsm.order import ORDER_TABLE
from hip3.fsm.position import POSITION_TABLE
from hip3.fsm.post import POST_TABLE
from hip3.fsm.ready import READY_TABLE
from hip3.fsm.safety import SAFETY_TABLE
from hip3.fsm.table import Refused, Table

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)

ALL_TABLES: tuple[Table[enum.Enum, enum.Enum], ...] = (
    ORDER_TABLE,
    POST_TABLE,
    POSITION_TABLE,
    READY_TABLE,
    SAFETY_TABLE,
    CONNECTION_TABLE,
    LIFECYCLE_TABLE,
)  # type: ignore[assignment]  # each table has its own enumerations; readers of this tuple only walk them


class Model:
    """What `transitions` decorates; it keeps the state."""

    state: enum.Enum


def library_machine(table: Table[S, E], model: Model) -> Machine:
    """A `transitions` machine with the rows and ignored pairs of `table`, one trigger per event name."""
    machine = Machine(
        model=model,
        states=table.states,
        initial=table.initial,
        auto_transitions=False,
        ignore_invalid_triggers=False,
        send_event=False,
    )
    for row in table.rows:
        machine.add_transition(row.event.name, row.source, row.target)
    for ignore in table.ignored:
        for state in ignore.states:
            machine.add_transition(ignore.event.name, state, None)
    return machine


class Driver(Generic[S, E]):
    """Runs one cold machine and reports each change to `on_change(from, event, to)`."""

    def __init__(self, table: Table[S, E], on_change: Callable[[S, E, S], None]) -> None:
        self.table = table
        self._model = Model()
        self._machine = library_machine(table, self._model)
        self._on_change = on_change

    @property
    def state(self) -> S:
        state = self._model.state
        assert isinstance(state, self.table.states)
        return state

    def fire(self, event: E) -> S:
        """Applies `event`. Raises Refused for a pair that the table refuses; the state is then unchanged."""
        before = self.state
        if not self.table.allows(before, event):
            raise Refused(self.table.name, before, event, self.table.refused_why)
        self._model.trigger(event.name)  # type: ignore[attr-defined]  # added by the library at run time
        after = self.state
        if after is not before:
            self._on_change(before, event, after)
        return after
