"""Orders in doubt, from the fault to the final truth: the noop that fences a nonce, the budget of questions, and each fault
of the venue that touches an order (POST-4, PROTOCOL 12).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest
import trio
from attrs import frozen

from hip3.core.ids import is_our_cloid
from hip3.core.ledger import TrackedOrder
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Delay, Disconnect, Drop, Duplicate, Faults, HttpAnswer, Point, RefuseText, ReplaceBody, Rule
from hip3.exchange.seam import TimedEvent
from hip3.fsm.order import OrderState
from hip3.fsm.safety import SafetyMode
from hip3.settings.schema import HaltOnDisconnect
from hip3.simulate.world import World
from tests.app.failures.scenes import (
    MU,
    NVDA,
    PRICES,
    SNDK,
    calm,
    cut,
    holding,
    jump,
    lost,
    script,
    settings_of,
    trading,
    unfenced,
    world_of,
)

ROOMY: dict[str, object] = {"max_notional_per_market_usd": Decimal(50), "max_notional_total_usd": Decimal(400)}
BRIEF: dict[str, object] = {"time_stop_ms": 3000}


def twice(coin: str) -> list[list[TimedEvent]]:
    return [calm(coin), jump(coin, 2500), jump(coin, 16_000, bps=80)]


def entry_of(world: World, coin: str = SNDK) -> TrackedOrder:
    """The first entry of a market, as the bot sees it."""
    ledger = world.bot.ledger
    every = [*ledger.orders.values(), *ledger.finished.values()]
    mine = [o for o in every if o.intent.coin == coin and not o.intent.reduce_only]
    return min(mine, key=lambda o: o.intent.created_at_ms)


async def sent(world: World, count: int = 1) -> None:
    await world.ready()
    await world.until(lambda: len(world.entries) == count)


def noops(world: World) -> list[int]:
    """Nonces of the noops that reached the venue."""
    return [e.nonce for _, e in world.exchange.received if e.raw_action["type"] == "noop"]


def order_nonces(world: World) -> list[int]:
    return [e.nonce for _, e in world.exchange.received if e.raw_action["type"] == "order"]


# ---- the fence


async def test_a_noop_with_the_same_nonce_proves_absence_at_once(autojump_clock: object) -> None:
    """POST-4, LESSONS 13, LESSONS 15: lost before admission: the noop is accepted, so the order is EXPIRED long before its
    expiry, and the market trades again with another id and another nonce."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1)])
    async with world_of(settings_of(SNDK), script(*twice(SNDK)), faults=faults) as world:
        await sent(world)
        expires_ms = world.exchange.received[0][1].expires_after_ms
        await world.until(lambda: entry_of(world).state is OrderState.UNKNOWN)
        doubted_ms = world.clock.wall_ms()
        await world.until(lambda: entry_of(world).state is OrderState.EXPIRED)
        assert expires_ms is not None
        assert world.clock.wall_ms() - doubted_ms < 2000 < expires_ms - world.clock.wall_ms()
        assert noops(world) == order_nonces(world)
        assert [n.fields["fenced"] for n in world.events("doubt_fenced")] == ["BURNED"]
        await holding(world, SNDK)
        assert len({o["c"] for o in world.entries}) == len(set(order_nonces(world))) == 2


async def test_an_order_that_the_noop_overtook_is_refused_when_it_lands(autojump_clock: object) -> None:
    """POST-4: nine seconds on its way, the noop is admitted first: what the bot took for absent stays absent."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1, action=Delay(9000))])
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await sent(world)
        await world.until(lambda: entry_of(world).state is OrderState.EXPIRED)
        await world.until(lambda: bool(world.events("post_response")))
        assert [(n.fields["late"], n.fields["refused"]) for n in world.events("post_response")] == [(True, True)]
        await trio.sleep(10)
        assert (world.fills(), world.positions(), world.bot.ledger.held()) == ((), {}, [])
        assert entry_of(world).state is OrderState.EXPIRED


async def test_a_noop_that_finds_its_nonce_used_leaves_the_end_to_the_questions(autojump_clock: object) -> None:
    """POST-4, LESSONS 15: executed unseen and the first question fails: "duplicate nonce" proves admission, not what became
    of it; the next question does. One noop is enough."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.add(*(lost(channel, uses=1) for channel in ("post", "orderUpdates", "userFills")))
        world.faults.add(lost("orderStatus", Point.INFO, uses=1, action=HttpAnswer(500)))
        await sent(world)
        await holding(world, SNDK)
        assert [n.fields["fenced"] for n in world.events("doubt_fenced")] == ["USED"]
        assert (entry_of(world).state, entry_of(world).queries) == (OrderState.FILLED, 2)
        assert noops(world) == order_nonces(world)


async def test_one_noop_answers_for_every_order_of_its_action(autojump_clock: object) -> None:
    """POST-4: two entries went out in one action with one nonce: one accepted noop proves that neither ever was."""
    source = script(calm(*PRICES), jump(MU, 2500), jump(SNDK, 3500), jump(NVDA, 3500))
    settings = settings_of(MU, SNDK, NVDA, executor={"period_ms": 2000}, limits=ROOMY)
    faults = Faults([Rule(Point.BEFORE_ADMISSION, Drop(), lambda kind: kind == "order", skip=1)])
    async with world_of(settings, source, faults=faults) as world:
        await sent(world, 3)
        await world.until(lambda: {entry_of(world, c).state for c in (SNDK, NVDA)} == {OrderState.EXPIRED})
        assert noops(world) == order_nonces(world)[1:]
        await holding(world, MU)


async def test_a_noop_whose_own_answer_was_lost_proves_nothing_twice(autojump_clock: object) -> None:
    """POST-4: the second noop meets the first one's nonce: that is no admission of the order, so the expiry decides."""
    rules = [lost("order", Point.BEFORE_ADMISSION, uses=1), lost("noop", Point.AFTER_COMMIT, uses=1)]
    async with world_of(settings_of(SNDK), trading(SNDK), faults=Faults(rules)) as world:
        await sent(world)
        expires_ms = world.exchange.received[0][1].expires_after_ms
        await world.until(lambda: entry_of(world).state is OrderState.EXPIRED)
        assert expires_ms is not None
        assert 2000 <= world.clock.wall_ms() - expires_ms < 3000
        assert [n.fields["fenced"] for n in world.events("doubt_fenced")] == ["UNKNOWN", "USED"]
        assert not world.positions()


# ---- the budget of questions


async def test_questions_are_few_and_the_last_comes_when_absence_is_proof(autojump_clock: object) -> None:
    """POST-4: without the fence an entry lost before admission takes three questions, the third one after its expiry."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1), unfenced()])
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await sent(world)
        await world.until(lambda: entry_of(world).state is OrderState.EXPIRED)
        assert entry_of(world).queries == 3
        assert world.bot.safety.causes == ()


async def test_a_doubt_that_ends_late_lifts_what_it_held(autojump_clock: object) -> None:
    """POST-4, LESSONS 14: the budget of questions is used up, they go on three in 30 s; the answer clears the cause."""
    patient = settings_of(SNDK, position={"time_stop_ms": 300_000, "reduce_only_timeout_ms": 600_000})
    async with world_of(patient, trading(SNDK)) as world:
        await world.ready()
        world.faults.add(*(lost(channel, uses=1) for channel in ("post", "orderUpdates", "userFills")))
        mute = lost("orderStatus", Point.INFO, action=HttpAnswer(500))
        world.faults.add(mute)
        await sent(world)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.ARMED_SAFE)
        asked = entry_of(world).queries
        await trio.sleep(30)
        assert entry_of(world).queries - asked == 3
        world.faults.rules.remove(mute)
        await holding(world, SNDK)
        assert (world.bot.safety.causes, world.bot.safety.mode) == ((), SafetyMode.ARMED_LIVE)
        assert len(world.entries) == 1


async def test_a_doubt_that_stays_halts_where_the_operator_wants_that(autojump_clock: object) -> None:
    """POST-4, LESSONS 33: with `halt_on_retry_budget` it is a HALT; the venue's position is closed, and the answer that
    comes afterwards lifts nothing."""
    settings = settings_of(SNDK, safety={"halt_on_retry_budget": True})
    async with world_of(settings, trading(SNDK)) as world:
        await world.ready()
        world.faults.add(*(lost(channel, uses=1) for channel in ("post", "orderUpdates", "userFills")))
        mute = lost("orderStatus", Point.INFO, action=HttpAnswer(500))
        world.faults.add(mute)
        await sent(world)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT)
        await world.until(lambda: not world.positions())
        world.faults.rules.remove(mute)
        await world.until(lambda: not world.bot.ledger.orders)
        await trio.sleep(3)
        assert world.bot.safety.mode is SafetyMode.HALT


# ---- each fault of PROTOCOL 12 that touches an order


@frozen
class Case:
    """What goes wrong with the first entry, how it ends, and how many entries the venue executed in the end."""

    rules: Callable[[], list[Rule]]
    ends: OrderState
    fills: int = 2
    config: ExchangeConfig | None = None


def before(action: object) -> Callable[[], list[Rule]]:
    return lambda: [Rule(Point.BEFORE_ADMISSION, action, lambda kind: kind == "order")]  # type: ignore[arg-type]  # any action


def after(action: object) -> Callable[[], list[Rule]]:
    return lambda: [Rule(Point.AFTER_COMMIT, action, lambda kind: kind == "order")]  # type: ignore[arg-type]  # any action


def frames(**actions: object) -> Callable[[], list[Rule]]:
    """The first frame of each channel."""
    return lambda: [lost(channel, uses=1, action=action) for channel, action in actions.items()]  # type: ignore[arg-type]


CASES = {
    "429 before admission": Case(before(HttpAnswer(429)), OrderState.EXPIRED, 0),
    "429 after commit": Case(after(HttpAnswer(429)), OrderState.FILLED),
    "5xx text before admission": Case(before(HttpAnswer(502, "<html>Bad Gateway</html>")), OrderState.EXPIRED, 0),
    "5xx text after commit": Case(after(HttpAnswer(500, "null")), OrderState.FILLED),
    "422": Case(before(HttpAnswer(422, "Failed to deserialize the JSON body")), OrderState.REJECTED, 0),
    "refused before admission": Case(before(RefuseText("Insufficient margin to place order.")), OrderState.REJECTED, 0),
    "reply late after commit": Case(after(Delay(7000)), OrderState.FILLED),
    "reply dropped after commit": Case(after(Drop()), OrderState.FILLED),
    "reply says nothing": Case(after(ReplaceBody("{}")), OrderState.FILLED),
    "cut between answer and update": Case(frames(orderUpdates=Disconnect()), OrderState.FILLED),
    "cut instead of the fill": Case(frames(userFills=Disconnect()), OrderState.FILLED),
    "answer last": Case(frames(post=Delay(2000)), OrderState.FILLED),
    "update last": Case(frames(orderUpdates=Delay(2000)), OrderState.FILLED),
    "fill last": Case(frames(userFills=Delay(2000)), OrderState.FILLED),
    "all reversed": Case(frames(post=Delay(900), orderUpdates=Delay(600), userFills=Delay(300)), OrderState.FILLED),
    "everything twice": Case(frames(post=Duplicate(), orderUpdates=Duplicate(), userFills=Duplicate()), OrderState.FILLED),
    "unknownOid right after accept": Case(
        frames(post=Drop(), orderUpdates=Drop(), userFills=Drop()),
        OrderState.FILLED,
        config=ExchangeConfig(order_status_delay_ms=1100),
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_each_fault_of_an_order_ends_in_the_venues_truth(name: str, autojump_clock: object) -> None:
    """POST-3, POST-4, EXE-3, PROTOCOL 12: whatever befalls the first entry, it goes out once, the bot ends with what the
    venue has, the position is closed once, and the market trades again."""
    case = CASES[name]
    settings = settings_of(SNDK, safety={"halt_on_disconnect": HaltOnDisconnect.NEVER}, position=BRIEF)
    async with world_of(settings, script(*twice(SNDK)), config=case.config) as world:
        await world.ready()
        world.faults.add(*case.rules())
        await sent(world)
        await world.until(lambda: trio.current_time() > 15)
        assert entry_of(world).state is case.ends
        assert len(world.fills()) == case.fills
        assert len(world.entries) == 1
        await sent(world, 2)
        await world.until(lambda: len(world.fills()) == case.fills + 2)
        await world.until(lambda: not world.bot.ledger.orders and not world.bot.ledger.held())
        assert (world.positions(), world.open_orders(), world.bot.posts.in_flight) == ({}, (), 0)
        assert world.bot.trader is not None
        assert len(world.bot.trader.position.trades) == (case.fills + 2) // 2
        assert world.bot.safety.causes == ()


async def test_the_snapshot_after_a_reconnect_brings_no_fill_twice(autojump_clock: object) -> None:
    """RDY-3, LESSONS 17, PROTOCOL 12: the fills come again as a snapshot; position, trades and tally stay what they are."""
    settings = settings_of(SNDK, safety={"halt_on_disconnect": HaltOnDisconnect.NEVER}, position={"time_stop_ms": 20_000})
    async with world_of(settings, trading(SNDK)) as world:
        await holding(world, SNDK)
        for _ in range(2):
            cut(world)
            await world.until(lambda: not world.bot.ready.is_ready)
            await world.ready()
            assert world.bot.ledger.position(SNDK).szi == world.positions()[SNDK].szi
        await world.until(lambda: not world.positions())
        await world.until(lambda: not world.bot.ledger.held())
        assert (world.bot.tally.fills, len(world.fills())) == (2, 2)


@pytest.mark.parametrize("condition", ["halted", "post_only"])
async def test_what_the_venue_refuses_for_a_while_goes_on_when_it_stops(condition: str, autojump_clock: object) -> None:
    """EXIT-3, PROTOCOL 12: entry, then the market halts or takes only post-only orders: closes are refused with growing
    pauses, nothing is in doubt, and the first after it closes."""
    async with world_of(settings_of(SNDK, position=BRIEF), trading(SNDK)) as world:
        await holding(world, SNDK)
        state = world.faults.world
        if condition == "halted":
            state.halted.add(SNDK)
        else:
            state.post_only = True
        await trio.sleep(30)
        refused = len(world.closes)
        assert 5 <= refused <= 12
        assert world.events("in_doubt") == []
        state.halted.clear()
        state.post_only = False
        await world.until(lambda: not world.positions(), 7)
        await world.until(lambda: not world.bot.ledger.held())
        assert len(world.fills()) == 2


async def test_a_status_that_nobody_knows_is_asked_about(autojump_clock: object) -> None:
    """POST-4, TYP-5, PROTOCOL 12: an update with a new status is doubt: the venue is asked, and its answer is the truth."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.add(*(lost(channel, uses=1) for channel in ("post", "userFills")))
        await sent(world)
        (order,) = world.entries
        assert is_our_cloid(order["c"])
        row = {"coin": SNDK, "side": "B", "limitPx": order["p"], "sz": "0.0", "origSz": order["s"], "cloid": order["c"]}
        now = world.clock.wall_ms()
        update = {"order": {**row, "oid": 999_999, "timestamp": now}, "status": "teleported", "statusTimestamp": now}
        body = json.dumps({"channel": "orderUpdates", "data": [update]})
        world.faults.add(lost("orderUpdates", uses=1, action=ReplaceBody(body)))
        await world.until(lambda: bool(world.events("in_doubt")))
        assert "teleported" in str(world.events("in_doubt")[0].fields["why"])
        await holding(world, SNDK)
        assert entry_of(world).state is OrderState.FILLED
