"""Where the journal's notes go: a log of JSON lines, plain lines of text, and what the live display keeps (OBS-1).

There is one drain, `JournalReader.poll`. Nothing here decides or waits for trading, and nothing here may end it: a log or
an output that cannot be written is said once, and trading goes on.
"""

from __future__ import annotations

import select
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import trio
from attrs import define, field

from hip3.cli.words import clock_text, refusal_of, sentence
from hip3.core.clock import Clock
from hip3.core.journal import Journal, Note
from hip3.ops.journal_file import LogFile

POLL_S = 0.25
KEPT_FOR_DISPLAY = 50
MINUTE_MS = 60_000
KEPT_LINES = 1000
"""Lines that wait for a stopped terminal: some minutes of trading."""

# ---- lines of text


def accepts(out: IO[str]) -> bool:
    """True where `out` takes bytes now. A terminal stopped by Ctrl+S and a pipe that nobody reads do not: writing to one
    would hold up the whole process, the exits included."""
    try:
        return bool(select.select((), (out.fileno(),), (), 0)[1])
    except (OSError, ValueError):  # not a file of the operating system, or closed: a write says so at once
        return True


class PlainOutput:
    """A line of text per note. It waits for nobody: lines that `out` does not take are kept, then dropped, oldest first."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._waiting: deque[str] = deque(maxlen=KEPT_LINES)

    def write(self, notes: Iterable[Note]) -> str | None:
        """Writes what `out` takes now; the error where it is gone. Never raises OSError."""
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        self._waiting += [plain_line(n).encode(encoding, "backslashreplace").decode(encoding) for n in notes]
        try:
            while self._waiting and accepts(self._out):
                self._out.write(self._waiting.popleft() + "\n")
                self._out.flush()
        except (OSError, ValueError) as e:  # ValueError: it was closed
            return str(e)
        return None


_LEVELS = {"info": "", "warning": "WARNING ", "error": "ERROR ", "critical": "CRITICAL "}


def plain_line(note: Note) -> str:
    """`12:00:01.250  sentence`, with the level in capitals from warning on."""
    level = _LEVELS.get(note.level, f"{note.level} ")
    return f"{clock_text(note.wall_ms)}.{note.wall_ms % 1000:03d}  {level}{sentence(note)}"


# ---- the drain

_PLUMBING = frozenset(
    {
        "signal",
        "action_signed",
        "post_response",
        "order_enqueued",
        "reduce_only_enqueued",
        "position_updated",
        "position_reconciled",
        "subscribed",
    }
)
"""Steps that a log needs and a person at a display does not."""

_REPEATING = frozenset(
    {"frame_unreadable", "channel_error", "account_unread", "service_unread", "doubt_unanswered", "subscribe_unacknowledged"}
)
"""Warnings that a bad venue can bring many times a second (LESSONS 29)."""


@define
class _Repeats:
    """The first of a kind goes out in full; later ones go out as a count, one line a minute (OBS-1)."""

    due_ms: int
    filtered: Mapping[str, Counter[str]] = field(factory=dict)
    """Counts per coin of what the detector did not signal."""
    _seen: set[tuple[str, ...]] = field(factory=set)
    _refused: dict[str, Counter[str]] = field(factory=dict)
    _warned: Counter[str] = field(factory=Counter)
    _told: dict[str, Counter[str]] = field(factory=dict)

    def takes(self, note: Note) -> bool:
        """True where `note` repeats one that went out before; it is then counted here."""
        who = str(note.fields.get("coin", note.fields.get("link", "")))
        what = note.event
        if note.event == "signal_judged":
            what = str(note.fields.get("verdict"))
            if refusal_of(what) is None:
                return False
        elif note.event not in _REPEATING:
            return False
        if note.event == "signal_judged":
            self._refused.setdefault(who, Counter())[what] += 1
        if (who, what) not in self._seen:
            self._seen.add((who, what))
            return False
        if note.event != "signal_judged":
            self._warned[f"{who} {what}".strip()] += 1
        return True

    def minute(self, mono_ms: int, wall_ms: int, *, ended: bool = False) -> list[Note]:
        """The counts of a minute that is over, or of the rest of one when all has ended; none where nothing was counted."""
        if mono_ms < self.due_ms and not ended:
            return []
        self.due_ms = mono_ms + MINUTE_MS
        new = {coin: whys - self._told.get(coin, Counter()) for coin, whys in self.filtered.items()}
        counts = {"refused": _plain(self._refused), "filtered": _plain(new)}
        notes = [Note(wall_ms, "info", "not_traded", dict(counts))] if any(counts.values()) else []
        if self._warned:
            notes.append(Note(wall_ms, "warning", "repeated", dict(self._warned)))
        self._told = {coin: Counter(whys) for coin, whys in self.filtered.items()}
        self._refused.clear()
        self._warned.clear()
        return notes


def _plain(counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {coin: dict(whys) for coin, whys in sorted(counts.items()) if whys}


class JournalReader:
    """The one reader of the journal: hands each note to the log, to the plain output, and to what the display keeps."""

    def __init__(
        self, journal: Journal, clock: Clock, *, log: Path | LogFile | None = None, plain: IO[str] | None = None
    ) -> None:
        """`log` takes every note, `plain` a line of each from level info on. Raises LogUnwritable, with nothing started."""
        self.recent: deque[Note] = deque(maxlen=KEPT_FOR_DISPLAY)
        """What a person at a display wants to see of the last notes, newest last."""
        self._journal = journal
        self._clock = clock
        self._log = LogFile(log) if isinstance(log, Path) else log
        self._plain = PlainOutput(plain) if plain is not None else None
        self._log_failed = False
        self._dropped = 0
        self._repeats = _Repeats(clock.mono_ms() + MINUTE_MS)

    def count_filters(self, rejected: Mapping[str, Counter[str]]) -> None:
        """Adds to each minute's line what the detector did not signal: `Detector.rejected`, read and never changed."""
        self._repeats.filtered = rejected

    def say_plain(self, out: IO[str]) -> None:
        """From now on a line of each note goes to `out`; for a display that fails."""
        self._plain = PlainOutput(out)

    def say_no_more(self) -> None:
        """Says what has come, and from then on nothing in lines: a display begins."""
        self.poll()
        self._plain = None

    async def run(self) -> None:
        """Polls until cancelled. What came since the last poll is for `close`."""
        while True:
            self.poll()
            await trio.sleep(POLL_S)

    def poll(self) -> list[Note]:
        """Takes what has come and passes it on; returns it. Never raises OSError."""
        return self._pass_on(ended=False)

    def close(self) -> None:
        """The last poll, with the counts of the unfinished minute; closes the log."""
        self._pass_on(ended=True)
        if self._log is not None:
            self._log.close()
            self._log = None

    def _pass_on(self, *, ended: bool) -> list[Note]:
        notes = self._journal.drain()
        wall = self._clock.wall_ms()
        if self._journal.dropped > self._dropped:
            notes.append(Note(wall, "warning", "notes_dropped", {"count": self._journal.dropped - self._dropped}))
            self._dropped = self._journal.dropped
        counted = [n for n in notes if self._repeats.takes(n)]
        notes += self._repeats.minute(self._clock.mono_ms(), wall, ended=ended)
        notes += self._write(notes, wall)
        hidden = {id(n) for n in counted}
        quiet = {n.fields.get("signal") for n in counted} - {None}
        shown = [n for n in notes if n.level != "debug" and id(n) not in hidden and not _tells_of(n, quiet)]
        self._print(shown, wall)
        self.recent += [n for n in shown if n.event not in _PLUMBING and n.event != "not_traded"]
        return notes

    def _write(self, notes: list[Note], wall_ms: int) -> list[Note]:
        """Writes the log; the one note that says that it cannot be written."""
        problem = self._log.write(notes) if self._log is not None else None
        if problem is None or self._log_failed:
            return []
        self._log_failed = True
        return [Note(wall_ms, "error", "log_unwritable", {"error": problem})]

    def _print(self, notes: list[Note], wall_ms: int) -> None:
        problem = self._plain.write(notes) if self._plain is not None else None
        if problem is not None:
            self._plain = None
            self._journal.note(wall_ms, "error", "output_lost", error=problem)


def _tells_of(note: Note, quiet: set[object]) -> bool:
    """True for the signal whose refusal is counted and not printed."""
    return note.event == "signal" and note.fields.get("signal") in quiet
