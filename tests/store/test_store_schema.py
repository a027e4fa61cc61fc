"""Tables and versions: the schema of STO-2, made new, migrated with a backup first, or refused and left alone (STO-5)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from hip3.store import schema
from hip3.store.backup import backups_in
from hip3.store.database import open_engine, place_of_file
from hip3.store.errors import SchemaVersionMismatch, StoreDamaged, StoreUnusable
from hip3.store.rows import TABLES
from hip3.store.store import open_applier
from hip3.store.versions import MIGRATIONS, Versions, bring_up_to_date, check_version, create, migrate, program_versions
from tests.store.store_builders import Bench, HandClock, intent, kill, move, put_all

NEXT = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{number}", "{before}"
def upgrade() -> None:
    op.add_column("fills", sa.Column("liquidation", sa.Text))
    {more}
"""


@pytest.fixture
def connection(bench: Bench) -> Iterator[Connection]:
    """An empty database."""
    engine = open_engine(bench.place, writes=True)
    with engine.connect() as made:
        yield made
    engine.dispose()


def next_versions(folder: Path, *names: str, more: str = "pass") -> Versions:
    """The program's migrations, followed by others."""
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = program_versions().head
    for name in names:
        number = name[1:5]
        (folder / "versions" / f"{name}.py").write_text(NEXT.format(number=number, before=before, more=more))
        before = number
    return program_versions(folder)


def test_migrations_make_the_same_schema_as_the_tables_say(connection: Connection) -> None:
    """STO-2, STO-5: a new database, made at once, and one that grew by migrations have the same tables and columns."""
    migrate(connection, program_versions())
    with connection.begin():
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, schema.METADATA) == []
        assert check_version(connection, program_versions(), "it") == program_versions().head


def test_every_field_of_a_record_has_its_column() -> None:
    """STO-2: a field that is added to a record is kept, or this fails."""
    for cls, table in TABLES.items():
        assert {a.name for a in attrs.fields(cls)} <= set(table.columns.keys()), cls.__name__


def test_money_columns_are_text(connection: Connection) -> None:
    """STO-2: no column of any table is a floating point number."""
    create(connection, "0001")
    kinds = {str(column.type).upper() for table in schema.METADATA.tables.values() for column in table.columns}
    assert kinds <= {"TEXT", "BIGINT", "INTEGER", "BOOLEAN"}


def test_an_older_schema_is_migrated_after_a_backup(file_bench: Bench, tmp_path: Path) -> None:
    """STO-5: what was there before is in the backup, and what was written stays."""
    store = file_bench.open()
    put_all(store, intent(1), move(1))
    store.writer.applier.apply(store.writer.spool.take(1))
    kill(store)
    versions = next_versions(tmp_path / "next", "v0002_liquidations")
    with open_engine(file_bench.place, writes=True).connect() as connection:
        made: list[str] = []
        assert bring_up_to_date(connection, versions, "it", lambda: made.append("backup")) == "0001"
        assert made == ["backup"]
        with connection.begin():
            assert check_version(connection, versions, "it") == "0002"
            assert connection.execute(text("SELECT count(liquidation) FROM fills")).scalar() == 0
            assert connection.execute(text("SELECT count(*) FROM audit_log")).scalar() == 1
        assert bring_up_to_date(connection, versions, "it", lambda: made.append("again")) == "0002"
        assert made == ["backup"]


def test_a_failing_migration_changes_nothing(bench: Bench, connection: Connection, tmp_path: Path) -> None:
    """STO-5: a migration is one transaction: all of it or none."""
    create(connection, "0001")
    versions = next_versions(tmp_path / "next", "v0002_broken", more='raise RuntimeError("in the middle")')
    with pytest.raises(RuntimeError, match="in the middle"):
        migrate(connection, versions)
    with connection.begin():
        assert check_version(connection, program_versions(), "it") == "0001"
        columns = connection.execute(text("SELECT * FROM fills")).keys()
    assert "liquidation" not in columns


def test_the_backup_before_a_migration_is_a_file(file_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STO-5, STO-6: opening a store of an older version leaves a copy that was read back."""
    kill(file_bench.open())
    versions = next_versions(tmp_path / "next", "v0002_liquidations")
    monkeypatch.setattr("hip3.store.store.program_versions", lambda: versions)
    open_applier(file_bench.place, HandClock(), tmp_path / "backups").close()
    assert [p.name for p in backups_in(tmp_path / "backups")] == ["backup-20260101-0000.db"]


def set_version(connection: Connection, *names: str) -> None:
    with connection.begin():
        connection.execute(text("DELETE FROM schema_version"))
        for name in names:
            connection.execute(text("INSERT INTO schema_version VALUES (:v)"), {"v": name})


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        (("0099",), "is newer than this version of hip3"),
        (("abcd",), "is unknown to this version of hip3"),
        ((), "holds 0 rows"),
        (("0001", "0002"), "holds 2 rows"),
    ],
)
def test_a_version_that_is_not_ours_is_refused_and_left_alone(
    bench: Bench, connection: Connection, versions: tuple[str, ...], said: str
) -> None:
    """STO-5: newer, unknown, damaged: SCHEMA_VERSION_MISMATCH, and nothing was touched."""
    create(connection, "0001")
    set_version(connection, *versions)
    connection.close()
    with pytest.raises(SchemaVersionMismatch, match=said):
        bench.open()
    assert not bench.place.spool.exists()
    kill_engine = open_engine(bench.place, writes=True)
    with kill_engine.connect() as again, again.begin():
        assert again.execute(text("SELECT count(*) FROM schema_version")).scalar() == len(versions)
        assert again.execute(text("SELECT count(*) FROM runs")).scalar() == 0
    kill_engine.dispose()


def test_a_schema_with_a_missing_table_is_refused(bench: Bench, connection: Connection) -> None:
    """STO-5: the right version and not its tables: half a restore, or someone's hand."""
    create(connection, "0001")
    with connection.begin():
        connection.execute(text("DROP TABLE fills"))
    connection.close()
    with pytest.raises(SchemaVersionMismatch, match="without fills"):
        bench.open()


def test_somebody_elses_database_is_refused(bench: Bench, connection: Connection) -> None:
    """STO-5: tables without a version are not ours to change."""
    with connection.begin():
        connection.execute(text("CREATE TABLE recipes (name TEXT)"))
    connection.close()
    with pytest.raises(SchemaVersionMismatch, match="no store of hip3"):
        bench.open()


def test_a_gap_in_the_programs_own_migrations_is_refused(tmp_path: Path) -> None:
    """STO-5: an installation without one of its versions migrates nothing."""
    with pytest.raises(SchemaVersionMismatch, match="expected the versions 0001, 0002, found 0001, 0003"):
        next_versions(tmp_path / "next", "v0003_gap")


def test_a_file_that_is_no_database_is_damage(file_bench: Bench) -> None:
    """STO-4: said with the file and what puts it right."""
    kill(file_bench.open())
    file = file_bench.place.file
    assert file is not None
    file.write_bytes(b"this is no database" + file.read_bytes()[19:])
    with pytest.raises(StoreDamaged, match="hip3 store restore"):
        file_bench.open()


def test_a_place_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    """STO-4: a file where the folder has to be."""
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreUnusable, match="File exists"):
        Bench(place_of_file(tmp_path / "state" / "paper.db")).open()


def test_the_file_keeps_what_was_committed_over_a_power_cut(file_bench: Bench) -> None:
    """STO-1: WAL, and a synchronous mode that is stricter than NORMAL; the file is its owner's alone."""
    store = file_bench.open()
    raw = store.writer.applier.connection()
    with raw.begin():
        assert raw.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert raw.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert raw.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    file = file_bench.place.file
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
