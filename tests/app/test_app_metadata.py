"""Metadata that change while trading, from the venue's answers to the mode and the wire (META-4, DET-6)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from hip3.exchange.answers import Answer, Reply
from hip3.exchange.faults import Delay, Faults, HttpAnswer, Point, ReplaceBody, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import World, open_world
from tests.app.app_builders import (
    ASSETS,
    FAST,
    MU,
    SNDK,
    Script,
    bot_settings,
    closes,
    cut_account,
    cut_market,
    dislocated,
    entries,
    judged,
)

Change = Callable[[dict[str, Any]], None]
PLACE = ASSETS[SNDK] - 110_000


async def changed_meta(world: World, change: Change) -> str:
    """The venue's own answer to `meta` of xyz, changed."""
    bodies: list[str] = []
    came = trio.Event()

    def on_answer(answer: Answer) -> None:
        assert isinstance(answer, Reply)
        bodies.append(answer.body)
        came.set()

    world.exchange.ask({"type": "meta", "dex": "xyz"}, on_answer)
    await came.wait()
    body = json.loads(bodies[0])
    change(body)
    return json.dumps(body)


async def from_now_on(world: World, change: Change) -> None:
    body = await changed_meta(world, change)
    world.faults.add(Rule(Point.INFO, ReplaceBody(body), lambda s: s == "meta", uses=None))


def sndk(key: str, value: object) -> Change:
    def change(meta: dict[str, Any]) -> None:
        meta["universe"][PLACE][key] = value

    return change


def a_market_listed_before(meta: dict[str, Any]) -> None:
    meta["universe"].insert(PLACE, {**meta["universe"][PLACE], "name": "xyz:NEW"})


def no_longer_listed(meta: dict[str, Any]) -> None:
    del meta["universe"][PLACE:]


CHANGES = {
    "size decimals": (sndk("szDecimals", 2), "sz_decimals 3 -> 2"),
    "margin mode": (sndk("marginMode", "strictIsolated"), "margin_mode cross -> strictIsolated"),
    "fee scale": (sndk("deployerFeeScale", "2.0"), "fee_scale 1.0 -> 2.0"),
    "growth mode": (sndk("growthMode", "disabled"), "growth_mode True -> False"),
    "asset id": (a_market_listed_before, "asset_id 110002 -> 110003"),
    "not listed": (no_longer_listed, "asset_id 110002 is no longer listed"),
}


def names_of(world: World) -> list[str]:
    return [cause.code.name for cause in world.bot.safety.causes]


@pytest.mark.parametrize("what", CHANGES)
async def test_a_changed_market_ends_entries_while_flat(what: str) -> None:
    """META-4: after a reconnect the venue states another value: ARMED_SAFE with PARAM_CHANGE, and no entry goes any more."""
    change, words = CHANGES[what]
    async with open_world(bot_settings(), dislocated(4).source(), config=FAST) as world:
        await world.ready()
        await from_now_on(world, change)
        cut_market(world)
        await world.until(lambda: bool(world.events("params_changed")), 4)
        assert world.events("params_changed")[0].fields["changes"] == words
        assert (world.bot.safety.mode, names_of(world)) == (SafetyMode.ARMED_SAFE, ["PARAM_CHANGE"])
        await world.at(8000)
        assert entries(world) == []
        # One that is not listed at all does not even give a signal.
        assert judged(world, "Rejected(HardStop)") or world.bot.detector.rejected[SNDK]["halted"] > 0


async def test_a_changed_market_halts_while_exposed() -> None:
    """META-4, STOP-2: with a position the same is a HALT: the procedure closes it, long before its time stop."""
    async with open_world(bot_settings(), dislocated().rising(6, 8, start_px=604).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("position_updated")), 4)
        await from_now_on(world, sndk("marginMode", "noCross"))
        cut_market(world)
        await world.until(lambda: bool(world.events("halt_flatten")), 4)
        assert (world.bot.safety.mode, names_of(world)) == (SafetyMode.HALT, ["PARAM_CHANGE"])
        assert (world.positions(), len(closes(world))) == ({}, 1)
        await world.at(9000)
        assert len(entries(world)) == 1


async def test_the_way_out_names_the_asset_by_its_new_id() -> None:
    """META-4, LESSONS 21: an id that moved while a position is held is the one that the closing order names."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("position_updated")), 4)
        await from_now_on(world, a_market_listed_before)
        cut_market(world)
        await world.until(lambda: bool(closes(world)), 4)
        assert closes(world)[0][1]["a"] == ASSETS[SNDK] + 1


async def test_a_change_of_a_market_that_is_not_traded_is_nothing() -> None:
    """META-4: of a traded market only; another one's size decimals are its own business."""
    async with open_world(bot_settings(), dislocated(6).source(), config=FAST) as world:
        await world.ready()
        body = await changed_meta(world, lambda m: m["universe"][ASSETS[MU] - 110_000].update(szDecimals=1))
        world.faults.add(Rule(Point.INFO, ReplaceBody(body), lambda s: s == "meta", uses=None))
        cut_market(world)
        await world.until(lambda: bool(entries(world)), 8)
        assert names_of(world) == []


async def test_metadata_are_read_every_five_minutes() -> None:
    """META-4: without any reconnect a change is seen at 300 s and not before."""
    script = Script().calm()
    async with open_world(bot_settings(), script.source(), config=FAST) as world:
        await world.ready()
        await from_now_on(world, sndk("szDecimals", 2))
        await world.at(299_000)
        assert world.events("params_changed") == []
        await world.until(lambda: bool(world.events("params_changed")), 3)


@pytest.mark.parametrize("cut", [cut_market, cut_account])
async def test_entries_wait_for_the_metadata_after_a_reconnect(cut: Callable[[World], None]) -> None:
    """META-4, META-1: what happened meanwhile is not known: until the venue answers entries are NotReady, then they go."""
    values = {"safety.halt_on_disconnect": "never", "detector.dedup": False}
    faults = Faults([Rule(Point.INFO, Delay(3000), lambda s: s == "perpDexs", skip=1)])
    script = dislocated(6).rising(7, 14, start_px=603)
    async with open_world(bot_settings(values), script.source(), config=FAST, faults=faults) as world:
        await world.ready()
        await world.at(3900)
        cut(world)
        await world.until(lambda: any("metadata" in str(n.fields["detail"]) for n in judged(world, "Rejected(NotReady)")), 4)
        assert entries(world) == []
        await world.until(lambda: bool(entries(world)), 5)


async def test_metadata_that_cannot_be_read_are_asked_for_again() -> None:
    """META-1: a failed question is unknown: nothing changes, entries wait after a reconnect, the next answer frees them."""
    faults = Faults([Rule(Point.INFO, HttpAnswer(500), lambda s: s == "meta", skip=1, uses=1)])
    script = dislocated(5).rising(6, 16, start_px=603)
    async with open_world(bot_settings(), script.source(), config=FAST, faults=faults) as world:
        await world.ready()
        cut_market(world)
        await world.until(lambda: bool(judged(world, "Rejected(NotReady)")), 8)
        assert len(world.events("metadata_unread")) == 1
        assert entries(world) == []
        await world.until(lambda: bool(entries(world)), 12)
        assert names_of(world) == []


@pytest.mark.parametrize(("halted", "cooldown_ms"), [(True, 0), (True, 60_000), (False, 0)])
async def test_a_halted_market_is_left_alone_until_it_resumes(halted: bool, cooldown_ms: int) -> None:
    """DET-6, META-4: delisted in `meta`: no order, counted by name; listed again: an order, after the cooldown."""
    values = {"detector.quality.halted": halted, "detector.quality.halted_cooldown_ms": cooldown_ms}
    async with open_world(bot_settings(values), dislocated(5).rising(9, 12, start_px=603).source(), config=FAST) as world:
        await world.ready()
        body = await changed_meta(world, sndk("isDelisted", True))
        world.faults.add(Rule(Point.INFO, ReplaceBody(body), lambda s: s == "meta"))
        cut_market(world)
        await world.until(lambda: bool(world.events("market_halted")), 3)
        await world.at(6000)
        assert bool(entries(world)) is not halted
        if not halted:
            return
        assert world.bot.detector.rejected[SNDK]["halted"] > 0
        cut_market(world)
        await world.until(lambda: bool(world.events("market_resumed")), 4)
        await world.at(13_000)
        assert bool(entries(world)) is (cooldown_ms == 0)
