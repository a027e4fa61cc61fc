"""Frames of the venue become events, or a WireError."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
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
    UserFundings,
)
from hip3.core.ids import OrderSide
from hip3.venue.hyperliquid import frames, parse
from hip3.venue.hyperliquid.errors import EXCERPT_CHARS, WireError
from tests.venue.any_json import json_values

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
        "userFundings": UserFundings,
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
