"""Stops that rest at the venue while a position is held (EXIT-5). Pure: what is missing and what is left over.

For each position one reduce-only stop order covers the whole size; the venue fires it by itself when the mark reaches its
price, also when this process is dead. It is protection and no close of ours: it never counts as the closing order in
flight (EXIT-3) and blocks neither entries nor exits. Refuses to send: the executor does what is said here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from attrs import frozen

from hip3.core import units
from hip3.core.ids import ClientOrderId, MarketSpec, OrderSide, TimeInForce
from hip3.core.ledger import Ledger, TrackedOrder
from hip3.core.market import MarketState
from hip3.core.orders import OrderIntent
from hip3.core.trades import MarketPosition
from hip3.fsm.order import OrderState

BOUND_BPS = Decimal(1000)
"""How far beyond its trigger a stop may fill: 10 %, as the venue's own interface sets it (PROTOCOL 6)."""
AGAIN_MS = 5_000
"""A stop that the venue refused or ended is not placed, and an unanswered cancel not asked for, again before this: the
deadline of a post, so that what went wrong is known by then."""
ORPHAN_MS = 500
"""The venue ends reduce-only orders in the block in which their position ends (PROTOCOL 2.4); its frames need 0.3 s."""


@frozen
class ProtectionConfig:
    """`stop_bps` from the entry price; `expires_after_ms` how long a stop on its way may still be admitted."""

    stop_bps: Decimal
    expires_after_ms: int
    max_mark_age_ms: int


@frozen
class Now:
    """One moment by three clocks: monotonic, ours of the day, the venue's."""

    mono_ms: int
    wall_ms: int
    venue_ms: int


@frozen
class Protect:
    """A position without a stop of its size and price."""

    position: MarketPosition
    spec: MarketSpec


@frozen
class Withdraw:
    """A stop that protects nothing any more."""

    order: TrackedOrder
    why: str


def trigger_px(spec: MarketSpec, side: OrderSide, entry_px: Decimal, stop_bps: Decimal) -> Decimal:
    """Price of a stop for a position of `side`: `stop_bps` against it, rounded to a tick away from the entry."""
    closing = side.opposite()
    return units.round_price(entry_px * (1 - stop_bps / units.BPS * side.sign), spec.sz_decimals, up=closing.is_buy)


def is_through(position: MarketPosition, spec: MarketSpec, mark: Decimal, stop_bps: Decimal) -> bool:
    """True where the mark has reached the stop of `position`: the venue would refuse one, or has fired it."""
    if position.entry_px <= 0:
        return False
    stop = trigger_px(spec, position.side, position.entry_px, stop_bps)
    return (mark - stop) * position.side.sign <= 0


def stop_intent(step: Protect, config: ProtectionConfig, cloid: ClientOrderId, now: Now) -> OrderIntent:
    """A reduce-only market stop for the whole position.

    Unlike a close it expires on its way, so that its absence can be proved: sent twice, it would rest twice.
    """
    side = step.position.side.opposite()
    stop = trigger_px(step.spec, step.position.side, step.position.entry_px, config.stop_bps)
    bound = stop * (1 + BOUND_BPS / units.BPS * side.sign)
    return OrderIntent(
        cloid=cloid,
        spec=step.spec,
        side=side,
        sz=abs(step.position.szi),
        px=units.round_price(bound, step.spec.sz_decimals, up=side.is_buy),
        tif=TimeInForce.GTC,  # until it fires it rests
        reduce_only=True,
        created_at_ms=now.wall_ms,
        signal_id=step.position.signal.id if step.position.signal else None,
        expires_after_ms=now.venue_ms + config.expires_after_ms,
        trigger_px=stop,
    )


def due_steps(
    ledger: Ledger, markets: Mapping[str, MarketState], config: ProtectionConfig, now: Now
) -> Iterator[Protect | Withdraw]:
    """What brings the stops in line with the positions; nothing where they are.

    A larger or dearer position gets its new stop first and loses the old one when the new one rests: it is never bare.
    """
    for coin in {*ledger.positions, *(o.intent.coin for o in ledger.orders.values() if o.is_stop)}:
        position, stops = ledger.position(coin), list(ledger.stops(coin))
        market = markets.get(coin)
        if position.szi == 0:
            if now.venue_ms - (position.last_fill_ms or 0) >= ORPHAN_MS:
                yield from _withdrawn(stops, "the position is closed", now)
        elif market is not None:
            yield from _kept(ledger, position, stops, market, config, now)


def _kept(
    ledger: Ledger,
    position: MarketPosition,
    stops: list[TrackedOrder],
    market: MarketState,
    config: ProtectionConfig,
    now: Now,
) -> Iterator[Protect | Withdraw]:
    if position.entry_px <= 0 or any(stop.is_under_way for stop in stops):
        return
    good = [s for s in stops if _covers(s.intent, position, config.stop_bps)]
    if good:
        yield from _withdrawn([s for s in stops if s is not good[-1]], "another one covers the position", now)
        return
    if now.mono_ms < position.stop_not_before_ms or ledger.pending_close(position.coin) is not None:
        return
    if any(o.doubted_ms is None for o in ledger.pending(position.coin)):
        return  # an entry that is still being filled; one in doubt may take long, and what is held is held
    mark = market.mark(now.mono_ms, config.max_mark_age_ms)
    if mark is None or not is_through(position, market.spec, mark, config.stop_bps):
        yield Protect(position, market.spec)


def _covers(stop: OrderIntent, position: MarketPosition, stop_bps: Decimal) -> bool:
    wanted = trigger_px(stop.spec, position.side, position.entry_px, stop_bps)
    return stop.side is position.side.opposite() and stop.sz >= abs(position.szi) and stop.trigger_px == wanted


def _withdrawn(stops: list[TrackedOrder], why: str, now: Now) -> Iterator[Withdraw]:
    for stop in stops:
        is_there = stop.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED)
        if is_there and (stop.cancel_asked_ms is None or now.wall_ms - stop.cancel_asked_ms >= AGAIN_MS):
            yield Withdraw(stop, why)
