"""A crash of any task takes the same road as Ctrl+C: flat, exit code 5, the first error kept (SPEC END-2, DESIGN 3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import field, frozen

from hip3.exchange.faults import Delay, Faults, Point, ReplaceBody
from hip3.fsm.lifecycle import LifecycleState
from hip3.settings.schema import HaltOnDisconnect
from hip3.simulate.world import World
from tests.app.failures.scenes import (
    NVDA,
    SNDK,
    TSLA,
    Tripwire,
    another_hand,
    breaking_dial,
    calm,
    cut,
    holding,
    jump,
    lost,
    outcome_of,
    script,
    settings_of,
    steps,
    trading,
    world_of,
)


def nothing(world: World) -> None:
    """The scene itself brings the task to its note."""


def send_unreadable(world: World) -> None:
    world.faults.add(lost("pong", action=ReplaceBody("{")))


def lose_entry(world: World) -> None:
    world.faults.add(lost("order", Point.BEFORE_ADMISSION, uses=1))


def lose_answers(world: World) -> None:
    world.faults.add(*(lost(channel) for channel in ("post", "orderUpdates", "userFills")))


@frozen
class Crash:
    """One task, the note on which it dies, and what brings it there while a position is held."""

    task: str
    event: str
    cause: Callable[[World], None] = nothing
    fields: dict[str, object] = field(factory=dict)


CRASHES = (
    Crash("position", "position_closed"),
    Crash("position", "fill"),
    Crash("executor", "signal_judged"),
    Crash("executor", "order_sent"),
    Crash("executor", "time_stop_triggered"),
    Crash("account link", "frame_unreadable", send_unreadable, {"link": "account"}),
    Crash("reconcile", "doubt_answered", lose_answers),
    Crash("risk", "order_send_failure", lose_entry),
    Crash("halt", "halt_flatten", cut),
    Crash("market link", "signal"),
    Crash("market link", "ws_lost", cut, {"link": "market"}),
    Crash("timers", "follow_up"),
)


@pytest.mark.parametrize("crash", CRASHES, ids=lambda c: f"{c.task} at {c.event}")
async def test_a_crash_of_any_task_ends_flat_with_exit_5(crash: Crash, autojump_clock: object) -> None:
    """END-2, END-3: whichever task dies, in ring 1 or 2, while a position is held: flat, exit 5, and the error is told."""
    journal = Tripwire(event=crash.event, fields=crash.fields)
    # The oracle of a second market jumps at 6 s, and the time stop of the first is over at 9 s.
    source = script(calm(SNDK, NVDA), jump(SNDK, 2500), jump(NVDA, 6000))
    settings = settings_of(SNDK, NVDA, position={"time_stop_ms": 6000})
    async with world_of(settings, source, journal=journal) as world:
        await holding(world, SNDK)
        journal.armed = True
        crash.cause(world)
        outcome = await outcome_of(world)
        assert journal.tripped
        assert (outcome.exit_code, outcome.flat) == (5, True)
        assert not world.positions()
        assert not world.open_orders()
        assert repr(f"no space left to write {crash.event}") in repr(outcome.error)
        assert outcome.stop_reason == f"a task crashed: RuntimeError: no space left to write {crash.event}"
        assert world.bot.lifecycle.state is LifecycleState.STOPPED


@pytest.mark.parametrize(("calls", "link"), [((3,), "market"), ((3, 4), "account")])
async def test_an_error_of_the_dial_that_nobody_foresaw_ends_flat(
    calls: tuple[int, ...], link: str, autojump_clock: object
) -> None:
    """END-2: an unknown error of the transport is a crash like any other, not a lost link."""
    dial = breaking_dial(calls, ZeroDivisionError("in the transport"))
    async with world_of(settings_of(SNDK), trading(SNDK), dial=dial) as world:
        await holding(world, SNDK)
        cut(world)
        outcome = await outcome_of(world)
        assert (outcome.exit_code, outcome.flat) == (5, True)
        assert not world.positions()


async def test_a_service_that_dies_on_the_way_out_does_not_stop_it(autojump_clock: object) -> None:
    """END-2: a task that crashes while the flatten runs changes the exit code, not the end."""
    journal = Tripwire(event="position_closed")
    async with world_of(settings_of(SNDK), trading(SNDK), journal=journal) as world:
        await holding(world, SNDK)
        journal.armed = True
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat, outcome.stop_reason) == (5, True, "Ctrl+C")
        assert not world.positions()


async def test_an_error_in_the_flatten_does_not_hide_the_first(autojump_clock: object) -> None:
    """END-2: the flatten itself breaks after a crash: the first error is the one told, and what is left is listed."""
    journal = Tripwire(event="way_out", fields={"step": "close"}, armed=True)
    dial = breaking_dial((3, 4), ZeroDivisionError("the first"))
    settings = settings_of(SNDK, safety={"halt_on_disconnect": HaltOnDisconnect.NEVER})
    async with world_of(settings, trading(SNDK), journal=journal, dial=dial) as world:
        await holding(world, SNDK)
        cut(world)
        outcome = await outcome_of(world)
        assert journal.tripped
        assert (outcome.exit_code, outcome.flat) == (4, False)
        assert "the first" in repr(outcome.error)
        position = world.positions()[SNDK]
        assert outcome.residual == (f"position: {position.szi} {SNDK}, entry {position.entry_px}",)
        crashed = [str(n.fields["error"]) for n in world.events("task_crashed")]
        assert crashed[0] == "ZeroDivisionError: the first"
        assert "RuntimeError: no space left to write way_out" in crashed


async def test_ctrl_c_after_a_crash_gives_up(autojump_clock: object) -> None:
    """END-2: the crash was the first request, so one more by the operator gives up, and both are told."""
    journal = Tripwire(event="follow_up")
    async with world_of(settings_of(SNDK), trading(SNDK), journal=journal) as world:
        await holding(world, SNDK)
        async with another_hand(world) as hand:
            await hand.rest_bids(TSLA, 1)
        world.faults.add(lost("cancel", Point.BEFORE_ADMISSION))
        journal.armed = True
        await world.until(lambda: "cancel" in steps(world))
        outcome = await world.end("Ctrl+C")
        assert (outcome.exit_code, outcome.flat, len(outcome.residual)) == (4, False, 2)
        assert outcome.stop_reason.startswith("a task crashed: ")


async def test_an_entry_in_flight_outlives_the_task_that_sent_it(autojump_clock: object) -> None:
    """END-1, END-2: the executor dies right after it sent; the entry lands four seconds later and is closed."""
    journal = Tripwire(event="order_sent", armed=True)
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1, action=Delay(4000))])
    async with world_of(settings_of(SNDK), trading(SNDK), journal=journal, faults=faults) as world:
        outcome = await outcome_of(world)
        assert (outcome.exit_code, outcome.flat) == (5, True)
        assert len(world.fills()) == 2
        assert not world.positions()
        expires_ms = world.exchange.received[0][1].expires_after_ms
        assert expires_ms is not None
        assert outcome.certificate is not None
        verdict = [a for a in outcome.certificate.asked if a.what in ("open orders", "positions")]
        assert verdict
        assert all(a.at_ms > expires_ms for a in verdict)


async def test_posts_that_a_dead_executor_left_are_not_waited_for(autojump_clock: object) -> None:
    """END-1, POST-1: answers have no reader any more, so the way out goes on at once and not after `settle_ms`."""
    journal = Tripwire(event="order_sent", armed=True)
    async with world_of(settings_of(SNDK), trading(SNDK), journal=journal) as world:
        outcome = await outcome_of(world)
        assert (outcome.exit_code, outcome.flat) == (5, True)
        assert world.app is not None
        (settled_ms, word, what), (next_ms, *_) = world.app.progress[:2]
        assert (word, what) == ("settle", "1 posts in flight")
        assert next_ms - settled_ms == 300  # the flatten's first question, on its way at once
