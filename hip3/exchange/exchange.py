"""The exchange put together: block clock, mempool, engine, sessions. One task drives it by a clock that it is given.

Time of the run is milliseconds since it started. An action reaches the mempool `latency_ms` after it was sent and runs
in the next block; of everything that happened before a block, the outside world goes first, then actions in the venue's
order. So makers may be gone before a taker arrives (SIM-3). Everything that leaves, leaves `response_ms` after the
commit. Refuses nothing by itself: the rules are the engine's, the transports are elsewhere.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import trio
from attrs import frozen

from hip3.core.clock import Clock
from hip3.core.events import Fill, OrderUpdate, Position
from hip3.exchange.account import Agent
from hip3.exchange.admission import Admission, Admitted
from hip3.exchange.answers import Answer, AnswerTo, Cut, Reply, ok_json
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.effects import Effect, ExternalTaken, update_of
from hip3.exchange.engine import Engine, err, rank_of
from hip3.exchange.faults import (
    Delay,
    Disconnect,
    Drop,
    Duplicate,
    FaultAction,
    Faults,
    HttpAnswer,
    Point,
    RefuseText,
    ReplaceBody,
)
from hip3.exchange.hub import Batch, Hub
from hip3.exchange.info import Info, query_type
from hip3.exchange.margin import leverage_of, unrealised
from hip3.exchange.market import Directory
from hip3.exchange.requests import Envelope, parse_envelope
from hip3.exchange.seam import MarketSource, TimedEvent
from hip3.exchange.texts import Refused


@frozen
class _Submission:
    """An action in the mempool."""

    envelope: Envelope
    signer: str | None
    answer_to: AnswerTo

    @property
    def kind(self) -> str:
        return str(self.envelope.raw_action["type"])


class Exchange:
    """A simulated venue. `run` drives it; everything else is synchronous and may be called between its steps."""

    def __init__(
        self, source: MarketSource, clock: Clock, config: ExchangeConfig | None = None, faults: Faults | None = None
    ) -> None:
        self.config = config if config is not None else ExchangeConfig()
        self.faults = faults if faults is not None else Faults()
        self._source = source
        self._clock = clock
        self._mono0 = clock.mono_ms()
        self._wall0 = clock.wall_ms()
        directory = Directory(source.listings())
        self.engine = Engine(directory, self.config, self.faults.world)
        self.admission = Admission(self.engine, is_mainnet=self.config.is_mainnet)
        self.info = Info(self.engine)
        self.hub = Hub(self.engine.state, self.info, self.config)
        self.log: deque[tuple[int, str]] = deque(maxlen=self.config.log_entries)
        self.received: deque[tuple[int, Envelope]] = deque(maxlen=self.config.log_entries)
        """Actions that reached the wire, with the ms of the run at which they were read; refused and lost ones too."""
        self.over_weight = 0
        """Requests refused with 429 because the minute's REST weight was spent."""
        self._events: Iterator[TimedEvent] = iter(source.events())
        self._peeked: TimedEvent | None = next(self._events, None)
        self._reactions: list[tuple[int, int, TimedEvent]] = []
        self._mempool: list[tuple[int, int, _Submission]] = []
        self._later: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._last_block_ms = -1
        self._wake = trio.Event()
        self.engine.begin_block(self._wall0)

    # ----- set-up and truth, for operators, tests and invariants

    def fund(self, address: str, dex: str, usd: Decimal) -> None:
        """Deposits `usd` on a dex (empty for the venue's own). Raises ValueError for an unknown dex."""
        self.engine.fund(address.lower(), dex, usd)

    def approve_agent(self, master: str, agent: str, valid_until_ms: int, name: str = "") -> None:
        """Lets `agent` sign for `master` until then. Raises Refused as the venue would."""
        self.engine.approve(master.lower(), Agent(agent.lower(), name, valid_until_ms))

    def positions(self, address: str) -> tuple[Position, ...]:
        """Every position of an address, all dexs."""
        account = self.engine.state.account(address.lower())
        held = [(self.engine.state.directory.by_asset[asset], h) for asset, h in account.holdings.items()]
        return tuple(
            Position(
                coin=market.coin,
                szi=holding.szi,
                entry_px=holding.entry_px,
                unrealized_pnl=unrealised(account, market),
                margin_used=abs(holding.szi) * market.mark_px / leverage_of(account, market).value,
                leverage=leverage_of(account, market).value,
            )
            for market, holding in held
        )

    def open_orders(self, address: str) -> tuple[OrderUpdate, ...]:
        return tuple(update_of(order) for order in self.engine.state.account(address.lower()).open.values())

    def fills(self, address: str) -> tuple[Fill, ...]:
        """The remembered fills, oldest first."""
        return tuple(self.engine.state.account(address.lower()).fills)

    def peak_exposure_usd(self, address: str) -> Decimal:
        """The largest sum of position value and resting notional that the account ever had."""
        return self.engine.state.account(address.lower()).peak_exposure_usd

    def in_flight(self) -> tuple[Envelope, ...]:
        """Actions that were sent and may still run; not those that are lost or whose nonce another one used up."""
        waiting = [submission for _, _, submission in self._mempool]
        return tuple(s.envelope for s in waiting if not self.admission.is_used(s.signer, s.envelope.nonce))

    def nonces(self) -> tuple[Admitted, ...]:
        """Nonces that were used up, in order."""
        return tuple(self.admission.admitted)

    # ----- time

    def elapsed_ms(self) -> int:
        """Milliseconds of the run by the given clock."""
        return self._clock.mono_ms() - self._mono0

    def venue_ms(self) -> int:
        """The venue's time, Unix ms."""
        return self._wall0 + self.elapsed_ms()

    def note(self, what: str) -> None:
        """One line of the bounded log, with the venue's time."""
        self.log.append((self._wall0 + self.elapsed_ms(), what))

    def call_later(self, delay_ms: int, call: Callable[[], None]) -> None:
        """Runs `call` from the driver, `delay_ms` from now."""
        self._at(self.elapsed_ms() + delay_ms, call)

    def _at(self, due_ms: int, call: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._later, (due_ms, self._serial, call))
        self._wake.set()

    def _boundary(self, at_ms: int) -> int:
        """The first block at or after `at_ms` that has not been made yet."""
        block_ms = self.config.block_ms
        boundary = -(-at_ms // block_ms) * block_ms
        return boundary if boundary > self._last_block_ms else self._last_block_ms + block_ms

    def _next_block_ms(self) -> int | None:
        """The next block that has anything to do; empty ones are skipped."""
        causes = [self.hub.next_due_ms()]
        causes += [self._peeked[0] if self._peeked is not None else None]
        causes += [heap[0][0] for heap in (self._reactions, self._mempool) if heap]
        scheduled = [a.scheduled_cancel_ms for a in self.engine.state.accounts.values()]
        causes += [at - self._wall0 for at in scheduled if at is not None]
        due = [cause for cause in causes if cause is not None]
        return self._boundary(min(due)) if due else None

    def step(self) -> int | None:
        """Does everything that is due and returns when there is more (ms of the run), None while nothing is planned."""
        while True:
            block, later = self._next_block_ms(), self._later[0][0] if self._later else None
            due = min((x for x in (block, later) if x is not None), default=None)
            if due is None or due > self.elapsed_ms():
                return due
            if later is not None and later == due:
                heapq.heappop(self._later)[2]()
            else:
                self._run_block(due)

    def catch_up(self) -> None:
        """Brings the state to the last block that is over; an idle venue has blocks too, they are just not made."""
        self.step()
        block_ms = self.elapsed_ms() // self.config.block_ms * self.config.block_ms
        if block_ms > self._last_block_ms:
            self._last_block_ms = block_ms
            self.engine.begin_block(self._wall0 + block_ms)
        self._wake.set()  # a subscription may have made something periodic due

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drives the exchange until cancelled."""
        self.step()
        task_status.started()
        while True:
            self._wake = trio.Event()
            due = self.step()
            wait_s = (due - self.elapsed_ms()) / 1000 if due is not None else float("inf")
            with trio.move_on_after(max(0.0, wait_s)):
                await self._wake.wait()

    # ----- blocks

    def _run_block(self, at_ms: int) -> None:
        self._last_block_ms = at_ms
        self.engine.begin_block(self._wall0 + at_ms)
        for event in self._world_until(at_ms):
            self.engine.apply(event[1])
        arrived = []
        while self._mempool and self._mempool[0][0] <= at_ms:
            arrived.append(heapq.heappop(self._mempool))
        for _, _, submission in sorted(arrived, key=lambda x: (rank_of(x[2].envelope.action), x[0], x[1])):
            self._run_action(submission, at_ms)
        effects = self.engine.state.collect()
        self._let_source_react(effects, at_ms)
        batch = self.hub.publish(effects, at_ms)
        if batch:
            self._at(at_ms + self.config.response_ms, lambda: _deliver(batch))

    def _world_until(self, at_ms: int) -> Iterator[TimedEvent]:
        """Events and reactions up to `at_ms`, merged by time."""
        while True:
            reaction = self._reactions[0][0] if self._reactions else None
            event = self._peeked[0] if self._peeked is not None else None
            if reaction is not None and reaction <= at_ms and (event is None or reaction < event):
                yield heapq.heappop(self._reactions)[2]
            elif self._peeked is not None and self._peeked[0] <= at_ms:
                current = self._peeked
                self._peeked = next(self._events, None)
                if self._peeked is not None and self._peeked[0] < current[0]:
                    raise ValueError(f"the source's time went back from {current[0]} to {self._peeked[0]} ms")
                yield current
            else:
                return

    def _let_source_react(self, effects: list[Effect], at_ms: int) -> None:
        for taken in effects:
            if not isinstance(taken, ExternalTaken):
                continue
            for event in self._source.on_take(taken.coin, taken.side, taken.px, taken.sz, at_ms):
                if event[0] <= at_ms:
                    raise ValueError(f"a reaction at {event[0]} ms to a trade at {at_ms} ms is not later")
                self._serial += 1
                heapq.heappush(self._reactions, (event[0], self._serial, event))

    def _run_action(self, submission: _Submission, at_ms: int) -> None:
        try:
            address = self.admission.admit(submission.envelope, submission.signer)
            body = self.engine.execute(address, submission.envelope.action)
        except Refused as refusal:
            body = err(refusal.text)
        self.note(f"{submission.kind} {submission.envelope.nonce}: {body['status']}")
        fault = self.faults.at(Point.AFTER_COMMIT, submission.kind)
        self._answer(submission.answer_to, ok_json(body), at_ms + self.config.response_ms, fault)

    def _answer(self, answer_to: AnswerTo, reply: Reply, due_ms: int, fault: FaultAction | None) -> None:
        """Plans an answer, as the fault wants it."""
        answer: Answer = reply
        match fault:
            case Drop():
                return
            case Delay(ms=ms):
                due_ms += ms
            case Disconnect():
                answer = Cut()
            case RefuseText(text=text):
                answer = ok_json(err(text))
            case HttpAnswer(status=status, body=body):
                answer = Reply(status, body)
            case ReplaceBody(body=body):
                answer = Reply(reply.status, body)
            case Duplicate() | None:
                pass
        self._at(due_ms, lambda: answer_to(answer))

    # ----- requests, from either transport

    def submit(self, body: Any, answer_to: AnswerTo) -> None:
        """Takes the parsed body of an action on its way; `answer_to` is called once, later. Raises SchemaError."""
        envelope = parse_envelope(body)
        self.received.append((self.elapsed_ms(), envelope))
        submission = _Submission(envelope, self.admission.recover(envelope), answer_to)
        arrives = self.elapsed_ms() + self.config.latency_ms
        fault = self.faults.at(Point.BEFORE_ADMISSION, submission.kind)
        if isinstance(fault, Delay):
            arrives += fault.ms
        elif fault is not None and not isinstance(fault, Duplicate):
            self.note(f"{submission.kind} {envelope.nonce}: lost to {fault}")
            self._answer(answer_to, ok_json(err("")), arrives + self.config.response_ms, fault)
            return
        self._serial += 1
        heapq.heappush(self._mempool, (arrives, self._serial, submission))
        self._wake.set()

    def ask(self, query: Any, answer_to: AnswerTo) -> None:
        """Answers an info query as of now, `response_ms` later. Raises SchemaError, InternalError."""
        fault = self.faults.at(Point.INFO, query_type(query))
        self.catch_up()
        reply = ok_json(self.info.answer(query))
        self._answer(answer_to, reply, self.elapsed_ms() + self.config.response_ms, fault)


def _deliver(batch: Batch) -> None:
    for session, subscription, message in batch:
        session.push(subscription, message)
