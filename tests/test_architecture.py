"""`docs/architecture.md` says what the code does: its checked tables are compared with the declarations."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hip3.tasks.channels import CHANNELS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its two head lines."""
    section = TEXT.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_channel_table_is_the_declared_one() -> None:
    """DESIGN 4: each channel has a name, a capacity and a policy, the same in the document and in the code."""
    declared = [
        [
            spec.name,
            f"{spec.source} → {spec.target}",
            spec.carries,
            "one per market" if spec.capacity is None else str(spec.capacity),
            spec.when_full.value,
        ]
        for spec in CHANNELS
    ]
    assert rows("Channels (checked)") == declared


@pytest.mark.parametrize("place", [row[1].strip("`") for row in rows("The path of a tick (checked)")])
def test_path_of_a_tick_exists(place: str) -> None:
    """Each step of the path names a function that is there."""
    file, _, name = place.partition("::")
    tree: ast.AST = ast.parse((ROOT / file).read_text())
    for part in name.split("."):
        found = [
            node
            for node in ast.iter_child_nodes(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == part
        ]
        assert found, f"{part} is not in {file}"
        tree = found[0]


def test_links_of_the_documents_lead_somewhere() -> None:
    """Every relative link of README and docs names a file that exists."""
    broken = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in _links(page.read_text()):
            if not (page.parent / target.split("#")[0]).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def _links(text: str) -> list[str]:
    parts = text.split("](")[1:]
    targets = [part.split(")", 1)[0] for part in parts]
    return [t for t in targets if t and not t.startswith(("http", "#", "mailto"))]
