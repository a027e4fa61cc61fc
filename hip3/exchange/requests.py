"""Bodies of `/exchange` as typed values. Refuses (`SchemaError`, HTTP 422) what the venue's typed parser would refuse.

Unknown fields are refused in the envelope and the action and ignored inside orders and signatures; a known key that
occurs twice is refused; bytes after the first JSON value are ignored (PROTOCOL 3, 12).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from attrs import frozen

from hip3.core.ids import OrderSide, TimeInForce
from hip3.exchange.texts import JsonError, SchemaError

JsonObject = dict[str, Any]

_UNSIGNED = re.compile(r"(\d+)(?:\.(\d+))?")
_CLOID = re.compile(r"0x[0-9a-fA-F]{32}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SIGNATURE_PART = re.compile(r"0x[0-9a-fA-F]{1,64}")
_MAX_DECIMALS = 8  # PROTOCOL 5.3
_MAX_DIGITS = 20  # the integer part; far above any price or size, and it bounds the work of one number

TIFS = {"Ioc": TimeInForce.IOC, "Gtc": TimeInForce.GTC, "Alo": TimeInForce.ALO, "FrontendMarket": TimeInForce.IOC}
"""`FrontendMarket` behaves like IOC (PROTOCOL 6)."""


@frozen
class Signature:
    """`r` and `s` zero-padded to 32 bytes: SDK clients strip leading zeros (PROTOCOL 4)."""

    r: str
    s: str
    v: int


@frozen
class Trigger:
    """`order.t.trigger` (PROTOCOL 4.1): what an order waits for. A market one takes the order's own price as its bound."""

    px: Decimal
    is_market: bool
    is_stop: bool
    """`tpsl` is `sl`; otherwise it takes a profit."""

    def fires_above(self, side: OrderSide) -> bool:
        """True where it fires at a mark at or above `px`: a stop of a short, a profit of a long."""
        return side.is_buy is self.is_stop

    def is_reached(self, side: OrderSide, mark: Decimal) -> bool:
        return mark >= self.px if self.fires_above(side) else mark <= self.px


@frozen
class OrderRequest:
    """`tif` of a trigger order is what it becomes when it fires: IOC for a market one, else GTC."""

    asset: int
    side: OrderSide
    px: Decimal
    sz: Decimal
    reduce_only: bool
    tif: TimeInForce
    cloid: str | None
    trigger: Trigger | None = None


@frozen
class PlaceOrders:
    orders: tuple[OrderRequest, ...]
    builder: bool = False
    grouping: str = "na"


@frozen
class CancelOrders:
    """Each element names an asset and an oid or a cloid."""

    cancels: tuple[tuple[int, int | str], ...]
    fast: bool = False


@frozen
class ModifyOrders:
    """`single` is the `modify` action, which answers `default` only; otherwise `batchModify`."""

    modifies: tuple[tuple[int | str, OrderRequest], ...]
    always_place: bool
    single: bool


@frozen
class ScheduleCancel:
    time_ms: int | None


@frozen
class UpdateLeverage:
    asset: int
    is_cross: bool
    leverage: int


@frozen
class Noop:
    pass


@frozen
class ApproveAgent:
    """`name` is empty for the unnamed agent; `valid_until_ms` comes from the name's suffix (PROTOCOL 4.3)."""

    agent: str
    name: str
    valid_until_ms: int | None
    chain: str
    nonce: int


@frozen
class NotSimulated:
    """An action that the venue knows and this exchange does not."""

    kind: str


Action = PlaceOrders | CancelOrders | ModifyOrders | ScheduleCancel | UpdateLeverage | Noop | ApproveAgent | NotSimulated


@frozen
class Envelope:
    """A whole request; `raw_action` is what was signed, as received."""

    action: Action
    raw_action: JsonObject
    nonce: int
    signature: Signature
    vault: str | None
    expires_after_ms: int | None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise SchemaError("a key occurs twice")
    return value


def parse_json(body: bytes | str) -> Any:
    """The first JSON value of `body`; raises JsonError, or SchemaError where a key occurs twice."""
    try:
        text = body.decode() if isinstance(body, bytes) else body
        value, _ = json.JSONDecoder(object_pairs_hook=_no_duplicates).raw_decode(text.lstrip())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise JsonError(str(error)) from error
    return value


def _object(value: Any, what: str) -> JsonObject:
    if not isinstance(value, dict):
        raise SchemaError(f"{what}: expected an object, found {type(value).__name__}")
    return value


def _field(value: JsonObject, key: str, kind: type) -> Any:
    found = value.get(key)
    # bool is a subclass of int in Python; the venue keeps them apart
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise SchemaError(f"{key}: expected {kind.__name__}, found {found!r}")
    if isinstance(found, int) and found < 0:
        raise SchemaError(f"{key}: expected an unsigned integer, found {found}")
    return found


def _only(value: JsonObject, *keys: str) -> None:
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise SchemaError(f"unknown field {unknown[0]!r}, expected one of {', '.join(keys)}")


def parse_address(value: Any) -> str:
    """A lower-case address; raises SchemaError."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise SchemaError(f"expected an address of 0x and 40 hex digits, found {value!r}")
    return value.lower()


def parse_cloid(value: Any) -> str:
    """A lower-case cloid; raises SchemaError."""
    if not isinstance(value, str) or not _CLOID.fullmatch(value):
        raise SchemaError(f"expected a cloid of 0x and 32 hex digits, found {value!r}")
    return value.lower()


def _decimal(value: Any, key: str) -> Decimal:
    match = _UNSIGNED.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise SchemaError(f"{key}: expected an unsigned plain decimal string, found {value!r}")
    decimals = (match[2] or "").rstrip("0")
    if len(decimals) > _MAX_DECIMALS or len(match[1]) > _MAX_DIGITS:
        raise SchemaError(f"{key}: more digits than a number on the wire may have: {value!r}")
    return Decimal(match[1] + ("." + decimals if decimals else ""))


def _order(value: Any) -> OrderRequest:
    order = _object(value, "order")
    kind = _object(order.get("t"), "t")
    limit = kind.get("limit")
    trigger = _trigger(kind["trigger"]) if "trigger" in kind else None
    if trigger is not None:
        tif = TimeInForce.IOC if trigger.is_market else TimeInForce.GTC
    else:
        name = _object(limit, "limit").get("tif")
        if not isinstance(name, str) or name not in TIFS:
            raise SchemaError(f"tif: expected one of {', '.join(TIFS)}, found {name!r}")
        tif = TIFS[name]
    cloid = order.get("c")
    return OrderRequest(
        asset=_field(order, "a", int),
        side=OrderSide.BUY if _field(order, "b", bool) else OrderSide.SELL,
        px=_decimal(order.get("p"), "p"),
        sz=_decimal(order.get("s"), "s"),
        reduce_only=_field(order, "r", bool),
        tif=tif,
        cloid=parse_cloid(cloid) if cloid is not None else None,
        trigger=trigger,
    )


def _trigger(value: Any) -> Trigger:
    trigger = _object(value, "trigger")
    tpsl = trigger.get("tpsl")
    if tpsl not in ("tp", "sl"):
        raise SchemaError(f"tpsl: expected tp or sl, found {tpsl!r}")
    px = _decimal(trigger.get("triggerPx"), "triggerPx")
    return Trigger(px, is_market=_field(trigger, "isMarket", bool), is_stop=tpsl == "sl")


def _grouping(value: Any) -> str:
    if value in ("na", "normalTpsl", "positionTpsl"):
        return str(value)
    _field(_object(value, "grouping"), "p", int)
    return "na"  # a priority fee buys time that our block clock does not sell


def _place(action: JsonObject) -> PlaceOrders:
    _only(action, "type", "orders", "grouping", "builder")
    orders = tuple(_order(order) for order in _field(action, "orders", list))
    return PlaceOrders(orders, action.get("builder") is not None, _grouping(action.get("grouping")))


def _cancel(action: JsonObject) -> CancelOrders:
    _only(action, "type", "cancels", "f")
    items = [_object(item, "cancel") for item in _field(action, "cancels", list)]
    return CancelOrders(tuple((_field(item, "a", int), _field(item, "o", int)) for item in items), _flag(action, "f"))


def _cancel_by_cloid(action: JsonObject) -> CancelOrders:
    _only(action, "type", "cancels", "f")
    items = [_object(item, "cancel") for item in _field(action, "cancels", list)]
    pairs = tuple((_field(item, "asset", int), parse_cloid(item.get("cloid"))) for item in items)
    return CancelOrders(pairs, _flag(action, "f"))


def parse_order_id(value: Any) -> int | str:
    """An oid (int) or a cloid (lower-case text); raises SchemaError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return parse_cloid(value)


def _flag(action: JsonObject, key: str) -> bool:
    """An optional flag, absent where false."""
    return action.get(key) is not None and bool(_field(action, key, bool))


def _modify(action: JsonObject) -> ModifyOrders:
    _only(action, "type", "oid", "order", "a")
    pair = (parse_order_id(action.get("oid")), _order(action.get("order")))
    return ModifyOrders((pair,), _flag(action, "a"), single=True)


def _batch_modify(action: JsonObject) -> ModifyOrders:
    _only(action, "type", "modifies", "a")
    items = [_object(item, "modify") for item in _field(action, "modifies", list)]
    pairs = tuple((parse_order_id(item.get("oid")), _order(item.get("order"))) for item in items)
    return ModifyOrders(pairs, _flag(action, "a"), single=False)


def _schedule_cancel(action: JsonObject) -> ScheduleCancel:
    _only(action, "type", "time")
    return ScheduleCancel(None if action.get("time") is None else _field(action, "time", int))


def _update_leverage(action: JsonObject) -> UpdateLeverage:
    _only(action, "type", "asset", "isCross", "leverage")
    return UpdateLeverage(_field(action, "asset", int), _field(action, "isCross", bool), _field(action, "leverage", int))


def _noop(action: JsonObject) -> Noop:
    _only(action, "type")
    return Noop()


def _approve_agent(action: JsonObject) -> ApproveAgent:
    _only(action, "type", "hyperliquidChain", "signatureChainId", "agentAddress", "agentName", "nonce")
    _field(action, "signatureChainId", str)
    text = action.get("agentName") or ""
    name, suffix, until = str(text).partition(" valid_until ")
    if suffix and not until.isdigit():
        raise SchemaError(f"agentName: expected milliseconds after valid_until, found {until!r}")
    return ApproveAgent(
        agent=parse_address(action.get("agentAddress")),
        name=name,
        valid_until_ms=int(until) if suffix else None,
        chain=_field(action, "hyperliquidChain", str),
        nonce=_field(action, "nonce", int),
    )


_PARSERS: dict[str, Callable[[JsonObject], Action]] = {
    "order": _place,
    "cancel": _cancel,
    "cancelByCloid": _cancel_by_cloid,
    "modify": _modify,
    "batchModify": _batch_modify,
    "scheduleCancel": _schedule_cancel,
    "updateLeverage": _update_leverage,
    "noop": _noop,
    "approveAgent": _approve_agent,
}

# Known to the venue (PROTOCOL 4.1, 4.3), not modelled here; refused by name instead of as malformed.
NOT_SIMULATED = frozenset(
    {
        "updateIsolatedMargin",
        "topUpIsolatedOnlyMargin",
        "reserveRequestWeight",
        "agentSetAbstraction",
        "agentSendAsset",
        "sendAsset",
        "usdSend",
        "spotSend",
        "withdraw3",
        "usdClassTransfer",
        "approveBuilderFee",
        "createSubAccount",
        "subAccountTransfer",
        "vaultTransfer",
        "setReferrer",
        "twapOrder",
        "twapCancel",
        "userSetAbstraction",
    }
)


def parse_action(value: Any) -> Action:
    """The typed action; raises SchemaError."""
    action = _object(value, "action")
    kind = action.get("type")
    if isinstance(kind, str) and kind in _PARSERS:
        return _PARSERS[kind](action)
    if isinstance(kind, str) and kind in NOT_SIMULATED:
        return NotSimulated(kind)
    raise SchemaError(f"unknown action type {kind!r}")


def _signature(value: Any) -> Signature:
    signature = _object(value, "signature")
    parts = []
    for key in ("r", "s"):
        text = signature.get(key)
        if not isinstance(text, str) or not _SIGNATURE_PART.fullmatch(text):
            raise SchemaError(f"signature.{key}: expected 0x and 1 to 64 hex digits")
        parts.append("0x" + text[2:].lower().zfill(64))
    return Signature(parts[0], parts[1], _field(signature, "v", int))


def parse_envelope(value: Any) -> Envelope:
    """The whole request of `/exchange` or of a WebSocket post; raises SchemaError."""
    body = _object(value, "request")
    _only(body, "action", "nonce", "signature", "vaultAddress", "expiresAfter")
    vault, expires = body.get("vaultAddress"), body.get("expiresAfter")
    return Envelope(
        action=parse_action(body.get("action")),
        raw_action=body["action"],
        nonce=_field(body, "nonce", int),
        signature=_signature(body.get("signature")),
        vault=parse_address(vault) if vault is not None else None,
        expires_after_ms=_field(body, "expiresAfter", int) if expires is not None else None,
    )
