"""Versions of the schema: made new, brought up to date with a backup first, or refused and left alone (STO-5).

A version is a file `vNNNN_name.py` of the migrations; its number is its name in the database. alembic is imported only where
something has to be migrated: it costs a start 0.4 s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from attrs import frozen
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DatabaseError

from hip3.store import schema
from hip3.store.database import is_postgres, refusal, without_deadline
from hip3.store.errors import SchemaVersionMismatch

MIGRATIONS = Path(__file__).parent / "migrations"
_NAME = re.compile(r"v(\d{4})_\w+\.py")


@frozen
class Versions:
    """The versions that this program knows, in order, and where their migrations are."""

    folder: Path
    known: tuple[str, ...]

    @property
    def head(self) -> str:
        """The version that this program works with."""
        return self.known[-1]


def program_versions(folder: Path = MIGRATIONS) -> Versions:
    """What is in the folder of migrations. Raises SchemaVersionMismatch for a gap between two versions."""
    found = [match[1] for path in (folder / "versions").iterdir() if (match := _NAME.fullmatch(path.name))]
    known = tuple(sorted(found))
    expected = tuple(f"{n:04d}" for n in range(1, len(known) + 1))
    if known != expected or not known:
        raise SchemaVersionMismatch(
            f"{folder}: expected the versions {', '.join(expected) or '0001'}, found {', '.join(known) or 'none'}; "
            "the installation is incomplete: install hip3 again"
        )
    return Versions(folder, known)


def database_version(connection: Connection, place: str) -> str | None:
    """The version of a database, None for an empty one. Raises SchemaVersionMismatch where it is not one of a store."""
    try:
        tables = set(inspect(connection).get_table_names())
        if not tables:
            return None
        if schema.VERSION_TABLE not in tables:
            raise SchemaVersionMismatch(f"{place}: has tables but no {schema.VERSION_TABLE}: it is no store of hip3")
        rows = connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalars().all()  # noqa: S608 - ours
    except DatabaseError as e:
        raise refusal(place, e, "cannot be read", on_server=is_postgres(connection)) from e
    if len(rows) != 1:
        raise SchemaVersionMismatch(f"{place}: {schema.VERSION_TABLE} holds {len(rows)} rows, expected 1; restore a backup")
    return str(rows[0])


def check_version(connection: Connection, versions: Versions, place: str) -> str | None:
    """The version of the database where this program knows it, None for an empty one; touches nothing.

    Raises SchemaVersionMismatch: newer than the program, unknown to it, or a table of it is missing.
    """
    found = database_version(connection, place)
    if found is None:
        return None
    if found not in versions.known:
        newer = found.isdigit() and int(found) > int(versions.head)
        what = "is newer than" if newer else "is unknown to"
        remedy = "run the newer version of hip3, or restore a backup" if newer else "restore a backup"
        raise SchemaVersionMismatch(
            f"{place}: schema {found!r} {what} this version of hip3, which works with {versions.head}; {remedy}. "
            "Nothing was changed"
        )
    if found == versions.head:
        missing = sorted(set(schema.METADATA.tables) - set(inspect(connection).get_table_names()))
        if missing:
            raise SchemaVersionMismatch(
                f"{place}: schema {found} without {', '.join(missing)}; restore a backup. Nothing was changed"
            )
    return found


def bring_up_to_date(connection: Connection, versions: Versions, place: str, backup: Callable[[], None]) -> str | None:
    """Makes the tables of an empty database, or migrates an older one after `backup`; returns the version that it had.

    Raises SchemaVersionMismatch before anything is touched, and whatever `backup` raises.
    """
    with connection.begin():
        found = check_version(connection, versions, place)
    if found is None:
        create(connection, versions.head)
    elif found != versions.head:
        backup()
        migrate(connection, versions)
    return found


def create(connection: Connection, version: str) -> None:
    """All tables at once, as the migrations together would make them: a test compares the two."""
    with connection.begin():
        schema.METADATA.create_all(connection)
        name = schema.VERSION_TABLE
        connection.execute(text(f"CREATE TABLE {name} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text(f"INSERT INTO {name} VALUES (:v)"), {"v": version})  # noqa: S608 - a constant of ours


def migrate(connection: Connection, versions: Versions) -> None:
    """Runs the migrations that are missing, in one transaction: all of them or none."""
    from alembic import command  # noqa: PLC0415 - 0.4 s that only a migration costs
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(versions.folder).replace("%", "%%"))
    config.set_main_option("version_path_separator", "os")
    config.attributes["connection"] = connection
    with connection.begin():
        without_deadline(connection)
        command.upgrade(config, versions.head)
