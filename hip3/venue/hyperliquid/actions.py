"""Actions: what is posted to `/exchange`, in the one key order that hashes right (PROTOCOL 4.1, SIG-2).

One table says, for every action type, which keys it has, in which order, and the normal form of each value: decimals
without padding, cloids and addresses in lower case, absent options left out (never null, never false). The signer and
the simulated exchange both read it: the venue hashes what *it* serialises, so a client signs the same normal form.

Refused: to encode an action type that PRD-6 does not list, and an order with a builder fee. Those can be canonicalised
(an exchange must verify what foreign clients sign) but not encoded for our own signer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgpack
from attrs import frozen

from hip3.core.orders import CancelIntent, OrderIntent
from hip3.core.units import wire
from hip3.venue.hyperliquid.errors import ActionError, MalformedAction, UnsupportedAction, excerpt

Action = Mapping[str, object]

LISTED = frozenset(
    {
        "order",
        "cancel",
        "cancelByCloid",
        "modify",
        "noop",
        "scheduleCancel",
        "updateLeverage",
        "updateIsolatedMargin",
    }
)
"""The action types that may be signed (PRD-6)."""

MAX_ITEMS_PER_ACTION = 200
"""`Signed action over weight limit of 200.` (PROTOCOL 4.1)."""

_U64 = 1 << 64
_DECIMAL = re.compile(r"(\d+)(?:\.(\d+))?", re.ASCII)
_CLOID = re.compile(r"0x[0-9a-fA-F]{32}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
WIRE_DECIMALS = 8
"""More decimals than this are answered with 422 (PROTOCOL 5.3)."""

Reader = Callable[[object], object]


def _fail(expected: str, found: object) -> MalformedAction:
    return MalformedAction("", f"expected {expected}, found {excerpt(found)}")


def _flag(value: object) -> bool:
    if value is True or value is False:
        return value
    raise _fail("true or false", value)


def _uint(value: object) -> int:
    if type(value) is int and 0 <= value < _U64:
        return value
    raise _fail("an unsigned 64-bit integer", value)


def _int(value: object) -> int:
    if type(value) is int and -(_U64 // 2) <= value < _U64 // 2:
        return value
    raise _fail("a signed 64-bit integer", value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _fail("text", value)


def _decimal(value: object) -> str:
    """`"612.340"` becomes `"612.34"`: the venue strips padding before it hashes (PROTOCOL 5.3)."""
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise _fail('an unsigned decimal as text, like "612.34"', value)
    whole, fraction = match.groups("")
    whole = whole.lstrip("0") or "0"
    fraction = fraction.rstrip("0")
    if len(fraction) > WIRE_DECIMALS:
        raise _fail(f"at most {WIRE_DECIMALS} decimals", value)
    return f"{whole}.{fraction}" if fraction else whole


def _cloid(value: object) -> str:
    if isinstance(value, str) and _CLOID.fullmatch(value):
        return value.lower()
    raise _fail("a cloid: 0x and 32 hex digits", value)


def _address(value: object) -> str:
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        return value.lower()
    raise _fail("an address: 0x and 40 hex digits", value)


def _oid_or_cloid(value: object) -> int | str:
    return _cloid(value) if isinstance(value, str) else _uint(value)


def _address_or_empty(value: object) -> str:
    return "" if value == "" else _address(value)


def _one_of(*words: str) -> Reader:
    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise _fail(f"one of {', '.join(words)}", value)

    return read


def _list_of(item: Reader) -> Reader:
    def read(value: object) -> list[object]:
        if not isinstance(value, list | tuple):
            raise _fail("a list", value)
        items: list[object] = []
        for index, element in enumerate(value):
            try:
                items.append(item(element))
            except MalformedAction as e:
                raise MalformedAction(f"[{index}]{e.path}", e.problem) from None
        return items

    return read


@frozen
class Field:
    """One key of a record. An optional key that is absent, null or (for a flag) false is left out."""

    key: str
    read: Reader
    optional: bool = False


@frozen
class Record:
    """The keys of one object in the order in which they are hashed; calling it gives the normal form of a value."""

    fields: tuple[Field, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f.key for f in self.fields)

    def __call__(self, value: object) -> dict[str, object]:
        """Raises MalformedAction with the path of the first field that is missing, unknown or wrong."""
        if not isinstance(value, Mapping):
            raise _fail("an object", value)
        normal: dict[str, object] = {}
        known = 0
        for f in self.fields:
            found = value.get(f.key)
            known += f.key in value
            if found is None or (f.optional and found is False):
                if not f.optional:
                    raise MalformedAction(f".{f.key}", "is missing")
                continue
            try:
                normal[f.key] = f.read(found)
            except MalformedAction as e:
                raise MalformedAction(f".{f.key}{e.path}", e.problem) from None
        if known != len(value):
            unknown = sorted(str(k) for k in value if k not in self.keys)
            raise MalformedAction(f".{unknown[0]}", f"is not a key of this object; it has {', '.join(self.keys)}")
        return normal


def _req(key: str, read: Reader) -> Field:
    return Field(key, read)


def _opt(key: str, read: Reader) -> Field:
    return Field(key, read, optional=True)


def _record(*fields: Field) -> Record:
    return Record(fields)


_LIMIT = _record(_req("tif", _one_of("Alo", "Ioc", "Gtc", "FrontendMarket")))
_TRIGGER = _record(_req("isMarket", _flag), _req("triggerPx", _decimal), _req("tpsl", _one_of("tp", "sl")))
_PRIORITY = _record(_req("p", _uint))
_WORD_GROUPING = _one_of("na", "normalTpsl", "positionTpsl")
_LIMIT_TYPE = _record(_req("limit", _LIMIT))
_TRIGGER_TYPE = _record(_req("trigger", _TRIGGER))


def _order_type(value: object) -> dict[str, object]:
    return _TRIGGER_TYPE(value) if isinstance(value, Mapping) and "trigger" in value else _LIMIT_TYPE(value)


def _grouping(value: object) -> object:
    return _PRIORITY(value) if isinstance(value, Mapping) else _WORD_GROUPING(value)


ORDER = _record(
    _req("a", _uint),
    _req("b", _flag),
    _req("p", _decimal),
    _req("s", _decimal),
    _req("r", _flag),
    _req("t", _order_type),
    _opt("c", _cloid),
)
_BUILDER = _record(_req("b", _address), _req("f", _uint))
_CANCEL = _record(_req("a", _uint), _req("o", _uint))
_CANCEL_BY_CLOID = _record(_req("asset", _uint), _req("cloid", _cloid))
_MODIFY = _record(_req("oid", _oid_or_cloid), _req("order", ORDER))
_FAST = _opt("f", _flag)
_ALWAYS_PLACE = _opt("a", _flag)
_TYPE = _req("type", _text)

VENUE_ACTIONS: Mapping[str, Record] = {
    "order": _record(_TYPE, _req("orders", _list_of(ORDER)), _req("grouping", _grouping), _opt("builder", _BUILDER)),
    "cancel": _record(_TYPE, _req("cancels", _list_of(_CANCEL)), _FAST),
    "cancelByCloid": _record(_TYPE, _req("cancels", _list_of(_CANCEL_BY_CLOID)), _FAST),
    "modify": _record(_TYPE, _req("oid", _oid_or_cloid), _req("order", ORDER), _ALWAYS_PLACE),
    "noop": _record(_TYPE),
    "scheduleCancel": _record(_TYPE, _opt("time", _uint)),
    "updateLeverage": _record(_TYPE, _req("asset", _uint), _req("isCross", _flag), _req("leverage", _uint)),
    "updateIsolatedMargin": _record(_TYPE, _req("asset", _uint), _req("isBuy", _flag), _req("ntli", _int)),
    # What follows is never signed here; a server needs it to check what other clients signed.
    "batchModify": _record(_TYPE, _req("modifies", _list_of(_MODIFY)), _ALWAYS_PLACE),
    "topUpIsolatedOnlyMargin": _record(_TYPE, _req("asset", _uint), _req("leverage", _decimal)),
    "reserveRequestWeight": _record(_TYPE, _req("weight", _uint), _opt("destination", _address)),
    "agentSetAbstraction": _record(_TYPE, _req("abstraction", _text)),
    "agentSendAsset": _record(
        _TYPE,
        _req("destination", _address),
        _req("sourceDex", _text),
        _req("destinationDex", _text),
        _req("token", _text),
        _req("amount", _decimal),
        _req("fromSubAccount", _address_or_empty),
        _req("nonce", _uint),
    ),
    "createSubAccount": _record(_TYPE, _req("name", _text)),
    "subAccountTransfer": _record(_TYPE, _req("subAccountUser", _address), _req("isDeposit", _flag), _req("usd", _uint)),
}
"""Every L1 action type known, with its keys in hashing order (PROTOCOL 1.6, 4.1)."""

ACTION_KEYS: Mapping[str, tuple[str, ...]] = {name: VENUE_ACTIONS[name].keys for name in sorted(LISTED)}
"""Top-level key order of each action type that may be signed (SIG-2)."""


def canonicalise(action: Action) -> dict[str, object]:
    """Normal form of any L1 action of the venue, whoever made it: the form that is hashed.

    Raises UnsupportedAction for a type that the table does not know, MalformedAction for a field that breaks the schema.
    """
    name = action.get("type")
    record = VENUE_ACTIONS.get(name) if isinstance(name, str) else None
    if record is None:
        raise UnsupportedAction(f"action type {excerpt(name)} is not known; known are {', '.join(VENUE_ACTIONS)}")
    return record(action)


def signable(action: Action) -> dict[str, object]:
    """Normal form of an action that we may sign (PRD-6).

    Raises UnsupportedAction for an unlisted type and for a builder fee, MalformedAction as `canonicalise`.
    """
    name = action.get("type")
    if name not in LISTED:
        raise UnsupportedAction(f"action type {excerpt(name)} is never signed; signed are {', '.join(sorted(LISTED))}")
    if "builder" in action:
        raise UnsupportedAction("an order with a builder fee is never signed; remove `builder` from the action")
    return canonicalise(action)


def pack(canonical: Action) -> bytes:
    """MessagePack of an action in the key order it has; integers take their minimal width (PROTOCOL 5.3)."""
    packed: bytes = msgpack.packb(canonical)
    return packed


def encode(action: Action) -> bytes:
    """MessagePack of an action that we may sign, in the table's order, absent options omitted. Raises as `signable`."""
    return pack(signable(action))


def order_action(intents: Sequence[OrderIntent]) -> dict[str, object]:
    """One `order` action for 1 to 200 intents; assets and dexs may be mixed.

    Raises ActionError for an empty or oversized batch, MalformedAction for a price or size that is not positive.
    """
    _check_count(len(intents), "order")
    return {"type": "order", "orders": [_order(intent) for intent in intents], "grouping": "na"}


def _order(intent: OrderIntent) -> dict[str, object]:
    for name, value in (("p", intent.px), ("s", intent.sz)):
        if not (value.is_finite() and value > 0):
            raise MalformedAction(f".{name}", f"must be positive, found {value} for {intent.cloid} on {intent.coin}")
    return {
        "a": intent.spec.asset_id,
        "b": intent.side.is_buy,
        "p": wire(intent.px),
        "s": wire(intent.sz),
        "r": intent.reduce_only,
        "t": {"limit": {"tif": intent.tif.value}} if intent.trigger_px is None else _stop(intent, intent.trigger_px),
        "c": intent.cloid.value,
    }


def _stop(intent: OrderIntent, trigger_px: Decimal) -> dict[str, object]:
    """A market stop (PROTOCOL 4.1). Raises MalformedAction where it could open: the venue refuses the whole batch for it."""
    if not (intent.reduce_only and trigger_px.is_finite() and trigger_px > 0):
        problem = f"must be reduce-only with a positive trigger, found {trigger_px} for {intent.cloid} on {intent.coin}"
        raise MalformedAction(".t.trigger", problem)
    return {"trigger": {"isMarket": True, "triggerPx": wire(trigger_px), "tpsl": "sl"}}


def cancel_action(intents: Sequence[CancelIntent], *, fast: bool = False) -> dict[str, object]:
    """One `cancel` action by order id. Raises ActionError where an intent has no oid.

    `fast` asks for mempool priority; the venue refuses it for trigger orders (PROTOCOL 4.1).
    """
    _check_count(len(intents), "cancel")
    cancels: list[dict[str, object]] = []
    for intent in intents:
        if intent.oid is None:
            raise ActionError(f"cancel of {intent.cloid} on {intent.spec.coin} has no oid; use cancel_by_cloid_action")
        cancels.append({"a": intent.spec.asset_id, "o": intent.oid})
    return _with_flag({"type": "cancel", "cancels": cancels}, "f", on=fast)


def cancel_by_cloid_action(intents: Sequence[CancelIntent], *, fast: bool = False) -> dict[str, object]:
    """One `cancelByCloid` action; note its long key names. Raises ActionError where an intent has no cloid."""
    _check_count(len(intents), "cancelByCloid")
    cancels: list[dict[str, object]] = []
    for intent in intents:
        if intent.cloid is None:
            raise ActionError(f"cancel of oid {intent.oid} on {intent.spec.coin} has no cloid; use cancel_action")
        cancels.append({"asset": intent.spec.asset_id, "cloid": intent.cloid})
    return _with_flag({"type": "cancelByCloid", "cancels": cancels}, "f", on=fast)


def modify_action(target: int | str, intent: OrderIntent, *, always_place: bool = False) -> dict[str, object]:
    """Replaces one order, named by oid or cloid, by `intent`: a cancel and a new oid under the same cloid.

    Without `always_place` the venue takes only an ALO or a GTC that does not cross (PROTOCOL 4.3).
    """
    return _with_flag({"type": "modify", "oid": target, "order": _order(intent)}, "a", on=always_place)


def noop_action() -> dict[str, object]:
    """Does nothing but use up its nonce, which is how an action in flight is killed (PROTOCOL 4.3)."""
    return {"type": "noop"}


def schedule_cancel_action(time_ms: int | None) -> dict[str, object]:
    """Dead-man switch: cancel everything at `time_ms` (Unix ms, at least 5 s ahead); None clears it."""
    return {"type": "scheduleCancel"} if time_ms is None else {"type": "scheduleCancel", "time": time_ms}


def update_leverage_action(asset: int, is_cross: bool, leverage: int) -> dict[str, object]:
    """Sets the leverage of one asset; `is_cross` False switches it to isolated margin."""
    return {"type": "updateLeverage", "asset": asset, "isCross": is_cross, "leverage": leverage}


def update_isolated_margin_action(asset: int, usd: Decimal) -> dict[str, object]:
    """Adds `usd` to the margin of an isolated position, or removes it where negative; the wire unit is 1e-6 USD.

    Raises ActionError for an amount finer than that.
    """
    micro = usd.scaleb(6)
    if micro != micro.to_integral_value():
        raise ActionError(f"isolated margin changes in steps of 0.000001 USD, got {usd}")
    return {"type": "updateIsolatedMargin", "asset": asset, "isBuy": True, "ntli": int(micro)}


def _with_flag(action: dict[str, object], key: str, *, on: bool) -> dict[str, object]:
    # A false flag would hash differently and be rejected (PROTOCOL 4.1), so it is not written at all.
    if on:
        action[key] = True
    return action


def _check_count(count: int, name: str) -> None:
    if not 1 <= count <= MAX_ITEMS_PER_ACTION:
        raise ActionError(f"one {name} action holds 1 to {MAX_ITEMS_PER_ACTION} items, got {count}")
