"""REST weights, counted per IP: 1200 a minute (PROTOCOL 3, 8). Tables and arithmetic; the counting is the session's."""

from __future__ import annotations

from collections.abc import Mapping

LIMIT_PER_MINUTE = 1200

_LIGHT = 2
_DEFAULT = 20
_BASE: Mapping[str, int] = {
    "l2Book": _LIGHT,
    "allMids": _LIGHT,
    "clearinghouseState": _LIGHT,
    "orderStatus": _LIGHT,
    "spotClearinghouseState": _LIGHT,
    "exchangeStatus": _LIGHT,
    "userRole": 60,
}
_ITEMS_PER_POINT: Mapping[str, int] = {
    "recentTrades": 20,
    "historicalOrders": 20,
    "userFills": 20,
    "userFillsByTime": 20,
    "fundingHistory": 20,
    "userFunding": 20,
    "userNonFundingLedgerUpdates": 20,
    "candleSnapshot": 60,
}
_ACTION_ITEMS_PER_POINT = 40


def info_weight(request: Mapping[str, object], items: int = 0) -> int:
    """Weight of an `/info` request; `items` is the number of rows in its answer, which is known afterwards only.

    A type that is not listed costs 20, as the venue says of everything else.
    """
    kind = str(request.get("type"))
    per_point = _ITEMS_PER_POINT.get(kind)
    extra = 0 if per_point is None else items // per_point
    return _BASE.get(kind, _DEFAULT) + extra


def action_weight(items: int) -> int:
    """Weight of an `/exchange` request with a batch of `items` orders or cancels: `1 + floor(items / 40)`."""
    return 1 + items // _ACTION_ITEMS_PER_POINT
