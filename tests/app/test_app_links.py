"""What a lost, silent or mumbling connection does to the bot, and what it does not (SPEC 6, RDY-2, LESSONS 10)."""

from __future__ import annotations

import trio

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Disconnect, Drop, Point, ReplaceBody, Rule
from hip3.exchange.ws import Session
from hip3.fsm.connection import ConnectionState
from hip3.fsm.ready import ReadyState
from hip3.fsm.safety import SafetyMode
from hip3.settings.schema import HaltOnDisconnect
from hip3.simulate.world import World
from tests.app.failures.scenes import (
    NVDA,
    SNDK,
    another_hand,
    calm,
    cut,
    holding,
    jump,
    lost,
    refuse_connections,
    script,
    settings_of,
    trading,
    world_of,
)

NEVER: dict[str, object] = {"halt_on_disconnect": HaltOnDisconnect.NEVER}


def connects(world: World) -> list[int]:
    assert world.bot.trader is not None
    return [world.bot.market_link.connects, world.bot.trader.account_link.connects]


def session_of(world: World, kind: str) -> Session:
    """The venue's session that carries one kind of subscription."""
    sessions = [s for s in world.exchange.hub.sessions if isinstance(s, Session)]
    return next(s for s in sessions if any(x.kind == kind for x in s.subscriptions.values()))


def subscribed(world: World) -> set[tuple[str, str | None]]:
    """What the venue's sessions of this moment are subscribed to."""
    sessions = [s for s in world.exchange.hub.sessions if isinstance(s, Session)]
    return {(s.kind, s.coin) for session in sessions for s in session.subscriptions.values()}


async def test_a_reconnect_while_flat_trades_again_by_itself(autojump_clock: object) -> None:
    """WS-4, STOP-3, LESSONS 10, 38: both links are cut; all is subscribed and read anew, READY is rebuilt, and it trades."""
    async with world_of(settings_of(SNDK), script(calm(SNDK), jump(SNDK, 12_500))) as world:
        await world.ready()
        before = subscribed(world)
        read = len(world.events("open_orders_loaded"))
        cut(world)
        await world.until(lambda: world.bot.ready.state is ReadyState.NOT_READY)
        assert world.bot.safety.mode is SafetyMode.ARMED_SAFE
        await world.ready()
        assert subscribed(world) == before
        assert {kind for kind, _ in before} == {"bbo", "activeAssetCtx", "orderUpdates", "userFills", "userFundings"}
        assert len(world.events("open_orders_loaded")) > read
        assert connects(world) == [2, 2]
        assert world.bot.trader is not None
        assert world.bot.trader.account_link.state is ConnectionState.READY
        await holding(world, SNDK)


async def test_a_signal_without_a_session_is_not_traded(autojump_clock: object) -> None:
    """RDY-2, GATE-1: the account link is down when the oracle jumps: no order, then or later."""
    async with world_of(settings_of(SNDK), script(calm(SNDK), jump(SNDK, 4500))) as world:
        await world.ready()
        refuse_connections(world)
        session_of(world, "userFills").cut()
        await world.until(lambda: bool(world.events("signal")))
        world.faults.rules.clear()
        await world.ready()
        await trio.sleep(5)
        assert world.entries == []
        assert [str(n.fields["verdict"]) for n in world.events("signal_judged")] == ["Rejected(HardStop)"]


async def test_a_position_lives_through_a_reconnect_with_its_age(autojump_clock: object) -> None:
    """WS-4, LESSONS 11: with halt_on_disconnect = never the position is kept, and its time stop is not put off."""
    settings = settings_of(SNDK, safety=NEVER, position={"time_stop_ms": 10_000})
    async with world_of(settings, trading(SNDK)) as world:
        await holding(world, SNDK)
        entered_ms = world.bot.ledger.position(SNDK).entry_ms
        assert entered_ms is not None
        cut(world)
        await world.ready()
        assert world.bot.ledger.position(SNDK).entry_ms == entered_ms
        await world.until(lambda: not world.positions())
        assert world.clock.wall_ms() - entered_ms < 10_000 + 1000
        assert len(world.entries) == len(world.closes) == 1


async def test_what_happened_while_the_link_was_down_is_known_after_it(autojump_clock: object) -> None:
    """WS-4, POS-3: somebody closes our position while we are deaf; after the reconnect we are flat and free to trade."""
    source = script(calm(SNDK), jump(SNDK, 2500), jump(SNDK, 40_500, bps=80))
    async with world_of(settings_of(SNDK, safety=NEVER), source) as world:
        await holding(world, SNDK)
        refuse_connections(world)
        cut(world)
        await world.until(lambda: bool(world.events("ws_lost")))
        async with another_hand(world) as hand:
            await hand.take(SNDK, OrderSide.SELL, str(world.positions()[SNDK].szi))
        world.faults.rules.clear()
        await world.ready()
        await world.until(lambda: not world.bot.ledger.held())
        assert world.closes == []
        await holding(world, SNDK)
        assert len([o for o in world.entries if o["b"]]) == 2


async def test_a_silent_venue_is_left_after_55_seconds(autojump_clock: object) -> None:
    """WS-2, LESSONS 38: connected, and not a frame comes: both sessions are given up, the next are whole, and it trades."""
    async with world_of(settings_of(SNDK), script(calm(SNDK, until_s=200), jump(SNDK, 80_000))) as world:
        await world.ready()
        silence = Rule(Point.FRAME, Drop(), uses=None)
        world.faults.add(silence)
        began = trio.current_time()
        await world.until(lambda: len(world.events("ws_lost")) == 2)
        assert 54 < trio.current_time() - began < 57
        assert {str(n.fields["reason"]) for n in world.events("ws_lost")} == {"silent for 55000 ms"}
        world.faults.rules.remove(silence)
        await world.ready()
        assert connects(world) == [2, 2]
        await holding(world, SNDK)


async def test_a_venue_that_is_down_is_dialled_with_patience(autojump_clock: object) -> None:
    """WS-1: five minutes without a venue: never more than 30 dials a minute for both links; then everything comes back."""
    async with world_of(settings_of(SNDK), script(calm(SNDK, until_s=500))) as world:
        await world.ready()
        down = Rule(Point.CONNECT, Disconnect(), uses=None)
        world.faults.add(down)
        cut(world)
        await trio.sleep(300)
        refused = sum(point is Point.CONNECT for point, _, _ in world.faults.struck)
        assert 10 < refused < 40
        world.faults.rules.remove(down)
        await world.until(lambda: world.bot.safety.allows_entry, within_s=130)


async def test_garbage_on_an_own_channel_costs_nothing(autojump_clock: object) -> None:
    """WS-4: every order update is unreadable: counted and kept, while answers and fills still carry the round trip."""
    settings = settings_of(SNDK, position={"time_stop_ms": 3000})
    async with world_of(settings, trading(SNDK)) as world:
        world.faults.add(lost("orderUpdates", action=ReplaceBody('{"channel":"orderUpdates","data":[{"order":7}]}')))
        await holding(world, SNDK)
        await world.until(lambda: not world.bot.ledger.held())
        assert world.bot.trader is not None
        link = world.bot.trader.account_link
        assert (link.connects, link.unreadable) == (1, 2)
        assert all("orderUpdates" in text for text in link.kept_unreadable)


async def test_frames_nobody_knows_are_passed_over(autojump_clock: object) -> None:
    """TYP-5, WS-4: a new channel, the old greeting, an error text: nothing of it is a reason to stop."""
    strange = ('{"channel":"webData9","data":{}}', "Websocket connection established.", '{"channel":"error","data":"x"}')
    async with world_of(settings_of(SNDK), script(calm(SNDK, until_s=200), jump(SNDK, 90_500))) as world:
        await world.ready()
        world.faults.add(*(lost("pong", uses=2, action=ReplaceBody(body)) for body in strange))
        await trio.sleep(85)
        assert connects(world) == [1, 1]
        await holding(world, SNDK)


async def test_an_exit_needs_no_market_data(autojump_clock: object) -> None:
    """EXIT-1, LESSONS 12: market data are gone when the time stop passes: the last known reference prices the close."""
    settings = settings_of(SNDK, safety=NEVER, position={"time_stop_ms": 8000})
    async with world_of(settings, trading(SNDK)) as world:
        await holding(world, SNDK)
        refuse_connections(world)
        session_of(world, "bbo").cut()
        await world.until(lambda: not world.positions(), within_s=12)
        assert len(world.closes) == 1
        assert connects(world) == [1, 1]


async def test_one_link_may_die_without_the_other(autojump_clock: object) -> None:
    """WS-4, RDY-2: the market link is cut and comes back; the account session is not touched, orders stay known."""
    async with world_of(settings_of(SNDK, NVDA), script(calm(SNDK, NVDA), jump(NVDA, 12_500))) as world:
        await world.ready()
        world.faults.add(lost("bbo", uses=1, action=Disconnect()))
        await world.until(lambda: connects(world) == [2, 1])
        await world.ready()
        assert world.bot.safety.mode is SafetyMode.ARMED_LIVE
        await holding(world, NVDA)


async def test_a_quiet_account_keeps_its_session(autojump_clock: object) -> None:
    """WS-2: the venue hangs up where it sent nothing for 60 s: in four minutes without an own event the pings prevent it."""
    async with world_of(settings_of(SNDK), script(calm(SNDK, until_s=260))) as world:
        await world.ready()
        await trio.sleep(240)
        assert connects(world) == [1, 1]
        assert world.bot.ready.is_ready


async def test_an_account_session_without_an_ack_is_made_anew(autojump_clock: object) -> None:
    """WS-4, RDY-1: the ack of an account channel is lost: not READY; after 10 s the session is given up, the next one is."""
    async with world_of(settings_of(SNDK), script(calm(SNDK, until_s=60))) as world:
        await world.ready()
        world.faults.add(lost("subscriptionResponse", uses=1))
        session_of(world, "userFills").cut()
        await world.until(lambda: any("no ack within" in str(n.fields["reason"]) for n in world.events("ws_lost")), 15)
        assert not world.bot.ready.is_ready
        assert world.entries == []
        await world.ready()
        assert connects(world) == [1, 3]
