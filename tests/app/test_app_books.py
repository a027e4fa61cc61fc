"""What random faults over recordings have taught: cases that a seed of `hip3 replay` found, cut to their core."""

from __future__ import annotations

import trio

from hip3.exchange.faults import Delay, Drop, HttpAnswer, Point, ReplaceBody, Rule
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, SNDK, bot_settings, closes, dislocated

STOPS_SOON = {"position.time_stop_ms": 3000}


def is_order(subject: str) -> bool:
    return subject == "order"


def is_fill(subject: str) -> bool:
    return subject == "userFills"


async def holding(world: World) -> None:
    await world.ready()
    await world.until(lambda: world.bot.ledger.position(SNDK).szi != 0)


async def test_a_close_answered_with_a_server_error_is_tried_again_soon() -> None:
    """EXIT-3, POST-3: a 502 says nothing of a closing order; the next one leaves within 5 s."""
    source = dislocated().pulse(60).source()
    async with open_world(bot_settings(STOPS_SOON), source, config=FAST) as world:
        await holding(world)
        world.faults.add(Rule(Point.BEFORE_ADMISSION, HttpAnswer(502, "Bad Gateway"), is_order))
        await world.until(lambda: bool(closes(world)))
        first_ms, first = closes(world)[0]
        await world.until(lambda: world.bot.ledger.position(SNDK).szi == 0)
        second_ms, second = closes(world)[1]
        assert second_ms - first_ms <= 5000
        assert second["c"] != first["c"]
        assert len(closes(world)) == 2
        assert (await world.end()).exit_code == 0


async def test_a_broken_answer_of_a_close_that_worked_sends_no_second_one() -> None:
    """EXIT-3: where the fill shows that the close worked, its unreadable answer starts nothing."""
    source = dislocated().pulse(60).source()
    async with open_world(bot_settings(STOPS_SOON), source, config=FAST) as world:
        await holding(world)
        world.faults.add(Rule(Point.AFTER_COMMIT, ReplaceBody('{"status": "maybe"}'), is_order))
        await world.until(lambda: not world.positions())
        await trio.sleep(10)
        assert len(closes(world)) == 1
        assert world.bot.ledger.position(SNDK).szi == 0


async def test_the_books_end_as_the_venues_where_the_last_fill_was_lost() -> None:
    """DESIGN 9.4: a stop between a close and its fill's frame still books the fill, and the trade is counted."""
    source = dislocated().pulse(60).source()
    async with open_world(bot_settings(STOPS_SOON), source, config=FAST) as world:
        await holding(world)
        world.faults.add(Rule(Point.FRAME, Drop(), is_fill))
        await world.until(lambda: not world.positions())
        outcome = await world.end()
        bot = world.bot
        assert outcome.exit_code == 0
        assert {f.key for f in world.fills()} <= bot.ledger.seen_fills.keys()
        assert bot.ledger.held() == []
        assert (bot.tally.trades, bot.tally.fills) == (1, 2)


async def test_the_books_say_so_where_the_last_fill_cannot_be_read() -> None:
    """DESIGN 9.4, END-1: the venue's flat is the exit code; sums that may lack a fill are called that."""
    source = dislocated().pulse(60).source()
    async with open_world(bot_settings(STOPS_SOON), source, config=FAST) as world:
        await holding(world)
        world.faults.add(
            Rule(Point.FRAME, Drop(), is_fill),
            Rule(Point.INFO, HttpAnswer(500), lambda s: s == "userFillsByTime", uses=None),
        )
        await world.until(lambda: not world.positions())
        assert (await world.end()).exit_code == 0
        assert len(world.events("books_unread")) == 1


async def test_no_post_is_in_flight_after_the_end() -> None:
    """BAT-6: sent - completed is zero at the end, also for a post whose answer would have come later."""
    source = dislocated().pulse(60).source()
    async with open_world(bot_settings(STOPS_SOON), source, config=FAST) as world:
        await holding(world)
        world.faults.add(Rule(Point.AFTER_COMMIT, Delay(4500), is_order))
        await world.until(lambda: bool(closes(world)))
        assert world.bot.posts.in_flight == 1
        assert (await world.end()).exit_code == 0
        posts = world.bot.posts
        assert (posts.in_flight, posts.sent) == (0, posts.completed)
