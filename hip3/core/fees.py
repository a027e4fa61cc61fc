"""The assumed taker fee against the fee of the first fill (DET-2). Pure.

A fee above the assumed one replaces it at once: every signal of that market is dearer than it was judged. One below it
replaces only a configured guess. Where the venue itself stated the rate, a cheaper first fill stays a note: a discount may
end with the next trade, and judging a trade too dear costs a trade, too cheap costs money.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import define, field, frozen

from hip3.core import units
from hip3.core.events import Fill

TOLERANCE = Decimal("0.1")
"""Share by which both may differ: how the venue rounds a fee is UNVERIFIED (PROTOCOL 9), and the mistakes that matter are
twofold (the HIP-3 scale) and tenfold (growth mode)."""


@frozen
class FeeMismatch:
    """Fees in bps of notional. `used_bps` is what the market is judged with from now on."""

    coin: str
    assumed_bps: Decimal
    measured_bps: Decimal
    used_bps: Decimal


@define
class FeeCheck:
    """Compares once for each market. `assumed_bps` is the detector's own table, corrected in place."""

    assumed_bps: dict[str, Decimal]
    is_stated: bool
    """The rates come from the venue and not from the configuration."""
    checked: set[str] = field(factory=set)

    def see(self, fill: Fill) -> FeeMismatch | None:
        """Judges the first fill of a market in which we took liquidity; None where it agrees or tells nothing."""
        notional = fill.px * fill.sz
        if fill.coin in self.checked or fill.coin not in self.assumed_bps or not fill.crossed or fill.liquidation:
            return None
        self.checked.add(fill.coin)
        assumed = self.assumed_bps[fill.coin]
        measured = units.to_bps(fill.fee, notional)
        if abs(measured - assumed) <= TOLERANCE * assumed:
            return None
        used = max(assumed, measured) if self.is_stated else measured
        self.assumed_bps[fill.coin] = used
        return FeeMismatch(fill.coin, assumed, measured, used)
