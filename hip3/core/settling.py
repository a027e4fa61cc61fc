"""What became of posts and of what was queued: answers, time-outs, lost links, sends that never left (POST-3, EXE-3).

Part of the executor's step, without a suspension point. It changes no order by itself: what it learns goes to the position
task as facts, and closing orders and cancels go back to the head of their queue. An entry is never sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define

from hip3.core import facts
from hip3.core.budget import TRICKLE_MS, ActionBudget
from hip3.core.clock import Clock
from hip3.core.events import PostResponse
from hip3.core.execution import EventSink, SendFailed
from hip3.core.ids import ClientOrderId
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.orders import OrderIntent, OrderOutcome
from hip3.core.posts import Post, PostBook
from hip3.core.scheduler import Batch, Scheduler
from hip3.core.tally import Tally
from hip3.fsm.post import PostEvent

MOST_TEXT = 500
"""Characters of a venue's refusal that are journaled; ours."""
ReadOutcomes = Callable[[PostResponse, int], list[OrderOutcome]]
"""The outcomes of the so many parts of an answered action; the venue package reads them."""


@define
class Settler:
    """Ends posts and drops what will not leave."""

    posts: PostBook
    ledger: Ledger
    scheduler: Scheduler
    budget: ActionBudget
    tally: Tally
    order_outcomes: ReadOutcomes
    cancel_outcomes: ReadOutcomes
    is_budget_refusal: Callable[[str], bool]
    put: Callable[[facts.Fact], None]
    events: EventSink
    clock: Clock
    journal: Journal
    late_answers: int = 0
    orphan_answers: int = 0

    # ---- what left

    def handed_over(self, post: Post) -> None:
        """The socket took the bytes of a post: it is in flight, and each new most of them is told."""
        most = self.posts.high_water
        self.posts.handed_over(post)
        self._tell_inflight()
        if self.posts.high_water > most:
            self._note("debug", "inflight_high_water", high_water=self.posts.high_water)

    def _tell_inflight(self) -> None:
        posts = self.posts
        self._note("debug", "inflight", current=posts.in_flight, sent=posts.sent, completed=posts.completed)

    # ---- answers

    def answered(self, answer: PostResponse) -> None:
        """Ends the post and tells what each of its orders or cancels got; a late answer is told as well (POST-5)."""
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
        error = {"error": refusal_text(answer)} if refused else {}
        self._note("info", "post_response", post=post.id, nonce=post.nonce, late=late, refused=refused, **error)
        self._tell_inflight()
        now = self.clock.wall_ms()
        if post.batch.orders:
            outcomes = self.order_outcomes(answer, len(post.batch.orders))
            self._look_for_exhaustion(outcomes)
            for intent, outcome in zip(post.batch.orders, outcomes, strict=True):
                self.put(facts.OrderAnswered(intent.cloid, outcome, now))
            return
        outcomes = self.cancel_outcomes(answer, len(post.batch.cancels))
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
                self.put(facts.CancelAnswered(ClientOrderId(cancel.cloid), outcome, now))

    def _look_for_exhaustion(self, outcomes: list[OrderOutcome]) -> bool:
        """True where the venue refused the action for want of budget (GATE-5); entries then end until it has room again."""
        if not any(o.error is not None and self.is_budget_refusal(o.error) for o in outcomes):
            return False
        if self.budget.refused(self.clock.mono_ms()):
            self._note("critical", "budget_exhausted", error=outcomes[0].error, every_ms=TRICKLE_MS)
        return True

    # ---- silence

    def overdue(self) -> None:
        """Fails the posts whose deadline has passed."""
        for post in self.posts.overdue(self.clock.mono_ms()):
            self.failed(post, PostEvent.DEADLINE, f"no answer within {self.posts.timeout_ms} ms")

    def link_lost(self, reason: str) -> None:
        """Fails every post: none of them will be answered on the link that they left on."""
        for post in self.posts.live:
            self.failed(post, PostEvent.LINK_LOST, f"the link broke: {reason}")

    def failed(self, post: Post, event: PostEvent, why: str) -> None:
        """POST-3: closing orders and cancels go back to the head; an entry or a stop is in doubt and is never sent again."""
        self._end(post, event, why)
        for intent in post.batch.orders:
            self.put(facts.OrderDoubted(intent.cloid, why))
            if not intent.reduce_only:
                self._count(intent, why)
        self._requeue(post, post.batch)

    def abandon(self, why: str) -> None:
        """Ends the posts that nobody will wait for any more; what they may have done, the venue was asked (EXE-3)."""
        for post in self.posts.live:
            self._end(post, PostEvent.LINK_LOST, why)

    # ---- what never left

    def unsent(self, post: Post, why: str, unsendable: Sequence[object] = ()) -> None:
        """POST-3: no byte left, so nothing is in doubt. Entries are dropped, what closes or cancels goes back to the head.

        But for `unsendable` intents: their bytes cannot be made, and at the head of a queue they would hold up all others.
        What is due and was dropped is asked for again, at the price of that moment.
        """
        self._end(post, PostEvent.SEND_FAILED, why)
        for intent in post.batch.orders:
            self.ledger.mark_unsent(intent.cloid, self.clock.wall_ms())
            if not intent.may_be_resent or intent in unsendable:
                self.drop_failed(intent, why)
        cancels = tuple(c for c in post.batch.cancels if c not in unsendable)
        orders = tuple(o for o in post.batch.orders if o not in unsendable)
        self._requeue(post, Batch(cancels, orders))

    def drop_failed(self, intent: OrderIntent, why: str) -> None:
        """Drops what could not be sent although nothing forbade it: an alert, for the caller was told `Queued` (POST-6)."""
        self.drop(intent, why)
        cloid, coin = intent.cloid.value, intent.coin
        self._note("critical", "order_not_sent", cloid=cloid, coin=coin, signal=intent.signal_id, why=why)
        if not intent.reduce_only:
            self._count(intent, why)

    def drop(self, intent: OrderIntent, reason: str) -> None:
        """Ends an order that never left; its market is free."""
        self.put(facts.OrderDropped(intent.cloid, reason))
        self._note("warning", "mark_released", cloid=intent.cloid.value, coin=intent.coin, reason=reason)

    def _count(self, intent: OrderIntent, why: str) -> None:
        self.tally.order_send_failure_total += 1
        self.events.put(SendFailed(intent.coin, intent.cloid.value, why, intent.signal_id))

    def _end(self, post: Post, event: PostEvent, why: str) -> None:
        self.posts.end(post, event)
        self._note("warning", "send_failure", post=post.id, nonce=post.nonce, why=why, sent=post.was_sent)
        self._tell_inflight()

    def _requeue(self, post: Post, batch: Batch) -> None:
        self.scheduler.requeue(batch)
        if batch.cancels or any(o.may_be_resent for o in batch.orders):
            self._note("info", "requeued", post=post.id)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)


def refusal_text(answer: PostResponse) -> str:
    """What the venue says of an action that it refused whole; at most MOST_TEXT characters."""
    told = answer.payload.get("response") if isinstance(answer.payload, dict) else answer.payload
    return str(told)[:MOST_TEXT]
