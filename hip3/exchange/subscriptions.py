"""Subscriptions: reading them, their normal form, and the first messages that each kind gets (PROTOCOL 2.2, 2.3).

Refuses kinds that it does not serve with the venue's parse error, which is also how the venue answers `webData2`.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from hip3.exchange.answers import dump
from hip3.exchange.info import PAGE, Info
from hip3.exchange.outbox import Frame
from hip3.exchange.payloads import (
    JsonObject,
    asset_ctx,
    bbo_pair,
    fill_row,
    funding_row,
    l2_book,
    open_order_row,
    touch_of,
    trade_row,
)
from hip3.exchange.requests import parse_address
from hip3.exchange.state import State
from hip3.exchange.texts import SchemaError

COIN_KINDS = frozenset({"l2Book", "bbo", "trades", "activeAssetCtx", "activeAssetData"})
USER_KINDS = frozenset(
    {
        "orderUpdates",
        "userFills",
        "userEvents",
        "userFundings",
        "openOrders",
        "clearinghouseState",
        "activeAssetData",
        "notification",
    }
)
DEX_KINDS = frozenset({"allMids", "openOrders", "clearinghouseState"})
CHANNELS = {"userEvents": "user"}
"""The channel has the name of the subscription, except here (PROTOCOL 2.1)."""


class UnknownCoin(Exception):
    """A subscription in order, for a market that does not exist."""


@frozen
class Subscription:
    """One channel of one client. `normal` is the server's form, which the ack echoes."""

    kind: str
    coin: str | None
    user: str | None
    dex: str
    fast: bool
    normal: JsonObject

    @property
    def key(self) -> str:
        """Identity: two requests with the same normal form are the same subscription."""
        return dump(sorted(self.normal.items()))

    @property
    def channel(self) -> str:
        return CHANNELS.get(self.kind, self.kind)


def parse(value: Any) -> Subscription:
    """Reads the `subscription` of a request. Raises SchemaError."""
    if not isinstance(value, dict):
        raise SchemaError("subscription: expected an object")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in COIN_KINDS | USER_KINDS | DEX_KINDS:
        raise SchemaError(f"unknown subscription type {kind!r}")
    normal: JsonObject = {"type": kind}
    coin = user = None
    dex = ""
    if kind in COIN_KINDS:
        coin = normal["coin"] = _text(value, "coin")
    if kind in USER_KINDS:
        user = normal["user"] = parse_address(value.get("user"))
    if kind in DEX_KINDS and value.get("dex"):
        dex = normal["dex"] = _text(value, "dex")
    fast = kind == "l2Book" and bool(value.get("fast"))
    if kind == "l2Book":
        normal |= {"nSigFigs": value.get("nSigFigs"), "mantissa": value.get("mantissa"), "fast": fast}
    if kind == "userFills":
        normal["aggregateByTime"] = bool(value.get("aggregateByTime"))
    return Subscription(kind, coin, user, dex, fast, normal)


def _text(value: JsonObject, key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise SchemaError(f"{key}: expected text, found {found!r}")
    return found


def check(subscription: Subscription, state: State) -> None:
    """Raises UnknownCoin for a market, dex or book aggregation that is not there."""
    normal = subscription.normal
    if subscription.coin is not None and subscription.coin not in state.directory.by_coin:
        raise UnknownCoin(subscription.coin)
    if state.directory.dex(subscription.dex) is None:
        raise UnknownCoin(subscription.dex)
    if normal.get("nSigFigs") is not None or normal.get("mantissa") is not None:
        raise UnknownCoin("aggregated books are not simulated")


def frame(subscription: Subscription, data: Any, *, state: bool = True) -> Frame:
    """A frame of the subscription's channel; `state` frames conflate in a slow client's outbox."""
    text = dump({"channel": subscription.channel, "data": data})
    return Frame(subscription.channel, text, key=subscription.key if state else None)


def state_frame(subscription: Subscription, info: Info, state: State) -> Frame | None:
    """Full state of a channel that carries full state; None for a channel of increments."""
    data = _state_data(subscription, info, state)
    return frame(subscription, data) if data is not None else None


def _state_data(subscription: Subscription, info: Info, state: State) -> Any:
    kind, now_ms = subscription.kind, state.now_ms
    if subscription.coin is not None:
        market = state.directory.by_coin[subscription.coin]
        match kind:
            case "bbo":
                return {"coin": market.coin, "time": now_ms, "bbo": bbo_pair(touch_of(market.book))}
            case "l2Book":
                return l2_book(market, now_ms, fast=subscription.fast)
            case "activeAssetCtx":
                return {"coin": market.coin, "ctx": asset_ctx(market)}
            case "activeAssetData":
                return info.active_asset_data(state.account(subscription.user or ""), market)
        return None
    named = {"dex": subscription.dex} if subscription.dex else {}
    if kind == "allMids":
        return {**named, "mids": info.all_mids(subscription.dex)}
    if subscription.user is None:
        return None
    account = state.account(subscription.user)
    match kind:
        case "openOrders":
            orders = info.open_orders(account, subscription.dex, open_order_row)
            return {"dex": subscription.dex, "user": account.address, "orders": orders}
        case "clearinghouseState":
            body = info.clearinghouse_state(account, subscription.dex)
            return {"dex": subscription.dex, "user": account.address, "clearinghouseState": body}
    return None


def history_frame(subscription: Subscription, state: State) -> Frame | None:
    """First message of a channel of increments: history with `isSnapshot`, the backfill of trades, or nothing at all.

    orderUpdates, userEvents and notification say nothing until something happens (PROTOCOL 2.2).
    """
    user, coin = subscription.user, subscription.coin
    if subscription.kind == "trades" and coin is not None:
        trades = [trade_row(trade) for trade in state.directory.by_coin[coin].trades]
        return frame(subscription, trades, state=False)
    if subscription.kind == "userFills" and user is not None:
        fills = [fill_row(fill) for fill in reversed(list(state.account(user).fills)[-PAGE:])]
        return frame(subscription, {"isSnapshot": True, "user": user, "fills": fills}, state=False)
    if subscription.kind == "userFundings" and user is not None:
        fundings = [funding_row(payment, rate) for payment, rate in state.account(user).fundings]
        return frame(subscription, {"isSnapshot": True, "user": user, "fundings": fundings}, state=False)
    return None
