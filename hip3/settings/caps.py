"""Caps in force: the smallest cap wins everywhere (CFG-5). The one place where caps meet; nothing else compares them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from attrs import frozen

from hip3.settings.schema import Settings


@frozen
class Cap:
    """A cap and the key that sets it."""

    usd: Decimal
    key: str

    def __str__(self) -> str:
        return f"{self.usd:f} USD ({self.key})"


@frozen
class Caps:
    """Largest notional, in USD, of one order, of one market (position and pending orders) and of all markets."""

    order: Cap
    per_market: Cap
    total: Cap

    @property
    def order_usd(self) -> Decimal:
        return self.order.usd

    @property
    def per_market_usd(self) -> Decimal:
        return self.per_market.usd

    @property
    def total_usd(self) -> Decimal:
        return self.total.usd


def configured_caps(settings: Settings) -> tuple[Cap, ...]:
    """Every cap that is set, the executor's and the defaults of `[limits]` included."""
    pairs = (
        ("detector.max_order_notional_usd", settings.detector.max_order_notional_usd),
        ("limits.max_notional_per_market_usd", settings.limits.max_notional_per_market_usd),
        ("limits.max_notional_total_usd", settings.limits.max_notional_total_usd),
        ("safety.max_notional_usd", settings.safety.max_notional_usd),
        ("executor.max_order_notional_usd", settings.executor.max_order_notional_usd),
    )
    return tuple(Cap(usd, key) for key, usd in pairs if usd is not None)


def effective_caps(settings: Settings) -> Caps:
    """The caps in force. `safety.max_notional_usd` bounds all three: a looser limit never overrides it (CFG-5)."""
    by_key = {cap.key: cap for cap in configured_caps(settings)}
    total_keys = ("limits.max_notional_total_usd", "safety.max_notional_usd")
    market_keys = ("limits.max_notional_per_market_usd", *total_keys)
    total = _smallest(cap for key, cap in by_key.items() if key in total_keys)
    per_market = _smallest(cap for key, cap in by_key.items() if key in market_keys)
    return Caps(order=_smallest(by_key.values()), per_market=per_market, total=total)


def _smallest(caps: Iterable[Cap]) -> Cap:
    return min(caps, key=lambda cap: cap.usd)
