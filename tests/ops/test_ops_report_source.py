"""What a report reads out of journals: the records, which runs belong together, and what is said of the gaps."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from hip3.core.records import NOT_JUDGED, REPLACED
from hip3.core.report import make_report
from hip3.core.trade_figures import OrderCounts
from hip3.ops.report_journal import read_runs
from hip3.ops.report_source import NothingToReport, Selection, read_journals

ACCOUNT = "0x" + "Ab" * 20


def line(seconds: float, event: str, **fields: object) -> str:
    whole, ms = divmod(round(seconds * 1000), 1000)
    return (
        json.dumps({"time": f"2026-01-01T00:{whole // 60:02d}:{whole % 60:02d}.{ms:03d}Z", "event": event, **fields}) + "\n"
    )


def head(run: str, *, network: str = "testnet", account: str = ACCOUNT, time_stop: int = 30_000) -> str:
    return (
        line(0, "config_loaded", hash="ab")
        + line(0, "network", network=network)
        + line(0, "signer_address", account=account)
        + line(0, "safety_guards", time_stop_ms=str(time_stop))
        + line(0, "run_started", run=run)
    )


def signal(run: str, n: int, at: float, *, edge: str = "12") -> str:
    return line(at, "signal", signal=f"{run}-{n}", coin="xyz:SNDK", side="BUY", px="100", sz="1", edge_bps=edge)


def traded(run: str, n: int, at: float, *, pnl: str = "0.1") -> str:
    """A signal that was accepted, filled and closed by the second of two closing orders; 20 s in all."""
    entry, one, two = (f"0x{run}{n}{kind}" for kind in "e12")
    where = {"coin": "xyz:SNDK", "side": "BUY", "px": "100", "sz": "1"}
    return "".join(
        (
            signal(run, n, at),
            line(at, "order_enqueued", cloid=entry, signal=f"{run}-{n}", coin="xyz:SNDK"),
            line(at, "signal_judged", signal=f"{run}-{n}", verdict="Queued", detail=entry),
            line(at + 0.1, "order_sent", cloid=entry, **where),
            line(at + 0.5, "order_filled", cloid=entry, coin="xyz:SNDK", filled="1"),
            line(at + 1, "follow_up", signal=f"{run}-{n}", after_ms=1000, edge_bps="5"),
            line(at + 3, "follow_up", signal=f"{run}-{n}", after_ms=3000, edge_bps=None),
            line(at + 18, "reduce_only_enqueued", cloid=one, coin="xyz:SNDK", signal=f"{run}-{n}"),
            line(at + 18, "order_sent", cloid=one, **where),
            line(at + 18.5, "order_rejected", cloid=one, coin="xyz:SNDK", filled="0"),
            line(at + 19, "reduce_only_enqueued", cloid=two, coin="xyz:SNDK", signal=f"{run}-{n}"),
            line(at + 19, "order_sent", cloid=two, **where),
            line(at + 20, "order_filled", cloid=two, coin="xyz:SNDK", filled="1"),
            closed(run, n, at + 20, pnl),
        )
    )


def closed(run: str, n: int, at: float, pnl: str) -> str:
    return line(
        at,
        "position_closed",
        coin="xyz:SNDK",
        signal=f"{run}-{n}",
        side="BUY",
        sz="1",
        entry_px="100",
        exit_px="100.11",
        pnl_usd=pnl,
        fees_usd="0.01",
        expected_edge_bps="12",
        actual_edge_bps="11",
        holding_ms=19_500,
        exit_reason="time_stop",
    )


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_trade_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    """JRN-1: signal, order, answer, closes and end become one row: edges, fill rate 2 of 3, flat after 2 s."""
    given = read_journals([write(tmp_path, "a.jsonl", head("aa") + traded("aa", 1, 60))], Selection())
    report = make_report(given)
    [row] = report.trades
    assert (row.expected_edge_bps, row.actual_edge_bps, row.slippage_bps) == (Decimal(12), Decimal(11), Decimal(1))
    assert row.orders == OrderCounts(accepted=2, rejected=1)
    assert (row.flat_time_ms, row.holding_ms, row.exit_reason) == (2000, 19_500, "time_stop")
    assert (row.pnl_usd, row.fees_usd) == (Decimal("0.1"), Decimal("0.01"))
    assert report.fate.traded.k == report.fate.total == 1
    assert [(p.after_ms, p.edge.mean, p.unknown) for p in report.decay] == [
        (0, Decimal(12), 0),
        (1000, Decimal(5), 0),
        (3000, None, 1),
    ]
    assert (given.network, given.account, given.runs) == ("testnet", ACCOUNT.lower(), ("aa",))


def test_signals_that_never_came_before_the_gates_are_not_traded(tmp_path: Path) -> None:
    """JRN-3: refused, replaced and not judged at all: each is counted with its reason."""
    text = head("aa") + signal("aa", 1, 1) + signal("aa", 2, 2) + signal("aa", 3, 3)
    text += line(3, "signal_judged", signal="aa-1", verdict="Rejected(NotReady)", detail="no BBO")
    text += line(3, "signal_replaced", signal="aa-2", by="aa-3")
    fate = make_report(read_journals([write(tmp_path, "a.jsonl", text)], Selection())).fate
    assert fate.traded.k == 0
    assert dict(fate.reasons) == {"Rejected(NotReady)": 1, REPLACED: 1, NOT_JUDGED: 1}


def test_doubt_and_overdue_positions_are_read(tmp_path: Path) -> None:
    """JRN-1, JRN-2: an entry in doubt is a time-out; a position that went overdue and did not end is a failed close."""
    text = head("aa") + traded("aa", 1, 60) + line(120, "order_enqueued", cloid="0x9", signal="aa-9", coin="xyz:SNDK")
    text += line(120, "order_sent", cloid="0x9", coin="xyz:SNDK", side="BUY", px="1", sz="1")
    text += line(125, "in_doubt", subject="0x9", why="no answer") + line(125, "in_doubt", subject="xyz:SNDK", why="size")
    text += line(200, "flatten_failed", coin="xyz:SNDK", szi="1", age_ms=60_001)
    totals = make_report(read_journals([write(tmp_path, "a.jsonl", text)], Selection())).totals
    assert totals.entries == OrderCounts(accepted=1, timed_out=1)
    assert (totals.flatten_success.k, totals.flatten_success.n) == (1, 2)
    assert totals.missed_stops.k == 1


def test_a_stop_at_the_venue_is_known_by_its_trigger(tmp_path: Path) -> None:
    """JRN-1: a protective stop that was taken back is no rejected close."""
    text = head("aa") + line(70, "stop_enqueued", cloid="0x5", coin="xyz:SNDK", trigger_px="99", signal="aa-1")
    text += line(70, "order_sent", cloid="0x5", coin="xyz:SNDK", side="SELL", px="98", sz="1")
    text += line(75, "order_canceled", cloid="0x5", coin="xyz:SNDK", filled="0") + traded("aa", 1, 60)
    totals = make_report(read_journals([write(tmp_path, "a.jsonl", text)], Selection())).totals
    assert totals.closes == OrderCounts(accepted=1, rejected=1)


def test_runs_of_one_account_are_joined_and_others_left_out(tmp_path: Path) -> None:
    """JRN-3: mainnet is never mixed with testnet, nor one account with another; what is left out is said."""
    newest = write(tmp_path, "3.jsonl", head("cc") + traded("cc", 1, 60))
    same = write(tmp_path, "2.jsonl", head("bb") + traded("bb", 1, 60))
    foreign = write(tmp_path, "1.jsonl", head("aa", account="0x" + "1" * 40) + traded("aa", 1, 60))
    mainnet = write(tmp_path, "0.jsonl", head("dd", network="mainnet") + traded("dd", 1, 60))
    given = read_journals([newest, same, foreign, mainnet], Selection())
    assert given.runs == ("cc", "bb")
    assert len(given.trades) == 2
    assert any("2 runs of another network or account left out" in note for note in given.notes)
    chosen = read_journals([newest, same, foreign, mainnet], Selection(account="0x" + "1" * 40))
    assert chosen.runs == ("aa",)
    assert read_journals([newest, same, foreign], Selection(run="bb")).runs == ("bb",)


def test_paper_runs_are_joined_whatever_their_account(tmp_path: Path) -> None:
    """JRN-3: each paper run makes an account of its own; that it is paper money comes first."""
    paths = [
        write(tmp_path, f"{n}.jsonl", head(f"r{n}", network="paper", account=f"0x{n}") + traded(f"r{n}", 1, 60))
        for n in (1, 2)
    ]
    given = read_journals(paths, Selection())
    assert (len(given.trades), given.account) == (2, "2 accounts")
    assert given.notes[0].startswith("Paper money")


def test_different_time_stops_are_said(tmp_path: Path) -> None:
    """JRN-2, JRN-3: a stop counts as missed by the longest of them, and the report says so."""
    paths = [write(tmp_path, f"{n}.jsonl", head(f"r{n}", time_stop=n * 1000) + traded(f"r{n}", 1, 60)) for n in (9, 5)]
    given = read_journals(paths, Selection())
    assert given.time_stop_ms == 9000
    assert any("different time stops" in note and "9000 ms" in note for note in given.notes)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (line(5, "position_closed", coin="xyz:SNDK"), "1 line could not be read"),
        (line(5, "signal", signal="x", coin="c", side="BUY", edge_bps="NaN"), "1 line could not be read"),
        (line(5, "order_filled", cloid="0x1", filled="many"), "1 line could not be read"),
        (line(5, "signal_judged", signal="gone", verdict="Queued"), "1 line could not be read"),
        (line(5, "journal_turned", earlier="x", dropped_older=True), "1 journal outgrew the bound"),
        ("{torn\n", "Read from journals"),
    ],
)
def test_what_cannot_be_read_is_counted_not_guessed(tmp_path: Path, bad: str, said: str) -> None:
    """JRN-3: a damaged line costs itself and is said; the rest of the report stands."""
    given = read_journals([write(tmp_path, "a.jsonl", head("aa") + bad + traded("aa", 1, 60))], Selection())
    assert len(given.trades) == 1
    assert any(said in note for note in given.notes)


def test_a_file_may_hold_several_runs(tmp_path: Path) -> None:
    """JRN-1: with --log one file may hold several; each begins with its configuration."""
    path = write(tmp_path, "own.jsonl", head("aa") + traded("aa", 1, 60) + head("bb") + traded("bb", 1, 120))
    assert [r.run for r in read_runs(path)] == ["aa", "bb"]
    assert read_journals([path], Selection()).runs == ("bb", "aa")


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(run="zz"), "no signal, order or trade of run zz in"),
        (Selection(run="zz"), "the runs there: aa"),
        (Selection(account="0x1"), "of account 0x1"),
    ],
)
def test_nothing_to_report_says_where_and_what_to_do(tmp_path: Path, selection: Selection, said: str) -> None:
    """JRN-3: an empty selection is no empty report."""
    with pytest.raises(NothingToReport, match=said):
        read_journals([write(tmp_path, "a.jsonl", head("aa") + traded("aa", 1, 60))], selection)


def test_a_run_that_saw_nothing_is_nothing(tmp_path: Path) -> None:
    """JRN-3: a run without a signal has nothing to report; without any journal the bot has to run first."""
    with pytest.raises(NothingToReport, match="let the bot run longer"):
        read_journals([write(tmp_path, "a.jsonl", head("aa"))], Selection())
    with pytest.raises(NothingToReport, match="there is no journal yet"):
        read_journals([], Selection())
