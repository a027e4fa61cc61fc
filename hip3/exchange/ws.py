"""One WebSocket session: requests in, frames out, over any transport that carries text.

Reading and writing are two tasks, so a client that does not read blocks only its own outbox. A session ends when the
client goes, when nothing was sent for a minute (PROTOCOL 2.1), when the outbox overflows, or by a fault.
"""

from __future__ import annotations

from typing import Any, Protocol

import trio

from hip3.exchange.answers import Answer, Cut, Reply, dump
from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Delay, Disconnect, Drop, Duplicate, Point, ReplaceBody
from hip3.exchange.info import InternalError, query_type
from hip3.exchange.outbox import Frame, Outbox
from hip3.exchange.requests import JsonObject, parse_json
from hip3.exchange.subscriptions import Subscription, UnknownCoin, check, history_frame, parse, state_frame
from hip3.exchange.texts import JsonError, SchemaError

UNPARSED = "Error parsing JSON into valid websocket request: "


class TransportClosed(Exception):
    """The other side is gone."""


class Transport(Protocol):
    """A connection that carries text messages. `send_text` and `receive_text` raise TransportClosed."""

    async def send_text(self, text: str) -> None: ...

    async def receive_text(self) -> str: ...

    async def close(self) -> None:
        """Ends the connection as abruptly as the transport can; never raises."""
        ...


class Session:
    """One client's connection."""

    def __init__(self, exchange: Exchange, transport: Transport) -> None:
        self._exchange = exchange
        self._transport = transport
        self._outbox = Outbox(exchange.config.ws_outbox_frames)
        self._pending: set[int] = set()
        self._sent_ms = exchange.elapsed_ms()
        self._cut = trio.Event()
        self.subscriptions: dict[str, Subscription] = {}

    @property
    def outbox(self) -> Outbox:
        return self._outbox

    async def run(self) -> None:
        """Serves the client until one of the ends above; closes the transport on the way out."""
        self._exchange.hub.sessions.append(self)
        try:
            async with trio.open_nursery() as nursery:
                for part in (self._read, self._write, self._watch_idle, self._cut.wait):
                    nursery.start_soon(_until_over, part, nursery.cancel_scope)
        finally:
            self._exchange.hub.sessions.remove(self)
            with trio.CancelScope(shield=True), trio.move_on_after(0.5):  # a close that hangs must not hold a stop
                await self._transport.close()

    def cut(self) -> None:
        """Ends the session without a word."""
        self._cut.set()

    # ----- out

    def push(self, subscription: Subscription, message: Frame) -> None:
        if subscription.key in self.subscriptions:
            self._put(message)

    def _put(self, message: Frame) -> None:
        self._outbox.put(message)
        if self._outbox.overflowed and not self._cut.is_set():  # the writer may be stuck, so it cannot be told
            self._exchange.note("a slow client's outbox overflowed; its session is closed")
            self.cut()

    def _say(self, channel: str, data: Any = None) -> None:
        body: JsonObject = {"channel": channel}
        if data is not None:
            body["data"] = data
        self._put(Frame(channel, dump(body)))

    async def _write(self) -> None:
        while (message := await self._outbox.take()) is not None:
            fault = None if message.spared else self._exchange.faults.at(Point.FRAME, message.channel)
            match fault:
                case Drop():
                    continue
                case Disconnect():
                    return
                case Delay(ms=ms):
                    self._resend_later(message, ms)
                    continue
                case Duplicate():
                    await self._transport.send_text(message.text)
                case ReplaceBody(body=body):
                    message = Frame(message.channel, body)
            await self._transport.send_text(message.text)
            self._sent_ms = self._exchange.elapsed_ms()

    def _resend_later(self, message: Frame, delay_ms: int) -> None:
        late = Frame(message.channel, message.text, key=None, spared=True)
        self._exchange.call_later(delay_ms, lambda: self._put(late))

    async def _watch_idle(self) -> None:
        """Returns when nothing was sent for `ws_idle_close_ms`."""
        limit_ms = self._exchange.config.ws_idle_close_ms
        while (left := self._sent_ms + limit_ms - self._exchange.elapsed_ms()) > 0:  # noqa: ASYNC110 - waits for time
            await trio.sleep(left / 1000)

    # ----- in

    async def _read(self) -> None:
        while True:
            self.on_text(await self._transport.receive_text())

    def on_text(self, text: str) -> None:
        """Handles one message of the client; every complaint is a frame of the `error` channel, without an id."""
        try:
            request = parse_json(text)
            method = request.get("method") if isinstance(request, dict) else None
            if method == "ping":
                self._say("pong")
            elif method in ("subscribe", "unsubscribe"):
                self._on_subscription(method, request.get("subscription"))
            elif method == "post":
                self._on_post(request)
            else:
                self._say("error", UNPARSED + text)
        except (JsonError, SchemaError):
            self._say("error", UNPARSED + text)

    def _on_subscription(self, method: str, value: Any) -> None:
        subscription = parse(value)
        if method == "unsubscribe":
            if self.subscriptions.pop(subscription.key, None) is None:
                self._say("error", f"Already unsubscribed: {dump(subscription.normal)}")
            else:
                self._ack(method, subscription)
            return
        try:
            check(subscription, self._exchange.engine.state)
        except UnknownCoin:
            self._say("error", f"Invalid subscription {dump(subscription.normal)}")
            return
        refusal = self._refusal(subscription)
        if refusal is not None:
            self._say("error", refusal)
            return
        self.subscriptions[subscription.key] = subscription
        self._ack(method, subscription)
        self._first_message(subscription)

    def _ack(self, method: str, subscription: Subscription) -> None:
        self._say("subscriptionResponse", {"method": method, "subscription": subscription.normal})

    def _refusal(self, subscription: Subscription) -> str | None:
        """Why the subscription may not be: it exists, or a limit is reached (PROTOCOL 2.1, 2.6)."""
        config = self._exchange.config
        if subscription.key in self.subscriptions:
            return f"Already subscribed: {dump(subscription.normal)}"
        if len(self.subscriptions) >= config.max_subscriptions:
            return f"Cannot subscribe to more than {config.max_subscriptions} channels."
        users = {s.user for s in self.subscriptions.values() if s.user is not None}
        if subscription.user is not None and len(users | {subscription.user}) > config.max_users:
            return f"Cannot track more than {config.max_users} total users."
        return None

    def _first_message(self, subscription: Subscription) -> None:
        self._exchange.catch_up()
        state = self._exchange.engine.state
        for message in (
            state_frame(subscription, self._exchange.info, state),
            history_frame(subscription, state),
        ):
            if message is not None:
                self._put(message)

    def _on_post(self, message: JsonObject) -> None:
        post_id, request = message.get("id"), message.get("request")
        if not isinstance(post_id, int) or isinstance(post_id, bool) or not isinstance(request, dict):
            raise SchemaError("post: expected an integer id and a request")
        if len(self._pending) >= self._exchange.config.max_pending_posts:
            self._say("error", f"too many pending post requests id={post_id}")
            return
        kind, payload = request.get("type"), request.get("payload")
        if kind == "action":
            self._exchange.submit(payload, lambda answer: self._on_action_answer(post_id, answer))
        elif kind == "info":
            name = query_type(payload)
            try:
                self._exchange.ask(payload, lambda answer: self._on_info_answer(post_id, name, answer))
            except InternalError:
                self._post_error(post_id, Reply(500, "null"))
                return
        else:
            raise SchemaError(f"post: expected type info or action, found {kind!r}")
        self._pending.add(post_id)

    def _on_action_answer(self, post_id: int, answer: Answer) -> None:
        # A refused action is `type: action` with `status: err` inside, not `type: error` (PROTOCOL 2.5).
        self._on_answer(post_id, answer, lambda body: f'{{"type":"action","payload":{body}}}')

    def _on_info_answer(self, post_id: int, name: str, answer: Answer) -> None:
        self._on_answer(post_id, answer, lambda body: f'{{"type":"info","payload":{{"type":{dump(name)},"data":{body}}}}}')

    def _on_answer(self, post_id: int, answer: Answer, wrap: Any) -> None:
        self._pending.discard(post_id)
        if isinstance(answer, Cut):
            self.cut()
        elif answer.status != 200:
            self._post_error(post_id, answer)
        else:
            self._post(post_id, wrap(answer.body))

    def _post_error(self, post_id: int, reply: Reply) -> None:
        # UNVERIFIED: the venue documents "a string mirroring HTTP status and text" (PROTOCOL 2.5).
        self._post(post_id, dump({"type": "error", "payload": f"{reply.status} {reply.body}"}))

    def _post(self, post_id: int, response: str) -> None:
        text = f'{{"channel":"post","data":{{"id":{post_id},"response":{response}}}}}'
        self._put(Frame("post", text))


async def _until_over(part: Any, scope: trio.CancelScope) -> None:
    """Runs one part of a session; when it ends, all of it does."""
    try:
        await part()
    except TransportClosed:
        pass
    finally:
        scope.cancel()


async def serve_connection(exchange: Exchange, transport: Transport) -> None:
    """Runs the session of an accepted connection."""
    await Session(exchange, transport).run()


def may_connect(exchange: Exchange) -> bool:
    """False where the connection limit is reached (UNVERIFIED how the venue answers) or a fault refuses it."""
    if exchange.faults.at(Point.CONNECT, "ws") is not None:
        return False
    return len(exchange.hub.sessions) < exchange.config.max_connections
