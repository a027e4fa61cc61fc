"""What the client asks for: endpoints, subscriptions, info requests and their weights."""

from __future__ import annotations

import json

import pytest

from hip3.venue.hyperliquid import info, subscriptions, weights
from hip3.venue.hyperliquid.endpoints import Endpoints, Network, endpoints_for

USER = "0x14791697260e4c9a71f18484c9f997b308e59325"


def test_networks_and_endpoints() -> None:
    """PRD-1: a network is a setting with its own endpoints; paper has none before it runs."""
    assert endpoints_for(Network.MAINNET) == Endpoints("https://api.hyperliquid.xyz", "wss://api.hyperliquid.xyz/ws")
    assert "testnet" in endpoints_for(Network.TESTNET).rest_url
    assert [n.is_mainnet for n in (Network.PAPER, Network.TESTNET, Network.MAINNET)] == [False, False, True]
    with pytest.raises(ValueError, match="embedded exchange"):
        endpoints_for(Network.PAPER)


def test_subscriptions() -> None:
    """MD-1: the subscriptions that the bot needs, as the venue spells them."""
    assert subscriptions.bbo("xyz:SNDK") == {"type": "bbo", "coin": "xyz:SNDK"}
    assert subscriptions.active_asset_ctx("xyz:SNDK") == {"type": "activeAssetCtx", "coin": "xyz:SNDK"}
    assert subscriptions.l2_book("xyz:SNDK") == {"type": "l2Book", "coin": "xyz:SNDK", "fast": True}
    assert subscriptions.l2_book("BTC", fast=False) == {"type": "l2Book", "coin": "BTC"}
    assert subscriptions.trades("BTC") == {"type": "trades", "coin": "BTC"}
    assert subscriptions.order_updates(USER) == {"type": "orderUpdates", "user": USER}
    assert subscriptions.user_fills(USER) == {"type": "userFills", "user": USER}


def test_frames_that_are_sent() -> None:
    """WS-2: subscribe, unsubscribe and ping as text."""
    subscription = subscriptions.bbo("BTC")
    assert json.loads(subscriptions.subscribe_frame(subscription)) == {
        "method": "subscribe",
        "subscription": {"type": "bbo", "coin": "BTC"},
    }
    assert json.loads(subscriptions.unsubscribe_frame(subscription))["method"] == "unsubscribe"
    assert json.loads(subscriptions.PING) == {"method": "ping"}


def test_state_requests_carry_their_dex() -> None:
    """META-1: every query that depends on a dex carries it; the main dex is the absence of one."""
    requests = [
        info.meta("xyz"),
        info.meta_and_asset_ctxs("xyz"),
        info.all_mids("xyz"),
        info.clearinghouse_state(USER, "xyz"),
        info.frontend_open_orders(USER, "xyz"),
        info.perps_at_open_interest_cap("xyz"),
    ]
    assert all(request["dex"] == "xyz" for request in requests)
    assert "dex" not in info.clearinghouse_state(USER, "")
    assert info.frontend_open_orders(USER, "xyz") == {"type": "frontendOpenOrders", "user": USER, "dex": "xyz"}


def test_account_wide_requests() -> None:
    """META-1: queries of the whole account, with their bounds."""
    assert info.order_status(USER, "0xab") == {"type": "orderStatus", "user": USER, "oid": "0xab"}
    assert info.user_fills_by_time(USER, 5) == {"type": "userFillsByTime", "user": USER, "startTime": 5}
    assert info.user_fills_by_time(USER, 5, 9)["endTime"] == 9
    assert info.user_funding(USER, 5, 9) == {"type": "userFunding", "user": USER, "startTime": 5, "endTime": 9}
    assert "endTime" not in info.user_funding(USER, 5)
    assert info.l2_book("BTC") == {"type": "l2Book", "coin": "BTC"}
    named = [
        info.user_fills,
        info.user_fees,
        info.user_rate_limit,
        info.user_role,
        info.extra_agents,
        info.user_abstraction,
        info.historical_orders,
        info.spot_clearinghouse_state,
    ]
    assert [build(USER)["type"] for build in named] == [
        "userFills",
        "userFees",
        "userRateLimit",
        "userRole",
        "extraAgents",
        "userAbstraction",
        "historicalOrders",
        "spotClearinghouseState",
    ]
    assert [info.perp_dexs(), info.exchange_status()] == [{"type": "perpDexs"}, {"type": "exchangeStatus"}]


@pytest.mark.parametrize(
    ("request_body", "items", "weight"),
    [
        (info.l2_book("BTC"), 0, 2),
        (info.clearinghouse_state(USER, "xyz"), 0, 2),
        (info.order_status(USER, 1), 0, 2),
        (info.exchange_status(), 0, 2),
        (info.user_role(USER), 0, 60),
        (info.meta("xyz"), 0, 20),
        (info.frontend_open_orders(USER, "xyz"), 500, 20),
        (info.user_fills(USER), 0, 20),
        (info.user_fills(USER), 19, 20),
        (info.user_fills_by_time(USER, 1), 2000, 120),
        ({"type": "candleSnapshot"}, 119, 21),
        ({"type": "somethingNew"}, 0, 20),
    ],
)
def test_info_weights(request_body: dict[str, object], items: int, weight: int) -> None:
    """WS-3: REST weights as the venue states them (PROTOCOL 3)."""
    assert weights.info_weight(request_body, items) == weight


@pytest.mark.parametrize(("items", "weight"), [(1, 1), (39, 1), (40, 2), (200, 6)])
def test_action_weights(items: int, weight: int) -> None:
    """WS-3: a batch costs one point, and one more for every 40 items (PROTOCOL 8)."""
    assert weights.action_weight(items) == weight
