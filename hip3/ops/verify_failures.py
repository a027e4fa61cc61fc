"""Item 10 of the verification: failures, produced for real, and what the bot makes of them (RUN-1).

A refusal and an order taken back before it is sent can be had anywhere. Lost requests are faults of the embedded exchange:
on another venue nobody can produce them safely, which the result says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define

from hip3.core.events import OrderUpdate
from hip3.core.ids import OrderSide
from hip3.core.units import ZERO
from hip3.exchange.faults import Drop, Faults, Point, Rule
from hip3.ops.verify_desk import ANSWER_S, CLOSE_S, Desk, Unmet

TAKE_BACK_TRIES = 3
NO_OID = 1
"""An order that nobody has: its cancel changes nothing anywhere."""


@define
class Failures:
    """Produces each failure and says what was seen of it. `faults` are those of the embedded exchange, None elsewhere."""

    desk: Desk
    faults: Faults | None

    async def run(self) -> list[str]:
        """Evidence, one line for each kind of failure. Raises Unmet."""
        said = [await self._rejected(), await self._taken_back()]
        if self.faults is None:
            return [*said, "lost requests (send_failure, requeued): only on the embedded paper exchange"]
        return [
            *said,
            await self._close_lost(self.faults),
            await self._cancel_lost(self.faults),
            await self._entry_lost(self.faults),
        ]

    async def _rejected(self) -> str:
        """A refused order is cleaned up: its market can be traded at once."""
        desk = self.desk
        coin, since = await desk.coin(), desk.trail.count
        cloid = await desk.order(coin, fills=False)
        refused = await desk.note("action_rejected", since, cloid=cloid)
        await desk.until(f"{coin} free again after the refusal", lambda: desk.is_flat(coin), ANSWER_S)
        return f"action_rejected {cloid}: {refused.fields['error']}; {coin} is free again"

    async def _taken_back(self) -> str:
        """An order that is queued when entries end is released, and never leaves."""
        desk = self.desk
        await desk.until("two markets that are ready, quoted and flat", lambda: len(desk.tradable()) > 1, ANSWER_S)
        for _ in range(TAKE_BACK_TRIES):
            said = await self._take_back(*desk.tradable()[:2])
            if said is not None:
                return said
        raise Unmet(f"no order was still queued at the hold, in {TAKE_BACK_TRIES} tries")

    async def _take_back(self, first: str, second: str) -> str | None:
        """One try: an order goes out, one behind it waits for the batching period, and the operator holds."""
        desk, since = self.desk, self.desk.trail.count
        ahead = await desk.order(first, fills=False)
        await desk.note("order_sent", since, cloid=ahead)
        queued = await desk.order(second, fills=False)
        desk.command("hold")
        await desk.until(f"{first}, {second} free again", lambda: desk.is_flat(first) and desk.is_flat(second), CLOSE_S)
        await desk.promote()
        released = desk.trail.of("mark_released", since, cloid=queued)
        if not released or desk.trail.of("order_sent", since, cloid=queued):
            return None
        return f"mark_released {queued}: {released[0].fields['reason']}; it was not sent"

    async def _close_lost(self, faults: Faults) -> str:
        """A close whose request is lost goes again with the same id, and the position ends."""
        desk = self.desk
        entry = await desk.enter(await desk.coin())
        since = desk.trail.count
        with _lost(faults, "order"):
            queued, _ = await desk.close(entry.coin)
        cloid = queued.fields["cloid"]
        await desk.note("send_failure", since)
        await desk.note("requeued", since)
        times = len(desk.trail.of("order_sent", since, cloid=cloid))
        if times < 2:
            raise Unmet(f"close {cloid} was sent {times} times although its first request was lost")
        return f"send_failure, requeued: close {cloid} was sent {times} times, position_closed"

    async def _cancel_lost(self, faults: Faults) -> str:
        """A cancel whose request is lost goes again."""
        desk = self.desk
        assert desk.bot.trader is not None
        coin, since = await desk.coin(), desk.trail.count
        now = desk.bot.io.clock.wall_ms()
        stranger = OrderUpdate(coin, OrderSide.BUY, ZERO, ZERO, ZERO, NO_OID, None, "open", now)
        timeout_s = desk.bot.settings.executor.post_timeout_ms / 1000
        with _lost(faults, "cancel"):
            desk.bot.trader.executor.cancel_stray(stranger)
            await desk.note("requeued", since, timeout_s + ANSWER_S)
            answered = await desk.note("cancel_answered", since, timeout_s + ANSWER_S, oid=NO_OID)
        return f"send_failure, requeued: cancel of oid {NO_OID}, then answered: {answered.fields['error']}"

    async def _entry_lost(self, faults: Faults) -> str:
        """An entry whose request is lost is in doubt until its absence is proved, and is not sent again."""
        desk = self.desk
        coin, since = await desk.coin(), desk.trail.count
        with _lost(faults, "order"):
            cloid = await desk.order(coin, fills=False)
            await desk.note("send_failure", since, desk.bot.settings.executor.post_timeout_ms / 1000 + ANSWER_S)
            end = await desk.ended(cloid, since)
        times = len(desk.trail.of("order_sent", since, cloid=cloid))
        if times != 1:
            raise Unmet(f"entry {cloid} was sent {times} times: a new order is never sent again")
        return f"send_failure: entry {cloid} was sent once, {end}"


@contextmanager
def _lost(faults: Faults, kind: str) -> Iterator[None]:
    """The next action of this type is lost on its way; at the end of the block nothing of it is left."""
    rule = Rule(Point.BEFORE_ADMISSION, Drop(), lambda subject: subject == kind)
    faults.add(rule)
    try:
        yield
    finally:
        faults.rules.remove(rule)
