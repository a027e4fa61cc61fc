"""What is counted and kept below a limit: a day's loss and entries, the journal's notes, actions and requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hip3.core.budget import RESERVE, TRICKLE_MS, ActionBudget, TokenBucket
from hip3.core.ids import OrderSide
from hip3.core.journal import CAPACITY, Journal
from hip3.core.rate import SlidingWindow
from hip3.core.risk import DAY_MS, DailyLimits
from hip3.core.trades import Trade
from tests.core.core_builders import D

# ---- the day's limits


def trade(pnl: str, fees: str = "0") -> Trade:
    return Trade("xyz:SNDK", OrderSide.BUY, D(1), D(100), D(100), 0, 1, D(pnl), D(fees), None, None, "time_stop")


def test_the_loss_of_a_day_stops_above_its_limit() -> None:
    """GATE-6: -20.00 is at the limit, a cent more is over it; fees count, profits count back."""
    limits = DailyLimits(max_trades=50, max_loss_usd=D(20))
    assert limits.on_trade(trade("-19.90", "0.10"), 0) is None
    said = limits.on_trade(trade("0", "0.01"), 1)
    assert said is not None
    assert "20.0100" in said
    assert "auto_stop_loss_usd = 20" in said
    assert limits.on_trade(trade("5"), 2) is None


def test_entries_of_a_day_are_counted() -> None:
    """GATE-6: what is left counts down with each entry; None is no limit."""
    limits = DailyLimits(max_trades=2, max_loss_usd=D(20))
    assert limits.entries_left(0) == 2
    limits.on_entry(0)
    assert limits.entries_left(1) == 1
    limits.on_entry(2)
    assert limits.entries_left(3) == 0
    assert DailyLimits(max_trades=None, max_loss_usd=D(20)).entries_left(0) is None


def test_a_new_utc_day_starts_the_counts_anew_and_a_clock_step_does_not() -> None:
    """GATE-6: midnight UTC resets; a wall clock that steps back over it, and forward again, resets nothing."""
    limits = DailyLimits(max_trades=2, max_loss_usd=D(20))
    day = 20_000 * DAY_MS
    limits.on_entry(day)
    limits.on_trade(trade("-15"), day)
    assert limits.entries_left(day - 1) == 1
    assert (limits.entries_left(day + 1), limits.pnl_usd) == (1, D(-15))
    assert (limits.entries_left(day + DAY_MS), limits.pnl_usd) == (2, D(0))


# ---- journal, budget, rate


def test_the_journal_is_bounded() -> None:
    """OBS-1, DESIGN 4: with a reader that falls behind the oldest notes go, and are counted."""
    journal = Journal()
    for n in range(CAPACITY + 3):
        journal.note(n, "info", "signal", n=n)
    notes = journal.drain()
    assert (len(notes), journal.dropped, journal.total) == (CAPACITY, 3, CAPACITY + 3)
    assert (notes[0].fields, notes[-1].wall_ms, notes[0].event) == ({"n": 3}, CAPACITY + 2, "signal")
    assert journal.drain() == []


def test_the_action_budget_keeps_a_reserve() -> None:
    """GATE-5: unknown is empty; what the venue counts and what went out since are taken off, and the reserve is kept."""
    budget = ActionBudget()
    assert budget.left == 0
    budget.read(used=100, cap=10_000)
    budget.spend(3, now_ms=0)
    assert budget.left == 10_000 - 100 - 3 - RESERVE
    budget.read(used=103, cap=10_010)
    assert budget.left == 10_010 - 103 - RESERVE


def test_an_exhausted_budget_leaves_one_action_in_eleven_seconds() -> None:
    """GATE-5: refused for want of budget: nothing goes, then one action, and so on, until the venue counts room again."""
    budget = ActionBudget(10_000, 0)
    assert (budget.refused(now_ms=500), budget.refused(now_ms=1000)) == (True, False)
    assert (budget.left, budget.is_exhausted) == (0, True)
    assert (budget.holds(1000 + TRICKLE_MS - 1), budget.holds(1000 + TRICKLE_MS)) == (True, False)
    budget.spend(1, now_ms=13_000)
    assert (budget.holds(13_000 + TRICKLE_MS - 1), budget.holds(13_000 + TRICKLE_MS)) == (True, False)
    budget.read(used=10_000, cap=10_000)
    assert budget.is_exhausted
    budget.read(used=10_000, cap=10_500)
    assert (budget.is_exhausted, budget.holds(13_001), budget.left) == (False, False, 500 - RESERVE)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3)), max_size=80), st.integers(1, 40))
def test_a_bucket_gives_no_more_than_its_rate(steps: list[tuple[int, int]], per_min: int) -> None:
    """GATE-5: who spends only what is there never passes a minute's worth at once plus the rate; exits may overdraw it."""
    bucket, now, spent = TokenBucket(per_min), 0, 0
    for gap, wanted in steps:
        now += gap
        items = min(wanted, bucket.left(now))
        bucket.spend(items, now)
        spent += items
        assert spent <= per_min + now * per_min // 60_000
        assert 0 <= bucket.left(now) <= per_min
    bucket.spend(per_min + 1, now)
    assert bucket.left(now) < 0
    assert bucket.left(now + 10 * 60_000) == per_min


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 3)), max_size=60), st.integers(3, 8))
def test_a_window_never_holds_more_than_its_limit(steps: list[tuple[int, int]], limit: int) -> None:
    """WS-3: who waits as long as it says never exceeds the limit in any window, and never waits without need."""
    window = SlidingWindow(limit, window_ms=1000)
    now, spent = 0, []
    for gap, units in steps:
        now += gap
        wait = window.wait_ms(now, units)
        if wait:
            assert window.room(now) < units
            now += wait
        assert window.wait_ms(now, units) == 0
        window.spend(now, units)
        spent.append((now, units))
        assert sum(u for at, u in spent if now - 1000 < at <= now) <= limit
