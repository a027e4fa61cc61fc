"""The risk monitor from a venue frame to the wire: each trigger, whichever message comes first, and what follows."""

from __future__ import annotations

import pytest

from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import Delay, Drop, Faults, Point, Rule
from hip3.fsm.safety import SafetyMode
from hip3.simulate.world import World, open_world
from tests.app.app_builders import FAST, MU, SNDK, Script, bot_settings, dislocated, entries, judged
from tests.app.operator_desk import operate

BRIEF = {"position.time_stop_ms": 2000}
TRIPS = dislocated().rising(6, 6, start_px=620).rising(10, 10, start_px=640).rising(14, 16, start_px=660)
"""A round trip of -2.5 cents each 4 s: seconds 2, 6, 10 and 14; its slippage is the whole edge and 3 bps of spread."""


def causes(world: World) -> list[str]:
    return [cause.code.value for cause in world.bot.safety.causes]


async def halted(world: World, within_s: float = 20) -> None:
    await world.started.wait()
    await world.until(lambda: world.bot.safety.mode is SafetyMode.HALT, within_s)


async def no_entry_follows(world: World, count: int, until_ms: int = 17_000) -> None:
    await world.at(until_ms)
    assert len(entries(world)) == count
    assert judged(world, "Rejected(HardStop)")


@pytest.mark.parametrize(
    ("key", "limit", "trades", "code"),
    [
        ("risk.max_cumulative_loss_usd", 0.04, 2, "CUMULATIVE_LOSS"),
        ("risk.max_consecutive_losses", 2, 3, "CONSECUTIVE_LOSSES"),
        ("risk.max_slippage_bps", 20, 3, "SLIPPAGE"),
    ],
)
async def test_a_row_of_bad_trades_halts_at_the_limit(key: str, limit: float, trades: int, code: str) -> None:
    """RISK-1: the trade that crosses a limit is the last; its cause names the key, and an operator must clear it."""
    async with open_world(bot_settings({**BRIEF, key: limit}), TRIPS.source(), config=FAST) as world:
        await halted(world)
        assert len(world.events("position_closed")) == trades
        (cause,) = world.bot.safety.causes
        assert (cause.code.value, cause.clears.value, cause.source) == (code, "operator", "risk")
        assert f"{key} = {limit}" in cause.message
        await no_entry_follows(world, trades)


@pytest.mark.parametrize(
    "limits",
    [
        {"risk.max_cumulative_loss_usd": 0.2, "risk.max_consecutive_losses": 4, "risk.max_slippage_bps": 2000},
        {"risk.max_cumulative_loss_usd": 0, "risk.max_consecutive_losses": 0, "risk.max_slippage_bps": 0},
    ],
    ids=["below", "off"],
)
async def test_the_same_trades_go_on_below_the_limits_and_without_them(limits: dict[str, float]) -> None:
    """RISK-1: four losses under their limits, or with every limit off, end nothing."""
    async with open_world(bot_settings({**BRIEF, **limits}), TRIPS.source(), config=FAST) as world:
        await world.until(lambda: len(world.events("position_closed")) == 4, 20)
        assert causes(world) == []


async def test_slippage_without_a_limit_is_measured_and_ends_nothing() -> None:
    """RISK-1: on paper the limits of slippage and rejects are off where they are not set; the measure is in the journal."""
    async with open_world(bot_settings(BRIEF), TRIPS.source(), config=FAST) as world:
        await world.until(lambda: len(world.events("slippage_measured")) == 4, 20)
        assert world.bot.safety.mode is SafetyMode.ARMED_LIVE


# ---- in the step of the fact, whichever message came first

FILL_FIRST = Rule(Point.AFTER_COMMIT, Delay(900), lambda s: s == "order", uses=None)
ANSWER_FIRST = Rule(Point.FRAME, Delay(900), lambda s: s == "userFills", uses=None, skip=1)
NO_FRAME = Rule(Point.FRAME, Drop(), lambda s: s in ("userFills", "orderUpdates"), uses=None, skip=1)


@pytest.mark.parametrize("rule", [FILL_FIRST, ANSWER_FIRST, NO_FRAME], ids=["fill first", "answer first", "asked for"])
async def test_a_loss_counts_once_on_each_path_of_a_fill(rule: Rule) -> None:
    """RISK-1, LESSONS 18: fill before its answer, answer before its fill, fills that only a question brings."""
    settings = bot_settings({**BRIEF, "risk.max_cumulative_loss_usd": 0.01})
    async with open_world(settings, TRIPS.source(), config=FAST, faults=Faults([rule])) as world:
        await halted(world)
        assert causes(world) == ["CUMULATIVE_LOSS"]
        assert len(world.events("position_closed")) == 1
        assert world.bot.limits.pnl_usd == -world.bot.tally.fees_usd + world.bot.tally.realized_usd
        await no_entry_follows(world, 1)


async def test_the_latch_falls_in_the_step_that_books_the_fill() -> None:
    """RISK-1: nothing stands between the trade in the journal and the HALT, though signals come all the time."""
    settings = bot_settings({**BRIEF, "risk.max_cumulative_loss_usd": 0.01})
    async with open_world(settings, dislocated().rising(3, 9).source(), config=FAST) as world:
        await halted(world)
        names = [n.event for n in world.events()]
        at = names.index("position_closed")
        assert names[at + 1] == "safety_mode"
        assert "order_sent" not in names[at:]


async def test_events_keep_flowing_after_a_trigger() -> None:
    """RISK-2: the halt procedure's own close of the other market is booked, measured and counted; one latch decides."""
    settings = bot_settings({**BRIEF, "risk.max_cumulative_loss_usd": 0.01}, coins=(SNDK, MU))
    script = dislocated(2, SNDK).calm(MU).oracle(3500, "602", coin=MU)
    async with open_world(settings, script.source(), config=FAST) as world:
        await halted(world)
        lost = world.bot.limits.pnl_usd
        await world.until(lambda: len(world.events("slippage_measured")) == 2, 5)
        assert [n.fields["coin"] for n in world.events("position_closed")] == [SNDK, MU]
        assert world.bot.limits.pnl_usd < lost
        assert causes(world) == ["CUMULATIVE_LOSS"]


# ---- rejects


async def rejected(world: World, count: int) -> None:
    await world.until(lambda: len(world.events("action_rejected")) >= count, 20)


@pytest.mark.parametrize("rule", [None, Rule(Point.AFTER_COMMIT, Delay(700), lambda s: s == "order", uses=None)])
async def test_rejects_above_their_hourly_limit_halt(rule: Rule | None) -> None:
    """RISK-1, LESSONS 18: three orders without margin, told by answer or frame, count once each; the third halts."""
    settings = bot_settings({"risk.max_rejects_per_hour": 2, "paper.deposit_usd": 1})
    faults = Faults([] if rule is None else [rule])
    async with open_world(settings, Script().calm().rising(2, 9).source(), config=FAST, faults=faults) as world:
        await halted(world)
        assert causes(world) == ["REJECT_RATE"]
        assert len(world.events("action_rejected")) == 3
        await no_entry_follows(world, 3, until_ms=9500)


@pytest.mark.parametrize("limit", [0, None, 20])
async def test_rejects_below_or_without_a_limit_end_nothing(limit: int | None) -> None:
    """RISK-1: off at 0, off on paper where not set, and quiet below the number."""
    values = {} if limit is None else {"risk.max_rejects_per_hour": limit}
    settings = bot_settings({**values, "paper.deposit_usd": 1})
    async with open_world(settings, Script().calm().rising(2, 9).source(), config=FAST) as world:
        await world.until(lambda: world.app is not None)
        await rejected(world, 6)
        assert world.bot.safety.mode is SafetyMode.ARMED_LIVE


async def test_benign_rejects_are_counted_apart() -> None:
    """RISK-1: orders that found no match never cross the limit of rejects."""
    script = Script().calm()
    for second in range(2, 10):  # the ask is there for the signal and gone when the order arrives
        script.oracle(second * 1000 - 500, str(600 + second)).quote(second * 1000 + 300, "609", "610")
        script.quote(second * 1000 + 900, "599.9", "600.1")
    settings = bot_settings({"risk.max_rejects_per_hour": 1})
    async with open_world(
        settings, script.source(), config=ExchangeConfig(latency_ms=600, block_ms=10, response_ms=20)
    ) as world:
        await world.until(lambda: world.app is not None)
        await rejected(world, 3)
        texts = {str(n.fields["error"]) for n in world.events("action_rejected")}
        assert all(text.startswith(("Order could not immediately match", "iocCancelRejected")) for text in texts)
        assert world.bot.safety.mode is SafetyMode.ARMED_LIVE


# ---- flatten failures


@pytest.mark.parametrize(("limit", "mode"), [(1, SafetyMode.HALT), (2, SafetyMode.ARMED_SAFE), (0, SafetyMode.ARMED_SAFE)])
async def test_positions_that_are_not_closed_in_time_halt_above_their_limit(limit: int, mode: SafetyMode) -> None:
    """RISK-1, EXIT-1: one overdue position is ARMED_SAFE; the second crosses a limit of one."""
    keys = {**BRIEF, "position.reduce_only_timeout_ms": 3000, "risk.max_flatten_failures": limit}
    script = dislocated(2, SNDK, MU).quote(2500, None, "600.1").quote(2500, None, "600.1", coin=MU)
    async with open_world(bot_settings(keys, coins=(SNDK, MU)), script.source(), config=FAST) as world:
        await world.until(lambda: len(world.events("flatten_failed")) == 2, 10)
        assert world.bot.safety.mode is mode
        assert set(causes(world)) == {"FLATTEN_FAILED"}
        sources = {c.source for c in world.bot.safety.causes}
        assert sources == {SNDK, MU} | ({"risk"} if mode is SafetyMode.HALT else set())
        assert len(entries(world)) == 2


async def test_the_first_crossing_wins() -> None:
    """RISK-1: a loss that is over two limits has one cause, the one that is looked at first."""
    keys = {**BRIEF, "risk.max_cumulative_loss_usd": 0.01, "safety.auto_stop_loss_usd": 0.01}
    async with open_world(bot_settings(keys), dislocated().source(), config=FAST) as world:
        await halted(world)
        assert causes(world) == ["CUMULATIVE_LOSS"]


# ---- an operator ends it


async def released(world: World) -> None:
    """Until the flatten of this HALT is certified; then a person ends the HALT and promotes."""
    await world.until(lambda: world.bot.halt_flatten is not None and world.bot.halt_flatten.certificate.flat, 30)
    answer = operate(world, "unhalt")
    assert (answer["ok"], answer["mode"]) == (True, "ARMED_SAFE")
    assert operate(world, "promote")["mode"] == "ARMED_LIVE"


@pytest.mark.parametrize(
    ("key", "limit", "trades"),
    [
        ("risk.max_cumulative_loss_usd", 0.04, 2),
        ("risk.max_consecutive_losses", 1, 2),
        ("risk.max_slippage_bps", 20, 3),
    ],
)
async def test_after_a_release_the_count_that_crossed_starts_anew(key: str, limit: float, trades: int) -> None:
    """RISK-1, STOP-1: ended by an operator, it trades again, and as many bad trades as before cross again."""
    script = dislocated()
    for n in range(1, 12):
        script.rising(2 + 4 * n, 2 + 4 * n, start_px=602 + 2 * n)
    async with open_world(
        bot_settings({**BRIEF, "risk.max_consecutive_losses": 0, key: limit}), script.source(), config=FAST
    ) as world:
        await halted(world)
        await released(world)
        before = len(world.events("position_closed"))
        assert before == trades
        await halted(world, 40)
        assert [n.fields["code"] for n in world.events("risk_acknowledged")] == [causes(world)[0]]
        assert len(world.events("position_closed")) == 2 * trades


async def test_after_a_release_the_rejects_start_anew() -> None:
    """RISK-1: three more rejections cross a limit of two again."""
    settings = bot_settings({"risk.max_rejects_per_hour": 2, "paper.deposit_usd": 1})
    async with open_world(settings, Script().calm().rising(2, 30).source(), config=FAST) as world:
        await halted(world)
        await released(world)
        assert len(world.events("action_rejected")) == 3
        await halted(world)
        assert len(world.events("action_rejected")) == 6


async def test_after_a_release_flatten_failures_start_anew() -> None:
    """RISK-1, EXIT-1: the HALT of a second overdue position ends by an operator once the account is flat."""
    keys = {**BRIEF, "position.reduce_only_timeout_ms": 3000, "risk.max_flatten_failures": 1}
    script = dislocated(2, SNDK, MU)
    for coin in (SNDK, MU):
        script.quote(2500, None, "600.1", coin=coin).quote(12_000, "599.9", "600.1", coin=coin)
    async with open_world(bot_settings(keys, coins=(SNDK, MU)), script.source(), config=FAST) as world:
        await halted(world)
        await world.until(lambda: world.positions() == {}, 40)
        await released(world)
        assert causes(world) == []
