"""Where the journal goes: the log, the plain lines, the counts of repeats, and outputs that cannot be written."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import resource
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from hip3.app import App
from hip3.cli.printer import KEPT_FOR_DISPLAY, MINUTE_MS, JournalReader, plain_line
from hip3.cli.words import SENTENCES, SPECIAL, age_text, bps_text, duration_text, px_text, sentence, size_text, usd_text
from hip3.core.journal import CAPACITY, Journal, Note
from hip3.fsm.order import OrderState
from hip3.ops.journal_file import LogFile, LogUnwritable
from hip3.venue.hyperliquid.signing import TradingKey
from tests.cli.cli_runs import T0, picture, run_paper

SOURCES = Path(__file__).resolve().parents[2] / "hip3"


@define
class HandClock:
    """A clock that the test moves."""

    mono: int = 0

    def wall_ms(self) -> int:
        return T0 + self.mono

    def mono_ms(self) -> int:
        return self.mono


def judged(coin: str, verdict: str, signal: str = "s-1", detail: str = "") -> dict[str, object]:
    return {"signal": signal, "coin": coin, "verdict": verdict, "detail": detail}


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_log_of_a_run_has_one_object_a_line(autojump_clock: object, tmp_path: Path) -> None:
    """OBS-1: every note of a run is one JSON object with time, level and event; decimals are text, debug is included."""
    journal, log = Journal(), tmp_path / "run.jsonl"
    readers: list[JournalReader] = []

    def begin(app: App, nursery: trio.Nursery) -> None:
        readers.append(JournalReader(journal, app.bot.io.clock, log=log))
        nursery.start_soon(readers[0].run)

    ended = await run_paper(40, journal=journal, on_app=begin)
    readers[0].close()
    entries = lines_of(log)
    assert all(re.fullmatch(r"2026-01-01T00:\d\d:\d\d\.\d{3}Z", str(e["time"])) for e in entries)
    assert {e["level"] for e in entries} >= {"debug", "info"}
    fills = [e for e in entries if e["event"] == "fill"]
    assert all(isinstance(e["px"], str) for e in fills)
    volume = sum((Decimal(str(e["px"])) * Decimal(str(e["sz"])) for e in fills), Decimal(0))
    assert volume == ended.bot.tally.volume_usd > 0


async def test_refusals_are_said_once_and_then_counted(autojump_clock: object) -> None:
    """OBS-1: of a market's refusals with one verdict the first is a line; the minute's counts add up to all of them."""
    journal, out = Journal(), io.StringIO()
    readers: list[JournalReader] = []
    notes: list[Note] = []

    def look(app: App) -> None:
        if not readers:
            readers.append(JournalReader(journal, app.bot.io.clock, plain=out))
            readers[0].count_filters(app.bot.detector.rejected)
        notes.extend(readers[0].poll())

    ended = await run_paper(130, journal=journal, look=look)
    readers[0].close()
    full = [line for line in out.getvalue().splitlines() if "not traded," in line]
    kinds = {(n.fields["coin"], n.fields["verdict"]) for n in notes if n.event == "signal_judged"}
    assert 0 < len(full) <= len(kinds)
    minutes = [line for line in out.getvalue().splitlines() if "last minute, signals refused" in line]
    assert len(minutes) == 3, "two whole minutes and the rest"
    refused = sum(n for v, n in ended.bot.signal_book.verdicts.items() if "(" in v)
    said = [int(n) for line in minutes for n in re.findall(r" x(\d+)", line.partition("; evaluations")[0])]
    assert sum(said) == refused > len(full)


def test_the_minute_counts_what_gave_no_signal_at_all() -> None:
    """OBS-1, LESSONS 29: what the detector's filters turned away is a count per minute too, new ones only."""
    journal, clock, out = Journal(), HandClock(), io.StringIO()
    reader = JournalReader(journal, clock, plain=out)
    rejected = {"xyz:MU": Counter(dedup=3)}
    reader.count_filters(rejected)
    clock.mono = MINUTE_MS
    reader.poll()
    rejected["xyz:MU"]["dedup"] += 2
    clock.mono = 2 * MINUTE_MS
    reader.poll()
    clock.mono = 3 * MINUTE_MS
    reader.poll()
    said = [line.partition("  ")[2] for line in out.getvalue().splitlines()]
    words = "last minute, evaluations without a signal: xyz:MU same dislocation as before"
    assert said == [f"{words} x3", f"{words} x2"]
    assert rejected == {"xyz:MU": Counter(dedup=5)}


def test_the_signal_of_a_counted_refusal_is_not_printed_either() -> None:
    """OBS-1: a signal whose refusal is only counted adds no line of its own."""
    journal, out = Journal(), io.StringIO()
    reader = JournalReader(journal, HandClock(), plain=out)
    for n in (1, 2):
        journal.note(T0, "info", "signal", signal=f"s-{n}", coin="xyz:MU", side="BUY")
        journal.note(T0, "info", "signal_judged", **judged("xyz:MU", "Skipped(AlreadyHasPosition)", f"s-{n}", "0.05"))
    reader.poll()
    assert len(out.getvalue().splitlines()) == 2
    assert "not traded, position already open (0.05)" in out.getvalue()


def test_a_flood_of_unreadable_frames_is_two_lines_a_minute() -> None:
    """LESSONS 29: 250 000 warnings are one line and one count."""
    journal, clock, out = Journal(), HandClock(), io.StringIO()
    reader = JournalReader(journal, clock, plain=out)
    for n in range(5000):
        journal.note(T0, "warning", "frame_unreadable", link="market", error="bad", count=n)
    reader.poll()
    clock.mono = MINUTE_MS
    reader.poll()
    assert [line.partition("WARNING ")[2] for line in out.getvalue().splitlines()] == [
        "market link: a frame could not be read: bad",
        "last minute, again: market frame_unreadable x4999",
    ]


async def test_no_key_is_in_any_output_of_a_run(autojump_clock: object, tmp_path: Path) -> None:
    """KEY-4: neither the agent's nor the account's key is in the log, the plain lines, the picture or the notes."""
    agent_secret, master_secret = bytes(range(1, 33)), bytes(range(101, 133))
    master, agent = TradingKey(master_secret), TradingKey(agent_secret)
    journal, out, log = Journal(), io.StringIO(), tmp_path / "run.jsonl"
    readers: list[JournalReader] = []
    seen: list[str] = []
    looks = itertools.count()

    def look(app: App) -> None:
        if not readers:
            readers.append(JournalReader(journal, app.bot.io.clock, log=log, plain=out))
        seen.extend(repr(note) for note in readers[0].poll())
        if next(looks) % 4 == 0:  # each second
            seen.extend(picture(app.bot, app, list(readers[0].recent), 120, 40))
            seen.append(repr(app.bot.trader))

    ended = await run_paper(30, journal=journal, given=(master.address, agent), look=look)
    readers[0].close()
    assert ended.outcome.exit_code == 0
    everything = "\n".join([*seen, out.getvalue(), log.read_text()]).lower()
    assert agent.address[2:6].lower() in everything, "the search would find what is there"
    for secret in (agent_secret, master_secret):
        assert secret.hex() not in everything
        assert repr(secret).lower() not in everything


def test_a_log_that_cannot_be_opened_refuses_the_start(tmp_path: Path) -> None:
    """OBS-1: the error names the path, the cause and what to do, before anything runs."""
    with pytest.raises(LogUnwritable, match=r"log file .*Is a directory; name a file that can be written"):
        JournalReader(Journal(), HandClock(), log=tmp_path)
    with pytest.raises(LogUnwritable, match="No such file or directory"):
        LogFile(tmp_path / "missing" / "run.jsonl")


async def test_a_full_disk_is_said_once_and_trading_goes_on(autojump_clock: object) -> None:
    """OBS-1: a log that takes no byte any more costs one error line, not the run: it trades and ends flat."""
    journal, out = Journal(), io.StringIO()
    readers: list[JournalReader] = []

    def look(app: App) -> None:
        if not readers:
            readers.append(JournalReader(journal, app.bot.io.clock, log=Path("/dev/full"), plain=out))
        readers[0].poll()

    ended = await run_paper(30, journal=journal, look=look)
    readers[0].close()
    said = [line for line in out.getvalue().splitlines() if "ERROR" in line]
    assert len(said) == 1
    assert said[0].endswith(
        "ERROR the log cannot be written; trading goes on, notes are lost: /dev/full: No space left on device"
    )
    assert ended.outcome.exit_code == 0
    assert ended.bot.tally.fills > 0


def test_a_log_goes_on_after_a_full_disk_and_says_how_much_is_missing(tmp_path: Path) -> None:
    """OBS-1, LESSONS 34: a torn line is closed, and a `log_gap` line counts the notes that are not there."""
    path = tmp_path / "run.jsonl"
    log = LogFile(path)
    note = Note(T0, "info", "fill", {"px": Decimal("1.50"), "coin": "xyz:MU"})
    assert log.write([note]) is None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))  # ten bytes of the next line fit
    try:
        assert "File too large" in str(log.write([note, note]))
        assert log.write([note]) is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.write([note]) is None
    log.close()
    first, torn, gap, last = path.read_text().splitlines()
    assert json.loads(first) == json.loads(last) == {
        "time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "fill", "px": "1.50", "coin": "xyz:MU"
    }  # fmt: skip
    assert len(torn) == 10
    assert json.loads(gap) == {"level": "error", "event": "log_gap", "lost": 3}


def test_a_stopped_terminal_does_not_hold_up_the_bot() -> None:
    """DESIGN 3: a pipe that nobody reads (or Ctrl+S) is not waited for; the lines come when it is read again."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += os.write(write_end, b"." * 4096)
    os.set_blocking(write_end, True)  # from here on a careless write would wait for ever
    journal = Journal()
    with os.fdopen(write_end, "w") as out:
        reader = JournalReader(journal, HandClock(), plain=out)
        journal.note(T0, "info", "ws_connected", link="market")
        reader.poll()
        while filled:
            filled -= len(os.read(read_end, filled))
        reader.poll()
        assert os.read(read_end, 4096) == b"00:00:00.000  market link connected\n"
    os.close(read_end)


def test_an_output_that_is_gone_is_noted_and_nothing_raises() -> None:
    """OBS-1: `hip3 run | head` ends the lines, not the trading; the log and the display hear of it."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    journal = Journal()
    out = os.fdopen(write_end, "w")
    reader = JournalReader(journal, HandClock(), plain=out)
    for _ in range(3):
        journal.note(T0, "info", "ws_connected", link="market")
        reader.poll()
    assert [n.event for n in reader.recent].count("output_lost") == 1
    with suppress(BrokenPipeError):
        out.close()


def test_dropped_notes_are_said() -> None:
    """LESSONS 34: where the journal ran over, the reader says how many notes are missing."""
    journal, out = Journal(), io.StringIO()
    for _ in range(CAPACITY + 7):
        journal.note(T0, "debug", "inflight")
    JournalReader(journal, HandClock(), plain=out).poll()
    assert out.getvalue().endswith("WARNING 7 notes were dropped: their reader did not keep up\n")


def test_the_display_keeps_the_last_notes_without_plumbing() -> None:
    """PRD-2: the picture's events are what a person wants to see, a bounded number of them."""
    journal = Journal()
    reader = JournalReader(journal, HandClock())
    for n in range(200):
        journal.note(T0, "info", "action_signed", post=n)
        journal.note(T0, "info", "ws_connected", link=str(n))
    reader.poll()
    assert [n.fields["link"] for n in reader.recent] == [str(n) for n in range(200 - KEPT_FOR_DISPLAY, 200)]


def test_words_of_the_venue_cannot_steer_the_terminal() -> None:
    """OBS-1: control characters in the venue's text are shown as `?`."""
    line = plain_line(Note(T0, "warning", "channel_error", {"link": "market", "text": "\x1b[2J\r\nhidden\x07"}))
    assert line == "00:00:00.000  WARNING market link: the venue says: ?[2J hidden?"


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (usd_text(Decimal("-0.00001")), "0.0000"),
        (usd_text(Decimal("0.0174"), sign=True), "+0.0174"),
        (usd_text(Decimal("-1234.5678")), "-1,234.57"),
        (bps_text(Decimal("-0.04")), "+0.0"),
        (bps_text(Decimal("7.9"), sign=False), "7.9"),
        (px_text(Decimal("1525.4333333")), "1525.43"),
        (px_text(Decimal("117432")), "117432"),
        (px_text(Decimal("0.00012345")), "0.00012345"),
        (size_text(Decimal("16.805")), "16.8"),
        (size_text(Decimal("12345.6")), "12.3k"),
        (duration_text(7_385_000), "2h 03m 05s"),
        (age_text(125_000), "2m"),
    ],
)
def test_numbers_are_short_and_never_minus_zero(shown: str, said: str) -> None:
    """PRD-2: prices as the venue writes them, USD with two to four decimals, basis points with one."""
    assert shown == said


values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.decimals(allow_nan=False, allow_infinity=False))


@given(
    event=st.one_of(st.sampled_from(sorted({*SENTENCES, *SPECIAL})), st.text(min_size=1)),
    fields=st.dictionaries(
        st.one_of(st.text(), st.sampled_from(["coin", "verdict", "detail", "time", "szi", "flat"])), values
    ),
)
def test_any_note_is_one_printable_line_and_one_json_object(
    tmp_path_factory: pytest.TempPathFactory, event: str, fields: dict[str, object]
) -> None:
    """OBS-1: no note, whatever its fields, breaks the lines or the log."""
    note = Note(T0, "info", event, fields)
    assert sentence(note).isprintable()
    path = tmp_path_factory.mktemp("log") / "run.jsonl"
    log = LogFile(path)
    assert log.write([note]) is None
    log.close()
    (entry,) = lines_of(path)
    assert entry["event"] == event
    assert len(entry) == 3 + len(fields)


def test_every_event_with_words_exists() -> None:
    """LESSONS 5: words are for events that the code notes, under the names that it uses."""
    text = "\n".join(p.read_text() for p in SOURCES.rglob("*.py") if p.name != "words.py")
    made = {f"order_{state.name.lower()}" for state in OrderState}
    assert [event for event in {*SENTENCES, *SPECIAL} if f'"{event}"' not in text and event not in made] == []
