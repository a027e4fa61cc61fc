"""How the bot is, as one object: every value with its age, what is not known as null (LESSONS 3). Reads, changes nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice

import trio

import hip3
from hip3.bot import Bot
from hip3.core.events import Level
from hip3.core.guards import GuardName
from hip3.core.ledger import TrackedOrder
from hip3.core.market import MarketState, missing_market_data
from hip3.core.outlook import SignalRecord
from hip3.core.trades import MarketPosition
from hip3.fsm.ready import Condition
from hip3.io.link import Link
from hip3.ops.modes import causes_view, obstacles_view

SCHEMA = 1
"""Raised when a field changes its meaning; new fields do not raise it."""
MOST_ORDERS = 50
"""Orders listed; a market has at most one entry and one close alive, so this is 25 markets at once."""

View = dict[str, object]


def status_view(bot: Bot, *, pid: int, config_hash: str) -> View:
    """The whole picture. Ages are ms by the monotonic clock where the bot keeps it, else by the wall clock."""
    wall, trader = bot.io.clock.wall_ms(), bot.trader
    view: View = {
        "schema": SCHEMA,
        "at_ms": wall,
        "run": _run(bot, pid, config_hash),
        "lifecycle": {"state": bot.lifecycle.state.name, "age_ms": _since(bot, "lifecycle")},
        "safety": {
            "mode": bot.safety.mode.name,
            "age_ms": _since(bot, "safety"),
            "allows_entry": bot.safety.allows_entry,
            "causes": causes_view(bot),
            "against": obstacles_view(bot),
        },
        "guards": _guards(bot),
        "ready": _ready(bot),
        "links": [_link(bot, link) for link in (bot.market_link, trader.account_link if trader else None) if link],
        "markets": [_market(bot, market) for market in bot.markets.values()],
        "signals": {"count": bot.signal_book.count, "verdicts": dict(bot.signal_book.verdicts)},
        "journal": {"notes": bot.journal.total, "dropped": bot.journal.dropped},
    }
    return view | _account(bot) if trader else view


def _since(bot: Bot, what: str) -> int:
    """Age of a state in ms."""
    return bot.io.clock.mono_ms() - bot.changed_ms[what]


def _ago(now_ms: int, then_ms: int | None) -> int | None:
    return None if then_ms is None else now_ms - then_ms


def _run(bot: Bot, pid: int, config_hash: str) -> View:
    settings, trader = bot.settings, bot.trader
    return {
        "id": f"{bot.run_id:x}",
        "pid": pid,
        "age_ms": _since(bot, "run"),
        "network": settings.network.value,
        "mode": settings.mode.value,
        "account": trader.account.user if trader else None,
        "signer": trader.account.signer.address if trader else None,
        "config_hash": config_hash,
        "versions": {"hip3": hip3.__version__, "python": platform.python_version(), "trio": trio.__version__},
    }


def _ready(bot: Bot) -> View:
    """Each condition with the age of what it rests on: the youngest quote, the session, the last reading of the account."""
    now, trader = bot.io.clock.mono_ms(), bot.trader
    quotes = [m.bbo_recv_ms for m in bot.markets.values() if m.bbo_recv_ms is not None]
    read = trader.reconcile.account_read_ms if trader else None
    session = trader.account_link.live_since_ms if trader else None
    evidence = {
        Condition.MD_READY: max(quotes, default=None),
        Condition.ORDER_SNAPSHOT: read,
        Condition.FILLS_SNAPSHOT: session,
        Condition.POSITION_SYNCED: read,
    }
    return {
        "state": bot.ready.state.name,
        "age_ms": _since(bot, "ready"),
        "conditions": {c.value: {"holds": bot.ready.holds(c), "age_ms": _ago(now, evidence[c])} for c in Condition},
    }


def _guards(bot: Bot) -> list[View]:
    """Each guard with its evidence and the evidence's age; null where it has never reported. Empty in observation."""
    now, guards = bot.io.clock.mono_ms(), bot.guards
    if bot.trader is None:
        return []
    rows: list[View] = []
    for name in GuardName:
        last = guards.last(name)
        age_ms = None if last is None else now - last.at_ms
        said: View = {"evidence": None if last is None else last.evidence, "age_ms": age_ms}
        rows.append({"name": name.value, "level": guards.level(name).value, **said})
    return rows


def _link(bot: Bot, link: Link) -> View:
    now = bot.io.clock.mono_ms()
    return {
        "name": link.name,
        "state": link.state.name,
        "live_age_ms": _ago(now, link.live_since_ms),
        "last_message_age_ms": _ago(now, link.last_recv_ms),
        "connects": link.connects,
        "unreadable": link.unreadable,
    }


# ---- markets


def _market(bot: Bot, market: MarketState) -> View:
    now, d, coin = bot.io.clock.mono_ms(), bot.settings.detector, market.coin
    bbo = market.bbo
    return {
        "coin": coin,
        "bid": _level(bbo.bid if bbo else None),
        "ask": _level(bbo.ask if bbo else None),
        "bbo_age_ms": market.bbo_age_ms(now),
        "reference": market.reference.value,
        "reference_px": market.reference_px,
        "mark_px": market.ctx.mark_px if market.ctx else None,
        "ctx_age_ms": market.ctx_age_ms(now),
        "missing": missing_market_data(market, now, d.max_bbo_age_ms, d.max_ctx_age_ms),
        "excluded": coin in bot.timers.excluded,
        "cost_bps": bot.detector.cost_bps(coin),
        "signals": bot.signal_book.count_by_coin[coin],
        "last_signal": _signal(bot, bot.signal_book.last_by_coin.get(coin)),
        "last_filter": bot.detector.last_reason.get(coin),
    }


def _level(level: Level | None) -> View | None:
    return None if level is None else {"px": level.px, "sz": level.sz}


def _signal(bot: Bot, record: SignalRecord | None) -> View | None:
    if record is None:
        return None
    return {
        "id": record.signal.id,
        "age_ms": bot.io.clock.mono_ms() - record.signal.detected_mono_ms,
        "side": record.signal.side.name,
        "edge_bps": record.signal.edge_bps,
        "verdict": str(record.verdict) if record.verdict else None,
        "detail": record.verdict.detail if record.verdict else None,
    }


# ---- what only a bot with an account has


def _account(bot: Bot) -> View:
    now, trader, posts, limits = bot.io.clock.mono_ms(), bot.trader, bot.posts, bot.limits
    assert trader is not None
    orders = list(islice(bot.ledger.orders.values(), MOST_ORDERS))
    oldest = min((p.registered_ms for p in posts.live), default=None)
    read, due = trader.reconcile.service_read_ms, trader.dead_man.due_ms
    return {
        "positions": [_position(bot, p) for p in bot.ledger.held()],
        "orders": [_order(bot, o) for o in orders],
        "orders_not_listed": len(bot.ledger.orders) - len(orders),
        "account_read_age_ms": _ago(now, trader.reconcile.account_read_ms),
        "posts": {
            "in_flight": posts.in_flight,
            "sent": posts.sent,
            "completed": posts.completed,
            "high_water": posts.high_water,
            "oldest_age_ms": _ago(now, oldest),
            "queued": len(bot.scheduler),
        },
        # A bot that has not read since its start has what the start read.
        "budget": {
            "left": bot.budget.left,
            "used": bot.budget.used,
            "cap": bot.budget.cap,
            "sent_since": bot.budget.since,
            "age_ms": _ago(now, bot.changed_ms["run"] if read is None else read),
        },
        "dead_man": {
            "state": trader.dead_man.state.value,
            "why": trader.dead_man.why,
            "fires_in_ms": None if due is None else due - bot.io.clock.wall_ms() - bot.nonces.offset_ms,
        },
        "day": {
            "entries": limits.entries,
            "max_entries": limits.max_trades,
            "pnl_usd": limits.pnl_usd,
            "max_loss_usd": limits.max_loss_usd,
        },
        "counts": _counts(bot),
    }


def _position(bot: Bot, position: MarketPosition) -> View:
    wall, now, coin = bot.io.clock.wall_ms(), bot.io.clock.mono_ms(), position.coin
    market = bot.markets.get(coin)
    mark = market.ctx.mark_px if market is not None and market.ctx is not None else None
    return {
        "coin": coin,
        "state": position.state.name,
        "szi": position.szi,
        "entry_px": position.entry_px,
        "age_ms": _ago(wall, position.entry_ms),
        "last_fill_age_ms": _ago(wall, position.last_fill_ms),
        "mark_px": mark,
        "mark_age_ms": market.ctx_age_ms(now) if market is not None else None,
        "unrealized_usd": None if mark is None else position.unrealized_usd(mark),
        "close_attempts": position.close_attempts,
        "signal": position.signal.id if position.signal else None,
    }


def _order(bot: Bot, order: TrackedOrder) -> View:
    wall, intent = bot.io.clock.wall_ms(), order.intent
    return {
        "cloid": order.cloid.value,
        "coin": intent.coin,
        "side": intent.side.name,
        "sz": intent.sz,
        "px": intent.px,
        "reduce_only": intent.reduce_only,
        "state": order.state.name,
        "filled_sz": order.filled_sz,
        "age_ms": wall - intent.created_at_ms,
        "doubt_age_ms": _ago(wall, order.doubted_ms),
        "signal": intent.signal_id,
    }


def _counts(bot: Bot) -> View:
    """Sums of the run; they are as old as the run."""
    t = bot.tally
    return {
        "entries": t.entries,
        "entries_filled": t.entries_filled,
        "entries_rejected": t.entries_rejected,
        "entries_unresolved": t.entries_unresolved,
        **t.order_metrics,
        **bot.posts.metrics,
        "fill_rate": _rounded(t.fill_rate),
        "closes": t.closes,
        "fills": t.fills,
        "trades": t.trades,
        "wins": t.wins,
        "realized_usd": t.realized_usd,
        "fees_usd": t.fees_usd,
        "pnl_usd": t.pnl_usd,
        "in_doubt": _count(bot.ledger.in_doubt()),
    }


def _rounded(value: Decimal | None) -> Decimal | None:
    return None if value is None else round(value, 4)


def _count(items: Iterable[object]) -> int:
    return sum(1 for _ in items)
