"""A report as words and tables of text, for the terminal and the page alike: what one says, the other says (JRN-2, JRN-3).

No mean stands without its interval, its n and the share of signals that were not traded. What is not known is `-`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import UTC, datetime
from decimal import Decimal

from attrs import evolve, frozen

from hip3.cli.words import EXIT_WORDS, bps_text, duration_text, usd_text, verdict_words
from hip3.core.checkpoints import Decision, Finding, Judged, Judgement, Measure, Measured
from hip3.core.intervals import Mean, Rate
from hip3.core.records import NOT_JUDGED, REPLACED
from hip3.core.report import Group, Report
from hip3.core.trade_figures import OrderCounts, TradeFigures

UNKNOWN = "-"
TRADES_SHOWN = 200
TRADE_COLUMNS_NARROW = frozenset({"end, UTC", "market", "side", "expected", "actual", "PnL", "held s", "exit"})
"""Those of a trade that fit in 80 columns."""
_VERDICTS = {NOT_JUDGED: "no gate was asked", REPLACED: "a newer signal took its place"}


@frozen
class Sheet:
    """A table as text. `words` are the columns that hold words and are aligned left; the others hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[str]
    note: str = ""

    def only(self, columns: Container[str]) -> Sheet:
        """The same with these columns alone."""
        kept = [n for n, name in enumerate(self.columns) if name in columns]
        rows = tuple(tuple(row[n] for n in kept) for row in self.rows)
        return evolve(self, columns=tuple(self.columns[n] for n in kept), rows=rows)


# ---- the verdict


def headline(report: Report) -> str:
    """The decision's reason in one sentence."""
    found = [(j, f) for j in report.checkpoints for f in j.findings]
    if report.decision is Decision.GO:
        unsure = [f for _, f in found if not f.is_clear]
        words = "every checkpoint and the gate of phase C pass"
        if unsure:
            named = ", ".join(dict.fromkeys(f.rule.measure.words for f in unsure))
            return f"{words}, but the interval does not bear out: {named}"
        return words
    if report.decision is Decision.NOT_YET:
        gate = report.checkpoints[-1]
        lacking = dict.fromkeys(f.rule.measure.words for _, f in found if f.measured.value is None)
        return f"{_more(gate.missing)} to the gate of phase C" + (
            f"; nothing on record for: {', '.join(lacking)}" if lacking else ""
        )
    wanted = Judgement.STOP if report.decision is Decision.STOP else Judgement.FAIL
    return "; ".join(f"{j.checkpoint.name}: {_said(f)}" for j, f in found if f.judgement is wanted)


def _said(finding: Finding) -> str:
    measure = finding.rule.measure
    return f"{measure.words} is {value_text(measure, finding.measured.value)}, wanted {finding.rule.text}"


def _more(missing: int) -> str:
    return f"{missing} more {'trade' if missing == 1 else 'trades'} at least"


def verdict_text(judgement: Judgement, missing: int) -> str:
    """`PASS`, or `NOT YET, 9 missing`."""
    return f"{judgement.value}, {missing} missing" if judgement is Judgement.NOT_YET else judgement.value


def checkpoint_sheet(judged: Judged) -> Sheet:
    """One checkpoint: its criteria with value, interval, n, verdict and what the interval takes back."""
    rows = tuple(
        (
            f.rule.text,
            value_text(f.rule.measure, f.measured.value),
            _interval_text(f.rule.measure, f.measured),
            str(f.measured.n),
            verdict_text(f.judgement, f.missing),
            f.remark,
        )
        for f in judged.findings
    )
    title = f"{judged.checkpoint.name}: {verdict_text(judged.judgement, judged.missing)}"
    return Sheet(
        title,
        ("criterion", "value", "95 % interval", "n", "verdict", "remark"),
        rows,
        _words("criterion", "verdict", "remark"),
    )


def value_text(measure: Measure, value: Decimal | None) -> str:
    """A value in the unit of its measure."""
    if value is None:
        return UNKNOWN
    if measure.unit == "bps":
        return bps_text(value)
    if measure.unit == "USD":
        return usd_text(value, sign=True)
    return f"{value:f}" if measure is Measure.MISSED_STOPS else f"{value:.3f}"


def _interval_text(measure: Measure, m: Measured) -> str:
    if m.low is None or m.high is None:
        return UNKNOWN
    return f"{value_text(measure, m.low)} to {value_text(measure, m.high)}"


# ---- the figures


def number_sheets(report: Report) -> tuple[Sheet, ...]:
    """All tables but the checkpoints and the trades, in the order in which they are shown."""
    return (
        figures_sheet(report),
        rates_sheet(report),
        missed_sheet(report),
        money_sheet(report),
        fate_sheet(report),
        decay_sheet(report),
        *group_sheets(report),
    )


def figures_sheet(report: Report) -> Sheet:
    """Means, each with its interval, its n, and the share of signals not traded beside it (JRN-3)."""
    t = report.totals
    beside = not_traded_text(report)
    means: list[tuple[str, Mean, str]] = [
        ("expected edge, bps", t.expected, "bps"),
        ("actual edge, bps", t.actual, "bps"),
        ("slippage (expected - actual), bps", t.slippage, "bps"),
        ("edge after cost, bps", t.net, "bps"),
        ("PnL of a trade, USD", t.pnl, "usd"),
        ("holding time, s", t.holding_ms, "s"),
        ("flat time, s", t.flat_time_ms, "s"),
    ]
    rows = [(name, _number(mean.mean, unit), _span(mean, unit), str(mean.n), beside) for name, mean, unit in means]
    return Sheet(
        "Means of trades",
        ("figure", "mean", "95 % interval", "n", "signals not traded"),
        tuple(rows),
        _words("figure"),
        "Edges are before costs but for the edge after cost; each trade weighs the same, whatever its size. Intervals are "
        "Student's; they take the trades as independent.",
    )


def rates_sheet(report: Report) -> Sheet:
    """Rates with Wilson's interval."""
    t = report.totals
    rates = [
        ("fill rate of entries", t.entries.rate),
        ("fill rate of closes", t.closes.rate),
        ("signals traded", report.fate.traded),
        ("trades won", t.wins),
        ("stops missed", t.missed_stops),
        ("flatten success", t.flatten_success),
    ]
    rows = tuple((name, f"{r.k} of {r.n}", rate_text(r), _rate_span(r)) for name, r in rates)
    return Sheet("Rates", ("rate", "count", "value", "95 % interval"), rows, _words("rate"), _orders_note(t.entries))


def _orders_note(entries: OrderCounts) -> str:
    return (
        f"Entries: {entries.accepted} accepted, {entries.rejected} rejected, {entries.timed_out} timed out, "
        f"{entries.open} not ended. Accepted is one of which anything was executed."
    )


def money_sheet(report: Report) -> Sheet:
    """Sums over the selection."""
    t = report.totals
    rows = (
        ("trades", str(t.trades)),
        ("PnL after fees and funding, USD", usd_text(t.pnl_usd, sign=True)),
        ("fees, USD", usd_text(t.fees_usd)),
        ("funding, USD", usd_text(t.funding_usd, sign=True)),
        ("volume, USD", usd_text(t.volume_usd)),
        ("largest fall from a high, USD", usd_text(t.drawdown_usd)),
    )
    return Sheet("Sums", ("sum", "value"), rows, _words("sum"))


def missed_sheet(report: Report) -> Sheet:
    """Each missed stop with how long no bot ran after it was due; no row where none was missed."""
    rows = tuple(
        (
            UNKNOWN if m.due_ms is None else time_text(m.due_ms),
            m.coin,
            UNKNOWN if m.side is None else side_text(m.side),
            UNKNOWN if m.late_ms is None else duration_text(m.late_ms),
            duration_text(m.away_ms) if m.away_ms else UNKNOWN,
            "no bot ran" if m.while_away else "missed by a running bot" if m.due_ms is not None else "not ended on record",
            UNKNOWN if m.exit_reason is None else EXIT_WORDS.get(m.exit_reason, m.exit_reason),
        )
        for m in report.missed
    )
    away = sum(m.while_away for m in report.missed)
    title = f"Missed stops: {len(rows)}" + (f", of which {away} due while no bot ran" if away else "")
    columns = ("due, UTC", "market", "side", "late", "no bot ran", "why", "exit")
    note = (
        "All of them count. No bot ran from the last heartbeat of a run to the next start; a stop that was due then is told "
        "apart where the next run closed the position at once."
    )
    return Sheet(title, columns, rows, _words("due, UTC", "market", "side", "why", "exit"), note)


def fate_sheet(report: Report) -> Sheet:
    """What became of the signals, with the reasons of those not traded."""
    fate = report.fate
    rows = [("traded", str(fate.traded.k), _share(fate.traded.k, fate.total))]
    rows += [(reason_text(why), str(n), _share(n, fate.total)) for why, n in fate.reasons]
    return Sheet(
        f"Signals: {fate.total}", ("what became of them", "signals", "share"), tuple(rows), _words("what became of them")
    )


def decay_sheet(report: Report) -> Sheet:
    """The edge after its signal, of all signals and of those that were traded."""
    rows = tuple(
        (
            f"{p.after_ms / 1000:g}",
            _number(p.edge.mean, "bps"),
            _span(p.edge, "bps"),
            str(p.edge.n),
            str(p.unknown),
            _number(p.edge_traded.mean, "bps"),
            _span(p.edge_traded, "bps"),
            str(p.edge_traded.n),
        )
        for p in report.decay
    )
    columns = ("after, s", "edge, bps", "95 % interval", "n", "no price", "of traded, bps", "interval, traded", "n traded")
    return Sheet("Edge after the signal", columns, rows, frozenset(), f"Signals not traded: {not_traded_text(report)}.")


def group_sheets(report: Report) -> tuple[Sheet, ...]:
    """The trades by exit reason and by market."""
    return (
        _group_sheet("By exit", "exit", report.by_exit, report),
        _group_sheet("By market", "market", report.by_coin, report),
    )


def _group_sheet(title: str, first: str, groups: Iterable[Group], report: Report) -> Sheet:
    rows = tuple(
        (
            EXIT_WORDS.get(g.name, g.name),
            str(g.trades),
            usd_text(g.pnl_usd, sign=True),
            _number(g.net.mean, "bps"),
            _span(g.net, "bps"),
        )
        for g in groups
    )
    columns = (first, "n", "PnL, USD", "edge after cost, bps", "95 % interval")
    return Sheet(title, columns, rows, _words(first), f"Signals not traded: {not_traded_text(report)}.")


def trades_sheet(report: Report, most: int = TRADES_SHOWN) -> Sheet:
    """JRN-1: the last `most` trades, a row each."""
    shown = report.trades[-most:]
    left = len(report.trades) - len(shown)
    columns = (
        "end, UTC", "market", "side", "expected", "actual", "slippage", "after cost", "fills", "flat s", "fees", "funding",
        "PnL", "held s", "exit",
    )  # fmt: skip
    note = "Edges in bps, money in USD. Fills: orders of the trade accepted of those ended, entry and closes."
    title = f"Trades: {len(report.trades)}" + (f", the last {len(shown)}" if left else "")
    return Sheet(title, columns, tuple(map(_trade_row, shown)), _words("end, UTC", "market", "side", "exit"), note)


def _trade_row(t: TradeFigures) -> tuple[str, ...]:
    fills = t.orders.rate
    return (
        time_text(t.exit_ms)[5:],
        t.coin,
        side_text(t.side),
        _number(t.expected_edge_bps, "bps"),
        _number(t.actual_edge_bps, "bps"),
        _number(t.slippage_bps, "bps"),
        _number(t.net_edge_bps, "bps"),
        f"{fills.k}/{fills.n}" if fills.n else UNKNOWN,
        _number(None if t.flat_time_ms is None else Decimal(t.flat_time_ms), "s"),
        usd_text(t.fees_usd),
        usd_text(t.funding_usd, sign=True),
        usd_text(t.pnl_usd, sign=True),
        f"{t.holding_ms / 1000:.1f}",
        EXIT_WORDS.get(t.exit_reason, t.exit_reason),
    )


# ---- what it is of


def origin_lines(report: Report) -> list[str]:
    """Network, account, time and source: what the numbers are of."""
    given = report.input
    lines = [f"network {given.network or UNKNOWN}, account {given.account or UNKNOWN}"]
    if report.trades:
        first, last = report.trades[0].entry_ms, report.trades[-1].exit_ms
        lines.append(f"trades of {time_text(first)} to {time_text(last)} UTC, {duration_text(last - first)}")
    if given.since_ms is not None:
        lines.append(f"only what is later than {time_text(given.since_ms)} UTC: chosen by whoever asked for this report")
    runs = f"{len(given.runs)} runs" if len(given.runs) != 1 else f"run {given.runs[0]}"
    return [*lines, f"{runs}; {given.source}"]


def not_traded_text(report: Report) -> str:
    """`12 of 40 (30 %)`."""
    fate = report.fate
    left = fate.total - fate.traded.k
    return f"{left} of {fate.total} ({_share(left, fate.total)})" if fate.total else "no signal on record"


def reason_text(reason: str) -> str:
    """Why a signal was not traded, in words."""
    return _VERDICTS.get(reason) or verdict_words(reason)


def side_text(side: str) -> str:
    """Of a position, by the side of its entry."""
    return "long" if side == "BUY" else "short"


def time_text(wall_ms: int) -> str:
    """`2026-01-01 00:00:00`, UTC."""
    return f"{datetime.fromtimestamp(wall_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}"


def rate_text(rate: Rate) -> str:
    return UNKNOWN if rate.rate is None else f"{rate.rate:.3f}"


def _rate_span(rate: Rate) -> str:
    return UNKNOWN if rate.low is None or rate.high is None else f"{rate.low:.3f} to {rate.high:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}".replace("%", " %") if whole else UNKNOWN


def _number(value: Decimal | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    if unit == "s":
        return f"{value / 1000:.1f}"
    return bps_text(value) if unit == "bps" else usd_text(value, sign=True)


def _span(mean: Mean, unit: str) -> str:
    if mean.low is None or mean.high is None:
        return UNKNOWN
    zero = ", includes 0" if unit in ("bps", "usd") and mean.includes_zero else ""
    return f"{_number(mean.low, unit)} to {_number(mean.high, unit)}{zero}"


def _words(*names: str) -> frozenset[str]:
    return frozenset(names)
