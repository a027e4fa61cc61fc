"""docs/configuration.md says what the schema says."""

from __future__ import annotations

import enum
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from hip3.settings.fields import KIND
from hip3.settings.schema import KEY_SOURCES, LATER_SECTIONS, Market, Settings
from hip3.settings.structure import sections

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()


def row_of(attribute: attrs.Attribute[Any]) -> str:
    """The cells of a key that the schema decides: name, default, what is allowed."""
    default: object = attribute.default
    if attribute.default is attrs.NOTHING:
        default = "required"
    elif default is None or default == ():
        default = "not set"
    elif isinstance(default, enum.Enum):
        default = f"`{default.value}`"
    elif isinstance(default, bool):
        default = f"`{str(default).lower()}`"
    elif isinstance(default, Decimal | int):
        default = f"`{default}`"
    kind = attribute.metadata.get(KIND)
    allowed = "one of three tables" if kind is None else kind.allowed.replace("|", "\\|")
    return f"| `{attribute.name}` | {default} | {allowed} |"


def tables() -> dict[str, list[str]]:
    """Heading of each section and the rows below it."""
    found = {"Top of the file": [row_of(a) for a in attrs.fields(Settings) if KIND in a.metadata]}
    found["`[[markets]]`"] = [row_of(each) for each in attrs.fields(Market)]
    for name, cls in sections():
        inner = {other for other, _ in sections(cls)}
        found[f"`[{name}]`"] = [row_of(each) for each in attrs.fields(cls) if each.name not in inner]
    return found


@pytest.mark.parametrize("heading", tables())
def test_settings_docs_list_every_key_with_default_and_limits(heading: str) -> None:
    """CFG-3: each section of the document holds exactly the keys of the schema, with their defaults and limits."""
    body = TEXT.split(f"\n### {heading}\n")[1].split("\n#")[0]
    rows = [line for line in body.splitlines() if line.startswith("| `")]
    expected = tables()[heading]
    assert len(rows) == len(expected)
    assert [want for want, row in zip(expected, rows, strict=True) if not row.startswith(want)] == []


def test_settings_docs_name_what_is_not_built() -> None:
    """CFG-2: the document says which sections of the specification are refused, and every form of key_source."""
    for section in LATER_SECTIONS:
        assert f"`[{section}]`" in TEXT
    for tag, cls in KEY_SOURCES.items():
        assert f'type = "{tag}"' in TEXT
        assert [a.name for a in attrs.fields(cls) if f"{a.name} = " not in TEXT] == []
