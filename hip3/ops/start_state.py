"""What prices and the account say at the start: is each market what its name says, what is held (META-1, META-3).

Contexts come by position and mids by name, so that the two together show an id that belongs to another market (LESSONS 21:
verify name, decimals and price). Refused: a market without a mark or a reference, and one whose two prices are apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from hip3.core.events import AccountState, AssetCtx, OrderUpdate
from hip3.core.ids import MarketSpec
from hip3.core.market import Reference, reference_of
from hip3.venue.hyperliquid.errors import MetadataError

MOST_APART = Decimal("0.1")
"""Between the mid of the context and that of the name, as a share of the latter. Ours: both are of the same book within
seconds, and neighbours in a listing are rarely this near."""


def check_listing(specs: Mapping[str, MarketSpec], again: Mapping[str, MarketSpec]) -> None:
    """Raises MetadataError where the second reading of a listing, the one with prices, has another id or other decimals."""
    for coin, spec in specs.items():
        other = again.get(coin)
        if other is None or (other.asset_id, other.sz_decimals) != (spec.asset_id, spec.sz_decimals):
            found = "nothing" if other is None else f"asset {other.asset_id} with {other.sz_decimals} size decimals"
            raise MetadataError(
                f"{coin}: `meta` says asset {spec.asset_id} with {spec.sz_decimals} size decimals, `metaAndAssetCtxs` says "
                f"{found}; the listing is changing, start again in a minute"
            )


def check_prices(
    specs: Mapping[str, MarketSpec], ctxs: Mapping[str, AssetCtx], mids: Mapping[str, Decimal], reference: Reference
) -> Iterator[str]:
    """Warnings about the prices of the markets to trade, which are in USD.

    Raises MetadataError for a market without a mark or a reference (halted, or not open yet), and for one whose mid at its
    place in the listing is not that of its name.
    """
    for coin in specs:
        ctx = ctxs.get(coin)
        named = {"mark": ctx.mark_px if ctx else None, reference.value: reference_of(ctx, reference) if ctx else None}
        missing = [name for name, px in named.items() if px is None or px <= 0]
        # A mid needs a book: that a quiet one has none is told below, and entries wait for a quote anyhow.
        if missing and missing != [Reference.MID.value]:
            raise MetadataError(
                f"{coin}: the venue states no {' and no '.join(missing)} price; it is halted or not open yet: remove it "
                "from the markets, or start when it trades"
            )
        mid, named_mid = ctx.mid_px if ctx else None, mids.get(coin)
        if mid is None:
            yield f"{coin} has no quotes on both sides at the start: quiet or halted; entries wait for them"
        elif named_mid is None:
            raise MetadataError(f"{coin}: its context has a mid of {mid:f} and `allMids` has none of that name; start again")
        elif abs(mid - named_mid) > MOST_APART * named_mid:
            raise MetadataError(
                f"{coin}: the mid at its place in the listing is {mid:f}, that of its name is {named_mid:f}: the id may be "
                "another market's; nothing is traded on it. Start again; if it stays, remove the market"
            )


def account_warnings(states: Sequence[AccountState], orders: Sequence[OrderUpdate]) -> Iterator[str]:
    """What an operator should know of the account before it trades: positions, resting orders, a dex without collateral."""
    for state in states:
        dex = state.dex or "the main dex"
        if not state.account_value and not state.withdrawable:
            yield f"no collateral on {dex}: orders there would be refused (a unified account shows none here)"
        for position in state.positions:
            yield f"the account holds {position.szi:f} {position.coin} at the start"
    for order in orders:
        what = f"{order.coin} {order.side.name} {order.sz:f} at {order.limit_px:f} (oid {order.oid})"
        yield f"an order rests at the start: {what}"
