"""Books and venue apart: how far decides what may go on (REC-4)."""

from __future__ import annotations

import pytest

from hip3.core.ids import OrderSide
from hip3.exchange.faults import Drop, Point, ReplaceBody, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, Script, bot_settings, by_hand, dislocated
from tests.app.restarts import STOPS

SILENT = (
    Rule(Point.FRAME, Drop(), lambda s: s == "userFills", uses=None),
    Rule(Point.INFO, ReplaceBody("[]"), lambda s: s == "userFillsByTime", uses=None),
)
"""No fill reaches the bot, by frame or by question: only the account's statement tells of it."""


@pytest.mark.parametrize(
    ("keys", "code", "mode"),
    [
        ({"drift_critical_usd": 20}, "RECONCILE_WARN", SafetyMode.ARMED_SAFE),  # 0.02 x 600 is 12 USD
        ({"drift_warn_usd": 20}, None, SafetyMode.ARMED_LIVE),
        ({"drift_warn_sz": 1}, None, SafetyMode.ARMED_LIVE),
        ({}, "RECONCILE_CRITICAL", SafetyMode.HALT),
        ({"drift_critical_usd": 20, "drift_critical_sz": 0.001}, "RECONCILE_CRITICAL", SafetyMode.HALT),
    ],
    ids=["warn", "tolerated in USD", "tolerated in base units", "critical in USD", "critical in base units"],
)
async def test_how_far_the_books_are_off_decides_what_may_go_on(
    keys: dict[str, float], code: str | None, mode: SafetyMode
) -> None:
    """REC-4, SAFE-4: the owner sells a part and no fill tells of it: corrected when stated twice, and judged by its size."""
    long = {"position.time_stop_ms": 200_000, "position.reduce_only_timeout_ms": 300_000}
    settings = bot_settings(long | {f"reconcile.{k}": v for k, v in keys.items()})
    async with open_world(settings, dislocated().pulse(300).source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("fill")))
        world.faults.add(*SILENT)
        await by_hand(world, OrderSide.SELL, "590", "0.02", reduce_only=True)
        seen: list[tuple[str | None, SafetyMode]] = []

        def corrected() -> bool:
            codes = [c.code.value for c in world.bot.safety.causes if c.code.value.startswith("RECONCILE")]
            seen.append((codes[0] if codes else None, world.bot.safety.mode))
            return bool(world.events("position_corrected"))

        await world.until(corrected, 90)
        assert (code, mode) in seen
        assert {c for c, _ in seen} <= {None, code}
        if code == "RECONCILE_WARN":  # the next statement agrees
            await world.until(lambda: world.bot.safety.mode is SafetyMode.ARMED_LIVE, 90)
        world.faults.rules.clear()
        assert (await world.end()).exit_code == 0


async def test_a_position_that_only_the_venue_holds_is_critical_and_closed() -> None:
    """REC-4, LESSONS 30: a one-sided market halts, and the halt closes what the venue shows; nothing is added to it."""
    async with open_world(bot_settings(STOPS), Script().calm().pulse(300).source(), config=FAST) as world:
        await world.ready()
        world.faults.add(*SILENT)
        await by_hand(world, OrderSide.BUY, "610", "0.1")
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 90)
        assert "RECONCILE_CRITICAL" in [c.code.value for c in world.bot.safety.causes]
        await world.until(lambda: not world.positions(), 20)
        assert [o["r"] for o in world.orders()] == [False, True]  # the owner's entry, the halt's close
        world.faults.rules.clear()
        assert (await world.end()).exit_code == 0
