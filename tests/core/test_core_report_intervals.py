"""Intervals of means and rates (JRN-3) against tables and worked examples of the literature."""

from __future__ import annotations

import math
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.intervals import Mean, Rate, mean_of, rate_of, t_probability, t_quantile

VALUES = st.lists(st.decimals(-500, 500, places=6, allow_nan=False, allow_infinity=False), max_size=40)


@pytest.mark.parametrize(
    ("df", "quantile"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (9, 2.2622),
        (49, 2.0096),
        (99, 1.9842),
        (1000, 1.9623),
    ],
)
def test_t_quantiles_are_those_of_the_tables(df: int, quantile: float) -> None:
    """JRN-3: two-sided 95 % quantiles of Student's t, NIST e-Handbook 1.3.6.7.2."""
    assert t_quantile(df) == pytest.approx(quantile, abs=5e-5)


def test_series_and_expansion_meet() -> None:
    """JRN-3: where the finite sum gives way to the expansion there is no step, and the sum inverts the quantile."""
    assert t_probability(t_quantile(301), 301) == pytest.approx(0.95, abs=1e-10)
    assert t_quantile(299) > t_quantile(300) > t_quantile(301) > 1.9599


def test_no_degrees_of_freedom_are_refused() -> None:
    """JRN-3: one value has no spread; asking for its quantile is an error, not infinity."""
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0)


def test_mean_and_interval_by_hand() -> None:
    """JRN-3: of 1, 2, 3: mean 2, s = 1, half width 4.3027 / sqrt(3) = 2.4841."""
    mean = mean_of([Decimal(3), Decimal(1), Decimal(2)])
    assert mean.n == 3
    assert mean.mean == 2
    assert mean.low is not None
    assert mean.high is not None
    assert float(mean.low) == pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-4)
    assert float(mean.high) == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-4)
    assert mean.includes_zero


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_intervals_are_those_of_the_literature(k: int, n: int, low: float, high: float) -> None:
    """JRN-3: the last row is Newcombe's (Statistics in Medicine 17, 1998, table I); 0 and 1 have an interval too."""
    rate = rate_of(k, n)
    assert rate.low is not None
    assert rate.high is not None
    assert [float(rate.low), float(rate.high)] == pytest.approx([low, high], abs=5e-5)


def test_nothing_and_one_value_pretend_nothing() -> None:
    """JRN-3: n = 0 has no mean and no rate; one value has a mean and no interval; equal values have no spread either."""
    assert mean_of([]) == Mean(0, None)
    assert mean_of([Decimal(7)]) == Mean(1, Decimal(7))
    assert mean_of([Decimal(7)] * 5) == Mean(5, Decimal(7))
    assert mean_of([Decimal(7)]).includes_zero
    assert rate_of(0, 0) == Rate(0, 0)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_counts_that_are_none_are_refused(k: int, n: int) -> None:
    """JRN-3: a numerator outside its denominator is an error of the caller."""
    with pytest.raises(ValueError, match="is no rate"):
        rate_of(k, n)


@given(VALUES, st.integers(0, 1000))
def test_the_interval_holds_the_mean_in_every_order(values: list[Decimal], seed: int) -> None:
    """JRN-3: the mean lies in its interval, between least and largest; the order of the values changes nothing."""
    mean = mean_of(values)
    shuffled = list(values)
    random.Random(seed).shuffle(shuffled)
    assert mean_of(shuffled) == mean
    if mean.low is not None and mean.high is not None and mean.mean is not None:
        assert mean.low <= mean.mean <= mean.high
        assert mean.n >= 2


@given(st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_rate_lies_in_its_interval_and_that_in_zero_to_one(counts: tuple[int, int]) -> None:
    """JRN-3: Wilson's interval never leaves [0, 1], holds the rate, and is never a point."""
    rate = rate_of(*counts)
    if rate.rate is not None and rate.low is not None and rate.high is not None:
        assert 0 <= rate.low <= rate.rate <= rate.high <= 1
        assert rate.low < rate.high
