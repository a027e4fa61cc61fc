"""What the tests of the whole bot build their cases from: a venue's listings, market frames by time, settings, a hand.

Everything acts from the venue's side or the operator's; nothing here reaches into the bot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import trio
from attrs import define, field

from hip3.core.events import Level
from hip3.core.ids import OrderSide, TimeInForce, is_our_cloid
from hip3.core.journal import Note
from hip3.exchange.answers import Answer, Reply
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.requests import Envelope
from hip3.exchange.scripted import Reaction, ScriptedSource
from hip3.exchange.seam import BookChange, CtxChange, DexListing, MarketListing, TimedEvent
from hip3.exchange.ws import Session
from hip3.settings.load import from_text
from hip3.settings.schema import Settings
from hip3.simulate.world import START_MS, World
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.signing import Signer, TradingKey

SNDK, MU, NVDA, AMD, HOOD = (f"xyz:{name}" for name in ("SNDK", "MU", "NVDA", "AMD", "HOOD"))
ASSETS = {SNDK: 110_002, MU: 110_003, NVDA: 110_004, AMD: 110_005, HOOD: 110_006}
"""xyz is dex 1, and a delisted market keeps its slot (PROTOCOL 1.2)."""

FAST = ExchangeConfig(latency_ms=20, block_ms=10, response_ms=20)
"""A near venue: 40 to 50 ms from send to answer."""
SLOW = ExchangeConfig(latency_ms=1500, block_ms=10, response_ms=20)
"""An order is on its way for 1.5 s: two contexts come while it is pending."""

HAND = TradingKey((77).to_bytes(32, "big"))
"""The key of the account's owner, for what happens besides the bot."""

D = Decimal


def listings() -> list[DexListing]:
    """The main dex, xyz with decoys around the stocks, and a dex with another collateral."""

    def stock(coin: str, **options: Any) -> MarketListing:
        return MarketListing(coin, 3, 10, D(600), **{"fee_scale": D(1), "growth_mode": True, **options})

    return [
        DexListing("", (MarketListing("BTC", 5, 40, D(90000)), MarketListing("ETH", 4, 25, D(3000)))),
        DexListing(
            "xyz",
            (
                MarketListing("xyz:XYZ100", 4, 30, D(25000)),
                MarketListing("xyz:GONE", 2, 10, D(50), delisted=True),
                stock(SNDK),
                stock(MU),
                stock(NVDA),
                stock(AMD),
                stock(HOOD, growth_mode=False),
            ),
        ),
        DexListing("usd", (MarketListing("usd:SNDK", 3, 10, D(600)),), collateral_token=360),
    ]


@define
class Script:
    """Market frames by the ms of the run; every method adds and returns the script."""

    events: list[TimedEvent] = field(factory=list)

    def calm(self, *coins: str) -> Script:
        """From the start 599.9 to 600.1 around an oracle of 600, 6000 USD at each touch."""
        for coin in coins or (SNDK,):
            self.oracle(0, "600", mark="600", coin=coin).quote(0, "599.9", "600.1", coin=coin)
        return self

    def quote(self, at_ms: int, bid: str | None, ask: str | None, *, sz: str = "10", coin: str = SNDK) -> Script:
        """One level a side, and deep ones two per cent behind them where that side is quoted."""

        def levels(px: str | None, sign: int) -> tuple[Level, ...]:
            return () if px is None else (Level(D(px), D(sz)), Level(D(px) + sign * 12, D(1000)))

        self.events.append((at_ms, BookChange(coin, levels(bid, -1), levels(ask, 1))))
        return self

    def pulse(self, end_s: int, *, coin: str = SNDK) -> Script:
        """The calm quote with another size every 5 s: a quote that never changes is never sent again (PROTOCOL 2.3)."""
        for second in range(5, end_s, 5):
            self.quote(second * 1000 + 500, "599.9", "600.1", sz=f"10.{second}", coin=coin)
        return self

    def depth(self, at_ms: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]], *, coin: str = SNDK) -> Script:
        """The whole depth, `(px, sz)` best first."""
        sides = [tuple(Level(D(px), D(sz)) for px, sz in side) for side in (bids, asks)]
        self.events.append((at_ms, BookChange(coin, sides[0], sides[1])))
        return self

    def oracle(self, at_ms: int, px: str, *, mark: str | None = None, coin: str = SNDK) -> Script:
        """Seen by the bot with the context of the next whole second."""
        self.events.append((at_ms, CtxChange(coin, oracle_px=D(px), mark_px=None if mark is None else D(mark))))
        return self

    def rising(self, start_s: int, end_s: int, *, start_px: int = 602, coin: str = SNDK) -> Script:
        """One dollar more in each context of the seconds `start_s` to `end_s`: one buy signal a second."""
        for n, second in enumerate(range(start_s, end_s + 1)):
            self.oracle(second * 1000 - 500, str(start_px + n), coin=coin)
        return self

    def source(self, reaction: Reaction | None = None) -> ScriptedSource:
        return ScriptedSource(listings(), sorted(self.events, key=lambda e: e[0]), reaction)


def dislocated(at_s: int = 2, *coins: str) -> Script:
    """Calm, and in the context of second `at_s` an oracle of 602: the ask of 600.1 is 31.6 bps below, cost is 7.9."""
    script = Script().calm(*(coins or (SNDK,)))
    for coin in coins or (SNDK,):
        script.oracle(at_s * 1000 - 500, "602", coin=coin)
    return script


def toml(values: Mapping[str, object], coins: tuple[str, ...] = (SNDK,), market: Mapping[str, object] | None = None) -> str:
    """A configuration file of dotted keys; `market` adds keys to every `[[markets]]`."""

    def line(name: str, value: object) -> str:
        return f"{name} = {json.dumps(value)}\n"  # text, numbers, booleans and lists look alike in JSON and TOML

    sections: dict[str, str] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        sections[section] = sections.get(section, "") + line(name, value)
    text = sections.pop("", "")
    for coin in coins:
        text += "[[markets]]\n" + line("coin", coin) + "".join(line(k, v) for k, v in (market or {}).items())
    return text + "".join(f"[{name}]\n{body}" for name, body in sections.items())


def bot_settings(
    values: Mapping[str, object] | None = None,
    *,
    coins: tuple[str, ...] = (SNDK,),
    market: Mapping[str, object] | None = None,
) -> Settings:
    """Settings as a file would give them: paper, promoted by policy, and the given dotted keys."""
    return from_text(toml({"network": "paper", "safety.startup_policy": "auto", **(values or {})}, coins, market))


def verdicts(world: World, coin: str | None = None) -> list[str]:
    """What the gates said of each signal so far, oldest first."""
    return [str(n.fields["verdict"]) for n in world.events("signal_judged") if coin is None or n.fields["coin"] == coin]


def judged(world: World, verdict: str) -> list[Note]:
    return [n for n in world.events("signal_judged") if n.fields["verdict"] == verdict]


def sent(world: World) -> list[tuple[int, Envelope]]:
    """Order actions that reached the exchange, with the ms of the run."""
    return [(at, e) for at, e in world.exchange.received if e.raw_action["type"] == "order"]


def sessions(world: World, kind: str) -> list[Session]:
    """Sessions at the exchange that hold a subscription of `kind`."""
    found = [s for s in world.exchange.hub.sessions if any(x.kind == kind for x in s.subscriptions.values())]
    return [s for s in found if isinstance(s, Session)]


def cut_account(world: World) -> None:
    """The venue hangs up on the account link without a word."""
    for session in sessions(world, "userFills"):
        session.cut()


def cut_market(world: World) -> None:
    for session in sessions(world, "bbo"):
        session.cut()


async def by_hand(
    world: World,
    side: OrderSide,
    px: str,
    sz: str,
    *,
    coin: str = SNDK,
    tif: TimeInForce = TimeInForce.IOC,
    reduce_only: bool = False,
) -> Any:
    """The account's owner trades by other means, with an agent of his own; returns the venue's status of the order."""
    account = world.exchange.engine.state.account(world.user.lower())
    if "hand" not in account.agents:
        world.exchange.approve_agent(world.user, HAND.address, START_MS + 30 * 86_400_000, "hand")
    order = {"a": ASSETS[coin], "b": side.is_buy, "p": px, "s": sz, "r": reduce_only, "t": {"limit": {"tif": tif.value}}}
    action: dict[str, object] = {"type": "order", "orders": [order], "grouping": "na"}
    nonce = world.clock.wall_ms() + len(world.exchange.received)  # two in one millisecond must differ
    answers: list[str] = []
    answered = trio.Event()

    def on_answer(answer: Answer) -> None:
        assert isinstance(answer, Reply), f"no answer to an order by hand: {answer}"
        answers.append(answer.body)
        answered.set()

    world.exchange.submit(Signer(HAND, Network.PAPER, None).sign(action, nonce).body(), on_answer)
    await answered.wait()
    return json.loads(answers[0])["response"]["data"]["statuses"][0]


def entries(world: World) -> list[dict[str, Any]]:
    """The bot's own entries on the wire; those of the owner's hand have no id of ours."""
    return [order for order in world.entries if is_our_cloid(order.get("c"))]


def _reducing(world: World) -> list[tuple[int, dict[str, Any]]]:
    rows = [(at, order) for at, e in sent(world) for order in e.raw_action["orders"]]
    return [(at, order) for at, order in rows if order["r"] and is_our_cloid(order.get("c"))]


def closes(world: World) -> list[tuple[int, dict[str, Any]]]:
    """The bot's closing orders on the wire, with the ms of the run."""
    return [(at, order) for at, order in _reducing(world) if "limit" in order["t"]]


def stops(world: World) -> list[tuple[int, dict[str, Any]]]:
    """The bot's protective stops on the wire, with the ms of the run."""
    return [(at, order) for at, order in _reducing(world) if "trigger" in order["t"]]
