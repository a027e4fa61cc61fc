"""Every declared machine against the `transitions` library, and the checks that a declaration must pass."""

from __future__ import annotations

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transitions import MachineError

from hip3.fsm.machines import ALL_TABLES, Driver, Model, library_machine
from hip3.fsm.safety import SAFETY_TABLE, SafetyEvent, SafetyMode
from hip3.fsm.table import Ignore, Refused, Row, Table, TableError

AnyTable = Table[enum.Enum, enum.Enum]
every_table = pytest.mark.parametrize("table", ALL_TABLES, ids=lambda t: t.name)


class Lamp(enum.Enum):
    OFF = "dark"
    ON = "bright"
    BROKEN = "gone"


class Hand(enum.Enum):
    PRESS = "pressed"
    DROP = "dropped"


def lamp(
    *rows: Row[Lamp, Hand],
    ignored: tuple[Ignore[Lamp, Hand], ...] = (),
    terminal: tuple[Lamp, ...] = (Lamp.BROKEN,),
    refused_why: str = "there is no lamp",
) -> Table[Lamp, Hand]:
    return Table("lamp", initial=Lamp.OFF, terminal=terminal, rows=rows, ignored=ignored, refused_why=refused_why)


GOOD = (
    Row(Hand.PRESS, Lamp.OFF, Lamp.ON, "it is lit"),
    Row(Hand.PRESS, Lamp.ON, Lamp.OFF, "it is put out"),
    Row(Hand.DROP, Lamp.ON, Lamp.BROKEN, "it fell"),
)


@every_table
def test_every_pair_agrees_with_the_library(table: AnyTable) -> None:
    """FSM-3: for each pair the library goes where the table says, stays where it ignores, raises where it refuses."""
    model = Model()
    machine = library_machine(table, model)
    for (state, event), target in table.matrix().items():
        machine.set_state(state)
        if target is None:
            with pytest.raises(MachineError):
                model.trigger(event.name)  # type: ignore[attr-defined]  # added by the library at run time
            assert model.state is state
        else:
            model.trigger(event.name)  # type: ignore[attr-defined]  # added by the library at run time
            assert model.state is target, f"{state.name} on {event.name}"


@every_table
def test_every_pair_is_a_target_ignored_or_refused_with_a_reason(table: AnyTable) -> None:
    """PRD-5, FSM-2: the matrix covers every pair, `allows` and `next` agree with it, and each pair has a reason."""
    pairs = table.matrix()
    assert set(pairs) == {(s, e) for s in table.states for e in table.events}
    for (state, event), target in pairs.items():
        assert table.allows(state, event) is (target is not None)
        assert table.why(state, event).strip()
        if target is None:
            with pytest.raises(Refused) as caught:
                table.next(state, event)
            assert (caught.value.state, caught.value.event) == (state, event)
            assert table.refused_why in str(caught.value)
        else:
            assert table.next(state, event) is target


@every_table
def test_no_state_and_no_event_is_an_alias_of_another(table: AnyTable) -> None:
    """FSM-3: two members with one text would silently be one state; each machine has as many states as names."""
    for members in (table.states, table.events):
        assert len(list(members)) == len(members.__members__)


@every_table
def test_every_event_does_something(table: AnyTable) -> None:
    """FSM-3: each declared event moves the machine somewhere; an event that only is ignored or refused has no use."""
    assert {row.event for row in table.rows} == set(table.events)


@every_table
def test_rows_change_the_state(table: AnyTable) -> None:
    """FSM-2: a pair that stays is declared as ignored, so a row in the drawing is always a change."""
    assert [row for row in table.rows if row.source is row.target] == []


@every_table
def test_a_state_without_exits_is_declared_terminal(table: AnyTable) -> None:
    """FSM-3: a machine is stuck only where its declaration says so."""
    assert {s for s in table.states if s not in {row.source for row in table.rows}} == set(table.terminal)


@given(st.data())
def test_the_driver_follows_its_table(data: st.DataObject) -> None:
    """FSM-3: over any events, the library's machine and the table agree, and a refused event changes and reports nothing."""
    table = data.draw(st.sampled_from(ALL_TABLES))
    changes: list[tuple[enum.Enum, enum.Enum, enum.Enum]] = []
    driver = Driver(table, lambda before, event, after: changes.append((before, event, after)))
    state, expected = table.initial, []
    for event in data.draw(st.lists(st.sampled_from(list(table.events)), max_size=30)):
        target = table.matrix()[state, event]
        if target is None:
            with pytest.raises(Refused):
                driver.fire(event)
        else:
            assert driver.fire(event) is target
            if target is not state:
                expected.append((state, event, target))
            state = target
        assert driver.state is state
    assert changes == expected


@given(st.data())
def test_a_terminal_state_is_never_left(data: st.DataObject) -> None:
    """FSM-3, ORD-1: once a machine has ended, no sequence of events moves it."""
    table = data.draw(st.sampled_from([t for t in ALL_TABLES if t.terminal]))
    state = data.draw(st.sampled_from(sorted(table.terminal, key=lambda s: s.name)))
    for event in data.draw(st.lists(st.sampled_from(list(table.events)), max_size=20)):
        if table.allows(state, event):
            assert table.next(state, event) is state


def test_a_good_declaration_runs() -> None:
    """FSM-3: rows lead on, ignored pairs stay, the rest is refused."""
    table = lamp(*GOOD, ignored=(Ignore(Hand.DROP, (Lamp.OFF, Lamp.BROKEN), "nothing to break"),))
    assert table.next(Lamp.OFF, Hand.PRESS) is Lamp.ON
    assert table.next(Lamp.OFF, Hand.DROP) is Lamp.OFF
    assert table.matrix()[Lamp.BROKEN, Hand.PRESS] is None


def test_a_pair_declared_twice_is_an_error() -> None:
    """FSM-3: two rows for one pair contradict each other at import."""
    with pytest.raises(TableError, match=r"\(OFF, PRESS\) is declared twice"):
        lamp(*GOOD, Row(Hand.PRESS, Lamp.OFF, Lamp.BROKEN, "too hard"))


def test_a_pair_that_is_row_and_ignored_is_an_error() -> None:
    """FSM-3: a pair is a row or ignored, not both."""
    with pytest.raises(TableError, match="declared twice"):
        lamp(*GOOD, ignored=(Ignore(Hand.PRESS, (Lamp.ON,), "no"),))


@pytest.mark.parametrize("why", ["", "  "])
def test_a_row_without_a_reason_is_an_error(why: str) -> None:
    """FSM-3: every row says why."""
    with pytest.raises(TableError, match="gives no reason"):
        lamp(*GOOD[:2], Row(Hand.DROP, Lamp.ON, Lamp.BROKEN, why))


def test_an_ignored_pair_without_a_reason_is_an_error() -> None:
    """FSM-3: what is ignored says why that is safe."""
    with pytest.raises(TableError, match="gives no reason"):
        lamp(*GOOD, ignored=(Ignore(Hand.DROP, (Lamp.OFF,), ""),))


def test_a_refusal_without_a_reason_is_an_error() -> None:
    """FSM-3: the refused rest of a matrix has a reason too."""
    with pytest.raises(TableError, match="refused pairs"):
        lamp(*GOOD, refused_why=" ")


def test_a_terminal_state_with_an_exit_is_an_error() -> None:
    """FSM-3: what has ended cannot go on."""
    with pytest.raises(TableError, match="terminal ON has an exit on PRESS"):
        lamp(*GOOD, terminal=(Lamp.ON, Lamp.BROKEN))


def test_a_dead_end_that_is_not_terminal_is_an_error() -> None:
    """FSM-3: a state that nothing leaves must be declared as an end, else it is a trap."""
    with pytest.raises(TableError, match="BROKEN has no exit"):
        lamp(*GOOD, terminal=())


def test_an_unreachable_state_is_an_error() -> None:
    """FSM-3: every state can be reached from the initial one."""
    with pytest.raises(TableError, match="nothing leads to BROKEN"):
        lamp(*GOOD[:2])


def test_a_machine_without_rows_is_an_error() -> None:
    """FSM-3: a declaration without a single row is refused by name, not by an index error."""
    with pytest.raises(TableError, match="lamp: has no rows"):
        lamp()


def test_a_halt_never_leads_straight_to_live() -> None:
    """SAFE-1: the only way out of HALT is ARMED_SAFE, and only when the last HALT cause is cleared."""
    out = {row.event: row.target for row in SAFETY_TABLE.rows if row.source is SafetyMode.HALT}
    assert out == {SafetyEvent.RELEASE: SafetyMode.ARMED_SAFE}
    with pytest.raises(Refused):
        SAFETY_TABLE.next(SafetyMode.HALT, SafetyEvent.PROMOTE)
