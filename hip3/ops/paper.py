"""The embedded exchange, set up from `[paper]`: market data, a funded account, an approved agent with a throw-away key.

From here on the bot cannot tell it from a real venue: it gets URLs (or in-memory ends), an account and a key (PRD-3).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from collections.abc import AsyncIterator
from pathlib import Path

import trio
from attrs import frozen
from trio_websocket import WebSocketConnection

from hip3.bot import Account
from hip3.core.clock import Clock
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Faults
from hip3.exchange.inmemory import InMemory
from hip3.exchange.models.replay import ReplaySource, open_replay
from hip3.exchange.models.synthetic import SyntheticConfig, SyntheticSource
from hip3.core.market import Reference
from hip3.settings.schema import Paper, PaperSource, Settings
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.signing import Signer, TradingKey

AGENT_LIFE_MS = 180 * 86_400_000  # the longest that the venue allows (PROTOCOL 4.3)


@frozen
class PaperVenue:
    """A simulated exchange and the account that trades on it. `notes` say what its data are and are not."""

    exchange: Exchange
    account: Account
    notes: tuple[str, ...]


def paper_source(paper: Paper, settings: Settings, resolve: Callable[[str], Path]) -> SyntheticSource | ReplaySource:
    """The market data of `[paper]`. Raises RecordingError and ValueError for what cannot be used."""
    if paper.source is PaperSource.REPLAY:
        assert paper.recording is not None  # the schema's rules demand it
        reference = Reference(settings.detector.reference.value)
        return open_replay(resolve(paper.recording), reference=reference, speed=float(paper.speed))
    return SyntheticSource(SyntheticConfig(seed=paper.seed))


def make_paper(
    settings: Settings, source: SyntheticSource | ReplaySource, clock: Clock, faults: Faults | None = None
) -> PaperVenue:
    """An exchange with one funded account and its agent. The keys exist in this process only."""
    paper = settings.paper
    assert paper is not None
    config = ExchangeConfig(latency_ms=paper.latency_ms, block_ms=paper.block_ms, response_ms=paper.response_ms)
    exchange = Exchange(source, clock, config, faults)
    master, agent = TradingKey(secrets.token_bytes(32)), TradingKey(secrets.token_bytes(32))
    for dex in sorted({m.market_key.dex for m in settings.markets}):
        exchange.fund(master.address, dex, paper.deposit_usd)
    exchange.approve_agent(master.address, agent.address, clock.wall_ms() + AGENT_LIFE_MS, "hip3")
    account = Account(master.address, Signer(agent, Network.PAPER))
    return PaperVenue(exchange, account, source.notes)


def memory_dial(venue: InMemory) -> Callable[[], AbstractAsyncContextManager[WebSocketConnection]]:
    """Dials the in-memory exchange; for virtual time, where nothing may touch the operating system."""

    @asynccontextmanager
    async def dial() -> AsyncIterator[WebSocketConnection]:
        async with trio.open_nursery() as nursery:
            connection = await venue.connect_ws(nursery)
            try:
                yield connection
            finally:
                nursery.cancel_scope.cancel()

    return dial
