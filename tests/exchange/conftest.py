"""A small venue for tests of the exchange: one HIP-3 market that trades, decoys around it, funded accounts, a signer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from attrs import frozen

from hip3.core.events import Level
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.effects import OrderChanged
from hip3.exchange.engine import Engine
from hip3.exchange.exchange import Exchange
from hip3.exchange.faults import Faults, World
from hip3.exchange.market import Directory
from hip3.exchange.requests import parse_action
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import BookChange, CtxChange, DexListing, MarketListing, TimedEvent
from hip3.io.clock import TrioClock
from hip3.venue.hyperliquid.actions import canonicalise, pack
from hip3.venue.hyperliquid.signing import TradingKey, action_hash, agent_digest

D = Decimal
START_MS = 1_767_225_600_000
SNDK = 110_002
"""xyz is dex 1; SNDK stands third, after a delisted decoy."""


def main_dex() -> DexListing:
    return DexListing("", (MarketListing("BTC", 5, 40, D(90000)), MarketListing("ETH", 4, 25, D(3000))))


def xyz_dex() -> DexListing:
    return DexListing(
        "xyz",
        (
            MarketListing("xyz:XYZ100", 4, 30, D(25000)),
            MarketListing("xyz:GONE", 2, 10, D(50), delisted=True),
            MarketListing("xyz:SNDK", 3, 10, D(600), growth_mode=True, fee_scale=D(1)),
            MarketListing("xyz:HOOD", 3, 10, D(100), margin_mode="noCross"),
            MarketListing("xyz:CAPPED", 3, 10, D(200), oi_cap_usd=D(1000)),
        ),
    )


def book(coin: str, bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> BookChange:
    """A BookChange from `(px, sz)` pairs of text."""
    return BookChange(coin, tuple(Level(D(px), D(sz)) for px, sz in bids), tuple(Level(D(px), D(sz)) for px, sz in asks))


def usual_events() -> list[TimedEvent]:
    return [
        (0, book("xyz:SNDK", [("599", "1"), ("598", "5")], [("601", "1"), ("602", "5")])),
        (0, CtxChange("xyz:SNDK", D(600), D(600), D(1000))),
        (0, book("BTC", [("89990", "1")], [("90010", "1")])),
        (0, book("xyz:HOOD", [("99.9", "100")], [("100.1", "100")])),
        (0, CtxChange("xyz:CAPPED", D(200), D(200), D(5))),
        (0, book("xyz:CAPPED", [("199", "10")], [("201", "10")])),
    ]


@frozen
class Kit:
    """An engine with a filled book, and accounts `a` and `b` with 10,000 USD on xyz."""

    engine: Engine
    world: World
    a: str = "0x" + "a" * 40
    b: str = "0x" + "b" * 40

    def do(self, address: str, action: dict[str, Any], *, after_ms: int = 85) -> Any:
        """Runs one action in a block of its own and returns the answer."""
        self.engine.begin_block(self.engine.state.now_ms + after_ms)
        return self.engine.execute(address, parse_action(action))

    def statuses(self, address: str, action: dict[str, Any]) -> Any:
        return self.do(address, action)["response"]["data"]["statuses"]

    def place(self, address: str, side: str, px: str, sz: str, **options: Any) -> Any:
        """The one status of one order."""
        return self.statuses(address, {"type": "order", "orders": [order(side, px, sz, **options)], "grouping": "na"})[0]

    def frames(self, address: str) -> list[str]:
        """Statuses of the orderUpdates that an address would have got since the last look."""
        effects = self.engine.state.collect()
        return [e.update.status for e in effects if isinstance(e, OrderChanged) and e.address == address]

    def szi(self, address: str, asset: int = SNDK) -> Decimal:
        return self.engine.state.account(address).szi(asset)


def order(
    side: str, px: str, sz: str, *, tif: str = "Ioc", reduce: bool = False, asset: int = SNDK, cloid: str | None = None
) -> dict[str, Any]:
    """An order of the wire; `side` is "buy" or "sell"."""
    wire: dict[str, Any] = {
        "a": asset,
        "b": side == "buy",
        "p": px,
        "s": sz,
        "r": reduce,
        "t": {"limit": {"tif": tif}},
    }
    return {**wire, "c": cloid} if cloid is not None else wire


def make_kit(**config: Any) -> Kit:
    world = World()
    engine = Engine(Directory([main_dex(), xyz_dex()]), ExchangeConfig(**config), world)
    engine.begin_block(START_MS)
    for _, event in usual_events():
        engine.apply(event)
    kit = Kit(engine, world)
    for address in (kit.a, kit.b):
        engine.fund(address, "xyz", D(10_000))
    return kit


@pytest.fixture(scope="session")
def new_kit() -> Callable[..., Kit]:
    """Makes an engine; keyword arguments are fields of ExchangeConfig."""
    return make_kit


@pytest.fixture
def kit() -> Kit:
    return make_kit()


@frozen
class Trader:
    """A key with a counter of nonces."""

    key: TradingKey
    last: list[int]

    @property
    def address(self) -> str:
        return self.key.address.lower()

    def sign(
        self, action: dict[str, Any], *, nonce: int | None = None, expires: int | None = None, vault: str | None = None
    ) -> dict[str, Any]:
        """The body of `/exchange`, signed as for testnet."""
        if nonce is None:
            self.last[0] += 1
            nonce = self.last[0]
        hashed = action_hash(pack(canonicalise(action)), nonce, vault, expires)
        signature = self.key.sign_digest(agent_digest(hashed, False)).as_dict()
        return {
            "action": action,
            "nonce": nonce,
            "signature": signature,
            "vaultAddress": vault,
            "expiresAfter": expires,
        }

    def order(self, *orders: dict[str, Any], **envelope: Any) -> dict[str, Any]:
        return self.sign({"type": "order", "orders": list(orders), "grouping": "na"}, **envelope)


def make_trader(number: int) -> Trader:
    return Trader(TradingKey(number.to_bytes(32, "big")), [START_MS])


@pytest.fixture
def trader() -> Trader:
    return make_trader(7)


@pytest.fixture
def stranger() -> Trader:
    """A key that nobody knows."""
    return make_trader(8)


@pytest.fixture
def new_exchange(trader: Trader) -> Callable[..., Exchange]:
    """Makes an exchange on Trio's clock with `trader` funded on xyz; call it inside a Trio test."""

    def make(events: Sequence[TimedEvent] | None = None, faults: Faults | None = None, **config: Any) -> Exchange:
        source = ScriptedSource([main_dex(), xyz_dex()], usual_events() if events is None else events)
        exchange = Exchange(source, TrioClock.starting_at(START_MS), ExchangeConfig(**config), faults)
        exchange.fund(trader.address, "xyz", D(10_000))
        return exchange

    return make


@pytest.fixture(scope="session")
def wire_order() -> Callable[..., dict[str, Any]]:
    """Makes an order of the wire: `wire_order("buy", "601", "0.1", tif="Ioc")`."""
    return order


@pytest.fixture(scope="session")
def wire_book() -> Callable[..., BookChange]:
    """Makes a BookChange from pairs of text."""
    return book
