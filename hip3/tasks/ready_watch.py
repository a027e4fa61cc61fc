"""Waiting for READY-TRADING, and saying what it waits for (RDY-2). The state itself is the core's, and synchronous.

Changes nothing: whoever waits is woken in the step after the change, and looks at `is_ready` again where it matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import trio
from attrs import define, field

from hip3.core.clock import Clock
from hip3.core.journal import Journal
from hip3.core.market import MarketState, missing_market_data
from hip3.core.ready import Ready
from hip3.fsm.ready import Condition

FIRST_MS = 5_000
"""A usual start or reconnect is over by then: session, acks and one reading of the account take 1 to 3 s."""
EVERY_MS = 30_000
"""From then on, while nothing changes; a change is told by itself."""


@define
class ReadyWatch:
    """The ages are those of READY-MD (MD-2), in ms."""

    ready: Ready
    markets: Mapping[str, MarketState]
    max_bbo_age_ms: int
    max_ctx_age_ms: int
    clock: Clock
    journal: Journal
    _changed: trio.Event = field(factory=trio.Event)

    def changed(self) -> None:
        """The state is another one: wakes who waits."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_ready(self) -> None:
        """Returns when READY-TRADING holds, at once where it does; a change in between is not missed."""
        while not self.ready.is_ready:
            await self._changed.wait()

    async def run(self) -> None:
        """Names the missing conditions while they last, after FIRST_MS and then every EVERY_MS; serves until cancelled."""
        while True:
            since_ms, wait_ms = self.clock.mono_ms(), FIRST_MS
            while not self.ready.is_ready:
                with trio.move_on_after(wait_ms / 1000):
                    await self.wait_ready()
                if not self.ready.is_ready:
                    self._say(self.clock.mono_ms() - since_ms)
                wait_ms = EVERY_MS
            while self.ready.is_ready:
                await self._changed.wait()

    def _say(self, for_ms: int) -> None:
        missing = self.ready.missing
        fields: dict[str, object] = {
            "missing": [c.value for c in missing] or [self.ready.state.value],
            "markets": list(self._without_data()) if Condition.MD_READY in missing else [],
            "for_s": for_ms // 1000,
        }
        self.journal.note(self.clock.wall_ms(), "warning", "still_not_ready", **fields)

    def _without_data(self) -> Iterator[str]:
        for coin, market in self.markets.items():
            why = missing_market_data(market, self.clock.mono_ms(), self.max_bbo_age_ms, self.max_ctx_age_ms)
            if why is not None:
                yield f"{coin}: {why}"
