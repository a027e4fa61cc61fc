"""The governor and the throttles, each from a venue frame to the entry that is sent or is not (RISK-5, RISK-6)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from attrs import evolve, frozen

from hip3.core.gates import Refusal
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, MU, NVDA, SNDK, Script, bot_settings, closes, entries, judged, verdicts

BRIEF = {"position.time_stop_ms": 2000}
RISING = Script().calm().rising(2, 16)
"""A buy signal every second; with a time stop of 2 s an entry about every 3 s, each a loss of 2.5 cents."""
PAIR = Script().calm(SNDK, MU).oracle(1500, "602").rising(4, 16, coin=MU)
"""SNDK at second 2; MU every second from 4 on."""


def at_s(world: World) -> list[int]:
    """Seconds of the run in which entries left."""
    return [at // 1000 for at, e in world.exchange.received for o in e.raw_action.get("orders", ()) if not o["r"]]


@frozen
class Case:
    """With `keys`, entries leave in the seconds `on`; without them in `off`. Of what is refused in between, `refusal`."""

    keys: Mapping[str, object]
    on: list[int]
    off: list[int]
    refusal: Refusal
    script: Script = RISING
    coins: tuple[str, ...] = (SNDK,)


CASES = {
    "reentry_delay_ms": Case({"risk.reentry_delay_ms": 3500}, [2, 8, 14], [2, 5, 8, 11, 14], Refusal.REENTRY_DELAY),
    "max_entries_per_market_per_min": Case(
        {"risk.max_entries_per_market_per_min": 2}, [2, 5], [2, 5, 8, 11, 14], Refusal.BURST_LIMIT
    ),
    "max_hourly_drawdown_usd": Case(
        {"risk.max_hourly_drawdown_usd": 0.04}, [2, 5], [2, 5, 8, 11, 14], Refusal.HOURLY_DRAWDOWN
    ),
    "tilt_losses": Case(
        {"risk.tilt_losses": 2, "risk.tilt_pause_ms": 4000}, [2, 5, 12], [2, 5, 8, 11, 14], Refusal.TILT_GUARD
    ),
    "tilt_pause_ms": Case(
        {"risk.tilt_losses": 2, "risk.tilt_pause_ms": 60_000}, [2, 5], [2, 5, 8, 11, 14], Refusal.TILT_GUARD
    ),
    "correlation_cooldown_ms": Case(
        {"risk.correlation_cooldown_ms": 5500},
        [2, 8, 11, 14],
        [2, 4, 7, 10, 13, 16],
        Refusal.CORRELATION_COOLDOWN,
        PAIR,
        (SNDK, MU),
    ),
    "max_open_positions": Case(
        {"risk.max_open_positions": 1},
        [2, 5, 8, 11, 14],
        [2, 4, 7, 10, 13, 16],
        Refusal.MAX_OPEN_POSITIONS,
        PAIR,
        (SNDK, MU),
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_throttle_lets_signals_pass_by_and_ends(name: str) -> None:
    """RISK-6, RISK-5: refused by its name, with its key in the detail; exits go on; off, the same signals are traded."""
    case = CASES[name]
    seen = []
    for keys in (case.keys, {}):
        async with open_world(bot_settings({**BRIEF, **keys}, coins=case.coins), case.script.source(), config=FAST) as world:
            await world.at(16_500)
            seen.append(at_s(world))
            refused = judged(world, f"Skipped({case.refusal.value})") + judged(world, f"Rejected({case.refusal.value})")
            assert bool(refused) is bool(keys)
            assert all("risk." in str(n.fields["detail"]) for n in refused)
            if keys:
                trails = [str(n.fields["gates"]) for n in world.events("signal_trail")]  # what `explain` shows
                assert any(f"'verdict': '{case.refusal.value}'" in trail for trail in trails)
            assert len(closes(world)) >= len(entries(world)) - 1
    assert seen == [case.on, case.off]


async def test_the_governor_names_the_cap() -> None:
    """RISK-5, GATE-2: total notional over the books and this order; the denial names the rule, the numbers and the key."""
    settings = bot_settings({"limits.max_notional_total_usd": 60}, coins=(SNDK, MU))
    async with open_world(settings, PAIR.source(), config=FAST) as world:
        await world.until(lambda: bool(verdicts(world, MU)), 6)
        (first, *_) = judged(world, "Rejected(MaxPositionTotal)")
        detail = str(first.fields["detail"])
        assert detail.startswith("risk.max_notional: ")
        assert detail.endswith("(limits.max_notional_total_usd)")
        assert len(entries(world)) == 1


async def test_pending_entries_count_as_open_positions() -> None:
    """RISK-5: three signals in one step and a cap of two: the third is refused though nothing is filled yet."""
    script = Script().calm(SNDK, MU, NVDA)
    for coin in (SNDK, MU, NVDA):
        script.oracle(1500, "602", coin=coin)
    keys = {"risk.max_open_positions": 2, "detector.max_order_notional_usd": 20}
    async with open_world(bot_settings(keys, coins=(SNDK, MU, NVDA)), script.source(), config=FAST) as world:
        await world.until(lambda: len(verdicts(world)) == 3, 4)
        assert sorted(verdicts(world)) == ["Queued", "Queued", "Rejected(MaxOpenPositions)"]
        await world.at(3500)
        assert len(entries(world)) == 2


async def test_an_error_inside_the_governor_denies() -> None:
    """RISK-5: what cannot be computed is not known to be within a cap: no entry and no crash, and exits as ever."""
    async with open_world(bot_settings(BRIEF), RISING.source(), config=FAST) as world:
        await world.until(lambda: len(entries(world)) == 1, 4)
        assert world.bot.trader is not None
        opener = world.bot.trader.executor.opener
        opener.caps = evolve(opener.caps, total_usd=Decimal("nan"))  # as if the memory of the process were damaged
        await world.until(lambda: len(closes(world)) == 1, 4)
        await world.until(lambda: len(judged(world, "Rejected(RiskGateError)")) >= 3, 6)
        assert "risk.internal_error: InvalidOperation" in str(judged(world, "Rejected(RiskGateError)")[0].fields["detail"])
        assert len(entries(world)) == 1
        assert (await world.end()).exit_code == 0
