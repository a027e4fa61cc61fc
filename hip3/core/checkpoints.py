"""JRN-2: the checkpoints at 10, 50 and 100 trades and the gate of phase C, as a table, and how one is judged. Pure.

A criterion is judged by its value, as the requirement says; whether its whole interval lies on the passing side is said
beside it, because a value can pass by luck. Nothing is judged before the trades are there, with one exception: a stop
limit that is passed beyond doubt stops at once, since waiting could only cost more.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal

from attrs import frozen


class Judgement(enum.Enum):
    PASSED = "PASS"
    NOT_YET = "NOT YET"
    FAIL = "FAIL"
    STOP = "STOP"


class Decision(enum.Enum):
    """The one word at the top."""

    GO = "GO"
    NOT_YET = "NOT YET"
    NO_GO = "NO-GO"
    STOP = "STOP"


class Relation(enum.Enum):
    AT_LEAST = "≥"
    ABOVE = ">"
    BELOW = "<"
    EQUALS = "="

    def holds(self, value: Decimal, limit: Decimal) -> bool:
        if self is Relation.AT_LEAST:
            return value >= limit
        if self is Relation.ABOVE:
            return value > limit
        return value < limit if self is Relation.BELOW else value == limit


class Measure(enum.Enum):
    """What a criterion looks at: words, and the unit of its numbers (empty for a fraction or a count)."""

    FILL_RATE = ("fill rate", "")
    SLIPPAGE = ("mean slippage", "bps")
    PNL = ("PnL", "USD")
    ACTUAL_EDGE = ("mean actual edge", "bps")
    NET_EDGE = ("mean edge after cost", "bps")
    MISSED_STOPS = ("missed stops", "")
    FLATTEN_SUCCESS = ("flatten success", "")

    @property
    def words(self) -> str:
        return self.value[0]

    @property
    def unit(self) -> str:
        return self.value[1]


PER_TRADE = frozenset({Measure.SLIPPAGE, Measure.PNL, Measure.ACTUAL_EDGE, Measure.NET_EDGE, Measure.MISSED_STOPS})
"""Their `n` counts trades and must reach the checkpoint's number by itself; that of a rate counts orders or closes."""


@frozen
class Rule:
    """`stop`: on the failing side of it the test ends for good."""

    measure: Measure
    relation: Relation
    limit: Decimal
    stop: Decimal | None = None

    @property
    def text(self) -> str:
        unit = f" {self.measure.unit}" if self.measure.unit else ""
        stop = "" if self.stop is None else f", stop below {self.stop}{unit}"
        return f"{self.measure.words} {self.relation.value} {self.limit}{unit}{stop}"


@frozen
class Checkpoint:
    name: str
    trades: int
    rules: tuple[Rule, ...]


_M, _R, _D = Measure, Relation, Decimal

CHECKPOINTS = (
    Checkpoint(
        "10 trades",
        10,
        (Rule(_M.FILL_RATE, _R.AT_LEAST, _D("0.8")), Rule(_M.SLIPPAGE, _R.BELOW, _D(20))),
    ),
    Checkpoint(
        "50 trades",
        50,
        (Rule(_M.PNL, _R.AT_LEAST, _D(-5), _D(-10)), Rule(_M.FILL_RATE, _R.AT_LEAST, _D("0.7"), _D("0.5"))),
    ),
    Checkpoint("100 trades", 100, (Rule(_M.ACTUAL_EDGE, _R.ABOVE, _D(0)),)),
    Checkpoint(
        "Phase C gate",
        100,
        (
            Rule(_M.NET_EDGE, _R.ABOVE, _D(0)),
            Rule(_M.MISSED_STOPS, _R.EQUALS, _D(0)),
            Rule(_M.FILL_RATE, _R.ABOVE, _D("0.8")),
            Rule(_M.FLATTEN_SUCCESS, _R.ABOVE, _D("0.95")),
        ),
    ),
)
"""SPEC JRN-2, in its words and numbers."""


@frozen
class Measured:
    """A measure's value and interval; `n` is what it was taken from. None where it is not known."""

    n: int
    value: Decimal | None
    low: Decimal | None = None
    high: Decimal | None = None
    said: str = ""
    """What a count is made of, for its remark."""


@frozen
class Finding:
    """One criterion, judged. `missing`: trades (or, at n = 0, orders) that it still needs, at least."""

    rule: Rule
    measured: Measured
    judgement: Judgement
    missing: int = 0
    remark: str = ""

    @property
    def is_clear(self) -> bool:
        """The whole interval says what the value says."""
        return self.judgement is not Judgement.NOT_YET and not self.remark


@frozen
class Judged:
    """One checkpoint. `missing`: how many trades it still needs, at least."""

    checkpoint: Checkpoint
    judgement: Judgement
    findings: tuple[Finding, ...]
    missing: int


def judge(checkpoint: Checkpoint, trades: int, measures: Mapping[Measure, Measured]) -> Judged:
    """The verdict after `trades` trades is the worst of its criteria: PASS, NOT YET, FAIL, STOP."""
    findings = tuple(_judge(rule, checkpoint.trades, trades, measures[rule.measure]) for rule in checkpoint.rules)
    order = list(Judgement)
    worst = max((f.judgement for f in findings), key=order.index)
    return Judged(checkpoint, worst, findings, max(f.missing for f in findings))


def decide(judged: tuple[Judged, ...]) -> Decision:
    """STOP before NO-GO before NOT YET; GO only where every checkpoint and the gate of phase C pass."""
    all_of = {j.judgement for j in judged}
    if Judgement.STOP in all_of:
        return Decision.STOP
    if Judgement.FAIL in all_of:
        return Decision.NO_GO
    return Decision.NOT_YET if Judgement.NOT_YET in all_of else Decision.GO


def _judge(rule: Rule, needed: int, trades: int, m: Measured) -> Finding:
    if rule.stop is not None and _is_beyond(rule, m, trades >= needed):
        return Finding(rule, m, Judgement.STOP)
    have = min(trades, m.n) if rule.measure in PER_TRADE else trades
    missing = max(needed - have, 0)
    if m.value is None:
        return Finding(rule, m, Judgement.NOT_YET, max(missing, 1), "nothing on record to judge it by")
    holds = rule.relation.holds(m.value, rule.limit)
    if missing:
        side = "inside" if holds else "outside"
        remark = "; ".join(filter(None, (f"so far {side} the limit", m.said)))
        return Finding(rule, m, Judgement.NOT_YET, missing, remark)
    return Finding(rule, m, Judgement.PASSED if holds else Judgement.FAIL, 0, _doubt(rule, m, holds=holds))


def _is_beyond(rule: Rule, m: Measured, is_due: bool) -> bool:
    """Due: the value is below the stop. Before: money lost is lost whatever follows; a rate must be below it for certain."""
    assert rule.stop is not None
    if m.value is None:
        return False
    if is_due or rule.measure is Measure.PNL:
        return m.value < rule.stop
    return m.high is not None and m.high < rule.stop


def _doubt(rule: Rule, m: Measured, *, holds: bool) -> str:
    """What the interval takes back of the verdict; empty where it agrees. PnL and missed stops are no estimates."""
    if rule.measure in (Measure.PNL, Measure.MISSED_STOPS):
        return m.said
    if m.low is None or m.high is None:
        return "no interval: all values are equal"
    other = m.low if (rule.relation is Relation.BELOW) is not holds else m.high
    if rule.relation.holds(other, rule.limit) is holds:
        return ""
    zero = rule.limit == 0
    where = "includes zero" if zero else "reaches over the limit"
    return f"the interval {where}: " + ("this may be luck" if holds else "this may be bad luck")
