"""Each gate on data quality as a function, cooldowns, and what is remembered of each market (DET-6)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from hip3.core import quality as q
from hip3.core.events import Book, Level
from hip3.core.ids import MarketSpec
from hip3.core.market import MarketState, missing_market_data
from hip3.core.quality import Quality, QualityConfig, QualityGate
from hip3.core.windows import parse_window
from tests.core.core_builders import MU, SNDK, D, bbo, ctx

MIDNIGHT = 1_767_225_600_000
"""Of a Thursday."""


def market(
    of: MarketSpec = SNDK, *, mark: str | None = "600", bid: str = "599.9", ask: str = "600.1", ms: int = 0
) -> MarketState:
    state = MarketState(of)
    state.on_ctx(attrs.evolve(ctx(of.coin, "600"), mark_px=None if mark is None else D(mark)), ms)
    state.on_bbo(bbo(of.coin, bid, ask), ms)
    return state


def gates(**options: Any) -> Quality:
    return Quality(QualityConfig(**options))


@pytest.mark.parametrize(
    ("last", "before", "now", "old"),
    [(0, 0, 1000, False), (0, 0, 1001, True), (2000, 999, 2000, True), (2000, 1000, 2000, False), (None, None, 0, True)],
)
def test_a_silence_is_seen_while_it_lasts_and_when_it_ends(
    last: int | None, before: int | None, now: int, old: bool
) -> None:
    """DET-6, LESSONS 24: ages are since the last receipt; a frame that ended too long a silence counts as old once more."""
    assert q.is_old(last, before, now, 1000) is old


@pytest.mark.parametrize(("time_ms", "back"), [(1000, False), (999, False), (990, True), (500, True)])
def test_time_goes_back_by_a_step_or_more(time_ms: int, back: bool) -> None:
    """DET-6: ten milliseconds or more behind the newest quote of the market; the first quote is never behind."""
    assert q.is_time_back(time_ms, 1000, 10) is back
    assert not q.is_time_back(time_ms, None, 10)


@pytest.mark.parametrize(
    ("mark", "divergent"), [("600", False), ("603", False), ("603.1", True), ("597.1", False), ("597", True)]
)
def test_mark_and_middle_may_not_part(mark: str, divergent: bool) -> None:
    """DET-6: at most 50 bps, of the mark, either way; without a mark there is nothing to trust."""
    assert q.is_divergent(D(mark), D(600), D(50)) is divergent
    assert q.is_divergent(None, D(600), D(50))


def test_a_shock_is_a_multiple_of_the_mean() -> None:
    """DET-6: three times the mean is none, more is; an unknown mean is."""
    assert [q.is_shock(D(x), D(10), D(3)) for x in ("30", "30.1")] == [False, True]
    assert q.is_shock(D(1), None, D(3))


@pytest.mark.parametrize(("coins", "capped"), [("1499.9", False), ("1500", True), (None, True)])
def test_open_interest_is_judged_in_usd(coins: str | None, capped: bool) -> None:
    """DET-6, PROTOCOL 1.4: 1500 coins at 600 are 0.9 of a cap of a million USD; without a cap nothing is ever at it."""
    interest = None if coins is None else D(coins)
    assert q.is_at_cap(interest, D(600), D(1_000_000), D("0.9")) is capped
    assert not q.is_at_cap(interest, D(600), None, D("0.9"))


def test_gates_that_are_off_see_nothing() -> None:
    """DET-6: every gate has an off value, and with all of them off no frame is looked at."""
    off = gates(max_bbo_age_ms=10_000, max_ctx_age_ms=3000)
    assert not off.is_on
    assert not off.observes
    assert off.judge(market(mark=None, bid="1", ask="9999"), 10**6, MIDNIGHT) is None


def test_gates_without_memory_are_asked_only_when_it_matters() -> None:
    """DET-6: those that need no earlier frame cost nothing on frames without a dislocation."""
    plain = gates(halted=True, mark_mid_bps=D(50), oi_cap_share=D("0.9"), blackout_windows=(parse_window("22:00-23:00"),))
    assert plain.is_on
    assert not plain.observes
    assert gates(time_back_ms=1).observes
    assert gates(halted=True, halted_cooldown_ms=1).observes


def test_a_cooldown_runs_from_the_last_time_the_condition_held() -> None:
    """DET-6: bad at 0 and at 500, cooldown 1000: refused until 1499, free from 1500 on."""
    found, state = gates(halted=True, halted_cooldown_ms=1000), market()
    said = []
    for ms, halted in ((0, True), (500, True), (600, False), (1499, False), (1500, False)):
        state.halted = halted
        said.append(found.judge(state, ms, MIDNIGHT))
    assert said == [QualityGate.HALTED] * 4 + [None]


def test_every_gate_looks_although_an_earlier_one_refuses() -> None:
    """DET-6: the first gate is named; the second remembers all the same, and refuses when the first has nothing to say."""
    found = gates(halted=True, mark_mid_bps=D(50), mark_mid_cooldown_ms=1000)
    state = market(mark="700")
    state.halted = True
    assert found.judge(state, 0, MIDNIGHT) is QualityGate.HALTED
    state.halted = False
    state.on_ctx(ctx(SNDK.coin, "600"), 10)
    assert found.judge(state, 10, MIDNIGHT) is QualityGate.MARK_MID
    assert found.judge(state, 1000, MIDNIGHT) is None


def test_each_market_has_its_own_mean_and_cooldown() -> None:
    """DET-6, LESSONS 23: a shock of one market neither refuses the other nor moves what it is compared with."""
    found = gates(spread_shock_multiple=D(3), spread_shock_ewma_ms=1000, spread_shock_cooldown_ms=60_000)
    one, other = market(SNDK), market(MU, bid="590", ask="610")
    for ms in (0, 500, 1000):
        for state in (one, other):
            found.judge(state, ms, MIDNIGHT)
    later = 70_000
    assert [found.judge(state, later, MIDNIGHT) for state in (one, other)] == [None, None]
    one.on_bbo(bbo(SNDK.coin, "590", "610"), later)
    assert [found.judge(state, later + 1, MIDNIGHT) for state in (one, other)] == [QualityGate.SPREAD_SHOCK, None]


def test_a_connection_ends_what_was_remembered_but_not_a_cooldown() -> None:
    """DET-6, WS-4: venue times of another connection are not compared; a reason seen a moment ago still counts."""
    found, state = gates(time_back_ms=1, time_back_cooldown_ms=1000), market()
    state.on_bbo(bbo(SNDK.coin, "599.9", "600.1", time_ms=MIDNIGHT), 0)
    assert found.judge(state, 0, MIDNIGHT) is None
    state.on_bbo(bbo(SNDK.coin, "599.9", "600.1", time_ms=MIDNIGHT - 5), 10)
    assert found.judge(state, 10, MIDNIGHT) is QualityGate.TIME_BACK
    state.on_connect()
    state.on_bbo(bbo(SNDK.coin, "599.9", "600.1", time_ms=MIDNIGHT - 9), 20)
    assert found.judge(state, 20, MIDNIGHT) is QualityGate.TIME_BACK  # the cooldown
    assert found.judge(state, 1010, MIDNIGHT) is None  # and nothing but it


def test_a_blackout_may_wrap_midnight() -> None:
    """DET-6: from 22:00 to 02:00 of any day, by the wall clock."""
    found, state = gates(blackout_windows=(parse_window("22:00-02:00"),)), market()
    hours = {hour: found.judge(state, 0, MIDNIGHT + hour * 3_600_000) is QualityGate.BLACKOUT for hour in (21, 22, 25, 26)}
    assert hours == {21: False, 22: True, 25: True, 26: False}


def test_an_age_without_limit_is_never_too_old() -> None:
    """DET-6, LESSONS 24: `max_bbo_age_ms` 0 is off, in READY-MD too; a missing quote is still missing."""
    state = market(ms=0)
    state.acked |= {"bbo", "activeAssetCtx"}
    state.on_ctx(ctx(SNDK.coin, "600"), 10**9)
    assert missing_market_data(state, 10**9, 0, 3000) is None
    assert missing_market_data(state, 10**9, 10_000, 3000) == f"BBO is {10**9} ms old"
    state.bbo = None
    assert missing_market_data(state, 10**9, 0, 3000) == "no BBO yet"


@pytest.mark.parametrize(("book_ms", "bid", "recv_ms"), [(99, "599.9", 0), (100, "599.8", 500), (101, "599.8", 500)])
def test_depth_is_the_quote_of_its_time(book_ms: int, bid: str, recv_ms: int) -> None:
    """MD-1: the latest by the venue's clock stands, with the age of its own receipt; an older book changes no quote."""
    state = MarketState(SNDK)
    state.on_bbo(bbo(SNDK.coin, "599.9", "600.1", time_ms=100), 0)
    state.on_book(Book(SNDK.coin, book_ms, (Level(D("599.8"), D(1)),), (Level(D("600.2"), D(1)),)), 500)
    assert state.book is not None
    assert state.both_px is not None
    assert (state.both_px[0], state.bbo_recv_ms) == (D(bid), recv_ms)


def test_an_empty_side_of_the_depth_is_a_one_sided_quote() -> None:
    """MD-1: nobody bids any more; the old bid does not stand on."""
    state = market()
    state.on_book(Book(SNDK.coin, MIDNIGHT + 1, (), (Level(D(601), D(1)),)), 500)
    assert state.both_px is None
