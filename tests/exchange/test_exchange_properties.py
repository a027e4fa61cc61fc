"""Whatever two accounts do against a moving book, the exchange's own books balance."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hip3.core.ids import OrderSide
from hip3.core.units import ZERO
from hip3.exchange.effects import ExternalTaken, Filled, OrderChanged
from hip3.exchange.margin import summary
from hip3.exchange.seam import BookChange, CtxChange

if TYPE_CHECKING:
    from tests.exchange.conftest import Kit

D = Decimal
Book = Callable[..., BookChange]
SNDK = 110_002
COIN = "xyz:SNDK"
CLOIDS = [f"0x{n:032x}" for n in range(3)]

# Whole half-dollars near the touch, so that prices coincide and orders meet.
prices = st.integers(1190, 1210).map(lambda n: str(D(n) / 2))
sizes = st.sampled_from(["0.01", "0.02", "0.1", "0.25", "0.5", "0.9", "2"])
orders = st.fixed_dictionaries(
    {
        "side": st.sampled_from(["buy", "sell"]),
        "px": prices,
        "sz": sizes,
        "tif": st.sampled_from(["Ioc", "Gtc", "Alo"]),
        "reduce": st.booleans(),
        "cloid": st.sampled_from([None, *CLOIDS]),
    }
)
levels = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 900)), max_size=4, unique_by=lambda level: level[0])
steps = st.one_of(
    *[st.tuples(st.just("order"), st.sampled_from("ab"), orders)] * 4,  # most steps are orders
    st.tuples(st.just("cancel"), st.sampled_from("ab"), st.sampled_from(CLOIDS)),
    st.tuples(st.just("modify"), st.sampled_from("ab"), st.sampled_from(CLOIDS), orders),
    st.tuples(st.just("book"), st.integers(5960, 6040), levels, levels),
    st.tuples(st.just("mark"), st.integers(5800, 6200)),
)


class Ledger:
    """What a client would know from frames alone, kept beside the exchange."""

    def __init__(self) -> None:
        self.position: dict[str, Decimal] = defaultdict(lambda: ZERO)
        self.result: dict[str, Decimal] = defaultdict(lambda: ZERO)
        self.paid: dict[str, Decimal] = defaultdict(lambda: ZERO)
        self.filled: dict[int, Decimal] = defaultdict(lambda: ZERO)
        self.ended: Counter[int] = Counter()
        self.sides: dict[int, dict[str, Decimal]] = defaultdict(dict)

    def take(self, kit: Kit) -> None:
        for effect in kit.engine.state.collect():
            if isinstance(effect, Filled):
                fill = effect.fill
                order = kit.engine.state.account(effect.address).find(fill.oid)
                assert order is not None
                end = fill.start_position + fill.signed_sz
                assert not order.reduce_only or (abs(end) < abs(fill.start_position) and end * fill.start_position >= 0)
                assert fill.start_position == self.position[effect.address]
                assert fill.sz > 0
                sides = self.sides[fill.tid]
                assert effect.address not in sides, "a trade with oneself"
                sides[effect.address] = fill.signed_sz
                assert len(sides) == 1 or sum(sides.values()) == 0
                self.position[effect.address] += fill.signed_sz
                self.result[effect.address] += fill.closed_pnl - fill.fee
                self.paid[effect.address] += fill.signed_sz * fill.px + fill.fee
                self.filled[fill.oid] += fill.sz
            elif isinstance(effect, OrderChanged):
                assert self.ended[effect.update.oid] == 0, "a frame after the end"
                self.ended[effect.update.oid] += effect.update.status != "open"
            elif isinstance(effect, ExternalTaken):
                assert effect.sz > 0


def apply(kit: Kit, wire_order: Callable[..., Any], wire_book: Book, step: tuple[Any, ...]) -> None:
    match step:
        case ("order", who, options):
            kit.place(getattr(kit, who), **options)
        case ("cancel", who, cloid):
            kit.do(getattr(kit, who), {"type": "cancelByCloid", "cancels": [{"asset": SNDK, "cloid": cloid}]})
        case ("modify", who, cloid, options):
            order = wire_order(**options)
            kit.do(getattr(kit, who), {"type": "batchModify", "modifies": [{"oid": cloid, "order": order}], "a": True})
        case ("book", mid, bids, asks):
            change = [
                sorted(((D(mid + sign * ticks) / 10, D(sz) / 1000) for ticks, sz in side), reverse=sign < 0)
                for sign, side in ((-1, bids), (1, asks))
            ]
            pairs = [[(str(px), str(sz)) for px, sz in side] for side in change]
            kit.engine.apply(wire_book(COIN, *pairs))
        case ("mark", tenths):
            kit.engine.apply(CtxChange(COIN, mark_px=D(tenths) / 10))


def check(kit: Kit, ledger: Ledger) -> None:
    market = kit.engine.state.directory.by_asset[SNDK]
    resting = [*kit.engine.resting(COIN, OrderSide.BUY), *kit.engine.resting(COIN, OrderSide.SELL)]
    for address in (kit.a, kit.b):
        account = kit.engine.state.account(address)
        szi = account.szi(SNDK)
        assert szi == ledger.position[address]
        assert account.cash["xyz"] == 10_000 + ledger.result[address]
        # Without entry prices: what was paid, and what the position is worth. Each closed profit is rounded to 1e-6.
        value = summary(account, "xyz", [market]).account_value
        error = value - (10_000 - ledger.paid[address] + szi * market.mark_px)
        assert abs(error) <= D("0.000001") * len(account.fills)
        assert {o.oid for o in account.open.values()} == {o.oid for o in resting if o.address == address}
        reducing = [o for o in account.open.values() if o.reduce_only]
        assert sum((o.sz for o in reducing), ZERO) <= abs(szi)
        assert all(o.side.sign * szi < 0 for o in reducing)
        for order in account.records.values():
            assert order.sz >= 0
            assert order.filled_sz == ledger.filled[order.oid]
            assert order.is_open == (order.oid in account.open)
            assert order.is_open == (ledger.ended[order.oid] == 0)
            assert order.filled_sz + order.sz <= order.orig_sz
            assert order.reduce_only or order.filled_sz + order.sz == order.orig_sz
    assert all(level.sz > 0 for side in OrderSide for level in market.book.depth(side, 50))
    bid, ask = market.book.first_resting(OrderSide.BUY), market.book.first_resting(OrderSide.SELL)
    assert bid is None or ask is None or bid.px < ask.px


@settings(max_examples=150, deadline=None)
@given(script=st.lists(steps, min_size=10, max_size=60))
def test_the_books_balance_whatever_happens(
    new_kit: Callable[..., Kit], wire_order: Callable[..., Any], wire_book: Book, script: list[tuple[Any, ...]]
) -> None:
    """SIM-2, DESIGN 9: position = sum of fills, cash = results, sizes conserved, nothing is both open and ended."""
    kit, ledger = new_kit(), Ledger()
    kit.place(kit.a, "buy", "602", "0.9")  # both begin with a position, so that reduce-only orders have work to do
    kit.place(kit.b, "sell", "598", "0.9")
    ledger.take(kit)
    for step in script:
        apply(kit, wire_order, wire_book, step)
        ledger.take(kit)
        check(kit, ledger)


def test_fees_are_truncated_as_in_recorded_fills(shared_data: Path) -> None:
    """SIM-2: of recorded HIP-3 fills at a known rate every fee is the exact one cut to six decimals, never rounded."""
    quantum = D("0.000001")
    rates = [D("0.0009"), D("0.0003"), D("0.00009"), D("0.00003")]  # PROTOCOL 9: scale 1, without and with growth mode
    cut = inexact = 0
    with gzip.open(shared_data / "series" / "hip3_fills_all_wallets.jsonl.gz", "rt") as lines:
        for line in lines:
            fill = json.loads(line)
            value, fee = D(fill["px"]) * D(fill["sz"]), D(fill["fee"])
            exact = next((value * rate for rate in rates if abs(value * rate - fee) < quantum), None)
            if fee > 0 and exact is not None and exact != fee:
                inexact += 1
                cut += exact.quantize(quantum, rounding=ROUND_DOWN) == fee
    assert inexact > 3000
    assert cut == inexact
