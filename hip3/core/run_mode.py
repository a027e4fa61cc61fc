"""How a run acts on what it decides (REC-5). Everything else about the three is the same."""

from __future__ import annotations

import enum


class RunMode(enum.Enum):
    """LIVE trades. DRY_RUN decides everything and sends nothing. BACKFILL_ONLY brings the books up to date and ends."""

    LIVE = "live"
    DRY_RUN = "dry-run"
    BACKFILL_ONLY = "backfill-only"

    @property
    def sends(self) -> bool:
        """Signed actions leave."""
        return self is RunMode.LIVE
