"""The recording reader: what is there is read, and damage is named by file and line."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from hip3.cli.replay_cmd import replay_detector_only
from hip3.exchange.recording import Recording, RecordingError

LINE = b'{"recv_ms":%d,"frame":{"channel":"bbo","data":{"coin":"A","time":%d,"bbo":[null,null]}}}\n'


def lines(count: int) -> bytes:
    return b"".join(LINE % (number, number) for number in range(count))


def read(path: Path, *, allow_truncated: bool = False) -> Recording:
    recording = Recording(path, allow_truncated=allow_truncated)
    for _ in recording.frames():
        pass
    return recording


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_models_recording_frames_are_the_bytes_recorded(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Gzipped or plain, each line gives its number, its time and the frame's bytes, spaces and number forms included."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(pack(b'{"recv_ms": 5, "frame": {"px":  80742.0 }}\n{"recv_ms":6,"frame":{}}\n'))
    frames = list(Recording(path).frames())
    assert [(f.line, f.recv_ms, f.raw) for f in frames] == [(1, 5, b'{"px":  80742.0 }'), (2, 6, b"{}")]


def test_models_recording_of_several_members(tmp_path: Path) -> None:
    """LESSONS 34: gzip members written one after the other read as one recording."""
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(lines(3)) + gzip.compress(lines(2)))
    assert read(path).lines == 5


def test_models_recording_truncated_gzip_names_the_line(tmp_path: Path) -> None:
    """A gzip stream that ends in the middle is an error with file and line, after every line before it was given."""
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(lines(3)) + gzip.compress(lines(400))[:-20])
    with pytest.raises(RecordingError, match=r"r\.jsonl\.gz, line \d+: the gzip stream ends in the middle") as caught:
        read(path)
    assert caught.value.line > 3


@pytest.mark.parametrize(
    "cut", [lambda whole: gzip.compress(lines(3)) + gzip.compress(whole)[:-20], lambda whole: whole[:-9]]
)
def test_models_recording_truncated_tail_may_be_allowed(tmp_path: Path, cut: Callable[[bytes], bytes]) -> None:
    """LESSONS 34: what a killed recorder left reads up to its last whole line, and says where it ends."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(cut(lines(400)))
    recording = read(path, allow_truncated=True)
    assert recording.lines >= 3
    assert recording.truncated_after == recording.lines


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", 0, "empty"),
        (lines(2) + b'{"recv_ms":1,"frame":{"a":1}\n', 3, "not JSON"),
        (lines(1) + b"\n", 2, "not JSON"),
        (lines(1) + b'{"recv_ms":1}\n', 2, "missing required field `frame`"),
        (lines(1) + b'{"frame":{}}\n', 2, "missing required field `recv_ms`"),
        (lines(1) + b'{"recv_ms":"1","frame":{}}\n', 2, "Expected `int`, got `str`"),
        (lines(1) + b'{"recv_ms":-1,"frame":{}}\n', 2, "Expected `int` >= 0"),
        (lines(1) + b'{"recv_ms":1,"frame":[]}\n', 2, "must be a JSON object"),
        (lines(1) + b'{"recv_ms":1,"frame":"\xff"}\n', 2, "JSON"),
        (gzip.compress(b"", mtime=0), 0, "empty"),
        (gzip.compress(lines(3), mtime=0)[:12] + b"\x00" * 40, 1, "damaged gzip data"),
        (gzip.compress(lines(3), mtime=0) + b"garbage", 4, "damaged gzip data"),
    ],
)
def test_models_recording_damage_is_named(tmp_path: Path, content: bytes, line: int, says: str) -> None:
    """CFG-2: each kind of damage names the file, the line and what was found."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"r\.jsonl") as caught:
        read(path)
    assert caught.value.line == line
    assert says in str(caught.value)


def test_models_recording_named_gz_but_plain(tmp_path: Path) -> None:
    """A file that is named .gz and is none says so instead of failing on its first line."""
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(lines(2))
    with pytest.raises(RecordingError, match="not gzip data"):
        read(path)


def test_models_recording_clock_may_step_back(tmp_path: Path) -> None:
    """TYP-1: a wall clock may step back; the order of the lines stands and the steps are counted."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(LINE % (5, 1) + LINE % (3, 2) + LINE % (4, 3))
    recording = Recording(path)
    assert [frame.recv_ms for frame in recording.frames()] == [5, 3, 4]
    assert recording.backward_steps == 1


@pytest.mark.parametrize("name", ["missing.jsonl.gz", "."])
def test_models_replay_bad_file_is_exit_2(tmp_path: Path, name: str) -> None:
    """END-3: a file that cannot be read is exit code 2 with a message, and nothing on standard output."""
    out, err = io.StringIO(), io.StringIO()
    code = replay_detector_only(tmp_path / name, threshold_bps=Decimal(1), as_json=True, out=out, err=err)
    assert (code, out.getvalue()) == (2, "")
    assert "cannot be read" in err.getvalue()


def test_models_replay_truncated_recording_is_exit_2(shared_data: Path, tmp_path: Path) -> None:
    """END-3: a recording cut in the middle is refused with its line, and may be allowed explicitly."""
    whole = (shared_data / "recordings" / "btc_bbo_mark_2h_20260510.jsonl.gz").read_bytes()
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    err, out = io.StringIO(), io.StringIO()
    assert replay_detector_only(path, reference="mark", threshold_bps=Decimal(1), out=out, err=err) == 2
    assert "cut.jsonl.gz, line 2" in err.getvalue()
    assert out.getvalue() == ""
    code = replay_detector_only(path, reference="mark", threshold_bps=Decimal(1), allow_truncated=True, out=out, err=err)
    assert code == 0
    assert "cut off after line 2" in out.getvalue()


@pytest.mark.parametrize(("reference", "quotes"), [("oracel", "bbo"), ("mark", "trades")])
def test_models_replay_unknown_choice_is_exit_2(tmp_path: Path, reference: str, quotes: str) -> None:
    """CFG-2: a word that means nothing is refused with what is allowed."""
    err = io.StringIO()
    code = replay_detector_only(tmp_path, reference=reference, quotes=quotes, threshold_bps=Decimal(1), err=err)
    assert code == 2
    assert "expected one of" in err.getvalue()


def test_models_replay_unreadable_frames_are_counted(tmp_path: Path) -> None:
    """OPS-1: a frame that the parser cannot read is counted and named, and the rest is still judged."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(1) + b'{"recv_ms":2,"frame":{"channel":"bbo","data":{"coin":7}}}\n' + lines(1))
    out = io.StringIO()
    assert replay_detector_only(path, threshold_bps=Decimal(1), out=out) == 0
    assert "first unreadable frame: line 2" in out.getvalue()
    assert "no oracle in this recording" in out.getvalue()
