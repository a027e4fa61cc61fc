"""What the store costs: a commit on the trading path, draining, the start, and the audit chain of a long life.

scripts/bench store [--orders 5000] [--rows 1000000]. The limit is for commits one after the other. After a pause of 10 ms
the same commit is dearer, as is anything else: caches have gone cold (docs/decisions/0011). So the cheapest call of the
system, in both rhythms, is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import trio
from attrs import frozen

from hip3.core.records import IntentRecord, Record, ResultRecord, StateRecord, Transition
from hip3.io.clock import SystemClock
from hip3.store.database import Place, place_of_file
from hip3.store.segments import FORMAT, Header
from hip3.store.spool import Spool
from hip3.store.store import RunInfo, StoreConfig, open_store

LIMIT_US = 50.0
"""Issue 4: a commit costs the trading path less than this, as a median."""
VERIFY_LIMIT_S = 30.0
START_LIMIT_S = 3.0
SPACED, SPACING_S = 200, 0.01
QUEUE_ROWS = 1 << 30  # what is measured is the cost, not the bound
RUN = RunInfo(account="0x" + "aa" * 20, run_id="bench", config_hash="c0ffee", pid=os.getpid())


@frozen
class Line:
    """One measured number, and the limit that it is held to; None for a number that is only shown."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def is_within(self) -> bool:
        return self.limit is None or self.value < self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"   limit {self.limit:g}: {'ok' if self.is_within else 'OVER'}"
        return f"{self.name:<58} {self.value:>10.1f} {self.unit}{limit}"


def intent(n: int) -> IntentRecord:
    """An order as the executor writes it."""
    px, sz = Decimal("612.34"), Decimal("0.05")
    cloid, now = f"0x{n:032x}", 1_767_225_600_000 + n
    return IntentRecord(cloid, "xyz:SNDK", 110_001, "BUY", sz, px, "IOC", False, now, now, now, f"19b76d42c00-{n}", now)


def transition(n: int) -> Transition:
    """A row of the audit log."""
    return Transition(
        1_767_225_600_000 + n, "order", f"0x{n:032x}", "PENDING", "SENT", "SEND", "", f"post:{n}", {"coin": "x"}
    )


def group(n: int) -> list[Record]:
    """What one step of the position task leaves, about."""
    result = ResultRecord(f"0x{n:032x}", "FILLED", n, True, n, Decimal("0.05"), Decimal("0.05"), Decimal("612.3"))
    return [transition(n), transition(n), transition(n), result, StateRecord("last_processed_timestamp_ms", str(n), n)]


def commit_us(folder: Path, groups: Sequence[Sequence[Record]], spacing_s: float = 0.0) -> list[float]:
    """Microseconds of put and commit of each group, in a spool without a database."""
    spool = Spool(folder, Header(FORMAT, "bench", RUN.account, RUN.run_id, RUN.config_hash, 1, 0), QUEUE_ROWS)
    spool.open()
    taken = []
    for records in groups:
        if spacing_s:
            time.sleep(spacing_s)
        begin = time.perf_counter_ns()
        for record in records:
            spool.put(record)
        spool.commit()
        taken.append((time.perf_counter_ns() - begin) / 1000)
    spool.close()
    return taken


async def fill_database(place: Place, rows: int) -> float:
    """Seconds to bring `rows` audit rows through spool and writer into the database."""
    store = open_store(place, RUN, SystemClock(), StoreConfig(queue_rows=QUEUE_ROWS))
    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        for n in range(rows):
            store.recorder.put(transition(n))
            if n % 10 == 9:
                store.recorder.commit()
            if n % 2000 == 1999:
                await trio.sleep(0.03)  # the writer takes 2048 records at a time
        store.recorder.commit()
        await store.drain_and_close(600)
    return time.perf_counter() - begin


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    """Appends the seconds that the block took."""
    begin = time.perf_counter()
    yield
    into.append(time.perf_counter() - begin)


def call_us(count: int, spacing_s: float) -> list[float]:
    """Microseconds of the cheapest call of the system."""
    taken = []
    for _ in range(count):
        if spacing_s:
            time.sleep(spacing_s)
        begin = time.perf_counter_ns()
        os.getppid()
        taken.append((time.perf_counter_ns() - begin) / 1000)
    return taken


def measure(folder: Path, orders: int, rows: int) -> Iterator[Line]:
    """All numbers, one after the other."""
    for name, groups in (
        ("intent", [[intent(n)] for n in range(orders)]),
        ("five records of one step", [group(n) for n in range(orders)]),
    ):
        taken = commit_us(folder / f"{name} close", groups)
        yield Line(f"{name}, put and commit: median", statistics.median(taken), "us", LIMIT_US)
        yield Line(f"{name}, put and commit: 99th percentile", statistics.quantiles(taken, n=100)[98], "us")
        apart = commit_us(folder / f"{name} apart", groups[:SPACED], SPACING_S)
        yield Line(f"{name}, 10 ms after the one before: median", statistics.median(apart), "us")
    yield Line("the cheapest call of the system: median", statistics.median(call_us(SPACED, 0.0)), "us")
    yield Line("the same, 10 ms after the one before: median", statistics.median(call_us(SPACED, SPACING_S)), "us")
    place = place_of_file(folder / "bench.db")
    took: list[float] = []
    with timed(took):
        open_store(place, RUN, SystemClock()).close()
    yield Line("start with a new store", took[-1], "s", START_LIMIT_S)
    if not rows:
        return
    seconds = trio.run(fill_database, place, rows)
    yield Line("records a second through the writer", rows / seconds, "/s")
    with timed(took):
        store = open_store(place, RUN, SystemClock())
    yield Line(f"start with {rows} audit rows", took[-1], "s", START_LIMIT_S)
    with timed(took):
        verdict = store.repository.verify_audit()
    assert verdict.is_whole
    assert verdict.rows == rows
    yield Line(f"audit verify of {rows} rows", took[-1], "s", VERIFY_LIMIT_S)
    store.close()


def main() -> int:
    """Exit code 1 where a number is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=1_000_000, help="audit rows; 0 leaves that part out")
    given = parser.parse_args()
    over = 0
    with tempfile.TemporaryDirectory(prefix="hip3-bench-") as name:
        for line in measure(Path(name), given.orders, given.rows):
            print(line, flush=True)
            over += not line.is_within
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
