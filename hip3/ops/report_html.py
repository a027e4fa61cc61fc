"""The report as one self-contained page: verdict, caveats, checkpoints, plots, tables. No network, ever.

plotly.js is inlined, and the page's own policy forbids it to load anything. What the page says is what the terminal says
(`hip3.ops.report_view`). Text of others is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from hip3.core.checkpoints import Decision, Judgement
from hip3.core.report import Report
from hip3.ops.report_plots import Plot, plots
from hip3.ops.report_view import Sheet, checkpoint_sheet, headline, number_sheets, origin_lines, trades_sheet

_TONES = {
    Decision.GO: "pass",
    Decision.NOT_YET: "wait",
    Decision.NO_GO: "fail",
    Decision.STOP: "fail",
}
_JUDGED = {
    Judgement.PASSED: "pass",
    Judgement.NOT_YET: "wait",
    Judgement.FAIL: "fail",
    Judgement.STOP: "fail",
}
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #566272; --page: #f6f7f9; --card: #ffffff; --line: #d9dee5;
  --pass: #15703c; --wait: #8a5a00; --fail: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #a3afbf; --page: #12161c; --card: #1a2029;
  --line: #323c49; --pass: #5fd08a; --wait: #f0b84a; --fail: #ff8a80; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --page: #fff; --card: #fff; --line: #bbb;
  --pass: #15703c; --wait: #8a5a00; --fail: #b3261e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 17px; font-weight: 600; margin: 0; color: var(--soft); }
h2 { font-size: 19px; margin: 36px 0 10px; }
h3 { font-size: 15px; margin: 0 0 8px; }
.soft, .note, figcaption { color: var(--soft); font-size: 13px; }
.note, figcaption { margin: 6px 0 0; }
.decision { font-size: 44px; font-weight: 750; line-height: 1.15; margin: 6px 0 2px; letter-spacing: -0.01em; }
.pass { color: var(--pass); } .wait { color: var(--wait); } .fail { color: var(--fail); }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  margin: 0 0 14px; }
.caveats { border-left: 4px solid var(--wait); }
.caveats ul { margin: 0; padding-left: 20px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 14px; }
.plots figure { margin: 0; min-width: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13.5px; }
caption { text-align: left; font-weight: 600; padding: 0 0 6px; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
th.word, td.word { text-align: left; white-space: normal; min-width: 15em; }
tr:last-child td { border-bottom: 0; }
th.short, td.short { white-space: nowrap; min-width: 0; }
@media print { main { max-width: none; padding: 0; } h2, h3, caption { break-after: avoid; }
  .plots { grid-template-columns: 1fr 1fr; }
  .card, figure, tr { break-inside: avoid; } .modebar { display: none; } .wide { overflow: visible; }
  table { font-size: 10px; } th, td { padding: 2px 5px; } th.word, td.word { min-width: 0; } }
"""

SHORT = 22
"""Characters of a cell that stays on one line."""
PRINTED_PX = 305
"""Width of a plot on paper: two beside each other, with their frames, on A4 and Letter."""
_SCRIPT = f"""
(function () {{
  var dark = window.matchMedia('(prefers-color-scheme: dark)');
  var plots = document.querySelectorAll('.js-plotly-plot');
  function paint(isDark, size) {{
    plots.forEach(function (plot) {{
      Plotly.relayout(plot, Object.assign({{ 'font.color': isDark ? '#e6eaf0' : '#1b2430' }}, size));
    }});
  }}
  function show() {{
    paint(dark.matches, {{ autosize: true, width: null }});
    plots.forEach(function (plot) {{ Plotly.Plots.resize(plot); }});
  }}
  show();
  dark.addEventListener('change', show);
  window.addEventListener('beforeprint', function () {{ paint(false, {{ autosize: false, width: {PRINTED_PX} }}); }});
  window.addEventListener('afterprint', show);
}})();
"""


def report_page(report: Report) -> str:
    """The whole page as text; about 5 MB, nearly all of it plotly.js, where there is a plot."""
    word = report.decision.value
    drawn = plots(report)
    shown = f"hip3 report: {word}"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(shown)}</title><style>{_STYLE}</style></head><body><main>",
        "<header><h1>hip3: go or no-go</h1>",
        f'<p class="decision {_TONES[report.decision]}">{escape(word)}</p><p>{escape(headline(report))}</p>',
        *(f'<div class="soft">{escape(line)}</div>' for line in origin_lines(report)),
        "</header><h2>What these numbers cannot say</h2>",
        f'<div class="card caveats"><ul>{"".join(f"<li>{escape(c)}</li>" for c in report.caveats)}</ul></div>',
        "<h2>Checkpoints</h2>",
        *(_card(checkpoint_sheet(j), _JUDGED[j.judgement]) for j in report.checkpoints),
        '<h2>Plots</h2><div class="plots">',
        *_figures(drawn),
        "</div><h2>Numbers</h2>",
        *map(_card, (*number_sheets(report), trades_sheet(report))),
        "</main>",
        f"<script>{_SCRIPT}</script>" if any(p.figure is not None for p in drawn) else "",
        "</body></html>\n",
    ]
    return "".join(parts)


def _figures(drawn: Iterable[Plot]) -> Iterable[str]:
    """Each plot with its caption; plotly.js comes with the first that is drawn."""
    has_library = False
    for plot in drawn:
        body = ""
        if plot.figure is not None:
            html = plot.figure.to_html(
                full_html=False,
                include_plotlyjs=not has_library,
                div_id=f"plot-{plot.name}",
                config={"displaylogo": False, "responsive": True, "displayModeBar": False},
            )
            body = f'<div role="img" aria-label="{escape(plot.title)}. {escape(plot.caption)}">{html}</div>'
            has_library = True
        yield f"<figure><h3>{escape(plot.title)}</h3>{body}<figcaption>{escape(plot.caption)}</figcaption></figure>"


def _card(sheet: Sheet, tone: str = "") -> str:
    """A table; nothing for one without rows."""
    if not sheet.rows:
        return ""
    kinds = [_kind(column in sheet.words, cells) for column, *cells in zip(sheet.columns, *sheet.rows, strict=True)]
    head = "".join(f'<th scope="col"{kind}>{escape(c)}</th>' for c, kind in zip(sheet.columns, kinds, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in sheet.rows
    )
    caption = f'<caption class="{tone}">{escape(sheet.title)}</caption>'
    note = f'<p class="note">{escape(sheet.note)}</p>' if sheet.note else ""
    table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<section class="card"><div class="wide">{table}</div>{note}</section>'


def _kind(is_word: bool, cells: Iterable[str]) -> str:
    """The class of a column: words are aligned left, and wrap only where one is long."""
    if not is_word:
        return ""
    return ' class="word"' if any(len(cell) > SHORT for cell in cells) else ' class="word short"'
