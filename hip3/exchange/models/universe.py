"""The universe that the synthetic market lists: mainnet's order, decoys and delisted slots included.

Asset ids count positions (PROTOCOL 1.2), so the order is the point: xyz:SNDK is the 16th of dex 1 and therefore
110016. Rows are from metaAndAssetCtxs captures: the main dex of 2025-08-22 (a delisted MATIC at 3), xyz of 2026-09-02 up
to index 17 and of 2026-02-06 beyond (COST, LLY and SKHX delisted), flx by name from perpDexs of 2025-12-13. Only the
markets of `calibration.MARKETS` are quoted; the others stand in the list with an empty book.
"""

from __future__ import annotations

from decimal import Decimal

from hip3.exchange.seam import DexListing, MarketListing

# name, szDecimals, maxLeverage, oracle, delisted
_MAIN = (
    ("BTC", 5, 40, "113106.0", False),
    ("ETH", 4, 25, "4302.9", False),
    ("ATOM", 2, 5, "4.416", False),
    ("MATIC", 1, 20, "0.3754", True),
    ("DYDX", 1, 5, "0.63465", False),
    ("SOL", 2, 20, "183.42", False),
    ("AVAX", 2, 10, "22.951", False),
    ("BNB", 3, 10, "851.0", False),
)
# name, szDecimals, maxLeverage, oracle, growth mode, margin mode
_XYZ = (
    ("XYZ100", 4, 30, "28923.0", True, "cross"),
    ("TSLA", 3, 20, "355.33", True, "cross"),
    ("NVDA", 3, 20, "216.74", True, "cross"),
    ("GOLD", 4, 25, "4308.3", False, "cross"),
    ("HOOD", 3, 10, "102.13", True, "noCross"),
    ("INTC", 2, 10, "87.583", True, "noCross"),
    ("PLTR", 3, 10, "177.11", True, "noCross"),
    ("COIN", 3, 10, "173.82", True, "noCross"),
    ("META", 3, 20, "574.75", True, "cross"),
    ("AAPL", 3, 20, "324.67", True, "cross"),
    ("MSFT", 3, 20, "496.27", True, "cross"),
    ("ORCL", 3, 10, "139.2", True, "noCross"),
    ("GOOGL", 3, 20, "336.5", True, "cross"),
    ("AMZN", 3, 20, "253.29", True, "cross"),
    ("AMD", 3, 10, "453.63", True, "noCross"),
    ("MU", 3, 10, "919.72", True, "cross"),
    ("SNDK", 3, 10, "1520.0", True, "cross"),
    ("MSTR", 3, 10, "122.47", False, "noCross"),
    ("CRCL", 3, 10, "52.41", True, "strictIsolated"),
    ("NFLX", 3, 10, "80.876", True, "strictIsolated"),
    ("COST", 4, 20, "987.91", True, "strictIsolated"),
    ("LLY", 4, 10, "1058.2", True, "strictIsolated"),
    ("SKHX", 3, 10, "370.0", True, "strictIsolated"),
    ("TSM", 3, 10, "336.62", True, "strictIsolated"),
    ("JPY", 2, 50, "157.1", True, "strictIsolated"),
    ("EUR", 1, 50, "1.179", True, "strictIsolated"),
    ("SILVER", 2, 20, "74.599", True, "noCross"),
    ("RIVN", 2, 10, "13.875", True, "strictIsolated"),
    ("BABA", 3, 10, "160.45", True, "strictIsolated"),
)
_XYZ_DELISTED = frozenset({"COST", "LLY", "SKHX"})
# The same stock on another dex, to be told from xyz's by its prefix only. Oracle: xyz's; decimals and leverage likewise.
_FLX = (("TSLA", 3, 10, "355.33"), ("COIN", 3, 10, "173.82"))


def main_dex() -> DexListing:
    """The venue's own dex, with the first eight of its universe."""
    return DexListing(
        name="",
        universe=tuple(
            MarketListing(coin=name, sz_decimals=decimals, max_leverage=leverage, oracle_px=Decimal(px), delisted=gone)
            for name, decimals, leverage, px, gone in _MAIN
        ),
    )


def builder_dexs() -> tuple[DexListing, ...]:
    """xyz and flx in deployment order."""
    xyz = tuple(
        MarketListing(
            coin=f"xyz:{name}",
            sz_decimals=decimals,
            max_leverage=leverage,
            oracle_px=Decimal(px),
            growth_mode=growth,
            margin_mode=margin,
            fee_scale=Decimal(1),
            delisted=name in _XYZ_DELISTED,
        )
        for name, decimals, leverage, px, growth, margin in _XYZ
    )
    flx = tuple(
        MarketListing(
            coin=f"flx:{name}", sz_decimals=decimals, max_leverage=leverage, oracle_px=Decimal(px), fee_scale=Decimal(1)
        )
        for name, decimals, leverage, px in _FLX
    )
    return (
        DexListing(name="xyz", full_name="XYZ", universe=xyz),
        DexListing(name="flx", full_name="Felix Exchange", universe=flx),
    )
