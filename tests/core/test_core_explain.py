"""The trail of a signal: every gate asked on what was seen at the decision, whatever happens to the books afterwards."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.causes import Clears, ReasonCode, Safety, Severity
from hip3.core.detector import Signal
from hip3.core.events import Position
from hip3.core.explain import INPUTS, GateStep, Seen, Witness, gate_trail
from hip3.core.filter_trail import filter_trail
from hip3.core.filters import Dislocation, spread_bps
from hip3.core.gates import GATES, Caps, EntryView, Refusal, check_entry
from hip3.core.ids import OrderSide
from hip3.core.market import MarketState
from hip3.core.posts import PostBook
from hip3.core.quality import QualityConfig
from hip3.core.ready import Ready
from hip3.core.scheduler import Batch, Scheduler, SchedulerConfig
from tests.core.core_builders import DETECTOR, MU, SNDK, T0, D, Desk, bbo, ctx, held

NOW = 5000
CONFIG = DETECTOR
SIGNAL = Signal(
    id="t-1",
    spec=SNDK,
    side=OrderSide.BUY,
    px=D("600.2"),
    sz=D("0.02"),
    touch_px=D("600.1"),
    touch_sz=D(10),
    reference_px=D(602),
    edge_bps=D("31.6"),
    cost_bps=D("7.9"),
    taker_fee_bps=D("0.9"),
    slippage_bps=D(2),
    min_edge_bps=D(5),
    liquidity_factor=D(1),
    bbo=bbo(SNDK.coin, "599.9", "600.1"),
    bbo_age_ms=40,
    ctx_age_ms=7,
    detected_wall_ms=T0,
    detected_mono_ms=NOW - 3,
)

SPREAD = spread_bps(D("599.9"), D("600.1"))
SEEN = Dislocation(
    side=OrderSide.BUY,
    bid_px=D("599.9"),
    ask_px=D("600.1"),
    reference_px=D(602),
    edge_bps=D("31.6"),
    cost_bps=D("7.9"),
    depth=D(1),
    mono_ms=NOW - 3,
    wall_ms=T0,
    ctx_age_ms=7,
    max_ctx_age_ms=3000,
    reference_move=1,
    reference_run=1,
    reference_was=D(600),
    reference_moved_ms=NOW - 10,
    last_signal_px=None,
    touch_since_ms=None,
    mean_spread_bps=None,
    mean_gap_bps=None,
)


class Floor:
    """Everything that the gates look at, open unless a test closes it."""

    def __init__(self, *positions: Position) -> None:
        self.desk = Desk(synced=False)
        self.desk.sync(*positions)
        self.safety = Safety(lambda *_: None, lambda: T0 - 250)
        self.safety.promote(ReasonCode.AUTO_PROMOTE, "a test")
        self.scheduler = Scheduler(SchedulerConfig(200, 500, 2, 50, 100, 80, 100))
        self.posts = PostBook(5000)
        self.witness = Witness(self.safety, Ready(lambda *_: None), self.scheduler, self.posts, CONFIG)
        self.markets = {of.coin: MarketState(of) for of in (SNDK, MU)}
        for of, market in zip((SNDK, MU), self.markets.values(), strict=True):
            market.on_bbo(bbo(of.coin, "599.9", "600.1"), NOW - 40)
            market.on_ctx(ctx(of.coin, "602", "600"), NOW - 7)
            market.acked.update(("bbo", "activeAssetCtx"))

    def view(self, **changed: Any) -> EntryView:
        base = EntryView(
            allows_entry=self.safety.allows_entry,
            not_ready=None,
            ledger=self.desk.ledger,
            markets=self.markets,
            now_ms=NOW,
            max_mark_age_ms=3000,
            caps=Caps(D(50), D(100)),
            entries_left_today=None,
            budget_left=900,
            messages_left=1400,
        )
        return attrs.evolve(base, **changed)

    def see(self, **changed: Any) -> Seen:
        return self.witness.see(SNDK.coin, self.view(**changed), T0)

    def steps(self, seen: Seen) -> dict[str, GateStep]:
        return {s.name: s for s in gate_trail(SIGNAL, seen, self.scheduler, CONFIG)}


def test_every_gate_has_inputs() -> None:
    """OPS-7: a gate that is added to the path of entries must say what it looked at."""
    assert {name for name, _ in GATES} == set(INPUTS)


def test_all_gates_answer_and_the_first_refusal_is_the_verdict() -> None:
    """OPS-7, GATE-1: the trail does not stop at the first refusal, and names all that would have refused."""
    floor = Floor(held("0.05"))
    view = floor.view(not_ready="fills_snapshot", entries_left_today=0, caps=Caps(D(20), D(30)))
    steps = gate_trail(SIGNAL, floor.witness.see(SNDK.coin, view, T0), floor.scheduler, CONFIG)
    refused = [(s.name, s.refusal) for s in steps if s.refusal is not None]
    assert refused == [
        ("ready", Refusal.NOT_READY),
        ("market_cap", Refusal.MAX_POSITION_PER_MARKET),
        ("governor", Refusal.MAX_POSITION_TOTAL),
        ("position", Refusal.ALREADY_HAS_POSITION),
        ("daily_limit", Refusal.DAILY_TRADE_LIMIT),
    ]
    verdict = check_entry(SNDK.coin, SIGNAL.sz, view)
    assert verdict is not None
    assert verdict.refusal is Refusal.NOT_READY


@given(
    live=st.booleans(),
    ready=st.booleans(),
    szi=st.sampled_from(["0", "0.02", "-0.1"]),
    other=st.sampled_from(["0", "0.1"]),
    pending=st.booleans(),
    ctx_age=st.sampled_from([0, 3000, 3001]),
    left=st.sampled_from([None, 0, 1]),
    budget=st.sampled_from([0, 1]),
)
def test_the_trail_never_contradicts_the_decision(
    live: bool, ready: bool, szi: str, other: str, pending: bool, ctx_age: int, left: int | None, budget: int
) -> None:
    """OPS-7, LESSONS 2: on what was captured the gates say what they said on the live books, detail included."""
    floor = Floor(*(p for p in (held(szi), held(other, of=MU)) if p.szi))
    if not live:
        floor.safety.add(ReasonCode.DAILY_LOSS, Severity.HALT, "risk", "lost", Clears.OPERATOR)
    if pending and szi == "0":
        floor.desk.order(sz="0.02")
    floor.markets[SNDK.coin].ctx_recv_ms = NOW - ctx_age
    view = floor.view(not_ready=None if ready else "position_synced", entries_left_today=left, budget_left=budget)
    seen = floor.witness.see(SNDK.coin, view, T0)
    decided = check_entry(SNDK.coin, SIGNAL.sz, view)
    first = next((s for s in gate_trail(SIGNAL, seen, floor.scheduler, CONFIG) if s.refusal is not None), None)
    told = None if first is None else (first.refusal, first.detail)
    assert told == (None if decided is None else (decided.refusal, decided.detail))


def test_what_happens_after_the_decision_does_not_change_the_trail() -> None:
    """OPS-7: the order itself, its fill, a newer quote and a new cause come after; the trail shows what the gates saw."""
    floor = Floor(held("0.01", of=MU))
    seen = floor.see()
    floor.desk.order(sz="0.02")
    floor.desk.position(MU).szi = D("9")
    floor.markets[SNDK.coin].on_ctx(ctx(SNDK.coin, "700", "700"), NOW + 5)
    floor.markets[SNDK.coin].acked.clear()
    floor.safety.add(ReasonCode.DAILY_LOSS, Severity.HALT, "risk", "lost", Clears.OPERATOR)
    steps = floor.steps(seen)
    assert [s.name for s in steps.values() if s.refusal is not None] == []
    assert steps["mode"].inputs == {"mode": "ARMED_LIVE", "causes": []}
    assert steps["market_cap"].inputs["mark_px"] == D("600")
    assert steps["governor"].inputs["exposure_usd"] == D("6.00")
    assert steps["pending"].inputs == {"orders": []}
    assert steps["ready"].inputs["market_missing"] == "nothing"


def test_inputs_carry_their_ages() -> None:
    """OPS-7: quotes, marks, causes, positions and orders each say how old they were."""
    floor = Floor(held("0.01", of=MU))
    floor.desk.position(MU).entry_ms = T0 - 900
    order = floor.desk.order(sz="0.02")
    floor.safety.add(ReasonCode.SNAPSHOT_STALE, Severity.SAFE, "reconcile", "no answer", Clears.AUTO)
    steps = floor.steps(floor.see())
    assert steps["mode"].inputs["causes"] == [
        {
            "code": "SNAPSHOT_STALE",
            "severity": "SAFE",
            "source": "reconcile",
            "age_ms": 250,
            "message": "no answer",
            "clears": "auto",
        }
    ]
    ready = steps["ready"].inputs
    assert (ready["bbo_age_ms"], ready["ctx_age_ms"]) == (40, 7)
    assert ready["conditions"] == dict.fromkeys(("md_ready", "order_snapshot", "fills_snapshot", "position_synced"), False)
    cap = steps["market_cap"].inputs
    assert (cap["order_usd"], cap["exposure_usd"], cap["cap_usd"], cap["mark_age_ms"]) == (D("12.00"), D("12.00"), D(50), 7)
    total = steps["governor"].inputs
    assert total["markets"] == {
        MU.coin: {"exposure_usd": D("6.00"), "mark_px": D("600"), "mark_age_ms": 7},
        SNDK.coin: {"exposure_usd": D("12.00"), "mark_px": D("600"), "mark_age_ms": 7},
    }
    assert steps["position"].inputs == {"szi": D(0)}
    assert steps["pending"].inputs["orders"] == [
        {"cloid": order.cloid.value, "state": "SENT", "reduce_only": False, "remaining_sz": D("0.02"), "age_ms": 0}
    ]


def test_an_unknown_mark_is_none_and_not_zero() -> None:
    """LESSONS 3: without a fresh mark the notional is not known; the trail says so and the gate refuses."""
    floor = Floor()
    floor.markets[SNDK.coin].ctx_recv_ms = NOW - 3001
    cap = floor.steps(floor.see())["market_cap"]
    assert cap.refusal is Refusal.NOT_READY
    assert (cap.inputs["mark_px"], cap.inputs["order_usd"], cap.inputs["mark_age_ms"]) == (None, None, 3001)


@pytest.mark.parametrize(
    ("queued", "in_flight", "refusal", "detail"),
    [
        (0, 0, None, ""),
        (1, 80, None, "queued; posts in flight are above the high-water mark"),
        (2, 0, Refusal.QUEUE_FULL, "refused: the queue is full"),
        (0, 100, Refusal.INFLIGHT_FULL, "refused: posts in flight are at the limit"),
    ],
)
def test_the_queue_is_the_last_step(queued: int, in_flight: int, refusal: Refusal | None, detail: str) -> None:
    """OPS-7, BAT-3: a full queue and posts in flight refuse as the scheduler does, with their numbers."""
    floor = Floor()
    for _ in range(queued):
        floor.scheduler.enqueue_new(floor.desk.intent(of=MU), 0)
    for n in range(in_flight):
        floor.posts.handed_over(floor.posts.register(Batch(), n, 0))
    steps = gate_trail(SIGNAL, floor.see(), floor.scheduler, CONFIG)
    last = steps[-1]
    assert (last.name, last.refusal, last.detail) == ("queue", refusal, detail)
    assert last.inputs == {
        "in_flight": in_flight,
        "max_inflight": 100,
        "high_water": 80,
        "queued": queued,
        "queue_new": 2,
    }


def test_filters_are_judged_from_what_the_signal_carries() -> None:
    """OPS-7, DET-5: edge, cost parts, ages and size with the limits that they were compared with."""
    steps = {s.name: s for s in filter_trail(SIGNAL, CONFIG)}
    assert not any(s.on and s.rejects for s in steps.values() if s.name in ("edge", "stale_bbo", "stale_reference", "size"))
    assert steps["edge"].inputs["edge_bps"] == D("31.6")
    assert steps["stale_bbo"].inputs == {"age_ms": 40, "max_age_ms": 10_000}
    assert steps["stale_reference"].inputs == {"age_ms": 7, "max_age_ms": 3000}
    assert steps["size"].inputs["max_order_notional_usd"] == D(40)


def test_a_filter_that_is_off_says_what_it_would_do_where_it_can() -> None:
    """OPS-7, LESSONS 28: off is not pass; without a number to compare with there is no opinion."""
    repeated = attrs.evolve(SIGNAL, dislocation=attrs.evolve(SEEN, last_signal_px=SIGNAL.reference_px))
    on = {s.name: s.as_dict() for s in filter_trail(repeated, CONFIG)}
    off = {s.name: s.as_dict() for s in filter_trail(repeated, attrs.evolve(CONFIG, dedup=False))}
    assert on["dedup"]["verdict"] == "reject"
    assert (off["dedup"]["verdict"], off["dedup"]["would_reject"]) == ("off", True)
    assert on["spread"] == {"name": "spread", "verdict": "off", "inputs": {"spread_bps": SPREAD, "max_bps": D(0)}}
    unlimited = {s.name: s.as_dict() for s in filter_trail(SIGNAL, attrs.evolve(CONFIG, max_bbo_age_ms=0))}
    assert unlimited["stale_bbo"] == {"name": "stale_bbo", "verdict": "off", "inputs": {"age_ms": 40, "max_age_ms": 0}}


def test_gates_on_data_quality_are_listed_with_their_numbers() -> None:
    """OPS-7, DET-6: those that are on let the market pass, or there would be no signal; the others are off."""
    config = attrs.evolve(CONFIG, quality=QualityConfig(spread_shock_multiple=D(4), spread_shock_cooldown_ms=900))
    steps = {s.name: s.as_dict() for s in filter_trail(SIGNAL, config)}
    shock = steps["spread_shock"]
    assert shock["verdict"] == "pass"
    assert shock["inputs"] == {"spread_bps": SPREAD, "multiple": D(4), "cooldown_ms": 900}
    assert {steps[name]["verdict"] for name in ("halted", "blackout", "time_back", "mark_mid", "oi_cap")} == {"off"}


def test_an_edge_that_is_exactly_the_cost_passes() -> None:
    """DET-1: the comparison is inclusive, and the trail uses the detector's own, not a rounded quotient."""
    exact = attrs.evolve(SIGNAL, reference_px=D(700), touch_px=D("699.447"), cost_bps=D("7.9"), edge_bps=D("7.89"))
    steps = {s.name: s for s in filter_trail(exact, CONFIG)}
    assert steps["edge"].rejects is False
    below = attrs.evolve(exact, touch_px=D("699.448"))
    assert next(s for s in filter_trail(below, CONFIG) if s.name == "edge").rejects is True


def test_the_fields_of_the_journal() -> None:
    """OPS-7: one line holds the whole trail, and how long after the signal the gates were asked."""
    floor = Floor()
    verdict = check_entry(SNDK.coin, SIGNAL.sz, floor.view(budget_left=0))
    assert verdict is not None
    fields = floor.witness.trail(SIGNAL, floor.see(budget_left=0), verdict)
    assert (fields["signal"], fields["verdict"], fields["judged_after_ms"]) == ("t-1", "Skipped(BudgetExhausted)", 3)
    gates = fields["gates"]
    assert isinstance(gates, list)
    assert [g["name"] for g in gates] == [*(name for name, _ in GATES), "queue"]
    (refused,) = (g for g in gates if g["verdict"] != "pass")
    assert refused == {
        "name": "budget",
        "verdict": "BudgetExhausted",
        "detail": "the rest is kept for cancels and flatten",
        "inputs": {"actions_left": 0, "messages_left": 1400},
    }


def test_seeing_changes_nothing() -> None:
    """LESSONS 3: a look for the trail creates no position, no order and no market."""
    floor = Floor()
    before = (dict(floor.desk.ledger.positions), dict(floor.desk.ledger.orders), set(floor.markets))
    floor.steps(floor.see())
    assert (dict(floor.desk.ledger.positions), dict(floor.desk.ledger.orders), set(floor.markets)) == before
