"""The action budget and the fee, from the venue's words to what is sent after them (GATE-5, DET-2)."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal

import attrs
import trio

from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Faults, HttpAnswer, Point, ReplaceBody, Rule
from hip3.simulate.world import open_world
from tests.app.app_builders import ASSETS, FAST, MU, SNDK, Script, bot_settings, closes, dislocated, entries, judged, sent

BRIEF = {"position.time_stop_ms": 2000, "position.reduce_only_timeout_ms": 90_000}
GENEROUS = ReplaceBody(json.dumps({"cumVlm": "0.0", "nRequestsUsed": 0, "nRequestsCap": 10_000, "nRequestsSurplus": 0}))


def deceived() -> Faults:
    """userRateLimit speaks of room that is not there, so only the refusal of an action tells."""
    return Faults([Rule(Point.INFO, GENEROUS, lambda kind: kind == "userRateLimit", uses=None)])


async def test_an_exhausted_budget_lets_one_exit_out_in_ten_seconds_and_no_entry() -> None:
    """GATE-5, LESSONS 40: the venue refuses for want of budget: no entry follows, closes go one in 11 s until one works."""
    config = attrs.evolve(FAST, free_requests=1)
    script = dislocated(2, SNDK).quote(3500, None, "600.1").quote(40_000, "599", "600.1")
    script.calm(MU).pulse(45, coin=MU).rising(6, 44, coin=MU)
    settings = bot_settings(BRIEF, coins=(SNDK, MU))
    async with open_world(settings, script.source(), config=config, faults=deceived()) as world:
        await world.until(lambda: bool(world.events("budget_exhausted")), 10)
        known_ms = world.clock.mono_ms()
        await world.until(lambda: bool(judged(world, "Skipped(BudgetExhausted)")), 5)
        await world.until(lambda: not world.positions(), 50)
        later = [at for at, _ in sent(world) if at > known_ms]
        assert all(b - a >= 10_000 for a, b in itertools.pairwise([known_ms, *later]))
        assert len(later) >= 3
        assert all(order["r"] for at, e in sent(world) if at > known_ms for order in e.raw_action["orders"])
        assert [n.level for n in world.events("budget_exhausted")] == ["critical"]


async def test_room_in_the_budget_ends_the_exhaustion() -> None:
    """GATE-5: the venue's own count, read once a minute, shows room again: entries go on."""
    config = attrs.evolve(FAST, free_requests=400)
    refuse = Rule(
        Point.AFTER_COMMIT,
        ReplaceBody(json.dumps({"status": "err", "response": "Too many cumulative requests sent (401 > 400) for ..."})),
        lambda kind: kind == "order",
    )
    script = dislocated(2, SNDK).pulse(75).calm(MU).pulse(75, coin=MU).rising(4, 72, coin=MU)
    quiet = {"position.time_stop_ms": 90_000, "position.reduce_only_timeout_ms": 99_000}
    settings = bot_settings(quiet, coins=(SNDK, MU))
    async with open_world(settings, script.source(), config=config, faults=Faults([refuse])) as world:
        await world.until(lambda: bool(world.events("budget_exhausted")), 5)
        await trio.sleep(30)
        assert [order["a"] for order in entries(world)] == [ASSETS[SNDK]]
        await world.until(lambda: [o["a"] for o in entries(world)] == [ASSETS[SNDK], ASSETS[MU]], 40)
        assert world.clock.mono_ms() >= 60_000


async def test_entries_keep_a_pace_and_exits_do_not_wait_for_it() -> None:
    """GATE-5: with two actions a minute one round trip uses them up; the next entry waits, the exit did not."""
    settings = bot_settings({**BRIEF, "executor.actions_per_min": 2})
    script = Script().calm().pulse(45).rising(2, 44)
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: len(entries(world)) == 2, 45)
        first, *_, second = [at for at, e in sent(world) if not e.raw_action["orders"][0]["r"]]
        assert second - first > 25_000
        assert closes(world)[0][0] - first < 4000
        assert judged(world, "Skipped(BudgetExhausted)")


async def test_closes_against_an_empty_book_leave_the_budget_alive() -> None:
    """GATE-5, EXIT-3: an hour without bids would take 10 000 actions at two and a half a second; it takes about 700."""
    script = dislocated(2, SNDK).quote(3500, None, "600.1")
    async with open_world(bot_settings(BRIEF), script.source(), config=FAST) as world:
        await world.at(64_000)
        times = [at for at, _ in closes(world)]
        assert times[2] - times[0] < 500
        assert max(b - a for a, b in itertools.pairwise(times)) < 5500
        assert len([at for at in times if at > 24_000]) <= 8


CHEAP = ReplaceBody(
    json.dumps(
        {
            "dailyUserVlm": [],
            "feeSchedule": {},
            "userCrossRate": "0.000045",
            "userAddRate": "0.00001",
            "activeReferralDiscount": "0.0",
        }
    )
)


def stated_too_low() -> Faults:
    return Faults([Rule(Point.INFO, CHEAP, lambda kind: kind == "userFees")])


EDGE_OF_7_4_BPS = "600.544"
"""Of the reference over an ask of 600.1: above 0.09 + 2 + 5 bps, below 0.9 + 2 + 5."""


async def test_a_fee_above_the_stated_one_is_believed_after_the_first_fill() -> None:
    """DET-2, LESSONS 27: a tenth of the real fee is stated: a thin edge is traded once; the first fill says what it costs,
    and the same edge is left alone from then on."""
    script = Script().calm().pulse(20).oracle(1500, EDGE_OF_7_4_BPS).oracle(7500, "600").oracle(9500, EDGE_OF_7_4_BPS)
    async with open_world(bot_settings(BRIEF), script.source(), config=FAST, faults=stated_too_low()) as world:
        await world.until(lambda: bool(world.events("position_closed")), 8)
        await world.at(15_000)
        assert len(entries(world)) == 1
        (note,) = world.events("fee_mismatch")
        seen = {key: round(Decimal(str(value)), 2) for key, value in note.fields.items() if key != "coin"}
        assert (seen["assumed_bps"], seen["used_bps"]) == (Decimal("0.09"), seen["measured_bps"])
        assert abs(seen["measured_bps"] - Decimal("0.9")) < Decimal("0.05")


async def test_a_fee_below_a_configured_one_is_believed_after_the_first_fill() -> None:
    """DET-2: the venue did not say, 40 bps were configured: the first fill shows 0.9, and thinner edges are traded."""
    mute = Faults([Rule(Point.INFO, HttpAnswer(500), lambda kind: kind == "userFees")])
    script = Script().calm().pulse(20).oracle(1500, "604").oracle(7500, "600").oracle(9500, "601")
    settings = bot_settings({**BRIEF, "detector.taker_fee_bps": 40})
    async with open_world(settings, script.source(), config=FAST, faults=mute) as world:
        await world.until(lambda: len(entries(world)) == 2, 15)
        assert [round(Decimal(str(n.fields["used_bps"])), 1) for n in world.events("fee_mismatch")] == [Decimal("0.9")]


async def test_a_fee_below_the_stated_one_is_only_noted() -> None:
    """DET-2: the venue stated 9 times what the first fill cost: it is said, and the dearer one goes on deciding."""
    dear = ReplaceBody(CHEAP.body.replace("0.000045", "0.0045"))
    faults = Faults([Rule(Point.INFO, dear, lambda kind: kind == "userFees")])
    script = Script().calm().pulse(20).oracle(1500, "602").oracle(7500, "600").oracle(9500, "600.8")
    async with open_world(bot_settings(BRIEF), script.source(), config=FAST, faults=faults) as world:
        await world.at(15_000)
        assert len(entries(world)) == 1
        (note,) = world.events("fee_mismatch")
        assert note.fields["used_bps"] == note.fields["assumed_bps"] == Decimal(9)


async def test_a_fee_as_stated_is_not_spoken_of() -> None:
    """DET-2: the first fill costs what the venue stated: nothing is said."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=ExchangeConfig()) as world:
        await world.until(lambda: bool(world.events("position_closed")), 9)
        assert world.events("fee_mismatch") == []
