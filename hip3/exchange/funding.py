"""Funding: every hour each position pays or receives `szi * oracle * rate` (PROTOCOL 9). Longs pay a positive rate."""

from __future__ import annotations

from hip3.core.events import Funding
from hip3.core.units import EXACT, ZERO
from hip3.exchange.account import USD_QUANTUM, Account
from hip3.exchange.effects import FundingPaid
from hip3.exchange.market import Market
from hip3.exchange.state import State

HOUR_MS = 3_600_000
STAMP_MS = 20
"""Payments are stamped 15 to 50 ms after the hour (PROTOCOL 9)."""


def next_funding_ms(now_ms: int) -> int:
    """The next time at which funding is paid, after `now_ms` (Unix ms)."""
    return (now_ms - STAMP_MS) // HOUR_MS * HOUR_MS + HOUR_MS + STAMP_MS


def pay_funding(state: State) -> None:
    """Every position pays once, at the oracle and the rate of this moment."""
    for account in state.accounts.values():
        for asset in account.holdings:
            _pay(state, account, state.directory.by_asset[asset])


def _pay(state: State, account: Account, market: Market) -> None:
    szi, oracle, rate = account.szi(market.asset_id), market.oracle_px, market.funding
    if szi * rate == 0:
        return
    with_all_digits = EXACT.multiply(EXACT.multiply(-szi, oracle), rate)
    usd = with_all_digits.quantize(USD_QUANTUM)
    cash = account.cash
    cash[market.dex.name] = cash.get(market.dex.name, ZERO) + usd
    payment = Funding(market.coin, state.now_ms, usd, szi)
    account.fundings.append((payment, rate))
    state.emit(FundingPaid(account.address, payment, rate))
