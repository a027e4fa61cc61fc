"""How far the books and the venue are apart, and what follows (REC-4). Judged once the venue has stated it twice."""

from __future__ import annotations

import enum
from decimal import Decimal

from attrs import frozen


class Drift(enum.Enum):
    """NONE is within the tolerance; WARN forbids entries until they agree; CRITICAL ends trading."""

    NONE = "within tolerance"
    WARN = "warn"
    CRITICAL = "critical"


@frozen
class DriftLimits:
    """`warn_*`: more than both is a drift. `critical_*`: more than either is critical; None sets no bound."""

    warn_sz: Decimal
    warn_usd: Decimal
    critical_usd: Decimal
    critical_sz: Decimal | None = None


def judge_drift(ours: Decimal, venue: Decimal, px: Decimal, limits: DriftLimits) -> Drift:
    """Signed sizes in base units, `px` in USD. A market that only one of the two holds is critical, however small."""
    sz = abs(venue - ours)
    usd = sz * px
    if sz <= limits.warn_sz or usd <= limits.warn_usd:
        return Drift.NONE
    one_sided = (ours == 0) is not (venue == 0)
    too_much = usd > limits.critical_usd or (limits.critical_sz is not None and sz > limits.critical_sz)
    return Drift.CRITICAL if one_sided or too_much else Drift.WARN
