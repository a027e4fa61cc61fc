"""`hip3 explain`: why a signal was traded or not, and what became of it, from store and journal of its run (OPS-7)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.words import (
    EXIT_WORDS,
    bps_text,
    clock_text,
    printable,
    px_text,
    sentence,
    usd_text,
    verdict_words,
)
from hip3.core import units
from hip3.core.journal import Note
from hip3.ops.journal_file import iso_text, journals, state_dir
from hip3.ops.stores import OpenStore, known_sources, reading
from hip3.ops.story import Entry, Story, UnknownSignal, find_story, last_signal, wall_ms
from hip3.ops.story_store import find_stored, last_stored, with_journal
from hip3.settings import ConfigError
from hip3.store.errors import StoreError

EXIT_OK, EXIT_CONFIGURATION = 0, 2
_NUMBERS = ("_bps", "_usd", "px", "sz", "szi", "fee", "filled")
"""Ends of the names of fields that are decimals in the bot and text in its journal."""


def explain(
    signal_id: Annotated[str | None, Parameter(help="The signal, such as 19b76d42c00-3.")] = None,
    *,
    last: Annotated[bool, Parameter(negative="", help="The newest signal, in place of an id.")] = False,
    coin: Annotated[str | None, Parameter(help="With --last: the newest of this market.")] = None,
    journal: Annotated[Path | None, Parameter(help="Journal to read in place of the store.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Explain a signal: the verdict of every filter and gate with its inputs and their ages, and what became of it.

    The store tells it, of any run; a journal that is kept still adds what it alone knows. --config names another store.
    Exit code 0; 2 for a signal that neither knows, or for a file that cannot be read.

    Example: hip3 explain --last --coin xyz:SNDK
    """
    if (signal_id is None) is not last:
        return _failed("name a signal, or ask for the newest with --last", as_json=as_json)
    if coin is not None and not last:
        return _failed("--coin goes with --last; a signal's id says its market", as_json=as_json)
    state = state_dir(os.environ)
    try:
        sources = [] if journal is not None else known_sources(state, config, os.environ)
        with reading(sources) as stores:
            story = _find(stores, [journal] if journal is not None else journals(state), signal_id, coin)
            in_spool = next((store.in_spool for store in stores if store.name == story.store), 0)
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except StoreError as e:
        return _failed(f"{e}. --journal reads a journal in its place", as_json=as_json)
    except UnknownSignal as e:
        where = journal if journal is not None else f"stores and journals of {state}"
        return _failed(f"{e}. Looked in {where}; another file is named by --journal", as_json=as_json)
    except OSError as e:
        return _failed(f"journal {e.filename or journal}: {e.strerror or e}", as_json=as_json)
    if as_json:
        print(json.dumps(story_object(story) | {"commits_in_spool": in_spool}, sort_keys=True))
        return EXIT_OK
    lines = story_lines(story)
    if in_spool is None:
        lines.append("the spool of the store could not be read: what it may say of this signal is missing above")
    print("\n".join(map(printable, lines)))
    return EXIT_OK


def _find(stores: Sequence[OpenStore], kept: Sequence[Path], signal_id: str | None, coin: str | None) -> Story:
    """The story of a signal, or of the newest. Raises UnknownSignal, OSError and the errors of the store."""
    wanted = signal_id if signal_id is not None else last_stored(stores, coin) or last_signal(kept, coin)
    stored = find_stored(stores, wanted)
    try:
        told = find_story(kept, wanted)
    except UnknownSignal:
        if stored is None:
            raise
        told = None
    if stored is None:
        assert told is not None
        return told
    return with_journal(stored, told)


def _failed(message: str, *, as_json: bool) -> int:
    print(f"hip3 explain: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"exit_code": EXIT_CONFIGURATION, "error": message}, sort_keys=True))
    return EXIT_CONFIGURATION


# ---- for machines


def story_object(story: Story) -> dict[str, object]:
    """The story as the journal holds it, with its outcome in a word and a sentence."""
    word, words = outcome(story)
    trail = story.trail or {}
    return {
        "store": story.store,
        "journal": None if story.journal is None else str(story.journal),
        "run": {str(e["event"]): {k: v for k, v in e.items() if k not in ("event", "level")} for e in story.head},
        "signal": story.signal,
        "filters": trail.get("filters", []),
        "gates": trail.get("gates", []),
        "judged_after_ms": trail.get("judged_after_ms"),
        "trail_pruned_ms": story.pruned_ms,
        "outcome": word,
        "outcome_text": words,
        "events": list(story.events),
        "follow_ups": list(story.follow_ups),
    }


def outcome(story: Story) -> tuple[str, str]:
    """What became of the signal, in one word and one sentence; the last thing known of it counts."""
    closed, judged, by = story.first("position_closed"), story.first("signal_judged"), story.first("signal_replaced")
    if closed is not None:
        fields = note_of(closed).fields
        reason = str(fields.get("exit_reason"))
        pnl = fields.get("pnl_usd")
        money = f", {usd_text(pnl, sign=True)} USD after fees" if isinstance(pnl, Decimal) else ""
        return "closed", f"traded and closed ({EXIT_WORDS.get(reason, reason)}){money}"
    if story.first("fill") is not None:
        return "open", "traded; its position is still open where the record ends"
    released = story.first("mark_released")
    if released is not None:
        return "released", f"its order was taken back before it was sent: {released.get('reason')}"
    for event, words in (
        ("order_rejected", "its order was refused by the venue or found no match"),
        ("order_canceled", "its order was cancelled without a fill"),
        ("order_expired", "its order never reached the book"),
    ):
        if story.first(event) is not None:
            return event.removeprefix("order_"), words
    if judged is not None:
        verdict = str(judged.get("verdict"))
        if not verdict.startswith("Queued"):
            return "refused", f"not traded: {verdict_words(verdict, str(judged.get('detail', '')))}"
        return "sent", "accepted; what became of its order is not on record yet"
    if by is not None:
        return "replaced", f"not traded: signal {by.get('by')} took its place before the gates were asked"
    if any(e.get("mode") == "observation" for e in story.head):
        return "observed", "not traded: mode = observation asks no gate"
    return "unknown", "the record ends before the gates were asked"


def note_of(entry: Entry) -> Note:
    """A line of the journal as the note that it was: decimals are decimals again."""
    fields = {k: _value(k, v) for k, v in entry.items() if k not in ("time", "level", "event")}
    return Note(wall_ms(entry), str(entry.get("level")), str(entry.get("event")), fields)


def _value(name: str, value: object) -> object:
    if isinstance(value, str) and name.endswith(_NUMBERS):
        try:
            return Decimal(value)
        except InvalidOperation:
            return value
    return value


# ---- for people


def story_lines(story: Story) -> list[str]:
    """The story as text: the signal, every filter, every gate, what became of it, how the edge went on."""
    signal, start = note_of(story.signal), wall_ms(story.signal)
    fields = signal.fields
    lines = [
        f"signal   {fields['signal']}  {sentence(signal)}",
        f"         at {clock_text(start)}.{start % 1000:03d} UTC, quote {fields.get('bbo_age_ms')} ms old, "
        f"reference {_text('reference_px', fields.get('reference_px'))}, {fields.get('ctx_age_ms')} ms old",
        f"         {_run_text(story)}",
        f"outcome  {outcome(story)[1]}",
    ]
    if story.trail is None and story.pruned_ms is not None:
        day = iso_text(story.pruned_ms)[:10]
        lines.append(f"gates    not on record any more: the store let the trail go on {day} (store.trail_days)")
    elif story.trail is None:
        lines.append("gates    not on record: it ends before what each of them said was written")
    else:
        after = story.trail.get("judged_after_ms")
        lines += ["filters:", *_steps(story.trail.get("filters"))]
        lines.append("gates:" if after is None else f"gates, asked {after} ms after the signal was seen:")
        lines += _steps(story.trail.get("gates")) or ["  none was asked"]
    lines += ["what became of it:", *(_event(e, start) for e in story.events)]
    if not story.events:
        lines.append("  nothing")
    for entry in story.follow_ups:
        edge = note_of(entry).fields.get("edge_bps")
        left = f"{bps_text(edge)} bps were left" if isinstance(edge, Decimal) else "no price"
        lines.append(f"  +{int(str(entry.get('after_ms'))) / 1000:.3f} s  edge: {left}")
    return lines


def _run_text(story: Story) -> str:
    said = {str(e["event"]): e for e in story.head}
    run = said.get("run_started", {}).get("run", "?")
    places = [f"store {story.store}"] if story.store is not None else []
    places += [f"journal {story.journal}"] if story.journal is not None else []
    return f"run {run}, config {said.get('config_loaded', {}).get('hash', '?')}, {', '.join(places)}"


def _event(entry: Entry, start_ms: int) -> str:
    level = str(entry.get("level"))
    loud = f"{level.upper()} " if level in ("warning", "error", "critical") else ""
    return f"  {(wall_ms(entry) - start_ms) / 1000:+.3f} s  {loud}{sentence(note_of(entry))}"


def _steps(steps: object) -> list[str]:
    """One line a step: its verdict, its name, its inputs; the first that refused is the one that decided."""
    lines: list[str] = []
    decided = False
    for step in steps if isinstance(steps, list) else []:
        verdict = str(step.get("verdict"))
        refuses = verdict not in ("pass", "off")
        mark = "  <- decided" if refuses and not decided else ""
        decided = decided or refuses
        shown = "REFUSE" if refuses else verdict
        would = " (would refuse)" if step.get("would_reject") else ""
        name = step.get("name")
        detail = f"{step['detail']}; " if step.get("detail") else ""
        lines.append(f"  {shown:<6} {name}{would}: {detail}{inputs_text(step.get('inputs') or {})}{mark}")
    return lines


def inputs_text(inputs: Mapping[str, object]) -> str:
    """`name value, name value`; what is not known is `?`."""
    return ", ".join(f"{name} {_text(name, value)}" for name, value in inputs.items()) or "no inputs"


def _text(name: str, value: object) -> str:
    if value is None:
        return "?"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return f"({inputs_text(value)})" if value else "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(_text(name, v) for v in value) or "none"
    number = _value(name, value)
    if not isinstance(number, Decimal):
        return str(value)
    if name.endswith("_bps"):
        return bps_text(number, sign=False)
    if name.endswith("_usd"):
        return usd_text(number)
    return px_text(number) if name.endswith("px") else units.wire(number)
