"""Scenes for tests of failures: a scripted market, the whole bot on it, and hands outside the bot.

Everything here is the outside world: what other people quote, a second agent key of the same account, a dial that
breaks, a journal that cannot write. Nothing reaches into the bot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal

import attrs
import trio
from attrs import define, field, frozen
from trio_websocket import WebSocketConnection

from hip3.app import Outcome
from hip3.core.events import Level
from hip3.core.ids import CloidFactory, MarketSpec, OrderSide, TimeInForce
from hip3.core.journal import Journal
from hip3.core.orders import OrderIntent
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Disconnect, Drop, FaultAction, Faults, Point, Rule
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import BookChange, CtxChange, DexListing, MarketListing, TimedEvent
from hip3.exchange.ws import Session
from hip3.io.dial import Dial
from hip3.io.rest import RestClient, http_client
from hip3.settings import from_text
from hip3.settings.schema import Settings
from hip3.simulate.world import World, open_world
from hip3.venue.hyperliquid import actions
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.outcomes import read_order_outcomes
from hip3.venue.hyperliquid.signing import Signer, TradingKey

D = Decimal
PRICES = {"xyz:SNDK": D(600), "xyz:NVDA": D(200), "xyz:TSLA": D(400), "xyz:MU": D(100), "xyz:AMD": D(150)}
"""The stocks of the scenes and where their oracles stand."""
SNDK, NVDA, TSLA, MU, AMD = PRICES
URL = "http://exchange.invalid"


def settings_of(*coins: str, **sections: dict[str, object]) -> Settings:
    """Paper settings for `coins`, promoted automatically; `sections` are changes of sections by key."""
    markets = "".join(f'[[markets]]\ncoin = "{coin}"\n' for coin in coins)
    base = from_text(f'network = "paper"\n{markets}[safety]\nstartup_policy = "auto"\n')
    return attrs.evolve(base, **{name: attrs.evolve(getattr(base, name), **keys) for name, keys in sections.items()})


def listings() -> list[DexListing]:
    """The venue's own dex, and xyz with the stocks of the scenes behind two decoys."""
    stocks = (MarketListing(coin, 3, 10, px, growth_mode=True, fee_scale=D(1)) for coin, px in PRICES.items())
    decoys = (MarketListing("xyz:XYZ100", 4, 30, D(25000)), MarketListing("xyz:GONE", 2, 10, D(50), delisted=True))
    return [
        DexListing("", (MarketListing("BTC", 5, 40, D(90000)),)),
        DexListing("xyz", (*decoys, *stocks)),
    ]


def quotes(coin: str, mid: Decimal, *, sz: str = "20", levels: int = 5) -> BookChange:
    """A book around `mid`, 4 bps to each side and 4 bps apart: no signal against an oracle at `mid`."""
    step = mid * D("0.0004")

    def side(sign: int) -> tuple[Level, ...]:
        return tuple(Level((mid + sign * step * n).quantize(D("0.01")), D(sz)) for n in range(1, levels + 1))

    return BookChange(coin, side(-1), side(+1))


def calm(*coins: str, until_s: int = 120) -> list[TimedEvent]:
    """Books at their oracles. The size of the second level changes every 5 s, which shows a market that is alive."""
    events: list[TimedEvent] = []
    for coin in coins:
        mid = PRICES[coin]
        events.append((0, CtxChange(coin, mid, mid, D(1000))))
        for second in range(0, until_s, 5):
            events.append((second * 1000, quotes(coin, mid, sz=str(20 + second // 5 % 2))))
    return events


def jump(coin: str, at_ms: int, bps: int = 40) -> list[TimedEvent]:
    """The oracle leaves the quotes by `bps`: a signal for the side it went to, from its next context frame on."""
    px = (PRICES[coin] * (1 + D(bps) / 10_000)).quantize(D("0.01"))
    return [(at_ms, CtxChange(coin, px, px))]


def script(*parts: Iterable[TimedEvent]) -> ScriptedSource:
    """A source of all `parts`, in the order of their times."""
    return ScriptedSource(listings(), sorted((e for part in parts for e in part), key=lambda e: e[0]))


def lost(kind: str, point: Point = Point.FRAME, *, uses: int | None = None, action: FaultAction | None = None) -> Rule:
    """The frames, queries or actions of one kind are lost, or what `action` says happens to them."""
    return Rule(point, action or Drop(), lambda subject: subject == kind, uses=uses)


def unfenced() -> Rule:
    """The noops that would burn the nonce of an entry in doubt are lost, so only its expiry proves absence (POST-4)."""
    return lost("noop", Point.BEFORE_ADMISSION)


@define
class Tripwire(Journal):
    """A journal whose disk is full from a certain note on: the task that writes it raises, once, as a real one would."""

    event: str = ""
    fields: dict[str, object] = field(factory=dict)
    armed: bool = False
    tripped: bool = False

    def note(self, wall_ms: int, level: str, event: str, **fields: object) -> None:
        if self.armed and not self.tripped and event == self.event and self.fields.items() <= fields.items():
            self.tripped = True
            raise RuntimeError(f"no space left to write {event}")
        Journal.note(self, wall_ms, level, event, **fields)


@asynccontextmanager
async def world_of(
    settings: Settings,
    source: ScriptedSource,
    *,
    faults: Faults | None = None,
    config: ExchangeConfig | None = None,
    journal: Journal | None = None,
    dial: Callable[[Dial], Dial] = lambda dial: dial,
) -> AsyncIterator[World]:
    """`open_world` with the names of these scenes."""
    opened = open_world(settings, source, faults=faults, config=config, journal=journal, through=dial)
    async with opened as world:
        yield world


@frozen
class Hand:
    """Somebody else with a key of the bot's account, over REST: an operator at another screen, or another program."""

    world: World
    rest: RestClient
    signer: Signer
    nonces: NonceSource
    cloids: CloidFactory

    def spec(self, coin: str) -> MarketSpec:
        return self.world.exchange.engine.state.directory.by_coin[coin].spec

    async def place(self, *orders: OrderIntent) -> None:
        """Sends one action; each order of it must have been taken."""
        answer = await self.rest.exchange(self.signer.sign(actions.order_action(orders), self.nonces.next()))
        errors = [o.error for o in read_order_outcomes(answer, len(orders)) if o.error]
        assert not errors, errors

    def order(self, coin: str, side: OrderSide, px: Decimal, sz: str, tif: TimeInForce = TimeInForce.GTC) -> OrderIntent:
        return OrderIntent(self.cloids.next(), self.spec(coin), side, D(sz), px, tif, False, self.world.clock.wall_ms())

    async def rest_bids(self, coin: str, count: int) -> None:
        """Rests `count` bids, 1 % to 5 % below the oracle."""
        px = PRICES[coin]
        orders = [
            self.order(coin, OrderSide.BUY, (px * (D("0.99") - D(n) / 1500)).quantize(D("0.1")), "0.2") for n in range(count)
        ]
        await self.place(*orders)

    async def take(self, coin: str, side: OrderSide, sz: str) -> None:
        """Takes `sz` from the book, within 1 %."""
        px = (PRICES[coin] * (1 + side.sign * D("0.01"))).quantize(D("0.1"))
        await self.place(self.order(coin, side, px, sz, TimeInForce.IOC))


@asynccontextmanager
async def another_hand(world: World) -> AsyncIterator[Hand]:
    """A second agent of the bot's account with a REST client of its own."""
    key = TradingKey((77).to_bytes(32, "big"))
    world.exchange.approve_agent(world.user, key.address, world.clock.wall_ms() + 86_400_000, "elsewhere")
    async with http_client(world.memory.transport()) as client:
        yield Hand(
            world,
            RestClient(client, world.clock, URL),
            Signer(key, Network.PAPER, None),
            NonceSource(world.clock.wall_ms),
            CloidFactory(world.clock.wall_ms() - 1),
        )


def breaking_dial(calls: Sequence[int], error: Exception) -> Callable[[Dial], Dial]:
    """A dial that raises `error` at the given calls (1 is the first) and works otherwise."""
    count = 0

    def wrap(dial: Dial) -> Dial:
        def dialed() -> AbstractAsyncContextManager[WebSocketConnection]:
            nonlocal count
            count += 1
            if count in calls:
                raise error
            return dial()

        return dialed

    return wrap


async def holding(world: World, *coins: str) -> None:
    """Until the bot holds a position in each of `coins` and knows it, with nothing in flight."""
    await world.ready()
    await world.until(
        lambda: (
            {p.coin for p in world.bot.ledger.held()} == set(coins) == set(world.positions()) and not world.bot.ledger.orders
        )
    )


def trading(*coins: str, at_ms: int = 2500) -> ScriptedSource:
    """All the stocks, calm, and one jump of the oracle in each of `coins`: the bot buys once in each."""
    return script(calm(*PRICES), *(jump(coin, at_ms) for coin in coins))


def steps(world: World) -> list[str]:
    """The words of the way out, in order."""
    return [str(n.fields["step"]) for n in world.events("way_out")]


def cut(world: World) -> None:
    """Every WebSocket connection is gone, without a close frame."""
    for session in list(world.exchange.hub.sessions):
        assert isinstance(session, Session)
        session.cut()


def refuse_connections(world: World) -> None:
    """From now on nobody can connect."""
    world.faults.add(Rule(Point.CONNECT, Disconnect(), uses=None))


async def outcome_of(world: World) -> Outcome:
    """How a run ends that ends by itself; not within two minutes is a failure."""
    with trio.fail_after(120):
        await world.ended.wait()
    assert world.result is not None
    return world.result.outcome
