"""Reduce-only trigger orders: what places them, what fires them, what ends them (PROTOCOL 4.1, 4.2, 6, 7.1)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from hip3.core.ids import OrderSide
from hip3.exchange.effects import NonUserCanceled, OrderChanged
from hip3.exchange.info import Info
from hip3.exchange.requests import parse_action
from hip3.exchange.seam import BookChange, CtxChange
from hip3.exchange.texts import SchemaError

if TYPE_CHECKING:
    from tests.exchange.conftest import Kit

D = Decimal
CLOID = "0x68697033000101234567890100000001"
SNDK = 110_002
WireBook = Callable[..., BookChange]


def trigger(side: str, px: str, sz: str, at: str, *, tpsl: str = "sl", market: bool = True, reduce: bool = True) -> Any:
    """A trigger order of the wire: `px` is its own price, `at` what the mark must reach."""
    how = {"isMarket": market, "triggerPx": at, "tpsl": tpsl}
    return {"a": SNDK, "b": side == "buy", "p": px, "s": sz, "r": reduce, "t": {"trigger": how}, "c": CLOID}


def placed(kit: Kit, *orders: dict[str, Any]) -> Any:
    return kit.statuses(kit.a, {"type": "order", "orders": list(orders), "grouping": "na"})


def mark(kit: Kit, px: str) -> None:
    """The mark of the next block."""
    kit.engine.begin_block(kit.engine.state.now_ms + 85)
    kit.engine.apply(CtxChange("xyz:SNDK", mark_px=D(px)))


def frames(kit: Kit) -> list[tuple[str, Decimal]]:
    """(status, size left) of the updates of account `a` since the last look."""
    effects = kit.engine.state.collect()
    return [(e.update.status, e.update.sz) for e in effects if isinstance(e, OrderChanged) and e.address == kit.a]


def long(kit: Kit, sz: str = "0.5") -> None:
    kit.place(kit.a, "buy", "601", sz)
    frames(kit)


def short(kit: Kit, sz: str = "0.5") -> None:
    kit.place(kit.a, "sell", "599", sz)
    frames(kit)


def test_a_stop_waits_and_fires_at_the_mark(kit: Kit) -> None:
    """SIM-2: it rests unseen by the book; one tick above nothing happens, at its price it sells under its oid."""
    long(kit)
    ((oid, cloid),) = [tuple(status["resting"].values()) for status in placed(kit, trigger("sell", "540", "0.5", "595"))]
    assert cloid == CLOID
    assert frames(kit) == [("open", D("0.5"))]
    assert kit.engine.resting("xyz:SNDK", OrderSide.SELL) == []
    mark(kit, "595.01")
    assert kit.szi(kit.a) == D("0.5")
    mark(kit, "595")
    assert frames(kit) == [("triggered", D("0.5")), ("filled", D(0))]
    assert kit.szi(kit.a) == 0
    fill = kit.engine.state.account(kit.a).fills[-1]
    assert (fill.oid, fill.cloid, fill.px, fill.crossed) == (oid, CLOID, D(599), True)


@pytest.mark.parametrize(
    ("make", "side", "px", "at", "tpsl", "fires"),
    [
        (long, "sell", "540", "595", "sl", "594"),
        (long, "sell", "540", "605", "tp", "606"),
        (short, "buy", "660", "605", "sl", "606"),
        (short, "buy", "660", "595", "tp", "594"),
    ],
)
def test_stops_and_profits_fire_on_their_own_side(
    kit: Kit, make: Callable[[Kit], None], side: str, px: str, at: str, tpsl: str, fires: str
) -> None:
    """SIM-2: a stop of a long fires below, of a short above, a profit the other way round; a gap over it fires too."""
    make(kit)
    placed(kit, trigger(side, px, "0.5", at, tpsl=tpsl))
    mark(kit, "600.5")
    assert kit.szi(kit.a) != 0
    mark(kit, fires)
    assert kit.szi(kit.a) == 0


@pytest.mark.parametrize(("at", "tpsl"), [("600", "sl"), ("601", "sl"), ("600", "tp"), ("599", "tp")])
def test_a_trigger_that_is_through_already_is_refused(kit: Kit, at: str, tpsl: str) -> None:
    """SIM-2: `Invalid TP/SL price.` for that order alone, with a record; the mark itself counts as through."""
    long(kit)
    refused, good = placed(kit, trigger("sell", "540", "0.5", at, tpsl=tpsl), trigger("sell", "540", "0.5", "590"))
    assert refused == {"error": "Invalid TP/SL price. asset=110002"}
    assert "resting" in good
    assert frames(kit) == [("badTriggerPxRejected", D("0.5")), ("open", D("0.5"))]


def test_a_trigger_that_could_open_kills_the_batch(kit: Kit, wire_order: Callable[..., dict[str, Any]]) -> None:
    """SIM-2, PROTOCOL 4.2: not reduce-only is found before anything runs: one status for the whole batch."""
    long(kit)
    loose = trigger("sell", "540", "0.5", "595", reduce=False)
    assert placed(kit, wire_order("sell", "599", "0.1"), loose) == [{"error": "TP/SL orders must be reduce only."}]
    assert kit.szi(kit.a) == D("0.5")


def test_a_trigger_has_a_legal_price_and_something_to_reduce(kit: Kit) -> None:
    """SIM-2: tick of both prices, a position on the other side, and the venue's minimum unless it closes all."""
    error = {"error": "Reduce only order would increase position. asset=110002"}
    assert placed(kit, trigger("sell", "540", "0.5", "595")) == [error]
    long(kit)
    assert placed(kit, trigger("buy", "660", "0.5", "605")) == [error]
    tick = {"error": "Price must be divisible by tick size. asset=110002"}
    assert placed(kit, trigger("sell", "540", "0.5", "595.123")) == [tick]
    assert placed(kit, trigger("sell", "540.123", "0.5", "595")) == [tick]
    assert placed(kit, trigger("sell", "540", "0.001", "595")) == [
        {"error": "Order must have minimum value of $10. asset=110002"}
    ]


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"triggerPx": "zero"}, "triggerPx: expected an unsigned"),
        ({"triggerPx": "-1"}, "triggerPx: expected an unsigned"),
        ({"triggerPx": 595}, "triggerPx: expected an unsigned"),
        ({"triggerPx": "595.123456789"}, "triggerPx: more digits"),
        ({"tpsl": "stop"}, "tpsl: expected tp or sl"),
        ({"isMarket": "true"}, "isMarket: expected bool"),
    ],
)
def test_a_trigger_of_the_wrong_form_is_422(wrong: dict[str, object], found: str) -> None:
    """SIM-2: the venue's typed parser refuses it before anything is looked at."""
    good = trigger("sell", "540", "0.5", "595")
    bad = {**good, "t": {"trigger": {**good["t"]["trigger"], **wrong}}}
    with pytest.raises(SchemaError, match=found):
        parse_action({"type": "order", "orders": [bad], "grouping": "na"})


def test_a_fired_stop_is_cut_to_the_position(kit: Kit) -> None:
    """PROTOCOL 6: larger than what is left it never flips; until then it keeps its size."""
    long(kit)
    placed(kit, trigger("sell", "540", "0.5", "595"))
    kit.place(kit.a, "sell", "599", "0.3", reduce=True)
    assert ("reduceOnlyCanceled", D("0.5")) not in frames(kit)
    mark(kit, "590")
    assert kit.szi(kit.a) == 0
    assert frames(kit) == [("triggered", D("0.5")), ("filled", D(0))]


def test_a_close_of_the_position_ends_its_triggers(kit: Kit) -> None:
    """SIM-2, PROTOCOL 2.4, 6: `reduceOnlyCanceled` in the frame of the closing order, without a nonUserCancel."""
    long(kit)
    placed(kit, trigger("sell", "540", "0.5", "595"))
    placed(kit, {**trigger("sell", "540", "0.5", "605", tpsl="tp"), "c": CLOID[:-1] + "2"})
    kit.engine.state.collect()
    kit.place(kit.a, "sell", "599", "0.5", reduce=True)
    effects = kit.engine.state.collect()
    statuses = [e.update.status for e in effects if isinstance(e, OrderChanged) and e.address == kit.a]
    assert statuses == ["filled", "reduceOnlyCanceled", "reduceOnlyCanceled"]
    assert not any(isinstance(e, NonUserCanceled) for e in effects)
    mark(kit, "590")
    assert frames(kit) == []


def test_of_a_stop_and_a_profit_only_one_closes(kit: Kit) -> None:
    """SIM-2: both of the whole size stand together; the one that fires ends the other."""
    long(kit)
    placed(kit, trigger("sell", "540", "0.5", "595"))
    placed(kit, {**trigger("sell", "540", "0.5", "605", tpsl="tp"), "c": CLOID[:-1] + "2"})
    frames(kit)
    mark(kit, "605")
    assert [status for status, _ in frames(kit)] == ["triggered", "filled", "reduceOnlyCanceled"]


def test_a_market_stop_takes_no_worse_than_its_own_price(kit: Kit, wire_book: WireBook) -> None:
    """PROTOCOL 6, `isMarket` uses p as bound: what there is within it is taken, the rest goes without a word."""
    long(kit)
    placed(kit, trigger("sell", "598", "0.5", "595"))
    frames(kit)
    kit.engine.apply(wire_book("xyz:SNDK", [("598", "0.2"), ("597", "5")], [("601", "1")]))
    mark(kit, "594")
    assert frames(kit) == [("triggered", D("0.5")), ("filled", D("0.3"))]
    assert kit.szi(kit.a) == D("0.3")


@pytest.mark.parametrize("bids", [[], [("597", "5")]])
def test_a_market_stop_that_finds_nobody_ends_refused(kit: Kit, wire_book: WireBook, bids: list[tuple[str, str]]) -> None:
    """PROTOCOL 7.1: no bid, or none within its price: `marketOrderNoLiquidityRejected`, and the position stays."""
    long(kit)
    placed(kit, trigger("sell", "598", "0.5", "595"))
    frames(kit)
    kit.engine.apply(wire_book("xyz:SNDK", bids, [("601", "1")]))
    mark(kit, "594")
    assert [status for status, _ in frames(kit)] == ["triggered", "marketOrderNoLiquidityRejected"]
    assert kit.szi(kit.a) == D("0.5")


def test_a_limit_trigger_rests_once_it_has_fired(kit: Kit) -> None:
    """PROTOCOL 6: without `isMarket` it becomes a limit order at its own price, and is cancelled like one."""
    long(kit)
    placed(kit, trigger("sell", "604", "0.5", "602", tpsl="tp", market=False))
    frames(kit)
    mark(kit, "602")
    assert frames(kit) == [("triggered", D("0.5")), ("open", D("0.5"))]
    (order,) = kit.engine.resting("xyz:SNDK", OrderSide.SELL)
    assert order.px == D(604)
    cancel = {"type": "cancelByCloid", "cancels": [{"asset": SNDK, "cloid": CLOID}]}
    assert kit.statuses(kit.a, cancel) == ["success"]


def test_a_waiting_trigger_is_cancelled_like_any_order(kit: Kit) -> None:
    """PROTOCOL 4.3: by oid or cloid, once; with `f`, which the venue refuses for trigger orders, it stays."""
    long(kit)
    placed(kit, trigger("sell", "540", "0.5", "595"))
    frames(kit)
    cancel = {"type": "cancelByCloid", "cancels": [{"asset": SNDK, "cloid": CLOID}]}
    assert "error" in kit.statuses(kit.a, {**cancel, "f": True})[0]
    assert frames(kit) == []
    assert kit.statuses(kit.a, cancel) == ["success"]
    assert "error" in kit.statuses(kit.a, cancel)[0]
    assert frames(kit) == [("canceled", D("0.5"))]
    mark(kit, "590")
    assert kit.szi(kit.a) == D("0.5")


def test_a_trigger_is_moved_by_modify_with_a(kit: Kit) -> None:
    """PROTOCOL 4.3: a trigger replacement needs `a`; refused, the old one stands; else a new oid under the same cloid."""
    long(kit)
    old = placed(kit, trigger("sell", "540", "0.5", "595"))[0]["resting"]["oid"]
    action = {"type": "batchModify", "modifies": [{"oid": CLOID, "order": trigger("sell", "540", "0.5", "590")}]}
    assert "error" in kit.statuses(kit.a, action)[0]
    new = kit.statuses(kit.a, {**action, "a": True})[0]["resting"]["oid"]
    assert new != old
    mark(kit, "595")
    assert kit.szi(kit.a) == D("0.5")
    mark(kit, "590")
    assert kit.szi(kit.a) == 0


def test_listings_show_a_trigger_only_where_the_venue_does(kit: Kit) -> None:
    """PROTOCOL 3: `openOrders` shows a plain limit, `frontendOpenOrders` type, trigger and condition, and no tif."""
    short(kit)
    placed(kit, trigger("buy", "660", "0.5", "605.5", market=False))
    info = Info(kit.engine)
    query = {"user": kit.a, "dex": "xyz"}
    (plain,) = info.answer({"type": "openOrders", **query})
    assert plain["limitPx"] == "660.0"
    assert plain["reduceOnly"] is True
    assert not any("rigger" in key for key in plain)
    (row,) = info.answer({"type": "frontendOpenOrders", **query})
    assert (row["isTrigger"], row["triggerPx"], row["triggerCondition"]) == (True, "605.5", "Price above 605.5")
    assert (row["orderType"], row["tif"], row["isPositionTpsl"]) == ("Stop Limit", None, False)
    status = info.answer({"type": "orderStatus", "user": kit.a, "oid": CLOID})
    assert (status["order"]["status"], status["order"]["order"]["isTrigger"]) == ("open", True)


def test_a_halt_keeps_triggers_waiting(kit: Kit) -> None:
    """SIM-4: in a halted market nothing fires; when it trades again the mark decides."""
    long(kit)
    placed(kit, trigger("sell", "540", "0.5", "595"))
    kit.world.halted.add("xyz:SNDK")
    mark(kit, "590")
    assert kit.szi(kit.a) == D("0.5")
    kit.world.halted.clear()
    mark(kit, "589")
    assert kit.szi(kit.a) == 0
