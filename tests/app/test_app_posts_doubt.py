"""Posts that get no answer: the order is asked about and never sent twice, and its market is free again (SPEC 11 and 12)."""

from __future__ import annotations

from decimal import Decimal

import trio

from hip3.core.causes import ReasonCode
from hip3.exchange.faults import Delay, Faults, HttpAnswer, Point, Rule
from hip3.fsm.order import OrderState
from hip3.fsm.safety import SafetyMode
from tests.app.failures.own_orders import deaf, entry, in_state, in_state_after_send, sent, twice, verdicts
from tests.app.failures.scenes import (
    PRICES,
    SNDK,
    calm,
    holding,
    jump,
    lost,
    quotes,
    script,
    settings_of,
    trading,
    unfenced,
    world_of,
)

# ---- doubt


async def test_a_lost_answer_is_resolved_by_query_and_never_resent(autojump_clock: object) -> None:
    """POST-3, POST-4, LESSONS 13, 38: executed, but answer and frames are lost: UNKNOWN, then FILLED by status and fills."""
    async with world_of(settings_of(SNDK), twice(SNDK)) as world:
        world.faults.add(*(lost(channel, uses=1) for channel in ("post", "orderUpdates")))
        await world.ready()
        world.faults.add(lost("userFills", uses=1))
        await sent(world)
        await in_state(world, OrderState.UNKNOWN)
        assert world.positions()
        assert not world.bot.ledger.held()
        assert world.bot.posts.in_flight == 0
        await in_state(world, OrderState.FILLED)
        assert entry(world).queries == 1
        assert [p.szi for p in world.bot.ledger.held()] == [p.szi for p in world.positions().values()]
        await trio.sleep(10)
        assert len(world.entries) == 1


async def test_a_market_in_doubt_takes_no_second_entry(autojump_clock: object) -> None:
    """POST-3, GATE-3: while an entry is UNKNOWN its market stays marked; once it is settled the market is free."""
    source = script(calm(SNDK), jump(SNDK, 2500), jump(SNDK, 10_500, bps=60), jump(SNDK, 25_500, bps=80))
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1), unfenced()])
    small = settings_of(SNDK, detector={"max_order_notional_usd": Decimal(20)})  # two would fit under the market's cap
    async with world_of(small, source, faults=faults) as world:
        await sent(world)
        await in_state(world, OrderState.EXPIRED)
        assert verdicts(world) == ["Queued", "Skipped(PendingOrderExists)"]
        await sent(world, 2)
        assert verdicts(world)[2:] == ["Queued"]


async def test_an_entry_lost_before_admission_ends_by_proof_of_absence(autojump_clock: object) -> None:
    """POST-4: absence counts only after the expiry and its margin; then EXPIRED, the market trades again."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1), unfenced()])
    async with world_of(settings_of(SNDK), twice(SNDK), faults=faults) as world:
        await sent(world)
        expires_ms = world.exchange.received[0][1].expires_after_ms
        assert expires_ms is not None
        await in_state(world, OrderState.UNKNOWN)
        await in_state(world, OrderState.EXPIRED)
        assert 2000 <= world.clock.wall_ms() - expires_ms < 5000  # the margin, and one round of questions
        assert world.bot.tally.entries_unresolved == 1
        await holding(world, SNDK)
        assert len({o["c"] for o in world.entries}) == len(world.entries) == 2


async def test_a_late_landing_is_found_before_absence_is_believed(autojump_clock: object) -> None:
    """POST-4: nine seconds on its way, admitted before its expiry: the question that finds nothing does not end it."""
    faults = Faults([lost("order", Point.BEFORE_ADMISSION, uses=1, action=Delay(9000)), unfenced()])
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await sent(world)
        await in_state(world, OrderState.UNKNOWN)
        await holding(world, SNDK)
        assert entry(world).state is OrderState.FILLED
        assert entry(world).queries >= 2


async def test_an_answer_after_the_deadline_is_still_applied(autojump_clock: object) -> None:
    """POST-5: the post timed out, its answer comes two seconds later and settles the order."""
    faults = Faults(
        [
            lost("post", uses=1, action=Delay(7000)),
            lost("orderUpdates", uses=1),
            lost("orderStatus", Point.INFO, action=HttpAnswer(500)),
        ]
    )
    async with world_of(settings_of(SNDK), trading(SNDK), faults=faults) as world:
        await world.ready()
        faults.add(lost("userFills", uses=1, action=Delay(7500)))
        await in_state_after_send(world, OrderState.UNKNOWN)
        await holding(world, SNDK)
        assert world.bot.trader is not None
        assert world.bot.trader.executor.settler.late_answers == 1
        assert [n.fields["late"] for n in world.events("post_response")] == [True]
        assert entry(world).state is OrderState.FILLED
        assert len(world.entries) == 1


async def test_fills_settle_what_the_status_never_admits(autojump_clock: object) -> None:
    """POST-4, PROTOCOL 3: `unknownOid` for ever is not absence where the fills show the order."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.world.unknown_order_status = True
        world.faults.add(*deaf())
        await in_state_after_send(world, OrderState.UNKNOWN)
        await holding(world, SNDK)
        assert entry(world).state is OrderState.FILLED
        assert ReasonCode.EXECUTION_RETRY_BUDGET_EXCEEDED not in {c.code for c in world.bot.safety.causes}


async def test_part_of_an_order_without_a_status_is_all_of_it_after_its_expiry(autojump_clock: object) -> None:
    """POST-4: part was executed, the status is `unknownOid` for ever: after the expiry the fills are the whole truth."""
    thin = quotes(SNDK, PRICES[SNDK], sz="0.01", levels=1)
    async with world_of(settings_of(SNDK), script(calm(SNDK), jump(SNDK, 2500), [(3250, thin)])) as world:
        await world.ready()
        world.faults.world.unknown_order_status = True
        world.faults.add(*deaf())
        await in_state_after_send(world, OrderState.UNKNOWN)
        await in_state(world, OrderState.PARTIALLY_FILLED)
        assert world.bot.ledger.has_pending_entry(SNDK)
        await holding(world, SNDK)
        assert (entry(world).state, entry(world).filled_sz) == (OrderState.FILLED, Decimal("0.01"))


async def test_a_doubt_that_stays_ends_new_entries_and_says_so(autojump_clock: object) -> None:
    """POST-4: three questions, the last after the expiry, tell nothing: ARMED_SAFE, EXECUTION_RETRY_BUDGET_EXCEEDED."""
    async with world_of(settings_of(SNDK), trading(SNDK)) as world:
        await world.ready()
        world.faults.add(*deaf(), lost("orderStatus", Point.INFO, action=HttpAnswer(500)))
        await in_state_after_send(world, OrderState.UNKNOWN)
        expires_ms = world.exchange.received[0][1].expires_after_ms
        await world.until(lambda: world.bot.safety.mode is SafetyMode.ARMED_SAFE)
        assert expires_ms is not None
        assert 2000 <= world.clock.wall_ms() - expires_ms < 3000
        assert entry(world).queries == 3
        assert [c.code for c in world.bot.safety.causes] == [ReasonCode.EXECUTION_RETRY_BUDGET_EXCEEDED]
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat) == (0, True)


# ---- closing orders


async def test_a_lost_close_is_sent_again_with_its_own_id(autojump_clock: object) -> None:
    """POST-3, BAT-5: a reduce-only order without an answer goes out again: same cloid, another nonce, one fill."""
    faults = Faults([Rule(Point.BEFORE_ADMISSION, lost("order").action, lambda kind: kind == "order", skip=1)])
    settings = settings_of(SNDK, position={"time_stop_ms": 3000})
    async with world_of(settings, trading(SNDK), faults=faults) as world:
        await holding(world, SNDK)
        await world.until(lambda: not world.positions() and not world.bot.ledger.held())
        assert len({o["c"] for o in world.closes}) == 1
        assert len(world.closes) == 2
        assert len({e.nonce for _, e in world.exchange.received}) == 3
        assert len(world.fills()) == 2


async def test_a_close_that_worked_unseen_is_refused_the_second_time(autojump_clock: object) -> None:
    """POST-3: the first close was executed unseen; the second cannot flip, its refusal ends it, the market is free."""
    settings = settings_of(SNDK, position={"time_stop_ms": 3000})
    async with world_of(settings, twice(SNDK)) as world:
        await holding(world, SNDK)
        world.faults.add(*deaf(), lost("orderStatus", Point.INFO, action=HttpAnswer(500)))
        await world.until(lambda: len(world.closes) == 2)
        assert len({o["c"] for o in world.closes}) == 1
        await world.until(lambda: not world.bot.ledger.orders)
        assert not world.positions()
        await world.until(lambda: not world.bot.ledger.held(), within_s=70)
        await sent(world, 2)
