"""What somebody else did to the files of a store: edited, locked, removed or moved them (SPEC 18, LESSONS 3)."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hip3.core.records import StorageUnavailable
from hip3.store.database import place_of_file
from hip3.store.errors import SchemaVersionMismatch, StoreDamaged, StoreUnusable
from hip3.store.lock import take_lock
from hip3.store.repository import Repository
from hip3.store.salvage import rebuild
from hip3.store.store import Store
from tests.store.store_builders import ACCOUNT, Bench, fill, intent, kill, move, put_all, result, signal


def file_of(bench: Bench) -> Path:
    assert bench.place.file is not None
    return bench.place.file


def edit(bench: Bench, statement: str) -> None:
    """By hand, with another program."""
    with closing(sqlite3.connect(file_of(bench))) as raw, raw:
        assert raw.execute(statement).rowcount


async def end(store: Store) -> None:
    """As at the end of a run."""
    assert await store.drain_and_close(5)


async def written(bench: Bench, run: str = "run-1") -> None:
    """A run that ended in order, with an order, its result, a fill, a signal and a transition."""
    store = bench.open(run)
    put_all(store, intent(1), result(1, "OPEN", terminal=False), fill(1), signal(1), move(1))
    await end(store)


# ---- edited


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("update order_intents set sz = 'abc'", "sz is 'abc', expected a decimal"),
        ("update order_intents set px = 'NaN'", r"px is Decimal\('NaN'\), expected a decimal"),
        ("update order_intents set created_ms = 'soon'", "created_ms is 'soon', expected a whole number"),
        ("update order_intents set tif = x'ff00'", r"tif is b'\\xff\\x00', expected text"),
    ],
)
async def test_an_order_that_no_bot_wrote_is_named_and_can_be_left_out(file_bench: Bench, statement: str, says: str) -> None:
    """STO-2, REC-1: table, row, column, value, what was expected and what helps; a rebuild leaves that row out, no other."""
    await written(file_bench)
    edit(file_bench, statement)
    store = file_bench.open("run-2")
    with pytest.raises(
        StoreDamaged, match=rf"paper\.db: table order_intents, row account 0x.*aa, cloid .*: {says}"
    ) as refused:
        store.repository.unfinished_orders(ACCOUNT)
    assert "`hip3 store rebuild` saves what is readable" in str(refused.value)
    kill(store)
    done = rebuild(file_bench.place, file_bench.clock)
    assert [lost for lost in done.lost if "table order_intents" in lost and "the row was left out" in lost]
    again = file_bench.open("run-3")
    assert again.repository.unfinished_orders(ACCOUNT) == []
    assert len(again.repository.fills(ACCOUNT)) == 1


async def test_a_signal_and_a_value_that_no_bot_wrote_are_named(file_bench: Bench) -> None:
    """OPS-7, LESSONS 3: a reader says which row it is, and reads nothing out of it."""
    await written(file_bench)
    edit(file_bench, "update signals set inputs = 'no json'")
    reader = Repository(file_bench.place)
    with pytest.raises(StoreDamaged, match=r"table signals, row .* s-1: inputs is 'no json', expected a JSON object"):
        reader.last_signal(ACCOUNT)
    edit(file_bench, "update system_state set value = x'00' where key = 'audit.head'")
    with pytest.raises(StoreDamaged, match=r"table system_state, row account store, key audit\.head: value is b"):
        reader.audit_head()
    edit(file_bench, "update system_state set value = 'zz' where key = 'audit.head'")
    with pytest.raises(StoreDamaged, match=r"system_state audit\.head is 'zz'"):
        reader.audit_head()
    reader.close()


async def test_how_far_the_spool_was_applied_must_be_a_number(file_bench: Bench) -> None:
    """STO-4: else nobody knows what of the spool the database has: refused, and rebuilt from what is there."""
    await written(file_bench)
    edit(file_bench, "update system_state set value = 'zz' where key like 'spool.%'")
    with pytest.raises(StoreDamaged, match=r"system_state spool\..* is 'zz', expected a number"):
        file_bench.open("run-2")
    done = rebuild(file_bench.place, file_bench.clock)
    assert any("how far spool" in lost for lost in done.lost)
    assert len(file_bench.open("run-3").repository.unfinished_orders(ACCOUNT)) == 1


# ---- locked, newer


async def test_a_locked_store_is_not_rebuilt_without_its_rows(file_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """STO-6: that another program locks a file says nothing of its rows: refused, with nothing changed."""
    monkeypatch.setattr("hip3.store.database.BUSY_TIMEOUT_MS", 10)
    await written(file_bench)
    with closing(sqlite3.connect(file_of(file_bench), isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        for read in (lambda: rebuild(file_bench.place, file_bench.clock), Repository(file_bench.place).counts):
            with pytest.raises(StoreUnusable, match="database is locked; another program holds a lock on it: end that one"):
                read()
    assert Repository(file_bench.place).counts()["order_intents"] == 1


async def test_a_newer_store_is_not_rebuilt_as_an_older_one(file_bench: Bench) -> None:
    """STO-5: what this version does not know would be left out: refused, with nothing changed."""
    await written(file_bench)
    edit(file_bench, "update schema_version set version_num = '0099'")
    before = file_of(file_bench).read_bytes()
    with pytest.raises(SchemaVersionMismatch, match=r"has schema '0099', .* run the version that wrote it"):
        rebuild(file_bench.place, file_bench.clock)
    assert file_of(file_bench).read_bytes() == before


# ---- removed


async def test_a_database_that_is_gone_is_not_begun_anew_behind_its_spool(file_bench: Bench) -> None:
    """STO-4, SAFE-2: the latch and the counters went with it, so the start refuses; rebuild takes what the spool has."""
    await written(file_bench)
    await written(file_bench, "run-2")
    file_of(file_bench).unlink()
    with pytest.raises(StoreDamaged, match=r"paper\.db: knows nothing of the spool .*\.spool, which goes on at group 2"):
        file_bench.open("run-3")
    file_of(file_bench).unlink()  # what the start made is empty
    assert rebuild(file_bench.place, file_bench.clock).groups == 1
    assert len(file_bench.open("run-4").repository.unfinished_orders(ACCOUNT)) == 1


async def test_a_database_whose_spool_is_whole_is_made_again_from_it(file_bench: Bench) -> None:
    """STO-4: the first segment is still there, so nothing is lost."""
    await written(file_bench)
    file_of(file_bench).unlink()
    assert file_bench.open("run-2").recovered == 1


def remove_database(bench: Bench) -> None:
    file_of(bench).unlink()


def remove_log(bench: Bench) -> None:
    Path(f"{file_of(bench)}-wal").unlink()


def replace_database(bench: Bench) -> None:
    shutil.copy(file_of(bench), f"{file_of(bench)}.new")
    Path(f"{file_of(bench)}.new").replace(file_of(bench))


def remove_spool(bench: Bench) -> None:
    shutil.rmtree(bench.place.spool)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (remove_database, "paper.db: was removed or replaced while this process writes to it"),
        (remove_log, "paper.db: was removed or replaced while this process writes to it"),
        (replace_database, "paper.db: was removed or replaced while this process writes to it"),
        (remove_spool, "00000000000000000001.spool was removed while this process writes to it"),
    ],
)
async def test_files_that_are_taken_away_from_a_running_bot_are_missed(
    harm: Callable[[Bench], None], says: str, file_bench: Bench, autojump_clock: MockClock
) -> None:
    """STO-4: what goes into a file without a name is lost with the process, so it is trouble, and stays trouble."""
    store = file_bench.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        put_all(store, intent(1), move(1))
        await trio.sleep(1)
        assert (store.waiting_rows, file_bench.troubles) == (0, [])
        harm(file_bench)
        put_all(store, intent(2), move(2))
        await trio.sleep(60)
        assert len(file_bench.troubles) == 1
        assert says in str(file_bench.troubles[0])
        assert "end the bot (it flattens)" in str(file_bench.troubles[0])
        await store.drain_and_close(1)


# ---- a disk that takes nothing


def mount(*arguments: str) -> str:
    """What the system says against it; empty where it was done."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - the system's
    return done.stderr.strip() or str(done.returncode or "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB of its own; skipped where this user may not mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if against := mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)):
        pytest.skip(f"this user may not mount: {against}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607 - as above


def test_a_read_only_file_system_is_named_with_its_remedy(small_disk: Path) -> None:
    """STO-4: at a start, one sentence: the place, what the system says, what helps; nothing was made."""
    assert mount("-o", "remount,ro", str(small_disk)) == ""
    says = r"store/paper\.db\.lock: Read-only file system; .*: mount it writable, or set another state folder"
    with pytest.raises(StoreUnusable, match=says):
        Bench(place_of_file(small_disk / "store" / "paper.db")).open()
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_keeps_what_was_committed_and_counts_the_rest(small_disk: Path) -> None:
    """STO-4, LESSONS 3: a commit that returned is there at the next start; what fitted nowhere is counted, not forgotten."""
    store = Bench(place_of_file(small_disk / "paper.db")).open()
    kept, why = 0, ""
    while not why:
        try:
            put_all(store, intent(kept + 1), move(kept + 1))
            kept += 1
        except StorageUnavailable as e:
            why = str(e)
    assert "the disk is full: free some space" in why
    assert store.lost_rows == 2
    kill(store)
    copied = small_disk.parent / "copied"
    shutil.copytree(small_disk, copied)
    found = Bench(place_of_file(copied / "paper.db")).open("run-2")
    assert len(found.repository.unfinished_orders(ACCOUNT)) == kept
    kill(found)


def test_a_file_where_the_folder_must_be_is_said_so(tmp_path: Path) -> None:
    """STO-4: not that the file exists."""
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreUnusable, match="a file is where a folder must be: move it away, or set another state folder"):
        take_lock(tmp_path / "store" / "paper.db.lock", 1)
