"""Spool and database together, on SQLite and on PostgreSQL: each committed group once and whole (STO-1, STO-4, REC-2)."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hip3.core.records import IncidentRecord, ResultRecord, StateRecord, StorageUnavailable
from hip3.store.database import place_of_url
from hip3.store.errors import StoreInUse, StoreUnusable
from hip3.store.segments import segment_paths
from hip3.store.store import Store, StoreConfig
from hip3.store.writer import in_thread
from tests.store.store_builders import (
    ACCOUNT,
    OTHER,
    START_MS,
    Bench,
    fill,
    intent,
    kill,
    move,
    one_of_each,
    put_all,
    result,
    signal,
    trade,
)


async def close(store: Store) -> None:
    assert await store.drain_and_close(20)


async def test_every_kind_of_record_comes_back_as_it_was(bench: Bench) -> None:
    """STO-1, STO-2: what is read from the database equals what was put, decimals with all their digits."""
    store = bench.open()
    put_all(store, *one_of_each())
    await close(store)
    found = bench.open("run-2").repository
    assert found.fills(ACCOUNT) == [fill()]
    assert found.trades(ACCOUNT) == [trade()]
    order = found.order(ACCOUNT, intent().cloid)
    assert order is not None
    assert (order.intents, order.result, order.run_id) == ((intent(),), result(), "run-1")
    assert str(order.intents[0].px) == "612.3400"
    assert found.state(ACCOUNT) == {"last_nonce": str(START_MS)}
    assert found.processed(ACCOUNT) == {"fill:1"}
    assert [f.edge_bps for f in found.follow_ups(ACCOUNT)] == [None]
    kept = found.signal(ACCOUNT, "s-1")
    assert kept is not None
    assert kept.inputs == {"oracle_px": "612.30", "depth": [1, 2], "market": {"halted": False}}
    assert [(r.seq, r.category, r.to_state, r.run_id, r.config_hash) for r in found.audit()] == [
        (1, "order", "SENT", "run-1", "c0ffee")
    ]
    assert [i.evidence for i in found.incidents(ACCOUNT, open_only=True)] == [{"usd": "-21"}]
    found.close()


async def test_many_commits_share_a_transaction_and_none_is_split(bench: Bench) -> None:
    """STO-4: the writer's task drains what came within `group_commit_ms` in one go, in order."""
    store = bench.open(run_sync=in_thread)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        for n in range(1, 101):
            put_all(store, intent(n), move(n))
        assert await store.drain_and_close(20)
    assert store.writer.transactions < 10
    with_all = bench.open("run-2").repository
    assert [row.entity_id for row in with_all.audit()] == [intent(n).cloid for n in range(1, 101)]
    with_all.close()


async def test_what_a_killed_run_had_committed_is_there_at_the_next_start(bench: Bench) -> None:
    """STO-4, REC-2: nothing acknowledged is lost, half of it in the database or not; each group has its effect once."""
    store = bench.open()
    put_all(store, intent(1), move(1))
    store.writer.applier.apply(store.writer.spool.take(10))  # in the database, but the spool was not told
    put_all(store, intent(2), move(2), trade(2))
    store.recorder.put(intent(3))
    kill(store)
    again = bench.open("run-2", account=OTHER)
    assert again.recovered == 1
    assert [o.intents[0].cloid for o in again.repository.unfinished_orders(ACCOUNT)] == [intent(1).cloid, intent(2).cloid]
    assert [(r.entity_id, r.run_id, r.account) for r in again.repository.audit()] == [
        (intent(1).cloid, "run-1", ACCOUNT),
        (intent(2).cloid, "run-1", ACCOUNT),
    ]
    assert len(again.repository.trades(ACCOUNT)) == 1
    assert again.repository.verify_audit().is_whole
    assert again.repository.behind() == 0
    await close(again)


async def test_a_run_after_a_run_goes_on_with_the_same_spool(bench: Bench) -> None:
    """LESSONS 34: old segments go when they are in the database, and the numbers go on."""
    for n in range(1, 4):
        store = bench.open(f"run-{n}")
        put_all(store, intent(n), move(n))
        await close(store)
        assert len(segment_paths(bench.place.spool)) == 1
    last = bench.open("run-4")
    assert [row.run_id for row in last.repository.audit()] == ["run-1", "run-2", "run-3"]
    assert last.recovered == 0
    await close(last)


async def test_orders_are_open_until_a_result_is_terminal(bench: Bench) -> None:
    """REC-1, ORD-2: what a start must ask about: no result, a result that is not the end; a second sending counts too."""
    store = bench.open()
    put_all(store, intent(1), intent(2), intent(3), intent(4))
    put_all(store, result(2, "OPEN", terminal=False), result(3), intent(4, nonce=START_MS + 99))
    await close(store)
    found = bench.open("run-2")
    rows = {row.intents[0].cloid[-1]: row for row in found.repository.unfinished_orders(ACCOUNT)}
    assert sorted(rows) == ["1", "2", "4"]
    assert rows["1"].result is None
    assert rows["2"].result == result(2, "OPEN", terminal=False)
    assert [i.nonce for i in rows["4"].intents] == [START_MS + 4, START_MS + 99]
    assert found.repository.unfinished_orders(OTHER) == []
    put_all(found, ResultRecord(intent(4).cloid, "EXPIRED", START_MS, True))
    await close(found)
    later = bench.open("run-3")
    assert [row.intents[0].cloid[-1] for row in later.repository.unfinished_orders(ACCOUNT)] == ["1", "2"]
    await close(later)


async def test_a_second_record_of_the_same_thing_does_what_its_table_says(bench: Bench) -> None:
    """STO-2, LESSONS 17: a fill counts once by account, coin, time and id; an incident is closed by its id; None forgets."""
    store = bench.open()
    put_all(store, fill(1), StateRecord("cursor", "1", 1), StateRecord("gone", "1", 1), signal(1, "Detected"))
    closed = IncidentRecord("i-1", "X", 1, "m", closed_ms=5)
    put_all(store, fill(1), fill(1, tid=7), fill(1, coin="xyz:MU"), IncidentRecord("i-1", "X", 1, "m"), closed, signal(1))
    put_all(store, StateRecord("cursor", "2", 2), StateRecord("gone", None, 2))
    await close(store)
    found = bench.open("run-2", account=OTHER)
    put_all(found, fill(1))
    await close(found)
    last = bench.open("run-3").repository
    assert len(last.fills(ACCOUNT)) == 3
    assert len(last.fills(OTHER)) == 1
    assert last.incidents(ACCOUNT) == [closed]
    assert last.incidents(ACCOUNT, open_only=True) == []
    assert last.state(ACCOUNT) == {"cursor": "2"}
    assert [s.verdict for s in last.signals(ACCOUNT)] == ["Queued"]
    assert last.accounts() == [ACCOUNT, OTHER]
    last.close()


async def test_runs_are_kept_with_their_end(bench: Bench) -> None:
    """CFG-6, REC-1: the run before this one, its configuration, and whether it ended in order."""
    first = bench.open("run-1")
    bench.clock.now_ms += 1000
    await close(first)
    second = bench.open("run-2")
    bench.clock.now_ms += 1000
    kill(second)
    third = bench.open("run-3")
    before = third.repository.last_run(ACCOUNT, other_than="run-3")
    assert before is not None
    assert (before.run_id, before.config_hash, before.started_ms, before.ended_ms) == (
        "run-2",
        "c0ffee",
        START_MS + 1000,
        None,
    )
    earlier = third.repository.last_run(ACCOUNT, other_than="run-2")
    assert earlier is not None
    assert earlier.run_id == "run-3"
    assert third.repository.last_run(OTHER) is None
    await close(third)


async def test_spans_are_from_and_before(bench: Bench) -> None:
    """JRN-1: reports ask for days; a moment belongs to one of them."""
    store = bench.open()
    put_all(store, *(fill(n) for n in range(1, 5)), *(trade(n) for n in range(1, 5)), *(signal(n) for n in range(1, 5)))
    await close(store)
    found = bench.open("run-2").repository
    assert [f.time_ms - START_MS for f in found.fills(ACCOUNT, START_MS + 2, START_MS + 4)] == [2, 3]
    assert [t.exit_ms - START_MS for t in found.trades(ACCOUNT, START_MS + 2, START_MS + 4)] == [2, 3]
    assert [s.detected_ms - START_MS for s in found.signals(ACCOUNT, START_MS + 2, START_MS + 4)] == [2, 3]
    assert found.follow_ups(ACCOUNT, START_MS) == []
    found.close()


async def test_two_writers_on_one_store_are_refused(bench: Bench) -> None:
    """LESSONS 35, LEAD-1: the second one is told who holds it, and leaves the first alone."""
    first = bench.open("run-1")
    with pytest.raises(StoreInUse, match="process 4242"):
        bench.open("run-2")
    put_all(first, intent(1))
    await close(first)
    await close(bench.open("run-3"))


def test_reading_needs_no_lock(bench: Bench) -> None:
    """STO-1, LESSONS 3: status and reports read while the bot writes."""
    store = bench.open()
    put_all(store, intent(1))
    from_outside = bench.open  # the writer's lock is held
    with pytest.raises(StoreInUse):
        from_outside("run-2")
    assert store.repository.behind() == 1
    store.writer.applier.apply(store.writer.spool.take(10))
    assert store.repository.behind() == 0
    assert len(store.repository.unfinished_orders(ACCOUNT)) == 1
    kill(store)


async def test_text_that_a_database_cannot_hold_holds_up_nothing(bench: Bench) -> None:
    """STO-4: a NUL in the venue's words is replaced on both, and the audit chain still verifies."""
    store = bench.open()
    put_all(store, move(1, words="a\x00b"), fill(dir="Open\x00Long"), ResultRecord("0x1", "X", 1, True, error="\x00"))
    await close(store)
    found = bench.open("run-2").repository
    assert [f.dir for f in found.fills(ACCOUNT)] == ["Open\ufffdLong"]
    assert found.verify_audit().is_whole
    found.close()


async def test_a_deadline_ends_the_closing_and_the_rest_waits_in_the_spool(
    file_bench: Bench, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """END-1, STO-4: a database that takes nothing holds up the end no longer than it may."""
    monkeypatch.setattr("hip3.store.database.BUSY_TIMEOUT_MS", 10)
    store = file_bench.open()
    blocker = open_blocker(file_bench)
    put_all(store, intent(1))
    began = trio.current_time()
    assert not await store.drain_and_close(3)
    assert trio.current_time() - began <= 3.1
    blocker()
    again = file_bench.open("run-2")
    assert again.recovered == 1
    await close(again)


def open_blocker(bench: Bench) -> partial[None]:
    """Another program holds the write lock of the file; called, it lets go."""
    assert bench.place.file is not None
    raw = sqlite3.connect(bench.place.file, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    return partial(raw.close)


def test_a_database_that_is_locked_at_the_start_is_said(file_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """STO-4: a start has nothing to wait for: one sentence with the place, and the lock of the store is let go."""
    monkeypatch.setattr("hip3.store.database.BUSY_TIMEOUT_MS", 10)
    store = file_bench.open()
    put_all(store, intent(1))
    kill(store)
    blocker = open_blocker(file_bench)
    with pytest.raises(
        StoreUnusable, match=r"paper\.db: .*database is locked; another program holds a lock on it: end that one"
    ):
        file_bench.open("run-2")
    blocker()
    assert file_bench.open("run-3").recovered == 1


async def test_a_locked_database_is_told_of_and_tried_again(
    file_bench: Bench, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STO-4: trouble is told once when it begins and once when it ends; nothing that was committed is lost."""
    monkeypatch.setattr("hip3.store.database.BUSY_TIMEOUT_MS", 10)
    store = file_bench.open(config=StoreConfig(queue_rows=4))
    blocker = open_blocker(file_bench)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        put_all(store, intent(1), move(1))
        await trio.sleep(30)
        assert store.waiting_rows == 2
        assert len(file_bench.troubles) == 1
        assert "database is locked" in str(file_bench.troubles[0])
        assert "2 of at most 4 records wait" in str(file_bench.troubles[0])
        put_all(store, intent(2), move(2))
        with pytest.raises(StorageUnavailable, match="4 records wait"):
            put_all(store, intent(3))
        blocker()
        await trio.sleep(30)
        assert store.waiting_rows == 0
        assert file_bench.troubles[1:] == [None]
        store.recorder.commit()
        assert await store.drain_and_close(5)
    found = file_bench.open("run-2")
    assert [o.intents[0].cloid[-1] for o in found.repository.unfinished_orders(ACCOUNT)] == ["1", "2", "3"]
    await close(found)


async def test_the_order_of_rows_is_theirs_not_the_clocks(bench: Bench) -> None:
    """STO-3: a clock that was set back behind the last row moves nothing; `verify` counts it."""
    store = bench.open()
    put_all(store, move(1, at_ms=START_MS + 500), move(2, at_ms=START_MS))
    await close(store)
    bench.clock.now_ms -= 3_600_000
    again = bench.open("run-2")
    put_all(again, move(3, at_ms=START_MS - 3_600_000))
    await close(again)
    last = bench.open("run-3").repository
    assert [row.entity_id[-1] for row in last.audit()] == ["1", "2", "3"]
    verdict = last.verify_audit()
    assert (verdict.is_whole, verdict.times_back) == (True, 2)
    last.close()


def test_money_is_never_a_float(file_bench: Bench) -> None:
    """STO-2: a float in the place of a Decimal is refused, not stored."""
    store = file_bench.open()
    put_all(store, fill(px=612.3))
    with pytest.raises(Exception, match="never a float"):
        store.writer.applier.apply(store.writer.spool.take(1))
    kill(store)


def test_the_store_names_itself_without_a_password(tmp_path: Path) -> None:
    """KEY-4: the URL of a server is shown without its password."""
    place = place_of_url("postgresql://bot:geheim@127.0.0.1/db", tmp_path)
    assert "geheim" not in place.name
