"""The drawings: complete, deterministic, and the committed ones up to date."""

from __future__ import annotations

import enum
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hip3.cli.fsm_cmd import ExportError, Format, export, fsm_export
from hip3.core.cause_catalog import codes_by_event
from hip3.fsm import diagram
from hip3.fsm.machines import ALL_TABLES
from hip3.fsm.table import Row, Table

ROOT = Path(__file__).resolve().parents[2]
CODES = codes_by_event()
every_table = pytest.mark.parametrize("table", ALL_TABLES, ids=lambda t: t.name)


class Door(enum.Enum):
    OPEN = "open"
    SHUT = "shut"


class Push(enum.Enum):
    PUSH = "pushed"


DOOR: diagram.AnyTable = Table(
    "door",
    initial=Door.OPEN,
    terminal=(Door.SHUT,),
    rows=[Row(Push.PUSH, Door.OPEN, Door.SHUT, 'it: "fell"; shut | <for> #1')],
    refused_why="it is shut",
)


def test_the_committed_export_is_up_to_date() -> None:
    """FSM-2: docs/fsm/ is what the declarations that run draw; when this fails, run the command in its README."""
    folder = ROOT / "docs" / "fsm"
    expected = diagram.pages(ALL_TABLES, CODES)
    assert sorted(p.name for p in folder.iterdir()) == sorted(expected)
    for name, text in expected.items():
        assert (folder / name).read_text() == text, f"{name} is out of date: {diagram.REGENERATE}"


def label_of(row: Row[enum.Enum, enum.Enum]) -> str:
    """What stands on an arrow below its event."""
    codes = CODES.get(row.event, ())
    return " ".join(filter(None, [f"[{row.guard}]" if row.guard else "", row.why, f"({', '.join(codes)})" if codes else ""]))


@every_table
def test_mermaid_draws_every_row_with_event_guard_reason_and_codes(table: diagram.AnyTable) -> None:
    """FSM-1: each row is one arrow with its event, guard, reason and reason codes, and every state is drawn."""
    text = diagram.mermaid(table, CODES)
    arrows = re.findall(r"^    (\w+) --> (\w+) : (\w+)<br/>(.+)$", text, re.MULTILINE)
    plain = [(a, b, e, re.sub(r"#(\d+);", lambda m: chr(int(m[1])), why).replace("<br/>", " ")) for a, b, e, why in arrows]
    assert plain == [(r.source.name, r.target.name, r.event.name, label_of(r)) for r in table.rows]
    assert f"[*] --> {table.initial.name}" in text
    assert {s.name for s in table.terminal} == set(re.findall(r"(\w+) --> \[\*\]", text))


@every_table
def test_dot_draws_every_row_with_event_guard_reason_and_codes(table: diagram.AnyTable) -> None:
    """FSM-1: the graphviz source has each row's event, guard, reason and codes, and marks the terminal states."""
    text = diagram.dot(table, CODES)
    arrows = re.findall(r'^    "(\w+)" -> "(\w+)" \[label="(\w+)\\n(.+)"\];$', text, re.MULTILINE)
    assert [(a, b, e, why.replace("\\n", " ")) for a, b, e, why in arrows] == [
        (r.source.name, r.target.name, r.event.name, label_of(r)) for r in table.rows
    ]
    assert {s.name for s in table.terminal} == set(re.findall(r'"(\w+)" \[peripheries=2', text))


@every_table
def test_the_matrix_has_every_pair(table: diagram.AnyTable) -> None:
    """FSM-2: the exported matrix gives each pair as its target, as ignored or as refused."""
    head, _, *lines = diagram.matrix(table).splitlines()
    events = [c.strip() for c in head.strip("|").split("|")][1:]
    assert events == [e.name for e in table.events]
    seen = {}
    for line in lines:
        state, *cells = [c.strip() for c in line.strip("|").split("|")]
        seen.update({(state.strip("*"), event): cell for event, cell in zip(events, cells, strict=True)})
    expected = {
        (s.name, e.name): "refused" if target is None else "-" if target is s else target.name
        for (s, e), target in table.matrix().items()
    }
    assert seen == expected


def test_characters_that_end_a_label_are_escaped() -> None:
    """FSM-1: a reason may hold any character without breaking the drawing or the table."""
    (arrow,) = [line for line in diagram.mermaid(DOOR).splitlines() if "PUSH" in line]
    label = arrow.partition(" : ")[2].replace("<br/>", " ")
    assert re.sub(r"#\d+;", "", label).count(":") == 0
    assert label.startswith('PUSH it#58; "fell"#59; shut | #60;for#62; #35;1')
    assert '\\"fell\\"' in diagram.dot(DOOR)
    assert "shut \\| <for>" in diagram.page(DOOR)


def test_the_same_declaration_gives_the_same_bytes(tmp_path: Path) -> None:
    """FSM-1: two exports are equal, byte for byte."""
    first, second = export(Format.MARKDOWN, None, tmp_path / "a"), export(Format.MARKDOWN, None, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [p.name for p in first] == ["README.md", *(f"{t.name}.md" for t in ALL_TABLES)]


def test_one_machine_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """FSM-1: without a folder, text goes to standard output."""
    assert fsm_export(format=Format.MERMAID, machine="safety") == 0
    assert capsys.readouterr().out == diagram.mermaid(next(t for t in ALL_TABLES if t.name == "safety"), CODES)


@pytest.mark.parametrize(("form", "suffix"), [(Format.MERMAID, "mmd"), (Format.DOT, "dot"), (Format.MARKDOWN, "md")])
def test_one_machine_can_be_written(form: Format, suffix: str, tmp_path: Path) -> None:
    """FSM-1: one file for one machine, and its path is the answer."""
    assert export(form, "order", tmp_path) == [tmp_path / f"order.{suffix}"]
    assert "PARTIALLY_FILLED" in (tmp_path / f"order.{suffix}").read_text()


def test_the_written_files_are_listed_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: --json lists what was written."""
    assert fsm_export(format=Format.DOT, machine="post", out=tmp_path, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "files": [str(tmp_path / "post.dot")]}


def test_an_unknown_machine_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """FSM-1: the error names what was asked for and what there is."""
    assert fsm_export(machine="orders") == 2
    assert "--machine orders: no such machine; there are order, post" in capsys.readouterr().err


def test_images_without_graphviz_are_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FSM-1: no `dot` on PATH is an error that says what to install and what needs nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="install the package graphviz, or use --format mermaid"):
        export(Format.SVG, "order", tmp_path)


def test_images_need_a_folder() -> None:
    """FSM-1: an image is not printed to a terminal."""
    with pytest.raises(ExportError, match="name a folder with --out DIR"):
        export(Format.PNG)


@pytest.mark.process
@pytest.mark.parametrize("form", [Format.SVG, Format.PNG])
def test_images_are_what_dot_makes_of_the_source(form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FSM-1: the image is the output of the `dot` found on PATH for the machine's own source."""
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\necho "$1"\nexec /bin/cat\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (path,) = export(form, "safety", tmp_path / "out")
    source = diagram.dot(next(t for t in ALL_TABLES if t.name == "safety"), CODES)
    assert path.read_text() == f"-T{form.value}\n{source}"


needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None,
    reason="graphviz is not installed; what its `dot` would be given is tested with a stand-in above",
)


@pytest.mark.process
@needs_dot
@every_table
def test_graphviz_draws_every_state_and_every_word_of_an_arrow(table: diagram.AnyTable, tmp_path: Path) -> None:
    """FSM-1: the real `dot` takes the source; each state, and each line of each label, is a text of the SVG, and twice the
    same declaration is twice the same drawing."""
    (path,) = export(Format.SVG, table.name, tmp_path / "a")
    drawing = ElementTree.fromstring(path.read_text())  # noqa: S314 - our own
    texts = [node.text or "" for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    lines = [line for row in table.rows for line in diagram._label(row, CODES)]
    assert sorted(texts) == sorted([*(state.name for state in table.states), *lines])
    (again,) = export(Format.SVG, table.name, tmp_path / "b")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.process
@needs_dot
def test_graphviz_paints_every_machine(tmp_path: Path) -> None:
    """FSM-1: PNG of all machines, none of them empty."""
    paths = export(Format.PNG, None, tmp_path)
    assert [path.name for path in paths] == [f"{table.name}.png" for table in ALL_TABLES]
    for path in paths:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", data[16:24])
        assert min(width, height) > 150, path.name


@pytest.mark.process
@needs_dot
def test_graphviz_draws_any_character(tmp_path: Path) -> None:
    """FSM-1: quotes, brackets, backslashes and semicolons of a reason are legal in the source, and come out as they are."""
    source = tmp_path / "door.dot"
    source.write_text(diagram.dot(DOOR))
    dot = shutil.which("dot")
    assert dot is not None
    svg = subprocess.run([dot, "-Tsvg", str(source)], capture_output=True, check=True, timeout=30).stdout  # noqa: S603 - from PATH
    texts = [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own
    assert 'it: "fell"; shut | <for> #1' in " ".join(texts)


@pytest.mark.process
def test_a_failure_of_graphviz_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FSM-1: what graphviz says on its way out is in the error."""
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\n/bin/cat >/dev/null\necho "no font" >&2\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="no font"):
        export(Format.SVG, "safety", tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """FSM-1: the error names the folder and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export(Format.DOT, "order", tmp_path / "file")
