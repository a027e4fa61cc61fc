"""The oracle-dislocation taker: when it signals, at what price and size, and by what name it refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core import units
from hip3.core.detector import CAP_HEADROOM, Detector, DetectorConfig, Signal, edge_bps, liquidity_factor
from hip3.core.ids import MarketSpec, OrderSide
from hip3.core.market import MarketState, Reference, missing_market_data
from tests.core.core_builders import DETECTOR, SNDK, T0, D, bbo, ctx, spec

CONFIG = attrs.evolve(DETECTOR, max_order_notional_usd=D(50))
PLAIN = attrs.evolve(CONFIG, dedup=False, direction=False)
FEE = D(4)


def detector(config: DetectorConfig = PLAIN, coin: str = SNDK.coin) -> Detector:
    return Detector(config, "run", {coin: FEE})


def state(
    bid: str | None,
    ask: str | None,
    *,
    oracle: str = "1000",
    sz: str = "100",
    of: MarketSpec = SNDK,
    moved_from: str | None = None,
) -> MarketState:
    """A market as it stands at monotonic 1000, its oracle having moved from `moved_from`."""
    market = MarketState(of)
    if moved_from is not None:
        market.on_ctx(ctx(of.coin, moved_from), 900)
    market.on_ctx(ctx(of.coin, oracle), 1000)
    market.on_bbo(bbo(of.coin, bid, ask, sz), 1000)
    return market


def signal_of(detector: Detector, market: MarketState, now: int = 1000) -> Signal | None:
    return detector.evaluate(market, now, T0)


@pytest.mark.parametrize(
    ("bid", "ask", "side"),
    [
        ("998.8", "998.9", OrderSide.BUY),  # 11 bps below: exactly the cost, which is enough
        ("998.8", "998.91", None),
        ("1001.1", "1001.2", OrderSide.SELL),
        ("1001.0", "1001.2", None),
        ("999.9", "1000.1", None),
    ],
)
def test_the_threshold_is_inclusive_on_both_sides(bid: str, ask: str, side: OrderSide | None) -> None:
    """DET-1: fee 4 + slippage 2 + edge 5 = 11 bps; a quote exactly there is a signal, a tick nearer is not."""
    found = signal_of(detector(), state(bid, ask))
    assert (found.side if found else None) is side


@pytest.mark.parametrize("part", ["fee", "slippage", "min_edge"])
def test_each_part_of_the_cost_counts(part: str) -> None:
    """DET-1: one bps more of fee, slippage or minimum edge, and a quote that was enough is not."""
    market = state("998.8", "998.9")
    assert signal_of(detector(), market)
    fee = FEE + 1 if part == "fee" else FEE
    config = PLAIN if part == "fee" else attrs.evolve(PLAIN, **{f"{part}_bps": getattr(PLAIN, f"{part}_bps") + 1})
    dearer = Detector(config, "run", {SNDK.coin: fee})
    assert dearer.cost_bps(SNDK.coin) == D(12)
    assert signal_of(dearer, market) is None


def test_a_markets_own_threshold_replaces_the_cost() -> None:
    """DET-1: `threshold_bps` of a market stands in place of fee + slippage + edge, for that market alone."""
    other = spec("xyz:MU")
    config = attrs.evolve(PLAIN, thresholds_bps={SNDK.coin: D(30)})
    both = Detector(config, "run", {SNDK.coin: FEE, other.coin: FEE})
    assert signal_of(both, state("997.0", "997.1")) is None
    assert signal_of(both, state("996.9", "997.0"))
    assert signal_of(both, state("998.8", "998.9", of=other))


def test_a_one_sided_book_is_no_signal() -> None:
    """DET-1: two-sided data only; the refusal is counted by name."""
    for market in (state(None, "900"), state("1100", None)):
        found = detector()
        assert signal_of(found, market) is None
        assert found.rejected[SNDK.coin] == {"one_sided": 1}
        assert found.last_reason[SNDK.coin] == "one_sided"


def test_a_market_without_data_is_silent() -> None:
    """DET-1: nothing is judged, and nothing counted, before both feeds have come."""
    found, market = detector(), MarketState(SNDK)
    assert signal_of(found, market) is None
    market.on_bbo(bbo(SNDK.coin, "900", "901"), 1000)
    assert signal_of(found, market) is None
    assert found.rejected == {}


@pytest.mark.parametrize(("age", "reason"), [(3000, None), (3001, "stale_reference"), (10_001, "stale_bbo")])
def test_ages_are_limited_by_receipt(age: int, reason: str | None) -> None:
    """DET-6: at the limit data still counts, one millisecond later it does not; each age has its own name."""
    found = detector()
    signal = signal_of(found, state("998.8", "998.9"), now=1000 + age)
    assert found.last_reason.get(SNDK.coin) == reason
    assert (signal is None) is (reason is not None)
    if signal is not None:
        assert (signal.bbo_age_ms, signal.ctx_age_ms) == (age, age)


def test_a_quiet_oracle_is_not_a_stale_one() -> None:
    """DET-6, LESSONS 24: a context with the same oracle makes it young again: age is the time since the last receipt."""
    market = state("998.8", "998.9")
    market.on_ctx(ctx(SNDK.coin, "1000"), 3900)
    assert signal_of(detector(), market, now=4500)


def test_a_context_without_an_oracle_takes_the_reference_away() -> None:
    """DET-1, MD-2: an old oracle never passes for as young as the context that lacks it."""
    market = state("998.8", "998.9")
    market.acked |= {"bbo", "activeAssetCtx"}
    market.on_ctx(ctx(SNDK.coin, None, mark="1000"), 1000)
    assert signal_of(detector(), market) is None
    assert missing_market_data(market, 1000, 10_000, 3000) == "no oracle price yet"
    market.on_ctx(ctx(SNDK.coin, "1000"), 1000)
    assert signal_of(detector(), market)


def test_dedup_refuses_the_same_oracle_price_on_the_same_side() -> None:
    """DET-4: one dislocation is one signal; a new oracle price or the other side is another."""
    found = detector(attrs.evolve(CONFIG, direction=False))
    assert signal_of(found, state("998.8", "998.9"))
    assert signal_of(found, state("997.0", "997.1")) is None
    assert found.rejected[SNDK.coin] == {"dedup": 1}
    assert signal_of(found, state("1002", "1003"))
    assert signal_of(found, state("997.0", "997.1", oracle="1000.1"))
    assert signal_of(detector(PLAIN), state("998.8", "998.9"))


def test_dedup_can_be_off() -> None:
    """DET-4: with the filter off the same dislocation signals again."""
    found = detector()
    assert signal_of(found, state("998.8", "998.9"))
    assert signal_of(found, state("998.8", "998.9"))


@pytest.mark.parametrize(
    ("moved_from", "buys", "sells"),
    [("999", True, False), ("1001", False, True), (None, False, False), ("1000", False, False)],
)
def test_direction_wants_the_oracle_to_have_moved_away(moved_from: str | None, buys: bool, sells: bool) -> None:
    """DET-4: a buy needs the oracle's last move up, a sell its last move down, and before any move there is neither."""
    found = detector(attrs.evolve(CONFIG, dedup=False))
    assert bool(signal_of(found, state("997.0", "997.1", moved_from=moved_from))) is buys
    assert bool(signal_of(found, state("1003", "1004", moved_from=moved_from))) is sells
    assert found.rejected[SNDK.coin]["direction"] == 2 - buys - sells


def test_direction_can_be_off() -> None:
    """DET-4: with the filter off a quote is taken whatever the oracle did."""
    assert signal_of(detector(), state("997.0", "997.1", moved_from="1001"))


def test_a_crossed_book_gives_one_signal() -> None:
    """DET-1: at most one signal per market per evaluation, whatever the book looks like."""
    found = detector()
    assert signal_of(found, state("1010", "990"))
    assert len(found.rejected) == 0


def test_only_the_market_that_changed_is_judged() -> None:
    """DET-1: an evaluation touches one market; counters and memory of another stay as they were."""
    other = spec("xyz:MU")
    found = Detector(attrs.evolve(CONFIG, direction=False), "run", {SNDK.coin: FEE, other.coin: FEE})
    assert signal_of(found, state("998.8", "998.9"))
    assert signal_of(found, state("998.8", "998.9", of=other))
    assert found.rejected == {}


@pytest.mark.parametrize(
    ("notional", "factor"),
    [("0", "0"), ("499.99", "0"), ("500", "0"), ("1625", "0.25"), ("2750", "0.5"), ("5000", "1"), ("10000", "1")],
)
def test_liquidity_factor(notional: str, factor: str) -> None:
    """DET-3: 0 up to 500 USD at the touch, 1 from 5000, linear between."""
    assert liquidity_factor(D(notional), D(500), D(5000)) == D(factor)


@pytest.mark.parametrize(
    ("touch_sz", "sz"),
    [
        ("100", "0.049"),  # 5 % of 100 is far over the cap: 0.99 * 50 USD / 1000, in lots
        ("0.9", "0.012"),  # 5 % of 0.9 * 0.0888 is below the minimum: 11 USD / 998.7, up to the next lot
        ("0.012", "0.012"),  # the minimum is all that is there
    ],
)
def test_the_size_is_clamped(touch_sz: str, sz: str) -> None:
    """DET-3: alpha * factor * touched size, at least 11 USD, at most 0.99 of the smallest cap."""
    signal = signal_of(detector(), state("998.6", "998.7", sz=touch_sz))
    assert signal is not None
    assert signal.sz == D(sz)


def test_the_cap_holds_at_the_reference_of_a_buy() -> None:
    """DET-3, CFG-5: bought at 900 against an oracle of 1000, the position is worth 1000: the cap is judged there."""
    signal = signal_of(detector(), state("899.9", "900"))
    assert signal is not None
    assert signal.sz == D("0.049")


def test_the_size_follows_alpha_and_the_factor() -> None:
    """DET-3: between the bounds the size is alpha * factor * touched size, in lots."""
    signal = signal_of(detector(attrs.evolve(PLAIN, max_order_notional_usd=D(10_000))), state("998.6", "998.7", sz="3"))
    assert signal is not None
    factor = (D("998.7") * 3 - 500) / 4500
    assert signal.liquidity_factor == factor
    assert signal.sz == units.round_size(D("0.05") * factor * 3, 3) == D("0.083")


@pytest.mark.parametrize(
    ("config", "touch_sz", "of", "reason"),
    [
        ({}, "0.011", SNDK, "thin_book"),
        ({}, "100", spec("xyz:LOT", 0), "lot_above_cap"),
        ({"min_order_notional_usd": D(5)}, "0.009", SNDK, "below_venue_minimum"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(
    config: dict[str, Any], touch_sz: str, of: MarketSpec, reason: str
) -> None:
    """TYP-3, DET-3, LESSONS 20: what rounds to nothing, exceeds a cap or misses the minimum is refused, never sent."""
    found = detector(attrs.evolve(PLAIN, **config), of.coin)
    assert signal_of(found, state("998.6", "998.7", sz=touch_sz, of=of)) is None
    assert found.rejected[of.coin] == {reason: 1}


def test_the_minimum_holds_at_the_limit_price_of_a_sell() -> None:
    """TYP-3, DET-3: a sell's limit is below the touch, and the venue's minimum is judged at the limit (PROTOCOL 6)."""
    of = spec("xyz:TEN", 1)
    config = attrs.evolve(PLAIN, min_order_notional_usd=D(10), max_order_notional_usd=D(100))
    signal = signal_of(detector(config, of.coin), state("10", "10.1", oracle="9.9", sz="100", of=of))
    assert signal is not None
    assert (signal.px, signal.sz) == (D("9.998"), D("1.1"))
    assert signal.px * signal.sz >= 10


def test_the_rounded_price_is_judged() -> None:
    """TYP-3, LESSONS 20: where the tick would eat more than the slippage paid for, the limit is the touched price."""
    coarse = spec("xyz:COARSE", 4)  # two decimals
    touch = "9.98"
    signal = signal_of(detector(coin=coarse.coin), state("9.97", touch, oracle="9.991", sz="1000", of=coarse))
    assert signal is not None
    assert units.round_price(D(touch) * D("1.0002"), 4, up=True) == D("9.99")  # this would keep 1 bps of 9
    assert signal.px == D(touch)


def test_a_signal_carries_its_inputs() -> None:
    """DET-5: id, quotes, reference, ages, cost parts, rounded price and expected edge are in the signal."""
    market = state("998.8", "998.9")
    signal = detector().evaluate(market, 1500, T0 + 7)
    assert signal is not None
    assert (signal.id, signal.coin, signal.bbo, signal.reference_px) == ("run-1", SNDK.coin, market.bbo, D(1000))
    assert (signal.bbo_age_ms, signal.ctx_age_ms, signal.detected_wall_ms, signal.detected_mono_ms) == (
        500,
        500,
        T0 + 7,
        1500,
    )
    assert (signal.cost_bps, signal.taker_fee_bps, signal.slippage_bps, signal.min_edge_bps) == (D(11), D(4), D(2), D(5))
    assert (signal.touch_px, signal.touch_sz, signal.edge_bps) == (D("998.9"), D(100), D(11))
    assert signal.px == D("999.1")  # 998.9 + 2 bps = 999.0998, up to the tick


def test_signal_ids_are_unique() -> None:
    """DET-5: each signal of a run has its own id."""
    found = detector()
    ids = [s.id for _ in range(3) if (s := signal_of(found, state("998.8", "998.9")))]
    assert len(set(ids)) == 3


def test_a_recording_without_oracle_can_use_the_mark() -> None:
    """DET-1: the reference is the oracle; only another `reference` compares with the mark."""
    market = MarketState(SNDK, reference=Reference.MARK)
    market.on_ctx(ctx(SNDK.coin, "500", mark="1000"), 1000)
    market.on_bbo(bbo(SNDK.coin, "998.8", "998.9"), 1000)
    signal = signal_of(detector(), market)
    assert signal is not None
    assert signal.reference_px == D(1000)


# The quotes are near the oracle and in its magnitude, as on the venue; the lots are those of stocks and coins.
cents = st.integers(min_value=100, max_value=10_000_000)
offsets = st.integers(min_value=-300, max_value=300)


@given(cents, offsets, st.integers(1, 50), st.integers(1, 10**7), st.integers(0, 4))
def test_no_signal_gives_away_more_than_it_may(oracle: int, offset: int, spread: int, sz: int, sz_decimals: int) -> None:
    """TYP-3, DET-1, DET-3: the limit is legal and keeps cost minus slippage; the size is in lots and within caps."""
    of = spec("xyz:ANY", sz_decimals)
    reference = Decimal(oracle) / 100
    ask = units.round_price(reference * (1 + Decimal(offset) / 10_000), sz_decimals, up=True)
    bid = units.round_price(ask * (1 - Decimal(spread) / 10_000), sz_decimals, up=False)
    touch_sz = Decimal(sz).scaleb(-sz_decimals)
    market = state(str(bid), str(ask), oracle=str(reference), sz=str(touch_sz), of=of)
    signal = signal_of(detector(coin=of.coin), market)
    if signal is None:
        return
    touch = ask if signal.side is OrderSide.BUY else bid
    assert units.is_legal_price(signal.px, sz_decimals)
    assert (signal.px - touch) * signal.side.sign >= 0
    assert edge_bps(signal.side, signal.px, reference) >= D(11) - D(2)
    assert signal.edge_bps == edge_bps(signal.side, touch, reference)
    assert signal.sz == units.round_size(signal.sz, sz_decimals)
    assert 0 < signal.sz <= touch_sz
    assert min(signal.px, touch) * signal.sz >= D(11)
    assert max(signal.px, reference) * signal.sz <= CAP_HEADROOM * 50


@given(cents, st.integers(1, 400), st.integers(500, 10**6))
def test_every_dislocation_is_a_signal_or_a_named_refusal(oracle: int, off: int, sz: int) -> None:
    """DET-4: at or beyond the cost there is a signal or one counted reason; nearer there is neither."""
    of = spec("xyz:ANY", 2)
    reference = Decimal(oracle) / 100
    ask = reference * (1 - Decimal(off) / 10_000)
    market = state(str(ask * D("0.9999")), str(ask), oracle=str(reference), sz=str(sz), of=of)
    found = detector(coin=of.coin)
    signal = signal_of(found, market)
    refused = sum(found.rejected.get(of.coin, {}).values())
    assert (signal is not None) + refused == (off >= 11)
