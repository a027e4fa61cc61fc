"""The venue's limits per IP, from frames and reconnects to what is sent and what is held back (WS-3)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import DexListing, MarketListing
from hip3.io.link import MOST_SUBSCRIPTIONS
from hip3.ops.boot import PreflightRefused
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, Script, bot_settings, closes, cut_account, cut_market, entries, judged, sent

QUICK = {
    "executor.actions_per_min": 10_000,
    "position.time_stop_ms": 200,
    "detector.dedup": False,
    "detector.direction": False,
    "limits.max_notional_total_usd": 60,
    "safety.max_daily_trades": 10_000,
}


def busy(end_s: int) -> ScriptedSource:
    """Quotes that lag the oracle once a second and then follow it: each second a round trip that wins."""
    script = Script().calm()
    for second in range(2, end_s):
        script.oracle(second * 1000 - 500, "602" if second % 2 else "602.1")
        script.quote(second * 1000 + 700, "599.9", "600.1").quote(second * 1000 + 850, "601.9", "602.3")
    return script.source()


def refused_for_messages(world: World) -> list[str]:
    return [
        str(n.fields["detail"]) for n in judged(world, "Skipped(BudgetExhausted)") if "messages" in str(n.fields["detail"])
    ]


@pytest.mark.parametrize("per_min", [100, 2000])
async def test_entries_end_before_the_limit_of_messages_and_closes_do_not(per_min: int) -> None:
    """WS-3: with 100 messages a minute entries end at 70 and go on when the minute is over; every close goes at once."""
    async with open_world(bot_settings({**QUICK, "executor.messages_per_min": per_min}), busy(80), config=FAST) as world:
        await world.at(58_000)
        if per_min == 2000:
            assert refused_for_messages(world) == []
            assert len(entries(world)) > 50
            return
        assert refused_for_messages(world)
        assert 25 <= len(entries(world)) <= 35
        assert len(sent(world)) + 5 + 6 <= 80  # with subscriptions and pings; the last of them closes
        assert len(closes(world)) == len(entries(world))
        assert world.positions() == {}
        before = len(entries(world))
        await world.until(lambda: len(entries(world)) > before + 5, 20)


async def test_market_data_of_a_reconnect_wait_for_their_part_of_the_minute() -> None:
    """WS-3, WS-4: 40 channels are subscribed, lost and wanted again: 28 go at once, the others when the minute has room."""
    settings = bot_settings({**QUICK, "executor.messages_per_min": 100}, coins=tuple(many(20)))
    async with open_world(settings, listed(20), config=FAST) as world:
        await world.until(lambda: acked(world, "market") == 40, 5)
        cut_market(world)
        await world.at(55_000)
        assert 60 <= acked(world, "market") <= 70
        cut_account(world)
        await world.until(lambda: acked(world, "account") == 6, 3)
        assert acked(world, "market") <= 70
        await world.until(lambda: acked(world, "market") == 80, 12)
        assert world.clock.mono_ms() >= 60_000


def acked(world: World, link: str) -> int:
    """Subscriptions that the venue has acknowledged to a link so far."""
    return len([n for n in world.events("subscribed") if n.fields["link"] == link])


def many(count: int) -> list[str]:
    return [f"xyz:M{number}" for number in range(count)]


def listed(count: int) -> ScriptedSource:
    """A dex of many markets, quoted from the start."""
    coins = many(count)
    dexs = [DexListing("", ()), DexListing("xyz", tuple(MarketListing(coin, 3, 10, Decimal(600)) for coin in coins))]
    return ScriptedSource(dexs, sorted(Script().calm(*coins).events, key=lambda e: e[0]), None)


async def test_more_subscriptions_than_the_venue_allows_refuse_the_start() -> None:
    """WS-3, END-3: two channels of 250 markets and the account's two are over the half that a reconnect leaves: refused."""
    count = MOST_SUBSCRIPTIONS // 2
    texts: list[str] = []
    try:
        async with open_world(bot_settings(coins=tuple(many(count))), listed(count), config=FAST) as world:
            await world.ended.wait()
    except* PreflightRefused as group:
        texts += [str(e) for e in leaves(group)]
    assert len(texts) == 1
    assert f"{MOST_SUBSCRIPTIONS + 3} subscriptions are needed" in texts[0]


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
