"""How a run goes on from what an earlier one of the account left (SPEC 19): books, counters, causes. No task runs yet."""

from __future__ import annotations

from hip3.bot import Bot
from hip3.core.bookkeeper import Bookkeeper
from hip3.core.causes import Cause, Clears, ReasonCode, Severity
from hip3.core.records import IncidentRecord
from hip3.core.remembered import (
    ACCOUNT,
    ENDED_KEY,
    NO_BOT_RAN,
    OVERLAP_MS,
    RECOVERY,
    RUN_KEY,
    Remembered,
    resume_books,
    resume_limits,
)
from hip3.core.scribe import CURSOR_TIME_KEY, RISK_KEY
from hip3.ops import latch, run_facts

CLOCK_BACK_MS = 5_000
"""As for the distance from the venue's clock (NON-2); rows with the venue's own time are some 0.2 s off at most."""


def resume(bot: Bot, bookkeeper: Bookkeeper, memory: Remembered, config_hash: str) -> None:
    """Puts back what `memory` holds and marks the start of this run, in one commit."""
    now = bot.io.clock.wall_ms()
    with bot.scribe.step(f"run:{bot.run_id}"):
        latch.restore(bot.safety, memory.values.get(latch.KEY))
        doubt = doubt_cause(memory, now)
        if doubt is not None:
            bot.safety.keep(doubt)  # the latch has it from here on, so the values may go
            for key in memory.unreadable:
                bot.scribe.state(key, str(memory.cursor_ms) if key == CURSOR_TIME_KEY and memory.cursor_ms else None)
        if not memory.is_empty:
            _resume(bot, bookkeeper, memory, config_hash, now)
        bot.scribe.state(RUN_KEY, f"{bot.run_id}|{now}|{config_hash}")
        bot.scribe.state(ENDED_KEY, None)
        bot.scribe.state(run_facts.KEY, run_facts.dump(bot.settings))


def _resume(bot: Bot, bookkeeper: Bookkeeper, memory: Remembered, config_hash: str, now: int) -> None:
    resume_limits(bot.limits, memory, now)
    _resume_risk(bot, memory)
    specs = {coin: market.spec for coin, market in bot.markets.items()}
    strange = resume_books(bookkeeper, memory, specs, now)
    for subject, why in strange:
        bot.note("critical", "not_recovered", subject=subject, why=why)
        bot.scribe.put(IncidentRecord(f"not_recovered:{subject}:{now}", "NOT_RECOVERED", now, f"{subject}: {why}"))
    bot.note(
        "info",
        "recovered",
        orders=len(memory.orders),
        positions=len(bot.ledger.held()),
        cursor_ms=memory.cursor_ms,
        entries_today=memory.entries_today,
        ended_flat=memory.ended_flat,
        alive_ms=memory.alive_ms,
    )
    if memory.alive_ms is not None and not memory.ended_flat:
        bot.scribe.transition(RECOVERY, ACCOUNT, str(memory.alive_ms), str(now), NO_BOT_RAN, "from the last heartbeat on")
    strays = {f"{p.szi} {p.coin}" for p in bot.ledger.held() if p.coin not in bot.markets}
    strays |= {f"an order of {o.intent.coin}" for o in memory.orders if o.intent.coin not in bot.markets}
    if strays:
        what = (
            f"the last run had {', '.join(sorted(strays))}, not among the configured markets: no exit of this run follows it"
        )
        bot.safety.add(ReasonCode.FLATTEN_FAILED, Severity.HALT, "recovery", what, Clears.OPERATOR)
    if bot.trader is not None and memory.cursor_ms is not None and not memory.ended_flat:
        bot.trader.reconcile.fills_since_ms = memory.cursor_ms - OVERLAP_MS
    gap = gap_cause(memory, bot.settings.reconcile.backfill_window_ms, now)
    if gap is not None:
        bot.scribe.put(IncidentRecord(f"gap:{memory.ingest_ms}", gap.code.value, now, gap.message))
        bot.safety.keep(gap)
    back = clock_cause(memory, now)
    if back is not None:
        bot.scribe.put(IncidentRecord(f"clock:{memory.written_ms}", back.code.value, now, back.message))
        bot.safety.keep(back)
    if config_hash and memory.config_hash and memory.config_hash != config_hash:
        message = f"the configuration is {config_hash[:12]}, the last run had {memory.config_hash[:12]}"
        bot.safety.add(ReasonCode.CONFIG_HASH_CHANGED, Severity.SAFE, "config", message, Clears.OPERATOR)


def _resume_risk(bot: Bot, memory: Remembered) -> None:
    """RISK-1: counters persist. What cannot be read is no reason to begin at zero."""
    kept = {k.removeprefix(RISK_KEY): v for k, v in memory.values.items() if k.startswith(RISK_KEY)}
    if bot.trader is None or not kept:
        return
    try:
        bot.trader.risk.restore(kept)
    except ValueError as e:
        bot.safety.add(ReasonCode.STORAGE_UNAVAILABLE, Severity.HALT, "recovery", str(e), Clears.OPERATOR)


def doubt_cause(memory: Remembered, now_ms: int) -> Cause | None:
    """LESSONS 3: HALT where a value that a run goes on from cannot be read; it is not taken for one that was never there."""
    if not memory.unreadable:
        return None
    message = f"what the last run left of this account cannot be read: {'; '.join(memory.unreadable.values())}"
    return Cause(ReasonCode.STORAGE_UNAVAILABLE, Severity.HALT, "memory", now_ms, message, Clears.OPERATOR)


def gap_cause(memory: Remembered, window_ms: int, now_ms: int) -> Cause | None:
    """REC-3: HALT where the account was not followed for longer than `window_ms`.

    A run that ended flat left nothing to follow, so the time since is no gap.
    """
    if memory.ingest_ms is None or memory.ended_flat or now_ms - memory.ingest_ms <= window_ms:
        return None
    gap = now_ms - memory.ingest_ms
    message = f"the account was not followed for {gap} ms, more than reconcile.backfill_window_ms = {window_ms}"
    code, clears = ReasonCode.BACKFILL_WINDOW_EXCEEDED, Clears.OPERATOR
    return Cause(code, Severity.HALT, "recovery", now_ms, message, clears)


def clock_cause(memory: Remembered, now_ms: int) -> Cause | None:
    """SAFE where the clock stands CLOCK_BACK_MS or more before what an earlier run wrote last.

    Either it was set back or it was ahead then; the store cannot tell. A gap may hide behind it, and a day's entries and
    losses may be another day's (REC-3, GATE-6). The venue's time shows the first (NON-2), and nothing shows the second.
    """
    written = memory.written_ms
    if memory.is_empty or written is None or written - now_ms < CLOCK_BACK_MS:
        return None
    message = (
        f"the clock stands {written - now_ms} ms before the last row of the store: it was set back, or was ahead when that "
        "was written; gaps and the limits of a day are counted by it. Compare it with NTP"
    )
    return Cause(ReasonCode.CLOCK_SKEW, Severity.SAFE, "store", now_ms, message, Clears.OPERATOR)
