"""State machines as data: a table of rows, checked when it is made.

A machine is its rows `(event, from, to, why)` and, for every remaining (state, event) pair, whether it is ignored or
refused. `next` is one dict look-up, so the hot machines run straight from the table; the `transitions` library runs the
cold ones and is the tests' oracle (DESIGN 5).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from attrs import frozen

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)


class TableError(Exception):
    """A declaration that contradicts itself; raised at import, so a broken table never runs."""


class Refused(Exception):
    """An event that must not happen in this state. From our own command path it is a bug; from the venue it is doubt."""

    def __init__(self, machine: str, state: enum.Enum, event: enum.Enum, why: str) -> None:
        super().__init__(f"{machine}: {event.name} is refused in {state.name}: {why}")
        self.machine = machine
        self.state = state
        self.event = event
        self.why = why


@frozen
class Row(Generic[S, E]):
    """From `source`, `event` leads to `target`; `why` is the operational reason.

    `guard` is what whoever fires the event must have found true, where the table cannot see it.
    """

    event: E
    source: S
    target: S
    why: str
    guard: str = ""


@frozen
class Ignore(Generic[S, E]):
    """`event` in any of `states` changes nothing; `why` says why that is safe."""

    event: E
    states: tuple[S, ...]
    why: str


class Table(Generic[S, E]):
    """The complete matrix of one machine.

    Pairs that are neither a row nor ignored are refused with `refused_why`. Raises TableError for a duplicate pair, a
    pair without a reason, a terminal state with an exit, a dead end that is not terminal, or a state that nothing reaches.
    """

    def __init__(
        self,
        name: str,
        *,
        initial: S,
        terminal: Iterable[S],
        rows: Iterable[Row[S, E]],
        ignored: Iterable[Ignore[S, E]] = (),
        refused_why: str,
    ) -> None:
        self.name = name
        self.initial = initial
        self.states: type[S] = type(initial)
        self.terminal = frozenset(terminal)
        self.rows = tuple(rows)
        self.ignored = tuple(ignored)
        self.refused_why = refused_why
        if not self.rows:
            raise TableError(f"{name}: has no rows")
        self.events: type[E] = type(self.rows[0].event)
        self._next: dict[tuple[S, E], S] = {}
        self._why: dict[tuple[S, E], str] = {}
        self._fill()
        self._check()

    def _fill(self) -> None:
        pairs = [(r.source, r.event, r.target, r.why) for r in self.rows]
        pairs += [(s, i.event, s, i.why) for i in self.ignored for s in i.states]
        for source, event, target, why in pairs:
            if (source, event) in self._next:
                raise TableError(f"{self.name}: ({source.name}, {event.name}) is declared twice")
            if not why.strip():
                raise TableError(f"{self.name}: ({source.name}, {event.name}) gives no reason")
            self._next[source, event] = target
            self._why[source, event] = why

    def _check(self) -> None:
        if not self.refused_why.strip():
            raise TableError(f"{self.name}: gives no reason for its refused pairs")
        for row in self.rows:
            if row.source in self.terminal:
                raise TableError(f"{self.name}: terminal {row.source.name} has an exit on {row.event.name}")
        reached = {self.initial}
        frontier = [self.initial]
        while frontier:
            state = frontier.pop()
            for row in self.rows:
                if row.source is state and row.target not in reached:
                    reached.add(row.target)
                    frontier.append(row.target)
        unreached = [s.name for s in self.states if s not in reached]
        if unreached:
            raise TableError(f"{self.name}: nothing leads to {', '.join(unreached)}")
        left = {row.source for row in self.rows}
        stuck = [s.name for s in self.states if s not in left and s not in self.terminal]
        if stuck:
            raise TableError(f"{self.name}: {', '.join(stuck)} has no exit and is not declared terminal")

    def next(self, state: S, event: E) -> S:
        """The state after `event`; the same state where it is ignored. Raises Refused."""
        target = self._next.get((state, event))
        if target is None:
            raise Refused(self.name, state, event, self.refused_why)
        return target

    def allows(self, state: S, event: E) -> bool:
        """True where `event` in `state` is a row or ignored."""
        return (state, event) in self._next

    def why(self, state: S, event: E) -> str:
        """The declared reason of a pair, the refusal's reason included."""
        return self._why.get((state, event), self.refused_why)

    def matrix(self) -> Mapping[tuple[S, E], S | None]:
        """Every (state, event) pair; None is refused."""
        return {(s, e): self._next.get((s, e)) for s in self.states for e in self.events}
