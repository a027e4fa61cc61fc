"""The signals of a verification: its orders go the way of every other signal, through the executor's gates (RUN-1).

A probe is a signal that no dislocation stands behind. It is never sent from here: gates, scheduler and caps judge it.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve

from hip3.bot import Bot
from hip3.core import units
from hip3.core.detector import Signal, edge_bps
from hip3.core.ids import OrderSide
from hip3.settings.schema import Settings, StartupPolicy

PROBE_USD = Decimal(11)
"""Ours: between the venue's minimum of 10 USD and the 15 USD of RUN-1, rounded up to the lot."""
FAR_BPS = Decimal(200)
"""Ours: how far below the bid an order is that shall not fill; the venue refuses an IOC that meets nobody."""
LONGEST_TIME_STOP_MS = 10_000
"""Ours: a longer time stop is shortened, so that a verification ends."""
QUIET_BPS = Decimal(9999)
"""A cost that no dislocation exceeds."""


def verify_settings(settings: Settings) -> Settings:
    """The configuration of a verification: nothing but its own probes trades, and nothing but it and the time stop closes.

    What counts probes as failures is off, for they lose the spread and are refused on purpose; losses in USD stay limited.
    """
    position, risk = settings.position, settings.risk
    return evolve(
        settings,
        markets=tuple(evolve(market, threshold_bps=QUIET_BPS) for market in settings.markets),
        safety=evolve(settings.safety, startup_policy=StartupPolicy.AUTO),
        position=evolve(
            position,
            time_stop_ms=min(position.time_stop_ms, LONGEST_TIME_STOP_MS),
            min_holding_ms=0,
            exit_threshold_bps=None,
            take_profit_bps=None,
            edge_evaporation_bps=None,
            oracle_reversal_bps=None,
            protective_stop_bps=None,
        ),
        risk=evolve(risk, max_consecutive_losses=0, max_rejects_per_hour=0),
    )


def probe(bot: Bot, coin: str, number: int, *, fills: bool) -> Signal | None:
    """A buy of PROBE_USD: beyond the ask by the flatten's slippage, or FAR_BPS below the bid; None without both quotes."""
    market, now = bot.markets[coin], bot.io.clock.mono_ms()
    bbo, reference = market.bbo, market.reference_px
    if bbo is None or bbo.bid is None or bbo.ask is None or reference is None:
        return None
    if market.bbo_recv_ms is None or market.ctx_recv_ms is None:
        return None
    decimals = market.spec.sz_decimals
    touch = bbo.ask if fills else bbo.bid
    away = bot.settings.position.flatten_slippage_bps if fills else -FAR_BPS
    px = units.round_price(touch.px * (1 + away / units.BPS), decimals, up=fills)
    cost = bot.detector.cost_bps(coin)
    return Signal(
        id=f"{bot.run_id:x}-verify-{number}",
        spec=market.spec,
        side=OrderSide.BUY,
        px=px,
        sz=units.round_size_up(PROBE_USD / min(px, touch.px), decimals),
        touch_px=touch.px,
        touch_sz=touch.sz,
        reference_px=reference,
        edge_bps=edge_bps(OrderSide.BUY, touch.px, reference),
        cost_bps=cost,
        taker_fee_bps=bot.detector.taker_fee_bps[coin],
        slippage_bps=bot.detector.config.slippage_bps,
        min_edge_bps=bot.detector.config.min_edge_bps,
        liquidity_factor=Decimal(1),
        bbo=bbo,
        bbo_age_ms=now - market.bbo_recv_ms,
        ctx_age_ms=now - market.ctx_recv_ms,
        detected_wall_ms=bot.io.clock.wall_ms(),
        detected_mono_ms=now,
    )


def offer(bot: Bot, signal: Signal) -> None:
    """Hands a signal to the executor as the ingest does. The bot must have an account."""
    assert bot.trader is not None
    bot.signal_book.add(signal)
    bot.signals.put(signal)
    bot.trader.executor.inbox.bell.ring()
