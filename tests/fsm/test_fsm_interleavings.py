"""What holds of a machine whatever comes in whatever order; those of orders, posts and READY are in tests/core.

`scripts/interleavings` runs all of them over ten thousand stories each (docs/simulation.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from attrs import Factory, define, evolve
from hypothesis import given
from hypothesis import strategies as st

from hip3.core import facts as f
from hip3.core.causes import PROMOTION_ENDS, Clears, ReasonCode, Safety, Severity
from hip3.core.clearing import endable, halts
from hip3.core.events import Fill
from hip3.core.ids import OrderSide
from hip3.core.ledger import TrackedOrder
from hip3.core.units import ZERO
from hip3.fsm.connection import CONNECTION_TABLE, ConnectionEvent, ConnectionState
from hip3.fsm.lifecycle import LIFECYCLE_TABLE, LifecycleEvent, LifecycleState
from hip3.fsm.machines import Driver
from hip3.fsm.position import PositionState
from hip3.fsm.safety import SafetyMode
from hip3.fsm.table import Refused
from tests.core.core_builders import SNDK, T0, D, Desk, answer_filled, answer_refused, fill, fills

# ---- connection

C, CE = ConnectionState, ConnectionEvent
SESSION = [CE.DIAL, CE.CONNECTED, CE.SUBSCRIBED, CE.SYNCED]


@given(st.lists(st.sampled_from(ConnectionEvent), max_size=40))
def test_fsm_interleavings_of_a_connection(events: list[ConnectionEvent]) -> None:
    """WS-1, DESIGN 5: a link is READY only after all steps of its session in order, a loss ends in BACKOFF, a stop in DOWN,
    and from wherever it stands it can be live again."""
    link = Driver(CONNECTION_TABLE, lambda *_: None)
    steps: list[ConnectionEvent] = []
    for event in events:
        before = link.state
        try:
            after = link.fire(event)
        except Refused:
            assert link.state is before
            continue
        if event in (CE.LOST, CE.STOP):
            steps = []
            assert after is (before if before is C.DOWN else C.BACKOFF if event is CE.LOST else C.DOWN)
        elif after is not before:
            steps.append(event)
        assert steps == SESSION[: len(steps)]
        assert (after is C.READY) is (len(steps) == len(SESSION))
    link.fire(CE.LOST)
    for event in SESSION:
        link.fire(event)
    assert link.state is C.READY


# ---- lifecycle

L, LE = LifecycleState, LifecycleEvent
WAY_OUT = [L.STOPPING, L.CANCELING, L.FLATTENING, L.FLAT, L.STOPPED]


@given(st.lists(st.sampled_from([*LifecycleEvent, *LifecycleEvent]), max_size=60))
def test_fsm_interleavings_of_a_lifecycle(events: list[LifecycleEvent]) -> None:
    """END-1, DESIGN 5: once anything may have been sent, STOPPED comes only through cancelling, flattening and a verified
    flat; a stop is never taken back; and every process that was asked to stop can end."""
    life = Driver(LIFECYCLE_TABLE, lambda *_: None)
    path = [life.state]
    for event in events:
        before = life.state
        try:
            after = life.fire(event)
        except Refused:
            assert life.state is before
            continue
        if after is not before:
            path.append(after)
    assert len(set(path)) == len(path), "no state of a process is entered twice"
    if L.SYNC in path and L.STOPPED in path:
        assert path[-len(WAY_OUT) :] == WAY_OUT
    if L.STOPPED_EXPOSED in path:
        assert L.FLAT not in path
    if L.STOPPING in path:
        assert L.RUNNING not in path[path.index(L.STOPPING) :]
    life.fire(LE.STOP)
    for event in (LE.SETTLED, LE.CANCELED, LE.VERIFIED_FLAT, LE.CLOSED):
        if life.state not in LIFECYCLE_TABLE.terminal:
            _fire_if_allowed(life, event)
    assert life.state in LIFECYCLE_TABLE.terminal


def _fire_if_allowed(life: Driver[LifecycleState, LifecycleEvent], event: LifecycleEvent) -> None:
    if LIFECYCLE_TABLE.allows(life.state, event):
        life.fire(event)


# ---- safety

CODES = (ReasonCode.WS_DISCONNECT, ReasonCode.DAILY_LOSS, ReasonCode.SNAPSHOT_STALE)
SOURCES = ("account", "risk")
causes = st.tuples(
    st.just("add"),
    st.sampled_from(CODES),
    st.sampled_from(SOURCES),
    st.sampled_from(Severity),
    st.sampled_from(Clears),
)
clearings = st.tuples(st.just("clear"), st.sampled_from(CODES), st.sampled_from(SOURCES))
endings = st.tuples(st.just("end"))
promotions = st.tuples(st.just("promote"), st.sampled_from([ReasonCode.AUTO_PROMOTE, ReasonCode.MANUAL_PROMOTE]))


@given(st.lists(st.one_of(causes, clearings, endings, promotions), max_size=40))
def test_fsm_interleavings_of_safety(steps: list[tuple[object, ...]]) -> None:
    """SAFE-1, SAFE-3, LESSONS 33: the mode is always that of the worst cause in force; no entry while any holds; HALT never
    leads straight to ARMED_LIVE; and nobody but an operator or the process's end takes a HALT away."""
    changes: list[tuple[SafetyMode, SafetyMode]] = []
    now = iter(range(10**6))
    safety = Safety(lambda before, after, _code, _message: changes.append((before, after)), lambda: next(now))
    for step in steps:
        held = set(safety.causes)
        match step:
            case ("add", ReasonCode() as code, str() as source, Severity() as severity, Clears() as clears):
                safety.add(code, severity, source, "said", clears)
                assert {(c.code, c.source) for c in held} <= {(c.code, c.source) for c in safety.causes}
            case ("clear", ReasonCode() as code, str() as source):
                gone = held - set(safety.causes) if safety.clear(code, source) else set()
                assert all((c.clears, c.severity) == (Clears.AUTO, Severity.SAFE) for c in gone)
            case ("end",):
                safety.end(endable(safety, halts(safety)), ReasonCode.MANUAL_UNHALT, "operator", "looked at")
                assert not safety.allows_entry
                assert all(c.clears is Clears.OPERATOR for c in held - set(safety.causes))
            case (_, ReasonCode() as code):
                ended = PROMOTION_ENDS if code is ReasonCode.MANUAL_PROMOTE else {ReasonCode.BOOTSTRAP}
                assert safety.promote(code, "asked for") is all(c.code in ended for c in held)
        worst = max((c.severity.value for c in safety.causes), default=0)
        assert (safety.mode is SafetyMode.HALT) is (worst == Severity.HALT.value)
        assert not (safety.allows_entry and worst)
    assert (SafetyMode.HALT, SafetyMode.ARMED_LIVE) not in changes
    assert all(before is not after for before, after in changes)


# ---- position


@define
class Market:
    """One market at the venue and in our books. The venue executes at once; its news wait until they are delivered."""

    desk: Desk = Factory(Desk)
    szi: Decimal = ZERO
    """At the venue."""
    told: int = 0
    made: list[Fill] = Factory(list)
    executed: dict[str, Decimal] = Factory(dict)
    live: list[TrackedOrder] = Factory(list)

    def place(self, side: OrderSide, sz: Decimal, *, reduce_only: bool) -> None:
        order = self.desk.order(side, str(sz), reduce_only=reduce_only)
        self.live.append(order)
        self.executed[order.cloid.value] = D(0)

    def execute(self, order: TrackedOrder, sz: Decimal) -> None:
        """Up to `sz` of it, as the venue would: a reduce-only order never beyond flat."""
        left = order.intent.sz - self.executed[order.cloid.value]
        if order.intent.reduce_only:
            against = -self.szi * order.intent.side.sign
            left = min(left, max(against, D(0)))
        self._fill(order, min(sz, left))

    def liquidate(self) -> None:
        """The venue closes the position by itself."""
        side = OrderSide.SELL if self.szi > 0 else OrderSide.BUY
        foreign = Desk().order(side, "1")
        self._fill(foreign, abs(self.szi), cloid="0x" + "ee" * 16)

    def _fill(self, order: TrackedOrder, sz: Decimal, cloid: str | None = None) -> None:
        if sz <= 0:
            return
        tid = len(self.made) + 1
        one = fill(order, str(sz), start=str(self.szi), tid=tid, time_ms=T0 + 100 + tid, oid=tid)
        if cloid is None:
            self.executed[order.cloid.value] += sz
        else:
            one = evolve(one, cloid=cloid)
        self.made.append(one)
        self.szi += one.signed_sz

    def deliver(self) -> None:
        if self.told < len(self.made):
            self.desk.apply(fills(self.made[self.told]))
            self.told += 1

    def end(self, order: TrackedOrder) -> None:
        """The answer, which settles an IOC."""
        executed = self.executed[order.cloid.value]
        self.live.remove(order)
        self.desk.apply(answer_filled(order, str(executed)) if executed else answer_refused(order))

    def step(self, word: str, lots: int) -> None:
        """Does `word` where it can happen now. The gates and the closer decide by our books, the venue by its own."""
        ledger, sz = self.desk.ledger, Decimal(lots) / 100
        position, coin = self.desk.position(), SNDK.coin
        newest = self.live[-1] if self.live else None
        if word == "entry" and position.szi == 0 and not any(ledger.pending(coin)):
            self.place(OrderSide.BUY if lots % 2 else OrderSide.SELL, sz, reduce_only=False)
        elif word == "close" and position.szi != 0 and ledger.pending_close(coin) is None:
            self.place(position.side.opposite(), abs(position.szi), reduce_only=True)
        elif word == "execute" and newest is not None:
            self.execute(newest, sz)
        elif word == "deliver":
            self.deliver()
        elif word == "again" and self.told:
            self.desk.apply(fills(self.made[self.told - 1]))
        elif word == "end" and newest is not None:
            self.end(newest)
        elif word == "doubt" and newest is not None:
            self.desk.apply(f.OrderDoubted(newest.cloid, "no answer in time"))
        elif word == "liquidate" and self.szi != 0:
            self.liquidate()
        elif word == "overdue":
            self.desk.books.mark_overdue(coin)

    def check(self) -> None:
        """Each state has what it speaks of, and there is one closing order at most."""
        ledger, position = self.desk.ledger, self.desk.position()
        pending = list(ledger.pending(SNDK.coin))
        closes = [o for o in pending if o.intent.reduce_only]
        entries = [o for o in pending if not o.intent.reduce_only]
        assert len(closes) <= 1
        assert position.szi == sum((x.signed_sz for x in self.made[: self.told]), D(0))
        match position.state:
            case PositionState.FLAT:
                assert position.szi == 0
                # Liquidated before its entry's end was told: that order, being pending, keeps the next one out (GATE-3).
                assert all(o.filled_sz for o in entries)
            case PositionState.OPENING:
                assert position.szi == 0
                assert entries
            case PositionState.CLOSING:
                assert closes
            case _:
                assert position.szi != 0


WORDS = ("entry", "close", "execute", "deliver", "again", "end", "doubt", "liquidate", "overdue")


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.integers(1, 12)), max_size=40))
def test_fsm_interleavings_of_a_position(steps: Iterable[tuple[str, int]]) -> None:
    """POS-1, EXIT-3, DESIGN 9.4, 9.6: entries, closes, partial and repeated fills, doubts, liquidations and late ends in any
    order: the state says what is held and pending, one close at a time, and in the end we hold what the venue holds."""
    market = Market()
    for word, lots in steps:
        market.step(word, lots)
        market.check()
    while market.told < len(market.made):
        market.deliver()
        market.check()
    for order in list(market.live):
        market.end(order)
        market.check()
    position = market.desk.position()
    assert position.szi == market.szi
    assert not any(market.desk.ledger.pending(SNDK.coin))
    assert (position.state is PositionState.FLAT) is (market.szi == 0)
    assert position.state in (PositionState.FLAT, PositionState.OPEN, PositionState.FLATTEN_FAILED)
