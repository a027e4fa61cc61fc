"""The ways to a looser mode and what stands against each: promotion, the end of a HALT, recovery (SAFE-3, STOP-1, STOP-4).

Every way asks the same questions, whoever goes it. Nothing here tightens: causes do that by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from hip3.bot import Bot, Trader
from hip3.core.causes import ReasonCode
from hip3.core.clearing import Obstacle, halts, holds, obstacles
from hip3.core.explain import cause_dict
from hip3.core.recovery import lacking
from hip3.fsm.safety import SafetyMode
from hip3.settings.schema import StartupPolicy
from hip3.tasks.reconcile import READ_EVERY_MS


def look(bot: Bot) -> None:
    """One look of the timers: what policy and evidence allow by themselves."""
    _try_recover(bot)
    bot.look_at_database()
    bot.look_at_clock()
    _try_promote(bot)


def causes_view(bot: Bot) -> list[dict[str, object]]:
    """The causes in force for people and machines, each with why it holds still, by its own source."""
    wall = bot.io.clock.wall_ms()
    return [cause_dict(c, wall) | {"still": bot.safety.why_still(c)} for c in bot.safety.causes]


def obstacles_view(bot: Bot) -> dict[str, list[dict[str, str]]]:
    """What stands against each way out of the present mode; a way that does not begin here is left out."""
    mode = bot.safety.mode
    if mode is SafetyMode.HALT:
        release, recovery = release_obstacles(bot, accept_residue=False), recovery_obstacles(bot)
        return {"unhalt": [o.as_dict() for o in release], "recovery": [o.as_dict() for o in recovery]}
    if mode is SafetyMode.ARMED_SAFE:
        return {"promote": [o.as_dict() for o in promotion_obstacles(bot, ReasonCode.MANUAL_PROMOTE)]}
    return {}


def promotion_obstacles(bot: Bot, code: ReasonCode) -> list[Obstacle]:
    """What lacks for ARMED_LIVE (SAFE-3), by policy or by an operator, who may end some causes with it."""
    if code is ReasonCode.AUTO_PROMOTE:
        found = [Obstacle(c.code.value, c.message) for c in bot.safety.blocking_promotion(code)]
    else:
        found = [Obstacle(c.code.value, f"HALT, to be ended first: {c.message}") for c in halts(bot.safety)]
        found += obstacles(bot.safety, holds(bot.safety))
    if not bot.ready.is_ready:
        missing = ", ".join(c.value for c in bot.ready.missing)
        found.append(Obstacle("READY", f"{bot.ready.state.name}, missing: {missing or 'a session'}"))
    return found + ([] if bot.trader is None else list(_unreconciled(bot, bot.trader)))


def _unreconciled(bot: Bot, trader: Trader) -> Iterator[Obstacle]:
    """Why the books are not known to agree with the venue."""
    read_ms = trader.reconcile.account_read_ms
    if read_ms is None:
        yield Obstacle("RECONCILE", "the account has not been read yet")
    elif (age := bot.io.clock.mono_ms() - read_ms) > 2 * READ_EVERY_MS:
        yield Obstacle("RECONCILE", f"the account was read {age} ms ago")
    for order in bot.ledger.in_doubt():
        yield Obstacle("RECONCILE", f"order {order.cloid} on {order.intent.coin} is in doubt")


def release_obstacles(bot: Bot, *, accept_residue: bool) -> list[Obstacle]:
    """What lacks to leave HALT towards ARMED_SAFE: no cause holds still, and the account is certified flat."""
    found = obstacles(bot.safety, halts(bot.safety))
    if bot.trader is None or accept_residue:
        return found
    last = bot.halt_flatten
    if last is None or last.incident != bot.safety.incident:
        found.append(Obstacle("FLAT_CERTIFICATE", "no flatten has ended since the last cause of this HALT came"))
    elif not last.certificate.flat:
        left = "; ".join(last.certificate.residual or last.certificate.problems)
        found.append(Obstacle("FLAT_CERTIFICATE", f"not flat: {left}"))
    elif bot.is_exposed:
        coins = ", ".join(p.coin for p in bot.ledger.held()) or "orders under way"
        found.append(Obstacle("EXPOSURE", f"not flat any more: {coins}"))
    return found


def _try_promote(bot: Bot) -> None:
    """ARMED_SAFE to ARMED_LIVE by policy, when READY-TRADING holds and nothing else forbids it (SAFE-3)."""
    if bot.settings.safety.startup_policy is not StartupPolicy.AUTO or bot.safety.mode is not SafetyMode.ARMED_SAFE:
        return
    if not promotion_obstacles(bot, ReasonCode.AUTO_PROMOTE):
        bot.safety.promote(ReasonCode.AUTO_PROMOTE, "READY-TRADING, startup_policy = auto")


def recovery_obstacles(bot: Bot) -> list[Obstacle]:
    """What a HALT waits for that may end by itself (STOP-4): the list, the evidence, a healthy venue, a flat account."""
    causes = halts(bot.safety)
    waits = lacking(causes, bot.evidence, bot.safety.incident)
    found = [] if waits is None else [Obstacle("EVIDENCE", waits)]
    if not bot.ready.is_ready:
        found.append(Obstacle("READY", bot.ready.state.name))
    if (missing := bot.metadata.missing) is not None:
        found.append(Obstacle("METADATA", missing))
    return found + release_obstacles(bot, accept_residue=False)


def _try_recover(bot: Bot) -> None:
    if bot.safety.mode is not SafetyMode.HALT or recovery_obstacles(bot):
        return
    ended = halts(bot.safety)
    names = ", ".join(c.code.value for c in ended)
    message = f"{names} ended after {bot.evidence.clean} clean reconciles; entries wait for a promotion"
    bot.safety.end(ended, ReasonCode.HALT_RECOVERY_AUTO, "recovery", message)
