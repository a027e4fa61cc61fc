"""`hip3 audit verify|tail|export`: the audit log of the store, while a bot runs or not (STO-3). Changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import attrs
from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json
from hip3.cli.store_cmd import EXIT_CONFIGURATION, EXIT_REFUSED, Answer, At, answer
from hip3.cli.words import printable
from hip3.ops.files import new_file
from hip3.ops.journal_file import iso_text, json_value
from hip3.store.audit import Verdict
from hip3.store.errors import StoreUnusable
from hip3.store.repository import AuditRow, Repository, everything_in

PAGE = 5000
"""Rows that an export holds in memory at a time."""


def verify(*, config: Config = None, as_json: Json = False) -> int:
    """Check the hash chain of the audit log: every row, and that none was cut off the end.

    Exit code 0: whole; 2: configuration; 3: rows were changed, removed or added (listed), or the store cannot be read.

    Example: hip3 audit verify --json
    """
    return answer("audit verify", config, lambda at: _reading(at, _verified), as_json=as_json)


def tail(
    *,
    rows: Annotated[int, Parameter(name=("--rows", "-n"), help="How many.")] = 20,
    category: Annotated[str | None, Parameter(help="Only of this machine: order, post, position, safety ...")] = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Show the last rows of the audit log, the newest last.

    Exit code 0; 2: configuration; 3: the store cannot be read.

    Example: hip3 audit tail -n 50 --category safety
    """

    if rows < 1:
        print(f"hip3 audit tail: -n {rows}: expected a number above 0", file=sys.stderr)
        return EXIT_CONFIGURATION

    def work(repository: Repository) -> Answer:
        found = repository.audit_tail(rows, category)
        none = "the audit log is empty" if category is None else f"the audit log has no row of category {category}"
        return [_line(row) for row in found] or [none], {"rows": [attrs.asdict(row) for row in found]}

    return answer("audit tail", config, lambda at: _reading(at, work), as_json=as_json)


def export(
    *,
    out: Annotated[Path | None, Parameter(help="File to write, which must not exist; else standard output.")] = None,
    after: Annotated[int, Parameter(help="Only rows after this number.")] = 0,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Write the audit log as JSON lines, hashes included, in the order of the chain.

    Exit code 0; 2: configuration; 3: the store cannot be read, or the file cannot be written.

    Example: hip3 audit export --out audit.jsonl
    """

    def work(repository: Repository) -> Answer:
        if out is None:
            _write(repository, after, sys.stdout)
            return [], {}
        try:
            with new_file(out.expanduser()) as file:
                count = _write(repository, after, file)
        except FileExistsError:
            raise StoreUnusable(f"{out}: is there already; name another file, or remove it") from None
        except OSError as e:
            raise StoreUnusable(f"{out}: cannot be written: {e.strerror or e}; name another file") from e
        return [f"{out}: {count} rows"], {"file": str(out), "rows": count}

    return answer("audit export", config, lambda at: _reading(at, work), as_json=as_json)


def _reading(at: At, work: Callable[[Repository], Answer]) -> Answer:
    """What `work` says of database and spool; a spool that cannot be read is told of on standard error."""
    repository = everything_in(at.place)
    try:
        said = work(repository)
    finally:
        repository.close()
    if repository.spool is not None and repository.spool.trouble is not None:
        print(printable(f"hip3 audit: without the rows of the spool: {repository.spool.trouble}"), file=sys.stderr)
    return said


def _verified(repository: Repository) -> Answer:
    verdict = repository.verify_audit()
    return _verdict_lines(verdict), attrs.asdict(verdict, recurse=False) | {
        "head": {"seq": verdict.head.seq, "hash": verdict.head.hash},
        "whole": verdict.is_whole,
        "exit_code": 0 if verdict.is_whole else EXIT_REFUSED,
    }


def _verdict_lines(verdict: Verdict) -> list[str]:
    lines = [f"rows     {verdict.rows}", f"head     {verdict.head.seq} {verdict.head.hash}"]
    if verdict.times_back:
        why = "the venue's own time, or a clock set back"
        lines.append(f"note     {verdict.times_back} rows carry an earlier time than the row before them: {why}")
    if verdict.is_whole:
        return [*lines, "chain    whole"]
    more = verdict.fault_count - len(verdict.faults)
    lines += [f"FAULT    {fault}" for fault in verdict.faults] + ([f"FAULT    and {more} more"] if more else [])
    return [*lines, "chain    BROKEN: what it says about these rows is not what was written"]


def _line(row: AuditRow) -> str:
    moved = f"{row.from_state} -> {row.to_state}" if row.from_state else row.to_state
    said = f": {row.reason_message}" if row.reason_message else ""
    return f"{row.seq:>8} {iso_text(row.timestamp_ms)} {row.category} {row.entity_id} {moved} {row.reason_code}{said}"


def _write(repository: Repository, after: int, file: IO[str]) -> int:
    count = 0
    for row in _pages(repository, after):
        entry: dict[str, Any] = attrs.asdict(row)
        file.write(json.dumps(entry, default=json_value) + "\n")
        count += 1
    return count


def _pages(repository: Repository, after: int) -> Iterator[AuditRow]:
    while rows := repository.audit(after_seq=after, limit=PAGE):
        yield from rows
        after = rows[-1].seq
