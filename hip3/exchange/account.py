"""What the exchange remembers about one address: cash per dex, positions, orders, fills, budget. Decides nothing."""

from __future__ import annotations

from collections import OrderedDict, deque
from decimal import Decimal

from attrs import Factory, define, frozen

from hip3.core.events import Fill, Funding
from hip3.core.ids import OrderSide
from hip3.core.units import EXACT, ZERO
from hip3.exchange.book import Order

USD_QUANTUM = Decimal("0.000001")
"""The venue counts USD of perps in millionths."""
FUNDINGS_KEPT = 500  # PROTOCOL 3: most of one answer


@define
class Holding:
    """A position: signed size, average entry, and its own margin where it is isolated."""

    szi: Decimal = ZERO
    entry_px: Decimal = ZERO
    isolated_usd: Decimal = ZERO


@frozen
class Leverage:
    is_cross: bool
    value: int


@frozen
class Agent:
    """An approved API wallet; `name` is empty for the unnamed one."""

    address: str
    name: str
    valid_until_ms: int


@define(eq=False)
class Account:
    """One address. `cash` is USD per dex: deposits, realised profit and fees; unrealised profit is not in it."""

    address: str
    fill_retention: int
    cash: dict[str, Decimal] = Factory(dict)
    holdings: dict[int, Holding] = Factory(dict)
    leverage: dict[int, Leverage] = Factory(dict)
    open: dict[int, Order] = Factory(dict)
    records: OrderedDict[int, Order] = Factory(OrderedDict)
    by_cloid: dict[str, int] = Factory(dict)
    agents: dict[str, Agent] = Factory(dict)
    fills: deque[Fill] = Factory(deque)
    fundings: deque[tuple[Funding, Decimal]] = Factory(lambda: deque(maxlen=FUNDINGS_KEPT))
    """Payments with the hourly rate of each, the newest last."""
    volume_usd: Decimal = ZERO
    budget_volume_usd: Decimal = ZERO
    requests_used: int = 0
    last_trickle_ms: int | None = None
    scheduled_cancel_ms: int | None = None
    peak_exposure_usd: Decimal = ZERO
    peak_position: dict[str, Decimal] = Factory(dict)

    @property
    def exists(self) -> bool:
        """True once it was funded; an address without a deposit is unknown to the venue."""
        return bool(self.cash)

    def szi(self, asset: int) -> Decimal:
        holding = self.holdings.get(asset)
        return holding.szi if holding is not None else ZERO

    def find(self, oid_or_cloid: int | str) -> Order | None:
        """The remembered order, open or not; a cloid names the latest order that bore it (PROTOCOL 5.4)."""
        oid = self.by_cloid.get(oid_or_cloid) if isinstance(oid_or_cloid, str) else oid_or_cloid
        return self.records.get(oid) if oid is not None else None

    def remember(self, order: Order, retention: int) -> None:
        """Keeps the record, forgetting the oldest terminal ones beyond `retention`; an open order is never forgotten."""
        self.records[order.oid] = order
        if order.cloid is not None:
            self.by_cloid[order.cloid] = order.oid
        excess = len(self.records) - retention
        if excess <= 0:
            return
        for oid in [oid for oid, old in self.records.items() if not old.is_open][:excess]:
            old = self.records.pop(oid)
            if old.cloid is not None and self.by_cloid.get(old.cloid) == oid:
                del self.by_cloid[old.cloid]

    def book_fill(self, fill: Fill) -> None:
        self.fills.append(fill)
        if len(self.fills) > self.fill_retention:
            self.fills.popleft()


@frozen
class Applied:
    """What a trade did to a position."""

    start: Decimal
    closed_pnl: Decimal
    closed_sz: Decimal
    dir: str


def apply_trade(holding: Holding, side: OrderSide, px: Decimal, sz: Decimal) -> Applied:
    """Changes size and average entry; closed profit is `(px - entry) * closed`, signed, without the fee (PROTOCOL 2.3).

    The profit has at most six decimals, like 8,080 of 8,082 recorded HIP-3 fills; how the venue rounds is UNVERIFIED.
    """
    start = holding.szi
    end = start + side.sign * sz
    opposite = start * side.sign < 0
    closed_sz = min(abs(start), sz) if opposite else ZERO
    pnl = ((px - holding.entry_px) * closed_sz * (1 if start > 0 else -1)).quantize(USD_QUANTUM)
    if not opposite:
        cost = abs(start) * holding.entry_px + sz * px
        holding.entry_px = EXACT.divide(cost, abs(end))
    elif start * end < 0:
        holding.entry_px = px
    elif end == 0:
        holding.entry_px = ZERO
    holding.szi = end
    return Applied(start, pnl, closed_sz, direction(start, end))


def direction(start: Decimal, end: Decimal) -> str:
    """The venue's `dir` of a fill; display only (PROTOCOL 2.3)."""
    if start * end < 0:
        return "Long > Short" if start > 0 else "Short > Long"
    growing = abs(end) > abs(start)
    name = "Long" if (end if growing else start) > 0 else "Short"
    return f"{'Open' if growing else 'Close'} {name}"
