"""The backups of a server as docs/state.md gives them: `pg_dump` beside a bot, `pg_restore`, and the next start (STO-6)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hip3.store.database import place_of_url
from hip3.store.errors import StoreDamaged
from tests.postgres_server import OwnServer, Server
from tests.store.store_builders import ACCOUNT, START_MS, Bench, HandClock, kill, move, put_all, trade


def run(own: OwnServer, program: str, *arguments: str) -> None:
    subprocess.run([str(own.programs / program), *arguments], check=True)  # noqa: S603 - ours


def write(bench: Bench, run_id: str, numbers: range) -> None:
    store = bench.open(run_id)
    for n in numbers:
        put_all(store, move(n), trade(n))
        groups = store.writer.spool.take(10)
        store.writer.applier.apply(groups)
        store.writer.spool.applied(groups[-1].seq)
    kill(store)


def test_a_dump_is_restored_and_the_next_run_goes_on(
    postgres_url: str, postgres: Server, own_postgres: OwnServer, tmp_path: Path
) -> None:
    """STO-6, STO-3, REC-2: taken while a bot holds the store; a start whose spool does not follow the dump is refused and
    says what to do; without that spool the chain is whole and new rows get new numbers."""
    bench = Bench(place_of_url(postgres_url, tmp_path / "paper.spool"))
    write(bench, "run-1", range(1, 4))
    store, dump = bench.open("run-2"), tmp_path / "hip3.dump"
    run(own_postgres, "pg_dump", "-Fc", "-d", postgres_url, "-f", str(dump))
    kill(store)
    write(bench, "run-3", range(4, 7))
    write(bench, "run-4", range(7, 8))  # whose start deletes the segment of run 3
    name = bench.place.url.database
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name}")
    run(own_postgres, "pg_restore", "-d", postgres_url, str(dump))
    with pytest.raises(StoreDamaged, match=f"Was an older dump restored.*move {bench.place.spool} away"):
        bench.open("run-5")
    bench.place.spool.rename(tmp_path / "later.spool")
    write(Bench(bench.place, HandClock(START_MS + 1)), "run-5", range(8, 10))
    repository = bench.open("run-6").repository
    assert [t.exit_ms - START_MS for t in repository.trades(ACCOUNT)] == [1, 2, 3, 8, 9]
    assert repository.verify_audit().is_whole
    bench.let_go()
