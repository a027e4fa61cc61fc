"""The trail from a venue frame to what `hip3 explain` reads: each end that a signal can have, out of a journal on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hip3.cli.explain_cmd import outcome, story_lines, story_object
from hip3.core.gates import GATES
from hip3.core.ids import OrderSide
from hip3.exchange.faults import Drop, Faults, Point, Rule
from hip3.ops.journal_file import LogFile
from hip3.ops.story import Story, find_story
from hip3.simulate.world import World, open_world
from tests.app.app_builders import (
    FAST,
    MU,
    SLOW,
    SNDK,
    Script,
    bot_settings,
    by_hand,
    dislocated,
    entries,
    judged,
    verdicts,
)

BRIEF = {"position.time_stop_ms": 2000}
SMALL = {"detector.max_order_notional_usd": 20, **BRIEF}


def told(world: World, tmp_path: Path, signal: object) -> Story:
    """The story as the command reads it: the bot's notes through the journal file and back."""
    log = LogFile(tmp_path / f"{signal}.jsonl")
    assert log.write(world.events()) is None
    log.close()
    return find_story([log.path], str(signal))


def gates(story: Story) -> dict[str, dict[str, Any]]:
    trail: Any = story_object(story)["gates"]
    return {step["name"]: step for step in trail}


def refusing(story: Story) -> list[str]:
    return [name for name, step in gates(story).items() if step["verdict"] != "pass"]


async def test_a_trade_is_told_from_signal_to_close(tmp_path: Path) -> None:
    """OPS-7: filters, gates, order, post, answer, fill, time stop, closing order and trade, linked by the signal's id."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("position_closed")), 10)
        story = told(world, tmp_path, judged(world, "Queued")[0].fields["signal"])
    happened = [str(e["event"]) for e in story.events]
    expected = (
        "order_enqueued",
        "signal_judged",
        "action_signed",
        "order_sent",
        "post_response",
        "fill",
        "order_filled",
        "time_stop_triggered",
        "reduce_only_enqueued",
        "order_sent",
        "position_closed",
    )
    rest = iter(happened)
    assert all(event in rest for event in expected), happened
    assert happened.count("post_response") == 2
    assert refusing(story) == []
    assert outcome(story)[0] == "closed"
    closed = story.first("position_closed")
    assert closed is not None
    assert (closed["signal"], closed["coin"], closed["exit_reason"]) == (story.signal["signal"], SNDK, "time_stop")
    assert any("<- decided" in line for line in story_lines(story)) is False


async def test_the_trail_shows_the_market_as_the_gates_saw_it(tmp_path: Path) -> None:
    """OPS-7: the order is registered and filled by the time the trail is written; the trail has neither."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 5)
        story = told(world, tmp_path, judged(world, "Queued")[0].fields["signal"])
        (order,) = entries(world)
    steps = gates(story)
    assert steps["pending"]["inputs"] == {"orders": []}
    assert steps["position"]["inputs"]["szi"] == "0"
    assert float(steps["governor"]["inputs"]["exposure_usd"]) == 0
    assert float(steps["market_cap"]["inputs"]["order_usd"]) == float(order["s"]) * 600
    assert steps["ready"]["inputs"]["conditions"] == dict.fromkeys(
        ("md_ready", "order_snapshot", "fills_snapshot", "position_synced"), True
    )
    assert steps["ready"]["inputs"]["ctx_age_ms"] == 0
    assert steps["queue"]["inputs"]["queued"] == 0


async def test_every_gate_that_would_have_refused_is_named(tmp_path: Path) -> None:
    """OPS-7, GATE-1: while a position fills the market's cap, the cap decides and the position would have refused too."""
    settings = bot_settings({"limits.max_notional_per_market_usd": 50})
    async with open_world(settings, Script().calm().rising(2, 4).source(), config=FAST) as world:
        await world.until(lambda: len(verdicts(world)) >= 2, 8)
        held = judged(world, "Rejected(MaxPositionPerMarket)")[0]
        story = told(world, tmp_path, held.fields["signal"])
    assert refusing(story) == ["market_cap", "position"]
    text = "\n".join(story_lines(story))
    assert "REFUSE market_cap" in text
    assert text.count("<- decided") == 1
    assert outcome(story)[0] == "refused"
    assert float(gates(story)["market_cap"]["inputs"]["exposure_usd"]) > 40


async def test_a_pending_order_is_shown_with_its_age(tmp_path: Path) -> None:
    """OPS-7: the order that was on its way is named by id, state and age."""
    script = Script().calm().rising(2, 3)
    async with open_world(bot_settings(SMALL), script.source(), config=SLOW) as world:
        await world.until(lambda: "Skipped(PendingOrderExists)" in verdicts(world), 6)
        story = told(world, tmp_path, judged(world, "Skipped(PendingOrderExists)")[0].fields["signal"])
    (order,) = gates(story)["pending"]["inputs"]["orders"]
    assert (order["state"], order["reduce_only"]) == ("SENT", False)
    assert 900 <= order["age_ms"] <= 1100


async def test_causes_are_shown_with_their_ages(tmp_path: Path) -> None:
    """OPS-7, SAFE-1: a signal before promotion names the cause that forbids entries, and what READY lacks or has."""
    settings = bot_settings({"safety.startup_policy": "manual"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await world.until(lambda: len(verdicts(world)) == 1, 5)
        story = told(world, tmp_path, world.events("signal_judged")[0].fields["signal"])
    mode = gates(story)["mode"]
    assert (mode["verdict"], mode["inputs"]["mode"]) == ("HardStop", "ARMED_SAFE")
    (cause,) = mode["inputs"]["causes"]
    assert cause["code"] == "BOOTSTRAP"
    assert cause["age_ms"] > 1000
    assert refusing(story) == ["mode"]


async def test_an_order_that_found_no_match_is_told(tmp_path: Path) -> None:
    """OPS-7: the quote was gone when the order arrived: the venue's own words are in the story."""
    script = dislocated().quote(2010, "601.9", "602.1")
    async with open_world(bot_settings(), script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("order_rejected")), 5)
        story = told(world, tmp_path, world.events("signal_judged")[0].fields["signal"])
    assert outcome(story)[0] == "rejected"
    refused = story.first("action_rejected")
    assert refused is not None
    assert "could not immediately match" in str(refused["error"])


async def test_an_order_in_doubt_is_told_with_its_end(tmp_path: Path) -> None:
    """OPS-7, POST-4: the failed post, the doubt and the answer to it belong to the signal."""
    silent = Faults([Rule(Point.FRAME, Drop(), lambda kind: kind in ("post", "orderUpdates", "userFills"), skip=1, uses=3)])
    async with open_world(bot_settings(), dislocated().source(), config=FAST, faults=silent) as world:
        await world.until(lambda: bool(world.events("doubt_answered")) and bool(world.events("fill")), 15)
        story = told(world, tmp_path, world.events("signal_judged")[0].fields["signal"])
    happened = [str(e["event"]) for e in story.events]
    assert {"send_failure", "in_doubt", "doubt_answered", "fill"} <= set(happened)


async def test_the_way_out_belongs_to_the_story(tmp_path: Path) -> None:
    """OPS-7, END-1: the flatten closes with an id of its own; its fill and the trade are found by the position."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("order_filled")), 5)
        assert (await world.end()).flat
        story = told(world, tmp_path, world.events("signal_judged")[0].fields["signal"])
    assert [e["event"] for e in story.events].count("fill") == 2
    word, words = outcome(story)
    assert word == "closed"
    assert "way out" in words


async def test_another_signal_of_the_market_is_not_part_of_the_story(tmp_path: Path) -> None:
    """OPS-7: while a position is held, refused signals and trades by hand elsewhere have stories of their own."""
    script = Script().calm(SNDK, MU).rising(2, 4)
    async with open_world(bot_settings(coins=(SNDK, MU)), script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 5)
        await by_hand(world, OrderSide.BUY, "601", "0.02", coin=MU)
        await world.until(lambda: len(verdicts(world)) >= 3, 5)
        first, second = (n.fields["signal"] for n in world.events("signal_judged")[:2])
        story, other = told(world, tmp_path, first), told(world, tmp_path, second)
    assert {e.get("signal") for e in story.events} <= {first, None}
    assert {e.get("coin") for e in story.events} <= {SNDK, None}
    assert [e["event"] for e in other.events] == ["signal_judged"]


@pytest.mark.parametrize("dedup", [False, True])
async def test_a_filter_that_is_off_says_what_it_would_have_blocked(tmp_path: Path, dedup: bool) -> None:
    """OPS-7, DET-4, LESSONS 28: without dedup a flickering quote is signalled again, and that signal's story says that
    dedup would have refused it; with dedup there is no such signal.
    """
    script = dislocated(2).quote(2300, "601.9", "602.1").quote(2600, "599.8", "600.1", sz="9")
    async with open_world(bot_settings({**SMALL, "detector.dedup": dedup}), script.source(), config=FAST) as world:
        await world.at(2900)
        stories = [told(world, tmp_path, note.fields["signal"]) for note in world.events("signal_judged")]
    trails: list[Any] = [story_object(story)["filters"] for story in stories]
    said = [step for trail in trails for step in trail if step["name"] == "dedup"]
    if dedup:
        assert [step["verdict"] for step in said] == ["pass"]
    else:
        assert len(said) > 1
        assert [(step["verdict"], step["would_reject"]) for step in said] == [
            ("off", False),
            *[("off", True)] * (len(said) - 1),
        ]


async def test_a_direction_filter_that_is_off_says_what_it_would_have_blocked(tmp_path: Path) -> None:
    """OPS-7, DET-4, LESSONS 28: it is switched off, the quote that moved away by itself is bought, and the story of that
    trade says that the filter would have refused it, and from what numbers."""
    script = Script().calm().oracle(1500, "599.5").quote(2500, "597", "598")
    async with open_world(bot_settings({**SMALL, "detector.direction": False}), script.source(), config=FAST) as world:
        await world.until(lambda: bool(entries(world)), 5)
        story = told(world, tmp_path, judged(world, "Queued")[0].fields["signal"])
    trail: Any = story_object(story)["filters"]
    (said,) = [step for step in trail if step["name"] == "direction"]
    assert (said["verdict"], said["would_reject"]) == ("off", True)
    assert said["inputs"]


async def test_what_is_off_says_what_it_would_have_compared_and_no_gate_is_off(tmp_path: Path) -> None:
    """OPS-7, LESSONS 28: of each filter without a number the story has the measured one, so that a narrower condition can be
    chosen from trades; every gate was asked, for none of them has a switch."""
    async with open_world(bot_settings(SMALL), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(entries(world)), 5)
        story = told(world, tmp_path, judged(world, "Queued")[0].fields["signal"])
    trail: Any = story_object(story)["filters"]
    steps = {step["name"]: step for step in trail}
    off = {name: steps[name]["inputs"] for name in ("oracle_move", "oracle_run", "spread", "confidence", "quote_lag")}
    assert {steps[name]["verdict"] for name in off} == {"off"}
    assert float(off["oracle_move"]["was_px"]) == 600
    assert off["oracle_run"]["run"] == 1
    assert float(off["spread"]["spread_bps"]) == pytest.approx(3.33, abs=0.01)
    assert 0 < float(off["confidence"]["confidence"]) <= 1
    assert set(gates(story)) == {name for name, _ in GATES} | {"queue"}
    assert {step["verdict"] for step in gates(story).values()} == {"pass"}


async def test_a_signal_in_observation_has_filters_and_no_gates(tmp_path: Path) -> None:
    """OPS-7, PRD-1: nobody is asked for leave to trade; what the filters said is there."""
    settings = bot_settings({"mode": "observation", "safety.startup_policy": "manual"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("signal")), 5)
        story = told(world, tmp_path, world.events("signal")[0].fields["signal"])
    assert gates(story) == {}
    filters: Any = story_object(story)["filters"]
    assert {"edge", "stale_bbo", "stale_reference", "size"} <= {step["name"] for step in filters}
    assert all(step["verdict"] in ("pass", "off") for step in filters)


async def test_follow_ups_are_part_of_the_story(tmp_path: Path) -> None:
    """OPS-7, DET-5: the edge after 1, 3 and 5 s, of a signal that was not traded as well."""
    settings = bot_settings({"safety.startup_policy": "manual"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await world.until(lambda: len(world.events("follow_up")) == 3, 12)
        story = told(world, tmp_path, world.events("signal")[0].fields["signal"])
    assert [e["after_ms"] for e in story.follow_ups] == [1000, 3000, 5000]
