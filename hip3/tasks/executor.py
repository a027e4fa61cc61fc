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
from hip3.core.budget import ActionBudget
from hip3.core.causes import Safety
from hip3.core.clock import Clock
from hip3.core.closing import Closer
from hip3.core.events import OrderUpdate
from hip3.core.execution import ActionSent, EventSink
from hip3.core.exits import ExitConfig, ExitRequest
from hip3.core.explain import Witness
from hip3.core.gates import Caps
from hip3.core.ids import CloidFactory
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState
from hip3.core.opening import Opener
from hip3.core.orders import CancelIntent, OrderIntent
from hip3.core.outlook import SignalBook
from hip3.core.posts import Post, PostBook
from hip3.core.protection import ProtectionConfig
from hip3.core.risk import DailyLimits
from hip3.core.scheduler import Batch, Scheduler
from hip3.core.scribe import Scribe
from hip3.core.settling import Settler
from hip3.core.tally import Tally
from hip3.core.throttles import Throttles
from hip3.fsm.order import OrderState
from hip3.fsm.post import PostEvent, PostState
from hip3.fsm.safety import SafetyMode
from hip3.tasks.channels import Answer, Doorbell, LinkBroken, Mailbox, SignalSlots
from hip3.venue.hyperliquid import actions
from hip3.venue.hyperliquid.errors import ActionError
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.outcomes import cancel_outcomes_of, order_outcomes_of
from hip3.venue.hyperliquid.refusals import RefusalReason, classify_error
from hip3.venue.hyperliquid.signing import SignedAction, Signer, encode_post


class Wire(Protocol):
    """What the executor needs of the account link."""

    @property
    def is_up(self) -> bool: ...

    async def send(self, text: str) -> None:
        """Raises an error of `unsent` where no byte left, of `lost` where the link broke and that is unknown."""
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
    throttles: Throttles
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
    unsent: type[Exception]
    """The same, where no byte has left."""
    book: SignalBook
    clock: Clock
    journal: Journal
    witness: Witness
    scribe: Scribe
    tally: Tally
    closer: Closer = field(init=False)
    opener: Opener = field(init=False)
    settler: Settler = field(init=False)

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
            throttles=self.throttles,
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
        self.settler = Settler(
            posts=self.posts,
            ledger=self.ledger,
            scheduler=self.scheduler,
            budget=self.budget,
            tally=self.tally,
            order_outcomes=order_outcomes_of,
            cancel_outcomes=cancel_outcomes_of,
            is_budget_refusal=lambda error: classify_error(error) is RefusalReason.BUDGET,
            put=self.facts.put,
            events=self.events,
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
        self.settler.overdue()
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
        self.scribe.event_id = ""

    async def _send_next(self) -> tuple[Post, SignedAction] | None:
        """One tick of the scheduler and, where it gives a batch, one post; what left, or None."""
        if not self.link.is_up:
            for intent in self.scheduler.drop_new_orders():
                self.settler.drop_failed(intent, "the account link is down")
            return None
        if not self.safety.allows_entry:
            self.purge(f"hard stop: {self.safety.mode.name}")
        if self.budget.is_exhausted:
            self.purge("the venue's action budget is used up")
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
                self.scribe.event_id = f"exit:{request.coin}:{request.reason.value}"
                self.closer.close(request, self.posts.in_flight)
        if not is_held:
            self.scribe.event_id = "protection"
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
                self.settler.link_lost(answer.reason)
            else:
                self.settler.answered(answer)

    # ---- what goes out

    def purge(self, reason: str) -> int:
        """Takes every new order out of the queue and releases its market; the number taken (STOP-2)."""
        dropped = self.scheduler.drop_new_orders()
        for intent in dropped:
            self.settler.drop(intent, reason)
        return len(dropped)

    def abandon(self, why: str) -> None:
        """Ends the posts that nobody will wait for any more (EXE-3)."""
        self.settler.abandon(why)

    async def wait(self, post: Post) -> PostState:
        """Waits until a post has ended and says how: its future (POST-1). What it did, its orders know."""
        ended = trio.Event()
        post.when_ended(ended.set)
        await ended.wait()
        return post.state

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
                        self.settler.drop(intent, "HALT: the halt procedure owns all closing")
                    continue
                if intent.is_stop and not self.closer.may_protect:
                    self.settler.drop(intent, "the way out: the flatten ends what it would protect")
                    continue
            elif not self.safety.allows_entry:
                self.settler.drop(intent, f"hard stop: {self.safety.mode.name}")
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
        return await self._send_signed(sendable, nonce)

    def _keep_back(self, batch: Batch, nonce: int) -> None:
        """A dry run goes this far: the action is signed, told of, and dropped."""
        self._sign(batch, nonce)
        for intent in batch.orders:
            self._note("info", "dry_run", cloid=intent.cloid.value, coin=intent.coin, side=intent.side.name, sz=intent.sz)
            self.facts.put(facts.OrderDropped(intent.cloid, "dry run: not sent"))

    async def _send_signed(self, sendable: Batch, nonce: int) -> tuple[Post, SignedAction] | None:
        post = self.posts.register(sendable, nonce, self.clock.mono_ms())
        try:
            signed = self._sign(sendable, nonce)
            frame = encode_post(post.id, signed)
        except ActionError as e:
            self.settler.unsent(post, f"its bytes cannot be made: {e}", unencodable(sendable))
            return None
        now = self.clock.wall_ms()
        if (refusal := self._record(sendable, nonce, now)) is not None:
            self.settler.unsent(post, refusal)
            return None
        self.scribe.event_id = f"post:{post.id}"
        for intent in sendable.orders:
            self.ledger.mark_sent(intent.cloid, now, nonce)
        self.budget.spend(len(sendable.orders) + len(sendable.cancels), self.clock.mono_ms())
        try:
            await self.link.send(frame)
        except self.unsent as e:
            self.settler.unsent(post, str(e))
            return None
        except self.lost as e:
            self.settler.failed(post, PostEvent.LINK_LOST, str(e))
            return None
        self.settler.handed_over(post)
        return post, signed

    def _record(self, batch: Batch, nonce: int, sent_ms: int) -> str | None:
        """The intents, before their bytes leave (STO-4); why these do not leave, or None.

        No entry leaves without its row; what reduces is not held back by a storage that refuses. After the bytes are made,
        for they warm what the record needs as well. Telling of a storage that fails may have ended trading: so once more.
        """
        if not batch.orders:
            return None
        is_stored = self.scribe.intents(batch.orders, nonce, sent_ms)
        if not is_stored and not all(intent.may_be_resent for intent in batch.orders):
            return "its intent could not be stored"
        if self.safety.mode is SafetyMode.HALT or not (self.safety.allows_entry or all(o.reduce_only for o in batch.orders)):
            return f"hard stop: {self.safety.mode.name}"
        return None

    def _sign(self, batch: Batch, nonce: int) -> SignedAction:
        if batch.cancels:
            return self.signer.sign(_action(batch), nonce)
        # The expiry covers the whole action, so it is that of the entry which expires first.
        expiries = [o.expires_after_ms for o in batch.orders if o.expires_after_ms is not None]
        return self.signer.sign(_action(batch), nonce, min(expiries, default=None))

    def _after_send(self, post: Post, signed: SignedAction) -> None:
        """Bookkeeping that must not stand between the decision and the bytes."""
        wall, batch = self.clock.wall_ms(), post.batch
        self.events.put(ActionSent.of(batch.orders, batch.cancels))
        what = {"nonce": post.nonce, "type": signed.action["type"], "hash": signed.hash}
        self._note("info", "action_signed", post=post.id, **what)
        for intent in batch.orders:
            if not intent.reduce_only:
                self.limits.on_entry(wall)
            who = {"cloid": intent.cloid.value, "coin": intent.coin, "side": intent.side.name}
            self._note("info", "order_sent", post=post.id, **who, sz=intent.sz, px=intent.px)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)


def _action(batch: Batch) -> dict[str, object]:
    """The action of a batch. Raises ActionError."""
    if not batch.cancels:
        return actions.order_action(batch.orders)
    by_cloid = batch.cancels[0].cloid is not None
    return (actions.cancel_by_cloid_action if by_cloid else actions.cancel_action)(batch.cancels)


def unencodable(batch: Batch) -> list[OrderIntent | CancelIntent]:
    """Those parts of a batch of which no action can be made."""
    cancels = [c for c in batch.cancels if not _is_encodable(Batch(cancels=(c,)))]
    return [*cancels, *(o for o in batch.orders if not _is_encodable(Batch(orders=(o,))))]


def _is_encodable(batch: Batch) -> bool:
    try:
        actions.encode(_action(batch))
    except ActionError:
        return False
    return True
