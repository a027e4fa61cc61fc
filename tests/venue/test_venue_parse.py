"""Frames and answers of the venue become events, or a WireError."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hip3.core.events import (
    AssetCtx,
    Bbo,
    Book,
    ChannelError,
    Ignored,
    Level,
    OrderUpdate,
    OrderUpdates,
    Pong,
    PostResponse,
    Subscribed,
    UserFills,
)
from hip3.core.ids import OrderSide
from hip3.venue.hyperliquid import frames, parse
from hip3.venue.hyperliquid.errors import EXCERPT_CHARS, WireError

ORDER = {
    "coin": "xyz:SNDK",
    "side": "B",
    "limitPx": "612.34",
    "sz": "0.05",
    "oid": 556696349186,
    "timestamp": 1790360256851,
    "origSz": "0.05",
}
FILL = {
    "coin": "xyz:SNDK",
    "px": "612.34",
    "sz": "0.05",
    "side": "A",
    "time": 1790360256851,
    "startPosition": "0.05",
    "dir": "Close Long",
    "closedPnl": "-0.01",
    "hash": "0x00",
    "oid": 7,
    "crossed": True,
    "fee": "0.003",
    "tid": 9,
    "feeToken": "USDC",
    "twapId": None,
}
BBO: dict[str, Any] = {
    "coin": "xyz:SNDK",
    "time": 5,
    "bbo": [{"px": "612.3", "sz": "0.5", "n": 1}, {"px": "612.4", "sz": "2", "n": 3}],
}


def frame(channel: str, data: object) -> str:
    return json.dumps({"channel": channel, "data": data})


def recorded_frames(shared_data: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every frame of data/ws, with the channel that its line states."""
    for name in ("frames_market", "frames_user", "frames_control_and_post"):
        for line in (shared_data / "ws" / f"{name}.jsonl").read_text().splitlines():
            entry = json.loads(line)
            yield entry["channel"], entry["frame"]
    for entry in json.loads((shared_data / "ws" / "fast_asset_ctxs_vectors.json").read_text()):
        yield "fastAssetCtxs", entry["frame"]
    for name in ("allDexsAssetCtxs_capture", "ws_allmids", "ws_user_fill_liquidation"):
        body = json.loads((shared_data / "ws" / "nautilus" / f"{name}.json").read_text())
        yield body["channel"], body


def test_every_recorded_frame_is_an_event(shared_data: Path) -> None:
    """WS-4: each recorded frame gives the event of its channel; one frame with half a bbo array is a WireError."""
    kinds: dict[str, type] = {
        "bbo": Bbo,
        "activeAssetCtx": AssetCtx,
        "l2Book": Book,
        "orderUpdates": OrderUpdates,
        "userFills": UserFills,
        "subscriptionResponse": Subscribed,
        "post": PostResponse,
        "pong": Pong,
        "error": ChannelError,
    }
    unreadable = []
    count = 0
    for channel, content in recorded_frames(shared_data):
        text = json.dumps(content)
        count += 1
        try:
            event = parse.parse_frame(text)
        except WireError:
            unreadable.append(content)
            continue
        assert type(event) is kinds.get(channel, Ignored), channel
        assert parse.parse_frame(text.encode()) == event
    assert count > 100
    assert [len(f["data"]["bbo"]) for f in unreadable] == [1]


def test_used_channels_are_the_tags() -> None:
    """WS-4: the list of used channels names exactly the frames that are read."""
    tags = {kind.__struct_config__.tag for kind in get_args(frames.Frame)}
    assert tags == frames.USED_CHANNELS


def test_bbo() -> None:
    """MD-1, TYP-1: best bid and offer as Decimal, `[bid, ask]`."""
    expected = Bbo("xyz:SNDK", 5, Level(Decimal("612.3"), Decimal("0.5")), Level(Decimal("612.4"), Decimal(2)))
    assert parse.parse_frame(frame("bbo", BBO)) == expected


@pytest.mark.parametrize(("sides", "missing"), [([None, None], "both"), ([BBO["bbo"][0], None], "ask")])
def test_one_sided_bbo(sides: list[object], missing: str) -> None:
    """MD-1: a missing side is None, not an error."""
    event = parse.parse_frame(frame("bbo", {**BBO, "bbo": sides}))
    assert isinstance(event, Bbo)
    assert event.ask is None
    assert (event.bid is None) == (missing == "both")


def test_asset_ctx_tolerates_what_is_absent() -> None:
    """MD-1: prices that are null or absent are None; unknown keys are ignored."""
    data = {"coin": "BTC", "ctx": {"markPx": "80742.0", "midPx": None, "somethingNew": [1]}}
    assert parse.parse_frame(frame("activeAssetCtx", data)) == AssetCtx("BTC", None, Decimal("80742.0"), None, None, None)


def test_order_updates() -> None:
    """TYP-5, ORD-1: an element with a status never seen before passes through; `sz` is what remains."""
    data = [
        {"order": {**ORDER, "sz": "0.02", "reduceOnly": True}, "status": "brandNewStatus", "statusTimestamp": 12},
        {"order": {**ORDER, "cloid": "0x0e2b…"}, "status": "iocCancelRejected", "statusTimestamp": 13},
    ]
    event = parse.parse_frame(frame("orderUpdates", data))
    assert isinstance(event, OrderUpdates)
    first, second = event.updates
    assert first == OrderUpdate(
        coin="xyz:SNDK",
        side=OrderSide.BUY,
        limit_px=Decimal("612.34"),
        sz=Decimal("0.02"),
        orig_sz=Decimal("0.05"),
        oid=556696349186,
        cloid=None,
        status="brandNewStatus",
        status_time_ms=12,
        reduce_only=True,
    )
    assert (second.cloid, second.status) == ("0x0e2b…", "iocCancelRejected")


def test_user_fills_snapshot_and_increment() -> None:
    """RDY-1: `isSnapshot` is true on the first message and absent later; an unknown `dir` passes through (TYP-5)."""
    fills = [{**FILL, "dir": "Something New"}]
    first = parse.parse_frame(frame("userFills", {"isSnapshot": True, "user": "0xAB", "fills": fills}))
    later = parse.parse_frame(frame("userFills", {"user": "0xAB", "fills": []}))
    assert isinstance(first, UserFills)
    assert isinstance(later, UserFills)
    assert (first.is_snapshot, later.is_snapshot, first.user) == (True, False, "0xab")
    assert first.fills[0].dir == "Something New"
    assert first.fills[0].key == ("xyz:SNDK", 1790360256851, 9)


@pytest.mark.parametrize(
    ("liquidation", "ours"),
    [
        (None, False),
        ({"liquidatedUser": "0xAb", "markPx": "1", "method": "market"}, True),
        ({"liquidatedUser": "0xcd", "markPx": "1", "method": "market"}, False),
        ({"markPx": "1", "method": "market"}, True),
    ],
)
def test_liquidation_of_ours(liquidation: object, ours: bool) -> None:
    """PROTOCOL 2.3: a fill is marked as liquidation where the account was liquidated, not where it was the counterparty."""
    fills = [{**FILL, "liquidation": liquidation}]
    event = parse.parse_frame(frame("userFills", {"user": "0xaB", "fills": fills}))
    assert isinstance(event, UserFills)
    assert event.fills[0].liquidation is ours
    assert parse.parse_user_fills(fills, "0xAB")[0].liquidation is ours
    assert parse.parse_user_fills(fills)[0].liquidation is (liquidation is not None)


def test_control_frames() -> None:
    """WS-2, WS-4: acks, pongs, errors and answers to posts."""
    echo = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": False}
    ack = frame("subscriptionResponse", {"method": "subscribe", "subscription": echo})
    assert parse.parse_frame(ack) == Subscribed("l2Book", "BTC", None)
    user = frame("subscriptionResponse", {"method": "unsubscribe", "subscription": {"type": "userFills", "user": "0xAB"}})
    assert parse.parse_frame(user) == Subscribed("userFills", None, "0xab", "unsubscribe")
    assert parse.parse_frame('{"channel":"pong"}') == Pong()
    assert parse.parse_frame(frame("error", "Already subscribed: {}")) == ChannelError("Already subscribed: {}")
    payload = {"status": "err", "response": "Unable to recover signer."}
    post = {"id": 12, "response": {"type": "action", "payload": payload}}
    assert parse.parse_frame(frame("post", post)) == PostResponse(12, "action", payload)


@pytest.mark.parametrize("raw", ["Websocket connection established.", b"Websocket connection established."])
def test_greeting_and_unused_channels_are_ignored(raw: str | bytes) -> None:
    """WS-4: text that was never JSON and channels that the bot does not use are no errors."""
    assert parse.parse_frame(raw) == Ignored("greeting")
    assert parse.parse_frame(frame("trades", [{"coin": "BTC"}])) == Ignored("trades")
    assert parse.parse_frame(frame("someNewChannel", {"anything": 1})) == Ignored("someNewChannel")


def bbo_with(px: object, sz: object = "1") -> str:
    return frame("bbo", {**BBO, "bbo": [{"px": px, "sz": sz}, None]})


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        ("", "frame"),
        ("garbage", "frame"),
        ('{"channel":"bbo","data":{"coin":', "frame"),
        ("[]", "frame"),
        ("null", "frame"),
        ('{"data":1}', "frame"),
        ('{"channel":7}', "frame"),
        (b"\xff\xfe", "frame"),
        ("\ud800", "frame"),
        ("[" * 100_000, "frame"),
        ('{"channel":"bbo"}', "channel bbo"),
        (frame("bbo", {**BBO, "bbo": [None]}), "channel bbo"),
        (frame("bbo", {**BBO, "time": "5"}), "channel bbo"),
        (frame("bbo", {**BBO, "time": 2**63}), "channel bbo"),
        (bbo_with("NaN"), "channel bbo"),
        (bbo_with("Infinity"), "channel bbo"),
        (bbo_with("1E+999999"), "channel bbo"),
        (bbo_with("1E-999999"), "channel bbo"),
        (bbo_with("0"), "channel bbo"),
        (bbo_with("-1"), "channel bbo"),
        (bbo_with("1", "-1"), "channel bbo"),
        (bbo_with("abc"), "channel bbo"),
        (frame("l2Book", {"coin": "BTC", "time": 1, "levels": [[{"px": "0", "sz": "1"}], []]}), "channel l2Book"),
        (frame("activeAssetCtx", {"coin": "BTC", "ctx": {"oraclePx": "sNaN"}}), "channel activeAssetCtx"),
        (frame("orderUpdates", [{"order": {**ORDER, "side": "X"}, "status": "open", "statusTimestamp": 1}]), "orderUp"),
        (frame("userFills", {"user": "0x", "fills": [{**FILL, "px": "NaN"}]}), "channel userFills"),
        (frame("post", {"id": -1, "response": {"type": "action"}}), "channel post"),
        (frame("error", {"a": 1}), "channel error"),
    ],
)
def test_broken_frames_are_wire_errors(raw: str | bytes, what: str) -> None:
    """WS-4: what cannot be read raises WireError with its place and a bounded excerpt, and nothing else."""
    with pytest.raises(WireError) as caught:
        parse.parse_frame(raw)
    assert what in caught.value.where
    assert len(caught.value.excerpt) <= EXCERPT_CHARS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6) | st.just("1.5"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=60) | st.text(max_size=60))
@example(b'{"channel":"bbo","data":{"coin":"\\ud800"}}')
def test_any_text_is_an_event_or_a_wire_error(raw: str | bytes) -> None:
    """WS-4: fuzz: no text whatever raises anything but WireError."""
    with contextlib.suppress(WireError):
        parse.parse_frame(raw)


@given(channel=st.sampled_from(sorted(frames.USED_CHANNELS)), data=json_values)
def test_any_data_is_an_event_or_a_wire_error(channel: str, data: object) -> None:
    """WS-4: fuzz: a used channel with rubbish in it is an event or a WireError, never ignored."""
    with contextlib.suppress(WireError):
        assert not isinstance(parse.parse_frame(frame(channel, data)), Ignored)


@given(
    base=st.sampled_from(
        [
            frame("bbo", BBO),
            frame("orderUpdates", [{"order": ORDER, "status": "open", "statusTimestamp": 1}]),
            frame("userFills", {"user": "0xab", "fills": [FILL]}),
            frame("activeAssetCtx", {"coin": "BTC", "ctx": {"oraclePx": "1", "markPx": "1"}}),
        ]
    ),
    position=st.integers(0, 400),
    junk=st.text(alphabet='0123456789eE+-.NaIn"{}[],:\\', max_size=4),
)
def test_damaged_frames_are_events_or_wire_errors(base: str, position: int, junk: str) -> None:
    """WS-4, TYP-1: fuzz: a damaged frame never gives a number that is not finite."""
    try:
        event = parse.parse_frame(base[:position] + junk + base[position + len(junk) :])
    except WireError:
        return
    if isinstance(event, Bbo):
        for level in (event.bid, event.ask):
            assert level is None or (level.px.is_finite() and level.px > 0 and level.sz.is_finite())


def body(shared_data: Path, name: str) -> bytes:
    return (shared_data / "info" / name).read_bytes()


def test_recorded_open_orders(shared_data: Path) -> None:
    """META-1: open orders with trigger orders and children; what rests is listed once."""
    rows = parse.parse_open_orders(body(shared_data, "epigone/frontend_open_orders_3.json"))
    assert [(o.coin, o.status, o.reduce_only) for o in rows] == [
        ("LIT", "open", False),
        ("HYPE", "open", False),
        ("CASHCAT", "open", True),
    ]
    family = parse.parse_open_orders(body(shared_data, "python_sdk/get_frontend_open_orders.json"))
    assert sorted(o.oid for o in family) == [3184595905, 3184595906, 3184595907]
    assert parse.parse_open_orders(b"[]") == ()


def test_recorded_order_status(shared_data: Path) -> None:
    """POST-4: an order that is found, and `unknownOid` as None."""
    found = parse.parse_order_status(body(shared_data, "go_sdk/orderStatus_37907159219_testnet_22Aug2025.json"))
    assert found is not None
    assert (found.oid, found.status, found.sz, found.orig_sz) == (37907159219, "filled", Decimal(0), Decimal("0.0025"))
    assert parse.parse_order_status(body(shared_data, "go_sdk/orderStatus_141622259364_mainnet_22Aug2025.json")) is None


def test_recorded_account_state_of_a_dex(shared_data: Path) -> None:
    """POS-3: positions of the dex that was asked, signed, coins with their prefix."""
    state = parse.parse_account_state("xyz", body(shared_data, "epigone/clearinghouse_state_xyz.json"))
    assert (state.dex, state.time_ms, state.account_value) == ("xyz", 1785869786830, Decimal("192356.348271"))
    assert [(p.coin, p.szi, p.leverage) for p in state.positions] == [
        ("xyz:SKHX", Decimal("0.009"), 10),
        ("xyz:SP500", Decimal("-331.233"), 20),
    ]
    empty = parse.parse_account_state("", body(shared_data, "go_sdk/clearinghouseState_mainnet_13Dec2025.json"))
    assert empty.positions == ()


def test_recorded_fills(shared_data: Path) -> None:
    """TYP-5: thousands of real fills, dust conversions, settlements and liquidations among them, all read."""
    assert parse.parse_user_fills(body(shared_data, "epigone/user_fills_2.json"))[1].dir == "Spot Dust Conversion"
    path = next((shared_data / "series" / "user_fills").glob("0xf5b0*.json.gz"))
    raw = json.loads(gzip.decompress(path.read_bytes()))
    rows = raw if isinstance(raw, list) else next(v for v in raw.values() if isinstance(v, list))
    assert len(parse.parse_user_fills(rows)) == len(rows) == 2000


def test_recorded_contexts_and_book(shared_data: Path) -> None:
    """META-1: contexts belong to the coins of the universe by position; the REST book has the form of the frame."""
    ctxs = parse.parse_asset_ctxs(body(shared_data, "go_sdk/metaAndAssetCtxs_dex-xyz_mainnet_06Feb2026.json"))
    assert ctxs["xyz:XYZ100"].oracle_px == Decimal("24657.0")
    assert "xyz:SNDK" in ctxs
    book = parse.parse_book(body(shared_data, "python_sdk/get_l2_snapshot.json"))
    assert book.bids[0].px < book.asks[0].px


def test_recorded_account_facts(shared_data: Path) -> None:
    """META-1, KEY-3: fees, budget, role, agents and the venue's clock."""
    mock = json.loads(body(shared_data, "gct_mock_20261006.json"))["responses"]
    by_request = {(r["request"]["type"], r["request"].get("user")): r["body"] for r in mock}
    assert parse.parse_fees(by_request["userFees", "<user>"]) == parse.UserFees(Decimal("0.000315"), Decimal("0.000105"))
    owner = "0x14791697260e4c9a71f18484c9f997b308e59325"
    assert parse.parse_user_role(by_request["userRole", "<agent>"]) == parse.UserRole("agent", owner)
    assert parse.parse_user_role(by_request["userRole", "<sub-account>"]) == parse.UserRole("subAccount", owner)
    assert parse.parse_user_role(b'{"role":"missing"}') == parse.UserRole("missing", None)
    agents = parse.parse_extra_agents(body(shared_data, "python_sdk/extra_agents.json"))
    assert agents[0] == parse.ExtraAgent("ok", "0x286edfa08c04f6899dab3bfdecf2dd133f9733b9", 1767776120478)
    assert parse.parse_extra_agents([{"name": "n", "address": "0xAB", "validUntil": None}])[0].valid_until_ms is None
    behaviour = json.loads(body(shared_data, "error_and_status_behaviour.json"))
    limits = [parse.parse_rate_limit(e["body"]) for e in behaviour[4:5]]
    assert limits == [parse.RateLimit(Decimal("168.41"), 147, 10168, 0)]
    assert limits[0].remaining == 10021
    assert parse.parse_exchange_status(behaviour[3]["body"]) == parse.ExchangeStatus(1787195273903, None)


READERS: list[Callable[[object], object]] = [
    parse.parse_book,
    parse.parse_open_orders,
    parse.parse_order_status,
    parse.parse_user_fills,
    lambda found: parse.parse_account_state("xyz", found),
    parse.parse_asset_ctxs,
    parse.parse_fees,
    parse.parse_rate_limit,
    parse.parse_user_role,
    parse.parse_extra_agents,
    parse.parse_exchange_status,
]


@pytest.mark.parametrize("answer", [None, "text", 7, {"error": "x"}, b"null", b"", b"<html>", [{}], {"status": "order"}])
@pytest.mark.parametrize("reader", READERS)
def test_failed_answers_are_never_empty(reader: Callable[[object], object], answer: object) -> None:
    """META-1: null, an error text or a foreign shape raises; it never reads as "nothing there"."""
    with pytest.raises(WireError, match="answer to"):
        reader(answer)


@pytest.mark.parametrize("reader", READERS)
@given(answer=json_values)
def test_any_answer_is_read_or_a_wire_error(reader: Callable[[object], object], answer: object) -> None:
    """META-1: fuzz: decoded rubbish raises WireError and nothing else."""
    with contextlib.suppress(WireError):
        reader(answer)


def test_contexts_that_do_not_fit_the_universe() -> None:
    """META-1: one context too few would give every later coin the price of its neighbour."""
    with pytest.raises(WireError, match="do not belong together"):
        parse.parse_asset_ctxs([{"universe": [{"name": "A"}, {"name": "B"}]}, [{"markPx": "1"}]])
