"""One flatten (DESIGN 3): cancel everything that the venue lists, verify, close what it lists, verify, certify.

Shutdown, HALT and the operator's tool call this same procedure. It talks over REST with a client of its own, so it works
when the WebSocket is dead, and it looks at nothing but the venue's answers: orders and positions of anyone on the account
are included, every dex is asked, and a failed question is never "flat". It never raises; what it could not do is residue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import trio
from attrs import define, field, frozen

from hip3.core.clock import Clock
from hip3.core.events import AccountState, OrderUpdate, Position
from hip3.core.exits import ExitConfig, closing_price
from hip3.core.ids import CloidFactory, MarketSpec, OrderSide, TimeInForce
from hip3.core.orders import CancelIntent, OrderIntent, OutcomeKind
from hip3.io.rest import QueryFailed, Venue
from hip3.venue.hyperliquid import actions, info
from hip3.venue.hyperliquid.errors import MetadataError, WireError
from hip3.venue.hyperliquid.metadata import resolve_markets
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.outcomes import read_cancel_outcomes, read_order_outcomes
from hip3.venue.hyperliquid.parse import parse_account_state, parse_book, parse_open_orders
from hip3.venue.hyperliquid.signing import Signer

RETRY_FIRST_S = 0.25
"""Between rounds; a block and its answer take about 0.3 s (PROTOCOL 7.2). Doubled after the second."""
RETRY_MOST_S = 1.5
"""A round asks for a weight of 22 and more: at this pace 750 a minute, of the 1200 that this IP has (PROTOCOL 3)."""
ITEMS_PER_ACTION = 50  # BAT-1

Progress = Callable[[str, str], None]
"""Told what is being done: a word (`cancel`, `close`, `verify`, `wait`, `retry`) and a sentence."""


@frozen
class Asked:
    """One question of the certificate: what was asked of which dex, when (wall ms), and what the venue said."""

    dex: str
    what: str
    at_ms: int
    answer: str


@frozen
class FlatCertificate:
    """What was asked, done and left. `flat` is True only where the venue's last answers, of every dex, list nothing."""

    flat: bool
    started_ms: int
    finished_ms: int
    asked: tuple[Asked, ...]
    cancelled: tuple[str, ...]
    closed: tuple[str, ...]
    orders_sent: int
    """Closing orders sent, answered or not."""
    residual: tuple[str, ...]
    """What is left, one sentence each; "not known" entries included."""
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For machines; `asked` holds the verifying answers only, the newest of each question."""
        return {
            "flat": self.flat,
            "started_ms": self.started_ms,
            "finished_ms": self.finished_ms,
            "asked": [{"dex": a.dex or "main", "what": a.what, "at_ms": a.at_ms, "answer": a.answer} for a in self.asked],
            "cancelled": list(self.cancelled),
            "closed": list(self.closed),
            "orders_sent": self.orders_sent,
            "residual": list(self.residual),
            "problems": list(self.problems),
        }


@frozen
class FlattenTarget:
    """Whose exposure ends: the account (never the agent), the dexes to ask, and the markets known beforehand."""

    user: str
    dexes: Sequence[str]
    specs: Mapping[str, MarketSpec]
    quiet_after_ms: int = 0
    """No verdict before this wall time: until then an order in doubt may still be admitted."""


@define
class Flattener:
    rest: Venue
    signer: Signer
    nonces: NonceSource
    cloids: CloidFactory
    exits: ExitConfig
    clock: Clock
    progress: Progress
    _asked: dict[tuple[str, str], Asked] = field(factory=dict, init=False)
    _cancelled: list[str] = field(factory=list, init=False)
    _closed: list[str] = field(factory=list, init=False)
    _problems: list[str] = field(factory=list, init=False)
    _attempts: dict[str, int] = field(factory=dict, init=False)
    _insists: bool = field(default=False, init=False)
    """A round has ended with orders listed, or not known; closing waits for them no longer."""
    _specs: dict[str, MarketSpec] = field(factory=dict, init=False)
    _orders: dict[str, tuple[OrderUpdate, ...] | None] = field(factory=dict, init=False)
    _positions: dict[str, tuple[Position, ...] | None] = field(factory=dict, init=False)

    async def run(self, target: FlattenTarget, deadline_s: float) -> FlatCertificate:
        """Works until the venue shows nothing or `deadline_s` have passed. Never raises but for cancellation."""
        started = self.clock.wall_ms()
        self._specs.update(target.specs)
        self._orders = dict.fromkeys(target.dexes)
        self._positions = dict.fromkeys(target.dexes)
        with trio.move_on_after(deadline_s) as scope:
            rounds = 0
            while not await self._round(target):
                rounds += 1
                await trio.sleep(min(RETRY_FIRST_S * 2 ** max(0, rounds - 2), RETRY_MOST_S))
        if scope.cancelled_caught:
            self._problem(f"not verified flat within {deadline_s:g} s")
        return self.certificate(target, started, complete=not scope.cancelled_caught)

    async def look(self, target: FlattenTarget, deadline_s: float) -> FlatCertificate:
        """Only asks; cancels and closes nothing."""
        started = self.clock.wall_ms()
        self._orders = dict.fromkeys(target.dexes)
        self._positions = dict.fromkeys(target.dexes)
        with trio.move_on_after(deadline_s) as scope:
            for dex in target.dexes:
                await self._read_orders(target.user, dex)
                await self._read_positions(target.user, dex)
        return self.certificate(target, started, complete=not scope.cancelled_caught)

    def certificate(self, target: FlattenTarget, started_ms: int, *, complete: bool) -> FlatCertificate:
        """What is known now, in the form in which it is shown and kept."""
        residual = list(self._residual(target))
        return FlatCertificate(
            flat=complete and not residual,
            started_ms=started_ms,
            finished_ms=self.clock.wall_ms(),
            asked=tuple(self._asked.values()),
            cancelled=tuple(self._cancelled),
            closed=tuple(self._closed),
            orders_sent=sum(self._attempts.values()),
            residual=tuple(residual),
            problems=tuple(self._problems),
        )

    def _residual(self, target: FlattenTarget) -> list[str]:
        left: list[str] = []
        for dex in target.dexes:
            name = dex or "main"
            orders, positions = self._orders.get(dex), self._positions.get(dex)
            left += [f"open orders of dex {name}: not known"] if orders is None else [_order_text(o) for o in orders]
            left += [f"positions of dex {name}: not known"] if positions is None else [_position_text(p) for p in positions]
        wait_ms = target.quiet_after_ms - self.clock.wall_ms()
        if wait_ms > 0:
            left.append(f"an order in doubt: it may still be admitted for another {wait_ms} ms")
        return left

    # ---- rounds

    async def _round(self, target: FlattenTarget) -> bool:
        """One pass over every dex; True where the venue listed nothing to cancel and nothing to close."""
        clean = True
        for dex in target.dexes:
            clean &= await self._cancel_listed(target.user, dex)
        if not clean and not self._insists:
            # Positions are closed when nothing rests that could fill; but what cannot be cancelled, or not be listed, holds
            # them up once and no longer (LESSONS 6).
            self._insists = True
            return False
        for dex in target.dexes:
            clean &= await self._close_listed(target.user, dex)
        if not clean:
            return False
        wait_ms = target.quiet_after_ms - self.clock.wall_ms()
        if wait_ms > 0:
            self.progress("wait", f"an order in doubt may be admitted for another {wait_ms} ms")
            await trio.sleep(wait_ms / 1000)
            return False
        return True

    async def _cancel_listed(self, user: str, dex: str) -> bool:
        orders = await self._read_orders(user, dex)
        if orders is None:
            return False
        if not orders:
            return True
        for start in range(0, len(orders), ITEMS_PER_ACTION):
            await self._cancel(orders[start : start + ITEMS_PER_ACTION], dex)
        return False

    async def _cancel(self, orders: Sequence[OrderUpdate], dex: str) -> None:
        known: list[OrderUpdate] = []
        intents: list[CancelIntent] = []
        for order in orders:
            spec = await self._spec(order.coin, dex)
            if spec is not None:
                known.append(order)
                intents.append(CancelIntent(spec, None, order.oid))
        if not intents:
            return
        self.progress("cancel", f"cancelling {len(intents)} orders on {dex or 'main'}")
        payload = await self._act(actions.cancel_action(intents), f"cancel of {len(intents)} orders")
        if payload is None:
            return
        for order, outcome in zip(known, read_cancel_outcomes(payload, len(known)), strict=True):
            if outcome.kind is OutcomeKind.CONFIRMED:
                self._cancelled.append(_order_text(order))
            elif outcome.error:
                self._problem(f"cancel of oid {order.oid}: {outcome.error}")

    async def _close_listed(self, user: str, dex: str) -> bool:
        positions = await self._read_positions(user, dex)
        if positions is None:
            return False
        intents: list[OrderIntent] = []
        for position in positions:
            intent = await self._closing(position, dex)
            if intent is not None:
                intents.append(intent)
        for start in range(0, len(intents), ITEMS_PER_ACTION):
            await self._close(intents[start : start + ITEMS_PER_ACTION])
        return not positions

    async def _closing(self, position: Position, dex: str) -> OrderIntent | None:
        """A reduce-only IOC for the whole position, priced from the book of this moment (EXIT-4)."""
        spec = await self._spec(position.coin, dex)
        if spec is None:
            return None
        side = OrderSide.SELL if position.szi > 0 else OrderSide.BUY
        touch = await self._touch(position.coin, side)
        if touch is None:
            self._problem(f"{position.coin}: no level to close against")
            return None
        attempt = self._attempts[position.coin] = self._attempts.get(position.coin, 0) + 1
        px = closing_price(spec, side, touch, self.exits, attempt)
        self.progress(
            "close", f"{side.name.lower()} {abs(position.szi)} {position.coin} at {px} or better (attempt {attempt})"
        )
        return OrderIntent(
            cloid=self.cloids.next(),
            spec=spec,
            side=side,
            sz=abs(position.szi),
            px=px,
            tif=TimeInForce.IOC,
            reduce_only=True,
            created_at_ms=self.clock.wall_ms(),
        )

    async def _close(self, intents: Sequence[OrderIntent]) -> None:
        payload = await self._act(actions.order_action(intents), f"close of {len(intents)} positions")
        if payload is None:
            return
        for intent, outcome in zip(intents, read_order_outcomes(payload, len(intents)), strict=True):
            if outcome.filled_sz is not None:
                self._closed.append(f"{intent.side.name.lower()} {outcome.filled_sz} {intent.coin} at {outcome.avg_px}")
            else:
                self._problem(f"close of {intent.coin}: {outcome.error or outcome.kind.value}")

    # ---- questions and actions

    async def _read_orders(self, user: str, dex: str) -> tuple[OrderUpdate, ...] | None:
        body = await self._ask(info.frontend_open_orders(user, dex), dex, "open orders")
        if body is None:
            self._orders[dex] = None
            return None
        try:
            self._orders[dex] = orders = parse_open_orders(body)
        except WireError as e:
            self._orders[dex] = None
            self._problem(str(e))
            return None
        self._record(dex, "open orders", f"{len(orders)} listed")
        return orders

    async def _read_positions(self, user: str, dex: str) -> tuple[Position, ...] | None:
        body = await self._ask(info.clearinghouse_state(user, dex), dex, "positions")
        state: AccountState | None = None
        if body is not None:
            try:
                state = parse_account_state(dex, body)
            except WireError as e:
                self._problem(str(e))
        if state is None:
            self._positions[dex] = None
            return None
        held = tuple(p for p in state.positions if p.szi != 0)
        self._positions[dex] = held
        answer = f"{len(held)} held, account value {state.account_value} USD, state of {state.time_ms}"
        self._record(dex, "positions", answer)
        return held

    async def _spec(self, coin: str, dex: str) -> MarketSpec | None:
        """The market of a coin that the venue lists, read from its metadata where it was not known beforehand."""
        if coin not in self._specs:
            perp_dexs = await self._ask(info.perp_dexs(), dex, "perpDexs")
            meta = await self._ask(info.meta(dex), dex, "meta")
            if perp_dexs is not None and meta is not None:
                try:
                    self._specs.update(resolve_markets(perp_dexs, {dex: meta}))
                except (MetadataError, WireError) as e:
                    self._problem(str(e))
        spec = self._specs.get(coin)
        if spec is None:
            self._problem(f"{coin}: the metadata does not list it, so no order for it can be made")
        return spec

    async def _touch(self, coin: str, side: OrderSide) -> Decimal | None:
        body = await self._ask(info.l2_book(coin), "", f"book of {coin}")
        if body is None:
            return None
        try:
            book = parse_book(body)
        except WireError as e:
            self._problem(str(e))
            return None
        levels = book.asks if side is OrderSide.BUY else book.bids
        return levels[0].px if levels else None

    async def _ask(self, request: dict[str, object], dex: str, what: str) -> object | None:
        try:
            return await self.rest.info(request)
        except QueryFailed as e:
            self._record(dex, what, "no answer")
            self._problem(str(e))
            return None

    async def _act(self, action: dict[str, object], what: str) -> object | None:
        try:
            return await self.rest.exchange(self.signer.sign(action, self.nonces.next()))
        except QueryFailed as e:
            self._problem(f"{what}: {e}")
            return None

    def _record(self, dex: str, what: str, answer: str) -> None:
        self._asked[dex, what] = Asked(dex, what, self.clock.wall_ms(), answer)

    def _problem(self, text: str) -> None:
        if not self._problems or self._problems[-1] != text:
            self._problems.append(text)
            self.progress("retry", text)


def _order_text(order: OrderUpdate) -> str:
    return f"order {order.oid}: {order.side.name.lower()} {order.sz} {order.coin} at {order.limit_px}"


def _position_text(position: Position) -> str:
    return f"position: {position.szi} {position.coin}, entry {position.entry_px}"
