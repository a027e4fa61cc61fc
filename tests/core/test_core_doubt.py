"""When an order in doubt is asked about, how long a close waits that got nothing, and what a first fill says of the fee."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.doubt import BUDGET_MS, TRIES, is_exceeded, next_try_ms
from hip3.core.exits import pause_ms
from hip3.core.fees import FeeCheck
from tests.core.core_builders import SNDK, T0, D, Desk, fill

SEEN = T0 + 5000


@pytest.mark.parametrize(
    ("tries", "asked", "provable", "due"),
    [
        (0, 0, SEEN + 7000, SEEN),
        (1, SEEN, SEEN + 7000, SEEN + 2000),
        (2, SEEN + 2000, SEEN + 7000, SEEN + 7000),
        (2, SEEN + 2000, SEEN - 1, SEEN + 4000),
        (2, SEEN + 2000, SEEN + 99_000, SEEN + 30_000),
        (3, SEEN + 7000, SEEN + 7000, SEEN + 17_000),
    ],
)
def test_the_third_question_waits_for_the_proof(tries: int, asked: int, provable: int, due: int) -> None:
    """POST-4: at once, after 2 s, when absence is proof (within the 30 s), and then three in 30 s."""
    assert next_try_ms(tries, asked, provable, SEEN) == due


@given(st.integers(0, 60_000), st.integers(0, 8000))
def test_no_thirty_seconds_hold_more_than_the_budget(provable_after: int, answer_ms: int) -> None:
    """POST-4: whenever absence becomes provable and however slow the answers, no more than three questions in 30 s."""
    asked: list[int] = []
    last = 0
    while len(asked) < 12:
        last = max(last + answer_ms, next_try_ms(len(asked), last, SEEN + provable_after, SEEN))
        asked.append(last)
    assert all(asked[n + TRIES] - asked[n] >= BUDGET_MS // TRIES for n in range(len(asked) - TRIES))
    later = asked[TRIES - 1 :]
    assert all(later[n + TRIES] - later[n] >= BUDGET_MS for n in range(len(later) - TRIES))


@pytest.mark.parametrize(("tries", "age_ms", "exceeded"), [(2, 29_999, False), (3, 0, True), (1, 30_000, True)])
def test_the_budget_is_three_questions_or_thirty_seconds(tries: int, age_ms: int, exceeded: bool) -> None:
    """POST-4: whichever is used up first."""
    assert is_exceeded(tries, T0, T0 + age_ms) is exceeded


def test_pauses_between_closes_grow_to_five_seconds() -> None:
    """EXIT-3, GATE-5: three at once, then 0.25 s doubling to 5 s, however many there were."""
    assert [pause_ms(n) for n in range(1, 10)] == [0, 0, 250, 500, 1000, 2000, 4000, 5000, 5000]
    assert pause_ms(10_000) == 5000


FEE_CASES = [
    ("0.9", "0.9", True, None),
    ("0.9", "0.98", True, None),
    ("0.9", "9", True, "9"),
    ("9", "0.9", True, "9"),
    ("4", "0.9", False, "0.9"),
    ("4", "9", False, "9"),
    ("0.9", "-0.2", True, "0.9"),
]


@pytest.mark.parametrize(("assumed", "measured", "stated", "used"), FEE_CASES)
def test_the_first_fill_corrects_the_fee(assumed: str, measured: str, stated: bool, used: str | None) -> None:
    """DET-2: over 10 % apart is a mismatch; up always counts, down only against a guess; later fills say nothing."""
    order = Desk().order(sz="0.10")
    table = {SNDK.coin: D(assumed)}
    check = FeeCheck(table, is_stated=stated)
    first = attrs.evolve(fill(order, "0.10"), px=D(600), fee=D(60) * D(measured) / 10_000, crossed=True)
    found = check.see(first)
    assert (None if found is None else found.used_bps) == (None if used is None else D(used))
    assert table[SNDK.coin] == D(used or assumed)
    assert check.see(attrs.evolve(first, fee=D(1))) is None


def test_a_maker_fill_and_a_foreign_market_tell_nothing_of_the_fee() -> None:
    """DET-2: only a fill that took liquidity in a market of ours, and no liquidation, is compared."""
    order = Desk().order(sz="0.10")
    check = FeeCheck({SNDK.coin: D("0.9")}, is_stated=True)
    taken = attrs.evolve(fill(order, "0.10"), px=D(600), fee=D(1), crossed=True)
    others = (attrs.evolve(taken, crossed=False), attrs.evolve(taken, coin="xyz:MU"), attrs.evolve(taken, liquidation=True))
    assert [check.see(other) for other in others] == [None, None, None]
    assert check.see(taken) is not None
