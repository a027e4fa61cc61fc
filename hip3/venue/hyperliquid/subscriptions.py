"""Subscriptions and the other text that a client sends on the WebSocket, posts excepted (PROTOCOL 2.1, 2.3).

Builders only: nothing here counts, sends or remembers. Channels that carry no snapshot are listed in PROTOCOL 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Subscription = dict[str, object]

PING = '{"method":"ping"}'
"""The venue's own ping; WebSocket pings are not shown to keep a connection alive (PROTOCOL 2.1)."""


def bbo(coin: str) -> Subscription:
    """Best bid and offer, on change: the feed to trade on."""
    return {"type": "bbo", "coin": coin}


def active_asset_ctx(coin: str) -> Subscription:
    """Oracle, mark, mid and open interest, about once a second."""
    return {"type": "activeAssetCtx", "coin": coin}


def l2_book(coin: str, *, fast: bool = True) -> Subscription:
    """Depth: 5 levels every 0.55 s, or 20 levels every 5 s without `fast` (PROTOCOL 2.3)."""
    return {"type": "l2Book", "coin": coin, "fast": True} if fast else {"type": "l2Book", "coin": coin}


def market_data(coin: str, *, depth: bool) -> list[Subscription]:
    """What is listened to of one market: quotes and context, and depth where it is wanted (MD-1)."""
    return [bbo(coin), active_asset_ctx(coin), *([l2_book(coin)] if depth else [])]


def trades(coin: str) -> Subscription:
    """Public trades; the first message is a backfill of about 30."""
    return {"type": "trades", "coin": coin}


def order_updates(user: str) -> Subscription:
    """Updates of all orders of an account, every dex. No snapshot, ever: readiness is the ack (PROTOCOL 2.2)."""
    return {"type": "orderUpdates", "user": user}


def user_fills(user: str) -> Subscription:
    """Fills of an account, every dex; the first message has `isSnapshot`. Never aggregated: that would drop fills."""
    return {"type": "userFills", "user": user}


def user_fundings(user: str) -> Subscription:
    """Funding payments of an account, every dex; the first message has `isSnapshot`."""
    return {"type": "userFundings", "user": user}


def subscribe_frame(subscription: Mapping[str, object]) -> str:
    """The text that subscribes."""
    return _frame("subscribe", subscription)


def unsubscribe_frame(subscription: Mapping[str, object]) -> str:
    """The text that ends a subscription."""
    return _frame("unsubscribe", subscription)


def _frame(method: str, subscription: Mapping[str, object]) -> str:
    return msgspec.json.encode({"method": method, "subscription": subscription}).decode()
