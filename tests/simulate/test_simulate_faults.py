"""The whole bot over excerpts of recordings while things go wrong on the way of its orders (SIM-4, SIM-5).

A handful of seeds of each recording; `hip3 replay FILE --seeds A..B` runs the others (docs/simulation.md).
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from hip3.cli.main import make_app
from hip3.cli.replay_run import ReplayOptions
from hip3.exchange.faults import Drop, Faults, Point
from hip3.simulate.plan import BURST, HORIZON, Plan, Strike, make_plan
from hip3.simulate.trial import Trial, run_trial

BTC, ETH, WLFI = (
    "btc_bbo_mark_2h_20260510.jsonl.gz",
    "eth_l2_trades_23min_20251210.jsonl.gz",
    "wlfi_l2_trades_9min_20250903.jsonl.gz",
)
EXCERPTS = {
    BTC: ReplayOptions(Path(BTC), "mark", Decimal("0.1"), time_stop_ms=2000, start_s=120, limit_s=240),
    ETH: ReplayOptions(Path(ETH), "mid", Decimal("0.5"), time_stop_ms=2000, start_s=60, limit_s=60),
    WLFI: ReplayOptions(Path(WLFI), "mid", Decimal("1.5"), time_stop_ms=2000, limit_s=90),
}
"""References and thresholds at which each excerpt is traded many times."""


def excerpt(shared_data: Path, name: str) -> ReplayOptions:
    return attrs.evolve(EXCERPTS[name], path=shared_data / "recordings" / name)


def tried(options: ReplayOptions, plan: Plan) -> Trial:
    source, settings = options.open()
    return run_trial(settings, source, plan)


def peaceful(seed: int) -> Plan:
    return Plan(seed, 0.0, False, ())


@pytest.mark.parametrize("name", EXCERPTS)
@pytest.mark.parametrize("seed", [3, 4])
def test_simulate_faults_leave_the_books_right_and_the_venue_flat(shared_data: Path, name: str, seed: int) -> None:
    """SIM-5, DESIGN 9.1-6, 8, 9: with faults at random every invariant holds after each event, and the end is flat."""
    trial = tried(excerpt(shared_data, name), make_plan(seed))
    assert (trial.broken, trial.exit_code) == ((), 0)
    assert trial.strikes > 0
    assert trial.watch.exchange.positions(trial.watch.user) == ()
    assert trial.ended.bot.ledger.held() == []


@pytest.mark.parametrize("name", EXCERPTS)
def test_simulate_faults_excerpts_trade_many_times_in_peace(shared_data: Path, name: str) -> None:
    """SIM-5: the excerpts are no empty proof: without a fault each is traded again and again."""
    trial = tried(excerpt(shared_data, name), peaceful(1))
    assert (trial.broken, trial.strikes) == ((), 0)
    assert trial.trades >= 5


def test_simulate_faults_repeat_event_for_event(shared_data: Path) -> None:
    """SIM-5: one seed is one story: two runs send the same actions at the same times and tell the same notes."""
    options = excerpt(shared_data, WLFI)
    first, second = (tried(options, make_plan(6)) for _ in range(2))
    assert first.strikes > 0
    sent = [[(at, e.raw_action, e.nonce) for at, e in t.watch.exchange.received] for t in (first, second)]
    assert sent[0] == sent[1]
    assert list(first.watch.notes) == list(second.watch.notes)


def test_simulate_faults_differ_by_seed_and_not_by_call() -> None:
    """SIM-4: a plan is drawn from its seed alone; it strikes orders, their answers, own frames, queries and dials."""
    assert make_plan(1) == make_plan(1)
    assert make_plan(1).strikes != make_plan(2).strikes
    points = {strike.point for seed in range(20) for strike in make_plan(seed).strikes}
    assert points == set(Point)
    assert {make_plan(seed).ends_trading for seed in range(8)} == {True, False}
    most = HORIZON + BURST
    assert all(s.nth < most for seed in range(20) for s in make_plan(seed).strikes if s.point is not Point.INFO)


def test_simulate_faults_strike_the_nth_subject() -> None:
    """SIM-4: a strike of a plan meets the nth subject of its kind at its point, once."""
    faults = Faults([Strike(Point.FRAME, "post", 2, Drop()).rule()])
    seen = [faults.at(Point.FRAME, subject) for subject in ("post", "userFills", "post", "post", "post")]
    assert seen == [None, None, None, Drop(), None]
    assert faults.strikes == 1


def test_simulate_faults_command_runs_many_seeds(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIM-5, OPS-1: `hip3 replay --seeds A..B` runs each, one JSON line a seed, and ends with 0 where all held."""
    options = attrs.evolve(excerpt(shared_data, WLFI), limit_s=20)
    code = make_app()([*options.arguments(), "--seeds", "1..3", "--jobs", "1", "--json"])
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, [row["seed"] for row in rows], [row["broken"] for row in rows]) == (0, [1, 2, 3], [[], [], []])
    assert "3 runs" in err
    assert "every invariant held" in err


@pytest.mark.parametrize("seeds", ["5", "9..3", "a..b", "1..2..3"])
def test_simulate_faults_command_refuses_a_strange_range(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """CFG-2: seeds that are no range are named, with what is expected; nothing runs."""
    assert make_app()(["replay", "no-such-file", "--seeds", seeds]) == 2
    assert f"expected A..B with A <= B, found {seeds!r}" in capsys.readouterr().err
