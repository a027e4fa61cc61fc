"""Records, a clock and stores for the tests of the store."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from attrs import define, field

from hip3.core.records import (
    FillRecord,
    FollowUpRecord,
    IncidentRecord,
    IntentRecord,
    ProcessedRecord,
    Record,
    ResultRecord,
    SignalRecord,
    StateRecord,
    TradeRecord,
    Transition,
)
from hip3.store.database import Place
from hip3.store.segments import FORMAT, Header
from hip3.store.spool import Spool
from hip3.store.store import RunInfo, Store, StoreConfig, open_store
from hip3.store.writer import RunSync, inline

D = Decimal
START_MS = 1_767_225_600_000  # 2026-01-01T00:00Z
ACCOUNT = "0x00000000000000000000000000000000000000aa"
OTHER = "0x00000000000000000000000000000000000000bb"
COIN = "xyz:SNDK"


@define
class HandClock:
    """Time that stands still until a test moves it."""

    now_ms: int = START_MS

    def wall_ms(self) -> int:
        return self.now_ms

    def mono_ms(self) -> int:
        return self.now_ms


def intent(n: int = 1, *, nonce: int | None = None) -> IntentRecord:
    return IntentRecord(
        cloid=f"0x{n:032x}",
        coin=COIN,
        asset=110_001,
        side="buy",
        sz=D("0.05"),
        px=D("612.3400"),
        tif="Ioc",
        reduce_only=False,
        nonce=nonce if nonce is not None else START_MS + n,
        created_ms=START_MS + n,
        sent_ms=START_MS + n + 1,
        signal_id=f"s-{n}",
        expires_after_ms=START_MS + 10_000,
    )


def result(n: int = 1, state: str = "FILLED", *, terminal: bool = True) -> ResultRecord:
    return ResultRecord(f"0x{n:032x}", state, START_MS + n + 5, terminal, oid=n, filled_sz=D("0.05"), avg_px=D("612.3"))


def fill(n: int = 1, **changes: object) -> FillRecord:
    values: dict[str, object] = {
        "coin": COIN,
        "time_ms": START_MS + n,
        "tid": 1 << 49 | n,
        "oid": n,
        "cloid": f"0x{n:032x}",
        "side": "B",
        "px": D("612.30"),
        "sz": D("0.05"),
        "fee": D("0.0137"),
        "fee_token": "USDC",
        "dir": "Open Long",
        "closed_pnl": D(0),
        "start_position": D("0.0"),
    }
    return FillRecord(**(values | changes))  # type: ignore[arg-type]  # the keys are its fields


def move(n: int = 1, *, at_ms: int | None = None, **metadata: object) -> Transition:
    at = at_ms if at_ms is not None else START_MS + n
    return Transition(at, "order", f"0x{n:032x}", "PENDING", "SENT", "BYTES_LEFT", f"order {n} left", "", metadata)


def trade(n: int = 1) -> TradeRecord:
    return TradeRecord(
        COIN, "buy", D("0.05"), D("612.3"), D("613"), START_MS, START_MS + n, D("0.035"), D("0.02"), "TIME_STOP"
    )


def signal(n: int = 1, verdict: str = "Queued") -> SignalRecord:
    inputs = {"oracle_px": D("612.30"), "depth": [1, 2], "market": {"halted": False}}
    return SignalRecord(f"s-{n}", COIN, "buy", START_MS + n, D("11.25"), verdict, "", None, inputs, {"gates": []})


def one_of_each() -> list[Record]:
    """A record of every kind."""
    return [
        intent(),
        result(),
        fill(),
        trade(),
        signal(),
        FollowUpRecord("s-1", 1000, START_MS + 1000, None),
        move(),
        StateRecord("last_nonce", str(START_MS), START_MS),
        ProcessedRecord("fill:1", START_MS, START_MS + 1),
        IncidentRecord("i-1", "DAILY_LOSS", START_MS, "lost 21 USD", evidence={"usd": D("-21")}),
    ]


def run_info(run_id: str = "run-1", account: str = ACCOUNT, pid: int = 4242) -> RunInfo:
    return RunInfo(account=account, run_id=run_id, config_hash="c0ffee", pid=pid)


@define
class Bench:
    """One place, and the stores that a test opens on it."""

    place: Place
    clock: HandClock = field(factory=HandClock)
    troubles: list[str | None] = field(factory=list)
    opened: list[Store] = field(factory=list)

    def open(
        self, run_id: str = "run-1", *, config: StoreConfig | None = None, run_sync: RunSync = inline, account: str = ACCOUNT
    ) -> Store:
        run = run_info(run_id, account)
        store = open_store(self.place, run, self.clock, config, run_sync=run_sync, on_trouble=self.troubles.append)
        self.opened.append(store)
        return store

    def let_go(self) -> None:
        """Closes what a test left open."""
        for store in self.opened:
            kill(store)


def kill(store: Store) -> None:
    """What a `kill -9` leaves: files as they are, the lock gone with its process."""
    store.writer.applier.close()
    store.close()


def open_spool(folder: Path, *, first_seq: int = 1, max_rows: int = 8192, segment_bytes: int = 4 << 20) -> Spool:
    """A spool without a database."""
    header = Header(FORMAT, "spool-1", ACCOUNT, "run-1", "c0ffee", first_seq, START_MS)
    spool = Spool(folder, header, max_rows, segment_bytes)
    spool.open()
    return spool


def put_all(store: Store, *records: Record) -> None:
    """One commit."""
    for record in records:
        store.recorder.put(record)
    store.recorder.commit()
