"""`hip3 record`: writes the frames of a venue's WebSocket to a file, unchanged, with the time of their receipt.

The format is `{"recv_ms": ..., "frame": {...}}`, one JSON object a line, gzipped. Each flush is a finished gzip member in
one write, so a kill loses at most what came since the last flush and never the file (LESSONS 34). It refuses to
overwrite, to interpret frames and to sign anything: it needs no key and sends nothing but subscriptions and pings.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import urlsplit

import msgspec
import trio
from attrs import define, field, frozen
from trio_websocket import ConnectionClosed, WebSocketConnection

from hip3.core.clock import Clock
from hip3.core.errors import first_leaf
from hip3.io.dial import CONNECTION_FAILURES, dial
from hip3.venue.hyperliquid import subscriptions
from hip3.venue.hyperliquid.subscriptions import PING, Subscription, subscribe_frame

CHANNELS = ("bbo", "activeAssetCtx", "l2Book", "trades")
FLUSH_S = 5.0
FLUSH_BYTES = 256 * 1024
PING_EVERY_S = 30.0  # the venue closes after 60 s in which it sent nothing (PROTOCOL 2.1); a ping makes it answer
SILENT_S = 55.0  # WS-2: 45 s without a message and 10 s for a pong
BACKOFF_FIRST_S = 1.0  # WS-1
BACKOFF_MAX_S = 60.0
STABLE_S = 60.0
KEPT_ERRORS = 20

Report = Callable[[str], None]


class RecorderError(Exception):
    """The recording cannot be made or kept: the place, what was found, what to do."""


class RecordingWriter:
    """Appends to `<path>.part`, which becomes `path` on close; both must not exist.

    After a kill the `.part` file is a readable recording up to the last flush.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.frames = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> RecordingWriter:
        for taken in (self.path, self.part):
            if taken.exists():
                raise RecorderError(f"{taken}: exists already, and a recording is never overwritten; choose another name")
        try:
            self._file = self.part.open("xb", buffering=0)
        except OSError as error:
            raise RecorderError(f"{self.part}: cannot be created: {error.strerror or error}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def write(self, recv_ms: int, frame: str) -> bool:
        """Takes one frame; False (and nothing written) where it is not a JSON object, such as the legacy greeting."""
        if not _is_object(frame):
            return False
        # A line break can only be white space between tokens: inside a JSON string it would be escaped.
        unbroken = frame.strip().replace("\r", " ").replace("\n", " ")
        line = b'{"recv_ms":%d,"frame":%b}\n' % (recv_ms, unbroken.encode())
        self._pending.append(line)
        self._pending_bytes += len(line)
        self.frames += 1
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        return True

    def flush(self) -> None:
        """Writes what is pending as one finished gzip member. Raises RecorderError (disk full and the like)."""
        if not self._pending or self._file is None:
            return
        member = memoryview(gzip.compress(b"".join(self._pending)))
        try:
            while member:
                member = member[self._file.write(member) :]
        except OSError as error:
            raise RecorderError(
                f"{self.part}: cannot be written: {error.strerror or error}; it is readable up to the last flush"
            ) from error
        self._pending.clear()
        self._pending_bytes = 0

    def close(self) -> None:
        """Flushes and gives the file its name; without a single frame nothing is left behind."""
        if self._file is None:
            return
        try:
            self.flush()
        finally:
            self._file.close()
            self._file = None
        if not self.frames:
            self.part.unlink()
        elif self.path.exists():
            raise RecorderError(f"{self.path}: appeared meanwhile and is not overwritten; the recording is {self.part}")
        else:
            self.part.rename(self.path)


@frozen
class RecordRequest:
    """What to record: a WebSocket URL, coins by their full names (`xyz:SNDK`), channels of CHANNELS."""

    url: str
    coins: tuple[str, ...]
    channels: tuple[str, ...] = ("bbo", "activeAssetCtx")
    duration_s: float | None = None
    """None records until cancelled."""

    def __attrs_post_init__(self) -> None:
        if not self.url.startswith(("ws://", "wss://")):
            raise ValueError(f"url: expected ws://... or wss://..., found {self.url!r}")
        parts = urlsplit(self.url)
        if not parts.hostname or parts.port == 0:  # `.port` itself raises ValueError over 65535
            raise ValueError(f"url: no host or no port in {self.url!r}")
        if not self.coins:
            raise ValueError("coins: none given; name at least one, such as xyz:SNDK")
        unknown = [channel for channel in self.channels if channel not in CHANNELS]
        if unknown or not self.channels:
            raise ValueError(f"channels: found {', '.join(unknown) or 'none'}; expected some of {', '.join(CHANNELS)}")
        if self.duration_s is not None and self.duration_s <= 0:
            raise ValueError(f"duration_s: expected a positive number, found {self.duration_s}")

    def subscriptions(self) -> list[Subscription]:
        """Every channel of every coin; `l2Book` is the fast one, with five levels every half second (PROTOCOL 2.3)."""
        build = {
            "bbo": subscriptions.bbo,
            "activeAssetCtx": subscriptions.active_asset_ctx,
            "l2Book": subscriptions.l2_book,
            "trades": subscriptions.trades,
        }
        return [build[channel](coin) for coin in self.coins for channel in self.channels]


@define
class RecordSummary:
    """What became of a recording. `errors` are the last texts of the venue's error channel and of failed dials."""

    frames: int = 0
    by_channel: Counter[str] = field(factory=Counter)
    connections: int = 0
    lost_connections: int = 0
    not_json: int = 0
    errors: list[str] = field(factory=list)

    def note(self, text: str) -> None:
        self.errors.append(text)
        del self.errors[:-KEPT_ERRORS]


class _Envelope(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


_envelope_decoder = msgspec.json.Decoder(_Envelope)


async def record(
    request: RecordRequest,
    writer: RecordingWriter,
    clock: Clock,
    summary: RecordSummary,
    *,
    report: Report = lambda _: None,
) -> None:
    """Records until the duration is over or the caller cancels, over as many connections as it takes.

    `writer` is open; `summary` is kept current, so that it can be read after a cancellation. A lost connection is dialled
    again with a back-off of 1 s doubling to 60 s. Raises RecorderError where the file cannot be written on.
    """
    try:
        with trio.move_on_after(float("inf") if request.duration_s is None else request.duration_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_flush_regularly, writer)
                await _keep_connected(request, writer, clock, summary, report)
    except BaseExceptionGroup as group:
        unwritable, rest = group.split(RecorderError)
        if unwritable is not None and rest is None:
            raise first_leaf(unwritable) from None
        raise


async def _keep_connected(
    request: RecordRequest,
    writer: RecordingWriter,
    clock: Clock,
    summary: RecordSummary,
    report: Report,
) -> None:
    backoff_s = BACKOFF_FIRST_S
    while True:
        began = trio.current_time()
        reason = await _one_connection(request, writer, clock, summary)
        summary.note(reason)
        backoff_s = BACKOFF_FIRST_S if trio.current_time() - began >= STABLE_S else backoff_s
        report(f"{reason}; dialling again in {backoff_s:.0f} s")
        await trio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)


async def _flush_regularly(writer: RecordingWriter) -> None:
    while True:
        await trio.sleep(FLUSH_S)
        writer.flush()


async def _one_connection(request: RecordRequest, writer: RecordingWriter, clock: Clock, summary: RecordSummary) -> str:
    """Records one connection to its end; returns why it ended."""
    try:
        async with dial(request.url) as ws, trio.open_nursery() as nursery:
            summary.connections += 1
            for subscription in request.subscriptions():
                await ws.send_message(subscribe_frame(subscription))
            nursery.start_soon(_ping, ws)
            reason = await _receive(ws, writer, clock, summary)
            nursery.cancel_scope.cancel()
    except* CONNECTION_FAILURES as group:
        reason = f"connection failed: {first_leaf(group)!r}"
    summary.lost_connections += 1
    return reason


async def _receive(ws: WebSocketConnection, writer: RecordingWriter, clock: Clock, summary: RecordSummary) -> str:
    while True:
        text = None
        with trio.move_on_after(SILENT_S):
            try:
                text = await ws.get_message()
            except ConnectionClosed as closed:
                return f"connection closed: {closed.reason}"
        if text is None:
            return f"silent for {SILENT_S:.0f} s, taken for dead"
        frame = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if writer.write(clock.wall_ms(), frame):
            summary.frames += 1
            _count(frame, summary)
        else:
            summary.not_json += 1


async def _ping(ws: WebSocketConnection) -> None:
    while True:
        await trio.sleep(PING_EVERY_S)
        try:
            await ws.send_message(PING)
        except ConnectionClosed:
            return  # the receiving side says why


def _count(frame: str, summary: RecordSummary) -> None:
    try:
        envelope = _envelope_decoder.decode(frame)
    except msgspec.ValidationError:
        summary.by_channel["(no channel)"] += 1
        return
    summary.by_channel[envelope.channel or "(no channel)"] += 1
    if envelope.channel == "error":
        summary.note(f"the venue says: {bytes(envelope.data).decode('utf-8', 'replace')[:200]}")


def _is_object(frame: str) -> bool:
    if not frame.lstrip().startswith("{"):
        return False
    try:
        msgspec.json.decode(frame, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def describe(summary: RecordSummary, path: Path) -> Sequence[str]:
    """Lines for a person: what is in the file and what went wrong."""
    kept = f"{path}: {summary.frames} frames" if summary.frames else "nothing was received; no file was written"
    channels = ", ".join(f"{name} {count}" for name, count in summary.by_channel.most_common())
    lines = [kept + (f" ({channels})" if channels else "")]
    lines.append(f"{summary.connections} connections, {summary.lost_connections} ended or failed")
    if summary.not_json:
        lines.append(f"{summary.not_json} messages were no JSON object and are not in the file")
    return [*lines, *(f"note: {text}" for text in summary.errors)]
