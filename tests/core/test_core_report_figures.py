"""JRN-1: the figures of each trade, of orders and of signals, computed by hand."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from hip3.core.intervals import rate_of
from hip3.core.report import make_report
from hip3.core.trade_figures import OrderCounts, count_orders, last_results
from tests.core.report_builders import (
    T0,
    close,
    entry,
    filled,
    follow_up,
    given,
    good,
    order,
    overdue,
    result,
    signal,
    trade,
)


def test_a_long_by_hand() -> None:
    """JRN-1: bought at 100, sold at 100.15, fees 0.03, funding -0.02: edge 15 bps, net 10 bps, slippage 12 - 15 = -3."""
    [row] = make_report(given(trade(0, pnl="0.10", fees="0.03", funding="-0.02"))).trades
    assert row.actual_edge_bps == 15
    assert row.slippage_bps == -3
    assert row.pnl_usd == Decimal("0.10")
    assert row.net_edge_bps == 10
    assert row.notional_usd == 100
    assert row.volume_usd == Decimal("200.15")
    assert row.holding_ms == 10_000
    assert row.exit_reason == "time_stop"


def test_a_short_earns_when_the_price_falls() -> None:
    """JRN-1: the edge is signed by side; the record's own edge is taken where it has one."""
    report = make_report(given(trade(0, side="SELL", pnl="0.04")))
    assert report.trades[0].actual_edge_bps == 5
    stated = attrs.evolve(trade(0), actual_edge_bps=Decimal(99))
    assert make_report(given(stated)).trades[0].actual_edge_bps == 99


def test_a_trade_without_a_signal_has_no_expected_edge_and_no_slippage() -> None:
    """JRN-1, JRN-3: it is left out of the slippage, and that is said with its count."""
    report = make_report(given(trade(0), trade(1, expected=None, signal=None)))
    assert report.trades[1].slippage_bps is None
    assert report.totals.slippage.n == 1
    assert report.totals.actual.n == 2
    assert any("1 of 2 trades have no expected edge" in said for said in report.caveats)


def test_orders_of_a_trade_and_its_flat_time() -> None:
    """JRN-1: entry, a close that found no match and one that filled: 2 of 3; flat 1.5 s after the first close was made."""
    intents = (entry(0), close(0, 8500), close(0, 9000), close(1, 100))
    results = (filled("e-0"), result("c-0-8500", "REJECTED"), filled("c-0-9000"))
    report = make_report(given(trade(0), intents=intents, results=results))
    assert report.trades[0].orders == OrderCounts(accepted=2, rejected=1)
    assert report.trades[0].flat_time_ms == 1500
    assert report.totals.entries == OrderCounts(accepted=1)
    assert report.totals.closes == OrderCounts(accepted=2 - 1, rejected=1, open=1)


def test_closes_belong_to_the_trade_of_their_coin_and_time() -> None:
    """JRN-1: not to the next trade of the coin, nor to one of another coin that was held as well."""
    trades = (trade(0), trade(1), trade(0, coin="xyz:MU", signal="mu"))
    intents = (close(0, 9000), close(1, 9500), close(0, 9900, "mu-close", coin="xyz:MU"))
    report = make_report(given(*trades, intents=intents, results=tuple(filled(i.cloid) for i in intents)))
    assert {(t.coin, t.flat_time_ms) for t in report.trades} == {("xyz:SNDK", 1000), ("xyz:SNDK", 500), ("xyz:MU", 100)}


def test_a_stop_at_the_venue_is_an_order_only_when_it_fired() -> None:
    """JRN-1: a stop that rested and was taken back closed nothing; one that fired counts, and gives no flat time."""
    rested, fired = close(0, 100, "stop-0", trigger="99"), close(1, 100, "stop-1", trigger="99")
    report = make_report(
        given(trade(0), trade(1), intents=(rested, fired), results=(result("stop-0", "CANCELED"), filled("stop-1")))
    )
    assert [t.orders.accepted for t in report.trades] == [0, 1]
    assert [t.flat_time_ms for t in report.trades] == [None, None]


@pytest.mark.parametrize(
    ("results", "counts"),
    [
        ([filled("x")], OrderCounts(accepted=1)),
        ([result("x", "CANCELED", filled="0.5")], OrderCounts(accepted=1)),
        ([result("x", "REJECTED")], OrderCounts(rejected=1)),
        ([result("x", "CANCELED")], OrderCounts(rejected=1)),
        ([result("x", "EXPIRED")], OrderCounts(timed_out=1)),
        ([result("x", "UNKNOWN", is_terminal=False)], OrderCounts(timed_out=1)),
        ([result("x", "SENT", is_terminal=False)], OrderCounts(open=1)),
        ([], OrderCounts(open=1)),
        ([filled("x", T0 + 9), result("x", "UNKNOWN", at_ms=T0 + 1, is_terminal=False)], OrderCounts(accepted=1)),
        ([result("x", "UNKNOWN", at_ms=T0 + 9, is_terminal=False), filled("x")], OrderCounts(accepted=1)),
    ],
)
def test_what_counts_as_accepted_rejected_and_timed_out(results: list[object], counts: OrderCounts) -> None:
    """JRN-1: any execution is accepted; the last word of an order counts, however late a doubt is written down."""
    assert count_orders([order("x", T0)], last_results(results)) == counts  # type: ignore[arg-type]  # of the table above


def test_an_order_sent_twice_is_one_order() -> None:
    """JRN-1: a closing order may be sent again with a new nonce; it stays one order."""
    twice = [order("x", T0, nonce=1, reduce_only=True), order("x", T0 + 5, nonce=2, reduce_only=True)]
    assert count_orders(twice, last_results([filled("x")])) == OrderCounts(accepted=1)


def test_the_fill_rate_leaves_out_what_has_not_ended() -> None:
    """JRN-1, JRN-3: 3 accepted, 1 rejected, 1 timed out: 3 of 5; the one under way is said, not counted."""
    assert OrderCounts(3, 1, 1, open=1).rate == rate_of(3, 5)
    report = make_report(given(trade(0), intents=(entry(0), order("late", T0)), results=(filled("e-0"),)))
    assert report.totals.entries.rate == rate_of(1, 1)
    assert any("1 entries had not ended" in said for said in report.caveats)


def test_sums_and_drawdown() -> None:
    """JRN-1: +1, -3, +1: PnL -1, the largest fall is 3, one win of three is two wins."""
    totals = make_report(given(trade(0, pnl="1"), trade(1, pnl="-3"), trade(2, pnl="1"))).totals
    assert totals.pnl_usd == -1
    assert totals.drawdown_usd == 3
    assert totals.wins == rate_of(2, 3)
    assert totals.fees_usd == Decimal("0.03")


def test_a_missed_stop_is_a_life_longer_than_time_stop_and_bound() -> None:
    """JRN-2: 37 s are allowed (30 s and 7 s); 37.001 s is missed, and so is a position given up as overdue."""
    rows = (trade(0, held_ms=37_000), trade(1, held_ms=37_001), trade(2, held_ms=20_000))
    assert make_report(given(*rows)).totals.missed_stops == rate_of(1, 3)
    late = given(*rows, transitions=(overdue(2, 19_000),))
    assert make_report(late).totals.missed_stops == rate_of(2, 3)


def test_flatten_success_counts_closes_in_time() -> None:
    """JRN-2: closed within 60 s of the first closing order; overdue is a failure; what we did not close is left out."""
    rows = (trade(0), trade(2, held_ms=100_000), trade(5, reason="unknown"), trade(7, held_ms=70_000))
    intents = (close(0, 9000), close(2, 39_000), close(7, 30_000))
    report = make_report(given(*rows, intents=intents, transitions=(overdue(7),)))
    assert report.totals.flatten_success == rate_of(1, 3)
    assert any("1 of 4 trades have no flat time" in said for said in report.caveats)


def test_a_position_that_never_ended_is_a_failure_without_a_trade() -> None:
    """JRN-2, JRN-3: overdue and still open where the records end: it counts against stops and closes alike."""
    report = make_report(given(trade(0), intents=(close(0, 9000),), transitions=(overdue(5), overdue(5, 61_000))))
    assert report.totals.flatten_success == rate_of(1, 2)
    assert report.totals.missed_stops == rate_of(1, 2)


def test_every_signal_has_a_fate() -> None:
    """JRN-3: traded, refused by a gate, no match, no answer, under way, without a record: counted, largest first."""
    signals = (signal(0), signal(1), signal(2), signal(3), signal(4), *(signal(n, "Rejected(NotReady)") for n in (5, 6)))
    intents = (entry(0), entry(1), entry(2), entry(3))
    results = (filled("e-0"), result("e-1", "REJECTED"), result("e-2", "EXPIRED"))
    fate = make_report(given(signals=signals, intents=intents, results=results)).fate
    assert fate.total == 7
    assert fate.traded == rate_of(1, 7)
    assert fate.reasons == (
        ("Rejected(NotReady)", 2),
        ("accepted, but no order is on record", 1),
        ("order refused or without a match", 1),
        ("order still on its way", 1),
        ("order without an answer, or never admitted", 1),
    )


def test_the_edge_decays_by_its_follow_ups() -> None:
    """DET-5, JRN-3: means of all signals and of those traded at each age; what had no price is counted, not guessed."""
    signals = (signal(0, edge="12"), signal(1, "Rejected(NotReady)", edge="20"))
    ups = (follow_up(0, 1000, "4"), follow_up(1, 1000, "10"), follow_up(0, 3000, None), follow_up(1, 3000, "2"))
    decay = make_report(given(trade(0), signals=signals, follow_ups=ups)).decay
    assert [(p.after_ms, p.edge.mean, p.edge_traded.mean, p.unknown) for p in decay] == [
        (0, Decimal(16), Decimal(12), 0),
        (1000, Decimal(7), Decimal(4), 0),
        (3000, Decimal(2), None, 1),
    ]


def test_groups_by_exit_and_market() -> None:
    """JRN-1: PnL and edge after cost by exit reason and by market, the largest group first."""
    report = make_report(given(trade(0), trade(1, reason="halt", pnl="-1"), trade(2, coin="xyz:MU")))
    assert [(g.name, g.trades, g.pnl_usd) for g in report.by_exit] == [("time_stop", 2, Decimal("0.2")), ("halt", 1, -1)]
    assert [g.name for g in report.by_coin] == ["xyz:SNDK", "xyz:MU"]


def test_since_cuts_trades_orders_and_signals() -> None:
    """JRN-3: what ended before is in no number: not in the means, not in the fill rate, not among the signals."""
    whole = attrs.evolve(good(4, rejected=2), signals=tuple(signal(n) for n in range(4)))
    cut = make_report(attrs.evolve(whole, since_ms=T0 + 2 * 60_000 - 1000))
    assert len(cut.trades) == 2
    assert cut.totals.entries == OrderCounts(accepted=2)
    assert cut.fate.total == 2
    assert all(t.flat_time_ms == 1000 for t in cut.trades)


def test_nothing_is_an_empty_report() -> None:
    """JRN-3: without a trade, an order and a signal there is nothing to report; one signal is something."""
    assert make_report(given()).is_empty
    assert not make_report(given(signals=(signal(0),))).is_empty
    assert not make_report(good(1)).is_empty
