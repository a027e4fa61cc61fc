"""Replay: the recorded quotes come back, in order and in time, and what stands for the oracle is said."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from hip3.core.events import Level
from hip3.core.ids import OrderSide
from hip3.core.market import Reference
from hip3.exchange.models.replay import open_replay
from hip3.exchange.recording import Recording, RecordingError
from hip3.exchange.seam import BookChange, CtxChange, MarketListing, MarketSource, Print

BTC = "btc_bbo_mark_2h_20260510.jsonl.gz"


def written(path: Path, frames: Sequence[tuple[int, dict[str, object]]]) -> Path:
    path.write_text("".join(json.dumps({"recv_ms": at, "frame": frame}) + "\n" for at, frame in frames))
    return path


def bbo(coin: str, bid: tuple[str, str] | None, ask: tuple[str, str] | None) -> dict[str, object]:
    sides = [None if side is None else {"px": side[0], "sz": side[1], "n": 1} for side in (bid, ask)]
    return {"channel": "bbo", "data": {"coin": coin, "time": 1, "bbo": sides}}


def l2(coin: str, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> dict[str, object]:
    levels = [[{"px": px, "sz": sz, "n": 1} for px, sz in side] for side in (bids, asks)]
    return {"channel": "l2Book", "data": {"coin": coin, "time": 1, "levels": levels}}


def ctx(coin: str, oracle: str, mark: str = "1") -> dict[str, object]:
    inner = {"funding": "0.00000625", "openInterest": "7", "prevDayPx": "1", "dayNtlVlm": "1", "oraclePx": oracle}
    return {"channel": "activeAssetCtx", "data": {"coin": coin, "ctx": {**inner, "markPx": mark, "midPx": oracle}}}


def listing(source: MarketSource, coin: str) -> MarketListing:
    return next(m for dex in source.listings() for m in dex.universe if m.coin == coin)


def test_models_replay_gives_the_recorded_quotes(shared_data: Path) -> None:
    """SIM-3: replay yields the recorded BBO sequence, level for level, at the recorded distances in time."""
    path = shared_data / "recordings" / BTC
    recorded = []
    start_ms = None
    for frame in Recording(path).frames():
        start_ms = frame.recv_ms if start_ms is None else start_ms
        message = json.loads(frame.raw)
        if message["channel"] == "bbo":
            sides = [Level(Decimal(side["px"]), Decimal(side["sz"])) for side in message["data"]["bbo"]]
            recorded.append((frame.recv_ms - start_ms, (sides[0],), (sides[1],)))
    source = open_replay(path, reference=Reference.MARK)
    replayed = [(at_ms, e.bids, e.asks) for at_ms, e in source.events() if isinstance(e, BookChange)]
    assert len(replayed) == 33752
    assert replayed == recorded


def test_models_replay_mark_stands_for_the_oracle_and_says_so(shared_data: Path) -> None:
    """LESSONS 3: a recording without an oracle is replayed only with a stated stand-in, which the notes name."""
    path = shared_data / "recordings" / BTC
    with pytest.raises(RecordingError, match="no oracle price for BTC; choose another reference"):
        open_replay(path)
    source = open_replay(path, reference=Reference.MARK, speed=10)
    contexts = [(at_ms, e) for at_ms, e in source.events() if isinstance(e, CtxChange)]
    assert len(contexts) == 8012
    assert all(e.oracle_px == e.mark_px for _, e in contexts)
    assert contexts[-1][0] <= 720_000
    assert source.notes == (f"replay of {BTC} at 10 times its speed", "the recorded mark stands for the oracle")
    assert (listing(source, "BTC").sz_decimals, listing(source, "BTC").oracle_px) == (5, contexts[0][1].oracle_px)


def test_models_replay_depth_and_prints(shared_data: Path) -> None:
    """SIM-3: l2Book gives 20 levels, trades give prints, and the mid may stand for the oracle every 3 s."""
    path = shared_data / "recordings" / "eth_l2_trades_23min_20251210.jsonl.gz"
    source = open_replay(path, reference=Reference.MID)
    events = list(source.events())
    books = [e for _, e in events if isinstance(e, BookChange)]
    assert {len(book.bids) for book in books} == {20}
    assert sum(isinstance(e, Print) for _, e in events) == 6385
    oracle_ms = [at_ms for at_ms, e in events if isinstance(e, CtxChange)]
    assert min(b - a for a, b in itertools.pairwise(oracle_ms)) >= 3000
    assert listing(source, "ETH").sz_decimals == 4


def test_models_replay_infers_an_unlisted_market(shared_data: Path) -> None:
    """A market that no capture lists is appended to its dex, with the decimals of its recorded sizes unless given."""
    path = shared_data / "recordings" / "wlfi_l2_trades_9min_20250903.jsonl.gz"
    source = open_replay(path, reference=Reference.MID)
    assert listing(source, "WLFI").sz_decimals == 0
    assert source.listings()[0].universe[-1].coin == "WLFI"
    given = open_replay(path, reference=Reference.MID, sz_decimals={"WLFI": 1})
    assert listing(given, "WLFI").sz_decimals == 1


def test_models_replay_keeps_asset_ids(tmp_path: Path) -> None:
    """SIM-3: a replayed xyz:SNDK keeps its place in the universe; an unknown market goes to the end of its dex."""
    frames = [(1, ctx("xyz:SNDK", "1520")), (2, bbo("xyz:SNDK", ("1519.9", "1"), None))]
    frames += [(3, ctx("xyz:NEW", "5")), (4, bbo("xyz:NEW", ("5", "1.25"), None))]
    frames += [(5, ctx("abc:OIL", "70")), (6, bbo("abc:OIL", None, ("70", "1")))]
    source = open_replay(written(tmp_path / "r.jsonl", frames))
    dexs = source.listings()
    assert [dex.name for dex in dexs] == ["", "xyz", "flx", "abc"]
    assert dexs[1].universe[16].coin == "xyz:SNDK"
    assert (dexs[1].universe[-1].coin, dexs[1].universe[-1].sz_decimals) == ("xyz:NEW", 2)
    assert dexs[3].universe[0].oracle_px == 70


def test_models_replay_bbo_corrects_the_top_of_the_depth(tmp_path: Path) -> None:
    """Where both are recorded, the newer BBO is the top and the last depth lies behind it."""
    frames = [
        (1, ctx("A", "10")),
        (2, l2("A", [("10", "1"), ("9", "2"), ("8", "3")], [("11", "1"), ("12", "2")])),
        (3, bbo("A", ("9", "5"), ("10", "6"))),
        (4, bbo("A", None, ("12", "1"))),
    ]
    source = open_replay(written(tmp_path / "r.jsonl", frames))
    books = [e for _, e in source.events() if isinstance(e, BookChange)]
    pairs = [([(int(x.px), int(x.sz)) for x in b.bids], [(int(x.px), int(x.sz)) for x in b.asks]) for b in books]
    assert pairs == [
        ([(10, 1), (9, 2), (8, 3)], [(11, 1), (12, 2)]),
        ([(9, 5), (8, 3)], [(10, 6), (11, 1), (12, 2)]),
        ([], [(12, 1)]),
    ]


def test_models_replay_time_never_goes_back(tmp_path: Path) -> None:
    """TYP-1: where the recorder's clock stepped back, replay's time stands still instead."""
    frames = [(10, ctx("A", "10")), (30, bbo("A", ("9", "1"), None)), (20, bbo("A", ("9", "2"), None))]
    frames.append((50, bbo("A", ("9", "3"), None)))
    source = open_replay(written(tmp_path / "r.jsonl", frames), speed=2)
    assert [at_ms for at_ms, _ in source.events()] == [0, 10, 10, 20]


def test_models_replay_unreadable_frames_are_counted(tmp_path: Path) -> None:
    """SIM-3: what the parser cannot read is left out, counted and said."""
    frames: list[tuple[int, dict[str, object]]] = [(1, ctx("A", "10")), (2, bbo("A", ("9", "1"), None))]
    frames += [(3, {"channel": "bbo", "data": {"coin": 7}}), (4, {"channel": "trades", "data": [{"coin": "A"}]})]
    source = open_replay(written(tmp_path / "r.jsonl", frames))
    assert [type(e) for _, e in source.events()] == [CtxChange, BookChange]
    assert source.unreadable_frames == 2
    assert "1 frames could not be read" in source.notes
    assert source.on_take("A", OrderSide.SELL, Decimal(9), Decimal(1), 2) == ()


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([(1, {"channel": "pong"})], "nothing to replay"),
        ([(1, bbo("A", ("9", "1"), None))], "no oracle price for A"),
    ],
)
def test_models_replay_refuses_what_cannot_be_replayed(
    tmp_path: Path, frames: list[tuple[int, dict[str, object]]], says: str
) -> None:
    """CFG-2: a recording without quotes or without a reference is refused before anything starts."""
    with pytest.raises(RecordingError, match=says):
        open_replay(written(tmp_path / "r.jsonl", frames))


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_models_replay_speed_must_be_positive(tmp_path: Path, speed: float) -> None:
    """CFG-2: a speed that means nothing is refused with its value."""
    with pytest.raises(ValueError, match="speed"):
        open_replay(tmp_path / "r.jsonl", speed=speed)
