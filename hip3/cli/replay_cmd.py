"""`hip3 replay FILE --detector-only`: counts the episodes of dislocation in a recording, filters off.

It trades nothing and starts nothing; it reads one file and prints one report. Frames go through the venue's own parser,
so a recording that it counts is one that the bot could have traded on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec
from attrs import frozen

from hip3.core.episodes import Episode, EpisodeCounter, QuoteSource, Tally
from hip3.core.events import AssetCtx, Bbo, Book
from hip3.core.market import Reference
from hip3.exchange.recording import Recording, RecordingError
from hip3.venue.hyperliquid.errors import WireError
from hip3.venue.hyperliquid.parse import parse_frame

Choice = TypeVar("Choice", Reference, QuoteSource)

EXIT_OK = 0
EXIT_CONFIGURATION = 2  # END-3


@frozen
class Detection:
    """What a recording contained: counts per market, the finished episodes, and what the reader should know."""

    recording: Recording
    counter: EpisodeCounter
    episodes: tuple[Episode, ...]
    span_ms: int
    unreadable_frames: int
    first_unreadable: str | None
    notes: tuple[str, ...]


def replay_detector_only(
    path: Path,
    *,
    reference: str = "oracle",
    threshold_bps: Decimal,
    as_json: bool = False,
    quotes: str = "bbo",
    allow_truncated: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Prints the report of one recording, as one JSON object with `as_json`; returns the exit code.

    `reference` is oracle, mark or mid; `quotes` is bbo or l2Book. 0 is a whole recording read, 2 a file that cannot be
    read or an argument that means nothing; the message then goes to `err` and nothing to `out`.
    """
    out = sys.stdout if out is None else out
    err = sys.stderr if err is None else err
    try:
        counter = EpisodeCounter(_choice(Reference, reference), threshold_bps, quotes=_choice(QuoteSource, quotes))
        detection = detect(Recording(path, allow_truncated=allow_truncated), counter)
    except (RecordingError, ValueError) as error:
        print(f"replay: {error}", file=err)
        return EXIT_CONFIGURATION
    print(msgspec.json.encode(describe(detection)).decode() if as_json else _readable(detection), file=out)
    return EXIT_OK


def detect(recording: Recording, counter: EpisodeCounter) -> Detection:
    """Runs every frame of `recording` through `counter`. Raises RecordingError.

    A frame that the venue's parser cannot read is counted and named, and the reading goes on, as a session would (WS-4).
    """
    episodes: list[Episode] = []
    first_ms = last_ms = None
    unreadable, first_unreadable = 0, None
    for frame in recording.frames():
        first_ms = frame.recv_ms if first_ms is None else first_ms
        last_ms = frame.recv_ms
        try:
            event = parse_frame(frame.raw)
        except WireError as error:
            unreadable += 1
            first_unreadable = first_unreadable or f"line {frame.line}: {error}"
            continue
        if isinstance(event, Bbo | AssetCtx | Book):
            ended = counter.observe(event)
            if ended is not None:
                episodes.append(ended)
    episodes.extend(counter.finish())
    return Detection(
        recording=recording,
        counter=counter,
        episodes=tuple(episodes),
        span_ms=0 if first_ms is None or last_ms is None else last_ms - first_ms,
        unreadable_frames=unreadable,
        first_unreadable=first_unreadable,
        notes=tuple(_notes(counter, unreadable)),
    )


def describe(detection: Detection) -> dict[str, object]:
    """The report as plain JSON values; basis points are rounded to four decimals, durations are ms of venue time."""
    counter, recording = detection.counter, detection.recording
    hours = Decimal(detection.span_ms) / 3_600_000
    tallies = counter.tallies
    return {
        "file": recording.path.name,
        "reference": counter.reference.value,
        "quotes": counter.quotes.value,
        "threshold_bps": float(counter.threshold_bps),
        "frames": recording.lines,
        "span_s": round(detection.span_ms / 1000, 3),
        **_totals(tallies.values()),
        "episodes_per_hour": round(float(counter.episodes / hours), 2) if hours else None,
        "episode_ms": _durations(detection.episodes),
        "coins": {
            coin: {**_totals([tally]), "episode_ms": _durations([e for e in detection.episodes if e.coin == coin])}
            for coin, tally in tallies.items()
        },
        "unreadable_frames": detection.unreadable_frames,
        "first_unreadable": detection.first_unreadable,
        "backward_steps": recording.backward_steps,
        "truncated_after_line": recording.truncated_after,
        "notes": list(detection.notes),
    }


def _choice(kind: type[Choice], text: str) -> Choice:
    try:
        return kind(text)
    except ValueError:
        allowed = ", ".join(member.value for member in kind)
        raise ValueError(f"{kind.__name__.lower()}: found {text!r}, expected one of {allowed}") from None


def _totals(tallies: Iterable[Tally]) -> dict[str, object]:
    counted = list(tallies)
    edges = [tally.max_edge_bps for tally in counted if tally.max_edge_bps is not None]
    return {
        "bbo_updates": sum(tally.bbo_updates for tally in counted),
        "episodes": sum(tally.episodes for tally in counted),
        "max_edge_bps": round(float(max(edges)), 4) if edges else None,
        "reference_updates": sum(tally.reference_updates for tally in counted),
        "bbo_before_reference": sum(tally.before_reference for tally in counted),
        "one_sided": sum(tally.one_sided for tally in counted),
    }


def _durations(episodes: Sequence[Episode]) -> dict[str, int] | None:
    if not episodes:
        return None
    ordered = sorted(episode.duration_ms for episode in episodes)
    return {
        "min": ordered[0],
        "median": ordered[len(ordered) // 2],
        "p95": ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)],
        "max": ordered[-1],
    }


def _notes(counter: EpisodeCounter, unreadable: int) -> Iterable[str]:
    tallies = counter.tallies.values()
    if counter.reference is not Reference.ORACLE:
        yield f"reference is the {counter.reference.value}, not the oracle that the bot trades on"
    if not counter.reference_updates:
        yield f"no {counter.reference.value} in this recording: nothing could be judged; try another reference"
    if not any(tally.bbo_updates + tally.before_reference for tally in tallies):
        yield f"no {counter.quotes.value} frame in this recording; the other source of quotes may have some"
    if unreadable:
        yield f"{unreadable} frames could not be read and were left out"


def _readable(detection: Detection) -> str:
    counter, recording = detection.counter, detection.recording
    lines = [
        f"{recording.path.name}: {recording.lines} frames over {detection.span_ms / 1000:.1f} s",
        f"{counter.episodes} episodes of {counter.threshold_bps} bps or more against the {counter.reference.value} "
        f"in {counter.bbo_updates} {counter.quotes.value} updates",
    ]
    for coin, tally in counter.tallies.items():
        durations = _durations([episode for episode in detection.episodes if episode.coin == coin])
        lasting = "" if durations is None else f", lasting {durations['median']} ms (median) to {durations['max']} ms"
        widest = "" if tally.max_edge_bps is None else f", widest edge {tally.max_edge_bps:.2f} bps"
        lines.append(f"  {coin}: {tally.episodes} in {tally.bbo_updates} updates{widest}{lasting}")
    lines += [f"note: {note}" for note in detection.notes]
    if detection.first_unreadable is not None:
        lines.append(f"first unreadable frame: {detection.first_unreadable}")
    if recording.truncated_after is not None:
        lines.append(f"note: the file is cut off after line {recording.truncated_after}")
    return "\n".join(lines)
