"""A random plan of faults on the way of orders, drawn from a seed before the run starts.

A plan is a list of strikes: the nth subject at one of the exchange's fault points, and what goes wrong there. It is drawn
whole, so that the same seed gives the same faults, and a run that fails can be repeated with fewer of them. It refuses to
touch market data other than by cutting a connection: what the market did is the recording's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from operator import eq

from attrs import evolve, frozen

from hip3.core.units import ZERO
from hip3.exchange.faults import (
    Delay,
    Disconnect,
    Drop,
    Duplicate,
    FaultAction,
    HttpAnswer,
    Point,
    RefuseText,
    ReplaceBody,
    Rule,
)
from hip3.settings.risk_keys import RiskKeys
from hip3.settings.schema import HaltOnDisconnect, Settings

NEVER_LOST_USD = Decimal(10**9)
RATES = (0.05, 0.1, 0.2, 0.35)
"""Share of orders that something happens to; one of them per run. Ours: from one fault in a while to hardly any peace."""
HORIZON = 300
"""Orders that a plan reaches; beyond it nothing goes wrong."""
QUERIES = 400
"""Account queries that a plan reaches, at the same rate."""
BURST = 4
"""Most strikes in a row: four lost answers of 5 s each are still within the 30 s in which doubt must end (POST-4)."""
KEEPS_HALT_EVERY = 4
"""Every fourth seed keeps the defaults that end trading, HALT for a lost link and the limits of the risk monitor; the
others go on trading through them."""
KILLED_EVERY = 3
"""Every third seed kills the process, once to three times."""
KILLED_MS = (1_000, 60_000)
"""Within the shortest excerpt."""

DELAYS_MS = (200, 900, 2500, 4900, 5200, 9000, 14_000, 25_000)
"""Around what is waited for: an answer for 5 s (POST-1), an entry's admission for 10 s; the last outlives a doubt."""
BROKEN_BODY = '{"status":"ok","response":{"type":"order","data":{"statuses":[{"unheard":{"of":1}}]}}}'
BROKEN_FRAME = '{"channel":"userFills","data":'
TOO_MANY = "Too many requests"
REFUSALS = ("Internal error", "Please try again later")
"""Texts that nobody has classified: a refusal is one whatever its words are (TYP-5)."""

ACCOUNT_QUERIES = ("clearinghouseState", "frontendOpenOrders", "orderStatus", "userFillsByTime", "l2Book")
SERVICE_QUERIES = ("exchangeStatus", "userRateLimit")
"""Also asked before the start, which a failure refuses; strikes begin after that."""
OWN_FRAMES = ("post", "orderUpdates", "userFills")

Draw = Callable[[random.Random], FaultAction]


@frozen
class Strike:
    """The `nth` (from 0) `subject` at `point` meets `action`."""

    point: Point
    subject: str
    nth: int
    action: FaultAction

    def rule(self) -> Rule:
        return Rule(self.point, self.action, matches=partial(eq, self.subject), skip=self.nth)

    def __str__(self) -> str:
        return f"{self.point.value} {self.subject} #{self.nth}: {self.action}"


def goes_on(settings: Settings) -> Settings:
    """The same settings with nothing that ends trading by itself: neither a lost link nor a loss nor a count."""
    safety = evolve(settings.safety, halt_on_disconnect=HaltOnDisconnect.NEVER, auto_stop_loss_usd=NEVER_LOST_USD)
    risk = RiskKeys(
        max_cumulative_loss_usd=ZERO,
        max_consecutive_losses=0,
        max_flatten_failures=0,
        max_orders_per_min=0,
        max_orders_per_market_per_min=0,
        max_cancels_per_min=0,
        max_cancels_per_market_per_min=0,
    )
    return evolve(settings, safety=safety, risk=risk)


@frozen
class Plan:
    """What goes wrong in one run, and whether the bot ends trading because of it.

    `ends_trading` keeps `safety.halt_on_disconnect` and `[risk]` as they are by default; False sets both to go on.
    """

    seed: int
    rate: float
    ends_trading: bool
    strikes: tuple[Strike, ...]
    kills_ms: tuple[int, ...] = ()
    """When the process is killed, from the start of the first one; another one follows (DESIGN 9.10)."""

    def rules(self) -> list[Rule]:
        """For one run: rules count their uses, so they serve once."""
        return [strike.rule() for strike in self.strikes]


def _delay(rng: random.Random) -> FaultAction:
    return Delay(rng.choice(DELAYS_MS))


def _http_error(rng: random.Random) -> FaultAction:
    return HttpAnswer(rng.choice((429, 500, 502, 503)), TOO_MANY)


def _refusal(rng: random.Random) -> FaultAction:
    return RefuseText(rng.choice(REFUSALS))


def _broken_body(_rng: random.Random) -> FaultAction:
    return ReplaceBody(BROKEN_BODY)


def _broken_frame(_rng: random.Random) -> FaultAction:
    return ReplaceBody(BROKEN_FRAME)


def _plain(action: FaultAction) -> Draw:
    return lambda _rng: action


# What can happen at each point, with weights: losing and delaying are the usual, the rest the rarer mishaps.
_ON_ARRIVAL: tuple[tuple[Draw, int], ...] = (
    (_plain(Drop()), 4),
    (_delay, 4),
    (_plain(Disconnect()), 1),
    (_refusal, 2),
    (_http_error, 2),
)
_ON_ANSWER: tuple[tuple[Draw, int], ...] = (
    (_plain(Drop()), 4),
    (_delay, 4),
    (_plain(Disconnect()), 1),
    (_http_error, 2),  # a 429 or a 5xx may come after the commit (PROTOCOL 4.5)
    (_broken_body, 1),
)
_ON_FRAME: tuple[tuple[Draw, int], ...] = (
    (_plain(Drop()), 4),
    (_delay, 4),
    (_plain(Duplicate()), 3),
    (_plain(Disconnect()), 1),
    (_broken_frame, 1),
)
_ON_QUERY: tuple[tuple[Draw, int], ...] = (
    (_plain(Drop()), 2),
    (_delay, 2),
    (_http_error, 4),
    (_broken_body, 1),
)


def _draw(rng: random.Random, choices: Sequence[tuple[Draw, int]]) -> FaultAction:
    (chosen,) = rng.choices([draw for draw, _ in choices], [weight for _, weight in choices])
    return chosen(rng)


def make_plan(seed: int) -> Plan:
    """The plan of a seed; the same one each time."""
    rng = random.Random(seed)
    rate = rng.choice(RATES)
    ends = seed % KEEPS_HALT_EVERY == 0
    strikes = [*_on_orders(rng, rate), *_on_queries(rng, rate), *_on_links(rng, rate)]
    kills = sorted(rng.sample(range(*KILLED_MS), rng.randint(1, 3))) if seed % KILLED_EVERY == 0 else ()
    return Plan(seed, rate, ends, tuple(strikes), tuple(kills))


def _struck(rng: random.Random, rate: float, count: int) -> Iterator[int]:
    """Which of `count` subjects are struck: at `rate`, a few of them in a row."""
    nth = 0
    while nth < count:
        run = rng.randint(1, BURST) if rng.random() < rate else 0
        yield from range(nth, nth + run)
        nth += run + 1


def _on_orders(rng: random.Random, rate: float) -> Iterator[Strike]:
    for nth in _struck(rng, rate, HORIZON):
        point = rng.choice((Point.BEFORE_ADMISSION, Point.AFTER_COMMIT, Point.FRAME))
        if point is Point.FRAME:
            yield Strike(point, rng.choice(OWN_FRAMES), nth, _draw(rng, _ON_FRAME))
            continue
        choices = _ON_ARRIVAL if point is Point.BEFORE_ADMISSION else _ON_ANSWER
        yield Strike(point, "order", nth, _draw(rng, choices))


def _on_queries(rng: random.Random, rate: float) -> Iterator[Strike]:
    for nth in _struck(rng, rate, QUERIES):
        subject = rng.choice((*ACCOUNT_QUERIES, *SERVICE_QUERIES))
        # Each query has its own count, so the nth of all is about this one's nth part.
        own = nth // len(ACCOUNT_QUERIES) + (subject in SERVICE_QUERIES)
        yield Strike(Point.INFO, subject, own, _draw(rng, _ON_QUERY))


def _on_links(rng: random.Random, rate: float) -> Iterator[Strike]:
    """A dial that is refused, a market feed that is cut: few, for each costs a back-off."""
    for nth in range(2, 12):
        if rng.random() < rate:
            yield Strike(Point.CONNECT, "ws", nth, Disconnect())
    for nth in _struck(rng, rate / 20, HORIZON):
        yield Strike(Point.FRAME, "bbo", nth, Disconnect())
