"""Filters of the detector: which dislocations are left alone (DET-4). Each is a plain function with its own numbers
and counter.

A filter sees a dislocation that already costs more than it takes, and refuses it or has no opinion: none can make a
signal, and none loosens DET-1. What a filter cannot know yet (no move seen, a mean still warming up) it refuses,
because unknown is not good. A filter that is off is not in the list and costs nothing. `docs/detector.md` has the
table for operators.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from decimal import Decimal

from attrs import define, field, frozen

from hip3.core import units
from hip3.core.averages import TimeMean
from hip3.core.events import Bbo
from hip3.core.ids import OrderSide
from hip3.core.market import MarketState
from hip3.core.windows import Window, in_any

HALF = Decimal("0.5")
ONE = Decimal(1)


class Filter(enum.Enum):
    """The filters in the order in which they are asked; the value is the name under which a refusal is counted."""

    DIRECTION = "direction"
    DEDUP = "dedup"
    SESSION = "session"
    ORACLE_MOVE = "oracle_move"
    ORACLE_RUN = "oracle_run"
    QUOTE_LAG = "quote_lag"
    SPREAD = "spread"
    ADAPTIVE_THRESHOLD = "adaptive_threshold"
    BASELINE_GAP = "baseline_gap"
    CONFIDENCE = "confidence"


@frozen
class FilterConfig:
    """Numbers of the filters; zero, empty or False switches one off. `*_ms` milliseconds, `*_bps` basis points."""

    min_oracle_move_bps: Decimal = units.ZERO
    min_oracle_run: int = 0
    quote_lag_min_ms: int = 0
    quote_lag_max_ms: int = 0
    max_spread_bps: Decimal = units.ZERO
    adaptive_spread_multiple: Decimal = units.ZERO
    adaptive_ewma_ms: int = 60_000
    baseline_ewma_ms: int = 0
    baseline_warmup_ms: int = 60_000
    session_windows: tuple[Window, ...] = ()
    min_confidence: Decimal = units.ZERO


@define
class Memory:
    """What the filters remember of one market. Only `last_reference` outlives a connection."""

    last_reference: dict[OrderSide, Decimal] = field(factory=dict)
    connects: int = -1
    spread: TimeMean | None = None
    gap: TimeMean | None = None
    touch_px: dict[OrderSide, Decimal] = field(factory=dict)
    touch_since_ms: dict[OrderSide, int] = field(factory=dict)


@frozen
class Dislocation:
    """What the filters look at, by value: it stays as it was when judged (DET-5). Prices USD, `*_bps` basis points."""

    side: OrderSide
    bid_px: Decimal
    ask_px: Decimal
    reference_px: Decimal
    edge_bps: Decimal
    cost_bps: Decimal
    depth: Decimal
    """The liquidity factor of DET-3, 0 to 1."""
    mono_ms: int
    wall_ms: int
    ctx_age_ms: int
    max_ctx_age_ms: int
    reference_move: int
    reference_run: int
    reference_was: Decimal | None
    reference_moved_ms: int | None
    last_signal_px: Decimal | None
    """The reference of the signal before it on this side."""
    touch_since_ms: int | None
    """Since when the touched price is what it is; None where nobody watched."""
    mean_spread_bps: Decimal | None
    """None while unknown: nobody watched, or it is not warm yet."""
    mean_gap_bps: Decimal | None
    """Of (oracle - middle) in bps of the oracle; None likewise."""


# ---- the filters


def is_repeat(reference: Decimal, last: Decimal | None) -> bool:
    """Dedup: the same oracle price already gave a signal on this side (`last`); it is the same dislocation."""
    return last == reference


def is_against_move(side: OrderSide, move: int) -> bool:
    """Direction: a lagging quote is one the oracle moved away from, so a buy wants the oracle's last move up."""
    return move != side.sign


def is_small_move(was: Decimal | None, now: Decimal, min_bps: Decimal) -> bool:
    """Minimum oracle move: the oracle's last change was less than `min_bps` of the price before it, or none was seen."""
    return was is None or abs(units.to_bps(now - was, was)) < min_bps


def is_short_run(side: OrderSide, move: int, run: int, needed: int) -> bool:
    """Consecutive moves: the oracle's last `needed` changes did not all go in the order's direction.

    A context with the same price ends no run: a quiet oracle has not turned (LESSONS 24).
    """
    return move != side.sign or run < needed


def is_outside_lag(moved_ms: int | None, touch_since_ms: int | None, now_ms: int, low_ms: int, high_ms: int) -> bool:
    """Quote-lag window: the touched price has not lagged the oracle for `low_ms` to `high_ms` (0: no upper end).

    The quote lag is the time since the oracle's last change was received, and there is one only while the touched
    price is older than that change: a quote that was set after it knows the new oracle and disagrees, so it does not
    lag. Below the lower end its maker is probably about to cancel, and cancels go before takers in a block (LESSONS
    25). Above the upper end it is no late quote any more but a standing difference: the half-life of a real edge was
    1 to 3 s (LESSONS 26).
    """
    if moved_ms is None or touch_since_ms is None or touch_since_ms > moved_ms:
        return True
    lag = now_ms - moved_ms
    return lag < low_ms or (high_ms > 0 and lag > high_ms)


def is_wide(spread_bps: Decimal, max_bps: Decimal) -> bool:
    """Maximum spread: ask minus bid, in bps of their middle, is more than `max_bps`."""
    return spread_bps > max_bps


def is_below_adaptive(edge_bps: Decimal, cost_bps: Decimal, mean_spread: Decimal | None, multiple: Decimal) -> bool:
    """Adaptive threshold: the edge does not cover the cost plus `multiple` of the market's mean spread.

    Three quarters of all signals were structural spread, not late quotes (LESSONS 26), and whoever buys at the ask
    leaves at the bid. A multiple of 0.5 charges the half of the spread that lies between the touch and the middle.
    The mean is known once it has covered its own time constant; until then everything is refused.
    """
    return mean_spread is None or edge_bps < cost_bps + multiple * mean_spread


def is_usual_gap(side: OrderSide, edge_bps: Decimal, cost_bps: Decimal, mean_gap: Decimal | None) -> bool:
    """Baseline gap: the edge beyond what always lies between oracle and middle does not cover the cost.

    `mean_gap` is that of (oracle - middle) in bps of the oracle. Where the middle usually lies 8 bps below the
    oracle, a buy must be 8 bps better than the cost, and a sell may not be 8 bps worse: the rule only ever adds to
    DET-1. Refused until known.
    """
    return mean_gap is None or edge_bps - side.sign * mean_gap < cost_bps


def is_outside_session(windows: tuple[Window, ...], wall_ms: int) -> bool:
    """Session windows: the UTC time lies in none of them."""
    return not in_any(windows, wall_ms)


def confidence(edge_bps: Decimal, cost_bps: Decimal, depth: Decimal, ctx_age_ms: int, max_ctx_age_ms: int) -> Decimal:
    """How far a dislocation is from the three limits within which it is one, 0 (at a limit) to 1: the least of the three.

    margin  `(edge - cost) / cost`, at most 1: 0 at the threshold, 1 at twice the cost
    depth   the liquidity factor: 0 at `min_book_notional_usd`, 1 at `normal_book_notional_usd`
    youth   `1 - age / limit` of the oracle: 1 just received, 0 at `max_ctx_age_ms`

    The least and not a weighted sum: weights would be numbers without a source, and a dislocation with one foot over
    the edge is not saved by its other virtues. 0.3 reads: 1.3 times the cost, 0.3 of the way to a normal book, oracle
    younger than 0.7 of its limit. The age of the quote is left out, because a quiet quote is not a stale one (LESSONS
    24).
    """
    margin = min(ONE, (edge_bps - cost_bps) / cost_bps) if cost_bps > 0 else ONE
    youth = ONE - Decimal(ctx_age_ms) / max_ctx_age_ms
    return max(units.ZERO, min(margin, depth, youth))


def spread_bps(bid_px: Decimal, ask_px: Decimal) -> Decimal:
    """Ask minus bid in bps of their middle."""
    return units.to_bps(ask_px - bid_px, (bid_px + ask_px) * HALF)


# ---- which of them are on

Inputs = dict[str, object]


@frozen
class Rule:
    """One filter: whether it is on, what it says of a dislocation, and the inputs that it says it from."""

    name: Filter
    on: bool
    rejects: Callable[[Dislocation], bool]
    inputs: Callable[[Dislocation], Inputs]


def rules(c: FilterConfig, *, dedup: bool, direction: bool) -> tuple[Rule, ...]:
    """Every filter, in the order in which they are asked."""
    return (*_oracle_rules(c, dedup=dedup, direction=direction), *_quote_rules(c))


def _oracle_rules(c: FilterConfig, *, dedup: bool, direction: bool) -> tuple[Rule, ...]:
    """Those that look at the oracle and the time of day."""
    return (
        Rule(
            Filter.DIRECTION,
            direction,
            lambda d: is_against_move(d.side, d.reference_move),
            lambda d: {"side": d.side.name, "reference_move": d.reference_move},
        ),
        Rule(
            Filter.DEDUP,
            dedup,
            lambda d: is_repeat(d.reference_px, d.last_signal_px),
            lambda d: {"reference_px": d.reference_px, "last_signal_px": d.last_signal_px},
        ),
        Rule(
            Filter.SESSION,
            bool(c.session_windows),
            lambda d: is_outside_session(c.session_windows, d.wall_ms),
            lambda d: {"wall_ms": d.wall_ms},
        ),
        Rule(
            Filter.ORACLE_MOVE,
            c.min_oracle_move_bps > 0,
            lambda d: is_small_move(d.reference_was, d.reference_px, c.min_oracle_move_bps),
            lambda d: {"was_px": d.reference_was, "reference_px": d.reference_px, "min_bps": c.min_oracle_move_bps},
        ),
        Rule(
            Filter.ORACLE_RUN,
            c.min_oracle_run > 0,
            lambda d: is_short_run(d.side, d.reference_move, d.reference_run, c.min_oracle_run),
            lambda d: {"reference_move": d.reference_move, "run": d.reference_run, "min_run": c.min_oracle_run},
        ),
    )


def _quote_rules(c: FilterConfig) -> tuple[Rule, ...]:
    """Those that look at the quote."""
    low, high = c.quote_lag_min_ms, c.quote_lag_max_ms
    return (
        Rule(
            Filter.QUOTE_LAG,
            low > 0 or high > 0,
            lambda d: is_outside_lag(d.reference_moved_ms, d.touch_since_ms, d.mono_ms, low, high),
            lambda d: {
                "oracle_moved_before_ms": _before(d.reference_moved_ms, d),
                "touch_set_before_ms": _before(d.touch_since_ms, d),
                "min_ms": low,
                "max_ms": high,
            },
        ),
        Rule(
            Filter.SPREAD,
            c.max_spread_bps > 0,
            lambda d: is_wide(spread_bps(d.bid_px, d.ask_px), c.max_spread_bps),
            lambda d: {"spread_bps": spread_bps(d.bid_px, d.ask_px), "max_bps": c.max_spread_bps},
        ),
        Rule(
            Filter.ADAPTIVE_THRESHOLD,
            c.adaptive_spread_multiple > 0,
            lambda d: is_below_adaptive(d.edge_bps, d.cost_bps, d.mean_spread_bps, c.adaptive_spread_multiple),
            lambda d: {"mean_spread_bps": d.mean_spread_bps, "multiple": c.adaptive_spread_multiple},
        ),
        Rule(
            Filter.BASELINE_GAP,
            c.baseline_ewma_ms > 0,
            lambda d: is_usual_gap(d.side, d.edge_bps, d.cost_bps, d.mean_gap_bps),
            lambda d: {"mean_gap_bps": d.mean_gap_bps},
        ),
        Rule(
            Filter.CONFIDENCE,
            c.min_confidence > 0,
            lambda d: confidence_of(d) < c.min_confidence,
            lambda d: {"confidence": confidence_of(d), "min_confidence": c.min_confidence},
        ),
    )


def confidence_of(d: Dislocation) -> Decimal:
    """`confidence` of what was seen."""
    return confidence(d.edge_bps, d.cost_bps, d.depth, d.ctx_age_ms, d.max_ctx_age_ms)


def _before(at_ms: int | None, d: Dislocation) -> int | None:
    return None if at_ms is None else d.mono_ms - at_ms


class Filters:
    """The filters, those that are on in order, and what they remember of each market."""

    def __init__(self, config: FilterConfig, *, dedup: bool, direction: bool) -> None:
        self.config = config
        self.rules = rules(config, dedup=dedup, direction=direction)
        self._on = tuple((rule.name, rule.rejects) for rule in self.rules if rule.on)
        self._memory: dict[str, Memory] = {}
        names = {name for name, _ in self._on}
        self._wants_spread = Filter.ADAPTIVE_THRESHOLD in names
        self._wants_gap = Filter.BASELINE_GAP in names
        self._wants_touch = Filter.QUOTE_LAG in names
        self.observes = self._wants_spread or self._wants_gap or self._wants_touch
        """Whether `observe` must be told of every frame."""

    def memory(self, coin: str) -> Memory:
        return self._memory.setdefault(coin, Memory())

    def first_to_reject(self, dislocation: Dislocation) -> Filter | None:
        """The first filter that refuses, None where none does."""
        for name, rejects in self._on:
            if rejects(dislocation):
                return name
        return None

    def mean_spread(self, memory: Memory) -> Decimal | None:
        """In bps, once the mean has covered its own time constant."""
        return memory.spread.warm(self.config.adaptive_ewma_ms) if memory.spread else None

    def mean_gap(self, memory: Memory) -> Decimal | None:
        """In bps of the oracle, once warm."""
        return memory.gap.warm(self.config.baseline_warmup_ms) if memory.gap else None

    def observe(self, market: MarketState, now_ms: int) -> None:
        """Remembers a frame of one market. A new connection starts the means and the ages of quotes from nothing."""
        memory = self.memory(market.coin)
        if memory.connects != market.connects:
            memory.connects = market.connects
            memory.spread = TimeMean(self.config.adaptive_ewma_ms) if self._wants_spread else None
            memory.gap = TimeMean(self.config.baseline_ewma_ms) if self._wants_gap else None
            memory.touch_px.clear()
            memory.touch_since_ms.clear()
        bbo = market.bbo
        if self._wants_touch:
            self._note_touch(memory, bbo, now_ms)
        quote, px = market.both_px, market.reference_px
        if memory.spread is not None:
            memory.spread.observe(None if quote is None else spread_bps(*quote), now_ms)
        if memory.gap is not None:
            gap = None if quote is None or px is None else units.to_bps(px - (quote[0] + quote[1]) * HALF, px)
            memory.gap.observe(gap, now_ms)

    @staticmethod
    def _note_touch(memory: Memory, bbo: Bbo | None, now_ms: int) -> None:
        """Since when each side's best price is what it is; a side that was gone is new when it comes back."""
        ask, bid = (bbo.ask, bbo.bid) if bbo is not None else (None, None)
        for side, level in ((OrderSide.BUY, ask), (OrderSide.SELL, bid)):
            if level is None:
                memory.touch_px.pop(side, None)
                memory.touch_since_ms.pop(side, None)
            elif memory.touch_px.get(side) != level.px:
                memory.touch_px[side] = level.px
                memory.touch_since_ms[side] = now_ms
