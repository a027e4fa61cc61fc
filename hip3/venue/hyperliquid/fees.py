"""The taker fee of one market out of the account's rate and the market's flags (PROTOCOL 9, DET-2).

"HIP-3 costs twice" as a constant is wrong: the deployer's scale and the growth mode change it twentyfold. The result is to
be checked against the fee of the first fill.
"""

from __future__ import annotations

from decimal import Decimal

from hip3.core.ids import MarketSpec
from hip3.venue.hyperliquid.errors import MetadataError

_GROWTH = Decimal("0.1")
_ONE = Decimal(1)


def taker_rate(user_cross_rate: Decimal, spec: MarketSpec) -> Decimal:
    """Taker fee as a fraction of notional: `base * hip3 * growth`.

    `user_cross_rate` is `userFees.userCrossRate`, which holds tier and staking discount. `hip3` is `1 + scale` below a
    deployer scale of 1 and `2 * scale` from there on; `growth` is 0.1 in growth mode. A referral discount is left out: we
    take none (PRD-6), and leaving it out overstates the cost.

    Raises MetadataError for a market of a builder dex whose scale is unknown; the caller falls back to a configured fee
    and says so.
    """
    growth = _GROWTH if spec.growth_mode else _ONE
    if spec.key.dex == "":
        return user_cross_rate * growth
    if spec.fee_scale is None:
        raise MetadataError(f"{spec.coin}: the venue states no deployer fee scale; configure the taker fee")
    hip3 = _ONE + spec.fee_scale if spec.fee_scale < _ONE else 2 * spec.fee_scale
    return user_cross_rate * hip3 * growth
