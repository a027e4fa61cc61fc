"""Orders of which no byte left: a socket that takes none, an action that cannot be made (POST-1, POST-3, POST-6)."""

from __future__ import annotations

import attrs
import trio

from hip3.exchange.scripted import ScriptedSource
from hip3.fsm.order import OrderState
from hip3.fsm.post import PostState
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
    dislocated,
    entries,
    listings,
)
from tests.app.failures.plumbing import Plumbing

CALM = {"safety.halt_on_disconnect": "never"}
PING_S = 20
"""After the start of a session, and every so often: what stands before an order in a socket that takes no bytes (WS-2)."""


async def shut_before_the_ping(world: World, pipes: Plumbing) -> None:
    """No socket takes a byte from just before the first pings on, until the account's link is lost."""
    await trio.sleep(PING_S - 0.2)
    pipes.shut()
    await world.until(lambda: any(n.fields["link"] == "account" for n in world.events("ws_lost")), 10)


async def test_an_entry_of_which_no_byte_left_is_dropped_and_not_in_doubt() -> None:
    """POST-1, POST-3, POST-6: SEND_ERROR; the entry is CANCELED, its market free, nobody is asked about it, an alert says
    so with the signal, and it counts. With the next link the market trades."""
    pipes = Plumbing()
    script = dislocated(PING_S + 2).pulse(60).oracle(39_500, "604")
    async with open_world(bot_settings(CALM), script.source(), config=FAST, through=pipes.through) as world:
        await world.ready()
        await shut_before_the_ping(world, pipes)
        post = world.bot.posts.find(1)
        assert post is not None
        assert (post.state, post.was_sent, world.bot.posts.sent) == (PostState.SEND_ERROR, False, 0)
        await world.until(lambda: bool(world.bot.ledger.finished), 1)
        (order,) = world.bot.ledger.finished.values()
        assert (order.state, order.sent_ms, order.queries, order.doubted_ms) == (OrderState.CANCELED, None, 0, None)
        (note,) = world.events("order_not_sent")
        assert (note.level, note.fields["signal"]) == ("critical", order.intent.signal_id)
        (failure,) = world.events("order_send_failure")
        assert failure.fields["signal"] == order.intent.signal_id
        assert world.bot.tally.order_send_failure_total == 1
        assert world.events("in_doubt") == []
        await world.until(lambda: len(entries(world)) == 1, 30)
        assert entries(world)[0]["c"] != order.cloid.value


async def test_a_close_of_which_no_byte_left_waits_at_the_head_under_its_id() -> None:
    """POST-3, BAT-5: SEND_ERROR; the close is PENDING again and not in doubt; it leaves once, with the next link."""
    pipes = Plumbing()
    settings = bot_settings({**CALM, "position.time_stop_ms": 19_000, "position.reduce_only_timeout_ms": 60_000})
    script = dislocated(3).pulse(60)
    async with open_world(settings, script.source(), config=FAST, through=pipes.through) as world:
        await world.ready()
        await shut_before_the_ping(world, pipes)
        (close,) = (o for o in world.bot.ledger.orders.values() if o.intent.reduce_only)
        assert (close.state, close.doubted_ms, len(world.bot.scheduler)) == (OrderState.PENDING, None, 1)
        assert closes(world) == []
        await world.until(lambda: not world.positions(), 10)
        assert [order["c"] for _, order in closes(world)] == [close.cloid.value]
        assert [n.fields["sent"] for n in world.events("send_failure")] == [False]
        assert world.events("order_not_sent") == []


async def test_a_link_that_is_down_when_an_entrys_turn_comes_is_an_alert() -> None:
    """POST-3, POST-6: the entry waits for its tick, the link goes: dropped, released, told loudly, counted."""
    pipes = Plumbing()
    script = Script().calm(SNDK, MU).pulse(40).pulse(40, coin=MU).oracle(1500, "602").oracle(5500, "602", coin=MU)
    settings = bot_settings({**CALM, "executor.period_ms": 20_000}, coins=(SNDK, MU))
    async with open_world(settings, script.source(), config=FAST, through=pipes.through) as world:
        await world.until(lambda: len(world.bot.scheduler) == 1 if world.app else False, 10)
        cut_account(world)
        await world.until(lambda: bool(world.events("order_not_sent")), 1)
        (note,) = world.events("order_not_sent")
        assert (note.level, note.fields["coin"], note.fields["why"]) == ("critical", MU, "the account link is down")
        assert world.bot.tally.order_send_failure_total == 1
        await trio.sleep(0.1)
        assert not world.bot.ledger.has_pending_entry(MU)
        await trio.sleep(25)
        assert [o["a"] for o in entries(world)] == [ASSETS[SNDK]]


async def test_an_order_whose_bytes_cannot_be_made_is_not_sent_and_ends_nothing() -> None:
    """POST-3: the venue lists nine decimals, a size on the wire has eight: the post is a SEND_ERROR, the entry is dropped
    with an alert, and the other market trades on."""
    dexes = listings()
    stocks = tuple(attrs.evolve(m, sz_decimals=9) if m.coin == SNDK else m for m in dexes[1].universe)
    script = Script().calm(SNDK, MU).pulse(30).pulse(30, coin=MU).oracle(1500, "602").oracle(5500, "602", coin=MU)
    source = ScriptedSource([dexes[0], attrs.evolve(dexes[1], universe=stocks), dexes[2]], script.source().events())
    async with open_world(bot_settings(CALM, coins=(SNDK, MU)), source, config=FAST) as world:
        await world.until(lambda: bool(entries(world)), 10)
        (note,) = world.events("order_not_sent")
        assert (note.level, note.fields["coin"]) == ("critical", SNDK)
        post = world.bot.posts.find(1)
        assert post is not None
        assert post.state is PostState.SEND_ERROR
        assert [o["a"] for o in entries(world)] == [ASSETS[MU]]
        assert not world.bot.ledger.has_pending_entry(SNDK)
        assert world.events("task_crashed") == []
