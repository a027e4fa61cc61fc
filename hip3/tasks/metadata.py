"""Metadata: which market is which, read again every 5 minutes and after each reconnect (META-4).

What changes while trading makes every number that was computed with it doubtful, so it is a cause and no correction: the
new values are taken over for the way out, which must name the right asset, and only a new start trades with them. A question
that failed changes nothing and is asked again; entries wait where the answer is too long in coming.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

import trio
from attrs import define, field

from hip3.core.causes import Clears, ReasonCode, Safety, Severity
from hip3.core.clock import Clock
from hip3.core.ids import MarketSpec
from hip3.core.journal import Journal
from hip3.core.market import MarketState
from hip3.io.rest import QueryFailed, Venue
from hip3.tasks.channels import Doorbell
from hip3.venue.hyperliquid import info
from hip3.venue.hyperliquid.errors import MetadataError
from hip3.venue.hyperliquid.metadata import open_interest_caps, resolve_markets

READ_EVERY_MS = 300_000  # META-4
MAX_AGE_MS = 3 * READ_EVERY_MS
"""Ours: two readings in a row may fail."""
RETRY_MS = 10_000
"""A reading of one dex weighs 40 of the 1200 of a minute (PROTOCOL 3): a fifth of them while none succeeds."""


@define
class MetadataTask:
    rest: Venue
    markets: Mapping[str, MarketState]
    dexes: Sequence[str]
    safety: Safety
    is_exposed: Callable[[], bool]
    clock: Clock
    journal: Journal
    read_ms: int
    """Monotonic time of the last reading; that of the start counts."""
    bell: Doorbell = field(factory=Doorbell)
    _known_links: set[str] = field(factory=set)
    _reconnects: int = 0
    _read_reconnects: int = 0
    """How many of them the last reading came after."""
    _failed: bool = False

    def connected(self, link: str) -> None:
        """Told of each session of a link; the first follows upon the reading of the start."""
        if link in self._known_links:
            self._reconnects += 1
            self.bell.ring()
        self._known_links.add(link)

    @property
    def missing(self) -> str | None:
        """Why entries must wait, None where the metadata hold."""
        if self._reconnects > self._read_reconnects:
            return "metadata not read since the reconnect"
        age = self.clock.mono_ms() - self.read_ms
        return f"metadata are {age} ms old" if age > MAX_AGE_MS else None

    async def run(self) -> None:
        """Serves until cancelled."""
        while True:
            wait_ms = RETRY_MS if self._failed else max(0, self.read_ms + READ_EVERY_MS - self.clock.mono_ms())
            with trio.move_on_after(wait_ms / 1000):
                await self.bell.wait()
            await self.read()

    async def read(self) -> None:
        """One reading; where a question has no answer nothing changes."""
        reconnects = self._reconnects  # a session that begins while this waits is read for anew
        try:
            dexs = await self.rest.info(info.perp_dexs())
            metas = {dex: await self.rest.info(info.meta(dex)) for dex in self.dexes}
            specs, caps = resolve_markets(dexs, metas), open_interest_caps(dexs)
        except (QueryFailed, MetadataError) as e:
            if not self._failed:
                self._note("warning", "metadata_unread", error=str(e))
            self._failed = True
            return
        self._failed = False
        self._read_reconnects = reconnects
        self.read_ms = self.clock.mono_ms()
        for coin, market in self.markets.items():
            self._compare(market, specs.get(coin), caps.get(coin))

    def _compare(self, market: MarketState, new: MarketSpec | None, cap_usd: Decimal | None) -> None:
        changes = ", ".join(differences(market.spec, new))
        halted = new is None or new.delisted
        if halted is not market.halted:
            market.halted = halted
            self._note("warning", "market_halted" if halted else "market_resumed", coin=market.coin)
        market.oi_cap_usd = cap_usd
        if new is not None:
            market.spec = new
        if not changes:
            return
        exposed = self.is_exposed()
        severity = Severity.HALT if exposed else Severity.SAFE
        self._note("critical", "params_changed", coin=market.coin, changes=changes, exposed=exposed)
        message = f"{market.coin}: {changes}; start anew to trade with what the venue says now"
        self.safety.add(ReasonCode.PARAM_CHANGE, severity, market.coin, message, Clears.NEVER)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)


WATCHED = ("asset_id", "sz_decimals", "fee_scale", "growth_mode", "margin_mode")
"""META-4; growth mode is a part of the fee, of tenfold weight (PROTOCOL 9)."""


def differences(old: MarketSpec, new: MarketSpec | None) -> Iterator[str]:
    """What of the watched is not as it was, in words; a market that is no longer listed has lost its id."""
    if new is None:
        yield f"asset_id {old.asset_id} is no longer listed"
        return
    for name in WATCHED:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            yield f"{name} {was} -> {now}"
