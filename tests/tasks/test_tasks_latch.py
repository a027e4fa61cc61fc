"""After the latch no entry leaves (EXE-2, STOP-1): seeded cases, the latch fired at every place where anything can happen.

Three hundred of them here; ten thousand with `scripts/test tests/tasks/test_tasks_latch.py --hypothesis-profile=deep`. A
seed that fails is printed.
"""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import trio
import trio.testing
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.core.exits import ExitReason, ExitRequest
from hip3.core.ids import MarketSpec
from hip3.core.records import Record
from hip3.fsm.safety import SafetyMode
from hip3.tasks.channels import LinkBroken
from tests.core.core_builders import MU, SNDK, account, ctx, fills, held
from tests.tasks.executor_bench import Bench, Broken, make_bench

MOMENTS = 40
"""About how many moments a case has in which the latch can fire."""


@define
class Latch:
    """Fires at the n-th moment: a step of the shell, a commit, a suspension inside the hand-over."""

    at: int
    severity: Severity
    bench: Bench | None = None
    moments: int = 0
    fired_in: str = ""

    def moment(self, where: str) -> None:
        self.moments += 1
        if self.moments == self.at and self.bench is not None:
            self.fired_in = where
            self.bench.safety.add(ReasonCode.OPERATOR_KILL, self.severity, "operator", where, Clears.OPERATOR)


@define
class Commits:
    """A store in whose commits the latch may fire."""

    latch: Latch

    def put(self, record: Record) -> None:
        """Forgets it."""

    def commit(self, *, more: bool = False) -> None:
        self.latch.moment("commit")


@define
class LatchedWire:
    """The account link: a hand-over is the moment in which it is asked for bytes; it suspends before and after them."""

    latch: Latch
    is_up: bool = True
    breaks: bool = False
    handed: list[tuple[SafetyMode, list[dict[str, Any]]]] = field(factory=list)
    """The mode at the hand-over, and the orders."""

    async def send(self, text: str) -> None:
        assert self.latch.bench is not None
        action = json.loads(text)["request"]["payload"]["action"]
        self.handed.append((self.latch.bench.safety.mode, action.get("orders", [])))
        self.latch.moment("handing over")
        await trio.lowlevel.checkpoint()
        if self.breaks:
            raise Broken("the socket closed while sending")
        self.latch.moment("handed over")


def make_case(rng: Random) -> tuple[Bench, LatchedWire, Latch]:
    latch = Latch(rng.randint(1, MOMENTS), rng.choice((Severity.SAFE, Severity.HALT)))

    def on_mode(_before: SafetyMode, after: SafetyMode, code: ReasonCode, _message: str) -> None:
        if after is SafetyMode.HALT and latch.bench is not None:
            latch.bench.executor.purge(code.value)  # as the bot does in the step of the change

    bench = make_bench(Commits(latch), on_mode)
    wire = LatchedWire(latch)
    bench.executor.link, latch.bench = wire, bench
    return bench, wire, latch


def offer(bench: Bench, of: MarketSpec, oracle: int) -> None:
    """A signal where the detector gives one."""
    market = bench.executor.markets[of.coin]
    market.on_ctx(ctx(of.coin, str(oracle)), bench.clock.ms)
    found = bench.detector.evaluate(market, bench.clock.ms, bench.clock.wall_ms())
    if found is not None:
        bench.executor.book.add(found)
        bench.executor.inbox.signals.put(found)


async def run_case(rng: Random) -> tuple[Latch, int]:
    """Plays a case through; the latch and the number of entries handed over. Raises AssertionError where one left late."""
    bench, wire, latch = make_case(rng)
    oracle = 604
    if rng.random() < 0.3:
        bench.executor.facts.put(fills(snapshot=True))
        bench.executor.facts.put(account(held("0.1")))
        bench.settle()
    for _ in range(rng.randint(6, 14)):
        latch.moment("between steps")
        what = rng.choice(("signal", "signal", "both", "exit", "link", "break", "time", "nothing"))
        if what in ("signal", "both"):
            oracle += 1
            offer(bench, rng.choice((SNDK, MU)), oracle)
        if what == "both":
            offer(bench, SNDK, oracle)
            offer(bench, MU, oracle)
        elif what == "exit":
            bench.executor.inbox.exits.put(ExitRequest(SNDK.coin, ExitReason.TIME_STOP, 31_000))
        elif what == "link":
            wire.is_up = not wire.is_up
        elif what == "break":
            wire.breaks = not wire.breaks
            bench.executor.inbox.answers.put(LinkBroken("closed"))
        elif what == "time":
            bench.clock.ms += rng.choice((100, 200, 5000))
        latch.moment("before a step")
        await bench.executor.step()
        latch.moment("after a step")
        if rng.random() < 0.7:
            bench.settle()
        bench.clock.ms += rng.choice((0, 10, 100))
    new = [mode for mode, orders in wire.handed for order in orders if not order["r"]]
    assert all(mode is SafetyMode.ARMED_LIVE for mode in new), f"an entry left in {new}, latched {latch.fired_in}"
    if latch.severity is Severity.HALT:
        closes = [mode for mode, orders in wire.handed for order in orders if order["r"]]
        assert SafetyMode.HALT not in closes, "the halt procedure owns all closing"
    return latch, len(new)


def play(seed: int) -> tuple[Latch, int]:
    return trio.run(run_case, Random(seed), clock=trio.testing.MockClock(autojump_threshold=0))


@given(st.integers(0, 2**48))
def test_after_the_latch_no_entry_leaves(seed: int) -> None:
    """STOP-1, EXE-2, DESIGN 9.2: whatever happens around it and wherever the latch fires, nothing new is handed over."""
    play(seed)


def test_the_cases_reach_every_place() -> None:
    """LESSONS 1, the test of the test: the latch fires at each kind of moment, and without it these cases send entries."""
    places: Counter[str] = Counter()
    sent = 0
    for seed in range(240):
        latch, new = play(seed)
        places[latch.fired_in] += 1
        sent += new
    assert {"between steps", "before a step", "after a step", "commit", "handing over", "handed over"} <= places.keys()
    assert sent > 100
