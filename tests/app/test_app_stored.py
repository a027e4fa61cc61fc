"""What is read when the bot is down: explain, status and report out of the store of a real run; reading changes nothing.

The journal of these runs is not on disk, so that everything that is told is the store's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from hip3.cli.explain_cmd import outcome, story_lines, story_object
from hip3.cli.main import make_app
from hip3.cli.stored_lines import stored_lines
from hip3.exchange.faults import Drop, Faults, Point, Rule
from hip3.ops.commands import Operator
from hip3.ops.journal_file import LogFile
from hip3.ops.report_source import Selection
from hip3.ops.report_store import read_stores
from hip3.ops.stored_status import stored_view
from hip3.ops.stores import known_sources, reading
from hip3.ops.story import Story, find_story
from hip3.ops.story_store import find_stored, last_stored, with_journal
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import FAST, MU, SLOW, SNDK, Script, bot_settings, closes, dislocated, entries, judged
from tests.app.failures.plumbing import Plumbing
from tests.app.test_app_handover import handing_over, two_markets
from tests.app.test_app_store import ACCOUNT, STOPS, disk

SMALL = {"detector.max_order_notional_usd": 20}
HOUR_MS = 3_600_000


def told(folder: Path, signal: object) -> Story:
    """The story as `hip3 explain` finds it, with no journal there."""
    with reading(known_sources(folder, None, {})) as stores:
        story = find_stored(stores, str(signal))
    assert story is not None
    return story


def stored(folder: Path, now_ms: int) -> dict[str, Any]:
    """What `hip3 status` shows with no bot running, as of `now_ms`."""
    with reading(known_sources(folder, None, {})) as stores:
        view = stored_view(stores, now_ms)
    assert view is not None
    return json.loads(json.dumps(view))  # type: ignore[no-any-return]  # as machines get it


def shape(story: Story) -> dict[str, list[tuple[str, str]]]:
    """Verdict of every filter and gate, by name."""
    whole: Any = story_object(story)
    return {part: [(step["name"], step["verdict"]) for step in whole[part]] for part in ("filters", "gates")}


def happened(story: Story) -> list[str]:
    return [str(e["event"]) for e in story.events]


def bytes_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of the database, its log and its spool. `-shm` is shared memory, not data."""
    files = [p for p in (folder / "store").rglob("*") if p.is_file() and not p.name.endswith("-shm")]
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def unchanged(folder: Path, before: dict[str, tuple[bytes, int]]) -> None:
    """An empty `-wal` may have come: SQLite makes it for a reader where a writer left none."""
    assert {n: v for n, v in bytes_of(folder).items() if v[0] or n in before} == before


def as_journal(world: World, path: Path) -> Path:
    """The notes of the run as a journal on disk."""
    log = LogFile(path)
    assert log.write(world.events()) is None
    log.close()
    return path


# ---- explain


async def test_every_signal_is_explained_by_the_store_as_by_the_journal(tmp_path: Path) -> None:
    """OPS-7, STO-2: refused, traded, closed: the same filters, gates and outcome from the store alone."""
    async with disk(tmp_path, SMALL) as state:
        kept = await state.open()
        source = Script().calm().rising(2, 5).pulse(60).source()
        async with open_world(state.settings, source, config=SLOW, keeping=kept.keeping) as world:
            await world.until(lambda: len(closes(world)) >= 1 and not world.positions(), 30)
            assert (await world.end()).exit_code == 0
            journal = as_journal(world, tmp_path / "r.jsonl")
            signals = [str(n.fields["signal"]) for n in world.events("signal")]
        assert await kept.store.drain_and_close(5)
    assert len(signals) >= 3
    words = set()
    for signal in signals:
        ours, theirs = told(tmp_path, signal), find_story([journal], signal)
        assert shape(ours) == shape(theirs)
        assert outcome(ours) == outcome(theirs)
        assert [e["after_ms"] for e in ours.follow_ups] == [e["after_ms"] for e in theirs.follow_ups]
        words.add(outcome(ours)[0])
    assert words >= {"refused", "closed"}


async def test_a_trade_is_told_in_order_from_the_store(tmp_path: Path) -> None:
    """OPS-7: order, bytes, fill, closing order and close; the journal adds posts and answers, and says nothing twice."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("position_closed")), 30)
            assert (await world.end()).exit_code == 0
            journal = as_journal(world, tmp_path / "r.jsonl")
            (signal,) = [str(n.fields["signal"]) for n in world.events("signal")]
        assert await kept.store.drain_and_close(5)
    story = told(tmp_path, signal)
    expected = (
        "order_enqueued",
        "signal_judged",
        "order_sent",
        "fill",
        "reduce_only_enqueued",
        "order_sent",
        "position_closed",
    )
    assert sorted(happened(story)) == sorted([*expected, "order_filled", "order_filled", "fill"]), "\n".join(
        story_lines(story)[-14:]
    )
    both = with_journal(story, find_story([journal], signal))
    assert happened(both).count("fill") == 2
    assert {"post_response", "time_stop_triggered"} <= set(happened(both))
    text = "\n".join(story_lines(both))
    assert "closed (time stop)" in text
    assert f"store {tmp_path / 'store' / 'paper.db'}, journal {journal}" in text


async def test_a_signal_of_an_earlier_run_is_found(tmp_path: Path) -> None:
    """OPS-7: a journal is of one run, the store of all: the first run's signal after the second has traded, and --last."""
    async with disk(tmp_path) as state:
        ids = []
        for second in range(2):
            kept = await state.open()
            source = dislocated().pulse(30).source()
            start = START_MS + second * HOUR_MS
            async with open_world(state.settings, source, config=FAST, keeping=kept.keeping, start_ms=start) as world:
                await world.until(lambda world=world: bool(entries(world)))  # type: ignore[misc]  # bound at once
                assert (await world.end()).exit_code == 0
                ids.append(str(world.events("signal")[0].fields["signal"]))
            assert await kept.store.drain_and_close(5)
    assert [outcome(told(tmp_path, signal))[0] for signal in ids] == ["closed", "closed"]
    with reading(known_sources(tmp_path, None, {})) as stores:
        assert last_stored(stores, None) == ids[1]
        assert last_stored(stores, "xyz:NONE") is None


async def test_an_order_that_found_no_match_and_one_in_doubt(tmp_path: Path) -> None:
    """OPS-7, POST-4: the venue's refusal and an answered doubt are in the store's story."""
    silent = Faults([Rule(Point.FRAME, Drop(), lambda kind: kind in ("post", "orderUpdates", "userFills"), skip=1, uses=3)])
    for name, script, faults, word, event in (
        ("refused", dislocated().quote(2010, "601.9", "602.1"), None, "rejected", "order_rejected"),
        ("doubt", dislocated().pulse(60), silent, "closed", "in_doubt"),
    ):
        async with disk(tmp_path / name) as state:
            kept = await state.open()
            async with open_world(
                state.settings, script.source(), config=FAST, keeping=kept.keeping, faults=faults
            ) as world:
                await world.until(lambda w=world, e=event: bool(w.events(e)), 20)  # type: ignore[misc]  # bound at once
                await trio.sleep(12)
                await world.end()
            assert await kept.store.drain_and_close(5)
            story = told(tmp_path / name, world.events("signal")[0].fields["signal"])
        assert (outcome(story)[0], event in happened(story)) == (word, True), happened(story)


async def test_a_signal_of_an_observation(tmp_path: Path) -> None:
    """OPS-7, DET-5: no gate was asked, nothing became of it, and its filters are there."""
    async with disk(tmp_path, {"mode": "observation", "safety.startup_policy": "manual"}) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("follow_up")), 10)
            await world.end()
        assert await kept.store.drain_and_close(5)
        story = told(tmp_path, world.events("signal")[0].fields["signal"])
        assert (outcome(story)[0], shape(story)["gates"], happened(story)) == ("observed", [], [])
        assert len(shape(story)["filters"]) > 4
        assert stored(tmp_path, state.clock.wall_ms())["run"]["ended"] == "not_traded"


async def test_a_replaced_signal_names_the_one_that_took_its_place(tmp_path: Path) -> None:
    """OPS-7, MD-1: two signals of a market while the executor hands over: the older was never judged; the store says so."""
    pipes = Plumbing()
    async with disk(tmp_path) as state:
        state.settings = bot_settings(STOPS, coins=(SNDK, MU))
        kept = await state.open()
        async with open_world(
            state.settings, two_markets().source(), config=FAST, keeping=kept.keeping, through=pipes.through
        ) as world:
            await handing_over(world, pipes)
            await world.until(lambda: bool(world.events("signal_replaced")), 4)
            pipes.shut(shut=False)
            (note,) = world.events("signal_replaced")
            await trio.sleep(1)
            await world.end()
        assert await kept.store.drain_and_close(5)
        story = told(tmp_path, note.fields["signal"])
    word, words = outcome(story)
    assert (word, f"signal {note.fields['by']} took its place" in words) == ("replaced", True)


async def test_an_order_that_never_left_is_released(tmp_path: Path) -> None:
    """OPS-7, END-1: purged by the stop while it waited: no intent is there, and the audit log says why it ended."""
    async with disk(tmp_path) as state:
        waits = {"executor.period_ms": 500, "detector.max_order_notional_usd": 20}
        state.settings = bot_settings({**STOPS, **waits}, coins=(SNDK, MU))
        kept = await state.open()
        source = dislocated(2, SNDK, MU).source()
        async with open_world(state.settings, source, config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: len(judged(world, "Queued")) == 2, 4)
            assert (await world.end()).exit_code == 0
            (released,) = world.events("mark_released")
            of = {n.fields["cloid"]: n.fields["signal"] for n in world.events("order_enqueued")}
        assert await kept.store.drain_and_close(5)
        story = told(tmp_path, of[released.fields["cloid"]])
    assert outcome(story) == ("released", "its order was taken back before it was sent: shutdown")


# ---- status


async def test_a_killed_run_is_shown_with_what_it_held(tmp_path: Path) -> None:
    """OPS-7, LESSONS 3: killed while holding: position and its ages as booked, the spool ahead is said, and no gate of time
    makes it flat; after five minutes the next start would halt, and a real one does."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")))
            await trio.sleep(0.1)
            await world.kill()
            kept.store.close()
            view = stored(tmp_path, now := state.clock.wall_ms())
            assert view["run"]["ended"] == "killed"
            assert view["commits_in_spool"] == kept.store.repository.behind()
            (held,) = view["positions"]
            (at_venue,) = world.positions().values()
            assert (held["coin"], float(held["szi"])) == (SNDK, float(at_venue.szi))
            assert held["age_ms"] == now - world.fills()[0].time_ms
            assert 0 < held["booked_age_ms"] <= held["age_ms"] + 50
            assert (view["next_start"]["mode"], view["day"]["entries"], view["day"]["fills"]) == ("ARMED_SAFE", 1, 1)
            assert view["next_start"]["policy_promotes"]
            assert any("did NOT end in order" in line for line in stored_lines(view))
            early = stored(tmp_path, now - HOUR_MS)["next_start"]
            assert ([c["code"] for c in early["causes"]][-1:], early["policy_promotes"]) == (["CLOCK_SKEW"], False)
            late = stored(tmp_path, now + HOUR_MS)
            assert late["positions"][0]["booked_age_ms"] == held["booked_age_ms"] + HOUR_MS
            assert late["next_start"]["mode"] == "HALT"
            assert late["next_start"]["causes"][0]["code"] == "BACKFILL_WINDOW_EXCEEDED"
            await trio.sleep(HOUR_MS / 1000)
            predicted = stored(tmp_path, state.clock.wall_ms())["next_start"]
            assert [o["what"] for o in predicted["against"]["unhalt"]] == ["BACKFILL_WINDOW_EXCEEDED"]
            assert not predicted["policy_promotes"]
            again = await state.open()
            world.keeping = again.keeping
            world.restart()
            await world.started.wait()
            assert world.bot.safety.mode.name == predicted["mode"]
            assert {c["code"] for c in predicted["causes"]} <= {c.code.value for c in world.bot.safety.causes}
            await world.end()
            assert await again.store.drain_and_close(5)


async def test_commits_that_only_the_spool_has_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """STO-4, LESSONS 3: a bot killed before its writer's first turn: every reader shows what it committed, and nothing of
    spool or database is changed by that."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HIP3_CONFIG", raising=False)
    async with disk(tmp_path, {"store.group_commit_ms": 600_000}) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("position_closed")), 30)
            await world.kill()
            (signal,) = [str(n.fields["signal"]) for n in world.events("signal")]
            fills = len(world.fills())
            kept.store.close()
        assert state.ask("select count(*) from fills") == [(0,)], "the writer never had its turn"
        before = bytes_of(tmp_path)
        view = stored(tmp_path, state.clock.wall_ms())
        assert view["commits_in_spool"] == kept.store.repository.behind() > 0
        assert (view["run"]["ended"], view["day"]["fills"], view["day"]["trades"]) == ("killed", fills, 1)
        lines = stored_lines(view)
        assert any(f"{view['commits_in_spool']} commits are in its spool alone, and in all that follows" in x for x in lines)
        story = told(tmp_path, signal)
        assert (outcome(story)[0], happened(story).count("fill")) == ("closed", 2)
        report = read_stores(known_sources(tmp_path, None, {}), Selection())
        assert (len(report.trades), len(report.signals)) == (1, 1)
        assert any("commits are in the spool of the store alone, and in every number" in note for note in report.notes)
        app = make_app()
        assert app(["audit", "tail"], exit_on_error=False) == 0
        assert "post" in capsys.readouterr().out
        assert app(["audit", "verify", "--json"], exit_on_error=False) == 0
        assert json.loads(capsys.readouterr().out)["rows"] > 20
        unchanged(tmp_path, before)
        again = await state.open()
        assert again.store.recovered == view["commits_in_spool"]
        assert stored(tmp_path, state.clock.wall_ms())["day"] == view["day"], "the next start has what was shown"


async def test_a_spool_that_cannot_be_read_is_never_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """STO-4, LESSONS 3: a damaged group: every reader shows what the database has and says that there may be more."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HIP3_CONFIG", raising=False)
    async with disk(tmp_path) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")))
            await trio.sleep(0.1)
            kept.store.writer.group_commit_ms = 600_000
            await trio.sleep(2)
            await world.kill()
            kept.store.close()
        (segment,) = kept.store.place.spool.iterdir()
        content = segment.read_bytes()
        segment.write_bytes(content[:-20] + b"?" + content[-19:])
        view = stored(tmp_path, state.clock.wall_ms())
        assert (view["commits_in_spool"], view["day"]["fills"]) == (None, 1)
        assert any("its spool could not be read" in line for line in stored_lines(view))
        app = make_app()
        for tokens in (["explain", "--last"], ["report"], ["audit", "tail"]):
            assert app(tokens, exit_on_error=False) == 0
            said = capsys.readouterr()
            assert "spool" in said.out + said.err, tokens


async def test_a_halt_is_what_the_next_start_begins_with(tmp_path: Path) -> None:
    """STOP-1, OPS-7: killed by an operator, ended flat: the latch is shown with its cause and age before any start."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")))
            assert Operator(world.bot).answer(b'{"command": "kill", "reason": "a test"}', "ada")["ok"]
            await world.until(lambda: not world.positions(), 20)
            await trio.sleep(1)
            assert (await world.end()).exit_code == 0
        assert await kept.store.drain_and_close(5)
        view = stored(tmp_path, state.clock.wall_ms())
    assert (view["run"]["ended"], view["next_start"]["mode"]) == ("flat", "HALT")
    assert "OPERATOR_KILL" in [c["code"] for c in view["next_start"]["causes"]]
    assert (view["positions"], view["orders"], view["others"]) == ([], [], [])
    assert view["day"]["trades"] == 1


async def test_an_end_with_something_left_is_exposed(tmp_path: Path) -> None:
    """END-2, LESSONS 7: a second signal gives up the flatten: exposed stays exposed until a run has looked."""
    async with disk(tmp_path) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=SLOW, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")), 20)
            world.stop.request("Ctrl+C")
            world.stop.request("Ctrl+C")
            await world.ended.wait()
        assert await kept.store.drain_and_close(5)
        view = stored(tmp_path, state.clock.wall_ms())
    assert view["run"]["ended"] == "exposed"
    assert [p["coin"] for p in view["positions"]] == [SNDK]
    assert any("EXPOSED" in line for line in stored_lines(view))


async def test_an_account_that_was_left_is_not_hidden_by_a_later_run(tmp_path: Path) -> None:
    """LESSONS 3, LESSONS 7: another account ran since; the one that was killed holding is named with what it held."""
    other = "0x" + "6b" * 20
    async with disk(tmp_path) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")))
            await trio.sleep(0.1)
            await world.kill()
            kept.store.close()
        state.account = other
        kept = await state.open()
        async with open_world(
            state.settings, Script().calm().source(), config=FAST, keeping=kept.keeping, start_ms=START_MS + HOUR_MS
        ) as world:
            await world.ready()
            await world.end()
        assert await kept.store.drain_and_close(5)
        view = stored(tmp_path, state.clock.wall_ms())
    assert (view["account"], view["run"]["ended"], view["positions"]) == (other, "flat", [])
    (left,) = view["others"]
    assert (left["account"], left["ended"], left["positions"]) == (ACCOUNT, "killed", [SNDK])
    assert any(f"{ACCOUNT} on paper" in line for line in stored_lines(view))


# ---- reading changes nothing


async def test_no_reader_changes_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-7, LESSONS 3: after a kill the database has a write-ahead log, the spool a tail: all commands leave both alone."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("HIP3_CONFIG", raising=False)
    async with disk(tmp_path) as state:
        kept = await state.open()
        async with open_world(state.settings, dislocated().pulse(60).source(), config=FAST, keeping=kept.keeping) as world:
            await world.until(lambda: bool(world.events("fill")))
            await trio.sleep(0.2)
            await world.kill()
            copied = tmp_path / "as_killed"
            for name, (content, _) in bytes_of(tmp_path).items():  # a process that dies closes nothing
                (copied / name).parent.mkdir(parents=True, exist_ok=True)
                (copied / name).write_bytes(content)
        kept.store.close()
    monkeypatch.setenv("HIP3_STATE_DIR", str(copied))
    before = bytes_of(copied)
    assert any(name.endswith("-wal") and content for name, (content, _) in before.items())
    app = make_app()
    for tokens, code in (
        (["status"], 3),
        (["status", "--json"], 3),
        (["explain", "--last"], 0),
        (["explain", "--last", "--json"], 0),
        (["report"], 0),
        (["report", "--json"], 0),
        (["audit", "tail"], 0),
        (["audit", "verify"], 0),
    ):
        assert app(tokens, exit_on_error=False) == code, tokens
    said = capsys.readouterr()
    assert "did NOT end in order" in said.out
    assert f"{SNDK}: 0.0" in said.out
    unchanged(copied, before)
