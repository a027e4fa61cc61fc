"""What a run says at its end: for people and for machines; nothing is called flat that is not."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import attrs
import pytest

from hip3.app import App
from hip3.cli.summary import NOT_ASKED, summary_lines, summary_object
from hip3.cli.words import px_text
from hip3.core.units import wire
from hip3.ops.session import Ended
from hip3.settings.schema import Mode
from tests.cli.cli_runs import paper_settings, run_paper

HASH = "ab" * 32


def machine(ended: Ended) -> dict[str, Any]:
    """The object as another program reads it."""
    text = json.dumps(summary_object(ended.bot, ended.outcome, config_hash=HASH), sort_keys=True)
    assert "\n" not in text
    read: dict[str, Any] = json.loads(text)
    return read


async def left_exposed() -> Ended:
    """A run that was given up with a position open."""

    def impatient(app: App) -> None:
        if app.bot.ledger.held() and not app.stop.requested.is_set():
            app.stop.request("Ctrl+C")
            app.stop.request("Ctrl+C")

    return await run_paper(60, look=impatient)


async def test_a_clean_run_says_what_happened(autojump_clock: object) -> None:
    """PRD-2, JRN-1: duration, verdicts, entries with the fill rate, a row for each trade with its numbers, money."""
    ended = await run_paper(60)
    bot, t = ended.bot, ended.bot.tally
    text = summary_lines(bot, ended.outcome, notes=("synthetic market: chosen, not measured",))
    lines = text.splitlines()
    assert lines[0].startswith("hip3 paper trading: ran 1m 0")
    assert "stopped: --duration 60 s is over, exit code 0" in lines[0]
    assert lines[1] == "  synthetic market: chosen, not measured"
    assert f"signals   {bot.signal_book.count} in all, " in text
    assert f"over the total cap {bot.signal_book.verdicts['Rejected(MaxPositionTotal)']}" in text
    assert ended.outcome.certificate is not None
    sent = t.orders + ended.outcome.certificate.orders_sent
    assert f"{sent} in all, entries {t.entries}, filled {t.entries_filled}, rejected {t.entries_rejected}, " in text
    assert f"fill rate {t.entries_filled * 100 / t.entries:.0f}%" in text
    assert bot.trader is not None
    for trade in bot.trader.position.trades:
        row = next(line for line in lines if px_text(trade.entry_px) in line and trade.coin in line)
        words = (wire(trade.sz), px_text(trade.exit_px), f"{trade.holding_ms / 1000:.1f}s", f"{trade.actual_edge_bps:+.1f}")
        assert all(word in row.split() for word in words)
    assert "time stop" in text
    assert max(len(line) for line in lines[: lines.index(next(x for x in lines if x.startswith("FLAT")))]) <= 80
    assert "way out" in text


async def test_slippage_is_expected_less_actual_with_its_count(autojump_clock: object) -> None:
    """JRN-1, JRN-3: the means are of the trades listed, slippage is their difference, and n stands beside them."""
    ended = await run_paper(60)
    trader = ended.bot.trader
    assert trader is not None
    trades = [t for t in trader.position.trades if t.expected_edge_bps is not None]
    expected = sum((t.expected_edge_bps or Decimal(0) for t in trades), Decimal(0)) / len(trades)
    actual = sum((t.actual_edge_bps for t in trades), Decimal(0)) / len(trades)
    assert f"slippage {expected - actual:+.1f} bps (means of n = {len(trades)})" in summary_lines(ended.bot, ended.outcome)
    out = machine(ended)
    assert out["expected_edge_bps"] == pytest.approx(float(expected))
    assert out["actual_edge_bps"] == pytest.approx(float(actual))
    assert out["edge_trades"] == len(trades)


async def test_the_certificate_is_told_in_words(autojump_clock: object) -> None:
    """STOP-2: what was asked of which dex and when, what was cancelled and closed, and what is left."""
    ended = await run_paper(30)
    certificate = ended.outcome.certificate
    assert certificate is not None
    assert certificate.closed
    text = summary_lines(ended.bot, ended.outcome)
    told = text[text.index("FLAT      certificate of 00:00:3") :]
    assert "dex xyz, open orders: 0 listed" in told
    assert "dex xyz, positions: 0 held" in told
    assert "cancelled  nothing" in told
    assert all(f"closed     {done}" in told for done in certificate.closed)
    assert told.endswith("left       nothing")
    assert "NOT FLAT" not in text


async def test_what_is_left_comes_first_and_loudly(autojump_clock: object) -> None:
    """END-2, END-3: a run that was given up lists every remaining position before all else; exit code 4, flat false."""
    ended = await left_exposed()
    (left,) = ended.outcome.residual
    lines = summary_lines(ended.bot, ended.outcome).splitlines()
    assert lines[:3] == ["!" * 72, "!!  NOT FLAT. Left at the venue:", f"!!    {left}"]
    assert "position: " in left
    assert any(line.startswith("NOT FLAT  certificate of") for line in lines)
    out = machine(ended)
    assert (out["flat"], out["exit_code"], out["residual"]) == (False, 4, [left])


async def test_no_certificate_is_never_flat(autojump_clock: object) -> None:
    """STOP-2: where the venue was not asked, that is what is said, and the list of what is left is not empty."""
    ended = await run_paper(5)
    blind = attrs.evolve(ended.outcome, exit_code=4, flat=False, certificate=None, error=RuntimeError("boom"))
    text = summary_lines(ended.bot, blind)
    assert text.startswith("!")
    assert f"!!    {NOT_ASKED}" in text
    assert "!!  Ended by an internal error: RuntimeError: boom" in text
    assert "NOT FLAT  there is no flat certificate" in text
    out = machine(attrs.evolve(ended, outcome=blind))
    assert out["residual"] == [NOT_ASKED]
    assert out["error"] == "RuntimeError: boom"


async def test_a_flatten_that_was_given_up_is_not_called_flat(autojump_clock: object) -> None:
    """END-2: exit code 4 with nothing listed is said to be unverified."""
    ended = await run_paper(5)
    text = summary_lines(ended.bot, attrs.evolve(ended.outcome, exit_code=4))
    assert text.startswith("!!  Flattening was given up; the last look showed nothing left, but that is not verified.")
    assert "NOT VERIFIED FLAT certificate of" in text


async def test_the_innermost_error_is_named(autojump_clock: object) -> None:
    """END-2: an error in groups of groups is shown as itself, on top."""
    ended = await run_paper(5)
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("bad size")])])
    text = summary_lines(ended.bot, attrs.evolve(ended.outcome, exit_code=5, error=group))
    assert text.startswith("!!  Ended by an internal error: ValueError: bad size\n")


async def test_observation_says_that_nothing_was_traded(autojump_clock: object) -> None:
    """PRD-1: without an account there is no certificate to show, no order, and the summary says so."""
    ended = await run_paper(30, settings=paper_settings(mode=Mode.OBSERVATION))
    text = summary_lines(ended.bot, ended.outcome)
    assert text.splitlines()[-1] == "flat      nothing was traded: mode = observation sends no order"
    assert "orders " not in text
    out = machine(ended)
    assert out["signals"] > 0
    assert (out["flat"], out["orders"], out["certificate"], out["fill_rate"], out["residual"]) == (True, 0, None, None, [])


async def test_the_object_agrees_with_the_ledger(autojump_clock: object) -> None:
    """END-3, TYP-1: counts are whole numbers, money is a number with the exact decimal beside it."""
    ended = await run_paper(60)
    out, t = machine(ended), ended.bot.tally
    assert all(type(out[name]) is int for name in ("signals", "orders", "entries", "fills", "trades", "exit_code", "run_id"))
    assert Decimal(out["pnl_usd_exact"]) == t.pnl_usd
    assert out["pnl_usd"] == pytest.approx(float(t.pnl_usd), abs=1e-6)
    assert out["fees_usd"] == pytest.approx(float(t.fees_usd), abs=1e-6)
    assert out["fill_rate"] == pytest.approx(t.entries_filled / t.entries, abs=1e-6)
    assert sum(out["verdicts"].values()) == sum(ended.bot.signal_book.verdicts.values())
    assert out["certificate"]["flat"] is out["flat"] is True
    assert out["config_hash"] == HASH
    assert out["markets"] == list(ended.bot.coins)
    assert 60_000 <= out["duration_ms"] < 90_000
    assert set(out["detector_rejected"]) <= set(ended.bot.coins)
