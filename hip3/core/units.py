"""Money and numbers: legal prices and sizes, wire strings, basis points.

Everything is `Decimal`; nothing here accepts a float. Rounding is against us (a buy rounds up, a sell rounds down), so
an edge judged on the rounded price is one that the order can really have (TYP-3).

Source of the price rule: the venue's tick and lot size page (PROTOCOL 6): at most 5 significant figures and at most
`6 - szDecimals` decimals for perpetuals, integers always legal.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal

BPS = Decimal(10_000)
ZERO = Decimal(0)
MAX_SIGNIFICANT_FIGURES = 5
PERP_MAX_DECIMALS = 6
# The widest value on the wire has 8 decimals and an integer part far below 1e20; 40 digits never round by accident.
EXACT = Context(prec=40)


def price_decimals(px: Decimal, sz_decimals: int) -> int:
    """Most decimals that a price of this magnitude may have (0 for a price of five digits or more)."""
    significant = MAX_SIGNIFICANT_FIGURES - 1 - px.adjusted()
    return max(0, min(PERP_MAX_DECIMALS - sz_decimals, significant))


def round_price(px: Decimal, sz_decimals: int, *, up: bool) -> Decimal:
    """The nearest legal price at or above (`up`) or at or below `px`, which must be positive.

    Below the smallest tick there is no price but zero, which is none: rounding down stops at one tick.
    """
    if px <= 0:
        raise ValueError(f"a price must be positive, got {px}")
    quantum = Decimal(1).scaleb(-price_decimals(px, sz_decimals))
    # 999.996 rounds up to 1000.00: one digit more than the rule, but it is the integer 1000, which is always legal.
    return max(quantum, px.quantize(quantum, rounding=ROUND_CEILING if up else ROUND_FLOOR))


def is_legal_price(px: Decimal, sz_decimals: int) -> bool:
    """True where the venue accepts `px` as a multiple of its tick."""
    if px <= 0:
        return False
    if px == px.to_integral_value():
        return True
    decimals = max(0, -int(px.normalize(EXACT).as_tuple().exponent))
    return decimals <= price_decimals(px, sz_decimals)


def round_size(sz: Decimal, sz_decimals: int) -> Decimal:
    """`sz` rounded down to the lot; may be zero, which the caller refuses with a reason."""
    return sz.quantize(Decimal(1).scaleb(-sz_decimals), rounding=ROUND_DOWN)


def round_size_up(sz: Decimal, sz_decimals: int) -> Decimal:
    """The smallest legal size that is at least `sz`; for minimum-notional sizes, where rounding down would miss it."""
    lot = Decimal(1).scaleb(-sz_decimals)
    down = sz.quantize(lot, rounding=ROUND_DOWN)
    return down if down == sz else down + lot


def wire(value: Decimal) -> str:
    """The venue's normal form of a number: plain notation, no trailing zeros, no exponent (PROTOCOL 5.3)."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def to_bps(part: Decimal, whole: Decimal) -> Decimal:
    """`part / whole` in basis points."""
    return part / whole * BPS
