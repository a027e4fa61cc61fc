"""Three queues and one rule per tick (BAT-1...5): cancels, then reduce-only, then new orders.

One tick is at most one post, one signed action, one nonce.

Pure: `tick` says what goes out now, given the time and the number of posts in flight, and never changes that number.
"""

from __future__ import annotations

import enum
from collections import deque

from attrs import define, field, frozen

from hip3.core.ids import TimeInForce
from hip3.core.orders import CancelIntent, OrderIntent


class Enqueued(enum.Enum):
    """What became of an intent handed to the scheduler (BAT-3)."""

    QUEUED = "queued"
    DEGRADED = "queued; posts in flight are above the high-water mark"
    QUEUE_FULL = "refused: the queue is full"
    INFLIGHT_FULL = "refused: posts in flight are at the limit"

    @property
    def accepted(self) -> bool:
        return self in (Enqueued.QUEUED, Enqueued.DEGRADED)


@frozen
class Batch:
    """One signed action's worth of work: either cancels or orders, never both."""

    cancels: tuple[CancelIntent, ...] = ()
    orders: tuple[OrderIntent, ...] = ()


@frozen
class SchedulerConfig:
    """Capacities count intents; `period_ms` is the batching period (PROTOCOL 8: group every 0.1 s)."""

    queue_cancel: int
    queue_reduce_only: int
    queue_new: int
    max_batch: int
    max_inflight: int
    high_water: int
    period_ms: int


def admission(config: SchedulerConfig, queued: int, in_flight: int) -> Enqueued:
    """What a new order is told with `queued` new orders waiting and `in_flight` posts unanswered (BAT-3)."""
    if in_flight >= config.max_inflight:
        return Enqueued.INFLIGHT_FULL
    if queued >= config.queue_new:
        return Enqueued.QUEUE_FULL
    return Enqueued.DEGRADED if in_flight >= config.high_water else Enqueued.QUEUED


@define
class Scheduler:
    config: SchedulerConfig
    _cancels: deque[CancelIntent] = field(factory=deque)
    _reduce_only: deque[OrderIntent] = field(factory=deque)
    _new: deque[OrderIntent] = field(factory=deque)
    _last_tick_ms: int | None = None

    def __len__(self) -> int:
        return len(self._cancels) + len(self._reduce_only) + len(self._new)

    @property
    def queued_new(self) -> int:
        return len(self._new)

    def enqueue_new(self, intent: OrderIntent, in_flight: int) -> Enqueued:
        result = admission(self.config, len(self._new), in_flight)
        if result.accepted:
            self._new.append(intent)
        return result

    def enqueue_reduce_only(self, intent: OrderIntent, in_flight: int) -> Enqueued:
        """Queued even at the in-flight limit, which the answer says; QUEUE_FULL is critical to the caller."""
        if len(self._reduce_only) >= self.config.queue_reduce_only:
            return Enqueued.QUEUE_FULL
        self._reduce_only.append(intent)
        return Enqueued.DEGRADED if in_flight >= self.config.high_water else Enqueued.QUEUED

    def enqueue_cancel(self, intent: CancelIntent) -> Enqueued:
        """QUEUE_FULL is critical to the caller. The cancel of an order whose cancel is queued already is that one."""
        if intent in self._cancels:
            return Enqueued.QUEUED
        if len(self._cancels) >= self.config.queue_cancel:
            return Enqueued.QUEUE_FULL
        self._cancels.append(intent)
        return Enqueued.QUEUED

    def requeue(self, batch: Batch) -> None:
        """Puts cancels and closing orders back at the head, same ids; new orders and stops are never among them (BAT-5)."""
        for asked_again in [c for c in self._cancels if c in batch.cancels]:
            self._cancels.remove(asked_again)
        self._cancels.extendleft(reversed(batch.cancels))
        self._reduce_only.extendleft(reversed([o for o in batch.orders if o.may_be_resent]))

    def drop_new_orders(self) -> list[OrderIntent]:
        """Empties the queue of new orders and returns what was in it."""
        dropped = list(self._new)
        self._new.clear()
        return dropped

    def due_ms(self, now_ms: int, in_flight: int) -> int | None:
        """When `tick` could next return something; None where only a new event can change that."""
        if not len(self) or in_flight >= self.config.max_inflight:
            return None
        if in_flight >= self.config.high_water and not (self._cancels or self._reduce_only):
            return None
        return now_ms if self._last_tick_ms is None else max(now_ms, self._last_tick_ms + self.config.period_ms)

    def tick(self, now_ms: int, in_flight: int, *, hard_stop: bool) -> Batch | None:
        """What goes out now. Leading edge: the first after an idle period goes at once (BAT-4)."""
        if in_flight >= self.config.max_inflight:
            return None
        if self._last_tick_ms is not None and now_ms - self._last_tick_ms < self.config.period_ms:
            return None
        batch = self._next_batch(in_flight, hard_stop=hard_stop)
        if batch is not None:
            self._last_tick_ms = now_ms
        return batch

    def _next_batch(self, in_flight: int, *, hard_stop: bool) -> Batch | None:
        if self._cancels:
            # By cloid and by oid are two action types, so one batch holds one kind.
            by_cloid = self._cancels[0].cloid is not None
            cancels: list[CancelIntent] = []
            while self._cancels and len(cancels) < self.config.max_batch:
                if (self._cancels[0].cloid is not None) is not by_cloid:
                    break
                cancels.append(self._cancels.popleft())
            return Batch(cancels=tuple(cancels))
        orders = self._take(self._reduce_only, [])
        if not hard_stop and in_flight < self.config.high_water:
            orders = self._take(self._new, orders)
        return Batch(orders=tuple(orders)) if orders else None

    def _take(self, queue: deque[OrderIntent], orders: list[OrderIntent]) -> list[OrderIntent]:
        """Adds from `queue` while it fits; ALO never shares an action with IOC or GTC (PROTOCOL 6, block order)."""
        while queue and len(orders) < self.config.max_batch:
            if orders and (queue[0].tif is TimeInForce.ALO) != (orders[0].tif is TimeInForce.ALO):
                break
            orders.append(queue.popleft())
        return orders
