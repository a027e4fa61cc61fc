"""A report out of a store: the same figures as from the records themselves, by account, run and time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from hip3.cli.main import make_app
from hip3.core.records import Record, StateRecord
from hip3.core.report import ReportInput, make_report
from hip3.ops import run_facts
from hip3.ops.report_source import PAPER_NOTE, NothingToReport, Selection
from hip3.ops.report_store import read_stores
from hip3.ops.stores import source_at
from hip3.settings.load import from_text
from hip3.store.database import place_of_file
from tests.core.report_builders import T0, follow_up, good, overdue, signal
from tests.ops.test_ops_report_source import head, traded
from tests.store.store_builders import ACCOUNT, OTHER, Bench, HandClock


def of_store(path: str, selection: Selection) -> ReportInput:
    return read_stores([source_at(path)], selection)


def records(count: int) -> ReportInput:
    return attrs.evolve(
        good(count, rejected=1),
        signals=tuple(signal(n) for n in range(count)),
        follow_ups=tuple(follow_up(n, 1000, str(n)) for n in range(count)),
        transitions=(overdue(1, 9500),),
    )


async def write(
    path: Path, given: ReportInput, *, run: str = "run-1", account: str = ACCOUNT, at_ms: int = T0 - 5000
) -> None:
    """A run of a bot that began at `at_ms` puts the records into the store, one commit each, and ends in order."""
    store = Bench(place_of_file(path), HandClock(at_ms)).open(run, account=account)
    orders: list[Record] = [*given.intents, *given.results]
    for record in [*orders, *given.trades, *given.signals, *given.follow_ups, *given.transitions]:
        store.recorder.put(record)
        store.recorder.commit()
    assert await store.drain_and_close(5)


async def test_the_store_gives_the_report_of_its_records(tmp_path: Path, autojump_clock: object) -> None:
    """JRN-1, STO-2: every figure is the same as of the records that the bot wrote."""
    given = records(12)
    await write(tmp_path / "s.db", given)
    read = of_store(str(tmp_path / "s.db"), Selection())
    assert (read.account, read.runs) == (ACCOUNT, ("run-1",))
    ours, told = make_report(given), make_report(read)
    assert attrs.evolve(told, input=given, caveats=()) == attrs.evolve(ours, caveats=())
    assert told.totals.flatten_success.k == 11
    assert any("that of the defaults, 30000 ms" in note for note in read.notes)


async def test_time_cuts_but_keeps_the_orders_of_a_trade(tmp_path: Path, autojump_clock: object) -> None:
    """JRN-3: since the middle of a trade: its flat time is known, its entry is in no fill rate."""
    await write(tmp_path / "s.db", records(4))
    cut = make_report(of_store(str(tmp_path / "s.db"), Selection(since_ms=T0 + 2 * 60_000 + 5000)))
    assert [t.flat_time_ms for t in cut.trades] == [1000, 1000]
    assert cut.totals.entries.accepted == 1


async def test_accounts_and_runs_are_kept_apart(tmp_path: Path, autojump_clock: object) -> None:
    """JRN-3: the account that ran last is reported, the others are said; a run is what lies between it and the next."""
    first = records(3)
    later = attrs.evolve(
        first,
        trades=tuple(attrs.evolve(t, entry_ms=t.entry_ms + 10**7, exit_ms=t.exit_ms + 10**7) for t in first.trades[:2]),
        intents=(),
        results=(),
        signals=(),
        follow_ups=(),
        transitions=(),
    )
    path = tmp_path / "s.db"
    await write(path, first, account=OTHER)
    await write(path, first)
    await write(path, later, run="run-2", at_ms=T0 + 9 * 10**6)
    whole = of_store(str(path), Selection())
    assert (whole.account, whole.runs, len(whole.trades)) == (ACCOUNT, ("run-1", "run-2"), 5)
    assert any("1 other account of the store left out" in note for note in whole.notes)
    assert len(of_store(str(path), Selection(run="run-2")).trades) == 2
    assert len(of_store(str(path), Selection(run="run-1", account=ACCOUNT.upper())).trades) == 3
    assert of_store(str(path), Selection(account=OTHER)).account == OTHER


async def test_paper_runs_of_one_store_are_taken_together(tmp_path: Path, autojump_clock: object) -> None:
    """JRN-3, PRD-1: each embedded run makes an account of its own; the report says paper, and a run alone can be had."""
    later = records(5)
    moved = [attrs.evolve(t, entry_ms=t.entry_ms + 10**7, exit_ms=t.exit_ms + 10**7) for t in later.trades[:2]]
    path = tmp_path / "paper.db"
    await write(path, records(3), account=OTHER)
    await write(path, attrs.evolve(good(0), trades=tuple(moved)), run="run-2", at_ms=T0 + 9 * 10**6)
    whole = of_store(str(path), Selection())
    assert (whole.network, whole.account, whole.runs, len(whole.trades)) == ("paper", "2 accounts", ("run-1", "run-2"), 5)
    assert whole.notes[0] == PAPER_NOTE
    assert len(of_store(str(path), Selection(run="run-2")).trades) == 2
    assert of_store(str(path), Selection(account=OTHER)).account == OTHER


async def test_the_time_stop_is_the_one_of_the_runs(tmp_path: Path, autojump_clock: object) -> None:
    """JRN-2: a run says its time stop in the store, and a stop is missed by that one."""
    path = tmp_path / "s.db"
    settings = from_text('network = "paper"\n[position]\ntime_stop_ms = 4000\nreduce_only_timeout_ms = 8000')
    store = Bench(place_of_file(path), HandClock(T0)).open("run-1")
    store.recorder.put(StateRecord(run_facts.KEY, run_facts.dump(settings), T0))
    for trade in records(1).trades:
        store.recorder.put(trade)
    store.recorder.commit()
    assert await store.drain_and_close(5)
    read = of_store(str(path), Selection())
    assert read.time_stop_ms == 4000
    assert not any("time stop" in note for note in read.notes)


async def test_the_kept_store_is_read_before_any_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], autojump_clock: object
) -> None:
    """JRN-1: without arguments the store of the state folder; the network that ran last where there are two; --journal a
    journal; with --config the store of that configuration."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HIP3_CONFIG", raising=False)
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "aa.jsonl").write_text(head("aa") + traded("aa", 1, 60))

    def report(*tokens: str) -> dict[str, Any]:
        assert make_app()(["report", "--json", *tokens], exit_on_error=False) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    assert report()["totals"]["trades"] == 1
    await write(tmp_path / "store" / "testnet.db", records(4))
    await write(tmp_path / "store" / "paper.db", records(2), at_ms=T0 - 9000)
    told = report()
    assert (told["network"], told["totals"]["trades"]) == ("testnet", 4)
    assert any("stores of other networks" in note and "paper.db" in note for note in told["caveats"])
    config = tmp_path / "c.toml"
    config.write_text('network = "paper"\n[[markets]]\ncoin = "xyz:SNDK"\n')
    assert report("--config", str(config))["totals"]["trades"] == 2
    assert report("--journal", str(tmp_path / "journal" / "aa.jsonl"))["totals"]["trades"] == 1


async def test_what_only_the_spool_has_counts_and_is_said(tmp_path: Path, autojump_clock: object) -> None:
    """JRN-3, STO-4: commits that the database does not have yet are in every number, and the report says how many."""
    path = tmp_path / "s.db"
    await write(path, records(2))
    bench = Bench(place_of_file(path), HandClock(T0))
    store = bench.open("run-2")
    store.recorder.put(records(3).trades[2])
    store.recorder.commit()
    read = of_store(str(path), Selection())
    bench.let_go()
    assert len(read.trades) == 3
    assert any(note.startswith("1 commits are in the spool of the store alone") for note in read.notes)


async def test_the_command_reads_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str], autojump_clock: object) -> None:
    """JRN-2: --store in place of journals; with the exit codes of the command."""
    path = tmp_path / "s.db"
    await write(path, records(10))

    def report(*tokens: str) -> object:
        return make_app()(["report", *tokens], exit_on_error=False)

    assert report("--store", str(path), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["totals"]["trades"] == 10
    assert told["source"] == f"store {path}"
    assert report("--store", str(path), "--run", "zz") == 3
    assert "nothing to report: no run zz in the store" in capsys.readouterr().err
    assert report("--store", str(tmp_path / "none.db")) == 2
    assert "there is no store" in capsys.readouterr().err
    assert report("--store", "mysql://x/y") == 2
    assert "expected postgresql://" in capsys.readouterr().err
    assert report("--store", str(path), "--journal", "j.jsonl") == 2
    assert "exclude each other" in capsys.readouterr().err


async def test_a_store_without_the_account_is_nothing(tmp_path: Path, autojump_clock: object) -> None:
    """JRN-3: a wrong address is not an empty report: which accounts there are is said."""
    await write(tmp_path / "s.db", records(1))
    with pytest.raises(NothingToReport, match=f"its accounts: {ACCOUNT}"):
        of_store(str(tmp_path / "s.db"), Selection(account=OTHER))
