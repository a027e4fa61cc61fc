"""Counts of a run for the display and the summary: orders, fills, trades, fees, edges."""

from __future__ import annotations

from decimal import Decimal

from attrs import define

from hip3.core import units
from hip3.core.events import Fill
from hip3.core.ledger import TrackedOrder
from hip3.core.trades import Trade
from hip3.fsm.order import OrderState


@define
class Tally:
    """USD amounts are sums over the run. An entry is accepted when any of it was executed (JRN-1's fill rate)."""

    orders: int = 0
    entries: int = 0
    entries_filled: int = 0
    entries_rejected: int = 0
    entries_unresolved: int = 0
    closes: int = 0
    fills: int = 0
    volume_usd: Decimal = units.ZERO
    fees_usd: Decimal = units.ZERO
    trades: int = 0
    wins: int = 0
    realized_usd: Decimal = units.ZERO
    funding_usd: Decimal = units.ZERO
    expected_edge_bps_sum: Decimal = units.ZERO
    actual_edge_bps_sum: Decimal = units.ZERO
    edge_trades: int = 0
    order_send_failure_total: int = 0
    """Entries that could not be sent, or were sent and got no answer (POST-6)."""

    def on_order_ended(self, order: TrackedOrder) -> None:
        if order.sent_ms is None:
            return
        self.orders += 1
        if order.intent.reduce_only:
            self.closes += not order.is_stop or order.filled_sz > 0  # a stop that never fired closed nothing
            return
        self.entries += 1
        if order.filled_sz > 0:
            self.entries_filled += 1
        elif order.state is OrderState.EXPIRED:
            self.entries_unresolved += 1
        else:
            self.entries_rejected += 1

    def on_fill(self, fill: Fill) -> None:
        """Counts a fill that was booked, those of the way out and of strangers on the account included."""
        self.fills += 1
        self.volume_usd += fill.px * fill.sz
        self.fees_usd += fill.fee

    def on_trade(self, trade: Trade) -> None:
        self.trades += 1
        self.wins += trade.pnl_usd > 0
        self.realized_usd += trade.realized_usd
        self.funding_usd += trade.funding_usd
        if trade.expected_edge_bps is not None:
            self.edge_trades += 1
            self.expected_edge_bps_sum += trade.expected_edge_bps
            self.actual_edge_bps_sum += trade.actual_edge_bps

    @property
    def pnl_usd(self) -> Decimal:
        """Realised profit after all fees paid so far, and the funding of the trades that have ended."""
        return self.realized_usd - self.fees_usd + self.funding_usd

    @property
    def order_metrics(self) -> dict[str, int]:
        """Counts of entries by their metric names (SPEC 29); accepted is what executed anything, as in the fill rate."""
        return {
            "order_accepted_total": self.entries_filled,
            "order_rejected_total": self.entries_rejected,
            "order_timeout_total": self.entries_unresolved,
            "order_send_failure_total": self.order_send_failure_total,
        }

    @property
    def fill_rate(self) -> Decimal | None:
        """accepted / (accepted + rejected + timeout) (JRN-1); None before the first entry."""
        return Decimal(self.entries_filled) / self.entries if self.entries else None

    @property
    def mean_expected_edge_bps(self) -> Decimal | None:
        return self.expected_edge_bps_sum / self.edge_trades if self.edge_trades else None

    @property
    def mean_actual_edge_bps(self) -> Decimal | None:
        return self.actual_edge_bps_sum / self.edge_trades if self.edge_trades else None
