"""Answers that are strange, late, doubled or lost with their link: each order has one end and no market stays blocked.

Everything is driven by what the venue does with frames and actions (SPEC 11 and 12).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
import trio

from hip3.exchange.faults import Delay, Duplicate, FaultAction, Faults, HttpAnswer, Point, RefuseText, ReplaceBody, Rule
from hip3.fsm.order import OrderState
from hip3.fsm.post import PostState
from hip3.fsm.safety import SafetyMode
from hip3.settings.schema import HaltOnDisconnect
from hip3.simulate.world import World
from tests.app.failures.own_orders import (
    OWN_FRAMES,
    ROOMY,
    deaf,
    entry,
    in_state,
    in_state_after_send,
    orders,
    sent,
    twice,
    verdicts,
)
from tests.app.failures.scenes import (
    AMD,
    MU,
    NVDA,
    PRICES,
    SNDK,
    TSLA,
    calm,
    cut,
    holding,
    jump,
    lost,
    quotes,
    script,
    settings_of,
    trading,
    world_of,
)

# ---- answers


BATCH_ERROR = '{"status":"ok","response":{"type":"order","data":{"statuses":[{"error":"Order has zero size."}]}}}'


async def test_a_refused_entry_releases_its_market_and_is_counted(autojump_clock: object) -> None:
    """POST-2, POST-3: refused whole: REJECTED with the venue's words, counted once, and the market trades again."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1, action=RefuseText("Insufficient margin."))])
    async with world_of(settings_of(SNDK), twice(SNDK), faults=faults) as world:
        await sent(world)
        await in_state(world, OrderState.REJECTED)
        assert entry(world).error == "Insufficient margin."
        assert world.bot.tally.entries_rejected == 1
        assert [str(n.fields["error"]) for n in world.events("action_rejected")] == ["Insufficient margin."]
        await holding(world, SNDK)


async def test_one_error_stands_for_the_whole_batch(autojump_clock: object) -> None:
    """POST-2, LESSONS 19: `status: ok` with a single error refuses both orders of the action."""
    source = script(calm(*PRICES), jump(MU, 2500), jump(SNDK, 3500), jump(NVDA, 3500))
    settings = settings_of(MU, SNDK, NVDA, executor={"period_ms": 2000}, limits=ROOMY)
    faults = Faults([Rule(Point.BEFORE_ADMISSION, ReplaceBody(BATCH_ERROR), lambda kind: kind == "order", skip=1)])
    async with world_of(settings, source, faults=faults) as world:
        await world.ready()
        await world.until(lambda: len(world.actions("order")) == 2)
        assert len(world.actions("order")[1]["orders"]) == 2
        await holding(world, MU)
        assert {o.intent.coin: o.state for o in orders(world)} == {
            MU: OrderState.FILLED,
            SNDK: OrderState.REJECTED,
            NVDA: OrderState.REJECTED,
        }


@pytest.mark.parametrize(
    "action",
    [
        ReplaceBody('{"status":"maybe"}'),
        ReplaceBody("[]"),
        ReplaceBody('{"status":"ok","response":{"type":"order","data":{"statuses":[{"melted":{}}]}}}'),
        HttpAnswer(429),
        HttpAnswer(502, "<html>Bad Gateway</html>"),
    ],
    ids=["unknown status", "no object", "unknown order status", "429", "html"],
)
async def test_an_answer_that_nobody_understands_is_doubt(action: FaultAction, autojump_clock: object) -> None:
    """POST-2, TYP-5, LESSONS 19: executed, but the answer cannot be read: UNKNOWN, asked at once, FILLED by the query."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.add(lost("order", Point.AFTER_COMMIT, uses=1, action=action), *deaf()[1:])
        await sent(world)
        await in_state(world, OrderState.UNKNOWN)
        assert world.bot.posts.in_flight == 0
        await holding(world, SNDK)
        assert entry(world).state is OrderState.FILLED
        assert entry(world).doubted_ms is not None
        assert len(world.entries) == 1


async def test_a_post_answered_on_the_error_channel_times_out(autojump_clock: object) -> None:
    """POST-1, PROTOCOL 2.5, LESSONS 19: an error frame has no id, so the deadline ends the post, and the query its order."""
    error = '{"channel":"error","data":"Error parsing JSON into valid websocket request: {}"}'
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.add(lost("post", uses=1, action=ReplaceBody(error)), *deaf()[1:])
        await sent(world)
        began = trio.current_time()
        await world.until(lambda: bool(world.events("send_failure")))
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)
        await holding(world, SNDK)


async def test_a_duplicate_nonce_is_not_taken_for_a_refusal(autojump_clock: object) -> None:
    """POST-2, POST-4: "duplicate nonce" says that something with this nonce ran; only the query tells what."""
    faults = Faults(
        [lost("order", Point.BEFORE_ADMISSION, uses=1, action=RefuseText("Invalid nonce: duplicate nonce 1767225603030"))]
    )
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await in_state_after_send(world, OrderState.UNKNOWN)
        await in_state(world, OrderState.EXPIRED)
        assert len(world.entries) == 1


async def test_answers_out_of_order_reach_their_own_orders(autojump_clock: object) -> None:
    """POST-5: the first answer is overtaken by the second; each finds its order by the id of its post."""
    refuse_second = Rule(Point.BEFORE_ADMISSION, RefuseText("no"), lambda kind: kind == "order", skip=1)
    faults = Faults([lost("post", uses=1, action=Delay(3000)), refuse_second])
    source = script(calm(SNDK, NVDA), jump(SNDK, 2500), jump(NVDA, 3500))
    async with world_of(settings_of(SNDK, NVDA), source, faults=faults) as world:
        await sent(world, 2)
        await holding(world, SNDK)
        await world.until(lambda: len(world.events("post_response")) == 2)
        assert [n.fields["post"] for n in world.events("post_response")] == [2, 1]
        assert {o.intent.coin: o.state for o in orders(world)} == {SNDK: OrderState.FILLED, NVDA: OrderState.REJECTED}


async def test_every_own_frame_twice_counts_once(autojump_clock: object) -> None:
    """RDY-3, LESSONS 17: answers, updates and fills come twice each; positions, trades and counts do not double."""
    faults = Faults([lost(channel, action=Duplicate()) for channel in OWN_FRAMES])
    settings = settings_of(SNDK, position={"time_stop_ms": 3000})
    async with world_of(settings, trading(SNDK), faults=faults) as world:
        await holding(world, SNDK)
        assert world.bot.ledger.position(SNDK).szi == world.positions()[SNDK].szi
        await world.until(lambda: bool(world.events("position_closed")))
        assert world.bot.trader is not None
        assert len(world.bot.trader.position.trades) == 1
        assert (world.bot.tally.entries, world.bot.tally.closes, world.bot.tally.fills) == (1, 1, 2)
        assert (len(world.entries), len(world.closes)) == (1, 1)
        assert world.bot.posts.in_flight == 0


async def test_a_fill_may_come_before_the_answer(autojump_clock: object) -> None:
    """ORD-1, POST-5: the position is known at the fill; the post stays in flight until its answer."""
    faults = Faults([lost("post", uses=1, action=Delay(2000))])
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await holding(world, SNDK)
        assert entry(world).state is OrderState.FILLED
        assert world.bot.posts.in_flight == 1
        await world.until(lambda: world.bot.posts.in_flight == 0)
        assert world.events("in_doubt") == []


@pytest.mark.parametrize("channel", ["orderUpdates", "userFills", "post"])
async def test_a_channel_that_is_silent_for_ever_blocks_nothing(channel: str, autojump_clock: object) -> None:
    """ORD-3, LESSONS 16: without one of the three channels two round trips are made and every market ends free."""
    settings = settings_of(SNDK, position={"time_stop_ms": 6000})
    async with world_of(settings, twice(SNDK)) as world:
        await world.ready()
        world.faults.add(lost(channel))
        await world.until(lambda: len(world.bot.ledger.finished) >= 4, within_s=70)
        assert len(world.entries) == 2
        assert not world.positions()
        await world.until(lambda: not world.bot.ledger.orders and not world.bot.ledger.held())
        await world.until(lambda: world.bot.posts.in_flight == 0)


async def test_a_thin_book_gives_part_and_the_rest_is_gone(autojump_clock: object) -> None:
    """POST-2, LESSONS 17, EXIT-4: `filled` may be partial; the dust below 10 USD is held, known and closed whole."""
    thin = quotes(SNDK, PRICES[SNDK], sz="0.01", levels=1)
    source = script(calm(SNDK), jump(SNDK, 2500), [(3250, thin)])
    async with world_of(settings_of(SNDK, position={"time_stop_ms": 3000}), source) as world:
        await holding(world, SNDK)
        order = entry(world)
        assert (order.state, order.filled_sz) == (OrderState.FILLED, Decimal("0.01"))
        assert order.intent.sz > order.filled_sz
        await world.until(lambda: bool(world.events("position_closed")))
        assert not world.positions()
        assert [o["s"] for o in world.closes] == ["0.01"]


# ---- the link, and the last look before signing


async def test_a_post_cut_off_by_its_link_is_settled_after_the_reconnect(autojump_clock: object) -> None:
    """POST-3, EXE-3: the link dies with an entry in flight: it is in doubt at once, known after the reconnect, sent once."""
    settings = settings_of(SNDK, safety={"halt_on_disconnect": HaltOnDisconnect.NEVER})
    async with world_of(settings, trading(SNDK)) as world:
        await sent(world)
        assert world.bot.posts.in_flight == 1
        cut(world)
        await world.until(lambda: world.bot.posts.in_flight == 0)
        post = world.bot.posts.find(1)
        assert post is not None
        assert post.state is PostState.DISCONNECTED
        await holding(world, SNDK)
        assert entry(world).state is OrderState.FILLED
        assert len(world.entries) == 1


async def test_a_link_lost_with_an_entry_in_flight_ends_in_halt_and_flat(autojump_clock: object) -> None:
    """STOP-3, EXE-3: a post in doubt is exposure: HALT, and what the entry did at the venue is closed."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await sent(world)
        cut(world)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT)
        await world.until(lambda: bool(world.events("halt_flatten")))
        assert [n.fields["flat"] for n in world.events("halt_flatten")] == [True]
        assert len(world.fills()) == 2
        assert not world.positions()
        assert len(world.entries) == 1


HARD_STOPS: dict[str, Callable[[World], None]] = {
    "HALT by a lost link": cut,
    "SAFE by an unread account": lambda world: world.faults.add(
        lost("clearinghouseState", Point.INFO, action=HttpAnswer(500))
    ),
    "shutdown": lambda world: world.stop.request("Ctrl+C"),
}


@pytest.mark.parametrize("stop", HARD_STOPS)
async def test_what_waits_in_the_queue_when_entries_end_is_dropped(stop: str, autojump_clock: object) -> None:
    """EXE-2, STOP-2: a new order that waits for its tick is dropped, its market released, and it never leaves."""
    # The account is read every minute; the second entry waits from 59.2 s on for the tick 20 s after the first.
    source = script(calm(SNDK, NVDA), jump(SNDK, 52_500), jump(NVDA, 58_500))
    async with world_of(settings_of(SNDK, NVDA, executor={"period_ms": 20_000}), source) as world:
        await trio.sleep(55)
        await holding(world, SNDK)
        await world.until(lambda: verdicts(world) == ["Queued", "Queued"])
        assert len(world.bot.scheduler) == 1
        HARD_STOPS[stop](world)
        await world.until(lambda: not world.bot.safety.allows_entry)
        await trio.sleep(0.01)
        assert len(world.bot.scheduler) == 0
        assert not world.bot.ledger.has_pending_entry(NVDA)
        assert [n.fields["coin"] for n in world.events("mark_released")] == [NVDA]
        await trio.sleep(25)
        assert len(world.entries) == 1
        assert not any(o["a"] != world.entries[0]["a"] for o in world.orders())


async def test_five_failures_in_a_row_are_an_alarm(autojump_clock: object) -> None:
    """POST-6: nobody can be told of an entry that failed after `Queued`, so they are counted and the fifth is critical."""
    coins = (SNDK, NVDA, TSLA, MU, AMD)
    source = script(calm(*coins), *(jump(coin, 2500) for coin in coins))
    faults = Faults([lost("order", Point.BEFORE_ADMISSION)])
    async with world_of(settings_of(*coins, limits=ROOMY), source, faults=faults) as world:
        await sent(world, 5)
        await world.until(lambda: len(world.events("order_send_failure")) == 5)
        notes = world.events("order_send_failure")
        assert [n.fields["in_a_row"] for n in notes] == [1, 2, 3, 4, 5]
        assert [n.level for n in notes] == ["warning"] * 4 + ["critical"]


async def test_the_in_flight_count_is_what_was_sent_less_what_ended(autojump_clock: object) -> None:
    """BAT-6, EXE-4, NON-1, DESIGN 9.5: through lost, late, doubled and cut-off posts the count holds; nonces increase."""
    coins = (SNDK, NVDA, TSLA, MU, AMD)
    jumps = [jump(coin, 2500 + 1000 * n, bps=bps) for bps in (40, 80) for n, coin in enumerate(coins, bps // 8)]
    actions = [Delay(6000), lost("post").action, Duplicate(), Delay(300)]
    rules = [Rule(Point.FRAME, a, lambda channel: channel == "post", skip=n) for n, a in enumerate(actions)]
    settings = settings_of(
        *coins, limits=ROOMY, position={"time_stop_ms": 2000}, safety={"halt_on_disconnect": HaltOnDisconnect.NEVER}
    )
    async with world_of(settings, script(calm(*coins), *jumps), faults=Faults(rules)) as world:
        await world.ready()
        posts = world.bot.posts
        peak = 0
        while trio.current_time() < 30:
            assert 0 <= posts.in_flight == posts.sent - posts.completed == sum(p.was_sent for p in posts.live)
            peak = max(peak, posts.in_flight)
            if trio.current_time() > 12 and world.bot.market_link.connects == 1:
                cut(world)
            await trio.sleep(0.02)
        assert posts.in_flight == 0
        assert peak > 1
        assert posts.sent > 10
        assert not world.bot.ledger.orders
        assert {c: p.szi for c, p in world.positions().items()} == {p.coin: p.szi for p in world.bot.ledger.held()}
        nonces = [n.nonce for n in world.exchange.nonces()]
        assert nonces == sorted(set(nonces))
