"""How things stand by the store when no bot runs: the last run and its end, what the next one goes on from (OPS-7, STO-4).

Everything is as it was last booked, with its age: only the venue knows what became of it since (LESSONS 3). Reads, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hip3.core.clearing import Obstacle, halts
from hip3.core.explain import cause_dict
from hip3.core.remembered import ENDED_KEY, RUN_KEY, Remembered, RememberedOrder, resume_limits
from hip3.core.risk import DAY_MS, DailyLimits
from hip3.core.scribe import POSITION_KEY
from hip3.core.trades import MarketPosition
from hip3.ops import run_facts
from hip3.ops.keep import OBSERVER
from hip3.ops.resume import clock_cause, doubt_cause, gap_cause
from hip3.ops.run_facts import RunFacts
from hip3.ops.stopped import kept_safety, unhalt_obstacles
from hip3.ops.stores import OpenStore
from hip3.settings.schema import StartupPolicy
from hip3.store.memory import remember
from hip3.store.repository import RunRow

SCHEMA = 1
"""Raised when a field changes its meaning; new fields do not raise it."""
MOST_OTHERS = 5
View = dict[str, object]


def stored_view(stores: Sequence[OpenStore], now_ms: int) -> View | None:
    """The store that ran last, its last account in full; what else is not known to be flat in short. None: nothing ever ran.

    `now_ms` is Unix ms; ages are against it. Raises the errors of the store.
    """
    if not stores or not stores[0].runs:
        return None
    store = stores[0]
    run = store.runs[-1]
    view = _account(store, run, now_ms)
    left = [other for s in stores for other in _others(s, now_ms, besides=run.account if s is store else None)]
    return view | {"others": left[:MOST_OTHERS], "others_count": len(left)}


def _account(store: OpenStore, run: RunRow, now: int) -> View:
    memory = remember(store.reader, run.account, now)
    booked = store.reader.state_times(run.account)
    writer = store.reader.writer()
    day = now - now % DAY_MS
    trades = store.reader.trades(run.account, day, day + DAY_MS)
    return {
        "schema": SCHEMA,
        "at_ms": now,
        "store": store.name,
        "commits_in_spool": store.in_spool,
        "writer": writer,
        "network": store.source.network or None,
        "account": None if run.account == OBSERVER else run.account,
        "run": {
            "id": run.run_id,
            "age_ms": now - run.started_ms,
            "config_hash": run.config_hash,
            **how_ended(run, memory.values, now, writer),
        },
        "followed_age_ms": None if memory.ingest_ms is None else now - memory.ingest_ms,
        "next_start": next_start(memory, now),
        "positions": [
            _position(k.removeprefix(POSITION_KEY), text, now - booked[k], now)
            for k, text in sorted(memory.values.items())
            if k.startswith(POSITION_KEY)
        ],
        "orders": [_order(order, now) for order in memory.orders],
        "day": {
            "entries": memory.entries_today,
            "trades": len(trades),
            "pnl_usd": str(memory.pnl_today_usd),
            "fills": len(store.reader.fills(run.account, day, day + DAY_MS)),
            "signals": store.reader.count_signals(run.account, day, day + DAY_MS),
        },
    }


def how_ended(run: RunRow, values: Mapping[str, str], now: int, writer: str | None = None) -> View:
    """`ended` in one word, and its age: flat, exposed, killed (nobody said how it ended), running, or not_traded.

    A run that left no mark of its own on the account only observed, or ended before it had read it. The one that nobody
    said the end of runs where `writer` holds the store: a store has one, and the newest run is its.
    """
    began = values.get(RUN_KEY, "").partition("|")[0]
    word, _, at = values.get(ENDED_KEY, "").partition("|")
    if not began.isdecimal() or f"{int(began):x}" != run.run_id:
        word, at = "not_traded", "" if run.ended_ms is None else str(run.ended_ms)
    return {
        "ended": word or ("killed" if writer is None else "running"),
        "ended_age_ms": now - int(at) if at.isdecimal() else None,
    }


def next_start(memory: Remembered, now: int) -> View:
    """Mode and causes that a start of the same configuration would begin with now, as far as the store decides it, what
    stands against an `unhalt` before it, and whether policy promotes it."""
    facts = run_facts.read(memory.values.get(run_facts.KEY)) or RunFacts()
    limits = DailyLimits(None, facts.auto_stop_loss_usd)
    resume_limits(limits, memory, now)
    safety = kept_safety(memory, limits, now)
    lacks = unhalt_obstacles(safety, memory, accept_residue=False) if halts(safety) else []
    gap = gap_cause(memory, facts.backfill_window_ms, now)
    if gap is not None:
        safety.keep(gap)
        lacks.append(Obstacle(gap.code.value, "the start itself finds this gap: it is ended there, not before"))
    for cause in (clock_cause(memory, now), doubt_cause(memory, now)):
        if cause is not None:
            safety.keep(cause)
    promotes = facts.startup_policy is StartupPolicy.AUTO and not safety.blocking_promotion()
    return {
        "mode": safety.mode.name,
        "causes": [cause_dict(c, now) | {"still": safety.why_still(c)} for c in safety.causes],
        "against": {"unhalt": [o.as_dict() for o in lacks]} if halts(safety) else {},
        "policy": facts.startup_policy.value,
        "policy_promotes": promotes,
    }


def _position(coin: str, text: str, booked_age_ms: int, now: int) -> View:
    """As last booked; a text that cannot be read is shown as such, never as flat."""
    held = MarketPosition(coin)
    view: View = {"coin": coin, "booked_age_ms": booked_age_ms}
    try:
        held.restore(text)
    except ValueError as e:
        return view | {"szi": None, "entry_px": None, "age_ms": None, "error": str(e)}
    age = None if held.entry_ms is None else now - held.entry_ms
    return view | {"szi": str(held.szi), "entry_px": str(held.entry_px), "age_ms": age, "error": None}


def _order(order: RememberedOrder, now: int) -> View:
    sent, result = order.intent, order.result
    return {
        "cloid": sent.cloid,
        "coin": sent.coin,
        "side": sent.side,
        "sz": str(sent.sz),
        "px": str(sent.px),
        "reduce_only": sent.reduce_only,
        "state": None if result is None else result.state,
        "filled_sz": "0" if result is None else str(result.filled_sz),
        "age_ms": now - sent.sent_ms,
        "booked_age_ms": now - (sent.sent_ms if result is None else result.at_ms),
    }


def _others(store: OpenStore, now: int, besides: str | None) -> list[View]:
    """Accounts that the books do not show flat, the one that ran last first."""
    found: list[View] = []
    for account in dict.fromkeys(r.account for r in reversed(store.runs)):
        if account in (besides, OBSERVER):
            continue
        values, orders = store.reader.state(account), store.reader.unfinished_orders(account)
        coins = sorted(k.removeprefix(POSITION_KEY) for k in values if k.startswith(POSITION_KEY))
        last = next(r for r in reversed(store.runs) if r.account == account)
        ended = how_ended(last, values, now)
        if not (coins or orders or ended["ended"] == "exposed"):
            continue
        found.append(
            {
                "network": store.source.network or None,
                "account": account,
                "run": last.run_id,
                "age_ms": now - last.started_ms,
                "ended": ended["ended"],
                "positions": coins,
                "orders": len(orders),
            }
        )
    return found
