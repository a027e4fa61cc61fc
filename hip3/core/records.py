"""What must outlive the process, as records: intents, results, fills, trades, signals, transitions, state (SPEC 18).

A `Recorder` takes them. Records that belong together are put in one step and made durable by one `commit`: all of them or
none (REC-2). `commit` returning means that they survive the death of the process; what a disk or a database does with them
later is not waited for. Everything that trades writes records and reads none: what an earlier run left is read at start.

Money and sizes are `Decimal`, times Unix ms by the venue where it states one, else by our clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

from attrs import define, field, frozen

Scalar = str | int | bool | Decimal | None
NOT_JUDGED, REPLACED = "NotJudged", "Replaced"
"""Verdicts of signals that never came before the gates."""


@define
class IntentRecord:
    """An order before its bytes leave (STO-4), once for each sending: a closing order may be sent again with a new nonce.

    Not frozen as the others are: it is made between the decision and the bytes, where freezing sixteen fields is felt.
    """

    cloid: str
    coin: str
    asset: int
    side: str
    sz: Decimal
    px: Decimal
    tif: str
    reduce_only: bool
    nonce: int
    created_ms: int
    sent_ms: int
    signal_id: str | None = None
    expires_after_ms: int | None = None
    trigger_px: Decimal | None = None
    edge_bps: Decimal | None = None
    """Of the signal: what the trade was expected to earn; with `reference_px`, so that a restart does not forget it."""
    reference_px: Decimal | None = None


@frozen
class ResultRecord:
    """What became of an order: its state, whenever that changed after the sending. Sizes in base units."""

    cloid: str
    state: str
    at_ms: int
    is_terminal: bool
    oid: int | None = None
    filled_sz: Decimal = Decimal(0)
    reported_sz: Decimal = Decimal(0)
    avg_px: Decimal | None = None
    error: str | None = None


@frozen
class FillRecord:
    """One fill, unique by (coin, time_ms, tid). `fee` in `fee_token`; `dir` is the venue's own word."""

    coin: str
    time_ms: int
    tid: int
    oid: int
    cloid: str | None
    side: str
    px: Decimal
    sz: Decimal
    fee: Decimal
    fee_token: str
    dir: str
    closed_pnl: Decimal | None = None
    start_position: Decimal | None = None


@frozen
class TradeRecord:
    """One position from its first fill to flat. USD; edges in bps (JRN-1); `realized_usd` is before fees."""

    coin: str
    side: str
    sz: Decimal
    entry_px: Decimal
    exit_px: Decimal
    entry_ms: int
    exit_ms: int
    realized_usd: Decimal
    fees_usd: Decimal
    exit_reason: str
    funding_usd: Decimal = Decimal(0)
    signal_id: str | None = None
    expected_edge_bps: Decimal | None = None
    actual_edge_bps: Decimal | None = None


@frozen
class SignalRecord:
    """One signal with the verdict of the gates: `verdict` and `detail` as GATE-1 names them.

    `inputs` is everything that it was computed from (DET-5); `trail` the verdict of every filter and gate (OPS-7), which
    comes in a second record of the same signal: the later one counts.
    """

    signal_id: str
    coin: str
    side: str
    detected_ms: int
    edge_bps: Decimal
    verdict: str
    detail: str
    cloid: str | None
    inputs: Mapping[str, object] = field(factory=dict)
    trail: Mapping[str, object] = field(factory=dict)


@frozen
class FollowUpRecord:
    """How the edge of a signal stood `after_ms` later, traded or not (DET-5); None where the market had no data."""

    signal_id: str
    after_ms: int
    at_ms: int
    edge_bps: Decimal | None


@frozen
class Transition:
    """One row of the audit log: a machine changed its state, or an operator or a task decided something (STO-3).

    `category` is the machine (order, post, position, ready, safety, connection, lifecycle) or operator, reconcile, recovery;
    `entity_id` which one of it. The writer adds run, configuration hash and the chain.
    """

    at_ms: int
    category: str
    entity_id: str
    from_state: str
    to_state: str
    reason_code: str
    reason_message: str = ""
    event_id: str = ""
    metadata: Mapping[str, object] = field(factory=dict)


@frozen
class StateRecord:
    """A value that the next run of the account goes on from: nonce, cursor, causes, counters. None takes it away."""

    key: str
    value: str | None
    at_ms: int


@frozen
class ProcessedRecord:
    """An event of the venue whose effects are in the same commit (REC-2)."""

    event_key: str
    time_ms: int
    at_ms: int


@frozen
class IncidentRecord:
    """Something an operator must look at: opened, and closed by the same id. `evidence` belongs to this incident alone."""

    incident_id: str
    code: str
    opened_ms: int
    message: str
    closed_ms: int | None = None
    evidence: Mapping[str, object] = field(factory=dict)


Record = (
    IntentRecord
    | ResultRecord
    | FillRecord
    | TradeRecord
    | SignalRecord
    | FollowUpRecord
    | Transition
    | StateRecord
    | ProcessedRecord
    | IncidentRecord
)


class StorageUnavailable(Exception):
    """Records could not be made durable: what was tried, what the system said, and what to do."""


class Recorder(Protocol):
    """Takes records in order. Nothing here waits for a database."""

    def put(self, record: Record) -> None:
        """Joins the commit that comes next. Never raises; costs about a microsecond."""
        ...

    def commit(self, *, more: bool = False) -> None:
        """Makes everything put since the last commit survive the process, as one whole. Raises StorageUnavailable.

        With `more` another commit follows in the same step, and what need not be done before it may wait for it.
        """
        ...


class MemoryRecorder:
    """Keeps commits in a list: for simulations, where the process that must not lose them is the test itself.

    `fails` is the trouble that the next commits meet; while it is set nothing is kept and what was put stays waiting.
    `on_commit` sees each commit; with `keeps` False nothing is kept after that.
    """

    def __init__(self, on_commit: Callable[[tuple[Record, ...]], None] = lambda _: None, *, keeps: bool = True) -> None:
        self.commits: list[tuple[Record, ...]] = []
        self.fails: str | None = None
        self.on_commit = on_commit
        self.keeps = keeps
        self._waiting: list[Record] = []

    @property
    def records(self) -> list[Record]:
        """Everything committed, in order."""
        return [record for commit in self.commits for record in commit]

    def put(self, record: Record) -> None:
        """Waits for the next commit."""
        self._waiting.append(record)

    def commit(self, *, more: bool = False) -> None:  # noqa: ARG002 - it puts nothing off
        """Keeps what waits. Raises StorageUnavailable while `fails` is set."""
        if self.fails is not None:
            raise StorageUnavailable(self.fails)
        if self._waiting:
            commit = tuple(self._waiting)
            self._waiting.clear()
            if self.keeps:
                self.commits.append(commit)
            self.on_commit(commit)


class NoRecorder:
    """Keeps nothing: observation without a store, and tests of parts that are about something else."""

    def put(self, record: Record) -> None:
        """Forgets it."""

    def commit(self, *, more: bool = False) -> None:
        """Has nothing to do."""
