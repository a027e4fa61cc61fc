"""Why the venue refused something: its texts and reject statuses as reasons (PROTOCOL 4.4, 7.1).

Texts are matched by prefix, never by equality: live ones end in ` asset=N`, carry numbers, and differ in wording from the
documentation. A text that is not in the table is OTHER; it is data, and nothing here raises (TYP-5).
"""

from __future__ import annotations

import enum
import re


class RefusalReason(enum.Enum):
    """What an error text means for us."""

    NO_MATCH = "no_match"
    REDUCE_ONLY = "reduce_only"
    MIN_NOTIONAL = "min_notional"
    POST_ONLY_CROSSED = "post_only_crossed"
    MARGIN = "margin"
    TICK = "tick"
    INVALID_SIZE = "invalid_size"
    INVALID_PRICE = "invalid_price"
    PRICE_BAND = "price_band"
    OPEN_INTEREST_CAP = "open_interest_cap"
    POSITION_LIMIT = "position_limit"
    TOO_MANY_ORDERS = "too_many_orders"
    POST_ONLY_WINDOW = "post_only_window"
    HALTED = "halted"
    NOT_RESTING = "not_resting"
    EXPIRED = "expired"
    DUPLICATE_NONCE = "duplicate_nonce"
    NONCE_WINDOW = "nonce_window"
    BUDGET = "budget"
    OVERSIZED_BATCH = "oversized_batch"
    SIGNER = "signer"
    ACCOUNT = "account"
    VOLUME_GATE = "volume_gate"
    LEVERAGE = "leverage"
    SCHEMA = "schema"
    OTHER = "other"

    @property
    def is_benign(self) -> bool:
        """Part of normal trading; counted apart from the rejects that stop the bot (RISK-1)."""
        return self in {RefusalReason.NO_MATCH, RefusalReason.REDUCE_ONLY, RefusalReason.MIN_NOTIONAL}


_PREFIXES: tuple[tuple[str, RefusalReason], ...] = (
    ("Order could not immediately match", RefusalReason.NO_MATCH),
    ("No liquidity available for market order", RefusalReason.NO_MATCH),
    ("Reduce only order would increase position", RefusalReason.REDUCE_ONLY),
    ("Order must have minimum value of", RefusalReason.MIN_NOTIONAL),
    ("Post only order would have immediately matched", RefusalReason.POST_ONLY_CROSSED),
    ("Insufficient margin", RefusalReason.MARGIN),
    ("Insufficient spot balance", RefusalReason.MARGIN),
    ("Price must be divisible by tick size", RefusalReason.TICK),
    ("Order has invalid size", RefusalReason.INVALID_SIZE),
    ("Order has zero size", RefusalReason.INVALID_SIZE),
    ("Order has invalid price", RefusalReason.INVALID_PRICE),
    ("Invalid TP/SL price", RefusalReason.INVALID_PRICE),
    ("Price too far from oracle", RefusalReason.PRICE_BAND),
    ("Order price too far from oracle", RefusalReason.PRICE_BAND),
    ("Order price cannot be more than", RefusalReason.PRICE_BAND),
    ("Order would increase open interest", RefusalReason.OPEN_INTEREST_CAP),
    ("Order rejected due to price more aggressive than oracle", RefusalReason.OPEN_INTEREST_CAP),
    ("Order would cause position to exceed margin tier", RefusalReason.POSITION_LIMIT),
    ("Only post-only orders allowed", RefusalReason.POST_ONLY_WINDOW),
    ("Trading is halted", RefusalReason.HALTED),
    ("Order was never placed, already canceled, or filled", RefusalReason.NOT_RESTING),
    ("Cannot modify canceled or filled order", RefusalReason.NOT_RESTING),
    ("Action already expired", RefusalReason.EXPIRED),
    ("Invalid nonce: duplicate nonce", RefusalReason.DUPLICATE_NONCE),
    ("Invalid nonce", RefusalReason.NONCE_WINDOW),
    ("Too many cumulative requests sent", RefusalReason.BUDGET),
    ("Signed action over weight limit", RefusalReason.OVERSIZED_BATCH),
    ("Orders are empty", RefusalReason.OVERSIZED_BATCH),
    ("User or API Wallet", RefusalReason.SIGNER),
    ("Unable to recover signer", RefusalReason.SIGNER),
    ("Must deposit before performing actions", RefusalReason.SIGNER),
    ("User has pending agent removal", RefusalReason.SIGNER),
    ("Vault not registered", RefusalReason.ACCOUNT),
    ("Vault may not perform this action", RefusalReason.ACCOUNT),
    ("Action disabled when unified account is active", RefusalReason.ACCOUNT),
    ("Multi-sig required", RefusalReason.ACCOUNT),
    ("Cannot set scheduled cancel time until enough volume", RefusalReason.VOLUME_GATE),
    ("Invalid leverage value", RefusalReason.LEVERAGE),
    ("Cross margin is not allowed", RefusalReason.LEVERAGE),
    ("Cannot switch leverage type", RefusalReason.LEVERAGE),
    ("Failed to deserialize the JSON body", RefusalReason.SCHEMA),
    ("Failed to parse the request body", RefusalReason.SCHEMA),
)

_STATUSES = {
    "iocCancelRejected": RefusalReason.NO_MATCH,
    "marketOrderNoLiquidityRejected": RefusalReason.NO_MATCH,
    "reduceOnlyRejected": RefusalReason.REDUCE_ONLY,
    "minTradeNtlRejected": RefusalReason.MIN_NOTIONAL,
    "minTradeSpotNtlRejected": RefusalReason.MIN_NOTIONAL,
    "badAloPxRejected": RefusalReason.POST_ONLY_CROSSED,
    "perpMarginRejected": RefusalReason.MARGIN,
    "insufficientSpotBalanceRejected": RefusalReason.MARGIN,
    "tickRejected": RefusalReason.TICK,
    "badTriggerPxRejected": RefusalReason.INVALID_PRICE,
    "oracleRejected": RefusalReason.PRICE_BAND,
    "positionIncreaseAtOpenInterestCapRejected": RefusalReason.OPEN_INTEREST_CAP,
    "positionFlipAtOpenInterestCapRejected": RefusalReason.OPEN_INTEREST_CAP,
    "tooAggressiveAtOpenInterestCapRejected": RefusalReason.OPEN_INTEREST_CAP,
    "openInterestIncreaseRejected": RefusalReason.OPEN_INTEREST_CAP,
    "perpMaxPositionRejected": RefusalReason.POSITION_LIMIT,
    "tooManyOpenOrdersRejected": RefusalReason.TOO_MANY_ORDERS,
}

_OLD_PREFIX = "L1 error: "
_ASSET = re.compile(r"\s+asset=(\d{1,18})\s*$", re.ASCII)


def split_asset(text: str) -> tuple[str, int | None]:
    """An error text without its ` asset=N` suffix, and the asset id where there was one."""
    match = _ASSET.search(text)
    return (text, None) if match is None else (text[: match.start()], int(match[1]))


def classify_error(text: str) -> RefusalReason:
    """The reason of an error text, by prefix; OTHER where it is not known."""
    text = text.removeprefix(_OLD_PREFIX)
    for prefix, reason in _PREFIXES:
        if text.startswith(prefix):
            return reason
    return RefusalReason.OTHER


def classify_rejection(status: str) -> RefusalReason:
    """The reason of an order status of class REJECTED; OTHER where it is not known (`rejected` says nothing)."""
    return _STATUSES.get(status, RefusalReason.OTHER)
