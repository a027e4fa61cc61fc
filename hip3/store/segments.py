"""Segments of the spool on disk: what is in them, what of it is torn, what is damaged.

A segment begins with a line 0 that says whose records follow (spool, account, run, configuration); its groups are numbered
without a gap. Bytes at the very end that are the beginning of a line, or zeros, were torn off by a crash while they were
written, so nobody was told that they are safe: they do not count. Anything else that does not fit is damage, and is told of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from attrs import frozen

from hip3.core.records import Record
from hip3.store.encoding import BadLine, Line, decode_records, frame, unframe
from hip3.store.errors import StoreDamaged

SUFFIX = ".spool"
FORMAT = 1
REBUILD = "`hip3 store rebuild` takes what is readable and says what is lost"


class Header(msgspec.Struct, frozen=True):
    """The first line of a segment: whose records these are."""

    format: int
    spool_id: str
    account: str
    run_id: str
    config_hash: str
    first_seq: int
    opened_ms: int


@frozen
class Group:
    """Records of one commit: all of them go into the database in one transaction, or none does."""

    seq: int
    header: Header
    records: tuple[Record, ...]


@frozen
class Segment:
    """What one file holds. `good_bytes` is the length up to the last whole group; what follows it is torn."""

    path: Path
    header: Header | None
    """None for a file whose first line is torn: it was being made."""
    groups: tuple[Group, ...]
    good_bytes: int
    damage: tuple[str, ...] = ()
    """One sentence for each place that is not what was written."""

    @property
    def last_seq(self) -> int:
        """Number of the last group; of the last one before this segment where it holds none."""
        if self.groups:
            return self.groups[-1].seq
        return self.header.first_seq - 1 if self.header else 0


def segment_path(folder: Path, first_seq: int) -> Path:
    """Names sort in the order of the groups."""
    return folder / f"{first_seq:020d}{SUFFIX}"


def segment_paths(folder: Path) -> list[Path]:
    """The segments of a spool in order; none where the folder is not there."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def header_line(header: Header) -> bytes:
    """The first line of a segment."""
    return frame(0, msgspec.json.encode(header))


def read_segment(path: Path) -> Segment:
    """What is in a file. Damage is in the result, for the caller to judge; raises OSError where it cannot be read."""
    data = path.read_bytes()
    lines, good, damage = _lines(path, data)
    if not lines or lines[0].seq != 0:
        if good or damage:
            damage.insert(0, f"{path.name}: its first line is not readable, so nobody knows whose records follow")
        return Segment(path, None, (), 0, tuple(damage))
    try:
        header = msgspec.json.decode(lines[0].payload, type=Header)
    except msgspec.MsgspecError as e:
        return Segment(path, None, (), 0, (f"{path.name}: its first line is of another kind: {e}",))
    if header.format != FORMAT:
        return Segment(path, None, (), 0, (f"{path.name}: format {header.format}, this version knows {FORMAT}",))
    groups: list[Group] = []
    for line in lines[1:]:
        try:
            groups.append(Group(line.seq, header, tuple(decode_records(line.payload))))
        except BadLine as e:
            damage.append(f"{path.name}: group {line.seq} {e}")
    return Segment(path, header, tuple(groups), good, tuple(damage))


def _lines(path: Path, data: bytes) -> tuple[list[Line], int, list[str]]:
    """The whole lines, the length up to the end of the last, and what is wrong between them."""
    found: list[Line] = []
    damage: list[str] = []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        if end < 0:
            break  # the beginning of a line, or zeros that a file system put there: torn
        try:
            found.append(unframe(data[at:end]))
        except BadLine as e:
            damage.append(f"{path.name}, byte {at}: {e}")
        at = end + 1
    return found, at, damage


def read_spool(folder: Path) -> list[Segment]:
    """All segments in order; reading changes nothing. Raises OSError."""
    return [read_segment(path) for path in segment_paths(folder)]


def pending(segments: Sequence[Segment], applied: int | None, remedy: str = REBUILD) -> list[Group]:
    """The groups after number `applied`, in order. None: the database knows nothing of this spool, so all of them.

    Raises StoreDamaged where one of them is missing or unreadable; what the database has already is not looked at.
    """
    heads = [segment.header for segment in segments if segment.header is not None]
    damage = _other_spools(heads)
    expected = applied + 1 if applied is not None else heads[0].first_seq if heads else 1
    groups: list[Group] = []
    for place, segment in enumerate(segments):
        later = next((s.header.first_seq for s in segments[place + 1 :] if s.header is not None), None)
        if later is not None and later <= expected and not groups:
            continue  # the database has all of it
        damage += segment.damage
        if segment.header is None and not segment.damage and segment is not segments[-1]:
            damage.append(f"{segment.path.name}: its first line is torn, and later segments follow")
        if segment.header is not None and segment.header.first_seq > expected:
            damage.append(f"{segment.path.name}: {_missing(expected, segment.header.first_seq - 1)} before it")
            expected = segment.header.first_seq
        for group in segment.groups:
            if group.seq < expected:
                continue
            if group.seq > expected:
                damage.append(f"{segment.path.name}: {_missing(expected, group.seq - 1)}")
            groups.append(group)
            expected = group.seq + 1
    if damage:
        raise StoreDamaged(
            "the spool holds groups that are not in the database, and not all of them are readable: "
            + "; ".join(damage)
            + f". {remedy}"
        )
    return groups


def _other_spools(heads: Sequence[Header]) -> list[str]:
    names = sorted({head.spool_id for head in heads})
    return [f"segments of different spools: {', '.join(names)}"] if len(names) > 1 else []


def _missing(first: int, last: int) -> str:
    return f"group {first} is missing" if first == last else f"groups {first} to {last} are missing"
