"""What the next run goes on from is the same from the store as from the records themselves (REC-1, REC-2)."""

from __future__ import annotations

from attrs import evolve
from trio.testing import MockClock

from hip3.core.records import Record, StateRecord, Transition
from hip3.core.remembered import Remembered, remembered_from
from hip3.core.risk import DAY_MS
from hip3.core.scribe import CURSOR_TIME_KEY, NONCE_KEY
from hip3.simulate.world import open_world
from hip3.store.memory import remember
from tests.app.app_builders import FAST, bot_settings, dislocated
from tests.store.store_builders import ACCOUNT, OTHER, START_MS, Bench, fill, intent, put_all, result, trade

HOUR_MS = 3_600_000


def told(memory: Remembered) -> tuple[object, ...]:
    """Without the order of orders and fills, which nobody looks at."""
    orders = sorted(memory.orders, key=lambda order: order.intent.cloid)
    return (memory.values, orders, sorted(memory.seen_fills), memory.entries_today, memory.pnl_today_usd, memory.last_row_ms)


def history() -> list[Record]:
    """Two days: orders that ended and did not, one sent twice, fills before and after the cursor."""
    yesterday = START_MS - HOUR_MS
    return [
        intent(1),
        result(1),
        evolve(intent(2), reduce_only=True),
        evolve(intent(2), reduce_only=True, nonce=START_MS + 500),
        evolve(intent(3), sent_ms=yesterday, created_ms=yesterday),
        result(3, "OPEN", terminal=False),
        intent(4),
        fill(1, time_ms=yesterday - 60_000),
        fill(2, time_ms=yesterday - 1000),
        fill(3),
        trade(1),
        evolve(trade(2), exit_ms=yesterday),
        evolve(trade(3), exit_ms=START_MS + DAY_MS - 1),
        StateRecord(CURSOR_TIME_KEY, str(START_MS), START_MS),
        StateRecord(NONCE_KEY, "17", START_MS),
        StateRecord("gone", "1", START_MS),
        StateRecord("gone", None, START_MS),
    ]


async def test_the_store_remembers_what_the_records_say(bench: Bench) -> None:
    """REC-1, GATE-6, NON-1: open orders, values, booked fills since the cursor, entries and result of today."""
    store = bench.open()
    put_all(store, *history())
    assert await store.drain_and_close(20)
    later = bench.open("run-2", account=OTHER)
    now = START_MS + HOUR_MS
    found = remember(later.repository, ACCOUNT, now)
    assert told(found) == told(remembered_from(history(), now))
    assert [order.intent.nonce - START_MS for order in found.orders] == [3, 500, 4]  # the oldest first
    assert found.entries_today == 2
    assert told(remember(later.repository, OTHER, now)) == told(Remembered())


async def test_what_the_whole_bot_writes_is_remembered_alike(bench: Bench, autojump_clock: MockClock) -> None:
    """STO-1, REC-1: every record of a run that was killed while it held, on either database: nothing is refused, and what a
    new run goes on from is what the records say."""
    async with open_world(bot_settings(), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        await world.kill()
        commits, records, now = list(world.recorder.commits), list(world.recorder.records), world.clock.wall_ms()
    store = bench.open()
    for commit in commits:
        put_all(store, *commit)
    assert await store.drain_and_close(20)
    later = bench.open("run-2")
    assert told(remember(later.repository, ACCOUNT, now)) == told(remembered_from(records, now))
    transitions = [record for record in records if isinstance(record, Transition)]
    assert [(row.category, row.entity_id, row.to_state) for row in later.repository.audit()] == [
        (record.category, record.entity_id, record.to_state) for record in transitions
    ]
    assert len(transitions) > 10
    assert later.repository.verify_audit().is_whole
    assert bench.troubles == []


async def test_a_new_day_begins_at_zero(bench: Bench) -> None:
    """GATE-6: yesterday's entries and losses are not today's."""
    store = bench.open()
    put_all(store, *history())
    assert await store.drain_and_close(20)
    later = bench.open("run-2")
    now = START_MS + DAY_MS
    assert told(remember(later.repository, ACCOUNT, now)) == told(remembered_from(history(), now))
    assert remember(later.repository, ACCOUNT, now).entries_today == 0
