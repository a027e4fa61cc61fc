"""Posts in flight: the identity of BAT-6 over any sequence, late answers, deadlines."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from hip3.core.posts import KEPT_ENDED, Post, PostBook
from hip3.core.scheduler import Batch
from hip3.fsm.post import PostEvent, PostState
from hip3.fsm.table import Refused


def register(book: PostBook, now: int = 0) -> Post:
    return book.register(Batch(), nonce=now, now_ms=now)


class Posts(RuleBasedStateMachine):
    """Registers, hands over and ends posts in any order, as send, answer, time-out and disconnect can interleave."""

    posts: Bundle[Post] = Bundle("posts")

    def __init__(self) -> None:
        super().__init__()
        self.book = PostBook(timeout_ms=5000)
        self.now = 0
        self.all: list[Post] = []

    @rule(target=posts)
    def register(self) -> Post:
        self.now += 1
        post = register(self.book, self.now)
        self.all.append(post)
        return post

    @rule(post=posts)
    def hand_over(self, post: Post) -> None:
        if post.state is not PostState.SENT:
            self.book.handed_over(post)

    @rule(post=posts, event=st.sampled_from([e for e in PostEvent if e is not PostEvent.HANDED_OVER]))
    def end(self, post: Post, event: PostEvent) -> None:
        before = (post.state, self.book.sent, self.book.completed)
        ended = post.is_ended
        try:
            assert self.book.end(post, event) is not ended
        except Refused:
            assert (post.state, self.book.sent, self.book.completed) == before

    @rule(post=posts)
    def end_twice(self, post: Post) -> None:
        if post.is_ended:
            assert not self.book.end(post, PostEvent.LINK_LOST)

    @invariant()
    def the_identity_holds(self) -> None:
        """BAT-6: sent - completed == in flight == posts that were sent and have not ended; never below zero."""
        in_flight = sum(p.was_sent and not p.is_ended for p in self.all)
        assert self.book.in_flight == in_flight == self.book.sent - self.book.completed
        assert in_flight >= 0
        assert self.book.high_water >= in_flight

    @invariant()
    def a_live_post_can_be_found(self) -> None:
        """POST-5: every live post, and every ended one that is kept, is found by its id."""
        assert {p.id for p in self.book.live} == {p.id for p in self.all if not p.is_ended}
        assert all(self.book.find(p.id) is p for p in self.all)

    @invariant()
    def the_oldest_deadline_is_next(self) -> None:
        """POST-1: the next deadline is the earliest of the live posts."""
        live = [p.deadline_ms for p in self.all if not p.is_ended]
        assert self.book.next_deadline_ms == (min(live) if live else None)


TestPosts = Posts.TestCase


def test_ids_are_a_sequence_of_their_own() -> None:
    """POST-1: each post has the next id and a deadline five seconds on."""
    book = PostBook(timeout_ms=5000)
    first, second = register(book, 10), register(book, 11)
    assert (first.id, second.id, first.deadline_ms) == (1, 2, 5010)
    assert first.state is PostState.REGISTERED


def test_a_registered_post_is_not_in_flight() -> None:
    """BAT-6: counted when the bytes were handed to the socket, not before."""
    book = PostBook(timeout_ms=5000)
    post = register(book)
    assert book.in_flight == 0
    book.handed_over(post)
    assert book.in_flight == 1


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (PostEvent.ANSWERED, PostState.ACCEPTED),
        (PostEvent.REFUSED, PostState.REJECTED),
        (PostEvent.DEADLINE, PostState.TIMED_OUT),
        (PostEvent.LINK_LOST, PostState.DISCONNECTED),
    ],
)
def test_every_end_of_a_sent_post_counts_once(event: PostEvent, state: PostState) -> None:
    """BAT-6: answer, refusal, time-out and disconnect each complete the request once."""
    book = PostBook(timeout_ms=5000)
    post = register(book)
    book.handed_over(post)
    assert book.end(post, event)
    assert not book.end(post, PostEvent.ANSWERED)
    assert (post.state, book.in_flight, book.completed) == (state, 0, 1)


@pytest.mark.parametrize("event", [PostEvent.SEND_FAILED, PostEvent.DEADLINE, PostEvent.LINK_LOST])
def test_a_post_that_never_left_completes_nothing(event: PostEvent) -> None:
    """EXE-3: unsent posts do not decrement; a hand-over that returns after the end counts nothing."""
    book = PostBook(timeout_ms=5000)
    post = register(book)
    book.end(post, event)
    book.handed_over(post)
    assert (book.sent, book.completed, book.in_flight) == (0, 0, 0)


def test_overdue_posts_are_those_at_their_deadline() -> None:
    """POST-1: at the deadline a post is overdue."""
    book = PostBook(timeout_ms=5000)
    post = register(book, 0)
    register(book, 1)
    assert book.overdue(4999) == []
    assert book.overdue(5000) == [post]


def test_a_late_answer_finds_its_post() -> None:
    """POST-5: after the deadline the post is still known, so its answer reaches its orders; the memory is bounded."""
    book = PostBook(timeout_ms=5000)
    first = register(book)
    book.handed_over(first)
    book.end(first, PostEvent.DEADLINE)
    assert book.find(first.id) is first
    for _ in range(KEPT_ENDED):
        book.end(register(book), PostEvent.SEND_FAILED)
    assert book.find(first.id) is None
    assert book.find(999_999) is None
