"""Three queues, one rule per tick: the twelve rows of BAT-7, the leading edge, and what never shares an action."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.ids import CloidFactory, OrderSide, TimeInForce
from hip3.core.orders import CancelIntent, OrderIntent
from hip3.core.scheduler import Batch, Enqueued, Scheduler, SchedulerConfig
from tests.core.core_builders import SNDK, T0, D

CONFIG = SchedulerConfig(
    queue_cancel=200, queue_reduce_only=500, queue_new=1000, max_batch=50, max_inflight=100, high_water=80, period_ms=100
)
CLOIDS = CloidFactory(run_id=T0)


def new(tif: TimeInForce = TimeInForce.IOC) -> OrderIntent:
    return OrderIntent(CLOIDS.next(), SNDK, OrderSide.BUY, D("0.02"), D(600), tif, False, T0)


def reduce_only(tif: TimeInForce = TimeInForce.IOC) -> OrderIntent:
    return attrs.evolve(new(tif), reduce_only=True, side=OrderSide.SELL)


def cancel(*, oid: int | None = None) -> CancelIntent:
    return CancelIntent(SNDK, None if oid is not None else CLOIDS.next().value, oid)


def scheduler(config: SchedulerConfig = CONFIG) -> Scheduler:
    return Scheduler(config)


def tick(s: Scheduler, now: int = 0, in_flight: int = 0, *, hard_stop: bool = False) -> Batch | None:
    return s.tick(now, in_flight, hard_stop=hard_stop)


def test_row_1_the_queues_accept() -> None:
    """BAT-7.1: an intent of each kind is queued."""
    s = scheduler()
    assert [s.enqueue_new(new(), 0), s.enqueue_reduce_only(reduce_only(), 0), s.enqueue_cancel(cancel())] == [
        Enqueued.QUEUED
    ] * 3
    assert len(s) == 3


def test_row_2_the_1001st_new_order_overflows() -> None:
    """BAT-7.2: 1000 new orders fit, the next is QUEUE_FULL and is not queued."""
    s = scheduler()
    assert {s.enqueue_new(new(), 0) for _ in range(1000)} == {Enqueued.QUEUED}
    assert s.enqueue_new(new(), 0) is Enqueued.QUEUE_FULL
    assert not Enqueued.QUEUE_FULL.accepted
    assert len(s) == 1000


def test_row_3_the_501st_reduce_only_order_overflows() -> None:
    """BAT-7.3: 500 reduce-only orders fit."""
    s = scheduler()
    assert {s.enqueue_reduce_only(reduce_only(), 0) for _ in range(500)} == {Enqueued.QUEUED}
    assert s.enqueue_reduce_only(reduce_only(), 0) is Enqueued.QUEUE_FULL


def test_row_4_the_201st_cancel_overflows() -> None:
    """BAT-7.4: 200 cancels fit."""
    s = scheduler()
    assert {s.enqueue_cancel(cancel()) for _ in range(200)} == {Enqueued.QUEUED}
    assert s.enqueue_cancel(cancel()) is Enqueued.QUEUE_FULL


@pytest.mark.parametrize(
    ("in_flight", "as_new", "as_reduce_only"),
    [
        (79, Enqueued.QUEUED, Enqueued.QUEUED),
        (80, Enqueued.DEGRADED, Enqueued.DEGRADED),
        (99, Enqueued.DEGRADED, Enqueued.DEGRADED),
        (100, Enqueued.INFLIGHT_FULL, Enqueued.DEGRADED),
    ],
)
def test_row_5_degraded_from_the_high_water_mark(in_flight: int, as_new: Enqueued, as_reduce_only: Enqueued) -> None:
    """BAT-7.5, BAT-3: from 80 in flight the answer says degraded; at 100 new orders are refused, reduce-only not."""
    s = scheduler()
    assert s.enqueue_new(new(), in_flight) is as_new
    assert s.enqueue_reduce_only(reduce_only(), in_flight) is as_reduce_only
    assert len(s) == as_new.accepted + as_reduce_only.accepted


def test_row_6_cancels_go_alone() -> None:
    """BAT-7.6: while a cancel is pending the tick is a batch of cancels and nothing else."""
    s = scheduler()
    s.enqueue_new(new(), 0)
    s.enqueue_reduce_only(reduce_only(), 0)
    wanted = cancel()
    s.enqueue_cancel(wanted)
    assert tick(s) == Batch(cancels=(wanted,))


def test_row_7_orders_go_when_no_cancel_is_pending_reduce_only_first() -> None:
    """BAT-7.7: one batch with the reduce-only orders before the new ones, each in its order of arrival."""
    s = scheduler()
    entries, exits = [new(), new()], [reduce_only(), reduce_only()]
    for each in entries:
        s.enqueue_new(each, 0)
    for each in exits:
        s.enqueue_reduce_only(each, 0)
    assert tick(s) == Batch(orders=(*exits, *entries))
    assert len(s) == 0


def test_row_8_nothing_goes_at_the_limit() -> None:
    """BAT-7.8, BAT-2: at 100 in flight nothing goes, not even a cancel; at 99 it does."""
    s = scheduler()
    s.enqueue_cancel(cancel())
    assert tick(s, in_flight=100) is None
    assert tick(s, in_flight=99) is not None


def test_row_9_requeued_work_is_at_the_head_with_the_same_ids() -> None:
    """BAT-7.9, BAT-5: cancels and reduce-only orders go back to the head in their order; new orders never do."""
    s = scheduler()
    lost = Batch(orders=(reduce_only(), reduce_only(), new()))
    later = reduce_only()
    s.enqueue_reduce_only(later, 0)
    s.requeue(lost)
    batch = tick(s)
    assert batch is not None
    assert [o.cloid for o in batch.orders] == [lost.orders[0].cloid, lost.orders[1].cloid, later.cloid]
    first, second, third = cancel(), cancel(), cancel()
    s.enqueue_cancel(third)
    s.requeue(Batch(cancels=(first, second)))
    assert tick(s, now=100) == Batch(cancels=(first, second, third))


def test_row_10_a_tick_counts_nothing() -> None:
    """BAT-7.10, BAT-5: the number in flight is an argument; a tick keeps no count of its own."""
    s = scheduler()
    for now in (0, 100, 200):  # had a tick counted itself, 80 would be reached and new orders would wait
        s.enqueue_new(new(), 0)
        assert tick(s, now, in_flight=79) is not None


def test_row_11_every_order_leaves_once() -> None:
    """BAT-7.11: 120 orders leave in batches of at most 50, none twice and none lost."""
    s = scheduler()
    queued = [new() for _ in range(120)]
    for each in queued:
        s.enqueue_new(each, 0)
    batches = [b for now in range(0, 1000, 100) if (b := tick(s, now)) is not None]
    assert [len(b.orders) for b in batches] == [50, 50, 20]
    assert [o for b in batches for o in b.orders] == queued


def test_row_12_one_action_type_a_tick() -> None:
    """BAT-7.12, BAT-1: cancels by id and by number are two action types, so each has its own tick."""
    s = scheduler()
    kinds = [cancel(), cancel(), cancel(oid=5), cancel()]
    for each in kinds:
        s.enqueue_cancel(each)
    assert [tick(s, now) for now in (0, 100, 200)] == [
        Batch(cancels=tuple(kinds[:2])),
        Batch(cancels=(kinds[2],)),
        Batch(cancels=(kinds[3],)),
    ]


def test_above_the_high_water_mark_reduce_only_goes_alone() -> None:
    """BAT-2: from 80 in flight new orders wait; they go as soon as there is room."""
    s = scheduler()
    entry, close = new(), reduce_only()
    s.enqueue_new(entry, 0)
    s.enqueue_reduce_only(close, 0)
    assert tick(s, in_flight=80) == Batch(orders=(close,))
    assert tick(s, now=100, in_flight=80) is None
    assert tick(s, now=100, in_flight=79) == Batch(orders=(entry,))


def test_in_hard_stop_no_new_order_goes() -> None:
    """BAT-2: a hard stop lets cancels and reduce-only orders out and keeps new ones in."""
    s = scheduler()
    close = reduce_only()
    s.enqueue_new(new(), 0)
    s.enqueue_reduce_only(close, 0)
    assert tick(s, hard_stop=True) == Batch(orders=(close,))
    assert tick(s, now=100, hard_stop=True) is None


def test_dropping_returns_every_new_order() -> None:
    """BAT-5: what is dropped is handed back, so that each market is freed; the other queues stay."""
    s = scheduler()
    entries = [new(), new()]
    for each in entries:
        s.enqueue_new(each, 0)
    s.enqueue_reduce_only(reduce_only(), 0)
    assert s.drop_new_orders() == entries
    assert s.drop_new_orders() == []
    assert len(s) == 1


def test_the_first_after_an_idle_period_goes_at_once() -> None:
    """BAT-4: leading edge: no wait when nothing went in the last period; inside a period work is grouped."""
    s = scheduler()
    first, second, third = new(), new(), new()
    s.enqueue_new(first, 0)
    assert s.due_ms(1000, 0) == 1000
    assert tick(s, 1000) == Batch(orders=(first,))
    s.enqueue_new(second, 0)
    s.enqueue_new(third, 0)
    assert s.due_ms(1001, 0) == 1100
    assert tick(s, 1099) is None
    assert tick(s, 1100) == Batch(orders=(second, third))
    s.enqueue_new(new(), 0)
    assert s.due_ms(5000, 0) == 5000


def test_an_idle_tick_does_not_start_a_period() -> None:
    """BAT-4: looking into empty queues costs the next order nothing."""
    s = scheduler()
    assert tick(s, 1000) is None
    s.enqueue_new(new(), 0)
    assert tick(s, 1001) is not None


def test_nothing_is_due_where_only_an_event_can_help() -> None:
    """BAT-2: empty queues, the limit, and new orders above the high-water mark wait for an event, not for time."""
    s = scheduler()
    assert s.due_ms(0, 0) is None
    s.enqueue_new(new(), 0)
    assert s.due_ms(0, 80) is None
    assert s.due_ms(0, 79) == 0
    s.enqueue_cancel(cancel())
    assert s.due_ms(0, 80) == 0
    assert s.due_ms(0, 100) is None


def test_post_only_orders_never_share_an_action() -> None:
    """BAT-4: ALO and IOC/GTC are separate actions, in arrival order, also across the two queues."""
    s = scheduler()
    ioc, alo, gtc = new(), new(TimeInForce.ALO), new(TimeInForce.GTC)
    for each in (ioc, alo, gtc):
        s.enqueue_new(each, 0)
    assert [tick(s, now) for now in (0, 100, 200)] == [Batch(orders=(o,)) for o in (ioc, alo, gtc)]
    close = reduce_only(TimeInForce.ALO)
    s.enqueue_new(ioc, 0)
    s.enqueue_reduce_only(close, 0)
    assert [tick(s, now) for now in (300, 400)] == [Batch(orders=(close,)), Batch(orders=(ioc,))]


KINDS = st.sampled_from(["new", "alo", "reduce", "cancel", "oid", "drop", "requeue", "tick"])


@given(st.lists(st.tuples(KINDS, st.integers(0, 110), st.booleans()), max_size=80))
def test_the_rules_hold_over_any_sequence(steps: list[tuple[str, int, bool]]) -> None:
    """BAT-1, BAT-2, BAT-4, BAT-5: whatever comes in whatever order, each batch obeys every rule and nothing is lost."""
    s = scheduler(attrs.evolve(CONFIG, queue_new=5, queue_reduce_only=4, queue_cancel=3, max_batch=3))
    waiting: list[object] = []
    last_tick, last_batch, now = None, Batch(), 0
    for kind, in_flight, stop in steps:
        now += 37
        item = {"new": new, "alo": lambda: new(TimeInForce.ALO), "reduce": reduce_only}.get(kind)
        if item is not None:
            order = item()
            put = s.enqueue_reduce_only if order.reduce_only else s.enqueue_new
            if put(order, in_flight).accepted:
                waiting.append(order)
        elif kind in ("cancel", "oid"):
            wanted = cancel(oid=now if kind == "oid" else None)
            if s.enqueue_cancel(wanted).accepted:
                waiting.append(wanted)
        elif kind == "drop":
            for dropped in s.drop_new_orders():
                waiting.remove(dropped)
        elif kind == "requeue":
            s.requeue(last_batch)
            waiting += [*last_batch.cancels, *(o for o in last_batch.orders if o.reduce_only)]
            last_batch = Batch()
        else:
            had_cancels = any(isinstance(w, CancelIntent) for w in waiting)
            batch = tick(s, now, in_flight, hard_stop=stop)
            if batch is None:
                continue
            assert last_tick is None or now - last_tick >= CONFIG.period_ms
            last_tick, last_batch = now, batch
            assert in_flight < CONFIG.max_inflight
            assert bool(batch.cancels) is had_cancels
            assert bool(batch.orders) is not had_cancels
            assert 1 <= len(batch.cancels) + len(batch.orders) <= 3
            assert len({c.cloid is None for c in batch.cancels}) <= 1
            assert len({o.tif is TimeInForce.ALO for o in batch.orders}) <= 1
            assert not any(not o.reduce_only for o in batch.orders) or not (stop or in_flight >= CONFIG.high_water)
            for gone in (*batch.cancels, *batch.orders):
                waiting.remove(gone)
        assert len(s) == len(waiting)
