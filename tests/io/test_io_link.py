"""One WebSocket link against a peer whose every move the test decides, in memory and in virtual time (WS-1 to WS-4)."""

from __future__ import annotations

import itertools
import json
import random
from decimal import Decimal

import pytest
import trio
import trio.testing
from trio_websocket import WebSocketConnection

from hip3.core.events import Bbo, ChannelError, Subscribed
from hip3.core.journal import Journal
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.inmemory import InMemory
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import DexListing, MarketListing
from hip3.io.clock import TrioClock
from hip3.io.link import Link, LinkConfig, LinkLost, NotSent, SharedLimits
from hip3.venue.hyperliquid import subscriptions
from tests.io.link_rig import BBO, USER, Consumer, Peer, acknowledge, answer_pings, linked, mute, polite


async def test_a_session_goes_through_its_states(autojump_clock: object) -> None:
    """WS-1: DOWN, DIALING, SUBSCRIBING, SYNCING, and READY when the consumer has read the rest."""
    async with linked(Peer(polite)) as rig:
        assert rig.link.state.name == "DOWN"
        await trio.sleep(1)
        assert rig.link.is_up
        assert rig.link.state.name == "SYNCING"
        rig.link.synced()
        assert [name for name, _ in rig.consumer.calls] == ["subscribing", "live"]
        walked = [n.fields["after"] for n in rig.journal.drain() if n.event == "connection"]
        assert walked == ["DIALING", "SUBSCRIBING", "SYNCING", "READY"]


async def test_backoff_doubles_to_a_minute_with_jitter(autojump_clock: object) -> None:
    """WS-1: waits of 1, 2, 4 ... 60 s, each between a half and the whole of it, and not in step."""
    peer = Peer(polite, refuses=True)
    async with linked(peer) as rig:
        await trio.sleep(400)
        waits = [b - a for a, b in itertools.pairwise(peer.dials)]
        assert len(waits) >= 9
        for n, wait in enumerate(waits):
            most = min(60.0, 2.0**n)
            assert most / 2 <= wait <= most
        assert len({round(wait / min(60.0, 2.0**n), 3) for n, wait in enumerate(waits)}) == len(waits)
        assert rig.consumer.reasons[0] == "OSError: connection refused"


async def test_a_stable_minute_resets_the_backoff(autojump_clock: object) -> None:
    """WS-1: after failures the waits are long; a session of a minute makes the next wait short again."""

    async def live_then_hang_up(ws: WebSocketConnection) -> None:
        with trio.move_on_after(61):
            await polite(ws)

    peer = Peer(live_then_hang_up, refuses=True)
    async with linked(peer) as rig:
        await trio.sleep(20)
        waits = [b - a for a, b in itertools.pairwise(peer.dials)]
        assert max(waits) > 4
        peer.refuses = False
        await trio.sleep(90)
        live = rig.consumer.times("live")[0]
        lost = next(at for at in rig.consumer.times("lost") if at > live)
        again = next(at for at in peer.dials if at >= lost)
        assert lost - live == pytest.approx(61, abs=0.1)
        assert 0.5 <= again - lost <= 1


async def test_a_short_session_does_not_reset_the_backoff(autojump_clock: object) -> None:
    """WS-1: a venue that accepts and hangs up is not hammered: the waits double all the same."""

    async def hang_up(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 2)

    peer = Peer(hang_up)
    async with linked(peer):
        await trio.sleep(120)
        assert len(peer.dials) <= 8  # 1 + 2 + 4 + 8 + 16 + 32 + 60 s, halved at most


async def test_two_links_together_dial_thirty_times_a_minute_at_most(autojump_clock: object) -> None:
    """WS-1, WS-3: the limit is per IP, so both links share one window, however short their back-off is."""
    limits = SharedLimits()
    eager = LinkConfig(backoff_first_ms=10, backoff_most_ms=10)
    one, two = Peer(polite, refuses=True), Peer(polite, refuses=True)
    async with linked(one, config=eager, limits=limits), linked(two, config=eager, limits=limits):
        await trio.sleep(250)
        dials = sorted(one.dials + two.dials)
        assert len(dials) > 100
        # A millisecond less: the link reads whole milliseconds.
        assert all(later - earlier >= 59.999 for earlier, later in zip(dials, dials[30:], strict=False))
        assert one.dials
        assert two.dials


async def test_pings_keep_an_idle_socket_alive(autojump_clock: object) -> None:
    """WS-2: on the venue's own rule (cut after 60 s without a message) an idle session lives for ten minutes."""
    exchange = Exchange(
        ScriptedSource([DexListing("", (MarketListing("BTC", 5, 40, Decimal(90000)),))]),
        TrioClock.starting_at(1_767_225_600_000),
        ExchangeConfig(),
    )
    memory, consumer = InMemory(exchange), Consumer()
    link = Link(
        "account",
        memory.dial,
        [subscriptions.order_updates(USER)],
        consumer,
        clock=TrioClock.starting_at(1_767_225_600_000),
        rng=random.Random(7),
        journal=Journal(),
        limits=SharedLimits(),
        require_all_acks=True,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        nursery.start_soon(link.run)
        await trio.sleep(600)
        assert (link.connects, consumer.reasons) == (1, [])
        nursery.cancel_scope.cancel()


async def test_a_silent_connection_is_dead_after_55_seconds(autojump_clock: object) -> None:
    """WS-2: 45 s without any message and 10 s for a pong, from the last message; then the next session starts."""
    async with linked(Peer(mute)) as rig:
        await trio.sleep(54.9)
        assert rig.consumer.reasons == []
        await trio.sleep(0.2)
        assert rig.consumer.reasons == ["silent for 55000 ms"]
        await trio.sleep(2)
        assert rig.link.connects == 2


async def test_a_peer_that_takes_no_bytes_is_dead_after_5_seconds(autojump_clock: object) -> None:
    """WS-2, POST-1: a message that cannot be written holds nobody longer than a post may wait; the session is over."""
    peer = Peer(answer_pings, takes=3)  # handshake and two subscriptions
    async with linked(peer) as rig:
        await trio.sleep(1)
        with pytest.raises(LinkLost, match="account link took no bytes for 5000 ms") as raised:
            await rig.link.send("{}")
        assert not isinstance(raised.value, NotSent)
        assert trio.current_time() == pytest.approx(6)
        assert not rig.link.is_up
        await trio.sleep(0.01)
        assert rig.consumer.reasons == ["took no bytes for 5000 ms"]
        await trio.sleep(1)
        assert len(peer.dials) == 2


async def test_a_message_behind_one_that_is_stuck_is_known_not_to_have_left(autojump_clock: object) -> None:
    """POST-1: the socket takes no byte of the message before; of this one none was offered, so it is not in doubt."""
    async with linked(Peer(answer_pings, takes=3)) as rig:
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                with pytest.raises(LinkLost) as raised:
                    await rig.link.send("{}")
                assert not isinstance(raised.value, NotSent)

            nursery.start_soon(first)
            await trio.sleep(3)
            with pytest.raises(NotSent, match="lost before the turn of this message"):
                await rig.link.send("{}")
        assert trio.current_time() == pytest.approx(6)


async def test_any_message_counts_as_life(autojump_clock: object) -> None:
    """WS-2: an unreadable frame is a sign of life too; only silence is not."""

    async def mutter(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 2)
        while True:
            await trio.sleep(50)
            await ws.send_message("Websocket connection established.")

    async with linked(Peer(mutter)) as rig:
        await trio.sleep(500)
        assert rig.link.connects == 1


async def test_a_missing_ack_ends_the_session_that_needs_it(autojump_clock: object) -> None:
    """WS-4: without the ack of userFills the account session is lost after 10 s, and the reason names it."""

    async def acknowledge_one(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 1)
        await answer_pings(ws)

    async with linked(Peer(acknowledge_one)) as rig:
        await trio.sleep(10.1)
        assert rig.consumer.times("live") == []
        assert rig.consumer.reasons == [f"no ack within 10000 ms of: userFills {USER.lower()}"]


async def test_market_data_goes_on_without_one_ack(autojump_clock: object) -> None:
    """WS-4, MD-2: a market that is not acknowledged does not take the others with it."""

    async def acknowledge_one(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 1)
        await answer_pings(ws)

    wanted = (subscriptions.bbo("BTC"), subscriptions.bbo("xyz:GONE"))
    async with linked(Peer(acknowledge_one), wanted, require_all=False) as rig:
        await trio.sleep(10.1)
        assert len(rig.consumer.times("live")) == 1
        missing = [n.fields["missing"] for n in rig.journal.drain() if n.event == "subscribe_unacknowledged"]
        assert missing == ["bbo xyz:GONE"]
        assert rig.consumer.reasons == []


async def test_every_subscription_is_renewed_after_a_reconnect(autojump_clock: object) -> None:
    """WS-4, LESSONS 38: each session starts with all subscriptions, and the consumer hears that nothing before counts."""
    heard: list[list[str]] = []

    async def listen(ws: WebSocketConnection) -> None:
        heard.append([json.loads(await ws.get_message())["subscription"]["type"] for _ in range(2)])

    async with linked(Peer(listen)) as rig:
        await trio.sleep(5)
        assert len(heard) >= 3
        assert all(kinds == ["orderUpdates", "userFills"] for kinds in heard)
        names = [name for name, _ in rig.consumer.calls]
        assert names[:4] == ["subscribing", "lost", "subscribing", "lost"]


async def test_unreadable_frames_are_counted_kept_and_survived(autojump_clock: object) -> None:
    """WS-4: fifty frames of garbage: all counted, the last twenty kept, and the next good frame is delivered."""

    async def garble(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 2)
        for n in range(50):
            await ws.send_message(json.dumps({"channel": "bbo", "data": {"coin": n}}))
        await ws.send_message(BBO % 5)
        await answer_pings(ws)

    async with linked(Peer(garble)) as rig:
        await trio.sleep(60)
        assert (rig.link.connects, rig.link.unreadable, len(rig.link.kept_unreadable)) == (1, 50, 20)
        assert [e.time_ms for e in rig.consumer.events if isinstance(e, Bbo)] == [5]


async def test_errors_of_the_venue_are_handed_on(autojump_clock: object) -> None:
    """WS-4, PROTOCOL 2.1: the error channel is journaled and reaches the consumer; pongs do not."""

    async def complain(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 2)
        await ws.send_message('{"channel":"error","data":"Already subscribed: {}"}')
        await answer_pings(ws)

    async with linked(Peer(complain)) as rig:
        await trio.sleep(30)
        assert [type(e) for e in rig.consumer.events] == [Subscribed, Subscribed, ChannelError]
        assert [n.fields["text"] for n in rig.journal.drain() if n.event == "channel_error"] == ["Already subscribed: {}"]


async def test_a_burst_arrives_whole_and_in_order(autojump_clock: object) -> None:
    """WS-4, DESIGN 7: more frames than any queue holds, at once: none is lost, and the session lives."""

    async def burst(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 2)
        for n in range(5000):
            await ws.send_message(BBO % n)
        await answer_pings(ws)

    async with linked(Peer(burst)) as rig:
        await trio.sleep(30)
        assert [e.time_ms for e in rig.consumer.events if isinstance(e, Bbo)] == list(range(5000))
        assert rig.link.connects == 1


async def test_sending_without_a_session_says_so(autojump_clock: object) -> None:
    """POST-3: no socket, no bytes: LinkLost names the link and its state."""
    async with linked(Peer(polite, refuses=True)) as rig:
        await trio.sleep(0.1)
        assert not rig.link.is_up
        with pytest.raises(LinkLost, match="account link is BACKOFF"):
            await rig.link.send("{}")


async def test_sending_into_a_closed_session_says_so(autojump_clock: object) -> None:
    """POST-3: the peer is gone, the link has not seen it yet: LinkLost, or the bytes are in doubt, never another error."""
    gone = trio.Event()

    async def leave(ws: WebSocketConnection) -> None:
        await acknowledge(ws, 2)
        await gone.wait()

    async with linked(Peer(leave)) as rig:
        await trio.sleep(1)
        assert rig.link.is_up
        gone.set()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(LinkLost):
            await rig.link.send("{}")


async def test_what_is_sent_is_counted_in_the_shared_limits(autojump_clock: object) -> None:
    """WS-3: subscriptions, pings and posts all count against the 2000 messages a minute, in one place."""
    async with linked(Peer(polite)) as rig:
        await trio.sleep(41)
        await rig.link.send('{"method":"ping"}')
        assert rig.limits.messages.used == 2 + 2 + 1
        assert rig.limits.connections.used == 1


async def test_cancelling_a_link_ends_it_at_once(autojump_clock: object) -> None:
    """WS-1: a link that is stopped is DOWN, in any state, without waiting for anybody."""
    for peer in (Peer(polite), Peer(polite, refuses=True), Peer(mute)):
        began = trio.current_time()
        async with linked(peer):
            await trio.sleep(3)
        assert trio.current_time() - began < 4.1
