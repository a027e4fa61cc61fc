"""Bodies of `/info` requests, each with the `dex` that it needs (PROTOCOL 1.6, 3; META-1).

A state query without its dex answers for the main dex only, and one with an agent's address answers empty; neither is an
error to the venue. So `dex` is a required argument wherever it matters, and `user` is always the account, never the agent.
"""

from __future__ import annotations

Request = dict[str, object]


def _with_dex(request: Request, dex: str) -> Request:
    # The main dex has the empty name, and its absence means the same (PROTOCOL 3).
    return {**request, "dex": dex} if dex else request


def perp_dexs() -> Request:
    """All perpetual dexs; the position in the answer, leading null included, gives the asset ids."""
    return {"type": "perpDexs"}


def spot_meta() -> Request:
    """Spot pairs and their tokens."""
    return {"type": "spotMeta"}


def meta(dex: str) -> Request:
    """Markets of one dex in listing order."""
    return _with_dex({"type": "meta"}, dex)


def meta_and_asset_ctxs(dex: str) -> Request:
    """Markets of one dex with their prices."""
    return _with_dex({"type": "metaAndAssetCtxs"}, dex)


def all_mids(dex: str) -> Request:
    """Mid prices of one dex."""
    return _with_dex({"type": "allMids"}, dex)


def l2_book(coin: str) -> Request:
    """Depth of one market, 20 levels; an unknown coin answers null."""
    return {"type": "l2Book", "coin": coin}


def clearinghouse_state(user: str, dex: str) -> Request:
    """Positions and margin of an account on one dex."""
    return _with_dex({"type": "clearinghouseState", "user": user}, dex)


def spot_clearinghouse_state(user: str) -> Request:
    """Spot balances; where the account is unified, the collateral of every dex."""
    return {"type": "spotClearinghouseState", "user": user}


def frontend_open_orders(user: str, dex: str) -> Request:
    """Resting orders of an account on one dex, trigger orders included."""
    return _with_dex({"type": "frontendOpenOrders", "user": user}, dex)


def order_status(user: str, oid: int | str) -> Request:
    """One order by oid or cloid, any dex; the venue keeps about the last 2000 per account."""
    return {"type": "orderStatus", "user": user, "oid": oid}


def historical_orders(user: str) -> Request:
    """The last orders of an account, newest first, at most 2000."""
    return {"type": "historicalOrders", "user": user}


def user_fills(user: str) -> Request:
    """The last fills of an account, newest first, at most 2000."""
    return {"type": "userFills", "user": user}


def user_fills_by_time(user: str, start_ms: int, end_ms: int | None = None) -> Request:
    """Fills of an account, oldest first, bounds inclusive, at most 2000: page on the last time, drop repeats by tid."""
    request: Request = {"type": "userFillsByTime", "user": user, "startTime": start_ms}
    return request if end_ms is None else {**request, "endTime": end_ms}


def user_funding(user: str, start_ms: int, end_ms: int | None = None) -> Request:
    """Funding payments of an account, at most 500."""
    request: Request = {"type": "userFunding", "user": user, "startTime": start_ms}
    return request if end_ms is None else {**request, "endTime": end_ms}


def user_fees(user: str) -> Request:
    """Fee tier of an account."""
    return {"type": "userFees", "user": user}


def user_rate_limit(user: str) -> Request:
    """Address budget of an account (PROTOCOL 8)."""
    return {"type": "userRateLimit", "user": user}


def user_role(user: str) -> Request:
    """What an address is: user, agent, vault, sub-account or missing. Weight 60: ask once."""
    return {"type": "userRole", "user": user}


def extra_agents(user: str) -> Request:
    """Named agents of an account with their expiry."""
    return {"type": "extraAgents", "user": user}


def user_abstraction(user: str) -> Request:
    """Abstraction mode of an account: decides where its collateral is found (PROTOCOL 1.6)."""
    return {"type": "userAbstraction", "user": user}


def exchange_status() -> Request:
    """The venue's time and special statuses; the clock of NON-2."""
    return {"type": "exchangeStatus"}


def perps_at_open_interest_cap(dex: str) -> Request:
    """Coins of one dex at their open-interest cap."""
    return _with_dex({"type": "perpsAtOpenInterestCap"}, dex)
