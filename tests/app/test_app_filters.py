"""Every filter and every gate on data quality, from the venue's frames to no order on the wire and back (DET-4, DET-6).

Each row refuses a dislocation that is traded when the key is off, and lets the market trade again when its reason is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

import pytest
from attrs import evolve, field, frozen

from hip3.exchange.faults import Delay, Drop, Faults, Point, Rule
from hip3.exchange.scripted import ScriptedSource
from hip3.exchange.seam import CtxChange, MarketSource
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import FAST, SNDK, Script, bot_settings, dislocated, entries, listings

D = Decimal
FILTERS, QUALITY = "detector.filters", "detector.quality"
BEFORE_MIDNIGHT = START_MS - 2500
"""A Wednesday, 2.5 s before midnight: the context of second 2 comes on Wednesday, that of second 3 on Thursday."""


def capped(script: Script) -> MarketSource:
    """The venue caps SNDK's open interest at a million USD."""
    dexs = listings()
    universe = tuple(evolve(m, oi_cap_usd=D(1_000_000)) if m.coin == SNDK else m for m in dexs[1].universe)
    return ScriptedSource([dexs[0], evolve(dexs[1], universe=universe), dexs[2]], sorted(script.events, key=lambda e: e[0]))


def interest(script: Script, at_ms: int, coins: int) -> Script:
    script.events.append((at_ms, CtxChange(SNDK, open_interest=D(coins))))
    return script


def overtaken() -> Faults:
    """The third quote that is sent comes 400 ms late, after the fourth; the first two are the calm one's."""
    return Faults([Rule(Point.FRAME, Delay(400), lambda s: s == "bbo", skip=2)])


def a_context_is_lost() -> Faults:
    """The second context: two seconds between the first and the third."""
    return Faults([Rule(Point.FRAME, Drop(), lambda s: s == "activeAssetCtx", skip=1)])


def silence() -> Script:
    """No quote from the start to 4.6 s, then three of the same price; the timers need a moment to call the market ready."""
    return (
        dislocated(4)
        .quote(4600, "599.9", "600.1", sz="11")
        .quote(4800, "599.9", "600.1")
        .quote(5900, "599.9", "600.1", sz="12")
    )


def crossing(wide_ms: int) -> Script:
    """From `wide_ms` to 2.5 s the spread is 51 bps instead of 3.3."""
    return dislocated().quote(wide_ms, "597", "600.1").quote(2500, "599.9", "600.1", sz="11")


def standing_gap() -> Script:
    """The quotes always lie 15 bps below the oracle; at 2 s it rises by 1.7 bps, at 3 s by 23 bps."""
    script = Script().oracle(0, "600", mark="600").quote(0, "599", "599.2")
    return script.oracle(1500, "600.1").oracle(2500, "601.5")


def late_size() -> Script:
    """The ask is too thin for an order when the oracle rises at 2 s and thick at 2.7 s; the oracle rises again at 3 s."""
    thin = dislocated().quote(500, "599.9", "600.1", sz="0.01")
    return thin.quote(2700, "599.9", "600.1", sz="10").oracle(2800, "603")


def late_frame() -> Script:
    """A cheap ask of 2.1 s that arrives after a dear one of 2.3 s, and a true cheap one at 2.8 s."""
    script = Script().calm().oracle(1500, "600.3").quote(2100, "598.9", "599")
    return script.quote(2300, "600.2", "600.4").quote(2800, "598.8", "598.9")


@frozen
class Row:
    """With `off` an order is sent by `by_ms`; with `on` besides none is, `name` is counted, and one goes by `back_ms`."""

    name: str
    on: Mapping[str, object]
    script: Callable[[], Script]
    by_ms: int = 2450
    back_ms: int | None = 3300
    off: Mapping[str, object] = field(factory=dict)
    faults: Callable[[], Faults] = Faults
    source: Callable[[Script], MarketSource] = Script.source
    start_ms: int = START_MS


def rise_to(first: str, second: str) -> Callable[[], Script]:
    """The oracle of 600 is at `first` in the context of second 2, at `second` in that of second 3."""
    return lambda: Script().calm().oracle(1500, first).oracle(2500, second)


WIDE = {f"{FILTERS}.max_spread_bps": 20}
ADAPTIVE = {f"{FILTERS}.adaptive_spread_multiple": 1}
SHOCK = {f"{QUALITY}.spread_shock_multiple": 3}
SOON = {f"{QUALITY}.spread_shock_ewma_ms": 1000}
BASELINE = {f"{FILTERS}.baseline_ewma_ms": 1000}
DIVERGENT = {f"{QUALITY}.mark_mid_bps": 50}
BACK = {f"{QUALITY}.time_back_ms": 1}
CAP = {f"{QUALITY}.oi_cap_share": 0.9}
NIGHT = {f"{QUALITY}.blackout_windows": ["Wed 23:00-24:00"]}


def full_market() -> Script:
    return interest(interest(dislocated(), 500, 1600), 2500, 1000)  # 963,200 USD of a cap of a million, then 602,000


def marked_away() -> Script:
    return Script().calm().oracle(1500, "602", mark="605").oracle(2500, "602", mark="600")


ROWS = {
    "min_oracle_move_bps": Row("oracle_move", {f"{FILTERS}.min_oracle_move_bps": 20}, rise_to("600.9", "602.5")),
    "min_oracle_run": Row("oracle_run", {f"{FILTERS}.min_oracle_run": 2}, rise_to("602", "603")),
    "quote_lag_min_ms": Row("quote_lag", {f"{FILTERS}.quote_lag_min_ms": 500}, dislocated),
    "quote_lag_max_ms": Row("quote_lag", {f"{FILTERS}.quote_lag_max_ms": 500}, late_size, by_ms=2900),
    "max_spread_bps": Row("spread", WIDE, lambda: crossing(1200)),
    "adaptive_spread_multiple": Row(
        "adaptive_threshold",
        {f"{FILTERS}.adaptive_spread_multiple": 10, f"{FILTERS}.adaptive_ewma_ms": 1000},
        rise_to("602", "604"),
    ),
    "adaptive_ewma_ms": Row(
        "adaptive_threshold",
        {f"{FILTERS}.adaptive_ewma_ms": 2500},
        dislocated,
        off={**ADAPTIVE, f"{FILTERS}.adaptive_ewma_ms": 1000},
    ),
    "baseline_ewma_ms": Row("baseline_gap", {**BASELINE, f"{FILTERS}.baseline_warmup_ms": 1000}, standing_gap),
    "baseline_warmup_ms": Row(
        "baseline_gap",
        {f"{FILTERS}.baseline_warmup_ms": 2500},
        dislocated,
        off={**BASELINE, f"{FILTERS}.baseline_warmup_ms": 1000},
    ),
    "session_windows": Row(
        "session", {f"{FILTERS}.session_windows": ["Thu 00:00-24:00"]}, dislocated, start_ms=BEFORE_MIDNIGHT
    ),
    "min_confidence": Row(
        "confidence",
        {f"{FILTERS}.min_confidence": 0.5},
        lambda: dislocated().quote(1200, "599.9", "600.1", sz="3").quote(2500, "599.9", "600.1", sz="10"),
    ),
    "bbo_age_cooldown_ms": Row(
        "stale_bbo",
        {f"{QUALITY}.bbo_age_cooldown_ms": 1000},
        silence,
        off={"detector.max_bbo_age_ms": 1500, "detector.dedup": False},
        by_ms=5000,
        back_ms=6200,
    ),
    "ctx_age_cooldown_ms": Row(
        "stale_reference",
        {f"{QUALITY}.ctx_age_cooldown_ms": 800},
        lambda: dislocated(3).quote(3300, "599.9", "600.1", sz="11"),
        off={"detector.max_ctx_age_ms": 1500, "detector.dedup": False},
        faults=a_context_is_lost,
        by_ms=3500,
        back_ms=4300,
    ),
    "time_back_ms": Row("time_back", BACK, late_frame, faults=overtaken, by_ms=2700),
    "time_back_cooldown_ms": Row(
        "time_back",
        {f"{QUALITY}.time_back_cooldown_ms": 1500},
        late_frame,
        off=BACK,
        faults=overtaken,
        by_ms=2950,
        back_ms=5300,
    ),
    "mark_mid_bps": Row("mark_mid", DIVERGENT, marked_away),
    "mark_mid_cooldown_ms": Row(
        "mark_mid", {f"{QUALITY}.mark_mid_cooldown_ms": 1500}, marked_away, off=DIVERGENT, by_ms=3300, back_ms=4300
    ),
    "spread_shock_multiple": Row("spread_shock", {**SHOCK, **SOON}, lambda: crossing(1900)),
    "spread_shock_ewma_ms": Row(
        "spread_shock", {f"{QUALITY}.spread_shock_ewma_ms": 2500}, dislocated, off={**SHOCK, **SOON}
    ),
    "spread_shock_cooldown_ms": Row(
        "spread_shock",
        {f"{QUALITY}.spread_shock_cooldown_ms": 1000},
        lambda: crossing(1900),
        off={**SHOCK, **SOON},
        by_ms=2900,
        back_ms=4300,
    ),
    "oi_cap_share": Row("oi_cap", CAP, full_market, source=capped),
    "oi_cap_cooldown_ms": Row(
        "oi_cap", {f"{QUALITY}.oi_cap_cooldown_ms": 1500}, full_market, off=CAP, source=capped, by_ms=3300, back_ms=4300
    ),
    "blackout_windows": Row("blackout", NIGHT, dislocated, start_ms=BEFORE_MIDNIGHT),
    "blackout_cooldown_ms": Row(
        "blackout",
        {f"{QUALITY}.blackout_cooldown_ms": 1500},
        dislocated,
        off=NIGHT,
        start_ms=BEFORE_MIDNIGHT,
        by_ms=3300,
        back_ms=4300,
    ),
}


def refused(world: World, coin: str = SNDK) -> Mapping[str, int]:
    return world.bot.detector.rejected.get(coin, {})


@pytest.mark.parametrize("key", ROWS)
async def test_a_filter_keeps_an_order_from_the_wire_and_lets_it_go_again(key: str) -> None:
    """DET-4, DET-6: off, the order is on the wire; on, it is not and the reason is counted; the reason gone, it is again."""
    row = ROWS[key]
    for values, trades in ((row.off, True), ({**row.off, **row.on}, False)):
        source = row.source(row.script())
        async with open_world(
            bot_settings(values), source, config=FAST, faults=row.faults(), start_ms=row.start_ms
        ) as world:
            await world.at(row.by_ms)
            assert bool(entries(world)) is trades
            assert trades or refused(world)[row.name] > 0
            if not trades and row.back_ms is not None:
                await world.until(lambda: bool(entries(world)), (row.back_ms - row.by_ms) / 1000)


@pytest.mark.parametrize("depth", [False, True])
async def test_depth_keeps_a_quiet_quote_young(depth: bool) -> None:
    """MD-1, LESSONS 24: a quote that has not changed for 4 s is too old where only changes are heard, young with depth."""
    values = {"detector.depth": depth, "detector.max_bbo_age_ms": 1500}
    async with open_world(bot_settings(values), dislocated(4).source(), config=FAST) as world:
        await world.at(4800)
        assert bool(entries(world)) is depth
        assert ("stale_bbo" in refused(world)) is not depth


@pytest.mark.parametrize(("max_age_ms", "trades"), [(1500, False), (0, True)])
async def test_the_age_of_a_quote_has_an_off_value(max_age_ms: int, trades: bool) -> None:
    """DET-6, LESSONS 24: with 0 the quote of 4 s ago is traded, by the detector and by READY alike."""
    settings = bot_settings({"detector.max_bbo_age_ms": max_age_ms})
    async with open_world(settings, dislocated(4).source(), config=FAST) as world:
        await world.at(4800)
        assert bool(entries(world)) is trades


@pytest.mark.parametrize(
    "values", [{"safety.startup_policy": "manual"}, {"mode": "observation"}], ids=["refused", "observed"]
)
async def test_the_edge_of_a_signal_is_followed_although_nobody_traded_it(values: Mapping[str, object]) -> None:
    """DET-5: after 1, 3 and 5 s what is left of it is noted, for one that a gate refused and one that none was asked."""
    script = dislocated(2).quote(4300, "601.9", "602.1")
    async with open_world(bot_settings(values), script.source(), config=FAST) as world:
        await world.at(7300)
        assert entries(world) == []
        (signal,) = world.events("signal")
        rows = [n.fields for n in world.events("follow_up")]
        assert [(r["signal"], r["after_ms"]) for r in rows] == [(signal.fields["signal"], ms) for ms in (1000, 3000, 5000)]
        edges = [D(str(r["edge_bps"])) for r in rows]
        assert edges[0] == signal.fields["edge_bps"]
        assert edges[1] < 0
