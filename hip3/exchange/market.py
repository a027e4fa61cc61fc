"""One market and the list of dexs: metadata, context, book, recent trades, asset ids. Refuses to know accounts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal

from attrs import define, field, frozen

from hip3.core.ids import MarketKey, MarketSpec
from hip3.core.units import ZERO
from hip3.exchange.book import Book
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.seam import CtxChange, DexListing, MarketListing

BACKFILL_TRADES = 30  # PROTOCOL 2.2
PERP_DEX_BASE = 100_000  # PROTOCOL 1.2
PERP_DEX_STRIDE = 10_000


@frozen
class Trade:
    """A public trade; `side` is the aggressor's letter, `users` buyer and seller."""

    coin: str
    side: str
    px: Decimal
    sz: Decimal
    time_ms: int
    tid: int
    users: tuple[str, str]


@define(eq=False)
class Market:
    """A listed market and its state. `open_interest` is the outside world's, ours comes on top."""

    asset_id: int
    dex: DexListing
    listing: MarketListing
    oracle_px: Decimal
    mark_px: Decimal
    open_interest: Decimal = ZERO
    funding: Decimal = ZERO
    premium: Decimal = ZERO
    day_volume_usd: Decimal = ZERO
    day_volume_sz: Decimal = ZERO
    last_px: Decimal | None = None
    book: Book = field(factory=Book)
    trades: deque[Trade] = field(factory=lambda: deque(maxlen=BACKFILL_TRADES))

    @property
    def coin(self) -> str:
        return self.listing.coin

    @property
    def fee_scale(self) -> Decimal | None:
        """The deployer's scale; None on the venue's own dex."""
        if not self.dex.name:
            return None
        return self.listing.fee_scale if self.listing.fee_scale is not None else self.dex.fee_scale

    @property
    def is_isolated_only(self) -> bool:
        return self.listing.margin_mode != "cross"

    @property
    def spec(self) -> MarketSpec:
        """The market as a client would resolve it."""
        return MarketSpec(
            key=MarketKey.parse(self.coin),
            asset_id=self.asset_id,
            sz_decimals=self.listing.sz_decimals,
            max_leverage=self.listing.max_leverage,
            margin_mode=self.listing.margin_mode,
            fee_scale=self.fee_scale,
            growth_mode=self.listing.growth_mode,
            delisted=self.listing.delisted,
            collateral_token=self.dex.collateral_token,
        )

    def mid_or_last(self) -> Decimal | None:
        """The mid; with an empty side the last trade (PROTOCOL 2.3, allMids)."""
        mid = self.book.mid()
        return mid if mid is not None else self.last_px

    def change_ctx(self, change: CtxChange, *, oracle_frozen: bool) -> None:
        """Applies what is stated; a frozen oracle keeps its price while mark and the rest move (PROTOCOL 1.5)."""
        if change.oracle_px is not None and not oracle_frozen:
            self.oracle_px = change.oracle_px
        if change.mark_px is not None:
            self.mark_px = change.mark_px
        if change.open_interest is not None:
            self.open_interest = change.open_interest
        if change.funding is not None:
            self.funding = change.funding
        if change.premium is not None:
            self.premium = change.premium

    def record_trade(self, trade: Trade) -> None:
        self.trades.append(trade)
        self.last_px = trade.px
        self.day_volume_sz += trade.sz
        self.day_volume_usd += trade.sz * trade.px


class Directory:
    """Every market by asset id and by coin, numbered as the venue numbers them; delisted markets keep their slot."""

    def __init__(self, dexs: Sequence[DexListing]) -> None:
        if not dexs or dexs[0].name:
            found = dexs[0].name if dexs else "none"
            raise ValueError(f"the first dex must be the venue's own, with an empty name; found {found!r}")
        self.dexs = tuple(dexs)
        self.by_asset: dict[int, Market] = {}
        self.by_coin: dict[str, Market] = {}
        for number, dex in enumerate(self.dexs):
            base = PERP_DEX_BASE + number * PERP_DEX_STRIDE if number else 0
            for index, listing in enumerate(dex.universe):
                self._add(Market(base + index, dex, listing, listing.oracle_px, listing.oracle_px))

    def _add(self, market: Market) -> None:
        if market.coin in self.by_coin:
            raise ValueError(f"{market.coin} is listed twice")
        if MarketKey.parse(market.coin).dex != market.dex.name:
            raise ValueError(f"{market.coin} is listed on dex {market.dex.name!r}; its name must carry that prefix")
        self.by_asset[market.asset_id] = market
        self.by_coin[market.coin] = market

    def dex(self, name: str) -> DexListing | None:
        return next((dex for dex in self.dexs if dex.name == name), None)

    def markets(self, dex: str) -> list[Market]:
        """The markets of a dex in listing order."""
        return [market for market in self.by_asset.values() if market.dex.name == dex]


def taker_maker_rates(market: Market, config: ExchangeConfig) -> tuple[Decimal, Decimal]:
    """Fee rates of a market: `base * hip3 * growth` (PROTOCOL 9); a rebate is not multiplied by the HIP-3 scale."""
    growth = Decimal("0.1") if market.listing.growth_mode else Decimal(1)
    scale = market.fee_scale
    hip3 = Decimal(1)
    if scale is not None:
        hip3 = 1 + scale if scale < 1 else 2 * scale
    maker = config.user_add_rate * growth * (hip3 if config.user_add_rate > 0 else 1)
    return config.user_cross_rate * hip3 * growth, maker
