"""Windows of the week in UTC, such as "Mon-Fri 13:30-20:00": for session and blackout windows (DET-4, DET-6).

UTC only: a local time would need a table of zones, and twice a year an hour that exists twice or never. A text that could
be read in two ways is refused.
"""

from __future__ import annotations

import re

from attrs import frozen

MINUTE_MS = 60_000
DAY_MINUTES = 1440
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_EPOCH_DAY = 3  # 1970-01-01 was a Thursday
_FORM = re.compile(r"(?:(?P<first>[A-Z][a-z]{2})(?:-(?P<last>[A-Z][a-z]{2}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)")


@frozen
class Window:
    """From `start_min` (inclusive) to `end_min` (exclusive), minutes of the UTC day; an end at or below the start is
    the next day.

    `days` are the days on which it begins, 0 is Monday: "Fri 22:00-02:00" ends on Saturday.
    """

    days: frozenset[int]
    start_min: int
    end_min: int

    def holds(self, wall_ms: int) -> bool:
        """True where the Unix time `wall_ms` lies inside."""
        day, minute = divmod(wall_ms // MINUTE_MS, DAY_MINUTES)
        weekday = (day + _EPOCH_DAY) % 7
        if self.end_min > self.start_min:
            return weekday in self.days and self.start_min <= minute < self.end_min
        if minute >= self.start_min:
            return weekday in self.days
        return minute < self.end_min and (weekday - 1) % 7 in self.days


def in_any(windows: tuple[Window, ...], wall_ms: int) -> bool:
    """True inside at least one of them."""
    return any(window.holds(wall_ms) for window in windows)


def parse_window(text: str) -> Window:
    """`"13:30-20:00"`, `"Mon-Fri 13:30-20:00"`, `"Sat 00:00-24:00"`, `"22:00-02:00"` (wraps midnight).

    Raises ValueError for anything else, and for equal ends, which could mean the whole day or nothing.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is no window; write it like "Mon-Fri 13:30-20:00", in UTC')
    start, end = _minute(*found.group(3, 4)), _minute(*found.group(5, 6))
    if start in (DAY_MINUTES, end):
        raise ValueError(f'{text!r} is empty or ambiguous; a whole day is "00:00-24:00"')
    return Window(_days(text, found["first"], found["last"]), start, end)


def _minute(hours: str, minutes: str) -> int:
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > DAY_MINUTES:
        raise ValueError(f"{hours}:{minutes} is no time of a day; 00:00 to 24:00 are")
    return minute


def _days(text: str, first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    if first not in DAYS or (last is not None and last not in DAYS):
        raise ValueError(f"{text!r} names a day that is none of {', '.join(DAYS)}")
    begin = DAYS.index(first)
    count = 1 if last is None else (DAYS.index(last) - begin) % 7 + 1  # Sat-Mon is three days
    return frozenset((begin + n) % 7 for n in range(count))
