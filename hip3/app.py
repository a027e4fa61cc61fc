"""Composition root: the rings, and the one way out (DESIGN 3). The only holder of a ring nursery.

Ring 2 (market data, timers) is cancelled first and whole; ring 1 (account link, position, executor, risk, reconcile,
halt) outlives the flatten; what the process owns around them (signals, the paper exchange, the display) is ring 0 and
belongs to the caller. A crash in any task takes the same road as Ctrl+C, and an error on the way out never hides the
first one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio
from attrs import define, evolve, field, frozen

from hip3.bot import Bot, HaltFlatten
from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.core.errors import first_leaf
from hip3.core.exits import ExitReason
from hip3.core.remembered import ENDED_KEY
from hip3.core.run_mode import RunMode
from hip3.fsm.lifecycle import LifecycleEvent, LifecycleState
from hip3.fsm.order import OrderState
from hip3.fsm.ready import Condition
from hip3.fsm.safety import SafetyMode
from hip3.io.certificate import FlatCertificate
from hip3.io.flatten import Flattener, FlattenTarget
from hip3.ops.exit_config import exit_config
from hip3.ops.stop import Stop
from hip3.tasks.halt import HaltTask
from hip3.tasks.reconcile import ABSENCE_MARGIN_MS

LAST_LOOK_S = 1.0
"""After flattening was given up: how long the venue is asked what is left, so that the list is true."""
CAUGHT_UP_LOOK_S = 0.1
BOOK_TRIES = 3
"""How often fills that are missing from the books are asked for at the end, each time for as long."""


@frozen
class Outcome:
    """How a run ended, and when (wall ms). `exit_code` by END-3; `residual` says what is left, one sentence each."""

    exit_code: int
    flat: bool
    certificate: FlatCertificate | None
    error: BaseException | None
    stop_reason: str
    ended_ms: int

    @property
    def residual(self) -> tuple[str, ...]:
        return self.certificate.residual if self.certificate else ()


@define
class App:
    """Runs one bot from SYNC to its end."""

    bot: Bot
    stop: Stop
    keep_certificate: Callable[[FlatCertificate], str | None] = lambda _certificate: None
    """Puts a certificate where it outlives the process; returns why it could not. Never raises."""
    progress: list[tuple[int, str, str]] = field(factory=list)
    """Steps of the way out for the display: wall ms, word, sentence."""
    certificate: FlatCertificate | None = None
    error: BaseException | None = None
    _halt_scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _executor_ended: trio.Event = field(factory=trio.Event, init=False)
    _leaving: bool = field(default=False, init=False)

    async def run(self) -> Outcome:
        """Trades until the stop is requested or something breaks, then ends flat or says what is left."""
        bot = self.bot
        bot.lifecycle.fire(LifecycleEvent.LOADED)
        bot.lifecycle.fire(LifecycleEvent.CHECKED)
        try:
            async with trio.open_nursery() as services:
                self._start_services(services)
                await self._trade()
                await self._way_out()
                services.cancel_scope.cancel()
        except* Exception as group:
            self._failed(group)
        # A crashed service has cancelled its ring; the flatten needs none of it.
        await self._way_out()
        return self._outcome()

    def _failed(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        first = first_leaf(error)
        what = f"{type(first).__name__}: {first}"
        self.bot.note("critical", "task_crashed", error=what)
        self.bot.safety.add(ReasonCode.INTERNAL_ERROR, Severity.HALT, "process", what, Clears.NEVER)
        self.stop.request_once(f"a task crashed: {what}")

    # ---- rings

    def _start_services(self, nursery: trio.Nursery) -> None:
        trader = self.bot.trader
        if trader is None:
            return
        for service in (trader.position, trader.risk, trader.account_link, trader.reconcile, trader.dead_man):
            nursery.start_soon(service.run)
        nursery.start_soon(self._executor_service)
        nursery.start_soon(self._halt_service)

    async def _executor_service(self) -> None:
        assert self.bot.trader is not None
        try:
            await self.bot.trader.executor.run()
        finally:
            self._executor_ended.set()

    async def _halt_service(self) -> None:
        trader = self.bot.trader
        assert trader is not None
        halt = HaltTask(
            is_halted=lambda: self.bot.safety.mode is SafetyMode.HALT and not self._leaving,
            purge=trader.executor.purge,
            flatten=self._flatten,
            tell=self.bot.on_halt_flatten,
            clock=self.bot.io.clock,
            journal=self.bot.journal,
            bell=self.bot.halt_bell,
        )
        with self._halt_scope:
            await halt.run()

    async def _trade(self) -> None:
        """Ring 2, until the stop."""
        try:
            async with trio.open_nursery() as trading:
                for task in (self.bot.market_link.run, self.bot.timers.run, self.bot.metadata.run):
                    trading.start_soon(task)
                if self.bot.run_mode is RunMode.BACKFILL_ONLY:
                    trading.start_soon(self._end_when_caught_up)
                if self.bot.trader is not None:  # observation has no account that could become ready
                    trading.start_soon(self.bot.ready_watch.run)
                    trading.start_soon(self._run_when_ready)
                await self.stop.requested.wait()
                trading.cancel_scope.cancel()
        except* Exception as group:
            self._failed(group)

    async def _end_when_caught_up(self) -> None:
        """REC-5: the books agree with the venue, and no order is in doubt any more."""
        of_account = (Condition.ORDER_SNAPSHOT, Condition.FILLS_SNAPSHOT, Condition.POSITION_SYNCED)
        while not all(map(self.bot.ready.holds, of_account)) or self.bot.ledger.in_doubt():  # noqa: ASYNC110 - five things
            await trio.sleep(CAUGHT_UP_LOOK_S)
        self.stop.request_once("the books are up to date")

    async def _run_when_ready(self) -> None:
        """SYNC ends with the first READY-TRADING; what is lost later stops entries and is no SYNC again."""
        await self.bot.ready_watch.wait_ready()
        if self.bot.lifecycle.state is LifecycleState.SYNC:
            self.bot.lifecycle.fire(LifecycleEvent.READY)

    # ---- the way out

    async def _way_out(self) -> None:
        """Stop entries, settle, cancel, flatten, verify (END-1). Runs once; shielded and dated; never raises."""
        if self._leaving:
            return
        self._leaving = True
        bot, trader = self.bot, self.bot.trader
        bot.safety.add(ReasonCode.SHUTDOWN, Severity.SAFE, "process", self.stop.reason, Clears.NEVER)
        bot.lifecycle.fire(LifecycleEvent.STOP)
        if trader is None:
            self._walk(LifecycleEvent.SETTLED, LifecycleEvent.CANCELED, LifecycleEvent.VERIFIED_FLAT, LifecycleEvent.CLOSED)
            return
        trader.executor.purge("shutdown")
        self._halt_scope.cancel()
        shutdown = bot.settings.shutdown
        most_s = shutdown.settle_ms / 1000 + shutdown.flatten_deadline_s + (3 + BOOK_TRIES) * LAST_LOOK_S
        with trio.CancelScope(shield=True, deadline=trio.current_time() + most_s):
            try:
                await self._settle(shutdown.settle_ms / 1000)
                self._walk(LifecycleEvent.SETTLED)
                self.certificate = await self._flatten_or_give_up()
            except Exception as e:
                self._failed(e)
                await self._look_after_failure()
            await self._book_the_rest()
            await self._withdraw_the_switch()
            trader.executor.abandon("the process ends")
        flat = self.certificate is not None and self.certificate.flat and not self.stop.gave_up.is_set()
        bot.scribe.state(ENDED_KEY, f"{'flat' if flat else 'exposed'}|{bot.io.clock.wall_ms()}")
        bot.scribe.commit()
        if self.certificate is not None and self.certificate.flat:
            self._cancelled()
            self._walk(LifecycleEvent.VERIFIED_FLAT, LifecycleEvent.CLOSED)
        else:
            self._walk(LifecycleEvent.GAVE_UP)

    async def _withdraw_the_switch(self) -> None:
        """The venue's dead-man switch stays only over what is left (DEAD-1)."""
        assert self.bot.trader is not None
        if self.certificate is not None and self.certificate.flat and not self.stop.gave_up.is_set():
            with trio.move_on_after(LAST_LOOK_S):
                await self.bot.trader.dead_man.withdraw()

    def _walk(self, *events: LifecycleEvent) -> None:
        for event in events:
            self.bot.lifecycle.fire(event)

    def _cancelled(self) -> None:
        """Nothing rests any more: positions are what is left to do."""
        if self.bot.lifecycle.state is LifecycleState.CANCELING:
            self._walk(LifecycleEvent.CANCELED)

    async def _settle(self, most_s: float) -> None:
        """Lets posts in flight be answered: what they did is then known to the ledger and not only to the venue."""
        self._say("settle", f"{self.bot.posts.in_flight} posts in flight")
        assert self.bot.trader is not None
        with trio.move_on_after(most_s):
            async with trio.open_nursery() as nursery:
                for end in (self.stop.gave_up, self._executor_ended):  # nobody else would end the posts
                    nursery.start_soon(_cancel_after, end, nursery.cancel_scope)
                while live := self.bot.posts.live:
                    await self.bot.trader.executor.wait(live[0])
                nursery.cancel_scope.cancel()

    async def _flatten_or_give_up(self) -> FlatCertificate:
        given_up = False
        certificate: FlatCertificate | None = None

        async def watch() -> None:
            nonlocal given_up
            await self.stop.gave_up.wait()
            given_up = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            certificate = await self._flatten()
            nursery.cancel_scope.cancel()
        if not given_up:
            assert certificate is not None
            return certificate
        self._say("gave_up", "a second signal: flattening is given up; asking the venue what is left")
        return self._kept(await self._flattener().look(self._target(), LAST_LOOK_S))

    async def _look_after_failure(self) -> None:
        """The flatten itself broke: asks what is left, so that it is listed. Never raises; flat it is only if flattened."""
        try:
            seen = await self._flattener().look(self._target(), LAST_LOOK_S)
            self.certificate = self._kept(evolve(seen, flat=False))
        except Exception as e:
            self._failed(e)

    async def _book_the_rest(self) -> None:
        """Asks for the fills that no frame has brought, so that the books end as the venue's do. Never raises."""
        bot, trader = self.bot, self.bot.trader
        assert trader is not None
        if self.stop.gave_up.is_set() or not bot.ledger.is_exposed:
            return
        try:
            for _ in range(BOOK_TRIES):
                with trio.move_on_after(LAST_LOOK_S):
                    read = await trader.reconcile.ask_fills(bot.io.flatten_rest)
                    if read is not None:
                        trader.position.handle(read)
                        return
                    await trio.sleep(LAST_LOOK_S)
            bot.note("warning", "books_unread", tries=BOOK_TRIES)
        except Exception as e:
            self._failed(e)

    async def _flatten(self) -> FlatCertificate:
        """The one procedure, over its own REST client."""
        reason = ExitReason.SHUTDOWN if self._leaving else ExitReason.HALT
        incident = self.bot.safety.incident  # one that comes meanwhile is certified by the next
        for position in self.bot.ledger.held():
            if position.closing is None:  # else another exit has begun to close it
                position.exit_reason = reason.value
        if not self.bot.run_mode.sends:
            # What is there was not put there by this run.
            return self._kept(await self._flattener().look(self._target(), LAST_LOOK_S))
        certificate = self._kept(await self._flattener().run(self._target(), self.bot.settings.shutdown.flatten_deadline_s))
        if self.bot.trader is not None and not self._leaving:
            self.bot.halt_flatten = HaltFlatten(incident, certificate)
            self.bot.trader.reconcile.read_soon()  # the books hear of it although frames may have been lost
        return certificate

    def _kept(self, certificate: FlatCertificate) -> FlatCertificate:
        """The certificate, once it was put away for the operator (STOP-2)."""
        why_not = self.keep_certificate(certificate)
        if why_not is not None:
            self.bot.note("error", "certificate_not_kept", why=why_not)
        return certificate

    def _flattener(self) -> Flattener:
        bot = self.bot
        assert bot.trader is not None
        return Flattener(
            rest=bot.io.flatten_rest,
            signer=bot.trader.account.signer,
            nonces=bot.nonces,
            cloids=bot.cloids,
            exits=exit_config(bot.settings),
            clock=bot.io.clock,
            progress=self._say,
            on_closes=bot.scribe.closes,
            on_outcome=bot.scribe.closed,
        )

    def _target(self) -> FlattenTarget:
        bot = self.bot
        assert bot.trader is not None
        return FlattenTarget(
            user=bot.trader.account.user,
            specs={coin: market.spec for coin, market in bot.markets.items()},  # as last read, should an id have moved
            quiet_after_ms=self._quiet_after_ms,
            reason=f"stop: {self.stop.reason}" if self._leaving else f"HALT: {_halt_codes(bot)}",
        )

    def _quiet_after_ms(self) -> int:
        """Until when an entry in doubt may still be admitted, by our clock; 0 where none is."""
        expiries = [
            order.intent.expires_after_ms - self.bot.nonces.offset_ms + ABSENCE_MARGIN_MS
            for order in self.bot.ledger.orders.values()
            if order.state in (OrderState.SENT, OrderState.UNKNOWN) and order.intent.expires_after_ms is not None
        ]
        return max(expiries, default=0)

    def _say(self, word: str, sentence: str) -> None:
        if word == "close":
            self._cancelled()
        self.progress.append((self.bot.io.clock.wall_ms(), word, sentence))
        self.bot.note("info", "way_out", step=word, what=sentence)

    def _outcome(self) -> Outcome:
        observing = self.bot.trader is None
        flat = observing or not self.bot.run_mode.sends or (self.certificate is not None and self.certificate.flat)
        # A given-up flatten is never exit 0, even where the last look showed nothing: it was not verified (END-2).
        verified = flat and not self.stop.gave_up.is_set()
        code = 4 if not verified else 5 if self.error is not None else 0
        return Outcome(code, flat, self.certificate, self.error, self.stop.reason, self.bot.io.clock.wall_ms())


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _halt_codes(bot: Bot) -> str:
    return ", ".join(c.code.value for c in bot.safety.causes if c.severity is Severity.HALT)


async def stop_after(seconds: float | None, stop: Stop) -> None:
    """Requests the stop when the given time is over; sleeps for ever without one."""
    await trio.sleep(math.inf if seconds is None else seconds)
    stop.request_once(f"--duration {seconds:g} s is over")
