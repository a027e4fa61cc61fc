"""When a position must go, and at what price (EXIT-1, EXIT-2, EXIT-4). Pure; the executor places what is asked here.

The time stop depends on nothing but the entry time and the given now: no monitor, no resync can put it off. The rules of
EXIT-2 look at prices as well; each is off until it has a number, and old data never fires one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from decimal import Decimal

from attrs import frozen

from hip3.core import units
from hip3.core.ids import ClientOrderId, MarketSpec, OrderSide, TimeInForce
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState
from hip3.core.orders import OrderIntent
from hip3.core.protection import is_through
from hip3.core.trades import MarketPosition


class ExitReason(enum.Enum):
    TIME_STOP = "time_stop"
    PROTECTIVE_STOP = "protective_stop"
    """The stop at the venue fired, or the mark passed its price while none rested there (EXIT-5)."""
    TAKE_PROFIT = "take_profit"
    MARK_REGRESSION = "mark_regression"
    EDGE_EVAPORATION = "edge_evaporation"
    ORACLE_REVERSAL = "oracle_reversal"
    RECOVERED = "recovered"
    """An earlier run began to close, and died before its reason was stored; it is carried on (EXIT-3)."""
    VERIFY = "verify"
    """A verification closes what it has opened (RUN-1)."""
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
class ExitRules:
    """EXIT-2: a rule without a number is off. bps; `max_*_age_ms` as for the detector, and 0 is no limit."""

    min_holding_ms: int
    exit_threshold_bps: Decimal | None
    take_profit_bps: Decimal | None
    edge_evaporation_bps: Decimal | None
    oracle_reversal_bps: Decimal | None
    protective_stop_bps: Decimal | None
    max_bbo_age_ms: int
    max_ctx_age_ms: int


@frozen
class ExitRequest:
    """Close the whole position of a market."""

    coin: str
    reason: ExitReason
    age_ms: int


def age_ms(position: MarketPosition, venue_ms: int) -> int:
    """Age since the venue's time of the first fill, by its time now; never negative, whatever the clocks say."""
    return 0 if position.entry_ms is None else max(0, venue_ms - position.entry_ms)


def due_exits(ledger: Ledger, config: ExitConfig, venue_ms: int, now_mono_ms: int) -> list[ExitRequest]:
    """Positions that are over their time stop and have no closing order in flight (EXIT-3)."""
    return [
        ExitRequest(p.coin, ExitReason.TIME_STOP, age_ms(p, venue_ms))
        for p in ledger.held()
        if age_ms(p, venue_ms) > config.time_stop_ms
        and ledger.pending_close(p.coin) is None
        and now_mono_ms >= p.close_not_before_ms
    ]


def ruled_exits(
    ledger: Ledger, markets: Mapping[str, MarketState], rules: ExitRules, venue_ms: int, now_mono_ms: int
) -> Iterator[ExitRequest]:
    """Positions that a rule of EXIT-2, or the lack of their stop, wants gone, and that have no closing order in flight.

    A close that was begun is carried on, whatever the prices do meanwhile: half a position is nobody's decision (EXIT-3).
    """
    for p in ledger.held():
        if ledger.pending_close(p.coin) is not None or now_mono_ms < p.close_not_before_ms:
            continue
        market = markets.get(p.coin)
        if market is None:
            continue
        age = age_ms(p, venue_ms)
        if p.close_attempts > 0:
            yield ExitRequest(p.coin, ExitReason(p.exit_reason), age)
            continue
        reason = _stop_missed(p, market, ledger, rules, now_mono_ms)
        if reason is None and age >= rules.min_holding_ms:
            reason = _rule(p, market, rules, now_mono_ms)
        if reason is not None:
            yield ExitRequest(p.coin, reason, age)


def _stop_missed(
    position: MarketPosition, market: MarketState, ledger: Ledger, rules: ExitRules, now_ms: int
) -> ExitReason | None:
    """The mark is at the stop and none rests at the venue: refused, not yet there, or fired without filling it all."""
    mark = market.mark(now_ms, rules.max_ctx_age_ms)
    if rules.protective_stop_bps is None or mark is None or any(s.rests for s in ledger.stops(position.coin)):
        return None
    missed = is_through(position, market.spec, mark, rules.protective_stop_bps)
    return ExitReason.PROTECTIVE_STOP if missed else None


def _rule(position: MarketPosition, market: MarketState, rules: ExitRules, now_ms: int) -> ExitReason | None:
    """The first rule that wants the position gone, judged at the price at which it could be closed now."""
    entry, reference, touch = position.entry_px, market.reference_px, market.touch(position.side.opposite())
    if entry <= 0 or reference is None or touch is None or not _is_fresh(market, rules, now_ms):
        return None

    def ahead_bps(px: Decimal, of: Decimal) -> Decimal:
        """How far `px` is on the side of profit."""
        return units.to_bps(px - of, of) * position.side.sign

    began = position.signal.reference_px if position.signal is not None else None
    if rules.take_profit_bps is not None and ahead_bps(touch, entry) >= rules.take_profit_bps:
        return ExitReason.TAKE_PROFIT
    if rules.exit_threshold_bps is not None and -ahead_bps(touch, reference) <= rules.exit_threshold_bps:
        return ExitReason.MARK_REGRESSION
    if rules.edge_evaporation_bps is not None and ahead_bps(reference, entry) <= rules.edge_evaporation_bps:
        return ExitReason.EDGE_EVAPORATION
    if began is not None and rules.oracle_reversal_bps is not None:
        reversed_by = -ahead_bps(reference, began)
        return ExitReason.ORACLE_REVERSAL if reversed_by >= rules.oracle_reversal_bps else None
    return None


def _is_fresh(market: MarketState, rules: ExitRules, now_ms: int) -> bool:
    bbo_age, ctx_age = market.bbo_age_ms(now_ms), market.ctx_age_ms(now_ms)
    if bbo_age is None or ctx_age is None or ctx_age > rules.max_ctx_age_ms:
        return False
    return rules.max_bbo_age_ms == 0 or bbo_age <= rules.max_bbo_age_ms


def overdue(ledger: Ledger, config: ExitConfig, venue_ms: int) -> list[MarketPosition]:
    """Positions that should have been flat by now: an alert, and closing goes on."""
    return [p for p in ledger.held() if age_ms(p, venue_ms) > config.reduce_only_timeout_ms]


def slippage_bps(config: ExitConfig, attempt: int) -> Decimal:
    """Allowed slippage of the n-th attempt (1 is the first): widening by a step up to the cap."""
    return min(config.slippage_cap_bps, config.slippage_bps + config.slippage_step_bps * (attempt - 1))


AT_ONCE = 3
FIRST_PAUSE_MS = 250
LONGEST_PAUSE_MS = 5_000
"""These three are ours. At one close in 5 s an account's 10 000 actions (PROTOCOL 8) last for half a day."""


def pause_ms(attempts: int) -> int:
    """How long to wait after `attempts` closes, of which the last got nothing, before the next is placed.

    The first three go at once: a book that moved is met by a fresh price. Then the pause doubles: where nobody quotes, two
    and a half closes a second would use up the account's actions in an hour and leave none to close with.
    """
    return 0 if attempts < AT_ONCE else min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(attempts - AT_ONCE, 10))


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
