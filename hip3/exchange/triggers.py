"""Trigger orders that fire: at the mark, cut to the position, then executed as a market or a limit order (PROTOCOL 6).

Placing and cancelling them is the business of `placing` and `engine`. Refuses to fire on anything but the mark.
"""

from __future__ import annotations

from hip3.exchange.book import Order
from hip3.exchange.market import Market
from hip3.exchange.placing import match, shrink_reduce_only
from hip3.exchange.state import State


def fire_reached(state: State, market: Market) -> None:
    """Fires every order of `market` whose trigger the mark has reached, oldest first; in a halted market none.

    UNVERIFIED: the order among several of one account, and that a halt keeps them waiting.
    """
    if market.coin in state.world.halted:
        return
    for order in market.book.waiting():
        # One that an earlier one has ended is not open any more.
        if order.is_open and order.trigger is not None and order.trigger.is_reached(order.side, market.mark_px):
            _fire(state, market, order)


def _fire(state: State, market: Market, order: Order) -> None:
    account = state.accounts[order.address]
    state.fire(order)
    # An order that could reduce nothing was ended when the position was, so there is something to cut it to.
    order.sz = min(order.sz, abs(account.szi(market.asset_id)))
    match(state, market, order)
    is_market = order.trigger is not None and order.trigger.is_market
    if order.sz > 0 and not is_market:
        state.rest(order)
    elif order.filled_sz == 0:
        # Nothing within its price, or within the oracle band. UNVERIFIED: the status of a stop that finds nobody.
        state.end(order, "marketOrderNoLiquidityRejected")
    else:
        state.end(order, "filled")  # also when partial, like an IOC
    shrink_reduce_only(state, account, market)
