"""`hip3 poststart` against the whole bot on a real store, in virtual time: what is well, and each way in which it is not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import trio
from attrs import define, evolve

from hip3.core.journal import CAPACITY
from hip3.exchange.faults import Disconnect, Drop, Point, Rule
from hip3.fsm.safety import SafetyMode
from hip3.ops.commands import Operator
from hip3.ops.findings import Finding, Level, PoststartCheck, all_ok
from hip3.ops.keep import Kept, keep, store_view
from hip3.ops.local_socket import NoAnswer, encode
from hip3.ops.poststart import Poststart, poststart
from hip3.ops.status_view import status_view
from hip3.settings.load import LoadedSettings
from hip3.simulate.world import World, open_world
from hip3.store.writer import inline
from tests.app.app_builders import FAST, Script, bot_settings, cut_account, dislocated

HASH = "c" * 64
PID = 4711
CALM: Mapping[str, object] = {"position.time_stop_ms": 4000, "position.reduce_only_timeout_ms": 8000}


@define
class Watched:
    """A running bot, its store, and who looks at both."""

    world: World
    kept: Kept
    given: Poststart

    def status(self) -> dict[str, Any]:
        """As it comes over the socket."""
        answer: dict[str, Any] = json.loads(
            encode("the status", lambda: status_view(self.world.bot, pid=PID, config_hash=HASH) | self._store())
        )
        return answer

    def _store(self) -> dict[str, object]:
        return {"store": store_view(self.kept.store)}

    async def findings(self, **changes: Any) -> dict[PoststartCheck, Finding]:
        found = await poststart(evolve(self.given, **changes))
        assert [f.check for f in found] == list(PoststartCheck)
        return {f.check: f for f in found if isinstance(f.check, PoststartCheck)}


@asynccontextmanager
async def watched(
    folder: Path, script: Script | None = None, keys: Mapping[str, object] | None = None, **options: Any
) -> AsyncIterator[Watched]:
    """A bot that is ready."""
    settings = bot_settings({**CALM, **(keys or {})})
    loaded = LoadedSettings(settings, folder / "bot.toml", HASH)
    async with open_world(settings, (script or Script().calm()).pulse(900).source(), config=FAST, **options) as world:

        def trouble(what: str | None) -> None:
            world.bot.on_database(what)

        kept = await keep(
            settings,
            HASH,
            world.user,
            folder,
            world.clock,
            on_trouble=trouble,
            on_upkeep=lambda _level, _event, _what: None,
            run_sync=inline,
        )
        world.keeping = kept.keeping
        async with trio.open_nursery() as nursery:
            await nursery.start(kept.store.writer.run)
            await world.started.wait()
            seen = Watched(world, kept, Poststart(loaded=loaded, state=folder, ask=dict, clock=world.clock))
            seen.given = evolve(seen.given, ask=seen.status)
            yield seen
            nursery.cancel_scope.cancel()


async def test_a_bot_at_work_passes_everything(tmp_path: Path) -> None:
    """OPS-3: mode and reason, READY, links, cursor, a growing audit log and young records, of a bot that trades."""
    async with watched(tmp_path, dislocated(8)) as seen:
        await seen.world.ready()
        found = await seen.findings()
        assert all_ok(list(found.values()))
        # Virtual time has no journal file; the process of tests/cli has one.
        assert [f.check for f in found.values() if f.level is not Level.PASS] == [PoststartCheck.JOURNAL]
        assert "ARMED_LIVE" in found[PoststartCheck.MODE].value
        assert "last_processed_timestamp_ms" in found[PoststartCheck.CURSOR].value


async def test_an_audit_log_that_stands_still_warns_and_that_of_another_run_fails(tmp_path: Path) -> None:
    """OPS-3, LESSONS 3: no signal, no row, which is said; rows of some other run are no evidence of this one."""
    async with watched(tmp_path) as seen:
        await seen.world.ready()
        at_ms = seen.world.clock.mono_ms()
        assert (await seen.findings())[PoststartCheck.AUDIT].level is Level.WARN
        assert seen.world.clock.mono_ms() - at_ms >= 10_000
        other = seen.status()
        other["run"]["id"] = "1"
        finding = (await seen.findings(ask=lambda: other))[PoststartCheck.AUDIT]
        assert finding.level is Level.FAIL
        assert f"{seen.world.bot.run_id:x}" in finding.value


async def test_a_halt_fails_and_a_hold_warns_with_their_causes(tmp_path: Path) -> None:
    """OPS-3, SAFE-1: the mode with what put it there, and what to do."""
    async with watched(tmp_path) as seen:
        await seen.world.ready()
        operator = Operator(seen.world.bot)
        operator.answer(b'{"command": "hold", "reason": "earnings"}', "ops")
        held = (await seen.findings())[PoststartCheck.MODE]
        assert (held.level, "OPERATOR_HOLD" in held.value) == (Level.WARN, True)
        operator.answer(b'{"command": "kill", "reason": "prices"}', "ops")
        await seen.world.until(lambda: seen.world.bot.safety.mode is SafetyMode.HALT)
        halted = (await seen.findings())[PoststartCheck.MODE]
        assert (halted.level, "OPERATOR_KILL" in halted.value) == (Level.FAIL, True)
        assert "hip3 doctor" in halted.remedy


async def test_a_lost_link_fails_links_and_ready(tmp_path: Path) -> None:
    """OPS-3, WS-1, MD-2: the link that is down and the conditions that went with it are named."""
    async with watched(tmp_path) as seen:
        await seen.world.ready()
        seen.world.faults.add(Rule(Point.CONNECT, Disconnect(), uses=None))
        cut_account(seen.world)
        await seen.world.until(lambda: not seen.world.bot.ready.is_ready)
        found = await seen.findings()
        assert found[PoststartCheck.LINKS].level is Level.FAIL
        assert "account " in found[PoststartCheck.LINKS].value
        assert found[PoststartCheck.READY].level is Level.FAIL
        assert "NO" in found[PoststartCheck.READY].value


async def test_an_account_that_is_not_read_any_more_fails_cursor_and_records(tmp_path: Path) -> None:
    """OPS-3, REC-2, REC-3: the cursor stands still, first a WARN, then a FAIL where a start would be a HALT."""
    async with watched(tmp_path, keys={"reconcile.backfill_window_ms": 400_000}) as seen:
        await seen.world.ready()
        seen.world.faults.add(Rule(Point.INFO, Drop(), lambda kind: kind == "clearinghouseState", uses=None))
        await trio.sleep(260)
        assert (await seen.findings())[PoststartCheck.CURSOR].level is Level.WARN
        await trio.sleep(240)
        found = await seen.findings()
        assert found[PoststartCheck.CURSOR].level is Level.FAIL
        assert "400000" in found[PoststartCheck.CURSOR].value
        assert found[PoststartCheck.RECORDS].level is Level.FAIL


async def test_a_database_that_refuses_fails_the_backlog(tmp_path: Path) -> None:
    """OPS-3, STO-4: what waits and what the database says; a store that cannot be read leaves nothing checked."""
    async with watched(tmp_path, dislocated(8)) as seen:
        await seen.world.ready()
        file = seen.kept.store.place.file
        assert file is not None
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("alter table order_intents rename to mislaid")
        await seen.world.until(lambda: seen.kept.store.writer.trouble is not None, 20)
        found = await seen.findings()
        assert found[PoststartCheck.BACKLOG].level is Level.FAIL
        assert "order_intents" in found[PoststartCheck.BACKLOG].value
        for check in (PoststartCheck.CURSOR, PoststartCheck.AUDIT, PoststartCheck.RECORDS):
            assert found[check].level is Level.FAIL
            assert found[check].value.startswith("not checked: ")


async def test_notes_that_were_lost_fail_the_journal(tmp_path: Path) -> None:
    """OPS-3, OBS-1: evidence with gaps is told of."""
    async with watched(tmp_path) as seen:
        await seen.world.ready()
        for n in range(CAPACITY + 1):
            seen.world.journal.note(0, "debug", "flood", n=n)
        finding = (await seen.findings())[PoststartCheck.JOURNAL]
        assert finding.level is Level.FAIL
        assert " 0 lost" not in finding.value


async def test_another_configuration_fails(tmp_path: Path) -> None:
    """OPS-3, CFG-6: the bot does not run the file that was meant."""
    async with watched(tmp_path) as seen:
        await seen.world.ready()
        loaded = evolve(seen.given.loaded, hash="d" * 64)
        finding = (await seen.findings(loaded=loaded))[PoststartCheck.CONFIG]
        assert finding.level is Level.FAIL
        assert "--config" in finding.remedy


async def test_a_bot_that_leaves_or_is_gone_is_not_running(tmp_path: Path) -> None:
    """OPS-3, LESSONS 3: a bot on its way out fails; without an answer nothing is checked and nothing passes."""
    async with watched(tmp_path) as seen:
        await seen.world.ready()
        await seen.world.end()
        assert (await seen.findings())[PoststartCheck.RUNNING].level is Level.FAIL

        def nobody() -> Mapping[str, Any]:
            raise NoAnswer("no running bot: there is no socket", running=False)

        for ask in (nobody, lambda: {"error": "the status could not be made"}):
            found = await seen.findings(ask=ask)
            assert {f.level for f in found.values()} == {Level.FAIL}
        assert "hip3 run" in (await seen.findings(ask=nobody))[PoststartCheck.RUNNING].remedy
