"""Prices, sizes and wire strings: legal, against us, exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hip3.core import units
from tests.core.core_builders import D

prices = st.decimals(
    min_value=D("0.000001"), max_value=D(10_000_000), allow_nan=False, allow_infinity=False, places=10
).filter(lambda d: d > 0)
sizes = st.decimals(min_value=0, max_value=D(10_000_000), allow_nan=False, allow_infinity=False, places=10)
lots = st.integers(min_value=0, max_value=5)


def significant_figures(px: Decimal) -> int:
    digits = "".join(map(str, px.as_tuple().digits)).strip("0")
    return len(digits)


def obeys_the_venue(px: Decimal, sz_decimals: int) -> bool:
    """The rule of the venue's page, written a second time and on the text: integers, or <= 5 figures and 6 - szDecimals."""
    text = units.wire(px)
    if "." not in text:
        return px > 0
    return significant_figures(px) <= 5 and len(text.partition(".")[2]) <= 6 - sz_decimals


@pytest.mark.parametrize(
    ("px", "sz_decimals", "up", "down"),
    [
        ("612.344", 3, "612.35", "612.34"),  # PROTOCOL 6: at 612.34 the tick of SNDK is 0.01
        ("1612.34", 3, "1612.4", "1612.3"),  # and at 1612.3 it is 0.1
        ("612.34", 3, "612.34", "612.34"),
        ("1.23456", 3, "1.235", "1.234"),  # at most 3 decimals, where the venue's own client makes 4
        ("0.0123456", 0, "0.012346", "0.012345"),
        ("123456.7", 0, "123457", "123456"),
        ("99999.5", 0, "100000", "99999"),
        ("999.996", 0, "1000", "999.99"),
        ("9.99999", 0, "10", "9.9999"),
        ("0.0004", 3, "0.001", "0.001"),  # below the tick there is no price but zero, which is none
    ],
)
def test_rounded_prices_of_the_rule(px: str, sz_decimals: int, up: str, down: str) -> None:
    """TYP-3: 5 significant figures, 6 - szDecimals decimals, integers always; up for a buy, down for a sell."""
    assert units.round_price(D(px), sz_decimals, up=True) == D(up)
    assert units.round_price(D(px), sz_decimals, up=False) == D(down)


@given(prices, lots, st.booleans())
@example(D("99999.99999"), 0, True)
@example(D("0.000001"), 5, False)
def test_a_rounded_price_is_legal_and_against_us(px: Decimal, sz_decimals: int, up: bool) -> None:
    """TYP-3: the result is legal, on the paying side, and less than one tick away; below one tick it is the tick."""
    rounded = units.round_price(px, sz_decimals, up=up)
    assert obeys_the_venue(rounded, sz_decimals)
    assert units.is_legal_price(rounded, sz_decimals)
    tick = Decimal(1).scaleb(-units.price_decimals(px, sz_decimals))
    if up:
        assert px <= rounded < px + tick
    elif px >= tick:
        assert px - tick < rounded <= px
    else:
        assert rounded == tick


@given(prices, lots)
def test_the_legality_of_a_price_is_the_venues_rule(px: Decimal, sz_decimals: int) -> None:
    """TYP-3: `is_legal_price` says what the rule, written on the text, says."""
    assert units.is_legal_price(px, sz_decimals) is obeys_the_venue(px, sz_decimals)


@given(prices, lots, st.booleans())
def test_a_legal_price_is_left_alone(px: Decimal, sz_decimals: int, up: bool) -> None:
    """TYP-3: rounding twice is rounding once, in either direction."""
    once = units.round_price(px, sz_decimals, up=up)
    assert units.round_price(once, sz_decimals, up=True) == once == units.round_price(once, sz_decimals, up=False)


@pytest.mark.parametrize("px", ["0", "-1"])
def test_a_price_that_is_none_is_refused(px: str) -> None:
    """TYP-3: zero and negative numbers are no prices."""
    assert not units.is_legal_price(D(px), 3)
    with pytest.raises(ValueError, match="must be positive"):
        units.round_price(D(px), 3, up=True)


@given(sizes, lots)
def test_sizes_round_down_to_the_lot_and_minima_up(sz: Decimal, sz_decimals: int) -> None:
    """TYP-3: a size never grows by rounding; a minimum is never missed by it; both are whole lots."""
    lot = Decimal(1).scaleb(-sz_decimals)
    down, up = units.round_size(sz, sz_decimals), units.round_size_up(sz, sz_decimals)
    assert sz - lot < down <= sz <= up < sz + lot
    assert down % lot == 0 == up % lot


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("612.340", "612.34"),
        ("100000.0", "100000"),
        ("1E+3", "1000"),
        ("1E-8", "0.00000001"),
        ("0.10", "0.1"),
        ("-0.0", "0"),
        ("0", "0"),
        ("10", "10"),
    ],
)
def test_wire_form(value: str, text: str) -> None:
    """TYP-1: plain notation, no exponent, no trailing zeros, never "-0" (PROTOCOL 5.3)."""
    assert units.wire(D(value)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=D(-(10**12)), max_value=D(10**12), places=8))
def test_wire_form_round_trips(value: Decimal) -> None:
    """TYP-1: the wire string is the number itself, in its one normal form."""
    text = units.wire(value)
    assert Decimal(text) == value
    assert units.wire(Decimal(text)) == text
    assert "E" not in text.upper()
    assert not ("." in text and text.endswith(("0", ".")))


def test_basis_points() -> None:
    """TYP-1: ten thousand of them are the whole."""
    assert units.to_bps(D("0.11"), D(100)) == D(11)
