"""Entry gates (GATE-1, 2): may this signal become an order? First failure wins; nothing here waits or changes anything.

The caller checks, registers and enqueues in one synchronous step, so that no other task can act in between (GATE-3).
Reduce-only orders and cancels never come here (GATE-4).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from decimal import Decimal

from attrs import define, frozen

from hip3.core import throttles as t
from hip3.core import units
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState


class Refusal(enum.Enum):
    """Why a signal was not traded. SKIPPED ones are normal; REJECTED ones say that something forbids it."""

    HARD_STOP = "HardStop"
    NOT_READY = "NotReady"
    MAX_POSITION_PER_MARKET = "MaxPositionPerMarket"
    MAX_POSITION_TOTAL = "MaxPositionTotal"
    MAX_OPEN_POSITIONS = "MaxOpenPositions"
    RISK_GATE_ERROR = "RiskGateError"
    ALREADY_HAS_POSITION = "AlreadyHasPosition"
    PENDING_ORDER_EXISTS = "PendingOrderExists"
    HOURLY_DRAWDOWN = "HourlyDrawdown"
    TILT_GUARD = "TiltGuard"
    REENTRY_DELAY = "ReentryDelay"
    CORRELATION_COOLDOWN = "CorrelationCooldown"
    BURST_LIMIT = "BurstLimit"
    DAILY_TRADE_LIMIT = "DailyTradeLimit"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    QUEUE_FULL = "QueueFull"
    INFLIGHT_FULL = "InflightFull"

    @property
    def is_skip(self) -> bool:
        return self in _SKIPS


_SKIPS = frozenset(
    {
        Refusal.ALREADY_HAS_POSITION,
        Refusal.PENDING_ORDER_EXISTS,
        Refusal.HOURLY_DRAWDOWN,
        Refusal.TILT_GUARD,
        Refusal.REENTRY_DELAY,
        Refusal.CORRELATION_COOLDOWN,
        Refusal.BURST_LIMIT,
        Refusal.DAILY_TRADE_LIMIT,
        Refusal.BUDGET_EXHAUSTED,
    }
)


@frozen
class Verdict:
    """`Queued`, `QueuedDegraded`, `Skipped(...)` or `Rejected(...)`, with the numbers that decided."""

    refusal: Refusal | None
    detail: str = ""
    degraded: bool = False

    def __str__(self) -> str:
        if self.refusal is None:
            return "QueuedDegraded" if self.degraded else "Queued"
        return f"{'Skipped' if self.refusal.is_skip else 'Rejected'}({self.refusal.value})"


@frozen
class Caps:
    """Notional caps in USD. An order's own cap is kept by its size (DET-3). `max_positions` None is off."""

    per_market_usd: Decimal
    total_usd: Decimal
    total_key: str = "limits.max_notional_total_usd"
    """The key of the configuration that sets the total."""
    max_positions: int | None = None


@define
class EntryView:
    """What the gates look at, all of it read in the same step."""

    allows_entry: bool
    not_ready: str | None
    """The first missing READY condition, account or market; None where READY-TRADING holds."""
    ledger: Ledger
    markets: Mapping[str, MarketState]
    now_ms: int
    """Monotonic."""
    max_mark_age_ms: int
    caps: Caps
    entries_left_today: int | None
    budget_left: int
    """Actions that may still be sent before the reserve for cancels and flatten is touched."""
    messages_left: int
    """The same of messages over WebSocket in this minute (WS-3)."""
    throttle: t.ThrottleView = t.NOTHING


Gate = Callable[[str, Decimal, EntryView], Verdict | None]
"""Coin, size and what is seen to a refusal, or None where it lets the order pass."""


def check_entry(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:
    """None where the order may go; else the first gate that refuses, in the order of GATE-1."""
    for _, gate in GATES:
        refused = gate(coin, sz, view)
        if refused is not None:
            return refused
    return None


def exposure_usd(view: EntryView, coin: str) -> Decimal | None:
    """|position| plus pending entries of one market at its own mark; None where the mark is missing or stale."""
    position = view.ledger.positions.get(coin)
    held = abs(position.szi) if position else units.ZERO
    pending = sum((o.remaining_sz for o in view.ledger.pending(coin) if not o.intent.reduce_only), units.ZERO)
    if held + pending == 0:
        return units.ZERO
    mark = mark_of(view, coin)
    return None if mark is None else (held + pending) * mark


def mark_of(view: EntryView, coin: str) -> Decimal | None:
    """The market's mark in USD; None where it is missing or too old to size by."""
    market = view.markets.get(coin)
    return market.mark(view.now_ms, view.max_mark_age_ms) if market else None


def exposed_coins(view: EntryView) -> set[str]:
    """Markets that are held or have an order that may still change them."""
    coins = {order.intent.coin for order in view.ledger.orders.values()}
    coins.update(position.coin for position in view.ledger.positions.values() if position.szi)
    return coins


def _mode(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:  # noqa: ARG001 - every gate is asked alike
    return None if view.allows_entry else Verdict(Refusal.HARD_STOP, "the mode forbids entries")


def _ready(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:  # noqa: ARG001
    return None if view.not_ready is None else Verdict(Refusal.NOT_READY, view.not_ready)


def _market_cap(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:
    """MaxPosition per market (GATE-2). An order that does not fit is refused, never cut down."""
    mark, own = mark_of(view, coin), exposure_usd(view, coin)
    if mark is None or own is None:
        return Verdict(Refusal.NOT_READY, f"no fresh mark of {coin}")
    wanted = sz * mark
    if own + wanted > view.caps.per_market_usd:
        detail = f"{coin}: {own:.2f} held or pending + {wanted:.2f} > {view.caps.per_market_usd} USD"
        return Verdict(Refusal.MAX_POSITION_PER_MARKET, detail)
    return None


def risk_gate(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:
    """The governor (RISK-5): total notional and open positions, of the books as they stand and this order.

    None where it is allowed. A denial names `risk.max_notional` or `risk.max_open_positions` and the cap's key; an error
    inside of it denies as well (`risk.internal_error`), for what cannot be computed is not known to be within a cap.
    """
    try:
        return _total_cap(coin, sz, view) or _open_positions(coin, view)
    except Exception as e:
        return Verdict(Refusal.RISK_GATE_ERROR, f"risk.internal_error: {type(e).__name__}: {e}")


def _total_cap(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:
    """MaxPosition in total, each market at its own mark (GATE-2)."""
    mark = mark_of(view, coin)
    if mark is None:
        return Verdict(Refusal.NOT_READY, f"no fresh mark of {coin}")
    wanted, total = sz * mark, units.ZERO
    for other in exposed_coins(view):
        part = exposure_usd(view, other)
        if part is None:
            return Verdict(Refusal.NOT_READY, f"no fresh mark of {other}, which is held or pending")
        total += part
    if total + wanted > view.caps.total_usd:
        cap = f"{view.caps.total_usd} USD in total ({view.caps.total_key})"
        return Verdict(Refusal.MAX_POSITION_TOTAL, f"risk.max_notional: {total:.2f} held or pending + {wanted:.2f} > {cap}")
    return None


def _open_positions(coin: str, view: EntryView) -> Verdict | None:
    """Markets held or pending, and this one, against the cap of positions at one time (RISK-5, RISK-6)."""
    most = view.caps.max_positions
    if most is None:
        return None
    others = exposed_coins(view) - {coin}
    if len(others) < most:
        return None
    detail = f"risk.max_open_positions: {', '.join(sorted(others))} held or pending, at most {most}"
    return Verdict(Refusal.MAX_OPEN_POSITIONS, detail)


def _position(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:  # noqa: ARG001
    position = view.ledger.positions.get(coin)
    if position is not None and position.szi != 0:
        return Verdict(Refusal.ALREADY_HAS_POSITION, f"{position.szi}")
    return None


def _pending(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:  # noqa: ARG001
    for order in view.ledger.pending(coin):
        return Verdict(Refusal.PENDING_ORDER_EXISTS, f"{order.cloid} is {order.state.name}")
    return None


def _throttle(refusal: Refusal, why: Callable[[t.ThrottleView], str | None]) -> Gate:
    """A throttle of RISK-6 as a gate of its own name."""

    def gate(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:  # noqa: ARG001 - as every gate
        detail = why(view.throttle)
        return None if detail is None else Verdict(refusal, detail)

    return gate


def _daily_limit(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:  # noqa: ARG001
    if view.entries_left_today is not None and view.entries_left_today <= 0:
        return Verdict(Refusal.DAILY_TRADE_LIMIT, "safety.max_daily_trades is reached")
    return None


def _budget(coin: str, sz: Decimal, view: EntryView) -> Verdict | None:  # noqa: ARG001
    if view.budget_left <= 0:
        return Verdict(Refusal.BUDGET_EXHAUSTED, "the rest is kept for cancels and flatten")
    if view.messages_left <= 0:
        return Verdict(Refusal.BUDGET_EXHAUSTED, "what is left of the minute's messages is kept for cancels and closes")
    return None


GATES: tuple[tuple[str, Gate], ...] = (
    ("mode", _mode),
    ("ready", _ready),
    ("market_cap", _market_cap),
    ("governor", risk_gate),
    ("position", _position),
    ("pending", _pending),
    ("hourly_drawdown", _throttle(Refusal.HOURLY_DRAWDOWN, t.hourly_drawdown)),
    ("tilt_guard", _throttle(Refusal.TILT_GUARD, t.tilt_guard)),
    ("reentry_delay", _throttle(Refusal.REENTRY_DELAY, t.reentry_delay)),
    ("correlation_cooldown", _throttle(Refusal.CORRELATION_COOLDOWN, t.correlation_cooldown)),
    ("burst_limit", _throttle(Refusal.BURST_LIMIT, t.burst_limit)),
    ("daily_limit", _daily_limit),
    ("budget", _budget),
)
"""Every gate by name, in the order of GATE-1; `explain` asks them all, the executor up to the first that refuses."""
