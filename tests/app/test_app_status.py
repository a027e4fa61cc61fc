"""What `hip3 status` shows of a running bot: live evidence with its age, over the socket, in every mode; nothing changes."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio

from hip3.cli.status_cmd import events_view, status_lines
from hip3.ops.journal_file import json_value
from hip3.ops.status_server import open_status_socket, socket_path
from hip3.ops.status_view import status_view
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, MU, SLOW, SNDK, Script, bot_settings, cut_account, cut_market, dislocated


def seen(world: World) -> dict[str, Any]:
    """The answer as a client gets it."""
    view = status_view(world.bot, pid=7, config_hash="c0ffee") | {
        "events": events_view(world.events(), world.clock.wall_ms())
    }
    answer: dict[str, Any] = json.loads(json.dumps(view, default=json_value))
    return answer


def text(world: World) -> str:
    return "\n".join(status_lines(seen(world)))


async def test_a_position_is_shown_with_every_age() -> None:
    """OPS-7, LESSONS 3, 40, 42: run, mode, READY, links, market, position as at the venue, budget, each with its age."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("order_filled")), 5)
        await trio.sleep(0.5)
        status = seen(world)
        shown = text(world)
        venue = [(p.coin, p.szi) for p in world.positions().values()]
    assert [(p["coin"], Decimal(p["szi"])) for p in status["positions"]] == venue
    assert (status["run"]["config_hash"], status["run"]["pid"], status["run"]["network"]) == ("c0ffee", 7, "paper")
    assert (status["safety"]["mode"], status["safety"]["causes"]) == ("ARMED_LIVE", [])
    assert 1000 < status["safety"]["age_ms"] < status["run"]["age_ms"]
    assert all(c["holds"] and c["age_ms"] is not None for c in status["ready"]["conditions"].values())
    assert {link["name"]: link["state"] for link in status["links"]} == {"market": "READY", "account": "READY"}
    (market,) = status["markets"]
    assert (market["coin"], market["reference_px"], market["missing"]) == (SNDK, "602.0", None)
    assert 500 <= market["bbo_age_ms"] <= 2600
    assert market["last_signal"]["verdict"] == "Queued"
    (position,) = status["positions"]
    assert (position["coin"], position["state"]) == (SNDK, "OPEN")
    assert 450 <= position["age_ms"] <= 700
    assert position["signal"] == market["last_signal"]["id"]
    assert (status["orders"], status["posts"]["in_flight"], status["counts"]["entries_filled"]) == ([], 0, 1)
    assert status["budget"]["left"] > 0
    assert "ARMED_LIVE" in shown
    assert f"{SNDK}: {position['szi']} at" in shown
    assert "signal accepted, order #1" in shown


async def test_what_is_not_known_is_null() -> None:
    """LESSONS 3: without market data there is no price, no age and no READY; nothing passes for zero or for OK."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.ready()
        cut_market(world)
        await world.until(lambda: world.bot.markets[SNDK].bbo is None, 5)
        status, shown = seen(world), text(world)
    (market,) = status["markets"]
    assert {market[name] for name in ("bid", "ask", "bbo_age_ms", "ctx_age_ms", "mark_px")} == {None}
    assert market["missing"] == "no ack of bbo"
    link = next(link for link in status["links"] if link["name"] == "market")
    assert link["live_age_ms"] is None
    assert f"{SNDK}: ? / ? (? old)" in shown
    assert "NOT READY: no ack of bbo" in shown


async def test_an_order_in_flight_is_listed() -> None:
    """OPS-7: while the answer is on its way the order and its post are there, with their ages."""
    async with open_world(bot_settings(), dislocated().source(), config=SLOW) as world:
        await world.until(lambda: bool(world.events("order_sent")), 5)
        await trio.sleep(0.2)
        status, shown = seen(world), text(world)
    (order,) = status["orders"]
    assert (order["state"], order["reduce_only"], order["filled_sz"]) == ("SENT", False, "0")
    assert 200 <= order["age_ms"] <= 300
    assert status["posts"]["in_flight"] == 1
    assert 200 <= status["posts"]["oldest_age_ms"] <= 300
    assert f"{SNDK}: entry buy" in shown


async def test_a_halt_is_shown_with_its_cause() -> None:
    """OPS-7, SAFE-1: mode, cause, source, age and how it clears; READY says what is missing."""
    settings = bot_settings({"safety.halt_on_disconnect": "always"})
    async with open_world(settings, Script().calm().source(), config=FAST) as world:
        await world.ready()
        cut_account(world)
        await world.until(lambda: world.bot.safety.mode.name == "HALT", 5)
        await trio.sleep(0.3)
        status, shown = seen(world), text(world)
    (cause,) = status["safety"]["causes"]
    assert (cause["code"], cause["severity"], cause["clears"]) == ("WS_DISCONNECT", "HALT", "operator")
    assert 300 <= cause["age_ms"] <= 400
    assert abs(status["safety"]["age_ms"] - cause["age_ms"]) <= 5
    assert "HALT WS_DISCONNECT by account" in shown


async def test_reading_changes_nothing() -> None:
    """LESSONS 3: a bot that is asked a hundred times does what one does that is never asked."""

    async def run(asks: int) -> tuple[list[object], list[str]]:
        async with open_world(bot_settings(coins=(SNDK, MU)), dislocated(2, SNDK, MU).source(), config=FAST) as world:
            await world.started.wait()
            for _ in range(asks):
                before = (set(world.bot.ledger.positions), world.bot.limits.day, world.bot.journal.total)
                status_view(world.bot, pid=1, config_hash="")
                assert (set(world.bot.ledger.positions), world.bot.limits.day, world.bot.journal.total) == before
                await trio.sleep(0.05)
            await world.at(6000)
            return [at for at, _ in world.exchange.received], sorted(n.event for n in world.events())

    assert await run(100) == await run(0)


async def test_observation_shows_no_account() -> None:
    """OPS-7, PRD-1: what does not exist is left out: no positions, no orders, no budget."""
    settings = bot_settings({"mode": "observation", "safety.startup_policy": "manual"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("signal")), 5)
        status, shown = seen(world), text(world)
    assert status["run"]["account"] is None
    assert "positions" not in status
    assert status["signals"]["count"] == 1
    assert "account none" in shown


async def test_the_socket_serves_while_the_bot_leaves(tmp_path: Path) -> None:
    """OPS-7, END-1: it belongs to ring 0, so the way out can be watched; then the file is gone."""
    states: set[str] = set()
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 5)
        async with trio.open_nursery() as ring_0:
            status = open_status_socket(tmp_path, 7)
            ring_0.start_soon(status.serve, lambda: status_view(world.bot, pid=7, config_hash=""))
            world.stop.request("Ctrl+C")
            while not world.ended.is_set():
                stream = await trio.open_unix_socket(str(socket_path(tmp_path)))
                answer = json.loads(b"".join([chunk async for chunk in stream]))
                await stream.aclose()
                states.add(answer["lifecycle"]["state"])
            ring_0.cancel_scope.cancel()
        assert world.result is not None
        assert world.result.outcome.flat
    assert {"STOPPING", "FLATTENING"} & states
    assert not socket_path(tmp_path).exists()
