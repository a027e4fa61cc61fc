"""`hip3 replay FILE`: the whole bot and the embedded exchange over a recording, in virtual time and in memory.

The same parts as `hip3 run`, fed by Trio's mock clock, so that two hours take seconds and every delay is exact.
"""

from __future__ import annotations

import json
import random
import sys
from decimal import Decimal
from pathlib import Path

import attrs
import trio
import trio.testing
from attrs import frozen

from hip3.cli.summary import summary_lines, summary_object
from hip3.core.errors import first_leaf
from hip3.core.journal import Journal
from hip3.core.market import Reference
from hip3.exchange.inmemory import InMemory
from hip3.exchange.models.replay import ReplaySource, open_replay
from hip3.exchange.recording import RecordingError
from hip3.io.clock import TrioClock
from hip3.ops.boot import PreflightRefused
from hip3.ops.paper import make_paper
from hip3.ops.session import Ended, Reach, run_session
from hip3.ops.stop import Stop
from hip3.settings import config_hash, schema
from hip3.settings.schema import Settings

EXIT_CONFIGURATION, EXIT_PREFLIGHT = 2, 3  # END-3


@frozen
class ReplayOptions:
    """What is replayed and how; None is the recording's end or the paper default."""

    path: Path
    reference: str
    threshold_bps: Decimal
    time_stop_ms: int | None = None
    latency_ms: int | None = None
    start_s: int = 0
    limit_s: int | None = None

    def open(self) -> tuple[ReplaySource, Settings]:
        """The market data and the settings of the bot on it. Raises RecordingError and ValueError."""
        reference = Reference(self.reference)
        source = open_replay(self.path, reference=reference, start_s=self.start_s, limit_s=self.limit_s)
        return source, replay_settings(source, self.threshold_bps, self.time_stop_ms, self.latency_ms)

    def arguments(self) -> list[str]:
        """The command line that says the same."""
        words = ["replay", str(self.path), "--reference", self.reference, "--threshold-bps", str(self.threshold_bps)]
        given = {
            "--time-stop-ms": self.time_stop_ms,
            "--latency-ms": self.latency_ms,
            "--start-s": self.start_s or None,
            "--limit-s": self.limit_s,
        }
        return words + [word for name, value in given.items() if value is not None for word in (name, str(value))]


def replay_whole_bot(options: ReplayOptions, *, as_json: bool) -> int:
    """Trades the recording and prints what happened; the exit code of the run, 2 for a file that cannot be used."""
    refused = 0
    try:
        source, settings = options.open()
    except (RecordingError, ValueError) as e:
        print(f"hip3 replay: {e}", file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        ended = trio.run(_run, settings, source, clock=trio.testing.MockClock(autojump_threshold=0))
    except* (RecordingError, PreflightRefused) as group:
        print(f"hip3 replay: {first_leaf(group)}", file=sys.stderr)
        refused = EXIT_PREFLIGHT
    if refused:
        return refused
    print(summary_lines(ended.bot, ended.outcome, notes=source.notes), file=sys.stderr if as_json else sys.stdout)
    if as_json:
        report = summary_object(ended.bot, ended.outcome, config_hash=config_hash(settings), notes=source.notes)
        print(json.dumps(report, sort_keys=True))
    return ended.outcome.exit_code


def replay_settings(
    source: ReplaySource, threshold_bps: Decimal, time_stop_ms: int | None, latency_ms: int | None
) -> Settings:
    """Paper settings for the markets of a recording, promoted at once, with one threshold for all."""
    markets = tuple(schema.Market(coin=coin, threshold_bps=threshold_bps) for coin in source.coins)
    position = schema.PositionKeys()
    paper = schema.Paper()
    if time_stop_ms is not None:
        timeout = max(position.reduce_only_timeout_ms, time_stop_ms)
        position = attrs.evolve(position, time_stop_ms=time_stop_ms, reduce_only_timeout_ms=timeout)
    if latency_ms is not None:
        paper = attrs.evolve(paper, latency_ms=latency_ms)
    safety = schema.Safety(startup_policy=schema.StartupPolicy.AUTO)
    return schema.resolved(Settings(markets=markets, position=position, paper=paper, safety=safety))


async def _run(settings: Settings, source: ReplaySource) -> Ended:
    clock, journal, stop = TrioClock.starting_at(source.started_wall_ms), Journal(), Stop()
    paper = make_paper(settings, source, clock, on_end=lambda: stop.request_once("the recording has ended"))
    memory = InMemory(paper.exchange)
    ended: Ended | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        reach = Reach("http://exchange.invalid", memory.dial, paper.account, memory.transport())
        ended = await run_session(settings, reach, clock=clock, rng=random.Random(1), journal=journal, stop=stop)
        nursery.cancel_scope.cancel()
    assert ended is not None
    return ended
