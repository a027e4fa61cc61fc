"""From the effects of a block to frames for the sessions that subscribed, and the cadence of periodic channels.

Frames are made when the block commits and delivered after the way to the client, so everybody sees the block as it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

from hip3.exchange.answers import dump
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.effects import Effect, Filled, FundingPaid, NonUserCanceled, OrderChanged, Traded
from hip3.exchange.info import Info
from hip3.exchange.outbox import Frame
from hip3.exchange.payloads import Touch, bbo_pair, fill_row, funding_row, order_update_row, touch_of, trade_row
from hip3.exchange.state import State
from hip3.exchange.subscriptions import Subscription, frame, state_frame


class Subscriber(Protocol):
    """What the hub needs of a session."""

    @property
    def subscriptions(self) -> dict[str, Subscription]: ...

    def push(self, subscription: Subscription, message: Frame) -> None:
        """Takes a frame, unless the subscription is gone."""
        ...


Batch = list[tuple[Subscriber, Subscription, Frame]]


class Hub:
    """The sessions of one exchange."""

    def __init__(self, state: State, info: Info, config: ExchangeConfig) -> None:
        self._state = state
        self._info = info
        self._config = config
        self._last_bbo: dict[str, Touch] = {}
        self._pushed_ms: dict[str, int] = {}
        self.sessions: list[Subscriber] = []

    def _period_ms(self, subscription: Subscription) -> int | None:
        """Cadence of a periodic channel; None for one that follows events."""
        match subscription.kind:
            case "activeAssetCtx" | "activeAssetData":
                return self._config.ctx_every_ms
            case "l2Book":
                return self._config.l2_fast_every_ms if subscription.fast else self._config.slow_every_ms
            case "allMids" | "openOrders" | "clearinghouseState":
                return self._config.slow_every_ms
        return None

    def next_due_ms(self) -> int | None:
        """When the next periodic push is due, in ms of the run; None while nobody wants any."""
        due = [
            self._pushed_ms.get(key, 0) + period
            for session in self.sessions
            for key, subscription in session.subscriptions.items()
            if (period := self._period_ms(subscription)) is not None
        ]
        return min(due) if due else None

    def publish(self, effects: Sequence[Effect], now_ms: int) -> Batch:
        """The frames of a block that committed at `now_ms` of the run, by session and order of subscription."""
        if not self.sessions:
            return []
        facts = self._facts(effects)
        changed_bbo = self._changed_bbo()
        batch: Batch = []
        due: dict[str, Frame | None] = {}
        for session in self.sessions:
            for key, subscription in session.subscriptions.items():
                text = facts.get((subscription.kind, subscription.user or subscription.coin or ""))
                if text is not None:
                    batch.append((session, subscription, Frame(subscription.channel, text)))
                elif subscription.kind == "bbo" and subscription.coin in changed_bbo:
                    data = changed_bbo[subscription.coin]
                    batch.append((session, subscription, frame(subscription, data)))
                elif (message := self._periodic(key, subscription, now_ms, due)) is not None:
                    batch.append((session, subscription, message))
        return batch

    def _periodic(self, key: str, subscription: Subscription, now_ms: int, made: dict[str, Frame | None]) -> Frame | None:
        period = self._period_ms(subscription)
        if period is None:
            return None
        if key not in made:  # once per block, however many sessions want it
            last = self._pushed_ms.setdefault(key, now_ms - now_ms % period)
            is_due = now_ms >= last + period
            made[key] = state_frame(subscription, self._info, self._state) if is_due else None
            if is_due:
                self._pushed_ms[key] = now_ms - now_ms % period
        return made[key]

    def _changed_bbo(self) -> dict[str | None, Any]:
        wanted = {s.coin for x in self.sessions for s in x.subscriptions.values() if s.kind == "bbo"}
        changed: dict[str | None, Any] = {}
        for coin in wanted:
            if coin is None:
                continue
            touch = touch_of(self._state.directory.by_coin[coin].book)
            if touch != self._last_bbo.get(coin):
                self._last_bbo[coin] = touch
                changed[coin] = {"coin": coin, "time": self._state.now_ms, "bbo": bbo_pair(touch)}
        return changed

    def _facts(self, effects: Sequence[Effect]) -> dict[tuple[str, str], str]:
        """Text of each fact channel, by kind and by user or coin; everything of one block is one frame."""
        updates: dict[str, list[Any]] = defaultdict(list)
        fills: dict[str, list[Any]] = defaultdict(list)
        fundings: dict[str, list[Any]] = defaultdict(list)
        cancels: dict[str, list[Any]] = defaultdict(list)
        trades: dict[str, list[Any]] = defaultdict(list)
        for effect in effects:
            if isinstance(effect, OrderChanged):
                updates[effect.address].append(order_update_row(effect))
            elif isinstance(effect, Filled):
                fills[effect.address].append(fill_row(effect.fill))
            elif isinstance(effect, FundingPaid):
                fundings[effect.address].append(funding_row(effect.payment, effect.rate))
            elif isinstance(effect, NonUserCanceled):
                cancels[effect.address].append({"coin": effect.coin, "oid": effect.oid})
            elif isinstance(effect, Traded):
                trades[effect.trade.coin].append(trade_row(effect.trade))
        facts: dict[tuple[str, str], str] = {}
        for user, rows in updates.items():
            facts["orderUpdates", user] = dump({"channel": "orderUpdates", "data": rows})
        for user, rows in fills.items():
            facts["userFills", user] = dump({"channel": "userFills", "data": {"user": user, "fills": rows}})
        for user, rows in fundings.items():
            facts["userFundings", user] = dump({"channel": "userFundings", "data": {"user": user, "fundings": rows}})
        for user in fills.keys() | cancels.keys():
            # The venue sends one kind per frame; with both in one block the fills go first and tell more.
            data = {"fills": fills[user]} if user in fills else {"nonUserCancel": cancels[user]}
            facts["userEvents", user] = dump({"channel": "user", "data": data})
        for coin, rows in trades.items():
            facts["trades", coin] = dump({"channel": "trades", "data": rows})
        return facts
