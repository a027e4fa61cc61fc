"""The verification of a running bot: items 1 to 10 of the table in the runbook, each with its evidence (RUN-1).

It rides on a session as `hip3 run` opens one and drives it from its edges: probes go through the gates, closes through the
executor. It judges what the bot said, and leaves the end to the bot's own way out. Refuses mainnet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from decimal import Decimal
from itertools import pairwise

import trio
from attrs import define, field, frozen

from hip3.core.units import ZERO
from hip3.exchange.faults import Faults
from hip3.ops.verify_desk import CLOSE_S, Desk, Entry, Unmet
from hip3.ops.verify_failures import Failures
from hip3.ops.verify_probe import PROBE_USD
from hip3.settings.schema import Mode, Settings
from hip3.venue.hyperliquid.endpoints import Network

ITEMS: Mapping[int, str] = {
    1: "WS and subscriptions",
    2: "signing",
    3: "IOC order (10-15 USD)",
    4: "fill",
    5: "position sync",
    6: "reduce-only flatten",
    7: "TimeStop",
    8: "nonce, 20 actions",
    9: "rate and in-flight",
    10: "failures",
}
ORDER = (1, 2, 3, 4, 5, 6, 7, 10, 8, 9)
"""As they run: 9 is about everything that was sent, 8 about all nonces."""
READY_S = 60.0
MOST_USD = 15  # RUN-1, item 3
SETTLE_S = 1.0
"""For fills and statements that are on their way: three times the venue's answer (PROTOCOL 7.2)."""
READ_S = 5.0
"""For a reading of the account; shorter than the time stop, which would close what is looked at."""
ACTIONS = 20  # RUN-1, item 8
SILENCE_S = 10.0
"""Until when every post must have ended: twice the time-out of a post (POST-1)."""
CRITICAL = frozenset({6, 7})


@frozen
class Result:
    """One row of the table. `evidence` are sentences; of a failure, what was missing."""

    item: int
    passed: bool
    evidence: tuple[str, ...]

    @property
    def verdict(self) -> str:
        if self.passed:
            return "PASS"
        return "CRITICAL" if self.item in CRITICAL else "FAIL"

    def as_dict(self) -> dict[str, object]:
        return {"item": self.item, "name": ITEMS[self.item], "verdict": self.verdict, "evidence": list(self.evidence)}


def not_verifiable(settings: Settings) -> str | None:
    """Why a configuration cannot be verified; None where it can."""
    if settings.network is Network.MAINNET:
        return "network mainnet: a verification trades to try failures; give the configuration of testnet or paper"
    if settings.mode is Mode.OBSERVATION:
        return "mode observation: nothing is sent, so nothing can be verified; set mode = trading"
    return None


def items_of(text: str | None) -> tuple[int, ...]:
    """The items of `1,2,10` in the order in which they run; all for None. Raises ValueError."""
    if text is None:
        return ORDER
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal() or int(part) not in ITEMS]
    if wrong:
        raise ValueError(f"--items {text}: {wrong[0]!r} is no item; expected numbers from 1 to 10, separated by commas")
    return tuple(item for item in ORDER if str(item) in {str(int(part)) for part in parts})


@define
class Verification:
    """Runs items and keeps their results. `faults` are those of the embedded exchange, None elsewhere."""

    desk: Desk
    faults: Faults | None = None
    results: dict[int, Result] = field(factory=dict)
    _entry: Entry | None = field(default=None, init=False)

    async def run(self, wanted: Collection[int]) -> None:
        """Judges each wanted item. Where READY-TRADING is not reached, no other item is tried, and each has failed."""
        checks: Mapping[int, Callable[[], Awaitable[list[str]]]] = {
            1: self._sessions,
            2: self._signing,
            3: self._order,
            4: self._fill,
            5: self._sync,
            6: self._flatten,
            7: self._time_stop,
            8: self._nonces,
            9: self._in_flight,
            10: self._failures,
        }
        await self._judge(1, checks[1])
        for item in (i for i in ORDER if i in wanted and i != 1):
            if self.results[1].passed:
                await self._judge(item, checks[item])
            else:
                self._record(Result(item, False, ("not tried: READY-TRADING was not reached",)))

    async def _judge(self, item: int, check: Callable[[], Awaitable[list[str]]]) -> None:
        try:
            self._record(Result(item, True, tuple(await check())))
        except Unmet as e:
            self._record(Result(item, False, (str(e),)))

    def _record(self, result: Result) -> None:
        self.results[result.item] = result
        level = "info" if result.passed else "critical" if result.item in CRITICAL else "error"
        said = "; ".join(result.evidence)
        self.desk.bot.note(level, "verify_item", item=result.item, verdict=result.verdict, evidence=said)

    # ---- 1 to 6: one trade

    async def _sessions(self) -> list[str]:
        desk = self.desk
        bot = desk.bot
        await desk.until("READY-TRADING and ARMED_LIVE", lambda: bot.ready.is_ready and bot.safety.allows_entry, READY_S)
        links = [str(n.fields["link"]) for n in desk.trail.of("ws_connected")]
        channels = sorted({str(n.fields["channel"]) for n in desk.trail.of("subscribed")})
        lacks = {"market", "account"} - set(links) | {"bbo", "activeAssetCtx", "orderUpdates", "userFills"} - set(channels)
        lacks |= {e for e in ("user_fills_snapshot", "open_orders_loaded", "ready_trading") if not desk.trail.of(e)}
        if lacks:
            raise Unmet(f"READY-TRADING without {', '.join(sorted(lacks))}")
        await desk.coin()
        return [f"ws_connected {', '.join(links)}", f"subscribed {', '.join(channels)}", "ready_trading"]

    async def _opened(self) -> Entry:
        """The entry that items 2 to 6 look at; made by the first that needs it."""
        if self._entry is None:
            self._entry = await self.desk.enter(await self.desk.coin())
        return self._entry

    async def _signing(self) -> list[str]:
        since = self.desk.trail.count
        failed: Unmet | None = None
        try:
            await self._opened()
        except Unmet as e:
            failed = e
        if failed is not None and not self.desk.trail.of("action_signed", since):
            raise failed
        signed = (await self.desk.note("action_signed", since)).fields
        answer = (await self.desk.note("post_response", since, post=signed["post"])).fields
        if answer["refused"]:
            raise Unmet(f"post_response of nonce {signed['nonce']}: {answer['error']}")
        return [f"action_signed nonce {signed['nonce']} hash {signed['hash']}", f"post_response post {signed['post']}"]

    async def _order(self) -> list[str]:
        entry = await self._opened()
        queued = await self.desk.note("order_enqueued", entry.since, cloid=entry.cloid)
        update = await self.desk.ended(entry.cloid, entry.since)
        sent = (await self.desk.note("order_sent", entry.since, cloid=entry.cloid)).fields
        fill = (await self.desk.note("fill", entry.since, cloid=entry.cloid)).fields
        usd = abs(self.desk.bot.ledger.position(entry.coin).szi) * Decimal(str(fill["px"]))
        if not PROBE_USD - 1 <= usd <= MOST_USD:
            raise Unmet(f"order of {usd:.2f} USD on {entry.coin}, a market whose lot is too large; expected 10 to 15 USD")
        return [f"{queued.event} {entry.cloid} {entry.coin} {sent['sz']} at {sent['px']}, {usd:.2f} USD", update]

    async def _fill(self) -> list[str]:
        entry = await self._opened()
        await trio.sleep(SETTLE_S)
        fills = [n.fields for n in self.desk.trail.of("fill", entry.since, cloid=entry.cloid)]
        total = sum((Decimal(str(f["sz"])) for f in fills), ZERO)
        held = self.desk.bot.ledger.position(entry.coin).szi
        updated = self.desk.trail.of("position_updated", entry.since, coin=entry.coin)
        if not updated or held != total:
            raise Unmet(f"position of {entry.coin} is {held}, the fills of {entry.cloid} sum up to {total}")
        said = [f"fill {entry.cloid} {f['sz']} at {f['px']}" for f in fills]
        return [*said, f"position_updated {entry.coin} {held}"]

    async def _sync(self) -> list[str]:
        entry, desk = await self._opened(), self.desk
        assert desk.bot.trader is not None
        since = desk.trail.count
        desk.bot.trader.reconcile.read_soon()
        seen = (await desk.note("position_reconciled", since, READ_S, coin=entry.coin)).fields
        if seen["diff"] != ZERO or seen["venue"] == ZERO:
            raise Unmet(f"position_reconciled {entry.coin}: ours {seen['tracker']}, the venue's {seen['venue']}")
        return [f"position_reconciled {entry.coin} tracker {seen['tracker']} venue {seen['venue']} diff {seen['diff']}"]

    async def _flatten(self) -> list[str]:
        entry, desk = await self._opened(), self.desk
        queued, closed = await desk.close(entry.coin)
        took_ms = closed.wall_ms - queued.wall_ms
        return [
            f"flatten_triggered {entry.coin}",
            f"reduce_only_enqueued {queued.fields['cloid']} at {queued.fields['px']}",
            f"position_closed {entry.coin} after {took_ms} ms",
        ]

    # ---- 7 to 10

    async def _time_stop(self) -> list[str]:
        desk = self.desk
        entry = await desk.enter(await self._quiet_coin())
        bound_s = desk.bot.settings.position.time_stop_ms / 1000 + CLOSE_S
        closed = await desk.note("position_closed", entry.since, bound_s, coin=entry.coin)
        stop = desk.trail.of("time_stop_triggered", entry.since, coin=entry.coin)
        queued = desk.trail.of("reduce_only_enqueued", entry.since, coin=entry.coin)
        if not stop or not queued or closed.fields["exit_reason"] != "time_stop":
            raise Unmet(f"position_closed {entry.coin} by {closed.fields['exit_reason']}, expected time_stop")
        return [
            f"time_stop_triggered {entry.coin} age_ms {stop[0].fields['age_ms']}",
            f"reduce_only_enqueued {queued[0].fields['cloid']}",
            f"position_closed {entry.coin}",
        ]

    async def _failures(self) -> list[str]:
        await self._quiet_coin()
        return await Failures(self.desk, self.faults).run()

    async def _quiet_coin(self) -> str:
        """A market, once nothing of an item that failed is open any more. Raises Unmet."""
        bot = self.desk.bot
        await self.desk.until("no open position", lambda: not bot.ledger.held(), CLOSE_S)
        return await self.desk.coin()

    async def _nonces(self) -> list[str]:
        desk = self.desk
        coin = await self._quiet_coin()
        while (done := len(desk.trail.of("action_signed"))) < ACTIONS:
            since = desk.trail.count
            try:
                await desk.ended(await desk.order(coin, fills=False), since)
            except Unmet as e:
                raise Unmet(f"{done} of {ACTIONS} actions: {e}") from None
        issued = [int(str(n.fields["nonce"])) for n in desk.trail.of("nonce_issued")]
        used = [int(str(n.fields["nonce"])) for n in desk.trail.of("action_signed")]
        for name, row in (("nonce_issued", issued), ("action_signed", used)):
            if any(later <= earlier for earlier, later in pairwise(row)):
                raise Unmet(f"{name}: not strictly increasing: {row}")
        return [f"{len(used)} actions, nonce_issued {len(issued)} times from {issued[0]} to {issued[-1]}, rising"]

    async def _in_flight(self) -> list[str]:
        desk, posts = self.desk, self.desk.bot.posts
        await desk.until(f"0 posts in flight ({posts.in_flight} now)", lambda: posts.in_flight == 0, SILENCE_S)
        if desk.trail.broken:
            raise Unmet("; ".join(desk.trail.broken))
        told = [n.fields for n in desk.trail.of("inflight")]
        if not told or not _is_sum(told[-1]):
            raise Unmet(f"inflight: {told[-1] if told else 'never told'}")
        numbers = ", ".join(f"{name} {value}" for name, value in posts.metrics.items())
        return [numbers, f"sent - complete = current, looked at {desk.trail.looks} times"]


def _is_sum(inflight: Mapping[str, object]) -> bool:
    numbers = [int(str(inflight[name])) for name in ("sent", "completed", "current")]
    return numbers[0] - numbers[1] == numbers[2]


def table(results: Collection[Result]) -> list[str]:
    """The rows for people, in the order of the items: verdict, number, name; evidence below."""
    lines: list[str] = []
    for result in sorted(results, key=lambda r: r.item):
        lines.append(f"{result.verdict:8}  {result.item:2}  {ITEMS[result.item]}")
        lines += [f"              {sentence}" for sentence in result.evidence]
    return lines
