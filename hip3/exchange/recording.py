"""Reads recordings of a venue's WebSocket frames: JSON lines, gzipped or plain, in order of receipt.

One line is `{"recv_ms": <local wall clock, ms>, "frame": <the venue's frame, unchanged>}`. This module refuses to
interpret frames: it hands the bytes on, and the venue's parser says what they mean. It refuses to guess at damage:
every fault names the file and the line, and nothing after it is read.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from attrs import define, frozen

GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1
# The largest frame seen is a full allDexsAssetCtxs of about 0.1 MiB; a longer line is a file of another kind.
MAX_LINE_BYTES = 16 * 1024 * 1024


class RecordingError(Exception):
    """A recording that cannot be read (on): the file, the line, what was found, what was expected."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}" if line else f"{path}: {problem}")
        self.path = path
        self.line = line
        """Counted from 1; 0 where the fault is the file's, not a line's."""


@frozen
class RecordedFrame:
    """One line: when the frame was received (Unix ms of the recorder's wall clock) and its bytes, unchanged."""

    line: int
    recv_ms: int
    raw: bytes


class _Line(msgspec.Struct):
    recv_ms: Annotated[int, msgspec.Meta(ge=0)]
    frame: msgspec.Raw


_decoder = msgspec.json.Decoder(_Line)


@define
class Recording:
    """A recording on disk; `frames()` reads it from the start, the other fields tell of the last reading.

    A wall clock may step back (TYP-1), so a `recv_ms` below its predecessor is no error: the order of the lines is the
    order of receipt, the steps are counted, and who replays clamps the time. With `allow_truncated` a file whose tail
    is missing (a killed recorder) ends quietly after its last readable line, with `truncated_after` set.
    """

    path: Path
    allow_truncated: bool = False
    lines: int = 0
    backward_steps: int = 0
    truncated_after: int | None = None

    def frames(self) -> Iterator[RecordedFrame]:
        """Every frame in order of receipt. Raises RecordingError, also for an empty file."""
        self.lines = self.backward_steps = 0
        self.truncated_after = None
        last_ms = 0
        for number, text in self._numbered_lines():
            entry = self._decode(number, text)
            self.lines = number
            if entry.recv_ms < last_ms:
                self.backward_steps += 1
            last_ms = entry.recv_ms
            yield entry
        if not self.lines:
            raise self._error(0, "the recording is empty; expected at least one JSON line with recv_ms and frame")

    def _numbered_lines(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        try:
            with self._open() as stream:
                while text := stream.readline(MAX_LINE_BYTES + 1):
                    if len(text) > MAX_LINE_BYTES:
                        raise self._error(
                            number + 1, f"longer than {MAX_LINE_BYTES} bytes; is this a recording of JSON lines?"
                        )
                    if not text.endswith(b"\n") and self.allow_truncated and not _is_json(text):
                        self.truncated_after = number
                        return
                    number += 1
                    yield number, text
        except EOFError as error:
            if not self.allow_truncated:
                raise self._error(
                    number + 1,
                    f"the gzip stream ends in the middle; {number} complete lines precede the cut. "
                    "Copy the file again, or allow a truncated tail",
                ) from error
            self.truncated_after = number
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self._error(number + 1, f"damaged gzip data ({error}); {number} lines precede it") from error
        except OSError as error:
            raise self._error(number, f"cannot be read: {error.strerror or error}") from error

    def _open(self) -> gzip.GzipFile | BinaryIO:
        with self.path.open("rb") as probe:
            head = probe.read(len(GZIP_MAGIC))
        if head == GZIP_MAGIC:
            return gzip.open(self.path, "rb")
        if self.path.suffix == ".gz" and head:
            raise self._error(0, f"named .gz but not gzip data (starts with 0x{head.hex()}, expected 0x1f8b)")
        return self.path.open("rb")

    def _decode(self, number: int, text: bytes) -> RecordedFrame:
        try:
            entry = _decoder.decode(text)
        except msgspec.ValidationError as error:  # valid JSON of another shape
            raise self._error(
                number, f'{error}; expected {{"recv_ms": <ms>, "frame": {{...}}}}, found {_excerpt(text)}'
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._error(number, f"not JSON ({error}): {_excerpt(text)}") from error
        raw = bytes(entry.frame)
        if not raw.startswith(b"{"):
            raise self._error(number, f"`frame` must be a JSON object, found {_excerpt(raw)}")
        return RecordedFrame(number, entry.recv_ms, raw)

    def _error(self, line: int, problem: str) -> RecordingError:
        return RecordingError(self.path, line, problem)


def _is_json(text: bytes) -> bool:
    try:
        _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _excerpt(text: bytes, limit: int = 80) -> str:
    shown = text[:limit].decode("utf-8", "replace").rstrip("\n")
    return repr(shown + ("..." if len(text) > limit else ""))
