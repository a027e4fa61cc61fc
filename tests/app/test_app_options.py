"""Changing a key of the configuration changes what reaches the wire, or when (LESSONS 4): one row for every key.

Each row gives a key two values in a file that is otherwise the same, and says what is seen with either. Keys of the way to
the venue (URLs, accounts, keys) are in test_app_options_reach.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from attrs import frozen

from hip3.exchange.faults import Drop, Faults, HttpAnswer, Point, Rule
from hip3.ops.boot import PreflightRefused
from hip3.settings import ConfigError
from hip3.settings.load import from_text
from tests.app.app_builders import (
    ASSETS,
    MU,
    NVDA,
    SLOW,
    SNDK,
    Script,
    dislocated,
    toml,
)
from tests.app.option_probes import (
    Probe,
    assets,
    cancel_queue_was_full,
    cash,
    close_of_three,
    entries_of_8_s,
    entry_count,
    expiry_s,
    first_closes,
    first_entry,
    first_stop_px,
    flatten_s,
    gap_ms,
    held_s,
    is_on_the_half_second,
    mode_after_a_cut,
    mode_after_a_doubt,
    mode_after_a_trade,
    orders_in_one_action,
    overdue_s,
    queue_was_full,
    scene,
    settle_ms,
    signals_are_many,
    verdict_of,
    way_ms,
    why_it_failed,
)

# ---- scenes

ONCE = dislocated()
THIN = Script().calm().quote(1500, "599.9", "600.1", sz="3").oracle(1500, "602")
POOR = Script().calm().quote(1500, "599.9", "600.1", sz="0.5").oracle(1500, "602")
AFTER_THE_CONTEXT = dislocated().quote(1500, "602.4", "602.5").quote(2700, "599.9", "600.1")
NO_BIDS = dislocated().quote(2500, None, "600.1")
PAIR = Script().calm(SNDK, MU).oracle(1500, "602").oracle(1500, "602", coin=MU).quote(1500, "602.4", "602.5", coin=MU)
PAIR.quote(2060, "599.9", "600.1", coin=MU)
"""SNDK at 2.02 s, MU 60 ms later."""
TRIPLE = Script(list(PAIR.events)).calm(NVDA).oracle(1500, "602", coin=NVDA).quote(1500, "602.4", "602.5", coin=NVDA)
TRIPLE.quote(2070, "599.9", "600.1", coin=NVDA)
TWO, THREE = (SNDK, MU), (SNDK, MU, NVDA)
BRIEF = {"position.time_stop_ms": 2000}
OPEN_20 = {**BRIEF, "position.reduce_only_timeout_ms": 20_000}
WAITS = {"position.time_stop_ms": 3000}
GUARDED = {**BRIEF, "position.protective_stop_bps": 100}
BETTER_AT_4_S = dislocated().quote(4000, "601.5", "601.7")
TURNED_AT_4_S = dislocated().oracle(3500, "601.3")
SMALL = {"detector.max_order_notional_usd": 20}


def no_fees() -> Faults:
    return Faults([Rule(Point.INFO, HttpAnswer(500), lambda s: s == "userFees")])


def no_word() -> Faults:
    """No answer to an order, to a noop or to the question about it."""
    dropped = Rule(Point.AFTER_COMMIT, Drop(), lambda s: s in ("order", "noop"), uses=None)
    frames = Rule(Point.FRAME, Drop(), lambda s: s in ("orderUpdates", "userFills"), skip=1, uses=None)
    return Faults([dropped, frames, Rule(Point.INFO, HttpAnswer(500), lambda s: s == "orderStatus", uses=None)])


def no_answer() -> Faults:
    return Faults([Rule(Point.AFTER_COMMIT, Drop(), lambda s: s == "order")])


@frozen
class Row:
    """`seen[n]` is what `probe` sees with `values[n]`; `base` are the other keys of the file."""

    key: str
    values: tuple[object, object]
    seen: tuple[object, object]
    probe: Probe
    base: Mapping[str, object] = {}
    coins: tuple[str, ...] = (SNDK,)


def size(key: str, values: tuple[object, object], seen: tuple[str, str], script: Script = ONCE) -> Row:
    return Row(key, values, seen, scene(script, first_entry("s")))


def trades(key: str, values: tuple[object, object], script: Script = ONCE) -> Row:
    """The first value trades once, the second not at all."""
    return Row(key, values, (1, 0), scene(script, entry_count))


ROWS = (
    trades("mode", ("trading", "observation")),
    Row("markets.coin", (SNDK, MU), ([ASSETS[SNDK]], [ASSETS[MU]]), scene(dislocated(2, SNDK, MU), assets)),
    Row("markets.asset_idx", (ASSETS[SNDK], 28), (1, "refused by the venue's metadata"), scene(ONCE, entry_count)),
    trades("markets.threshold_bps", (31, 32)),
    size("safety.max_notional_usd", (50, 20), ("0.082", "0.032")),
    Row("safety.allowed_markets", (["SNDK"], ["MU"]), (1, "refused by the configuration"), scene(ONCE, entry_count)),
    Row("safety.max_daily_trades", (1, 2), (1, 2), scene(Script().calm().rising(2, 7), entries_of_8_s), BRIEF),
    Row("safety.auto_stop_loss_usd", (20, 0.01), ("ARMED_LIVE", "HALT"), scene(ONCE, mode_after_a_trade), BRIEF),
    trades("safety.startup_policy", ("auto", "manual")),
    Row("safety.halt_on_disconnect", ("exposed", "never"), ("HALT", "ARMED_SAFE"), scene(ONCE, mode_after_a_cut)),
    Row(
        "safety.halt_on_retry_budget",
        (False, True),
        ("ARMED_SAFE", "HALT"),
        scene(ONCE, mode_after_a_doubt, faults=no_word),
    ),
    Row("detector.taker_fee_bps", (4, 40), (1, 0), scene(ONCE, entry_count, faults=no_fees)),
    Row("detector.slippage_bps", (2, 10), ("600.23", "600.71"), scene(ONCE, first_entry("p"))),
    trades("detector.min_edge_bps", (5, 30)),
    size("detector.size_alpha", (0.05, 0.03), ("0.043", "0.026"), THIN),
    size("detector.min_order_notional_usd", (11, 15), ("0.019", "0.025"), POOR),
    size("detector.max_order_notional_usd", (50, 20), ("0.082", "0.032")),
    size("detector.min_book_notional_usd", (500, 1500), ("0.043", "0.019"), THIN),
    size("detector.normal_book_notional_usd", (5000, 2000), ("0.043", "0.082"), THIN),
    Row(
        "detector.reference",
        ("oracle", "mark"),
        (1, 0),
        scene(ONCE, entry_count),
        {"paper.source": "replay", "paper.recording": "not opened here"},
    ),
    Row("detector.max_bbo_age_ms", (10_000, 1500), (1, 0), scene(dislocated(4), entries_of_8_s)),
    trades("detector.max_ctx_age_ms", (3000, 500), AFTER_THE_CONTEXT),
    Row(
        "detector.dedup",
        (True, False),
        (False, True),
        scene(dislocated(2).quote(2300, "601.9", "602.1").quote(2600, "599.8", "600.1"), signals_are_many),
    ),
    Row(
        "detector.direction",
        (True, False),
        (0, 1),
        scene(Script().calm().oracle(1500, "599.5").quote(2500, "597", "598"), entry_count),
    ),
    size("limits.max_notional_per_market_usd", (50, 20), ("0.082", "0.032")),
    Row("limits.max_notional_total_usd", (100, 60), (2, 1), scene(PAIR, entry_count), coins=TWO),
    Row("position.time_stop_ms", (2000, 3000), (2, 3), scene(ONCE, held_s)),
    Row("position.reduce_only_timeout_ms", (3000, 5000), (3, 5), scene(NO_BIDS, overdue_s), BRIEF),
    Row("position.flatten_slippage_bps", (50, 100), ("596.9", "593.9"), scene(ONCE, first_closes(1)), BRIEF),
    Row("position.flatten_slippage_step_bps", (25, 50), ("595.5", "594"), scene(NO_BIDS, first_closes(2)), OPEN_20),
    Row("position.flatten_slippage_cap_bps", (200, 75), ("592.5", "595.5"), scene(NO_BIDS, first_closes(4)), OPEN_20),
    Row("position.min_holding_ms", (1000, 2000), (1, 2), scene(ONCE, held_s), {"position.exit_threshold_bps": 40}),
    Row("position.exit_threshold_bps", (40, 30), (0, 3), scene(ONCE, held_s), WAITS),
    Row("position.take_profit_bps", (20, 40), (1, 3), scene(BETTER_AT_4_S, held_s), WAITS),
    Row("position.edge_evaporation_bps", (40, 30), (0, 3), scene(ONCE, held_s), WAITS),
    Row("position.oracle_reversal_bps", (10, 30), (1, 3), scene(TURNED_AT_4_S, held_s), WAITS),
    Row("position.protective_stop_bps", (100, 200), ("594.09", "588.09"), scene(ONCE, first_stop_px)),
    Row(
        "executor.queue_cancel", (200, 1), (False, True), scene(Script().calm(*THREE), cancel_queue_was_full), GUARDED, THREE
    ),
    Row("executor.period_ms", (100, 500), (100, 500), scene(PAIR, gap_ms), SMALL, TWO),
    Row(
        "executor.max_inflight",
        (100, 1),
        ("QueuedDegraded", "Rejected(InflightFull)"),
        scene(PAIR, verdict_of(MU), config=SLOW),
        {**SMALL, "executor.high_water": 1},
        TWO,
    ),
    Row(
        "executor.high_water",
        (80, 1),
        ("Queued", "QueuedDegraded"),
        scene(PAIR, verdict_of(MU), config=SLOW),
        SMALL,
        TWO,
    ),
    Row(
        "executor.queue_new",
        (1000, 1),
        (False, True),
        scene(TRIPLE, queue_was_full),
        {**SMALL, "executor.period_ms": 500},
        THREE,
    ),
    Row(
        "executor.queue_reduce_only",
        (500, 1),
        (False, True),
        scene(Script().calm(*THREE), close_of_three),
        BRIEF,
        THREE,
    ),
    Row("executor.max_batch", (50, 1), (True, False), scene(TRIPLE, orders_in_one_action), SMALL, THREE),
    Row("executor.actions_per_min", (34, 2), (2, 1), scene(Script().calm().rising(2, 7), entries_of_8_s), BRIEF),
    Row(
        "executor.post_timeout_ms",
        (5000, 500),
        ("no answer within 5000 ms", "no answer within 500 ms"),
        scene(ONCE, why_it_failed, faults=no_answer),
    ),
    Row("executor.expires_after_ms", (10_000, 3000), (10, 3), scene(ONCE, expiry_s)),
    size("executor.max_order_notional_usd", (50, 20), ("0.082", "0.032")),
    Row("shutdown.settle_ms", (2000, 500), (2000, 500), scene(ONCE, settle_ms, faults=no_answer)),
    Row("shutdown.flatten_deadline_s", (20, 3), (20, 3), scene(ONCE, flatten_s)),
    Row(
        "paper.latency_ms",
        (150, 600),
        ((150, 20), (600, 20)),
        scene(ONCE, way_ms, config=None),
        {"paper.block_ms": 10, "paper.response_ms": 20},
    ),
    Row(
        "paper.response_ms",
        (20, 100),
        ((20, 20), (20, 100)),
        scene(ONCE, way_ms, config=None),
        {"paper.block_ms": 10, "paper.latency_ms": 20},
    ),
    Row("paper.block_ms", (85, 500), (False, True), scene(ONCE, is_on_the_half_second, config=None)),
    Row("paper.deposit_usd", (1000, 250), (1000, 250), scene(ONCE, cash)),
)


async def observe(row: Row, value: object) -> object:
    """What is seen with one value of the key in the file."""
    values = {"network": "paper", "safety.startup_policy": "auto", **row.base}
    coins, market = row.coins, {}
    if row.key == "markets.coin":
        coins = (str(value),)
    elif row.key.startswith("markets."):
        market = {row.key.removeprefix("markets."): value}
    else:
        values[row.key] = value
    try:
        settings = from_text(toml(values, coins, market))
    except ConfigError:
        return "refused by the configuration"
    seen: object = None
    try:
        seen = await row.probe(settings)
    except* PreflightRefused:
        seen = "refused by the venue's metadata"
    return seen


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
async def test_changing_a_key_changes_what_is_sent(row: Row) -> None:
    """CFG-3, LESSONS 4: two files that differ in this key alone lead to what the row says, and not to the same."""
    seen = (await observe(row, row.values[0]), await observe(row, row.values[1]))
    assert seen == row.seen
    assert seen[0] != seen[1]
