"""Which market is which: asset ids and market facts out of `perpDexs` and `meta` (PROTOCOL 1.2, 1.3; META-2, META-3).

An asset id is a position: of the dex in `perpDexs` (its leading null included) and of the coin in `meta.universe` (delisted
coins keep their slot). The lists inside `perpDexs` are alphabetical and are never used for it; doing so has sent real
orders to another stock. Ids move when markets are listed, so they are resolved by name at every start.

Refused: answers whose form would make an id a guess, and trading a coin that is missing, delisted, not collateralised in
USDC or not at the index that the configuration expects.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from decimal import Decimal
from typing import TypeVar

from msgspec import Struct

from hip3.core.ids import MarketKey, MarketSpec
from hip3.venue.hyperliquid.errors import MetadataError, excerpt
from hip3.venue.hyperliquid.wire import UNREADABLE, Count, number, read

T = TypeVar("T")

BUILDER_DEX_BASE = 100_000
BUILDER_DEX_STEP = 10_000
"""Asset id of a builder dex: `100000 + dex_index*10000 + index_in_meta` (PROTOCOL 1.2)."""

SPOT_BASE = 10_000
"""Asset id of a spot pair: `10000 + index` (PROTOCOL 1.2)."""

USDC = 0
"""Spot token index of USDC (PROTOCOL 1.3)."""
UNKNOWN_COLLATERAL = -1
"""A builder dex whose `meta` does not say; nothing trades on a guess about money."""


class _Dex(Struct, gc=False, rename="camel"):
    name: str
    deployer_fee_scale: Decimal | None = None
    asset_to_streaming_oi_cap: list[tuple[str, Decimal]] = []


class _Market(Struct, gc=False, rename="camel"):
    """One entry of `universe`; flags are absent rather than false."""

    name: str
    sz_decimals: Count
    max_leverage: Count
    is_delisted: bool = False
    margin_mode: str = "cross"
    growth_mode: str | None = None
    deployer_fee_scale: Decimal | None = None


class _Meta(Struct, gc=False, rename="camel"):
    universe: list[_Market]
    collateral_token: Count | None = None


def resolve_markets(perp_dexs: object, metas: Mapping[str, object]) -> dict[str, MarketSpec]:
    """Every market of the dexs in `metas`, by coin name, delisted ones included.

    `perp_dexs` is the answer to `perpDexs`, `metas` the answer to `meta` by dex name (`""` is the main dex), both as
    decoded JSON or as bytes. Raises MetadataError for an answer that cannot be read, a dex that the venue does not list,
    a coin without its dex prefix, and two live markets of one name.
    """
    dexs = _read("perpDexs", perp_dexs, list[_Dex | None])
    if not dexs or dexs[0] is not None:
        raise MetadataError(
            "perpDexs must begin with null (the main dex), or every asset id would be off by 10000; "
            f"found {excerpt(dexs[0].name if dexs and dexs[0] else dexs)} first"
        )
    indices = {dex.name: (index, dex) for index, dex in enumerate(dexs) if dex is not None}
    specs: dict[str, MarketSpec] = {}
    for name, body in metas.items():
        meta = _read(f"meta of dex {name!r}", body, _Meta)
        if name == "":
            _add(specs, name, meta, base=0, dex_scale=None)
        elif name in indices:
            index, dex = indices[name]
            base = BUILDER_DEX_BASE + index * BUILDER_DEX_STEP
            _add(specs, name, meta, base=base, dex_scale=dex.deployer_fee_scale)
        else:
            raise MetadataError(f"dex {name!r} is not listed by the venue; it lists {', '.join(indices) or 'none'}")
    return specs


def dex_names(perp_dexs: object) -> tuple[str, ...]:
    """Every dex of the answer to `perpDexs`, the main one (`""`) first. Raises MetadataError for an answer without it."""
    dexs = _read("perpDexs", perp_dexs, list[_Dex | None])
    if not dexs or dexs[0] is not None:
        raise MetadataError(f"perpDexs must begin with null (the main dex); found {excerpt(perp_dexs)}")
    return ("", *(dex.name for dex in dexs if dex is not None))


class _SpotPair(Struct, gc=False):
    name: str
    index: Count


class _SpotMeta(Struct, gc=False):
    universe: list[_SpotPair]


def is_spot(coin: str) -> bool:
    """True for the name of a spot pair: `PURR/USDC` or `@107` (PROTOCOL 1.2)."""
    return coin.startswith("@") or "/" in coin


def spot_asset_ids(spot_meta: object) -> dict[str, int]:
    """Asset id of every spot pair by name, `10000 + index` (PROTOCOL 1.2). Raises MetadataError for an unreadable answer."""
    return {pair.name: SPOT_BASE + pair.index for pair in _read("spotMeta", spot_meta, _SpotMeta).universe}


def open_interest_caps(perp_dexs: object) -> dict[str, Decimal]:
    """The venue's cap of the open interest in USD by coin, out of the answer to `perpDexs`; a coin without one is absent.

    By name, for the list is alphabetical (PROTOCOL 1.2). Raises MetadataError for an answer that cannot be read.
    """
    dexs = _read("perpDexs", perp_dexs, list[_Dex | None])
    try:
        return {coin: number(cap) for dex in dexs if dex for coin, cap in dex.asset_to_streaming_oi_cap}
    except ValueError as e:
        raise MetadataError(f"open-interest caps in perpDexs: {e}") from None


def _add(specs: dict[str, MarketSpec], dex: str, meta: _Meta, *, base: int, dex_scale: Decimal | None) -> None:
    default_collateral = USDC if dex == "" else UNKNOWN_COLLATERAL
    collateral = default_collateral if meta.collateral_token is None else meta.collateral_token
    if len(meta.universe) > BUILDER_DEX_STEP:
        raise MetadataError(f"dex {dex!r} has {len(meta.universe)} markets; asset ids leave room for {BUILDER_DEX_STEP}")
    for index, market in enumerate(meta.universe):
        key = MarketKey.parse(market.name)
        if key.dex != dex:
            raise MetadataError(f"meta of dex {dex!r} holds {market.name!r} at index {index}, which is not of that dex")
        # The scale moved from the dex to the asset in August 2026; the asset's own wins where both are there.
        scale = market.deployer_fee_scale if market.deployer_fee_scale is not None else dex_scale
        spec = MarketSpec(
            key=key,
            asset_id=base + index,
            sz_decimals=market.sz_decimals,
            max_leverage=market.max_leverage,
            margin_mode=market.margin_mode,
            fee_scale=_scale(market.name, scale),
            growth_mode=market.growth_mode == "enabled",
            delisted=market.is_delisted,
            collateral_token=collateral,
        )
        known = specs.get(market.name)
        if known is not None and not (known.delisted or spec.delisted):
            raise MetadataError(f"{market.name} is listed twice, as assets {known.asset_id} and {spec.asset_id}")
        if known is None or known.delisted:
            specs[market.name] = spec


def _scale(coin: str, scale: Decimal | None) -> Decimal | None:
    try:
        return None if scale is None else number(scale)
    except ValueError as e:
        raise MetadataError(f"fee scale of {coin}: {e}") from None


def require_market(specs: Mapping[str, MarketSpec], coin: str, asset_idx: int | None = None) -> MarketSpec:
    """The market to trade under the name `coin`.

    Raises MetadataError where it is missing (near names are suggested), delisted or not collateralised in USDC, and where
    `asset_idx`, the configuration's cross-check, is not its asset id (META-3).
    """
    spec = specs.get(coin)
    if spec is None:
        raise MetadataError(f"the venue lists no market {coin!r}{_suggest(specs, coin)}")
    if asset_idx is not None and asset_idx != spec.asset_id:
        raise MetadataError(
            f"{coin}: the configuration says asset_idx {asset_idx}, the venue's metadata resolves to {spec.asset_id}; "
            "correct asset_idx or remove it"
        )
    if spec.delisted:
        both = "is delisted or halted (the venue shows both alike)"
        raise MetadataError(f"{coin} (asset {spec.asset_id}) {both}; remove it from the markets")
    if spec.collateral_token != USDC:
        found = "does not say" if spec.collateral_token == UNKNOWN_COLLATERAL else f"is token {spec.collateral_token}"
        raise MetadataError(f"{coin}: collateral must be USDC (token {USDC}), the venue {found}; remove the market")
    return spec


def _suggest(specs: Mapping[str, MarketSpec], coin: str) -> str:
    bare = {name.rpartition(":")[2].lower(): name for name in specs}
    wanted = coin.rpartition(":")[2].lower()
    near = [bare[match] for match in difflib.get_close_matches(wanted, bare, n=3)]
    return f"; did you mean {' or '.join(near)}?" if near else "; check the spelling and the dex prefix"


def _read(where: str, body: object, kind: type[T]) -> T:
    try:
        return read(body, kind)
    except UNREADABLE as e:
        raise MetadataError(f"{where} cannot be read: {e}; found {excerpt(body)}") from None
