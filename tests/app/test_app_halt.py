"""HALT in detail: a second one, a kill in the middle, orders elsewhere, a venue that is silent (STOP-2, LESSONS 7, 9)."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.core.ids import OrderSide, TimeInForce
from hip3.exchange.faults import HttpAnswer, Point, Rule
from hip3.fsm.safety import SafetyMode
from hip3.ops.certificates import FOLDER, keep_in
from hip3.simulate.world import World
from tests.app.failures.scenes import (
    AMD,
    MU,
    NVDA,
    PRICES,
    SNDK,
    TSLA,
    D,
    another_hand,
    calm,
    cut,
    holding,
    quotes,
    refuse_connections,
    script,
    settings_of,
    trading,
    world_of,
)


async def certified(world: World) -> None:
    """Until HALT has ended flat."""
    await world.until(lambda: any(n.fields["flat"] for n in world.events("halt_flatten")), within_s=120)


async def test_a_second_halt_joins_the_first(autojump_clock: object) -> None:
    """STOP-2, LESSONS 8: another cause while the flatten runs: one flatten at a time, one close, and both causes stand."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        cut(world)
        await world.until(lambda: bool(world.actions("order")[1:]))
        world.bot.safety.add(ReasonCode.OPERATOR_KILL, Severity.HALT, "operator", "prices look wrong", Clears.OPERATOR)
        await certified(world)
        assert len(world.closes) == 1
        assert world.positions() == {}
        assert world.bot.safety.mode is SafetyMode.HALT
        halting = {c.code for c in world.bot.safety.causes if c.severity is Severity.HALT}
        assert halting == {ReasonCode.WS_DISCONNECT, ReasonCode.OPERATOR_KILL}


async def test_a_bot_killed_in_the_middle_of_its_flatten_goes_on_after_the_restart(autojump_clock: object) -> None:
    """STOP-2, LESSONS 9: `kill -9` while HALT is closing: the next run finds the HALT and the position, and ends it flat."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.world.one_sided[SNDK] = OrderSide.BUY
        cut(world)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT)
        await trio.sleep(2)
        await world.kill()
        world.faults.world.one_sided.clear()
        world.restart()
        await world.started.wait()
        await world.until(lambda: not world.positions(), within_s=60)
        assert world.bot.safety.mode is SafetyMode.HALT
        assert (await world.end()).flat


async def test_orders_on_a_dex_that_the_bot_never_traded_are_cancelled(autojump_clock: object) -> None:
    """STOP-2, LESSONS 7: HALT empties the whole account: an order and a position on the main dex go as well."""
    btc = [(0, quotes("BTC", D(90_000), sz="1"))]
    async with world_of(settings_of(SNDK), script(calm(*PRICES), btc)) as world:
        world.exchange.fund(world.user, "", D(1000))
        await world.ready()
        async with another_hand(world) as hand:
            await hand.place(hand.order("BTC", OrderSide.BUY, D(91_000), "0.001", TimeInForce.IOC))
            await hand.place(hand.order("BTC", OrderSide.BUY, D(80_000), "0.001"))
        assert (set(world.positions()), len(world.open_orders())) == ({"BTC"}, 1)
        world.bot.safety.add(ReasonCode.OPERATOR_KILL, Severity.HALT, "operator", "all of it", Clears.OPERATOR)
        await certified(world)
        assert (world.positions(), world.open_orders()) == ({}, ())


async def test_a_flatten_whose_every_question_fails_goes_on(autojump_clock: object, tmp_path: Path) -> None:
    """STOP-2, LESSONS 7: nothing is answered for a minute: never flat, said loudly each time, and flat when it can know."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        assert world.app is not None
        world.app.keep_certificate = keep_in(tmp_path, 1)
        world.faults.add(Rule(Point.INFO, HttpAnswer(500), uses=None))
        cut(world)
        await trio.sleep(60)
        tries = world.events("halt_flatten")
        assert len(tries) >= 2
        assert all(n.level == "critical" and "not known" in str(n.fields["residual"]) for n in tries)
        assert world.positions()
        world.faults.rules.clear()
        await certified(world)
        assert world.positions() == {}
        kept = [json.loads(path.read_text()) for path in sorted((tmp_path / FOLDER).glob("*.json"))]
        assert [c["flat"] for c in kept][-1] is True
        assert kept[-1]["reason"] == "HALT: WS_DISCONNECT"
        assert all(not c["flat"] for c in kept[:-1])


async def test_a_certificate_that_cannot_be_kept_is_told(autojump_clock: object, tmp_path: Path) -> None:
    """STOP-2: the disk fails: the flatten ends as ever, and the journal says why there is no file."""
    (tmp_path / FOLDER).write_text("in the way")
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await holding(world, SNDK)
        assert world.app is not None
        world.app.keep_certificate = keep_in(tmp_path, 1)
        assert (await world.end()).exit_code == 0
        assert str(tmp_path / FOLDER) in str(world.events("certificate_not_kept")[0].fields["why"])


async def five_and_fifty(world: World) -> None:
    """Five positions and fifty resting orders."""
    await holding(world, SNDK)
    async with another_hand(world) as hand:
        for coin in (NVDA, TSLA, MU, AMD):
            await hand.take(coin, OrderSide.BUY, "0.2")
        for coin in PRICES:
            await hand.rest_bids(coin, 10)
    assert (len(world.positions()), len(world.open_orders())) == (5, 50)


async def test_from_signal_to_flat_in_three_seconds(autojump_clock: object) -> None:
    """END-1: five positions and fifty orders on the default paper venue (350 ms from send to answer), two dexes."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await five_and_fifty(world)
        began_ms = world.clock.wall_ms()
        outcome = await world.end()
        assert outcome.certificate is not None
        assert outcome.flat
        assert outcome.certificate.finished_ms - began_ms < 3000


async def test_from_a_dead_websocket_to_flat_in_six_seconds(autojump_clock: object) -> None:
    """END-4, STOP-3: the same, the links cut and nobody can connect any more."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await five_and_fifty(world)
        refuse_connections(world)
        began = trio.current_time()
        cut(world)
        await certified(world)
        assert (world.positions(), world.open_orders()) == ({}, ())
        assert trio.current_time() - began < 6
