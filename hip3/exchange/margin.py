"""Margin of one account on one dex: value, what is tied up, what an order would need. Changes nothing.

Standard (manual) account mode: every dex has its own balance and its own cross margin (PROTOCOL 1.6). Initial margin is
notional over leverage, maintenance half of that at the market's maximum leverage (PROTOCOL 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from attrs import frozen

from hip3.core.ids import OrderSide
from hip3.core.units import EXACT, ZERO
from hip3.exchange.account import Account, Leverage
from hip3.exchange.market import Market

DEFAULT_LEVERAGE = 20
"""Leverage of a market that the account never set; UNVERIFIED, capped by the market's maximum."""


@frozen
class Summary:
    """The numbers of `marginSummary` for one dex, in USD; `cross_*` leave isolated positions out."""

    account_value: Decimal
    total_notional: Decimal
    raw_usd: Decimal
    margin_used: Decimal
    cross_value: Decimal
    cross_notional: Decimal
    cross_raw_usd: Decimal
    cross_margin_used: Decimal
    cross_maintenance: Decimal

    @property
    def withdrawable(self) -> Decimal:
        """`max(0, accountValue - max(totalInitialMargin, 0.1 * totalNtlPos))` (PROTOCOL 3)."""
        kept = max(self.cross_margin_used, self.cross_notional / 10)
        return max(ZERO, self.cross_value - kept)


def leverage_of(account: Account, market: Market) -> Leverage:
    default = Leverage(not market.is_isolated_only, min(DEFAULT_LEVERAGE, market.listing.max_leverage))
    return account.leverage.get(market.asset_id, default)


def unrealised(account: Account, market: Market) -> Decimal:
    """Profit of the position at the mark."""
    holding = account.holdings.get(market.asset_id)
    return (market.mark_px - holding.entry_px) * holding.szi if holding is not None else ZERO


def summary(account: Account, dex: str, markets: Iterable[Market]) -> Summary:
    """The account on `dex` at the marks; `markets` are that dex's."""
    cash = account.cash.get(dex, ZERO)
    pnl = notional = used = isolated = isolated_pnl = isolated_notional = isolated_used = maintenance = ZERO
    signed = isolated_signed = ZERO
    for market in markets:
        holding = account.holdings.get(market.asset_id)
        if holding is None or holding.szi == 0:
            continue
        leverage = leverage_of(account, market)
        value = abs(holding.szi) * market.mark_px
        pnl += unrealised(account, market)
        notional += value
        signed += holding.szi * market.mark_px
        if leverage.is_cross:
            used += EXACT.divide(value, leverage.value)
            maintenance += EXACT.divide(value, 2 * market.listing.max_leverage)
        else:
            isolated += holding.isolated_usd
            isolated_pnl += unrealised(account, market)
            isolated_notional += value
            isolated_signed += holding.szi * market.mark_px
            isolated_used += holding.isolated_usd + unrealised(account, market)
    value = cash + isolated + pnl
    cross_value = cash + pnl - isolated_pnl
    return Summary(
        account_value=value,
        total_notional=notional,
        raw_usd=value - signed,
        margin_used=used + isolated_used,
        cross_value=cross_value,
        cross_notional=notional - isolated_notional,
        cross_raw_usd=cross_value - (signed - isolated_signed),
        cross_margin_used=used,
        cross_maintenance=maintenance,
    )


@frozen
class Want:
    """An order that is about to be placed: what it adds to one market."""

    side: OrderSide
    sz: Decimal
    px: Decimal


def required(account: Account, market: Market, want: Want | None = None) -> Decimal:
    """Initial margin that position and non-reduce-only orders of one market need in the worst case, in USD.

    The worst case is the larger of: the position as it is, all buys filled, all sells filled. An isolated position's own
    margin is already out of the cash, so only what comes on top counts.
    """
    leverage = leverage_of(account, market)
    szi = account.szi(market.asset_id)
    buys = sells = ZERO
    px = market.mark_px
    wants = [want] if want is not None else []
    wants += [Want(o.side, o.sz, o.px) for o in account.open.values() if o.coin == market.coin and not o.reduce_only]
    for each in wants:
        if each.side.is_buy:
            buys += each.sz
        else:
            sells += each.sz
        px = max(px, each.px)
    size = max(abs(szi), abs(szi + buys), abs(szi - sells))
    if not leverage.is_cross:
        size -= abs(szi)
    return EXACT.divide(size * px, leverage.value)


def can_afford(account: Account, market: Market, markets: Iterable[Market], want: Want, fee_rate: Decimal) -> bool:
    """True where the account can carry `want`; an order that ties up nothing more always passes (a way out stays open)."""
    before, after = required(account, market), required(account, market, want)
    if after <= before:
        return True
    markets = list(markets)
    others = sum((required(account, other) for other in markets if other is not market), ZERO)
    fee = want.sz * want.px * fee_rate
    return summary(account, market.dex.name, markets).cross_value - fee >= others + after


def is_solvent(account: Account, markets: Iterable[Market]) -> bool:
    """True while everything that rests and is held is covered; the check of the resting side at a match (PROTOCOL 6)."""
    markets = list(markets)
    needed = sum((required(account, market) for market in markets), ZERO)
    dex = markets[0].dex.name if markets else ""
    return summary(account, dex, markets).cross_value >= needed
