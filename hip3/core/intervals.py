"""Means and rates with their confidence intervals (JRN-3): what a sample of this size can say, and no more.

Values are `Decimal`; only the quantile of Student's t is computed in floats, because it is no money. No bootstrap: it has
to draw at random and is too narrow on the ten values of the first checkpoint, where it would matter most.

Both intervals take the values as independent draws of one law. Trades of one minute are not quite that, and a law with
rare large losses shows them late: the real uncertainty is rather larger than the interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from statistics import NormalDist

from attrs import frozen

LEVEL = 0.95
"""Confidence of every interval, two-sided."""
_SERIES_UP_TO = 300
"""Degrees of freedom up to which the finite series is summed; beyond, the expansion is good to 1e-9."""


@frozen
class Mean:
    """A sample's mean. `low` and `high` are None where a sample has no spread to judge by: n < 2, or all values equal."""

    n: int
    mean: Decimal | None
    low: Decimal | None = None
    high: Decimal | None = None

    @property
    def includes_zero(self) -> bool:
        """True where zero cannot be ruled out; without an interval it cannot."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


@frozen
class Rate:
    """`k` of `n`; everything else is None where n = 0."""

    k: int
    n: int
    rate: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None


def mean_of(values: Iterable[Decimal]) -> Mean:
    """Mean and t-interval, `mean ± t(n-1) * s / sqrt(n)`, in the unit of the values; the same in every order.

    Source: Student 1908; NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2.
    """
    sample = sorted(values)  # sums of rounded decimals depend on their order in the last digit
    n = len(sample)
    if n == 0:
        return Mean(0, None)
    mean = sum(sample, Decimal(0)) / n
    if n == 1 or sample[0] == sample[-1]:
        return Mean(n, mean)
    variance = sum(((x - mean) ** 2 for x in sample), Decimal(0)) / (n - 1)
    half = Decimal(repr(t_quantile(n - 1))) * (variance / n).sqrt()
    return Mean(n, mean, mean - half, mean + half)


def rate_of(k: int, n: int) -> Rate:
    """`k / n` with Wilson's score interval, which neither leaves [0, 1] nor shrinks to a point at 0 or 1.

    Source: E. B. Wilson 1927, JASA 22, 209-212. Raises ValueError for counts that are none.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no rate; 0 <= k <= n is expected")
    if n == 0:
        return Rate(0, 0)
    z = Decimal(repr(NormalDist().inv_cdf(0.5 + LEVEL / 2)))
    p, square = Decimal(k) / n, z * z / n
    centre = p + square / 2
    half = z * ((p * (1 - p) + square / 4) / n).sqrt()
    low = (centre - half) / (1 + square) if k else Decimal(0)
    high = (centre + half) / (1 + square) if k < n else Decimal(1)
    return Rate(k, n, p, low, high)


def t_quantile(df: int, level: float = LEVEL) -> float:
    """The t with P(|T| < t) = `level` for `df` degrees of freedom, by bisection of `t_probability`, relative to 1e-12.

    Above 300 the expansion of Abramowitz and Stegun 26.7.5. Raises ValueError for df < 1.
    """
    if df < 1:
        raise ValueError(f"{df} degrees of freedom; at least 1 is expected")
    if df > _SERIES_UP_TO:
        x = NormalDist().inv_cdf(0.5 + level / 2)
        first = (x**3 + x) / 4
        second = (5 * x**5 + 16 * x**3 + 3 * x) / 96
        third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
        return x + first / df + second / df**2 + third / df**3
    low, high = 0.0, 1.0
    while t_probability(high, df) < level:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, df) < level else (low, middle)
    return (low + high) / 2


def t_probability(t: float, df: int) -> float:
    """P(|T| < t) of Student's t. Source: Abramowitz and Stegun 26.7.3 (odd), 26.7.4 (even), finite sums."""
    angle = math.atan2(t, math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    if df == 1:
        return 2 * angle / math.pi
    term = total = cosine if df % 2 else 1.0
    for n in range(2 + df % 2, df - 1, 2):
        term *= cosine * cosine * (n - 1) / n
        total += term
    return 2 / math.pi * (angle + sine * total) if df % 2 else sine * total
