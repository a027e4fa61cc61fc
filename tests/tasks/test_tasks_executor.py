"""The executor step by step, on real parts and a wire that the test holds (EXE-1, EXE-2, EXE-4, POST-3)."""

from __future__ import annotations

import pytest
import trio

from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.core.events import PostResponse
from hip3.core.execution import SendFailed
from hip3.core.exits import ExitReason, ExitRequest
from hip3.core.orders import CancelIntent
from hip3.fsm.order import OrderState
from hip3.fsm.post import PostState
from hip3.tasks.channels import LinkBroken, Mailbox
from hip3.venue.hyperliquid.actions import canonicalise, pack
from hip3.venue.hyperliquid.signing import Signature, action_hash, recover_signer
from tests.core.core_builders import MU, SNDK, T0
from tests.tasks.executor_bench import KEY, Bench, Broken, Untaken, make_bench


@pytest.fixture
def bench() -> Bench:
    return make_bench()


async def test_one_post_is_one_action_with_one_nonce_and_its_own_id(bench: Bench) -> None:
    """EXE-1, POST-1, SIG-3: signed by our key over action, nonce and expiry; the post id is outside of what is signed."""
    await bench.enter()
    (frame,) = bench.wire.frames
    assert (frame["method"], frame["id"], frame["request"]["type"]) == ("post", 1, "action")
    payload = frame["request"]["payload"]
    assert payload["expiresAfter"] == T0 + 10_000
    hashed = action_hash(pack(canonicalise(payload["action"])), payload["nonce"], None, payload["expiresAfter"])
    assert recover_signer(hashed, Signature(**payload["signature"]), False) == KEY.address
    post = bench.executor.posts.find(1)
    assert post is not None
    assert (post.state, post.nonce, post.deadline_ms) == (PostState.SENT, payload["nonce"], 5000)
    assert bench.executor.posts.in_flight == 1


async def test_an_order_is_sent_before_its_first_byte_can_leave(bench: Bench) -> None:
    """ORD-2, EXE-1: at the moment of the hand-over the order is registered and SENT, so no answer can surprise it."""
    await bench.enter()
    assert bench.wire.states == [OrderState.SENT]


async def test_a_wire_that_breaks_while_sending_leaves_doubt_and_no_count(bench: Bench) -> None:
    """EXE-4, POST-3: bytes may have left: the entry is UNKNOWN, its market stays marked, nothing is in flight."""
    bench.wire.breaks = Broken
    await bench.enter()
    bench.settle()
    (order,) = bench.ledger.orders.values()
    assert (order.state, order.error) == (OrderState.UNKNOWN, "the socket closed while sending")
    posts = bench.executor.posts
    assert (posts.sent, posts.completed, posts.in_flight, posts.live) == (0, 0, 0, ())
    assert isinstance(bench.executor.events, Mailbox)
    event = bench.executor.events.get_nowait()
    assert isinstance(event, SendFailed)
    assert event.cloid == order.cloid.value


async def test_a_send_that_left_no_byte_leaves_no_doubt(bench: Bench) -> None:
    """EXE-4, POST-1, POST-6: the post is a SEND_ERROR and never counted; the entry ends, and risk hears of its signal."""
    bench.wire.breaks = Untaken
    await bench.enter()
    bench.settle()
    assert bench.ledger.orders == {}
    (order,) = bench.ledger.finished.values()
    assert (order.state, order.doubted_ms, order.sent_ms) == (OrderState.CANCELED, None, None)
    posts = bench.executor.posts
    post = posts.find(1)
    assert post is not None
    assert (post.state, posts.sent, posts.completed) == (PostState.SEND_ERROR, 0, 0)
    events = bench.executor.events
    assert isinstance(events, Mailbox)
    event = events.get_nowait()
    assert isinstance(event, SendFailed)
    assert (event.signal_id, bench.executor.tally.order_send_failure_total) == (order.intent.signal_id, 1)


async def test_a_refused_action_ends_its_orders(bench: Bench) -> None:
    """EXE-4, POST-2: `status: err` for the whole action: the entry is REJECTED, its market free, nothing in flight."""
    await bench.enter()
    bench.executor.inbox.answers.put(PostResponse(1, "action", {"status": "err", "response": "Insufficient margin"}))
    await bench.executor.step()
    bench.settle()
    assert [o.state for o in bench.ledger.finished.values()] == [OrderState.REJECTED]
    post = bench.executor.posts.find(1)
    assert post is not None
    assert (post.state, bench.executor.posts.in_flight) == (PostState.REJECTED, 0)


async def test_a_post_can_be_waited_for(bench: Bench, autojump_clock: object) -> None:
    """POST-1: its future is settled by the answer with the state that it ended in, also for those who come later."""
    await bench.enter()
    post = bench.executor.posts.find(1)
    assert post is not None
    with trio.move_on_after(1) as scope:
        await bench.executor.wait(post)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        heard: list[PostState] = []

        async def listen() -> None:
            heard.append(await bench.executor.wait(post))

        nursery.start_soon(listen)
        await trio.sleep(1)
        await bench.answer(1, {"error": "Insufficient margin to place order."})
    assert [*heard, await bench.executor.wait(post)] == [PostState.ACCEPTED] * 2


async def test_a_wire_that_is_down_takes_no_entry(bench: Bench) -> None:
    """POST-3: no socket, so no byte can have left: the entry is dropped, its market is free, no nonce was used."""
    bench.wire.is_up = False
    await bench.enter()
    bench.settle()
    assert bench.ledger.orders == {}
    (order,) = bench.ledger.finished.values()
    assert (order.state, order.sent_ms) == (OrderState.CANCELED, None)
    bench.wire.is_up = True
    bench.clock.ms += 200
    await bench.enter(oracle="606")
    assert [x["id"] for x in bench.wire.frames] == [1]


async def test_a_close_waits_for_the_wire(bench: Bench) -> None:
    """POST-3, GATE-4: a closing order outlives a dead socket in the queue and leaves when there is one again."""
    bench.hold()
    bench.wire.is_up = False
    bench.executor.inbox.exits.put(ExitRequest(SNDK.coin, ExitReason.TIME_STOP, 31_000))
    await bench.executor.step()
    assert len(bench.executor.scheduler) == 1
    bench.wire.is_up = True
    await bench.executor.step()
    (order,) = bench.wire.frames[0]["request"]["payload"]["action"]["orders"]
    assert (order["r"], order["b"], order["s"]) == (True, False, "0.1")
    assert "expiresAfter" not in bench.wire.frames[0]["request"]["payload"]


async def test_a_hard_stop_between_queue_and_wire_uses_neither_nonce_nor_id(bench: Bench) -> None:
    """EXE-2: two entries wait for their tick, ARMED_SAFE comes: both are dropped and released, nothing is signed."""
    await bench.enter(SNDK)
    bench.clock.ms += 10
    await bench.enter(MU, "610")
    assert len(bench.executor.scheduler) == 1
    nonce = bench.executor.nonces.last
    bench.safety.add(ReasonCode.SNAPSHOT_STALE, Severity.SAFE, "test", "a test", Clears.AUTO)
    bench.clock.ms += 200
    await bench.executor.step()
    bench.settle()
    assert (len(bench.wire.frames), bench.executor.nonces.last) == (1, nonce)
    assert len(bench.executor.scheduler) == 0
    assert not bench.ledger.has_pending_entry(MU.coin)
    assert bench.ledger.has_pending_entry(SNDK.coin)


async def test_closes_pass_where_entries_do_not(bench: Bench) -> None:
    """EXE-2, GATE-4: in ARMED_SAFE the close of one market leaves while the entry of another is dropped."""
    bench.hold()
    bench.executor.inbox.exits.put(ExitRequest(SNDK.coin, ExitReason.TIME_STOP, 31_000))
    bench.safety.add(ReasonCode.SNAPSHOT_STALE, Severity.SAFE, "test", "a test", Clears.AUTO)
    await bench.enter(MU, "610")
    (frame,) = bench.wire.frames
    assert [o["r"] for o in frame["request"]["payload"]["action"]["orders"]] == [True]


async def test_a_time_out_is_settled_once(bench: Bench) -> None:
    """EXE-4, POST-1: after 5 s the post is TIMED_OUT and no longer in flight; its late answer settles the order."""
    await bench.enter()
    bench.clock.ms = 5000
    await bench.executor.step()
    bench.settle()
    assert [o.state for o in bench.ledger.orders.values()] == [OrderState.UNKNOWN]
    assert bench.executor.posts.in_flight == 0
    await bench.answer(1, {"error": "Insufficient margin to place order."})
    assert [o.state for o in bench.ledger.finished.values()] == [OrderState.REJECTED]
    assert (bench.executor.settler.late_answers, bench.executor.posts.completed) == (1, 1)


async def test_a_broken_link_settles_every_post_of_it(bench: Bench) -> None:
    """EXE-3: the loop alone ends the posts in flight; entries are in doubt, the close goes back to the queue and out."""
    bench.hold()
    bench.executor.inbox.exits.put(ExitRequest(SNDK.coin, ExitReason.TIME_STOP, 31_000))
    await bench.executor.step()
    bench.clock.ms += 200
    await bench.enter(MU, "610")
    assert bench.executor.posts.in_flight == 2
    bench.clock.ms += 200
    bench.executor.inbox.answers.put(LinkBroken("closed"))
    await bench.executor.step()
    bench.settle()
    ended = [post.state for n in (1, 2) if (post := bench.executor.posts.find(n)) is not None]
    assert ended == [PostState.DISCONNECTED] * 2
    assert bench.executor.posts.in_flight == 1  # the close, sent again
    sent = [o for x in bench.wire.frames for o in x["request"]["payload"]["action"]["orders"]]
    assert [o["r"] for o in sent] == [True, False, True]
    assert sent[0]["c"] == sent[2]["c"]
    states = {o.intent.coin: o.state for o in bench.ledger.orders.values()}
    assert states[MU.coin] is OrderState.UNKNOWN


async def test_an_answer_to_nobody_is_counted(bench: Bench) -> None:
    """POST-5: an id that was never ours changes nothing."""
    await bench.answer(99, {"error": "x"})
    assert bench.executor.settler.orphan_answers == 1
    assert bench.executor.posts.completed == 0


async def test_an_answer_heard_twice_counts_once(bench: Bench) -> None:
    """BAT-6: the count goes down once for each post that was sent, however often it is answered."""
    await bench.enter()
    filled = {"filled": {"totalSz": "0.066", "avgPx": "600.1", "oid": 7}}
    for _ in range(2):
        await bench.answer(1, filled)
    posts = bench.executor.posts
    assert (posts.sent, posts.completed, posts.in_flight) == (1, 1, 0)


async def test_a_cancel_without_an_answer_is_sent_again(bench: Bench) -> None:
    """POST-3, BAT-5: cancels go back to the head of their queue after a time-out; a refused one is only told."""
    bench.executor.scheduler.enqueue_cancel(CancelIntent(SNDK, None, 7))
    await bench.executor.step()
    bench.clock.ms = 5000
    await bench.executor.step()
    assert [x["request"]["payload"]["action"] for x in bench.wire.frames] == [
        {"type": "cancel", "cancels": [{"a": SNDK.asset_id, "o": 7}]}
    ] * 2
    assert bench.executor.posts.in_flight == 1
    await bench.answer(2, {"error": "Order was never placed, already canceled, or filled."})
    assert bench.executor.posts.in_flight == 0
    assert len(bench.executor.scheduler) == 0


async def test_cancels_and_orders_never_share_an_action(bench: Bench) -> None:
    """BAT-1, BAT-2: a cancel goes first and alone, by oid and by cloid apart; the close follows in the next tick."""
    bench.hold()
    bench.executor.scheduler.enqueue_cancel(CancelIntent(SNDK, None, 7))
    bench.executor.scheduler.enqueue_cancel(CancelIntent(SNDK, "0x" + "1" * 32, None))
    bench.executor.inbox.exits.put(ExitRequest(SNDK.coin, ExitReason.TIME_STOP, 31_000))
    for _ in range(3):
        await bench.executor.step()
        bench.clock.ms += 100
    kinds = [x["request"]["payload"]["action"]["type"] for x in bench.wire.frames]
    assert kinds == ["cancel", "cancelByCloid", "order"]
