"""What is measured and asked beside an order's straight way: slippage, open orders in doubt, fills that no frame brought."""

from __future__ import annotations

from decimal import Decimal

import trio

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Drop, Faults, Point, Rule
from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, bot_settings, by_hand, dislocated, stops

LONG = {"position.time_stop_ms": 100_000, "position.reduce_only_timeout_ms": 200_000}
BRIEF = {"position.time_stop_ms": 3000, "position.reduce_only_timeout_ms": 60_000}


async def test_each_trade_tells_risk_of_its_slippage() -> None:
    """POS-2, JRN-1: expected less actual edge, with the signal, when the trade ends; a loss of 3 bps costs more than
    was expected by as much."""
    async with open_world(bot_settings(BRIEF), dislocated().pulse(20).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("slippage_measured")), 10)
        (note,), (closed,) = world.events("slippage_measured"), world.events("position_closed")
        expected, actual = (Decimal(str(closed.fields[name])) for name in ("expected_edge_bps", "actual_edge_bps"))
        assert note.fields["slippage_bps"] == expected - actual > expected > 0
        assert note.fields["signal"] == closed.fields["signal"] is not None


async def test_a_trade_that_no_signal_began_has_no_slippage() -> None:
    """POS-2, JRN-1: nothing was expected of a position that the owner opened by hand, so nothing is measured."""
    settings = bot_settings({**BRIEF, "detector.min_edge_bps": 500})
    async with open_world(settings, dislocated().pulse(20).source(), config=FAST) as world:
        await world.ready()
        await by_hand(world, OrderSide.BUY, "601", "0.05")
        await world.until(lambda: bool(world.events("position_closed")), 10)
        await world.end()
        assert world.events("slippage_measured") == []


async def test_an_order_that_the_status_does_not_know_is_found_among_the_open_ones() -> None:
    """POST-4, LESSONS 14: a stop whose answer and frames are lost, with `unknownOid` for ever: it rests, so it is
    neither given up nor placed again, and no noop is needed."""
    settings = bot_settings({**LONG, "position.protective_stop_bps": 100})
    faults = Faults(
        [
            Rule(Point.FRAME, Drop(), lambda s: s == "orderUpdates", uses=None),
            Rule(Point.FRAME, Drop(), lambda s: s == "post", skip=1),
        ]
    )
    async with open_world(settings, dislocated().pulse(30).source(), config=FAST, faults=faults) as world:
        await world.ready()
        faults.world.unknown_order_status = True
        await world.until(lambda: bool(world.events("order_open")), 12)
        assert [(n.fields["status"], n.fields["fills"]) for n in world.events("doubt_answered")] == [("open", 0)]
        await trio.sleep(10)
        assert (len(stops(world)), len(world.open_orders()), world.actions("noop")) == (1, 1, [])
        assert world.bot.safety.allows_entry  # open is an answer: no budget of questions was used up


async def test_trades_that_no_frame_told_of_are_found_by_the_next_comparison() -> None:
    """POS-3, LESSONS 18: bought and sold by the owner with both frames lost: the sizes agree, and within a minute the fills
    that are read beside them make the trade, for the tally and for the loss limit."""
    settings = bot_settings({**LONG, "detector.min_edge_bps": 500})
    async with open_world(settings, dislocated().pulse(90).source(), config=FAST) as world:
        await world.ready()
        world.faults.add(Rule(Point.FRAME, Drop(), lambda s: s == "userFills", uses=2))
        for side, px in ((OrderSide.BUY, "601"), (OrderSide.SELL, "599")):
            await by_hand(world, side, px, "0.05")
        assert world.bot.tally.fills == 0
        await world.until(lambda: world.bot.tally.trades == 1, 65)
        assert (world.bot.tally.fills, world.events("position_corrected"), world.events("in_doubt")) == (2, [], [])
        assert world.bot.limits.pnl_usd == world.bot.tally.pnl_usd < 0
