"""The parts of one bot, and what follows from a session or a mode. `wiring.py` makes it; `app.py` runs it.

One object holds them because the display, the summary and the tests look at all of them; the tasks see only what they
were given.
"""

from __future__ import annotations

import random
from decimal import Decimal

from attrs import define, field, frozen

from hip3.core.budget import ActionBudget
from hip3.core.cause_trail import CauseTrail
from hip3.core.causes import Clears, ReasonCode, Safety, Severity
from hip3.core.clock import Clock
from hip3.core.detector import Detector
from hip3.core.disconnect_guard import DisconnectGuard, Session
from hip3.core.drift import Drift, DriftLimits, judge_drift
from hip3.core.events import OrderUpdate
from hip3.core.guards import GuardLevel, GuardName, Guards, Report
from hip3.core.ids import CloidFactory
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState, missing_market_data
from hip3.core.outlook import SignalBook
from hip3.core.posts import PostBook
from hip3.core.ready import Ready
from hip3.core.recovery import Evidence
from hip3.core.risk import DailyLimits
from hip3.core.run_mode import RunMode
from hip3.core.scheduler import Scheduler
from hip3.core.scribe import UNTOLD, Scribe
from hip3.core.tally import Tally
from hip3.fsm.connection import ConnectionEvent, ConnectionState
from hip3.fsm.lifecycle import LifecycleEvent, LifecycleState
from hip3.fsm.machines import Driver
from hip3.fsm.ready import ReadyState
from hip3.fsm.safety import SafetyMode
from hip3.io.certificate import FlatCertificate
from hip3.io.dial import Dial
from hip3.io.link import Link
from hip3.io.rest import RestClient
from hip3.ops import latch
from hip3.ops.boot import VenueFacts
from hip3.settings.schema import HaltOnDisconnect, Settings
from hip3.tasks.channels import Doorbell, SignalSlots
from hip3.tasks.dead_man import DeadManSwitch
from hip3.tasks.executor import Executor
from hip3.tasks.ingest import MarketIngest
from hip3.tasks.metadata import MetadataTask
from hip3.tasks.position import PositionTask
from hip3.tasks.ready_watch import ReadyWatch
from hip3.tasks.reconcile import Reconcile
from hip3.tasks.risk import RiskTask
from hip3.tasks.timers import Timers
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.signing import Signer

CLOCK_STEP_MS = 1000
"""Ours: half of what is worth a warning (NON-2); a clock that is merely slewed needs half an hour for it."""
HALT_SOURCE = "halt procedure"
"""Of the cause that a flatten in HALT puts in force when it fails."""
LEFT_NAMED = 5
"""What of the residue is named in that cause; the certificate has all of it."""


@frozen
class BotIO:
    """What reaches outside: time, chance, sockets. A simulation gives other ones."""

    clock: Clock
    """Of this run; its wall time does not jump."""
    machine: Clock
    """What the machine shows, for other processes and for the comparison with the venue's."""
    rng: random.Random
    dial: Dial
    rest: RestClient
    flatten_rest: RestClient
    """A client of its own for the flatten procedure (END-4)."""


@frozen
class Account:
    """Whose money it is and who signs. `user` is the account, never the agent."""

    user: str
    signer: Signer


def drift_limits(settings: Settings) -> DriftLimits:
    r = settings.reconcile
    return DriftLimits(r.drift_warn_sz, r.drift_warn_usd, r.drift_critical_usd, r.drift_critical_sz)


@define
class Trader:
    """The parts that only a bot with an account has."""

    account: Account
    account_link: Link
    executor: Executor
    position: PositionTask
    reconcile: Reconcile
    risk: RiskTask
    dead_man: DeadManSwitch


@frozen
class HaltFlatten:
    """What a flatten in HALT left, and which HALT it was for (`Safety.incident` at its start)."""

    incident: int
    certificate: FlatCertificate


@define
class Bot:
    settings: Settings
    io: BotIO
    venue: VenueFacts
    journal: Journal
    run_id: int
    run_mode: RunMode
    started_ms: int
    """Wall time of the start."""
    markets: dict[str, MarketState]
    ledger: Ledger
    detector: Detector
    signals: SignalSlots
    signal_book: SignalBook
    posts: PostBook
    scheduler: Scheduler
    ready: Ready
    ready_watch: ReadyWatch
    safety: Safety
    guards: Guards
    disconnect: DisconnectGuard
    tally: Tally
    limits: DailyLimits
    budget: ActionBudget
    nonces: NonceSource
    cloids: CloidFactory
    market_link: Link
    market_ingest: MarketIngest
    timers: Timers
    metadata: MetadataTask
    lifecycle: Driver[LifecycleState, LifecycleEvent]
    halt_bell: Doorbell
    changed_ms: dict[str, int]
    """Monotonic time of the last change of run, lifecycle, safety and ready; each begins with the start."""
    scribe: Scribe
    trail: CauseTrail
    trader: Trader | None = None
    halt_flatten: HaltFlatten | None = None
    """The last one of this process."""
    database_trouble: tuple[int, str] | None = None
    """Monotonic time since which the database refuses, and what it says."""
    evidence: Evidence = field(factory=Evidence)
    """For the recovery from HALT (STOP-4)."""
    seen_incident: int = 0
    clock_step_ms: int = 0
    """How far the machine's wall clock had gone from this run's when it was last noticed."""
    kept_latch: str | None = None
    """What the store has of the causes."""

    @property
    def coins(self) -> tuple[str, ...]:
        return tuple(self.markets)

    def not_ready(self, coin: str) -> str | None:
        """The first missing condition for trading one market: its own data, the account's four, then the metadata."""
        d = self.settings.detector
        missing = missing_market_data(self.markets[coin], self.io.clock.mono_ms(), d.max_bbo_age_ms, d.max_ctx_age_ms)
        if missing is not None:
            return missing
        if not self.ready.is_ready:
            return ", ".join(c.value for c in self.ready.missing) or self.ready.state.name
        return self.metadata.missing

    @property
    def venue_ms(self) -> int:
        """The venue's time (Unix ms), as last measured; entries are stamped in it."""
        return self.io.clock.wall_ms() + self.nonces.apart_ms

    @property
    def is_protection_due(self) -> bool:
        """True where the executor has a protective stop to place or to withdraw."""
        return self.trader is not None and self.trader.executor.closer.is_protection_due()

    @property
    def is_exposed(self) -> bool:
        """True where a position or an order may be at the venue."""
        return self.ledger.is_exposed or self.posts.in_flight > 0

    def note(self, level: str, event: str, **fields: object) -> None:
        self.journal.note(self.io.clock.wall_ms(), level, event, **fields)

    def look_at_clock(self) -> None:
        """A machine's clock that was set, or that stood still, is compared with the venue's at once (NON-2)."""
        step_ms = self.io.machine.wall_ms() - self.io.clock.wall_ms()
        if abs(step_ms - self.clock_step_ms) < CLOCK_STEP_MS:
            return
        self.note("warning", "clock_stepped", by_ms=step_ms - self.clock_step_ms)
        self.clock_step_ms = step_ms
        if self.trader is not None:
            self.trader.reconcile.read_service_soon()

    # ---- what follows from a session or a mode

    def on_session(self, what: str) -> None:
        """The account session: conditions fall with it, and a loss while exposed ends trading (STOP-3)."""
        assert self.trader is not None
        self.trader.reconcile.on_session(what)
        if what == "subscribing":
            self.metadata.connected("account")
            self.ready.link_down()
            self.ready.link_up()
        elif what == "live":
            self.disconnect.on_session(Session.LIVE)
        elif what == "lost":
            self.ready.link_down()
            self.disconnect.on_session(Session.LOST)
            self._on_lost()

    def _on_lost(self) -> None:
        policy = self.settings.safety.halt_on_disconnect
        exposed = self.is_exposed
        halt = policy is HaltOnDisconnect.ALWAYS or (policy is HaltOnDisconnect.EXPOSED and exposed)
        if halt:
            message = f"the account link was lost while {'exposed' if exposed else 'flat'}"
            self.safety.add(ReasonCode.WS_DISCONNECT, Severity.HALT, "account", message, Clears.OPERATOR)
        else:
            message = "the account link is down; entries wait for READY"
            self.safety.add(ReasonCode.WS_DISCONNECT, Severity.SAFE, "account", message, Clears.AUTO)

    def on_lifecycle(self, before: LifecycleState, event: LifecycleEvent, after: LifecycleState) -> None:
        self.changed_ms["lifecycle"] = self.io.clock.mono_ms()
        self.note("info", "lifecycle", before=before.name, after=after.name)
        self.scribe.transition("lifecycle", "process", before.name, after.name, event.name, event_id="lifecycle")
        if after in (LifecycleState.STOPPED, LifecycleState.STOPPED_EXPOSED):
            self.scribe.trails(UNTOLD)
        self.scribe.commit()

    def on_ready(self, before: ReadyState, after: ReadyState) -> None:
        self.changed_ms["ready"] = self.io.clock.mono_ms()
        self.ready_watch.changed()
        missing = [c.value for c in self.ready.missing]
        self.note("info", "ready_trading" if after is ReadyState.READY else "not_ready", was=before.name, missing=missing)
        self.scribe.transition("ready", "trading", before.name, after.name, ",".join(missing) or "COMPLETE")
        self.scribe.commit()
        if after is ReadyState.READY:
            self.safety.clear(ReasonCode.WS_DISCONNECT, "account")
            if self.trader is not None:
                self.trader.account_link.synced()

    def on_mode(self, before: SafetyMode, after: SafetyMode, code: ReasonCode, message: str) -> None:
        self.changed_ms["safety"] = self.io.clock.mono_ms()
        level = "critical" if after is SafetyMode.HALT else "info"
        self.note(level, "safety_mode", before=before.name, after=after.name, reason=code.value, message=message)
        self.scribe.transition("safety", "process", before.name, after.name, code.value, message)
        self._keep_latch()
        self.scribe.commit()  # before anything follows from it
        if before is SafetyMode.HALT:
            # Whoever ended it has a certificate, or has accepted what is left: the procedure tries no more.
            self.safety.clear(ReasonCode.FLATTEN_FAILED, HALT_SOURCE)
        if after is SafetyMode.HALT:
            if self.trader is not None:
                self.trader.executor.purge(f"HALT: {code.value}")
            self.halt_bell.ring()
        if self.trader is not None:
            self.trader.executor.inbox.bell.ring()

    def on_halt_flatten(self, certificate: FlatCertificate, failed_in_a_row: int) -> None:
        """A try to end a HALT flat is over. One that failed is a cause until a certificate says flat; more in a row than
        `risk.max_flatten_failures` are a HALT of their own, which a person ends (RISK-1, STOP-1)."""
        if not self.run_mode.sends:
            return  # nothing was tried
        if certificate.flat:
            self.safety.clear(ReasonCode.FLATTEN_FAILED, HALT_SOURCE)
            return
        most = self.settings.risk.max_flatten_failures
        halts = most > 0 and failed_in_a_row == most + 1  # once: each HALT said is another incident (STOP-4)
        named = certificate.residual or certificate.problems[-1:]
        more = f"; and {len(named) - LEFT_NAMED} more" if len(named) > LEFT_NAMED else ""
        left = "; ".join(named[:LEFT_NAMED]) + more
        message = f"the flatten of the HALT has failed {failed_in_a_row} times in a row; left: {left}"
        severity, clears = (Severity.HALT, Clears.OPERATOR) if halts else (Severity.SAFE, Clears.AUTO)
        self.safety.add(ReasonCode.FLATTEN_FAILED, severity, HALT_SOURCE, message, clears)

    def on_guard(self, name: GuardName, report: Report) -> None:
        """A guard's level has changed."""
        level = "debug" if report.level is GuardLevel.OK else "warning"
        self.note(level, "guard", guard=name.value, state=report.level.value, evidence=report.evidence)

    def on_storage(self, trouble: str) -> None:
        """What is decided from here on could be forgotten: no more entries, and flat (STO-4)."""
        self.note("critical", "storage_unavailable", why=trouble)
        self.safety.add(ReasonCode.STORAGE_UNAVAILABLE, Severity.HALT, "store", trouble, Clears.OPERATOR)

    def on_foreign_order(self, update: OrderUpdate) -> None:
        """An order that is not ours was there before us: no entries until an operator has seen it (REC-1)."""
        message = f"order {update.oid} on {update.coin}, {update.sz} at {update.limit_px}, is not one of this bot's"
        self.safety.add(ReasonCode.FOREIGN_ORDERS, Severity.SAFE, f"order {update.oid}", message, Clears.OPERATOR)

    def on_database(self, trouble: str | None) -> None:
        """The database refuses, or takes records again (None). The spool has them meanwhile, so nothing is lost; entries
        wait, and what refuses for `store.failed_after_ms` has failed (STO-4)."""
        self.database_trouble = None if trouble is None else (self.io.clock.mono_ms(), trouble)
        if trouble is None:
            self.note("info", "database_back")
            self.safety.clear(ReasonCode.STORAGE_UNAVAILABLE, "database")
        else:
            self.note("critical", "database_refuses", why=trouble)
            self.safety.add(ReasonCode.STORAGE_UNAVAILABLE, Severity.SAFE, "database", trouble, Clears.AUTO)

    def look_at_database(self) -> None:
        """A database that has refused for too long has failed."""
        if self.database_trouble is None:
            return
        since_ms, trouble = self.database_trouble
        if self.io.clock.mono_ms() - since_ms > self.settings.store.failed_after_ms:
            self.database_trouble = None
            self.on_storage(trouble)

    def on_drift(self, coin: str, ours: Decimal, venue: Decimal) -> None:
        """The books had to be corrected: how far they were off decides what may go on (REC-4)."""
        position, ctx = self.ledger.position(coin), self.markets[coin].ctx if coin in self.markets else None
        px = ctx.mark_px if ctx is not None and ctx.mark_px is not None else position.entry_px
        drift = judge_drift(ours, venue, px, drift_limits(self.settings))
        message = f"{coin}: the books had {ours}, the venue states {venue}, {abs(venue - ours) * px:.2f} USD apart"
        self.evidence.disturbed(self.safety.incident)
        if drift is Drift.WARN:
            self.safety.add(ReasonCode.RECONCILE_WARN, Severity.SAFE, coin, message, Clears.AUTO)
        elif drift is Drift.CRITICAL:
            self.safety.add(ReasonCode.RECONCILE_CRITICAL, Severity.HALT, coin, message, Clears.OPERATOR)

    def on_agree(self) -> None:
        """A statement of the venue agrees with the books in everything."""
        self.evidence.agreed(self.safety.incident)
        for coin in [c.source for c in self.safety.causes if c.code is ReasonCode.RECONCILE_WARN]:
            self.safety.clear(ReasonCode.RECONCILE_WARN, coin)

    def on_unread(self) -> None:
        """The account could not be read."""
        self.evidence.disturbed(self.safety.incident)

    def on_link(self, name: str, before: ConnectionState, event: ConnectionEvent, after: ConnectionState) -> None:
        self.scribe.transition("connection", name, before.name, after.name, event.name, event_id=f"link:{name}")
        self.scribe.commit()

    def on_causes(self) -> None:
        """After each change of the causes: a further HALT has the account looked at again, for it may be about it."""
        self.trail.tell()
        self._keep_latch()
        self.scribe.commit()
        if self.safety.mode is SafetyMode.HALT and self.safety.incident != self.seen_incident:
            self.seen_incident = self.safety.incident
            self.halt_bell.ring()

    def _keep_latch(self) -> None:
        """Joins the next commit where what outlives the process has changed (STOP-1)."""
        text = latch.dump(self.safety)
        if text != self.kept_latch:
            self.scribe.state(latch.KEY, text)
            self.kept_latch = text

    def on_ledger(self) -> None:
        """After each fact: a position that is there in HALT is the halt procedure's business, whoever opened it."""
        if self.safety.mode is SafetyMode.HALT and self.ledger.held():
            self.halt_bell.ring()
