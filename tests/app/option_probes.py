"""What is seen of a run under one configuration: a world, and one thing to look at in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from hip3.core.ids import OrderSide
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Drop, Faults, HttpAnswer, Point, Rule
from hip3.exchange.scripted import ScriptedSource
from hip3.settings.schema import Settings
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import (
    FAST,
    MU,
    NVDA,
    SNDK,
    Script,
    by_hand,
    closes,
    cut_account,
    entries,
    sent,
    stops,
    verdicts,
)

Probe = Callable[[Settings], Awaitable[object]]


def scene(
    script: Script,
    look: Callable[[World], Awaitable[object]],
    *,
    config: ExchangeConfig | None = FAST,
    faults: Callable[[], Faults] = Faults,
) -> Probe:
    """A probe: runs the world of `script` and answers what `look` sees."""

    async def probe(settings: Settings) -> object:
        source: ScriptedSource = script.source()
        async with open_world(settings, source, config=config, faults=faults()) as world:
            return await look(world)

    return probe


def at(ms: int) -> Callable[[World], Awaitable[None]]:
    async def wait(world: World) -> None:
        await world.at(ms)

    return wait


# ---- what is looked at


async def entry_count(world: World) -> object:
    await at(3500)(world)
    return len(entries(world))


def first_entry(key: str) -> Callable[[World], Awaitable[object]]:
    async def look(world: World) -> object:
        await world.until(lambda: bool(entries(world)), 4)
        return entries(world)[0][key]

    return look


def first_closes(count: int, key: str = "p") -> Callable[[World], Awaitable[object]]:
    """A field of the n-th close."""

    async def look(world: World) -> object:
        await world.until(lambda: len(closes(world)) >= count, 9)
        return closes(world)[count - 1][1][key]

    return look


async def held_s(world: World) -> object:
    await world.until(lambda: bool(closes(world)), 9)
    return (closes(world)[0][0] - (world.fills()[0].time_ms - START_MS)) // 1000


async def overdue_s(world: World) -> object:
    await world.until(lambda: bool(world.events("flatten_failed")), 9)
    return int(str(world.events("flatten_failed")[0].fields["age_ms"])) // 1000


async def mode_after_a_cut(world: World) -> object:
    await world.until(lambda: bool(world.events("position_updated")), 4)
    cut_account(world)
    await world.until(lambda: not world.bot.safety.allows_entry, 1)
    return world.bot.safety.mode.name


async def mode_after_a_trade(world: World) -> object:
    await world.until(lambda: bool(world.events("position_closed")), 6)
    await at(5000)(world)
    return world.bot.safety.mode.name


async def entries_of_8_s(world: World) -> object:
    await at(8000)(world)
    return len(entries(world))


async def signals_are_many(world: World) -> object:
    await at(2900)(world)
    return len(verdicts(world)) > 1


async def mode_after_a_doubt(world: World) -> object:
    await world.started.wait()
    await world.until(lambda: "EXECUTION_RETRY_BUDGET_EXCEEDED" in {c.code.value for c in world.bot.safety.causes}, 20)
    return world.bot.safety.mode.name


def verdict_of(coin: str) -> Callable[[World], Awaitable[object]]:
    async def look(world: World) -> object:
        await world.until(lambda: bool(verdicts(world, coin)), 5)
        return verdicts(world, coin)[0]

    return look


async def gap_ms(world: World) -> object:
    await world.until(lambda: len(sent(world)) == 2, 4)
    return sent(world)[1][0] - sent(world)[0][0]


async def queue_was_full(world: World) -> object:
    await at(2500)(world)
    return "Rejected(QueueFull)" in verdicts(world)


async def close_queue_was_full(world: World) -> object:
    await world.until(lambda: len(closes(world)) >= 3, 9)
    return bool(world.events("reduce_only_queue_full"))


async def orders_in_one_action(world: World) -> object:
    await world.until(lambda: len(entries(world)) == 3, 4)
    return max(len(e.raw_action["orders"]) for _, e in sent(world)) > 1


async def why_it_failed(world: World) -> object:
    await world.until(lambda: bool(world.events("send_failure")), 9)
    return world.events("send_failure")[0].fields["why"]


async def expiry_s(world: World) -> object:
    await world.until(lambda: bool(sent(world)), 4)
    at_ms, envelope = sent(world)[0]
    assert envelope.expires_after_ms is not None
    return round((envelope.expires_after_ms - START_MS - at_ms) / 1000)


async def settle_ms(world: World) -> object:
    await world.until(lambda: bool(sent(world)), 4)
    await world.end()
    states = {n.fields["after"]: n.wall_ms for n in world.events("lifecycle")}
    return states["CANCELING"] - states["STOPPING"]


async def flatten_s(world: World) -> object:
    await world.ready()
    world.faults.add(Rule(Point.INFO, HttpAnswer(500), lambda s: s == "frontendOpenOrders", uses=None))
    outcome = await world.end()
    assert outcome.certificate is not None
    return (outcome.certificate.finished_ms - outcome.certificate.started_ms) // 1000


async def way_ms(world: World) -> object:
    """From the client's send to the block that executed it, and from there to the answer."""
    await world.until(lambda: bool(world.events("fill")), 4)
    fill_ms = world.fills()[0].time_ms
    return fill_ms - START_MS - sent(world)[0][0], world.events("post_response")[0].wall_ms - fill_ms


async def is_on_the_half_second(world: World) -> object:
    await world.until(lambda: bool(world.fills()), 4)
    return world.fills()[0].time_ms % 500 == 0


async def cash(world: World) -> object:
    await world.ready()
    return world.exchange.engine.state.account(world.user.lower()).cash["xyz"]


async def assets(world: World) -> object:
    await at(3500)(world)
    return [order["a"] for order in entries(world)]


async def open_three(world: World) -> None:
    """Three positions of one age, so that their time stops are over in one look."""
    await world.ready()
    async with trio.open_nursery() as nursery:
        for coin in (SNDK, MU, NVDA):
            nursery.start_soon(partial(by_hand, world, OrderSide.BUY, "600.1", "0.02", coin=coin))


async def close_of_three(world: World) -> object:
    await open_three(world)
    return await close_queue_was_full(world)


async def first_stop_px(world: World) -> object:
    await world.until(lambda: bool(stops(world)), 4)
    return stops(world)[0][1]["t"]["trigger"]["triggerPx"]


async def cancel_queue_was_full(world: World) -> object:
    """The end of three stops is not heard, so that their cancels are queued in one step."""
    await open_three(world)
    await world.until(lambda: len(world.events("order_open")) == 3, 4)
    world.faults.add(Rule(Point.FRAME, Drop(), lambda s: s == "orderUpdates", uses=None))
    await world.until(lambda: len(world.events("stop_withdrawn")) == 3, 12)
    return bool(world.events("cancel_queue_full"))
