"""Names: sides, markets, client order ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.ids import ClientOrderId, CloidFactory, MarketKey, OrderSide, is_our_cloid


def test_sides_are_each_others_opposite() -> None:
    """TYP-2: the opposite of the opposite is the side, with the venue's letters."""
    assert OrderSide.BUY.opposite() is OrderSide.SELL
    assert OrderSide.SELL.opposite() is OrderSide.BUY
    assert (OrderSide("B").sign, OrderSide("A").sign) == (1, -1)


def test_a_market_keeps_its_wire_name() -> None:
    """TYP-2: the dex is the prefix, the coin is the whole name."""
    assert MarketKey.parse("xyz:SNDK") == MarketKey("xyz", "xyz:SNDK")
    assert MarketKey.parse("BTC") == MarketKey("", "BTC")
    assert str(MarketKey.parse("xyz:SNDK")) == "xyz:SNDK"


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1))
def test_an_id_says_whose_it_is(run_id: int, tag: int) -> None:
    """TYP-4: tag, run and sequence can be read back from the id alone."""
    factory = CloidFactory(run_id, tag)
    first, second = factory.next(), factory.next()
    assert (first.strategy_tag, first.run_id, first.sequence, second.sequence) == (tag, run_id, 1, 2)
    assert first.is_ours
    assert is_our_cloid(first.value)
    assert len(first.value) == 34
    assert first.value == first.value.lower()


def test_ids_of_two_runs_differ() -> None:
    """TYP-4: the run is part of the id, so a restart never repeats one."""
    assert {CloidFactory(1).next(), CloidFactory(2).next(), CloidFactory(1, 2).next()} == {
        ClientOrderId("0x68697033000100000000000100000001"),
        ClientOrderId("0x68697033000100000000000200000001"),
        ClientOrderId("0x68697033000200000000000100000001"),
    }


@pytest.mark.parametrize(
    "text",
    [None, "", "0x1", "0x" + "0" * 32, "0x" + "ff" * 16, "0X68697033000100000000000100000001", "x" * 34, "test-cloid-001"],
)
def test_foreign_ids_are_foreign(text: str | None) -> None:
    """TYP-4: other clients' ids, malformed ones included, are not ours and raise nothing."""
    assert not is_our_cloid(text)


@pytest.mark.parametrize("text", ["68697033" * 4, "0x" + "G" * 32, "0x" + "A" * 32, "0x" + "a" * 31, "0x" + "a" * 33])
def test_a_malformed_id_cannot_be_made(text: str) -> None:
    """TYP-4: 0x and 32 lower-case hex digits, nothing else (PROTOCOL 5.4)."""
    with pytest.raises(ValueError, match="value"):
        ClientOrderId(text)


def test_numbers_that_do_not_fit_are_refused_at_once() -> None:
    """TYP-4: a run or tag that is too wide is refused where it is given, not at the first order."""
    with pytest.raises(ValueError, match="48 bits"):
        CloidFactory(1 << 48)
    with pytest.raises(ValueError, match="16 bits"):
        CloidFactory(1, 1 << 16)
