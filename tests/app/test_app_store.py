"""The whole bot on a real store, in virtual time: what a run writes, what the next one reads, what happens when it breaks.

SQLite here; that PostgreSQL does the same is the business of tests/store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
from attrs import define, field

from hip3.core.cause_catalog import kind_of
from hip3.core.causes import Clears, Severity
from hip3.core.scribe import NONCE_KEY
from hip3.fsm.safety import SafetyMode
from hip3.io.clock import TrioClock
from hip3.ops.keep import Kept, keep
from hip3.settings.schema import Settings
from hip3.simulate.world import START_MS, World, open_world
from hip3.store.errors import SchemaVersionMismatch, StoreInUse
from hip3.store.writer import inline
from tests.app.app_builders import FAST, SNDK, bot_settings, closes, dislocated, entries, judged

ACCOUNT = "0x" + "5a" * 20
STOPS: Mapping[str, object] = {"position.time_stop_ms": 4000, "position.reduce_only_timeout_ms": 8000}


@define
class Disk:
    """A state folder, and the runs that keep there."""

    folder: Path
    settings: Settings
    clock: TrioClock
    nursery: trio.Nursery
    account: str = ACCOUNT
    worlds: list[World] = field(factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "store" / "paper.db"

    async def open(self, config_hash: str = "c" * 64) -> Kept:
        """A store as `hip3 run` opens it, its writer running."""

        def trouble(what: str | None) -> None:
            for world in self.worlds:
                world.bot.on_database(what)

        kept = await keep(
            self.settings,
            config_hash,
            self.account,
            self.folder,
            self.clock,
            on_trouble=trouble,
            on_upkeep=lambda _level, _event, _what: None,
            run_sync=inline,
        )
        await self.nursery.start(kept.store.writer.run)
        return kept

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.file)) as db:
            return db.execute(sql).fetchall()


@asynccontextmanager
async def disk(folder: Path, keys: Mapping[str, object] | None = None) -> AsyncIterator[Disk]:
    async with trio.open_nursery() as nursery:
        yield Disk(folder, bot_settings({**STOPS, **(keys or {})}), TrioClock.starting_at(START_MS), nursery)
        nursery.cancel_scope.cancel()


async def test_a_run_writes_rows_of_everything_and_the_audit_chain_verifies(tmp_path: Path) -> None:
    """STO-1, STO-2, STO-3: one trade through the whole bot, read back from the database by SQL and by the chain."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        source = dislocated().pulse(60).source()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: len(closes(world)) == 1 and not world.positions())
            assert (await world.end()).exit_code == 0
        assert await kept.store.drain_and_close(5)
        count = {t: state.ask(f"select count(*) from {t}")[0][0] for t in ("order_intents", "fills", "trades", "signals")}  # noqa: S608
        assert count == {"order_intents": 2, "fills": 2, "trades": 1, "signals": 1}
        assert {type(px) for (px,) in state.ask("select px from fills")} == {str}
        verdict = kept.store.repository.verify_audit()
        assert verdict.is_whole, verdict.faults
        assert {c for (c,) in state.ask("select distinct category from audit_log")} >= {"order", "position", "safety"}


async def test_the_next_run_reads_what_a_killed_one_wrote(tmp_path: Path) -> None:
    """STO-4, REC-1, NON-1: killed while holding, its store reopened: same position, same entry time, higher nonces, flat."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        source = dislocated().pulse(60).source()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")))
            entry_ms, last = world.fills()[0].time_ms, world.bot.nonces.last
            await world.kill()
            kept.store.close()  # the process is gone: what waited is in the spool alone
            again = await state.open()
            assert again.store.recovered > 0
            world.keeping = again.keeping
            world.restart()
            await world.started.wait()
            assert world.bot.nonces.last >= last
            assert world.bot.ledger.position(SNDK).entry_ms == entry_ms
            await world.until(lambda: not world.positions(), 20)
            assert (await world.end()).exit_code == 0
            assert await again.store.drain_and_close(5)
        assert state.ask("select count(*) from fills") == [(2,)]
        assert len(entries(world)) == 1
        assert int(again.store.repository.state(ACCOUNT)[NONCE_KEY]) > last
        assert again.store.repository.verify_audit().is_whole


async def test_a_start_with_the_clock_before_the_last_row_closes_and_enters_nothing(tmp_path: Path) -> None:
    """NON-2, STO-4: killed while holding, started again with a clock an hour back: the store is opened, its tail written in
    its order, the start names CLOCK_SKEW; the position is closed, no entry is made, and the chain is whole."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        source = dislocated().pulse(60).rising(8, 40).source()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")))
            await world.kill()
            kept.store.close()
            made = len(entries(world))
            world.machine.wrong_ms = -3_600_000
            state.clock = TrioClock.starting_at(world.machine.wall_ms())
            again = await state.open()
            assert again.store.recovered > 0
            world.keeping = again.keeping
            world.restart()
            await world.started.wait()
            (cause,) = [c for c in world.bot.safety.causes if c.source == "store"]
            assert (cause.code.value, cause.severity, cause.clears) == ("CLOCK_SKEW", Severity.SAFE, Clears.OPERATOR)
            await world.until(lambda: not world.positions(), 20)
            await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 60)
            assert len(entries(world)) == made
            assert (await world.end()).exit_code == 0
            assert await again.store.drain_and_close(5)
        found = [code for (code,) in state.ask("select code from incidents")]
        assert found == ["CLOCK_SKEW"]
        verdict = again.store.repository.verify_audit()
        assert (verdict.is_whole, verdict.times_back > 0) == (True, True)


async def test_a_second_process_on_the_same_store_is_refused(tmp_path: Path) -> None:
    """STO-1, LESSONS 35: one writer a store; the other is told which process holds it, and nothing is changed."""
    async with disk(tmp_path) as state:
        await state.open()
        with pytest.raises(StoreInUse, match="process"):
            await state.open()


async def test_a_newer_schema_refuses_and_is_not_touched(tmp_path: Path) -> None:
    """STO-5: a database of a later version of the program is left as it is."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        assert await kept.store.drain_and_close(5)
        with closing(sqlite3.connect(state.file)) as db, db:
            db.execute("update schema_version set version_num = '9999'")
        with pytest.raises(SchemaVersionMismatch):
            await state.open()
        assert state.ask("select version_num from schema_version") == [("9999",)]


async def test_a_database_that_breaks_stops_entries_then_halts_and_loses_nothing(tmp_path: Path) -> None:
    """STO-4, SAFE-4 STORAGE_UNAVAILABLE: the spool takes what the database refuses; HALT after failed_after_ms, flat."""
    async with disk(tmp_path, {"store.failed_after_ms": 3000}) as state:
        kept = await state.open()
        source = dislocated().rising(3, 12).pulse(60).source()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
            await world.ready()
            state.worlds.append(world)
            with closing(sqlite3.connect(state.file)) as db, db:
                db.execute("alter table order_intents rename to mislaid")
            await world.until(lambda: bool(judged(world, "Rejected(HardStop)")))
            (cause,) = world.bot.safety.causes
            assert (cause.code.value, cause.severity, cause.clears) == ("STORAGE_UNAVAILABLE", Severity.SAFE, Clears.AUTO)
            kind = kind_of(cause.code, cause.severity, cause.clears)
            assert kind is not None
            assert kind.clears is Clears.AUTO, "doctor and docs/safety.md know the softer form too"
            await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 20)
            await world.until(lambda: not world.positions() and bool(world.events("halt_flatten")), 20)
            made = len(entries(world))
            assert made >= 1
            with closing(sqlite3.connect(state.file)) as db, db:
                db.execute("alter table mislaid rename to order_intents")
            await world.until(lambda: bool(world.events("database_back")), 20)
            assert (await world.end()).exit_code == 0
        assert await kept.store.drain_and_close(5)
        assert state.ask("select count(*) from order_intents where not reduce_only") == [(made,)]
        assert kept.store.repository.verify_audit().is_whole


async def test_a_full_queue_halts_before_anything_is_lost(tmp_path: Path) -> None:
    """STO-4: with the database gone and the spool full nothing more is accepted: no entry leaves, HALT, flat."""
    async with disk(tmp_path, {"store.failed_after_ms": 3_600_000, "store.queue_rows": 40}) as state:
        kept = await state.open()
        source = dislocated().rising(3, 40).pulse(60).source()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
            await world.ready()
            state.worlds.append(world)
            with closing(sqlite3.connect(state.file)) as db, db:
                db.execute("alter table audit_log rename to mislaid")
            await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 60)
            await world.until(lambda: not world.positions(), 20)
            assert (await world.end()).exit_code == 0
            with closing(sqlite3.connect(state.file)) as db, db:
                db.execute("alter table mislaid rename to audit_log")
        assert await kept.store.drain_and_close(20)
        assert kept.store.repository.verify_audit().is_whole
