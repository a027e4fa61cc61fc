"""READY-TRADING and the market data of one market."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.market import MarketState, missing_market_data
from hip3.core.ready import Ready
from hip3.fsm.ready import Condition, ReadyState
from tests.core.core_builders import SNDK, bbo, ctx

# ---- READY-TRADING


def ready() -> tuple[Ready, list[tuple[ReadyState, ReadyState]]]:
    changes: list[tuple[ReadyState, ReadyState]] = []
    return Ready(lambda a, b: changes.append((a, b))), changes


def complete(r: Ready) -> None:
    for condition in Condition:
        r.set(condition, holds=True)


@pytest.mark.parametrize("last", Condition)
def test_ready_needs_all_four_conditions(last: Condition) -> None:
    """RDY-1, RDY-2: in any order, with any one missing it is not ready and names it; with the last it is."""
    r, changes = ready()
    r.link_up()
    for condition in Condition:
        if condition is not last:
            r.set(condition, holds=True)
    assert (r.is_ready, r.missing) == (False, (last,))
    r.set(last, holds=True)
    assert (r.is_ready, r.missing) == (True, ())
    assert changes == [(ReadyState.NOT_READY, ReadyState.SYNCING), (ReadyState.SYNCING, ReadyState.READY)]


def test_a_disconnect_clears_what_came_over_the_session() -> None:
    """RDY-2: orders, fills and positions must be read again; market data has its own link and stays."""
    r, _ = ready()
    r.link_up()
    complete(r)
    r.link_down()
    assert r.state is ReadyState.NOT_READY
    assert r.missing == (Condition.ORDER_SNAPSHOT, Condition.FILLS_SNAPSHOT, Condition.POSITION_SYNCED)
    r.link_up()
    assert not r.is_ready
    complete(r)
    assert r.is_ready


def test_a_late_reading_of_a_dead_session_counts_for_nothing() -> None:
    """RDY-2: until a session lives, market data alone can become ready."""
    r, _ = ready()
    complete(r)
    assert r.missing == (Condition.ORDER_SNAPSHOT, Condition.FILLS_SNAPSHOT, Condition.POSITION_SYNCED)
    assert r.holds(Condition.MD_READY)


@pytest.mark.parametrize("lost", Condition)
def test_losing_any_condition_ends_ready(lost: Condition) -> None:
    """RDY-2: whatever no longer holds stops entries in the same step; it comes back with the condition."""
    r, changes = ready()
    r.link_up()
    complete(r)
    r.set(lost, holds=False)
    assert (r.is_ready, r.missing, changes[-1]) == (False, (lost,), (ReadyState.READY, ReadyState.SYNCING))
    r.set(lost, holds=True)
    assert r.is_ready


@given(
    st.lists(st.one_of(st.tuples(st.sampled_from(Condition), st.booleans()), st.sampled_from(["up", "down"])), max_size=40)
)
def test_ready_is_exactly_a_session_with_all_conditions(steps: list[tuple[Condition, bool] | str]) -> None:
    """RDY-2: over any sequence, ready == session up and nothing missing."""
    r, _ = ready()
    up = False
    for step in steps:
        if isinstance(step, str):
            up = step == "up"
            r.link_up() if up else r.link_down()
        else:
            r.set(step[0], holds=step[1])
        assert r.is_ready is (up and not r.missing)


# ---- market data of one market


def test_a_market_is_ready_with_acks_and_young_two_sided_data() -> None:
    """MD-2: the missing part is named, one after the other, until nothing is missing; a reconnect starts again."""
    m = MarketState(SNDK)

    def missing(now: int = 0) -> str | None:
        return missing_market_data(m, now, max_bbo_age_ms=10_000, max_ctx_age_ms=3000)

    assert missing() == "no ack of bbo"
    m.acked.add("bbo")
    assert missing() == "no ack of activeAssetCtx"
    m.acked.add("activeAssetCtx")
    assert missing() == "no BBO yet"
    m.on_bbo(bbo(SNDK.coin, "600", None), 0)
    assert missing() == "one-sided book"
    m.on_bbo(bbo(SNDK.coin, "600", "601"), 0)
    assert missing() == "no oracle price yet"
    m.on_ctx(ctx(SNDK.coin, "600"), 0)
    assert missing() is None
    assert missing(3001) == "oracle is 3001 ms old"
    m.on_ctx(ctx(SNDK.coin, "600"), 10_000)
    assert missing(10_000) is None
    assert missing(10_001) == "BBO is 10001 ms old"
    m.on_connect()
    assert missing(10_001) == "no ack of bbo"
