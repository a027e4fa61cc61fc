"""Each filter as a function, the mean and the windows they rest on, and what they remember across frames (DET-4)."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core import filters as f
from hip3.core.averages import TimeMean
from hip3.core.detector import Detector
from hip3.core.filters import Filter, FilterConfig, Filters
from hip3.core.ids import OrderSide
from hip3.core.market import MarketState
from hip3.core.quality import QualityGate
from hip3.core.windows import parse_window
from hip3.settings.schema import FilterKeys, QualityKeys
from tests.core.core_builders import DETECTOR, SNDK, D, bbo, ctx, spec

BUY, SELL = OrderSide.BUY, OrderSide.SELL
DOC = (Path(__file__).resolve().parents[2] / "docs" / "detector.md").read_text()
THURSDAY = 1_767_225_600_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


# ---- one by one


@pytest.mark.parametrize(("now", "rejects"), [("1000.9", True), ("1001", False), ("999", False), ("999.1", True)])
def test_a_move_is_measured_against_the_price_before_it(now: str, rejects: bool) -> None:
    """DET-4: 10 bps of 1000 are enough, up or down; less is not, and a move that was not seen is none."""
    assert f.is_small_move(D(1000), D(now), D(10)) is rejects
    assert f.is_small_move(None, D(now), D(10))


@pytest.mark.parametrize(("side", "move", "run", "rejects"), [(BUY, 1, 2, False), (BUY, 1, 1, True), (BUY, -1, 5, True)])
def test_a_run_counts_in_the_orders_direction(side: OrderSide, move: int, run: int, rejects: bool) -> None:
    """DET-4: two moves up are a run for a buy; a single one, or any number down, is none; likewise mirrored."""
    assert f.is_short_run(side, move, run, 2) is rejects
    assert f.is_short_run(side.opposite(), -move, run, 2) is rejects


@pytest.mark.parametrize(
    ("moved", "touched", "now", "rejects"),
    [
        (1000, 900, 1499, True),
        (1000, 900, 1500, False),
        (1000, 900, 3000, False),
        (1000, 900, 3001, True),
        (1000, 1000, 2000, False),
        (1000, 1001, 2000, True),
        (None, 900, 2000, True),
        (1000, None, 2000, True),
    ],
)
def test_a_quote_lags_only_what_happened_after_it(moved: int | None, touched: int | None, now: int, rejects: bool) -> None:
    """DET-4: from 500 to 2000 ms after the oracle's move, and only where the touched price is older than that move."""
    assert f.is_outside_lag(moved, touched, now, 500, 2000) is rejects


def test_a_lag_window_may_be_open_at_either_end() -> None:
    """DET-4: 0 is no limit at that end."""
    assert not f.is_outside_lag(0, 0, 10**9, 500, 0)
    assert not f.is_outside_lag(1000, 900, 1000, 0, 2000)


def test_spread_is_of_the_middle() -> None:
    """DET-4: 99.9 to 100.1 is 20 bps, which is not more than 20; the filter refuses only what is."""
    assert f.spread_bps(D("99.9"), D("100.1")) == 20
    assert not f.is_wide(D(20), D(20))
    assert f.is_wide(D("20.01"), D(20))


def test_the_adaptive_threshold_grows_with_the_spread() -> None:
    """DET-4, LESSONS 26: cost 8 and half of a mean spread of 10 make 13 bps; an unknown mean refuses everything."""
    assert not f.is_below_adaptive(D(13), D(8), D(10), D("0.5"))
    assert f.is_below_adaptive(D("12.9"), D(8), D(10), D("0.5"))
    assert f.is_below_adaptive(D(1000), D(8), None, D("0.5"))


@pytest.mark.parametrize(
    ("side", "edge", "rejects"), [(BUY, 17, True), (BUY, 18, False), (SELL, 8, False), (SELL, 7, False)]
)
def test_the_usual_gap_counts_against_the_side_it_favours(side: OrderSide, edge: int, rejects: bool) -> None:
    """DET-4: the middle usually lies 10 bps below the oracle: a buy needs 18 bps for a cost of 8, a sell is not eased."""
    assert f.is_usual_gap(side, D(edge), D(8), D(10)) is rejects
    assert f.is_usual_gap(side, D(edge), D(8), None)


@pytest.mark.parametrize(
    ("edge", "depth", "age", "confidence"),
    [
        (16, "1", 0, "1"),
        (12, "1", 0, "0.5"),
        (8, "1", 0, "0"),
        (16, "0.3", 0, "0.3"),
        (16, "1", 2250, "0.25"),
        (99, "1", 4000, "0"),
    ],
)
def test_confidence_is_the_weakest_of_three(edge: int, depth: str, age: int, confidence: str) -> None:
    """DET-4: margin over a cost of 8, depth, youth within 3 s; the least decides, and it never is below zero."""
    assert f.confidence(D(edge), D(8), D(depth), age, 3000) == D(confidence)


def test_confidence_without_a_cost_has_full_margin() -> None:
    """DET-4: where taking costs nothing there is nothing to exceed."""
    assert f.confidence(D(1), D(0), D(1), 0, 3000) == 1


# ---- windows


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("13:30-20:00", [13 * HOUR + 30 * MINUTE, 20 * HOUR - 1], [13 * HOUR + 30 * MINUTE - 1, 20 * HOUR]),
        ("Mon-Fri 00:00-24:00", [0, DAY, 5 * DAY - 1 - DAY * 3, 4 * DAY], [2 * DAY, 4 * DAY - 1]),
        ("Fri 22:00-02:00", [DAY + 22 * HOUR, 2 * DAY + 2 * HOUR - 1], [22 * HOUR, DAY + HOUR, 2 * DAY + 2 * HOUR]),
        ("Sat-Mon 00:00-01:00", [2 * DAY, 3 * DAY, 4 * DAY], [DAY, 5 * DAY]),
        ("Thu 23:00-00:00", [23 * HOUR, DAY - 1], [0, DAY, DAY + 23 * HOUR]),
    ],
)
def test_a_window_holds_its_hours(text: str, inside: list[int], outside: list[int]) -> None:
    """DET-4, DET-6: start inclusive, end exclusive; past midnight it belongs to the day on which it began."""
    window = parse_window(text)
    assert [window.holds(THURSDAY + ms) for ms in inside] == [True] * len(inside)
    assert [window.holds(THURSDAY + ms) for ms in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "13:30",
        "13:30-13:30",
        "24:00-01:00",
        "1:00-2:00",
        "12:60-13:00",
        "25:00-26:00",
        "Moo 01:00-02:00",
        "mon 01:00-02:00",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    """CFG-2: a text that is empty, ambiguous or no time at all."""
    with pytest.raises(ValueError, match=r"window|ambiguous|time|day"):
        parse_window(text)


@given(st.integers(0, 1439), st.integers(0, 1440), st.integers(0, 7 * 1440 - 1))
def test_a_window_and_its_rest_make_the_day(start: int, end: int, minute: int) -> None:
    """DET-6: at any minute of a week exactly one of a window and the window between its end and its start holds."""
    if start in (end, end % 1440):
        return

    def text(a: int, b: int) -> str:
        return f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}"

    held = [
        parse_window(text(start, end)).holds(minute * MINUTE),
        parse_window(text(end % 1440, start or 1440)).holds(minute * MINUTE),
    ]
    assert sorted(held) == [False, True]


# ---- means


def test_a_value_counts_for_as_long_as_it_stood() -> None:
    """DET-4: the newest value is not in the mean, a quiet one weighs more than a burst, unknown time counts for nothing."""
    mean = TimeMean(1000)
    mean.observe(D(10), 0)
    assert mean.warm(0) is None
    mean.observe(D(90), 1000)
    assert (mean.mean, mean.seen_ms) == (D(10), 1000)
    assert (mean.warm(1000), mean.warm(1001)) == (D(10), None)
    for ms in range(1000, 1100, 10):  # eleven values in a tenth of a second
        mean.observe(D(90), ms)
    assert 10 < mean.mean < 20
    before = mean.mean
    mean.observe(None, 1100)
    mean.observe(D(90), 9000)
    assert mean.seen_ms == 1100
    assert mean.mean - before < 1


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 5000)), min_size=2, max_size=30), st.integers(1, 10_000))
def test_a_mean_lies_between_what_it_saw(values: list[tuple[int, int]], tau: int) -> None:
    """DET-4: whatever the rhythm and the time constant."""
    mean, now = TimeMean(tau), 0
    for value, passed in values:
        mean.observe(Decimal(value), now)
        now += passed
    if mean.seen_ms:
        assert min(v for v, _ in values) <= mean.mean <= max(v for v, _ in values)


# ---- what is remembered of a market


def moving(*oracles: str) -> MarketState:
    market = MarketState(SNDK)
    for second, px in enumerate(oracles):
        market.on_ctx(ctx(SNDK.coin, px), second * 1000)
    return market


@pytest.mark.parametrize(
    ("oracles", "move", "run", "was", "moved_ms"),
    [
        (("600",), 0, 0, None, None),
        (("600", "601"), 1, 1, "600", 1000),
        (("600", "601", "601", "602"), 1, 2, "601", 3000),
        (("600", "601", "602", "601.5"), -1, 1, "602", 3000),
    ],
)
def test_a_market_knows_the_oracles_moves(
    oracles: tuple[str, ...], move: int, run: int, was: str | None, moved_ms: int
) -> None:
    """DET-4: direction, how many in a row, from where and when; a repeated price is no move and ends no run."""
    market = moving(*oracles)
    assert (market.reference_move, market.reference_run, market.reference_moved_ms) == (move, run, moved_ms)
    assert market.reference_was == (None if was is None else D(was))


def test_a_move_over_a_disconnect_has_no_time() -> None:
    """DET-4, WS-4: the oracle changed while nobody listened: the direction is known, when and in how many steps is not."""
    market = moving("600", "601", "602")
    market.on_connect()
    market.on_ctx(ctx(SNDK.coin, "603"), 9000)
    assert (market.reference_move, market.reference_run, market.reference_was, market.reference_moved_ms) == (
        1,
        0,
        None,
        None,
    )
    market.on_ctx(ctx(SNDK.coin, "604"), 10_000)
    assert (market.reference_run, market.reference_was, market.reference_moved_ms) == (1, D(603), 10_000)


def test_each_market_has_its_own_means_and_a_connection_ends_them() -> None:
    """DET-4, LESSONS 23: the wide spread of one market is not in the other's mean; after a reconnect it starts again."""
    config = FilterConfig(
        adaptive_spread_multiple=D(1), adaptive_ewma_ms=1000, baseline_ewma_ms=1000, baseline_warmup_ms=500
    )
    found = Filters(config, dedup=False, direction=False)
    wide, tight = MarketState(SNDK), MarketState(spec("xyz:MU"))
    for market, bid, ask in ((wide, "99", "101"), (tight, "99.99", "100.01")):
        market.on_ctx(ctx(market.coin, "100"), 0)
        market.on_bbo(bbo(market.coin, bid, ask), 0)
        for ms in (0, 1000):
            found.observe(market, ms)
    means = [found.mean_spread(found.memory(m.coin)) for m in (wide, tight)]
    assert means == [D(200), D(2)]
    assert found.mean_gap(found.memory(wide.coin)) == 0
    wide.on_connect()
    wide.on_bbo(bbo(wide.coin, "99", "101"), 1500)
    found.observe(wide, 1500)
    assert found.mean_spread(found.memory(wide.coin)) is None
    assert found.mean_spread(found.memory(tight.coin)) == 2


def test_a_touched_price_is_as_old_as_its_last_change() -> None:
    """DET-4: another size leaves its age; another price, or a side that was gone, makes it new."""
    found, market = Filters(FilterConfig(quote_lag_max_ms=1), dedup=False, direction=False), MarketState(SNDK)
    since = []
    quotes = [
        ("99", "101", "5"),
        ("99", "101", "6"),
        ("98", "101", "6"),
        ("98", None, "6"),
        ("98", "101", "6"),
        ("98", "102", "6"),
    ]
    for ms, (bid, ask, sz) in enumerate(quotes):
        market.on_bbo(bbo(SNDK.coin, bid, ask, sz), ms)
        found.observe(market, ms)
        since.append(found.memory(SNDK.coin).touch_since_ms.get(BUY))
    assert since == [0, 0, 0, None, 4, 5]


def test_filters_that_are_off_are_not_asked() -> None:
    """DET-4: dedup and direction are on, the rest off, by default: nothing is remembered and no frame is shown to them."""
    found = Filters(FilterConfig(), dedup=True, direction=True)
    assert not found.observes
    assert [rule.name for rule in found.rules if rule.on] == [Filter.DIRECTION, Filter.DEDUP]
    assert [rule.name for rule in found.rules] == list(Filter)


def test_a_signal_carries_what_the_filters_saw() -> None:
    """DET-5: the inputs of each filter, by value: what happens to the market afterwards does not change them."""
    config = attrs.evolve(DETECTOR, max_order_notional_usd=D(50), filters=FilterConfig(quote_lag_max_ms=5000))
    detector, market = Detector(config, "run", {SNDK.coin: D(4)}), MarketState(SNDK)
    market.on_ctx(ctx(SNDK.coin, "995"), 0)
    market.on_bbo(bbo(SNDK.coin, "994", "995"), 100)
    assert detector.evaluate(market, 100, THURSDAY) is None
    market.on_ctx(ctx(SNDK.coin, "1000"), 1000)
    signal = detector.evaluate(market, 1200, THURSDAY + 1100)
    assert signal is not None
    assert signal.dislocation is not None
    market.on_ctx(ctx(SNDK.coin, "990"), 2000)
    said = {rule.name: rule.inputs(signal.dislocation) for rule in detector.filters.rules}
    assert said[Filter.QUOTE_LAG] == {
        "oracle_moved_before_ms": 200,
        "touch_set_before_ms": 1100,
        "min_ms": 0,
        "max_ms": 5000,
    }
    assert said[Filter.ORACLE_MOVE]["was_px"] == D(995)
    assert all(isinstance(inputs, dict) for inputs in said.values())


# ---- the document


def rows(heading: str) -> dict[str, str]:
    section = DOC.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    return {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)` \|([^|]*)\|", section, re.MULTILINE)}


def test_the_document_names_every_filter_gate_and_key() -> None:
    """LESSONS 5: the tables of docs/detector.md hold the names that are counted and the keys of the schema, no other."""
    found, gates = rows("Filters (checked)"), rows("Gates on data quality (checked)")
    assert set(found) == {each.value for each in Filter}
    assert set(gates) == {each.value for each in QualityGate}
    for cls, table, prefix in ((FilterKeys, found, "filters"), (QualityKeys, gates, "quality")):
        named = set(re.findall(rf"{prefix}\.(\w+)", " ".join(table.values())))
        assert named == {a.name for a in attrs.fields(cls)}
