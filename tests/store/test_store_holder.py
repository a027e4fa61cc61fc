"""Who writes to a store, asked without taking its lock, as `hip3 preflight` does (OPS-2, LESSONS 35)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from hip3.ops.findings import Level, PreflightCheck
from hip3.ops.preflight_local import check_place
from hip3.store.database import Place, place_of_url
from hip3.store.errors import StoreInUse
from hip3.store.lock import lock_holder
from tests.postgres_server import Server
from tests.store.store_builders import Bench, kill


def test_the_holder_is_named_and_the_lock_stays_as_it_is(bench: Bench) -> None:
    """OPS-2, LESSONS 35: nobody, then the process that writes, then nobody; looking neither takes nor makes the lock."""
    path = bench.place.lock_file
    assert lock_holder(path) is None
    assert not path.exists()
    store = bench.open("run-1")
    assert lock_holder(path) == "4242"
    kill(store)
    assert lock_holder(path) is None
    kill(bench.open("run-2"))


def levels(place: Place) -> dict[str, Level]:
    return {f.check.value: f.level for f in check_place(place)}


def test_a_writer_on_another_machine_is_found_on_the_server(postgres_bench: Bench, tmp_path: Path) -> None:
    """OPS-2, STO-1: the lock of this machine is free, the server's is not; the check names the session."""
    here = evolve(postgres_bench.place, spool=tmp_path / "here.spool")
    assert levels(here) == {"store": Level.PASS, "schema": Level.PASS, "lock": Level.PASS}
    store = postgres_bench.open("run-1")
    assert levels(here) == {"store": Level.PASS, "schema": Level.PASS, "lock": Level.FAIL}
    (finding,) = (f for f in check_place(here) if f.check is PreflightCheck.LOCK)
    assert f"hip3 process {os.getpid()} on {os.uname().nodename} (session " in finding.value
    assert "writes to this store" in finding.value
    kill(store)


def test_a_second_bot_on_the_server_is_told_who_has_it(postgres_bench: Bench, tmp_path: Path) -> None:
    """STO-1, LESSONS 35: refused from another state folder; process and machine of the holder are named, and its session."""
    store = postgres_bench.open("run-1")
    other = Bench(evolve(postgres_bench.place, spool=tmp_path / "other.spool"))
    with pytest.raises(StoreInUse, match=rf"hip3 process {os.getpid()} on \S+ \(session \d+ of the server.*\) writes"):
        other.open("run-2")
    kill(store)
    kill(other.open("run-2"))


def test_a_bot_on_another_database_of_the_server_holds_nothing_here(
    postgres_bench: Bench, postgres: Server, names: Iterator[str], tmp_path: Path
) -> None:
    """OPS-2, STO-1: each database has a lock of its own, and the look at it sees no other."""
    name = next(names)
    postgres.run(f"CREATE DATABASE {name}")
    elsewhere = Bench(Place(postgres_bench.place.url.set(database=name), tmp_path / "elsewhere.spool"))
    store = elsewhere.open("run-1")
    assert levels(postgres_bench.place)["lock"] is Level.PASS
    kill(store)
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_that_is_not_there_fails(tmp_path: Path) -> None:
    """OPS-2, STO-1: neither the database nor its writer is known, so neither passes."""
    nowhere = place_of_url("postgresql://hip3@127.0.0.1:1/books", tmp_path / "books.spool")
    assert levels(nowhere) == {"store": Level.FAIL, "lock": Level.FAIL}
