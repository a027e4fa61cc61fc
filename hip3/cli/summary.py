"""The end of a run: text for people, one object for machines (END-2, END-3, JRN-1).

What is left at the venue comes first and loudly. Nothing is called flat without a certificate, and a mean never stands
without its number of trades (JRN-3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from hip3.app import Outcome
from hip3.bot import Bot
from hip3.cli.words import (
    EXIT_WORDS,
    FILTER_WORDS,
    bps_text,
    clock_text,
    duration_text,
    printable,
    px_text,
    usd_text,
    verdict_words,
)
from hip3.core import units
from hip3.core.errors import first_leaf
from hip3.core.trades import Trade
from hip3.ops.certificates import certificate_body

TRADES_SHOWN = 20
COLUMNS = 80
INDENT = 10
NOT_ASKED = "not known: the venue was not asked what is left; treat the account as exposed and look at the venue"


# ---- for people


def summary_lines(bot: Bot, outcome: Outcome, *, notes: Sequence[str] = ()) -> str:
    """The whole summary, lines joined. `notes` say what the market data were; times are UTC, money USD, edges bps."""
    parts = [
        _alarm(outcome),
        _title(bot, outcome, notes),
        _signals(bot),
        _orders(bot, outcome),
        _trades(bot),
        _totals(bot),
        _certificate(bot, outcome),
    ]
    return "\n".join(printable(line) for part in parts for line in part)


def residual_of(outcome: Outcome) -> list[str]:
    """What is left, one sentence each. An end that is not flat never gives an empty list."""
    if outcome.flat:
        return []
    return list(outcome.residual) or [NOT_ASKED]


def _alarm(outcome: Outcome) -> list[str]:
    """Loud, and before all else: residual exposure, a flatten that was given up, an error."""
    lines: list[str] = []
    if not outcome.flat:
        lines += ["!" * 72, "!!  NOT FLAT. Left at the venue:"]
        lines += [f"!!    {text}" for text in residual_of(outcome)]
        lines += ["!!  Close it by hand on the venue.", "!" * 72]
    elif outcome.exit_code == 4:
        lines.append("!!  Flattening was given up; the last look showed nothing left, but that is not verified.")
    if outcome.error is not None:
        lines.append(f"!!  Ended by an internal error: {_error_text(outcome.error)}")
    return lines


def _error_text(error: BaseException) -> str:
    first = first_leaf(error)
    return f"{type(first).__name__}: {first}"


def _title(bot: Bot, outcome: Outcome, notes: Sequence[str]) -> list[str]:
    now = outcome.ended_ms
    return [
        f"hip3 {bot.settings.network.value} {bot.settings.mode.value}: ran {duration_text(now - bot.started_ms)}, "
        f"stopped: {outcome.stop_reason}, exit code {outcome.exit_code}",
        *(f"  {note}" for note in notes),
    ]


def _listed(label: str, items: Sequence[str]) -> list[str]:
    """`label` and the items after it, in lines that fit; an item is never broken."""
    lines = [label.ljust(INDENT)]
    for n, item in enumerate(items):
        text = item + (", " if n < len(items) - 1 else "")
        if len(lines[-1]) + len(text.rstrip()) > COLUMNS and len(lines[-1]) > INDENT:
            lines.append(" " * INDENT)
        lines[-1] += text
    return [line.rstrip() for line in lines]


def _signals(bot: Bot) -> list[str]:
    book = bot.signal_book
    verdicts = [f"{verdict_words(v)} {n}" for v, n in sorted(book.verdicts.items(), key=lambda item: -item[1])]
    filtered: Counter[str] = Counter()
    for counts in bot.detector.rejected.values():
        filtered.update(counts)
    lines = _listed("signals", [f"{book.count} in all", *verdicts])
    if filtered:
        words = [f"{FILTER_WORDS.get(name, name)} {n}" for name, n in filtered.most_common()]
        lines += _listed("no signal", ["evaluations turned away", *words])
    return lines


def _way_out_orders(outcome: Outcome) -> int:
    """Closing orders of the final flatten; they go past the ledger, so its counts do not hold them."""
    return outcome.certificate.orders_sent if outcome.certificate else 0


def _orders(bot: Bot, outcome: Outcome) -> list[str]:
    t, leaving = bot.tally, _way_out_orders(outcome)
    if bot.trader is None:
        return []
    items = [f"entries {t.entries}", f"filled {t.entries_filled}", f"rejected {t.entries_rejected}"]
    items += [
        f"unresolved {t.entries_unresolved}",
        "no fill rate" if t.fill_rate is None else f"fill rate {t.fill_rate:.0%}",
    ]
    return _listed("orders", [f"{t.orders + leaving} in all", *items, f"closes {t.closes + leaving}", f"fills {t.fills}"])


_COLUMNS = ("coin", "side", "size", "entry", "exit", "held", "expect", "actual", "fees", "PnL", "why")
_LEFT = frozenset({"coin", "side", "why"})


def _trades(bot: Bot) -> list[str]:
    """The last trades as a table; edges in bps."""
    trades = list(bot.trader.position.trades) if bot.trader else []
    if not trades:
        return []
    rows = [_COLUMNS, *map(_trade_row, trades[-TRADES_SHOWN:])]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    left = bot.tally.trades - (len(rows) - 1)
    title = f"trades    {bot.tally.trades}" + (f", the last {len(rows) - 1}:" if left > 0 else ":")
    return [title, *(" " + _aligned(row, widths) for row in rows)]


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.ljust(width) if name in _LEFT else cell.rjust(width)
        for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
    ]
    return " ".join(cells).rstrip()


def _trade_row(trade: Trade) -> tuple[str, ...]:
    expected = trade.expected_edge_bps
    return (
        trade.coin,
        "long" if trade.side.is_buy else "short",
        units.wire(trade.sz),
        px_text(trade.entry_px),
        px_text(trade.exit_px),
        f"{trade.holding_ms / 1000:.1f}s",
        "-" if expected is None else bps_text(expected),
        bps_text(trade.actual_edge_bps),
        usd_text(trade.fees_usd),
        usd_text(trade.pnl_usd, sign=True),
        EXIT_WORDS.get(trade.exit_reason, trade.exit_reason),
    )


def _totals(bot: Bot) -> list[str]:
    t = bot.tally
    if bot.trader is None:
        return []
    lines = []
    expected, actual = t.mean_expected_edge_bps, t.mean_actual_edge_bps
    if expected is not None and actual is not None:
        means = [f"before fees: expected {bps_text(expected)} bps", f"actual {bps_text(actual)} bps"]
        lines += _listed("edge", [*means, f"slippage {bps_text(expected - actual)} bps (means of n = {t.edge_trades})"])
    money = [
        f"{t.trades} trades",
        f"{t.wins} won",
        f"volume {usd_text(t.volume_usd)} USD",
        f"fees {usd_text(t.fees_usd)} USD",
    ]
    return lines + _listed("money", [*money, f"PnL after fees {usd_text(t.pnl_usd, sign=True)} USD"])


def _certificate(bot: Bot, outcome: Outcome) -> list[str]:
    """The flat certificate in words: what was asked of which dex and when, what was cancelled, closed, and is left."""
    if bot.trader is None:
        return ["flat      nothing was traded: mode = observation sends no order"]
    c = outcome.certificate
    if c is None:
        return ["NOT FLAT  there is no flat certificate: " + NOT_ASKED]
    verified = c.flat and outcome.exit_code != 4
    head = "FLAT     " if verified else "NOT VERIFIED FLAT" if c.flat else "NOT FLAT "
    lines = [
        f"{head} certificate of {clock_text(c.started_ms)} to {clock_text(c.finished_ms)} UTC, the venue's own answers:"
    ]
    return lines + certificate_body(c, clock_text)


# ---- for machines


def summary_object(bot: Bot, outcome: Outcome, *, config_hash: str, notes: Sequence[str] = ()) -> dict[str, object]:
    """What `--json` prints, ready for `json.dumps(..., sort_keys=True)`.

    Money and edges are numbers rounded to six decimals for other tools; `pnl_usd_exact` is the ledger's own decimal.
    Rates and edges are null where there was nothing to take a mean of.
    """
    t = bot.tally
    return {
        "run_id": bot.run_id,
        "config_hash": config_hash,
        "network": bot.settings.network.value,
        "mode": bot.settings.mode.value,
        "notes": list(notes),
        "markets": list(bot.coins),
        "duration_ms": outcome.ended_ms - bot.started_ms,
        "stop_reason": outcome.stop_reason,
        "exit_code": outcome.exit_code,
        "error": None if outcome.error is None else _error_text(outcome.error),
        "flat": outcome.flat,
        "residual": residual_of(outcome),
        "certificate": None if outcome.certificate is None else outcome.certificate.as_dict(),
        "signals": bot.signal_book.count,
        "verdicts": dict(bot.signal_book.verdicts),
        "detector_rejected": {coin: dict(counts) for coin, counts in bot.detector.rejected.items()},
        "orders": t.orders + _way_out_orders(outcome),
        "entries": t.entries,
        "entries_filled": t.entries_filled,
        "entries_rejected": t.entries_rejected,
        "entries_unresolved": t.entries_unresolved,
        **t.order_metrics,
        **bot.posts.metrics,
        "closes": t.closes + _way_out_orders(outcome),
        "fills": t.fills,
        "trades": t.trades,
        "wins": t.wins,
        "fill_rate": _number(t.fill_rate),
        "edge_trades": t.edge_trades,
        "expected_edge_bps": _number(t.mean_expected_edge_bps),
        "actual_edge_bps": _number(t.mean_actual_edge_bps),
        "volume_usd": _number(t.volume_usd),
        "fees_usd": _number(t.fees_usd),
        "pnl_usd": _number(t.pnl_usd),
        "pnl_usd_exact": format(t.pnl_usd, "f"),
    }


def _number(value: Decimal | None) -> float | None:
    """For display by other tools only; nothing of it comes back to the wire (TYP-1)."""
    return None if value is None else round(float(value), 6)
