"""The verification of the runbook on the whole bot: every item passes, and each has a fault that fails it alone (RUN-1)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

import attrs
import pytest
import trio

from hip3.app import Outcome
from hip3.core.ids import OrderSide
from hip3.core.journal import Journal
from hip3.exchange.faults import Drop, HttpAnswer, Point, RefuseText, Rule
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import DexListing
from hip3.ops.verify import ORDER, Result, Verification, items_of, not_verifiable, table
from hip3.ops.verify_desk import Desk
from hip3.ops.verify_probe import verify_settings
from hip3.ops.verify_trail import Trail
from hip3.settings.schema import Mode
from hip3.simulate.world import World, open_world
from hip3.venue.hyperliquid.endpoints import Network
from tests.app.app_builders import FAST, MU, SNDK, Script, bot_settings, by_hand, closes, entries, listings

Beside = Callable[[World, Verification], Any]


async def nothing(_world: World, _verification: Verification) -> None:
    """Nothing goes wrong."""


async def verified(
    beside: Beside = nothing,
    wanted: Collection[int] = ORDER,
    *,
    values: dict[str, object] | None = None,
    source: ScriptedSource | None = None,
) -> tuple[dict[int, Result], Outcome, World]:
    """Runs a verification to its end while `beside` acts on the venue."""
    settings = verify_settings(bot_settings(values, coins=(SNDK, MU)))
    trail = Trail()
    found = source or Script().calm(SNDK, MU).pulse(600).pulse(600, coin=MU).source()
    async with open_world(settings, found, config=FAST, journal=Journal(tap=trail.hear)) as world:
        await world.started.wait()
        trail.posts = world.bot.posts
        verification = Verification(Desk(world.bot, trail), world.faults)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside, world, verification)
            await verification.run(wanted)
            nursery.cancel_scope.cancel()
        outcome = await world.end("the verification is over")
        return verification.results, outcome, world


def failed(results: dict[int, Result]) -> dict[int, str]:
    return {item: "; ".join(r.evidence) for item, r in results.items() if not r.passed}


async def test_every_item_passes_on_paper() -> None:
    """RUN-1, NON-1, BAT-6, POST-3: ten times PASS with evidence, every failure produced for real; flat, certified, exit 0.

    What the items say is on the wire: an entry lost on its way came once, the closes that were lost came again.
    """
    results, outcome, world = await verified()
    assert failed(results) == {}
    assert sorted(results) == list(range(1, 11))
    assert (outcome.exit_code, outcome.flat, world.positions()) == (0, True, {})
    assert outcome.certificate is not None
    text = "\n".join(table(results.values()))
    assert text.count("PASS") == 10
    for word in ("action_signed nonce", "time_stop_triggered", "diff 0", "mark_released", "requeued", "action_rejected"):
        assert word in text, text
    cloids = [order["c"] for order in entries(world)]
    assert len(cloids) == len(set(cloids))
    shut = [order["c"] for _, order in closes(world)]
    assert len(shut) == len(set(shut)) + 1  # the lost one
    # The noop that fences a lost entry reuses its nonce (POST-4).
    nonces = [e.nonce for _, e in world.exchange.received if e.raw_action["type"] in ("order", "cancel")]
    assert (len(nonces) >= 20, nonces == sorted(set(nonces))) == (True, True)
    assert {t.exit_reason for t in world.bot.trader.position.trades} == {"verify", "time_stop"}  # type: ignore[union-attr]


async def silent_market(world: World, _verification: Verification) -> None:
    """No quote is delivered any more."""
    world.faults.add(Rule(Point.FRAME, Drop(), lambda channel: channel == "bbo", uses=None))


async def refuse_first_action(world: World, _verification: Verification) -> None:
    world.faults.add(Rule(Point.BEFORE_ADMISSION, RefuseText("Must deposit before performing actions."), _is_order))


async def trade_by_hand(world: World, _verification: Verification) -> None:
    """The owner buys more of the market in which the bot has just entered."""
    await world.until(lambda: bool(world.positions()))
    await by_hand(world, OrderSide.BUY, "606", "0.02", coin=next(iter(world.positions())))


async def blind(world: World, verification: Verification) -> None:
    """The account cannot be read while item 5 asks."""
    await world.until(lambda: 4 in verification.results)
    rule = Rule(Point.INFO, HttpAnswer(500), lambda query: query == "clearinghouseState", uses=None)
    world.faults.add(rule)
    await world.until(lambda: 5 in verification.results)
    world.faults.rules.remove(rule)


async def refuse_closes(world: World, verification: Verification) -> None:
    """For longer than the minute that a flatten has, the venue refuses every order."""
    rule = Rule(Point.BEFORE_ADMISSION, RefuseText("Trading is halted."), _is_order, skip=1, uses=None)
    world.faults.add(rule)
    await world.until(lambda: 6 in verification.results, 120)
    world.faults.rules.remove(rule)


async def close_by_hand(world: World, verification: Verification) -> None:
    """The owner closes before the time stop does."""
    await world.until(lambda: 6 in verification.results and bool(world.positions()))
    for coin, position in world.positions().items():
        await by_hand(world, OrderSide.SELL, "594", str(abs(position.szi)), coin=coin, reduce_only=True)


async def keep_silent_once(world: World, verification: Verification) -> None:
    """The venue does not answer one action of item 8."""
    await world.until(lambda: 7 in verification.results)
    world.faults.add(Rule(Point.AFTER_COMMIT, Drop(), _is_order))


async def lose_cancels(world: World, _verification: Verification) -> None:
    world.faults.add(Rule(Point.BEFORE_ADMISSION, Drop(), lambda kind: kind == "cancel", uses=5))


def _is_order(kind: str) -> bool:
    return kind == "order"


def coarse() -> ScriptedSource:
    """Both markets have lots of 24 USD: 0.1 at 240."""
    dexs = [
        DexListing(d.name, tuple(attrs.evolve(m, sz_decimals=1) if m.coin in (SNDK, MU) else m for m in d.universe))
        for d in listings()
    ]
    script = Script()
    for coin in (SNDK, MU):
        script.oracle(0, "240", mark="240", coin=coin)
        for second in range(0, 300, 5):
            script.quote(second * 1000, "239.9", "240.1", sz=f"10.{second}", coin=coin)
    return ScriptedSource(dexs, sorted(script.events, key=lambda e: e[0]))


FIRST_FIVE, FIRST_SIX = (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("item", "beside", "wanted", "values", "says"),
    [
        (1, silent_market, (1,), {}, "READY-TRADING and ARMED_LIVE: not within 60 s"),
        (2, refuse_first_action, FIRST_SIX, {}, "Must deposit before performing actions."),
        (4, trade_by_hand, FIRST_SIX, {}, "the fills of"),
        (5, blind, FIRST_SIX, {}, "position_reconciled"),
        (6, refuse_closes, (*FIRST_SIX, 7), {}, "position_closed"),
        (7, close_by_hand, (*FIRST_SIX, 7), {}, "expected time_stop"),
        (8, nothing, (1, 7, 8, 9), {"safety.max_daily_trades": 12}, "DailyTradeLimit"),
        (9, keep_silent_once, (1, 7, 8, 9), {"executor.post_timeout_ms": 60_000}, "0 posts in flight"),
        (10, lose_cancels, (1, 7, 10), {}, "cancel_answered"),
    ],
)
async def test_a_fault_fails_its_item_alone(
    item: int, beside: Beside, wanted: tuple[int, ...], values: dict[str, object], says: str
) -> None:
    """RUN-1: each item fails for its own reason, the others of the run pass, 6 and 7 are CRITICAL; the end is flat."""
    results, outcome, world = await verified(beside, wanted, values=values)
    wrong = failed(results)
    assert list(wrong) == [item], wrong
    assert says in wrong[item]
    assert results[item].verdict == ("CRITICAL" if item in (6, 7) else "FAIL")
    assert (outcome.flat, world.positions()) == (True, {})
    [told] = [n for n in world.events("verify_item") if n.fields["verdict"] != "PASS"]
    assert told.level == ("critical" if item in (6, 7) else "error")


async def test_an_order_of_more_than_15_usd_fails_item_3() -> None:
    """RUN-1: a market whose lot is 24 USD is traded, and item 3 says that the order was too large."""
    results, outcome, _ = await verified(wanted=FIRST_SIX, source=coarse())
    assert failed(results).keys() == {3}
    assert "order of 24.01 USD" in failed(results)[3]
    assert outcome.flat


async def test_without_ready_nothing_is_tried() -> None:
    """RUN-1: where READY-TRADING is not reached no order leaves, and every wanted item has failed."""
    results, outcome, world = await verified(silent_market, (1, 3, 8))
    assert failed(results).keys() == {1, 3, 8}
    assert "not tried" in failed(results)[8]
    assert (entries(world), outcome.flat) == ([], True)


async def test_elsewhere_than_on_the_embedded_exchange_faults_are_left_out() -> None:
    """RUN-1: where nobody can lose requests, item 10 produces what it can and says what it leaves out."""

    async def no_faults(_world: World, verification: Verification) -> None:
        verification.faults = None

    results, _, _ = await verified(no_faults, (1, 10))
    assert failed(results) == {}
    assert "only on the embedded paper exchange" in results[10].evidence[-1]


def test_mainnet_and_observation_are_refused() -> None:
    """RUN-1: a verification never trades real money, and needs a bot that sends."""
    settings = bot_settings()
    assert not_verifiable(settings) is None
    assert "mainnet" in str(not_verifiable(attrs.evolve(settings, network=Network.MAINNET)))
    assert "observation" in str(not_verifiable(attrs.evolve(settings, mode=Mode.OBSERVATION)))


def test_only_probes_trade_during_a_verification() -> None:
    """RUN-1: no dislocation passes the thresholds of a verification, no rule closes, the time stop is 10 s at most."""
    own = bot_settings({"position.take_profit_bps": 5, "position.time_stop_ms": 40_000, "risk.max_consecutive_losses": 3})
    settings = verify_settings(own)
    assert {m.threshold_bps for m in settings.markets} == {Decimal(9999)}
    assert (settings.position.take_profit_bps, settings.position.time_stop_ms) == (None, 10_000)
    assert (settings.risk.max_consecutive_losses, settings.limits) == (0, own.limits)


def test_items_are_named_by_number() -> None:
    """RUN-1: `--items` takes numbers from 1 to 10, run in the order that they need; anything else is refused."""
    assert items_of(None) == ORDER
    assert items_of("8, 10,2") == (2, 10, 8)
    for wrong in ("0", "11", "x", "1,,2", ""):
        with pytest.raises(ValueError, match="expected numbers from 1 to 10"):
            items_of(wrong)
