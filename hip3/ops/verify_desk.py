"""The hand of a verification on a running bot: probes, closes by exit request, an operator's hold; and waiting for notes.

It has no way to the wire of its own (RUN-1): entries are signals, closes are exit requests, holds are the operator's.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field, frozen

from hip3.bot import Bot
from hip3.core.exits import ExitReason, ExitRequest, age_ms
from hip3.core.gates import Refusal
from hip3.core.journal import Note
from hip3.ops.commands import Operator, Request
from hip3.ops.verify_probe import offer, probe
from hip3.ops.verify_trail import Trail

POLL_S = 0.005
"""Well below the batching period of 100 ms, in which a queued order can be taken back."""
ANSWER_S = 15.0
"""Ours: an answer, an ack or a reading; a post fails after 5 s by itself (POST-1)."""
CLOSE_S = 60.0  # RUN-1, item 6
ENTRY_TRIES = 3
AGAIN_S = 1.0
WHO = "hip3 verify"
_ENDED = ("order_filled", "order_canceled", "order_rejected", "order_expired")


class Unmet(Exception):
    """What was waited for did not come, or came otherwise: what, and what was seen."""


@frozen
class Entry:
    """A probe that has filled: its order, and the number of the first note about it."""

    coin: str
    cloid: str
    since: int


@define
class Desk:
    """Acts on one bot with an account and reads its notes."""

    bot: Bot
    trail: Trail
    _probes: int = field(default=0, init=False)

    async def until(self, what: str, condition: Callable[[], bool], within_s: float) -> None:
        """Waits for a condition. Raises Unmet."""
        with trio.move_on_after(within_s) as scope:
            while not condition():  # noqa: ASYNC110 - conditions of many parts, which no one event announces
                await trio.sleep(POLL_S)
        if scope.cancelled_caught:
            raise Unmet(f"{what}: not within {within_s:g} s")

    async def note(self, event: str, since: int, within_s: float = ANSWER_S, **fields: object) -> Note:
        """The first such note from number `since` on. Raises Unmet."""
        about = " ".join(f"{name} {value}" for name, value in fields.items())
        await self.until(f"{event} {about}".strip(), lambda: bool(self.trail.of(event, since, **fields)), within_s)
        return self.trail.of(event, since, **fields)[0]

    def tradable(self) -> list[str]:
        """Markets that READY-TRADING covers, quoted on both sides, with no position and no order."""
        bot = self.bot
        return [
            coin
            for coin, market in bot.markets.items()
            if bot.not_ready(coin) is None and market.both_px is not None and self.is_flat(coin)
        ]

    def is_flat(self, coin: str) -> bool:
        return self.bot.ledger.position(coin).szi == 0 and not any(self.bot.ledger.pending(coin))

    async def coin(self) -> str:
        """A market to trade. Raises Unmet."""
        await self.until("a market that is ready, quoted on both sides and flat", lambda: bool(self.tradable()), ANSWER_S)
        return self.tradable()[0]

    # ---- acting

    async def order(self, coin: str, *, fills: bool, within_s: float = CLOSE_S) -> str:
        """Offers probes until the gates let one pass; its cloid. Raises Unmet with the last refusal."""
        said = "no quote"
        with trio.move_on_after(within_s):
            while True:
                self._probes += 1
                signal = probe(self.bot, coin, self._probes, fills=fills)
                if signal is not None:
                    since = self.trail.count
                    offer(self.bot, signal)
                    judged = (await self.note("signal_judged", since, signal=signal.id)).fields
                    said = f"{judged['verdict']} {judged['detail']}"
                    if self.trail.of("order_enqueued", since, signal=signal.id):
                        return str(judged["detail"])
                    if Refusal.DAILY_TRADE_LIMIT.value in said:
                        break  # no waiting helps
                await trio.sleep(AGAIN_S)
        raise Unmet(f"{coin}: the gates let no order pass: {said}")

    async def enter(self, coin: str) -> Entry:
        """A probe that fills, the second or third where the market moved away from the first. Raises Unmet."""
        said = ""
        for _ in range(ENTRY_TRIES):
            since = self.trail.count
            cloid = await self.order(coin, fills=True)
            said = await self.ended(cloid, since)
            if self.trail.of("fill", since, cloid=cloid):
                return Entry(coin, cloid, since)
        raise Unmet(f"{coin}: no entry filled in {ENTRY_TRIES} tries, the last: {said}")

    async def ended(self, cloid: str, since: int, within_s: float = CLOSE_S) -> str:
        """How an order ended: the name of the event. Raises Unmet."""

        def ends() -> list[str]:
            return [event for event in _ENDED if self.trail.of(event, since, cloid=cloid)]

        await self.until(f"the end of order {cloid}", lambda: bool(ends()), within_s)
        return ends()[0]

    def ask_close(self, coin: str) -> None:
        """An exit request, as the timers make them; what is not filled at once, the timers carry on."""
        assert self.bot.trader is not None
        inbox = self.bot.trader.executor.inbox
        age = age_ms(self.bot.ledger.position(coin), self.bot.venue_ms)
        inbox.exits.put(ExitRequest(coin, ExitReason.VERIFY, age))
        inbox.bell.ring()

    async def close(self, coin: str, within_s: float = CLOSE_S) -> tuple[Note, Note]:
        """Closes a position through the executor: the queued order and the closed trade. Raises Unmet."""
        since = self.trail.count
        self.ask_close(coin)
        await self.note("flatten_triggered", since, coin=coin)
        queued = await self.note("reduce_only_enqueued", since, coin=coin)
        return queued, await self.note("position_closed", since, within_s, coin=coin)

    def command(self, command: str) -> bool:
        """An operator's command, as over the control socket; False where it is refused."""
        request = Request("hold" if command == "hold" else "promote", "verification")
        return bool(Operator(self.bot).obey(request, WHO)["ok"])

    async def promote(self) -> None:
        """ARMED_LIVE again after a hold. Raises Unmet."""
        with trio.move_on_after(ANSWER_S) as scope:
            while not self.command("promote"):  # noqa: ASYNC110 - each asking is a row of the audit log
                await trio.sleep(AGAIN_S)
        if scope.cancelled_caught:
            raise Unmet(f"no promotion after the hold within {ANSWER_S:g} s")
