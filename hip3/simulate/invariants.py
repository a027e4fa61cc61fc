"""What must hold whatever goes wrong (DESIGN 9), looked at from outside: the bot's books, the exchange's, and the wire.

A watch looks after every fact that the bot books, four times a second, and once at the end. It changes nothing in either
of the two and asks nothing over the wire. What it finds broken it keeps, the first time of each kind; it never raises, so
that a run goes on to its end and shows what became of it. What is made durable is looked at as it is committed (kept.py).
Processes may follow each other (`detach`, `attach`): the venue's side of every invariant goes on across them (invariant 10).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from decimal import Decimal

import trio
from attrs import define, field, frozen

from hip3.app import Outcome
from hip3.bot import Bot, Trader
from hip3.core.causes import ReasonCode
from hip3.core.clock import Clock
from hip3.core.doubt import BUDGET_MS
from hip3.core.events import Position
from hip3.core.gates import Caps
from hip3.core.ids import is_our_cloid
from hip3.core.journal import Journal, Note
from hip3.core.ledger import TrackedOrder
from hip3.core.units import ZERO
from hip3.exchange.exchange import Exchange
from hip3.exchange.requests import Envelope, Noop, OrderRequest, PlaceOrders
from hip3.fsm.order import OrderState
from hip3.fsm.position import PositionState
from hip3.fsm.safety import SafetyMode
from hip3.settings.caps import effective_caps
from hip3.simulate.kept import Kept
from hip3.tasks.position import ASK_BEFORE_CLOSE_MS
from hip3.tasks.reconcile import ABSENCE_MARGIN_MS, READ_EVERY_MS

LOOK_EVERY_S = 0.25
KEPT_NOTES = 4000
"""The story of the last minutes, for whoever asks why."""
KEPT_SIGNALS = 200
"""An entry lives for half a minute at most, and a market has one at a time."""
WAY_MS = 1_000
"""From a decision to the news of its effect: the periods of timers and batches, and 385 ms of way (ExchangeConfig)."""


@frozen
class Broken:
    """An invariant that did not hold: its number in DESIGN 9, when (wall ms), and what was seen."""

    number: int
    at_ms: int
    what: str

    def __str__(self) -> str:
        return f"invariant {self.number}: {self.what}"


def late_ms(post_timeout_ms: int) -> int:
    """How much longer than its time stop a position may live once nothing goes wrong any more.

    A closing order lost at the last moment is missed after `post_timeout_ms` and sent again; one refused because the
    books differ waits for the account to be read first.
    """
    return post_timeout_ms + ASK_BEFORE_CLOSE_MS + WAY_MS


@define
class Watch:
    """Looks at one run. `bot` is given by `attach`; until then there is nothing to look at."""

    exchange: Exchange
    user: str
    clock: Clock
    journal: Journal
    secrets: tuple[str, ...] = ()
    """Texts that may stand in no note and no record, in lower case."""
    broken: list[Broken] = field(factory=list)
    kept: Kept = field(init=False)
    """For a recorder: what it is told of each commit."""
    notes: deque[Note] = field(factory=lambda: deque(maxlen=KEPT_NOTES))
    entries: int = 0
    """Entries that reached the venue's door."""
    bot: Bot | None = None
    _caps: Caps | None = None
    _known: set[tuple[int, str]] = field(factory=set)
    _mode: SafetyMode = SafetyMode.ARMED_SAFE
    _live_until_ms: int = -1
    """The last wall time at which entries were allowed."""
    _last_nonce: int = 0
    _last_seen: Envelope | None = None
    _signals: dict[str, str] = field(factory=dict)
    """Signal by cloid, as the journal told."""
    _entered: dict[str, str] = field(factory=dict)
    """Cloid of the entry by signal, as seen on the wire."""
    _struck: int = 0
    _trouble_ms: int = 0
    """The last wall time at which something was wrong with the way between bot and venue."""
    _held_since: dict[str, int] = field(factory=dict)
    _differs_since: dict[str, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.kept = Kept(self.clock, self._say, self.secrets)

    def detach(self) -> None:
        """The process was killed. What it sent is still under way; its own words end here."""
        self._listen()
        self.bot = None
        self._mode = SafetyMode.ARMED_SAFE
        self.kept.new_process()

    def attach(self, bot: Bot) -> None:
        """Starts looking after every fact."""
        caps = effective_caps(bot.settings)
        self.bot, self._caps = bot, Caps(caps.per_market_usd, caps.total_usd)
        self._trouble_ms = self.clock.wall_ms()
        assert bot.trader is not None, "a bot that observes has no books to look at"
        bot.trader.position.on_change = self.look

    async def run(self) -> None:
        """Looks when nothing happens, for some things are wrong only because they last. Until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """One look at everything."""
        if self.bot is None or self.bot.trader is None:
            return
        self._listen()
        self._note_trouble(self.bot, self.bot.trader)
        self._wire()
        self._exposure()
        self._identity(self.bot)
        if not len(self.bot.trader.position.facts):  # else the books are about to change
            self._markets(self.bot, self.bot.trader)
        self._positions(self.bot)

    def finish(self, outcome: Outcome) -> None:
        """The look after the end."""
        self.look()
        bot = self.bot
        if bot is None:
            return
        held = [f"{p.szi} {p.coin}" for p in self.exchange.positions(self.user)]
        resting = [f"oid {o.oid}" for o in self.exchange.open_orders(self.user)]
        flat = not held and not resting
        if outcome.error is not None or outcome.exit_code not in (0, 4):
            self._say(9, f"exit code {outcome.exit_code}: {outcome.error!r}")
        if outcome.exit_code == 0 and not flat:
            self._say(9, f"exit code 0, but the venue shows {held + resting}")
        if outcome.exit_code == 4 and not outcome.residual:
            self._say(9, "exit code 4 without a word of what is left")
        self.kept.compare(bot)
        self.kept.read(outcome)
        if bot.posts.in_flight:
            self._say(5, f"{bot.posts.in_flight} posts are in flight after the end")
        if not flat or any(n.event == "books_unread" for n in self.notes):
            return  # what the bot says that it does not know is no lie
        booked = self.kept.booked
        unknown = [f for f in self.exchange.fills(self.user) if f.key not in bot.ledger.seen_fills and f.key not in booked]
        if unknown:
            self._say(4, f"{len(unknown)} fills of the venue are in no book, the last: {unknown[-1]}")
        for position in bot.ledger.held():
            self._say(4, f"{position.coin}: the venue is flat, the books hold {position.szi}")

    def _say(self, number: int, what: str, subject: str = "") -> None:
        """Keeps what is broken, once for each subject (else each sentence is its own)."""
        key = (number, subject or what)
        if key not in self._known:
            self._known.add(key)
            self.broken.append(Broken(number, self.clock.wall_ms(), what))

    # ---- what is listened to

    def _listen(self) -> None:
        """Modes and signals as the journal told them."""
        for note in self.journal.drain():
            self.notes.append(note)
            self.kept.read(note)
            if note.event == "safety_mode":
                if self._mode is SafetyMode.ARMED_LIVE:
                    self._live_until_ms = note.wall_ms
                self._mode = SafetyMode[str(note.fields["after"])]
            elif note.event == "order_enqueued":
                self._signals[str(note.fields["cloid"])] = str(note.fields["signal"])
                for old in list(self._signals)[:-KEPT_SIGNALS]:
                    del self._signals[old]
        if self._mode is SafetyMode.ARMED_LIVE:
            self._live_until_ms = self.clock.wall_ms()

    def _note_trouble(self, bot: Bot, trader: Trader) -> None:
        """Strikes, requests refused for their weight, and links that are down, with what they hold up."""
        struck = self.exchange.faults.strikes + self.exchange.over_weight
        if struck != self._struck or not trader.account_link.is_up or not bot.market_link.is_up:
            self._trouble_ms = self.clock.wall_ms()
        self._struck = struck

    # ---- 2, 3, 5, 7: the wire

    def _wire(self) -> None:
        for arrived_ms, envelope in self._new_envelopes():
            # A noop with the nonce of an order in doubt is to use it up (POST-4); everything else has its own.
            if envelope.nonce <= self._last_nonce and not isinstance(envelope.action, Noop):
                self._say(5, f"nonce {envelope.nonce} came after {self._last_nonce}")
            self._last_nonce = max(self._last_nonce, envelope.nonce)
            for order in orders_of(envelope):
                if is_our_cloid(order.cloid):
                    self._order(order, str(order.cloid), envelope.nonce, arrived_ms)

    def _new_envelopes(self) -> Sequence[tuple[int, Envelope]]:
        """What was received since the last look, with the venue's time, oldest first."""
        new: list[tuple[int, Envelope]] = []
        began_ms = self.exchange.venue_ms() - self.exchange.elapsed_ms()
        for at_ms, envelope in reversed(self.exchange.received):
            if envelope is self._last_seen:
                break
            new.append((began_ms + at_ms, envelope))
        if new:
            self._last_seen = new[0][1]
        return new[::-1]

    def _order(self, order: OrderRequest, cloid: str, nonce: int, arrived_ms: int) -> None:
        if not self.kept.is_before(cloid, nonce, arrived_ms):
            self._say(7, f"order {cloid} with nonce {nonce} reached the venue before its intent was durable")
        if not order.reduce_only:
            self._entry(cloid, arrived_ms)

    def _entry(self, cloid: str, arrived_ms: int) -> None:
        self.entries += 1
        # Modes are heard of at looks, which are a quarter of a second apart at most.
        if arrived_ms - self._live_until_ms > LOOK_EVERY_S * 1000:
            self._say(2, f"entry {cloid} reached the venue in {self._mode.name}")
        signal = self._signals.get(cloid, cloid)
        first = self._entered.get(signal)
        if first is not None:
            self._say(3, f"signal {signal} became entry {first} and again {cloid}")
        self._entered[signal] = cloid
        for old in list(self._entered)[:-KEPT_SIGNALS]:
            del self._entered[old]

    def _identity(self, bot: Bot) -> None:
        posts = bot.posts
        live = sum(post.was_sent for post in posts.live)
        if posts.sent - posts.completed != live or not 0 <= posts.in_flight <= bot.settings.executor.max_inflight:
            self._say(5, f"{posts.sent} sent, {posts.completed} completed, {live} live", "identity")

    # ---- 1: exposure

    def _exposure(self) -> None:
        """Positions at entry prices and entries under way at their limits: what was taken on, not what it is worth now."""
        assert self._caps is not None
        usd: dict[str, Decimal] = {}
        for held in self.exchange.positions(self.user):
            usd[held.coin] = abs(held.szi) * (held.entry_px or ZERO)
        for coin, order in self._entries_under_way():
            usd[coin] = usd.get(coin, ZERO) + order.sz * order.px
        for coin, value in usd.items():
            if value > self._caps.per_market_usd:
                self._say(1, f"{coin}: {value:.2f} USD over the cap of {self._caps.per_market_usd}", coin)
        total = sum(usd.values(), ZERO)
        if total > self._caps.total_usd:
            self._say(1, f"{total:.2f} USD in total, over the cap of {self._caps.total_usd}", "total")

    def _entries_under_way(self) -> Iterator[tuple[str, OrderRequest]]:
        now = self.exchange.venue_ms()
        markets = self.exchange.engine.state.directory.by_asset
        for envelope in self.exchange.in_flight():
            expired = envelope.expires_after_ms is not None and envelope.expires_after_ms < now
            for order in orders_of(envelope):
                if not order.reduce_only and not expired and order.asset in markets:
                    yield markets[order.asset].coin, order

    # ---- 4, 6, 8: books and time

    def _markets(self, bot: Bot, trader: Trader) -> None:
        """Nothing is blocked without a cause: each state has what it speaks of, and each pending order an end in sight."""
        ledger = bot.ledger
        for coin, position in ledger.positions.items():
            blocked = {
                PositionState.FLAT: position.szi != 0,
                PositionState.OPENING: not ledger.has_pending_entry(coin),
                PositionState.OPEN: position.szi == 0,
                PositionState.CLOSING: ledger.pending_close(coin) is None,
                PositionState.FLATTEN_FAILED: position.szi == 0,
            }[position.state]
            if blocked:
                self._say(6, f"{coin} is {position.state.name} with {position.szi} held and no such order", coin)
        served = {o.cloid.value for post in trader.executor.posts.live for o in post.batch.orders}
        for order in ledger.orders.values():
            if order.state is OrderState.SENT and order.cloid.value not in served:
                self._say(6, f"{order.cloid} is SENT and no post answers for it", str(order.cloid))
            self._ends(bot, order)

    def _ends(self, bot: Bot, order: TrackedOrder) -> None:
        config = bot.settings.executor
        due_ms = config.expires_after_ms + ABSENCE_MARGIN_MS + BUDGET_MS + config.post_timeout_ms
        now = self.clock.wall_ms()
        said = any(
            c.code is ReasonCode.EXECUTION_RETRY_BUDGET_EXCEEDED and c.source == str(order.cloid) for c in bot.safety.causes
        )
        if now - max(order.intent.created_at_ms, self._trouble_ms) > due_ms and not said:
            self._say(6, f"{order.cloid} on {order.intent.coin} is still {order.state.name}", str(order.cloid))

    def _positions(self, bot: Bot) -> None:
        now = self.clock.wall_ms()
        held = {p.coin: p for p in self.exchange.positions(self.user)}
        for coin in self._held_since.keys() - held.keys():
            del self._held_since[coin]
        for coin in held:
            self._held_since.setdefault(coin, now)
        if bot.io.clock is self.clock and bot.lifecycle.state.name == "RUNNING":
            self._time_stops(bot, now)
        self._same_books(bot, held, now)

    def _time_stops(self, bot: Bot, now: int) -> None:
        bound = late_ms(bot.settings.executor.post_timeout_ms)
        for coin, since in self._held_since.items():
            due = max(since + bot.settings.position.time_stop_ms, self._trouble_ms)
            if now - due > bound:
                self._say(
                    8, f"{coin} is held for {now - since} ms, nothing was in the way for {now - self._trouble_ms} ms", coin
                )

    def _same_books(self, bot: Bot, held: dict[str, Position], now: int) -> None:
        """Books that differ are set right by the reading of the account at the latest, and the one that confirms it."""
        most = READ_EVERY_MS + bot.settings.executor.post_timeout_ms + 5 * WAY_MS
        for coin in held.keys() | bot.ledger.positions.keys():
            venue = held[coin].szi if coin in held else ZERO
            ours = bot.ledger.position(coin).szi
            if ours == venue:
                self._differs_since.pop(coin, None)
                continue
            since = max(self._differs_since.setdefault(coin, now), self._trouble_ms)
            if now - since > most:
                self._say(4, f"{coin}: the venue holds {venue}, the books {ours}, for {now - since} ms", coin)


def orders_of(envelope: Envelope) -> tuple[OrderRequest, ...]:
    return envelope.action.orders if isinstance(envelope.action, PlaceOrders) else ()
