"""Executor: the only task that sends orders (EXE-1).

Its loop is serial: time-outs, answers, exits, signals through the gates, one tick of the scheduler, one post. Between a
gate and the socket there is one step without a suspension point, and the mode is looked at again in that step (EXE-2).
Everything that it learns goes to the position task as facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import trio
from attrs import define, field, frozen

from hip3.core import facts
from hip3.core.budget import TRICKLE_MS, ActionBudget
from hip3.core.causes import Safety
from hip3.core.clock import Clock
from hip3.core.closing import Closer
from hip3.core.events import OrderUpdate, PostResponse
from hip3.core.execution import EntrySent, EventSink, SendFailed
from hip3.core.exits import ExitConfig, ExitRequest
from hip3.core.explain import Witness
from hip3.core.gates import Caps
from hip3.core.ids import ClientOrderId, CloidFactory
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState
from hip3.core.opening import Opener
from hip3.core.orders import CancelIntent, OrderIntent, OrderOutcome
from hip3.core.outlook import SignalBook
from hip3.core.posts import Post, PostBook
from hip3.core.protection import ProtectionConfig
from hip3.core.risk import DailyLimits
from hip3.core.scheduler import Batch, Scheduler
from hip3.core.scribe import Scribe
from hip3.fsm.order import OrderState
from hip3.fsm.post import PostEvent
from hip3.fsm.safety import SafetyMode
from hip3.tasks.channels import Answer, Doorbell, LinkBroken, Mailbox, SignalSlots
from hip3.venue.hyperliquid import actions
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.outcomes import cancel_outcomes_of, order_outcomes_of
from hip3.venue.hyperliquid.refusals import RefusalReason, classify_error
from hip3.venue.hyperliquid.signing import SignedAction, Signer, encode_post


class Wire(Protocol):
    """What the executor needs of the account link."""

    @property
    def is_up(self) -> bool: ...

    async def send(self, text: str) -> None:
        """Raises an error of `lost` where the link broke; it is then unknown whether bytes left."""
        ...


@frozen
class ExecutorConfig:
    """`expires_after_ms`: how long an entry may still be admitted after it was made (POST-4). Ages in ms."""

    caps: Caps
    exits: ExitConfig
    expires_after_ms: int
    max_mark_age_ms: int
    protection: ProtectionConfig | None = None
    sends: bool = True
    """False: everything is decided and signed, and nothing leaves (REC-5)."""


@define
class ExecutorInbox:
    """Everything that wakes the executor."""

    signals: SignalSlots
    exits: Mailbox[ExitRequest]
    answers: Mailbox[Answer]
    bell: Doorbell


@define
class Executor:
    config: ExecutorConfig
    ledger: Ledger
    scheduler: Scheduler
    posts: PostBook
    inbox: ExecutorInbox
    facts: Mailbox[facts.Fact]
    events: EventSink
    markets: Mapping[str, MarketState]
    safety: Safety
    limits: DailyLimits
    budget: ActionBudget
    not_ready: Callable[[str], str | None]
    """The first missing READY condition for a market, or None."""
    messages_left: Callable[[int], int]
    """Messages that entries may still send in this minute, by the monotonic time of now (WS-3)."""
    signer: Signer
    nonces: NonceSource
    cloids: CloidFactory
    link: Wire
    lost: type[Exception]
    """What `link.send` raises when the link breaks."""
    book: SignalBook
    clock: Clock
    journal: Journal
    witness: Witness
    scribe: Scribe
    late_answers: int = 0
    orphan_answers: int = 0
    closer: Closer = field(init=False)
    opener: Opener = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.opener = Opener(
            caps=self.config.caps,
            expires_after_ms=self.config.expires_after_ms,
            max_mark_age_ms=self.config.max_mark_age_ms,
            ledger=self.ledger,
            scheduler=self.scheduler,
            markets=self.markets,
            safety=self.safety,
            limits=self.limits,
            budget=self.budget,
            not_ready=self.not_ready,
            messages_left=self.messages_left,
            cloids=self.cloids,
            offset_ms=lambda: self.nonces.offset_ms,
            put=self.facts.put,
            book=self.book,
            witness=self.witness,
            scribe=self.scribe,
            clock=self.clock,
            journal=self.journal,
        )
        self.closer = Closer(
            exits=self.config.exits,
            protection=self.config.protection,
            ledger=self.ledger,
            scheduler=self.scheduler,
            markets=self.markets,
            safety=self.safety,
            cloids=self.cloids,
            offset_ms=lambda: self.nonces.offset_ms,
            put=self.facts.put,
            clock=self.clock,
            journal=self.journal,
        )

    async def run(self) -> None:
        """Serves until cancelled."""
        while True:
            await self.step()
            await self._wait()

    async def step(self) -> None:
        """One round of the loop; at most one post leaves."""
        self._settle_overdue()
        self._drain_answers()
        self._drain_exits()
        for signal in self.inbox.signals.take():
            self.opener.consider(signal, self.posts.in_flight)
        sent: tuple[Post, SignedAction] | None = None
        try:
            sent = await self._send_next()
        finally:
            self.opener.tell()
        if sent is not None:
            self._after_send(*sent)
        self.scribe.commit()

    async def _send_next(self) -> tuple[Post, SignedAction] | None:
        """One tick of the scheduler and, where it gives a batch, one post; what left, or None."""
        if not self.link.is_up:
            self._drop_new("the account link is down")
            return None
        if not self.safety.allows_entry:
            self._drop_new(f"hard stop: {self.safety.mode.name}")
        if self.budget.is_exhausted:
            self._drop_new("the venue's action budget is used up")
        if self.budget.holds(self.clock.mono_ms()):
            return None
        batch = self.scheduler.tick(self.clock.mono_ms(), self.posts.in_flight, hard_stop=not self.safety.allows_entry)
        return await self._send(batch) if batch is not None else None

    async def _wait(self) -> None:
        now = self.clock.mono_ms()
        due = [self.posts.next_deadline_ms]
        if self.link.is_up:
            tick_ms = self.scheduler.due_ms(now, self.posts.in_flight)
            due.append(None if tick_ms is None else max(tick_ms, self.budget.next_action_ms or 0))
        next_ms = min((d for d in due if d is not None), default=None)
        if next_ms is not None and next_ms <= now:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(float("inf") if next_ms is None else (next_ms - now) / 1000):
            await self.inbox.bell.wait()

    # ---- what comes in

    def _drain_exits(self) -> None:
        # While no action may go, none is priced: the timers ask again, and it leaves with the price of that moment.
        is_held = self.budget.holds(self.clock.mono_ms())
        while (request := self.inbox.exits.get_nowait()) is not None:
            if not is_held:
                self.closer.close(request, self.posts.in_flight)
        if not is_held:
            self.closer.protect(self.posts.in_flight)

    def cancel_stray(self, update: OrderUpdate) -> bool:
        """Queues the cancel of a resting order that is in no book of this run; False where its market is not known here.

        It is asked for again with each reading of the account that still shows it.
        """
        market = self.markets.get(update.coin)
        if market is None:
            return False
        self.scheduler.enqueue_cancel(CancelIntent(market.spec, update.cloid, update.oid))
        self.inbox.bell.ring()
        return True

    def _drain_answers(self) -> None:
        while (answer := self.inbox.answers.get_nowait()) is not None:
            if isinstance(answer, LinkBroken):
                for post in self.posts.live:
                    self._fail(post, PostEvent.LINK_LOST, f"the link broke: {answer.reason}")
            else:
                self._on_answer(answer)

    def _on_answer(self, answer: PostResponse) -> None:
        post = self.posts.find(answer.id)
        if post is None:
            self.orphan_answers += 1
            self._note("warning", "post_response_orphan", post=answer.id)
            return
        late = post.is_ended
        self.late_answers += late
        post.answered_ms = self.clock.mono_ms()
        refused = answer.kind == "error" or (isinstance(answer.payload, dict) and answer.payload.get("status") == "err")
        self.posts.end(post, PostEvent.REFUSED if refused else PostEvent.ANSWERED)
        self._note("info", "post_response", post=post.id, nonce=post.nonce, late=late, refused=refused)
        now = self.clock.wall_ms()
        if post.batch.orders:
            outcomes = order_outcomes_of(answer, len(post.batch.orders))
            self._look_for_exhaustion(outcomes)
            for intent, outcome in zip(post.batch.orders, outcomes, strict=True):
                self.facts.put(facts.OrderAnswered(intent.cloid, outcome, now))
            return
        outcomes = cancel_outcomes_of(answer, len(post.batch.cancels))
        if self._look_for_exhaustion(outcomes):
            self.scheduler.requeue(post.batch)  # nothing of it was looked at; it goes when an action may go
        for cancel, outcome in zip(post.batch.cancels, outcomes, strict=True):
            self._note(
                "info",
                "cancel_answered",
                cloid=cancel.cloid,
                oid=cancel.oid,
                outcome=outcome.kind.value,
                error=outcome.error,
            )
            if cancel.cloid is not None:
                self.facts.put(facts.CancelAnswered(ClientOrderId(cancel.cloid), outcome, now))

    def _look_for_exhaustion(self, outcomes: list[OrderOutcome]) -> bool:
        """True where the venue refused the action for want of budget (GATE-5); entries then end until it has room again."""
        if not any(o.error is not None and classify_error(o.error) is RefusalReason.BUDGET for o in outcomes):
            return False
        if self.budget.refused(self.clock.mono_ms()):
            self._note("critical", "budget_exhausted", error=outcomes[0].error, every_ms=TRICKLE_MS)
        return True

    def _settle_overdue(self) -> None:
        for post in self.posts.overdue(self.clock.mono_ms()):
            self._fail(post, PostEvent.DEADLINE, f"no answer within {self.posts.timeout_ms} ms")

    def _fail(self, post: Post, event: PostEvent, why: str) -> None:
        """POST-3: closing orders and cancels go back to the head; an entry or a stop is in doubt and is never sent again."""
        self.posts.end(post, event)
        self._note("warning", "send_failure", post=post.id, nonce=post.nonce, why=why, sent=post.was_sent)
        for intent in post.batch.orders:
            self.facts.put(facts.OrderDoubted(intent.cloid, why))
            if not intent.reduce_only:
                self.events.put(SendFailed(intent.coin, intent.cloid.value, why))
        self.scheduler.requeue(post.batch)
        if post.batch.cancels or any(o.may_be_resent for o in post.batch.orders):
            self._note("info", "requeued", post=post.id)

    def abandon(self, why: str) -> None:
        """Ends the posts that nobody will wait for any more; what they may have done, the venue was asked (EXE-3)."""
        for post in self.posts.live:
            self.posts.end(post, PostEvent.LINK_LOST)
            self._note("warning", "send_failure", post=post.id, nonce=post.nonce, why=why, sent=post.was_sent)

    # ---- what goes out

    def purge(self, reason: str) -> int:
        """Takes every new order out of the queue and releases its market; the number taken (STOP-2)."""
        return self._drop_new(reason)

    def _drop_new(self, reason: str) -> int:
        dropped = self.scheduler.drop_new_orders()
        for intent in dropped:
            self._drop(intent, reason)
        return len(dropped)

    def _drop(self, intent: OrderIntent, reason: str) -> None:
        self.facts.put(facts.OrderDropped(intent.cloid, reason))
        self._note("warning", "mark_released", cloid=intent.cloid.value, coin=intent.coin, reason=reason)

    def _sendable(self, batch: Batch) -> Batch | None:
        """EXE-2: the last look before signing. New orders go only in ARMED_LIVE; what has ended is not sent again."""
        if batch.cancels:
            found = [(cancel, self.ledger.find(cancel.cloid, cancel.oid)) for cancel in batch.cancels]
            cancels = tuple(cancel for cancel, order in found if order is None or not order.is_terminal)
            return Batch(cancels=cancels) if cancels else None
        orders: list[OrderIntent] = []
        for intent in batch.orders:
            tracked = self.ledger.orders.get(intent.cloid.value)
            if tracked is None or tracked.is_terminal:
                continue  # a requeued closing order whose first sending turned out to have worked
            if intent.reduce_only:
                if self.safety.mode is SafetyMode.HALT:
                    if tracked.state is OrderState.PENDING:
                        self._drop(intent, "HALT: the halt procedure owns all closing")
                    continue
                if intent.is_stop and not self.closer.may_protect:
                    self._drop(intent, "the way out: the flatten ends what it would protect")
                    continue
            elif not self.safety.allows_entry:
                self._drop(intent, f"hard stop: {self.safety.mode.name}")
                continue
            orders.append(intent)
        return Batch(orders=tuple(orders)) if orders else None

    async def _send(self, batch: Batch) -> tuple[Post, SignedAction] | None:
        """Sign, register, send, count. The first suspension point is inside `link.send`."""
        sendable = self._sendable(batch)
        if sendable is None:
            return None
        nonce = self.nonces.next()
        if not self.config.sends:
            self._keep_back(sendable, nonce)
            return None
        if sendable.orders and not self.scribe.intents(sendable.orders, nonce, self.clock.wall_ms()):
            return await self._send_unrecorded(sendable)
        return await self._send_signed(sendable, nonce)

    def _keep_back(self, batch: Batch, nonce: int) -> None:
        """A dry run goes this far: the action is signed, told of, and dropped."""
        self._sign(batch, nonce)
        for intent in batch.orders:
            self._note("info", "dry_run", cloid=intent.cloid.value, coin=intent.coin, side=intent.side.name, sz=intent.sz)
            self.facts.put(facts.OrderDropped(intent.cloid, "dry run: not sent"))

    async def _send_unrecorded(self, batch: Batch) -> tuple[Post, SignedAction] | None:
        """The storage refused the intents: no entry leaves without its row (STO-4); what reduces is never held back."""
        for intent in batch.orders:
            if not intent.may_be_resent:
                self._drop(intent, "its intent could not be stored")
        closing = tuple(o for o in batch.orders if o.may_be_resent)
        sendable = self._sendable(Batch(orders=closing)) if closing else None
        return await self._send_signed(sendable, self.nonces.next()) if sendable is not None else None

    async def _send_signed(self, sendable: Batch, nonce: int) -> tuple[Post, SignedAction] | None:
        signed = self._sign(sendable, nonce)
        post = self.posts.register(sendable, nonce, self.clock.mono_ms())
        frame = encode_post(post.id, signed)
        now = self.clock.wall_ms()
        for intent in sendable.orders:
            self.ledger.mark_sent(intent.cloid, now, nonce)
        self.budget.spend(len(sendable.orders) + len(sendable.cancels), self.clock.mono_ms())
        try:
            await self.link.send(frame)
        except self.lost as e:
            self._fail(post, PostEvent.LINK_LOST, str(e))
            return None
        self.posts.handed_over(post)
        return post, signed

    def _sign(self, batch: Batch, nonce: int) -> SignedAction:
        if batch.cancels:
            by_cloid = batch.cancels[0].cloid is not None
            build = actions.cancel_by_cloid_action if by_cloid else actions.cancel_action
            return self.signer.sign(build(batch.cancels), nonce)
        # The expiry covers the whole action, so it is that of the entry which expires first.
        expiries = [o.expires_after_ms for o in batch.orders if o.expires_after_ms is not None]
        return self.signer.sign(actions.order_action(batch.orders), nonce, min(expiries, default=None))

    def _after_send(self, post: Post, signed: SignedAction) -> None:
        """Bookkeeping that must not stand between the decision and the bytes."""
        wall = self.clock.wall_ms()
        self._note("info", "action_signed", post=post.id, nonce=post.nonce, type=signed.action["type"])
        self._note("debug", "inflight", current=self.posts.in_flight, high_water=self.posts.high_water)
        for intent in post.batch.orders:
            if not intent.reduce_only:
                self.limits.on_entry(wall)
                self.events.put(EntrySent(intent.coin, intent.cloid.value))
            self._note(
                "info",
                "order_sent",
                post=post.id,
                cloid=intent.cloid.value,
                coin=intent.coin,
                side=intent.side.name,
                sz=intent.sz,
                px=intent.px,
            )

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)
