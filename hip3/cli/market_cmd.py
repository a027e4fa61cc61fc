"""`hip3 replay` and `hip3 record`: recordings of market data, made and used."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hip3.cli.config_cmd import Json
from hip3.cli.record_cmd import record_market_data
from hip3.cli.replay_cmd import replay_detector_only

ReferenceName = Literal["oracle", "mark", "mid"]


def replay(
    file: Path,
    *,
    detector_only: Annotated[bool, Parameter(negative="", help="Count episodes of dislocation; trade nothing.")] = False,
    reference: Annotated[ReferenceName, Parameter(help="What quotes are compared with.")] = "oracle",
    threshold_bps: Annotated[Decimal, Parameter(help="Least edge that counts, in basis points.")] = Decimal(11),
    time_stop_ms: Annotated[int | None, Parameter(help="Age at which a position is closed; else the paper default.")] = None,
    latency_ms: Annotated[int | None, Parameter(help="From send to the mempool; else the paper default.")] = None,
    start_s: Annotated[int, Parameter(help="Second of the recording at which to start.")] = 0,
    limit_s: Annotated[int | None, Parameter(help="Seconds of the recording to replay; else to its end.")] = None,
    faults_seed: Annotated[int | None, Parameter(help="Faults on the way of orders, drawn from this seed.")] = None,
    seeds: Annotated[str | None, Parameter(help="Many runs with faults: A..B, both included.")] = None,
    jobs: Annotated[int, Parameter(help="Processes that share the runs of --seeds.")] = 2,
    as_json: Json = False,
) -> int:
    """Replay a recording: through the whole bot on the embedded exchange, in virtual time, or through the detector only.

    Exit code 0: flat and clean, as of `hip3 run`, and its others; 2: a file that cannot be read; 1: with faults, an
    invariant did not hold.

    Example: hip3 replay btc.jsonl.gz --reference mark --threshold-bps 1.0
    """
    if detector_only:
        return replay_detector_only(file, reference=reference, threshold_bps=threshold_bps, as_json=as_json)
    # Trio's mock clock costs every start 0.2 s, so only those pay who need it.
    from hip3.cli.replay_faults import replay_seed, replay_seeds  # noqa: PLC0415
    from hip3.cli.replay_run import ReplayOptions, replay_whole_bot  # noqa: PLC0415

    options = ReplayOptions(file, reference, threshold_bps, time_stop_ms, latency_ms, start_s, limit_s)
    if seeds is not None:
        return replay_seeds(options, seeds, jobs=jobs, as_json=as_json)
    if faults_seed is not None:
        return replay_seed(options, faults_seed, as_json=as_json)
    return replay_whole_bot(options, as_json=as_json)


def record(
    source: Annotated[str, Parameter(help="testnet, mainnet, or a ws:// or wss:// URL.")],
    out: Annotated[Path, Parameter(help="New file, gzip; an existing one is never overwritten.")],
    *,
    coin: Annotated[tuple[str, ...], Parameter(help="Market to record, such as xyz:SNDK; may be repeated.")],
    channel: Annotated[tuple[str, ...], Parameter(help="bbo, activeAssetCtx, l2Book or trades; may be repeated.")] = (
        "bbo",
        "activeAssetCtx",
    ),
    duration: Annotated[float | None, Parameter(help="Seconds; else until Ctrl+C.")] = None,
) -> int:
    """Record a venue's market data until the duration is over or Ctrl+C. Needs no key.

    Exit code 0: something was recorded; 2: an argument or the file cannot be used; 3: nothing was received.

    Example: hip3 record testnet btc.jsonl.gz --coin BTC --duration 600
    """
    return record_market_data(source, out, coins=coin, channels=channel, duration_s=duration)
