"""Flat is what the venue's answers say, of every dex, and nothing else: what the one flatten asks and certifies (STOP-2)."""

from __future__ import annotations

import pytest

from hip3.core.ids import OrderSide, TimeInForce
from hip3.exchange.faults import Drop, FaultAction, HttpAnswer, Point, ReplaceBody, Rule
from hip3.exchange.seam import BookChange
from hip3.io.flatten import FlattenTarget
from tests.app.failures.scenes import NVDA, PRICES, SNDK, calm, lost, quotes, script
from tests.io.flatten_desk import D, desk


async def test_an_empty_account_is_certified_with_two_questions(autojump_clock: object) -> None:
    """STOP-2: nothing listed, nothing sent; the certificate holds the two answers that say so."""
    async with desk() as d:
        certificate = await d.flatten()
        assert certificate.flat
        assert [(a.dex, a.what, a.answer[:7]) for a in certificate.asked] == [
            ("xyz", "open orders", "0 liste"),
            ("xyz", "positions", "0 held,"),
        ]
        assert d.world.actions() == []


@pytest.mark.parametrize(
    "action",
    [HttpAnswer(500), HttpAnswer(429), ReplaceBody("null"), ReplaceBody("[]"), ReplaceBody('{"assetPositions":5}')],
    ids=["500", "429", "null", "empty list", "other form"],
)
async def test_a_question_that_fails_is_not_flat(action: FaultAction, autojump_clock: object) -> None:
    """LESSONS 7, 30: whatever comes in place of the positions, it is "not known", never "none"."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(lost("clearinghouseState", Point.INFO, action=action))
        certificate = await d.flatten(deadline_s=3)
        assert (certificate.flat, certificate.residual) == (False, ("positions of dex xyz: not known",))
        assert d.orders_sent() == []


async def test_one_failed_question_is_asked_again(autojump_clock: object) -> None:
    """STOP-2: a single 500 costs a round, not the certificate."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(*(lost(q, Point.INFO, uses=1, action=HttpAnswer(500)) for q in ("clearinghouseState", "l2Book")))
        certificate = await d.flatten()
        assert certificate.flat
        assert len(d.orders_sent()) == 1


async def test_positions_are_asked_for_again_after_the_orders(autojump_clock: object) -> None:
    """LESSONS 7: an order may have filled after the positions were listed and before the orders were."""
    async with desk() as d:
        d.world.faults.add(lost("frontendOpenOrders", Point.INFO, uses=2, action=HttpAnswer(500)))
        d.world.faults.add(Rule(Point.INFO, Drop(), lambda kind: kind == "clearinghouseState", uses=None, skip=1))
        certificate = await d.flatten(deadline_s=4)
        left = "positions of dex xyz: none before its orders were listed, not known since"
        assert (certificate.flat, certificate.residual) == (False, (left,))


async def test_only_what_was_asked_is_certified(autojump_clock: object) -> None:
    """LESSONS 7, 22: asked of the main dex alone, the answer is about the main dex; a dex that is not there is not flat."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        main = await d.flatten(dexes=("",))
        assert {a.dex for a in main.asked} == {""}
        assert {row["dex"] for row in main.as_dict()["asked"]} == {"main"}  # type: ignore[attr-defined] # a list of rows
        both = await d.flatten(dexes=("", "xyz"))
        assert both.flat
        assert {(a.dex, a.what) for a in both.asked} == {(x, q) for x in ("", "xyz") for q in ("open orders", "positions")}
        nowhere = await d.flatten(dexes=("atlantis",), deadline_s=2)
        assert not nowhere.flat


async def test_a_coin_that_metadata_does_not_list_is_residue(autojump_clock: object) -> None:
    """STOP-2: without an asset id no order can be made; the position is listed and the reason is told."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.take(NVDA, OrderSide.BUY, "0.2")
        empty = '{"universe":[{"name":"xyz:XYZ100","szDecimals":4,"maxLeverage":30}],"collateralToken":0}'
        d.world.faults.add(lost("meta", Point.INFO, action=ReplaceBody(empty)))
        certificate = await d.flatten(deadline_s=3)
        assert len(certificate.residual) == 2
        assert f"{SNDK}: the metadata does not list it, so no order for it can be made" in certificate.problems


async def test_looking_changes_nothing(autojump_clock: object) -> None:
    """END-2: the last look lists orders and positions and sends no action."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.rest_bids(NVDA, 1)
        sent = len(d.world.actions())
        seen = await d.flattener().look(FlattenTarget(d.world.user, ("xyz",)), 1)
        assert not seen.flat
        assert [line.split()[0] for line in seen.residual] == ["order", "position:"]
        assert len(d.world.actions()) == sent


def btc() -> BookChange:
    """A book of the main dex's only market, at its oracle."""
    return quotes("BTC", D(90_000), sz="1")


async def test_every_dex_is_asked_and_emptied(autojump_clock: object) -> None:
    """STOP-2, LESSONS 7, 39: nobody names a dex: the venue's own list decides, and what is held on the main one goes too."""
    async with desk(script(calm(*PRICES), [(0, btc())])) as d:
        d.world.exchange.fund(d.world.user, "", D(1000))
        await d.hand.place(d.hand.order("BTC", OrderSide.BUY, D(91_000), "0.001", TimeInForce.IOC))
        await d.hand.place(d.hand.order("BTC", OrderSide.BUY, D(80_000), "0.001"))
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        certificate = await d.flatten(dexes=None)
        assert certificate.flat
        assert (d.world.positions(), d.world.open_orders()) == ({}, ())
        assert {a.dex for a in certificate.asked if a.what == "positions"} == {"", "xyz"}
        assert len(certificate.closed) == 2


async def test_without_the_list_of_dexes_nothing_is_flat(autojump_clock: object) -> None:
    """LESSONS 7: the dexes that are known are emptied, but while the list cannot be had another one may hold anything."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(lost("perpDexs", Point.INFO, action=HttpAnswer(500)))
        target = FlattenTarget(d.world.user, specs={SNDK: d.hand.spec(SNDK)})
        certificate = await d.flattener().run(target, 5)
        assert d.world.positions() == {}
        assert (certificate.flat, len(certificate.residual)) == (False, 1)
        assert certificate.residual[0].startswith("list of dexes: not known")
        d.world.faults.rules.clear()
        assert (await d.flattener().run(target, 5)).flat


async def test_one_dex_that_does_not_answer_is_not_flat(autojump_clock: object) -> None:
    """LESSONS 7: one answer about positions fails for good, the other dex is flat: the certificate is not."""
    async with desk() as d:
        d.world.faults.add(Rule(Point.INFO, HttpAnswer(500), lambda kind: kind == "clearinghouseState", skip=1, uses=None))
        certificate = await d.flatten(dexes=None, deadline_s=3)
        assert certificate.flat is False
        assert len([line for line in certificate.residual if line.endswith("not known")]) == 1


async def test_a_venue_that_answers_nothing_is_asked_one_light_question(autojump_clock: object) -> None:
    """PROTOCOL 8: while nothing is answered no round of questions goes out; when the venue is back, it is flattened."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.add(Rule(Point.INFO, HttpAnswer(500), uses=None))
        d.world.exchange.call_later(10_000, d.world.faults.rules.clear)
        certificate = await d.flatten(dexes=None)
        assert certificate.flat
        kinds = [subject for _, subject, _ in d.world.faults.struck]
        assert kinds.count("frontendOpenOrders") == 1
        assert kinds.count("exchangeStatus") >= 4
