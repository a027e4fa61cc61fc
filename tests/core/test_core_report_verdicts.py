"""JRN-2 and JRN-3: when a checkpoint passes, fails, stops or waits, and what is said beside it."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TypeVar

import attrs
import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from hip3.core.checkpoints import CHECKPOINTS, Decision, Judgement, Measure
from hip3.core.report import Report, ReportInput, make_report
from tests.core.report_builders import checkpoint, follow_up, given, good, judgement, overdue, signal, trade

P, F, S, N = Judgement.PASSED, Judgement.FAIL, Judgement.STOP, Judgement.NOT_YET
GATE = "Phase C gate"


def with_rate(trades: int, rejected: int, **more: str) -> Report:
    return make_report(good(trades, rejected=rejected, **more))


def test_the_checkpoints_are_those_of_the_requirement() -> None:
    """JRN-2: the rules in the words and numbers of the specification."""
    assert [(c.name, c.trades, [r.text for r in c.rules]) for c in CHECKPOINTS] == [
        ("10 trades", 10, ["fill rate ≥ 0.8", "mean slippage < 20 bps"]),
        ("50 trades", 50, ["PnL ≥ -5 USD, stop below -10 USD", "fill rate ≥ 0.7, stop below 0.5"]),
        ("100 trades", 100, ["mean actual edge > 0 bps"]),
        (
            "Phase C gate",
            100,
            ["mean edge after cost > 0 bps", "missed stops = 0", "fill rate > 0.8", "flatten success > 0.95"],
        ),
    ]


@pytest.mark.parametrize(("trades", "rejected", "verdict"), [(9, 0, N), (10, 2, P), (10, 3, F), (12, 3, P), (12, 4, F)])
def test_fill_rate_at_ten_trades(trades: int, rejected: int, verdict: Judgement) -> None:
    """JRN-2: at least 0.8 of the entries executed: 12 of 15 is just enough, 10 of 13 is not."""
    assert judgement(with_rate(trades, rejected), "10 trades", Measure.FILL_RATE) is verdict


@pytest.mark.parametrize(("expected", "verdict"), [("31.99", P), ("32", F), ("33", F)])
def test_slippage_at_ten_trades(expected: str, verdict: Judgement) -> None:
    """JRN-2: below 20 bps; with an actual edge of 12 bps an expected one of 32 is 20 too many."""
    report = make_report(given(*(trade(n, pnl="0.11", expected=expected) for n in range(10))))
    assert judgement(report, "10 trades", Measure.SLIPPAGE) is verdict


def test_slippage_waits_for_trades_that_have_an_expected_edge() -> None:
    """JRN-2, JRN-3: ten trades of which three have no expected edge are seven for the slippage: three are missing."""
    rows = [trade(n, expected=None if n < 3 else "12") for n in range(10)]
    found = checkpoint(make_report(given(*rows)), "10 trades")
    assert found.judgement is N
    assert found.missing == 3


@pytest.mark.parametrize(("pnl", "verdict"), [("-0.1", P), ("-0.10001", F), ("-0.2", F), ("-0.20001", S), ("1", P)])
def test_pnl_at_fifty_trades(pnl: str, verdict: Judgement) -> None:
    """JRN-2: -5 USD passes, below it fails, -10 still fails, below that the test stops."""
    report = make_report(given(*(trade(n, pnl=pnl) for n in range(50))))
    assert judgement(report, "50 trades", Measure.PNL) is verdict


@pytest.mark.parametrize(("rejected", "verdict"), [(21, P), (22, F), (50, F), (51, S)])
def test_fill_rate_at_fifty_trades(rejected: int, verdict: Judgement) -> None:
    """JRN-2: 50 of 71 passes, 50 of 72 fails, one half still fails, less stops."""
    assert judgement(with_rate(50, rejected), "50 trades", Measure.FILL_RATE) is verdict


def test_money_lost_stops_before_fifty_trades() -> None:
    """JRN-2, JRN-3: -11 USD after eleven trades is not "not yet": the loss is there, whatever follows."""
    report = make_report(given(*(trade(n, pnl="-1") for n in range(11))))
    assert judgement(report, "50 trades", Measure.PNL) is S
    assert report.decision is Decision.STOP


@pytest.mark.parametrize(("rejected", "verdict"), [(3, N), (11, N), (12, S)])
def test_a_low_fill_rate_stops_early_only_when_it_is_certain(rejected: int, verdict: Judgement) -> None:
    """JRN-2, JRN-3: 4 of 15 may still be one half by chance, 4 of 16 (Wilson up to 0.495) may not."""
    report = with_rate(4, rejected)
    found = judgement(report, "50 trades", Measure.FILL_RATE)
    high = report.totals.entries.rate.high
    assert high is not None
    assert (found is S) == (high < Decimal("0.5"))
    assert found is verdict


def test_not_yet_says_how_many_are_missing_and_how_it_stands() -> None:
    """JRN-2: nine trades: one is missing for the first checkpoint, 91 for the gate; each says where it stands so far."""
    report = with_rate(9, 1)
    assert [(j.judgement, j.missing) for j in report.checkpoints] == [(N, 1), (N, 41), (N, 91), (N, 91)]
    assert checkpoint(report, "10 trades").findings[0].remark == "so far inside the limit"
    assert report.decision is Decision.NOT_YET


def test_all_pass_after_a_hundred_good_trades() -> None:
    """JRN-2: enough trades, edge after cost, no missed stop, fills and flattens: GO."""
    report = with_rate(100, 2)
    assert [j.judgement for j in report.checkpoints] == [P, P, P, P]
    assert report.decision is Decision.GO
    assert all(f.is_clear for j in report.checkpoints for f in j.findings if f.rule.measure is Measure.NET_EDGE)


@pytest.mark.parametrize(
    ("change", "measure"),
    [
        ("edge", Measure.NET_EDGE),
        ("stop", Measure.MISSED_STOPS),
        ("fills", Measure.FILL_RATE),
        ("flatten", Measure.FLATTEN_SUCCESS),
    ],
)
def test_each_condition_of_the_gate_fails_alone(change: str, measure: Measure) -> None:
    """JRN-2: an edge eaten by its costs, one missed stop, a rate of exactly 0.8, closes of exactly 0.95."""
    base = good(100, pnl="-0.03" if change == "edge" else "0.1", rejected=25 if change == "fills" else 0)
    if change == "stop":
        base = attrs.evolve(base, trades=(*base.trades[:-1], trade(99, held_ms=37_001)))
    if change == "flatten":
        base = attrs.evolve(base, transitions=tuple(overdue(n, 9_500) for n in range(5)))
    report = make_report(base)
    failed = [f.rule.measure for f in checkpoint(report, GATE).findings if f.judgement is F]
    assert measure in failed
    assert failed == ([Measure.MISSED_STOPS, Measure.FLATTEN_SUCCESS] if change == "flatten" else [measure])
    assert report.decision is Decision.NO_GO


def test_a_gate_without_orders_on_record_does_not_pass() -> None:
    """JRN-2, JRN-3: no evidence of fills or closes is no evidence of good ones."""
    report = make_report(given(*(trade(n) for n in range(100))))
    gate = checkpoint(report, GATE)
    assert gate.judgement is N
    assert gate.missing >= 1
    assert judgement(report, GATE, Measure.FLATTEN_SUCCESS) is N


def test_an_interval_over_the_limit_is_said_beside_the_verdict() -> None:
    """JRN-3: a mean above zero whose interval includes zero passes by the rule, and says that it may be luck."""
    rows = [trade(n, pnl="1.01" if n % 2 else "-1") for n in range(100)]
    report = make_report(given(*rows))
    [found] = [f for f in checkpoint(report, GATE).findings if f.rule.measure is Measure.NET_EDGE]
    assert found.judgement is P
    assert not found.is_clear
    assert found.remark == "the interval includes zero: this may be luck"
    assert any("includes zero: these trades do not show that there is an edge" in said for said in report.caveats)


def test_eight_of_ten_pass_and_may_be_luck() -> None:
    """JRN-3: a fill rate of 10 in 12 passes; Wilson's interval begins at 0.55, and that stands beside it."""
    [found] = [f for f in checkpoint(with_rate(10, 2), "10 trades").findings if f.rule.measure is Measure.FILL_RATE]
    assert found.judgement is P
    assert found.remark == "the interval reaches over the limit: this may be luck"


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "No trade has finished"), (1, "One trade is an anecdote"), (2, "All trades ended alike")],
)
def test_too_few_trades_are_said(count: int, said: str) -> None:
    """JRN-3: none, one, or several that are equal: no interval, and a sentence instead of one."""
    report = make_report(given(*(trade(n) for n in range(count))))
    assert any(caveat.startswith(said) for caveat in report.caveats)
    assert report.totals.net.low is None


def test_a_profit_of_one_trade_is_said() -> None:
    """JRN-3: where the best trade makes the whole PnL, the report says so."""
    report = make_report(given(trade(0, pnl="5"), trade(1, pnl="-1"), trade(2, pnl="-1")))
    assert any("Without its best trade the PnL is not positive" in said for said in report.caveats)
    assert not any("best trade" in said for said in make_report(good(5)).caveats)


def test_edge_and_pnl_of_opposite_signs_are_said() -> None:
    """JRN-3: one large trade that loses 1 USD (10 bps) outweighs two small ones of +15 bps in money, not in the mean."""
    large = attrs.evolve(trade(2, pnl="-1"), sz=Decimal(10))
    report = make_report(given(trade(0, pnl="0.15"), trade(1, pnl="0.16"), large))
    assert any("opposite signs" in said for said in report.caveats)
    assert not any("opposite signs" in said for said in make_report(good(5)).caveats)


def test_notes_of_the_source_come_first() -> None:
    """JRN-3: what the source lacks is said with the rest."""
    assert make_report(attrs.evolve(good(3), notes=("paper money",))).caveats[0] == "paper money"


PNLS = st.lists(st.decimals(-3, 3, places=2, allow_nan=False, allow_infinity=False), min_size=0, max_size=70)
R = TypeVar("R")
SEVERITY = {P: 0, F: 1, S: 2}


@generated(PNLS, st.decimals("-3", "-0.01", places=2), st.integers(0, 70))
def test_a_losing_trade_never_improves_the_verdict_of_pnl(pnls: list[Decimal], loss: Decimal, at: int) -> None:
    """JRN-2: wherever it comes: PASS, FAIL, STOP only go down; it may be the trade that was missing for a verdict."""
    rows = [trade(n, pnl=str(pnl)) for n, pnl in enumerate(pnls)]
    before = judgement(make_report(given(*rows)), "50 trades", Measure.PNL)
    after = judgement(make_report(given(*rows, trade(100 + at, pnl=str(loss)))), "50 trades", Measure.PNL)
    if before in SEVERITY:
        assert after in SEVERITY
        assert SEVERITY[after] >= SEVERITY[before]
    elif after is not N:
        assert len(rows) == 49 or after is S


def mixed(records: tuple[R, ...], rng: random.Random) -> tuple[R, ...]:
    return tuple(rng.sample(records, len(records)))


def everything(pnls: list[Decimal]) -> ReportInput:
    base = good(len(pnls), rejected=2)
    n = range(len(pnls))
    return attrs.evolve(
        base,
        trades=tuple(trade(k, pnl=str(pnl)) for k, pnl in enumerate(pnls)),
        signals=tuple(signal(k, edge=str(10 + k)) for k in n),
        follow_ups=tuple(follow_up(k, 1000, str(k)) for k in n),
        transitions=tuple(overdue(k, 9000) for k in n if k % 5 == 0),
    )


@generated(st.lists(st.decimals(-3, 3, places=4, allow_nan=False, allow_infinity=False), max_size=20), st.randoms())
def test_the_order_of_the_records_does_not_matter(pnls: list[Decimal], rng: random.Random) -> None:
    """JRN-1: the same records in any order give the same report."""
    whole = everything(pnls)
    shuffled = make_report(
        attrs.evolve(
            whole,
            trades=mixed(whole.trades, rng),
            signals=mixed(whole.signals, rng),
            follow_ups=mixed(whole.follow_ups, rng),
            intents=mixed(whole.intents, rng),
            results=mixed(whole.results, rng),
            transitions=mixed(whole.transitions, rng),
        )
    )
    assert attrs.evolve(shuffled, input=whole) == make_report(whole)
