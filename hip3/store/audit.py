"""The audit log's hash chain: computed by the writer, checked by `hip3 audit verify` (STO-3).

hash = SHA-256(previous hash, line break, canonical row); the canonical row is a JSON array of the columns of `CANONICAL`.
The head (number and hash of the last row) is in `system_state` and moves in the same transaction, so a cut tail is found
too. The chain shows that rows were changed after they were written; who can write the whole database can also write another
chain, so keep the head that `verify` prints in a second place.

Rows are ordered by `seq`. `timestamp_ms` is the event's: the venue's time of an order's frame is older than ours of the row
before it, and a clock may be set back. So times may go back, which is counted and no error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from attrs import frozen
from sqlalchemy import Connection, select

from hip3.core.records import Transition
from hip3.store import schema
from hip3.store.encoding import canonical, mapping_text
from hip3.store.segments import Header

GENESIS = "0" * 64
CANONICAL = (
    "seq",
    "account",
    "run_id",
    "config_hash",
    "timestamp_ms",
    "category",
    "entity_id",
    "from_state",
    "to_state",
    "reason_code",
    "reason_message",
    "event_id",
    "metadata",
)
MOST_FAULTS = 20
"""How many faults `verify` names one by one; the count goes on."""


class ChainHead(msgspec.Struct, frozen=True):
    """The last row of the chain: its number, which is also how many there are, and its hash."""

    seq: int
    hash: str


EMPTY = ChainHead(0, GENESIS)


def head_text(head: ChainHead) -> str:
    """As it is kept in `system_state`."""
    return msgspec.json.encode(head).decode()


def head_of(text: str | None) -> ChainHead:
    """The inverse; the head of an empty chain for None. Raises ValueError for another text."""
    return EMPTY if text is None else msgspec.json.decode(text, type=ChainHead)


def row_hash(prev_hash: str, values: Sequence[object]) -> str:
    """The hash of a row whose columns of `CANONICAL` are `values`."""
    return hashlib.sha256(prev_hash.encode() + b"\n" + canonical(values)).hexdigest()


def audit_row(record: Transition, header: Header, head: ChainHead) -> dict[str, Any]:
    """The row that follows `head`."""
    values = (
        head.seq + 1,
        header.account,
        header.run_id,
        header.config_hash,
        record.at_ms,
        *(
            text.replace("\x00", "\ufffd")  # PostgreSQL cannot hold it, and the hash is of what is stored
            for text in (
                record.category,
                record.entity_id,
                record.from_state,
                record.to_state,
                record.reason_code,
                record.reason_message,
                record.event_id,
            )
        ),
        mapping_text(record.metadata),
    )
    row: dict[str, Any] = dict(zip(CANONICAL, values, strict=True))
    return row | {"prev_hash": head.hash, "hash": row_hash(head.hash, values)}


@frozen
class Verdict:
    """What `verify` found. `faults` are sentences that name the row; there may be more of them than are kept."""

    rows: int
    head: ChainHead
    faults: tuple[str, ...]
    fault_count: int
    times_back: int
    """Rows whose time is before that of the row in front of them."""

    @property
    def is_whole(self) -> bool:
        return self.fault_count == 0


def verify(connection: Connection) -> Verdict:
    """Checks every row against the one before it, and the last against the head, inside the caller's read transaction.

    Finds a row that was edited, deleted, inserted or moved, and a tail that was cut off.
    """
    state = schema.system_state
    stored = connection.execute(
        select(state.c.value).where(state.c.account == schema.OWN, state.c.key == schema.AUDIT_HEAD)
    ).scalar()
    log = schema.audit_log
    query = select(*(log.c[name] for name in (*CANONICAL, "prev_hash", "hash"))).order_by(log.c.seq)
    rows = connection.execution_options(yield_per=2000).execute(query)
    return check_chain((tuple(row) for row in rows), stored)


def check_chain(rows: Iterable[tuple[Any, ...]], stored_head: str | None) -> Verdict:
    """Checks rows of CANONICAL, prev_hash and hash, in the order of their numbers, against the text of the head."""
    faults: list[str] = []
    count = fault_count = times_back = last_ms = 0
    seq, prev = 0, GENESIS

    def fault(sentence: str) -> None:
        nonlocal fault_count
        fault_count += 1
        if len(faults) < MOST_FAULTS:
            faults.append(sentence)

    for row in rows:
        count += 1
        values, row_prev, stored = row[:-2], row[-2], row[-1]
        expected, seq = seq + 1, row[0]
        if seq != expected:
            fault(f"row {expected} is missing" if seq == expected + 1 else f"rows {expected} to {seq - 1} are missing")
        elif row_prev != prev:
            fault(f"row {seq}: does not follow the row before it (inserted, moved or written over)")
        if row_hash(row_prev, values) != stored:
            fault(f"row {seq}: was changed after it was written")
        times_back += values[4] < last_ms
        last_ms, prev = values[4], stored
    try:
        head = head_of(stored_head)
    except msgspec.MsgspecError:
        fault(f"the stored head of the chain is not readable: {stored_head!r}")
        head = ChainHead(seq, prev)
    if (head.seq, head.hash) != (seq, prev):
        fault(
            f"rows {seq + 1} to {head.seq} were cut off the end"
            if head.seq > seq
            else f"row {seq}: the last row is not the one that the head names (row {head.seq})"
        )
    return Verdict(count, head, tuple(faults), fault_count, times_back)
