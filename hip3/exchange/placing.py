"""One order from its checks to its end: static validation, runtime refusals, matching, what rests.

The checks run in a fixed order; each ends in the venue's text. Where the venue's order among them is unknown, ours is:
halt, window, tick, reduce-only, post-only, no match, oracle band, minimum, open interest, margin, open orders ("no match"
before "minimum" is measured, PROTOCOL 6). What becomes of a trigger order that fires is in `triggers`. Refuses to know
signatures, budgets and nonces: the order is admitted.
"""

from __future__ import annotations

from decimal import Decimal

from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.units import EXACT, PERP_MAX_DECIMALS, ZERO, is_legal_price, round_size
from hip3.exchange import texts
from hip3.exchange.account import Account
from hip3.exchange.book import Order, crosses
from hip3.exchange.margin import Want, can_afford, is_solvent
from hip3.exchange.market import Market, taker_maker_rates
from hip3.exchange.requests import JsonObject, OrderRequest, Trigger
from hip3.exchange.state import State
from hip3.exchange.texts import BatchRefused, OrderRefused, Refused


def validate(state: State, orders: tuple[OrderRequest, ...]) -> None:
    """Static validation of a batch: the first fault refuses all of it (PROTOCOL 4.2). Raises BatchRefused or Refused."""
    if not orders:
        raise BatchRefused(texts.EMPTY)
    for order in orders:
        if order.trigger is not None and not order.reduce_only:
            # The venue demands it of TP/SL groupings; whether also of a lone trigger order is UNVERIFIED (PROTOCOL 6).
            raise BatchRefused(texts.TRIGGER_REDUCE_ONLY)
        market = state.directory.by_asset.get(order.asset)
        if market is None:
            raise Refused(texts.UNKNOWN_ASSET)
        if order.sz == 0:
            raise BatchRefused(texts.ZERO_SIZE)
        if round_size(order.sz, market.listing.sz_decimals) != order.sz:
            raise BatchRefused(texts.INVALID_SIZE)
        if order.px == 0:
            raise BatchRefused(texts.INVALID_PRICE)
        nearest = 1 - state.config.static_band
        # Asymmetric as measured: 0.2 * reference < px <= 5 * reference.
        if not (market.mark_px * nearest < order.px <= EXACT.divide(market.mark_px, nearest)):
            raise BatchRefused(texts.BAND)


def place(state: State, account: Account, request: OrderRequest) -> JsonObject:
    """Executes one validated order and returns its element of `statuses`."""
    market = state.directory.by_asset[request.asset]
    try:
        _check_market(state, market, request)
        if request.trigger is not None:
            _check_trigger(state, account, market, request, request.trigger)
            sz = request.sz
        else:
            sz = _check(state, account, market, request)
    except OrderRefused as refusal:
        if refusal.status is None:
            return {"error": refusal.text}
        record = state.new_order(account, market, request, request.sz)
        state.end(record, refusal.status)
        return {"error": texts.with_asset(refusal.text, request.asset)}
    order = state.new_order(account, market, request, sz)
    if order.is_waiting:
        state.rest(order)
        return {"resting": _named(order)}
    return _execute(state, account, market, order)


def _check_market(state: State, market: Market, request: OrderRequest) -> None:
    """What refuses every order alike: halt, window, tick."""
    if market.coin in state.world.halted or market.listing.delisted:
        raise OrderRefused(texts.HALTED, None)
    if state.world.post_only and request.tif is not TimeInForce.ALO:
        raise OrderRefused(texts.POST_ONLY_WINDOW, None)
    prices = [request.px, *([request.trigger.px] if request.trigger is not None else [])]
    if not all(is_legal_price(px, market.listing.sz_decimals) for px in prices):
        raise OrderRefused(texts.TICK, "tickRejected")


def _check_trigger(state: State, account: Account, market: Market, request: OrderRequest, trigger: Trigger) -> None:
    """A trigger order is judged by position and mark; its size is cut to the position only when it fires.

    UNVERIFIED: that it needs a position when it is placed, and that a larger one is not cut at once as resting
    reduce-only orders are (PROTOCOL 6).
    """
    _reduced(account, market, request)
    if trigger.is_reached(request.side, market.mark_px):
        raise OrderRefused(texts.TRIGGER_PRICE, "badTriggerPxRejected")
    _check_notional(state, account, market, request, request.px)
    if len(account.open) >= state.config.max_open_orders:
        raise OrderRefused(texts.TOO_MANY_OPEN, "tooManyOpenOrdersRejected")


def _check(state: State, account: Account, market: Market, request: OrderRequest) -> Decimal:
    """The size that may be executed (reduce-only shrinks it), or OrderRefused."""
    sz = _reduced(account, market, request)
    touch = market.book.best(request.side.opposite())
    marketable = touch is not None and crosses(request.side, request.px, touch)
    if request.tif is TimeInForce.ALO and marketable:
        bbo = (market.book.best(OrderSide.BUY), market.book.best(OrderSide.SELL))
        raise OrderRefused(texts.post_only(*bbo), "badAloPxRejected")
    if request.tif is TimeInForce.IOC and not marketable:
        raise OrderRefused(texts.NO_MATCH, "iocCancelRejected")
    if marketable and touch is not None and not _within_band(state, market, touch):
        raise OrderRefused(texts.ORACLE, "oracleRejected")
    _check_notional(state, account, market, request, touch if marketable and touch is not None else request.px)
    _check_open_interest(account, market, request, sz)
    _check_means(state, account, market, request, sz)
    return sz


def _reduced(account: Account, market: Market, request: OrderRequest) -> Decimal:
    if not request.reduce_only:
        return request.sz
    szi = account.szi(market.asset_id)
    if szi * request.side.sign >= 0:
        raise OrderRefused(texts.REDUCE_ONLY, "reduceOnlyRejected")
    return min(request.sz, abs(szi))


def _within_band(state: State, market: Market, px: Decimal) -> bool:
    """True where a trade at `px` is near enough to the oracle; the band's size is a choice, see ExchangeConfig."""
    band = state.config.oracle_band
    if band is None:
        band = EXACT.divide(Decimal(1), Decimal(market.listing.max_leverage))
    return abs(px - market.oracle_px) <= band * market.oracle_px


def _check_notional(state: State, account: Account, market: Market, request: OrderRequest, px: Decimal) -> None:
    szi = account.szi(market.asset_id)
    if szi * request.side.sign < 0 and (
        request.sz == abs(szi) or (request.reduce_only and request.sz > abs(szi))
    ):  # closes the whole position: exempt
        return
    if request.sz * px < state.config.min_notional_usd:
        raise OrderRefused(texts.MIN_NOTIONAL, "minTradeNtlRejected")


def _check_open_interest(account: Account, market: Market, request: OrderRequest, sz: Decimal) -> None:
    cap = market.listing.oi_cap_usd
    if cap is None or request.reduce_only or market.open_interest * market.mark_px < cap:
        return
    szi = account.szi(market.asset_id)
    end = szi + request.side.sign * sz
    if szi * end < 0:
        raise OrderRefused(texts.OI_CAP, "positionFlipAtOpenInterestCapRejected")
    if abs(end) > abs(szi):
        raise OrderRefused(texts.OI_CAP, "positionIncreaseAtOpenInterestCapRejected")
    if request.px != market.oracle_px and crosses(request.side, request.px, market.oracle_px):
        raise OrderRefused(texts.OI_CAP_PRICE, "tooAggressiveAtOpenInterestCapRejected")


def _check_means(state: State, account: Account, market: Market, request: OrderRequest, sz: Decimal) -> None:
    if not request.reduce_only:
        want = Want(request.side, sz, request.px)
        rate = taker_maker_rates(market, state.config)[0]
        if not can_afford(account, market, state.directory.markets(market.dex.name), want, rate):
            raise OrderRefused(texts.MARGIN, "perpMarginRejected")
    if request.tif is not TimeInForce.IOC and len(account.open) >= state.config.max_open_orders:
        raise OrderRefused(texts.TOO_MANY_OPEN, "tooManyOpenOrdersRejected")


def _named(order: Order) -> JsonObject:
    return {"oid": order.oid} if order.cloid is None else {"oid": order.oid, "cloid": order.cloid}


def _execute(state: State, account: Account, market: Market, order: Order) -> JsonObject:
    cost = match(state, market, order)
    named = _named(order)
    if order.sz > 0 and order.tif is not TimeInForce.IOC:
        state.rest(order)
        shrink_reduce_only(state, account, market)
        # UNVERIFIED for a GTC that was filled in part and rests (PROTOCOL 4.2): the fills say how much.
        return {"resting": named}
    if order.filled_sz == 0:  # nothing but own orders stood in the way, and they are gone
        state.end(order, "iocCancelRejected")
        return {"error": texts.with_asset(texts.NO_MATCH, order.asset)}
    if order.tif is not TimeInForce.IOC:
        state.announce(order)  # `open` before `filled`, as seen in one frame
    state.end(order, "filled")  # also when partial: the rest of an IOC goes without a word
    shrink_reduce_only(state, account, market)
    avg_px = EXACT.divide(cost, order.filled_sz).quantize(Decimal(1).scaleb(-PERP_MAX_DECIMALS))
    return {"filled": {"totalSz": texts.number(order.filled_sz), "avgPx": texts.number(avg_px), **named}}


def match(state: State, market: Market, order: Order) -> Decimal:
    """Trades until the limit, the band or the size is reached; returns what it cost (size times price)."""
    cost = ZERO
    while order.sz > 0:
        quote = market.book.first(order.side.opposite())
        if quote is None or not crosses(order.side, order.px, quote.px) or not _within_band(state, market, quote.px):
            break
        maker = quote.order
        if maker is not None and maker.address == order.address:
            state.end(maker, "selfTradeCanceled")
            continue
        if maker is not None and not _maker_stands(state, maker):
            state.end(maker, "marginCanceled")
            continue
        sz = min(order.sz, quote.sz)
        state.trade(market, order, maker, sz, quote.px)
        cost += sz * quote.px
        if maker is not None:
            after_maker_fill(state, market, maker)
    return cost


def _maker_stands(state: State, maker: Order) -> bool:
    market = state.directory.by_asset[maker.asset]
    return maker.reduce_only or is_solvent(state.accounts[maker.address], state.directory.markets(market.dex.name))


def after_maker_fill(state: State, market: Market, maker: Order) -> None:
    """Ends a maker that is used up, and lets its account's reduce-only orders follow the position."""
    if maker.sz == 0:
        state.end(maker, "filled")
    shrink_reduce_only(state, state.accounts[maker.address], market)


def shrink_reduce_only(state: State, account: Account, market: Market) -> None:
    """Resting reduce-only orders never add up to more than the position; the newest keep their size (PROTOCOL 6).

    Shrinking is silent, an order that has nothing left to reduce ends `reduceOnlyCanceled`. That an older order gives way
    to a newer one was observed once, on testnet. One that waits for its trigger takes no part of the position's room: a
    stop and a profit order of the whole size stand together; it ends when it could reduce nothing any more.
    """
    szi = account.szi(market.asset_id)
    room = abs(szi)
    orders = [o for o in account.open.values() if o.coin == market.coin and o.reduce_only]
    for order in reversed(orders):
        if order.is_waiting:
            if szi * order.side.sign >= 0:
                state.end(order, "reduceOnlyCanceled")
            continue
        left = min(order.sz, room) if szi * order.side.sign < 0 else ZERO
        if left == 0:
            state.end(order, "reduceOnlyCanceled")
        else:
            order.sz = left
            room -= left


def meet_outside(state: State, market: Market) -> None:
    """External quotes that moved through our resting orders trade with them, at our price: others took us."""
    for side in (OrderSide.BUY, OrderSide.SELL):
        for order in market.book.resting(side):
            if not order.is_open:
                continue  # ended by a fill of this very loop (reduce-only)
            while order.is_open:
                quote = market.book.first_external(side.opposite())
                if quote is None or not crosses(side, order.px, quote.px):
                    break
                sz = min(order.sz, quote.sz)
                if not _fill_from_outside(state, market, order, sz):
                    break
                market.book.take_external(side.opposite(), quote.px, sz)


def print_through(state: State, market: Market, aggressor: OrderSide, px: Decimal, sz: Decimal) -> None:
    """A trade among others at a price worse than our resting order's would have met ours first.

    At our very price it would not: our place in the queue is unknown, and the pessimistic answer is behind it.
    """
    left = sz
    for order in market.book.resting(aggressor.opposite()):
        if left <= 0 or order.px == px or not crosses(order.side, order.px, px):
            break
        if not order.is_open:
            continue
        fill = min(order.sz, left)
        if _fill_from_outside(state, market, order, fill):
            left -= fill


def _fill_from_outside(state: State, market: Market, order: Order, sz: Decimal) -> bool:
    """One maker fill against the outside world; False where the order was cancelled for want of margin instead."""
    if not _maker_stands(state, order):
        state.end(order, "marginCanceled")
        return False
    state.trade(market, None, order, sz, order.px)
    after_maker_fill(state, market, order)
    return True
