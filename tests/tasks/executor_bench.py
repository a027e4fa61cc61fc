"""The executor on real parts, with a wire that the test holds."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import trio
from attrs import define, field

from hip3.core import facts as f
from hip3.core.bookkeeper import Bookkeeper
from hip3.core.budget import ActionBudget
from hip3.core.causes import ModeListener, ReasonCode, Safety
from hip3.core.detector import Detector, Signal
from hip3.core.events import PostResponse
from hip3.core.execution import ExecutionEvent
from hip3.core.exits import ExitConfig, ExitRequest
from hip3.core.explain import Witness
from hip3.core.gates import Caps
from hip3.core.ids import CloidFactory, MarketSpec
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState
from hip3.core.outlook import SignalBook
from hip3.core.posts import PostBook
from hip3.core.ready import Ready
from hip3.core.records import NoRecorder, Recorder
from hip3.core.risk import DailyLimits
from hip3.core.scheduler import Scheduler, SchedulerConfig
from hip3.core.scribe import Scribe
from hip3.core.tally import Tally
from hip3.core.throttles import Throttles
from hip3.fsm.order import OrderState
from hip3.tasks.channels import ANSWERS, EVENTS, EXITS, FACTS, Answer, Doorbell, Mailbox, SignalSlots
from hip3.tasks.executor import Executor, ExecutorConfig, ExecutorInbox
from hip3.tasks.position import status_event
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.signing import Signer, TradingKey
from tests.core.core_builders import DETECTOR, MU, SNDK, T0, account, bbo, ctx, fills, held

D = Decimal
KEY = TradingKey((5).to_bytes(32, "big"))


class Broken(Exception):
    """The wire broke."""


class Untaken(Broken):
    """The wire broke before it took a byte."""


@define
class Wire:
    """The account link as the executor sees it."""

    frames: list[dict[str, Any]] = field(factory=list)
    is_up: bool = True
    breaks: type[Broken] | None = None
    states: list[OrderState] = field(factory=list)
    """Of every order, at the moment at which bytes are asked for."""
    ledger: Ledger = field(factory=Ledger)

    async def send(self, text: str) -> None:
        self.states = [o.state for o in self.ledger.orders.values()]
        await trio.lowlevel.checkpoint()
        if self.breaks is not None:
            raise self.breaks("the socket closed while sending")
        self.frames.append(json.loads(text))


@define
class Hands:
    """A clock that the test moves."""

    ms: int = 0

    def mono_ms(self) -> int:
        return self.ms

    def wall_ms(self) -> int:
        return T0 + self.ms


@define
class Bench:
    """An executor, its wire and its clock; `settle` lets the position task's part happen."""

    executor: Executor
    wire: Wire
    clock: Hands
    detector: Detector
    safety: Safety
    bookkeeper: Bookkeeper

    @property
    def ledger(self) -> Ledger:
        return self.executor.ledger

    def settle(self) -> None:
        while (fact := self.executor.facts.get_nowait()) is not None:
            self.bookkeeper.apply(fact, self.clock.wall_ms())

    def signal(self, of: MarketSpec, oracle: str) -> Signal:
        """The signal that an oracle above the quotes gives."""
        market = self.executor.markets[of.coin]
        market.on_ctx(ctx(of.coin, oracle), self.clock.ms)
        found = self.detector.evaluate(market, self.clock.ms, self.clock.wall_ms())
        assert found is not None
        return found

    async def enter(self, of: MarketSpec = SNDK, oracle: str = "605") -> None:
        """A signal through the gates to the wire, where nothing forbids it."""
        self.executor.book.add(signal := self.signal(of, oracle))
        self.executor.inbox.signals.put(signal)
        await self.executor.step()

    async def answer(self, post: int, *statuses: object) -> None:
        payload = {"status": "ok", "response": {"type": "order", "data": {"statuses": list(statuses)}}}
        self.executor.inbox.answers.put(PostResponse(post, "action", payload))
        await self.executor.step()
        self.settle()

    def hold(self, sz: str = "0.1") -> None:
        """A long position, by the venue's statement."""
        self.executor.facts.put(fills(snapshot=True))
        self.executor.facts.put(account(held(sz)))
        self.settle()


def make_bench(recorder: Recorder | None = None, on_mode: ModeListener = lambda *_: None) -> Bench:
    """Real parts around a wire that the test holds, promoted."""
    clock, journal, wire = Hands(), Journal(), Wire()
    markets = {}
    for of, oracle in ((SNDK, "600"), (MU, "600")):
        market = markets[of.coin] = MarketState(of)
        market.on_bbo(bbo(of.coin, "599.9", "600.1"), 0)
        market.on_ctx(ctx(of.coin, oracle), 0)
    config = DETECTOR
    safety = Safety(on_mode, clock.wall_ms)
    safety.promote(ReasonCode.AUTO_PROMOTE, "a test")
    ledger = wire.ledger
    scheduler, posts = Scheduler(SchedulerConfig(200, 500, 1000, 50, 100, 80, 100)), PostBook(5000)
    executor = Executor(
        config=ExecutorConfig(
            caps=Caps(D(50), D(100)),
            exits=ExitConfig(30_000, 60_000, D(50), D(25), D(200)),
            expires_after_ms=10_000,
            max_mark_age_ms=3000,
        ),
        ledger=ledger,
        scheduler=scheduler,
        posts=posts,
        inbox=ExecutorInbox(SignalSlots(), Mailbox[ExitRequest](EXITS), Mailbox[Answer](ANSWERS), Doorbell()),
        facts=Mailbox[f.Fact](FACTS),
        events=Mailbox[ExecutionEvent](EVENTS),
        markets=markets,
        safety=safety,
        limits=DailyLimits(None, D(20)),
        throttles=Throttles(),
        budget=ActionBudget(10_000, 0),
        not_ready=lambda _coin: None,
        messages_left=lambda _now: 1,
        signer=Signer(KEY, Network.TESTNET, None),
        nonces=NonceSource(clock.wall_ms),
        cloids=CloidFactory(T0),
        link=wire,
        lost=Broken,
        unsent=Untaken,
        tally=Tally(),
        book=SignalBook(),
        clock=clock,
        journal=journal,
        witness=Witness(safety, Ready(lambda *_: None), scheduler, posts, config),
        scribe=Scribe(recorder or NoRecorder(), clock.wall_ms, lambda _why: None),
    )
    detector = Detector(config, "t", {SNDK.coin: D("0.9"), MU.coin: D("0.9")})
    return Bench(executor, wire, clock, detector, safety, Bookkeeper(ledger, status_event))
