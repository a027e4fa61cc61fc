"""`hip3 store copy`: from a file to a real server and back, what it refuses, what a broken copy leaves (STO-1, STO-5)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from attrs import define, evolve

from hip3.cli.main import make_app
from hip3.ops.keep import store_place
from hip3.settings.schema import Settings, StoreKeys
from hip3.store.database import Place, place_of_file
from hip3.store.transfer import BATCH_ROWS
from tests.store.store_builders import (
    ACCOUNT,
    START_MS,
    Bench,
    HandClock,
    intent,
    kill,
    move,
    one_of_each,
    put_all,
    result,
    trade,
)

FEW, MANY = 12, BATCH_ROWS + 50
"""Rows of the audit log; many are two batches."""
NTH = BATCH_ROWS + 20
"""The row at which a copy breaks."""
BOTH = pytest.mark.parametrize("two", ["to the server", "to a file"], indirect=True)
SERVER = pytest.mark.parametrize("two", ["to the server"], indirect=True)


@define
class Two:
    """A store with rows, and an empty place of the other kind, as `hip3 store copy` of one state folder sees them."""

    full: Bench
    empty: Place
    to: str
    """What `--to` says."""
    config: Path

    def copy(self, *more: str, to: str | None = None) -> int:
        tokens = ["store", "copy", "--to", to or self.to, "--config", str(self.config), *more]
        code = make_app()(tokens, exit_on_error=False)
        assert isinstance(code, int)
        return code


@pytest.fixture
def two(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HIP3_CONFIG", raising=False)
    config = tmp_path / "bot.toml"
    server = store_place(Settings(store=StoreKeys(url=postgres_url)), tmp_path)
    if request.param == "to the server":
        config.write_text('network = "paper"\n')
        made = Two(Bench(store_place(Settings(), tmp_path)), server, postgres_url, config)
    else:
        config.write_text(f'network = "paper"\n[store]\nurl = "{postgres_url}"\n')
        file = tmp_path / "copy" / "paper.db"
        made = Two(Bench(server), place_of_file(file), str(file), config)
    fill(made.full)
    yield made
    made.full.let_go()


def fill(bench: Bench) -> None:
    """A run with rows of every kind; then one that was killed with groups in its spool alone."""
    store = bench.open("run-1")
    put_all(store, *one_of_each())
    for n in range(2, FEW):
        put_all(store, move(n), trade(n), intent(n))
    store.writer.applier.apply(store.writer.spool.take(10 * FEW))
    store.writer.applier.end_run(store.writer.spool.header)
    kill(store)
    store = bench.open("run-2")
    put_all(store, result(2), move(FEW))
    kill(store)


def fill_up(bench: Bench) -> None:
    """A third run, with more rows than a batch takes; nothing is left in the spool."""
    store = bench.open("run-3")
    put_all(store, *(record for n in range(FEW + 1, MANY + 1) for record in (move(n), trade(n))))
    store.writer.applier.apply(store.writer.spool.take(10 * MANY))
    kill(store)


def engine_of(place: Place) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(place.url)


def rows_of(place: Place) -> dict[str, set[str]]:
    """Every row of every table, by SQL of its own."""
    engine = engine_of(place)
    names = sorted(sqlalchemy.inspect(engine).get_table_names())
    with engine.connect() as connection:
        found = {n: connection.execute(sqlalchemy.text(f"SELECT * FROM {n}")).all() for n in names}  # noqa: S608
    engine.dispose()
    # A flag is 0 or 1 in a file.
    return {n: {repr(tuple(int(v) if isinstance(v, bool) else v for v in row)) for row in rows} for n, rows in found.items()}


def tell(place: Place, *statements: str) -> None:
    engine = engine_of(place)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()


def ask(place: Place, query: str) -> object:
    engine = engine_of(place)
    with engine.connect() as connection:
        found: object = connection.execute(sqlalchemy.text(query)).scalar()
    engine.dispose()
    return found


def until(holds: Callable[[], bool]) -> None:
    """For what another process does; it is given twenty seconds."""
    last = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < last
        time.sleep(0.02)


def machine(two: Two, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    capsys.readouterr()
    code = two.copy("--json", **options)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == code
    return found


@BOTH
def test_every_row_arrives_and_the_next_run_goes_on_there(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-1, STO-2, STO-3: all tables row for row, in several batches; then new rows get new numbers."""
    fill_up(two.full)
    found = machine(two, capsys)
    assert (found["exit_code"], found["groups_applied"], found["whole"]) == (0, 0, True)
    assert found["rows"]["audit_log"] == found["audit_rows"] == MANY
    there = rows_of(two.empty)
    assert there == rows_of(two.full.place)
    assert {name: len(rows) for name, rows in there.items() if name != "schema_version"} == found["rows"]
    store = Bench(two.empty, HandClock(START_MS + 1)).open("run-4")
    put_all(store, move(MANY + 1), trade(MANY + 1), result(3))
    store.writer.applier.apply(store.writer.spool.take(10))
    verdict = store.repository.verify_audit()
    assert (verdict.is_whole, verdict.rows) == (True, MANY + 1)
    assert len(store.repository.trades(ACCOUNT)) == found["rows"]["trades"] + 1
    assert store.recovered == 0
    kill(store)


@BOTH
def test_a_copy_says_what_the_configuration_needs_and_is_not_overwritten(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-1, STO-4, STO-5: what only the spool held is there too; a second copy is exit code 3 with what it would meet."""
    assert two.copy() == 0
    said = capsys.readouterr().out
    assert "spool    1 groups of it were written to the store first" in said
    assert "chain    whole, the same head in both" in said
    if two.empty.file is None:
        assert f'[store]\nurl = "{two.to}"\n' in said
    else:
        usual = two.config.parent / "store" / "paper.db"
        assert f"take `url` out of [store] of the configuration, and put the file at {usual}" in said
    before = rows_of(two.empty)
    assert before == rows_of(two.full.place)
    assert len(before["audit_log"]) == FEW
    found = machine(two, capsys)
    assert found["exit_code"] == 3
    assert f"is not empty, it holds system_state {len(before['system_state'])}, runs 2, order_intents 11," in found["error"]
    assert "Nothing was changed" in found["error"]
    assert rows_of(two.empty) == before


@SERVER
def test_a_copy_to_a_second_file_changes_nothing_about_the_next_start(
    two: Two, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """STO-5: nobody is told to lay the copy over the store, whose spool would not follow it."""
    file = tmp_path / "second.db"
    assert two.copy(to=str(file)) == 0
    assert f"next     nothing: a start here takes {two.full.place.name}, as before" in capsys.readouterr().out
    assert rows_of(place_of_file(file)) == rows_of(two.full.place)


@SERVER
def test_a_database_of_others_is_left_alone(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-5: tables that are not ours are never written beside, and a newer schema is not touched."""
    tell(two.empty, "CREATE TABLE accounts (id INTEGER)")
    assert "it is no store of hip3" in machine(two, capsys)["error"]
    assert rows_of(two.empty) == {"accounts": set()}


BREAKS = {
    "refuses": "RAISE EXCEPTION 'the disk is full'",
    "goes away": "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1)",
    "drops a row": "RETURN NULL",
    "changes a row": "NEW.sz := '1'",
    "waits": "PERFORM pg_sleep(1)",
}
SAID = {
    "refuses": "the disk is full",
    "goes away": "terminat",
    "drops a row": f"does not keep what it is given: trades: {MANY - 1} rows were written, {MANY - 2} read back; nothing",
    "changes a row": f"trades: {MANY - 1} rows were written, {MANY - 1} read back and differ; nothing was kept",
}


def sabotage(place: Place, how: str) -> None:
    """Makes the tables of the target, which break at a trade of that number."""
    kill(Bench(place).open("nobody"))
    tell(place, "DELETE FROM runs", "DELETE FROM system_state")
    if place.file is not None:
        body = "SELECT RAISE(ABORT, 'the disk is full')"
        tell(place, f"CREATE TRIGGER broken BEFORE INSERT ON trades WHEN NEW.id = {NTH} BEGIN {body}; END")
        return
    body = f"BEGIN IF NEW.id = {NTH} THEN {BREAKS[how]}; END IF; RETURN NEW; END"
    tell(
        place,
        f"CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        "CREATE TRIGGER broken BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION broken()",
    )


@pytest.mark.parametrize(
    ("two", "how"), [*(("to the server", how) for how in BREAKS if how in SAID), ("to a file", "refuses")], indirect=["two"]
)
def test_a_copy_that_breaks_leaves_no_row_and_can_be_made_again(
    two: Two, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """STO-4, STO-5: in the middle of a table: exit code 3 with the cause, the source as it was, the target empty."""
    fill_up(two.full)
    before = rows_of(two.full.place)
    sabotage(two.empty, how)
    found = machine(two, capsys)
    assert found["exit_code"] == 3
    assert two.empty.name in found["error"]
    assert SAID[how] in found["error"]
    assert {name for name, rows in rows_of(two.empty).items() if rows} == {"schema_version"}
    assert rows_of(two.full.place) == before
    tell(two.empty, "DROP TRIGGER broken" + (" ON trades" if two.empty.file is None else ""))
    assert machine(two, capsys)["exit_code"] == 0
    assert rows_of(two.empty) == before


@SERVER
def test_a_copy_that_is_killed_leaves_no_row(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-4, STO-5: SIGKILL in the middle of a table; the server undoes it, and it can be made again."""
    fill_up(two.full)
    sabotage(two.empty, "waits")
    command = [sys.executable, "-m", "hip3", "store", "copy", "--to", two.to, "--config", str(two.config)]
    with subprocess.Popen(command) as process:  # noqa: S603 - ours
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        until(lambda: ask(two.empty, waiting) == 1)
        process.kill()
    assert rows_of(two.empty)["audit_log"] == set()
    tell(two.empty, "DROP TRIGGER broken ON trades")  # waits for the statement that the server is still at
    until(lambda: two.copy() != 6)
    assert "the same head in both" in capsys.readouterr().out
    assert rows_of(two.empty) == rows_of(two.full.place)


@SERVER
def test_both_locks_are_needed(two: Two, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """STO-1, LESSONS 35: exit code 6 while a bot writes to the one or the other, also from another machine."""
    store = two.full.open("run-3")
    assert "process 4242 writes to this store" in machine(two, capsys)["error"]
    kill(store)
    other = Bench(evolve(two.empty, spool=tmp_path / "other.spool"))
    store = other.open("run-1")
    tell(two.empty, "DELETE FROM runs", "DELETE FROM system_state")  # else it is refused for what it holds
    found = machine(two, capsys)
    assert "of the server" in found["error"]
    assert found["exit_code"] == 6
    kill(store)


@SERVER
def test_a_source_that_is_not_whole_is_refused(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-3: an end of the audit log that was changed is not carried on; exit code 3, and no row at the target."""
    tell(two.full.place, "UPDATE audit_log SET hash = 'x' WHERE seq = (SELECT max(seq) FROM audit_log)")
    found = machine(two, capsys)
    assert (found["exit_code"], "the last row of the audit log" in found["error"]) == (3, True)
    assert two.copy() == 3


@SERVER
def test_faults_that_are_there_are_copied_and_said(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    """STO-3: a chain that a rebuild left with faults stays one, and nobody is told that it is whole."""
    tell(two.full.place, "UPDATE audit_log SET reason_code = 'X' WHERE seq = 7")
    assert two.copy() == 0
    assert "faults in both, the same" in capsys.readouterr().out
    assert rows_of(two.empty) == rows_of(two.full.place)


@SERVER
def test_a_spool_of_another_store_at_the_target_is_refused(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    """REC-2: the next start there would write its groups among the copied rows; exit code 3 names the folder."""
    other = Bench(place_of_file(two.config.parent / "elsewhere.db"), HandClock(START_MS + 1))
    store = other.open("run-9")
    put_all(store, intent(99))
    kill(store)
    two.empty.spool.parent.mkdir(exist_ok=True)
    other.place.spool.rename(two.empty.spool)
    assert f"spool {two.empty.spool}: holds 1 groups of another store" in machine(two, capsys)["error"]


@SERVER
def test_what_is_no_place_to_copy_to(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1, KEY-3: a sentence each; a password on the command line is refused (exit code 2) and never shown."""
    for to in ("postgresql://hip3:hunter2@127.0.0.1/hip3", "mysql://127.0.0.1/hip3", "postgresql://127.0.0.1"):
        found = machine(two, capsys, to=to)
        assert found["exit_code"] == 2
        assert "the password in PGPASSWORD or ~/.pgpass" in found["error"]
        assert "hunter2" not in found["error"]
    for to, said in {
        str(two.full.place.file): "is the store that was to be copied",
        "postgresql://127.0.0.1:1/hip3": "is the server running",
    }.items():
        found = machine(two, capsys, to=to)
        assert (found["exit_code"], said in found["error"]) == (3, True)
    assert two.full.place.file is not None
    two.full.place.file.unlink()
    found = machine(two, capsys)
    assert (found["exit_code"], "there is no store" in found["error"]) == (3, True)
