"""What `hip3 report` is made of: which runs belong together, and what their source lacks (JRN-3).

Runs of different networks are never mixed, nor runs of different accounts outside paper: paper makes an account for each
run. What is left out is said, so that nobody takes a part for the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from hip3.core.report import ReportInput
from hip3.ops.journal_file import KEPT_RUNS
from hip3.ops.report_journal import RunRecords, read_runs
from hip3.settings.schema import Executor, PositionKeys
from hip3.simulate.invariants import late_ms
from hip3.venue.hyperliquid.endpoints import Network

T = TypeVar("T")
PAPER_NOTE = "Paper money: fills are the simulated exchange's, and the rate of its dislocations is chosen, not measured."


class NothingToReport(Exception):
    """No run has what a report needs; the message says where was looked and what to do."""


@frozen
class Selection:
    """Which part of the records: one run, one account, from a time on (Unix ms); None is no limit."""

    run: str | None = None
    account: str | None = None
    since_ms: int | None = None


def read_journals(paths: Sequence[Path], selection: Selection) -> ReportInput:
    """The records of the journals, newest first as `journals` lists them. Raises NothingToReport and OSError."""
    found = [records for path in paths for records in reversed(list(read_runs(path)))]
    runs = [r for r in found if not r.is_empty]
    if selection.run is not None:
        runs = [r for r in runs if r.run == selection.run]
    if selection.account is not None:
        runs = [r for r in runs if r.account == selection.account.lower()]
    if not runs:
        raise NothingToReport(_nothing(paths, found, selection))
    chosen = [r for r in runs if _belongs(r, runs[0])]
    return _joined(chosen, len(runs) - len(chosen), paths, selection)


def _belongs(records: RunRecords, newest: RunRecords) -> bool:
    if records.network != newest.network:
        return False
    return newest.network == Network.PAPER.value or records.account == newest.account


def _joined(runs: Sequence[RunRecords], others: int, paths: Sequence[Path], selection: Selection) -> ReportInput:
    accounts = sorted({r.account for r in runs})
    stops = {PositionKeys().time_stop_ms if r.time_stop_ms is None else r.time_stop_ms for r in runs}
    return ReportInput(
        trades=_all(r.trades for r in runs),
        time_stop_ms=max(stops),
        stop_late_ms=late_ms(Executor().post_timeout_ms),
        signals=_all(r.signals for r in runs),
        follow_ups=_all(r.follow_ups for r in runs),
        intents=_all(r.intents for r in runs),
        results=_all(r.results for r in runs),
        transitions=_all(r.transitions for r in runs),
        away=_all(r.away for r in runs) if len(accounts) == 1 else (),
        since_ms=selection.since_ms,
        source=f"{_count(len({r.path for r in runs}), 'journal')} in {paths[0].parent}",
        network=runs[0].network,
        account=accounts[0] if len(accounts) == 1 else f"{len(accounts)} accounts",
        runs=tuple(r.run for r in runs),
        notes=tuple(_notes(runs, others, stops)),
    )


def _all(lists: Iterable[Iterable[T]]) -> tuple[T, ...]:
    return tuple(chain.from_iterable(lists))


def _notes(runs: Sequence[RunRecords], others: int, stops: set[int]) -> list[str]:
    cut, unread = sum(r.is_cut for r in runs), sum(r.unread for r in runs)
    said = [PAPER_NOTE] if runs[0].network == Network.PAPER.value else []
    said.append(f"Read from journals, which keep the last {KEPT_RUNS} runs: what ended earlier is in no number.")
    if others:
        said.append(f"{_count(others, 'run')} of another network or account left out.")
    if cut:
        said.append(f"{_count(cut, 'journal')} outgrew the bound and lost its beginning: trades of it may be missing.")
    if unread:
        said.append(f"{_count(unread, 'line')} could not be read and is in no number.")
    if len(stops) > 1:
        said.append(f"The runs had different time stops; a stop counts as missed by the longest, {max(stops)} ms.")
    return said


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _nothing(paths: Sequence[Path], found: Sequence[RunRecords], selection: Selection) -> str:
    if not paths:
        return "there is no journal yet; run the bot first: hip3 run --duration 60"
    asked = [f"run {selection.run}"] if selection.run is not None else []
    asked += [f"account {selection.account}"] if selection.account is not None else []
    if asked:
        known = ", ".join(sorted({r.run for r in found if r.run})) or "none"
        return f"no signal, order or trade of {' and '.join(asked)} in {paths[0].parent}; the runs there: {known}"
    return (
        f"no run in {paths[0].parent} has a signal, an order or a trade yet; let the bot run longer: hip3 run --duration 60"
    )
