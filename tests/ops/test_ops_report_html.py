"""The report's page: self-contained, well-formed, safe, and honest without its plots."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import attrs
import pytest

from hip3.core.report import Report, make_report
from hip3.ops.report_html import POLICY, report_page
from hip3.ops.report_plots import plots
from tests.core.report_builders import follow_up, given, good, signal, trade

VOID = {"meta", "br", "link", "input", "img", "hr"}


class Page(HTMLParser):
    """Elements in pairs, the text outside scripts, and what a page could load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.loads: list[str] = []
        self.labels: list[str] = []
        self.scripts = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.loads += [value or "" for name, value in attributes if name in ("src", "href")]
        self.labels += [value or "" for name, value in attributes if name == "aria-label"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def full_report() -> Report:
    base = good(12, rejected=3)
    signals = (*(signal(n, edge=str(10 + n)) for n in range(12)), signal(40, "Rejected(NotReady)"))
    ups = tuple(follow_up(n, ms, str(8 - n)) for n in range(12) for ms in (1000, 3000))
    return make_report(attrs.evolve(base, signals=signals, follow_ups=ups, network="paper", source="here"))


@pytest.fixture(scope="module")
def text() -> str:
    return report_page(full_report())


def test_the_page_loads_nothing_and_is_whole(text: str) -> None:
    """JRN-2: one file: plotly.js inside once, a policy that forbids the network, every element closed."""
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert f'content="{POLICY}"' in text
    assert "connect-src" not in POLICY
    assert POLICY.startswith("default-src 'none'")
    assert len(re.findall(r"\* plotly\.js v", text)) == 1
    assert text.count("Plotly.newPlot(") >= 4


def test_the_page_says_verdict_caveats_checkpoints_and_numbers(text: str) -> None:
    """JRN-2, JRN-3: the same words as the terminal, sample sizes and the share of signals not traded beside the means."""
    said = " ".join(Page(text).text)
    for words in (
        "NOT YET",
        "88 more trades at least",
        "What these numbers cannot say",
        "Phase C gate: NOT YET, 88 missing",
        "10 trades: PASS",
        "the interval reaches over the limit: this may be luck",
        "1 of 13 (8 %)",
        "not ready",
    ):
        assert words in said


def test_every_plot_is_described_in_words(text: str) -> None:
    """JRN-2: four plots, each with a label for those who cannot see it and a caption for those who can."""
    page = Page(text)
    assert len(page.labels) == 4
    said = " ".join(page.text)
    for plot in plots(full_report()):
        assert plot.figure is not None
        assert plot.caption in said
        assert any(plot.caption in label for label in page.labels)


def test_plots_show_the_trades() -> None:
    """JRN-2: the curve starts at zero and ends at the PnL; each trade is one mark; each age of follow-ups one point."""
    report = full_report()
    equity, edges, slippage, decay = (plot.figure for plot in plots(report))
    assert equity is not None
    assert edges is not None
    assert slippage is not None
    assert decay is not None
    assert equity.data[0].y[0] == 0
    assert equity.data[0].y[-1] == pytest.approx(float(report.totals.pnl_usd))
    assert sum(len(trace.x) for trace in edges.data) == 12
    assert len(slippage.data[0].x) == 12
    assert [round(x) for x in decay.data[0].x] == [0, 1, 3]


def test_limits_of_pnl_are_drawn_when_they_are_near() -> None:
    """JRN-2: a curve that falls to -6 USD shows both limits; one near zero is not flattened by them."""
    near = plots(make_report(given(*(trade(n, pnl="-1") for n in range(8)))))[0].figure
    far = plots(full_report())[0].figure
    assert near is not None
    assert far is not None
    assert [a.text for a in near.layout.annotations] == ["limit at 50 trades", "stop limit"]
    assert not far.layout.annotations


def test_a_page_without_trades_has_no_plots_and_says_why() -> None:
    """JRN-3: nothing is drawn of nothing; the page is small and says that no trade has finished."""
    page = report_page(make_report(given(signals=(signal(0, "Rejected(NotReady)"),))))
    assert len(page) < 30_000
    said = " ".join(Page(page).text)
    assert "No trade has finished: there is no equity curve." in said
    assert "No signal has a follow-up on record." in said
    assert Page(page).scripts == 0


def test_text_of_others_is_escaped() -> None:
    """KEY-4, JRN-3: a market's name cannot become part of the page."""
    evil = "<script>alert(1)</script>"
    page = report_page(make_report(given(trade(0, coin=evil), trade(1))))
    outside = page.partition("<h2>Plots</h2>")[0] + page.partition("<h2>Numbers</h2>")[2]
    assert evil not in outside
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in outside
    Page(page)


def test_plots_can_be_read_in_light_and_dark_and_on_paper(text: str) -> None:
    """JRN-2: grid lines are faint on either ground, labels stand above the bars, and each plot takes the width it has."""
    for plot in plots(full_report()):
        assert plot.figure is not None
        layout = plot.figure.layout
        assert {layout.xaxis.gridcolor, layout.yaxis.gridcolor} == {"rgba(122,133,148,0.25)"}
        notes = layout.annotations if plot.name == "slippage" else ()
        assert all((note.yref, note.y, note.yanchor) == ("y domain", 1, "bottom") for note in notes)
    script = text.rpartition("<script>")[2]
    assert "Plotly.Plots.resize" in script
    assert "beforeprint" in script
    assert "{{" not in script


def test_the_line_of_what_was_expected_does_not_stretch_the_plot() -> None:
    """JRN-2: one trade that lost much leaves the expected edges, which are near each other, their room."""
    report = make_report(given(trade(0, expected="10", pnl="-0.9"), trade(1, expected="20")))
    [edges] = [plot for plot in plots(report) if plot.name == "edges"]
    assert edges.figure is not None
    [line] = [shape for shape in edges.figure.layout.shapes if shape.line.dash == "dot"]
    assert (line.x0, line.y0, line.x1, line.y1) == (0, 0, 20, 20)


def test_short_words_stay_on_one_line(text: str) -> None:
    """JRN-2: times and markets do not wrap; a remark, which is long, may."""
    assert '<th scope="col" class="word short">market</th>' in text
    assert '<th scope="col" class="word">remark</th>' in text


def test_missed_stops_are_on_the_page() -> None:
    """JRN-2, JRN-3: the page has the list of missed stops as the terminal has it, and none where none was missed."""
    missed = report_page(make_report(given(trade(0, held_ms=100_000))))
    assert "Missed stops: 1<" in missed
    assert "missed by a running bot" in missed
    assert "Missed stops" not in report_page(make_report(given(trade(0))))


@pytest.mark.parametrize(
    ("pnl", "sides"),
    [("0.05", {"mean": "right", "limit of the mean": "left"}), ("-0.9", {"mean": "left", "limit of the mean": "right"})],
)
def test_labels_of_two_lines_lie_on_their_outer_sides(pnl: str, sides: dict[str, str]) -> None:
    """JRN-2: below or above its limit, the mean's label and the limit's never lie over each other."""
    [shown] = [plot for plot in plots(make_report(given(trade(0, pnl=pnl), trade(1, pnl=pnl)))) if plot.name == "slippage"]
    assert shown.figure is not None
    assert {note.text: note.xanchor for note in shown.figure.layout.annotations} == sides
