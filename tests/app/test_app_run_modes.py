"""Runs that do not trade: dry runs and backfills (REC-5)."""

from __future__ import annotations

import trio

from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.records import IntentRecord, ResultRecord
from hip3.core.remembered import remembered_from
from hip3.core.run_mode import RunMode
from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, SNDK, Script, bot_settings, by_hand, dislocated
from tests.app.restarts import STOPS, trades


async def test_a_dry_run_decides_everything_and_sends_nothing() -> None:
    """REC-5, LESSONS 42: signals pass the gates and are signed; no action leaves, nothing is filled, results say why."""
    source = dislocated().rising(4, 8).pulse(60).source()
    async with open_world(bot_settings(STOPS), source, config=FAST, run_mode=RunMode.DRY_RUN) as world:
        await world.ready()
        await world.until(lambda: len(world.events("dry_run")) >= 3, 30)
        assert (await world.end()).exit_code == 0
        assert not world.exchange.received
        results = [r for r in world.recorder.records if isinstance(r, ResultRecord)]
        assert {r.error for r in results} == {"dry run: not sent"}
        assert all(r.is_terminal for r in results)
        assert not [r for r in world.recorder.records if isinstance(r, IntentRecord)]
        assert (world.bot.tally.entries_filled, world.bot.tally.fills, world.bot.ledger.held()) == (0, 0, [])


async def test_a_dry_run_touches_nothing_that_it_finds() -> None:
    """REC-5: another's position and order are as they were when a dry run ends; it says what it saw and exits 0."""
    async with open_world(bot_settings(STOPS), Script().calm().pulse(60).source(), config=FAST) as world:
        await world.ready()
        await world.kill()
        await by_hand(world, OrderSide.BUY, "610", "0.1")
        await by_hand(world, OrderSide.BUY, "580", "0.1", tif=TimeInForce.GTC)
        before = len(world.exchange.received)
        world.restart(run_mode=RunMode.DRY_RUN)
        await world.started.wait()
        await trio.sleep(20)  # longer than the time stop
        outcome = await world.end()
        assert (len(world.exchange.received), outcome.exit_code) == (before, 0)
        assert len(outcome.residual) == 2


async def test_backfill_only_brings_the_books_up_to_date_and_ends() -> None:
    """REC-5: fills made meanwhile are booked, the cursor moves, nothing is sent, and the run ends by itself."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        await world.kill()
        cursor = remembered_from(world.recorder.records, 0).cursor_ms
        await by_hand(world, OrderSide.SELL, "590", str(world.positions()[SNDK].szi), reduce_only=True)
        before = len(world.exchange.received)
        world.restart(run_mode=RunMode.BACKFILL_ONLY)
        await world.started.wait()
        with trio.fail_after(30):
            await world.ended.wait()
        assert world.result is not None
        assert (world.result.outcome.exit_code, world.result.outcome.stop_reason) == (0, "the books are up to date")
        assert len(trades(world)) == 1
        moved = remembered_from(world.recorder.records, 0).cursor_ms
        assert moved is not None
        assert cursor is not None
        assert moved > cursor
        assert len(world.exchange.received) == before
