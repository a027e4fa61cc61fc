"""Which causes can be looked up again: for each, the question whether it holds still, asked of its source (SAFE-1).

What is not here was a thing of a moment (a kill, a crash): an operator's word ends it. Nothing here changes anything.
"""

from __future__ import annotations

from hip3.bot import Bot
from hip3.core.causes import Cause, ReasonCode, Watch
from hip3.fsm.order import OrderState


def watch_causes(bot: Bot) -> None:
    """Registers the questions that the parts of `bot` can answer."""

    def disconnected(_cause: Cause) -> str | None:
        if bot.ready.is_ready:
            return None
        return f"not READY since the link was lost: {bot.ready.state.name}"

    def lost_today(_cause: Cause) -> str | None:
        return bot.limits.exceeded(bot.io.clock.wall_ms())

    def in_doubt(cause: Cause) -> str | None:
        for order in bot.ledger.orders.values():
            if str(order.cloid) == cause.source and order.state is OrderState.UNKNOWN:
                return f"order {order.cloid} on {order.intent.coin} is in doubt"
        return None

    def unwritable(_cause: Cause) -> str | None:
        return "the last commit to the store failed" if bot.scribe.is_failing else None

    for code, still in (
        (ReasonCode.WS_DISCONNECT, disconnected),
        (ReasonCode.DAILY_LOSS, lost_today),
        (ReasonCode.EXECUTION_RETRY_BUDGET_EXCEEDED, in_doubt),
        (ReasonCode.STORAGE_UNAVAILABLE, unwritable),
    ):
        bot.safety.watch(code, Watch(still))
