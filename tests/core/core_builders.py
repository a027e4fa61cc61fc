"""What the tests of the core build their cases from: one market, its frames, orders, fills and a bookkeeper."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from hip3.core import facts as f
from hip3.core.bookkeeper import Bookkeeper
from hip3.core.consequences import Consequence
from hip3.core.detector import DetectorConfig
from hip3.core.events import AccountState, AssetCtx, Bbo, Fill, Level, OrderUpdate, OrderUpdates, Position, UserFills
from hip3.core.ids import CloidFactory, MarketKey, MarketSpec, OrderSide, TimeInForce
from hip3.core.ledger import Ledger, TrackedOrder
from hip3.core.market import MarketState
from hip3.core.orders import OrderIntent, OrderOutcome, OutcomeKind
from hip3.core.trades import MarketPosition
from hip3.fsm.order import OrderEvent

T0 = 1_767_225_600_000
"""Unix ms at which the cases start."""
SNDK = MarketSpec(MarketKey.parse("xyz:SNDK"), asset_id=110_016, sz_decimals=3, max_leverage=10)
MU = MarketSpec(MarketKey.parse("xyz:MU"), asset_id=110_015, sz_decimals=3, max_leverage=10)
USER = "0x" + "ab" * 20

_STATUS_EVENTS = {
    "open": OrderEvent.ACK,
    "filled": OrderEvent.SETTLE,
    "canceled": OrderEvent.CANCEL,
    "reduceOnlyCanceled": OrderEvent.CANCEL,
    "iocCancelRejected": OrderEvent.REJECT,
    "minTradeNtlRejected": OrderEvent.REJECT,
}


def D(text: str | int) -> Decimal:
    return Decimal(text)


def spec(coin: str, sz_decimals: int = 3) -> MarketSpec:
    return MarketSpec(MarketKey.parse(coin), asset_id=1, sz_decimals=sz_decimals, max_leverage=10)


def bbo(coin: str, bid: str | None, ask: str | None, sz: str = "100", time_ms: int = T0) -> Bbo:
    def level(px: str | None) -> Level | None:
        return None if px is None else Level(D(px), D(sz))

    return Bbo(coin, time_ms, level(bid), level(ask))


def ctx(coin: str, oracle: str | None, mark: str | None = None) -> AssetCtx:
    mark_px = mark if mark is not None else oracle
    return AssetCtx(coin, D(oracle) if oracle else None, D(mark_px) if mark_px else None, None, None, None)


def market(of: MarketSpec = SNDK, *, mark: str | None = None, at_ms: int = 0) -> MarketState:
    state = MarketState(of)
    if mark is not None:
        state.on_ctx(ctx(of.coin, mark), at_ms)
    return state


class Desk:
    """A ledger with its bookkeeper, and the facts of the cases in one word each."""

    def __init__(self, *, synced: bool = True) -> None:
        self.cloids = CloidFactory(run_id=T0)
        self.ledger = Ledger()
        self.books = Bookkeeper(self.ledger, _STATUS_EVENTS.get)
        if synced:
            self.sync()

    def intent(  # each argument is one property of the order
        self,
        side: OrderSide = OrderSide.BUY,
        sz: str = "0.02",
        px: str = "600",
        *,
        of: MarketSpec = SNDK,
        reduce_only: bool = False,
        tif: TimeInForce = TimeInForce.IOC,
    ) -> OrderIntent:
        return OrderIntent(self.cloids.next(), of, side, D(sz), D(px), tif, reduce_only, T0)

    def order(
        self,
        side: OrderSide = OrderSide.BUY,
        sz: str = "0.02",
        *,
        of: MarketSpec = SNDK,
        reduce_only: bool = False,
        tif: TimeInForce = TimeInForce.IOC,
        sent: bool = True,
    ) -> TrackedOrder:
        """A registered order, handed to the socket unless `sent` is False."""
        order = self.ledger.register(self.intent(side, sz, of=of, reduce_only=reduce_only, tif=tif))
        if sent:
            self.ledger.mark_sent(order.cloid, T0)
        return order

    def apply(self, *facts: f.Fact, now_ms: int = T0) -> list[Consequence]:
        return [c for fact in facts for c in self.books.apply(fact, now_ms)]

    def sync(self, *positions: Position, time_ms: int = T0, open_orders: Iterable[OrderUpdate] = ()) -> list[Consequence]:
        """A new session: empty history of fills, and the account as given."""
        return self.apply(
            f.LinkUp(), UserFills(USER, (), is_snapshot=True), account(*positions, time_ms=time_ms, orders=open_orders)
        )

    def position(self, of: MarketSpec = SNDK) -> MarketPosition:
        return self.ledger.position(of.coin)


def account(*positions: Position, time_ms: int = T0, orders: Iterable[OrderUpdate] = (), dex: str = "xyz") -> f.AccountRead:
    state = AccountState(dex, time_ms, D(1000), D(1000), positions)
    return f.AccountRead((state,), tuple(orders))


def held(szi: str, px: str = "600", of: MarketSpec = SNDK) -> Position:
    return Position(of.coin, D(szi), D(px), D(0), D(0), 10)


def fill(
    order: TrackedOrder,
    sz: str,
    *,
    px: str = "600",
    start: str = "0",
    time_ms: int = T0 + 100,
    tid: int = 1,
    oid: int = 77,
    fee: str = "0.01",
    with_cloid: bool = True,
) -> Fill:
    """One fill of an order of ours; `start` is the position before it."""
    return Fill(
        coin=order.intent.coin,
        px=D(px),
        sz=D(sz),
        side=order.intent.side,
        time_ms=time_ms,
        start_position=D(start),
        dir="Open Long",
        closed_pnl=D(0),
        oid=oid,
        tid=tid,
        crossed=True,
        fee=D(fee),
        fee_token="USDC",
        cloid=order.cloid.value if with_cloid else None,
    )


def fills(*items: Fill, snapshot: bool = False) -> UserFills:
    return UserFills(USER, items, snapshot)


def update(order: TrackedOrder, status: str, *, sz: str = "0", oid: int = 77, time_ms: int = T0 + 100) -> OrderUpdate:
    """One element of an orderUpdates frame about an order of ours; `sz` is what remains."""
    i = order.intent
    return OrderUpdate(i.coin, i.side, i.px, D(sz), i.sz, oid, order.cloid.value, status, time_ms, i.reduce_only)


def updates(*items: OrderUpdate) -> OrderUpdates:
    return OrderUpdates(items)


def answer_filled(order: TrackedOrder, sz: str, *, oid: int = 77) -> f.OrderAnswered:
    return f.OrderAnswered(order.cloid, OrderOutcome(OutcomeKind.CONFIRMED, oid, D(sz), order.intent.px), T0 + 200)


def answer_resting(order: TrackedOrder, *, oid: int = 77) -> f.OrderAnswered:
    return f.OrderAnswered(order.cloid, OrderOutcome(OutcomeKind.CONFIRMED, oid), T0 + 200)


def answer_refused(order: TrackedOrder, error: str = "Order could not immediately match") -> f.OrderAnswered:
    return f.OrderAnswered(order.cloid, OrderOutcome(OutcomeKind.REFUSED, error=error), T0 + 200)


def opened(desk: Desk, sz: str = "0.10") -> None:
    """A long position of `sz` at 600."""
    entry = desk.order(sz=sz)
    desk.apply(fills(fill(entry, sz, tid=900)), answer_filled(entry, sz))


DETECTOR = DetectorConfig(
    slippage_bps=D(2),
    min_edge_bps=D(5),
    size_alpha=D("0.05"),
    min_order_notional_usd=D(11),
    max_order_notional_usd=D(40),
    min_book_notional_usd=D(500),
    normal_book_notional_usd=D(5000),
    max_bbo_age_ms=10_000,
    max_ctx_age_ms=3000,
    dedup=True,
    direction=True,
)
