"""The venue's dead-man switch, from the start of the bot to the orders that it cancels after its death (DEAD-1)."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio

from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import HttpAnswer, Point, Rule
from hip3.ops.heartbeat import Heart
from hip3.ops.status_view import status_view
from hip3.simulate.world import World
from tests.app.app_builders import SNDK as SNDK_600
from tests.app.app_builders import bot_settings, dislocated
from tests.app.failures.scenes import (
    NVDA,
    PRICES,
    SNDK,
    another_hand,
    calm,
    cut,
    holding,
    jump,
    lost,
    script,
    settings_of,
    world_of,
)

OPEN = ExchangeConfig(scheduled_cancel_volume_usd=Decimal(0))
"""An account that passes the venue's volume gate."""


SPAN: dict[str, object] = {"schedule_cancel_s": 60}


def scheduled_ms(world: World) -> int | None:
    """When the venue's switch fires."""
    return world.exchange.engine.state.account(world.user.lower()).scheduled_cancel_ms


def shown(world: World) -> Any:
    """What `hip3 status` says of it."""
    return status_view(world.bot, pid=1, config_hash="")["dead_man"]


@pytest.mark.parametrize("span_s", [30, 60])
async def test_the_switch_is_set_ahead_and_put_off(autojump_clock: object, span_s: int) -> None:
    """DEAD-1: three times in its span it is set that far ahead; `hip3 status` shows when it fires."""
    settings = settings_of(SNDK, watchdog={"schedule_cancel_s": span_s})
    async with world_of(settings, script(calm(SNDK)), config=OPEN) as world:
        await world.ready()
        await trio.sleep(span_s)
        times = [action["time"] for action in world.actions("scheduleCancel")]
        assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx(
            [span_s * 1000 / 3] * (len(times) - 1), abs=500
        )
        assert len(times) >= 3
        assert scheduled_ms(world) == times[-1]
        assert shown(world)["state"] == "armed"
        assert 0 < shown(world)["fires_in_ms"] <= span_s * 1000
        assert len(world.events("dead_man")) == 1


async def test_after_the_death_of_the_bot_the_venue_cancels(autojump_clock: object) -> None:
    """DEAD-1: nobody puts it off any more: what rests on the account, of anyone, is cancelled by the venue in time."""
    settings = settings_of(SNDK, watchdog={"schedule_cancel_s": 30})
    async with world_of(settings, script(calm(SNDK, NVDA)), config=OPEN) as world:
        await world.ready()
        async with another_hand(world) as hand:
            await hand.rest_bids(NVDA, 2)
        await world.kill()
        assert len(world.open_orders()) == 2
        await trio.sleep(30)
        assert world.open_orders() == ()


async def test_a_clean_end_takes_it_back(autojump_clock: object) -> None:
    """DEAD-1: what an operator places after a clean stop is not cancelled by the bot's switch."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(SNDK)), config=OPEN) as world:
        await world.ready()
        assert scheduled_ms(world) is not None
        assert (await world.end()).exit_code == 0
        assert scheduled_ms(world) is None
        assert world.actions("scheduleCancel")[-1] == {"type": "scheduleCancel"}


async def test_what_is_left_stays_under_the_switch(autojump_clock: object) -> None:
    """DEAD-1, END-2: a flatten that was given up leaves it armed."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(SNDK, NVDA)), config=OPEN) as world:
        await world.ready()
        async with another_hand(world) as hand:
            await hand.rest_bids(NVDA, 1)
        world.stop.request("Ctrl+C")
        assert (await world.end("Ctrl+C again")).exit_code == 4
        assert scheduled_ms(world) is not None


async def test_a_refusal_is_shown_with_the_venues_words_and_not_repeated_at_once(autojump_clock: object) -> None:
    """DEAD-1: below the volume gate the switch is refused: a warning, the words in `hip3 status`, and trading goes on."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(SNDK))) as world:
        await world.ready()
        await trio.sleep(90)
        assert shown(world)["state"] == "refused by the venue"
        assert shown(world)["why"].startswith(
            "Cannot set scheduled cancel time until enough volume traded. Required: $1000000"
        )
        assert [note.level for note in world.events("dead_man")] == ["warning"]
        assert len(world.actions("scheduleCancel")) == 1
        assert world.bot.safety.allows_entry


def guard(world: World) -> tuple[str, str]:
    """Level and evidence of `cancel_on_disconnect`, as `hip3 status` has them."""
    (row,) = [g for g in status_view(world.bot, pid=1, config_hash="")["guards"] if g["name"] == "cancel_on_disconnect"]  # type: ignore[attr-defined]
    return row["level"], row["evidence"]


def unanswered() -> Rule:
    """The venue's raw answer to each `scheduleCancel` is a 500, and nothing was set."""
    return lost("scheduleCancel", Point.BEFORE_ADMISSION, action=HttpAnswer(500))


async def test_an_accepted_switch_is_what_the_guard_stands_on(autojump_clock: object) -> None:
    """RISK-3, DEAD-1: the venue accepts: OK, and it trades."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(*PRICES), jump(SNDK, 2500)), config=OPEN) as world:
        await holding(world, SNDK)
        level, evidence = guard(world)
        assert level == "OK"
        assert "the venue cancels by itself (scheduleCancel)" in evidence


async def test_a_refused_switch_is_a_warning_in_the_venues_words_and_stops_nothing(autojump_clock: object) -> None:
    """RISK-3, DEAD-1: an account below the volume gate cannot have it: WARN, the words are the evidence, and it trades."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(*PRICES), jump(SNDK, 2500))) as world:
        await holding(world, SNDK)
        level, evidence = guard(world)
        assert level == "WARN"
        assert "Cannot set scheduled cancel time until enough volume traded. Required: $1000000" in evidence
        assert [n.level for n in world.events("guard") if "refuses" in str(n.fields["evidence"])] == ["warning"]


async def test_an_unanswered_switch_keeps_entries_out_until_there_is_an_answer(autojump_clock: object) -> None:
    """RISK-3, DEAD-1, LESSONS 3: nobody knows whether it is set: HOLD, the signal is refused for it; the answer ends it."""
    source = script(calm(*PRICES), jump(SNDK, 2500), jump(SNDK, 28_000, bps=80))
    async with world_of(settings_of(SNDK, watchdog=SPAN), source, config=OPEN) as world:
        world.faults.add(unanswered())
        await world.until(lambda: bool(world.events("signal_judged")), 20)
        assert "GUARD_HOLD" in str(world.events("signal_judged")[0].fields["detail"])
        assert guard(world)[0] == "HOLD"
        assert world.entries == []
        world.faults.rules.clear()
        await holding(world, SNDK)
        assert guard(world)[0] == "OK"
        assert world.clock.mono_ms() > 28_000


async def test_a_switch_that_ran_out_is_no_evidence_any_more(autojump_clock: object) -> None:
    """RISK-3, DEAD-1: renewals go unanswered: OK while the last acceptance lasts, then HOLD until the next one."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(SNDK, until_s=200)), config=OPEN) as world:
        await world.ready()
        world.faults.add(unanswered())
        armed = [a["time"] for a in world.actions("scheduleCancel")][-1]
        await world.until(lambda: world.clock.wall_ms() >= armed - 1000, 70)
        assert guard(world)[0] == "OK"
        await world.until(lambda: guard(world)[0] == "HOLD", 3)
        assert [(c.code.value, c.source) for c in world.bot.safety.causes] == [("GUARD_HOLD", "cancel_on_disconnect")]
        assert not world.bot.safety.allows_entry
        world.faults.rules.clear()
        await world.until(lambda: world.bot.safety.allows_entry, 25)
        assert guard(world)[0] == "OK"


async def test_after_a_lost_session_the_guard_stands_on_the_switch_again(autojump_clock: object) -> None:
    """RISK-3, STOP-3: ERROR while the session is lost, though the venue would cancel; as before when it is back."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(SNDK)), config=OPEN) as world:
        await world.ready()
        cut(world)
        await world.until(lambda: guard(world)[0] == "ERROR", 2)
        assert "the venue cancels by itself" in guard(world)[1]
        await world.ready()
        assert guard(world)[0] == "OK"


async def test_a_heartbeat_that_cannot_be_written_is_a_warning(autojump_clock: object, tmp_path: Path) -> None:
    """RISK-3, DEAD-1: with the switch off a watchdog is what ends a dead bot; without a heartbeat it ends a living one."""
    folder = tmp_path / "state"
    folder.write_text("in the way")
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.ready()
        assert guard(world)[0] == "OK"
        heart = Heart(world.bot, folder, 1, 1000)
        heart.beat()
        assert guard(world)[0] == "WARN"
        assert str(folder) in guard(world)[1]
        assert world.bot.safety.allows_entry
        folder.unlink()
        heart.beat()
        assert guard(world)[0] == "OK"


async def test_an_answer_that_is_lost_is_tried_again(autojump_clock: object) -> None:
    """DEAD-1: a time-out says nothing about the account: the next renewal comes in its time."""
    async with world_of(settings_of(SNDK, watchdog=SPAN), script(calm(SNDK)), config=OPEN) as world:
        world.faults.add(lost("scheduleCancel", Point.BEFORE_ADMISSION, uses=1, action=HttpAnswer(500)))
        await world.ready()
        await trio.sleep(45)
        assert len(world.events("dead_man_unanswered")) == 1
        assert shown(world)["state"] == "armed"


async def test_it_is_off_beside_protective_stops_and_says_so(autojump_clock: object) -> None:
    """DEAD-1, EXIT-5: it would cancel the stops that outlive the process; the reason is in the journal and in the status."""
    settings = bot_settings({"position.protective_stop_bps": 100, "watchdog.schedule_cancel_s": 60}, coins=(SNDK_600,))
    async with world_of(settings, dislocated().source(), config=OPEN) as world:
        await world.ready()
        assert world.actions("scheduleCancel") == []
        assert shown(world) == {"state": "off", "why": "it would cancel the protective stops", "fires_in_ms": None}
        assert [note.fields["why"] for note in world.events("dead_man")] == ["it would cancel the protective stops"]
