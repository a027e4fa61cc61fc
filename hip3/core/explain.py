"""Why a signal was traded or not: what every filter and every gate says of it, with its inputs and their ages (OPS-7).

Two halves. `Witness.see` runs in the step of the decision and takes references, nothing else: an order is on its way. The
rest runs after the order has left and asks the same gates again, all of them, on what was seen. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from attrs import define, evolve, frozen

from hip3.core.causes import Cause, Safety
from hip3.core.detector import DetectorConfig, Signal
from hip3.core.events import AssetCtx, Bbo
from hip3.core.filter_trail import FilterStep, Inputs, filter_trail
from hip3.core.gates import GATES, EntryView, Refusal, Verdict, exposed_coins, exposure_usd, mark_of
from hip3.core.ledger import Ledger, TrackedOrder
from hip3.core.market import MarketState, missing_market_data
from hip3.core.orders import OrderIntent
from hip3.core.posts import PostBook
from hip3.core.ready import Ready
from hip3.core.scheduler import Enqueued, Scheduler, admission
from hip3.core.trades import MarketPosition
from hip3.fsm.order import OrderState
from hip3.fsm.ready import Condition
from hip3.fsm.safety import SafetyMode


@frozen
class GateStep:
    """What one gate says. `refusal` is None where it lets the order pass."""

    name: str
    refusal: Refusal | None
    detail: str
    inputs: Inputs

    def as_dict(self) -> dict[str, object]:
        said: dict[str, object] = {"name": self.name, "verdict": "pass" if self.refusal is None else self.refusal.value}
        return said | ({"detail": self.detail} if self.detail else {}) | {"inputs": self.inputs}


# ---- what the gates saw

_MarketSeen = tuple[MarketState, Bbo | None, int | None, AssetCtx | None, int | None, Decimal | None, tuple[str, ...]]
_OrderSeen = tuple[OrderIntent, OrderState, Decimal, Decimal, int | None]


@frozen
class Seen:
    """References of one decision. `view` holds the live books; `frozen_view` gives them as they were."""

    view: EntryView
    wall_ms: int
    mode: SafetyMode
    causes: tuple[Cause, ...]
    missing: tuple[Condition, ...]
    markets: tuple[_MarketSeen, ...]
    positions: tuple[tuple[MarketPosition, Decimal, int | None], ...]
    orders: tuple[_OrderSeen, ...]
    queued: int
    in_flight: int

    def frozen_view(self) -> EntryView:
        """The view with books of its own, as they stood in the step of the decision."""
        positions = {p.coin: MarketPosition(p.coin, szi=szi, entry_ms=entry) for p, szi, entry in self.positions}
        orders = {}
        for intent, state, filled, reported, sent_ms in self.orders:
            order = TrackedOrder(intent, state, filled_sz=filled, reported_sz=reported, sent_ms=sent_ms)
            orders[intent.cloid.value] = order
        return evolve(
            self.view, ledger=Ledger(orders, positions=positions), markets={m[0].coin: _market(m) for m in self.markets}
        )


def _market(seen: _MarketSeen) -> MarketState:
    state, bbo, bbo_ms, ctx, ctx_ms, reference, acked = seen
    return MarketState(
        state.spec,
        state.reference,
        bbo=bbo,
        bbo_recv_ms=bbo_ms,
        ctx=ctx,
        ctx_recv_ms=ctx_ms,
        reference_px=reference,
        acked=set(acked),
    )


@define
class Witness:
    """Sees what the gates see. `max_bbo_age_ms` is READY-MD's; the books are read and never changed."""

    safety: Safety
    ready: Ready
    scheduler: Scheduler
    posts: PostBook
    detector: DetectorConfig

    def see(self, coin: str, view: EntryView, wall_ms: int) -> Seen:
        """Takes references in the step of the decision: no formatting, no arithmetic, other markets only where held."""
        ledger, markets = view.ledger, view.markets
        positions = tuple([(p, p.szi, p.entry_ms) for p in ledger.positions.values() if p.szi])
        orders = tuple([(o.intent, o.state, o.filled_sz, o.reported_sz, o.sent_ms) for o in ledger.orders.values()])
        coins = {coin}
        if positions or orders:
            coins.update(p[0].coin for p in positions)
            coins.update(o[0].coin for o in orders)
        seen = [
            (m, m.bbo, m.bbo_recv_ms, m.ctx, m.ctx_recv_ms, m.reference_px, tuple(m.acked))
            for m in map(markets.get, coins)
            if m
        ]
        return Seen(
            view,
            wall_ms,
            self.safety.mode,
            self.safety.causes,
            self.ready.missing,
            tuple(seen),
            positions,
            orders,
            self.scheduler.queued_new,
            self.posts.in_flight,
        )

    def trail(self, signal: Signal, seen: Seen, verdict: Verdict) -> dict[str, object]:
        """The fields of `signal_trail`: every filter and gate, whatever the first refusal was.

        Made for the reader of the journal, after the order has left: what it looks at is in `seen` or never changes.
        """
        steps = gate_trail(signal, seen, self.scheduler, self.detector)
        return {
            "signal": signal.id,
            "coin": signal.coin,
            "verdict": str(verdict),
            "judged_after_ms": seen.view.now_ms - signal.detected_mono_ms,
            "filters": as_dicts(filter_trail(signal, self.detector)),
            "gates": as_dicts(steps),
        }


def as_dicts(steps: Iterable[FilterStep] | Iterable[GateStep]) -> list[dict[str, object]]:
    """Steps as the journal holds them."""
    return [step.as_dict() for step in steps]


# ---- gates


@frozen
class Case:
    """One signal before the gates. `view` is frozen."""

    signal: Signal
    seen: Seen
    view: EntryView
    config: DetectorConfig


def gate_trail(signal: Signal, seen: Seen, scheduler: Scheduler, config: DetectorConfig) -> tuple[GateStep, ...]:
    """Every gate in the order of GATE-1, then the queue. The first that refuses is the one that decided."""
    case = Case(signal, seen, seen.frozen_view(), config)
    steps = []
    for name, gate in GATES:
        refused = gate(signal.coin, signal.sz, case.view)
        inputs = INPUTS[name](case) if name in INPUTS else {}
        steps.append(GateStep(name, refused.refusal if refused else None, refused.detail if refused else "", inputs))
    return (*steps, _queue(seen, scheduler))


def _queue(seen: Seen, scheduler: Scheduler) -> GateStep:
    """BAT-3: posts in flight, then the queue of new orders."""
    config = scheduler.config
    result = admission(config, seen.queued, seen.in_flight)
    refusals = {Enqueued.INFLIGHT_FULL: Refusal.INFLIGHT_FULL, Enqueued.QUEUE_FULL: Refusal.QUEUE_FULL}
    inputs: Inputs = {
        "in_flight": seen.in_flight,
        "max_inflight": config.max_inflight,
        "high_water": config.high_water,
        "queued": seen.queued,
        "queue_new": config.queue_new,
    }
    return GateStep("queue", refusals.get(result), "" if result is Enqueued.QUEUED else result.value, inputs)


def _mode(case: Case) -> Inputs:
    return {"mode": case.seen.mode.name, "causes": [cause_dict(c, case.seen.wall_ms) for c in case.seen.causes]}


def cause_dict(cause: Cause, wall_ms: int) -> Inputs:
    """A cause as people and machines read it, with its age."""
    return {
        "code": cause.code.value,
        "severity": cause.severity.name,
        "source": cause.source,
        "age_ms": wall_ms - cause.since_ms,
        "message": cause.message,
        "clears": cause.clears.value,
    }


def _ready(case: Case) -> Inputs:
    market = case.view.markets[case.signal.coin]
    most_bbo, most_ctx = case.config.max_bbo_age_ms, case.config.max_ctx_age_ms
    return {
        "conditions": {c.value: c not in case.seen.missing for c in Condition},
        "market_missing": missing_market_data(market, case.view.now_ms, most_bbo, most_ctx) or "nothing",
        "bbo_age_ms": market.bbo_age_ms(case.view.now_ms),
        "max_bbo_age_ms": most_bbo,
        "ctx_age_ms": market.ctx_age_ms(case.view.now_ms),
        "max_ctx_age_ms": most_ctx,
    }


def _market_cap(case: Case) -> Inputs:
    return {
        **_mark(case.signal.coin, case.view),
        "max_mark_age_ms": case.view.max_mark_age_ms,
        "order_usd": _order_usd(case),
        "exposure_usd": exposure_usd(case.view, case.signal.coin),
        "cap_usd": case.view.caps.per_market_usd,
    }


def _governor(case: Case) -> Inputs:
    parts = {coin: exposure_usd(case.view, coin) for coin in sorted(exposed_coins(case.view))}
    known = [usd for usd in parts.values() if usd is not None]
    return {
        "order_usd": _order_usd(case),
        "exposure_usd": sum(known, Decimal(0)) if len(known) == len(parts) else None,
        "cap_usd": case.view.caps.total_usd,
        "open_positions": len(parts),
        "max_open_positions": _limit(case.view.caps.max_positions),
        "markets": {coin: {"exposure_usd": usd, **_mark(coin, case.view)} for coin, usd in parts.items()},
    }


def _mark(coin: str, view: EntryView) -> Inputs:
    market = view.markets.get(coin)
    return {"mark_px": mark_of(view, coin), "mark_age_ms": market.ctx_age_ms(view.now_ms) if market else None}


def _order_usd(case: Case) -> Decimal | None:
    mark = mark_of(case.view, case.signal.coin)
    return None if mark is None else case.signal.sz * mark


def _position(case: Case) -> Inputs:
    held = case.view.ledger.positions.get(case.signal.coin)
    if held is None:
        return {"szi": Decimal(0)}
    return {"szi": held.szi, "age_ms": None if held.entry_ms is None else case.seen.wall_ms - held.entry_ms}


def _pending(case: Case) -> Inputs:
    return {
        "orders": [
            {
                "cloid": o.cloid.value,
                "state": o.state.name,
                "reduce_only": o.intent.reduce_only,
                "remaining_sz": o.remaining_sz,
                "age_ms": case.seen.wall_ms - o.intent.created_at_ms,
            }
            for o in case.view.ledger.pending(case.signal.coin)
        ]
    }


def _limit(value: object) -> object:
    return "off" if value is None else value


def _hourly_drawdown(case: Case) -> Inputs:
    v = case.view.throttle
    return {"hour_loss_usd": v.hour_loss_usd, "max_hourly_drawdown_usd": _limit(v.config.max_hourly_drawdown_usd)}


def _tilt_guard(case: Case) -> Inputs:
    v = case.view.throttle
    inputs: Inputs = {"losses_in_a_row": v.losses_in_a_row, "tilt_losses": _limit(v.config.tilt_losses)}
    return inputs | {"since_loss_ms": v.since_loss_ms, "tilt_pause_ms": _limit(v.config.tilt_pause_ms)}


def _reentry_delay(case: Case) -> Inputs:
    v = case.view.throttle
    return {"since_close_ms": v.since_close_ms, "reentry_delay_ms": _limit(v.config.reentry_delay_ms)}


def _correlation_cooldown(case: Case) -> Inputs:
    v = case.view.throttle
    other, since = v.other_entry or (None, None)
    wait = _limit(v.config.correlation_cooldown_ms)
    return {"other_coin": other, "since_other_entry_ms": since, "correlation_cooldown_ms": wait}


def _burst_limit(case: Case) -> Inputs:
    v = case.view.throttle
    most = _limit(v.config.max_entries_per_market_per_min)
    return {"entries_in_a_minute": v.entries_in_a_minute, "max_entries_per_market_per_min": most}


def _daily_limit(case: Case) -> Inputs:
    left = case.view.entries_left_today
    return {"entries_left_today": "no limit" if left is None else left}


def _budget(case: Case) -> Inputs:
    return {"actions_left": case.view.budget_left, "messages_left": case.view.messages_left}


INPUTS: Mapping[str, Callable[[Case], Inputs]] = {
    "mode": _mode,
    "ready": _ready,
    "market_cap": _market_cap,
    "governor": _governor,
    "position": _position,
    "pending": _pending,
    "hourly_drawdown": _hourly_drawdown,
    "tilt_guard": _tilt_guard,
    "reentry_delay": _reentry_delay,
    "correlation_cooldown": _correlation_cooldown,
    "burst_limit": _burst_limit,
    "daily_limit": _daily_limit,
    "budget": _budget,
}
"""What each gate looked at, by its name in GATES."""
