"""A report for machines: one object, ready for `json.dumps(..., sort_keys=True)`. Reads a report and decides nothing.

Money, edges and rates are numbers rounded to six decimals; null where there was nothing to take them of. Each mean holds
its n and interval, and the share of signals not traded (JRN-3).
"""

from __future__ import annotations

from decimal import Decimal

from hip3.core.checkpoints import Finding, Judged
from hip3.core.intervals import Mean, Rate
from hip3.core.missed import MissedStop
from hip3.core.report import DecayPoint, Group, Report
from hip3.core.trade_figures import OrderCounts, TradeFigures
from hip3.ops.report_view import headline


def report_object(report: Report) -> dict[str, object]:
    """The whole report."""
    given, totals, fate = report.input, report.totals, report.fate
    share = number(None if fate.traded.rate is None else 1 - fate.traded.rate)

    def mean(m: Mean) -> dict[str, object]:
        interval = {"n": m.n, "mean": number(m.mean), "low": number(m.low), "high": number(m.high)}
        return {**interval, "not_traded_share": share}

    return {
        "decision": report.decision.value,
        "reason": headline(report),
        "caveats": list(report.caveats),
        "network": given.network,
        "account": given.account,
        "runs": list(given.runs),
        "source": given.source,
        "since_ms": given.since_ms,
        "checkpoints": [_checkpoint(j) for j in report.checkpoints],
        "totals": {
            "trades": totals.trades,
            "pnl_usd": number(totals.pnl_usd),
            "fees_usd": number(totals.fees_usd),
            "funding_usd": number(totals.funding_usd),
            "volume_usd": number(totals.volume_usd),
            "drawdown_usd": number(totals.drawdown_usd),
            "wins": _rate(totals.wins),
            "entries": _orders(totals.entries),
            "closes": _orders(totals.closes),
            "missed_stops": _rate(totals.missed_stops),
            "flatten_success": _rate(totals.flatten_success),
        },
        "means": {
            "expected_edge_bps": mean(totals.expected),
            "actual_edge_bps": mean(totals.actual),
            "slippage_bps": mean(totals.slippage),
            "net_edge_bps": mean(totals.net),
            "pnl_usd": mean(totals.pnl),
            "holding_ms": mean(totals.holding_ms),
            "flat_time_ms": mean(totals.flat_time_ms),
        },
        "missed_stops": [_missed(m) for m in report.missed],
        "signals": {"total": fate.total, "traded": _rate(fate.traded), "not_traded": dict(fate.reasons)},
        "decay": [_decay(p) for p in report.decay],
        "by_exit": [_group(g) for g in report.by_exit],
        "by_market": [_group(g) for g in report.by_coin],
        "trades": [_trade(t) for t in report.trades],
    }


def number(value: Decimal | None) -> float | None:
    """For other tools only; nothing of it comes back to the wire (TYP-1)."""
    return None if value is None else round(float(value), 6)


def _rate(r: Rate) -> dict[str, object]:
    return {"k": r.k, "n": r.n, "rate": number(r.rate), "low": number(r.low), "high": number(r.high)}


def _orders(o: OrderCounts) -> dict[str, object]:
    counts = {"accepted": o.accepted, "rejected": o.rejected, "timed_out": o.timed_out, "open": o.open}
    return {**counts, "fill_rate": _rate(o.rate)}


def _checkpoint(j: Judged) -> dict[str, object]:
    return {
        "name": j.checkpoint.name,
        "trades": j.checkpoint.trades,
        "verdict": j.judgement.value,
        "missing": j.missing,
        "criteria": [_finding(f) for f in j.findings],
    }


def _finding(f: Finding) -> dict[str, object]:
    return {
        "criterion": f.rule.text,
        "measure": f.rule.measure.name.lower(),
        "value": number(f.measured.value),
        "low": number(f.measured.low),
        "high": number(f.measured.high),
        "n": f.measured.n,
        "verdict": f.judgement.value,
        "missing": f.missing,
        "remark": f.remark,
        "clear": f.is_clear,
    }


def _mean(m: Mean) -> dict[str, object]:
    return {"n": m.n, "mean": number(m.mean), "low": number(m.low), "high": number(m.high)}


def _decay(p: DecayPoint) -> dict[str, object]:
    return {
        "after_ms": p.after_ms,
        "edge_bps": _mean(p.edge),
        "traded_edge_bps": _mean(p.edge_traded),
        "no_price": p.unknown,
    }


def _group(g: Group) -> dict[str, object]:
    return {"name": g.name, "trades": g.trades, "pnl_usd": number(g.pnl_usd), "net_edge_bps": _mean(g.net)}


def _missed(m: MissedStop) -> dict[str, object]:
    return {
        "coin": m.coin,
        "side": m.side,
        "due_ms": m.due_ms,
        "exit_ms": m.exit_ms,
        "late_ms": m.late_ms,
        "no_bot_ms": m.away_ms,
        "while_no_bot_ran": m.while_away,
        "exit_reason": m.exit_reason,
    }


def _trade(t: TradeFigures) -> dict[str, object]:
    return {
        "coin": t.coin,
        "side": t.side,
        "signal": t.signal_id,
        "entry_ms": t.entry_ms,
        "exit_ms": t.exit_ms,
        "holding_ms": t.holding_ms,
        "notional_usd": number(t.notional_usd),
        "expected_edge_bps": number(t.expected_edge_bps),
        "actual_edge_bps": number(t.actual_edge_bps),
        "slippage_bps": number(t.slippage_bps),
        "net_edge_bps": number(t.net_edge_bps),
        "fill_rate": _rate(t.orders.rate),
        "flat_time_ms": t.flat_time_ms,
        "flatten_failed": t.flatten_failed,
        "fees_usd": number(t.fees_usd),
        "funding_usd": number(t.funding_usd),
        "pnl_usd": number(t.pnl_usd),
        "exit_reason": t.exit_reason,
    }
