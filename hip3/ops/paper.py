"""The embedded exchange, set up from `[paper]`: market data, a funded account, an approved agent with a throw-away key.

From here on the bot cannot tell it from a real venue: it gets URLs (or in-memory ends), an account and a key (PRD-3).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from attrs import frozen

from hip3.bot import Account
from hip3.core.clock import Clock
from hip3.core.ids import OrderSide
from hip3.core.market import Reference
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Faults
from hip3.exchange.models.replay import ReplaySource, open_replay
from hip3.exchange.models.synthetic import SyntheticConfig, SyntheticSource
from hip3.exchange.seam import DexListing, MarketSource, TimedEvent
from hip3.settings.schema import Paper, PaperSource, Settings
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.signing import Signer, TradingKey

AGENT_LIFE_MS = 180 * 86_400_000  # the longest that the venue allows (PROTOCOL 4.3)


@frozen
class PaperVenue:
    """A simulated exchange and the account that trades on it."""

    exchange: Exchange
    account: Account


def paper_source(paper: Paper, settings: Settings, resolve: Callable[[str], Path]) -> SyntheticSource | ReplaySource:
    """The market data of `[paper]`. Raises RecordingError and ValueError for what cannot be used."""
    if paper.source is PaperSource.REPLAY:
        assert paper.recording is not None  # the schema's rules demand it
        reference = Reference(settings.detector.reference.value)
        return open_replay(resolve(paper.recording), reference=reference, speed=float(paper.speed))
    return SyntheticSource(SyntheticConfig(seed=paper.seed))


@frozen
class _Ending:
    """A source that says when its events are over."""

    source: MarketSource
    on_end: Callable[[], None]

    def listings(self) -> Sequence[DexListing]:
        return self.source.listings()

    def events(self) -> Iterator[TimedEvent]:
        yield from self.source.events()
        self.on_end()

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:
        return self.source.on_take(coin, side, px, sz, at_ms)


def make_paper(
    settings: Settings,
    source: MarketSource,
    clock: Clock,
    *,
    given: tuple[str, TradingKey] | None = None,
    on_end: Callable[[], None] = lambda: None,
    faults: Faults | None = None,
    config: ExchangeConfig | None = None,
) -> PaperVenue:
    """An exchange with one funded account and its agent: the `given` address and agent key, else throw-away ones.

    `on_end` is called when the market data end, as a recording's do.
    """
    paper = settings.paper
    assert paper is not None
    delays = ExchangeConfig(latency_ms=paper.latency_ms, block_ms=paper.block_ms, response_ms=paper.response_ms)
    exchange = Exchange(_Ending(source, on_end), clock, config or delays, faults)
    user, agent = given or (TradingKey(secrets.token_bytes(32)).address, TradingKey(secrets.token_bytes(32)))
    for dex in sorted({m.market_key.dex for m in settings.markets}):
        exchange.fund(user, dex, paper.deposit_usd)
    exchange.approve_agent(user, agent.address, clock.wall_ms() + AGENT_LIFE_MS, "hip3")
    account = Account(user, Signer(agent, Network.PAPER, settings.vault_address))
    return PaperVenue(exchange, account)
