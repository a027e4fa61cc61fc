"""The spool: what `commit` promises, and what is read back after a crash (STO-4)."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.records import Record, StorageUnavailable, Transition
from hip3.store.errors import StoreDamaged, StoreUnusable
from hip3.store.segments import Group, pending, read_spool, segment_path, segment_paths
from hip3.store.spool import Spool, cut_torn_tail
from tests.store.store_builders import D, fill, intent, move, one_of_each, open_spool


def commit(spool: Spool, *records: Record) -> None:
    for record in records:
        spool.put(record)
    spool.commit()


def read(folder: Path, applied: int | None = 0) -> list[Group]:
    return pending(read_spool(folder), applied)


def test_a_committed_group_is_read_back_as_it_was(tmp_path: Path) -> None:
    """STO-4: a record of every kind survives in the file, decimals with all their digits."""
    spool = open_spool(tmp_path / "s")
    commit(spool, *one_of_each())
    groups = read(tmp_path / "s")
    assert [g.seq for g in groups] == [1]
    assert groups[0].header.account == spool.header.account
    plain = [record for record in one_of_each() if not hasattr(record, "inputs") and not hasattr(record, "evidence")]
    assert [r for r in groups[0].records if not hasattr(r, "inputs") and not hasattr(r, "evidence")] == plain


def test_put_alone_is_not_durable(tmp_path: Path) -> None:
    """STO-4: only `commit` writes, and a commit of nothing writes nothing."""
    spool = open_spool(tmp_path / "s")
    spool.commit()
    spool.put(intent())
    assert read(tmp_path / "s") == []


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    cut=st.floats(0, 1),
    applied=st.integers(0, 8),
    segment_bytes=st.sampled_from([300, 1000, 1 << 20]),
)
def test_a_cut_anywhere_in_the_last_group_loses_no_acknowledged_one(
    sizes: list[int], cut: float, applied: int, segment_bytes: int
) -> None:
    """REC-2, STO-4: whatever a crash leaves of the group that was being written, those before it are whole and in order."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        spool = open_spool(folder, segment_bytes=segment_bytes)
        serial = iter(range(1, 1000))
        written = [tuple(move(next(serial)) for _ in range(size)) for size in sizes]
        for records in written[:-1]:
            commit(spool, *records)
        path, safe = segment_paths(folder)[-1], segment_paths(folder)[-1].stat().st_size
        files = len(segment_paths(folder))
        commit(spool, *written[-1])
        turned = len(segment_paths(folder)) > files
        path, safe = (segment_paths(folder)[-1], 0) if turned else (path, safe)
        whole = path.stat().st_size
        os.truncate(path, safe + int((whole - safe) * cut * 0.999))
        acknowledged = len(written) - 1
        applied = min(applied, acknowledged)
        segments = read_spool(folder)
        assert [g.records for g in pending(segments, applied)] == written[applied:-1]
        cut_torn_tail(segments)
        again = open_spool(folder, first_seq=acknowledged + 1, segment_bytes=segment_bytes)
        commit(again, *written[-1])
        assert [(g.seq, g.records) for g in read(folder, applied)] == [
            (n + 1, written[n]) for n in range(applied, len(written))
        ]


def test_zeros_at_the_end_are_torn(tmp_path: Path) -> None:
    """STO-4: what a file system leaves where it had promised room and lost power is no group and no damage."""
    spool = open_spool(tmp_path)
    commit(spool, intent())
    with segment_paths(tmp_path)[0].open("ab") as file:
        file.write(b"\0" * 100)
    assert [g.seq for g in read(tmp_path)] == [1]


def damaged(folder: Path, change: Callable[[bytes], bytes]) -> None:
    spool = open_spool(folder)
    for n in range(1, 5):
        commit(spool, intent(n))
    path = segment_paths(folder)[0]
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.replace(b"s-2", b"s-9"), "group 2 has another checksum"),
        (lambda data: b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"3 ")), "group 3 is missing"),
        (lambda data: data.replace(b"\n2 ", b"\n7 "), "group 7 has another checksum"),
        (lambda data: data[:40] + data[60:], "first line is not readable"),
        (lambda data: data.replace(b"s-4", b"s-9"), "group 4 has another checksum"),
    ],
)
def test_damage_in_the_middle_is_told_of(tmp_path: Path, change: Callable[[bytes], bytes], said: str) -> None:
    """STO-4: a changed byte, a group that is gone, another number, a first line: said with its place, never passed over."""
    damaged(tmp_path, change)
    with pytest.raises(StoreDamaged, match=said) as refused:
        read(tmp_path)
    assert "hip3 store rebuild" in str(refused.value)


def test_damage_to_what_the_database_has_is_nobodys_concern(tmp_path: Path) -> None:
    """STO-4: a segment whose groups are all in the database is not judged."""
    spool = open_spool(tmp_path, segment_bytes=10)
    for n in range(1, 4):
        commit(spool, intent(n))
    first = segment_paths(tmp_path)[0]
    first.write_bytes(first.read_bytes().replace(b"s-1", b"s-9"))
    with pytest.raises(StoreDamaged):
        read(tmp_path, 0)
    assert [g.seq for g in read(tmp_path, 1)] == [2, 3]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As a full disk: the kernel takes bytes up to `size`, then refuses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_the_commit_and_leaves_no_half_group(tmp_path: Path) -> None:
    """STO-4: the message says where, why and what to do; what was refused is written first once there is room again."""
    spool = open_spool(tmp_path)
    commit(spool, intent(1))
    size = segment_paths(tmp_path)[0].stat().st_size
    with largest_file(size + 100), pytest.raises(StorageUnavailable, match="only 100 of") as refused:
        commit(spool, intent(2))
    assert str(tmp_path) in str(refused.value)
    assert "disk is full" in str(refused.value)
    assert segment_paths(tmp_path)[0].stat().st_size == size
    with largest_file(size), pytest.raises(StorageUnavailable, match="ulimit"):
        spool.commit()
    assert [g.seq for g in read(tmp_path)] == [1]
    commit(spool, intent(3))
    assert [(g.seq, g.records) for g in read(tmp_path)][1:] == [(2, (intent(2), intent(3)))]


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    """STO-4: a file in the folder's place, as a read-only disk would, ends in one sentence."""
    (tmp_path / "s").write_text("no folder")
    with pytest.raises(StoreUnusable, match="cannot be written"):
        open_spool(tmp_path / "s")


def test_a_device_without_room_is_refused_at_the_start(tmp_path: Path) -> None:
    """STO-4: the remedy belongs to what the system said."""
    segment_path(tmp_path, 1).symlink_to("/dev/full")
    with pytest.raises(StoreUnusable, match="the disk is full: free some space"):
        open_spool(tmp_path)


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    """STO-4: more records than `queue_rows` that no database took are STORAGE_UNAVAILABLE; drained, it goes on."""
    spool = open_spool(tmp_path, max_rows=3)
    commit(spool, intent(1), move(1))
    with pytest.raises(StorageUnavailable, match=r"store\.queue_rows"):
        commit(spool, intent(2), move(2))
    assert [g.seq for g in read(tmp_path)] == [1]
    spool.applied(1)
    spool.commit()
    assert [g.seq for g in read(tmp_path, 1)] == [2]


def test_what_no_longer_fits_is_counted_and_said(tmp_path: Path) -> None:
    """STO-4: `put` never raises; records beyond the bound are lost, and the next commit says how many."""
    spool = open_spool(tmp_path, max_rows=3)
    commit(spool, intent(1))
    for n in range(2, 7):
        spool.put(intent(n))
    with pytest.raises(StorageUnavailable):
        spool.commit()
    assert spool.lost == 2
    spool.applied(1)
    spool.commit()
    said = [r for g in read(tmp_path, 1) for r in g.records if isinstance(r, Transition)]
    assert [(r.reason_code, r.metadata) for r in said] == [("RECORDS_LOST", {"lost": 2})]


def test_a_value_that_no_file_can_hold_is_refused_and_does_not_stay(tmp_path: Path) -> None:
    """STO-4: a defect in one record holds up no other."""
    spool = open_spool(tmp_path)
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        commit(spool, move(1, text="\udc80"))
    commit(spool, fill(px=D("1E+2")))
    assert [r for g in read(tmp_path) for r in g.records if isinstance(r, type(fill()))] == [fill(px=D(100))]


def test_segments_turn_at_a_size_and_go_when_the_database_has_them(tmp_path: Path) -> None:
    """LESSONS 34: nothing is deleted that is not in the database, and the spool does not grow without end."""
    spool = open_spool(tmp_path, segment_bytes=600)
    for n in range(1, 6):
        commit(spool, intent(n))
    before = segment_paths(tmp_path)
    assert len(before) > 2
    spool.applied(2)
    assert [g.seq for g in read(tmp_path, 2)] == [3, 4, 5]
    spool.applied(5)
    assert segment_paths(tmp_path) == before[-1:]
    assert spool.rows == 0
