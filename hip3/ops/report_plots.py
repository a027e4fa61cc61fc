"""The four plots of the report's page, by plotly: equity, edges, slippage, edge decay. Each says in words what it shows.

Decimals become floats here and nowhere before: a plot is for the eye. A plot that has nothing to show is not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]  # it ships no type information
from attrs import frozen

from hip3.cli.words import EXIT_WORDS, bps_text, usd_text
from hip3.core.checkpoints import CHECKPOINTS, Measure
from hip3.core.intervals import Mean
from hip3.core.report import Report, equity
from hip3.core.trade_figures import TradeFigures
from hip3.ops.report_view import time_text

BLUE, ORANGE, GREY = "#2f6fde", "#c2570c", "#7a8594"
"""Distinct for colour-blind eyes and in grey print; both read on white and on near black."""
GRID = "rgba(122,133,148,0.25)"
HEIGHT = 340
LABELS_PX, LEGEND_PX = 32, 52
"""Room above a plot: for one line of labels; for a legend, which takes two lines on a telephone."""
BINS = 30
NEAR_USD = 2.5
"""The limits of PnL are drawn once the curve has come this near to them or below; else they would flatten it."""


@frozen
class Plot:
    """`caption` says in words what there is to see, for those who cannot see it too."""

    name: str
    title: str
    caption: str
    figure: go.Figure | None
    """None where there is nothing to draw; `caption` says why."""


def plots(report: Report) -> tuple[Plot, ...]:
    """Equity, edge expected against actual, slippage distribution, edge decay (JRN-2)."""
    return (equity_plot(report), edges_plot(report), slippage_plot(report), decay_plot(report))


def equity_plot(report: Report) -> Plot:
    """The running PnL by number of trade."""
    curve = [Decimal(0), *equity(report.trades)]
    title = "Equity after all costs, USD"
    if not report.trades:
        return Plot("equity", title, "No trade has finished: there is no equity curve.", None)
    texts = ["start", *(_trade_text(t) for t in report.trades)]
    ys = [float(v) for v in curve]
    line = go.Scatter(
        x=list(range(len(curve))), y=ys, mode="lines+markers", line={"color": BLUE, "width": 2, "shape": "hv"},
        marker={"size": 4}, text=texts, hovertemplate="%{text}<br>sum %{y:+.4f} USD<extra></extra>", name="PnL",
    )  # fmt: skip
    figure = _figure([line], "trade", "USD")
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    for limit, words in _pnl_limits():
        if min(ys) <= limit + NEAR_USD:
            figure.add_hline(y=limit, line={"color": ORANGE, "dash": "dash", "width": 1}, annotation_text=words)
    t = report.totals
    caption = (
        f"{t.trades} trades end at {usd_text(t.pnl_usd, sign=True)} USD; highest {usd_text(max(curve), sign=True)}, "
        f"lowest {usd_text(min(curve), sign=True)}, largest fall from a high {usd_text(t.drawdown_usd)} USD."
    )
    return Plot("equity", title, caption, figure)


def _pnl_limits() -> list[tuple[float, str]]:
    rules = [rule for c in CHECKPOINTS for rule in c.rules if rule.measure is Measure.PNL]
    stops = [(float(rule.stop), "stop limit") for rule in rules if rule.stop is not None]
    return [*((float(rule.limit), "limit at 50 trades") for rule in rules), *stops]


def edges_plot(report: Report) -> Plot:
    """Expected against actual edge, before costs; on the line is as expected."""
    title = "Edge, expected against actual, bps"
    known = [t for t in report.trades if t.expected_edge_bps is not None]
    if not known:
        return Plot("edges", title, "No finished trade has an expected edge.", None)
    marks = [
        _edge_marks([t for t in known if t.pnl_usd > 0], "won after costs", BLUE, "circle"),
        _edge_marks([t for t in known if t.pnl_usd <= 0], "lost after costs", ORANGE, "x"),
    ]
    figure = _figure([m for m in marks if m is not None], "expected edge, bps", "actual edge, bps")
    expected = [float(t.expected_edge_bps or 0) for t in known]
    low, high = min(0.0, *expected), max(0.0, *expected)
    figure.add_shape(type="line", x0=low, y0=low, x1=high, y1=high, line={"color": GREY, "dash": "dot", "width": 1})
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    worse = sum(t.actual_edge_bps < t.expected_edge_bps for t in known if t.expected_edge_bps is not None)
    caption = f"{worse} of {len(known)} trades lie below the dotted line: their edge was smaller than expected."
    return Plot("edges", title, caption, figure)


def _edge_marks(trades: Sequence[TradeFigures], name: str, colour: str, symbol: str) -> Any:
    if not trades:
        return None
    return go.Scatter(
        x=[float(t.expected_edge_bps or 0) for t in trades], y=[float(t.actual_edge_bps) for t in trades], name=name,
        mode="markers", marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.85},
        text=[_trade_text(t) for t in trades],
        hovertemplate="%{text}<br>expected %{x:+.1f}, actual %{y:+.1f} bps<extra></extra>",
    )  # fmt: skip


def slippage_plot(report: Report) -> Plot:
    """How the slippage is distributed, with its mean and the limit of the first checkpoint."""
    title = "Slippage (expected - actual edge), bps"
    values = [t.slippage_bps for t in report.trades if t.slippage_bps is not None]
    if not values:
        return Plot("slippage", title, "No finished trade has an expected edge: slippage is not known.", None)
    bars = go.Histogram(
        x=[float(v) for v in values], nbinsx=BINS, marker={"color": BLUE, "opacity": 0.85}, name="trades",
        hovertemplate="%{x} bps: %{y} trades<extra></extra>",
    )  # fmt: skip
    figure = _figure([bars], "slippage, bps (right is worse)", "trades", top=LABELS_PX)
    limit = next(rule.limit for c in CHECKPOINTS for rule in c.rules if rule.measure is Measure.SLIPPAGE)
    mean = report.totals.slippage
    assert mean.mean is not None
    dashed, full = {"color": ORANGE, "dash": "dash", "width": 1}, {"color": GREY, "width": 2}
    outwards = ("right", "left") if mean.mean <= limit else ("left", "right")
    figure.add_vline(x=float(mean.mean), line=full, annotation=_label("mean", outwards[0]))
    figure.add_vline(x=float(limit), line=dashed, annotation=_label("limit of the mean", outwards[1]))
    caption = f"Mean {mean_words(mean)}; smallest {bps_text(min(values))}, largest {bps_text(max(values))} bps."
    return Plot("slippage", title, caption, figure)


def decay_plot(report: Report) -> Plot:
    """The edge after its signal, with intervals, of all signals and of those traded."""
    title = "Edge after the signal, bps"
    if not report.decay:
        return Plot("decay", title, "No signal has a follow-up on record.", None)
    lines = [
        _decay_line([(p.after_ms, p.edge) for p in report.decay], "all signals", BLUE, -0.04),
        _decay_line([(p.after_ms, p.edge_traded) for p in report.decay], "traded", ORANGE, 0.04),
    ]
    figure = _figure([line for line in lines if line is not None], "seconds after the signal", "mean edge, bps")
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    said = [f"{p.after_ms / 1000:g} s: {mean_words(p.edge)}" for p in report.decay if p.edge.mean is not None]
    return Plot("decay", title, f"Mean edge of all signals, bars are 95 % intervals. {'; '.join(said)}.", figure)


def _decay_line(points: Sequence[tuple[int, Mean]], name: str, colour: str, beside: float) -> Any:
    """`beside` moves a line a little in time, so that the bars of two do not cover each other."""
    known = [(ms, m) for ms, m in points if m.mean is not None]
    if not known:
        return None
    half = [float((m.high - m.low) / 2) if m.high is not None and m.low is not None else 0.0 for _, m in known]
    return go.Scatter(
        x=[ms / 1000 + beside for ms, _ in known], y=[float(m.mean or 0) for _, m in known], mode="lines+markers", name=name,
        error_y={"type": "data", "array": half, "thickness": 1.2, "width": 4}, line={"color": colour, "width": 2},
        text=[f"{name}, {ms / 1000:g} s, n {m.n}" for ms, m in known],
        hovertemplate="%{text}: %{y:+.1f} bps<extra></extra>",
    )  # fmt: skip


def mean_words(mean: Mean) -> str:
    """`+3.1 bps (+1.0 to +5.2, n 34)`, in bps."""
    assert mean.mean is not None
    span = "no interval" if mean.low is None or mean.high is None else f"{bps_text(mean.low)} to {bps_text(mean.high)}"
    return f"{bps_text(mean.mean)} bps ({span}, n {mean.n})"


def _trade_text(t: TradeFigures) -> str:
    reason = EXIT_WORDS.get(t.exit_reason, t.exit_reason)
    return f"{t.coin} {time_text(t.exit_ms)} UTC, {reason}, {usd_text(t.pnl_usd, sign=True)} USD"


def _label(text: str, anchor: str) -> dict[str, object]:
    """The label of an upright line, above the plot and not over its bars; `anchor` is its side towards the line."""
    return {"text": text, "y": 1, "yanchor": "bottom", "xanchor": anchor, "showarrow": False}


def _figure(traces: Sequence[Any], x: str, y: str, *, top: int = 24) -> go.Figure:
    """Without a background of its own: the page's colours show through, and its script sets that of the text."""
    figure = go.Figure(list(traces))
    figure.update_layout(
        template="none",
        height=HEIGHT,
        margin={"l": 56, "r": 16, "t": LEGEND_PX if len(traces) > 1 else top, "b": 58},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        showlegend=len(traces) > 1,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        bargap=0.05,
    )
    figure.update_xaxes(title=x, zeroline=False, showline=True, linecolor=GREY, ticks="outside", gridcolor=GRID)
    figure.update_yaxes(title=y, zeroline=False, gridcolor=GRID)
    return figure
