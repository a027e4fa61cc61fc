"""An exchange without a bot, somebody's hand on it and a flatten to try."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

import trio
from attrs import frozen

from hip3.core.ids import CloidFactory
from hip3.core.journal import Journal
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Faults
from hip3.exchange.inmemory import InMemory
from hip3.exchange.scripted import ScriptedSource
from hip3.io.certificate import FlatCertificate
from hip3.io.clock import TrioClock
from hip3.io.flatten import Flattener, FlattenTarget
from hip3.io.rest import RestClient, http_client
from hip3.ops.exit_config import exit_config
from hip3.ops.paper import make_paper
from hip3.ops.stop import Stop
from hip3.settings.schema import PAPER_MARKETS
from hip3.simulate.world import START_MS, MachineClock, World
from hip3.venue.hyperliquid.nonce import NonceSource
from tests.app.failures.scenes import PRICES, SNDK, URL, Hand, another_hand, calm, script, settings_of

D = Decimal


@frozen
class Desk:
    """An exchange without a bot: an account, somebody's hand on it, and a flatten to try."""

    world: World
    hand: Hand
    rest: RestClient
    steps: list[tuple[str, str]]

    def flattener(self) -> Flattener:
        return Flattener(
            rest=self.rest,
            signer=self.world.venue.account.signer,
            nonces=NonceSource(self.world.clock.wall_ms),
            cloids=CloidFactory(self.world.clock.wall_ms()),
            exits=exit_config(settings_of(SNDK)),
            clock=self.world.clock,
            progress=lambda word, sentence: self.steps.append((word, sentence)),
        )

    async def flatten(self, *, dexes: Sequence[str] | None = ("xyz",), deadline_s: float = 20) -> FlatCertificate:
        return await self.flattener().run(FlattenTarget(self.world.user, dexes), deadline_s)

    def orders_sent(self) -> list[Decimal]:
        """Limit prices of the closing orders that reached the venue."""
        return [D(o["p"]) for o in self.world.closes]


@asynccontextmanager
async def desk(source: ScriptedSource | None = None, config: ExchangeConfig | None = None) -> AsyncIterator[Desk]:
    """A venue with the stocks of the scenes, quiet unless a source says otherwise."""
    clock, faults = TrioClock.starting_at(START_MS), Faults()
    settings = settings_of(*(m.coin for m in PAPER_MARKETS))
    venue = make_paper(settings, source or script(calm(*PRICES)), clock, faults=faults, config=config)
    memory = InMemory(venue.exchange)
    world = World(venue, faults, Stop(), Journal(), clock, MachineClock(clock), memory)
    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        await trio.sleep(0.5)
        async with another_hand(world) as hand, http_client(memory.transport()) as client:
            yield Desk(world, hand, RestClient(client, clock, URL, waits=False), [])
        nursery.cancel_scope.cancel()
