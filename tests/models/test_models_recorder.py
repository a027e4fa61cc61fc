"""The recorder: frames unchanged, finished gzip members, no overwriting, reconnects. Servers are on loopback."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import trio
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from hip3.cli.record_cmd import record_market_data
from hip3.cli.replay_cmd import detect
from hip3.core.episodes import EpisodeCounter
from hip3.core.market import Reference
from hip3.exchange.exchange import Exchange
from hip3.exchange.models.replay import open_replay
from hip3.exchange.models.synthetic import SyntheticConfig, SyntheticSource
from hip3.exchange.recording import Recording
from hip3.exchange.seam import BookChange
from hip3.exchange.server import serve
from hip3.io.clock import SystemClock
from hip3.io.recorder import CHANNELS, RecorderError, RecordingWriter, RecordRequest, RecordSummary, describe, record

BBO = '{"channel":"bbo","data":{"coin":"xyz:SNDK","time":1,"bbo":[{"px":"1520.8","sz":"1.0","n":1},null]}}'


@define
class StepClock:
    """A wall clock that moves one millisecond each time it is read, once a frame; tells when it was read often enough."""

    enough_reads: int = 1
    enough: trio.Event = field(factory=trio.Event)
    now_ms: int = 1_790_000_000_000

    def wall_ms(self) -> int:
        self.now_ms += 1
        self.enough_reads -= 1
        if self.enough_reads == 0:
            self.enough.set()  # whoever waits runs after the frame was written: there is no await in between
        return self.now_ms

    def mono_ms(self) -> int:
        return self.now_ms


Talk = Callable[[WebSocketConnection], Awaitable[None]]


async def served(nursery: trio.Nursery, talk: Talk) -> str:
    """URL of a loopback WebSocket server that has `talk` with each client and then closes."""

    async def handler(request: WebSocketRequest) -> None:
        ws = await request.accept()
        try:
            await talk(ws)
        except ConnectionClosed:
            return

    server = await nursery.start(partial(serve_websocket, handler, "127.0.0.1", 0, ssl_context=None))
    return f"ws://127.0.0.1:{server.port}"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def frames_of(path: Path) -> list[str]:
    return [frame.raw.decode() for frame in Recording(path).frames()]


async def test_models_recorder_writes_what_came(tmp_path: Path) -> None:
    """OPS-1: record subscribes to each channel of each coin and writes every frame, unchanged, in order of receipt."""
    out = tmp_path / "r.jsonl.gz"
    asked: list[object] = []
    sent = [BBO, '{"channel":"bbo", "data": {"coin":"xyz:SNDK"}}', '{"channel":"trades","data":[]}']

    async def talk(ws: WebSocketConnection) -> None:
        for _ in range(4):
            asked.append(json.loads(await ws.get_message())["subscription"])
        await ws.send_message("Websocket connection established.")
        for text in sent:
            await ws.send_message(text)
        await trio.sleep_forever()

    summary = RecordSummary()
    clock = StepClock(enough_reads=1 + len(sent))
    async with trio.open_nursery() as nursery:
        request = RecordRequest(await served(nursery, talk), ("xyz:SNDK", "BTC"), ("bbo", "l2Book"))
        with RecordingWriter(out) as writer:
            nursery.start_soon(record, request, writer, clock, summary)
            await clock.enough.wait()
        nursery.cancel_scope.cancel()
    assert asked == [
        {"type": "bbo", "coin": "xyz:SNDK"},
        {"type": "l2Book", "coin": "xyz:SNDK", "fast": True},
        {"type": "bbo", "coin": "BTC"},
        {"type": "l2Book", "coin": "BTC", "fast": True},
    ]
    assert frames_of(out) == sent
    assert summary.by_channel == {"bbo": 2, "trades": 1}
    assert summary.not_json == 1
    assert not out.with_name(out.name + ".part").exists()
    assert "3 frames (bbo 2, trades 1)" in describe(summary, out)[0]


async def test_models_recorder_dials_again(tmp_path: Path) -> None:
    """OPS-1: a lost connection is dialled again, subscribed again, and recorded into the same file."""
    out = tmp_path / "r.jsonl.gz"
    connections = 0

    async def talk(ws: WebSocketConnection) -> None:
        nonlocal connections
        connections += 1
        await ws.get_message()
        await ws.send_message(BBO)
        if connections > 1:
            await trio.sleep_forever()

    summary = RecordSummary()
    clock = StepClock(enough_reads=2)
    reports: list[str] = []
    async with trio.open_nursery() as nursery:
        request = RecordRequest(await served(nursery, talk), ("xyz:SNDK",), ("bbo",))
        with RecordingWriter(out) as writer, trio.fail_after(20):
            nursery.start_soon(partial(record, request, writer, clock, summary, report=reports.append))
            await clock.enough.wait()
        nursery.cancel_scope.cancel()
    assert frames_of(out) == [BBO, BBO]
    assert (summary.connections, summary.lost_connections) == (2, 1)
    assert "dialling again" in reports[0]


async def test_models_recorder_error_channel_is_told(tmp_path: Path) -> None:
    """PROTOCOL 2.1: a refused subscription is only a text on the error channel, so the summary quotes it."""

    async def talk(ws: WebSocketConnection) -> None:
        await ws.send_message('{"channel":"error","data":"Invalid subscription {\\"type\\":\\"bbo\\"}"}')
        await trio.sleep_forever()

    summary = RecordSummary()
    async with trio.open_nursery() as nursery:
        url = await served(nursery, talk)
        with RecordingWriter(tmp_path / "r.gz") as writer:
            await record(RecordRequest(url, ("NOPE",), duration_s=0.3), writer, StepClock(), summary)
        nursery.cancel_scope.cancel()
    assert any("Invalid subscription" in text for text in summary.errors)


def test_models_recorder_nothing_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: an endpoint that does not answer leaves no file and a stable exit code."""
    out = tmp_path / "r.gz"
    code = record_market_data("ws://127.0.0.1:9", out, coins=["BTC"], duration_s=0.3, clock=StepClock())
    assert code == 3
    assert names_in(tmp_path) == []
    assert "nothing was received" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "coins", "channels", "message"),
    [
        ("nowhere", ["BTC"], ["bbo"], "expected testnet, mainnet or a ws:// URL"),
        ("http://127.0.0.1:9", ["BTC"], ["bbo"], "expected ws://"),
        ("paper", ["BTC"], ["bbo"], "no fixed endpoints"),
        ("ws://127.0.0.1:99999", ["BTC"], ["bbo"], "Port out of range"),
        ("ws://", ["BTC"], ["bbo"], "no host"),
        ("ws://127.0.0.1:9", [], ["bbo"], "coins: none given"),
        ("ws://127.0.0.1:9", ["BTC"], ["candles"], "found candles"),
    ],
)
def test_models_recorder_refuses_bad_arguments(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    coins: list[str],
    channels: list[str],
    message: str,
) -> None:
    """CFG-2: what means nothing is refused with the value and what is allowed, exit code 2, before anything is made."""
    assert record_market_data(source, tmp_path / "r.gz", coins=coins, channels=channels, clock=StepClock()) == 2
    assert message in capsys.readouterr().err
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("taken", ["r.gz", "r.gz.part"])
def test_models_recorder_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str], taken: str) -> None:
    """OPS-1: a recording, finished or left by a kill, is never overwritten."""
    (tmp_path / taken).write_bytes(b"precious")
    assert record_market_data("ws://127.0.0.1:9", tmp_path / "r.gz", coins=["BTC"], clock=StepClock()) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (tmp_path / taken).read_bytes() == b"precious"


def test_models_writer_flushes_finished_members(tmp_path: Path) -> None:
    """LESSONS 34: each flush is a finished gzip member, so what was flushed reads without the rest being closed."""
    writer = RecordingWriter(tmp_path / "r.gz")
    with writer:
        writer.write(1, BBO)
        writer.flush()
        writer.write(2, BBO)
        assert gzip.decompress(writer.part.read_bytes()).count(b"\n") == 1
    assert frames_of(tmp_path / "r.gz") == [BBO, BBO]


def test_models_writer_keeps_one_frame_a_line(tmp_path: Path) -> None:
    """A frame with line breaks between its tokens stays one line and the same JSON value."""
    with RecordingWriter(tmp_path / "r.gz") as writer:
        assert writer.write(1, '{"channel":\n "bbo",\r\n "data": {"coin": "A\\nB"}}\n')
    assert [json.loads(text) for text in frames_of(tmp_path / "r.gz")] == [{"channel": "bbo", "data": {"coin": "A\nB"}}]


def test_models_writer_does_not_replace_a_late_comer(tmp_path: Path) -> None:
    """A file of that name that appears while recording stays; the recording keeps its .part name and the error says so."""
    writer = RecordingWriter(tmp_path / "r.gz")
    writer.__enter__()
    writer.write(1, BBO)
    (tmp_path / "r.gz").write_bytes(b"precious")
    with pytest.raises(RecorderError, match="appeared meanwhile"):
        writer.close()
    assert frames_of(writer.part) == [BBO]
    assert (tmp_path / "r.gz").read_bytes() == b"precious"


async def test_models_recorder_records_the_embedded_exchange(tmp_path: Path) -> None:
    """SIM-1, SIM-3: what is recorded from the exchange over a real socket reads back and can be replayed as a market."""
    out = tmp_path / "r.jsonl.gz"
    exchange = Exchange(SyntheticSource(SyntheticConfig(coins=("xyz:SNDK",))), SystemClock())
    summary = RecordSummary()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, exchange, "127.0.0.1", 0)
        request = RecordRequest(f"ws://127.0.0.1:{port}/ws", ("xyz:SNDK",), CHANNELS, duration_s=1.5)
        with RecordingWriter(out) as writer:
            await record(request, writer, SystemClock(), summary)
        nursery.cancel_scope.cancel()
    assert summary.lost_connections == 0
    assert summary.by_channel["subscriptionResponse"] == len(CHANNELS)
    assert detect(Recording(out), EpisodeCounter(Reference.ORACLE, Decimal(11))).unreadable_frames == 0
    replayed = open_replay(out)
    assert any(isinstance(event, BookChange) for _, event in replayed.events())
    assert replayed.listings()[1].universe[16].coin == "xyz:SNDK"


async def test_models_recorder_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    """A file that cannot be written on ends the recording with one RecorderError, not with a group of them."""

    async def talk(ws: WebSocketConnection) -> None:
        for _ in range(8):
            await ws.send_message('{"channel":"x","data":"' + os.urandom(50_000).hex() + '"}')
        await trio.sleep_forever()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with trio.open_nursery() as nursery:
        request = RecordRequest(await served(nursery, talk), ("BTC",))
        writer = RecordingWriter(tmp_path / "r.gz")
        writer.__enter__()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(RecorderError, match=r"r\.gz\.part: cannot be written: File too large"):
                await record(request, writer, StepClock(), RecordSummary())
            with pytest.raises(RecorderError):
                writer.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        nursery.cancel_scope.cancel()


SCRIPT = """
import sys
from pathlib import Path
from hip3.cli.record_cmd import record_market_data
sys.exit(record_market_data(sys.argv[1], Path(sys.argv[2]), coins=["xyz:SNDK"], channels=["bbo"]))
"""


async def run_recorder(out: Path, frames: list[str], stop: signal.Signals) -> tuple[int, str, str]:
    """Runs the command in a process of its own, sends it `frames` and then `stop`; exit code and output."""

    async def talk(ws: WebSocketConnection) -> None:
        await ws.get_message()
        for frame in frames:
            await ws.send_message(frame)
        for _ in range(2):  # the second pong proves that the messages before the first ping were consumed
            await ws.ping()
        process.send_signal(stop)
        await trio.sleep_forever()

    async def drain(pipe: trio.abc.ReceiveStream, into: list[bytes]) -> None:
        async with pipe:
            async for chunk in pipe:
                into.append(bytes(chunk))

    stdout: list[bytes] = []
    stderr: list[bytes] = []
    async with trio.open_nursery() as nursery:
        url = await served(nursery, talk)
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", SCRIPT, url, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with trio.fail_after(30):
                async with trio.open_nursery() as pipes:
                    pipes.start_soon(drain, process.stdout, stdout)
                    pipes.start_soon(drain, process.stderr, stderr)
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        nursery.cancel_scope.cancel()
    return code, b"".join(stdout).decode(), b"".join(stderr).decode()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_models_recorder_ends_cleanly_on_a_signal(tmp_path: Path, stop: signal.Signals) -> None:
    """END-1: SIGINT and SIGTERM alike end the recording with a complete file, a summary and exit code 0."""
    code, stdout, stderr = await run_recorder(tmp_path / "r.gz", [BBO], stop)
    assert (code, stderr) == (0, "")
    assert "1 frames (bbo 1)" in stdout
    assert frames_of(tmp_path / "r.gz") == [BBO]


async def test_models_recorder_killed_keeps_what_was_flushed(tmp_path: Path) -> None:
    """LESSONS 34: after a kill the .part file is a whole recording up to the last flush."""
    big = '{"channel":"x","data":"' + "y" * 300_000 + '"}'  # over the flush bound, so it is written at once
    await run_recorder(tmp_path / "r.gz", [big, BBO], signal.SIGKILL)
    assert names_in(tmp_path) == ["r.gz.part"]
    assert frames_of(tmp_path / "r.gz.part") == [big]
