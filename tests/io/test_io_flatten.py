"""The one flatten, alone on an exchange: what it cancels and closes, in which order, and at which prices (STOP-2)."""

from __future__ import annotations

import attrs
import trio

from hip3.core.ids import OrderSide, TimeInForce
from hip3.exchange.faults import HttpAnswer, Point, RefuseText, ReplaceBody
from hip3.exchange.seam import BookChange, CtxChange, TimedEvent
from tests.app.failures.scenes import AMD, MU, NVDA, PRICES, SNDK, TSLA, calm, lost, quotes, script
from tests.io.flatten_desk import D, desk


async def test_five_positions_and_fifty_orders_are_gone_in_three_seconds(autojump_clock: object) -> None:
    """END-1: one cancel and one order action do it; measured 2.4 s of the venue's time, most of it answers on their way."""
    async with desk() as d:
        for coin in (SNDK, NVDA, TSLA, MU, AMD):
            await d.hand.take(coin, OrderSide.SELL if coin == MU else OrderSide.BUY, "0.2")
            await d.hand.rest_bids(coin, 10)
        assert (len(d.world.positions()), len(d.world.open_orders())) == (5, 50)
        began, sent = trio.current_time(), len(d.world.actions())
        certificate = await d.flatten()
        assert certificate.flat
        assert trio.current_time() - began < 3
        assert (d.world.positions(), d.world.open_orders()) == ({}, ())
        assert (len(certificate.cancelled), len(certificate.closed)) == (50, 5)
        assert [a["type"] for a in d.world.actions()[sent:]] == ["cancel", "order"]


async def test_cancels_come_before_closes(autojump_clock: object) -> None:
    """STOP-2: positions are closed when nothing rests that could fill behind the flatten's back."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.rest_bids(NVDA, 60)
        await d.flatten()
        assert [word for word, _ in d.steps] == ["cancel", "cancel", "close"]
        assert [len(a["cancels"]) for a in d.world.actions("cancel")] == [50, 10]


async def test_no_number_of_orders_is_too_large_for_a_cancel(autojump_clock: object) -> None:
    """LESSONS 6, BAT-1: more orders than one action may hold are cancelled in several, and none of them is left."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        for coin in (NVDA, TSLA, MU, AMD):
            await d.hand.rest_bids(coin, 40)
        certificate = await d.flatten()
        assert (certificate.flat, len(certificate.cancelled)) == (True, 160)
        assert [len(a["cancels"]) for a in d.world.actions("cancel")] == [50, 50, 50, 10]
        assert (d.world.positions(), d.world.open_orders()) == ({}, ())


async def test_orders_that_cannot_be_cancelled_do_not_keep_positions_open(autojump_clock: object) -> None:
    """LESSONS 6, STOP-2: every cancel is lost; the position is closed all the same, and the order stays on the list."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.rest_bids(NVDA, 1)
        d.world.faults.add(lost("cancel", Point.BEFORE_ADMISSION, action=RefuseText("Too many cumulative requests sent")))
        certificate = await d.flatten()
        assert not certificate.flat
        assert d.world.positions() == {}
        assert len(certificate.residual) == 1
        assert certificate.residual[0].startswith(f"order {d.world.open_orders()[0].oid}: buy 0.2 {NVDA}")
        assert "cancel of oid" in " ".join(certificate.problems)


async def test_a_question_about_orders_that_fails_does_not_keep_positions_open(autojump_clock: object) -> None:
    """LESSONS 6: the venue does not list orders any more; positions, which it lists, are closed; flat it is not."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(lost("frontendOpenOrders", Point.INFO, action=HttpAnswer(500)))
        certificate = await d.flatten()
        assert d.world.positions() == {}
        assert (certificate.flat, certificate.residual) == (False, ("open orders of dex xyz: not known",))


async def test_each_attempt_asks_for_the_price_and_gives_way_a_little_more(autojump_clock: object) -> None:
    """EXIT-4: 50 bps below the level of that moment, then 75, 100 ... and never more than 200."""
    books = [(s * 1000, quotes(SNDK, D(600) - s)) for s in range(30)]
    async with desk(script(calm(*PRICES), books)) as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(lost("order", Point.BEFORE_ADMISSION, uses=8, action=RefuseText("try again")))
        certificate = await d.flatten()
        assert certificate.flat
        prices = d.orders_sent()
        assert len(prices) == 9
        touches = [quotes(SNDK, D(600) - s).bids[0].px for s in range(30)]
        for n, px in enumerate(prices):
            bps = min(200, 50 + 25 * n)
            # The venue's five significant figures allow a tenth here; a sell is rounded down.
            assert any(0 <= touch * (1 - D(bps) / 10_000) - px < D("0.1") for touch in touches)
        assert len(set(prices)) == len(prices)
        assert [o["r"] for o in d.world.closes] == [True] * 9
        assert len({o["c"] for o in d.world.closes}) == 9


async def test_a_price_too_far_from_the_oracle_is_tried_until_it_is_near(autojump_clock: object) -> None:
    """EXIT-3, PROTOCOL 6: outside the oracle band every close is refused; when the oracle follows, the position goes."""
    fallen: list[TimedEvent] = [(3000, quotes(SNDK, D(500))), (9000, CtxChange(SNDK, D(500), D(500)))]
    async with desk(script(calm(SNDK, until_s=3), fallen)) as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await trio.sleep(3)
        certificate = await d.flatten()
        assert certificate.flat
        assert any("Price too far from oracle" in problem for problem in certificate.problems)
        assert d.world.clock.mono_ms() > 9000


async def test_a_frozen_oracle_holds_nothing_up(autojump_clock: object) -> None:
    """DESIGN 9.9: the oracle stands still at the weekend; as long as quotes are near it, positions are closed."""
    async with desk() as d:
        d.world.faults.world.frozen_oracles.add(SNDK)
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        assert (await d.flatten()).flat


async def test_a_halted_market_stays_on_the_list_and_the_others_go(autojump_clock: object) -> None:
    """STOP-2: one market is halted: it is the residue, with the venue's words; the other one is closed."""
    async with desk() as d:
        for coin in (SNDK, NVDA):
            await d.hand.take(coin, OrderSide.BUY, "0.2")
        d.world.faults.world.halted.add(SNDK)
        certificate = await d.flatten(deadline_s=5)
        assert certificate.residual == (f"position: 0.2 {SNDK}, entry 600.24",)
        assert f"close of {SNDK}: Trading is halted." in certificate.problems
        assert certificate.problems[-1] == "not verified flat within 5 s"


async def test_a_post_only_window_is_waited_out(autojump_clock: object) -> None:
    """PROTOCOL 6: after an upgrade every IOC fails for a while; the flatten is still there when the window ends."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.world.post_only = True
        d.world.exchange.call_later(6000, lambda: setattr(d.world.faults.world, "post_only", False))
        certificate = await d.flatten()
        assert certificate.flat
        assert "post-only" in " ".join(certificate.problems)


async def test_without_buyers_a_long_stays_and_a_short_goes(autojump_clock: object) -> None:
    """EXIT-4: a one-sided book: what has a level is closed, what has none is residue, and both are said."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.take(NVDA, OrderSide.SELL, "0.2")
        d.world.faults.world.one_sided = {SNDK: OrderSide.BUY, NVDA: OrderSide.BUY}
        certificate = await d.flatten(deadline_s=3)
        assert set(d.world.positions()) == {SNDK}
        assert certificate.residual == (f"position: 0.2 {SNDK}, entry 600.24",)
        assert f"{SNDK}: no level to close against" in certificate.problems


async def test_a_thin_book_is_eaten_level_by_level(autojump_clock: object) -> None:
    """EXIT-3: part now, the rest at the next price; the certificate adds up to the whole position."""
    thin = BookChange(SNDK, quotes(SNDK, D(600), sz="0.05").bids[:1] + quotes(SNDK, D(590)).bids, quotes(SNDK, D(600)).asks)
    async with desk(script(calm(SNDK, until_s=2), [(2000, thin)])) as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await trio.sleep(2)
        certificate = await d.flatten()
        assert certificate.flat
        assert sum(D(line.split()[1]) for line in certificate.closed) == D("0.2")
        assert len(certificate.closed) == 2


async def test_dust_is_closed_whole(autojump_clock: object) -> None:
    """EXIT-4, PROTOCOL 6: a position of 2 USD is below the minimum of an order and goes in one piece."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.02")
        account = d.world.exchange.engine.state.account(d.world.user.lower())
        next(iter(account.holdings.values())).szi = D("0.003")
        certificate = await d.flatten()
        assert certificate.flat
        assert certificate.closed[0].startswith(f"sell 0.003 {SNDK}")


async def test_a_position_on_the_main_dex_is_closed_too(autojump_clock: object) -> None:
    """STOP-2: every dex that is named is emptied, with its own asset ids, from metadata read on the way."""
    btc = BookChange("BTC", quotes("BTC", D(90_000)).bids, quotes("BTC", D(90_000)).asks)
    async with desk(script(calm(*PRICES), [(0, btc)])) as d:
        d.world.exchange.fund(d.world.user, "", D(1000))
        order = d.hand.order("BTC", OrderSide.BUY, D(91_000), "0.001", TimeInForce.IOC)
        await d.hand.place(order)
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        certificate = await d.flatten(dexes=("", "xyz"))
        assert certificate.flat
        assert [line.split()[2] for line in certificate.closed] == ["BTC", SNDK]


async def test_a_lost_answer_to_a_close_is_no_second_position(autojump_clock: object) -> None:
    """STOP-2, LESSONS 8: the close was executed, its answer lost: the venue is asked, and nothing is left to close."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(lost("order", Point.AFTER_COMMIT, uses=1))
        certificate = await d.flatten()
        assert certificate.flat
        assert len(d.orders_sent()) == 1
        assert "no answer" in " ".join(certificate.problems)


async def test_a_full_minute_of_weight_does_not_stop_the_flatten(autojump_clock: object) -> None:
    """LESSONS 6, PROTOCOL 8: with the minute's weight used up by others the way out still asks and still closes."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.rest.weight.spend(d.world.clock.mono_ms(), 1200)
        certificate = await d.flatten()
        assert certificate.flat


async def test_a_stop_rests_until_its_position_is_gone(autojump_clock: object) -> None:
    """STOP-2, EXIT-5: no buyer: the other order is cancelled, the stop stays as protection; then both are gone."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        stop = attrs.evolve(
            d.hand.order(SNDK, OrderSide.SELL, D(500), "0.2"), tif=TimeInForce.IOC, reduce_only=True, trigger_px=D(550)
        )
        await d.hand.place(stop)
        await d.hand.rest_bids(NVDA, 1)
        d.world.faults.world.one_sided[SNDK] = OrderSide.BUY
        certificate = await d.flatten(deadline_s=5)
        assert [line.split()[0] for line in certificate.residual] == ["stop", "position:"]
        assert [line.split()[0] for line in certificate.cancelled] == ["order"]
        d.world.faults.world.one_sided.clear()
        assert (await d.flatten()).flat


async def test_a_stop_without_a_position_is_cancelled(autojump_clock: object) -> None:
    """STOP-2: a trigger order that protects nothing is an order like any other."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        stop = attrs.evolve(
            d.hand.order(SNDK, OrderSide.SELL, D(500), "0.2"), tif=TimeInForce.IOC, reduce_only=True, trigger_px=D(550)
        )
        await d.hand.place(stop)
        account = d.world.exchange.engine.state.account(d.world.user.lower())
        account.holdings.clear()  # as after a liquidation
        certificate = await d.flatten()
        assert certificate.flat
        assert [line.split()[0] for line in certificate.cancelled] == ["stop"]


async def test_an_exhausted_budget_lets_the_close_go_first(autojump_clock: object) -> None:
    """GATE-5, PROTOCOL 8: one action in ten seconds: the position goes with the first, the order with the next."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.rest_bids(NVDA, 1)
        account = d.world.exchange.engine.state.account(d.world.user.lower())
        account.requests_used, account.last_trickle_ms = 10**6, d.world.exchange.venue_ms()
        certificate = await d.flatten(deadline_s=60)
        assert certificate.flat
        accepted = [s for s in certificate.sent if "'status': 'ok'" in s.answer]
        assert [s.what.split()[0] for s in accepted] == ["close", "cancelling"]
        assert accepted[1].at_ms - accepted[0].at_ms >= 10_000
        assert len(certificate.sent) <= 4
        assert any(p.startswith("the action budget is used up") for p in certificate.problems)


async def test_orders_may_be_out_of_budget_while_cancels_are_not(autojump_clock: object) -> None:
    """PROTOCOL 8: cancels have an allowance of their own, so they do not wait for the slot of the close."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.rest_bids(NVDA, 1)
        account = d.world.exchange.engine.state.account(d.world.user.lower())
        account.requests_used, account.last_trickle_ms = 10_500, d.world.exchange.venue_ms()
        certificate = await d.flatten(deadline_s=60)
        assert certificate.flat
        assert len(d.world.actions("cancel")) == 1
        assert len(d.orders_sent()) == 2  # refused once, then in its slot


async def test_without_a_book_the_mark_gives_the_price(autojump_clock: object) -> None:
    """EXIT-4: the book cannot be read: the close is priced from the mark, inside the band around the oracle."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(lost("l2Book", Point.INFO, action=HttpAnswer(500)))
        certificate = await d.flatten()
        assert certificate.flat
        assert d.orders_sent() == [D("597")]
        assert any("priced from the mark of 600" in p for p in certificate.problems)


async def test_a_refused_price_is_followed_by_the_level_itself(autojump_clock: object) -> None:
    """EXIT-4, PROTOCOL 6: refused as too far from the oracle, the next close gives way by nothing beyond the level."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        refusal = '{"status":"ok","response":{"type":"order","data":{"statuses":[{"error":"Price too far from oracle"}]}}}'
        d.world.faults.add(lost("order", Point.BEFORE_ADMISSION, uses=1, action=ReplaceBody(refusal)))
        assert (await d.flatten()).flat
        first, second = d.orders_sent()
        level = quotes(SNDK, D(600)).bids[0].px
        assert first < level
        assert 0 <= level - second < D("0.1")


async def test_an_order_on_a_spot_pair_is_cancelled_by_its_own_id(autojump_clock: object) -> None:
    """STOP-2, PROTOCOL 1.2: the main dex lists spot orders too; their asset ids come from spotMeta."""
    async with desk() as d:
        row = (
            '{"coin":"@107","side":"B","limitPx":"10","sz":"2","oid":5,"timestamp":1767225600000,"origSz":"2","reduceOnly":false,'
            '"isTrigger":false}'
        )
        d.world.faults.add(
            lost("frontendOpenOrders", Point.INFO, uses=1, action=ReplaceBody(f"[{row}]")),
            lost("spotMeta", Point.INFO, action=ReplaceBody('{"universe":[{"name":"@107","index":107}],"tokens":[]}')),
        )
        certificate = await d.flatten(dexes=("",))
        assert certificate.flat
        assert [a["cancels"] for a in d.world.actions("cancel")] == [[{"a": 10_107, "o": 5}]]
