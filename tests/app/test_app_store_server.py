"""The whole bot on a real PostgreSQL, in virtual time, and after it every command that reads or writes its store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import trio
from attrs import frozen
from trio.testing import MockClock

from hip3.cli.main import make_app
from hip3.core.records import StateRecord
from hip3.core.remembered import ENDED_KEY, RUN_KEY
from hip3.io.clock import SystemClock, TrioClock
from hip3.ops.keep import Kept, store_place
from hip3.settings import LoadedSettings, load_for_check
from hip3.simulate.world import START_MS, open_world
from hip3.store.store import RunInfo, open_store
from hip3.store.writer import inline
from tests.app.app_builders import FAST, SNDK, closes, dislocated, toml
from tests.app.test_app_store import ACCOUNT, STOPS, Disk
from tests.postgres_server import OwnServer, Server

KEY = "9d" * 32
PASSWORD = "hunter2-geheim"
ROLE = "hip3_with_password"


@frozen
class Machine:
    """A state folder, and a configuration whose store is on the server."""

    state: Path
    config: Path

    @property
    def loaded(self) -> LoadedSettings:
        return load_for_check(self.config, {})

    def call(self, *tokens: str) -> int:
        code = make_app()([*tokens, "--config", str(self.config)], exit_on_error=False)
        assert isinstance(code, int)
        return code

    def trade(self) -> None:
        """A run of the whole bot with one trade, ended in order."""

        async def run() -> None:
            loaded = self.loaded
            async with trio.open_nursery() as nursery:
                disk = Disk(self.state, loaded.settings, TrioClock.starting_at(START_MS), nursery)
                kept = await disk.open(loaded.hash)
                source = dislocated().pulse(60).source()
                async with open_world(loaded.settings, source, config=FAST, keeping=kept.keeping) as world:
                    await world.until(lambda: len(closes(world)) == 1 and not world.positions())
                    assert (await world.end()).exit_code == 0
                assert await kept.store.drain_and_close(5)
                nursery.cancel_scope.cancel()

        trio.run(run, clock=MockClock(autojump_threshold=0))


def machine(folder: Path, url: str) -> Machine:
    keys = {
        "network": "paper",
        "user_address": ACCOUNT,
        "signer.key_source": {"type": "env_var", "var_name": "HIP3_TEST_KEY"},
        "safety.startup_policy": "auto",
        "store.url": url,
        **STOPS,
    }
    config = folder / "bot.toml"
    text = toml({k: v for k, v in keys.items() if not isinstance(v, dict)})
    config.write_text(text + '[signer]\nkey_source = {type = "env_var", var_name = "HIP3_TEST_KEY"}\n')
    return Machine(folder / "state", config)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIP3_TEST_KEY", KEY)
    monkeypatch.delenv("HIP3_CONFIG", raising=False)


@pytest.fixture(scope="module")
def traded(postgres: Server, names: Iterator[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """After a run; its database."""
    name = next(names)
    postgres.run(f"CREATE DATABASE {name}")
    url = sqlalchemy.make_url(postgres.url).set(database=name)
    made = machine(tmp_path_factory.mktemp("server"), url.render_as_string(hide_password=False))
    made.trade()
    yield made
    postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def bot(traded: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("HIP3_STATE_DIR", str(traded.state))
    return traded


COMMANDS: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("status",), 3, "ended flat"),
    (("explain", "--last"), 0, "traded and closed"),
    (("report",), 0, "99 more trades"),
    (("audit", "verify"), 0, "chain    whole"),
    (("audit", "tail", "-n", "500"), 0, "STOPPED"),
    (("audit", "export"), 0, '"category": "order"'),
    (("store", "info"), 0, "trades 1"),
    (("store", "migrate"), 0, "schema 0001"),
    (("store", "backup"), 3, "pg_dump"),
    (("store", "restore", "x.db"), 3, "pg_restore"),
    (("store", "rebuild"), 3, "pg_dump"),
    (("preflight",), 0, "preflight_ok true"),
)


@pytest.mark.parametrize(("tokens", "code", "said"), COMMANDS, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_a_command_finds_the_run_on_the_server(
    bot: Machine, tokens: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """STO-1, OPS-1: no bot runs; each says what it says of a file."""
    assert bot.call(*tokens) == code
    found = capsys.readouterr()
    assert said in found.out + found.err, found


def test_a_killed_bot_is_moved_to_the_server_and_back(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """STO-1, REC-1, REC-2, STO-3: killed while holding, its store copied to the server: the next run has the position with
    its entry time and closes it; copied back, a third run trades on. Every fill is there once, one chain holds all."""
    state, server = tmp_path / "state", machine(tmp_path, postgres_url)
    file = Machine(state, tmp_path / "file.toml")
    file.config.write_text(server.config.read_text().replace(f'[store]\nurl = "{postgres_url}"\n', ""))
    monkeypatch.setenv("HIP3_STATE_DIR", str(state))

    async def run() -> None:
        clock = TrioClock.starting_at(START_MS)
        async with trio.open_nursery() as nursery:

            async def opened(where: Machine) -> Kept:
                return await Disk(state, where.loaded.settings, clock, nursery).open()

            async def go_on(where: Machine) -> Kept:
                kept = await opened(where)
                world.keeping = kept.keeping
                world.restart(where.loaded.settings)
                await world.started.wait()
                return kept

            async def ended(kept: Kept) -> None:
                assert (await world.end()).exit_code == 0
                assert await kept.store.drain_and_close(5)

            kept = await opened(file)
            source = dislocated().rising(30, 33, start_px=604).pulse(120).source()
            async with open_world(file.loaded.settings, source, config=FAST, keeping=kept.keeping) as world:
                await world.until(lambda: bool(world.events("fill")))
                entry_ms = world.fills()[0].time_ms
                await world.kill()
                kept.store.close()
                assert file.call("store", "copy", "--to", postgres_url) == 0
                kept = await go_on(server)
                assert kept.store.place.file is None
                assert world.bot.ledger.position(SNDK).entry_ms == entry_ms
                await world.until(lambda: not world.positions(), 20)
                await ended(kept)
                old = state / "store" / "paper.db"
                old.rename(tmp_path / "old.db")
                assert server.call("store", "copy", "--to", str(old)) == 0
                kept, before = await go_on(file), len(world.fills())
                await world.until(lambda: len(world.fills()) > before + 1 and not world.positions(), 60)
                await ended(kept)
                rows = kept.store.repository.fills(ACCOUNT)
                assert [(row.coin, row.tid) for row in rows] == [(fill.coin, fill.tid) for fill in world.fills()]
                assert len(kept.store.repository.trades(ACCOUNT)) == len(rows) // 2 >= 2
                assert kept.store.repository.verify_audit().is_whole
            nursery.cancel_scope.cancel()

    trio.run(run, clock=MockClock(autojump_threshold=0))
    assert "the same head in both" in capsys.readouterr().out


def test_preflight_has_a_line_for_each_of_the_server(bot: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-2, STO-1, STO-5: its database by name, its schema, its lock, and the hash of the last run in it."""
    assert bot.call("preflight", "--json") == 0
    found = {row["check"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
    assert found["store"]["value"].startswith("postgresql://")
    assert [found[check]["level"] for check in ("store", "schema", "lock", "hash")] == ["PASS"] * 4
    assert "as in the last run" in found["hash"]["value"]


def test_the_store_of_a_url_is_reported_and_doctor_needs_none(bot: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1, JRN-1: `report --store` with the URL; the doctor of a stopped bot says so whatever the store is."""
    url = bot.loaded.settings.store.url
    assert url is not None
    assert make_app()(["report", "--store", url, "--json"], exit_on_error=False) == 0
    assert json.loads(capsys.readouterr().out)["source"] == f"store {url}"
    assert make_app()(["doctor"], exit_on_error=False) == 3
    assert "no running bot" in capsys.readouterr().err


def test_a_bot_that_runs_on_another_machine_is_named(
    bot: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-7, LEAD-1, LESSONS 3: its store is held, so it is not called killed, and nothing is commanded behind its back."""
    loaded = bot.loaded
    began = START_MS + 3_600_000
    run = RunInfo(account=ACCOUNT, run_id=f"{began:x}", config_hash=loaded.hash, pid=1)
    store = open_store(store_place(loaded.settings, bot.state), run, SystemClock(), run_sync=inline)
    for key, value in {RUN_KEY: f"{began}|{began}|", ENDED_KEY: ""}.items():  # as a start leaves them
        store.recorder.put(StateRecord(key, value, began))
    store.recorder.commit()
    store.writer.applier.apply(store.writer.spool.take(10))
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    holder = f"hip3 process {os.getpid()} on {os.uname().nodename} (session "
    assert bot.call("status", "--json") == 3
    view = json.loads(capsys.readouterr().out)["stored"]
    assert view["writer"].startswith(holder)
    assert view["run"]["ended"] == "running"
    assert bot.call("status") == 3
    assert f"writer   {holder}" in capsys.readouterr().out
    assert bot.call("ops", "hold", "--reason", "x") == 6
    assert holder in capsys.readouterr().err
    store.writer.applier.close()
    store.close()


def test_commands_by_hand_are_kept_on_the_server(bot: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """STOP-1, OPS-5: hold and kill wait for the next start, unhalt ends the kill, what is not due is refused; the chain
    goes on over all of it."""

    def ops(*tokens: str) -> tuple[int, dict[str, Any]]:
        code = bot.call("ops", *tokens, "--reason", "a test", "--json")
        return code, json.loads(capsys.readouterr().out)

    assert ops("hold")[0] == 0
    assert ops("kill")[1]["mode"] == "HALT"
    code, answer = ops("maintenance-skip")
    assert (code, answer["refused"][0]["what"]) == (1, "MODE")
    assert ops("unhalt", "--accept-residue")[1]["mode"] == "ARMED_SAFE"
    assert bot.call("status", "--json") == 3
    view = json.loads(capsys.readouterr().out)
    assert view["store_error"] is None
    causes = {c["code"] for c in view["stored"]["next_start"]["causes"]}
    assert causes & {"OPERATOR_HOLD", "OPERATOR_KILL", "MANUAL_UNHALT"} == {"OPERATOR_HOLD", "MANUAL_UNHALT"}
    assert bot.call("audit", "tail", "--category", "operator") == 0
    assert "MANUAL_UNHALT" in capsys.readouterr().out
    assert bot.call("audit", "verify") == 0


@pytest.mark.parametrize("tokens", [("status",), ("store", "info"), ("audit", "verify"), ("ops", "hold", "--reason", "x")])
def test_an_empty_database_is_no_store_yet(
    postgres_url: str,
    tokens: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """OPS-1, LESSONS 3: as for a file that is not there: exit code 3 and what makes one; nothing is made by asking."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    bot = machine(tmp_path, postgres_url)
    assert bot.call(*tokens) == 3
    assert "there is no store; `hip3 run` makes one" in capsys.readouterr().err
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(postgres_url).set(drivername="postgresql+psycopg"))
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.fixture
def role(own_postgres: OwnServer, postgres: Server, postgres_url: str) -> Iterator[str]:
    """The URL of a user who needs a password, without it."""
    rules = own_postgres.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n{before}")
    own_postgres.reload()
    name = sqlalchemy.make_url(postgres_url).database
    postgres.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'", f"ALTER DATABASE {name} OWNER TO {ROLE}")
    yield postgres_url.replace("postgres@", f"{ROLE}@")
    postgres.run(f"ALTER DATABASE {name} OWNER TO postgres")
    postgres.run(f"DROP OWNED BY {ROLE}", database=name)
    postgres.run(f"DROP ROLE {ROLE}")
    rules.write_text(before)
    own_postgres.reload()


def test_a_password_is_taken_from_the_environment_or_a_file_and_never_shown(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY-3, STO-1: a run and every command with PGPASSWORD, then with a pgpass file; without one, and with one in the
    URL, a refusal. The password is in no output, no file of the state folder and no row."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    bot = machine(tmp_path, role)
    bot.trade()
    said = ""

    def all_of_it() -> None:
        nonlocal said
        for tokens, code, _ in COMMANDS:
            assert bot.call(*tokens) == code
        assert bot.call("store", "copy", "--to", str(tmp_path / "copy.db"), "--json") in (0, 3)
        found = capsys.readouterr()
        said += found.out + found.err

    all_of_it()
    passwords = tmp_path / "pgpass"
    passwords.touch(mode=0o600)
    passwords.write_text(f"127.0.0.1:*:*:{ROLE}:{PASSWORD}\n")
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    all_of_it()
    for wrong in ("", f"127.0.0.1:*:*:{ROLE}:{PASSWORD}-wrong\n"):
        passwords.write_text(wrong)
        assert bot.call("store", "info", "--json") == 3
    with_password = role.replace("@", f":{PASSWORD}@")
    assert make_app()(["report", "--store", with_password], exit_on_error=False) == 2
    bot.config.write_text(bot.config.read_text().replace(role, with_password))
    for tokens, _, _ in COMMANDS:
        assert bot.call(*tokens) in (2, 3)
    found = capsys.readouterr()
    said += found.out + found.err
    assert "no password supplied" in said
    assert "password authentication failed" in said
    assert "the password in PGPASSWORD or ~/.pgpass" in said
    assert PASSWORD not in said
    for path in (p for p in (tmp_path / "state", tmp_path / "copy.db") for p in (p, *p.rglob("*")) if p.is_file()):
        assert PASSWORD.encode() not in path.read_bytes(), path
