"""One WebSocket link to the venue: dial, subscribe, watch, reconnect (WS-1, WS-2).

It owns the connection machine and nothing else: each readable frame goes to a synchronous handler as an event, in the
step in which it was read. A frame that cannot be read is counted, kept for diagnosis, and never ends the session (WS-4).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import trio
from attrs import define, field, frozen
from trio_websocket import ConnectionClosed, WebSocketConnection

from hip3.core.clock import Clock
from hip3.core.errors import first_leaf
from hip3.core.events import ChannelError, Pong, Subscribed, VenueEvent
from hip3.core.journal import Journal
from hip3.core.rate import SlidingWindow
from hip3.fsm.connection import CONNECTION_TABLE, ConnectionEvent, ConnectionState
from hip3.fsm.machines import Driver
from hip3.io.dial import CONNECTION_FAILURES, Dial
from hip3.venue.hyperliquid.endpoints import MESSAGES_PER_MINUTE
from hip3.venue.hyperliquid.errors import WireError
from hip3.venue.hyperliquid.parse import parse_frame
from hip3.venue.hyperliquid.subscriptions import PING, Subscription, subscribe_frame, unsubscribe_frame

MOST_SUBSCRIPTIONS = 500
"""Half of the venue's 1000 per IP (PROTOCOL 2.6): those of a dead connection are counted for some seconds after it, so a
reconnect needs the places twice."""
KEPT_TENTHS = 3
"""Tenths of the minute's messages that entries leave alone: 600 of 2000 are one close in each 100 ms of the executor."""
CONNECTIONS_PER_MINUTE = 30  # PROTOCOL 2.6, per IP
KEPT_UNREADABLE = 20


class LinkHandler(Protocol):
    """Who consumes a link. All of it is synchronous: the link never waits for its consumer."""

    def on_event(self, event: VenueEvent, recv_mono_ms: int) -> None: ...

    def on_subscribing(self) -> None:
        """Connected; nothing that came before counts any more."""

    def on_live(self) -> None:
        """Every subscription that is required was acknowledged."""

    def on_lost(self, reason: str) -> None: ...


@frozen
class LinkConfig:
    """Times in ms: WS-1 and WS-2, with PROTOCOL 2.1 (the venue hangs up after 60 s in which it sent nothing)."""

    ping_every_ms: int = 20_000
    silent_after_ms: int = 45_000
    pong_within_ms: int = 10_000
    ack_within_ms: int = 10_000
    send_within_ms: int = 5_000
    """As long as a post may wait for its answer (POST-1): a socket that takes no bytes for that long gives none."""
    backoff_first_ms: int = 1_000
    backoff_most_ms: int = 60_000
    stable_after_ms: int = 60_000


@define
class SharedLimits:
    """The venue's limits per IP, shared by every link of the process, counted here and only here (WS-3).

    Entries are refused, and subscriptions to market data wait, where the kept part of a minute's messages would be touched.
    Whatever reduces or cancels, pings and the account's own subscriptions only count. Of the 10 connections at once that the
    venue allows there are two by construction.
    """

    messages_per_min: int = MESSAGES_PER_MINUTE
    messages: SlidingWindow = field(init=False)
    connections: SlidingWindow = field(factory=lambda: SlidingWindow(CONNECTIONS_PER_MINUTE, 60_000))
    subscriptions: int = 0
    """What the links hold together while they are up."""

    def __attrs_post_init__(self) -> None:
        self.messages = SlidingWindow(self.messages_per_min, 60_000)

    @property
    def kept(self) -> int:
        """Messages of a minute that are kept for what is no entry."""
        return self.messages_per_min * KEPT_TENTHS // 10

    def entries_left(self, now_ms: int) -> int:
        """Messages that entries may send now; `now_ms` is monotonic."""
        return self.messages.room(now_ms) - self.kept

    def subscription_wait_ms(self, now_ms: int) -> int:
        """How long one more subscription to market data has to wait; `now_ms` is monotonic."""
        return self.messages.wait_ms(now_ms, 1 + self.kept)

    def claim(self, subscriptions: int) -> None:
        """Counts what a link will subscribe. Raises TooManySubscriptions."""
        self.subscriptions += subscriptions
        if self.subscriptions > MOST_SUBSCRIPTIONS:
            raise TooManySubscriptions(
                f"{self.subscriptions} subscriptions are needed, {MOST_SUBSCRIPTIONS} are possible beside those of a "
                "connection that was just lost (the venue allows 1000 per IP); trade fewer markets, or set "
                "detector.depth = false"
            )


class TooManySubscriptions(Exception):
    """More than the venue lets one IP subscribe: how many, how many may be, what to do."""


class LinkLost(Exception):
    """This session is over; the reason is the message."""


class NotSent(LinkLost):
    """No byte of a message left, which is certain; the reason is the message."""


class Link:
    """A link that is kept up until it is cancelled."""

    def __init__(
        self,
        name: str,
        dial: Dial,
        subscriptions: Sequence[Subscription],
        handler: LinkHandler,
        *,
        clock: Clock,
        rng: random.Random,
        journal: Journal,
        limits: SharedLimits,
        require_all_acks: bool,
        config: LinkConfig | None = None,
    ) -> None:
        """`require_all_acks`: without every ack the session is lost; else it goes on without what was not acknowledged.

        Raises TooManySubscriptions.
        """
        limits.claim(len(subscriptions))
        self.name = name
        self.unreadable = 0
        self.kept_unreadable: deque[str] = deque(maxlen=KEPT_UNREADABLE)
        self.connects = 0
        self.live_since_ms: int | None = None
        """Monotonic time since which this session is subscribed; None while there is none."""
        self._dial = dial
        self._subscriptions = tuple(subscriptions)
        self._handler = handler
        self._clock = clock
        self._rng = rng
        self._journal = journal
        self._limits = limits
        self._require_all = require_all_acks
        self._config = config or LinkConfig()
        self.on_state: Callable[[str, ConnectionState, ConnectionEvent, ConnectionState], None] | None = None
        """Told of each change of state with the link's name, in the same step."""
        self._machine = Driver(CONNECTION_TABLE, self._changed)
        self._ws: WebSocketConnection | None = None
        self._awaiting: set[tuple[str, str | None, str | None]] = set()
        self._all_acked = trio.Event()
        self._stuck = trio.Event()
        self._renewing: set[str] = set()
        self._renewal = trio.Event()
        self._turn = trio.Lock()
        """Whose message the socket is taking."""
        self._last_recv_ms = 0
        self._backoff_ms = self._config.backoff_first_ms

    @property
    def state(self) -> ConnectionState:
        return self._machine.state

    @property
    def last_recv_ms(self) -> int | None:
        """Monotonic time of the last message, a pong included, or of the connect before it; None before the first."""
        return self._last_recv_ms if self.connects else None

    @property
    def is_up(self) -> bool:
        """Synchronous: bytes given to `send` in this step have a socket to go to."""
        ws = self._ws
        return (
            ws is not None and ws.closed is None and not self._stuck.is_set() and self.state is not ConnectionState.DIALING
        )

    async def send(self, text: str) -> None:
        """Hands one message to the socket. Raises NotSent where no byte left, else LinkLost: then it is unknown."""
        ws = self._ws
        if ws is None:
            raise NotSent(f"{self.name} link is {self.state.name}")
        deadline = trio.current_time() + self._config.send_within_ms / 1000
        await self._take_turn(deadline)
        try:
            if ws is not self._ws or ws.closed is not None or self._stuck.is_set():
                raise NotSent(f"{self.name} link was lost before the turn of this message")
            self._limits.messages.spend(self._clock.mono_ms())
            await self._write(ws, text, deadline)
        finally:
            self._turn.release()

    async def _take_turn(self, deadline: float) -> None:
        """Waits for the message before this one; where there is none it costs no pass through the event loop."""
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            try:
                with trio.fail_at(deadline):
                    await self._turn.acquire()
            except trio.TooSlowError:
                raise NotSent(f"{self.name} link was busy with another message") from None

    async def _write(self, ws: WebSocketConnection, text: str, deadline: float) -> None:
        """Raises LinkLost: bytes were offered, and nobody knows how many left."""
        try:
            with trio.fail_at(deadline):
                await ws.send_message(text)
        except ConnectionClosed as e:
            raise LinkLost(f"{self.name} link closed while sending") from e
        except trio.TooSlowError:
            self._stuck.set()  # half a frame may have left, so nothing can follow it on this connection
            raise LinkLost(f"{self.name} link took no bytes for {self._config.send_within_ms} ms") from None

    def synced(self) -> None:
        """The consumer has read what the session does not carry; the link counts as READY."""
        if self.state is ConnectionState.SYNCING:
            self._machine.fire(ConnectionEvent.SYNCED)

    def renew(self, coin: str) -> None:
        """Has the subscriptions of one coin made anew, with acks and first messages, while a session lives (MD-2)."""
        self._renewing.add(coin)
        self._renewal.set()

    async def run(self) -> None:
        """Keeps the link up until cancelled."""
        try:
            while True:
                await self._respect_connection_limit()
                self._machine.fire(ConnectionEvent.DIAL)
                started = self._clock.mono_ms()
                reason = await self._one_session()
                self._ws = None
                self._machine.fire(ConnectionEvent.LOST)
                self._handler.on_lost(reason)
                self._note("warning", "ws_lost", reason=reason)
                await self._back_off(self._clock.mono_ms() - started)
        finally:
            self._ws = None
            self._machine.fire(ConnectionEvent.STOP)

    async def _respect_connection_limit(self) -> None:
        window = self._limits.connections
        # Another link may take the place that came free, so it is asked again after each wait.
        while wait := window.wait_ms(self._clock.mono_ms()):  # noqa: ASYNC110 - a time is awaited, not an event
            await trio.sleep(wait / 1000)
        window.spend(self._clock.mono_ms())

    async def _respect_message_limit(self) -> None:
        """Market data wait for their part of the minute; the account's own few subscriptions are what closing needs."""
        if self._require_all:
            return
        while wait := self._limits.subscription_wait_ms(self._clock.mono_ms()):  # noqa: ASYNC110 - as above
            await trio.sleep(wait / 1000)

    async def _back_off(self, lived_ms: int) -> None:
        if lived_ms >= self._config.stable_after_ms:
            self._backoff_ms = self._config.backoff_first_ms
        # Half of it is random, so that many clients of one venue do not come back in step.
        wait = self._backoff_ms * (0.5 + self._rng.random() / 2)
        self._backoff_ms = min(self._backoff_ms * 2, self._config.backoff_most_ms)
        await trio.sleep(wait / 1000)

    async def _one_session(self) -> str:
        """Runs one connection to its end and says why it ended."""
        reason = "closed"
        try:
            async with self._dial() as ws:
                self._ws = ws
                self.connects += 1
                self._machine.fire(ConnectionEvent.CONNECTED)
                self._note("info", "ws_connected")
                self._last_recv_ms = self._clock.mono_ms()
                self._awaiting = {_ack_key(s) for s in self._subscriptions}
                self._all_acked = trio.Event()
                self._stuck = trio.Event()
                self._handler.on_subscribing()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, ws)
                    nursery.start_soon(self._watch)
                    nursery.start_soon(self._watch_stuck)
                    await self._subscribe()
                    await self._renew()
        except* (LinkLost, *CONNECTION_FAILURES) as group:
            error = first_leaf(group)
            reason = str(error) if isinstance(error, LinkLost) else f"{type(error).__name__}: {error}".rstrip(": ")
        return reason

    async def _subscribe(self) -> None:
        for subscription in self._subscriptions:
            await self._respect_message_limit()
            await self.send(subscribe_frame(subscription))
        with trio.move_on_after(self._config.ack_within_ms / 1000) as scope:
            await self._all_acked.wait()
        if scope.cancelled_caught:
            missing = ", ".join(
                f"{kind} {coin or user or ''}".strip() for kind, coin, user in sorted(self._awaiting, key=str)
            )
            self._note("warning", "subscribe_unacknowledged", missing=missing)
            if self._require_all:
                raise LinkLost(f"no ack within {self._config.ack_within_ms} ms of: {missing}")
        self._machine.fire(ConnectionEvent.SUBSCRIBED)
        self._handler.on_live()
        if not self._require_all:
            self.synced()  # market data bring their own state with the first message of each channel (PROTOCOL 2.2)

    async def _renew(self) -> None:
        """Serves `renew` until the session ends; what was wanted of an earlier session, this one began with."""
        self._renewing.clear()
        while True:
            self._renewal = trio.Event()
            wanted, self._renewing = self._renewing, set()
            for subscription in self._subscriptions:
                if subscription.get("coin") in wanted:
                    await self._respect_message_limit()
                    await self.send(unsubscribe_frame(subscription))
                    await self.send(subscribe_frame(subscription))
            if not self._renewing:
                await self._renewal.wait()

    async def _read(self, ws: WebSocketConnection) -> None:
        while True:
            raw = await ws.get_message()
            self._last_recv_ms = now = self._clock.mono_ms()
            try:
                event = parse_frame(raw)
            except WireError as e:
                self.unreadable += 1
                self.kept_unreadable.append(str(e))
                self._note("warning", "frame_unreadable", error=str(e), count=self.unreadable)
                continue
            if isinstance(event, Subscribed):
                if event.method != "subscribe":
                    continue  # the end of a subscription that is being renewed
                self._on_ack(event)
            elif isinstance(event, ChannelError):
                self._note("warning", "channel_error", text=event.text)
            if not isinstance(event, Pong):
                self._handler.on_event(event, now)

    def _on_ack(self, ack: Subscribed) -> None:
        # The echo is normalised (addresses may come back in lower case), so the key is compared folded.
        self._awaiting.discard((ack.kind, ack.coin, ack.user.lower() if ack.user else None))
        self._note("info", "subscribed", channel=ack.kind, coin=ack.coin)
        if not self._awaiting:
            self._all_acked.set()

    async def _watch(self) -> None:
        """Pings so that the venue never hangs up, and declares a silent connection dead."""
        config = self._config
        last_ping = self._clock.mono_ms()
        while True:
            silent_limit = self._last_recv_ms + config.silent_after_ms + config.pong_within_ms
            now = self._clock.mono_ms()
            if now >= silent_limit:
                raise LinkLost(f"silent for {now - self._last_recv_ms} ms")
            if now >= last_ping + config.ping_every_ms:
                await self.send(PING)
                last_ping = now
            await trio.sleep((min(last_ping + config.ping_every_ms, silent_limit) - now) / 1000)

    async def _watch_stuck(self) -> None:
        """Ends the session where somebody, perhaps outside it, could not hand over a whole message."""
        await self._stuck.wait()
        raise LinkLost(f"took no bytes for {self._config.send_within_ms} ms")

    def _changed(self, before: ConnectionState, event: ConnectionEvent, after: ConnectionState) -> None:
        if event is ConnectionEvent.SUBSCRIBED:
            self.live_since_ms = self._clock.mono_ms()
        elif event in (ConnectionEvent.LOST, ConnectionEvent.STOP):
            self.live_since_ms = None
        self._note("debug", "connection", before=before.name, cause=event.name, after=after.name)
        if self.on_state is not None:
            self.on_state(self.name, before, event, after)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self._journal.note(self._clock.wall_ms(), level, event, link=self.name, **fields)


def _ack_key(subscription: Subscription) -> tuple[str, str | None, str | None]:
    coin, user = subscription.get("coin"), subscription.get("user")
    return (
        str(subscription["type"]),
        coin if isinstance(coin, str) else None,
        user.lower() if isinstance(user, str) else None,
    )
