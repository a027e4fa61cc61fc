"""Funding: from the hour at the venue to the trade, the counters and the books of the next run (JRN-1)."""

from __future__ import annotations

from decimal import Decimal

from hip3.core.records import StateRecord, TradeRecord
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import CtxChange
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, SNDK, Script, bot_settings

D = Decimal
HOUR_S = 3600
RATE = D("0.0005")
KEYS = {"position.time_stop_ms": 30_000}


def over_the_hour() -> ScriptedSource:
    """One signal ten seconds before the hour; what is bought then is held for thirty."""
    script = Script()
    script.calm().pulse(HOUR_S + 60).oracle(HOUR_S * 1000 - 10_500, "602").oracle(HOUR_S * 1000 - 9_500, "600")
    script.events.append((0, CtxChange(SNDK, funding=RATE)))
    return script.source()


def trade(world: World) -> TradeRecord:
    (row,) = [r for r in world.recorder.records if isinstance(r, TradeRecord)]
    return row


async def test_a_trade_over_the_hour_has_its_funding_once() -> None:
    """JRN-1, REC-2, LESSONS 17: a long pays a positive rate on its oracle value; a restart meanwhile, and the history that
    comes with each subscription, pay nothing twice; profit and counters have it."""
    async with open_world(bot_settings(KEYS), over_the_hour(), config=FAST) as world:
        await world.until(lambda: bool(world.events("funding")), HOUR_S + 60)
        (said,) = world.events("funding")
        await world.kill()
        world.restart()
        await world.started.wait()
        await world.until(lambda: bool(world.events("position_closed")), 60)
        row = trade(world)
        assert row.funding_usd == said.fields["usd"] == -(row.sz * 600 * RATE).quantize(D("0.000001"))
        pnl = row.realized_usd - row.fees_usd + row.funding_usd
        assert world.events("position_closed")[0].fields["pnl_usd"] == pnl
        assert world.bot.limits.pnl_usd == pnl
        assert (await world.end()).exit_code == 0
        states = {r.key: r.value for r in world.recorder.records if isinstance(r, StateRecord)}
        assert D(str(states["risk.pnl_usd"])) == pnl
