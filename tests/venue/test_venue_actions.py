"""Actions: key order, normal forms, and what may not be signed."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.ids import ClientOrderId, MarketKey, MarketSpec, OrderSide, TimeInForce
from hip3.core.orders import CancelIntent, OrderIntent
from hip3.venue.hyperliquid import actions
from hip3.venue.hyperliquid.errors import ActionError, MalformedAction, UnsupportedAction

SNDK = MarketSpec(key=MarketKey.parse("xyz:SNDK"), asset_id=110016, sz_decimals=3, max_leverage=10)
CLOID = "0x68697033000100000000000100000001"


def intent(px: str = "612.34", sz: str = "0.05", **changes: Any) -> OrderIntent:
    """A buy of SNDK with the given price and size."""
    values: dict[str, Any] = {
        "cloid": ClientOrderId(CLOID),
        "spec": SNDK,
        "side": OrderSide.BUY,
        "sz": Decimal(sz),
        "px": Decimal(px),
        "tif": TimeInForce.IOC,
        "reduce_only": False,
        "created_at_ms": 1,
    }
    return OrderIntent(**{**values, **changes})


def l1_cases(shared_data: Path) -> dict[str, dict[str, Any]]:
    """The L1 cases of l1_vectors.json, which carry the msgpack bytes."""
    cases = json.loads((shared_data / "signing" / "l1_vectors.json").read_text())["cases"]
    return {name: case for name, case in cases.items() if "msgpack" in case}


def shuffled(value: Any) -> Any:
    """The same JSON with every object's keys in reverse order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def test_listed_actions_and_their_keys() -> None:
    """SIG-2, PRD-6: exactly the listed types may be signed, and their key order is fixed in one table."""
    assert dict(actions.ACTION_KEYS) == {
        "cancel": ("type", "cancels", "f"),
        "cancelByCloid": ("type", "cancels", "f"),
        "modify": ("type", "oid", "order", "a"),
        "noop": ("type",),
        "order": ("type", "orders", "grouping", "builder"),
        "scheduleCancel": ("type", "time"),
        "updateIsolatedMargin": ("type", "asset", "isBuy", "ntli"),
        "updateLeverage": ("type", "asset", "isCross", "leverage"),
    }
    assert actions.ORDER.keys == ("a", "b", "p", "s", "r", "t", "c")


def test_bytes_of_every_recorded_action(shared_data: Path) -> None:
    """SIG-3: the msgpack bytes of every recorded L1 action come out whatever order its keys arrive in."""
    cases = l1_cases(shared_data)
    assert len(cases) == 21
    for name, case in cases.items():
        for action in (case["action"], shuffled(case["action"])):
            assert actions.pack(actions.canonicalise(action)).hex() == case["msgpack"], name


def test_signable_bytes_equal_canonical_bytes(shared_data: Path) -> None:
    """SIG-2: what may be signed is encoded like any other action; the rest is refused."""
    for name, case in l1_cases(shared_data).items():
        action = case["action"]
        if action["type"] in actions.LISTED and "builder" not in action:
            assert actions.encode(action).hex() == case["msgpack"], name
        else:
            with pytest.raises(UnsupportedAction):
                actions.encode(action)


@pytest.mark.parametrize("kind", ["withdraw3", "usdSend", "approveBuilderFee", "batchModify", "setReferrer", "", None, 7])
def test_unlisted_types_are_refused(kind: object) -> None:
    """PRD-6: anything but the listed types is refused by name."""
    with pytest.raises(UnsupportedAction, match="never signed"):
        actions.encode({"type": kind})


def test_builder_fee_is_refused() -> None:
    """PRD-6: no order with a builder code is ever encoded for signing, not even one that asks for nothing."""
    builder = {"b": "0x" + "11" * 20, "f": 0}
    with pytest.raises(UnsupportedAction, match="builder"):
        actions.encode({**actions.order_action([intent()]), "builder": builder})
    assert actions.canonicalise({**actions.order_action([intent()]), "builder": builder})["builder"] == builder


def test_unknown_type_cannot_be_canonicalised() -> None:
    """SIG-2: a type that the table does not know has no normal form."""
    with pytest.raises(UnsupportedAction, match="not known"):
        actions.canonicalise({"type": "noSuchAction"})


def test_order_action_of_an_intent() -> None:
    """TYP-1: an intent becomes the venue's order, its decimals as unpadded text."""
    action = actions.order_action([intent("612.340", "0.050")])
    assert action == {
        "type": "order",
        "orders": [
            {
                "a": 110016,
                "b": True,
                "p": "612.34",
                "s": "0.05",
                "r": False,
                "t": {"limit": {"tif": "Ioc"}},
                "c": CLOID,
            }
        ],
        "grouping": "na",
    }
    assert actions.signable(action) == action


@pytest.mark.parametrize(("px", "sz"), [("0", "1"), ("-1", "1"), ("1", "0"), ("NaN", "1"), ("1", "Infinity")])
def test_orders_without_a_positive_price_and_size_are_refused(px: str, sz: str) -> None:
    """TYP-3: what rounded to nothing is refused before it is an action."""
    with pytest.raises(MalformedAction, match=r"must be positive.*xyz:SNDK"):
        actions.order_action([intent(px, sz)])


def test_batches_have_bounds() -> None:
    """PROTOCOL 4.1: an action holds 1 to 200 items."""
    for count in (0, 201):
        with pytest.raises(ActionError, match=f"got {count}"):
            actions.order_action([intent()] * count)
    assert len(actions.encode(actions.order_action([intent()] * 200))) > 200


def test_cancels_use_the_keys_of_their_kind() -> None:
    """SIG-2: cancel speaks of `a` and `o`, cancelByCloid of `asset` and `cloid`; the fast flag is written only when on."""
    known = CancelIntent(spec=SNDK, cloid=CLOID, oid=77)
    assert actions.cancel_action([known]) == {"type": "cancel", "cancels": [{"a": 110016, "o": 77}]}
    assert actions.cancel_by_cloid_action([known], fast=True) == {
        "type": "cancelByCloid",
        "cancels": [{"asset": 110016, "cloid": CLOID}],
        "f": True,
    }
    with pytest.raises(ActionError, match="no oid"):
        actions.cancel_action([CancelIntent(spec=SNDK, cloid=CLOID, oid=None)])
    with pytest.raises(ActionError, match="no cloid"):
        actions.cancel_by_cloid_action([CancelIntent(spec=SNDK, cloid=None, oid=7)])


def test_small_actions_match_their_vectors(shared_data: Path) -> None:
    """SIG-3: the builders of the other listed actions give the recorded bytes."""
    cases = l1_cases(shared_data)
    built = {
        "noop": actions.noop_action(),
        "scheduleCancel_set": actions.schedule_cancel_action(1767225660000),
        "scheduleCancel_clear": actions.schedule_cancel_action(None),
        "updateLeverage_iso5": actions.update_leverage_action(110016, False, 5),
        "updateIsolatedMargin": actions.update_isolated_margin_action(110016, Decimal(10)),
        "modify_by_cloid": actions.modify_action(
            "0x00000000000000000000000000000001",
            intent("611.5", tif=TimeInForce.ALO, cloid=ClientOrderId("0x00000000000000000000000000000001")),
        ),
    }
    for name, action in built.items():
        assert actions.encode(action).hex() == cases[name]["msgpack"], name


def test_isolated_margin_is_exact() -> None:
    """TYP-1: an amount finer than the wire's unit is refused, never rounded."""
    assert actions.update_isolated_margin_action(1, Decimal("-1.5"))["ntli"] == -1_500_000
    with pytest.raises(ActionError, match=r"0\.000001"):
        actions.update_isolated_margin_action(1, Decimal("0.0000001"))


def test_absent_options_are_left_out() -> None:
    """SIG-2: null and false options vanish, so they cannot change the hash."""
    order = actions.order_action([intent()])
    orders = order["orders"]
    assert isinstance(orders, list)
    bare = {**orders[0]}
    del bare["c"]
    padded = {"type": "order", "orders": [{**bare, "c": None}], "grouping": "na", "builder": None}
    assert actions.canonicalise(padded) == {"type": "order", "orders": [bare], "grouping": "na"}
    assert actions.canonicalise({"type": "cancel", "cancels": [], "f": False}) == {"type": "cancel", "cancels": []}
    assert actions.canonicalise({"type": "scheduleCancel", "time": None}) == {"type": "scheduleCancel"}


@pytest.mark.parametrize(
    ("text", "normal"),
    [("612.340", "612.34"), ("100.0", "100"), ("0.0", "0"), ("007", "7"), ("0.00000001", "0.00000001")],
)
def test_decimals_lose_their_padding(text: str, normal: str) -> None:
    """SIG-2: the venue strips padding before it hashes, and so does the normal form (PROTOCOL 5.3)."""
    action = actions.order_action([intent()])
    action["orders"] = [{**order, "p": text} for order in action["orders"]]  # type: ignore[attr-defined]  # a list
    found = actions.canonicalise(action)["orders"]
    assert isinstance(found, list)
    assert found[0]["p"] == normal


def test_hex_goes_to_lower_case() -> None:
    """SIG-2: cloids and addresses are hashed in lower case (PROTOCOL 5.3, 5.4)."""
    action = {"type": "cancelByCloid", "cancels": [{"asset": 1, "cloid": "0x" + "AB" * 16}]}
    assert actions.canonicalise(action)["cancels"] == [{"asset": 1, "cloid": "0x" + "ab" * 16}]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (".orders[0].p", {"p": 612.34}),
        (".orders[0].p", {"p": "6e2"}),
        (".orders[0].p", {"p": "-1"}),
        (".orders[0].s", {"s": "0.000000001"}),
        (".orders[0].a", {"a": True}),
        (".orders[0].a", {"a": -1}),
        (".orders[0].b", {"b": 1}),
        (".orders[0].c", {"c": "0x123"}),
        (".orders[0].c", {"c": "550e8400-e29b-41d4-a716-446655440000"}),
        (".orders[0].t.limit.tif", {"t": {"limit": {"tif": "Fok"}}}),
        (".orders[0].t.trigger.tpsl", {"t": {"trigger": {"isMarket": True, "triggerPx": "1", "tpsl": "x"}}}),
        (".orders[0].z", {"z": 1}),
    ],
)
def test_broken_fields_are_named(path: str, change: dict[str, object]) -> None:
    """SIG-2: a field that the venue would answer with 422 is refused by its path; floats never pass (TYP-1)."""
    action = actions.order_action([intent()])
    action["orders"] = [{**order, **change} for order in action["orders"]]  # type: ignore[attr-defined]  # a list
    with pytest.raises(MalformedAction) as caught:
        actions.encode(action)
    assert caught.value.path == path


def test_missing_and_extra_fields_are_named() -> None:
    """SIG-2: no key may be missing, and none may go unsigned because the table does not know it."""
    with pytest.raises(MalformedAction, match=r"\.leverage: is missing"):
        actions.encode({"type": "updateLeverage", "asset": 1, "isCross": True})
    with pytest.raises(MalformedAction, match=r"\.surprise: is not a key"):
        actions.encode({"type": "noop", "surprise": 1})
    with pytest.raises(MalformedAction, match=r"\.orders: expected a list"):
        actions.encode({"type": "order", "orders": {}, "grouping": "na"})


@given(
    px=st.decimals(min_value="0.00000001", max_value="99999999", places=8),
    sz=st.decimals(min_value="0.00000001", max_value="99999999", places=8),
    side=st.sampled_from(OrderSide),
    tif=st.sampled_from(TimeInForce),
    reduce_only=st.booleans(),
    count=st.integers(min_value=1, max_value=5),
)
def test_encoding_agrees_with_msgpack(
    px: Decimal, sz: Decimal, side: OrderSide, tif: TimeInForce, reduce_only: bool, count: int
) -> None:
    """SIG-1: our bytes are what the msgpack library writes for the same action, and they are already in normal form."""
    action = actions.order_action([intent(str(px), str(sz), side=side, tif=tif, reduce_only=reduce_only)] * count)
    assert actions.canonicalise(action) == action
    assert actions.encode(action) == msgpack.packb(action)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(sorted(actions.VENUE_ACTIONS)),
)
def test_rubbish_is_an_action_error(rubbish: object, kind: str) -> None:
    """SIG-2: whatever a foreign client sends as an action, canonicalising gives a normal form or an ActionError."""
    for key in actions.VENUE_ACTIONS[kind].keys[1:] or ("x",):
        try:
            normal = actions.canonicalise({"type": kind, key: rubbish})
        except ActionError:
            continue
        assert actions.canonicalise(normal) == normal
