"""The synthetic market's numbers are what the captures say: each is computed again from its source."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hip3.exchange.models import calibration as cal
from hip3.exchange.models.universe import builder_dexs, main_dex

STOCKS = ("xyz:SNDK", "xyz:NVDA", "xyz:TSLA", "xyz:MU", "xyz:AMD")
MODELS = {model.coin: model for model in cal.MARKETS}
BPS = 10_000


def loaded(path: Path) -> Any:
    return json.loads(path.read_text())


def frames(path: Path) -> Iterable[tuple[str, Any]]:
    with gzip.open(path, "rt") as lines:
        for line in lines:
            frame = json.loads(line)["frame"]
            yield frame["channel"], frame["data"]


def contexts(shared_data: Path) -> dict[str, tuple[Any, Any]]:
    """CTX: universe entry and context of each xyz market of 2026-09-02."""
    meta, ctxs = loaded(shared_data / "info" / "freedom" / "metaAndAssetCtxs_xyz_20260902_first18.json")["body"]
    return {entry["name"]: (entry, ctx) for entry, ctx in zip(meta["universe"], ctxs, strict=True)}


def fills(shared_data: Path) -> list[Any]:
    with gzip.open(shared_data / "series" / "hip3_fills_all_wallets.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def log_sd(values: Iterable[float]) -> float:
    """The log-sd of a lognormal with the quartiles of `values` (1.349 is the normal's quartile distance)."""
    lower, _, upper = statistics.quantiles(values, n=4)
    return math.log(upper / lower) / 1.349


def usd(fill: Any) -> float:
    return float(fill["px"]) * float(fill["sz"])


def sigma_bps(points: Iterable[tuple[float, float]]) -> float:
    """Bps per square root of a second, from (seconds, price)."""
    squares = seconds = 0.0
    last = None
    for at_s, px in points:
        if last is not None:
            squares += math.log(px / last[1]) ** 2
            seconds += at_s - last[0]
        last = (at_s, px)
    return math.sqrt(squares / seconds) * BPS


def mids(path: Path, channel: str, every_s: float) -> Iterable[tuple[float, float]]:
    last_s = -math.inf
    for name, data in frames(path):
        if name != channel:
            continue
        bid, ask = data["bbo"] if channel == "bbo" else (data["levels"][0][0], data["levels"][1][0])
        if data["time"] / 1000 - last_s >= every_s:
            last_s = data["time"] / 1000
            yield last_s, (float(bid["px"]) + float(ask["px"])) / 2


def test_models_calibration_update_gap(shared_data: Path) -> None:
    """SIM-3: BBO updates come at the gaps of the two recorded hours of BTC."""
    path = shared_data / "recordings" / "btc_bbo_mark_2h_20260510.jsonl.gz"
    times = [data["time"] for name, data in frames(path) if name == "bbo"]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert statistics.median(gaps) == pytest.approx(cal.UPDATE_GAP_MEDIAN_MS, abs=1)
    assert log_sd(gaps) == pytest.approx(cal.UPDATE_GAP_LOG_SD, abs=0.02)


def test_models_calibration_touch(shared_data: Path) -> None:
    """SIM-3: the touch has the sizes of the captured stock books."""
    books = loaded(shared_data / "info" / "stocks_marketing_20260815.json")["projection"]["books"]
    sizes = [usd(book[side]) for book in books for side in ("best_bid", "best_ask")]
    for line in (shared_data / "ws" / "frames_market.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["channel"] == "bbo" and row["frame"]["data"]["coin"] == "xyz:AAPL":
            sizes += [usd(level) for level in row["frame"]["data"]["bbo"]]
    assert len(sizes) == 10
    assert statistics.median(sizes) == pytest.approx(cal.TOUCH_USD_MEDIAN, rel=0.01)
    assert log_sd(sizes) == pytest.approx(cal.TOUCH_USD_LOG_SD, abs=0.01)


def test_models_calibration_trades_and_levels(shared_data: Path) -> None:
    """SIM-3: trades, inner levels and their distances are those of SNDK's captured sweeps."""
    taker = [fill for fill in fills(shared_data) if fill["crossed"] and fill["coin"] == "xyz:SNDK"]
    sizes = [usd(fill) for fill in taker]
    assert statistics.median(sizes) == pytest.approx(cal.TRADE_USD_MEDIAN, rel=0.01)
    assert log_sd(sizes) == pytest.approx(cal.TRADE_USD_LOG_SD, abs=0.02)
    sweeps: dict[tuple[Any, ...], dict[float, float]] = defaultdict(lambda: defaultdict(float))
    for fill in taker:
        sweeps[fill["wallet"], fill["oid"], fill["time_ms"]][float(fill["px"])] += float(fill["sz"])
    inner, gaps = [], []
    for sweep in sweeps.values():
        prices = sorted(sweep)
        inner += [px * sweep[px] for px in prices[1:-1]]
        gaps += [(b / a - 1) * BPS for a, b in itertools.pairwise(prices)]
    assert statistics.median(inner) == pytest.approx(cal.LEVEL_USD_MEDIAN, rel=0.02)
    assert log_sd(inner) == pytest.approx(cal.LEVEL_USD_LOG_SD, abs=0.02)
    assert statistics.mean(gaps) == pytest.approx(cal.LEVEL_GAP_BPS, abs=0.01)


def test_models_calibration_premium_and_funding(shared_data: Path) -> None:
    """SIM-3: premium and funding are those of 48 hours of xyz:NVDA."""
    hours = loaded(shared_data / "info" / "freedom" / "fundingHistory_xyzNVDA_20260826_28.json")
    premiums = [float(hour["premium"]) * BPS for hour in hours]
    mean = statistics.mean(premiums)
    assert mean == pytest.approx(cal.PREMIUM_MEAN_BPS, abs=0.05)
    assert statistics.stdev(premiums) == pytest.approx(cal.PREMIUM_SD_BPS, abs=0.05)
    pairs = itertools.pairwise(premiums)
    correlation = statistics.mean((a - mean) * (b - mean) for a, b in pairs) / statistics.pvariance(premiums)
    assert 3600 / -math.log(correlation) == pytest.approx(cal.PREMIUM_MEMORY_S, rel=0.01)
    for hour in hours:
        premium = float(hour["premium"])
        clamped = min(max(cal.FUNDING_INTEREST - premium, -cal.FUNDING_CLAMP), cal.FUNDING_CLAMP)
        assert float(hour["fundingRate"]) == pytest.approx(cal.FUNDING_MULTIPLIER / 8 * (premium + clamped), abs=1e-10)


@pytest.mark.parametrize("coin", STOCKS)
def test_models_calibration_of_a_stock(shared_data: Path, coin: str) -> None:
    """SIM-3: diffusion, spread, open interest, rate of trades and listing of each stock are the captured ones."""
    model = MODELS[coin]
    entry, ctx = contexts(shared_data)[coin]
    bid, ask = (float(px) for px in ctx["impactPxs"])
    assert (ask - bid) / float(ctx["oraclePx"]) * BPS / 2 == pytest.approx(model.half_spread_bps, abs=0.01)
    assert float(ctx["openInterest"]) == pytest.approx(model.open_interest)
    daily = loaded(shared_data / "series" / "hip3_oi_px_daily_snapshots_202608.json")["coins"][coin]
    assert sigma_bps(zip(daily["t"], daily["px"], strict=True)) == pytest.approx(model.sigma_bps, abs=0.01)
    sized_as = coin if coin in {"xyz:SNDK", "xyz:MU", "xyz:NVDA"} else "xyz:NVDA"
    mean_usd = statistics.mean(usd(f) for f in fills(shared_data) if f["crossed"] and f["coin"] == sized_as)
    assert float(ctx["dayNtlVlm"]) / 86_400 / mean_usd == pytest.approx(model.trades_per_s, rel=0.05)
    listing = next(m for m in builder_dexs()[0].universe if m.coin == coin)
    assert (listing.sz_decimals, listing.max_leverage) == (entry["szDecimals"], entry["maxLeverage"])
    assert str(listing.oracle_px) == ctx["oraclePx"]
    assert listing.growth_mode is (entry.get("growthMode") == "enabled")
    assert listing.margin_mode == entry.get("marginMode", "cross")


def test_models_calibration_of_the_main_dex(shared_data: Path) -> None:
    """SIM-3: BTC and ETH diffuse as in their recordings; spreads are those of one captured instant."""
    recordings = shared_data / "recordings"
    btc = sigma_bps(mids(recordings / "btc_bbo_mark_2h_20260510.jsonl.gz", "bbo", 3))
    eth = sigma_bps(mids(recordings / "eth_l2_trades_23min_20251210.jsonl.gz", "l2Book", 3))
    assert btc == pytest.approx(MODELS["BTC"].sigma_bps, abs=0.01)
    assert eth == pytest.approx(MODELS["ETH"].sigma_bps, abs=0.01)
    with (shared_data / "series" / "hl_spreads_slippage_snapshot_20260717.csv").open() as file:
        spreads = {row["symbol"]: float(row["spread_bps"]) for row in csv.DictReader(file)}
    for coin in ("BTC", "ETH", "SOL"):
        assert spreads[coin] / 2 == pytest.approx(MODELS[coin].half_spread_bps, abs=0.01)


def test_models_universe_is_mainnets(shared_data: Path) -> None:
    """SIM-3: names stand where mainnet has them, on both dexs, up to the end of our list."""
    go_sdk = shared_data / "info" / "go_sdk"
    main = loaded(go_sdk / "meta_mainnet_22Aug2025.json")["universe"]
    xyz = loaded(go_sdk / "metaAndAssetCtxs_dex-xyz_mainnet_06Feb2026.json")[0]["universe"]
    for listed, captured in ((main_dex().universe, main), (builder_dexs()[0].universe, xyz)):
        for ours, theirs in zip(listed, captured, strict=False):
            assert ours.coin == theirs["name"]
            assert ours.sz_decimals == theirs["szDecimals"]
            assert ours.delisted is bool(theirs.get("isDelisted"))
