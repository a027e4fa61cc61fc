"""Standard output and error of a command that must not end because nobody listens: a closed terminal, a reader that left.

What cannot be written is dropped; the exit code stays that of the command. What a person should know is in the journal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO, cast

from attrs import define


@define(eq=False)
class Outlet:
    """A text stream whose writes raise no OSError; everything else is the stream's."""

    stream: TextIO

    def write(self, text: str) -> int:
        """All of `text` counts as written, also where it went nowhere."""
        with suppress(ValueError):  # it was closed
            try:
                self.stream.write(text)
            except OSError:
                self._lead_away()
        return len(text)

    def flush(self) -> None:
        with suppress(ValueError):
            try:
                self.stream.flush()
            except OSError:
                self._lead_away()

    def _lead_away(self) -> None:
        """From here on the stream ends in the null device, so that what is buffered does not fail again at the exit."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def unheard_is_no_error() -> Iterator[None]:
    """Within it `print` to standard output or error never raises OSError."""
    out, err = sys.stdout, sys.stderr
    ours = Outlet(out), Outlet(err)
    sys.stdout, sys.stderr = (cast(TextIO, outlet) for outlet in ours)
    try:
        yield
    finally:
        for outlet in ours:
            outlet.flush()
        sys.stdout, sys.stderr = out, err


def direct(out: IO[str]) -> IO[str]:
    """The stream behind an outlet, for a writer that wants to know when it is gone."""
    return out.stream if isinstance(out, Outlet) else out
