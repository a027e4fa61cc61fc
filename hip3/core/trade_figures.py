"""JRN-1 for each trade: edges, slippage, fill rate, flat time, fees, funding, PnL, holding time, exit reason. Pure.

Computed from records alone (`hip3.core.records`), in whatever order they come. What the records do not say is None, never
a guess: a trade without a signal has no expected edge, one that a flatten closed past the order book of the bot has no
flat time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain

from attrs import frozen

from hip3.core import units
from hip3.core.ids import OrderSide
from hip3.core.intervals import Rate, rate_of
from hip3.core.records import IntentRecord, ResultRecord, TradeRecord, Transition
from hip3.fsm.order import OrderState
from hip3.fsm.position import PositionState

CLOCKS_APART_MS = 1000
"""Orders carry our time, fills the venue's; entries are kept out when the two are further apart than this (NON-2)."""


@frozen
class OrderCounts:
    """What became of orders. An order counts as accepted when any of it was executed; a time-out is one that never was
    admitted, or of which that is still not known."""

    accepted: int = 0
    rejected: int = 0
    timed_out: int = 0
    open: int = 0
    """On the way or resting where the records end; in no rate."""

    @property
    def rate(self) -> Rate:
        """accepted / (accepted + rejected + timeout) (JRN-1)."""
        return rate_of(self.accepted, self.accepted + self.rejected + self.timed_out)


@frozen
class TradeFigures:
    """One trade. USD, bps, ms. Edges and slippage are before costs; `net_edge_bps` is what is left after all of them."""

    coin: str
    side: str
    signal_id: str | None
    entry_ms: int
    exit_ms: int
    notional_usd: Decimal
    """Size at the entry price."""
    volume_usd: Decimal
    """Entry and exit."""
    expected_edge_bps: Decimal | None
    actual_edge_bps: Decimal
    net_edge_bps: Decimal
    """PnL in bps of the notional."""
    fees_usd: Decimal
    funding_usd: Decimal
    """As the venue signs it: positive was received."""
    pnl_usd: Decimal
    """Realised - fees + funding."""
    exit_reason: str
    orders: OrderCounts
    """Of the entry and of every closing order."""
    flat_time_ms: int | None
    """From the first closing order to flat."""
    flatten_failed: bool
    """The bot gave it up as overdue once, however it ended (position state FLATTEN_FAILED)."""

    @property
    def slippage_bps(self) -> Decimal | None:
        """expected - actual (JRN-1); positive is worse than expected."""
        return None if self.expected_edge_bps is None else self.expected_edge_bps - self.actual_edge_bps

    @property
    def holding_ms(self) -> int:
        return self.exit_ms - self.entry_ms


def last_results(results: Iterable[ResultRecord]) -> dict[str, ResultRecord]:
    """The last word about each order, by cloid."""
    last: dict[str, ResultRecord] = {}
    for result in results:
        known = last.get(result.cloid)
        if known is None or _lateness(result) > _lateness(known):
            last[result.cloid] = result
    return last


def _lateness(result: ResultRecord) -> tuple[bool, int, Decimal, str]:
    return (result.is_terminal, result.at_ms, result.filled_sz, result.state)


def count_orders(intents: Iterable[IntentRecord], last: Mapping[str, ResultRecord]) -> OrderCounts:
    """Counts each order once, however often it was sent. Stops that rest at the venue count when they fired."""
    accepted = rejected = timed_out = still_open = 0
    for intent in {intent.cloid: intent for intent in intents}.values():
        result = last.get(intent.cloid)
        if _was_executed(result):
            accepted += 1
        elif intent.trigger_px is not None:
            continue
        elif result is not None and result.state in (OrderState.EXPIRED.name, OrderState.UNKNOWN.name):
            timed_out += 1
        elif result is not None and result.is_terminal:
            rejected += 1
        else:
            still_open += 1
    return OrderCounts(accepted, rejected, timed_out, still_open)


def _was_executed(result: ResultRecord | None) -> bool:
    return result is not None and (result.filled_sz > 0 or result.reported_sz > 0)


def trade_figures(
    trades: Iterable[TradeRecord],
    intents: Iterable[IntentRecord],
    last: Mapping[str, ResultRecord],
    transitions: Iterable[Transition],
) -> tuple[TradeFigures, ...]:
    """One row for each trade, by the time of its end. `last` as `last_results` gives it."""
    by_coin = _by_coin(trades)
    entries: dict[str, list[IntentRecord]] = defaultdict(list)
    closes: dict[int, list[IntentRecord]] = defaultdict(list)
    for intent in intents:
        owner = _owner(by_coin.get(intent.coin, ()), intent.created_ms) if intent.reduce_only else None
        if not intent.reduce_only and intent.signal_id is not None:
            entries[intent.signal_id].append(intent)
        elif owner is not None:
            closes[id(owner)].append(intent)
    failed = _failed(by_coin, transitions)
    rows = [
        _figures(t, entries.get(t.signal_id or "", []), closes.get(id(t), []), last, overdue=id(t) in failed)
        for t in chain.from_iterable(by_coin.values())
    ]
    return tuple(sorted(rows, key=lambda row: (row.exit_ms, row.entry_ms, row.coin, row.pnl_usd)))


def _by_coin(trades: Iterable[TradeRecord]) -> dict[str, list[TradeRecord]]:
    """The trades of each coin by the time of their end."""
    found: dict[str, list[TradeRecord]] = defaultdict(list)
    for trade in sorted(trades, key=lambda t: (t.exit_ms, t.entry_ms, t.coin, t.realized_usd)):
        found[trade.coin].append(trade)
    return found


def _owner(trades: Sequence[TradeRecord], at_ms: int) -> TradeRecord | None:
    """The trade of a coin that was held at our time `at_ms`; the trades of a coin do not overlap."""
    first = bisect_left(trades, at_ms - CLOCKS_APART_MS, key=lambda t: t.exit_ms)
    near = [t for t in trades[first : first + 3] if t.entry_ms - CLOCKS_APART_MS <= at_ms]
    inside = [t for t in near if t.entry_ms <= at_ms <= t.exit_ms]
    return next(iter(inside or near), None)


def failures_by_coin(transitions: Iterable[Transition]) -> dict[str, list[int]]:
    """Times at which a position became FLATTEN_FAILED, by coin."""
    found: dict[str, list[int]] = defaultdict(list)
    for row in transitions:
        if row.category == "position" and row.to_state == PositionState.FLATTEN_FAILED.name:
            found[row.entity_id].append(row.at_ms)
    return found


def _failed(by_coin: Mapping[str, Sequence[TradeRecord]], transitions: Iterable[Transition]) -> set[int]:
    owners = (
        _owner(by_coin.get(coin, ()), at_ms) for coin, times in failures_by_coin(transitions).items() for at_ms in times
    )
    return {id(owner) for owner in owners if owner is not None}


def left_overdue(trades: Iterable[TradeRecord], transitions: Iterable[Transition]) -> tuple[str, ...]:
    """Markets with a position given up as overdue that no trade of the records ends: failures without a row of their own."""
    by_coin = _by_coin(trades)
    return tuple(
        coin
        for coin, times in failures_by_coin(transitions).items()
        if any(_owner(by_coin.get(coin, ()), at_ms) is None for at_ms in times)
    )


def _figures(
    trade: TradeRecord,
    entries: Sequence[IntentRecord],
    closes: Sequence[IntentRecord],
    last: Mapping[str, ResultRecord],
    *,
    overdue: bool,
) -> TradeFigures:
    pnl = trade.realized_usd - trade.fees_usd + trade.funding_usd
    notional = trade.sz * trade.entry_px
    begun = min((c.created_ms for c in closes if c.trigger_px is None), default=None)
    actual = trade.actual_edge_bps
    if actual is None:
        sign = OrderSide[trade.side].sign
        actual = units.to_bps(trade.exit_px - trade.entry_px, trade.entry_px) * sign
    return TradeFigures(
        coin=trade.coin,
        side=trade.side,
        signal_id=trade.signal_id,
        entry_ms=trade.entry_ms,
        exit_ms=trade.exit_ms,
        notional_usd=notional,
        volume_usd=trade.sz * (trade.entry_px + trade.exit_px),
        expected_edge_bps=trade.expected_edge_bps,
        actual_edge_bps=actual,
        net_edge_bps=units.to_bps(pnl, notional),
        fees_usd=trade.fees_usd,
        funding_usd=trade.funding_usd,
        pnl_usd=pnl,
        exit_reason=trade.exit_reason,
        orders=count_orders([*entries, *closes], last),
        flat_time_ms=None if begun is None else max(0, trade.exit_ms - begun),
        flatten_failed=overdue,
    )
