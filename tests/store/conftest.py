"""A place for a store: a SQLite file, and a database of a real PostgreSQL; the same tests run on both (STO-1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hip3.store.database import Place, place_of_file, place_of_url
from tests.store.store_builders import Bench


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
