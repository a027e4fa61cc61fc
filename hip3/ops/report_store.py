"""The records of a store for `hip3 report`: all that was kept of an account, while a bot writes or when none does.

The store knows accounts and runs, not the network: each network has a store of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hip3.core.records import Transition
from hip3.core.report import ReportInput
from hip3.fsm.position import PositionState
from hip3.ops.report_source import NothingToReport, Selection
from hip3.settings.schema import Executor, PositionKeys
from hip3.simulate.invariants import late_ms
from hip3.store.database import Place, place_of_file, place_of_url
from hip3.store.repository import FOREVER_MS, Repository, RunRow

BEFORE_MS = 3_600_000
"""How much earlier than a trade's end its orders are looked for; a time stop ends a position long before."""


def place_of(text: str) -> Place:
    """The store at a path, or at a `postgresql://` URL. Raises StoreUnusable for another kind of URL."""
    return place_of_url(text, Path()) if "://" in text else place_of_file(Path(text))


def read_store_at(text: str, selection: Selection) -> ReportInput:
    """The records of the store at a path or URL. Raises NothingToReport and the errors of the store."""
    place = place_of(text)
    repository = Repository(place)
    try:
        return read_store(repository, place.name, selection, behind=repository.behind() if place.file is not None else 0)
    finally:
        repository.close()


def read_store(reader: Repository, name: str, selection: Selection, *, behind: int = 0) -> ReportInput:
    """The records of one account, by default of the one that ran last. `behind`: groups that the store does not have yet.

    Raises NothingToReport where the store has no such account or run.
    """
    runs = sorted((r for a in reader.accounts() for r in reader.runs(a)), key=lambda r: (r.started_ms, r.run_id))
    wanted = None if selection.account is None else selection.account.lower()
    fitting = [r for r in runs if wanted in (None, r.account) and selection.run in (None, r.run_id)]
    if not fitting:
        raise NothingToReport(_nothing(name, runs, selection))
    account = fitting[-1].account
    of_account = [r for r in runs if r.account == account]
    chosen = [r for r in of_account if selection.run in (None, r.run_id)]
    low, high = _span(of_account, selection)
    before = max(low - BEFORE_MS, 0)
    return ReportInput(
        trades=tuple(reader.trades(account, low, high)),
        time_stop_ms=PositionKeys().time_stop_ms,
        stop_late_ms=late_ms(Executor().post_timeout_ms),
        signals=tuple(reader.signals(account, low, high)),
        follow_ups=tuple(reader.follow_ups(account, low)),
        intents=tuple(reader.intents(account, before if selection.run is None else low, high)),
        results=tuple(reader.results_between(account, before)),
        transitions=tuple(_overdue(reader, account, before, high)),
        since_ms=selection.since_ms,
        source=f"store {name}",
        account=account,
        runs=tuple(r.run_id for r in chosen),
        notes=tuple(_notes(runs, account, behind)),
    )


def _span(runs: Sequence[RunRow], selection: Selection) -> tuple[int, int]:
    """From which time to before which: those of the run where one is wanted. A run ends where the next begins."""
    low = selection.since_ms or 0
    if selection.run is None:
        return low, FOREVER_MS
    at = next(n for n, r in enumerate(runs) if r.run_id == selection.run)
    return max(low, runs[at].started_ms), runs[at + 1].started_ms if at + 1 < len(runs) else FOREVER_MS


def _overdue(reader: Repository, account: str, low: int, high: int) -> list[Transition]:
    return [
        Transition(row.timestamp_ms, row.category, row.entity_id, row.from_state, row.to_state, row.reason_code)
        for row in reader.audit(category="position")
        if row.account == account and row.to_state == PositionState.FLATTEN_FAILED.name and low <= row.timestamp_ms < high
    ]


def _notes(runs: Sequence[RunRow], account: str, behind: int) -> list[str]:
    others = len({r.account for r in runs} - {account})
    said = [f"A stop counts as missed by the time stop of the defaults, {PositionKeys().time_stop_ms} ms."]
    if others:
        said.append(f"{others} other account{'s' if others > 1 else ''} of the store left out; --account chooses one.")
    if behind:
        said.append(f"{behind} commits are not in the store yet: the bot writes them within moments, or at its next start.")
    return said


def _nothing(name: str, runs: Sequence[RunRow], selection: Selection) -> str:
    if not runs:
        return f"no bot ever ran on the store {name}"
    asked = [f"run {selection.run}"] if selection.run is not None else []
    asked += [f"account {selection.account}"] if selection.account is not None else []
    known = ", ".join(sorted({r.account for r in runs}))
    return f"no {' of '.join(asked)} in the store {name}; its accounts: {known}; its last run: {runs[-1].run_id}"
