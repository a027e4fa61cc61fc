"""Draws state machines from the tables that run (FSM-1, FSM-2): mermaid, dot, and Markdown with the whole matrix.

Text only and deterministic: the same declaration gives the same bytes, so that a committed drawing can be compared. It
refuses to add anything of its own: what is on an arrow is the event, its guard, the reason of the row, and the reason codes
that the caller gives for the event.
"""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from hip3.fsm.table import Row, Table

AnyTable: TypeAlias = Table[enum.Enum, enum.Enum]
Codes: TypeAlias = Mapping[enum.Enum, Sequence[str]]
"""Reason codes that an event can carry; most events carry none but their own name."""
_NO_CODES: Codes = MappingProxyType({})

INDEX = "README.md"
REGENERATE = "hip3 fsm export --format markdown --out docs/fsm"
_LABEL_WIDTH = 30  # characters of a line on an arrow; wider ones push the states of the larger machines out of sight


def mermaid(table: AnyTable, codes: Codes = _NO_CODES) -> str:
    """The machine as a mermaid `stateDiagram-v2`: one arrow per row, labelled with event, guard, reason and codes."""
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {table.initial.name}"]
    for row in table.rows:
        # ':' and ';' end a label in mermaid's grammar; its entity codes stand for them.
        label = "<br/>".join("".join(f"#{ord(c)};" if c in ":;#<>" else c for c in part) for part in _label(row, codes))
        lines.append(f"    {row.source.name} --> {row.target.name} : {label}")
    lines += [f"    {state.name} --> [*]" for state in table.states if state in table.terminal]
    return "\n".join(lines) + "\n"


def dot(table: AnyTable, codes: Codes = _NO_CODES) -> str:
    """The machine as a graphviz digraph: double borders are terminal, the point leads to the initial state."""
    lines = [
        f"digraph {_quoted(table.name)} {{",
        "    rankdir=LR;",
        '    node [shape=box, style=rounded, fontname="Helvetica"];',
        '    edge [fontname="Helvetica", fontsize=10];',
        '    "" [shape=point];',
    ]
    for state in table.states:
        borders = 2 if state in table.terminal else 1
        lines.append(f"    {_quoted(state.name)} [peripheries={borders}, tooltip={_quoted(str(state.value))}];")
    lines.append(f'    "" -> {_quoted(table.initial.name)};')
    for row in table.rows:
        label = "\\n".join(_escaped(part) for part in _label(row, codes))
        lines.append(f'    {_quoted(row.source.name)} -> {_quoted(row.target.name)} [label="{label}"];')
    return "\n".join([*lines, "}"]) + "\n"


def page(table: AnyTable, codes: Codes = _NO_CODES) -> str:
    """One machine for a review: states, events, drawing, the matrix of every pair, and the reason of each."""
    parts = [
        f"# State machine: {table.name}",
        f"Drawn from the declaration that runs; do not edit. To draw it again: `{REGENERATE}`.",
        f"```mermaid\n{mermaid(table, codes)}```",
        "## States",
        _table(["state", "meaning", ""], ([s.name, str(s.value), _role(table, s)] for s in table.states)),
        "## Events",
        _events(table, codes),
        "## Every pair",
        "A name is the next state, `-` is ignored, `refused` must not happen.",
        matrix(table),
        "## Why each row",
        _table(["state", "event", "leads to", "only where", "why"], map(_row_cells, table.rows)),
        "Ignored:",
        _table(
            ["event", "in", "why"],
            ([i.event.name, ", ".join(s.name for s in i.states), i.why] for i in table.ignored),
        ),
        f"Refused, every other pair: {table.refused_why}.",
    ]
    return "\n\n".join(parts) + "\n"


def _events(table: AnyTable, codes: Codes) -> str:
    """The events with their meaning, and with their reason codes where the machine has any."""
    if not any(codes.get(e) for e in table.events):
        return _table(["event", "meaning"], ([e.name, str(e.value)] for e in table.events))
    rows = ([e.name, str(e.value), ", ".join(codes.get(e, ()))] for e in table.events)
    return _table(["event", "meaning", "reason codes"], rows)


def matrix(table: AnyTable) -> str:
    """Every (state, event) pair as a Markdown table, states down and events across (FSM-2)."""
    pairs = table.matrix()

    def cell(state: enum.Enum, event: enum.Enum) -> str:
        target = pairs[state, event]
        if target is None:
            return "refused"
        return "-" if target is state else target.name

    rows = ([f"**{s.name}**", *(cell(s, e) for e in table.events)] for s in table.states)
    return _table(["", *(e.name for e in table.events)], rows)


def index(tables: Iterable[AnyTable]) -> str:
    """The page that a review starts from: each machine with its size, its ends and a link."""
    rows = []
    for table in tables:
        pairs = table.matrix()
        refused = sum(target is None for target in pairs.values())
        ends = ", ".join(s.name for s in table.states if s in table.terminal) or "none"
        link = f"[{table.name}]({table.name}.md)"
        ignored = len(pairs) - refused - len(table.rows)
        rows.append([link, table.initial.name, ends, *map(str, (len(table.states), len(table.rows), ignored, refused))])
    head = ["machine", "starts in", "ends in", "states", "rows", "ignored pairs", "refused pairs"]
    intro = (
        "Every machine of the program, drawn from the tables that run (`hip3/fsm/`). A test fails when these pages are "
        f"out of date; to draw them again: `{REGENERATE}`."
    )
    reading = (
        "How to read them: an arrow carries its event, `[what must be found true by whoever fires it]`, why it is so, and "
        "`(the reason codes that it can carry)`. Every pair of a state and an event that has no arrow is in the matrix "
        "below the drawing, as ignored (`-`: the state stays, and what the event says is used) or as refused. A refused "
        "pair from our own path is a defect: INTERNAL_ERROR, HALT, and the process ends by the way out. One that the venue "
        "says is doubt: nothing changes, and the venue is asked. A state is not a quantity: sizes, attempts and deadlines "
        "are kept beside it. What each reason code means, who ends it, and the words are in [safety](../safety.md)."
    )
    return f"# State machines\n\n{intro}\n\n{_table(head, rows)}\n\n{reading}\n"


def pages(tables: Iterable[AnyTable], codes: Codes = _NO_CODES) -> dict[str, str]:
    """File name to content of the whole Markdown export, the index first."""
    known = tuple(tables)
    return {INDEX: index(known)} | {f"{table.name}.md": page(table, codes) for table in known}


def _label(row: Row[enum.Enum, enum.Enum], codes: Codes) -> list[str]:
    """The lines on an arrow: event, [guard], reason, (codes)."""
    guard = f"[{row.guard}]" if row.guard else ""
    given = f"({', '.join(codes[row.event])})" if codes.get(row.event) else ""
    lines = [row.event.name]
    for part in (guard, row.why, given):
        lines += textwrap.wrap(part, _LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines


def _role(table: AnyTable, state: enum.Enum) -> str:
    if state is table.initial:
        return "initial"
    return "terminal" if state in table.terminal else ""


def _row_cells(row: Row[enum.Enum, enum.Enum]) -> list[str]:
    return [row.source.name, row.event.name, row.target.name, row.guard, row.why]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'
