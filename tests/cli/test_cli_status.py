"""The live picture of a real run: what it says, that it fits, that reading changes nothing, that it never ends trading."""

from __future__ import annotations

import copy
import io
import os
from contextlib import suppress
from typing import IO

import pytest
import trio
from rich.console import Console

from hip3.app import App
from hip3.bot import Bot
from hip3.cli.printer import JournalReader
from hip3.cli.status import LiveStatus, can_show
from hip3.cli.words import px_text
from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.core.journal import Journal, Note
from hip3.core.units import wire
from hip3.fsm.lifecycle import LifecycleState
from hip3.settings.schema import Mode
from tests.cli.cli_runs import T0, paper_settings, picture, run_paper

WIDE, SMALL = (120, 40), (80, 24)


class Album:
    """Pictures of a run by the state in which they were taken."""

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.sizes = sizes
        self.journal = Journal()
        self.reader: JournalReader | None = None
        self.taken: list[tuple[LifecycleState, tuple[int, int], list[str]]] = []

    def look(self, app: App) -> None:
        if self.reader is None:
            self.reader = JournalReader(self.journal, app.bot.io.clock)
        self.reader.poll()
        for size in self.sizes:
            self.taken.append((app.bot.lifecycle.state, size, picture(app.bot, app, list(self.reader.recent), *size)))

    def of(self, state: LifecycleState, size: tuple[int, int]) -> list[str]:
        return ["\n".join(lines) for s, taken, lines in self.taken if s is state and taken == size]


@pytest.mark.parametrize("size", [WIDE, SMALL, (60, 16)])
async def test_the_picture_always_fits(autojump_clock: object, size: tuple[int, int]) -> None:
    """PRD-2: from the first picture to the last no line is wider than the terminal and the last row stays free."""
    album = Album(size)
    await run_paper(40, journal=album.journal, look=album.look)
    assert len(album.taken) > 100
    assert max(len(line) for _, _, lines in album.taken for line in lines) <= size[0]
    assert max(len(lines) for _, _, lines in album.taken) < size[1]


async def test_a_running_bot_shows_what_an_operator_asks_for(autojump_clock: object) -> None:
    """PRD-2: network, mode, READY, each market with prices, edge and reason, positions, orders and money are there."""
    album = Album(WIDE)
    ended = await run_paper(40, journal=album.journal, look=album.look)
    running = album.of(LifecycleState.RUNNING, WIDE)
    assert all("PAPER, simulated money" in p and "ARMED_LIVE  may open positions" in p for p in running[1:])
    assert "READY ✓ market data ✓ orders ✓ fills ✓ positions  links: market up, account up" in running[-1]
    assert all(coin in running[-1] for coin in ended.bot.coins)
    together = "\n".join(running)
    for words in (
        ": filled, ",
        ": over the ",
        "position already open",
        "/30s +",
        " alive, posts ",
        "budget 9,",
        " USD after fees",
    ):
        assert words in together
    trade = ended.bot.trader.position.trades[0] if ended.bot.trader else None
    assert trade is not None
    assert f"{wire(trade.sz)} @ {px_text(trade.entry_px)}" in together
    assert f"{trade.coin}: closed (time stop), " in together


async def test_missing_conditions_are_named(autojump_clock: object) -> None:
    """RDY-2: until READY-TRADING the picture says which condition is missing, and `?` where nothing was received."""
    seen: list[str] = []

    def begin(app: App, _nursery: trio.Nursery) -> None:
        seen.extend(picture(app.bot, app, [], *WIDE))

    await run_paper(3, on_app=begin)
    text = "\n".join(seen)
    assert "NOT READY ✗ market data ✗ orders ✗ fills ✗ positions  links: market down, account down" in text
    assert "because BOOTSTRAP (started; not promoted yet)" in text
    assert "waits: no ack of bbo" in text
    assert "?" in next(line for line in seen if line.startswith("xyz:SNDK"))


async def test_leaving_is_shown_before_all_else(autojump_clock: object) -> None:
    """END-1: the picture shows each step of the way out and what remains, above the markets."""
    album = Album(SMALL)
    held: list[str] = []

    def look(app: App) -> None:
        if not held and app.bot.ledger.held():
            held.extend(f"{wire(p.szi)} {p.coin}" for p in app.bot.ledger.held())
            app.stop.request("Ctrl+C")
        album.look(app)

    await run_paper(60, journal=album.journal, look=look)
    leaving = [lines for state, _, lines in album.taken if state in (LifecycleState.CANCELING, LifecycleState.FLATTENING)]
    text = "\n".join(line for lines in leaving for line in lines)
    assert " LEAVING: Ctrl+C" in text
    assert "✓ settle posts  ▶ cancel orders  · close positions  · verify" in text
    assert "✓ settle posts  ✓ cancel orders  ▶ close positions  · verify" in text
    assert "✓ settle posts  ✓ cancel orders  ✓ close positions  ▶ verify" in text
    assert f"remains by our books {held[0]}" in text
    assert "remains by our books nothing   the venue has the last word" in text
    assert " close: " in text
    for lines in leaving:
        first = [next(n for n, line in enumerate(lines) if line.startswith(word)) for word in (" LEAVING", "market ")]
        assert first == sorted(first)


async def test_the_last_picture_says_flat_or_what_is_left(autojump_clock: object) -> None:
    """END-2: after a second signal with a position open the picture lists it as left; after a clean end it says FLAT."""
    apps: list[App] = []

    def begin(app: App, _nursery: trio.Nursery) -> None:
        apps.append(app)

    def last(bot: Bot, app: App) -> str:
        return "\n".join(picture(bot, app, [], *WIDE))

    def impatient(app: App) -> None:
        if app.bot.ledger.held() and not app.stop.requested.is_set():
            app.stop.request("Ctrl+C")
            app.stop.request("Ctrl+C")

    ended = await run_paper(60, on_app=begin, look=impatient)
    assert not ended.outcome.flat
    exposed = last(ended.bot, apps[0])
    assert "STOPPED_EXPOSED" in exposed
    assert f"LEFT  {ended.outcome.residual[0]}" in exposed
    clean = await run_paper(10, on_app=begin)
    assert clean.outcome.flat
    assert "FLAT  the venue lists no order and no position (dex main, flx, xyz)" in last(clean.bot, apps[1])


async def test_halt_is_shown_with_its_cause(autojump_clock: object) -> None:
    """SAFE-1: a HALT stands in the picture with its cause in words and with what the flatten does."""
    album = Album(WIDE)

    def look(app: App) -> None:
        if app.bot.ledger.held() and app.bot.lifecycle.state is LifecycleState.RUNNING:
            message = "lost 20.5 USD today"
            app.bot.safety.add(ReasonCode.DAILY_LOSS, Severity.HALT, "risk", message, Clears.OPERATOR)
        album.look(app)

    await run_paper(20, journal=album.journal, look=look)
    halted = album.of(LifecycleState.RUNNING, WIDE)
    assert (
        "HALT  trading has ended; flattens and waits for the operator   because DAILY_LOSS (lost 20.5 USD today)"
        in halted[-1]
    )
    assert any(" HALT: closing everything" in p and "close: sell" in p for p in halted)
    assert "HALT: the venue shows no order and no position; waiting for the operator" in halted[-1]


async def test_observation_says_that_nothing_is_traded(autojump_clock: object) -> None:
    """PRD-1: in observation the picture shows markets and signals, no account, and that no order is sent."""
    album = Album(WIDE)
    await run_paper(30, settings=paper_settings(mode=Mode.OBSERVATION), journal=album.journal, look=album.look)
    text = "\n".join(lines[-1] for lines in [["\n".join(p)] for _, _, p in album.taken])
    assert "no account" in text
    assert "observation: signals only, no order is sent" in text
    assert "nothing is traded in observation" in text
    assert ": signalled, " in text


async def test_reading_changes_nothing(autojump_clock: object) -> None:
    """SAFE-1, LESSONS 3: drawing reads the bot; ledger, tally, limits, budget and safety are as before."""
    compared = 0

    def look(app: App) -> None:
        nonlocal compared
        bot = app.bot
        parts = (bot.ledger, bot.tally, bot.limits, bot.budget, bot.posts, bot.signal_book)
        before = copy.deepcopy(parts), bot.safety.causes, bot.journal.total, list(app.progress)
        picture(bot, app, [], *WIDE)
        assert (parts, bot.safety.causes, bot.journal.total, list(app.progress)) == before
        compared += 1

    await run_paper(12, look=look)
    assert compared > 40


async def test_what_is_held_is_never_cut_off(autojump_clock: object) -> None:
    """PRD-2: where the rows are too few, markets with a position come first and the others are counted."""
    album = Album((80, 13))
    held: list[list[str]] = []

    def look(app: App) -> None:
        album.look(app)
        held.append([p.coin for p in app.bot.ledger.held()])

    await run_paper(40, journal=album.journal, look=look)
    cut = 0
    for coins, (state, _, lines) in zip(held, album.taken, strict=True):
        if state is LifecycleState.RUNNING and len(coins) == 1:
            assert any(line.startswith(coins[0]) for line in lines)
            cut += any(line.endswith(" more markets") for line in lines)
    assert cut > 0


async def test_repeated_events_are_one_line(autojump_clock: object) -> None:
    """OBS-1: the same words in a row stand once, with their count."""
    shown: list[str] = []

    def begin(app: App, _nursery: trio.Nursery) -> None:
        events = [Note(T0, "warning", "ws_lost", {"link": "market", "reason": "closed"})] * 3
        shown.extend(picture(app.bot, app, events, *WIDE))

    await run_paper(2, on_app=begin)
    assert [line for line in shown if "link lost" in line] == ["00:00:00 market link lost: closed  (x3)"]


def terminal(file: io.StringIO, **kwargs: object) -> Console:
    return Console(file=file, force_terminal=True, width=120, height=40, _environ={"TERM": "xterm-256color"})


async def test_the_terminal_is_restored_when_cancelled(autojump_clock: object) -> None:
    """END-1: whoever cancels the display gets the cursor back, once, with the last picture left standing."""
    screen = io.StringIO()

    def begin(app: App, nursery: trio.Nursery) -> None:
        display = LiveStatus(app.bot, app, JournalReader(app.bot.journal, app.bot.io.clock), terminal(screen))

        async def show() -> None:
            with trio.move_on_after(5):
                await display.run()

        nursery.start_soon(show)

    ended = await run_paper(8, on_app=begin)
    text = screen.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert text.rindex("\x1b[?25l") < text.rindex("\x1b[?25h")
    assert "xyz:SNDK" in text
    assert ended.outcome.exit_code == 0


async def test_finish_leaves_the_final_state(autojump_clock: object) -> None:
    """PRD-2: `finish` draws once more, so that the end of the way out stays on the screen; a second call does nothing."""
    screen = io.StringIO()
    displays: list[LiveStatus] = []

    def begin(app: App, nursery: trio.Nursery) -> None:
        displays.append(LiveStatus(app.bot, app, JournalReader(app.bot.journal, app.bot.io.clock), terminal(screen)))
        nursery.start_soon(displays[0].run)

    async def run() -> None:
        await run_paper(8, on_app=begin)
        displays[0].finish()

    await run()
    text = screen.getvalue()
    displays[0].finish()
    assert screen.getvalue() == text
    assert "STOPPED" in text[text.rindex("hip3") - 200 :]
    assert text.endswith("\x1b[?25h")


async def trade_on(gone: IO[str]) -> None:
    """A run whose display cannot write; it must trade and end flat, and say once that the picture failed."""
    journal = Journal()
    readers: list[JournalReader] = []

    def begin(app: App, nursery: trio.Nursery) -> None:
        console = Console(file=gone, force_terminal=True, width=120, height=40, _environ={"TERM": "xterm"})
        readers.append(JournalReader(journal, app.bot.io.clock))
        nursery.start_soon(LiveStatus(app.bot, app, readers[0], console).run)

    failed = 0

    def look(_app: App) -> None:
        nonlocal failed
        failed += "display_failed" in [n.event for n in readers[0].recent]

    ended = await run_paper(30, journal=journal, on_app=begin, look=look)
    readers[0].close()
    assert ended.outcome.exit_code == 0
    assert ended.bot.tally.volume_usd > 0
    assert "display_failed" in [n.event for n in readers[0].recent] or failed


async def test_a_terminal_that_hung_up_does_not_end_trading(autojump_clock: object) -> None:
    """END-2: a window that was closed is noted; the bot trades on and ends flat."""
    master, slave = os.openpty()
    gone = os.fdopen(slave, "w")
    os.close(master)
    await trade_on(gone)
    with suppress(OSError):
        gone.close()


async def test_a_pipe_that_broke_does_not_end_trading(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """END-2: rich ends the process on a broken pipe; a position would stay open. Here the bot trades on and ends flat."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as gone:
        monkeypatch.setattr("sys.stdout", gone)  # rich points standard output at nothing when its pipe breaks
        await trade_on(gone)


def test_only_a_real_terminal_gets_the_picture() -> None:
    """PRD-2: a file, a dumb terminal and one without the characters get plain lines."""
    assert can_show(terminal(io.StringIO()))
    assert not can_show(Console(file=io.StringIO()))
    assert not can_show(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}))
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert not can_show(Console(file=ascii_only, force_terminal=True, _environ={"TERM": "xterm"}))
