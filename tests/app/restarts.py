"""The end of a process at some moment and the start of the next, and what was recorded over both."""

from __future__ import annotations

import trio

from hip3.core.records import TradeRecord
from hip3.simulate.world import World

STOPS = {"position.time_stop_ms": 8000, "position.reduce_only_timeout_ms": 16000}


async def again(world: World, after_s: float = 0.5) -> None:
    """The process dies, and another starts a moment later."""
    await world.kill()
    await trio.sleep(after_s)
    world.restart()
    await world.started.wait()


def trades(world: World) -> list[TradeRecord]:
    return [r for r in world.recorder.records if isinstance(r, TradeRecord)]
