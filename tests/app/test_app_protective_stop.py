"""The protective stop (EXIT-5) from a fill to an order that rests at the venue, and to whatever ends it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio

from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.trades import Trade
from hip3.exchange.faults import Drop, Faults, HttpAnswer, Point, RefuseText, ReplaceBody, Rule
from hip3.exchange.requests import parse_action
from hip3.exchange.seam import CtxChange
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import (
    ASSETS,
    FAST,
    MU,
    SLOW,
    SNDK,
    D,
    Script,
    bot_settings,
    by_hand,
    closes,
    cut_account,
    dislocated,
    entries,
    sessions,
    stops,
    verdicts,
)

GUARDED: dict[str, object] = {"position.protective_stop_bps": 100, "position.time_stop_ms": 20_000}
BRIEF: dict[str, object] = {**GUARDED, "position.time_stop_ms": 3000}


def marked(script: Script, at_ms: int, px: str) -> Script:
    """The mark of SNDK from then on."""
    script.events.append((at_ms, CtxChange(SNDK, mark_px=D(px))))
    return script


def trades(world: World) -> list[Trade]:
    assert world.bot.trader is not None
    return list(world.bot.trader.position.trades)


async def resting(world: World, count: int = 1) -> None:
    """Until the bot knows that so many stops rest."""
    await world.until(lambda: len(world.events("order_open")) >= count, 8)
    assert len(world.open_orders()) >= 1


async def flat(world: World, within_s: float = 12) -> None:
    """Until the venue shows nothing and the bot knows it."""
    await world.until(lambda: bool(world.fills()) and not world.positions() and not world.open_orders(), within_s)
    await world.until(lambda: not world.bot.ledger.is_exposed, 6)


def cancels(world: World) -> list[dict[str, Any]]:
    return world.actions("cancelByCloid")


async def owner_cancels(world: World) -> None:
    """The account's owner cancels everything by other means; the venue does not ask the bot."""
    for order in world.open_orders():
        asset = ASSETS[order.coin]
        world.exchange.engine.execute(
            world.user.lower(), parse_action({"type": "cancel", "cancels": [{"a": asset, "o": order.oid}]})
        )


def lost(channel: str, uses: int | None = None) -> Rule:
    """Frames of a channel that never come."""
    return Rule(Point.FRAME, Drop(), lambda s: s == channel, uses=uses)


# ---- its life


async def test_after_an_entry_a_stop_rests_at_the_venue_and_ends_with_the_position() -> None:
    """EXIT-5: reduce-only, whole size, 100 bps from the entry, 10 % of room; the time stop closes as ever."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await resting(world)
        ((at_ms, order),) = stops(world)
        assert at_ms - (world.fills()[0].time_ms - START_MS) < 300
        assert (order["a"], order["b"], order["r"], order["s"]) == (ASSETS[SNDK], False, True, entries(world)[0]["s"])
        assert order["t"] == {"trigger": {"isMarket": True, "triggerPx": "594.09", "tpsl": "sl"}}
        assert order["p"] == "534.68"  # 594.09 less 10 % is 534.681
        (envelope,) = [e for _, e in world.exchange.received if order in e.raw_action.get("orders", [])]
        assert envelope.expires_after_ms is not None
        await flat(world)
        assert len(closes(world)) == 1
        assert [trade.exit_reason for trade in trades(world)] == ["time_stop"]
        await world.at(world.clock.mono_ms() + 2000)
        assert (len(stops(world)), cancels(world)) == (1, [])  # the venue ended it with the position
        assert (world.bot.tally.closes, world.bot.tally.trades) == (1, 1)


async def test_without_its_key_nothing_rests() -> None:
    """EXIT-5: optional; by default the venue holds no order of ours."""
    async with open_world(bot_settings({"position.time_stop_ms": 3000}), dislocated().source(), config=FAST) as world:
        await flat(world)
        assert stops(world) == []


async def test_the_stop_of_a_short_lies_above() -> None:
    """EXIT-5: 599.9 and 100 bps are 605.899, rounded away from the entry."""
    script = Script().calm().oracle(1500, "598")
    async with open_world(bot_settings(GUARDED), script.source(), config=FAST) as world:
        await resting(world)
        ((_, order),) = stops(world)
        assert (order["b"], order["t"]["trigger"]["triggerPx"]) == (True, "605.9")


async def test_a_stop_that_fires_ends_the_trade() -> None:
    """EXIT-5, JRN-1: the venue closes at the mark's word; no close of ours is sent and the trade says what ended it."""
    script = marked(dislocated(), 4000, "594").quote(3990, "593.9", "594.1")
    async with open_world(bot_settings(GUARDED), script.source(), config=FAST) as world:
        await flat(world, 6)
        assert world.clock.mono_ms() < 4500
        (trade,) = trades(world)
        assert trade.exit_reason == "protective_stop"
        assert closes(world) == []
        assert world.bot.limits.pnl_usd == trade.pnl_usd < 0


async def test_a_stop_fires_after_the_death_of_the_process() -> None:
    """EXIT-5: killed without a way out, the bot leaves position and stop; when the mark comes down the venue closes."""
    script = marked(dislocated(), 9000, "594")
    async with open_world(bot_settings(GUARDED), script.source(), config=FAST) as world:
        await resting(world)
        await world.kill()
        sent = len(world.exchange.received)
        await world.at(8900)
        assert SNDK in world.positions()
        assert len(world.open_orders()) == 1
        await world.at(9100)
        assert (world.positions(), world.open_orders()) == ({}, ())
        assert len(world.exchange.received) == sent


async def test_the_market_is_free_again_while_stops_come_and_go() -> None:
    """GATE-3, EXIT-5: a resting stop is no pending order: other markets trade, and this one after its close."""
    settings = bot_settings(BRIEF, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).oracle(3500, "602", coin=MU).rising(7, 9, start_px=620)
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: len(entries(world)) == 3, 10)
        assert not any("Pending" in verdict for verdict in verdicts(world))
        await world.until(lambda: len(stops(world)) == 3, 2)


# ---- what the venue or others do to it


async def test_a_stop_that_fires_while_a_close_is_under_way_never_flips() -> None:
    """EXIT-3, EXIT-5: the close arrives at a flat account and is refused; one trade, no position, and trading goes on."""
    settings = bot_settings({**GUARDED, "position.time_stop_ms": 5000})
    script = marked(dislocated(), 9200, "594").rising(14, 16, start_px=620)
    script.oracle(9900, "600", mark="600")
    async with open_world(settings, script.source(), config=SLOW) as world:
        await world.until(lambda: bool(closes(world)), 12)
        assert 8500 < closes(world)[0][0] < 9200
        await world.until(lambda: not world.positions(), 2)
        await world.until(lambda: bool(trades(world)), 4)
        assert [t.exit_reason for t in trades(world)] == ["protective_stop"]
        await world.until(lambda: bool(world.events("action_rejected")), 2)
        (refused,) = world.events("action_rejected")
        assert refused.fields["error"] == "Reduce only order would increase position. asset=110002"
        await world.until(lambda: len(entries(world)) == 2, 8)


async def test_the_rest_of_a_stop_that_found_too_little_is_closed_by_us() -> None:
    """EXIT-5: it took what was within its bound and is gone; the mark is through, so the bot closes what is left."""
    script = marked(dislocated(), 4000, "594").depth(3990, [("593.9", "0.03")], [("600.1", "10")]).quote(6000, "593", "594")
    async with open_world(bot_settings(GUARDED), script.source(), config=FAST) as world:
        await flat(world, 8)
        assert {order["s"] for _, order in closes(world)} == {"0.052"}
        assert world.fills()[1].sz == D("0.03")
        assert [t.exit_reason for t in trades(world)] == ["protective_stop"]


async def test_the_stop_has_the_size_that_the_entry_really_got() -> None:
    """EXIT-5, ORD-1: of 0.082 the book had 0.03 left: the stop is of what is held, not of what was asked."""
    script = dislocated().depth(2500, [("599.9", "10")], [("600.1", "0.03"), ("612", "100")])
    async with open_world(bot_settings(GUARDED), script.source(), config=SLOW) as world:
        await resting(world)
        assert (entries(world)[0]["s"], stops(world)[0][1]["s"]) == ("0.082", "0.03")


async def test_a_position_that_others_enlarge_gets_a_stop_of_its_size() -> None:
    """EXIT-5: bought by hand: the larger stop is placed first and the smaller one cancelled when it rests."""
    async with open_world(bot_settings(GUARDED), dislocated().source(), config=FAST) as world:
        await resting(world)
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await world.until(lambda: len(world.open_orders()) == 2, 2)
        await world.until(lambda: len(world.open_orders()) == 1, 2)
        (left,) = world.open_orders()
        assert (left.sz, len(stops(world)), len(cancels(world))) == (D("0.132"), 2, 1)
        assert cancels(world)[0]["cancels"] == [{"asset": ASSETS[SNDK], "cloid": stops(world)[0][1]["c"]}]


async def test_a_position_that_others_reduce_keeps_its_stop() -> None:
    """EXIT-5: reduce-only, it can never do more than close; nothing is sent for it."""
    async with open_world(bot_settings(GUARDED), dislocated().source(), config=FAST) as world:
        await resting(world)
        await by_hand(world, OrderSide.SELL, "599.9", "0.04", reduce_only=True)
        await world.at(4000)
        assert (len(stops(world)), cancels(world)) == (1, [])


async def test_a_stop_that_the_owner_cancelled_is_placed_again_later() -> None:
    """EXIT-5: five seconds later, so that two who disagree do not burn the action budget."""
    async with open_world(bot_settings(GUARDED), dislocated().source(), config=FAST) as world:
        await resting(world)
        await owner_cancels(world)
        await world.until(lambda: len(stops(world)) == 2, 8)
        heard_ms = world.events("order_canceled")[0].wall_ms - START_MS
        assert 5000 <= stops(world)[1][0] - heard_ms <= 5300


async def test_a_stop_that_vanished_unseen_is_found_missing() -> None:
    """POS-3, EXIT-5: its end was lost without a broken link; a later reading of the account shows it; it is replaced."""
    settings = bot_settings(
        {"position.protective_stop_bps": 100, "position.time_stop_ms": 120_000, "position.reduce_only_timeout_ms": 120_000}
    )
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await resting(world)
        world.faults.add(lost("orderUpdates", uses=1))
        await owner_cancels(world)
        await world.until(lambda: len(stops(world)) == 2, 80)
        await resting(world, 2)


# ---- refusals and doubt


async def test_a_stop_refused_because_the_mark_is_through_leads_to_a_close() -> None:
    """EXIT-5, PROTOCOL 4.4: `Invalid TP/SL price.`: said loudly, and the bot closes by itself when it sees the mark."""
    async with open_world(bot_settings(GUARDED), marked(dislocated(), 2060, "594").source(), config=FAST) as world:
        await flat(world, 6)
        (note,) = world.events("stop_refused")
        assert (note.level, note.fields["error"]) == ("critical", "Invalid TP/SL price. asset=110002")
        assert len(closes(world)) == 1
        assert [t.exit_reason for t in trades(world)] == ["protective_stop"]


async def test_a_stop_that_the_venue_refuses_is_tried_again_after_a_while() -> None:
    """EXIT-5: the position lives on under its time stop; five seconds later the next attempt rests."""
    refused = Rule(Point.BEFORE_ADMISSION, RefuseText("Trading is halted."), lambda s: s == "order", skip=1)
    async with open_world(bot_settings(GUARDED), dislocated().source(), config=FAST, faults=Faults([refused])) as world:
        await resting(world)
        first, second = stops(world)
        assert 5000 <= second[0] - first[0] <= 5400
        assert first[1]["c"] != second[1]["c"]
        assert len(world.events("stop_refused")) == 1


async def test_a_stop_whose_answer_is_lost_is_not_sent_again() -> None:
    """POST-3, POST-4, EXIT-5: it rests; sent twice it would rest twice. The venue is asked, and one stop it stays."""
    faults = Faults([Rule(Point.AFTER_COMMIT, Drop(), lambda s: s == "order", skip=1), lost("orderUpdates", uses=2)])
    settings = bot_settings({**GUARDED, "executor.post_timeout_ms": 500})
    async with open_world(settings, dislocated().source(), config=FAST, faults=faults) as world:
        await resting(world)
        assert [n.fields["status"] for n in world.events("doubt_answered")] == ["open"]
        await world.at(9000)
        assert (len(stops(world)), len(world.open_orders())) == (1, 1)


@pytest.mark.parametrize("fenced", [True, False])
async def test_a_stop_that_never_arrived_is_replaced_once_that_is_proved(fenced: bool) -> None:
    """POST-4, EXIT-5: lost on its way: a noop took its nonce, or its expiry has passed: it can no longer come, and another
    one is placed."""
    faults = Faults([Rule(Point.BEFORE_ADMISSION, Drop(), lambda s: s == "order", skip=1)])
    if not fenced:
        faults.add(Rule(Point.BEFORE_ADMISSION, Drop(), lambda s: s == "noop", uses=None))
    settings = bot_settings({**GUARDED, "executor.post_timeout_ms": 500, "executor.expires_after_ms": 3000})
    async with open_world(settings, dislocated().source(), config=FAST, faults=faults) as world:
        await world.until(lambda: len(stops(world)) == 2, 12)
        await resting(world)
        first, second = stops(world)
        assert (second[0] - first[0] < 3000) is fenced
        assert first[1]["c"] != second[1]["c"]
        assert len(world.open_orders()) == 1


async def test_an_answer_without_an_oid_is_an_answer() -> None:
    """PROTOCOL 4.2: `waitingForTrigger`; the stop is known by its own id, and cancelled by it."""
    body = {"status": "ok", "response": {"type": "order", "data": {"statuses": ["waitingForTrigger"]}}}
    said = Rule(Point.AFTER_COMMIT, ReplaceBody(json.dumps(body)), lambda s: s == "order", skip=1)
    async with open_world(bot_settings(GUARDED), dislocated().source(), config=FAST, faults=Faults([said])) as world:
        await resting(world)
        assert world.events("in_doubt") == []
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await world.until(lambda: len(cancels(world)) == 1 and len(world.open_orders()) == 1, 3)


async def test_a_stop_whose_end_was_not_heard_is_taken_back_and_asked_about() -> None:
    """EXIT-5, GATE-3: the frames are lost: half a second after the close it is cancelled, refused, asked, and settled."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await resting(world)
        world.faults.add(lost("orderUpdates"))
        await flat(world)
        assert len(cancels(world)) == 1
        closed_ms = world.fills()[-1].time_ms
        (withdrawn,) = world.events("stop_withdrawn")
        assert 500 <= withdrawn.wall_ms - closed_ms <= 800
        assert [n.fields["outcome"] for n in world.events("cancel_answered")] == ["refused"]
        assert [n.fields["status"] for n in world.events("doubt_answered")] == ["reduceOnlyCanceled"]


async def test_a_full_queue_of_cancels_is_said_and_emptied_later() -> None:
    """BAT-3: with room for one cancel the second waits, critically, and follows."""
    settings = bot_settings({**BRIEF, "executor.queue_cancel": 1}, coins=(SNDK, MU))
    async with open_world(settings, Script().calm(SNDK, MU).source(), config=FAST) as world:
        await world.ready()
        async with trio.open_nursery() as nursery:  # two positions of one age end together
            for coin in (SNDK, MU):
                nursery.start_soon(partial(by_hand, world, OrderSide.BUY, "600.1", "0.05", coin=coin))
        await resting(world, 2)
        world.faults.add(lost("orderUpdates"), Rule(Point.INFO, HttpAnswer(500), lambda s: s == "orderStatus", uses=2))
        await world.until(lambda: len(world.events("stop_withdrawn")) == 2, 12)
        assert {n.level for n in world.events("cancel_queue_full")} == {"critical"}
        await flat(world)
        assert [len(action["cancels"]) for action in cancels(world)] == [1, 1]


# ---- stops of the bot itself


async def test_the_way_out_leaves_the_stop_until_its_position_is_gone() -> None:
    """END-1, EXIT-5: the close comes first, then nothing rests any more; exit code 0, and no second stop."""
    async with open_world(bot_settings(GUARDED), dislocated().source(), config=FAST) as world:
        await resting(world)
        outcome = await world.end()
        assert (outcome.exit_code, world.positions(), world.open_orders()) == (0, {}, ())
        assert outcome.certificate is not None
        assert len(outcome.certificate.closed) == 1
        assert world.actions("cancel") == []
        assert len(stops(world)) == 1


async def test_a_stop_in_the_queue_does_not_leave_on_the_way_out() -> None:
    """END-1, EXE-2: the stop is requested in the moment of the fill: no stop reaches the venue behind the flatten's back."""
    async with open_world(
        bot_settings({**GUARDED, "executor.period_ms": 2000}), dislocated().source(), config=FAST
    ) as world:
        await world.until(lambda: bool(world.events("stop_enqueued")), 4)
        outcome = await world.end()
        assert (outcome.exit_code, stops(world)) == (0, [])


async def test_halt_ends_position_and_stop() -> None:
    """STOP-2, EXIT-5: the halt procedure cancels the stop with everything else, and none is placed while it works."""
    async with open_world(bot_settings(GUARDED), dislocated().source(), config=FAST) as world:
        await resting(world)
        cut_account(world)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 2)
        await flat(world)
        await world.at(world.clock.mono_ms() + 3000)
        assert len(stops(world)) == 1


async def test_a_stop_outlives_a_broken_link() -> None:
    """STOP-3, EXIT-5: where a lost link is no HALT, the stop rests on; after the reconnect it is the known one."""
    settings = bot_settings({**GUARDED, "safety.halt_on_disconnect": "never"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await resting(world)
        cut_account(world)
        await world.until(lambda: bool(sessions(world, "userFills")), 5)
        await world.until(lambda: world.bot.ready.is_ready, 5)
        await world.at(9000)
        assert (len(stops(world)), len(world.open_orders())) == (1, 1)


@pytest.mark.parametrize("side", [OrderSide.BUY, OrderSide.SELL])
async def test_a_position_opened_by_hand_is_protected_too(side: OrderSide) -> None:
    """EXIT-5, POS-1: whoever opened it, this bot holds it; a foreign order that rests beside it stays untouched."""
    async with open_world(bot_settings(GUARDED), Script().calm().source(), config=FAST) as world:
        await world.ready()
        px = "600.1" if side.is_buy else "599.9"
        await by_hand(world, side, px, "0.05")
        await by_hand(world, side, "590" if side.is_buy else "610", "0.05", tif=TimeInForce.GTC)
        await resting(world)
        await trio.sleep(2)
        assert [order["s"] for _, order in stops(world)] == ["0.05"]
        assert len(world.open_orders()) == 2
