"""Markets by name, and what they cost."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from hip3.core.ids import MarketKey, MarketSpec
from hip3.venue.hyperliquid.errors import MetadataError
from hip3.venue.hyperliquid.fees import taker_rate
from hip3.venue.hyperliquid.metadata import require_market, resolve_markets

DEXS: list[Any] = [None, {"name": "xyz", "deployerFeeScale": "1.0"}, {"name": "flx"}]


def universe(*names: str, **flags: Any) -> dict[str, Any]:
    """A `meta` answer with the given coins."""
    markets = [{"name": name, "szDecimals": 3, "maxLeverage": 10, **flags} for name in names]
    return {"universe": markets, "collateralToken": 0}


def recorded(shared_data: Path) -> tuple[Any, dict[str, Any]]:
    """perpDexs and the metas of the main dex and of xyz, as recorded on mainnet."""
    go = shared_data / "info" / "go_sdk"
    dexs = json.loads((go / "perpDexs_mainnet_13Dec2025.json").read_text())
    xyz = json.loads((go / "metaAndAssetCtxs_dex-xyz_mainnet_06Feb2026.json").read_text())[0]
    main = json.loads((go / "meta_mainnet_22Aug2025.json").read_text())
    return dexs, {"": main, "xyz": xyz}


def test_sndk_resolves_to_110016(shared_data: Path) -> None:
    """META-2: on the recorded mainnet answers xyz:SNDK is asset 110016, not its alphabetical position."""
    specs = resolve_markets(*recorded(shared_data))
    spec = require_market(specs, "xyz:SNDK", 110016)
    assert spec == MarketSpec(
        key=MarketKey("xyz", "xyz:SNDK"),
        asset_id=110016,
        sz_decimals=3,
        max_leverage=10,
        margin_mode=spec.margin_mode,
        fee_scale=Decimal("1.0"),
        growth_mode=True,
    )
    assert [specs[c].asset_id for c in ("xyz:XYZ100", "xyz:BABA", "BTC", "ETH")] == [110000, 110028, 0, 1]


def test_bytes_and_decoded_json_resolve_alike(shared_data: Path) -> None:
    """META-2: the answers may come as bytes of HTTP or as decoded JSON."""
    dexs, metas = recorded(shared_data)
    raw = {name: json.dumps(body).encode() for name, body in metas.items()}
    assert resolve_markets(json.dumps(dexs).encode(), raw) == resolve_markets(dexs, metas)


def test_wrong_asset_idx_refuses(shared_data: Path) -> None:
    """META-3: a configured index that disagrees refuses and prints both."""
    specs = resolve_markets(*recorded(shared_data))
    with pytest.raises(MetadataError, match=r"asset_idx 28\b.*110016"):
        require_market(specs, "xyz:SNDK", 28)


def test_per_asset_flags_of_september_2026(shared_data: Path) -> None:
    """META-2: the newest universe fields are read: own fee scale, growth mode, margin mode, absent flags."""
    meta = json.loads((shared_data / "info" / "freedom" / "metaAndAssetCtxs_xyz_20260902_first18.json").read_text())
    specs = resolve_markets(DEXS, {"xyz": {**meta["body"][0], "collateralToken": 0}})
    assert specs["xyz:SNDK"].asset_id == 110016
    assert specs["xyz:TSLA"].fee_scale == Decimal("1.0")
    assert (specs["xyz:TSLA"].growth_mode, specs["xyz:GOLD"].growth_mode) == (True, False)
    assert (specs["xyz:TSLA"].margin_mode, specs["xyz:HOOD"].margin_mode) == ("cross", "noCross")


def test_delisted_keeps_its_slot() -> None:
    """META-2: a delisted coin counts when the others are numbered, and is refused for trading."""
    meta = universe("xyz:A", "xyz:B", "xyz:C")
    meta["universe"][1]["isDelisted"] = True
    specs = resolve_markets(DEXS, {"xyz": meta})
    assert specs["xyz:C"].asset_id == 110002
    with pytest.raises(MetadataError, match="delisted"):
        require_market(specs, "xyz:B")


def test_recorded_delisted_hole(shared_data: Path) -> None:
    """META-2: so it is in the recorded main dex, where MATIC is delisted and those after it keep their ids."""
    specs = resolve_markets(*recorded(shared_data))
    main = [s for s in specs.values() if s.key.dex == ""]
    assert any(s.delisted for s in main)
    assert sorted(s.asset_id for s in main) == list(range(len(main)))


def test_dex_index_counts_the_null() -> None:
    """META-2: the second builder dex starts at 120000."""
    assert resolve_markets(DEXS, {"flx": universe("flx:A")})["flx:A"].asset_id == 120000
    with pytest.raises(MetadataError, match="begin with null"):
        resolve_markets(DEXS[1:], {"xyz": universe("xyz:A")})
    with pytest.raises(MetadataError, match="begin with null"):
        resolve_markets([], {})


def test_non_usdc_collateral_refuses(shared_data: Path) -> None:
    """META-3: a dex that settles in another token, or does not say in which, is not traded."""
    other = {**universe("flx:A"), "collateralToken": 360}
    with pytest.raises(MetadataError, match="token 360"):
        require_market(resolve_markets(DEXS, {"flx": other}), "flx:A")
    silent = {"universe": universe("flx:A")["universe"]}
    with pytest.raises(MetadataError, match="does not say"):
        require_market(resolve_markets(DEXS, {"flx": silent}), "flx:A")


def test_missing_market_suggests_near_names() -> None:
    """META-3: a coin that is not there refuses and names the likely ones."""
    specs = resolve_markets(DEXS, {"xyz": universe("xyz:SNDK", "xyz:GOLD")})
    with pytest.raises(MetadataError, match="did you mean xyz:SNDK"):
        require_market(specs, "SNDK")
    with pytest.raises(MetadataError, match="check the spelling"):
        require_market(specs, "xyz:QQQQQQ")


def test_contradictory_answers_refuse() -> None:
    """META-2: an unlisted dex, a coin of another dex and two live markets of one name are no basis for an id."""
    with pytest.raises(MetadataError, match="'abc' is not listed"):
        resolve_markets(DEXS, {"abc": universe("abc:A")})
    with pytest.raises(MetadataError, match="'flx:A' at index 0"):
        resolve_markets(DEXS, {"xyz": universe("flx:A")})
    with pytest.raises(MetadataError, match="listed twice"):
        resolve_markets(DEXS, {"xyz": universe("xyz:A", "xyz:A")})


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_relisted_name_is_the_live_one(order: tuple[bool, bool]) -> None:
    """META-2: where a delisted and a live market share a name, the live one is meant."""
    meta = universe("xyz:A", "xyz:A")
    for market, delisted in zip(meta["universe"], order, strict=True):
        market["isDelisted"] = delisted
    assert require_market(resolve_markets(DEXS, {"xyz": meta}), "xyz:A").asset_id == 110000 + order.index(False)


@pytest.mark.parametrize("body", [None, "", [], {"universe": [{"name": "xyz:A"}]}, b"null", b"{", {"universe": 3}])
def test_unreadable_meta_is_an_error(body: object) -> None:
    """META-1: a failed query is an error with its place, never an empty list of markets."""
    with pytest.raises(MetadataError, match="meta of dex 'xyz'"):
        resolve_markets(DEXS, {"xyz": body})


@pytest.mark.parametrize(
    ("scale", "growth", "expected"),
    [
        ("1.0", False, "0.0009"),
        ("1.0", True, "0.00009"),
        ("0.5", False, "0.000675"),
        ("0", False, "0.00045"),
        ("0.999", False, "0.00089955"),
        ("3", False, "0.0027"),
        ("3", True, "0.00027"),
    ],
)
def test_taker_rate(scale: str, growth: bool, expected: str) -> None:
    """DET-2: the HIP-3 formula of PROTOCOL 9 with its examples: 9 bp at scale 1, 0.9 bp in growth mode."""
    spec = MarketSpec(
        key=MarketKey.parse("xyz:SNDK"),
        asset_id=110016,
        sz_decimals=3,
        max_leverage=10,
        fee_scale=Decimal(scale),
        growth_mode=growth,
    )
    assert taker_rate(Decimal("0.00045"), spec) == Decimal(expected)


def test_taker_rate_of_the_main_dex_and_of_the_unknown() -> None:
    """DET-2: the main dex pays the base rate; an unknown scale is an error, so that the fallback is a choice."""
    spec = MarketSpec(key=MarketKey.parse("BTC"), asset_id=0, sz_decimals=5, max_leverage=40)
    assert taker_rate(Decimal("0.00045"), spec) == Decimal("0.00045")
    with pytest.raises(MetadataError, match="no deployer fee scale"):
        taker_rate(Decimal("0.00045"), evolve(spec, key=MarketKey.parse("xyz:A")))
