"""The risk monitor alone: boundaries of each count, what an operator's clearing starts anew, what outlives the process."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.causes import ReasonCode
from hip3.core.risk_monitor import HOUR_MS, RiskConfig, RiskMonitor

D = Decimal
LIMITS = RiskConfig(D(20), 5, 3, 10, D(50))
money = st.decimals(-100, 100, places=4)


def test_limits_are_crossed_above_and_not_at_them() -> None:
    """RISK-1: 20 USD, 5 losses, 3 failures, 10 rejects and twice 51 bps are within the limits; one more of each is not."""
    monitor = RiskMonitor(LIMITS)
    assert [monitor.on_trade(D(-4)) for _ in range(5)] == [None] * 5
    crossing = monitor.on_trade(D("-0.0001"))
    assert crossing is not None
    assert crossing.code is ReasonCode.CUMULATIVE_LOSS
    monitor = RiskMonitor(LIMITS)
    assert [monitor.on_trade(D(-1)) for _ in range(5)] == [None] * 5
    row = monitor.on_trade(D(-1))
    assert row is not None
    assert row.code is ReasonCode.CONSECUTIVE_LOSSES
    monitor = RiskMonitor(LIMITS)
    assert [monitor.on_flatten_failed() for _ in range(3)] == [None] * 3
    assert monitor.on_flatten_failed() is not None
    monitor = RiskMonitor(LIMITS)
    assert [monitor.on_reject(n, is_benign=False) for n in range(10)] == [None] * 10
    assert monitor.on_reject(10, is_benign=False) is not None
    monitor = RiskMonitor(LIMITS)
    assert [monitor.on_slippage(D(n)) for n in (51, 51, 50, 51, 51)] == [None] * 5
    assert monitor.on_slippage(D(51)) is not None


def test_a_win_ends_a_row_of_losses_and_an_even_trade_does_not() -> None:
    """RISK-1: consecutive losses are consecutive."""
    monitor = RiskMonitor(RiskConfig(max_consecutive_losses=2))
    for pnl in (-1, -1, 1, -1, 0, -1):
        assert monitor.on_trade(D(pnl)) is None
    assert monitor.on_trade(D(-1)) is not None


def test_rejects_count_for_an_hour_and_benign_ones_never() -> None:
    """RISK-1: the window rolls; what is benign is counted beside it."""
    monitor = RiskMonitor(RiskConfig(max_rejects_per_hour=1))
    assert monitor.on_reject(0, is_benign=False) is None
    assert monitor.on_reject(1, is_benign=True) is None
    assert monitor.on_reject(HOUR_MS, is_benign=False) is None
    assert monitor.benign_rejects == 1
    assert monitor.on_reject(2 * HOUR_MS - 1, is_benign=False) is not None


def test_the_first_crossing_stands_until_it_is_acknowledged() -> None:
    """RISK-1, RISK-2: everything is counted on; then the count that crossed starts anew, and the others are as they were."""
    monitor = RiskMonitor(RiskConfig(max_cumulative_loss_usd=D(1), max_consecutive_losses=1))
    assert monitor.on_trade(D("-0.5")) is None
    first = monitor.on_trade(D("-0.1"))
    assert first is not None
    assert first.code is ReasonCode.CONSECUTIVE_LOSSES
    assert monitor.on_trade(D("-0.6")) is None  # over 1 USD by now
    monitor.acknowledge()
    assert (monitor.losses_in_a_row, monitor.pnl_usd) == (0, D("-1.2"))
    second = monitor.on_trade(D("-0.1"))
    assert second is not None
    assert second.code is ReasonCode.CUMULATIVE_LOSS


@pytest.mark.parametrize("code", [c for c in ReasonCode if c.name in ("REJECT_RATE", "SLIPPAGE", "FLATTEN_FAILED")])
def test_each_acknowledged_count_starts_anew(code: ReasonCode) -> None:
    """RISK-1: after the operator's clearing the same number is needed again."""
    monitor = RiskMonitor(RiskConfig(max_flatten_failures=1, max_rejects_per_hour=1, max_slippage_bps=D(1)))

    def push(times: int) -> bool:
        crossings = []
        for n in range(times):
            match code:
                case ReasonCode.REJECT_RATE:
                    crossings.append(monitor.on_reject(n, is_benign=False))
                case ReasonCode.SLIPPAGE:
                    crossings.append(monitor.on_slippage(D(2)))
                case _:
                    crossings.append(monitor.on_flatten_failed())
        return any(crossings)

    needed = 3 if code is ReasonCode.SLIPPAGE else 2
    assert push(needed)
    monitor.acknowledge()
    assert not push(needed - 1)


@given(st.lists(money), st.lists(st.integers(0, 2**45)), st.lists(money))
def test_counters_survive_as_text(trades: list[Decimal], rejects: list[int], slippages: list[Decimal]) -> None:
    """RISK-1: what is kept is what goes on, whatever has happened."""
    monitor = RiskMonitor(LIMITS)
    for pnl in trades:
        monitor.on_trade(pnl)
    for at_ms in sorted(rejects):
        monitor.on_reject(at_ms, is_benign=at_ms % 3 == 0)
    for bps in slippages:
        monitor.on_slippage(bps)
    restored = RiskMonitor(LIMITS)
    restored.restore(monitor.state())
    assert restored == monitor


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pnl_usd", "nan"),
        ("pnl_usd", "much"),
        ("losses_in_a_row", "-1"),
        ("rejects", "1 x"),
        ("crossed", "LOSS"),
        ("other", "1"),
    ],
)
def test_counters_that_no_run_kept_are_refused_and_change_nothing(key: str, value: str) -> None:
    """RISK-1, SAFE-2: damaged counters are an error that says what was expected, not a fresh start."""
    monitor = RiskMonitor(LIMITS, pnl_usd=D(-3))
    before = monitor.state()
    with pytest.raises(ValueError, match="risk counters"):
        monitor.restore({**before, key: value})
    assert monitor.state() == before
