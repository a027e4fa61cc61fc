"""A run that goes on from what another left: killed at some moment, started again, against the same exchange (SPEC 19)."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from attrs import evolve

from hip3.core.causes import Severity
from hip3.core.gates import Refusal, Verdict
from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.records import IntentRecord, StateRecord
from hip3.core.remembered import remembered_from
from hip3.core.scribe import NONCE_KEY
from hip3.exchange.faults import Delay, Drop, Point, Rule
from hip3.fsm.order import OrderState
from hip3.fsm.safety import SafetyMode
from hip3.ops.commands import Operator
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, NVDA, SLOW, SNDK, bot_settings, by_hand, closes, dislocated, entries, judged
from tests.app.restarts import STOPS, again, trades

D = Decimal


async def test_a_position_outlives_the_process_and_its_time_stop_is_not_reset() -> None:
    """EXIT-1, LESSONS 11, 38, REC-1: killed while holding, started again: same entry time, closed when due, one trade."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        entry_ms = world.fills()[0].time_ms
        await again(world, 3)
        await world.ready()
        position = world.bot.ledger.position(SNDK)
        assert (position.szi, position.entry_ms) == (world.positions()[SNDK].szi, entry_ms)
        await world.until(lambda: not world.positions(), 20)
        assert 8000 < world.fills()[-1].time_ms - entry_ms < 8500
        assert (await world.end()).exit_code == 0
        (trade,) = trades(world)
        assert (trade.entry_ms, trade.signal_id) == (entry_ms, world.recorder.records and _first_signal(world))
        assert trade.expected_edge_bps is not None
        assert trade.fees_usd == sum((f.fee for f in world.fills()), D(0))  # the entry's fee was paid by the run before


def _first_signal(world: World) -> str | None:
    return next(r.signal_id for r in world.recorder.records if isinstance(r, IntentRecord))


async def test_a_close_that_was_begun_before_the_kill_is_carried_on() -> None:
    """EXIT-3, REC-1: killed while a closing order is lost on its way, and its reason was not stored: the next run proves the
    order absent and closes what is left, whatever the prices do meanwhile."""
    rules = {"position.take_profit_bps": 20, "position.time_stop_ms": 90_000, "position.reduce_only_timeout_ms": 120_000}
    script = dislocated().quote(6000, "603", "603.2").quote(6600, "600.1", "600.3").pulse(80)
    async with open_world(bot_settings(rules), script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()))
        world.faults.add(Rule(Point.BEFORE_ADMISSION, Drop(), lambda kind: kind == "order", uses=1))
        await world.until(lambda: any(isinstance(r, IntentRecord) and r.reduce_only for r in world.recorder.records), 20)
        await again(world)
        (lost,) = world.bot.ledger.orders
        await world.until(lambda: bool(trades(world)), 60)
        assert world.bot.ledger.finished[lost].state is OrderState.EXPIRED
        assert (await world.end()).exit_code == 0
        assert [trade.exit_reason for trade in trades(world)] == ["recovered"]


async def test_an_order_under_way_at_the_kill_is_asked_about_and_never_sent_again() -> None:
    """REC-1, POST-4, LESSONS 13: its intent was stored before its bytes left, so the next run knows what to ask for."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=SLOW) as world:
        await world.until(lambda: any(isinstance(r, IntentRecord) for r in world.recorder.records))
        (intent,) = [r for r in world.recorder.records if isinstance(r, IntentRecord)]
        assert not world.positions()  # it is on its way for 1.5 s
        await again(world, 0.2)
        order = world.bot.ledger.find(intent.cloid, None)
        assert order is not None
        assert order.state is OrderState.UNKNOWN
        await world.until(lambda: SNDK in world.positions())
        await world.until(lambda: world.bot.ledger.position(SNDK).szi == world.positions()[SNDK].szi, 10)
        await world.until(lambda: not world.positions(), 20)
        assert len(entries(world)) == 1
        assert (await world.end()).exit_code == 0
        (trade,) = trades(world)
        assert trade.signal_id == intent.signal_id


async def test_an_order_that_never_arrived_is_proved_absent_after_a_restart() -> None:
    """POST-4, REC-1: killed with an order lost on its way: its nonce is burned, the market is free, nothing was opened."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.ready()
        world.faults.add(Rule(Point.BEFORE_ADMISSION, Drop(), lambda kind: kind == "order", uses=1))
        await world.until(lambda: any(isinstance(r, IntentRecord) for r in world.recorder.records))
        (intent,) = [r for r in world.recorder.records if isinstance(r, IntentRecord)]
        await again(world)
        await world.until(lambda: not world.bot.ledger.orders, 20)
        order = world.bot.ledger.find(intent.cloid, None)
        assert order is not None
        assert order.state is OrderState.EXPIRED
        assert not world.positions()
        assert (await world.end()).exit_code == 0


async def test_fills_that_came_while_nobody_listened_are_booked_once() -> None:
    """REC-1, REC-2, LESSONS 18: the owner closes the position between two runs: one trade, by the fills since the cursor."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        await world.kill()
        held = world.positions()[SNDK].szi
        await by_hand(world, OrderSide.SELL, "590", str(held), reduce_only=True)
        world.restart()
        await world.started.wait()
        await world.until(lambda: len(trades(world)) == 1, 10)
        assert world.bot.ledger.position(SNDK).szi == 0
        assert closes(world)[1:] == []  # the owner's own; the bot had nothing left to close
        await world.until(lambda: world.bot.ready.is_ready)
        assert (await world.end()).exit_code == 0
        assert len({f.key for f in world.fills()}) == 2


async def test_daily_counts_are_those_of_the_day() -> None:
    """GATE-6, LESSONS 36: the entries and the loss of the day are counted from what was stored; a restart resets nothing."""
    settings = bot_settings({**STOPS, "safety.max_daily_trades": 1})
    source = dislocated().rising(20, 30).pulse(60).source()
    async with open_world(settings, source, config=FAST) as world:
        await world.until(lambda: bool(world.events("position_closed")), 20)
        pnl = world.bot.limits.pnl_usd
        assert pnl != 0
        await again(world)
        await world.ready()
        assert (world.bot.limits.entries, world.bot.limits.pnl_usd) == (1, pnl)
        await world.until(lambda: bool(judged(world, str(Verdict(Refusal.DAILY_TRADE_LIMIT)))), 60)
        assert len(entries(world)) == 1
        assert (await world.end()).exit_code == 0


async def test_nonces_go_on_above_the_last_ones_although_the_clock_stepped_back() -> None:
    """NON-1: the last nonce issued is kept; a run whose clock is behind it still issues higher ones."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()))
        assert int(remembered_from(world.recorder.records, 0).nonce) >= max(e.nonce for _, e in world.exchange.received)
        await world.kill()
        last = world.clock.wall_ms() + 60_000  # as a run left it whose clock was a minute ahead of ours
        world.recorder.commits.append((StateRecord(NONCE_KEY, str(last), 0),))
        world.restart()
        await world.started.wait()
        assert world.bot.nonces.next() > last


async def test_resting_orders_of_an_earlier_run_are_cancelled() -> None:
    """REC-1, EXIT-5: a protective stop left by a run whose memory is gone is ours by its id, and is cancelled."""
    settings = bot_settings({**STOPS, "position.protective_stop_bps": 100})
    async with open_world(settings, dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: len(world.open_orders()) == 1)
        await world.kill()
        await by_hand(world, OrderSide.SELL, "590", str(world.positions()[SNDK].szi), reduce_only=True)
        (left,) = world.open_orders() or (None,)
        world.recorder.commits.clear()  # another machine, or a lost disk
        world.restart()
        await world.started.wait()
        await world.until(lambda: not world.open_orders(), 20)
        if left is not None:
            assert world.events("stray_order")
        assert (await world.end()).exit_code == 0


async def test_foreign_orders_found_at_the_start_block_entries() -> None:
    """REC-1: an order that is not ours rests before we come: it is reported, left alone, and no entry is made."""
    async with open_world(bot_settings(STOPS), dislocated(20).pulse(60).source(), config=FAST) as world:
        await world.ready()
        await world.kill()
        await by_hand(world, OrderSide.BUY, "580", "0.1", tif=TimeInForce.GTC)
        world.restart()
        await world.started.wait()
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 60)
        assert [c.code.value for c in world.bot.safety.causes] == ["BOOTSTRAP", "FOREIGN_ORDERS"]
        assert len(world.open_orders()) == 1
        assert entries(world)[1:] == []  # the owner's own
        assert (
            await world.end()
        ).exit_code == 0  # and at the end the account is empty: what rests is cancelled, ours or not


async def test_a_changed_configuration_waits_for_the_operator() -> None:
    """CFG-6, SAFE-2: another hash starts in ARMED_SAFE although promotion is automatic; a restart is no acknowledgement."""
    async with open_world(bot_settings(STOPS), dislocated(9).pulse(60).source(), config=FAST, config_hash="a" * 64) as world:
        await world.ready()
        await world.kill()
        world.restart(config_hash="b" * 64)
        await world.started.wait()
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 60)
        assert "CONFIG_HASH_CHANGED" in [c.code.value for c in world.bot.safety.causes]
        assert entries(world) == []
        assert (await world.end()).exit_code == 0
        world.restart(config_hash="b" * 64)
        await world.started.wait()
        await world.until(lambda: world.bot.ready.is_ready)
        assert "CONFIG_HASH_CHANGED" in [c.code.value for c in world.bot.safety.causes]
        assert Operator(world.bot).answer(b'{"command": "promote", "reason": "meant"}', "ada")["mode"] == "ARMED_LIVE"
        await world.end()
        world.restart(config_hash="b" * 64)
        await world.ready()


@pytest.mark.parametrize("gap_s", [50, 70])
async def test_a_gap_longer_than_the_window_halts(gap_s: int) -> None:
    """REC-3, SAFE-4 BACKFILL_WINDOW_EXCEEDED: nobody followed the account for longer than the window: HALT, and flat."""
    settings = bot_settings({**STOPS, "reconcile.backfill_window_ms": 60_000})
    async with open_world(settings, dislocated().pulse(300).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        await again(world, gap_s)
        halted = world.bot.safety.mode is SafetyMode.HALT
        assert halted is (gap_s > 60)
        await world.until(lambda: not world.positions(), 20)
        if halted:
            assert "BACKFILL_WINDOW_EXCEEDED" in [c.code.value for c in world.bot.safety.causes]
            await world.until(lambda: bool(world.events("halt_flatten")))
        assert (await world.end()).exit_code == 0


async def test_after_a_flat_end_no_time_is_a_gap() -> None:
    """REC-3: a run that ended flat left nothing to follow; the next one starts as any does, however much later."""
    settings = bot_settings({**STOPS, "reconcile.backfill_window_ms": 60_000})
    async with open_world(settings, dislocated().pulse(400).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        assert (await world.end()).exit_code == 0
        await trio.sleep(200)
        world.restart()
        await world.ready()
        assert not world.bot.ledger.is_exposed


async def test_a_damaged_memory_of_a_position_is_shown_and_the_venue_believed() -> None:
    """REC-1, LESSONS 3: what cannot be read is an incident, not a position; the venue's statement is taken instead."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        await world.kill()
        world.recorder.commits.append((StateRecord(f"position.{SNDK}", "1|abc", 0),))
        world.restart()
        await world.started.wait()
        assert world.events("not_recovered")
        await world.until(lambda: world.bot.ledger.position(SNDK).szi == world.positions()[SNDK].szi, 10)
        await world.until(lambda: not world.positions(), 20)
        assert (await world.end()).exit_code == 0


async def test_risk_counters_go_on_over_a_restart() -> None:
    """RISK-1, LESSONS 36: the losses of earlier runs count: the limit is crossed by the trade that comes after a restart."""
    settings = bot_settings({**STOPS, "risk.max_cumulative_loss_usd": "0.05"})
    source = dislocated().rising(20, 30).pulse(90).source()
    async with open_world(settings, source, config=FAST) as world:
        await world.until(lambda: len(trades(world)) == 1, 20)
        assert world.bot.safety.allows_entry
        lost = -world.bot.trader.risk.monitor.pnl_usd if world.bot.trader else D(0)
        assert D(0) < lost < D("0.05")
        await again(world)
        await world.until(lambda: len(trades(world)) == 2, 60)
        assert world.bot.safety.mode is SafetyMode.HALT
        assert "CUMULATIVE_LOSS" in [c.code.value for c in world.bot.safety.causes]
        assert (await world.end()).exit_code == 0


async def test_damaged_risk_counters_halt() -> None:
    """RISK-1, LESSONS 3: counters that cannot be read are not zero; nothing is traded on doubt."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(trades(world)), 20)
        await world.kill()
        world.recorder.commits.append((StateRecord("risk.pnl_usd", "a lot", 0),))
        world.restart()
        await world.started.wait()
        assert world.bot.safety.mode is SafetyMode.HALT
        assert "risk counters" in world.bot.safety.causes[0].message
        assert (await world.end()).exit_code == 0


@pytest.mark.parametrize("key", ["last_processed_timestamp_ms", "last_ingest_ms", "nonce", "run"])
async def test_a_value_that_cannot_be_read_halts_and_flattens(key: str) -> None:
    """REC-1, REC-3, LESSONS 3: it is named, and not taken for one that was never there; the latch keeps it."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 20)
        await world.kill()
        world.recorder.commits.append((StateRecord(key, "garbled", 0),))
        world.restart()
        await world.started.wait()
        causes = {c.code.value: c for c in world.bot.safety.causes}
        assert world.bot.safety.mode is SafetyMode.HALT
        assert f"cannot be read: {key} is 'garbled', expected a" in causes["STORAGE_UNAVAILABLE"].message
        await world.until(lambda: not world.positions(), 20)
        sent = len(world.events("order_sent"))
        await trio.sleep(60)
        assert len(world.events("order_sent")) == sent
        await world.kill()
        world.restart()
        await world.started.wait()
        assert [c.message for c in world.bot.safety.causes if c.severity is Severity.HALT] == [
            causes["STORAGE_UNAVAILABLE"].message
        ]
        assert (await world.end()).exit_code == 0


@pytest.mark.parametrize(("booked", "says"), [(True, f"0.082 {SNDK}"), (False, f"an order of {SNDK}")])
async def test_a_position_in_a_market_that_is_not_configured_any_more_is_closed(booked: bool, says: str) -> None:
    """EXIT-1, STOP-2, LESSONS 12: no exit of the new run can price it, so it is a HALT, whose flatten closes it."""
    settings = bot_settings(STOPS, coins=(SNDK,))
    async with open_world(settings, dislocated(2, SNDK, NVDA).pulse(60).source(), config=FAST) as world:
        await world.started.wait()
        await world.until(lambda: bool(world.bot.ledger.held() if booked else world.positions()), 20)
        await world.kill()
        world.restart(bot_settings(STOPS, coins=(NVDA,)))
        await world.started.wait()
        await world.until(lambda: not world.positions(), 20)
        (cause,) = [c for c in world.bot.safety.causes if c.severity is Severity.HALT]
        assert (cause.code.value, cause.source) == ("FLATTEN_FAILED", "recovery")
        assert f"the last run had {says}, not among the configured markets: no exit of this run follows it" in cause.message
        assert (await world.end()).exit_code == 0


async def test_an_order_whose_record_no_bot_wrote_is_shown() -> None:
    """REC-1, LESSONS 3: a side that does not exist is an incident with the order's id, no crash of the start."""
    async with open_world(bot_settings(STOPS), dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 20)
        await world.kill()
        sent = next(r for r in world.recorder.records if isinstance(r, IntentRecord))
        strange = evolve(sent, cloid=sent.cloid[:-1] + "f", side="SIDEWAYS")
        world.recorder.commits.append((strange,))
        world.restart()
        await world.started.wait()
        (note,) = world.events("not_recovered")
        assert (note.fields["subject"], "'SIDEWAYS'" in str(note.fields["why"])) == (strange.cloid, True)
        assert (await world.end()).exit_code == 0


async def test_a_protective_stop_is_taken_over_by_the_next_run() -> None:
    """EXIT-5, REC-1: it went on protecting while nobody ran; the next run knows it, places no second, and withdraws it."""
    settings = bot_settings({**STOPS, "position.protective_stop_bps": 100})
    async with open_world(settings, dislocated().pulse(60).source(), config=FAST) as world:
        await world.until(lambda: len(world.open_orders()) == 1 and bool(world.events("order_open")))
        (stop,) = world.open_orders()
        await again(world, 1)
        assert [o.cloid for o in world.open_orders()] == [stop.cloid]
        await world.ready()
        await trio.sleep(2)
        assert [o.cloid for o in world.open_orders()] == [stop.cloid]
        order = world.bot.ledger.find(stop.cloid, None)
        assert order is not None
        assert (order.state, order.is_stop) == (OrderState.OPEN, True)
        await world.until(lambda: not world.positions(), 20)
        await world.until(lambda: not world.open_orders(), 20)
        assert not world.events("stray_order")
        assert (await world.end()).exit_code == 0


async def test_foreign_orders_block_although_the_fills_come_after_the_orders() -> None:
    """REC-1: the snapshot of fills is late, so the first reading waits; what it lists was there before us all the same."""
    async with open_world(bot_settings(STOPS), dislocated(20).pulse(60).source(), config=FAST) as world:
        await world.ready()
        await world.kill()
        await by_hand(world, OrderSide.BUY, "580", "0.1", tif=TimeInForce.GTC)
        world.faults.add(Rule(Point.FRAME, Delay(3000), lambda s: s == "userFills", uses=1))
        world.restart()
        await world.started.wait()
        await world.until(lambda: world.bot.ready.is_ready, 20)
        assert "FOREIGN_ORDERS" in [c.code.value for c in world.bot.safety.causes]
        assert not world.bot.safety.allows_entry
