"""The venue's JSON shapes of orders, fills, books, contexts and accounts (PROTOCOL 2.3, 2.4, 3). Decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

from hip3.core.events import Fill, Funding
from hip3.core.ids import OrderSide
from hip3.core.units import EXACT, ZERO, wire
from hip3.exchange.account import Account, Holding
from hip3.exchange.book import Book, DepthLevel, Order
from hip3.exchange.effects import OrderChanged
from hip3.exchange.margin import Summary, leverage_of, summary, unrealised
from hip3.exchange.market import Market, Trade
from hip3.exchange.texts import number

JsonObject = dict[str, Any]
FULL_DEPTH = 20  # PROTOCOL 2.3
FAST_DEPTH = 5
RATIO_PLACES = Decimal("1e-10")  # returnOnEquity and liquidationPx print with ten decimals
NO_TIME = "1970-01-01T00:00:00"


def level_row(level: DepthLevel) -> JsonObject:
    return {"px": number(level.px), "sz": number(level.sz), "n": level.n}


Touch = tuple[DepthLevel | None, DepthLevel | None]


def touch_of(book: Book) -> Touch:
    """Best bid and ask level, None where a side is empty."""
    bids, asks = book.depth(OrderSide.BUY, 1), book.depth(OrderSide.SELL, 1)
    return (bids[0] if bids else None, asks[0] if asks else None)


def bbo_pair(touch: Touch) -> list[JsonObject | None]:
    """`[bid, ask]`, null where a side is empty."""
    return [level_row(level) if level is not None else None for level in touch]


def l2_book(market: Market, time_ms: int, *, fast: bool = False) -> JsonObject:
    """20 levels a side, 5 with `fast`."""
    depth = FAST_DEPTH if fast else FULL_DEPTH
    levels = [[level_row(x) for x in market.book.depth(side, depth)] for side in (OrderSide.BUY, OrderSide.SELL)]
    body: JsonObject = {"coin": market.coin, "time": time_ms, "levels": levels}
    if fast:
        body["fast"] = True
    return body


def trade_row(trade: Trade) -> JsonObject:
    return {
        "coin": trade.coin,
        "side": trade.side,
        "px": number(trade.px),
        "sz": number(trade.sz),
        "time": trade.time_ms,
        "hash": _hash(trade.time_ms, trade.tid),
        "tid": trade.tid,
        "users": list(trade.users),
    }


def _hash(time_ms: int, tid: int) -> str:
    """A transaction hash in form; it identifies the trade and nothing else."""
    return f"0x{time_ms:032x}{tid:032x}"


def funding_row(payment: Funding, rate: Decimal) -> JsonObject:
    """One payment as `userFundings` has it."""
    return {
        "time": payment.time_ms,
        "coin": payment.coin,
        "usdc": number(payment.usd),
        "szi": number(payment.szi),
        "fundingRate": number(rate),
        "nSamples": None,
    }


def funding_delta(payment: Funding, rate: Decimal) -> JsonObject:
    """The same as the ledger entry of `userFunding`."""
    row = funding_row(payment, rate)
    return {"time": row.pop("time"), "hash": _hash(payment.time_ms, 0), "delta": {"type": "funding", **row}}


def fill_row(fill: Fill) -> JsonObject:
    row: JsonObject = {
        "coin": fill.coin,
        "px": number(fill.px),
        "sz": number(fill.sz),
        "side": fill.side.value,
        "time": fill.time_ms,
        "startPosition": number(fill.start_position),
        "dir": fill.dir,
        "closedPnl": number(fill.closed_pnl),
        "hash": _hash(fill.time_ms, fill.tid),
        "oid": fill.oid,
        "crossed": fill.crossed,
        "fee": number(fill.fee),
        "tid": fill.tid,
        "feeToken": fill.fee_token,
        "twapId": None,
    }
    if fill.cloid is not None:
        row["cloid"] = fill.cloid
    return row


def order_update_row(change: OrderChanged) -> JsonObject:
    """An element of `orderUpdates`: no cloid key without a cloid, `reduceOnly` only when true (PROTOCOL 2.4)."""
    update = change.update
    order: JsonObject = {
        "coin": update.coin,
        "side": update.side.value,
        "limitPx": number(update.limit_px),
        "sz": number(update.sz),
        "oid": update.oid,
        "timestamp": change.created_ms,
        "origSz": number(update.orig_sz),
    }
    if update.cloid is not None:
        order["cloid"] = update.cloid
    if update.reduce_only:
        order["reduceOnly"] = True
    return {"order": order, "status": update.status, "statusTimestamp": update.status_time_ms}


def open_order_row(order: Order) -> JsonObject:
    """An element of `openOrders`, where a trigger order looks like a plain limit (PROTOCOL 3)."""
    row: JsonObject = {
        "coin": order.coin,
        "side": order.side.value,
        "limitPx": number(order.px),
        "sz": number(order.sz),
        "oid": order.oid,
        "timestamp": order.created_ms,
        "origSz": number(order.orig_sz),
    }
    if order.cloid is not None:
        row["cloid"] = order.cloid
    if order.reduce_only:
        row["reduceOnly"] = True
    return row


def frontend_order_row(order: Order) -> JsonObject:
    """An order with its type; one with a trigger has no `tif` (PROTOCOL 3), also after it fired (UNVERIFIED)."""
    row = {
        **open_order_row(order),
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": order.reduce_only,
        "orderType": "Limit",
        "tif": order.tif.value,
        "cloid": order.cloid,
    }
    if order.trigger is not None:
        where = "above" if order.trigger.fires_above(order.side) else "below"
        kind = "Stop" if order.trigger.is_stop else "Take Profit"
        row |= {
            "triggerCondition": f"Price {where} {wire(order.trigger.px)}",
            "isTrigger": True,
            "triggerPx": number(order.trigger.px),
            "orderType": f"{kind} {'Market' if order.trigger.is_market else 'Limit'}",
            "tif": None,
        }
    return row


def order_record_row(order: Order) -> JsonObject:
    """`{order, status, statusTimestamp}` of orderStatus and historicalOrders."""
    return {"order": frontend_order_row(order), "status": order.status, "statusTimestamp": order.status_ms}


def asset_ctx(market: Market) -> JsonObject:
    """Context of a market; premium, mid and impact prices are null together where a side of the book is empty."""
    bid, ask = market.book.best(OrderSide.BUY), market.book.best(OrderSide.SELL)
    prev = market.listing.prev_day_px
    ctx: JsonObject = {
        "funding": number(market.funding),
        "openInterest": number(market.open_interest),
        "prevDayPx": number(prev if prev is not None else market.listing.oracle_px),
        "dayNtlVlm": number(market.day_volume_usd),
        "premium": None,
        "oraclePx": number(market.oracle_px),
        "markPx": number(market.mark_px),
        "midPx": None,
        "impactPxs": None,
        "dayBaseVlm": number(market.day_volume_sz),
    }
    if bid is not None and ask is not None:
        # The touch stands in for the impact prices, which need a notional that only the venue knows.
        ctx |= {
            "premium": number(market.premium),
            "midPx": number((bid + ask) / 2),
            "impactPxs": [number(bid), number(ask)],
        }
    return ctx


def universe_row(market: Market, *, halted: bool = False) -> JsonObject:
    """An entry of `meta.universe`; flags are absent rather than false (PROTOCOL 1.3).

    UNVERIFIED: a halt shows as `isDelisted` (PROTOCOL 1.4).
    """
    listing = market.listing
    row: JsonObject = {
        "szDecimals": listing.sz_decimals,
        "name": listing.coin,
        "maxLeverage": listing.max_leverage,
        "marginTableId": listing.max_leverage,
    }
    if listing.delisted or halted:
        row["isDelisted"] = True
    if market.is_isolated_only:
        row["onlyIsolated"] = True
        row["marginMode"] = listing.margin_mode
    if listing.growth_mode:
        row["growthMode"] = "enabled"
    if market.fee_scale is not None:
        row["lastFeeScaleChangeTime"] = NO_TIME
        row["deployerFeeScale"] = number(market.fee_scale)
    return row


def meta(markets: Sequence[Market], collateral_token: int, halted: Collection[str]) -> JsonObject:
    """`meta` of one dex; `halted` are coins."""
    leverages = sorted({market.listing.max_leverage for market in markets})
    return {
        "universe": [universe_row(market, halted=market.coin in halted) for market in markets],
        "marginTables": [
            [x, {"description": "", "marginTiers": [{"lowerBound": "0.0", "maxLeverage": x}]}] for x in leverages
        ],
        "collateralToken": collateral_token,
    }


def clearinghouse_state(account: Account, dex: str, markets: Sequence[Market], time_ms: int) -> JsonObject:
    """The account on one dex; a flat coin has no entry (PROTOCOL 3)."""
    totals = summary(account, dex, markets)
    held = [(market, account.holdings.get(market.asset_id)) for market in markets]
    return {
        "marginSummary": {
            "accountValue": number(totals.account_value),
            "totalNtlPos": number(totals.total_notional),
            "totalRawUsd": number(totals.raw_usd),
            "totalMarginUsed": number(totals.margin_used),
        },
        "crossMarginSummary": {
            "accountValue": number(totals.cross_value),
            "totalNtlPos": number(totals.cross_notional),
            "totalRawUsd": number(totals.cross_raw_usd),
            "totalMarginUsed": number(totals.cross_margin_used),
        },
        "crossMaintenanceMarginUsed": number(totals.cross_maintenance),
        "withdrawable": number(totals.withdrawable),
        "assetPositions": [
            {"type": "oneWay", "position": _position(account, market, holding, totals)}
            for market, holding in held
            if holding is not None
        ],
        "time": time_ms,
    }


def _position(account: Account, market: Market, holding: Holding, totals: Summary) -> JsonObject:
    leverage = leverage_of(account, market)
    value = abs(holding.szi) * market.mark_px
    pnl = unrealised(account, market)
    margin = EXACT.divide(value, leverage.value) if leverage.is_cross else holding.isolated_usd + pnl
    invested = EXACT.divide(abs(holding.szi) * holding.entry_px, leverage.value)
    stated: JsonObject = {"type": "cross" if leverage.is_cross else "isolated", "value": leverage.value}
    if not leverage.is_cross:
        stated["rawUsd"] = number(holding.isolated_usd - holding.szi * holding.entry_px)
    liquidation = liquidation_px(account, market, holding, totals)
    return {
        "coin": market.coin,
        "szi": number(holding.szi),
        "leverage": stated,
        "entryPx": number(holding.entry_px.quantize(Decimal("1e-8"))),
        "positionValue": number(value),
        "unrealizedPnl": number(pnl),
        "returnOnEquity": number(EXACT.divide(pnl, invested).quantize(RATIO_PLACES) if invested else ZERO),
        "liquidationPx": number(liquidation) if liquidation is not None else None,
        "marginUsed": number(margin),
        "maxLeverage": market.listing.max_leverage,
        "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
    }


def liquidation_px(account: Account, market: Market, holding: Holding, totals: Summary) -> Decimal | None:
    """Mark at which value equals maintenance margin, other positions unchanged; None where no positive price does it.

    `px - side * (value - maintenance) / size / (1 - rate * side)` with rate = 1 / (2 * maxLeverage): the venue's
    liquidation page. Nothing is liquidated here, it is only stated.
    """
    side = 1 if holding.szi > 0 else -1
    rate = EXACT.divide(Decimal(1), Decimal(2 * market.listing.max_leverage))
    value = abs(holding.szi) * market.mark_px
    if leverage_of(account, market).is_cross:
        spare = totals.cross_value - totals.cross_maintenance
    else:
        spare = holding.isolated_usd + unrealised(account, market) - value * rate
    px = market.mark_px - side * EXACT.divide(EXACT.divide(spare, abs(holding.szi)), 1 - rate * side)
    return px.quantize(RATIO_PLACES) if px > 0 else None
