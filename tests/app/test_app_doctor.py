"""What `hip3 doctor` says of a running bot: every cause with its remedy, what stands against each way; nothing changes."""

from __future__ import annotations

import json
from typing import Any

import trio

from hip3.cli.doctor_cmd import diagnosis, diagnosis_lines
from hip3.exchange.faults import Disconnect, Point, Rule
from hip3.ops.journal_file import json_value
from hip3.ops.status_view import status_view
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, Script, bot_settings, cut_account, dislocated
from tests.app.operator_desk import flat_in_halt, operate

UNHALT = 'hip3 ops unhalt --reason "..."'
PROMOTE = 'hip3 ops promote --reason "..."'


def examined(world: World) -> dict[str, Any]:
    """The diagnosis as the command makes it of the bytes of the status."""
    view = status_view(world.bot, pid=7, config_hash="")
    return diagnosis(json.loads(json.dumps(view, default=json_value)))


def text(world: World) -> str:
    return "\n".join(diagnosis_lines(examined(world)))


async def test_a_bot_that_trades_is_well() -> None:
    """OPS-1: ARMED_LIVE, no cause, nothing against anything."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.ready()
        found = examined(world)
        assert (found["mode"], found["causes"], found["against"], found["not_ready"]) == ("ARMED_LIVE", [], {}, [])
        assert "ARMED_LIVE for " in text(world)


async def test_a_start_that_waits_names_what_it_waits_for() -> None:
    """OPS-1, SAFE-3: BOOTSTRAP, each missing condition, and the command that would be refused for them."""
    settings = bot_settings({"safety.startup_policy": "manual"})
    async with open_world(settings, Script().calm().source(), config=FAST) as world:
        await world.started.wait()
        found = examined(world)
        cause, *guards = found["causes"]
        assert (cause["code"], cause["source"], cause["command"]) == ("BOOTSTRAP", "process", PROMOTE)
        assert {guard["code"] for guard in guards} == {"GUARD_HOLD"}  # nothing has been measured yet
        lacking = [o["what"] for o in found["against"]["promote"] if o["what"] != "GUARD_HOLD"]
        assert lacking == ["READY", "RECONCILE"]
        assert "md_ready is missing" in found["not_ready"]
        await world.until(lambda: world.bot.ready.is_ready, 5)
        assert f"nothing stands against the way to ARMED_LIVE: {PROMOTE}" in text(world)
        assert operate(world, "promote")["ok"]


async def test_a_halt_says_what_holds_it_and_which_command_ends_it() -> None:
    """OPS-1, STOP-1: since when, who, why it holds still; afterwards that nothing stands against it, and that is true."""
    settings = bot_settings({"safety.halt_on_disconnect": "always"})
    async with open_world(settings, Script().calm().pulse(60).source(), config=FAST) as world:
        await world.ready()
        down = Rule(Point.CONNECT, Disconnect(), uses=None)
        world.faults.add(down)
        cut_account(world)
        await flat_in_halt(world)
        shown = text(world)
        assert "no entry leaves; everything that the venue lists is cancelled and closed" in shown
        assert "HALT WS_DISCONNECT, by account, for " in shown
        assert f"command: {UNHALT}" in shown
        assert "holds still: not READY" in shown
        assert "against the way to ARMED_SAFE" in shown
        assert "WS_DISCONNECT is not on the list" in shown
        world.faults.rules.remove(down)
        await world.until(lambda: not examined(world)["against"]["unhalt"], 60)
        assert operate(world, "unhalt")["ok"]
        assert examined(world)["causes"][0]["ends"] == "promotion by hand"


async def test_what_ends_by_itself_needs_no_command() -> None:
    """OPS-1: a cause that its source takes back, and one that ends with the process, each with its own words."""
    settings = bot_settings({"safety.halt_on_disconnect": "never"})
    async with open_world(settings, Script().calm().source(), config=FAST) as world:
        await world.ready()
        world.faults.add(Rule(Point.CONNECT, Disconnect(), uses=None))
        cut_account(world)
        await world.until(lambda: bool(world.bot.safety.causes), 2)
        (cause,) = examined(world)["causes"]
        assert (cause["code"], cause["command"]) == ("WS_DISCONNECT", "none needed: it ends by itself")
        world.stop.request("Ctrl+C")
        await world.until(lambda: world.bot.lifecycle.state.name != "RUNNING", 2)
        ended = {c["code"]: c["command"] for c in examined(world)["causes"]}
        assert ended["SHUTDOWN"].startswith("wait until this process has ended")


async def test_asking_changes_nothing() -> None:
    """LESSONS 3: a HALT that is examined all the time ends as one that never is; evidence is not touched by looking."""

    async def run(asks: int) -> tuple[list[str], set[str]]:
        async with open_world(bot_settings(), dislocated().pulse(20).source(), config=FAST) as world:
            await world.until(lambda: bool(world.positions()), 5)
            operate(world, "kill")
            for _ in range(100):
                if asks:
                    evidence = (world.bot.evidence.incident, world.bot.evidence.clean)
                    examined(world)
                    assert (world.bot.evidence.incident, world.bot.evidence.clean) == evidence
                await trio.sleep(0.05)
            await world.at(9000)
            return [e.raw_action["type"] for _, e in world.exchange.received], {n.event for n in world.events()}

    assert await run(1) == await run(0)
