"""Makes the parts of one bot and joins them: the only place that knows who hands what to whom."""

from __future__ import annotations

from functools import partial

from hip3.bot import Account, Bot, BotIO, Trader
from hip3.core.bookkeeper import Bookkeeper
from hip3.core.breaker import RunawayBreaker
from hip3.core.budget import ActionBudget, TokenBucket
from hip3.core.cause_trail import CauseTrail
from hip3.core.causes import Clears, ReasonCode, Safety, Severity, Watch
from hip3.core.clock import Clock
from hip3.core.detector import Detector
from hip3.core.disconnect_guard import DisconnectGuard
from hip3.core.exits import ExitRequest
from hip3.core.explain import Witness
from hip3.core.facts import Fact
from hip3.core.fees import FeeCheck
from hip3.core.gates import Caps
from hip3.core.guards import GuardName, Guards
from hip3.core.ids import CloidFactory
from hip3.core.journal import Journal
from hip3.core.ledger import Ledger
from hip3.core.market import MarketState, Reference
from hip3.core.outlook import SignalBook
from hip3.core.posts import PostBook
from hip3.core.ready import Ready
from hip3.core.records import NoRecorder, Recorder
from hip3.core.remembered import NOTHING, Remembered
from hip3.core.risk import DailyLimits
from hip3.core.risk_monitor import RiskMonitor
from hip3.core.run_mode import RunMode
from hip3.core.scheduler import Scheduler, SchedulerConfig
from hip3.core.scribe import RISK_KEY, Scribe
from hip3.core.tally import Tally
from hip3.core.throttles import Throttles
from hip3.fsm.lifecycle import LIFECYCLE_TABLE
from hip3.fsm.machines import Driver
from hip3.io.clock import VenueClock
from hip3.io.link import Link, LinkLost, NotSent, SharedLimits
from hip3.ops import modes
from hip3.ops.boot import FROM_VENUE, VenueFacts
from hip3.ops.detector_config import detector_config
from hip3.ops.exit_config import exit_config, exit_rules, protection_config
from hip3.ops.resume import resume
from hip3.ops.watches import watch_causes
from hip3.settings.caps import effective_caps
from hip3.settings.risk_limits import breaker_config, maintenance_windows, max_positions, risk_config, throttle_config
from hip3.settings.schema import Mode, Settings
from hip3.tasks import channels
from hip3.tasks.channels import Answer, Doorbell, Mailbox, SignalSlots
from hip3.tasks.dead_man import DeadManSwitch
from hip3.tasks.executor import Executor, ExecutorConfig, ExecutorInbox
from hip3.tasks.ingest import AccountIngest, MarketIngest
from hip3.tasks.metadata import MetadataTask
from hip3.tasks.position import PositionTask, status_event
from hip3.tasks.ready_watch import ReadyWatch
from hip3.tasks.reconcile import Reconcile, judge_clock
from hip3.tasks.risk import RiskTask
from hip3.tasks.timers import Timers
from hip3.venue.hyperliquid import subscriptions
from hip3.venue.hyperliquid.nonce import NonceSource


def scheduler_config(settings: Settings) -> SchedulerConfig:
    e = settings.executor
    return SchedulerConfig(
        queue_cancel=e.queue_cancel,
        queue_reduce_only=e.queue_reduce_only,
        queue_new=e.queue_new,
        max_batch=e.max_batch,
        max_inflight=e.max_inflight,
        high_water=e.high_water,
        period_ms=e.period_ms,
    )


def is_switch_wanted(settings: Settings) -> bool:
    """The venue's dead-man switch is configured, and no protective stops are, which it would cancel (decision 0021)."""
    return settings.watchdog.schedule_cancel_s > 0 and settings.position.protective_stop_bps is None


def build(
    settings: Settings,
    io: BotIO,
    venue: VenueFacts,
    journal: Journal,
    account: Account | None,
    recorder: Recorder | None = None,
    memory: Remembered = NOTHING,
    config_hash: str = "",
    run_id: int | None = None,
    run_mode: RunMode = RunMode.LIVE,
) -> Bot:
    """Makes every part and wires it. `account` is None in observation; `recorder` None keeps nothing.

    `memory` is what an earlier run of the account left (SPEC 19).
    """
    now = io.clock.wall_ms()
    caps = effective_caps(settings)
    reference = Reference(settings.detector.reference.value)
    caps_usd = venue.oi_caps_usd
    markets = {c: MarketState(spec, reference, oi_cap_usd=caps_usd.get(c)) for c, spec in venue.specs.items()}
    limits_per_ip = SharedLimits(settings.executor.messages_per_min)
    signals, book, bell = SignalSlots(), SignalBook(), Doorbell()
    late: list[Bot] = []  # callbacks of parts that exist before the whole does
    scribe = Scribe(recorder or NoRecorder(), io.clock.wall_ms, lambda why: late[0].on_storage(why))  # noqa: PLW0108 - `late` is empty as yet
    ledger = Ledger(on_move=scribe.order_moved, on_position=scribe.position_moved)
    exits: Mailbox[ExitRequest] = Mailbox(channels.EXITS)
    nonces = NonceSource(io.clock.wall_ms, memory.nonce, partial(_issued, scribe, journal, io.clock))
    detector = Detector(detector_config(settings), f"{now:x}", dict(venue.taker_fee_bps))
    observing = settings.mode is Mode.OBSERVATION or account is None
    calendar = VenueClock(io.clock, lambda: nonces.apart_ms)
    ingest = MarketIngest(markets, detector, signals, book, bell, calendar, journal, scribe, observing)
    safety = Safety(lambda *change: late[0].on_mode(*change), io.clock.wall_ms)  # noqa: PLW0108 - as below
    ready = Ready(lambda *change: late[0].on_ready(*change))  # noqa: PLW0108 - `late` is empty as yet
    bookkeeper = Bookkeeper(ledger, status_event)
    limits = DailyLimits(settings.safety.max_daily_trades, settings.safety.auto_stop_loss_usd)
    keep_risk = partial(_keep_counter, scribe)
    guards = Guards(safety, io.clock.mono_ms, lambda *report: late[0].on_guard(*report))  # noqa: PLW0108 - as above
    safety.watch(ReasonCode.GUARD_HOLD, Watch(guards.why_still))
    risk = RiskTask(
        events=Mailbox(channels.EVENTS),
        monitor=RiskMonitor(risk_config(settings)),
        breaker=RunawayBreaker(breaker_config(settings)),
        throttles=Throttles(throttle_config(settings)),
        guards=guards,
        windows=maintenance_windows(settings),
        limits=limits,
        safety=safety,
        clock=calendar,
        journal=journal,
        keep=keep_risk,
    )
    bot = Bot(
        settings=settings,
        io=io,
        venue=venue,
        journal=journal,
        run_id=now if run_id is None else run_id,
        run_mode=run_mode,
        started_ms=now,
        markets=markets,
        ledger=ledger,
        detector=detector,
        signals=signals,
        signal_book=book,
        posts=PostBook(settings.executor.post_timeout_ms, on_change=scribe.post_moved),
        scheduler=Scheduler(scheduler_config(settings)),
        ready=ready,
        ready_watch=ReadyWatch(
            ready, markets, settings.detector.max_bbo_age_ms, settings.detector.max_ctx_age_ms, io.clock, journal
        ),
        safety=safety,
        guards=guards,
        disconnect=DisconnectGuard(
            guards,
            settings.safety.halt_on_disconnect.value,
            is_switch_wanted=is_switch_wanted(settings) and run_mode.sends,
        ),
        tally=Tally(),
        limits=limits,
        budget=ActionBudget(bucket=TokenBucket(settings.executor.actions_per_min)),
        nonces=nonces,
        cloids=CloidFactory(now if run_id is None else run_id),
        market_link=Link(
            "market",
            io.dial,
            [s for coin in markets for s in subscriptions.market_data(coin, depth=settings.detector.depth)],
            ingest,
            clock=io.clock,
            rng=io.rng,
            journal=journal,
            limits=limits_per_ip,
            require_all_acks=False,
        ),
        market_ingest=ingest,
        timers=Timers(
            bookkeeper=bookkeeper,
            markets=markets,
            config=exit_config(settings),
            rules=exit_rules(settings),
            max_bbo_age_ms=settings.detector.max_bbo_age_ms,
            max_ctx_age_ms=settings.detector.max_ctx_age_ms,
            exits=exits,
            wake_executor=bell,
            events=risk,
            ready=ready,
            safety=safety,
            book=book,
            venue_ms=calendar.wall_ms,
            connected_ms=lambda: ingest.connected_ms,
            clock=io.clock,
            journal=journal,
            scribe=scribe,
            is_protection_due=lambda: late[0].is_protection_due,
            retry=lambda coin: late[0].market_link.renew(coin),  # noqa: PLW0108 - as above
            on_look=lambda: modes.look(late[0]),
        ),
        metadata=MetadataTask(
            rest=io.rest,
            markets=markets,
            dexes=venue.dexes,
            safety=safety,
            is_exposed=lambda: late[0].is_exposed,
            clock=io.clock,
            journal=journal,
            read_ms=io.clock.mono_ms(),
        ),
        lifecycle=Driver(LIFECYCLE_TABLE, lambda *change: late[0].on_lifecycle(*change)),  # noqa: PLW0108 - as above
        halt_bell=Doorbell(),
        changed_ms=dict.fromkeys(("run", "lifecycle", "safety", "ready"), io.clock.mono_ms()),
        scribe=scribe,
        trail=CauseTrail(safety, scribe, journal),
    )
    late.append(bot)
    safety.on_causes = bot.on_causes
    watch_causes(bot)
    bot.market_link.on_state = bot.on_link
    ingest.on_connect = lambda: bot.metadata.connected("market")
    bot.budget.on_known = lambda: guards.report(GuardName.RATE_LIMIT, *bot.budget.judge())
    if run_mode is RunMode.BACKFILL_ONLY:
        safety.add(ReasonCode.OBSERVATION, Severity.SAFE, "run mode", "--mode backfill-only", Clears.NEVER)
    since_ms = now - venue.heard_ms
    check = nonces.sync(venue.server_ms + since_ms, venue.asked_ms + since_ms)
    if observing or account is None:
        safety.add(ReasonCode.OBSERVATION, Severity.SAFE, "config", "mode = observation", Clears.NEVER)
        judge_clock(check, safety, guards)
        bot.budget.read(venue.budget_used, venue.budget_cap)
        return bot
    guards.arm()
    judge_clock(check, safety, guards)
    bot.budget.read(venue.budget_used, venue.budget_cap)
    core_caps = Caps(caps.per_market_usd, caps.total_usd, caps.total.key, max_positions(settings))
    _add_trader(bot, account, bookkeeper, exits, risk, bell, core_caps, limits_per_ip)
    resume(bot, bookkeeper, memory, config_hash)
    return bot


def _issued(scribe: Scribe, journal: Journal, clock: Clock, nonce: int) -> None:
    scribe.nonce(nonce)
    journal.note(clock.wall_ms(), "debug", "nonce_issued", nonce=nonce)


def _keep_counter(scribe: Scribe, key: str, value: str) -> None:
    scribe.state(RISK_KEY + key, value)


def _add_trader(
    bot: Bot,
    account: Account,
    bookkeeper: Bookkeeper,
    exits: Mailbox[ExitRequest],
    risk: RiskTask,
    bell: Doorbell,
    caps: Caps,
    limits_per_ip: SharedLimits,
) -> None:
    """The account link and the tasks behind it."""
    settings, io, journal = bot.settings, bot.io, bot.journal
    facts: Mailbox[Fact] = Mailbox(channels.FACTS)
    answers: Mailbox[Answer] = Mailbox(channels.ANSWERS)
    ask = Doorbell()
    link = Link(
        "account",
        io.dial,
        [
            subscriptions.order_updates(account.user),
            subscriptions.user_fills(account.user),
            subscriptions.user_fundings(account.user),
        ],
        AccountIngest(facts, answers, bell, bot.on_session),
        clock=io.clock,
        rng=io.rng,
        journal=journal,
        limits=limits_per_ip,
        require_all_acks=True,
    )
    executor = Executor(
        config=ExecutorConfig(
            caps=caps,
            exits=exit_config(settings),
            expires_after_ms=settings.executor.expires_after_ms,
            max_mark_age_ms=settings.detector.max_ctx_age_ms,
            protection=protection_config(settings),
            sends=bot.run_mode.sends,
        ),
        ledger=bot.ledger,
        scheduler=bot.scheduler,
        posts=bot.posts,
        inbox=ExecutorInbox(bot.signals, exits, answers, bell),
        facts=facts,
        events=risk,
        markets=bot.markets,
        safety=bot.safety,
        limits=bot.limits,
        throttles=risk.throttles,
        budget=bot.budget,
        not_ready=bot.not_ready,
        messages_left=limits_per_ip.entries_left,
        signer=account.signer,
        nonces=bot.nonces,
        cloids=bot.cloids,
        link=link,
        lost=LinkLost,
        unsent=NotSent,
        tally=bot.tally,
        book=bot.signal_book,
        clock=io.clock,
        journal=journal,
        witness=Witness(bot.safety, bot.ready, bot.scheduler, bot.posts, bot.detector.config),
        scribe=bot.scribe,
    )
    reconcile = Reconcile(
        rest=io.rest,
        signer=account.signer,
        user=account.user,
        dexes=bot.venue.dexes,
        ledger=bot.ledger,
        facts=facts,
        bell=ask,
        safety=bot.safety,
        guards=bot.guards,
        nonces=bot.nonces,
        budget=bot.budget,
        clock=io.clock,
        machine=io.machine,
        journal=journal,
        on_doubt_that_stays=Severity.HALT if settings.safety.halt_on_retry_budget else Severity.SAFE,
        on_unread=bot.on_unread,
    )
    position = PositionTask(
        bookkeeper,
        facts,
        risk,
        bot.ready,
        bot.tally,
        bell,
        ask,
        reconcile.read_soon,
        io.clock,
        journal,
        FeeCheck(bot.detector.taker_fee_bps, is_stated=bot.venue.fee_source == FROM_VENUE),
        bot.scribe,
        bot.guards,
        executor.cancel_stray,
        bot.on_drift,
        bot.on_agree,
        bot.on_foreign_order,
        bot.on_ledger,
    )
    link.on_state = bot.on_link
    dead_man = DeadManSwitch(
        rest=io.rest,
        signer=account.signer,
        nonces=bot.nonces,
        budget=bot.budget,
        span_s=settings.watchdog.schedule_cancel_s,
        off_because="" if is_switch_wanted(settings) else "it would cancel the protective stops",
        may_send=lambda: bot.run_mode.sends,
        clock=io.clock,
        journal=journal,
        on_armed=bot.disconnect.on_armed,
        on_refused=bot.disconnect.on_refused,
    )
    bot.trader = Trader(account, link, executor, position, reconcile, risk, dead_man)
