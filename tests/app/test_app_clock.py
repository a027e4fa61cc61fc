"""Somebody sets the clock of the bot's machine, an hour forward or back, while it holds or flattens (NON-1, NON-2)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import trio

from hip3.core.ids import OrderSide
from hip3.core.records import IncidentRecord, TradeRecord
from hip3.exchange.faults import Delay, HttpAnswer, Point, ReplaceBody, Rule
from hip3.fsm.safety import SafetyMode
from hip3.ops.heartbeat import Heart, read_beat
from hip3.simulate.world import World
from tests.app.failures.scenes import (
    PRICES,
    SNDK,
    calm,
    cut,
    holding,
    jump,
    lost,
    script,
    settings_of,
    steps,
    trading,
    unfenced,
    world_of,
)
from tests.app.operator_desk import operate

HOUR_MS = 3_600_000
either_way = pytest.mark.parametrize("by_ms", [HOUR_MS, -HOUR_MS], ids=["forward", "back"])
STOPS: dict[str, object] = {"time_stop_ms": 8000, "reduce_only_timeout_ms": 16_000}


def skewed(world: World) -> bool:
    return any(c.code.value == "CLOCK_SKEW" for c in world.bot.safety.causes)


def nonces(world: World) -> list[int]:
    """Of every action that reached the venue, in its order."""
    return [e.nonce for _, e in world.exchange.received]


def assert_nonces_are_good(world: World) -> None:
    """Strictly increasing, and near the venue's time although the machine's clock is not."""
    assert all(a < b for a, b in itertools.pairwise(nonces(world)))
    assert all(abs(nonce - world.clock.wall_ms()) < 120_000 for nonce in nonces(world))


@either_way
async def test_a_time_stop_comes_at_its_time_whatever_the_clock_says(autojump_clock: object, by_ms: int) -> None:
    """EXIT-1, NON-1, NON-2: set while a position is held: closed 8 s after its fill, neither at once nor an hour later;
    CLOCK_SKEW comes within a second and keeps entries out, and ends when the clock is right again."""
    source = script(calm(*PRICES, until_s=200), jump(SNDK, 2500), jump(SNDK, 30_000, bps=80), jump(SNDK, 70_000, bps=160))
    async with world_of(settings_of(SNDK, position=STOPS), source) as world:
        await holding(world, SNDK)
        entry_ms = world.fills()[0].time_ms
        world.machine.wrong_ms = by_ms
        await world.until(lambda: skewed(world), 1)
        assert [n.fields["by_ms"] for n in world.events("clock_stepped")] == [by_ms]
        assert not world.events("exit_requested")
        await world.until(lambda: not world.positions(), 12)
        assert 8000 < world.fills()[-1].time_ms - entry_ms < 9000
        assert not world.events("flatten_failed")
        await world.at(35_001)
        assert len(world.entries) == 1
        assert "CLOCK_SKEW" in str(world.events("signal_judged")[-1].fields["detail"])
        world.machine.wrong_ms = 0
        await world.until(lambda: not skewed(world) and world.bot.safety.allows_entry, 2)
        await world.until(lambda: len(world.entries) == 2, 60)
        assert (await world.end()).exit_code == 0
        assert_nonces_are_good(world)
        kept = [r for r in world.recorder.records if isinstance(r, TradeRecord)]
        assert [8000 < t.exit_ms - t.entry_ms < 9000 for t in kept][:1] == [True]


@either_way
async def test_a_flatten_ends_although_the_clock_is_set_in_the_middle(autojump_clock: object, by_ms: int) -> None:
    """END-1, STOP-2, LESSONS 12: set while the way out cannot close for want of bids: it goes on
    until it is flat, and the exit code is 0."""
    async with world_of(settings_of(SNDK, shutdown={"flatten_deadline_s": 60}), trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.world.one_sided[SNDK] = OrderSide.BUY
        world.stop.request("Ctrl+C")
        await world.until(lambda: "close" in steps(world) or "retry" in steps(world), 10)
        world.machine.wrong_ms = by_ms
        await trio.sleep(3)
        assert not world.ended.is_set()
        world.faults.world.one_sided.clear()
        began = trio.current_time()
        await world.ended.wait()
        assert trio.current_time() - began < 10
        assert world.result is not None
        assert (world.result.outcome.exit_code, world.positions()) == (0, {})
        assert_nonces_are_good(world)


@either_way
async def test_an_entry_in_doubt_is_waited_for_by_the_venues_time(autojump_clock: object, by_ms: int) -> None:
    """STOP-2, POST-4: an entry that may still be admitted holds the certificate up until it has expired at the venue: set
    forward nothing calls it flat before that, set back nobody waits an hour for it."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.add(unfenced(), lost("order", Point.BEFORE_ADMISSION, uses=1))
        await world.until(lambda: bool(world.bot.ledger.orders), 5)
        (order,) = world.bot.ledger.orders.values()
        expires = order.intent.expires_after_ms
        assert expires is not None
        cut(world)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 5)
        world.machine.wrong_ms = by_ms
        await world.until(lambda: any(n.fields["flat"] for n in world.events("halt_flatten")), 60)
        assert expires < world.clock.wall_ms() < expires + 10_000


@either_way
async def test_a_halt_goes_on_and_ends_although_the_clock_is_set(autojump_clock: object, by_ms: int) -> None:
    """STOP-2, SAFE-1, NON-2: set in HALT while every question fails: trying goes on, flat once it can be; the skew is
    a cause beside the others, it ends by itself, and the operator's way out is as ever."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        fault = lost("clearinghouseState", Point.INFO, action=HttpAnswer(500))
        world.faults.add(fault)
        cut(world)
        await world.until(lambda: len(world.events("halt_flatten")) == 1, 60)
        (first,) = [c for c in world.bot.safety.causes if c.severity.name == "HALT"]
        world.machine.wrong_ms = by_ms
        await world.until(lambda: len(world.events("halt_flatten")) == 3, 120)
        assert first in world.bot.safety.causes
        world.faults.rules.remove(fault)
        await world.until(lambda: not world.positions(), 60)
        await world.until(lambda: skewed(world), 120)  # until then the flatten has used the weight of all questions
        world.machine.wrong_ms = 0
        await world.until(lambda: not skewed(world) and world.bot.ready.is_ready, 30)
        await world.until(lambda: operate(world, "unhalt")["ok"], 60)
        assert operate(world, "promote")["mode"] == "ARMED_LIVE"
        assert_nonces_are_good(world)


async def test_a_heartbeat_shows_the_machines_time(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1: a watchdog that begins while the clock is set compares with its own reading of the same clock."""
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.ready()
        world.machine.wrong_ms = HOUR_MS
        Heart(world.bot, tmp_path, 1, 1000).beat()
        assert read_beat(tmp_path).wall_ms == world.machine.wall_ms()


async def test_the_time_that_a_machine_slept_counts(autojump_clock: object) -> None:
    """EXIT-1, NON-2: it wakes an hour later, agrees with the venue about the time, and closes what is over its time stop:
    there is no skew, nothing waits for the hour that its own clock stood still, and its calendar is right (RISK-3)."""
    stops: dict[str, object] = {"time_stop_ms": HOUR_MS // 2, "reduce_only_timeout_ms": 2 * HOUR_MS}
    windows: dict[str, object] = {"maintenance_windows": ("Thu 01:00-01:30",)}
    async with world_of(settings_of(SNDK, position=stops, risk=windows), trading(SNDK)) as world:
        await holding(world, SNDK)
        told = json.dumps({"time": world.clock.wall_ms() + HOUR_MS, "specialStatuses": None})
        world.faults.add(Rule(Point.INFO, ReplaceBody(told), lambda kind: kind == "exchangeStatus", uses=None))
        world.machine.wrong_ms = HOUR_MS
        await world.until(lambda: not world.positions(), 3)
        assert not skewed(world)
        await world.until(lambda: [c.code.value for c in world.bot.safety.causes] == ["MAINTENANCE_WINDOW"], 3)
        assert [n.fields["reason"] for n in world.events("time_stop_triggered")] == ["time_stop"]


@pytest.mark.parametrize("when", ["ahead before", "back now"])
async def test_a_start_before_the_last_row_waits_for_a_person(autojump_clock: object, when: str) -> None:
    """NON-2, REC-3, LESSONS 36: a run begins an hour before what the last one wrote: CLOCK_SKEW by the store, with an
    incident; what is held is closed at its time, no entry leaves, and only a promotion ends it, for good."""
    source = script(calm(*PRICES, until_s=400), *(jump(SNDK, 2500 + 20_000 * n, bps=40 * (n + 1)) for n in range(8)))
    async with world_of(settings_of(SNDK, position=STOPS), source) as world:
        if when == "ahead before":
            world.machine.wrong_ms = HOUR_MS
            await world.started.wait()
            await trio.sleep(5)
        else:
            await holding(world, SNDK)
        await world.kill()
        world.machine.wrong_ms -= HOUR_MS
        world.restart()
        await world.started.wait()
        (cause,) = [c for c in world.bot.safety.causes if (c.code.value, c.source) == ("CLOCK_SKEW", "store")]
        assert "ms before the last row of the store" in cause.message
        assert 3_590_000 < int(cause.message.split()[3]) < 3_610_000
        incidents = [r for r in world.recorder.records if isinstance(r, IncidentRecord) and r.code == "CLOCK_SKEW"]
        assert len(incidents) == 1
        if when == "back now":
            await world.until(lambda: not world.positions(), 12)
            assert 8000 < world.fills()[-1].time_ms - world.fills()[0].time_ms < 9000
            world.machine.wrong_ms = 0
            await world.until(lambda: not any(c.source == "nonce" for c in world.bot.safety.causes), 5)
        before = len(world.entries)
        await world.until(lambda: bool(world.events("signal_judged")), 60)
        assert "CLOCK_SKEW" in str(world.events("signal_judged")[-1].fields["detail"])
        assert len(world.entries) == before
        assert operate(world, "promote")["mode"] == SafetyMode.ARMED_LIVE.name
        await world.until(lambda: len(world.entries) > before, 90)
        assert (await world.end()).exit_code == 0
        assert_nonces_are_good(world)
        world.restart()
        await world.ready()
        assert not skewed(world)


async def test_an_answer_that_takes_long_is_no_skew(autojump_clock: object) -> None:
    """NON-2: the venue looked at its clock somewhere between question and answer; four seconds of way are no distance."""
    async with world_of(settings_of(SNDK), script(calm(SNDK, until_s=120))) as world:
        await world.ready()
        slow = Rule(Point.INFO, Delay(4000), lambda kind: kind == "exchangeStatus")
        world.faults.add(slow)
        await world.until(lambda: slow.uses == 0, 80)
        before = world.bot.trader.reconcile.service_read_ms if world.bot.trader else None
        await world.until(lambda: world.bot.trader is not None and world.bot.trader.reconcile.service_read_ms != before, 12)
        assert world.events("clock_skew") == []
        assert not skewed(world)


async def test_a_start_that_takes_long_is_no_skew(autojump_clock: object) -> None:
    """NON-2: another answer of the start came four seconds later; the venue's time is so much older, and not apart."""
    async with world_of(settings_of(SNDK), script(calm(SNDK, until_s=120))) as world:
        await world.ready()
        await world.kill()
        slow = Rule(Point.INFO, Delay(4000), lambda kind: kind == "userFees")
        world.faults.add(slow)
        world.restart()
        await world.started.wait()
        assert slow.uses == 0
        await world.until(lambda: world.bot.ready.is_ready, 20)
        levels = {n.fields["state"] for n in world.events("guard") if n.fields["guard"] == "clock_skew"}
        assert levels == {"OK"}
