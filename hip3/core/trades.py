"""Positions as the ledger keeps them, and the trades that they become when they end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from attrs import define, field, frozen

from hip3.core import units
from hip3.core.events import Fill, Funding
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
    funding_usd: Decimal = units.ZERO
    """Received while it was held; negative where it was paid."""

    @property
    def pnl_usd(self) -> Decimal:
        """After fees and funding."""
        return self.realized_usd - self.fees_usd + self.funding_usd

    @property
    def actual_edge_bps(self) -> Decimal:
        """`(exit - entry) / entry * 1e4`, sign by side (JRN-1); before fees."""
        return units.to_bps(self.exit_px - self.entry_px, self.entry_px) * self.side.sign

    @property
    def slippage_bps(self) -> Decimal | None:
        """`expected - actual` (JRN-1); None where no signal of this run says what was expected."""
        return None if self.expected_edge_bps is None else self.expected_edge_bps - self.actual_edge_bps

    @property
    def holding_ms(self) -> int:
        return self.exit_ms - self.entry_ms


@frozen
class EntrySignal:
    """What a position remembers of the signal that opened it: id, edge at the touched price (bps), reference price."""

    id: str
    edge_bps: Decimal
    reference_px: Decimal


def _not_told(_position: MarketPosition, _before: PositionState, _event: Event) -> None:
    """Nobody listens."""


NO_REASON = "unknown"
"""Why a position ends, where neither an exit nor a flatten of ours has said."""
DUMP_FORM, DUMP_FORM_1 = "2", "1"
"""Form of `MarketPosition.dump`, and the one before it, which had no funding; another one is refused."""


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
    funding_usd: Decimal = units.ZERO
    funded_ms: int = 0
    """Venue time of the last funding payment that is in `funding_usd`."""
    signal: EntrySignal | None = None
    closing: ClientOrderId | None = None
    close_attempts: int = 0
    adopted_ms: int = 0
    """Venue time of the last statement whose size was taken over: what was filled before is in it."""
    close_not_before_ms: int = 0
    """Monotonic; set where the venue said that there is nothing to close, so that it is asked before the next attempt."""
    stop_not_before_ms: int = 0
    """Monotonic; set where the venue ended a protective stop, so that the next one is not placed in a loop."""
    exit_reason: str = NO_REASON
    on_fire: Callable[[MarketPosition, PositionState, Event], None] = field(default=_not_told, eq=False, repr=False)
    """Told of each event that changed the state, in the same step."""
    _traded_sz: Decimal = units.ZERO
    _entry_notional: Decimal = units.ZERO
    _exit_sz: Decimal = units.ZERO
    _exit_notional: Decimal = units.ZERO

    def fire(self, event: Event) -> None:
        before = self.state
        self.state = POSITION_TABLE.next(before, event)
        if self.state is not before:
            self.on_fire(self, before, event)

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

    def pay(self, payment: Funding) -> bool:
        """Books a funding payment, positive where it was received; False for one of before the entry, or booked already."""
        if self.szi == 0 or self.entry_ms is None or payment.time_ms <= max(self.entry_ms, self.funded_ms):
            return False
        self.funding_usd += payment.usd
        self.funded_ms = payment.time_ms
        return True

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
            funding_usd=self.funding_usd,
        )
        self.entry_ms = None
        self.fire(Event.WENT_FLAT)
        self._forget()
        return trade

    def _forget(self) -> None:
        self.entry_px = self.realized_usd = self.fees_usd = self.funding_usd = units.ZERO
        self._traded_sz = self._entry_notional = self._exit_sz = self._exit_notional = units.ZERO
        self.signal, self.closing, self.close_attempts, self.exit_reason = None, None, 0, NO_REASON
        self.close_not_before_ms = self.stop_not_before_ms = 0

    # ---- across a restart

    def dump(self) -> str:
        """A held position in one line, for the next run: fields joined by `|`, decimals as text."""
        signal = (self.signal.id, self.signal.edge_bps, self.signal.reference_px) if self.signal else ("", "", "")
        parts = (
            DUMP_FORM,
            self.szi,
            self.entry_px,
            self.entry_ms if self.entry_ms is not None else "",
            self.last_fill_ms if self.last_fill_ms is not None else "",
            self.realized_usd,
            self.fees_usd,
            self._traded_sz,
            self._entry_notional,
            self._exit_sz,
            self._exit_notional,
            self.exit_reason,
            *signal,
            self.funding_usd,
            self.funded_ms,
        )
        return "|".join(str(part) for part in parts)

    def restore(self, text: str) -> None:
        """Takes over what `dump` wrote; entry time included, so that a restart resets no time stop (EXIT-1).

        Raises ValueError for a text that is not one of these.
        """
        parts = text.split("|")
        if parts[0] == DUMP_FORM_1 and len(parts) == 15:
            parts = [DUMP_FORM, *parts[1:], "0", "0"]
        if len(parts) != 17 or parts[0] != DUMP_FORM:
            raise ValueError(f"position of {self.coin}: {text!r} is no form {DUMP_FORM} position")
        try:
            numbers = [Decimal(part) for part in (*parts[1:3], *parts[5:11])]
            funding_usd, funded_ms = Decimal(parts[15]), int(parts[16])
            entry_ms, last_fill_ms = (int(part) if part else None for part in parts[3:5])
            signal = EntrySignal(parts[12], Decimal(parts[13]), Decimal(parts[14])) if parts[12] else None
        except (ArithmeticError, ValueError) as e:
            raise ValueError(f"position of {self.coin}: {text!r} cannot be read") from e
        self.szi, self.entry_px, self.realized_usd, self.fees_usd = numbers[:4]
        self._traded_sz, self._entry_notional, self._exit_sz, self._exit_notional = numbers[4:]
        self.entry_ms, self.last_fill_ms, self.exit_reason, self.signal = entry_ms, last_fill_ms, parts[11], signal
        self.funding_usd, self.funded_ms = funding_usd, funded_ms
        self.fire(Event.HOLDS)
