"""What the bot makes durable, from venue frames to commits (STO-3, STO-4, REC-2), and what it does without a disk."""

from __future__ import annotations

import itertools
from collections import Counter
from decimal import Decimal
from typing import Any, TypeVar

import attrs
import trio

from hip3.core.records import (
    NOT_JUDGED,
    FillRecord,
    FollowUpRecord,
    IntentRecord,
    MemoryRecorder,
    ProcessedRecord,
    Record,
    ResultRecord,
    SignalRecord,
    StateRecord,
    TradeRecord,
    Transition,
)
from hip3.core.scribe import CURSOR_EVENT_KEY, CURSOR_TIME_KEY, NONCE_KEY
from hip3.fsm.machines import ALL_TABLES
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import World, open_world
from hip3.tasks.timers import PERIOD_MS
from tests.app.app_builders import FAST, SNDK, Script, bot_settings, closes, dislocated, entries

R = TypeVar("R")
BRIEF = {"position.time_stop_ms": 2000, "position.reduce_only_timeout_ms": 4000}


def of(world: World, kind: type[R]) -> list[R]:
    return [r for r in world.recorder.records if isinstance(r, kind)]


def chains(records: list[Record]) -> dict[tuple[str, str], list[Transition]]:
    found: dict[tuple[str, str], list[Transition]] = {}
    for record in records:
        if isinstance(record, Transition):
            found.setdefault((record.category, record.entity_id), []).append(record)
    return found


async def test_one_trade_leaves_a_row_of_everything() -> None:
    """STO-2, JRN-1: intents, results, fills, trade, signal, follow-ups and the values that the next run goes on from."""
    async with open_world(bot_settings(BRIEF), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: len(closes(world)) == 1 and not world.positions())
        await world.until(lambda: len(of(world, FollowUpRecord)) == 3)
        assert (await world.end()).exit_code == 0
        kinds = Counter(type(r) for r in world.recorder.records)
        assert (kinds[IntentRecord], kinds[FillRecord], kinds[TradeRecord], kinds[SignalRecord]) == (2, 2, 1, 2)
        assert kinds[ProcessedRecord] == 2
        bare, signal = of(world, SignalRecord)
        assert (bare.trail, attrs.evolve(signal, trail={})) == ({}, bare)
        gates: Any = signal.trail["gates"]
        assert {step["verdict"] for step in gates} == {"pass"}
        (trade,) = [r for r in world.recorder.records if isinstance(r, TradeRecord)]
        assert (signal.verdict, signal.signal_id) == ("Queued", trade.signal_id)
        assert trade.expected_edge_bps == signal.edge_bps
        ended = {r.cloid: r for r in world.recorder.records if isinstance(r, ResultRecord) and r.is_terminal}
        assert [r.state for r in ended.values()] == ["FILLED", "FILLED"]
        values = {r.key: r.value for r in world.recorder.records if isinstance(r, StateRecord)}
        assert values[f"position.{SNDK}"] is None  # flat again
        assert int(values[CURSOR_TIME_KEY] or 0) >= trade.exit_ms
        assert values[CURSOR_EVENT_KEY]
        assert int(values[NONCE_KEY] or 0) >= max(e.nonce for _, e in world.exchange.received)


async def test_the_trail_comes_after_the_order_and_is_the_one_of_the_journal() -> None:
    """OPS-7, EXE-1: the signal is durable with its verdict at once; what every gate said joins at the timers' look."""
    async with open_world(bot_settings(BRIEF), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("order_sent")))
        await trio.sleep(2 * PERIOD_MS / 1000)
        kinds = [type(r) for commit in world.recorder.commits for r in commit if isinstance(r, IntentRecord | SignalRecord)]
        assert kinds == [IntentRecord, SignalRecord, SignalRecord]
        bare, full = of(world, SignalRecord)
        assert not bare.trail
        (note,) = world.events("signal_trail")
        assert dict(full.trail) == note.fields


async def test_signals_that_no_gate_saw_are_kept_with_their_filters() -> None:
    """DET-5, JRN-3, OPS-7: observation asks no gate, but its signals are signals: without them a share would flatter."""
    settings = bot_settings({"mode": "observation", "safety.startup_policy": "manual"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("follow_up")), 10)
        bare, full = of(world, SignalRecord)
        assert (full.verdict, full.cloid, full.trail["gates"]) == (NOT_JUDGED, None, [])
        assert full.trail["filters"]
        assert not bare.trail


async def test_trails_that_wait_at_the_end_are_written_by_it() -> None:
    """OPS-7: a stop within the tenth of a second before the timers' next look loses no trail."""
    script = Script().calm().oracle(1500, "602").quote(1500, "602.3", "602.5").quote(2030, "599.9", "600.1")
    async with open_world(bot_settings(BRIEF), script.source(), config=FAST) as world:
        await world.until(lambda: bool(of(world, SignalRecord)))
        assert not of(world, SignalRecord)[-1].trail
        assert (await world.end()).exit_code == 0
        assert of(world, SignalRecord)[-1].trail


NO_EVENT = ("ready", "safety", "lifecycle", "connection", "cause")
"""What may change because time passes."""


async def test_every_transition_has_a_row_and_the_rows_are_chains() -> None:
    """STO-3, SAFE-1, DESIGN 9.11: each machine's rows begin where it begins, join without a gap, and end in its present
    state; so do those of each cause, which begin and end with none."""
    async with open_world(bot_settings(BRIEF), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: len(closes(world)) == 1 and not world.positions())
        bot = world.bot
        assert (await world.end()).exit_code == 0
        rows = chains(world.recorder.records)
        assert {category for category, _ in rows} == {t.name for t in ALL_TABLES} | {"cause"}
        for (category, entity), chain in rows.items():
            for before, after in itertools.pairwise(chain):
                assert before.to_state == after.from_state, (category, entity)
            assert all(row.reason_code for row in chain), (category, entity)
            assert category in ("ready", "safety", "lifecycle", "connection", "cause") or all(
                row.event_id for row in chain
            ), category
        assert rows["position", SNDK][-1].to_state == bot.ledger.position(SNDK).state.name
        assert [r.to_state for r in rows["cause", "BOOTSTRAP:process"]] == ["SAFE", "none"]
        assert rows["cause", "SHUTDOWN:process"][-1].to_state == "SAFE"
        assert rows["lifecycle", "process"][-1].to_state == bot.lifecycle.state.name
        assert rows["safety", "process"][-1].to_state == bot.safety.mode.name
        for cloid, order in bot.ledger.finished.items():
            assert [r.to_state for r in rows["order", cloid]] == ["PENDING", "SENT", order.state.name]
            assert rows["order", cloid][0].from_state == ""


async def test_a_fill_its_effects_and_the_cursor_are_one_commit() -> None:
    """REC-2, LESSONS 31: the row of a fill, the position it made and the cursor survive together or not at all."""
    async with open_world(bot_settings(BRIEF), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        (commit,) = [c for c in world.recorder.commits if any(isinstance(r, FillRecord) for r in c)]
        (fill,) = [r for r in commit if isinstance(r, FillRecord)]
        values = {r.key: r.value for r in commit if isinstance(r, StateRecord)}
        assert values[CURSOR_TIME_KEY] == str(fill.time_ms)
        assert values[CURSOR_EVENT_KEY] == f"{fill.coin}:{fill.time_ms}:{fill.tid}"
        assert str(values[f"position.{SNDK}"]).split("|")[1] == str(Decimal(fill.sz))
        assert any(isinstance(r, Transition) and r.category == "position" and r.to_state == "OPEN" for r in commit)
        assert any(isinstance(r, ResultRecord) and r.filled_sz == fill.sz for r in commit)


async def test_without_storage_no_entry_leaves_and_the_bot_halts() -> None:
    """STO-4, SAFE-4 STORAGE_UNAVAILABLE: the intent cannot be stored, so its bytes never leave; HALT, and flat."""
    recorder = MemoryRecorder()
    async with open_world(bot_settings(BRIEF), dislocated(4).pulse(60).source(), config=FAST, recorder=recorder) as world:
        await world.ready()
        recorder.fails = "the disk is full"
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT)
        (cause,) = [c for c in world.bot.safety.causes if c.code.value == "STORAGE_UNAVAILABLE"]
        assert "the disk is full" in cause.message
        await world.until(lambda: bool(world.events("halt_flatten")))
        assert entries(world) == []
        assert len(world.events("storage_unavailable")) == 1  # said once, however many commits fail
        assert (await world.end()).exit_code == 0


async def test_a_position_is_closed_although_nothing_can_be_stored() -> None:
    """STO-4, GATE-4, LESSONS 6: a storage that fails while a position is held stops nothing that reduces."""
    recorder = MemoryRecorder()
    async with open_world(bot_settings(), dislocated().pulse(60).source(), config=FAST, recorder=recorder) as world:
        await world.until(lambda: bool(world.positions()))
        recorder.fails = "the disk is gone"
        await world.until(lambda: not world.positions(), 10)
        assert world.bot.safety.mode is SafetyMode.HALT
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)


async def test_what_waited_for_the_storage_is_kept_when_it_is_back() -> None:
    """STO-4: records that could not be committed are not forgotten; the next commit that succeeds has them, in order."""
    recorder = MemoryRecorder()
    async with open_world(bot_settings(BRIEF), dislocated().pulse(60).source(), config=FAST, recorder=recorder) as world:
        await world.until(lambda: bool(world.positions()))
        recorder.fails = "for a moment"
        await world.until(lambda: not world.positions(), 10)
        recorder.fails = None
        assert (await world.end()).exit_code == 0
        for (category, entity), chain in chains(recorder.records).items():
            for before, after in itertools.pairwise(chain):
                assert before.to_state == after.from_state, (category, entity)
        assert len([r for r in recorder.records if isinstance(r, FillRecord)]) == len(world.fills())


async def test_a_close_of_the_way_out_is_on_record_before_it_is_sent_and_is_never_doubted() -> None:
    """STO-4, DESIGN 9.7: killed with the flatten's close on its way: its intent is there; the next start asks nothing."""
    async with open_world(bot_settings(), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        world.stop.request("Ctrl+C")
        await world.until(lambda: len(closes(world)) == 1, 10)
        await world.kill()
        ((_, close),) = closes(world)
        recorded = {i.cloid: i for i in of(world, IntentRecord)}
        assert recorded[close["c"]].nonce == world.exchange.received[-1][1].nonce
        assert recorded[close["c"]].reduce_only
        world.restart()
        await world.ready()
        assert not world.positions()
        assert not world.bot.ledger.is_exposed
        assert world.events("doubt_answered") == []
        assert (await world.end()).exit_code == 0
        assert len(closes(world)) == 1


async def test_what_became_of_a_close_of_the_way_out_is_on_record() -> None:
    """STO-2, STO-4: the venue's answer to each closing order of the flatten is its last result."""
    async with open_world(bot_settings(), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        assert (await world.end()).exit_code == 0
        ((_, close),) = closes(world)
        states = [r.state for r in world.recorder.records if isinstance(r, ResultRecord) and r.cloid == close["c"]]
        assert states == ["UNKNOWN", "FILLED"]


async def test_a_trade_that_halts_is_one_commit_with_its_latch_and_its_counters() -> None:
    """REC-2, RISK-1: a kill between the fill and what it made cross would lose one of them; so there is no between."""
    settings = bot_settings({**BRIEF, "risk.max_cumulative_loss_usd": "0.01"})
    async with open_world(settings, dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("position_closed")))
        (commit,) = [c for c in world.recorder.commits if any(isinstance(r, TradeRecord) for r in c)]
        assert any(isinstance(r, FillRecord) for r in commit)
        values = {r.key: r.value for r in commit if isinstance(r, StateRecord)}
        assert "CUMULATIVE_LOSS" in str(values["safety"])
        assert values["risk.crossed"] == "CUMULATIVE_LOSS"
        assert values[f"position.{SNDK}"] is None
        assert any(isinstance(r, Transition) and r.category == "safety" and r.to_state == "HALT" for r in commit)
        assert any(isinstance(r, ResultRecord) and r.is_terminal for r in commit)


async def test_every_row_names_what_it_came_from() -> None:
    """STO-3: an order is registered for a signal or an exit, sent in a post, moved by an answer; a link by itself."""
    async with open_world(bot_settings(BRIEF), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: len(closes(world)) == 1 and not world.positions())
        assert (await world.end()).exit_code == 0
        rows = chains(world.recorder.records)
        entry, close = (rows["order", str(o["c"])] for o in world.orders())
        signal = next(r.signal_id for r in world.recorder.records if isinstance(r, SignalRecord))
        assert [row.event_id.partition(":")[0] for row in entry] == ["signal", "post", "OrderAnswered"]
        assert entry[0].event_id == f"signal:{signal}"
        assert [row.event_id for row in close][:2] == [f"exit:{SNDK}:time_stop", "post:2"]
        assert {row.event_id for row in rows["connection", "account"][1:]} >= {"link:account"}
        assert {row.event_id for row in rows["lifecycle", "process"]} == {"lifecycle"}
