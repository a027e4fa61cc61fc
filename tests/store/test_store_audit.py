"""The audit chain: what was changed after it was written is found, and which row it is (STO-3)."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from hip3.store.audit import GENESIS, Verdict
from hip3.store.database import open_engine
from hip3.store.errors import StoreDamaged
from hip3.store.repository import Repository
from tests.store.store_builders import ACCOUNT, START_MS, Bench, D, kill, move, put_all

ROWS = 6


def written(bench: Bench) -> Bench:
    """A store with an audit log of six rows, closed."""
    store = bench.open()
    for n in range(1, ROWS + 1):
        put_all(store, move(n, sz=D("0.05"), coin="xyz:SNDK"))
    store.writer.applier.apply(store.writer.spool.take(100))
    kill(store)
    return bench


def verdict_after(bench: Bench, *statements: str) -> Verdict:
    """What `verify` says once somebody has run `statements` on the database."""
    engine = open_engine(bench.place, writes=True)
    with engine.connect() as connection, connection.begin():
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
    reader = Repository(bench.place)
    try:
        return reader.verify_audit()
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["UPDATE audit_log SET reason_message = 'nothing' WHERE seq = 3"], "row 3: was changed"),
        (["UPDATE audit_log SET timestamp_ms = timestamp_ms + 1 WHERE seq = 1"], "row 1: was changed"),
        (["UPDATE audit_log SET metadata = '{}' WHERE seq = 2"], "row 2: was changed"),
        (["UPDATE audit_log SET account = 'x' WHERE seq = 6"], "row 6: was changed"),
        (["DELETE FROM audit_log WHERE seq = 4"], "row 4 is missing"),
        (["DELETE FROM audit_log WHERE seq IN (2, 3)"], "rows 2 to 3 are missing"),
        (["DELETE FROM audit_log WHERE seq = 1"], "row 1 is missing"),
        (["DELETE FROM audit_log WHERE seq > 4"], "rows 5 to 6 were cut off the end"),
        (["DELETE FROM audit_log"], "rows 1 to 6 were cut off the end"),
        (
            [
                "UPDATE audit_log SET seq = 100 WHERE seq = 2",
                "UPDATE audit_log SET seq = 2 WHERE seq = 3",
                "UPDATE audit_log SET seq = 3 WHERE seq = 100",
            ],
            "row 2: does not follow",
        ),
        (
            [
                "UPDATE audit_log SET seq = 7 WHERE seq = 6",
                "INSERT INTO audit_log SELECT 6, account, run_id, config_hash, timestamp_ms, category, entity_id, "
                "from_state, to_state, reason_code, reason_message, event_id, metadata, prev_hash, hash "
                "FROM audit_log WHERE seq = 5",
            ],
            "row 6: does not follow",
        ),
        (["UPDATE audit_log SET hash = prev_hash WHERE seq = 5"], "row 5: was changed"),
        (["UPDATE system_state SET value = 'x' WHERE key = 'audit.head'"], "head of the chain is not readable"),
        (["DELETE FROM system_state WHERE key = 'audit.head'"], "row 6: the last row is not the one"),
    ],
)
def test_every_kind_of_change_is_found_and_named(file_bench: Bench, statements: list[str], said: str) -> None:
    """STO-3: edited, deleted, inserted, moved, cut off the end."""
    verdict = verdict_after(written(file_bench), *statements)
    assert not verdict.is_whole
    assert any(said in fault for fault in verdict.faults), verdict.faults


def test_a_change_is_found_on_either_database(bench: Bench) -> None:
    """STO-3: the rows of a server hash to the same as those of a file."""
    statements = ["UPDATE audit_log SET from_state = 'X' WHERE seq = 2", "DELETE FROM audit_log WHERE seq = 6"]
    verdict = verdict_after(written(bench), *statements)
    assert verdict.faults == ("row 2: was changed after it was written", "rows 6 to 6 were cut off the end")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_log WHERE seq = 6",
        "DELETE FROM system_state WHERE key = 'audit.head'",
        "UPDATE audit_log SET hash = prev_hash WHERE seq = 6",
    ],
)
def test_a_log_whose_end_was_changed_is_not_written_on(bench: Bench, statement: str) -> None:
    """STO-3: a start looks at the last row alone, in no time, and does not go on behind one that is not the head."""
    verdict_after(written(bench), statement)
    with pytest.raises(StoreDamaged, match="hip3 audit verify"):
        bench.open("run-2")


def test_an_untouched_chain_is_whole(bench: Bench) -> None:
    """STO-3: the verdict has the number of rows and the head, for keeping it in a second place."""
    verdict = verdict_after(written(bench))
    assert (verdict.is_whole, verdict.rows, verdict.head.seq) == (True, ROWS, ROWS)
    assert len(verdict.head.hash) == len(GENESIS)


def test_faults_are_counted_beyond_those_that_are_named(file_bench: Bench) -> None:
    """STO-3: a log that was written over everywhere gives a verdict of a bounded length."""
    store = file_bench.open()
    put_all(store, *(move(n) for n in range(1, 101)))
    store.writer.applier.apply(store.writer.spool.take(1000))
    kill(store)
    verdict = verdict_after(file_bench, "UPDATE audit_log SET to_state = 'X'")
    assert verdict.fault_count == 100
    assert len(verdict.faults) == 20


async def test_the_chain_goes_on_over_runs_and_transactions(bench: Bench) -> None:
    """STO-3: the first row of a transaction follows the last one of the transaction before, whoever wrote it."""
    for n in range(1, 4):
        store = bench.open(f"run-{n}")
        put_all(store, move(2 * n))
        put_all(store, move(2 * n + 1))
        assert await store.drain_and_close(20)
    found = bench.open("run-4").repository
    rows = found.audit()
    assert [(row.seq, row.run_id) for row in rows] == [(n, f"run-{(n + 1) // 2}") for n in range(1, 7)]
    assert [row.prev_hash for row in rows] == [GENESIS, *(row.hash for row in rows[:-1])]
    assert found.audit_head().seq == 6
    assert found.verify_audit().is_whole


def test_rows_are_read_by_number_kind_and_entity(file_bench: Bench) -> None:
    """OPS-3, OPS-7: from a number on, the last ones, of one machine, of one order."""
    store = written(file_bench).open("run-2")
    found = store.repository
    assert [row.seq for row in found.audit(after_seq=4)] == [5, 6]
    assert [row.seq for row in found.audit(limit=2)] == [1, 2]
    assert [row.seq for row in found.audit_tail(2)] == [5, 6]
    assert found.audit_tail(2, category="position") == []
    one = found.audit(entity_id=move(3).entity_id)
    assert [(row.seq, row.account, row.timestamp_ms, row.metadata) for row in one] == [
        (3, ACCOUNT, START_MS + 3, {"sz": "0.05", "coin": "xyz:SNDK"})
    ]
