"""What becomes of the journal's notes: words for people, plain lines, and a log of JSON lines (OBS-1).

There is one drain, `JournalReader.poll`; the display reads what it keeps. Nothing here decides or waits for trading, and
nothing here may end it: a log or a terminal that cannot be written is said once and trading goes on.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO

import trio
from attrs import define, field
from structlog.processors import JSONRenderer

from hip3.core import units
from hip3.core.clock import Clock
from hip3.core.gates import Refusal
from hip3.core.journal import Journal, Note
from hip3.fsm.lifecycle import LifecycleState

POLL_S = 0.25
KEPT_FOR_DISPLAY = 50
MINUTE_MS = 60_000
NAMED_IN_A_MINUTE = 12
"""Counts named in the plain line of a minute, the largest first; the log has them all."""

# ---- numbers and times as people read them


def px_text(value: Decimal) -> str:
    """A price as the venue writes it; an average is cut to six significant figures, one more than a price has."""
    decimals = max(0, units.MAX_SIGNIFICANT_FIGURES - value.adjusted()) if value else 0
    return units.wire(round(value, decimals))


def usd_text(value: Decimal, *, sign: bool = False) -> str:
    """USD with four decimals below 100, with two from there on."""
    text = f"{value:{'+' if sign else ''},.{4 if abs(value) < 100 else 2}f}"
    return text.replace("-", "+" if sign else "") if value == 0 or not text.strip("+-0.,") else text


def bps_text(value: Decimal, *, sign: bool = True) -> str:
    """Basis points with one decimal."""
    text = f"{value:{'+' if sign else ''}.1f}"
    return text.replace("-", "+" if sign else "") if not text.strip("+-0.") else text


def clock_text(wall_ms: int) -> str:
    """`HH:MM:SS` of the day, UTC."""
    return datetime.fromtimestamp(wall_ms // 1000, UTC).strftime("%H:%M:%S")


def iso_text(wall_ms: int) -> str:
    """ISO 8601 with milliseconds, UTC: `2026-01-01T00:00:00.050Z`."""
    return f"{datetime.fromtimestamp(wall_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{wall_ms % 1000:03d}Z"


def duration_text(ms: int) -> str:
    """`42s`, `3m 05s` or `2h 03m 05s`."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m {seconds:02d}s"
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"


def printable(text: str) -> str:
    """Text of others without control characters: the venue's words must not steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


# ---- notes in words

REFUSED_WORDS: dict[Refusal, str] = {
    Refusal.HARD_STOP: "entries are stopped",
    Refusal.NOT_READY: "not ready",
    Refusal.MAX_POSITION_PER_MARKET: "over the market cap",
    Refusal.MAX_POSITION_TOTAL: "over the total cap",
    Refusal.ALREADY_HAS_POSITION: "position already open",
    Refusal.PENDING_ORDER_EXISTS: "order in flight",
    Refusal.DAILY_TRADE_LIMIT: "daily trade limit",
    Refusal.BUDGET_EXHAUSTED: "action budget used up",
    Refusal.QUEUE_FULL: "order queue full",
    Refusal.INFLIGHT_FULL: "too many posts in flight",
}

FILTER_WORDS: dict[str, str] = {
    "one_sided": "one-sided book",
    "stale_bbo": "quote too old",
    "stale_reference": "reference too old",
    "direction": "reference moved the other way",
    "dedup": "same dislocation as before",
    "lot_above_cap": "one lot is over the cap",
    "thin_book": "too little at the touch",
    "below_venue_minimum": "below the venue's minimum",
}
"""The detector's own names of what it did not signal."""

_ACCEPTED = {"Queued": "accepted", "QueuedDegraded": "accepted, queue is filling"}

_SENTENCES: dict[str, str] = {
    "ready_trading": "READY: market data, orders, fills and positions are known",
    "not_ready": "not READY, missing: {missing}",
    "safety_mode": "{before} -> {after}: {reason} ({message})",
    "way_out": "{step}: {what}",
    "signal": "{coin}: {side} signal, {sz} at {px}, edge {edge_bps} bps against a cost of {cost_bps}",
    "order_enqueued": "{coin}: order {cloid} queued",
    "order_sent": "{coin}: sent {side} {sz} at {px}, order {cloid}",
    "action_signed": "post {post} signed: {type}, nonce {nonce}",
    "order_filled": "{coin}: order {cloid} filled, {filled}",
    "order_canceled": "{coin}: order {cloid} cancelled, {filled} filled",
    "order_rejected": "{coin}: order {cloid} refused by the venue",
    "order_expired": "{coin}: order {cloid} never reached the book",
    "action_rejected": "{coin}: order {cloid} refused: {error}",
    "fill": "{coin}: {side} {sz} filled at {px}, fee {fee} USD",
    "position_closed": "{coin}: closed ({exit_reason}), {pnl_usd} USD after fees",
    "position_corrected": "{coin}: position corrected from {ours} to the venue's {venue}",
    "time_stop_triggered": "{coin}: time stop after {age_ms} ms, closing",
    "flatten_triggered": "{coin}: closing ({reason})",
    "reduce_only_enqueued": "{coin}: close of {sz} queued at {px} or better, order {cloid}",
    "reduce_only_queue_full": "{coin}: the queue of closing orders is full; the next look asks again",
    "close_unpriced": "{coin}: cannot be closed: {why}",
    "flatten_failed": "{coin}: {szi} still open after {age_ms} ms; closing goes on",
    "in_doubt": "in doubt: {subject}: {why}",
    "doubt_answered": "doubt resolved: order {cloid} is {status}",
    "doubt_absent": "doubt resolved: order {cloid} never was at the venue ({proof})",
    "doubt_unanswered": "order {cloid} still in doubt after {tries} questions: {error}",
    "order_send_failure": "{coin}: an entry could not be sent, {in_a_row} in a row: {why}",
    "send_failure": "post {post} failed: {why}",
    "mark_released": "{coin}: order {cloid} was taken back before it was sent: {reason}",
    "market_excluded": "{coin}: left out until it has data: {missing}",
    "market_included": "{coin}: has data, taken in",
    "account_unread": "the account could not be read: {error}",
    "service_unread": "budget and clock could not be read: {error}",
    "clock_skew": "the clock is {offset_ms} ms from the venue's",
    "user_fills_snapshot": "fills so far are known: {count}",
    "open_orders_loaded": "open orders at the venue: {count}",
    "ws_connected": "{link} link connected",
    "ws_lost": "{link} link lost: {reason}",
    "subscribed": "{link} link: {channel} {coin} subscribed",
    "channel_error": "{link} link: the venue says: {text}",
    "frame_unreadable": "{link} link: a frame could not be read: {error}",
    "subscribe_unacknowledged": "{link} link: not acknowledged: {missing}",
    "task_crashed": "a task crashed, leaving: {error}",
    "display_failed": "the live display failed; trading goes on: {error}",
    "log_unwritable": "the log cannot be written; trading goes on, notes are lost: {error}",
    "output_lost": "the output cannot be written; trading goes on: {error}",
    "notes_dropped": "{count} notes were dropped: their reader did not keep up",
}


def sentence(note: Note) -> str:
    """One line of plain words for a note; an event without words of its own is its name and fields."""
    special = _SPECIAL.get(note.event)
    if special is not None:
        return printable(special(note.fields))
    template = _SENTENCES.get(note.event)
    shown = {name: _shown(name, value) for name, value in note.fields.items()}
    try:
        text = template.format_map(shown) if template is not None else None
    except KeyError:  # the note carries other fields than its words expect: show what it has
        text = None
    if text is None:
        text = f"{note.event}: " + ", ".join(f"{name} {value}" for name, value in shown.items())
    return printable(text)


def verdict_words(verdict: str, detail: str = "") -> str:
    """`Rejected(MaxPositionTotal)` and its numbers in words; an unknown verdict stays as it is."""
    if verdict in _ACCEPTED:
        return _ACCEPTED[verdict]
    refusal = _refusal_of(verdict)
    if refusal is None:
        return verdict
    words = REFUSED_WORDS[refusal]
    return f"{words} ({detail})" if detail else words


def _refusal_of(verdict: str) -> Refusal | None:
    name = verdict.partition("(")[2].rstrip(")")
    return next((r for r in Refusal if r.value == name), None)


def _judged(fields: Mapping[str, object]) -> str:
    verdict, detail = str(fields.get("verdict", "")), str(fields.get("detail", ""))
    if verdict in _ACCEPTED:
        return f"{fields.get('coin')}: signal {_ACCEPTED[verdict]}, order {_shown('cloid', detail)}"
    return f"{fields.get('coin')}: not traded, {verdict_words(verdict, detail)}"


def _moved(fields: Mapping[str, object]) -> str:
    szi, entry = fields.get("szi"), fields.get("entry_px")
    if not szi:
        return f"{fields.get('coin')}: flat"
    return f"{fields.get('coin')}: position {_shown('szi', szi)}, entry {_shown('px', entry)}"


def _stepped(fields: Mapping[str, object]) -> str:
    after = str(fields.get("after", ""))
    words = LifecycleState[after].value if after in LifecycleState.__members__ else "?"
    return f"{after}: {words}"


def _halted(fields: Mapping[str, object]) -> str:
    left = fields.get("residual")
    if fields.get("flat"):
        return "HALT: the venue shows no order and no position; waiting for the operator"
    return f"HALT: not flat yet: {'; '.join(map(str, left)) if isinstance(left, Iterable) else left}"


def _not_traded(fields: Mapping[str, object]) -> str:
    flat = [(int(str(n)), f"{coin} {why}") for coin, whys in fields.items() if isinstance(whys, dict) for why, n in whys.items()]
    flat.sort(key=lambda item: -item[0])
    named = ", ".join(f"{what} x{n}" for n, what in flat[:NAMED_IN_A_MINUTE])
    rest = sum(n for n, _ in flat[NAMED_IN_A_MINUTE:])
    return f"not traded in the last minute: {named}" + (f", other x{rest}" if rest else "")


_SPECIAL: dict[str, Callable[[Mapping[str, object]], str]] = {
    "signal_judged": _judged,
    "position_updated": _moved,
    "lifecycle": _stepped,
    "halt_flatten": _halted,
    "not_traded": _not_traded,
    "repeated": lambda fields: "again in the last minute: " + ", ".join(f"{what} x{n}" for what, n in fields.items()),
}


def _shown(name: str, value: object) -> str:
    """A field for people: edges with one decimal, money with four, our order ids by their number."""
    if isinstance(value, Decimal):
        if name.endswith("_bps"):
            return bps_text(value)
        if name.endswith("_usd"):
            return usd_text(value, sign=True)
        return px_text(value) if name.endswith("px") else units.wire(value)
    text = str(value)
    if name == "cloid" and len(text) == 34 and text.startswith("0x"):
        return f"#{int(text[26:], 16)}"
    if name == "side":
        return text.lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    return text


# ---- the log


class LogUnwritable(Exception):
    """The log file cannot be opened: path, cause and remedy. Raised before anything is started."""


class LogFile:
    """Appends notes as JSON lines: `time` (ISO 8601, ms, Z), `level`, `event`, what is `bound`, then the note's fields.

    Unbuffered, so that each poll's lines are with the operating system when `write` returns. A line torn by a full disk
    is closed by the next write that succeeds, which begins with a `log_gap` line that says how many notes are missing.
    """

    def __init__(self, path: Path, bound: Mapping[str, object] | None = None) -> None:
        """Opens `path` for appending. Raises LogUnwritable."""
        self.path = path
        self.lost = 0
        self._bound = dict(bound or {})
        self._torn = False
        self._gap = 0
        self._render = JSONRenderer(default=_json_value)
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as e:
            raise LogUnwritable(
                f"log file {path}: {e.strerror or e}; expected a file that can be appended to in a folder that exists"
            ) from e

    def write(self, notes: Iterable[Note]) -> str | None:
        """Appends `notes`; the error where the disk refused them, and they are counted as lost. Never raises OSError."""
        lines = [self._line(n) for n in notes]
        if not lines:
            return None
        gap = self._gap_line() if self._gap else ""
        data = (("\n" if self._torn else "") + gap + "".join(lines)).encode()
        try:
            while data:
                sent = self._file.write(data)
                self._torn = sent < len(data)
                data = data[sent:]
        except OSError as e:
            self._gap += len(lines)
            self.lost += len(lines)
            return f"{self.path}: {e.strerror or e}"
        self._gap = 0
        return None

    def close(self) -> None:
        self._file.close()

    def _line(self, note: Note) -> str:
        entry: dict[str, object] = {"time": iso_text(note.wall_ms), "level": note.level, "event": note.event, **self._bound}
        for name, value in note.fields.items():
            entry[name if name not in entry else f"{name}_"] = value
        return str(self._render(None, "", entry)) + "\n"

    def _gap_line(self) -> str:
        return str(self._render(None, "", {"level": "error", "event": "log_gap", **self._bound, "lost": self._gap})) + "\n"


def _json_value(value: object) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.name if isinstance(value, enum.Enum) else str(value)


# ---- the drain

_PLUMBING = frozenset(
    {"signal", "action_signed", "post_response", "order_enqueued", "reduce_only_enqueued", "position_updated", "subscribed"}
)
"""Steps that a log needs and a person at a display does not."""

_REPEATING = frozenset(
    {"frame_unreadable", "channel_error", "account_unread", "service_unread", "doubt_unanswered", "subscribe_unacknowledged"}
)
"""Warnings that a bad venue can bring many times a second (LESSONS 29)."""


@define
class _Repeats:
    """The first of a kind goes out in full; later ones are counted until the minute's line (OBS-1)."""

    filtered: Mapping[str, Counter[str]]
    """Counts per coin of what the detector did not signal; read, never changed."""
    due_ms: int
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
            if _refusal_of(what) is None:
                return False
        elif note.event not in _REPEATING:
            return False
        if (who, what) not in self._seen:
            self._seen.add((who, what))
            return False
        if note.event == "signal_judged":
            self._refused.setdefault(who, Counter())[verdict_words(what)] += 1
        else:
            self._warned[f"{who} {what}".strip()] += 1
        return True

    def minute(self, mono_ms: int, wall_ms: int, *, ended: bool = False) -> list[Note]:
        """The lines of a minute that is over, or of the rest of one when all has ended; none where nothing repeated."""
        if mono_ms < self.due_ms and not ended:
            return []
        self.due_ms = mono_ms + MINUTE_MS
        counts: dict[str, object] = {}
        for coin in sorted({*self._refused, *self.filtered}):
            new = self.filtered.get(coin, Counter()) - self._told.get(coin, Counter())
            whys = Counter({FILTER_WORDS.get(name, name): n for name, n in new.items()}) + self._refused.get(coin, Counter())
            if whys:
                counts[coin] = dict(whys)
        notes = [Note(wall_ms, "info", "not_traded", counts)] if counts else []
        if self._warned:
            notes.append(Note(wall_ms, "warning", "repeated", dict(self._warned)))
        self._told = {coin: Counter(whys) for coin, whys in self.filtered.items()}
        self._refused.clear()
        self._warned.clear()
        return notes


class JournalReader:
    """The one reader of the journal: hands each note to the log, to the plain output, and to what the display keeps."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        filtered: Mapping[str, Counter[str]] | None = None,
        log: LogFile | None = None,
        out: TextIO | None = None,
    ) -> None:
        """`filtered` is `Detector.rejected`; `log` takes everything, debug included; `out` gets a line per note from info on."""
        self.recent: deque[Note] = deque(maxlen=KEPT_FOR_DISPLAY)
        """What a person at a display wants to see of the last notes, newest last."""
        self._journal = journal
        self._clock = clock
        self._log = log
        self._out = out
        self._log_failed = False
        self._dropped = 0
        self._repeats = _Repeats({} if filtered is None else filtered, clock.mono_ms() + MINUTE_MS)

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
        if self._out is None:
            return
        try:
            for note in notes:
                self._out.write(_for(self._out, plain_line(note)) + "\n")
            self._out.flush()
        except (OSError, ValueError) as e:  # ValueError: it was closed
            self._out = None
            self._journal.note(wall_ms, "error", "output_lost", error=str(e))


def _tells_of(note: Note, quiet: set[object]) -> bool:
    """True for the signal whose refusal is counted and not printed."""
    return note.event == "signal" and note.fields.get("signal") in quiet


_LEVELS = {"info": " ", "warning": "WARNING ", "error": "ERROR ", "critical": "CRITICAL "}


def plain_line(note: Note) -> str:
    """`12:00:01.250  sentence`, with the level in capitals from warning on."""
    level = _LEVELS.get(note.level, f"{note.level} ").lstrip()
    return f"{clock_text(note.wall_ms)}.{note.wall_ms % 1000:03d}  {level}{sentence(note)}"


def _for(out: TextIO, line: str) -> str:
    """`line` in characters that `out` can write."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    return line.encode(encoding, "backslashreplace").decode(encoding)
