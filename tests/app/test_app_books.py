"""What random faults over recordings have taught: cases that a seed of `hip3 replay` found, cut to their core."""

from __future__ import annotations

import trio

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Delay, Drop, HttpAnswer, Point, ReplaceBody, Rule
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, SNDK, bot_settings, by_hand, closes, cut_account, dislocated

STOPS_SOON = {"position.time_stop_ms": 3000}
PATIENT = {"position.time_stop_ms": 300_000, "position.reduce_only_timeout_ms": 300_000}


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


async def test_a_close_whose_fill_was_lost_ends_as_a_trade_and_not_as_a_correction() -> None:
    """POS-3, LESSONS 18: a size in doubt has the fills read first, so that tally and loss limit hear of the close."""
    source = dislocated().pulse(180).source()
    async with open_world(bot_settings(PATIENT), source, config=FAST) as world:
        await holding(world)
        world.faults.add(Rule(Point.FRAME, Drop(), is_fill))
        await by_hand(world, OrderSide.SELL, "599", str(world.bot.ledger.position(SNDK).szi), reduce_only=True)
        await world.until(lambda: world.bot.ledger.position(SNDK).szi == 0, 90)
        assert world.events("position_corrected") == []
        assert len(world.events("position_closed")) == 1
        assert (world.bot.tally.fills, world.bot.tally.trades) == (2, 1)


async def test_a_fill_older_than_the_statement_that_was_taken_over_moves_nothing() -> None:
    """POS-3, RDY-3: the venue's size contains it, so it is counted and opens no position that is not there."""
    source = dislocated().pulse(180).source()
    async with open_world(bot_settings(PATIENT), source, config=FAST) as world:
        await holding(world)
        world.faults.add(
            Rule(Point.FRAME, Delay(150_000), is_fill),
            Rule(Point.INFO, ReplaceBody("[]"), lambda s: s == "userFillsByTime", uses=None),
        )
        await by_hand(world, OrderSide.SELL, "599", str(world.bot.ledger.position(SNDK).szi), reduce_only=True)
        await world.until(lambda: len(world.events("position_corrected")) == 1, 90)
        await world.until(lambda: world.bot.tally.fills == 2, 180)
        assert world.bot.ledger.position(SNDK).szi == 0
        assert closes(world) == []


async def test_a_close_waits_for_a_link_and_not_for_its_acks() -> None:
    """EXIT-1: after a cut the close leaves with the new connection, though an ack of a subscription is lost."""
    settings = bot_settings({**STOPS_SOON, "safety.halt_on_disconnect": "never"})
    async with open_world(settings, dislocated().pulse(60).source(), config=FAST) as world:
        await holding(world)
        world.faults.add(Rule(Point.FRAME, Drop(), lambda s: s == "subscriptionResponse", uses=2))
        await trio.sleep(2.8)
        cut_account(world)
        await world.until(lambda: not world.positions(), 4)
        assert len(world.events("subscribe_unacknowledged")) == 0


async def test_the_books_hear_of_a_flatten_in_halt_whose_fill_was_lost() -> None:
    """STOP-2, POS-3: after the halt procedure fills and account are read, within seconds and not with the next minute."""
    async with open_world(bot_settings(), dislocated().pulse(60).source(), config=FAST) as world:
        await holding(world)
        world.faults.add(Rule(Point.FRAME, Drop(), is_fill), Rule(Point.FRAME, Drop(), is_fill))
        cut_account(world)
        await world.until(lambda: not world.positions(), 4)
        await world.until(lambda: world.bot.ledger.position(SNDK).szi == 0, 5)
        assert world.bot.tally.trades == 1


async def test_a_close_in_doubt_does_not_wait_for_questions_that_nobody_answers() -> None:
    """EXIT-3, DESIGN 9.8: with queries that hang or fail, the next close leaves within 5 s of a 502."""
    for fault in (Drop(), HttpAnswer(500)):
        async with open_world(bot_settings(STOPS_SOON), dislocated().pulse(60).source(), config=FAST) as world:
            await holding(world)
            world.faults.add(
                Rule(Point.BEFORE_ADMISSION, HttpAnswer(502, "Bad Gateway"), is_order),
                Rule(Point.INFO, fault, uses=None),
            )
            await world.until(lambda: not world.positions())
            assert [at - closes(world)[0][0] <= 5000 for at, _ in closes(world)] == [True, True]
            world.faults.rules.clear()
            assert (await world.end()).exit_code == 0


async def test_fills_of_an_executed_entry_are_asked_for_until_they_come() -> None:
    """POST-4, EXIT-1: the answer said filled, so failed questions never slow down; the time stop waits for the fill only."""
    async with open_world(bot_settings(STOPS_SOON), dislocated().pulse(60).source(), config=FAST) as world:
        await world.ready()
        world.faults.add(
            Rule(Point.FRAME, Drop(), is_fill),
            Rule(Point.INFO, HttpAnswer(500), lambda s: s == "orderStatus", uses=5),
        )
        await world.until(lambda: bool(world.positions()))
        await world.until(lambda: world.bot.tally.trades == 1, 13)  # five questions in 2 s each, the sixth, and the way
