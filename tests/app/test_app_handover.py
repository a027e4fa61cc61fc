"""What happens while an order is being handed over, and what nobody expects: every end is told and leaves nothing behind."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import trio
from attrs import evolve

from hip3.core.ids import OrderSide
from hip3.core.ledger import TrackedOrder
from hip3.exchange.faults import Drop, Faults, HttpAnswer, Point, RefuseText, ReplaceBody, Rule
from hip3.fsm.order import OrderState
from hip3.simulate.world import World, open_world
from hip3.tasks import channels
from tests.app.app_builders import (
    AMD,
    ASSETS,
    FAST,
    MU,
    NVDA,
    SNDK,
    Script,
    bot_settings,
    by_hand,
    dislocated,
    entries,
    judged,
    stops,
    verdicts,
)
from tests.app.failures.plumbing import Plumbing

HAND_BUYS = (OrderSide.BUY, "601", "0.05")
BRIEF = {"position.time_stop_ms": 3000, "position.reduce_only_timeout_ms": 60_000}


def two_markets() -> Script:
    """SNDK gives a signal at 2 s, MU at 3 s and, further, at 4 s."""
    script = Script().calm(SNDK, MU).pulse(40).pulse(40, coin=MU).oracle(1500, "602")
    return script.oracle(2500, "602", coin=MU).oracle(3500, "604", coin=MU)


async def handing_over(world: World, pipes: Plumbing) -> TrackedOrder:
    """Until the entry of SNDK is offered to a socket that takes nothing."""
    await world.ready()
    pipes.shut()
    await world.until(lambda: any(o.state is OrderState.SENT for o in world.bot.ledger.orders.values()), 5)
    (order,) = world.bot.ledger.orders.values()
    return order


async def test_a_newer_signal_takes_the_place_of_one_that_was_not_taken() -> None:
    """DESIGN 4, MD-1: the executor is busy handing over; of two signals of another market the newer is judged alone."""
    pipes = Plumbing()
    async with open_world(
        bot_settings(coins=(SNDK, MU)), two_markets().source(), config=FAST, through=pipes.through
    ) as world:
        await handing_over(world, pipes)
        await world.until(lambda: bool(world.events("signal_replaced")), 4)
        assert entries(world) == []
        pipes.shut(shut=False)
        await world.until(lambda: len(entries(world)) == 2, 2)
        (replaced,) = world.events("signal_replaced")
        assert [n.fields["signal"] for n in judged(world, "Queued")][1] == replaced.fields["by"]
        assert (world.bot.signals.replaced, world.bot.signal_book.count) == (1, 3)
        assert [o["a"] for o in entries(world)] == [ASSETS[SNDK], ASSETS[MU]]


async def test_a_hard_stop_between_hand_over_and_registration_keeps_the_entry_out() -> None:
    """EXE-4, GATE-3: a signal lies with a busy executor when the account can no longer be read: it is judged after that,
    and is never registered. The order that was being handed over before goes its way."""
    pipes = Plumbing()
    script = Script().calm(SNDK, MU).pulse(80).pulse(80, coin=MU).oracle(57_500, "602").oracle(58_500, "602", coin=MU)
    async with open_world(bot_settings(coins=(SNDK, MU)), script.source(), config=FAST, through=pipes.through) as world:
        await world.ready()
        world.faults.add(Rule(Point.INFO, HttpAnswer(500), lambda s: s == "clearinghouseState", uses=None))
        await trio.sleep(56)
        await handing_over(world, pipes)
        await world.until(lambda: not world.bot.safety.allows_entry, 5)
        assert (verdicts(world), world.bot.signals.peak) == ([], 1)
        pipes.shut(shut=False)
        await world.until(lambda: len(verdicts(world)) == 2, 1)
        assert verdicts(world) == ["Queued", "Rejected(HardStop)"]
        assert {o.intent.coin for o in [*world.bot.ledger.orders.values(), *world.bot.ledger.finished.values()]} == {SNDK}
        await trio.sleep(5)
        assert [o["a"] for o in entries(world)] == [ASSETS[SNDK]]


async def test_a_contradiction_on_our_own_path_ends_flat() -> None:
    """DESIGN 5: the venue lists as open an order of which no byte left. Refused by the order machine in the executor's own
    step, this is no doubt but a broken path: the bot leaves, flat, with exit code 5."""
    pipes = Plumbing()
    settings = bot_settings({"safety.halt_on_disconnect": "never"})
    async with open_world(settings, dislocated(22).pulse(40).source(), config=FAST, through=pipes.through) as world:
        await world.ready()
        await trio.sleep(19.8)
        pipes.shut()  # the ping of 20 s stands before the order
        await world.until(lambda: any(o.state is OrderState.SENT for o in world.bot.ledger.orders.values()), 5)
        (order,) = world.bot.ledger.orders.values()
        row = {"coin": SNDK, "side": "B", "limitPx": "600", "sz": "0.05", "origSz": "0.05", "oid": 1, "timestamp": 1}
        said = [{"order": {**row, "cloid": order.cloid.value}, "status": "open", "statusTimestamp": 1}]
        frame = json.dumps({"channel": "orderUpdates", "data": said})
        world.faults.add(Rule(Point.FRAME, ReplaceBody(frame), lambda s: s == "userFills"))
        await by_hand(world, *HAND_BUYS)
        await world.until(lambda: order.state is OrderState.OPEN, 1)
        with trio.fail_after(60):
            await world.ended.wait()
        assert world.result is not None
        outcome = world.result.outcome
        assert (outcome.exit_code, outcome.flat, world.positions()) == (5, True, {})
        assert "UNSENT" in str(world.events("task_crashed")[0].fields["error"])


async def test_a_fact_that_finds_no_room_ends_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """GATE-3, LESSONS 16: with room for one fact the three orders of one answer do not fit: nothing is dropped in silence,
    no market stays marked behind it; the bot says which reader was slow, and leaves flat."""
    monkeypatch.setattr(channels, "FACTS", evolve(channels.FACTS, capacity=1))
    coins = (SNDK, MU, NVDA, AMD)
    script = Script().calm(*coins).oracle(1500, "602")
    for coin in coins:
        script.pulse(40, coin=coin).oracle(2500 if coin != SNDK else 1500, "602", coin=coin)
    small = {"executor.period_ms": 3000, "detector.max_order_notional_usd": 15}  # the later three share an action
    async with open_world(bot_settings(small, coins=coins), script.source(), config=FAST) as world:
        with trio.fail_after(60):
            await world.ended.wait()
        assert world.result is not None
        outcome = world.result.outcome
        assert (len(entries(world)), outcome.exit_code, outcome.flat, world.positions()) == (4, 5, True, {})
        assert "channel facts (position) is full at 1" in str(world.events("task_crashed")[0].fields["error"])


async def test_a_cancel_refused_for_want_of_budget_is_sent_again() -> None:
    """GATE-5, BAT-5: the venue's budget is used up when a stop is taken back: the cancel waits at the head of its queue and
    goes with the next action that may, under the same id."""
    settings = bot_settings(
        {"position.protective_stop_bps": 100, "position.time_stop_ms": 90_000, "position.reduce_only_timeout_ms": 99_000}
    )
    async with open_world(settings, dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: len(world.events("order_open")) == 1 if world.app else False, 8)
        refuse = RefuseText("Too many cumulative requests sent (10001 > 10000) for cumulative volume traded $1.")
        world.faults.add(Rule(Point.BEFORE_ADMISSION, refuse, lambda s: s == "cancelByCloid"))
        await by_hand(world, *HAND_BUYS)
        await world.until(lambda: len(world.events("budget_exhausted")) == 1, 5)
        await world.until(lambda: len(world.actions("cancelByCloid")) == 2, 25)
        first, second = world.actions("cancelByCloid")
        assert first == second
        times = [at for at, e in world.exchange.received if e.raw_action["type"] == "cancelByCloid"]
        assert times[1] - times[0] >= 10_000
        await world.until(lambda: len(world.open_orders()) == 1, 1)
        assert world.open_orders()[0].cloid == stops(world)[-1][1]["c"]


async def test_a_fill_of_a_kind_that_nobody_knows_moves_the_position() -> None:
    """TYP-5, POS-1: `dir` is the venue's word and an open set; side and size say what happened, and the exit follows."""
    faults = Faults()
    async with open_world(bot_settings(BRIEF), dislocated().pulse(30).source(), config=FAST, faults=faults) as world:
        await world.ready()
        faults.add(Rule(Point.FRAME, Drop(), lambda s: s == "userFills"))
        await world.until(lambda: bool(world.positions()), 5)
        rows = world.exchange.info.answer({"type": "userFills", "user": world.user})
        strange = json.dumps([{**row, "dir": "Borne Sideways"} for row in rows])
        faults.add(Rule(Point.INFO, ReplaceBody(strange), lambda s: s == "userFillsByTime"))
        await world.until(lambda: world.bot.ledger.position(SNDK).szi != 0, 10)
        assert world.bot.ledger.position(SNDK).szi == world.positions()[SNDK].szi
        await world.until(lambda: world.bot.tally.trades == 1, 10)
        assert (world.positions(), world.bot.ledger.held()) == ({}, [])
        assert world.bot.tally.fees_usd == sum((f.fee for f in world.fills()), Decimal(0))
