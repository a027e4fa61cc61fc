"""Risk monitor (RISK-1): counts what goes wrong and says when a count crosses its limit. Pure: events in, a crossing out.

The first crossing wins: until the operator has cleared its cause, everything is still counted and nothing else crosses. The
counts outlive the process (`state`, `restore`). It holds no latch of its own: the cause in `Safety` is the only one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from attrs import define, field, frozen

from hip3.core import units
from hip3.core.causes import ReasonCode

HOUR_MS = 3_600_000
SLIPPAGES_IN_A_ROW = 3  # RISK-1


@frozen
class RiskConfig:
    """Limits of RISK-1; None is off. A count crosses when it is above its limit."""

    max_cumulative_loss_usd: Decimal | None = None
    max_consecutive_losses: int | None = None
    max_flatten_failures: int | None = None
    max_rejects_per_hour: int | None = None
    max_slippage_bps: Decimal | None = None


@frozen
class Crossing:
    """A limit was crossed: the reason code of the HALT and its sentence."""

    code: ReasonCode
    message: str


@define
class RiskMonitor:
    """Counts since the start of the account's books, or since an operator cleared what they led to.

    `pnl_usd` is realised, after fees; times are wall ms, because they outlive the process.
    """

    config: RiskConfig
    pnl_usd: Decimal = units.ZERO
    losses_in_a_row: int = 0
    flatten_failures: int = 0
    slippages_in_a_row: int = 0
    benign_rejects: int = 0
    """No match, reduce-only, minimum notional: counted apart, and they never cross."""
    rejects: deque[int] = field(factory=deque)
    """When the venue rejected an order, oldest first, of the last hour and one more than the limit."""
    crossed: ReasonCode | None = None
    """What crossed first and was not acknowledged since."""

    def on_trade(self, pnl_usd: Decimal) -> Crossing | None:
        """A position ended with this profit, USD after fees. A win ends a row of losses, an even trade changes nothing."""
        self.pnl_usd += pnl_usd
        if pnl_usd < 0:
            self.losses_in_a_row += 1
        elif pnl_usd > 0:
            self.losses_in_a_row = 0
        most_usd, most = self.config.max_cumulative_loss_usd, self.config.max_consecutive_losses
        if most_usd is not None and -self.pnl_usd > most_usd:
            lost = f"lost {-self.pnl_usd:.4f} USD in all, more than risk.max_cumulative_loss_usd = {most_usd}"
            return self.cross(ReasonCode.CUMULATIVE_LOSS, lost)
        if pnl_usd < 0 and most is not None and self.losses_in_a_row > most:
            row = f"{self.losses_in_a_row} losses in a row, more than risk.max_consecutive_losses = {most}"
            return self.cross(ReasonCode.CONSECUTIVE_LOSSES, row)
        return None

    def on_flatten_failed(self) -> Crossing | None:
        """A position was not closed in its time; once for each position (EXIT-1)."""
        self.flatten_failures += 1
        most = self.config.max_flatten_failures
        if most is None or self.flatten_failures <= most:
            return None
        message = f"{self.flatten_failures} positions were not closed in time, more than risk.max_flatten_failures = {most}"
        return self.cross(ReasonCode.FLATTEN_FAILED, message)

    def on_reject(self, wall_ms: int, *, is_benign: bool) -> Crossing | None:
        """The venue rejected an order; benign ones are part of trading."""
        if is_benign:
            self.benign_rejects += 1
            return None
        most = self.config.max_rejects_per_hour
        if most is None:
            return None
        while self.rejects and (self.rejects[0] <= wall_ms - HOUR_MS or len(self.rejects) > most):
            self.rejects.popleft()
        self.rejects.append(wall_ms)
        if len(self.rejects) <= most:
            return None
        return self.cross(ReasonCode.REJECT_RATE, f"more than risk.max_rejects_per_hour = {most} orders rejected in an hour")

    def on_slippage(self, slippage_bps: Decimal) -> Crossing | None:
        """A trade's expected less its actual edge, bps (JRN-1)."""
        most = self.config.max_slippage_bps
        if most is None or slippage_bps <= most:
            self.slippages_in_a_row = 0
            return None
        self.slippages_in_a_row += 1
        if self.slippages_in_a_row < SLIPPAGES_IN_A_ROW:
            return None
        message = f"{self.slippages_in_a_row} trades in a row, now {slippage_bps:.1f}, above risk.max_slippage_bps = {most}"
        return self.cross(ReasonCode.SLIPPAGE, message)

    def cross(self, code: ReasonCode, message: str) -> Crossing | None:
        """The crossing, where it is the first; None while another one stands."""
        if self.crossed is not None:
            return None
        self.crossed = code
        return Crossing(code, message)

    def acknowledge(self) -> None:
        """An operator cleared the cause of what crossed: its own count starts anew, the others stay as they are."""
        if self.crossed is ReasonCode.CUMULATIVE_LOSS:
            self.pnl_usd = units.ZERO
        elif self.crossed is ReasonCode.CONSECUTIVE_LOSSES:
            self.losses_in_a_row = 0
        elif self.crossed is ReasonCode.FLATTEN_FAILED:
            self.flatten_failures = 0
        elif self.crossed is ReasonCode.REJECT_RATE:
            self.rejects.clear()
        elif self.crossed is ReasonCode.SLIPPAGE:
            self.slippages_in_a_row = 0
        self.crossed = None

    # ---- over the life of the process

    def state(self) -> dict[str, str]:
        """Everything that the next run goes on from, as text."""
        return {
            "pnl_usd": str(self.pnl_usd),
            "losses_in_a_row": str(self.losses_in_a_row),
            "flatten_failures": str(self.flatten_failures),
            "slippages_in_a_row": str(self.slippages_in_a_row),
            "benign_rejects": str(self.benign_rejects),
            "rejects": " ".join(map(str, self.rejects)),
            "crossed": "" if self.crossed is None else self.crossed.value,
        }

    def restore(self, state: Mapping[str, str]) -> None:
        """Goes on from what `state` gave. Raises ValueError, with nothing changed, for what it never gives."""
        if state.keys() != self.state().keys():
            raise ValueError(f"risk counters: expected the keys {sorted(self.state())}, found {sorted(state)}")
        try:
            pnl_usd = _money(state["pnl_usd"])
            counts = [_count(state[name]) for name in _COUNTS]
            rejects = deque(_count(part) for part in state["rejects"].split())
            crossed = ReasonCode(state["crossed"]) if state["crossed"] else None
        except ValueError as e:
            raise ValueError(f"risk counters: {dict(state)} cannot be what an earlier run kept: {e}") from e
        self.pnl_usd, self.rejects, self.crossed = pnl_usd, rejects, crossed
        self.losses_in_a_row, self.flatten_failures, self.slippages_in_a_row, self.benign_rejects = counts


_COUNTS = ("losses_in_a_row", "flatten_failures", "slippages_in_a_row", "benign_rejects")


def _money(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise ValueError(f"expected an amount of USD, found {text!r}")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"expected a whole number of at least 0, found {text!r}")
    return int(text)
