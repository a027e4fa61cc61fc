"""Positions as the ledger keeps them, and the trades that they become when they end."""

from __future__ import annotations

from decimal import Decimal

from attrs import define, frozen

from hip3.core import units
from hip3.core.detector import Signal
from hip3.core.events import Fill
from hip3.core.ids import ClientOrderId, OrderSide
from hip3.fsm.position import POSITION_TABLE, PositionState
from hip3.fsm.position import PositionEvent as Event


@frozen
class Trade:
    """One position from its first fill to flat. USD; edges in bps by JRN-1; `realized_usd` is before fees."""

    coin: str
    side: OrderSide
    sz: Decimal
    entry_px: Decimal
    exit_px: Decimal
    entry_ms: int
    exit_ms: int
    realized_usd: Decimal
    fees_usd: Decimal
    signal_id: str | None
    expected_edge_bps: Decimal | None
    """The signal's edge at the touched price, before fees like `actual_edge_bps`; None without a signal of this run."""
    exit_reason: str

    @property
    def pnl_usd(self) -> Decimal:
        return self.realized_usd - self.fees_usd

    @property
    def actual_edge_bps(self) -> Decimal:
        """`(exit - entry) / entry * 1e4`, sign by side (JRN-1); before fees."""
        return units.to_bps(self.exit_px - self.entry_px, self.entry_px) * self.side.sign

    @property
    def holding_ms(self) -> int:
        return self.exit_ms - self.entry_ms


@define
class MarketPosition:
    """One market's position. `szi` is signed; `entry_ms` is the venue's time of the first fill and is never reset by a
    resync (LESSONS 11)."""

    coin: str
    state: PositionState = PositionState.FLAT
    szi: Decimal = units.ZERO
    entry_px: Decimal = units.ZERO
    """Average entry price."""
    entry_ms: int | None = None
    last_fill_ms: int | None = None
    realized_usd: Decimal = units.ZERO
    fees_usd: Decimal = units.ZERO
    signal: Signal | None = None
    closing: ClientOrderId | None = None
    close_attempts: int = 0
    adopted_ms: int = 0
    """Venue time of the last statement whose size was taken over: what was filled before is in it."""
    close_not_before_ms: int = 0
    """Wall time; set where the venue said that there is nothing to close, so that it is asked before the next attempt."""
    stop_not_before_ms: int = 0
    """Wall time; set where the venue ended a protective stop, so that the next one is not placed in a loop."""
    exit_reason: str = "unknown"
    _traded_sz: Decimal = units.ZERO
    _entry_notional: Decimal = units.ZERO
    _exit_sz: Decimal = units.ZERO
    _exit_notional: Decimal = units.ZERO

    def fire(self, event: Event) -> None:
        self.state = POSITION_TABLE.next(self.state, event)

    @property
    def side(self) -> OrderSide:
        return OrderSide.BUY if self.szi >= 0 else OrderSide.SELL

    def unrealized_usd(self, mark: Decimal) -> Decimal:
        return (mark - self.entry_px) * self.szi

    def adopt(self, szi: Decimal, entry_px: Decimal, entry_ms: int) -> None:
        """Takes the venue's word for a position that no fill of this run explains."""
        if szi == self.szi:
            return
        keep = self.entry_ms if self.szi != 0 and (szi > 0) == (self.szi > 0) else None
        self.szi, self.entry_px = szi, entry_px
        if szi == 0:
            self.entry_ms = None
            self.fire(Event.WENT_FLAT)
            self._forget()
            return
        self.entry_ms = keep if keep is not None else entry_ms
        self._traded_sz = abs(szi)
        self._entry_notional = abs(szi) * entry_px
        self.fire(Event.HOLDS)

    def apply(self, fill: Fill) -> Trade | None:
        """Moves the position by one fill; the finished trade where the fill ends it.

        A fill that crosses zero ends one trade and opens the next with the rest; its fee is shared by size.
        """
        before, delta = self.szi, fill.signed_sz
        self.last_fill_ms = fill.time_ms
        if before == 0 or (before > 0) == (delta > 0):
            self._open(fill, fill.sz, fill.fee)
            return None
        closed = min(abs(before), fill.sz)
        fee = fill.fee * closed / fill.sz
        self.realized_usd += (fill.px - self.entry_px) * closed * (1 if before > 0 else -1)
        self.fees_usd += fee
        self._exit_sz += closed
        self._exit_notional += closed * fill.px
        self.szi = before + (closed if delta > 0 else -closed)
        if self.szi != 0:
            return None
        trade = self._finish(OrderSide.BUY if before > 0 else OrderSide.SELL, fill.time_ms)
        rest = fill.sz - closed
        if rest > 0:
            self._open(fill, rest, fill.fee - fee)
        return trade

    def _open(self, fill: Fill, sz: Decimal, fee: Decimal) -> None:
        held = abs(self.szi)
        self.entry_px = (self.entry_px * held + fill.px * sz) / (held + sz)
        self.szi += sz if fill.side is OrderSide.BUY else -sz
        self.fees_usd += fee
        self._traded_sz += sz
        self._entry_notional += sz * fill.px
        if self.entry_ms is None:
            self.entry_ms = fill.time_ms
        self.fire(Event.HOLDS)

    def _finish(self, side: OrderSide, exit_ms: int) -> Trade:
        assert self.entry_ms is not None
        trade = Trade(
            coin=self.coin,
            side=side,
            sz=self._traded_sz,
            entry_px=self._entry_notional / self._traded_sz,
            exit_px=self._exit_notional / self._exit_sz,
            entry_ms=self.entry_ms,
            exit_ms=exit_ms,
            realized_usd=self.realized_usd,
            fees_usd=self.fees_usd,
            signal_id=self.signal.id if self.signal else None,
            expected_edge_bps=self.signal.edge_bps if self.signal else None,
            exit_reason=self.exit_reason,
        )
        self.entry_ms = None
        self.fire(Event.WENT_FLAT)
        self._forget()
        return trade

    def _forget(self) -> None:
        self.entry_px = self.realized_usd = self.fees_usd = units.ZERO
        self._traded_sz = self._entry_notional = self._exit_sz = self._exit_notional = units.ZERO
        self.signal, self.closing, self.close_attempts, self.exit_reason = None, None, 0, "unknown"
        self.close_not_before_ms = self.stop_not_before_ms = 0
