"""What a store lets go after days: trails and keys of events, in small steps, gone on with after a kill, and said."""

from __future__ import annotations

import random

import pytest
import trio
from attrs import evolve
from sqlalchemy.exc import OperationalError
from trio.testing import MockClock

from hip3.core.records import ProcessedRecord, SignalRecord, StateRecord
from hip3.core.scribe import CURSOR_TIME_KEY
from hip3.store import retention, schema
from hip3.store.retention import DAY_MS, EVENT_DAYS, PRUNED_MS, STEP_ROWS, step
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
    signal,
)

TRAIL = {"filters": [], "gates": [{"name": "Edge", "verdict": "pass"}], "judged_after_ms": 3}


def seen(n: int, at_ms: int, trail: dict[str, object] | None = None) -> SignalRecord:
    return evolve(signal(n), detected_ms=at_ms, trail=TRAIL if trail is None else trail)


def write(store: Store) -> None:
    """The writer's turn."""
    store.writer.applier.apply(store.writer.spool.take(1 << 20))
    store.writer.spool.applied(store.writer.spool.next_seq - 1)


def whole_pass(store: Store, days: int, now_ms: int) -> retention.Progress:
    """Steps until the pass has ended."""
    done = None
    while (found := step(store.writer.applier, store.writer.spool.header, days, now_ms)) is not None:
        done = found
    assert done is not None
    assert done.ended
    return done


def pruned(store: Store, account: str = ACCOUNT) -> list[str]:
    return [s.signal_id for s in store.repository.signals(account) if PRUNED_MS in s.trail]


def test_trails_of_before_the_day_go_and_everything_else_stays(bench: Bench) -> None:
    """STO-2: by whole days of UTC; the signal with inputs and verdict stays, and every row of every other table."""
    store = bench.open()
    put_all(store, *one_of_each()[:4], *one_of_each()[5:], fill(2), intent(3))
    for n, hours in ((1, 0), (2, 23), (3, 24), (4, 72)):
        put_all(store, seen(n, START_MS + hours * 3_600_000))
    put_all(store, seen(9, START_MS, {}))
    write(store)
    reader = store.repository
    before = (
        reader.intents(ACCOUNT),
        reader.fills(ACCOUNT),
        reader.trades(ACCOUNT),
        reader.results(ACCOUNT, "0x" + "0" * 31 + "1"),
    )
    signals = {s.signal_id: s for s in reader.signals(ACCOUNT)}
    now = START_MS + 3 * DAY_MS + 5
    done = whole_pass(store, 2, now)
    assert (done.trails, done.before_ms, pruned(store)) == (2, START_MS + DAY_MS, ["s-1", "s-2"])
    for after in reader.signals(ACCOUNT):
        gone = {PRUNED_MS: now} if after.signal_id in ("s-1", "s-2") else signals[after.signal_id].trail
        assert after == evolve(signals[after.signal_id], trail=gone)
    again = (
        reader.intents(ACCOUNT),
        reader.fills(ACCOUNT),
        reader.trades(ACCOUNT),
        reader.results(ACCOUNT, "0x" + "0" * 31 + "1"),
    )
    assert again == before
    assert len(reader.follow_ups(ACCOUNT)) == 1
    assert step(store.writer.applier, store.writer.spool.header, 2, now + 60_000) is None, "once a day"
    verdict = reader.verify_audit()
    assert verdict.is_whole, verdict.faults
    (said,) = reader.audit(category="store")
    assert (said.entity_id, said.to_state, said.account, said.run_id) == ("retention", "PRUNED", ACCOUNT, "run-1")
    assert said.reason_message.startswith("pruned: 2 trails of signals of before 2026-01-02")
    assert said.metadata["trails_before_ms"] == START_MS + DAY_MS


def test_a_later_day_takes_what_has_come_of_age_once(bench: Bench) -> None:
    """STO-2: the time at which a trail went stays; fewer days take more, more bring nothing back, 0 takes none."""
    store = bench.open()
    for n in range(6):
        put_all(store, seen(n, START_MS + n * DAY_MS))
    write(store)
    for day, days, expected in ((3, 2, 1), (3, 1, 1), (4, 2, 2), (5, 1, 4), (6, 30, 4), (7, 0, 4)):
        step_day = START_MS + day * DAY_MS
        while step(store.writer.applier, store.writer.spool.header, days, step_day) is not None:
            pass
        assert pruned(store) == [f"s-{n}" for n in range(expected)], (day, days)
    trails = {s.signal_id: s.trail.get(PRUNED_MS) for s in store.repository.signals(ACCOUNT)}
    assert trails["s-0"] == START_MS + 3 * DAY_MS
    assert trails["s-3"] == START_MS + 5 * DAY_MS
    assert len(store.repository.audit(category="store")) == 3


def test_keys_of_events_go_a_week_behind_the_cursor(bench: Bench) -> None:
    """REC-2: nothing that a start asks for again is forgotten, however long ago the bot ran; the fills stay all."""
    store = bench.open()
    for n in range(20):
        put_all(store, ProcessedRecord(f"fill:{n}", START_MS + n * DAY_MS, START_MS), fill(n))
    put_all(store, StateRecord(CURSOR_TIME_KEY, str(START_MS + 10 * DAY_MS), START_MS))
    write(store)
    done = whole_pass(store, 0, START_MS + 300 * DAY_MS)
    left = {f"fill:{n}" for n in range(10 - EVENT_DAYS, 20)}
    assert (done.events, store.repository.processed(ACCOUNT)) == (10 - EVENT_DAYS, left)
    assert len(store.repository.fills(ACCOUNT)) == 20
    put_all(store, StateRecord(CURSOR_TIME_KEY, str(START_MS + 900 * DAY_MS), START_MS))
    write(store)
    whole_pass(store, 0, START_MS + 301 * DAY_MS)
    assert store.repository.processed(ACCOUNT) == set()


def test_without_a_cursor_no_key_goes(bench: Bench) -> None:
    """REC-2: an account that was never followed says nothing of how far a start reaches back."""
    store = bench.open()
    put_all(store, ProcessedRecord("fill:1", START_MS, START_MS))
    write(store)
    assert whole_pass(store, 0, START_MS + 300 * DAY_MS).events == 0
    assert store.repository.processed(ACCOUNT) == {"fill:1"}


@pytest.mark.parametrize("seed", range(3))
def test_a_pass_that_was_killed_is_gone_on_with(file_bench: Bench, seed: int) -> None:
    """LESSONS 31: killed between any two steps, with records coming in and two accounts: each trail goes once, one audit row
    counts all of them, and no step takes more than STEP_ROWS."""
    draw = random.Random(seed)
    for account in (OTHER, ACCOUNT):
        store = file_bench.open("run-1", account=account)
        for n in range(500):
            put_all(store, seen(n, START_MS + n // 7))
        write(store)
        kill(store)
    now, steps, last = START_MS + 2 * DAY_MS, 0, 0
    store = file_bench.open("run-2")
    while (done := step(store.writer.applier, store.writer.spool.header, 1, now + steps)) is not None:
        assert 0 <= done.trails - last <= STEP_ROWS
        last, steps = done.trails, steps + 1
        put_all(store, seen(1000 + steps, now), move(steps))
        if draw.random() < 0.5:
            kill(store)
            store = file_bench.open(f"run-{3 + steps}")
        write(store)
    assert steps == 2 * 3 + 1
    assert len(pruned(store)) == len(pruned(store, OTHER)) == 500
    (said,) = store.repository.audit(category="store")
    assert said.metadata["trails"] == 1000
    assert store.repository.verify_audit().is_whole
    assert len(store.repository.signals(ACCOUNT, now)) == steps


def test_a_step_that_fails_changes_nothing(file_bench: Bench) -> None:
    """LESSONS 31: trails, the place of the pass and its audit row move together or not at all."""
    store = file_bench.open()
    put_all(store, seen(1, START_MS), StateRecord(CURSOR_TIME_KEY, str(START_MS), START_MS))
    write(store)
    applier, now = store.writer.applier, START_MS + 2 * DAY_MS
    with applier.connection() as connection, connection.begin():
        connection.exec_driver_sql("ALTER TABLE processed_events RENAME TO mislaid")
    applier.disconnect()
    assert step(applier, store.writer.spool.header, 1, now) is not None
    with pytest.raises(OperationalError, match="processed_events"):
        step(applier, store.writer.spool.header, 1, now)
    with applier.connection() as connection, connection.begin():
        connection.exec_driver_sql("ALTER TABLE mislaid RENAME TO processed_events")
    applier.disconnect()
    assert '"ended":false' in store.repository.state(schema.OWN)[retention.STATE]
    assert store.repository.audit() == []
    assert whole_pass(store, 1, now).trails == 1


async def test_the_writer_prunes_each_day_and_goes_on_writing(bench: Bench, autojump_clock: MockClock) -> None:
    """STO-2, STO-4: a run over several days: each day one pass; records that come meanwhile are all written."""
    store = bench.open(config=StoreConfig(trail_days=1))
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        for day in range(5):
            for n in range(3):
                put_all(store, seen(10 * day + n, bench.clock.now_ms), move(10 * day + n))
            await trio.sleep(130)
            bench.clock.now_ms += DAY_MS
        assert await store.drain_and_close(5)
    left = bench.open("run-2")
    assert pruned(left) == [f"s-{10 * day + n}" for day in range(3) for n in range(3)]
    assert len(left.repository.signals(ACCOUNT)) == 15
    assert left.repository.verify_audit().is_whole
    assert [row.metadata["trails"] for row in left.repository.audit(category="store")] == [3, 3, 3]


async def test_a_stop_in_the_middle_of_a_pass_ends_the_run_in_order(file_bench: Bench) -> None:
    """END-1, STO-4: with threads: the step that is under way is finished, the end of the run is on record, nothing waits."""
    first = file_bench.open()
    for n in range(3000):
        put_all(first, seen(n, START_MS + n))
    write(first)
    kill(first)
    file_bench.clock.now_ms += 2 * DAY_MS
    store = file_bench.open("run-2", config=StoreConfig(trail_days=1), run_sync=in_thread)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        await trio.sleep(0.25)
        put_all(store, intent(1))
        assert await store.drain_and_close(10)
    left = file_bench.open("run-3")
    assert left.recovered == 0
    (_, run, _) = left.repository.runs(ACCOUNT)
    assert run.ended_ms is not None
    assert 0 < len(pruned(left)) < 3000
