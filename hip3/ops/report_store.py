"""The records of a store for `hip3 report`: all that was kept, while a bot writes or when none does.

Outside paper accounts are never mixed. Paper makes an account for each run, so there all of a store belongs together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeVar

from attrs import frozen

from hip3.core.missed import Away
from hip3.core.records import Transition
from hip3.core.remembered import ACCOUNT, NO_BOT_RAN, RECOVERY
from hip3.core.report import ReportInput
from hip3.fsm.position import PositionState
from hip3.ops import run_facts
from hip3.ops.report_source import PAPER_NOTE, NothingToReport, Selection
from hip3.ops.run_facts import RunFacts
from hip3.ops.stores import OpenStore, Source, reading
from hip3.simulate.invariants import late_ms
from hip3.store.repository import FOREVER_MS, Repository, RunRow
from hip3.venue.hyperliquid.endpoints import Network

T = TypeVar("T")
BEFORE_MS = 3_600_000
"""How much earlier than a trade's end its orders are looked for; a time stop ends a position long before."""


@frozen
class _Span:
    """Rows of one account from `low` to before `high`, Unix ms; its orders from `before` on."""

    account: str
    low: int
    high: int
    before: int


def read_stores(sources: Sequence[Source], selection: Selection) -> ReportInput:
    """The records of the store that ran last, or of the one that has the run or account asked for.

    Raises NothingToReport where none has, and the errors of the store.
    """
    with reading(sources) as opened:
        fitting = [store for store in opened if _fitting(store, selection)]
        if not fitting:
            raise NothingToReport(_nothing(opened, selection))
        others = [store for store in opened if store is not fitting[0] and store.runs]
        return _read(fitting[0], [store.name for store in others], selection)


def _fitting(store: OpenStore, selection: Selection) -> list[RunRow]:
    wanted = None if selection.account is None else selection.account.lower()
    return [r for r in store.runs if wanted in (None, r.account) and selection.run in (None, r.run_id)]


def _read(store: OpenStore, others: Sequence[str], selection: Selection) -> ReportInput:
    fitting, reader = _fitting(store, selection), store.reader
    is_paper = store.source.network == Network.PAPER.value
    chosen = [r for r in fitting if is_paper or r.account == fitting[-1].account]
    accounts = sorted({r.account for r in chosen})
    facts = [run_facts.read(reader.state(account).get(run_facts.KEY)) for account in accounts]
    known = {f for f in facts if f is not None}
    stops = known or {RunFacts()}
    spans = [_span([r for r in store.runs if r.account == account], selection) for account in accounts]
    return ReportInput(
        trades=_all(spans, lambda s: reader.trades(s.account, s.low, s.high)),
        time_stop_ms=max(f.time_stop_ms for f in stops),
        stop_late_ms=late_ms(max(f.post_timeout_ms for f in stops)),
        signals=_all(spans, lambda s: reader.signals(s.account, s.low, s.high)),
        follow_ups=_all(spans, lambda s: reader.follow_ups(s.account, s.low)),
        intents=_all(spans, lambda s: reader.intents(s.account, s.before, s.high)),
        results=_all(spans, lambda s: reader.results_between(s.account, s.before)),
        transitions=tuple(_overdue(reader, spans)),
        away=tuple(_away(reader, accounts[0])) if len(accounts) == 1 else (),
        since_ms=selection.since_ms,
        source=f"store {store.name}",
        network=store.source.network,
        account=accounts[0] if len(accounts) == 1 else f"{len(accounts)} accounts",
        runs=tuple(r.run_id for r in chosen),
        notes=tuple(_notes(store, accounts, others, known, is_paper=is_paper)),
    )


def _span(runs: Sequence[RunRow], selection: Selection) -> _Span:
    """Of the account of `runs`: those of the run where one is wanted. A run ends where the next begins."""
    account, since = runs[0].account, selection.since_ms or 0
    if selection.run is None:
        return _Span(account, since, FOREVER_MS, max(since - BEFORE_MS, 0))
    at = next(n for n, r in enumerate(runs) if r.run_id == selection.run)
    low = max(since, runs[at].started_ms)
    return _Span(account, low, runs[at + 1].started_ms if at + 1 < len(runs) else FOREVER_MS, low)


def _all(spans: Sequence[_Span], read: Callable[[_Span], Iterable[T]]) -> tuple[T, ...]:
    return tuple(chain.from_iterable(read(span) for span in spans))


def _overdue(reader: Repository, spans: Sequence[_Span]) -> list[Transition]:
    of = {span.account: span for span in spans}
    rows = [row for row in reader.audit(category="position") if row.to_state == PositionState.FLATTEN_FAILED.name]
    return [
        Transition(row.timestamp_ms, row.category, row.entity_id, row.from_state, row.to_state, row.reason_code)
        for row in rows
        if row.account in of and of[row.account].before <= row.timestamp_ms < of[row.account].high
    ]


def _away(reader: Repository, account: str) -> list[Away]:
    rows = reader.audit(category=RECOVERY, entity_id=ACCOUNT)
    return [
        Away(int(row.from_state), int(row.to_state))
        for row in rows
        if row.account == account and row.reason_code == NO_BOT_RAN
    ]


def _notes(
    store: OpenStore, accounts: Sequence[str], others: Sequence[str], known: set[RunFacts], *, is_paper: bool
) -> list[str]:
    said = [PAPER_NOTE] if is_paper else []
    stops = sorted({f.time_stop_ms for f in known})
    if not stops:
        said.append(f"The store does not say the time stop; that of the defaults, {RunFacts().time_stop_ms} ms, is taken.")
    elif len(stops) > 1:
        said.append(f"The runs had different time stops; a stop counts as missed by the longest, {stops[-1]} ms.")
    left_out = len({r.account for r in store.runs} - set(accounts))
    if left_out:
        said.append(f"{left_out} other account{'s' if left_out > 1 else ''} of the store left out; --account chooses one.")
    if others:
        said.append(f"Left out as well, stores of other networks: {', '.join(others)}; --store chooses one.")
    in_spool = store.in_spool
    if in_spool is None:
        said.append("The spool of the store could not be read: there may be commits that are in no number.")
    elif in_spool:
        said.append(f"{in_spool} commits are in the spool of the store alone, and in every number here.")
    return said


def _nothing(opened: Sequence[OpenStore], selection: Selection) -> str:
    names = ", ".join(store.name for store in opened)
    runs = [r for store in opened for r in store.runs]
    if not runs:
        return f"no bot ever ran on the store {names}"
    asked = [f"run {selection.run}"] if selection.run is not None else []
    asked += [f"account {selection.account}"] if selection.account is not None else []
    known = ", ".join(sorted({r.account for r in runs})[:5])
    return f"no {' of '.join(asked)} in the store {names}; its accounts: {known}; its last run: {opened[0].runs[-1].run_id}"
