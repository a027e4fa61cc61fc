"""What the venue lists on one account: every dex of it, orders before positions, and what is needed to act on them.

A question that failed leaves "not known", never "nothing" (LESSONS 7, 30). It asks and remembers; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import trio
from attrs import define, field

from hip3.core.clock import Clock
from hip3.core.events import AccountState, OrderUpdate, Position
from hip3.core.ids import MarketKey, MarketSpec, OrderSide
from hip3.io.certificate import Asked
from hip3.io.rest import QueryFailed, Venue
from hip3.venue.hyperliquid import info, weights
from hip3.venue.hyperliquid.errors import MetadataError, WireError
from hip3.venue.hyperliquid.metadata import dex_names, is_spot, resolve_markets, spot_asset_ids
from hip3.venue.hyperliquid.parse import parse_account_state, parse_asset_ctxs, parse_book, parse_open_orders


def is_protection(order: OrderUpdate) -> bool:
    """A reduce-only trigger order: it cannot open anything, and it ends a position that nobody else ends."""
    return order.is_trigger and order.reduce_only


@define
class Survey:
    """The newest answers by dex. None stands for "not known"."""

    rest: Venue
    user: str
    clock: Clock
    problem: Callable[[str], None]
    """Told what could not be asked or read, one sentence."""
    specs: dict[str, MarketSpec]
    orders: dict[str, tuple[OrderUpdate, ...] | None] = field(factory=dict)
    positions: dict[str, tuple[Position, ...] | None] = field(factory=dict)
    asked: dict[tuple[str, str], Asked] = field(factory=dict)
    every_dex: bool = False
    """Every dex that the venue lists, not only those that were named."""
    is_patient: bool = False
    """A position that stays is looked at alone; orders are asked again when it has gone."""
    weight: int = 0
    """REST weight of all questions so far (PROTOCOL 3)."""
    answers: int = 0
    """Questions that were answered."""
    _outdated: set[str] = field(factory=set)
    """Dexes whose positions were listed before their orders were last: what filled between the two is not known."""
    _perp_dexs: object | None = None
    _names_known: bool = False

    # ---- which dexes

    @property
    def is_complete(self) -> bool:
        """True where every dex is known by name."""
        return not self.every_dex or self._names_known

    def add_dexes(self, *names: str) -> None:
        for name in names:
            self.orders.setdefault(name, None)
            self.positions.setdefault(name, None)

    @property
    def dexes(self) -> tuple[str, ...]:
        return tuple(self.orders)

    def unsettled(self) -> tuple[str, ...]:
        """The dexes that list something, or of which it is not known."""
        return tuple(dex for dex in self.orders if self.orders[dex] != () or self.positions[dex] != ())

    def forget(self, dexes: tuple[str, ...]) -> None:
        """What is known of `dexes` counts no longer; they are asked again."""
        for dex in dexes:
            self.orders[dex] = self.positions[dex] = None

    # ---- what is listed

    async def read(self, *, whatever_rests: bool) -> None:
        """Asks every unsettled dex, all at once; of each the orders, then the positions.

        In this order, because an order that fills between the two answers then shows as a position. Positions are asked
        of a dex where no order rests but protection, or, with `whatever_rests`, in any case.
        """
        async with trio.open_nursery() as nursery:
            if not self.is_complete:
                nursery.start_soon(self._read_the_others, nursery, whatever_rests)
            for dex in self.unsettled():
                nursery.start_soon(self._read_dex, dex, whatever_rests)

    async def _read_the_others(self, nursery: trio.Nursery, whatever_rests: bool) -> None:
        """Finds the dexes that nobody has named, and reads them."""
        body = await self._dex_list()
        if body is None:
            return
        try:
            names = dex_names(body)
        except MetadataError as e:
            self.problem(str(e))
            return
        self._names_known = True
        new = [name for name in names if name not in self.orders]
        self.add_dexes(*new)
        self._record("", "list of dexes", ", ".join(name or "main" for name in names))
        for dex in new:
            nursery.start_soon(self._read_dex, dex, whatever_rests)

    async def _read_dex(self, dex: str, whatever_rests: bool) -> None:
        if self.is_patient and self.orders[dex] == () and self.positions[dex]:
            await self._read_positions(dex)
            if self.positions[dex] != ():
                return  # nothing rests, and the position is still there: that cost 2 of weight instead of 22
        orders = await self._read_orders(dex)
        if whatever_rests or (orders is not None and all(map(is_protection, orders))):
            await self._read_positions(dex)

    async def _read_orders(self, dex: str) -> tuple[OrderUpdate, ...] | None:
        body = await self.ask(info.frontend_open_orders(self.user, dex), dex, "open orders")
        orders: tuple[OrderUpdate, ...] | None = None
        if body is not None:
            try:
                orders = parse_open_orders(body)
            except WireError as e:
                self._unreadable(dex, "open orders", e)
        self.orders[dex] = orders
        if orders is None:
            return None
        self._outdated.add(dex)
        self._record(dex, "open orders", f"{len(orders)} listed")
        return orders

    async def _read_positions(self, dex: str) -> None:
        body = await self.ask(info.clearinghouse_state(self.user, dex), dex, "positions")
        state: AccountState | None = None
        if body is not None:
            try:
                state = parse_account_state(dex, body)
            except WireError as e:
                self._unreadable(dex, "positions", e)
        self.positions[dex] = held = None if state is None else tuple(p for p in state.positions if p.szi != 0)
        if state is None or held is None:
            return
        self._outdated.discard(dex)
        answer = f"{len(held)} held, account value {state.account_value} USD, state of {state.time_ms}"
        self._record(dex, "positions", answer)

    def resting(self) -> Iterator[tuple[str, OrderUpdate]]:
        """Every order listed, with its dex."""
        return ((dex, order) for dex, orders in self.orders.items() for order in orders or ())

    def held(self) -> Iterator[tuple[str, Position]]:
        """Every position listed, with its dex."""
        return ((dex, position) for dex, positions in self.positions.items() for position in positions or ())

    def is_flat(self, coin: str, dex: str) -> bool:
        """True where the venue's answer about the positions of the dex shows none in `coin`."""
        positions = self.positions.get(dex)
        return positions is not None and all(p.coin != coin for p in positions)

    def residual(self) -> list[str]:
        """What is left, one sentence each; what is not known is left."""
        left = [] if self.is_complete else ["list of dexes: not known; one that was not asked may hold anything"]
        for dex in self.orders:
            name, orders, positions = dex or "main", self.orders[dex], self.positions[dex]
            left += [f"open orders of dex {name}: not known"] if orders is None else [order_text(o) for o in orders]
            left += [f"positions of dex {name}: not known"] if positions is None else [position_text(p) for p in positions]
            if positions == () and dex in self._outdated:
                left.append(f"positions of dex {name}: none before its orders were listed, not known since")
        return left

    # ---- what acting needs

    async def spec(self, coin: str, dex: str) -> MarketSpec | None:
        """The market of a coin that the venue lists, read from its metadata where it was not known beforehand."""
        if coin not in self.specs and is_spot(coin):
            await self._read_spot()
        elif coin not in self.specs:
            body = self._perp_dexs if self._perp_dexs is not None else await self._dex_list()
            meta = await self.ask(info.meta(dex), dex, "meta")
            if body is not None and meta is not None:
                try:
                    self.specs.update(resolve_markets(body, {dex: meta}))
                except (MetadataError, WireError) as e:
                    self.problem(str(e))
        spec = self.specs.get(coin)
        if spec is None:
            self.problem(f"{coin}: the metadata does not list it, so no order for it can be made")
        return spec

    async def _read_spot(self) -> None:
        """The main dex lists orders on spot pairs as well; their ids are all that a cancel needs."""
        body = await self.ask(info.spot_meta(), "", "spotMeta")
        if body is None:
            return
        try:
            ids = spot_asset_ids(body)
        except MetadataError as e:
            self.problem(str(e))
            return
        self.specs.update({name: MarketSpec(MarketKey("", name), asset, 0, 1) for name, asset in ids.items()})

    async def touch(self, coin: str, side: OrderSide) -> Decimal | None:
        """The best level that an order of `side` would meet, 0 where there is none; None where the book is not known."""
        body = await self.ask(info.l2_book(coin), coin.rpartition(":")[0], f"book of {coin}")
        if body is None:
            return None
        try:
            book = parse_book(body)
        except WireError as e:
            self.problem(str(e))
            return None
        levels = book.asks if side is OrderSide.BUY else book.bids
        return levels[0].px if levels else Decimal(0)

    async def mark(self, coin: str, dex: str) -> tuple[Decimal, Decimal] | None:
        """Mark and oracle of a coin whose book could not be read; the oracle stands in for a missing mark."""
        body = await self.ask(info.meta_and_asset_ctxs(dex), dex, "prices")
        if body is None:
            return None
        try:
            ctx = parse_asset_ctxs(body).get(coin)
        except WireError as e:
            self.problem(str(e))
            return None
        oracle = None if ctx is None else ctx.oracle_px or ctx.mark_px
        return None if ctx is None or oracle is None else (ctx.mark_px or ctx.mid_px or oracle, oracle)

    async def is_there(self) -> bool:
        """True where the venue answers at all; the lightest question there is."""
        return await self.ask(info.exchange_status(), "", "time of the venue") is not None

    # ---- asking

    async def ask(self, request: dict[str, object], dex: str, what: str) -> object | None:
        """The answer as it came, None where there was none."""
        self.weight += weights.info_weight(request)
        try:
            body = await self.rest.info(request)
        except QueryFailed as e:
            self._record(dex, what, "no answer")
            self.problem(str(e))
            return None
        self.answers += 1
        return body

    async def _dex_list(self) -> object | None:
        body = await self.ask(info.perp_dexs(), "", "list of dexes")
        if body is not None:
            self._perp_dexs = body
        return body

    def _record(self, dex: str, what: str, answer: str) -> None:
        self.asked[dex, what] = Asked(dex, what, self.clock.wall_ms(), answer)

    def _unreadable(self, dex: str, what: str, error: WireError) -> None:
        self._record(dex, what, "an answer that cannot be read")
        self.problem(str(error))


def order_text(order: OrderUpdate) -> str:
    """An order in one line, as certificates list it."""
    kind = "stop" if is_protection(order) else "trigger order" if order.is_trigger else "order"
    return f"{kind} {order.oid}: {order.side.name.lower()} {order.sz} {order.coin} at {order.limit_px}"


def position_text(position: Position) -> str:
    """A position in one line, as certificates list it."""
    return f"position: {position.szi} {position.coin}, entry {position.entry_px}"
