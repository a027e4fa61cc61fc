"""The detector from the venue's frames to the order on the wire (DET-1 to DET-5, TYP-3, TYP-4, SIG-1)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hip3.core.ids import ClientOrderId
from hip3.core.units import is_legal_price
from hip3.exchange.faults import Drop, Faults, HttpAnswer, Point, ReplaceBody, Rule
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import (
    ASSETS,
    FAST,
    HOOD,
    MU,
    NVDA,
    SNDK,
    Script,
    bot_settings,
    dislocated,
    sent,
    verdicts,
)

D = Decimal


def poised(side: str, quote: str, coin: str = SNDK) -> Script:
    """The oracle comes to 600 from below (buy) or above (sell) at 2 s; at 2.5 s the touched quote is `quote`."""
    script = Script().quote(0, "595", "605", coin=coin).oracle(0, "599" if side == "buy" else "601", mark="600", coin=coin)
    script.oracle(1500, "600", coin=coin)
    bid, ask = ("595", quote) if side == "buy" else (quote, "605")
    return script.quote(2500, bid, ask, coin=coin)


def refused(world: World, coin: str = SNDK) -> dict[str, int]:
    return dict(world.bot.detector.rejected.get(coin, {}))


async def first_order(world: World, within_s: float = 4) -> dict[str, object]:
    await world.until(lambda: bool(world.entries), within_s)
    return world.entries[0]


async def settle(world: World, until_ms: int = 3500) -> None:
    """Waits past everything that the script does."""
    await world.at(until_ms)


@pytest.mark.parametrize(
    ("side", "quote", "px"), [("buy", "599.4", "599.52"), ("sell", "600.6", "600.6")], ids=["buy", "sell"]
)
async def test_the_threshold_is_inclusive_on_both_sides(side: str, quote: str, px: str) -> None:
    """DET-1, TYP-3: an ask exactly 10 bps below the oracle is bought, a bid exactly 10 bps above it is sold, legally priced.

    The buy's limit gives the 2 bps of slippage that the threshold paid for; the sell's would, rounded to 600.47, keep less
    than the 8 bps left, so its limit is the touched price itself.
    """
    settings = bot_settings(market={"threshold_bps": 10})
    async with open_world(settings, poised(side, quote).source(), config=FAST) as world:
        order = await first_order(world)
        assert order["b"] is (side == "buy")
        assert order["p"] == px
        assert is_legal_price(D(px), 3)


@pytest.mark.parametrize(("side", "quote"), [("buy", "599.41"), ("sell", "600.59")], ids=["buy", "sell"])
async def test_one_tick_inside_the_threshold_is_no_signal(side: str, quote: str) -> None:
    """DET-1: a tick less than 10 bps is left alone."""
    settings = bot_settings(market={"threshold_bps": 10})
    async with open_world(settings, poised(side, quote).source(), config=FAST) as world:
        await settle(world)
        assert world.bot.signal_book.count == 0
        assert world.actions() == []


@pytest.mark.parametrize(
    ("coin", "touching", "missing"),
    [(SNDK, "599.52", "599.53"), (HOOD, "599.04", "599.05")],
    ids=["growth mode: 0.9 bps", "no growth mode: 9 bps"],
)
async def test_the_fee_of_the_venue_decides(coin: str, touching: str, missing: str) -> None:
    """DET-2, LESSONS 27: the account's own fee, with scale and growth mode, is in the threshold: 0.9 or 9 bps, not our 4."""
    for quote, trades in ((touching, True), (missing, False)):
        settings = bot_settings(coins=(coin,))
        async with open_world(settings, poised("buy", quote, coin).source(), config=FAST) as world:
            await settle(world)
            assert bool(world.entries) is trades
            assert world.bot.venue.fee_source == "venue"


@pytest.mark.parametrize(("quote", "trades"), [("599.34", True), ("599.35", False)])
async def test_the_configured_fee_stands_in_where_the_venue_does_not_say(quote: str, trades: bool) -> None:
    """DET-2: without an answer about fees the configured 4 bps count, and the run says where the fee is from."""
    faults = Faults([Rule(Point.INFO, HttpAnswer(500), lambda s: s == "userFees")])
    async with open_world(bot_settings(), poised("buy", quote).source(), config=FAST, faults=faults) as world:
        await settle(world)
        assert bool(world.entries) is trades
        assert world.bot.venue.fee_source.startswith("configured")


@pytest.mark.parametrize(
    ("touch", "size"),
    [("10", "0.082"), ("3", "0.043"), ("0.5", "0.019")],
    ids=["the cap: 0.99 x 50 USD", "a share of the book", "the minimum: 11 USD"],
)
async def test_the_size_on_the_wire(touch: str, size: str) -> None:
    """DET-3: size_alpha x liquidity_factor x touched size, between the minimum order and 0.99 of the cap, in lots."""
    script = dislocated(2).quote(1500, "598.9", "599", sz=touch)
    async with open_world(bot_settings(), script.source(), config=FAST) as world:
        assert (await first_order(world))["s"] == size


async def test_a_touch_too_thin_for_the_minimum_is_left_alone() -> None:
    """DET-3: less than the minimum order at the touch is no signal, and is counted by name."""
    script = dislocated(2).quote(1500, "598.9", "599", sz="0.01")
    async with open_world(bot_settings(), script.source(), config=FAST) as world:
        await settle(world)
        assert world.actions() == []
        assert refused(world)["thin_book"] > 0


async def test_a_lot_that_fits_no_cap_is_left_alone() -> None:
    """DET-3: where minimum and cap leave no lot between them there is no signal, and it is counted by name."""
    script = Script().calm().quote(1500, "598.9", "599").oracle(1500, "605")
    settings = bot_settings({"detector.min_order_notional_usd": 49})
    async with open_world(settings, script.source(), config=FAST) as world:
        await settle(world)
        assert world.actions() == []
        assert refused(world)["lot_above_cap"] > 0


def flickering() -> Script:
    """The same dislocation quoted at 2.0 s and, after a moment at the oracle, again at 2.6 s."""
    return dislocated(2).quote(2300, "601.9", "602.1").quote(2600, "599.8", "600.1", sz="9")


@pytest.mark.parametrize("dedup", [True, False])
async def test_one_oracle_price_gives_one_signal_a_side(dedup: bool) -> None:
    """DET-4, LESSONS 25: a dislocation that flickers is one signal while dedup is on, and the rest are counted."""
    async with open_world(bot_settings({"detector.dedup": dedup}), flickering().source(), config=FAST) as world:
        await settle(world, 2900)
        assert (len(verdicts(world)) == 1) is dedup
        assert ("dedup" in refused(world)) is dedup


@pytest.mark.parametrize(("direction", "orders"), [(True, 0), (False, 1)])
async def test_a_quote_that_moved_away_by_itself_is_left_alone(direction: bool, orders: int) -> None:
    """DET-4: the oracle went down and a seller goes lower still: no stale quote, so no signal while direction is on."""
    script = Script().calm().oracle(1500, "599.5").quote(2500, "597", "598")
    async with open_world(bot_settings({"detector.direction": direction}), script.source(), config=FAST) as world:
        await settle(world)
        assert len(world.entries) == orders
        assert ("direction" in refused(world)) is direction


async def test_an_old_quote_gives_no_signal_until_it_is_heard_of_again() -> None:
    """DET-6, MD-1: the oracle leaves a quote that was last received 2 s ago alone; received again, it is taken."""
    script = dislocated(4).quote(4600, "599.9", "600.1", sz="11")
    async with open_world(bot_settings({"detector.max_bbo_age_ms": 1500}), script.source(), config=FAST) as world:
        await settle(world, 4500)
        assert refused(world)["stale_bbo"] > 0
        assert world.actions() == []
        await world.at(4700)
        assert world.bot.signal_book.count == 1


async def test_an_old_oracle_gives_no_signal() -> None:
    """DET-6: a quote far below an oracle price that was received more than 3 s ago is left alone, and counted by name."""
    faults = Faults([Rule(Point.FRAME, Drop(), lambda s: s == "activeAssetCtx", skip=2, uses=None)])
    script = Script().calm().oracle(1500, "600.3").quote(5500, "589", "590")
    async with open_world(bot_settings(), script.source(), config=FAST, faults=faults) as world:
        await settle(world, 6000)
        assert refused(world)["stale_reference"] > 0
        assert world.actions() == []


async def test_a_one_sided_book_gives_no_signal() -> None:
    """DET-1: a cheap ask without any bid is left alone, and counted by name."""
    async with open_world(bot_settings(), dislocated(2).quote(1500, None, "599").source(), config=FAST) as world:
        await settle(world)
        assert refused(world)["one_sided"] > 0
        assert world.actions() == []


async def test_without_an_oracle_price_there_is_no_signal() -> None:
    """DET-1: the reference is the oracle; a context without one gives nothing to compare with, whatever the mark says."""
    body = f'{{"channel":"activeAssetCtx","data":{{"coin":"{SNDK}","ctx":{{"markPx":"602"}}}}}}'
    faults = Faults([Rule(Point.FRAME, ReplaceBody(body), lambda s: s == "activeAssetCtx", uses=None)])
    async with open_world(bot_settings(), dislocated(2).source(), config=FAST, faults=faults) as world:
        await settle(world)
        assert world.bot.signal_book.count == 0
        assert world.actions() == []


async def test_each_market_is_judged_by_its_own_frames() -> None:
    """DET-1, LESSONS 23: thirty quotes of one market do not evaluate the other one again."""
    script = Script().calm(SNDK, MU).oracle(1500, "599.5", coin=MU).quote(1500, "597", "598", coin=MU)
    for n in range(30):
        script.quote(2500 + n * 20, "599.9", "600.1", sz=f"10.{n}")
    async with open_world(bot_settings(coins=(SNDK, MU)), script.source(), config=FAST) as world:
        await settle(world)
        assert world.bot.markets[SNDK].bbo_count > 30
        assert refused(world, MU)["direction"] <= 4  # its own frames of 1.5 s, 2 s and 3 s


@pytest.mark.parametrize("coin", [SNDK, MU, NVDA, HOOD])
async def test_the_asset_on_the_wire_is_that_of_the_name(coin: str) -> None:
    """META-2: delisted markets keep their slot, so the id is 110000 and the place in the listing order."""
    async with open_world(bot_settings(coins=(coin,)), dislocated(2, coin).source(), config=FAST) as world:
        assert (await first_order(world))["a"] == ASSETS[coin]
        await world.until(lambda: list(world.positions()) == [coin], 1)


async def test_an_entry_on_the_wire() -> None:
    """TYP-4, POST-4, PRD-6: IOC, not reduce-only, with an id of ours, an expiry of 10 s, no builder, signed by the agent."""
    async with open_world(bot_settings(), dislocated(2).source(), config=FAST) as world:
        order = await first_order(world)
        at_ms, envelope = sent(world)[0]
        assert order.keys() == {"a", "b", "p", "s", "r", "t", "c"}
        assert order["t"] == {"limit": {"tif": "Ioc"}}
        assert order["r"] is False
        cloid = ClientOrderId(str(order["c"]))
        assert (cloid.is_ours, cloid.run_id, cloid.sequence) == (True, world.bot.run_id, 1)
        assert envelope.raw_action.keys() == {"type", "orders", "grouping"}
        assert envelope.raw_action["grouping"] == "na"
        assert envelope.vault is None
        assert envelope.expires_after_ms is not None
        assert abs(envelope.expires_after_ms - (START_MS + at_ms + 10_000)) <= 50  # the offset to the venue's clock
        await world.until(lambda: bool(world.positions()), 1)
        assert [a.signer for a in world.exchange.nonces()] == [world.venue.account.signer.address.lower()]


async def test_a_signal_says_what_it_was_computed_from_and_how_it_decayed() -> None:
    """DET-5: inputs, edges and ages with the signal, the verdict under its id, follow-ups after 1, 3 and 5 s."""
    script = dislocated(2).quote(4300, "601.9", "602.1").pulse(6)
    async with open_world(bot_settings(), script.source(), config=FAST) as world:
        await settle(world, 7200)
        signal = world.events("signal")[0].fields
        assert (signal["reference_px"], signal["px"], signal["side"]) == (D(602), D("600.23"), "BUY")
        assert signal["edge_bps"] == (D(602) - D("600.1")) / D(602) * 10_000
        assert signal["cost_bps"] == D("7.9")
        assert {"bbo_age_ms", "ctx_age_ms", "coin", "sz"} <= signal.keys()
        assert world.events("signal_judged")[0].fields["signal"] == signal["signal"]
        follow_ups = {n.fields["after_ms"]: n.fields["edge_bps"] for n in world.events("follow_up")}
        assert list(follow_ups) == [1000, 3000, 5000]
        assert follow_ups[1000] == signal["edge_bps"]
        assert D(str(follow_ups[3000])) < 0
