"""Every entry gate from a venue frame to the wire, or to the order that is not there (GATE-1 to GATE-4)."""

from __future__ import annotations

from hip3.simulate.world import open_world
from tests.app.app_builders import FAST, SNDK, bot_settings, dislocated, verdicts


async def test_a_signal_in_live_mode_reaches_the_wire() -> None:
    """GATE-1: with every gate open a dislocation in the venue's frames becomes one order at the venue."""
    async with open_world(bot_settings(), dislocated().source(), config=FAST) as world:
        await world.until(lambda: bool(world.positions()), 5)
        assert verdicts(world) == ["Queued"]
        assert len(world.entries) == 1
        assert world.positions()[SNDK].szi > 0
