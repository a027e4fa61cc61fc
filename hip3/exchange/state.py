"""Everything the engine knows, and the few primitive changes that every rule is made of.

Primitive means: ends an order, books a trade, forgets nothing of what it did (each change leaves an effect). Which of
them happen is decided in `placing` and `engine`. Refuses to read a clock: `now_ms` is set by the block.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from hip3.core.events import Fill
from hip3.core.ids import OrderSide
from hip3.core.units import ZERO
from hip3.exchange.account import USD_QUANTUM, Account, Holding, apply_trade
from hip3.exchange.book import Order
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.effects import Effect, ExternalTaken, Filled, NonUserCanceled, OrderChanged, Traded, update_of
from hip3.exchange.faults import World
from hip3.exchange.margin import leverage_of
from hip3.exchange.market import Directory, Market, Trade, taker_maker_rates
from hip3.exchange.requests import OrderRequest

OUTSIDE = "0x" + "0" * 40
"""Stands for everybody who is not an account here."""
GROWTH_BUDGET_SHARE = Decimal("0.1")
"""Share of growth-mode volume that counts toward the address budget (PROTOCOL 8)."""
FIRST_OID = 1_000_000


class State:
    """The exchange between two events."""

    def __init__(self, directory: Directory, config: ExchangeConfig, world: World) -> None:
        self.directory = directory
        self.config = config
        self.world = world
        self.accounts: dict[str, Account] = {}
        self.now_ms = 0
        self._oid = FIRST_OID
        self._tid = 0
        self._effects: list[Effect] = []

    def collect(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def account(self, address: str) -> Account:
        """The account of a lower-case address, made on first use; it exists for the venue once it was funded."""
        account = self.accounts.get(address)
        if account is None:
            account = self.accounts[address] = Account(address, self.config.fill_retention)
        return account

    def new_order(self, account: Account, market: Market, request: OrderRequest, sz: Decimal) -> Order:
        """A new oid with its record; not in the book yet."""
        self._oid += 1
        order = Order(
            oid=self._oid,
            address=account.address,
            asset=market.asset_id,
            coin=market.coin,
            side=request.side,
            px=request.px,
            sz=sz,
            orig_sz=request.sz,
            tif=request.tif,
            reduce_only=request.reduce_only,
            cloid=request.cloid,
            created_ms=self.now_ms,
            status_ms=self.now_ms,
            trigger=request.trigger,
        )
        account.remember(order, self.config.order_retention)
        return order

    def rest(self, order: Order) -> None:
        """Puts an order in the book and says `open`."""
        order.status = "open"
        self.accounts[order.address].open[order.oid] = order
        self.directory.by_coin[order.coin].book.add(order)
        self._note_exposure(self.accounts[order.address])
        self.announce(order)

    def fire(self, order: Order) -> None:
        """Takes a waiting order out of waiting and says `triggered`; it is then in no book, like an order just admitted.

        UNVERIFIED (PROTOCOL 7.1): here it keeps its oid, and a limit order that comes to rest says `open` once more.
        """
        del self.accounts[order.address].open[order.oid]
        self.directory.by_coin[order.coin].book.remove(order)
        order.has_fired = True
        order.status = "triggered"
        order.status_ms = self.now_ms
        self.announce(order)

    def announce(self, order: Order) -> None:
        self.emit(OrderChanged(order.address, update_of(order), order.created_ms))

    def end(self, order: Order, status: str) -> None:
        """Makes an order terminal, out of the book if it rested; `sz` stays what was left."""
        if not order.is_open:
            raise ValueError(f"order {order.oid} is already {order.status}")
        order.status = status
        order.status_ms = self.now_ms
        if self.accounts[order.address].open.pop(order.oid, None) is not None:
            self.directory.by_coin[order.coin].book.remove(order)
        self.announce(order)
        if status not in {"canceled", "filled", "reduceOnlyCanceled"} and not status.endswith("Rejected"):
            self.emit(NonUserCanceled(order.address, order.coin, order.oid))

    def trade(self, market: Market, taker: Order | None, maker: Order | None, sz: Decimal, px: Decimal) -> None:
        """Books one trade between two sides of which at most one is the outside world (None)."""
        known = taker or maker
        if known is None:
            raise ValueError("a trade needs an account on one side")
        self._tid += 1
        taker_side = taker.side if taker is not None else known.side.opposite()
        for order, crossed in ((taker, True), (maker, False)):
            if order is not None:
                self._fill(market, order, px, sz, crossed=crossed)
        taker_address = taker.address if taker is not None else OUTSIDE
        maker_address = maker.address if maker is not None else OUTSIDE
        users = (taker_address, maker_address) if taker_side.is_buy else (maker_address, taker_address)
        if maker is None and taker is not None:
            market.book.take_external(taker_side.opposite(), px, sz)
            self.emit(ExternalTaken(market.coin, taker_side, px, sz))
        self.print_trade(market, taker_side, px, sz, users)

    def print_trade(
        self, market: Market, side: OrderSide, px: Decimal, sz: Decimal, users: tuple[str, str] | None = None
    ) -> None:
        """A public trade; without `users` it was among others and gets its own tid."""
        if users is None:
            self._tid += 1
        trade = Trade(market.coin, side.value, px, sz, self.now_ms, self._tid, users or (OUTSIDE, OUTSIDE))
        market.record_trade(trade)
        self.emit(Traded(trade))

    def _fill(self, market: Market, order: Order, px: Decimal, sz: Decimal, *, crossed: bool) -> None:
        account = self.accounts[order.address]
        holding = account.holdings.setdefault(market.asset_id, Holding())
        applied = apply_trade(holding, order.side, px, sz)
        rates = taker_maker_rates(market, self.config)
        # Cut, not rounded: so are all 3,422 inexact fees of the recorded HIP-3 fills at tier 0 rates.
        fee = (px * sz * rates[0 if crossed else 1]).quantize(USD_QUANTUM, rounding=ROUND_DOWN)
        cash = account.cash.get(market.dex.name, ZERO) + applied.closed_pnl - fee
        account.cash[market.dex.name] = cash + self._isolated_flow(account, market, holding, applied.start, px)
        order.sz -= sz
        order.filled_sz += sz
        account.volume_usd += px * sz
        account.budget_volume_usd += px * sz * (GROWTH_BUDGET_SHARE if market.listing.growth_mode else 1)
        fill = Fill(
            coin=market.coin,
            px=px,
            sz=sz,
            side=order.side,
            time_ms=self.now_ms,
            start_position=applied.start,
            dir=applied.dir,
            closed_pnl=applied.closed_pnl,
            oid=order.oid,
            tid=self._tid,
            crossed=crossed,
            fee=fee,
            fee_token="USDC",  # noqa: S106 - the name of a coin
            cloid=order.cloid,
        )
        account.book_fill(fill)
        if holding.szi == 0:
            del account.holdings[market.asset_id]
        self._note_exposure(account)
        self.emit(Filled(account.address, fill))

    def _isolated_flow(self, account: Account, market: Market, holding: Holding, start: Decimal, px: Decimal) -> Decimal:
        """Cash that an isolated position gives back (positive) or takes as its own margin (negative)."""
        leverage = leverage_of(account, market)
        if leverage.is_cross:
            return ZERO
        kept = ZERO
        if start * holding.szi > 0:
            kept = (holding.isolated_usd * min(Decimal(1), holding.szi / start)).quantize(USD_QUANTUM)
        grown = abs(holding.szi) - (abs(start) if start * holding.szi > 0 else ZERO)
        added = (max(ZERO, grown) * px / leverage.value).quantize(USD_QUANTUM)
        flow = holding.isolated_usd - (kept + added)
        holding.isolated_usd = kept + added
        return flow

    def _note_exposure(self, account: Account) -> None:
        """Keeps the peaks for the invariants: positions at mark plus non-reduce-only resting orders at their price."""
        total = sum((o.sz * o.px for o in account.open.values() if not o.reduce_only), ZERO)
        for asset, holding in account.holdings.items():
            market = self.directory.by_asset[asset]
            total += abs(holding.szi) * market.mark_px
            peak = account.peak_position.get(market.coin, ZERO)
            account.peak_position[market.coin] = max(peak, abs(holding.szi))
        account.peak_exposure_usd = max(account.peak_exposure_usd, total)
