"""The table of markets in the live picture: prices and their ages, the edge against its cost, why not, and what is held.

Reads the bot and changes nothing. What is missing is `?`, what is old is marked: a price without its age says nothing.
"""

from __future__ import annotations

from decimal import Decimal

from rich.text import Text

from hip3.bot import Bot
from hip3.cli.words import FILTER_WORDS, age_text, bps_text, px_text, size_text, usd_text, verdict_words
from hip3.core import units
from hip3.core.detector import edge_bps
from hip3.core.events import Level
from hip3.core.exits import age_ms
from hip3.core.ids import OrderSide
from hip3.core.market import MarketState, missing_market_data
from hip3.core.outlook import SignalRecord
from hip3.core.trades import MarketPosition
from hip3.fsm.order import OrderState

UNKNOWN = "?"
DECISION_LEAST = 24
"""Columns that a decision needs to say something: the longest refusal without its numbers."""
WIDE = 110
"""Columns of a terminal from which the sizes of the quotes and entry prices have room."""

ENDED_WORDS = {
    OrderState.FILLED: "filled",
    OrderState.CANCELED: "cancelled",
    OrderState.REJECTED: "found no match",
    OrderState.EXPIRED: "never reached the book",
}

# Widths are fixed, so that nothing moves from one picture to the next: eight characters hold every price of the venue
# (five significant figures, PROTOCOL 6), a wider value pushes its own line only.
_NARROW = {"market": 9, "oracle": 8, "age": 4, "bid": 8, "ask": 8, "edge": 5, "cost": 4, "sig": 3, "position": 8, "held": 6}
_WIDE = {**_NARROW, "bid": 16, "ask": 16, "sig": 4, "position": 18}
_USD = 7


def market_lines(bot: Bot, width: int, most: int) -> list[Text]:
    """A heading, then for each market its numbers and, below them, the last decision; at most `most` lines.

    Where that is too much the decision stands behind the numbers, or nowhere; then what is held comes first, and the
    markets left out are counted.
    """
    coins = list(bot.markets)
    below = 1 + 2 * len(coins) <= most
    wide = width >= WIDE and below
    widths = {**(_WIDE if wide else _NARROW), "open": _USD}
    heading = {**{name: name for name in widths}, "oracle": bot.settings.detector.reference.value}
    lines = [_row({name: Text(word) for name, word in heading.items()}, widths)]
    lines[0].stylize("bold")
    if not below and 1 + len(coins) > most:
        coins.sort(key=lambda c: held_in(bot, c) is None)  # stable: the configured order within each part
        coins, left = coins[: max(0, most - 2)], len(coins) - max(0, most - 2)
    else:
        left = 0
    for coin in coins:
        row, decision = _row(_cells(bot, coin, wide=wide), widths), _decision(bot, bot.markets[coin])
        if below:
            lines += [row, Text.assemble("  ", decision, no_wrap=True, overflow="ellipsis")]
        elif width >= row.cell_len + DECISION_LEAST:
            lines.append(Text.assemble(row, "  ", decision, no_wrap=True, overflow="ellipsis"))
        else:
            lines.append(row)
    return lines + ([Text(f"{left} more markets", "dim")] if left else [])


def _row(cells: dict[str, Text], widths: dict[str, int]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for n, (name, width) in enumerate(widths.items()):
        pad = " " * max(0, width - cells[name].cell_len)
        line.append_text(Text.assemble(cells[name], pad) if n == 0 else Text.assemble(" ", pad, cells[name]))
    return line


def held_in(bot: Bot, coin: str) -> MarketPosition | None:
    """The position of a market, None where it is flat; unlike `Ledger.position` it makes none."""
    position = bot.ledger.positions.get(coin)
    return position if position is not None and position.szi != 0 else None


def _cells(bot: Bot, coin: str, *, wide: bool) -> dict[str, Text]:
    market, now = bot.markets[coin], bot.io.clock.mono_ms()
    d = bot.settings.detector
    ctx_age, bbo_age = market.ctx_age_ms(now), market.bbo_age_ms(now)
    bid, ask = (market.bbo.bid, market.bbo.ask) if market.bbo else (None, None)
    stale = "yellow" if bbo_age is None or bbo_age > d.max_bbo_age_ms else ""
    cost = bot.detector.cost_bps(coin)
    return {
        "market": Text(coin),
        "oracle": Text(px_text(market.reference_px) if market.reference_px else UNKNOWN),
        "age": Text(_age(ctx_age), "yellow" if ctx_age is None or ctx_age > d.max_ctx_age_ms else "dim"),
        "bid": Text(_level(bid, wide=wide), stale),
        "ask": Text(_level(ask, wide=wide), stale),
        "edge": _edge(market, cost),
        "cost": Text(bps_text(cost, sign=False), "dim"),
        "sig": Text(str(bot.signal_book.count_by_coin[coin])),
        **_position(bot, market, wide=wide),
    }


def _age(ms: int | None) -> str:
    if ms is None:
        return UNKNOWN
    return f"{ms / 1000:.1f}s" if ms < 10_000 else age_text(ms)


def _level(level: Level | None, *, wide: bool) -> str:
    if level is None:
        return UNKNOWN
    return f"{px_text(level.px)} {'(' + size_text(level.sz) + ')':>7}" if wide else px_text(level.px)


def _best_edge(market: MarketState) -> tuple[Decimal, OrderSide] | None:
    """The better of buying at the ask and selling at the bid, in bps of the reference, before cost."""
    if market.reference_px is None:
        return None
    touches = [(side, market.touch(side)) for side in OrderSide]
    edges = [(edge_bps(side, px, market.reference_px), side) for side, px in touches if px is not None]
    return max(edges, key=lambda e: e[0], default=None)


def _edge(market: MarketState, cost: Decimal) -> Text:
    best = _best_edge(market)
    if best is None:
        return Text(UNKNOWN)
    return Text(bps_text(best[0]), "bold green" if best[0] >= cost else "" if best[0] > 0 else "dim")


def _decision(bot: Bot, market: MarketState) -> Text:
    """Why nothing is traded now where something is missing or in the way, else what became of the last signal."""
    d, now = bot.settings.detector, bot.io.clock.mono_ms()
    missing = missing_market_data(market, now, d.max_bbo_age_ms, d.max_ctx_age_ms)
    if missing is not None:
        return Text(f"waits: {missing}", "yellow")
    best = _best_edge(market)
    filtered = bot.detector.last_reason.get(market.coin)
    is_over = best is not None and best[0] >= bot.detector.cost_bps(market.coin)
    if best is not None and is_over and filtered is not None and filtered != "dedup":  # dedup: see the signal itself
        return Text(f"{best[1].name.lower()} edge, no signal: {FILTER_WORDS.get(filtered, filtered)}")
    record = bot.signal_book.last_by_coin.get(market.coin)
    if record is None:
        return Text("no edge over cost yet", "dim")
    became, style = _became(bot, record)
    ago = age_text(now - record.signal.detected_mono_ms)
    return Text(f"{record.signal.side.name.lower()} {bps_text(record.signal.edge_bps)}: {became}, {ago} ago", style)


def _became(bot: Bot, record: SignalRecord) -> tuple[str, str]:
    """What became of a signal, and its style."""
    if record.verdict is None:
        return ("signalled" if bot.trader is None else "replaced by a newer signal"), "dim"
    if record.verdict.refusal is not None:
        return verdict_words(str(record.verdict), record.verdict.detail.removeprefix(f"{record.signal.coin}: ")), "dim"
    order = bot.ledger.find(record.verdict.detail, None)
    if order is None:
        return "accepted", ""
    if order.filled_sz > 0:
        return "filled", ""
    return ENDED_WORDS.get(order.state, order.state.value), ""


def _position(bot: Bot, market: MarketState, *, wide: bool) -> dict[str, Text]:
    """Signed size and entry; age against the time stop; unrealised PnL at the mark."""
    position = held_in(bot, market.coin)
    if position is None:
        return {"position": Text("-", "dim"), "held": Text(""), "open": Text("")}
    size = units.wire(position.szi) + (f" @ {px_text(position.entry_px)}" if wide else "")
    age, most = age_ms(position, bot.venue_ms), bot.settings.position.time_stop_ms
    return {
        "position": Text(size, "bold"),
        "held": Text(f"{age // 1000}/{most // 1000}s", "bold yellow" if age > most else ""),
        "open": money_text(unrealized_usd(bot, position)),
    }


def unrealized_usd(bot: Bot, position: MarketPosition) -> Decimal | None:
    """Unrealised PnL at the market's own mark; None where the mark is missing or too old."""
    market = bot.markets.get(position.coin)
    mark = market.mark(bot.io.clock.mono_ms(), bot.settings.detector.max_ctx_age_ms) if market else None
    return None if mark is None else position.unrealized_usd(mark)


def money_text(usd: Decimal | None) -> Text:
    """Signed USD, green above and red below zero; `?` where it is not known."""
    if usd is None:
        return Text(UNKNOWN)
    return Text(usd_text(usd, sign=True), "green" if usd > 0 else "red" if usd < 0 else "")
