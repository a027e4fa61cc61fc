"""Answers of `/info`, over REST and over WebSocket posts alike. Reads the engine, changes nothing.

Unknown fields of a query are ignored; an unknown type or a field of the wrong form is `SchemaError` (422). `user` must
be the account: an agent's address reads as an empty account, without an error, as on the venue (PROTOCOL 3).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hip3.core.ids import OrderSide
from hip3.core.units import EXACT, ZERO
from hip3.exchange import payloads
from hip3.exchange.account import Account
from hip3.exchange.engine import Engine
from hip3.exchange.margin import leverage_of, required, summary
from hip3.exchange.market import Market
from hip3.exchange.requests import JsonObject, parse_address, parse_order_id
from hip3.exchange.texts import SchemaError, number

PAGE = 2000  # most fills or orders of one answer (PROTOCOL 3)
USDC = {
    "name": "USDC",
    "szDecimals": 8,
    "weiDecimals": 8,
    "index": 0,
    "tokenId": "0xeb62eee3685fc4c43992febcd9e75443",
    "isCanonical": True,
    "evmContract": None,
    "fullName": None,
}
"""The one token: collateral of every dex. The id is testnet's, seen in a recorded agentSendAsset."""

LIGHT = frozenset({"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"})


class InternalError(Exception):
    """The venue answers HTTP 500 with body `null` (PROTOCOL 3)."""


def weight_of(kind: str) -> int:
    """IP weight of a query, without the surcharge for long answers (PROTOCOL 3)."""
    if kind == "userRole":
        return 60
    return 2 if kind in LIGHT else 20


def query_type(value: Any) -> str:
    """The `type` of a query; raises SchemaError where it is none."""
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise SchemaError("expected an object with a text field `type`")
    return kind


def _integer(query: JsonObject, key: str, default: int | None = None) -> int:
    value = query.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SchemaError(f"{key}: expected an integer, found {value!r}")
    return value


class Info:
    """The queries of one exchange."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._state = engine.state
        self._directory = engine.state.directory
        self._handlers: dict[str, Callable[[JsonObject], Any]] = {
            "spotMeta": self._spot_meta,
            "perpDexs": self._perp_dexs,
            "meta": self._meta,
            "metaAndAssetCtxs": self._meta_and_ctxs,
            "allMids": self._all_mids,
            "l2Book": self._l2_book,
            "recentTrades": self._recent_trades,
            "perpsAtOpenInterestCap": self._at_cap,
            "clearinghouseState": self._clearinghouse_state,
            "spotClearinghouseState": self._spot_state,
            "openOrders": self._open_orders,
            "frontendOpenOrders": self._frontend_open_orders,
            "orderStatus": self._order_status,
            "historicalOrders": self._historical_orders,
            "userFills": self._user_fills,
            "userFillsByTime": self._user_fills_by_time,
            "userFunding": self._user_funding,
            "userRateLimit": self._user_rate_limit,
            "userFees": self._user_fees,
            "userRole": self._user_role,
            "userAbstraction": self._user_abstraction,
            "extraAgents": self._extra_agents,
            "exchangeStatus": self._exchange_status,
            "activeAssetData": self._active_asset_data,
        }

    def answer(self, query: Any) -> Any:
        """The JSON value of the answer. Raises SchemaError, InternalError."""
        kind = query_type(query)
        handler = self._handlers.get(kind)
        if handler is None:
            raise SchemaError(f"unknown info type {kind!r}")
        return handler(query)

    def _account(self, query: JsonObject) -> Account:
        """The account asked for; an unknown address is an empty one that is not kept."""
        address = parse_address(query.get("user"))
        return self._state.accounts.get(address) or Account(address, 1)

    def _dex(self, query: JsonObject) -> str:
        name = query.get("dex") or ""
        if not isinstance(name, str):
            raise SchemaError(f"dex: expected text, found {name!r}")
        if self._directory.dex(name) is None:
            raise InternalError(f"no dex {name!r}")
        return name

    def _coin(self, query: JsonObject) -> Market | None:
        coin = query.get("coin")
        if not isinstance(coin, str):
            raise SchemaError(f"coin: expected text, found {coin!r}")
        return self._directory.by_coin.get(coin)

    def _spot_meta(self, _query: JsonObject) -> Any:
        return {"universe": [], "tokens": [USDC]}

    def _perp_dexs(self, _query: JsonObject) -> Any:
        answer: list[JsonObject | None] = [None]
        for dex in self._directory.dexs[1:]:
            # Alphabetical, unlike the universe: a list that must not be used to number assets (PROTOCOL 1.2).
            coins = sorted((m.coin, m.listing.oi_cap_usd) for m in self._directory.markets(dex.name))
            answer.append(
                {
                    "name": dex.name,
                    "fullName": dex.full_name or dex.name.upper(),
                    "deployer": "0x" + "0" * 40,
                    "oracleUpdater": None,
                    "feeRecipient": None,
                    "assetToStreamingOiCap": [[coin, number(cap)] for coin, cap in coins if cap is not None],
                    "subDeployers": [],
                    "deployerFeeScale": number(dex.fee_scale),
                    "lastDeployerFeeScaleChangeTime": payloads.NO_TIME,
                    "assetToFundingMultiplier": [[coin, "1.0"] for coin, _ in coins],
                    "assetToFundingInterestRate": [[coin, "0.0"] for coin, _ in coins],
                }
            )
        return answer

    def _meta(self, query: JsonObject) -> Any:
        name = self._dex(query)
        dex = self._directory.dex(name)
        token = dex.collateral_token if dex is not None else 0
        return payloads.meta(self._directory.markets(name), token, self._state.world.halted)

    def _meta_and_ctxs(self, query: JsonObject) -> Any:
        markets = self._directory.markets(self._dex(query))
        return [self._meta(query), [payloads.asset_ctx(market) for market in markets]]

    def _all_mids(self, query: JsonObject) -> Any:
        return self.all_mids(self._dex(query))

    def all_mids(self, dex: str) -> dict[str, str]:
        """Mid of every market of a dex, the last trade where the book has no mid; absent where there is neither."""
        mids = ((market.coin, market.mid_or_last()) for market in self._directory.markets(dex))
        return {coin: number(px) for coin, px in mids if px is not None}

    def _l2_book(self, query: JsonObject) -> Any:
        market = self._coin(query)
        if query.get("nSigFigs") is not None or query.get("mantissa") is not None:
            raise InternalError("aggregated books are not simulated")
        return payloads.l2_book(market, self._state.now_ms) if market is not None else None

    def _recent_trades(self, query: JsonObject) -> Any:
        market = self._coin(query)
        return [payloads.trade_row(trade) for trade in reversed(market.trades)] if market is not None else None

    def _at_cap(self, query: JsonObject) -> Any:
        markets = self._directory.markets(self._dex(query))
        caps = ((m, m.listing.oi_cap_usd) for m in markets)
        return [m.coin for m, cap in caps if cap is not None and m.open_interest * m.mark_px >= cap]

    def _clearinghouse_state(self, query: JsonObject) -> Any:
        return self.clearinghouse_state(self._account(query), self._dex(query))

    def clearinghouse_state(self, account: Account, dex: str) -> JsonObject:
        return payloads.clearinghouse_state(account, dex, self._directory.markets(dex), self._state.now_ms)

    def _spot_state(self, query: JsonObject) -> Any:
        self._account(query)
        return {"balances": []}

    def open_orders(self, account: Account, dex: str, row: Callable[[Any], JsonObject]) -> list[JsonObject]:
        """Open orders on one dex, newest first."""
        names = {market.coin for market in self._directory.markets(dex)}
        return [row(order) for order in reversed(list(account.open.values())) if order.coin in names]

    def _open_orders(self, query: JsonObject) -> Any:
        return self.open_orders(self._account(query), self._dex(query), payloads.open_order_row)

    def _frontend_open_orders(self, query: JsonObject) -> Any:
        return self.open_orders(self._account(query), self._dex(query), payloads.frontend_order_row)

    def _order_status(self, query: JsonObject) -> Any:
        order = self._account(query).find(parse_order_id(query.get("oid")))
        indexed_ms = self._state.now_ms - self._state.config.order_status_delay_ms
        if order is None or order.created_ms > indexed_ms or self._state.world.unknown_order_status:
            return {"status": "unknownOid"}
        return {"status": "order", "order": payloads.order_record_row(order)}

    def _historical_orders(self, query: JsonObject) -> Any:
        records = list(self._account(query).records.values())[-PAGE:]
        return [payloads.order_record_row(order) for order in reversed(records)]

    def _user_fills(self, query: JsonObject) -> Any:
        fills = list(self._account(query).fills)[-PAGE:]
        return [payloads.fill_row(fill) for fill in reversed(fills)]

    def _user_fills_by_time(self, query: JsonObject) -> Any:
        account = self._account(query)
        start, end = _integer(query, "startTime"), query.get("endTime")
        until = _integer(query, "endTime") if end is not None else None
        chosen = [f for f in account.fills if f.time_ms >= start and (until is None or f.time_ms <= until)]
        return [payloads.fill_row(fill) for fill in chosen[:PAGE]]

    def _user_funding(self, query: JsonObject) -> Any:
        start, end = _integer(query, "startTime"), query.get("endTime")
        until = _integer(query, "endTime") if end is not None else None
        return [
            payloads.funding_delta(payment, rate)
            for payment, rate in self._account(query).fundings
            if payment.time_ms >= start and (until is None or payment.time_ms <= until)
        ]

    def _user_rate_limit(self, query: JsonObject) -> Any:
        account = self._account(query)
        cap = self._engine.budget_cap(account)
        return {
            "cumVlm": number(account.volume_usd),
            "nRequestsUsed": account.requests_used,
            "nRequestsCap": cap,
            "nRequestsSurplus": max(0, account.requests_used - cap),
        }

    def _user_fees(self, query: JsonObject) -> Any:
        self._account(query)
        config = self._state.config
        return {
            "dailyUserVlm": [],
            "feeSchedule": {
                "cross": "0.00045",
                "add": "0.00015",
                "spotCross": "0.0007",
                "spotAdd": "0.0004",
                "tiers": {"vip": [], "mm": []},
                "referralDiscount": "0.04",
                "stakingDiscountTiers": [],
            },
            "userCrossRate": number(config.user_cross_rate),
            "userAddRate": number(config.user_add_rate),
            "userSpotCrossRate": "0.0007",
            "userSpotAddRate": "0.0004",
            "activeReferralDiscount": "0.0",
            "trial": None,
            "feeTrialReward": "0.0",
            "nextTrialAvailableTimestamp": None,
            "stakingLink": None,
            "activeStakingDiscount": {"bpsOfMaxSupply": "0.0", "discount": "0.0"},
        }

    def _user_role(self, query: JsonObject) -> Any:
        account = self._account(query)
        if account.exists:
            return {"role": "user"}
        master = self._engine.master_of(account.address)
        return {"role": "agent", "data": {"user": master}} if master is not None else {"role": "missing"}

    def _user_abstraction(self, query: JsonObject) -> Any:
        self._account(query)
        return "disabled"  # standard mode: each dex has its own balance (PROTOCOL 1.6)

    def _extra_agents(self, query: JsonObject) -> Any:
        agents = self._account(query).agents.values()
        return [{"name": a.name, "address": a.address, "validUntil": a.valid_until_ms} for a in agents if a.name]

    def _exchange_status(self, _query: JsonObject) -> Any:
        return {"time": self._state.now_ms, "specialStatuses": None}

    def _active_asset_data(self, query: JsonObject) -> Any:
        market = self._coin(query)
        if market is None:
            raise InternalError("no such coin")
        return self.active_asset_data(self._account(query), market)

    def active_asset_data(self, account: Account, market: Market) -> JsonObject:
        """Leverage and what can still be traded, `[buy, sell]`."""
        markets = self._directory.markets(market.dex.name)
        tied = sum((required(account, m) for m in markets), ZERO)
        free = max(ZERO, summary(account, market.dex.name, markets).cross_value - tied)
        leverage = leverage_of(account, market)
        available = []
        for side in (OrderSide.BUY, OrderSide.SELL):
            # Against the position its own margin is freed, and used again on the other side.
            closing = account.szi(market.asset_id) * side.sign < 0
            available.append(free + 2 * required(account, market) if closing else free)
        lot = Decimal(1).scaleb(-market.listing.sz_decimals)
        sizes = [EXACT.divide(usd * leverage.value, market.mark_px).quantize(lot, "ROUND_DOWN") for usd in available]
        return {
            "user": account.address,
            "coin": market.coin,
            "leverage": {"type": "cross" if leverage.is_cross else "isolated", "value": leverage.value},
            "maxTradeSzs": [number(size) for size in sizes],
            "availableToTrade": [number(usd) for usd in available],
            "markPx": number(market.mark_px),
        }
