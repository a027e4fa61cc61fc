"""What one order does: matching, refusals in the venue's words, reduce-only, self-trade, margin."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from hip3.core.ids import OrderSide
from hip3.exchange.effects import Filled
from hip3.exchange.seam import BookChange, CtxChange, Print

if TYPE_CHECKING:
    from tests.exchange.conftest import Kit

D = Decimal
CLOID = "0x68697033000101234567890100000001"
SNDK = 110_002


def test_ioc_takes_levels_in_order_and_reports_the_average(kit: Kit) -> None:
    """SIM-2: an IOC walks the book: total size and average price are in the answer, the cloid is echoed."""
    status = kit.place(kit.a, "buy", "602", "1.5", cloid=CLOID)
    filled = status["filled"]
    assert filled["totalSz"] == "1.5"
    assert D(filled["avgPx"]) == ((D(601) + D(602) / 2) / D("1.5")).quantize(D("1e-6"))
    assert filled["cloid"] == CLOID
    assert kit.szi(kit.a) == D("1.5")


def test_partial_ioc_is_filled_and_the_rest_goes_without_a_word(kit: Kit) -> None:
    """SIM-2: an IOC larger than the book answers `filled` with what there was; the record says filled, sz > 0."""
    status = kit.place(kit.a, "buy", "601", "3")
    assert status["filled"]["totalSz"] == "1.0"
    assert kit.frames(kit.a) == ["filled"]
    record = kit.engine.state.account(kit.a).find(status["filled"]["oid"])
    assert record is not None
    assert (record.status, record.sz, record.orig_sz) == ("filled", D(2), D(3))


def test_what_was_taken_is_gone_until_the_source_states_another_size(kit: Kit, wire_book: Callable[..., BookChange]) -> None:
    """SIM-3: liquidity is not taken twice; a restatement of the same size changes nothing, another size refreshes."""
    bids, gone = [("599", "1")], "Order could not immediately match against any resting orders. asset=110002"
    kit.place(kit.a, "buy", "601", "1")
    kit.engine.apply(wire_book("xyz:SNDK", bids, [("601", "1")]))
    assert kit.place(kit.a, "buy", "601", "1") == {"error": gone}
    kit.engine.apply(wire_book("xyz:SNDK", bids, [("601", "2")]))
    assert kit.place(kit.a, "buy", "601", "1")["filled"]["totalSz"] == "1.0"


def test_gtc_rests_and_is_a_maker_later(kit: Kit) -> None:
    """SIM-2: a GTC rests with an oid; the other account that takes it pays the taker rate, we the maker rate."""
    resting = kit.place(kit.a, "buy", "600", "0.5", tif="Gtc")["resting"]
    assert kit.frames(kit.a) == ["open"]
    kit.place(kit.b, "sell", "600", "0.5")
    fills = {e.address: e.fill for e in kit.engine.state.collect() if isinstance(e, Filled)}
    assert fills[kit.a].oid == resting["oid"]
    assert (fills[kit.a].crossed, fills[kit.b].crossed) == (False, True)
    # growth mode, scale 1: taker 0.9 bp and maker 0.3 bp (PROTOCOL 9)
    assert fills[kit.b].fee == D("0.027")
    assert fills[kit.a].fee == D("0.009")
    assert (kit.szi(kit.a), kit.szi(kit.b)) == (D("0.5"), D("-0.5"))


def test_external_quotes_that_move_through_a_resting_order_fill_it(kit: Kit, wire_book: Callable[..., BookChange]) -> None:
    """SIM-3: when outside sellers come down to our bid they trade with it, at our price."""
    kit.place(kit.a, "buy", "600", "0.5", tif="Gtc")
    kit.engine.apply(wire_book("xyz:SNDK", [("598", "1")], [("599.5", "0.2"), ("601", "1")]))
    (fill,) = kit.engine.state.account(kit.a).fills
    assert (fill.px, fill.sz, fill.crossed) == (D(600), D("0.2"), False)
    book = kit.engine.state.directory.by_asset[SNDK].book
    assert [level.px for level in book.depth(fill.side.opposite(), 5)] == [D(601)]


def test_a_print_through_a_resting_order_fills_it_and_one_at_its_price_does_not(kit: Kit) -> None:
    """SIM-3: our place in the queue is unknown, so a trade at our very price went to those ahead of us."""
    kit.place(kit.a, "buy", "600", "0.5", tif="Gtc")
    kit.engine.apply(Print("xyz:SNDK", OrderSide.SELL, D(600), D(1)))
    assert kit.szi(kit.a) == 0
    kit.engine.apply(Print("xyz:SNDK", OrderSide.SELL, D("599.5"), D("0.3")))
    (fill,) = kit.engine.state.account(kit.a).fills
    assert (fill.px, fill.sz, fill.crossed) == (D(600), D("0.3"), False)
    kit.engine.apply(Print("xyz:SNDK", OrderSide.BUY, D(605), D(1)))
    assert kit.szi(kit.a) == D("0.3")


ERRORS = [
    ("buy", "601.123", "1", "Ioc", "Price must be divisible by tick size.", "tickRejected"),
    ("buy", "601", "0.016", "Ioc", "Order must have minimum value of $10.", "minTradeNtlRejected"),
    ("buy", "600", "0.016", "Gtc", "Order must have minimum value of $10.", "minTradeNtlRejected"),
    (
        "buy",
        "600",
        "1",
        "Ioc",
        "Order could not immediately match against any resting orders.",
        "iocCancelRejected",
    ),
    (
        "buy",
        "601",
        "1",
        "Alo",
        "Post only order would have immediately matched, bbo was 599.0@601.0.",
        "badAloPxRejected",
    ),
    ("buy", "590", "1000", "Gtc", "Insufficient margin to place order.", "perpMarginRejected"),
]


@pytest.mark.parametrize(("side", "px", "sz", "tif", "text", "status"), ERRORS)
def test_runtime_refusals_have_the_venues_words_and_leave_a_record(
    kit: Kit, side: str, px: str, sz: str, tif: str, text: str, status: str
) -> None:
    """SIM-2: the text ends in the asset, a record stands under the cloid, and a frame of orderUpdates says the status."""
    assert kit.place(kit.a, side, px, sz, tif=tif, cloid=CLOID) == {"error": f"{text} asset=110002"}
    assert kit.frames(kit.a) == [status]
    record = kit.engine.state.account(kit.a).find(CLOID)
    assert record is not None
    assert record.status == status
    assert kit.szi(kit.a) == 0


STATIC = [
    ({"px": "601", "sz": "0.0001"}, "Order has invalid size."),
    ({"px": "601", "sz": "0"}, "Order has zero size."),
    ({"px": "0", "sz": "1"}, "Order has invalid price."),
    ({"px": "100", "sz": "1"}, "Order price cannot be more than 80% away from the reference price"),
    ({"px": "3001", "sz": "1"}, "Order price cannot be more than 80% away from the reference price"),
]


@pytest.mark.parametrize(("bad", "text"), STATIC)
@pytest.mark.parametrize("place", [0, 1])
def test_one_static_fault_refuses_the_whole_batch_with_one_status(
    kit: Kit, wire_order: Callable[..., dict[str, Any]], bad: dict[str, str], text: str, place: int
) -> None:
    """SIM-2: first or last in the batch, nothing executes, one status, no record of the cloid."""
    orders = [wire_order("buy", "601", "0.1", cloid=CLOID)]
    orders.insert(place, wire_order("buy", bad["px"], bad["sz"]))
    assert kit.statuses(kit.a, {"type": "order", "orders": orders, "grouping": "na"}) == [{"error": text}]
    assert kit.engine.state.account(kit.a).find(CLOID) is None
    assert kit.szi(kit.a) == 0


def test_empty_and_oversized_batches(kit: Kit, wire_order: Callable[..., dict[str, Any]]) -> None:
    """SIM-2: an empty batch has one status; 201 items are refused as a whole and cost no budget."""
    assert kit.statuses(kit.a, {"type": "order", "orders": [], "grouping": "na"}) == [{"error": "Orders are empty."}]
    used = kit.engine.state.account(kit.a).requests_used
    many = [wire_order("buy", "601", "0.1")] * 201
    refused = kit.do(kit.a, {"type": "order", "orders": many, "grouping": "na"})
    assert refused == {"status": "err", "response": "Signed action over weight limit of 200."}
    assert kit.engine.state.account(kit.a).requests_used == used


def test_runtime_refusals_are_per_order(kit: Kit, wire_order: Callable[..., dict[str, Any]]) -> None:
    """SIM-2: the orders around a refused one stand."""
    orders = [wire_order("buy", "601", "0.1"), wire_order("buy", "500", "1"), wire_order("buy", "601", "0.2")]
    first, second, third = kit.statuses(kit.a, {"type": "order", "orders": orders, "grouping": "na"})
    assert "filled" in first
    assert second["error"].startswith("Order could not immediately match")
    assert third["filled"]["totalSz"] == "0.2"


def test_oracle_band_refuses_a_trade_too_far_from_the_oracle(kit: Kit) -> None:
    """SIM-2: with the oracle frozen far below the book, a marketable order is refused, not filled (PROTOCOL 6)."""
    kit.engine.apply(CtxChange("xyz:SNDK", oracle_px=D(540)))  # 601 is 11 % above; 1/maxLeverage is 10 %
    assert kit.place(kit.a, "buy", "602", "1") == {"error": "Price too far from oracle asset=110002"}
    assert kit.engine.state.account(kit.a).records.popitem()[1].status == "oracleRejected"


def test_the_band_also_ends_a_walk_through_the_book(
    new_kit: Callable[..., Kit], wire_book: Callable[..., BookChange]
) -> None:
    """SIM-2: levels beyond the band are not reached; the rest of the IOC goes."""
    kit = new_kit(oracle_band=D("0.01"))
    kit.engine.apply(wire_book("xyz:SNDK", [], [("601", "1"), ("620", "5")]))
    assert kit.place(kit.a, "buy", "620", "3")["filled"]["totalSz"] == "1.0"


def test_open_interest_cap_stops_increases_only(kit: Kit) -> None:
    """SIM-2: at the cap an order may not add to a position."""
    error = kit.place(kit.a, "buy", "201", "1", asset=110_004)
    assert error == {"error": "Order would increase open interest while open interest is capped asset=110004"}


def test_at_the_cap_flips_and_prices_beyond_the_oracle_are_refused(kit: Kit, wire_book: Callable[..., BookChange]) -> None:
    """SIM-2: a holder at the cap may reduce, but not flip and not chase the price; reduce-only always may."""
    kit.engine.apply(CtxChange("xyz:CAPPED", open_interest=D(1)))
    kit.place(kit.a, "buy", "201", "1", asset=110_004)
    kit.engine.apply(CtxChange("xyz:CAPPED", open_interest=D(5)))
    flip = kit.place(kit.a, "sell", "199", "3", asset=110_004)["error"]
    assert flip == "Order would increase open interest while open interest is capped asset=110004"
    chase = kit.place(kit.a, "sell", "199", "0.5", asset=110_004)["error"]
    assert chase == "Order rejected due to price more aggressive than oracle while at open interest cap asset=110004"
    statuses = [record.status for record in kit.engine.state.account(kit.a).records.values()]
    assert statuses[1:] == ["positionFlipAtOpenInterestCapRejected", "tooAggressiveAtOpenInterestCapRejected"]
    assert "filled" in kit.place(kit.a, "sell", "199", "1", asset=110_004, reduce=True)


def test_resting_orders_are_limited(new_kit: Callable[..., Kit]) -> None:
    """SIM-2: past the limit of open orders nothing more rests; an IOC still may."""
    kit = new_kit(max_open_orders=1)
    kit.place(kit.a, "buy", "590", "1", tif="Gtc")
    assert "error" in kit.place(kit.a, "buy", "590", "1", tif="Gtc")
    assert list(kit.engine.state.account(kit.a).records.values())[-1].status == "tooManyOpenOrdersRejected"
    assert "filled" in kit.place(kit.a, "buy", "601", "1")


def test_halted_market_and_post_only_window(kit: Kit) -> None:
    """SIM-4: both refuse per order and leave no record; ALO passes the window."""
    kit.world.post_only = True
    text = "Only post-only orders allowed immediately after network upgrade"
    assert kit.place(kit.a, "buy", "601", "1", cloid=CLOID) == {"error": text}
    assert kit.engine.state.account(kit.a).find(CLOID) is None
    assert "resting" in kit.place(kit.a, "buy", "600", "1", tif="Alo")
    kit.world.post_only = False
    kit.world.halted.add("xyz:SNDK")
    assert kit.place(kit.a, "buy", "601", "1") == {"error": "Trading is halted."}
    assert kit.place(kit.a, "buy", "50", "1", asset=110_001) == {"error": "Trading is halted."}


def test_reduce_only_never_opens_and_never_flips(kit: Kit) -> None:
    """SIM-2: flat or same side is refused; larger than the position is shrunk, `origSz` keeps the request."""
    text = {"error": "Reduce only order would increase position. asset=110002"}
    assert kit.place(kit.a, "sell", "599", "1", reduce=True) == text
    kit.place(kit.a, "buy", "601", "0.5")
    assert kit.place(kit.a, "buy", "602", "0.5", reduce=True) == text
    closed = kit.place(kit.a, "sell", "599", "0.9", reduce=True)["filled"]
    assert closed["totalSz"] == "0.5"
    record = kit.engine.state.account(kit.a).find(closed["oid"])
    assert record is not None
    assert (record.orig_sz, record.sz) == (D("0.9"), D(0))
    assert kit.szi(kit.a) == 0


def test_minimum_notional_spares_an_order_that_closes_everything(kit: Kit) -> None:
    """SIM-2: below 10 USD a partial close is refused even reduce-only, the whole position may always go."""
    kit.place(kit.a, "buy", "601", "0.02")
    assert kit.place(kit.a, "sell", "599", "0.01", reduce=True)["error"].startswith("Order must have minimum value")
    kit.engine.apply(CtxChange("xyz:SNDK", D(600), D(600)))
    kit.place(kit.a, "sell", "599", "0.02")
    kit.place(kit.a, "buy", "602", "0.017")  # 10.217 USD
    assert kit.szi(kit.a) == D("0.017")
    assert kit.place(kit.a, "sell", "588", "0.017", tif="Gtc", reduce=True)["filled"]["totalSz"] == "0.017"


def test_resting_reduce_only_follows_the_position_and_ends_with_it(kit: Kit) -> None:
    """SIM-2: it shrinks silently as the position shrinks and is cancelled in the frame that closes it."""
    kit.place(kit.a, "buy", "602", "1")
    oid = kit.place(kit.a, "sell", "610", "1", tif="Gtc", reduce=True)["resting"]["oid"]
    kit.place(kit.a, "sell", "598", "0.4")
    record = kit.engine.state.account(kit.a).find(oid)
    assert record is not None
    assert (record.status, record.sz, record.orig_sz) == ("open", D("0.6"), D(1))
    kit.frames(kit.a)
    kit.place(kit.a, "sell", "598", "0.6")
    assert kit.frames(kit.a) == ["filled", "reduceOnlyCanceled"]


def test_a_newer_reduce_only_order_takes_the_place_of_an_older_one(kit: Kit) -> None:
    """SIM-2: as seen on testnet, the sum never exceeds the position and the first one gives way."""
    kit.place(kit.a, "buy", "601", "1")
    first = kit.place(kit.a, "sell", "610", "1", tif="Gtc", reduce=True)["resting"]["oid"]
    second = kit.place(kit.a, "sell", "611", "1", tif="Gtc", reduce=True)["resting"]["oid"]
    account = kit.engine.state.account(kit.a)
    assert account.records[first].status == "reduceOnlyCanceled"
    assert account.records[second].status == "open"


def test_self_trade_cancels_the_maker_and_the_taker_goes_on(kit: Kit) -> None:
    """SIM-2: no fill with oneself; the resting order is selfTradeCanceled, the taker meets the next level."""
    own = kit.place(kit.a, "sell", "600.5", "1", tif="Gtc")["resting"]["oid"]
    filled = kit.place(kit.a, "buy", "601", "1")["filled"]
    account = kit.engine.state.account(kit.a)
    assert account.records[own].status == "selfTradeCanceled"
    assert [(f.px, f.oid) for f in account.fills] == [(D(601), filled["oid"])]


def test_price_time_priority_among_accounts(kit: Kit) -> None:
    """SIM-2: better price first, then the earlier order."""
    early = kit.place(kit.a, "sell", "600.5", "0.1", tif="Gtc")["resting"]["oid"]
    late = kit.place(kit.a, "sell", "600.5", "0.1", tif="Gtc")["resting"]["oid"]
    best = kit.place(kit.a, "sell", "600.2", "0.1", tif="Gtc")["resting"]["oid"]
    kit.place(kit.b, "buy", "601", "0.25")
    assert [f.oid for f in kit.engine.state.account(kit.a).fills] == [best, early, late]


def test_margin_is_checked_again_on_the_resting_side(kit: Kit) -> None:
    """SIM-2: a maker that can no longer pay is marginCanceled at the match instead of filled."""
    oid = kit.place(kit.a, "buy", "600", "100", tif="Gtc")["resting"]["oid"]  # 6,000 USD of margin at 10x
    kit.engine.fund(kit.a, "xyz", D(-9_000))
    status = kit.place(kit.b, "sell", "600", "1")
    assert kit.engine.state.account(kit.a).records[oid].status == "marginCanceled"
    assert status["error"].startswith("Order could not immediately match")


def test_isolated_margin_leaves_the_cash_and_comes_back(kit: Kit) -> None:
    """SIM-2: on an isolated market the position carries its own margin; closing returns it with the result."""
    account = kit.engine.state.account(kit.a)
    kit.place(kit.a, "buy", "100.1", "10", asset=110_003)
    # 1001 USD at 10x; taker fee is 9 bp without growth mode at scale 1
    assert account.holdings[110_003].isolated_usd == D("100.1")
    assert account.cash["xyz"] == D(10_000) - D("100.1") - D("0.9009")
    kit.place(kit.a, "sell", "99.9", "10", asset=110_003)
    assert account.holdings == {}
    assert account.cash["xyz"] == D(10_000) - D(2) - D("0.9009") - D("0.8991")
