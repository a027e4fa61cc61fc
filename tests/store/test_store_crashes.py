"""What a crash of the process, of the server, or of both leaves: nothing acknowledged lost, nothing twice (STO-4, REC-2)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from hip3.store.database import place_of_file
from hip3.store.segments import segment_paths
from hip3.store.store import Store
from tests.postgres_server import OwnServer
from tests.store.store_builders import ACCOUNT, Bench, intent, kill, move, put_all, trade

ROOT = Path(__file__).resolve().parents[2]


async def test_a_restarted_server_loses_no_row(
    postgres_bench: Bench, own_postgres: OwnServer, autojump_clock: MockClock
) -> None:
    """STO-1, STO-4: while the server is away records wait and the trouble is told; when it is back all are there once."""
    store = postgres_bench.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        put_all(store, intent(1), move(1), trade(1))
        await trio.sleep(1)
        assert store.waiting_rows == 0
        own_postgres.stop()
        put_all(store, intent(2), move(2), trade(2))
        await trio.sleep(20)
        assert store.waiting_rows == 3
        own_postgres.start()
        put_all(store, intent(3), move(3), trade(3))
        await trio.sleep(20)
        assert store.waiting_rows == 0
        assert await store.drain_and_close(5)
    assert [said is None for said in postgres_bench.troubles] == [False, True]
    again = postgres_bench.open("run-2")
    assert again.recovered == 0
    assert len(again.repository.trades(ACCOUNT)) == 3
    assert len(again.repository.unfinished_orders(ACCOUNT)) == 3
    assert again.repository.verify_audit().is_whole
    assert again.repository.audit_head().seq == 3


def test_a_lost_connection_is_a_lost_lock_and_both_come_back(postgres_bench: Bench) -> None:
    """LEAD-1, LESSONS 35: a write happens only on the connection that holds the lock; who has it meanwhile keeps it."""
    store = postgres_bench.open()
    applier = store.writer.applier
    applier.disconnect()  # as after a broken connection: the server has let the lock go
    place = postgres_bench.place
    elsewhere = Bench(type(place)(place.url, place.spool.with_name("other.spool")))  # another machine
    other = elsewhere.open("run-2")
    put_all(store, intent(1))
    with pytest.raises(Exception, match=r"of the server.* writes to this store"):
        applier.apply(store.writer.spool.take(1))
    kill(other)
    applier.apply(store.writer.spool.take(1))
    assert len(store.repository.unfinished_orders(ACCOUNT)) == 1


WORDS = st.sampled_from(["put", "commit", "commit", "write", "forget", "kill", "tear", "close"])


@settings(max_examples=12)
@given(st.lists(WORDS, min_size=4, max_size=25))
def test_any_order_of_steps_and_crashes_keeps_each_group_once_and_whole(words: Sequence[str]) -> None:
    """REC-2, STO-4: whatever is put, committed, written to the database, torn and killed, in any order: the acknowledged
    groups are there in order, each once, and none in part."""
    with TemporaryDirectory() as name:
        bench = Bench(place_of_file(Path(name) / "x.db"))
        store, runs = bench.open("run-0"), 0
        acknowledged: list[list[str]] = []
        waiting: list[str] = []
        for n, word in enumerate(words, start=1):
            if word == "put":
                for record in (move(n), trade(n)):
                    store.recorder.put(record)
                waiting.append(move(n).entity_id)
            elif word == "commit":
                store.recorder.commit()
                acknowledged += [waiting] if waiting else []
                waiting = []
            elif word in ("write", "forget"):
                groups = store.writer.spool.take(3)
                store.writer.applier.apply(groups)
                if groups and word == "write":  # else the process dies before the spool is told
                    store.writer.spool.applied(groups[-1].seq)
            else:
                runs += 1
                store, waiting = again(bench, store, word, f"run-{runs}"), []
        kill(store)
        last = bench.open("last")
        wanted = [entity for group in acknowledged for entity in group]
        assert [row.entity_id for row in last.repository.audit()] == wanted
        assert len(last.repository.trades(ACCOUNT)) == len(wanted)
        assert last.repository.verify_audit().is_whole
        kill(last)


def again(bench: Bench, store: Store, how: str, run_id: str) -> Store:
    """The process ends, in one way or another, and the next one begins."""
    if how == "close":
        trio.run(store.drain_and_close, 5)
    else:
        kill(store)
    if how == "tear":
        with segment_paths(bench.place.spool)[-1].open("ab") as file:
            file.write(b'99 500 0badc0de [["transition",{"at_ms":17')
    return bench.open(run_id)


PROGRAM = """
import sys
from pathlib import Path
from hip3.store.database import place_of_file
from tests.store.store_builders import Bench, intent, move, put_all
store = Bench(place_of_file(Path(sys.argv[1]))).open()
for n in range(1, 1_000_000):
    put_all(store, intent(n), move(n))
    if n % 10 == 0:
        groups = store.writer.spool.take(5)
        store.writer.applier.apply(groups)
        store.writer.spool.applied(groups[-1].seq)
    print(n, flush=True)
"""


def test_kill_9_in_the_middle_of_commits(tmp_path: Path) -> None:
    """STO-4: a process that is killed while it writes; all that it had said was committed is there, in order, once."""
    program = [sys.executable, "-c", PROGRAM, str(tmp_path / "x.db")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:  # noqa: S603 - ours
        assert process.stdout is not None
        said = 0
        for line in process.stdout:
            said = int(line)
            if said >= 200:
                process.send_signal(signal.SIGKILL)
                break
        rest = [int(line) for line in process.stdout.read().split()]
    said = max([said, *rest])
    bench = Bench(place_of_file(tmp_path / "x.db"))
    store = bench.open("run-2")
    rows = [row.entity_id for row in store.repository.audit()]
    assert len(rows) in (said, said + 1)  # the last one may have been written and not said
    assert rows == [move(n).entity_id for n in range(1, len(rows) + 1)]
    assert len(store.repository.unfinished_orders(ACCOUNT)) == len(rows)
    assert store.recovered > 0
    kill(store)
