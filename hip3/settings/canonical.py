"""The resolved configuration as plain data, as canonical JSON, as its hash, and as TOML again (CFG-6).

There are no secrets in Settings to leave out: the file cannot hold any (CFG-7), and `key_source` names a place. That
place counts in the hash as it was written, because a key from elsewhere is a change that an operator must see.
"""

from __future__ import annotations

import enum
import hashlib
import json
from decimal import Decimal
from typing import Any

import attrs

from hip3.settings.schema import KEY_SOURCES, Settings
from hip3.settings.structure import sections

_TAGS: dict[type, str] = {cls: tag for tag, cls in KEY_SOURCES.items()}


def plain(settings: Settings) -> dict[str, Any]:
    """Nested dicts of text, int, bool and None; a Decimal is its shortest plain text (50.0 and 50 are "50")."""
    data = _plain(settings)
    assert isinstance(data, dict)  # Settings is a class with fields
    return data


def config_hash(settings: Settings) -> str:
    """SHA-256, 64 hex digits, of the canonical JSON: sorted keys, no white space, ASCII, no floats (CFG-6)."""
    text = json.dumps(plain(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def to_toml(settings: Settings) -> str:
    """The resolved configuration as a file that loads to the same Settings; keys without a value are left out."""
    data = plain(settings)
    top = {name: value for name, value in data.items() if not isinstance(value, dict | list)}
    blocks = [_lines(top)]
    blocks += [f"[[markets]]\n{_lines(market)}" for market in data["markets"]]
    for name, cls in sections():
        body = _lines(_own(_section(data, name), cls))
        if body:
            blocks.append(f"[{name}]\n{body}")
    return "\n".join(blocks)


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The table of a dotted name; empty where the section is not there."""
    for part in name.split("."):
        data = data[part] or {}
    return data


def _own(section: dict[str, Any], cls: type) -> dict[str, Any]:
    """The keys of a section without the sections within it."""
    inner = {name for name, _ in sections(cls)}
    return {name: value for name, value in section.items() if name not in inner}


def _plain(value: object) -> object:
    cls = type(value)
    if attrs.has(cls):
        fields: dict[str, object] = {a.name: _plain(getattr(value, a.name)) for a in attrs.fields(cls)}
        return {"type": _TAGS[cls], **fields} if cls in _TAGS else fields
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Decimal):
        return _decimal(value)
    return value


def _decimal(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _lines(table: dict[str, Any]) -> str:
    return "".join(f"{name} = {_toml(value)}\n" for name, value in table.items() if value is not None)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items() if each is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return json.dumps(value)  # a JSON string is a TOML basic string
    return str(value)
