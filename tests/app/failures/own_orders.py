"""The bot's own orders in a scene: until one is sent or in a state, and frames about them that are lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hip3.core.ledger import TrackedOrder
from hip3.exchange.faults import Rule
from hip3.exchange.scripted import ScriptedSource
from hip3.fsm.order import OrderState
from hip3.simulate.world import World
from tests.app.failures.scenes import calm, jump, lost, script

OWN_FRAMES = ("post", "orderUpdates", "userFills")
ROOMY: dict[str, Any] = {"max_notional_per_market_usd": Decimal(50), "max_notional_total_usd": Decimal(400)}
"""Limits under which five markets can be entered."""


def deaf(uses: int = 1) -> list[Rule]:
    """The next `uses` frames of each channel that tells of our own orders are lost."""
    return [lost(channel, uses=uses) for channel in OWN_FRAMES]


def twice(coin: str) -> ScriptedSource:
    """A jump at 2.5 s and another, further, at 25 s: two signals for the same side."""
    return script(calm(coin), jump(coin, 2500), jump(coin, 25_000, bps=80))


def orders(world: World) -> list[TrackedOrder]:
    """Every order of the run as the bot sees it, oldest first."""
    ledger = world.bot.ledger
    return sorted([*ledger.orders.values(), *ledger.finished.values()], key=lambda o: o.intent.created_at_ms)


def entry(world: World) -> TrackedOrder:
    return next(o for o in orders(world) if not o.intent.reduce_only)


async def sent(world: World, count: int = 1) -> None:
    """Until the venue has read `count` entries."""
    await world.ready()
    await world.until(lambda: len(world.entries) == count)


async def in_state(world: World, *states: OrderState) -> None:
    await world.until(lambda: entry(world).state in states)


def verdicts(world: World) -> list[str]:
    return [str(n.fields["verdict"]) for n in world.events("signal_judged")]


async def in_state_after_send(world: World, state: OrderState) -> None:
    await sent(world)
    await in_state(world, state)
