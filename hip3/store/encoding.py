"""Records as text: the line of a group in the spool, and the text of mappings in the database.

A group is one line, `seq length checksum payload`, where the payload is a JSON array of `[tag, record]`. JSON holds no line
break, so a reader finds the next group after a damaged one, and a person can read the file. Decimals are JSON strings.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, get_args

import msgspec
from attrs import frozen

from hip3.core.records import (
    FillRecord,
    FollowUpRecord,
    IncidentRecord,
    IntentRecord,
    ProcessedRecord,
    Record,
    ResultRecord,
    SignalRecord,
    StateRecord,
    TradeRecord,
    Transition,
)

TAGS: dict[type, str] = {
    IntentRecord: "intent",
    ResultRecord: "result",
    FillRecord: "fill",
    TradeRecord: "trade",
    SignalRecord: "signal",
    FollowUpRecord: "follow_up",
    Transition: "transition",
    StateRecord: "state",
    ProcessedRecord: "processed",
    IncidentRecord: "incident",
}
"""Short names that stay when a class is renamed: they are in files that a later version reads."""
assert set(TAGS) == set(get_args(Record))


def plain_value(value: object) -> object:
    """What JSON has no form for: enumerations by name, mappings and collections as they are, anything else as text."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, frozenset | set | Sequence) else str(value)


_OPENINGS = {cls: b'["%b",' % tag.encode() for cls, tag in TAGS.items()}
_ENCODER = msgspec.json.Encoder(enc_hook=plain_value)
_SORTED = msgspec.json.Encoder(enc_hook=plain_value, order="deterministic")
_GROUP = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]])
_MAPPING = msgspec.json.Decoder(dict[str, object])
_RECORD: dict[str, msgspec.json.Decoder[Any]] = {tag: msgspec.json.Decoder(cls) for cls, tag in TAGS.items()}


def mapping_text(value: Mapping[str, object]) -> str:
    """A mapping as JSON with sorted keys: the same text for equal contents."""
    return _SORTED.encode(value).decode() if value else "{}"


def mapping_of(text: str) -> dict[str, object]:
    """The mapping of `mapping_text`; what were decimals are texts now."""
    return _MAPPING.decode(text)


def canonical(values: Sequence[object]) -> bytes:
    """Values as a JSON array: the bytes that the audit chain hashes."""
    return _SORTED.encode(values)


def decimal_text(value: Decimal) -> str:
    """Plain digits, never an exponent."""
    return format(value, "f")


# ---- groups


class BadLine(ValueError):
    """A line of a segment that is not what was written; `str` says what is wrong with it."""


@frozen
class Line:
    """One decoded line: its number and its payload, whose checksum was right."""

    seq: int
    payload: bytes


def frame(seq: int, payload: bytes) -> bytes:
    """The line of a payload. The checksum starts from the number, so a line that was copied to another place is found."""
    head = f"{seq} {len(payload)} {zlib.crc32(payload, seq & 0xFFFFFFFF):08x} "  # half the time of % on bytes
    return head.encode() + payload + b"\n"


def unframe(line: bytes) -> Line:
    """The inverse of `frame`, without its line break. Raises BadLine."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or not (parts[0].isdigit() and parts[1].isdigit()):
        raise BadLine("does not begin with number, length and checksum")
    seq, payload = int(parts[0]), parts[3]
    if len(payload) != int(parts[1]):
        raise BadLine(f"group {seq} has {len(payload)} bytes, {int(parts[1])} were written")
    if b"%08x" % zlib.crc32(payload, seq & 0xFFFFFFFF) != parts[2]:
        raise BadLine(f"group {seq} has another checksum than was written")
    return Line(seq, payload)


def encode_records(records: Sequence[Record]) -> bytes:
    """The payload of a group. Raises TypeError, ValueError or OverflowError for a value that JSON cannot hold."""
    return b"[" + b",".join([_OPENINGS[type(record)] + _ENCODER.encode(record) + b"]" for record in records]) + b"]"


def decode_records(payload: bytes) -> list[Record]:
    """The records of a payload. Raises BadLine for one that this version does not know."""
    try:
        return [_RECORD[tag].decode(raw) for tag, raw in _GROUP.decode(payload)]
    except KeyError as e:
        raise BadLine(f"holds a record of the kind {e}, which this version does not know") from None
    except msgspec.MsgspecError as e:
        raise BadLine(f"holds a record that this version cannot read: {e}") from None
