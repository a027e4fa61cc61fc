"""`hip3 record`: records a venue's market data to a file until the duration is over or Ctrl+C. Needs no key."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from hip3.core.clock import Clock
from hip3.io.clock import SystemClock
from hip3.io.recorder import RecorderError, RecordingWriter, RecordRequest, RecordSummary, describe, record
from hip3.venue.hyperliquid.endpoints import Network, endpoints_for

EXIT_OK = 0
EXIT_CONFIGURATION = 2  # END-3
EXIT_NOTHING = 3
"""No frame was received: the endpoint did not answer."""


def record_market_data(
    source: str,
    out: Path,
    *,
    coins: Sequence[str],
    channels: Sequence[str] = ("bbo", "activeAssetCtx"),
    duration_s: float | None = None,
    clock: Clock | None = None,
) -> int:
    """Records `coins` from `source`, a network's name or a ws:// or wss:// URL, into the new file `out`.

    Returns 0 with a summary on standard output (Ctrl+C and SIGTERM included), 2 for an argument that means nothing or a
    file that exists or cannot be written, 3 where nothing was received.
    """
    summary = RecordSummary()
    try:
        request = RecordRequest(_url(source), tuple(coins), tuple(channels), duration_s)
        with RecordingWriter(out) as writer:
            print(f"recording {', '.join(request.channels)} of {', '.join(request.coins)} from {request.url} to {out}")
            trio.run(_until_signal, request, writer, clock or SystemClock(), summary)
    except (RecorderError, ValueError) as error:
        print(f"record: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    print("\n".join(describe(summary, out)))
    return EXIT_OK if summary.frames else EXIT_NOTHING


def _url(source: str) -> str:
    if "://" in source:
        return source
    try:
        network = Network(source)
    except ValueError:
        names = ", ".join(network.value for network in Network if network is not Network.PAPER)
        raise ValueError(f"source: found {source!r}, expected {names} or a ws:// URL") from None
    return endpoints_for(network).ws_url


async def _until_signal(request: RecordRequest, writer: RecordingWriter, clock: Clock, summary: RecordSummary) -> None:
    failure: RecorderError | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            try:
                await record(request, writer, clock, summary, report=_report)
            except RecorderError as error:
                failure = error  # raised below: out of the nursery it would come wrapped in a group
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _report(text: str) -> None:
    print(f"record: {text}", file=sys.stderr)
