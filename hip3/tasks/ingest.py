"""Ingest: events of the two links become market state, signals, facts and answers. Synchronous from frame to signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from attrs import define

from hip3.core import facts
from hip3.core.clock import Clock
from hip3.core.detector import Detector, Signal
from hip3.core.events import (
    AssetCtx,
    Bbo,
    Book,
    ChannelError,
    OrderUpdates,
    PostResponse,
    Subscribed,
    UserFills,
    UserFundings,
    VenueEvent,
)
from hip3.core.explain import as_dicts
from hip3.core.filter_trail import filter_trail
from hip3.core.journal import Journal
from hip3.core.market import MarketState
from hip3.core.outlook import SignalBook, signal_fields
from hip3.core.records import NOT_JUDGED, REPLACED
from hip3.core.scribe import Scribe
from hip3.tasks.channels import Answer, Doorbell, LinkBroken, Mailbox, SignalSlots


@define
class MarketIngest:
    """Handler of the market-data link: the newest value replaces the older one, and each change is evaluated once."""

    markets: Mapping[str, MarketState]
    detector: Detector
    signals: SignalSlots
    book: SignalBook
    wake_executor: Doorbell
    clock: Clock
    journal: Journal
    scribe: Scribe
    observing: bool = False
    """Nobody takes the signals; they are told and kept."""
    on_connect: Callable[[], None] = lambda: None
    """Called at the beginning of each session."""
    connected_ms: int | None = None
    """Monotonic time of the last connect; None while down."""

    def on_subscribing(self) -> None:
        self.connected_ms = self.clock.mono_ms()
        self.on_connect()
        for market in self.markets.values():
            market.on_connect()

    def on_live(self) -> None:
        """Nothing to do: each market becomes ready by its own acks and data."""

    def on_lost(self, reason: str) -> None:  # noqa: ARG002 - the link has journaled it
        self.connected_ms = None
        for market in self.markets.values():
            market.on_connect()

    def on_event(self, event: VenueEvent, recv_mono_ms: int) -> None:
        if isinstance(event, Bbo):
            market = self.markets.get(event.coin)
            if market is not None:
                market.on_bbo(event, recv_mono_ms)
                self._evaluate(market, recv_mono_ms)
        elif isinstance(event, AssetCtx):
            market = self.markets.get(event.coin)
            if market is not None:
                market.on_ctx(event, recv_mono_ms)
                self._evaluate(market, recv_mono_ms)
        elif isinstance(event, Book):
            market = self.markets.get(event.coin)
            if market is not None:
                market.on_book(event, recv_mono_ms)
                self._evaluate(market, recv_mono_ms)
        elif isinstance(event, Subscribed) and event.coin is not None and event.coin in self.markets:
            self.markets[event.coin].acked.add(event.kind)

    def _evaluate(self, market: MarketState, recv_mono_ms: int) -> None:
        signal = self.detector.evaluate(market, recv_mono_ms, self.clock.wall_ms())
        if signal is None:
            return
        self.book.add(signal)
        replaced = self.signals.put(signal)
        self.wake_executor.ring()
        # On the way to the wire the executor tells of a signal, after its order has left.
        if self.observing:
            self._tell(signal, NOT_JUDGED, "")
        elif replaced is not None:
            self._tell(replaced, REPLACED, f"by {signal.id}")
            now = self.clock.wall_ms()
            self.journal.note(now, "info", "signal_replaced", signal=replaced.id, coin=replaced.coin, by=signal.id)

    def _tell(self, signal: Signal, verdict: str, detail: str) -> None:
        """Writes down a signal that no gate was asked about; the next commit of any task takes it along."""
        trail = self.scribe.signal(signal, verdict, detail, None, partial(self._trail, signal))
        self.journal.note(signal.detected_wall_ms, "info", "signal", **signal_fields(signal))
        self.journal.note_later(self.clock.wall_ms(), "debug", "signal_trail", trail)

    def _trail(self, signal: Signal) -> dict[str, object]:
        filters = as_dicts(filter_trail(signal, self.detector.config))
        return {"signal": signal.id, "coin": signal.coin, "filters": filters, "gates": []}


@define
class AccountIngest:
    """Handler of the account link: own events become facts for the position task, answers go to the executor."""

    facts: Mailbox[facts.Fact]
    answers: Mailbox[Answer]
    wake_executor: Doorbell
    on_session: Callable[[str], None]
    """Told `subscribing`, `live` or `lost`, in the step in which it happens."""

    def on_subscribing(self) -> None:
        self.facts.put(facts.LinkUp())
        self.wake_executor.ring()  # a closing order that waits for a link waits for no ack
        self.on_session("subscribing")

    def on_live(self) -> None:
        self.on_session("live")
        self.wake_executor.ring()

    def on_lost(self, reason: str) -> None:
        self.facts.put(facts.LinkDown())
        self.answers.put(LinkBroken(reason))
        self.wake_executor.ring()
        self.on_session("lost")

    def on_event(self, event: VenueEvent, recv_mono_ms: int) -> None:  # noqa: ARG002 - own events carry the venue's time
        if isinstance(event, PostResponse):
            self.answers.put(event)
            self.wake_executor.ring()
        elif isinstance(event, OrderUpdates | UserFills | UserFundings):
            self.facts.put(event)
        elif isinstance(event, ChannelError):
            # A malformed post is answered here, without an id: its own deadline settles it (PROTOCOL 2.5).
            pass
