"""Causes and the mode that they make, READY-TRADING, the day's limits, the journal, the budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hip3.core.budget import RESERVE, TRICKLE_MS, ActionBudget, TokenBucket
from hip3.core.causes import Cause, Clears, ReasonCode, Safety, Severity, Watch
from hip3.core.ids import OrderSide
from hip3.core.journal import CAPACITY, Journal
from hip3.core.market import MarketState, missing_market_data
from hip3.core.rate import SlidingWindow
from hip3.core.ready import Ready
from hip3.core.risk import DAY_MS, DailyLimits
from hip3.core.trades import Trade
from hip3.fsm.ready import Condition, ReadyState
from hip3.fsm.safety import SafetyMode
from tests.core.core_builders import SNDK, D, bbo, ctx

SAFE, LIVE, HALT = SafetyMode.ARMED_SAFE, SafetyMode.ARMED_LIVE, SafetyMode.HALT


class Wall:
    """Wall time of the cases."""

    def __init__(self) -> None:
        self.ms = 1000

    def __call__(self) -> int:
        self.ms += 1
        return self.ms


def safety() -> tuple[Safety, list[tuple[SafetyMode, SafetyMode, ReasonCode, str]]]:
    changes: list[tuple[SafetyMode, SafetyMode, ReasonCode, str]] = []
    return Safety(lambda *change: changes.append(change), Wall()), changes


def add(s: Safety, severity: Severity, clears: Clears = Clears.AUTO, code: ReasonCode = ReasonCode.WS_DISCONNECT) -> None:
    s.add(code, severity, "link", f"{severity.name} {clears.name}", clears)


def test_a_start_is_safe_until_promotion() -> None:
    """SAFE-1, SAFE-2: ARMED_SAFE with BOOTSTRAP; promotion, and nothing else, makes it LIVE."""
    s, changes = safety()
    assert (s.mode, [c.code for c in s.causes], s.allows_entry) == (SAFE, [ReasonCode.BOOTSTRAP], False)
    assert not s.clear(ReasonCode.BOOTSTRAP, "process")
    assert s.promote(ReasonCode.AUTO_PROMOTE, "ready and reconciled")
    assert (s.mode, s.causes, s.allows_entry) == (LIVE, (), True)
    assert changes == [(SAFE, LIVE, ReasonCode.AUTO_PROMOTE, "ready and reconciled")]


@pytest.mark.parametrize(("severity", "mode"), [(Severity.SAFE, SAFE), (Severity.HALT, HALT)])
def test_the_mode_is_the_most_severe_cause(severity: Severity, mode: SafetyMode) -> None:
    """SAFE-1: the mode follows in the same step, and its change names the cause."""
    s, changes = safety()
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    add(s, severity)
    assert s.mode is mode
    assert changes[-1] == (LIVE, mode, ReasonCode.WS_DISCONNECT, f"{severity.name} AUTO")


def test_promotion_is_blocked_by_every_other_cause() -> None:
    """SAFE-3: a cause that holds refuses promotion, which then changes nothing."""
    s, changes = safety()
    add(s, Severity.SAFE)
    assert [c.code for c in s.blocking_promotion()] == [ReasonCode.WS_DISCONNECT]
    assert not s.promote(ReasonCode.AUTO_PROMOTE, "go")
    assert (s.mode, len(s.causes), changes) == (SAFE, 2, [])
    assert s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.promote(ReasonCode.AUTO_PROMOTE, "go")


def test_a_promoted_bot_returns_to_live_by_itself() -> None:
    """SAFE-1, STOP-3: when the last SAFE cause clears itself, a promoted bot is live again; before promotion it is not."""
    s, _ = safety()
    add(s, Severity.SAFE)
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is SAFE
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    add(s, Severity.SAFE)
    add(s, Severity.SAFE, code=ReasonCode.CLOCK_SKEW)
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is SAFE, "another cause holds"
    s.clear(ReasonCode.CLOCK_SKEW, "link")
    assert s.mode is LIVE


def test_after_a_halt_promotion_is_needed_again() -> None:
    """SAFE-1, STOP-1: an operator ends a HALT towards ARMED_SAFE; policy does not promote from there, an operator does."""
    s, changes = safety()
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    add(s, Severity.HALT)
    s.end(s.causes, ReasonCode.MANUAL_UNHALT, "operator", "me: looked")
    assert (s.mode, [c.code for c in s.causes]) == (SAFE, [ReasonCode.MANUAL_UNHALT])
    assert [(a, b) for a, b, _, _ in changes[1:]] == [(LIVE, HALT), (HALT, SAFE)]
    assert not s.promote(ReasonCode.AUTO_PROMOTE, "go")
    assert s.promote(ReasonCode.MANUAL_PROMOTE, "go")
    assert (s.mode, s.causes) == (LIVE, ())


def test_no_source_takes_a_halt_back() -> None:
    """STOP-1, LESSONS 33: a HALT is a latch: said to clear by itself it does not, and an operator must end it."""
    s, _ = safety()
    add(s, Severity.HALT, Clears.AUTO)
    assert not s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert (s.mode, s.causes[0].clears) == (HALT, Clears.OPERATOR)


def test_an_operator_ends_only_what_is_his_to_end() -> None:
    """SAFE-1: a cause that ends with the process, one that ends by itself, one that is gone: refused, nothing changes."""
    s, changes = safety()
    add(s, Severity.HALT, Clears.NEVER)
    add(s, Severity.SAFE, Clears.AUTO, code=ReasonCode.CLOCK_SKEW)
    add(s, Severity.HALT, Clears.OPERATOR, code=ReasonCode.DAILY_LOSS)
    by_code = {c.code: c for c in s.causes}
    for code in (ReasonCode.WS_DISCONNECT, ReasonCode.CLOCK_SKEW):
        with pytest.raises(ValueError, match=code.value):
            s.end([by_code[ReasonCode.DAILY_LOSS], by_code[code]], ReasonCode.MANUAL_UNHALT, "operator", "x")
        assert {c.code: c for c in s.causes} == by_code
    s.end([by_code[ReasonCode.DAILY_LOSS]], ReasonCode.MANUAL_UNHALT, "operator", "x")
    assert s.mode is HALT, "the cause that never clears holds it"
    with pytest.raises(ValueError, match="DAILY_LOSS"):
        s.end([by_code[ReasonCode.DAILY_LOSS]], ReasonCode.MANUAL_UNHALT, "operator", "again")
    assert [(a, b) for a, b, _, _ in changes] == [(SAFE, HALT)]


def test_ending_a_cause_forgets_its_evidence() -> None:
    """LESSONS 32: the source is asked whether it holds still, and told when it was ended; every HALT is an incident."""
    s, _ = safety()
    forgotten: list[Cause] = []
    s.watch(ReasonCode.DAILY_LOSS, Watch(lambda c: f"{c.source} says so", forgotten.append))
    add(s, Severity.HALT, Clears.OPERATOR, code=ReasonCode.DAILY_LOSS)
    add(s, Severity.HALT, Clears.OPERATOR, code=ReasonCode.DAILY_LOSS)
    assert s.incident == 2
    (cause, _) = s.causes
    assert s.why_still(cause) == "link says so"
    s.end([cause], ReasonCode.MANUAL_UNHALT, "operator", "x")
    assert forgotten == [cause]


def test_what_an_operator_must_end_is_followed_by_a_promotion() -> None:
    """SAFE-1, RISK-3: a cause that clears by itself leaves a promoted bot live; one that an operator ends does not."""
    s, _ = safety()
    s.promote(ReasonCode.AUTO_PROMOTE, "go")
    s.add(ReasonCode.OPERATOR_HOLD, Severity.SAFE, "operator", "wait", Clears.OPERATOR)
    add(s, Severity.SAFE)
    s.end([c for c in s.causes if c.code is ReasonCode.OPERATOR_HOLD], ReasonCode.MANUAL_UNHALT, "operator", "x")
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert (s.mode, [c.code for c in s.causes]) == (SAFE, [ReasonCode.MANUAL_UNHALT])


@pytest.mark.parametrize("clears", [Clears.OPERATOR, Clears.NEVER])
def test_a_cause_that_does_not_clear_itself_stays(clears: Clears) -> None:
    """SAFE-1, STOP-1: its own source cannot take back what only an operator may."""
    s, _ = safety()
    add(s, Severity.HALT, clears)
    assert not s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is HALT


def test_a_source_clears_only_its_own_cause() -> None:
    """SAFE-1: the same code of another source stays in force."""
    s, _ = safety()
    s.add(ReasonCode.WS_DISCONNECT, Severity.SAFE, "market data", "down", Clears.AUTO)
    add(s, Severity.SAFE)
    assert not s.clear(ReasonCode.WS_DISCONNECT, "nobody")
    s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert {c.source for c in s.blocking_promotion()} == {"market data"}


def test_a_repeated_cause_keeps_its_first_time() -> None:
    """SAFE-1: a newer message is shown, the age is that of the first."""
    s, _ = safety()
    add(s, Severity.SAFE)
    (first,) = s.blocking_promotion()
    s.add(ReasonCode.WS_DISCONNECT, Severity.SAFE, "link", "again", Clears.AUTO)
    (second,) = s.blocking_promotion()
    assert (second.since_ms, second.message) == (first.since_ms, "again")


def test_a_repeated_cause_is_never_weaker() -> None:
    """SAFE-1: a disconnect while flat does not loosen the HALT of a disconnect while exposed (LESSONS 33)."""
    s, _ = safety()
    add(s, Severity.HALT, Clears.OPERATOR)
    add(s, Severity.SAFE, Clears.AUTO)
    (cause,) = s.blocking_promotion()
    assert (cause.severity, cause.clears, cause.message) == (Severity.HALT, Clears.OPERATOR, "HALT OPERATOR")
    assert not s.clear(ReasonCode.WS_DISCONNECT, "link")
    assert s.mode is HALT


def test_a_repeated_cause_may_be_stricter() -> None:
    """SAFE-1: a cause that grows from SAFE to HALT takes the mode with it."""
    s, _ = safety()
    add(s, Severity.SAFE)
    add(s, Severity.HALT, Clears.OPERATOR)
    (cause,) = s.blocking_promotion()
    assert (s.mode, cause.severity, cause.clears) == (HALT, Severity.HALT, Clears.OPERATOR)


CODES = st.sampled_from([ReasonCode.WS_DISCONNECT, ReasonCode.CLOCK_SKEW, ReasonCode.INTERNAL_ERROR])


class Modes(RuleBasedStateMachine):
    """Adds, clears and promotes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.safety, self.changes = safety()

    @rule(code=CODES, severity=st.sampled_from(Severity), clears=st.sampled_from(Clears), source=st.sampled_from("ab"))
    def add(self, code: ReasonCode, severity: Severity, clears: Clears, source: str) -> None:
        before = set(self.safety.causes)
        self.safety.add(code, severity, source, "x", clears)
        kept = {(c.code, c.source) for c in before} - {(code, source)}
        assert kept <= {(c.code, c.source) for c in self.safety.causes}

    @rule(code=CODES, source=st.sampled_from("ab"))
    def clear(self, code: ReasonCode, source: str) -> None:
        self.safety.clear(code, source)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """STOP-1: whatever an operator ends, what is left stays as it was."""
        theirs = [c for c in self.safety.causes if c.clears is Clears.OPERATOR]
        ended = data.draw(st.lists(st.sampled_from(theirs), unique=True)) if theirs else []
        ended = [c for c in ended if c.code is not ReasonCode.MANUAL_UNHALT]
        kept = set(self.safety.causes) - set(ended)
        self.safety.end(ended, ReasonCode.MANUAL_UNHALT, "operator", "x")
        assert {c for c in self.safety.causes if c.code is not ReasonCode.MANUAL_UNHALT} == {
            c for c in kept if c.code is not ReasonCode.MANUAL_UNHALT
        }

    @rule()
    def promote(self) -> None:
        blocked = bool(self.safety.blocking_promotion())
        assert self.safety.promote(ReasonCode.AUTO_PROMOTE, "go") is not blocked

    @rule()
    def read(self) -> None:
        before = (self.safety.mode, self.safety.causes)
        assert self.safety.blocking_promotion() is not None
        assert (self.safety.mode, self.safety.causes) == before

    @invariant()
    def the_mode_is_that_of_the_causes(self) -> None:
        """SAFE-1: HALT exactly while a HALT cause holds; LIVE only with no cause at all."""
        severities = {c.severity for c in self.safety.causes}
        assert (self.safety.mode is HALT) is (Severity.HALT in severities)
        assert self.safety.mode is not LIVE or not severities
        assert self.safety.allows_entry is (self.safety.mode is LIVE)

    @invariant()
    def no_change_leads_from_halt_to_live(self) -> None:
        """SAFE-1: every change is told once, and none skips ARMED_SAFE on the way up."""
        assert all(a is not b for a, b, _, _ in self.changes)
        assert all(a[1] is b[0] for a, b in zip(self.changes, self.changes[1:], strict=False))
        assert (HALT, LIVE) not in {(a, b) for a, b, _, _ in self.changes}


TestModes = Modes.TestCase


# ---- READY-TRADING


def ready() -> tuple[Ready, list[tuple[ReadyState, ReadyState]]]:
    changes: list[tuple[ReadyState, ReadyState]] = []
    return Ready(lambda a, b: changes.append((a, b))), changes


def complete(r: Ready) -> None:
    for condition in Condition:
        r.set(condition, holds=True)


@pytest.mark.parametrize("last", Condition)
def test_ready_needs_all_four_conditions(last: Condition) -> None:
    """RDY-1, RDY-2: in any order, with any one missing it is not ready and names it; with the last it is."""
    r, changes = ready()
    r.link_up()
    for condition in Condition:
        if condition is not last:
            r.set(condition, holds=True)
    assert (r.is_ready, r.missing) == (False, (last,))
    r.set(last, holds=True)
    assert (r.is_ready, r.missing) == (True, ())
    assert changes == [(ReadyState.NOT_READY, ReadyState.SYNCING), (ReadyState.SYNCING, ReadyState.READY)]


def test_a_disconnect_clears_what_came_over_the_session() -> None:
    """RDY-2: orders, fills and positions must be read again; market data has its own link and stays."""
    r, _ = ready()
    r.link_up()
    complete(r)
    r.link_down()
    assert r.state is ReadyState.NOT_READY
    assert r.missing == (Condition.ORDER_SNAPSHOT, Condition.FILLS_SNAPSHOT, Condition.POSITION_SYNCED)
    r.link_up()
    assert not r.is_ready
    complete(r)
    assert r.is_ready


def test_a_late_reading_of_a_dead_session_counts_for_nothing() -> None:
    """RDY-2: until a session lives, market data alone can become ready."""
    r, _ = ready()
    complete(r)
    assert r.missing == (Condition.ORDER_SNAPSHOT, Condition.FILLS_SNAPSHOT, Condition.POSITION_SYNCED)
    assert r.holds(Condition.MD_READY)


@pytest.mark.parametrize("lost", Condition)
def test_losing_any_condition_ends_ready(lost: Condition) -> None:
    """RDY-2: whatever no longer holds stops entries in the same step; it comes back with the condition."""
    r, changes = ready()
    r.link_up()
    complete(r)
    r.set(lost, holds=False)
    assert (r.is_ready, r.missing, changes[-1]) == (False, (lost,), (ReadyState.READY, ReadyState.SYNCING))
    r.set(lost, holds=True)
    assert r.is_ready


@given(
    st.lists(st.one_of(st.tuples(st.sampled_from(Condition), st.booleans()), st.sampled_from(["up", "down"])), max_size=40)
)
def test_ready_is_exactly_a_session_with_all_conditions(steps: list[tuple[Condition, bool] | str]) -> None:
    """RDY-2: over any sequence, ready == session up and nothing missing."""
    r, _ = ready()
    up = False
    for step in steps:
        if isinstance(step, str):
            up = step == "up"
            r.link_up() if up else r.link_down()
        else:
            r.set(step[0], holds=step[1])
        assert r.is_ready is (up and not r.missing)


# ---- market data of one market


def test_a_market_is_ready_with_acks_and_young_two_sided_data() -> None:
    """MD-2: the missing part is named, one after the other, until nothing is missing; a reconnect starts again."""
    m = MarketState(SNDK)

    def missing(now: int = 0) -> str | None:
        return missing_market_data(m, now, max_bbo_age_ms=10_000, max_ctx_age_ms=3000)

    assert missing() == "no ack of bbo"
    m.acked.add("bbo")
    assert missing() == "no ack of activeAssetCtx"
    m.acked.add("activeAssetCtx")
    assert missing() == "no BBO yet"
    m.on_bbo(bbo(SNDK.coin, "600", None), 0)
    assert missing() == "one-sided book"
    m.on_bbo(bbo(SNDK.coin, "600", "601"), 0)
    assert missing() == "no oracle price yet"
    m.on_ctx(ctx(SNDK.coin, "600"), 0)
    assert missing() is None
    assert missing(3001) == "oracle is 3001 ms old"
    m.on_ctx(ctx(SNDK.coin, "600"), 10_000)
    assert missing(10_000) is None
    assert missing(10_001) == "BBO is 10001 ms old"
    m.on_connect()
    assert missing(10_001) == "no ack of bbo"


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
