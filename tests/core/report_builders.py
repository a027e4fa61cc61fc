"""Records for the tests of the report: as short as they can be, every number chosen by the test."""

from __future__ import annotations

from decimal import Decimal

from hip3.core.checkpoints import Judged, Judgement, Measure
from hip3.core.records import FollowUpRecord, IntentRecord, ResultRecord, SignalRecord, TradeRecord, Transition
from hip3.core.report import Report, ReportInput

T0 = 1_767_225_600_000
COIN = "xyz:SNDK"
TIME_STOP_MS, LATE_MS = 30_000, 7_000


def trade(
    n: int,
    *,
    pnl: str = "0.10",
    expected: str | None = "12",
    fees: str = "0.01",
    funding: str = "0",
    held_ms: int = 10_000,
    side: str = "BUY",
    coin: str = COIN,
    reason: str = "time_stop",
    signal: str | None = "",
) -> TradeRecord:
    """The nth trade, of 1 unit at 100 USD, one a minute; `pnl` is after fees and funding. 1 USD is 100 bps."""
    realized = Decimal(pnl) + Decimal(fees) - Decimal(funding)
    entry = T0 + n * 60_000
    return TradeRecord(
        coin=coin,
        side=side,
        sz=Decimal(1),
        entry_px=Decimal(100),
        exit_px=Decimal(100) + (realized if side == "BUY" else -realized),
        entry_ms=entry,
        exit_ms=entry + held_ms,
        realized_usd=realized,
        fees_usd=Decimal(fees),
        exit_reason=reason,
        funding_usd=Decimal(funding),
        signal_id=f"s-{n}" if signal == "" else signal,
        expected_edge_bps=None if expected is None else Decimal(expected),
    )


def entry(n: int, cloid: str | None = None) -> IntentRecord:
    """The entry order of the nth trade, 300 ms before its fill."""
    return order(cloid or f"e-{n}", T0 + n * 60_000 - 300, signal=f"s-{n}")


def close(n: int, after_ms: int, cloid: str | None = None, *, coin: str = COIN, trigger: str | None = None) -> IntentRecord:
    """A closing order of the nth trade, made `after_ms` after its entry."""
    return order(cloid or f"c-{n}-{after_ms}", T0 + n * 60_000 + after_ms, reduce_only=True, coin=coin, trigger=trigger)


def order(
    cloid: str,
    at_ms: int,
    *,
    reduce_only: bool = False,
    signal: str | None = None,
    coin: str = COIN,
    trigger: str | None = None,
    nonce: int = 1,
) -> IntentRecord:
    trigger_px = None if trigger is None else Decimal(trigger)
    return IntentRecord(
        cloid,
        coin,
        110_000,
        "BUY",
        Decimal(1),
        Decimal(100),
        "IOC",
        reduce_only,
        nonce,
        at_ms,
        at_ms,
        signal,
        None,
        trigger_px,
    )


def result(cloid: str, state: str, *, filled: str = "0", at_ms: int = T0, is_terminal: bool = True) -> ResultRecord:
    return ResultRecord(cloid, state, at_ms, is_terminal, filled_sz=Decimal(filled))


def filled(cloid: str, at_ms: int = T0) -> ResultRecord:
    return result(cloid, "FILLED", filled="1", at_ms=at_ms)


def signal(n: int, verdict: str = "Queued", *, edge: str = "12", cloid: str | None = "") -> SignalRecord:
    cloid = f"e-{n}" if cloid == "" else cloid
    at = T0 + n * 60_000 - 400
    return SignalRecord(
        f"s-{n}", COIN, "BUY", at, Decimal(edge), verdict, "", cloid if verdict.startswith("Queued") else None
    )


def follow_up(n: int, after_ms: int, edge: str | None) -> FollowUpRecord:
    return FollowUpRecord(f"s-{n}", after_ms, T0 + n * 60_000 + after_ms, None if edge is None else Decimal(edge))


def overdue(n: int, after_ms: int = 60_001, coin: str = COIN) -> Transition:
    """The position of the nth trade became FLATTEN_FAILED."""
    return Transition(T0 + n * 60_000 + after_ms, "position", coin, "CLOSING", "FLATTEN_FAILED", "OVERDUE")


def given(*trades: TradeRecord, **more: object) -> ReportInput:
    return ReportInput(tuple(trades), TIME_STOP_MS, LATE_MS, **more)  # type: ignore[arg-type]  # names of its own fields


def good(count: int, *, pnl: str = "0.10", rejected: int = 0) -> ReportInput:
    """`count` trades that differ a little, each entered and closed by one order; `rejected` entries found no match."""
    trades = tuple(trade(n, pnl=str(Decimal(pnl) + Decimal(n % 3) / 100)) for n in range(count))
    intents = [o for n in range(count) for o in (entry(n), close(n, 9000))]
    results = [filled(o.cloid) for o in intents]
    for n in range(rejected):
        intents.append(order(f"r-{n}", T0 + n))
        results.append(result(f"r-{n}", "REJECTED"))
    return given(*trades, intents=tuple(intents), results=tuple(results))


def checkpoint(report: Report, name: str) -> Judged:
    return next(j for j in report.checkpoints if j.checkpoint.name == name)


def judgement(report: Report, name: str, measure: Measure) -> Judgement:
    return next(f.judgement for f in checkpoint(report, name).findings if f.rule.measure is measure)
