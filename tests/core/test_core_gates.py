"""Entry gates: their order, the caps' arithmetic, and pending as a consequence of orders."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core import facts as f
from hip3.core.gates import Caps, EntryView, Refusal, Verdict, check_entry, exposure_usd
from hip3.core.ids import MarketSpec, OrderSide
from hip3.core.orders import OrderOutcome, OutcomeKind
from hip3.fsm.order import OrderState
from tests.core.core_builders import MU, SNDK, T0, D, Desk, account, answer_filled, ctx, fill, fills, held, market, spec

NOW = 5000
WIDE = Caps(per_market_usd=D(10**6), total_usd=D(10**6))


def view(desk: Desk, *marks: tuple[MarketSpec, str | None], age_ms: int = 0, **changed: Any) -> EntryView:
    """Everything open, each market at its mark, received `age_ms` ago."""
    markets = {of.coin: market(of, mark=mark, at_ms=NOW - age_ms) for of, mark in marks or ((SNDK, "600"),)}
    base = EntryView(
        allows_entry=True,
        not_ready=None,
        ledger=desk.ledger,
        markets=markets,
        now_ms=NOW,
        max_mark_age_ms=3000,
        caps=WIDE,
        entries_left_today=1,
        budget_left=1,
        messages_left=1,
    )
    return attrs.evolve(base, **changed)


def hold(desk: Desk, sz: str, *, of: MarketSpec = SNDK, side: OrderSide = OrderSide.BUY) -> None:
    """A position out of an entry that was sent, answered and filled."""
    order = desk.order(side, sz, of=of)
    desk.apply(answer_filled(order, sz), fills(fill(order, sz, tid=hash(order.cloid.value) % 10**6)))
    assert not list(desk.ledger.pending(of.coin))


# In the order of GATE-1: each line makes its gate refuse.
GATES: list[tuple[Refusal, Callable[[Desk], None], dict[str, Any]]] = [
    (Refusal.HARD_STOP, lambda d: None, {"allows_entry": False}),
    (Refusal.NOT_READY, lambda d: None, {"not_ready": "fills_snapshot"}),
    (Refusal.MAX_POSITION_PER_MARKET, lambda d: None, {"caps": attrs.evolve(WIDE, per_market_usd=D(1), total_usd=D(1))}),
    (Refusal.MAX_POSITION_TOTAL, lambda d: None, {"caps": attrs.evolve(WIDE, total_usd=D(1))}),
    (Refusal.ALREADY_HAS_POSITION, lambda d: hold(d, "0.01"), {}),
    (Refusal.PENDING_ORDER_EXISTS, lambda d: void(d.order(sz="0.01")), {}),
    (Refusal.DAILY_TRADE_LIMIT, lambda d: None, {"entries_left_today": 0}),
    (Refusal.BUDGET_EXHAUSTED, lambda d: None, {"budget_left": 0}),
    (Refusal.BUDGET_EXHAUSTED, lambda d: None, {"messages_left": 0}),
]


def void(_: object) -> None:
    """Drops a value."""


@pytest.mark.parametrize("first", range(len(GATES)), ids=[g[0].value for g in GATES])
def test_the_first_gate_that_fails_wins(first: int) -> None:
    """GATE-1: where a gate and all gates after it refuse, its refusal is the verdict."""
    desk = Desk()
    changed: dict[str, Any] = {}
    for _, prepare, change in GATES[first:]:
        prepare(desk)
        changed = change | changed  # an earlier gate's caps stand before a later one's
    verdict = check_entry(SNDK.coin, D("0.02"), view(desk, **changed))
    assert verdict is not None
    assert verdict.refusal is GATES[first][0]


@pytest.mark.parametrize("index", range(len(GATES)), ids=[g[0].value for g in GATES])
def test_each_gate_alone_refuses(index: int) -> None:
    """GATE-1: each gate refuses by itself, with a detail that says why."""
    refusal, prepare, change = GATES[index]
    desk = Desk()
    prepare(desk)
    verdict = check_entry(SNDK.coin, D("0.02"), view(desk, **change))
    assert verdict is not None
    assert verdict.refusal is refusal
    assert verdict.detail


def test_an_open_way_has_no_refusal() -> None:
    """GATE-1: with every gate open the order may go; a day without a limit is open."""
    assert check_entry(SNDK.coin, D("0.02"), view(Desk())) is None
    assert check_entry(SNDK.coin, D("0.02"), view(Desk(), entries_left_today=None)) is None


def test_verdicts_read_like_the_specification() -> None:
    """GATE-1: Queued, QueuedDegraded, Skipped(...) for what is normal, Rejected(...) for what is forbidden."""
    assert [str(Verdict(None)), str(Verdict(None, degraded=True))] == ["Queued", "QueuedDegraded"]
    skipped = {r for r in Refusal if str(Verdict(r)).startswith("Skipped(")}
    throttled = {"HourlyDrawdown", "TiltGuard", "ReentryDelay", "CorrelationCooldown", "BurstLimit"}
    known = {"AlreadyHasPosition", "PendingOrderExists", "DailyTradeLimit", "BudgetExhausted"}
    assert {r.value for r in skipped} == known | throttled
    assert {str(Verdict(r)) for r in set(Refusal) - skipped} == {
        f"Rejected({name})"
        for name in (
            "HardStop",
            "NotReady",
            "MaxPositionPerMarket",
            "MaxPositionTotal",
            "MaxOpenPositions",
            "RiskGateError",
            "QueueFull",
            "InflightFull",
        )
    }


@pytest.mark.parametrize(("sz", "refused"), [("0.083", False), ("0.084", True)])
def test_the_cap_is_inclusive(sz: str, refused: bool) -> None:
    """GATE-2: 0.083 x 600 = 49.80 fits in 50 USD, 0.084 x 600 = 50.40 does not."""
    caps = attrs.evolve(WIDE, per_market_usd=D(50))
    verdict = check_entry(SNDK.coin, D(sz), view(Desk(), caps=caps))
    assert (verdict is not None) is refused
    exact = attrs.evolve(WIDE, per_market_usd=D("49.8"), total_usd=D("49.8"))
    assert check_entry(SNDK.coin, D("0.083"), view(Desk(), caps=exact)) is None


def test_the_notional_is_size_times_mark_not_price() -> None:
    """GATE-2: the mark decides, whatever price the orders had."""
    caps = attrs.evolve(WIDE, per_market_usd=D(50))
    assert check_entry(SNDK.coin, D("0.083"), view(Desk(), (SNDK, "602"), caps=caps)) is None
    verdict = check_entry(SNDK.coin, D("0.083"), view(Desk(), (SNDK, "603"), caps=caps))
    assert verdict is not None
    assert verdict.refusal is Refusal.MAX_POSITION_PER_MARKET


def test_each_market_is_counted_at_its_own_mark() -> None:
    """GATE-2: the total is the sum over markets of |size| x own mark, shorts counted by size."""
    desk = Desk()
    hold(desk, "0.05", side=OrderSide.SELL)
    marks = (SNDK, "600"), (MU, "100")
    fits, exceeds = (attrs.evolve(WIDE, total_usd=D(t)) for t in ("40", "39.99"))
    assert exposure_usd(view(desk, *marks), SNDK.coin) == D(30)
    assert check_entry(MU.coin, D("0.1"), view(desk, *marks, caps=fits)) is None
    verdict = check_entry(MU.coin, D("0.1"), view(desk, *marks, caps=exceeds))
    assert verdict is not None
    assert verdict.refusal is Refusal.MAX_POSITION_TOTAL
    assert "30.00" in verdict.detail


def test_pending_entries_count_and_reduce_only_orders_do_not() -> None:
    """GATE-2: position + pending entries + this order; a closing order of the same size adds nothing."""
    desk = Desk()
    hold(desk, "0.02")
    desk.order(OrderSide.SELL, "0.02", reduce_only=True)
    assert exposure_usd(view(desk), SNDK.coin) == D(12)
    desk.order(sz="0.03")
    assert exposure_usd(view(desk), SNDK.coin) == D(30)


def test_the_unfilled_rest_of_an_entry_counts() -> None:
    """GATE-2: a partly filled entry counts once: its fills as position, its rest as pending."""
    desk = Desk()
    order = desk.order(sz="0.05")
    desk.apply(fills(fill(order, "0.02")))
    assert exposure_usd(view(desk), SNDK.coin) == D(30)


@pytest.mark.parametrize(("mark", "age"), [(None, 0), ("600", 3001)])
def test_a_missing_or_stale_mark_is_not_ready(mark: str | None, age: int) -> None:
    """GATE-2: without a fresh mark of the market itself nothing can be said, so nothing goes."""
    verdict = check_entry(SNDK.coin, D("0.02"), view(Desk(), (SNDK, mark), age_ms=age))
    assert verdict is not None
    assert verdict.refusal is Refusal.NOT_READY
    assert SNDK.coin in verdict.detail


def test_a_stale_mark_of_another_exposed_market_is_not_ready() -> None:
    """GATE-2: the total needs the mark of each market that is held or pending; others do not matter."""
    desk = Desk()
    hold(desk, "0.05", of=MU)
    blind = view(desk, (SNDK, "600"), (MU, None))
    verdict = check_entry(SNDK.coin, D("0.02"), blind)
    assert verdict is not None
    assert verdict.refusal is Refusal.NOT_READY
    assert MU.coin in verdict.detail
    assert check_entry(SNDK.coin, D("0.02"), view(Desk(), (SNDK, "600"), (MU, None))) is None


def test_a_held_market_that_is_not_configured_is_not_ready() -> None:
    """GATE-2: a position found in a market without data is exposure at an unknown mark: nothing new goes."""
    desk = Desk(synced=False)
    stranger = spec("xyz:OTHER")
    desk.sync(held("1", of=stranger))
    verdict = check_entry(SNDK.coin, D("0.02"), view(desk))
    assert verdict is not None
    assert verdict.refusal is Refusal.NOT_READY


def test_the_mark_at_its_age_limit_still_counts() -> None:
    """GATE-2: at the limit the mark counts; one millisecond later it is stale (see above)."""
    assert check_entry(SNDK.coin, D("0.02"), view(Desk(), (SNDK, "600"), age_ms=3000)) is None


def test_pending_is_derived_from_the_orders() -> None:
    """GATE-3: registering makes the market pending, the order's end frees it; there is nothing else to roll back."""
    desk = Desk()
    order = desk.order(sent=False)
    for state in (OrderState.PENDING, OrderState.SENT, OrderState.UNKNOWN):
        if state is OrderState.SENT:
            desk.ledger.mark_sent(order.cloid, T0)
        elif state is OrderState.UNKNOWN:
            desk.apply(f.OrderDoubted(order.cloid, "no answer"))
        assert order.state is state
        verdict = check_entry(SNDK.coin, D("0.02"), view(desk))
        assert verdict is not None
        assert verdict.refusal is Refusal.PENDING_ORDER_EXISTS
    desk.apply(f.OrderAbsent(order.cloid, "expired, unknown to the venue"))
    assert check_entry(SNDK.coin, D("0.02"), view(desk)) is None


@pytest.mark.parametrize("sent", [False, True], ids=["dropped", "refused"])
def test_a_refused_entry_frees_its_market_once(sent: bool) -> None:
    """GATE-3: whatever way an entry fails, the mark is gone, and a second failure of the same order changes nothing."""
    desk = Desk()
    order = desk.order(sent=sent)
    refused = f.OrderAnswered(order.cloid, OrderOutcome(OutcomeKind.REFUSED, error="no"), T0)
    for _ in range(2):
        desk.apply(refused if sent else f.OrderDropped(order.cloid, "queue full"))
    assert check_entry(SNDK.coin, D("0.02"), view(desk)) is None


def test_a_fill_that_is_on_its_way_keeps_the_market_pending() -> None:
    """GATE-3: answered as filled, its fill not here yet: neither position nor free, so still pending."""
    desk = Desk()
    order = desk.order()
    desk.apply(answer_filled(order, "0.02"))
    verdict = check_entry(SNDK.coin, D("0.02"), view(desk))
    assert verdict is not None
    assert verdict.refusal is Refusal.PENDING_ORDER_EXISTS
    desk.apply(fills(fill(order, "0.02")))
    verdict = check_entry(SNDK.coin, D("0.02"), view(desk))
    assert verdict is not None
    assert verdict.refusal is Refusal.ALREADY_HAS_POSITION


sizes = st.integers(min_value=0, max_value=500).map(lambda n: Decimal(n) / 1000)
marks = st.integers(min_value=1, max_value=100_000).map(lambda n: Decimal(n) / 100)


@given(sizes, sizes, sizes, marks, marks, st.integers(1, 200), st.integers(1, 400))
def test_what_passes_never_exceeds_a_cap(  # the six numbers of the arithmetic and its two caps
    own: Decimal, other: Decimal, wanted: Decimal, own_mark: Decimal, other_mark: Decimal, per_market: int, total: int
) -> None:
    """GATE-2, invariant 1: an order passes the caps exactly where position + order stays within both of them."""
    desk = Desk(synced=False)
    positions = [held(str(sz), of=of) for of, sz in ((SNDK, own), (MU, other)) if sz]
    desk.apply(f.LinkUp(), fills(snapshot=True), account(*positions))
    caps = Caps(per_market_usd=D(per_market), total_usd=D(total))
    seen = view(desk, (SNDK, str(own_mark)), (MU, str(other_mark)), caps=caps)
    verdict = check_entry(SNDK.coin, wanted, seen)
    refusal = verdict.refusal if verdict else None
    after = (own + wanted) * own_mark
    if after > per_market:
        assert refusal is Refusal.MAX_POSITION_PER_MARKET
    elif after + other * other_mark > total:
        assert refusal is Refusal.MAX_POSITION_TOTAL
    else:
        assert refusal is (Refusal.ALREADY_HAS_POSITION if own else None)


def test_a_context_keeps_the_mark_young() -> None:
    """GATE-2: the mark's age is the time since the last context, by the monotonic clock."""
    state = market(mark="600", at_ms=0)
    assert state.mark(3000, 3000) == D(600)
    assert state.mark(3001, 3000) is None
    state.on_ctx(ctx(SNDK.coin, "600"), 3001)
    assert state.mark(3001, 3000) == D(600)
