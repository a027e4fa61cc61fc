"""Backups, and what is done with a store that is damaged (STO-6)."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from hip3.store.backup import PART, DailyBackup, backups_in, check_copy, make_backup, restore
from hip3.store.database import open_engine
from hip3.store.errors import SchemaVersionMismatch, StoreDamaged, StoreError, StoreInUse, StoreMissing, StoreUnusable
from hip3.store.salvage import rebuild
from hip3.store.store import restore_store
from tests.store.store_builders import (
    ACCOUNT,
    START_MS,
    Bench,
    fill,
    intent,
    kill,
    move,
    one_of_each,
    put_all,
    result,
    trade,
)


def file_of(bench: Bench) -> Path:
    assert bench.place.file is not None
    return bench.place.file


def written(bench: Bench, count: int = 3) -> Path:
    """A closed store with something of everything in it; its file."""
    store = bench.open()
    put_all(store, *one_of_each())
    for n in range(2, count + 1):
        put_all(store, intent(n), result(n), move(n), fill(n), trade(n))
    store.writer.applier.apply(store.writer.spool.take(1 << 20))
    store.writer.spool.applied(count)
    kill(store)
    return file_of(bench)


def test_a_copy_is_as_of_one_moment_and_read_back(file_bench: Bench, tmp_path: Path) -> None:
    """STO-6: made while the writer holds the store; tables counted, pages and audit chain checked, one file."""
    store = file_bench.open()
    put_all(store, *one_of_each())
    store.writer.applier.apply(store.writer.spool.take(100))
    path, contents = make_backup(file_of(file_bench), tmp_path / "b", START_MS + 90_000)
    assert path.name == "backup-20260101-0001.db"
    assert [p.name for p in (tmp_path / "b").iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600
    assert (contents.rows["fills"], contents.rows["audit_log"], contents.head.seq) == (1, 1, 1)
    kill(store)


def test_a_copy_that_is_not_whole_gets_no_name(file_bench: Bench, tmp_path: Path) -> None:
    """STO-6: a store whose chain is broken is not copied as if it were well; what was there before stays."""
    file = written(file_bench)
    good, _ = make_backup(file, tmp_path / "b", START_MS)
    with sqlite3.connect(file) as raw:
        raw.execute("UPDATE audit_log SET to_state = 'X' WHERE seq = 1")
    raw.close()
    with pytest.raises(StoreDamaged, match="row 1: was changed"):
        make_backup(file, tmp_path / "b", START_MS + 60_000)
    assert list((tmp_path / "b").iterdir()) == [good]


def test_an_unfinished_copy_is_no_backup(file_bench: Bench, tmp_path: Path) -> None:
    """STO-6: what a crash leaves of a copy has another name and is not offered."""
    file = written(file_bench)
    (tmp_path / f"backup-20260101-0000.db{PART}").write_bytes(file.read_bytes()[:5000])
    assert backups_in(tmp_path) == []
    path, _ = make_backup(file, tmp_path, START_MS)
    assert backups_in(tmp_path) == [path]


def test_a_folder_that_cannot_be_written_is_said(file_bench: Bench, tmp_path: Path) -> None:
    """STO-6: no backup, and one sentence that says why."""
    (tmp_path / "b").write_text("")
    with pytest.raises(StoreUnusable, match="cannot be made"):
        make_backup(written(file_bench), tmp_path / "b", START_MS)


def test_a_daily_backup_that_fails_is_told_of(file_bench: Bench, tmp_path: Path) -> None:
    """STO-6: trouble with the copy is a sentence and stops nothing else."""
    said: list[tuple[str, str]] = []
    daily = DailyBackup(written(file_bench), tmp_path / "b", 7, lambda level, words: said.append((level, words)))
    (tmp_path / "b").write_text("")
    daily.make(START_MS)
    (tmp_path / "b").unlink()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / f"backup-20251231-2359.db{PART}").write_text("half of one, of a process that died")
    daily.make(START_MS)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["backup-20260101-0000.db"]
    assert [level for level, _ in said] == ["error", "info"]
    assert "no backup was made" in said[0][1]


def test_a_restored_store_is_what_was_copied(file_bench: Bench, tmp_path: Path) -> None:
    """STO-6: rows and chain of the copy, one audit row about the restore, and the replaced store kept beside it."""
    file = written(file_bench)
    backup, _ = make_backup(file, tmp_path / "b", START_MS)
    store = file_bench.open("run-2")
    put_all(store, fill(77))
    kill(store)
    kept, contents = restore_store(file_bench.place, backup, file_bench.clock)
    assert kept is not None
    assert {p.name for p in kept.iterdir()} >= {file.name, file_bench.place.spool.name}
    again = file_bench.open("run-3")
    assert 77 not in {f.oid for f in again.repository.fills(ACCOUNT)}
    assert [r.reason_code for r in again.repository.audit(after_seq=contents.head.seq)] == ["STORE_RESTORED"]
    assert again.repository.verify_audit().is_whole
    assert again.recovered == 0
    kill(again)


def cut(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])


def empty(backup: Path) -> None:
    backup.write_bytes(b"")


def no_database(backup: Path) -> None:
    backup.write_bytes(b"x" * 10_000)


def edited(backup: Path) -> None:
    raw = sqlite3.connect(backup)
    raw.execute("DELETE FROM audit_log WHERE seq = 2")
    raw.commit()
    raw.close()


def newer(backup: Path) -> None:
    raw = sqlite3.connect(backup)
    raw.execute("UPDATE schema_version SET version_num = '0999'")
    raw.commit()
    raw.close()


def flipped(backup: Path) -> None:
    data = bytearray(backup.read_bytes())
    for at in range(8192, len(data), 4096):
        data[at : at + 64] = bytes(64)
    backup.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("harm", "refused"),
    [
        (cut, StoreDamaged),
        (empty, StoreDamaged),
        (no_database, StoreDamaged),
        (edited, StoreDamaged),
        (flipped, StoreDamaged),
        (newer, SchemaVersionMismatch),
        (Path.unlink, StoreUnusable),
    ],
)
def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_touched(
    file_bench: Bench, tmp_path: Path, harm: object, refused: type[StoreError]
) -> None:
    """STO-6: half-written, empty, no database, edited, overwritten pages, newer than the program, gone."""
    file = written(file_bench)
    backup, _ = make_backup(file, tmp_path / "b", START_MS)
    assert callable(harm)
    harm(backup)
    before = file.read_bytes()
    with pytest.raises(refused):
        restore(file_bench.place, backup, START_MS)
    assert file.read_bytes() == before
    assert [p for p in file.parent.iterdir() if "replaced" in p.name or "restoring" in p.name] == []
    kill(file_bench.open("run-2"))


def test_a_server_says_what_copies_it(postgres_bench: Bench) -> None:
    """STO-6: pg_dump makes copies of PostgreSQL, and the commands say so."""
    with pytest.raises(StoreUnusable, match="pg_dump"):
        restore(postgres_bench.place, Path("x"), START_MS)


# ---- rebuild


def test_a_rebuilt_store_has_every_row_and_the_tail_of_its_spool(file_bench: Bench) -> None:
    """STO-6: of a store that is well nothing is lost, what was derived is the same, and the chain verifies."""
    written(file_bench)
    store = file_bench.open("run-2")
    put_all(store, intent(50), move(50))
    kill(store)
    done = rebuild(file_bench.place, file_bench.clock)
    assert (done.lost, done.groups) == ([], 1)
    again = file_bench.open("run-3")
    found = again.repository
    assert [o.intents[0].cloid for o in found.unfinished_orders(ACCOUNT)] == [intent(50).cloid]
    assert len(found.fills(ACCOUNT)) == 3
    assert found.verify_audit().is_whole
    assert found.audit_tail(1)[0].reason_code == "STORE_REBUILT"
    assert done.kept is not None
    assert (done.kept / file_of(file_bench).name).exists()
    kill(again)


def test_what_is_readable_of_a_damaged_file_is_saved(file_bench: Bench) -> None:
    """STO-6: pages that were overwritten cost their rows, said by table; a chain with a hole goes on saying so."""
    file = written(file_bench, 400)
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        first = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit_log'").fetchone()[0]
        size = raw.execute("PRAGMA page_size").fetchone()[0]
    raw.close()
    data = bytearray(file.read_bytes())
    leaf = next(
        page
        for page in range(first, len(data) // size)
        if data[page * size] == 13 and data[page * size : (page + 1) * size].count(b"BYTES_LEFT") > 3
    )
    data[leaf * size : leaf * size + 200] = b"\xff" * 200
    file.write_bytes(bytes(data))
    done = rebuild(file_bench.place, file_bench.clock)
    assert any("table audit_log" in sentence for sentence in done.lost), done.lost
    assert 300 < done.rows["audit_log"] < 400
    again = file_bench.open("run-3")
    verdict = again.repository.verify_audit()
    assert any("missing" in fault for fault in verdict.faults)
    assert again.repository.audit_tail(1)[0].metadata["lost"] == done.lost
    put_all(again, move(500))
    again.writer.applier.apply(again.writer.spool.take(1))
    kill(again)


def test_damage_in_the_spool_costs_only_its_groups(file_bench: Bench) -> None:
    """STO-4, STO-6: the start refuses, the rebuild applies what is readable on both sides and says what is not."""
    store = file_bench.open()
    for n in range(1, 6):
        put_all(store, intent(n))
    kill(store)
    path = next(iter(file_bench.place.spool.iterdir()))
    path.write_bytes(path.read_bytes().replace(b'"s-3"', b'"x-3"'))
    with pytest.raises(StoreDamaged, match="group 3 has another checksum"):
        file_bench.open("run-2")
    done = rebuild(file_bench.place, file_bench.clock)
    assert any("groups 3 to 3" in sentence for sentence in done.lost), done.lost
    again = file_bench.open("run-3")
    found = [o.intents[0].signal_id for o in again.repository.unfinished_orders(ACCOUNT)]
    assert found == ["s-1", "s-2", "s-4", "s-5"]
    kill(again)


def test_a_lost_database_is_built_from_its_spool(file_bench: Bench) -> None:
    """STO-6: of a file that is gone or is no database, the spool holds the newest records."""
    store = file_bench.open()
    put_all(store, intent(1), move(1))
    kill(store)
    file_of(file_bench).write_bytes(b"no database at all")
    with pytest.raises(StoreDamaged):
        file_bench.open("run-2")
    done = rebuild(file_bench.place, file_bench.clock)
    assert done.groups == 1
    again = file_bench.open("run-3")
    assert len(again.repository.unfinished_orders(ACCOUNT)) == 1
    assert again.repository.verify_audit().is_whole
    kill(again)


def test_nothing_is_built_from_nothing(file_bench: Bench) -> None:
    """STO-6: where there is neither a database nor a spool there is nothing to rebuild."""
    with pytest.raises(StoreMissing):
        rebuild(file_bench.place, file_bench.clock)


def test_a_store_that_was_put_back_by_hand_too_old_is_refused(file_bench: Bench, tmp_path: Path) -> None:
    """STO-6, LESSONS 36: a copy laid over the file by hand, whose spool has gone on since, is damage and not a start."""
    store = file_bench.open()
    put_all(store, intent(1))
    store.writer.applier.apply(store.writer.spool.take(10))
    old, _ = make_backup(file_of(file_bench), tmp_path / "b", START_MS)
    for n in range(2, 5):
        put_all(store, intent(n))
    store.writer.applier.apply(store.writer.spool.take(10))
    store.writer.spool.applied(4)
    kill(store)
    kill(file_bench.open("run-2"))
    for leftover in (f"{file_of(file_bench)}-wal", f"{file_of(file_bench)}-shm"):
        Path(leftover).unlink(missing_ok=True)
    shutil.copyfile(old, file_of(file_bench))
    with pytest.raises(StoreDamaged, match="groups 2 to 4 are missing"):
        file_bench.open("run-3")


def test_a_store_in_use_is_left_alone(file_bench: Bench) -> None:
    """STO-6: the database stays readable while somebody else holds it, and the holder is named."""
    store = file_bench.open()
    with pytest.raises(StoreInUse, match="process 4242"):
        file_bench.open("run-2")
    engine = open_engine(file_bench.place, writes=False)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar() == 1
    engine.dispose()
    assert check_copy(file_of(file_bench)).version == "0001"
    kill(store)
