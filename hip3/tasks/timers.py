"""Timers: what must happen because time passes. Exits, market-data readiness, follow-ups of signals.

The time stop looks at nothing but entry time and clock (EXIT-1): no other monitor can delay it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio
from attrs import define, field

from hip3.core.bookkeeper import Bookkeeper
from hip3.core.causes import Safety
from hip3.core.clock import Clock
from hip3.core.execution import EventSink, FlattenFailed
from hip3.core.exits import ExitConfig, ExitRequest, ExitRules, age_ms, due_exits, overdue, ruled_exits
from hip3.core.journal import Journal
from hip3.core.market import MarketState, missing_market_data
from hip3.core.outlook import SignalBook
from hip3.core.ready import Ready
from hip3.core.scribe import Scribe
from hip3.fsm.ready import Condition
from hip3.fsm.safety import SafetyMode
from hip3.tasks.channels import Doorbell, Mailbox

PERIOD_MS = 100
"""A time stop is late by at most this plus the order's own way."""
TRAILS_A_LOOK = 4
"""Ours: 40 signals a second are written with their trail, and no look is held up by more than about a millisecond."""
EXCLUDE_AFTER_MS = 10_000  # MD-2
RETRY_EVERY_MS = 30_000
"""Ours: renewing one market costs four messages of the 2000 of a minute, six with depth."""


@define
class Timers:
    bookkeeper: Bookkeeper
    markets: Mapping[str, MarketState]
    config: ExitConfig
    rules: ExitRules
    max_bbo_age_ms: int
    max_ctx_age_ms: int
    exits: Mailbox[ExitRequest]
    wake_executor: Doorbell
    events: EventSink
    ready: Ready
    safety: Safety
    book: SignalBook
    venue_ms: Callable[[], int]
    """The venue's time, in which entries are stamped."""
    connected_ms: Callable[[], int | None]
    """Monotonic time of the market-data link's last connect; None while it is down."""
    clock: Clock
    journal: Journal
    scribe: Scribe
    is_protection_due: Callable[[], bool] = lambda: False
    """True where the executor would place or withdraw a protective stop, if it were awake (EXIT-5)."""
    on_look: Callable[[], None] = lambda: None
    """Called at the end of each look; promotion by policy happens there."""
    retry: Callable[[str], None] = lambda _coin: None
    """Has the subscriptions of a market renewed."""
    excluded: set[str] = field(factory=set)
    _retry_ms: dict[str, int] = field(factory=dict)
    """When the next attempt with an excluded market is due, monotonic."""

    async def run(self) -> None:
        """Looks every PERIOD_MS until cancelled."""
        while True:
            self.look()
            await trio.sleep(PERIOD_MS / 1000)

    def look(self) -> None:
        """One look at everything."""
        with self.scribe.step("timer"):
            self._look()

    def _look(self) -> None:
        if self.safety.mode is not SafetyMode.HALT:
            self._exits()
        self._overdue()
        self._market_data()
        for record, after, edge in self.book.follow_up(dict(self.markets), self.clock.mono_ms()):
            self._note("debug", "follow_up", signal=record.signal.id, after_ms=after, edge_bps=edge)
            self.scribe.follow_up(record.signal.id, after, edge)
        self.scribe.trails(TRAILS_A_LOOK)
        self.on_look()

    def _exits(self) -> None:
        ledger, now = self.bookkeeper.ledger, self.venue_ms()
        mono = self.clock.mono_ms()
        requests = {r.coin: r for r in ruled_exits(ledger, self.markets, self.rules, now, mono)}
        requests |= {r.coin: r for r in due_exits(ledger, self.config, now, mono)}  # the time stop needs no rule's leave
        for request in requests.values():
            if len(self.exits) < len(self.markets):  # each look asks again; one request per market is enough
                self.exits.put(request)
            self.wake_executor.ring()
        if self.is_protection_due():
            self.wake_executor.ring()

    def _overdue(self) -> None:
        now = self.venue_ms()
        for position in overdue(self.bookkeeper.ledger, self.config, now):
            if self.bookkeeper.mark_overdue(position.coin):
                self.events.put(FlattenFailed(position.coin, position.szi, age_ms(position, now)))

    def _market_data(self) -> None:
        """MD-2: a market without data is left out and does not block the others; it comes back by itself."""
        now, connected = self.clock.mono_ms(), self.connected_ms()
        ready_any = False
        waiting = False
        for coin, market in self.markets.items():
            missing = missing_market_data(market, now, self.max_bbo_age_ms, self.max_ctx_age_ms)
            if missing is None:
                ready_any = True
                if coin in self.excluded:
                    self.excluded.discard(coin)
                    self._note("info", "market_included", coin=coin)
            elif coin not in self.excluded:
                if connected is not None and now - connected >= EXCLUDE_AFTER_MS and market.bbo is None:
                    self.excluded.add(coin)
                    self._note("warning", "market_excluded", coin=coin, missing=missing)
                    self._try_again(coin, now)
                else:
                    waiting = waiting or market.bbo is None
            elif market.bbo is None and connected is not None and now >= self._retry_ms[coin]:
                self._try_again(coin, now)
        self.ready.set(Condition.MD_READY, holds=ready_any and not waiting and connected is not None)

    def _try_again(self, coin: str, now_ms: int) -> None:
        """A subscription that was lost at the venue, or its first message, does not come back by itself."""
        self._retry_ms[coin] = now_ms + RETRY_EVERY_MS
        self._note("info", "market_retried", coin=coin)
        self.retry(coin)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)
