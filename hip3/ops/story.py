"""The story of one signal, out of a run's journal: what was said of it, its order, answer, fills, exit and trade (OPS-7).

Reads journals and nothing else. What links the lines is what the bot wrote into them: the signal's id, the ids of its
orders, the numbers of their posts, and the coin from its first fill to the close of its position.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from attrs import define, field, frozen

from hip3.ops.journal_file import FIRST_EVENT, entries

Entry = dict[str, object]
NEAR = 5
KEPT_IDS = 20_000
"""Ids compared with one that is not found; more than the signals of a journal of two full parts."""
_HEAD = frozenset({FIRST_EVENT, "run_started", "network", "mode"})
_OWN = frozenset({"signal", "signal_trail", "follow_up"})
"""Told in places of their own."""


class UnknownSignal(Exception):
    """No journal that was read knows the signal; the message says where was looked and names ids like it."""


@frozen
class Story:
    """One signal. `events` are what became of it, oldest first; `head` is what the run said of itself at its start."""

    journal: Path | None
    """Where lines of it are from; None where it is out of a store alone."""
    head: tuple[Entry, ...]
    signal: Entry
    trail: Entry | None
    """The line `signal_trail`; None where the record ends before it."""
    events: tuple[Entry, ...]
    follow_ups: tuple[Entry, ...]
    store: str | None = None
    """The store that it is from; None where it is out of a journal alone."""
    pruned_ms: int | None = None
    """When the store let its trail go (`store.trail_days`); None where it did not."""

    def first(self, event: str) -> Entry | None:
        return next((e for e in self.events if e["event"] == event), None)


@define
class _Links:
    """What belongs to the signal, gathered on the way through its run."""

    run: int
    coin: object
    cloids: set[object] = field(factory=set)
    posts: set[object] = field(factory=set)


def find_story(journals: Sequence[Path], signal_id: str) -> Story:
    """The story of a signal in the first of `journals` that has it. Raises UnknownSignal, OSError."""
    seen: deque[str] = deque(maxlen=KEPT_IDS)
    for path in journals:
        links = _links(path, signal_id, seen)
        if links is not None:
            return _story(path, signal_id, links)
    raise UnknownSignal(_unknown(journals, signal_id, seen))


def last_signal(journals: Sequence[Path], coin: str | None) -> str:
    """The id of the newest signal, of `coin` where given. Raises UnknownSignal, and OSError for an unreadable file."""
    for path in journals:
        last: object = None
        for entry in entries(path):
            if entry.get("event") == "signal" and coin in (None, entry.get("coin")):
                last = entry.get("signal")
        if last is not None:
            return str(last)
    of = f" of {coin}" if coin else ""
    raise UnknownSignal(f"no signal{of} in {_places(journals)}")


def wall_ms(entry: Entry) -> int:
    """Unix ms of a line; 0 where it carries no time."""
    try:
        return round(datetime.fromisoformat(str(entry.get("time"))).timestamp() * 1000)
    except ValueError:
        return 0


def _runs(path: Path) -> Iterator[tuple[int, Entry]]:
    """The lines with the number of their run: a file given by --log may hold several."""
    run = 0
    for entry in entries(path):
        run += entry.get("event") == FIRST_EVENT
        yield run, entry


def _links(path: Path, signal_id: str, seen: deque[str]) -> _Links | None:
    """A first way through the file: what the signal's lines are linked by; None where it does not have the signal."""
    links: _Links | None = None
    for run, entry in _runs(path):
        if entry.get("event") == "signal":
            seen.append(str(entry.get("signal")))
        if links is None or run != links.run:
            if entry.get("event") == "signal" and entry.get("signal") == signal_id:
                links = _Links(run, entry.get("coin"))
            continue
        if entry.get("signal") == signal_id and "cloid" in entry:
            links.cloids.add(entry["cloid"])
        if entry.get("cloid") in links.cloids and "post" in entry:
            links.posts.add(entry["post"])
    return links


def _story(path: Path, signal_id: str, links: _Links) -> Story:
    """A second way through it: the lines themselves."""
    head: list[Entry] = []
    events: list[Entry] = []
    own: dict[str, list[Entry]] = {name: [] for name in _OWN}
    holding = False
    for run, entry in _runs(path):
        if run != links.run:
            continue
        event = str(entry.get("event"))
        is_own = entry.get("signal") == signal_id
        linked = is_own or _is_linked(entry, links)
        if event in _HEAD:
            head.append(entry)
        elif is_own and event in _OWN:
            own[event].append(entry)
        elif linked or (holding and _is_of_position(entry, links)):
            events.append(entry)
        if linked and event == "fill":
            holding = True
        elif is_own and event == "position_closed":
            holding = False
    trail = own["signal_trail"][-1] if own["signal_trail"] else None
    return Story(path, tuple(head), own["signal"][0], trail, tuple(events), tuple(own["follow_up"]))


def _is_linked(entry: Entry, links: _Links) -> bool:
    if entry.get("cloid") in links.cloids or entry.get("subject") in links.cloids:
        return True
    return "cloid" not in entry and entry.get("post") in links.posts


def _is_of_position(entry: Entry, links: _Links) -> bool:
    """A line of the coin while the position is held that speaks of no other signal: fills of the way out, corrections."""
    return entry.get("coin") == links.coin and entry.get("signal") is None and entry.get("level") != "debug"


def _unknown(journals: Sequence[Path], signal_id: str, seen: Iterable[str]) -> str:
    known = list(dict.fromkeys(seen))
    near = get_close_matches(signal_id, known, NEAR, 0.5) or known[-NEAR:]
    like = f"; ids like it: {', '.join(near)}" if near else "; it holds no signal at all"
    return f"signal {signal_id!r} is not in {_places(journals)}{like}"


def _places(journals: Sequence[Path]) -> str:
    if not journals:
        return "any journal: there is none yet"
    return str(journals[0]) if len(journals) == 1 else f"{len(journals)} journals in {journals[0].parent}"
