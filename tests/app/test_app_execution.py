"""What the position task and the executor measure and tell: slippage of trades, entries that could not be sent."""

from __future__ import annotations

from decimal import Decimal

from hip3.core.ids import OrderSide
from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, bot_settings, by_hand, dislocated

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
