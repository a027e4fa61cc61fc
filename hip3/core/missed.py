"""Stops that were missed, one by one, and whether a run was there to keep them (JRN-2, JRN-3). Pure.

Each counts. One that was due while no bot ran is told apart, and only where the next run closed it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from hip3.core.trade_figures import TradeFigures


@frozen
class Away:
    """No bot ran, Unix ms: from the last heartbeat of one run to the start of the next."""

    from_ms: int
    to_ms: int


@frozen
class MissedStop:
    """A position that outlived its time stop. Unix ms; `exit_ms` is None where no trade on record ends it."""

    coin: str
    side: str | None
    due_ms: int | None
    """None where its entry is not on record."""
    exit_ms: int | None
    exit_reason: str | None
    away_ms: int
    """How long no bot ran from `due_ms` on."""
    while_away: bool
    """It was due while no bot ran, and was closed in time once one did."""

    @property
    def late_ms(self) -> int | None:
        """From due to flat."""
        return None if self.due_ms is None or self.exit_ms is None else self.exit_ms - self.due_ms


def missed_stops(
    trades: Iterable[TradeFigures], left: Iterable[str], away: Sequence[Away], time_stop_ms: int, late_ms: int
) -> tuple[MissedStop, ...]:
    """Those of finished trades that lived longer than both times together or were given up, then the markets in `left`:
    positions that were given up and that no trade ends."""
    found = [
        _missed(trade, away, time_stop_ms, late_ms)
        for trade in trades
        if trade.flatten_failed or trade.holding_ms > time_stop_ms + late_ms
    ]
    return (*found, *(MissedStop(coin, None, None, None, None, 0, False) for coin in left))


def _missed(trade: TradeFigures, away: Sequence[Away], time_stop_ms: int, late_ms: int) -> MissedStop:
    due = trade.entry_ms + time_stop_ms
    during = next((a for a in away if a.from_ms <= due < a.to_ms), None)
    away_ms = 0 if during is None else min(during.to_ms, max(trade.exit_ms, due)) - due
    in_time = during is not None and trade.exit_ms - during.to_ms <= late_ms
    return MissedStop(trade.coin, trade.side, due, trade.exit_ms, trade.exit_reason, away_ms, in_time)
