"""The table of DESIGN 6 and every cause, from a venue frame or fault to what reaches the wire (SAFE-1 to SAFE-4, STOP-3)."""

from __future__ import annotations

import json

import pytest

from hip3.core.ids import OrderSide, TimeInForce
from hip3.exchange.faults import Drop, Faults, HttpAnswer, Point, ReplaceBody, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import (
    ASSETS,
    FAST,
    MU,
    NVDA,
    SNDK,
    Script,
    bot_settings,
    by_hand,
    closes,
    cut_account,
    dislocated,
    entries,
    judged,
    sent,
    verdicts,
)
from tests.app.failures.scenes import Tripwire, outcome_of, settings_of, trading, world_of

BRIEF = {"position.time_stop_ms": 2000}


def causes(world: World) -> list[str]:
    return [cause.code.value for cause in world.bot.safety.causes]


def cancels(world: World) -> list[int]:
    """Order ids whose cancels reached the exchange."""
    return [item["o"] for action in world.actions("cancel") for item in action["cancels"]]


async def known_position(world: World) -> None:
    await world.until(lambda: bool(world.events("position_updated")), 5)


async def resting_by_hand(world: World) -> int:
    """A bid of the account's owner far below the market; its order id."""
    status = await by_hand(world, OrderSide.BUY, "590", "0.05", tif=TimeInForce.GTC)
    return int(status["resting"]["oid"])


# ---- the table


async def test_armed_live_lets_entries_and_exits_out() -> None:
    """SAFE-1: in ARMED_LIVE a signal is sent, and its time stop closes it."""
    async with open_world(bot_settings(BRIEF), dislocated().source(), config=FAST) as world:
        await world.until(lambda: len(closes(world)) == 1, 6)
        assert world.bot.safety.mode is SafetyMode.ARMED_LIVE
        assert len(entries(world)) == 1


async def test_armed_safe_lets_only_exits_out() -> None:
    """SAFE-1, GATE-4: in ARMED_SAFE no signal is sent, and a position that is found is closed by its time stop."""
    settings = bot_settings({**BRIEF, "safety.startup_policy": "manual"})
    async with open_world(settings, Script().calm().rising(2, 6).source(), config=FAST) as world:
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        await world.until(lambda: len(verdicts(world)) >= 4, 7)
        assert world.bot.safety.mode is SafetyMode.ARMED_SAFE
        assert entries(world) == []
        assert len(closes(world)) == 1
        assert world.positions() == {}


@pytest.mark.parametrize("policy", ["auto", "manual"], ids=["ARMED_LIVE", "ARMED_SAFE"])
async def test_a_stop_in_either_armed_mode_cancels_and_flattens_everything(policy: str) -> None:
    """SAFE-1, STOP-2, LESSONS 41: asked to stop while armed, it cancels and closes what the venue lists, ours or not."""
    settings = bot_settings({"safety.startup_policy": policy})
    async with open_world(settings, Script().calm().source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("ready_trading")), 3)
        await world.at(400)
        assert world.bot.safety.allows_entry is (policy == "auto")
        oid = await resting_by_hand(world)
        await by_hand(world, OrderSide.BUY, "600.1", "0.05")
        outcome = await world.end()
        assert (outcome.exit_code, world.open_orders(), world.positions()) == (0, (), {})
        assert cancels(world) == [oid]
        assert [(order["b"], order["s"]) for _, order in closes(world)] == [(False, "0.05")]


async def test_halt_sends_no_entry_and_its_procedure_owns_all_closing() -> None:
    """SAFE-1, STOP-2, STOP-3: HALT cancels and closes over REST, at once; no entry and no exit of the executor follow."""
    async with open_world(bot_settings(BRIEF), Script().calm().rising(2, 9).source(), config=FAST) as world:
        await known_position(world)
        oid = await resting_by_hand(world)
        cut_account(world)
        await world.until(lambda: bool(world.events("halt_flatten")), 5)
        assert world.bot.safety.mode is SafetyMode.HALT
        assert (world.positions(), world.open_orders(), cancels(world)) == ({}, (), [oid])
        await world.until(lambda: world.bot.ready.is_ready, 5)
        await world.at(9500)
        assert len(entries(world)) == 1  # READY again, signals go on, HALT stays
        assert len(closes(world)) == 1  # the procedure's; the time stop of 2 s sent none
        assert world.events("time_stop_triggered") == []
        assert judged(world, "Rejected(HardStop)")
        certificate = world.events("halt_flatten")[0].fields
        assert certificate["flat"] is True
        assert certificate["closed"]


async def test_halt_goes_on_until_the_venue_shows_nothing() -> None:
    """STOP-2: what cannot be closed is tried again, with a certificate that says what is left, until it is gone."""
    script = dislocated().quote(3000, None, "600.1").quote(16_000, "599", "600.1")
    settings = bot_settings({"safety.halt_on_disconnect": "always", "shutdown.flatten_deadline_s": 3})
    async with open_world(settings, script.source(), config=FAST) as world:
        await known_position(world)
        await world.at(3500)
        cut_account(world)
        await world.until(lambda: any(n.fields["flat"] for n in world.events("halt_flatten")), 30)
        first, *_, last = world.events("halt_flatten")
        assert (first.level, first.fields["flat"]) == ("critical", False)
        assert SNDK in str(first.fields["residual"])
        assert (last.fields["residual"], world.positions()) == ([], {})


async def test_a_stop_after_halt_ends_flat() -> None:
    """SAFE-1, END-1: the operator's stop works in HALT as everywhere, and verifies again."""
    settings = bot_settings({"safety.halt_on_disconnect": "always"})
    async with open_world(settings, dislocated().source(), config=FAST) as world:
        await known_position(world)
        cut_account(world)
        await world.until(lambda: bool(world.events("halt_flatten")), 5)
        await by_hand(world, OrderSide.BUY, "602", "0.05")
        outcome = await world.end()
        assert (outcome.exit_code, outcome.flat, world.positions()) == (0, True, {})


# ---- the causes


async def test_bootstrap_holds_until_auto_promotes() -> None:
    """SAFE-2, SAFE-3: a start is ARMED_SAFE by BOOTSTRAP; READY and policy auto promote it, and the log says which."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.started.wait()
        assert (world.bot.safety.mode, set(causes(world))) == (SafetyMode.ARMED_SAFE, {"BOOTSTRAP", "GUARD_HOLD"})
        await world.ready()
        (change,) = world.events("safety_mode")
        assert (change.fields["after"], change.fields["reason"]) == ("ARMED_LIVE", "AUTO_PROMOTE")
        assert causes(world) == []


async def test_a_loss_over_the_limit_halts() -> None:
    """RISK-1, GATE-6: the round trip costs 2.5 cents, the limit is one: HALT, the other market is closed, entries end."""
    settings = bot_settings({**BRIEF, "safety.auto_stop_loss_usd": 0.01}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).oracle(3500, "602", coin=MU).rising(6, 9)
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: bool(world.events("halt_flatten")), 7)
        assert causes(world) == ["DAILY_LOSS"]
        assert "safety.auto_stop_loss_usd = 0.01" in world.bot.safety.causes[0].message
        assert [order["a"] for order in entries(world)] == [ASSETS[SNDK], ASSETS[MU]]
        assert world.positions() == {}
        at_ms = [at for at, order in closes(world) if order["a"] == ASSETS[MU]]
        assert at_ms[0] < 5000  # by the procedure: its time stop would be over at 6 s
        await world.until(lambda: len(judged(world, "Rejected(HardStop)")) >= 2, 5)
        assert len(entries(world)) == 2


async def test_a_loss_below_the_limit_does_not() -> None:
    """GATE-6: the same round trip with a limit of 20 USD goes on trading."""
    async with open_world(bot_settings(BRIEF), dislocated().rising(6, 7, start_px=620).source(), config=FAST) as world:
        await world.until(lambda: len(entries(world)) == 2, 9)
        assert world.bot.limits.pnl_usd < 0


async def test_losses_of_a_day_add_up() -> None:
    """RISK-1: 4 cents are crossed by the second round trip, not by the first."""
    settings = bot_settings({**BRIEF, "safety.auto_stop_loss_usd": 0.04})
    script = dislocated().rising(6, 6, start_px=620).rising(10, 12, start_px=640)
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.until(lambda: world.app is not None and world.bot.safety.mode is SafetyMode.HALT, 12)
        assert len(entries(world)) == 2
        await world.at(12_500)
        assert len(entries(world)) == 2


@pytest.mark.parametrize(
    ("policy", "held", "halts"),
    [
        ("exposed", True, True),
        ("exposed", False, False),
        ("always", False, True),
        ("never", True, False),
    ],
)
async def test_a_disconnect_halts_by_policy(policy: str, held: bool, halts: bool) -> None:
    """STOP-3, LESSONS 10: exposed: HALT with a position, ARMED_SAFE while flat; always and never as they say; SAFE ends with
    READY."""
    script = (dislocated(2) if held else Script().calm()).rising(7, 9, start_px=640)
    settings = bot_settings({**BRIEF, "safety.halt_on_disconnect": policy})
    async with open_world(settings, script.source(), config=FAST) as world:
        await world.ready()
        if held:
            await known_position(world)
        before = len(entries(world))
        await world.at(2500)
        cut_account(world)
        await world.until(lambda: "WS_DISCONNECT" in causes(world), 1)
        assert world.bot.safety.mode is (SafetyMode.HALT if halts else SafetyMode.ARMED_SAFE)
        await world.at(9500)
        assert (len(entries(world)) > before) is not halts
        assert (causes(world) == ["WS_DISCONNECT"]) is halts


async def test_a_disconnect_with_a_post_in_doubt_is_exposed() -> None:
    """STOP-3: an order on its way counts as exposure, though nothing is held yet."""
    lost = Rule(Point.AFTER_COMMIT, Drop(), lambda s: s == "order")
    settings = bot_settings()
    async with open_world(settings, dislocated().source(), config=FAST, faults=Faults([lost])) as world:
        await world.until(lambda: bool(sent(world)), 3)
        cut_account(world)
        await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, 1)
        await world.until(lambda: bool(world.fills()), 1)  # it was executed all the same
        await world.until(lambda: not world.positions(), 25)


async def test_clock_skew_keeps_out_of_live_until_it_is_gone() -> None:
    """NON-2: 6 s between the clocks at the start: no entry; the next answer, a minute later, shows none and it trades."""
    body = json.dumps({"time": START_MS + 6000, "specialStatuses": None})
    skewed = Rule(Point.INFO, ReplaceBody(body), lambda s: s == "exchangeStatus", uses=2)
    script = Script().calm().pulse(66).rising(2, 3).rising(61, 64, start_px=620)
    async with open_world(bot_settings(), script.source(), config=FAST, faults=Faults([skewed])) as world:
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 4)
        assert "CLOCK_SKEW" in causes(world)
        assert world.actions() == []
        await world.until(lambda: bool(world.positions()), 65)
        assert causes(world) == []


async def test_an_account_that_cannot_be_read_keeps_entries_out() -> None:
    """REC-4, META-1: SNAPSHOT_STALE while the questions fail; the first good answer ends it."""
    broken = Rule(Point.INFO, HttpAnswer(500), lambda s: s == "clearinghouseState", skip=1, uses=2)
    script = Script().calm().rising(2, 8)
    async with open_world(bot_settings(), script.source(), config=FAST, faults=Faults([broken])) as world:
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 4)
        assert "SNAPSHOT_STALE" in causes(world)
        assert "SNAPSHOT_STALE" in str(judged(world, "Rejected(HardStop)")[0].fields["detail"])
        await world.until(lambda: bool(world.positions()), 8)
        assert causes(world) == []


async def test_an_order_that_stays_in_doubt_stops_entries_until_it_is_settled() -> None:
    """POST-4: three questions without an answer: entries end everywhere; what settles the order lifts it (decision 0009)."""
    lost = Rule(Point.BEFORE_ADMISSION, Drop(), lambda s: s == "order")
    mute = Rule(Point.INFO, HttpAnswer(500), lambda s: s == "orderStatus", uses=None)
    unfenced = Rule(Point.BEFORE_ADMISSION, Drop(), lambda s: s == "noop", uses=None)
    settings = bot_settings({"limits.max_notional_total_usd": 200}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).pulse(45).calm(MU).pulse(45, coin=MU).rising(22, 42, coin=MU)
    async with open_world(settings, script.source(), config=FAST, faults=Faults([lost, mute, unfenced])) as world:
        await world.until(lambda: bool(judged(world, "Rejected(HardStop)")), 45)
        assert causes(world) == ["EXECUTION_RETRY_BUDGET_EXCEEDED"]
        assert [order["a"] for order in entries(world)] == [ASSETS[SNDK]]
        world.faults.rules.clear()
        await world.until(lambda: ASSETS[MU] in [order["a"] for order in entries(world)], 15)
        assert causes(world) == []


async def test_a_stop_ends_entries_that_wait() -> None:
    """END-1: an entry that waits for the batching period is purged by the stop, and SHUTDOWN is the reason."""
    settings = bot_settings({"executor.period_ms": 500, "detector.max_order_notional_usd": 20}, coins=(SNDK, MU))
    async with open_world(settings, dislocated(2, SNDK, MU).source(), config=FAST) as world:
        await world.until(lambda: len(judged(world, "Queued")) == 2, 4)
        outcome = await world.end()
        assert len(entries(world)) == 1  # the first left at once, the second was waiting
        assert [n.fields["reason"] for n in world.events("mark_released")] == ["shutdown"]
        assert "SHUTDOWN" in causes(world)
        assert (outcome.exit_code, world.positions()) == (0, {})


async def test_a_crash_halts_and_ends_flat() -> None:
    """END-2, DESIGN 4: what no task foresaw is INTERNAL_ERROR: no entry follows, the position is closed, exit 5."""
    journal = Tripwire(event="position_updated", armed=True)
    async with world_of(settings_of(SNDK), trading(SNDK), journal=journal) as world:
        outcome = await outcome_of(world)
        assert causes(world)[0] == "INTERNAL_ERROR"
        assert world.bot.safety.mode is SafetyMode.HALT
        assert (outcome.exit_code, outcome.flat, world.positions()) == (5, True, {})


async def test_observation_computes_signals_and_sends_nothing() -> None:
    """PRD-1: signals are seen, no account is asked for, nothing is signed; OBSERVATION never clears."""
    asked: list[str] = []

    def strikes(kind: str) -> bool:
        asked.append(kind)
        return False

    faults = Faults([Rule(Point.INFO, Drop(), strikes)])
    settings = bot_settings({"mode": "observation"}, coins=(SNDK, NVDA))
    async with open_world(settings, dislocated(2, SNDK, NVDA).source(), config=FAST, faults=faults) as world:
        await world.until(lambda: len(world.events("signal")) == 2, 4)
        await world.at(4000)
        assert world.bot.trader is None
        assert "OBSERVATION" in causes(world)
        assert set(asked) == {"perpDexs", "meta", "metaAndAssetCtxs", "allMids", "exchangeStatus"}
        kinds = {s.kind for session in world.exchange.hub.sessions for s in session.subscriptions.values()}
        assert kinds == {"bbo", "activeAssetCtx"}
        outcome = await world.end()
        assert (outcome.exit_code, world.actions(), world.exchange.nonces()) == (0, [], ())
