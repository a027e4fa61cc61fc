# ruff: noqa: RUF009 - `setting` makes attrs fields, which ruff cannot see
"""`[risk]` of the configuration (section 16 of the specification). Each limit is off at 0, or where it is not set."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from attrs import frozen

from hip3.settings.fields import Number, Whole, setting


def _count(default: int | None) -> Any:
    return setting(Whole(0, None), default=default)


def _amount(default: str | None) -> Any:
    return setting(Number(Decimal(0)), default=None if default is None else Decimal(default))


@frozen(kw_only=True)
class RiskKeys:
    """Limits of the risk monitor (RISK-1). Crossing one is a HALT."""

    max_cumulative_loss_usd: Decimal = _amount("20")
    max_consecutive_losses: int = _count(5)
    max_flatten_failures: int = _count(3)
    max_rejects_per_hour: int | None = _count(None)
    """Not set: 10 on mainnet, off elsewhere."""
    max_slippage_bps: Decimal | None = _amount(None)
    """Not set: 50 on mainnet, off elsewhere."""
