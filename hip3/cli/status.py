"""The live picture: mode, READY, markets, orders, money, last events; while leaving, the way out before all else.

`render` is a pure function of the bot's state: it reads and never changes anything, and shows what is not known as `?`
(LESSONS 3). `LiveStatus` draws it four times a second. A picture that cannot be drawn never ends trading.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hip3.app import App
from hip3.bot import Bot
from hip3.cli.market_table import UNKNOWN, WIDE, market_lines, money_text, unrealized_usd
from hip3.cli.printer import POLL_S, JournalReader, accepts
from hip3.cli.words import (
    clock_text,
    duration_text,
    printable,
    sentence,
    usd_text,
)
from hip3.core import units
from hip3.core.journal import Note
from hip3.fsm.connection import ConnectionState
from hip3.fsm.lifecycle import LifecycleState
from hip3.fsm.ready import Condition
from hip3.fsm.safety import SafetyMode
from hip3.settings.schema import Mode
from hip3.venue.hyperliquid.endpoints import Network

EVENTS_MOST = 12
EVENTS_LEAST = 4
"""Rows kept for events before the markets get a second line each; where there is little room markets come first."""
STEPS_MOST, STEPS_LEAST, SMALL_ROOM = 6, 2, 30
"""Steps of the way out that are shown, and the rows of a small terminal, which gets the fewer."""

NETWORK_WORDS = {
    Network.PAPER: ("PAPER, simulated money", "bold cyan"),
    Network.TESTNET: ("TESTNET, play money", "bold cyan"),
    Network.MAINNET: ("MAINNET, real money", "bold red"),
}
MODE_WORDS = {
    SafetyMode.ARMED_LIVE: ("may open positions", "bold green"),
    SafetyMode.ARMED_SAFE: ("no entries; exits and cancels go on", "bold yellow"),
    SafetyMode.HALT: ("trading has ended; flattens and waits for the operator", "bold white on red"),
}
CONDITION_WORDS = {
    Condition.MD_READY: "market data",
    Condition.ORDER_SNAPSHOT: "orders",
    Condition.FILLS_SNAPSHOT: "fills",
    Condition.POSITION_SYNCED: "positions",
}
STEPS_OF_THE_WAY_OUT = frozenset({"way_out", "lifecycle", "safety_mode"})
"""Events that the picture says above, larger, while the bot leaves."""
LEAVING = frozenset(
    {
        LifecycleState.STOPPING,
        LifecycleState.CANCELING,
        LifecycleState.FLATTENING,
        LifecycleState.FLAT,
        LifecycleState.STOPPED,
        LifecycleState.STOPPED_EXPOSED,
    }
)
LEVEL_STYLES = {"warning": "yellow", "error": "bold red", "critical": "bold white on red"}


def render(bot: Bot, app: App, events: Sequence[Note], width: int, height: int | None = None) -> RenderableType:
    """The whole picture in `width` columns and, where `height` is given, in less than that many rows."""
    rows = 1000 if height is None else height - 1  # the cursor stands on the line below
    above = [*_header(bot, width), *_way_out(bot, app, width, rows)]
    counts = _counts(bot)
    room = rows - len(above) - len(counts)
    markets = market_lines(bot, width, room - EVENTS_LEAST if room > 3 * EVENTS_LEAST else max(3, room))
    shown = [n for n in events if n.event not in STEPS_OF_THE_WAY_OUT] if bot.lifecycle.state in LEAVING else events
    lines = _event_lines(shown, max(0, min(EVENTS_MOST, room - len(markets))))
    return Group(*[*above, *markets, *counts, *lines][:rows])


def _line(*parts: tuple[str, str] | str) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


# ---- header


def _header(bot: Bot, width: int) -> list[Text]:
    now, state = bot.io.clock.wall_ms(), bot.lifecycle.state
    network, style = NETWORK_WORDS[bot.settings.network]
    user = bot.trader.account.user if bot.trader else None
    account = f"account {user[:6]}..{user[-4:]}" if user else "no account"
    top = _line(
        ("hip3 ", "bold"),
        (network, style),
        f"  {account}  run {duration_text(now - bot.started_ms)}  {clock_text(now)}{' UTC' if width >= WIDE else ''}  ",
        (state.name, "bold"),
        (f"  {state.value}" if width >= WIDE else "", "dim"),
    )
    return [top, _mode_line(bot), _ready_line(bot), _line()]


def _mode_line(bot: Bot) -> Text:
    mode = bot.safety.mode
    words, style = MODE_WORDS[mode]
    causes = [printable(f"{c.code.value} ({c.message})") for c in bot.safety.causes]
    why = f"   because {'; '.join(causes)}" if causes else ""
    if bot.settings.mode is Mode.OBSERVATION:
        words, why = "observation: signals only, no order is sent", ""
    return _line((f"{mode.name}", style), f"  {words}{why}")


def _ready_line(bot: Bot) -> Text:
    links = [bot.market_link] + ([bot.trader.account_link] if bot.trader else [])
    ready = "DATA" if bot.trader is None else "READY" if bot.ready.is_ready else "NOT READY"
    parts: list[tuple[str, str] | str] = [(ready, "bold")]
    for condition, words in CONDITION_WORDS.items():
        if bot.trader is None and condition is not Condition.MD_READY:
            continue  # without an account there is nothing to know of it
        holds = bot.ready.holds(condition)
        parts.append((f" {'✓' if holds else '✗'} {words}", "green" if holds else "yellow"))
    parts.append("  links:")
    for n, link in enumerate(links):
        live = link.state in (ConnectionState.SYNCING, ConnectionState.READY)
        parts.append(
            (f"{',' if n else ''} {link.name} {'up' if live else link.state.name.lower()}", "green" if live else "yellow")
        )
    return _line(*parts)


# ---- counts


def _counts(bot: Bot) -> list[Text]:
    if bot.trader is None:
        return [_line(), _line(("signals ", "bold"), f"{bot.signal_book.count}   nothing is traded in observation"), _line()]
    tally, posts = bot.tally, bot.posts
    rate = "" if tally.fill_rate is None else f" ({tally.fill_rate:.0%})"
    budget = UNKNOWN if bot.budget.cap is None else f"{bot.budget.left:,}"
    doubt = len(bot.ledger.in_doubt())
    orders = _line(
        ("orders  ", "bold"),
        f"{len(bot.ledger.orders)} alive, posts {posts.in_flight} (most {posts.high_water})",
        (f", {doubt} in doubt" if doubt else "", "bold yellow"),
        f"  entries {tally.entries}, filled {tally.entries_filled}{rate}  budget {budget}",
    )
    open_usd = [unrealized_usd(bot, p) for p in bot.ledger.held()]
    unrealized = None if None in open_usd else sum((u for u in open_usd if u is not None), units.ZERO)
    money = _line(
        ("money   ", "bold"),
        f"{tally.trades} trades ({tally.wins} won)  fees {usd_text(tally.fees_usd)}  PnL ",
        *_spans(money_text(tally.pnl_usd)),
        " USD after fees, ",
        *_spans(money_text(unrealized)),
        " open",
    )
    return [_line(), orders, money, _line()]


def _spans(text: Text) -> Iterable[tuple[str, str]]:
    return [(text.plain, str(text.style))]


# ---- events


def _event_lines(events: Sequence[Note], most: int) -> list[Text]:
    """The newest events, oldest first; the same sentence in a row once, with its count."""
    lines: list[tuple[Note, str, int]] = []
    for note in events:
        words = sentence(note)
        if lines and lines[-1][1] == words:
            lines[-1] = (note, words, lines[-1][2] + 1)
        else:
            lines.append((note, words, 1))
    shown = lines[len(lines) - most :] if most else []
    return [_event_line(note, words + (f"  (x{n})" if n > 1 else "")) for note, words, n in shown]


def _event_line(note: Note, words: str) -> Text:
    return _line((f"{clock_text(note.wall_ms)} ", "dim"), (words, LEVEL_STYLES.get(note.level, "")))


# ---- the way out

_STEPS = ("no entries", "settle posts", "cancel orders", "close positions", "verify")
_CLOSING = 3
_AT_WORD = {"settle": 1, "cancel": 2, "close": _CLOSING, "wait": 4, "gave_up": 4}
_AT_STATE = {LifecycleState.CANCELING: 2, LifecycleState.FLATTENING: _CLOSING, LifecycleState.FLAT: 4}


def _way_out(bot: Bot, app: App, width: int, room: int) -> list[Text]:
    """What a stop or a HALT is doing and what remains; nothing while trading."""
    state = bot.lifecycle.state
    leaving = state in LEAVING
    if bot.trader is None or not (leaving or bot.safety.mode is SafetyMode.HALT):
        return []
    title = f" LEAVING: {printable(app.stop.reason)}" if leaving else " HALT: closing everything"
    bar = "black on green" if state is LifecycleState.STOPPED else "black on yellow"
    if state is LifecycleState.STOPPED_EXPOSED or not leaving:
        bar = "bold white on red"
    lines = [_line((title.ljust(width), bar))]
    if leaving:
        lines.append(_step_line(bot, app))
    steps = app.progress[-(STEPS_MOST if room > SMALL_ROOM else STEPS_LEAST) :]
    lines += [_line((f"{clock_text(ms)} ", "dim"), printable(f"{word}: {what}")) for ms, word, what in steps]
    return [*lines, *_remains(bot, app), _line()]


def _step_line(bot: Bot, app: App) -> Text:
    state = bot.lifecycle.state
    words = [word for _, word, _ in app.progress if word in _AT_WORD]
    at = max(_AT_STATE.get(state, 1), _AT_WORD[words[-1]] if words else 1)
    if at == _CLOSING and not bot.ledger.is_exposed:
        at += 1  # by our books all is closed; what is left to do is to ask
    ended = state in (LifecycleState.STOPPED, LifecycleState.STOPPED_EXPOSED)
    parts: list[tuple[str, str] | str] = []
    for n, step in enumerate(_STEPS):
        if state is LifecycleState.STOPPED or (n < at and not ended) or n == 0:
            parts.append((f"✓ {step}  ", "green"))
        elif ended:
            parts.append((f"✗ {step}  ", "bold red"))
        else:
            parts.append((f"▶ {step}  ", "bold yellow") if n == at else (f"· {step}  ", "dim"))
    return _line(*parts)


def _remains(bot: Bot, app: App) -> list[Text]:
    """What is left: by the certificate where there is one, else by our own books, which are not the last word."""
    certificate = app.certificate
    if certificate is not None:
        if certificate.flat:
            asked = ", ".join(dex or "main" for dex in sorted({a.dex for a in certificate.asked}))
            return [_line(("FLAT", "bold green"), f"  the venue lists no order and no position (dex {asked})")]
        return [
            _line(("LEFT  ", "bold red"), (printable(text), "bold red")) for text in certificate.residual or ("not known",)
        ]
    held = [f"{units.wire(p.szi)} {p.coin}" for p in bot.ledger.held()]
    alive = len(bot.ledger.orders)
    left = ", ".join(held + ([f"{alive} orders alive" if alive != 1 else "1 order alive"] if alive else [])) or "nothing"
    return [_line(("remains by our books ", "bold"), left, ("   the venue has the last word", "dim"))]


# ---- drawing


def can_show(console: Console) -> bool:
    """True for a terminal that can redraw and knows the picture's characters; elsewhere plain lines are right."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")


class LiveStatus:
    """Draws the picture until it is finished or cancelled, and reads the journal for it."""

    def __init__(self, bot: Bot, app: App, reader: JournalReader, console: Console | None = None) -> None:
        self._bot = bot
        self._app = app
        self._reader = reader
        self._console = console or Console()
        # What a very small window cannot show is cut off at the bottom; scrolling would leave copies behind.
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._failed = False
        self._finished = False

    async def run(self) -> None:
        """Redraws every quarter of a second. The terminal is restored however this ends; never raises by itself."""
        try:
            while not self._finished:
                self._reader.poll()
                self._draw()
                await trio.sleep(POLL_S)
        finally:
            self.finish()

    def finish(self) -> None:
        """Leaves the last picture on the terminal and gives the cursor back; the second call does nothing."""
        if self._finished:
            return
        self._finished = True
        self._reader.poll()
        self._draw()
        self._restore()

    def _draw(self) -> None:
        if self._failed or not accepts(self._console.file):
            return
        try:
            self._live.start()
            size = self._console.size
            picture = render(self._bot, self._app, list(self._reader.recent), size.width, size.height)
            self._live.update(picture, refresh=True)
        except (Exception, SystemExit) as e:  # rich exits the process where a pipe broke; the flatten would go with it
            self._failed = True
            self._restore()
            self._bot.note("error", "display_failed", error=f"{type(e).__name__}: {e}")
            self._reader.say_plain(self._console.file)

    def _restore(self) -> None:
        with suppress(Exception, SystemExit):  # the terminal is gone, and the cursor with it
            self._live.stop()
