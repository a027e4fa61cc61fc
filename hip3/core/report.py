"""The trade journal as figures and the Go/No-Go verdict (JRN-1, JRN-2, JRN-3). Pure: records in, a `Report` out.

The order of the records does not matter. Every mean carries its n and its interval, and the share of signals that were not
traded stands in the same object, so that no view of it can show the one without the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate

from attrs import field, frozen

from hip3.core.checkpoints import CHECKPOINTS, Decision, Judged, Measure, Measured, decide, judge
from hip3.core.intervals import Mean, Rate, mean_of, rate_of
from hip3.core.missed import Away, MissedStop, missed_stops
from hip3.core.records import FollowUpRecord, IntentRecord, ResultRecord, SignalRecord, TradeRecord, Transition
from hip3.core.trade_figures import (
    OrderCounts,
    TradeFigures,
    count_orders,
    last_results,
    left_overdue,
    trade_figures,
)
from hip3.core.units import ZERO

HOUR_MS = 3_600_000
FLATTEN_DEADLINE_MS = 60_000
"""A close that takes longer than this has failed (RUN-1, item 6)."""
TRADED = "traded"
NOT_SENT = "accepted, but no order is on record"


@frozen
class ReportInput:
    """What a report is made of. Times Unix ms; `since_ms` cuts trades by their end, orders by their making.

    `time_stop_ms` and `stop_late_ms` say when a stop counts as missed: the position lived longer than both together.
    """

    trades: tuple[TradeRecord, ...]
    time_stop_ms: int
    stop_late_ms: int
    signals: tuple[SignalRecord, ...] = ()
    follow_ups: tuple[FollowUpRecord, ...] = ()
    intents: tuple[IntentRecord, ...] = ()
    results: tuple[ResultRecord, ...] = ()
    transitions: tuple[Transition, ...] = ()
    away: tuple[Away, ...] = ()
    """When no bot ran, where that is known."""
    since_ms: int | None = None
    source: str = ""
    """Where the records were read, for people."""
    network: str = ""
    account: str = ""
    runs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What the source lacks or doubts."""


@frozen
class Totals:
    """Sums in USD, means with intervals. `net` is the edge after cost of a trade, in bps of its notional."""

    trades: int
    wins: Rate
    pnl_usd: Decimal
    fees_usd: Decimal
    funding_usd: Decimal
    volume_usd: Decimal
    """Entries and exits."""
    drawdown_usd: Decimal
    """The largest fall of the PnL from an earlier high, zero included."""
    expected: Mean
    actual: Mean
    slippage: Mean
    net: Mean
    pnl: Mean
    holding_ms: Mean
    flat_time_ms: Mean
    entries: OrderCounts
    closes: OrderCounts
    missed_stops: Rate
    flatten_success: Rate


@frozen
class SignalFate:
    """What became of the signals: how many were traded, and why the others were not, largest count first."""

    total: int
    traded: Rate
    reasons: tuple[tuple[str, int], ...]


@frozen
class DecayPoint:
    """The edge `after_ms` after the signal; at 0 the signal's own. `unknown` had no price then."""

    after_ms: int
    edge: Mean
    edge_traded: Mean
    unknown: int


@frozen
class Group:
    """The trades of one exit reason or one market."""

    name: str
    trades: int
    pnl_usd: Decimal
    net: Mean


@frozen
class Report:
    """Everything that a view shows. `caveats` are sentences that every view must show."""

    input: ReportInput = field(repr=False)
    trades: tuple[TradeFigures, ...]
    totals: Totals
    missed: tuple[MissedStop, ...]
    fate: SignalFate
    decay: tuple[DecayPoint, ...]
    by_exit: tuple[Group, ...]
    by_coin: tuple[Group, ...]
    checkpoints: tuple[Judged, ...]
    decision: Decision
    caveats: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """No trade, no order, no signal: there is nothing to report."""
        return not self.trades and not self.fate.total and self.totals.entries == OrderCounts()


def make_report(given: ReportInput) -> Report:
    """The report of the records given."""
    since = given.since_ms if given.since_ms is not None else 0
    last = last_results(given.results)
    chosen = [t for t in given.trades if t.exit_ms >= since]
    figures = trade_figures(chosen, given.intents, last, given.transitions)
    intents = [i for i in given.intents if i.created_ms >= since]
    signals = [s for s in given.signals if s.detected_ms >= since]
    recent = [t for t in given.transitions if t.at_ms >= since]
    left = left_overdue(given.trades, recent)
    missed = missed_stops(figures, left, given.away, given.time_stop_ms, given.stop_late_ms)
    totals = _totals(figures, intents, last, len(missed), len(left))
    fate = _fate(signals, figures, intents, last)
    measures = _measures(totals, missed)
    judged = tuple(judge(checkpoint, len(figures), measures) for checkpoint in CHECKPOINTS)
    return Report(
        input=given,
        trades=figures,
        totals=totals,
        missed=missed,
        fate=fate,
        decay=_decay(signals, given.follow_ups, {f.signal_id for f in figures}),
        by_exit=_groups(figures, lambda f: f.exit_reason),
        by_coin=_groups(figures, lambda f: f.coin),
        checkpoints=judged,
        decision=decide(judged),
        caveats=(*given.notes, *_caveats(totals, fate, figures)),
    )


def equity(trades: Sequence[TradeFigures]) -> list[Decimal]:
    """The running PnL after each trade, USD after all costs."""
    return list(accumulate((t.pnl_usd for t in trades), initial=ZERO))[1:]


def _totals(
    figures: Sequence[TradeFigures],
    intents: Sequence[IntentRecord],
    last: Mapping[str, ResultRecord],
    missed: int,
    left: int,
) -> Totals:
    """`left`: positions overdue and never ended, which are missed stops and failed closes too."""
    n = len(figures)
    flat_times = [f.flat_time_ms for f in figures if f.flat_time_ms is not None]
    closed = [f for f in figures if f.flat_time_ms is not None or f.flatten_failed]
    in_time = sum(not f.flatten_failed and (f.flat_time_ms or 0) <= FLATTEN_DEADLINE_MS for f in closed)
    return Totals(
        trades=n,
        wins=rate_of(sum(f.pnl_usd > 0 for f in figures), n),
        pnl_usd=_sum(f.pnl_usd for f in figures),
        fees_usd=_sum(f.fees_usd for f in figures),
        funding_usd=_sum(f.funding_usd for f in figures),
        volume_usd=_sum(f.volume_usd for f in figures),
        drawdown_usd=_drawdown(equity(figures)),
        expected=mean_of(f.expected_edge_bps for f in figures if f.expected_edge_bps is not None),
        actual=mean_of(f.actual_edge_bps for f in figures),
        slippage=mean_of(f.slippage_bps for f in figures if f.slippage_bps is not None),
        net=mean_of(f.net_edge_bps for f in figures),
        pnl=mean_of(f.pnl_usd for f in figures),
        holding_ms=mean_of(Decimal(f.holding_ms) for f in figures),
        flat_time_ms=mean_of(map(Decimal, flat_times)),
        entries=count_orders((i for i in intents if not i.reduce_only), last),
        closes=count_orders((i for i in intents if i.reduce_only), last),
        missed_stops=rate_of(missed, n + left),
        flatten_success=rate_of(in_time, len(closed) + left),
    )


def _sum(values: Iterable[Decimal]) -> Decimal:
    return sum(sorted(values), ZERO)


def _drawdown(curve: Sequence[Decimal]) -> Decimal:
    high = worst = ZERO
    for value in curve:
        high = max(high, value)
        worst = max(worst, high - value)
    return worst


def _measures(t: Totals, missed: Sequence[MissedStop]) -> dict[Measure, Measured]:
    entries = t.entries.rate
    low, high = t.pnl.low, t.pnl.high
    return {
        Measure.FILL_RATE: Measured(entries.n, entries.rate, entries.low, entries.high),
        Measure.SLIPPAGE: _measured(t.slippage),
        Measure.PNL: Measured(
            t.trades,
            t.pnl_usd if t.trades else None,
            None if low is None else low * t.trades,
            None if high is None else high * t.trades,
        ),
        Measure.ACTUAL_EDGE: _measured(t.actual),
        Measure.NET_EDGE: _measured(t.net),
        Measure.MISSED_STOPS: Measured(
            t.trades, Decimal(t.missed_stops.k) if t.missed_stops.n else None, said=_while_away(missed)
        ),
        Measure.FLATTEN_SUCCESS: Measured(
            t.flatten_success.n, t.flatten_success.rate, t.flatten_success.low, t.flatten_success.high
        ),
    }


def _while_away(missed: Sequence[MissedStop]) -> str:
    """What a person wants to know beside the count; empty where nothing was missed."""
    away = sum(m.while_away for m in missed)
    return f"{away} of them due while no bot ran" if missed else ""


def _measured(mean: Mean) -> Measured:
    return Measured(mean.n, mean.mean, mean.low, mean.high)


def _fate(
    signals: Sequence[SignalRecord],
    figures: Sequence[TradeFigures],
    intents: Sequence[IntentRecord],
    last: Mapping[str, ResultRecord],
) -> SignalFate:
    """A signal counts as traded when its entry was executed, its trade finished or not."""
    finished = {f.signal_id for f in figures if f.signal_id is not None}
    orders: dict[str, list[IntentRecord]] = defaultdict(list)
    for intent in intents:
        if intent.signal_id is not None and not intent.reduce_only:
            orders[intent.signal_id].append(intent)
    reasons = Counter(_reason(s, finished, count_orders(orders.get(s.signal_id, ()), last)) for s in signals)
    traded = reasons.pop(TRADED, 0)
    listed = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return SignalFate(len(signals), rate_of(traded, len(signals)), tuple(listed))


def _reason(signal: SignalRecord, finished: set[str], counts: OrderCounts) -> str:
    """Why a signal was not traded: the gates' verdict, or what became of its order."""
    if signal.signal_id in finished or counts.accepted:
        return TRADED
    if counts.rejected:
        return "order refused or without a match"
    if counts.timed_out:
        return "order without an answer, or never admitted"
    if counts.open:
        return "order still on its way"
    return NOT_SENT if signal.cloid is not None else signal.verdict


def _decay(
    signals: Sequence[SignalRecord], follow_ups: Iterable[FollowUpRecord], traded: set[str | None]
) -> tuple[DecayPoint, ...]:
    known = {s.signal_id for s in signals}
    points: dict[int, list[tuple[str, Decimal | None]]] = defaultdict(list)
    for record in {(f.signal_id, f.after_ms): f for f in follow_ups}.values():
        if record.signal_id in known:
            points[record.after_ms].append((record.signal_id, record.edge_bps))
    if points:
        points[0] = [(s.signal_id, s.edge_bps) for s in signals]
    return tuple(
        DecayPoint(
            after_ms,
            mean_of(edge for _, edge in values if edge is not None),
            mean_of(edge for signal_id, edge in values if edge is not None and signal_id in traded),
            sum(edge is None for _, edge in values),
        )
        for after_ms, values in sorted(points.items())
    )


def _groups(figures: Sequence[TradeFigures], name: Callable[[TradeFigures], str]) -> tuple[Group, ...]:
    grouped: dict[str, list[TradeFigures]] = defaultdict(list)
    for trade in figures:
        grouped[name(trade)].append(trade)
    rows = [
        Group(key, len(members), _sum(f.pnl_usd for f in members), mean_of(f.net_edge_bps for f in members))
        for key, members in grouped.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.trades, row.name)))


def _caveats(t: Totals, fate: SignalFate, figures: Sequence[TradeFigures]) -> list[str]:
    """JRN-3: what the numbers cannot say, in sentences."""
    said: list[str] = []
    if t.trades == 0:
        said.append("No trade has finished: there is no edge, no slippage and no PnL to speak of.")
    elif t.trades == 1:
        said.append("One trade is an anecdote: it has no interval, and nothing follows from it.")
    elif t.net.low is None:
        said.append("All trades ended alike: there is no spread to take an interval from.")
    elif t.net.includes_zero:
        said.append("The interval of the edge after cost includes zero: these trades do not show that there is an edge.")
    if t.trades >= 2 and t.pnl_usd > 0 and max(f.pnl_usd for f in figures) >= t.pnl_usd:
        said.append("Without its best trade the PnL is not positive.")
    if t.net.mean is not None and t.net.mean * t.pnl_usd < 0:
        said.append("Mean edge after cost and PnL have opposite signs: small and large trades did not fare alike.")
    if fate.traded.k < fate.total:
        left = fate.total - fate.traded.k
        said.append(f"{left} of {fate.total} signals were not traded; the means of trades say nothing about those.")
    return [*said, *_gaps(t, figures)]


def _gaps(t: Totals, figures: Sequence[TradeFigures]) -> list[str]:
    """What the records lack, so that a mean is of fewer trades than there are."""
    said: list[str] = []
    lacking, timeless = t.trades - t.expected.n, t.trades - t.flat_time_ms.n
    if lacking:
        said.append(
            f"{lacking} of {t.trades} trades have no expected edge, their signal is not known: slippage is without them."
        )
    if timeless:
        said.append(
            f"{timeless} of {t.trades} trades have no flat time, no closing order of theirs is known (the way out, the "
            "venue or someone else closed them): flatten success is without those that were not overdue."
        )
    unfunded = sum(f.entry_ms // HOUR_MS != f.exit_ms // HOUR_MS and not f.funding_usd for f in figures)
    if unfunded:
        said.append(
            f"{unfunded} of {t.trades} trades were held when an hour ended and funding was due, and have none on record: "
            "the rate was nothing, or the payment was not seen."
        )
    if t.entries.open:
        said.append(f"{t.entries.open} entries had not ended where the records end: the fill rate is without them.")
    return said
