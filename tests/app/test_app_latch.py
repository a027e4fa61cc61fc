"""After a kill at any moment no entry is signed any more, by what the exchange receives (STOP-1, STOP-5, DESIGN 9.2)."""

from __future__ import annotations

from random import Random

import pytest

from hip3.exchange.config import ExchangeConfig
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import open_world
from tests.app.app_builders import MU, NVDA, SNDK, Script, bot_settings, sent
from tests.app.operator_desk import operate

COINS = (SNDK, MU, NVDA)


@pytest.mark.parametrize("seed", range(8))
async def test_a_kill_at_any_moment_ends_entries_and_exposure(seed: int) -> None:
    """STOP-5, DESIGN 9.2: three markets give signals every second; whatever was under way is executed or not, then flat."""
    rng = Random(seed)
    settings = bot_settings({"limits.max_notional_total_usd": 500, "position.time_stop_ms": 700}, coins=COINS)
    script = Script().calm(*COINS)
    for coin in COINS:
        script.rising(2, 9, coin=coin)
    config = ExchangeConfig(latency_ms=rng.choice((5, 20, 300)), block_ms=10, response_ms=20)
    async with open_world(settings, script.source(), config=config) as world:
        kill_ms = 1900 + rng.randint(0, 2500)
        await world.at(kill_ms)
        assert operate(world, rng.choice(("kill", "hold")))["ok"]
        latched = world.clock.wall_ms()
        await world.at(9500)
        late = [o for _, e in sent(world) for o in e.raw_action["orders"] if not o["r"] and e.nonce > latched]
        assert late == []
        assert world.bot.safety.mode is not SafetyMode.ARMED_LIVE
        await world.until(lambda: not world.positions() and not world.open_orders(), 20)
