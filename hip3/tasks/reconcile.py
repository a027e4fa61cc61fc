"""Reconcile: reads what the session does not carry, and settles doubt by asking (RDY-1, POST-4).

A failed question changes nothing: the condition it would have met stays unmet, and it is asked again. An order in doubt
is never resent; it ends by its status, by its fills, or by absence after its expiry, when it can no longer be admitted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from attrs import define, field

from hip3.core import facts as f
from hip3.core.budget import ActionBudget
from hip3.core.causes import Clears, ReasonCode, Safety, Severity
from hip3.core.clock import Clock
from hip3.core.doubt import TRY_EVERY_MS, is_exceeded, next_try_ms
from hip3.core.events import AccountState, OrderUpdate, UserFills
from hip3.core.guards import GuardLevel, GuardName, Guards
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger, TrackedOrder
from hip3.core.orders import OrderOutcome, OutcomeKind
from hip3.core.units import ZERO
from hip3.fsm.order import OrderState
from hip3.io.fence import Fenced, burn_nonce
from hip3.io.rest import QueryFailed, Venue
from hip3.tasks.channels import Doorbell, Mailbox
from hip3.venue.hyperliquid import info
from hip3.venue.hyperliquid.errors import WireError
from hip3.venue.hyperliquid.nonce import ClockCheck, NonceSource, Skew, compare_clocks
from hip3.venue.hyperliquid.parse import (
    parse_account_state,
    parse_exchange_status,
    parse_open_orders,
    parse_order_status,
    parse_rate_limit,
    parse_user_fills,
)
from hip3.venue.hyperliquid.signing import Signer

READ_EVERY_MS = 60_000  # POS-3, NON-2
RETRY_READ_MS = 2_000
HALT_UNREAD_MS = 3 * READ_EVERY_MS
"""Ours: an account that is exposed and was not read for so long has missed two comparisons and the 60 tries between."""
ABSENCE_MARGIN_MS = 2_000
"""After the expiry: the venue's order index lags by up to 1 s (PROTOCOL 3), and the block that refuses it must be over."""
CLOSE_ABSENT_MS = 2_000
"""The venue's order index lags by up to 1 s (PROTOCOL 3): a closing order that it does not know after twice that is given up
and a fresh one may be placed. Should the first still arrive, it is reduce-only and flips nothing."""
FILLS_OVERLAP_MS = 5_000  # REC-1


_CLOCK_LEVELS = {Skew.OK: GuardLevel.OK, Skew.WARN: GuardLevel.WARN, Skew.ERROR: GuardLevel.ERROR}


def judge_clock(check: ClockCheck, safety: Safety, guards: Guards) -> None:
    """What follows from a comparison with the venue's clock: the cause CLOCK_SKEW or its end, and the guard (NON-2)."""
    message = f"the local clock is {-check.offset_ms} ms from the venue's"
    if check.skew is Skew.ERROR:
        safety.add(ReasonCode.CLOCK_SKEW, Severity.SAFE, "nonce", message, Clears.AUTO)
    else:
        safety.clear(ReasonCode.CLOCK_SKEW, "nonce")
    guards.report(GuardName.CLOCK_SKEW, _CLOCK_LEVELS[check.skew], message)


@define
class Reconcile:
    rest: Venue
    signer: Signer
    user: str
    dexes: Sequence[str]
    ledger: Ledger
    facts: Mailbox[f.Fact]
    bell: Doorbell
    safety: Safety
    guards: Guards
    nonces: NonceSource
    budget: ActionBudget
    clock: Clock
    machine: Clock
    """What is compared with the venue's clock; ours does not jump with it."""
    journal: Journal
    on_doubt_that_stays: Severity = Severity.SAFE
    """What EXECUTION_RETRY_BUDGET_EXCEEDED forbids (POST-4)."""
    fills_since_ms: int | None = None
    """Venue time from which an earlier run's books are to be continued; None once they were, or where there are none."""
    on_unread: Callable[[], None] = lambda: None
    """Told of each reading of the account that failed."""
    live: bool = False
    """The account session is subscribed; set by its handler, in the step in which it happens."""
    account_read_ms: int | None = None
    """Monotonic time of the last reading of the account that came whole."""
    service_read_ms: int | None = None
    """The same of the venue's clock and the action budget."""
    _read_due_ms: int = 0
    _service_due_ms: int = 0
    _given_out: dict[str, str] = field(factory=dict)
    """Orders for which EXECUTION_RETRY_BUDGET_EXCEEDED was raised, and the source of each cause."""
    _fills_wanted: bool = False
    """The next reading of the account begins with the fills: each but the first of a run, and where a size is in doubt."""
    _fills_read_ms: int = 0
    """The venue's time of the last reading of fills that came whole; 0 before the first."""

    def on_session(self, what: str) -> None:
        """Told of the account session: a new one is read at once."""
        self.live = what == "live"
        self._read_due_ms = self.clock.mono_ms()
        self.bell.ring()

    def read_soon(self) -> None:
        """Has fills and account read at once: a size is in doubt (POS-3)."""
        self._fills_wanted = True
        self._read_due_ms = self.clock.mono_ms()
        self.bell.ring()

    def read_service_soon(self) -> None:
        """Has the venue's clock read at once."""
        self._service_due_ms = self.clock.mono_ms()
        self.bell.ring()

    async def run(self) -> None:
        """Serves until cancelled."""
        while True:
            await self.look()
            with trio.move_on_after(self._wait_s()):
                await self.bell.wait()

    async def look(self) -> None:
        """One round: doubts first, then the account where a reading is due."""
        for order in self.ledger.in_doubt():
            if self.clock.wall_ms() >= self._due_ms(order):
                await self._try(order)
        self._forget_settled()
        now = self.clock.mono_ms()
        if self.live and now >= self._read_due_ms:
            # Fills first: a difference that they explain ends as a trade, not as a correction that no loss limit hears of.
            read = await self._read_fills() and await self.read_account()
            self._read_due_ms = self.clock.mono_ms() + (READ_EVERY_MS if read else RETRY_READ_MS)
            self._fills_wanted = self._fills_wanted or read  # the next comparison looks whether a frame was lost (POS-3)
        if now >= self._service_due_ms:
            served = await self._read_service()
            self._service_due_ms = self.clock.mono_ms() + (READ_EVERY_MS if served else RETRY_READ_MS)

    def _wait_s(self) -> float:
        """Never longer than between two questions: fills that fail to come ring no bell."""
        now, wall = self.clock.mono_ms(), self.clock.wall_ms()
        waits = [self._service_due_ms - now, *(self._due_ms(order) - wall for order in self.ledger.in_doubt())]
        if self.live:
            waits.append(self._read_due_ms - now)
        return min(max(0, min(waits)), TRY_EVERY_MS) / 1000

    # ---- the account

    async def read_account(self) -> bool:
        """Positions and open orders of every dex traded, as one fact; False where any question failed."""
        states: list[AccountState] = []
        orders: list[OrderUpdate] = []
        try:
            for dex in self.dexes:
                orders += parse_open_orders(await self.rest.info(info.frontend_open_orders(self.user, dex)))
                states.append(parse_account_state(dex, await self.rest.info(info.clearinghouse_state(self.user, dex))))
        except (QueryFailed, WireError) as e:
            self._note("warning", "account_unread", error=str(e))
            self._say_stale(str(e))
            return False
        self.safety.clear(ReasonCode.SNAPSHOT_STALE, "reconcile")
        self.facts.put(f.AccountRead(tuple(states), tuple(orders)))
        self.account_read_ms = self.clock.mono_ms()
        return True

    def _say_stale(self, why: str) -> None:
        """No entries on books that nobody can compare; held for long on such books is a HALT (REC-4, STOP-4)."""
        message, severity, clears = f"the account could not be read: {why}", Severity.SAFE, Clears.AUTO
        read_ms = self.account_read_ms
        if read_ms is not None and self.clock.mono_ms() - read_ms > HALT_UNREAD_MS and self.ledger.is_exposed:
            severity, clears = Severity.HALT, Clears.OPERATOR
        self.on_unread()
        self.safety.add(ReasonCode.SNAPSHOT_STALE, severity, "reconcile", message, clears)

    async def _read_service(self) -> bool:
        """Server time (NON-2) and the address budget (GATE-5)."""
        asked_ms, machine_asked_ms = self.clock.wall_ms(), self.machine.wall_ms()
        try:
            status = parse_exchange_status(await self.rest.info(info.exchange_status()))
            self.nonces.sync(status.time_ms, asked_ms)
            check = compare_clocks(status.time_ms, self.machine.wall_ms(), machine_asked_ms)
            rate = parse_rate_limit(await self.rest.info(info.user_rate_limit(self.user)))
        except (QueryFailed, WireError) as e:
            self._note("warning", "service_unread", error=str(e))
            return False
        self.budget.read(rate.used, rate.cap)
        self.service_read_ms = self.clock.mono_ms()
        judge_clock(check, self.safety, self.guards)
        if check.skew is not Skew.OK:
            self._note("warning", "clock_skew", offset_ms=check.offset_ms)
        return True

    # ---- doubt

    async def _read_fills(self) -> bool:
        """Reads the fills where they are wanted; False where they could not be had."""
        if not self._fills_wanted and self.fills_since_ms is None:
            return True
        asked_ms = self._venue_ms
        read = await self.ask_fills(self.rest)
        if read is None:
            return False
        self._fills_wanted, self.fills_since_ms, self._fills_read_ms = False, None, asked_ms
        self.facts.put(read)
        return True

    async def ask_fills(self, rest: Venue) -> f.FillsRead | None:
        """The fills since what is pending or held began, and of the last readings' time; None where there is no answer."""
        ledger = self.ledger
        since = [self._venue_ms - 2 * READ_EVERY_MS]
        since += [self._fills_read_ms] if self._fills_read_ms else []
        since += [self._created_ms(o) for o in ledger.orders.values()]
        since += [p.entry_ms for p in ledger.held() if p.entry_ms is not None]
        start = min(since) - FILLS_OVERLAP_MS
        if self.fills_since_ms is not None:
            start = min(start, self.fills_since_ms)
        try:
            return f.FillsRead(parse_user_fills(await rest.info(info.user_fills_by_time(self.user, start))))
        except (QueryFailed, WireError) as e:
            self._note("warning", "fills_unread", error=str(e))
            return None

    @property
    def _venue_ms(self) -> int:
        return self.clock.wall_ms() + self.nonces.apart_ms

    def _created_ms(self, order: TrackedOrder) -> int:
        """No later than the venue's time at which the order was made, whichever way the clocks were apart then."""
        return order.intent.created_at_ms + min(0, self.nonces.apart_ms)

    def _due_ms(self, order: TrackedOrder) -> int:
        """Wall time of the next question about an order in doubt."""
        if order.awaits_fills and order.queries:
            return order.asked_ms + TRY_EVERY_MS  # it was executed: a position without a time stop until they come
        since = order.doubted_ms if order.doubted_ms is not None else 0  # awaits fills: asked at the next look
        return next_try_ms(order.queries, order.asked_ms, self._provable_ms(order), since)

    async def _try(self, order: TrackedOrder) -> None:
        """One question; then the fence, where nothing is known of an entry that could still be admitted."""
        order.queries += 1
        order.asked_ms = self.clock.wall_ms()
        if order.intent.may_be_resent and order.state is OrderState.UNKNOWN:
            await self._try_close(order)
        elif not await self._ask(order) and not await self._fence(order):
            self._check_budget(order)

    async def _try_close(self, order: TrackedOrder) -> None:
        """Asks for a moment only: a position does not wait for answers, as another closing order could flip nothing."""
        answered = False
        with trio.move_on_after(CLOSE_ABSENT_MS / 1000):
            answered = await self._ask(order)
        if not answered and order.state is OrderState.UNKNOWN and self._is_past_expiry(order):
            self._absent(order, "nobody answers for it; another close may go, for it flips nothing")
        elif not answered:
            self._check_budget(order)

    async def _ask(self, order: TrackedOrder) -> bool:
        """Asks the venue about one order; what it says becomes a fact. True where it said something."""
        cloid = order.cloid
        try:
            update = parse_order_status(await self.rest.info(info.order_status(self.user, cloid.value)))
            start = self._created_ms(order) - FILLS_OVERLAP_MS
            fills = parse_user_fills(await self.rest.info(info.user_fills_by_time(self.user, start)))
            if update is None:
                update = await self._listed(order)
        except (QueryFailed, WireError) as e:
            self._note("warning", "doubt_unanswered", cloid=str(cloid), tries=order.queries, error=str(e))
            return False
        own = tuple(fill for fill in fills if fill.cloid == cloid.value or (order.oid and fill.oid == order.oid))
        if update is not None:
            self._note("info", "doubt_answered", cloid=str(cloid), status=update.status, fills=len(own))
            self.facts.put(f.OrderStatusRead(cloid, update, own))
            return True
        if own:
            # `unknownOid` is no proof against fills (PROTOCOL 3); after its expiry they show all that an IOC will ever do.
            self._note("info", "doubt_answered", cloid=str(cloid), status="unknownOid", fills=len(own))
            self.facts.put(UserFills(self.user, own, is_snapshot=False))
            if self._is_past_expiry(order):
                done = OrderOutcome(OutcomeKind.CONFIRMED, filled_sz=sum((fill.sz for fill in own), ZERO))
                self.facts.put(f.OrderAnswered(cloid, done, self.clock.wall_ms()))
            return True
        if order.state is OrderState.UNKNOWN and self._is_past_expiry(order):
            self._absent(order, f"no status and no fill {ABSENCE_MARGIN_MS} ms after its expiry")
            return True
        return False

    async def _listed(self, order: TrackedOrder) -> OrderUpdate | None:
        """The order among the open ones of its dex, which has no lag of an index; None where it is not listed."""
        dex = order.intent.spec.key.dex
        listed = parse_open_orders(await self.rest.info(info.frontend_open_orders(self.user, dex)))
        return next((u for u in listed if u.cloid == order.cloid.value or (order.oid and u.oid == order.oid)), None)

    async def _fence(self, order: TrackedOrder) -> bool:
        """Burns the nonce of an entry in doubt. True where that proved its absence.

        Where the venue takes one action in 11 s, that one is kept for a close (GATE-5).
        """
        nonce = order.nonce
        if nonce is None or order.state is not OrderState.UNKNOWN or order.intent.may_be_resent or self.budget.is_exhausted:
            return False
        self.budget.spend(1, self.clock.mono_ms())
        fenced = await burn_nonce(self.rest, self.signer, nonce)
        self._note("info", "doubt_fenced", cloid=str(order.cloid), nonce=nonce, fenced=fenced.name, why=fenced.value)
        if fenced is Fenced.UNKNOWN:
            return False
        # An action's orders share its nonce, and its answer holds for all of them; a second noop would prove nothing.
        for each in list(self.ledger.orders.values()):
            if each.nonce == nonce:
                each.nonce = None
                if fenced is Fenced.BURNED and each.state is OrderState.UNKNOWN and not each.intent.may_be_resent:
                    self._absent(each, f"a noop took its nonce {nonce}")
        return fenced is Fenced.BURNED

    def _absent(self, order: TrackedOrder, proof: str) -> None:
        self._note("info", "doubt_absent", cloid=str(order.cloid), proof=proof)
        self.facts.put(f.OrderAbsent(order.cloid, proof))

    def _provable_ms(self, order: TrackedOrder) -> int:
        """From when on, by our wall clock, the order can no longer be admitted."""
        expires = order.intent.expires_after_ms
        if expires is None:
            # A closing order has no expiry: it cannot flip a position whenever it lands, so waiting it out is enough.
            return (order.doubted_ms or self.clock.wall_ms()) + CLOSE_ABSENT_MS
        return expires + ABSENCE_MARGIN_MS - self.nonces.offset_ms

    def _is_past_expiry(self, order: TrackedOrder) -> bool:
        """True where the order can no longer be admitted, by the venue's own time."""
        return self.clock.wall_ms() >= self._provable_ms(order)

    def _check_budget(self, order: TrackedOrder) -> None:
        """Says so where the questions have failed. An order that rests or fills has answered (LESSONS 14)."""
        if order.state is not OrderState.UNKNOWN or order.doubted_ms is None:
            return
        now = self.clock.wall_ms()
        if is_exceeded(order.queries, order.doubted_ms, now):
            source, severity = str(order.cloid), self.on_doubt_that_stays
            age = now - order.doubted_ms
            message = f"{source} on {order.intent.coin} is in doubt for {age} ms after {order.queries} questions"
            clears = Clears.AUTO if severity is Severity.SAFE else Clears.OPERATOR
            self.safety.add(ReasonCode.EXECUTION_RETRY_BUDGET_EXCEEDED, severity, source, message, clears)
            self._given_out[order.cloid.value] = source

    def _forget_settled(self) -> None:
        """What the venue has answered for is no longer in doubt: its cause goes, unless it was a HALT."""
        for cloid, source in list(self._given_out.items()):
            order = self.ledger.orders.get(cloid)
            if order is None or order.state is not OrderState.UNKNOWN:
                del self._given_out[cloid]
                self.safety.clear(ReasonCode.EXECUTION_RETRY_BUDGET_EXCEEDED, source)

    def _note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.clock.wall_ms(), level, event, **fields)
