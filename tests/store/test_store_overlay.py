"""Readers see the spool: what a killed bot committed and its writer never wrote is in every answer, and no byte changes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hip3.core.records import FollowUpRecord, IncidentRecord, ProcessedRecord, Record, StateRecord
from hip3.store import schema
from hip3.store.database import NO_SPOOL, place_of_file
from hip3.store.overlay import TEMPORARY
from hip3.store.repository import Repository, everything_in
from tests.store.store_builders import (
    ACCOUNT,
    COIN,
    OTHER,
    START_MS,
    Bench,
    fill,
    intent,
    kill,
    move,
    one_of_each,
    put_all,
    result,
    signal,
    trade,
)


def answers(reader: Repository) -> Mapping[str, object]:
    """Everything that a repository can be asked."""
    said: dict[str, object] = {"accounts": reader.accounts(), "audit": reader.audit(), "tail": reader.audit_tail(3)}
    verdict = reader.verify_audit()
    said |= {"head": reader.audit_head(), "whole": verdict.is_whole, "rows": verdict.rows, "counts": reader.counts()}
    for account in (ACCOUNT, OTHER):
        of = {
            "state": reader.state(account),
            "times": reader.state_times(account),
            "unfinished": reader.unfinished_orders(account),
            "order": [reader.order(account, f"0x{n:032x}") for n in range(8)],
            "intents": reader.intents(account),
            "results": [reader.results(account, f"0x{n:032x}") for n in range(8)],
            "between": reader.results_between(account, START_MS + 3),
            "fills": reader.fills(account, START_MS + 2),
            "processed": reader.processed(account),
            "incidents": reader.incidents(account),
            "open": reader.incidents(account, open_only=True),
            "trades": reader.trades(account),
            "signals": reader.signals(account),
            "signal": reader.signal(account, "s-1"),
            "newest": [reader.last_signal(account), reader.last_signal(account, COIN), reader.last_signal(account, "none")],
            "counted": reader.count_signals(account, START_MS + 2, START_MS + 5),
            "follow_ups": reader.follow_ups(account),
        }
        said |= {f"{account} {name}": value for name, value in of.items()}
    return said


def in_database(bench: Bench) -> Mapping[str, object]:
    """The answers of the database alone."""
    reader = Repository(bench.place)
    try:
        return answers(reader)
    finally:
        reader.close()


def with_spool(bench: Bench) -> Mapping[str, object]:
    """The answers of database and spool."""
    reader = everything_in(bench.place)
    try:
        return answers(reader)
    finally:
        reader.close()


def after_a_start(bench: Bench) -> Mapping[str, object]:
    """The answers of a database that the next start has brought up to date."""
    store = bench.open("run-2", account=OTHER)
    try:
        found = dict(answers(store.repository))
    finally:
        kill(store)
    return found


def same(ours: Mapping[str, object], theirs: Mapping[str, object]) -> None:
    """But for the start itself, which registers its run."""
    for name, value in theirs.items():
        if name == "accounts":
            assert set(ours[name]) <= set(value)  # type: ignore[call-overload]
        elif name == "counts":
            assert ours[name] | {"runs": 0} == value | {"runs": 0}, name  # type: ignore[operator]
        else:
            assert ours[name] == value, name


def test_every_answer_is_that_of_the_next_start(bench: Bench) -> None:
    """STO-4, LESSONS 3: records of every kind in the spool alone, new ones and such as change rows that are there."""
    store = bench.open()
    put_all(store, *one_of_each())
    put_all(store, intent(2), signal(2), StateRecord("position:x", "1", START_MS), move(2))
    store.writer.applier.apply(store.writer.spool.take(100))
    before = in_database(bench)
    put_all(store, *one_of_each(), intent(1, nonce=START_MS + 77), result(2), fill(3), trade(3), move(3))
    put_all(store, signal(2, "Rejected(Edge)"), signal(4), StateRecord("position:x", None, START_MS), intent(5), move(4))
    put_all(store, IncidentRecord("i-1", "DAILY_LOSS", START_MS, "over", START_MS + 9), FollowUpRecord("s-1", 1000, 7, None))
    kill(store)
    assert in_database(bench) == before
    seen = with_spool(bench)
    assert seen != before
    assert in_database(bench) == before, "reading changes nothing"
    same(seen, after_a_start(bench))


_RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(intent, st.integers(1, 6), nonce=st.one_of(st.none(), st.integers(1, 3))),
    st.builds(result, st.integers(1, 6), st.sampled_from(["OPEN", "FILLED"]), terminal=st.booleans()),
    st.builds(fill, st.integers(1, 6), px=st.sampled_from([Decimal(1), Decimal("2.50")])),
    st.builds(trade, st.integers(1, 6)),
    st.builds(signal, st.integers(1, 6), st.sampled_from(["Queued", "Rejected(Edge)"])),
    st.builds(move, st.integers(1, 6)),
    st.builds(StateRecord, st.sampled_from("abc"), st.sampled_from(["1", "2", None]), st.integers(1, 9)),
    st.builds(ProcessedRecord, st.sampled_from("xyz"), st.just(START_MS), st.integers(1, 9)),
    st.builds(FollowUpRecord, st.sampled_from(["s-1", "s-2"]), st.just(1000), st.integers(1, 9), st.none()),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(_RECORDS, min_size=1, max_size=4), max_size=5), st.lists(st.lists(_RECORDS, min_size=1, max_size=4))
)
def test_whatever_was_committed_is_seen(
    tmp_path_factory: pytest.TempPathFactory, written: list[list[Record]], spooled: list[list[Record]]
) -> None:
    """STO-4: any records in the database, any in the spool: the reader sees what the next start will have."""
    bench = Bench(place_of_file(tmp_path_factory.mktemp("overlay") / "paper.db"))
    store = bench.open()
    for records in written:
        put_all(store, *records)
    store.writer.applier.apply(store.writer.spool.take(1 << 20))
    for records in spooled:
        put_all(store, *records)
    kill(store)
    same(with_spool(bench), after_a_start(bench))


def test_a_writer_that_goes_on_meanwhile_is_followed(bench: Bench) -> None:
    """STO-1: a reader that began before the writer's turn sees each row once after it, and then what the database has."""
    store = bench.open()
    for n in range(1, 5):
        put_all(store, fill(n), trade(n), move(n))
    reader = everything_in(bench.place)
    try:
        for applied in range(5):
            assert [f.tid & 0xFF for f in reader.fills(ACCOUNT)] == [1, 2, 3, 4]
            assert len(reader.trades(ACCOUNT)) == 4
            assert reader.verify_audit().rows == 4
            assert reader.behind() == 4 - applied
            if applied < 4:
                store.writer.applier.apply(store.writer.spool.take(1))
                store.writer.spool.applied(applied + 1)
        put_all(store, fill(9))
        store.writer.applier.apply(store.writer.spool.take(1))
        assert len(reader.fills(ACCOUNT)) == 5
    finally:
        reader.close()


def test_damage_in_the_spool_leaves_the_database_readable(file_bench: Bench) -> None:
    """LESSONS 3: groups that cannot be read are told of; what the database has is shown, and nothing as if it were all."""
    store = file_bench.open()
    put_all(store, fill(1))
    store.writer.applier.apply(store.writer.spool.take(1))
    put_all(store, fill(2))
    kill(store)
    segment = next(iter(file_bench.place.spool.iterdir()))
    segment.write_bytes(segment.read_bytes().replace(b'"sz":"0.05"', b'"sz":"9.05"'))
    reader = everything_in(file_bench.place)
    try:
        assert len(reader.fills(ACCOUNT)) == 1
        assert reader.spool is not None
        assert "another checksum than was written" in str(reader.spool.trouble)
    finally:
        reader.close()


def test_a_spool_that_may_not_be_read_is_told_of(file_bench: Bench) -> None:
    """LESSONS 3: as above, for a segment that is no file."""
    store = file_bench.open()
    put_all(store, fill(1))
    kill(store)
    (file_bench.place.spool / "99.spool").mkdir()
    reader = everything_in(file_bench.place)
    try:
        assert reader.fills(ACCOUNT) == []
        assert reader.spool is not None
        assert "cannot be read: Is a directory" in str(reader.spool.trouble)
    finally:
        reader.close()


def test_nothing_is_laid_over_where_the_database_has_all(file_bench: Bench) -> None:
    """STO-4: the usual case costs one look at the spool and one at its position."""
    store = file_bench.open()
    put_all(store, fill(1))
    store.writer.applier.apply(store.writer.spool.take(1))
    reader = everything_in(file_bench.place)
    try:
        assert (reader.behind(), len(reader.fills(ACCOUNT))) == (0, 1)
        with reader._reading() as connection:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_temp_master").all()
        assert names == []
    finally:
        reader.close()


def test_a_server_that_is_named_alone_has_no_spool_here(file_bench: Bench) -> None:
    """STO-1: a URL does not say where the spool of its bot is; no folder that happens to be here is taken for it."""
    assert everything_in(type(file_bench.place)(file_bench.place.url, NO_SPOOL)).spool is None


def test_the_copies_have_the_columns_of_their_tables() -> None:
    """STO-2: a column that is added to a table is in what is laid over it."""
    for name, table in schema.METADATA.tables.items():
        assert [c.name for c in TEMPORARY[name].columns] == [c.name for c in table.columns]
