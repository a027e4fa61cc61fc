"""The venue's words: number format and error texts, in one place so that they are compared with PROTOCOL 4.4 once.

Texts are exact. Per-order texts carry ` asset=N` where the live venue was seen to add it; static ones do not. A text that
no source states says so beside it.
"""

from __future__ import annotations

from decimal import Decimal

from hip3.core.units import wire


def number(value: Decimal) -> str:
    """A number as the venue prints it in answers: plain, at least one decimal (`0.0`, `93218.0`, `612.34`)."""
    text = wire(value)
    return text if "." in text else text + ".0"


class Refused(Exception):
    """The whole action is refused: HTTP 200 with `status: err` and this text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class BatchRefused(Exception):
    """Static validation failed: one status stands for the whole batch and nothing of it was executed (PROTOCOL 4.2)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class OrderRefused(Exception):
    """One order is refused at execution; `status` is that of its record.

    Without a status the venue keeps no record, and adds no asset to the text (halt and post-only window, as observed).
    """

    def __init__(self, text: str, status: str | None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class SchemaError(Exception):
    """Valid JSON of the wrong shape: HTTP 422, on the WebSocket the `error` channel."""


class JsonError(Exception):
    """Not JSON: HTTP 400."""


HTTP_400 = "Failed to parse the request body as JSON"
HTTP_415 = "Expected request with `Content-Type: application/json`"
HTTP_422 = "Failed to deserialize the JSON body into the target type"

TICK = "Price must be divisible by tick size."
MIN_NOTIONAL = "Order must have minimum value of $10."
MARGIN = "Insufficient margin to place order."
REDUCE_ONLY = "Reduce only order would increase position."
NO_MATCH = "Order could not immediately match against any resting orders."
OI_CAP = "Order would increase open interest while open interest is capped"
OI_CAP_PRICE = "Order rejected due to price more aggressive than oracle while at open interest cap"
ORACLE = "Price too far from oracle"
GONE = "Order was never placed, already canceled, or filled."
CANNOT_MODIFY = "Cannot modify canceled or filled order"
BUILDER = "Builder fee has not been approved"
POST_ONLY_WINDOW = "Only post-only orders allowed immediately after network upgrade"
HALTED = "Trading is halted."
TRIGGER_PRICE = "Invalid TP/SL price."
TRIGGER_FAST_CANCEL = "Trigger orders cannot be canceled with f."  # UNVERIFIED: that it is refused is documented, not how
TRIGGER_MODIFY = "Modify to a trigger order needs a."  # UNVERIFIED, likewise (PROTOCOL 4.3)
TOO_MANY_OPEN = "Too many open orders."  # UNVERIFIED: only the status `tooManyOpenOrdersRejected` is documented

BAND = "Order price cannot be more than 80% away from the reference price"
INVALID_SIZE = "Order has invalid size."
INVALID_PRICE = "Order has invalid price."
ZERO_SIZE = "Order has zero size."
EMPTY = "Orders are empty."
TRIGGER_REDUCE_ONLY = "TP/SL orders must be reduce only."  # UNVERIFIED text; that it is static is documented (PROTOCOL 4.2)
UNKNOWN_ASSET = "Invalid asset"  # UNVERIFIED for perps (PROTOCOL 13)

OVER_WEIGHT = "Signed action over weight limit of 200."
NO_SIGNER = "Unable to recover signer."
EXPIRED = "Action already expired"
NO_EXPIRY = "Action does not support expires_after"
VAULT_REFUSED = "Vault may not perform this action."
NONCE_MISMATCH = "Nonce mismatch."
WRONG_CHAIN = "Mainnet and testnet require different signature."
INVALID_LEVERAGE = "Invalid leverage value"
NO_CROSS = "Cross margin is not allowed for this asset."
LEVERAGE_SWITCH = "Cannot switch leverage type with open position."
AGENT_EXPIRED = "Agent valid_until already expired."
AGENT_USED = "Extra agent already used."
TOO_MANY_AGENTS = "Too many extra agents for cumulative volume traded. Current limit is 3"
SCHEDULE_EARLY = "Scheduled cancel time too early, must be at least 5 seconds from now."  # UNVERIFIED (PROTOCOL 4.3)


def with_asset(text: str, asset: int) -> str:
    """The live form of a per-order text."""
    return f"{text} asset={asset}"


def post_only(bid: Decimal | None, ask: Decimal | None) -> str:
    """An ALO order that would have matched; a missing side prints as 0."""
    sides = [number(px) if px is not None else "0" for px in (bid, ask)]
    return f"Post only order would have immediately matched, bbo was {sides[0]}@{sides[1]}."


def no_user(address: str) -> str:
    return f"User or API Wallet {address} does not exist."


def must_deposit(address: str) -> str:
    return f"Must deposit before performing actions. User: {address}"


def no_vault(address: str) -> str:
    return f"Vault not registered: {address}"


def duplicate_nonce(nonce: int) -> str:
    return f"Invalid nonce: duplicate nonce {nonce}"


def nonce_too_low(nonce: int, floor: int) -> str:
    return f"Invalid nonce: nonce too low {nonce} < {floor}"


def nonce_too_high(nonce: int, ceiling: int) -> str:
    return f"Invalid nonce: nonce too high {nonce} > {ceiling}"


def budget(used: int, cap: int, volume: Decimal) -> str:
    return (
        f"Too many cumulative requests sent ({used} > {cap}) for cumulative volume traded ${wire(volume)}. "
        "Place taker orders to free up 1 request per USDC traded."
    )


def schedule_gate(required: Decimal, traded: Decimal) -> str:
    return (
        f"Cannot set scheduled cancel time until enough volume traded. Required: ${wire(required)}. Traded: ${wire(traded)}."
    )


def not_simulated(what: str) -> str:
    """Ours, not the venue's: an honest refusal of something that this exchange does not model."""
    return f"Not simulated by this exchange: {what}"
