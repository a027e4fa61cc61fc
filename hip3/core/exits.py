"""When a position must go, and at what price (EXIT-1, EXIT-4). Pure; the executor places what is asked here.

The time stop depends on nothing but the entry time and the given now: no monitor, no resync can put it off.
"""

from __future__ import annotations

import enum
from decimal import Decimal

from attrs import frozen

from hip3.core import units
from hip3.core.ids import ClientOrderId, MarketSpec, OrderSide, TimeInForce
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState
from hip3.core.orders import OrderIntent
from hip3.core.trades import MarketPosition


class ExitReason(enum.Enum):
    TIME_STOP = "time_stop"
    HALT = "halt"
    SHUTDOWN = "shutdown"


@frozen
class ExitConfig:
    """`*_ms` are ages of the position; `*_bps` bound how far a closing price may be from the touched level."""

    time_stop_ms: int
    reduce_only_timeout_ms: int
    slippage_bps: Decimal
    slippage_step_bps: Decimal
    slippage_cap_bps: Decimal


@frozen
class ExitRequest:
    """Close the whole position of a market."""

    coin: str
    reason: ExitReason
    age_ms: int


def age_ms(position: MarketPosition, now_wall_ms: int) -> int:
    """Age since the venue's time of the first fill; never negative, whatever the clocks say."""
    return 0 if position.entry_ms is None else max(0, now_wall_ms - position.entry_ms)


def due_exits(ledger: Ledger, config: ExitConfig, now_wall_ms: int) -> list[ExitRequest]:
    """Positions that are over their time stop and have no closing order in flight (EXIT-3)."""
    return [
        ExitRequest(p.coin, ExitReason.TIME_STOP, age_ms(p, now_wall_ms))
        for p in ledger.held()
        if age_ms(p, now_wall_ms) > config.time_stop_ms
        and ledger.pending_close(p.coin) is None
        and now_wall_ms >= p.close_not_before_ms
    ]


def overdue(ledger: Ledger, config: ExitConfig, now_wall_ms: int) -> list[MarketPosition]:
    """Positions that should have been flat by now: an alert, and closing goes on."""
    return [p for p in ledger.held() if age_ms(p, now_wall_ms) > config.reduce_only_timeout_ms]


def slippage_bps(config: ExitConfig, attempt: int) -> Decimal:
    """Allowed slippage of the n-th attempt (1 is the first): widening by a step up to the cap."""
    return min(config.slippage_cap_bps, config.slippage_bps + config.slippage_step_bps * (attempt - 1))


def closing_price(spec: MarketSpec, side: OrderSide, touch: Decimal, config: ExitConfig, attempt: int) -> Decimal:
    """A legal limit beyond the touched level by the attempt's slippage, so that an IOC fills through a moving book."""
    bound = touch * (1 + slippage_bps(config, attempt) / units.BPS * side.sign)
    return units.round_price(bound, spec.sz_decimals, up=side.is_buy)


def closing_intent(
    position: MarketPosition,
    market: MarketState,
    config: ExitConfig,
    cloid: ClientOrderId,
    now_wall_ms: int,
    reason: ExitReason,
) -> OrderIntent | None:
    """A reduce-only IOC for the whole position, however small (PROTOCOL 6: a whole close has no minimum).

    Priced from the opposing level, else from the mark; None where neither is known.
    """
    side = position.side.opposite()
    touch = market.touch(side) or (market.ctx.mark_px if market.ctx else None) or market.reference_px
    if touch is None:
        return None
    position.exit_reason = reason.value
    return OrderIntent(
        cloid=cloid,
        spec=market.spec,
        side=side,
        sz=abs(position.szi),
        px=closing_price(market.spec, side, touch, config, position.close_attempts + 1),
        tif=TimeInForce.IOC,
        reduce_only=True,
        created_at_ms=now_wall_ms,
        signal_id=position.signal.id if position.signal else None,
    )
