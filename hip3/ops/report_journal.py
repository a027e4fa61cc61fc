"""The records of a run out of its journal, for `hip3 report` where no store holds them. Reads journals and nothing else.

A journal is written for people: its times of fills are ours, it is bounded, and only the last runs are kept. What follows
from that is said in the report's notes (JRN-3). A line that lacks a field it should have is counted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, DecimalException
from pathlib import Path

from attrs import define, field

from hip3.core.missed import Away
from hip3.core.records import (
    NOT_JUDGED,
    REPLACED,
    FollowUpRecord,
    IntentRecord,
    ResultRecord,
    SignalRecord,
    TradeRecord,
    Transition,
)
from hip3.fsm.order import OrderState
from hip3.fsm.position import PositionEvent, PositionState
from hip3.ops.journal_file import FIRST_EVENT, entries
from hip3.ops.story import Entry, wall_ms

_ENDS = {"order_filled", "order_canceled", "order_rejected", "order_expired"}


@define
class RunRecords:
    """What one run's journal says, as records. `network`, `account` and `time_stop_ms` as the run said them at its start."""

    path: Path
    run: str = ""
    network: str = ""
    account: str = ""
    time_stop_ms: int | None = None
    trades: list[TradeRecord] = field(factory=list)
    signals: list[SignalRecord] = field(factory=list)
    follow_ups: list[FollowUpRecord] = field(factory=list)
    intents: list[IntentRecord] = field(factory=list)
    results: list[ResultRecord] = field(factory=list)
    transitions: list[Transition] = field(factory=list)
    away: list[Away] = field(factory=list)
    is_cut: bool = False
    """The journal outgrew its bound: its beginning is gone."""
    unread: int = 0
    """Lines that lack what they should have."""
    unjudged: dict[str, Entry] = field(factory=dict)
    queued: dict[str, Entry] = field(factory=dict)
    """The line that queued an order, by cloid."""

    @property
    def is_empty(self) -> bool:
        return not (self.trades or self.signals or self.intents)


def read_runs(path: Path) -> Iterator[RunRecords]:
    """The runs of one journal, in order; a file given by --log may hold several. Raises OSError."""
    records = RunRecords(path)
    for entry in entries(path):
        if entry.get("event") == FIRST_EVENT and (records.run or not records.is_empty):
            yield _finished(records)
            records = RunRecords(path)
        take = _TAKES.get(str(entry.get("event")))
        if take is None:
            continue
        try:
            take(records, entry)
        except (KeyError, ValueError, DecimalException):
            records.unread += 1
    yield _finished(records)


def _finished(records: RunRecords) -> RunRecords:
    """Signals that no gate was asked about (observation, or the journal ends there) are signals not traded all the same."""
    records.signals += [_signal_record(e, NOT_JUDGED, "", None) for e in records.unjudged.values()]
    records.unjudged.clear()
    return records


def _started(records: RunRecords, e: Entry) -> None:
    records.run = str(e["run"])


def _network(records: RunRecords, e: Entry) -> None:
    records.network = str(e["network"])


def _account(records: RunRecords, e: Entry) -> None:
    records.account = str(e["account"]).lower()


def _guards(records: RunRecords, e: Entry) -> None:
    records.time_stop_ms = int(str(e["time_stop_ms"]))


def _turned(records: RunRecords, e: Entry) -> None:
    records.is_cut = records.is_cut or e.get("dropped_older") is True


def _recovered(records: RunRecords, e: Entry) -> None:
    if e.get("alive_ms") is not None and e.get("ended_flat") is not True:
        records.away.append(Away(int(str(e["alive_ms"])), wall_ms(e)))


def _signal(records: RunRecords, e: Entry) -> None:
    """Waits for the word of the gates. A line that makes no record is refused here."""
    records.unjudged[_signal_record(e, NOT_JUDGED, "", None).signal_id] = e


def _judged(records: RunRecords, e: Entry) -> None:
    """A signal is a record once the gates have spoken."""
    seen = records.unjudged.pop(str(e["signal"]), None)
    if seen is None:  # its own line went with the journal's beginning
        raise KeyError(e["signal"])
    verdict, detail = str(e["verdict"]), str(e.get("detail", ""))
    accepted = detail if detail.startswith("0x") else None
    records.signals.append(_signal_record(seen, verdict, detail, accepted))


def _replaced(records: RunRecords, e: Entry) -> None:
    seen = records.unjudged.pop(str(e["signal"]), None)
    if seen is not None:
        records.signals.append(_signal_record(seen, REPLACED, f"by {e.get('by')}", None))


def _signal_record(e: Entry, verdict: str, detail: str, cloid: str | None) -> SignalRecord:
    edge = _number(e["edge_bps"])
    return SignalRecord(str(e["signal"]), str(e["coin"]), str(e["side"]), wall_ms(e), edge, verdict, detail, cloid)


def _follow_up(records: RunRecords, e: Entry) -> None:
    edge = e.get("edge_bps")
    after = int(str(e["after_ms"]))
    records.follow_ups.append(FollowUpRecord(str(e["signal"]), after, wall_ms(e), None if edge is None else _number(edge)))


def _queued(records: RunRecords, e: Entry) -> None:
    records.queued[str(e["cloid"])] = e


def _sent(records: RunRecords, e: Entry) -> None:
    """An order is a record when its bytes leave; which kind it is, the line that queued it says."""
    cloid = str(e["cloid"])
    queued = records.queued[cloid]
    trigger = queued.get("trigger_px")
    records.intents.append(
        IntentRecord(
            cloid=cloid,
            coin=str(e["coin"]),
            asset=0,
            side=str(e["side"]),
            sz=_number(e["sz"]),
            px=_number(e["px"]),
            tif="",
            reduce_only=queued["event"] != "order_enqueued",
            nonce=0,
            created_ms=wall_ms(queued),
            sent_ms=wall_ms(e),
            signal_id=None if queued.get("signal") is None else str(queued["signal"]),
            trigger_px=None if trigger is None else _number(trigger),
        )
    )


def _ended(records: RunRecords, e: Entry) -> None:
    state = OrderState[str(e["event"]).removeprefix("order_").upper()]
    filled = _number(e.get("filled", "0"))
    records.results.append(ResultRecord(str(e["cloid"]), state.name, wall_ms(e), True, filled_sz=filled))


def _doubted(records: RunRecords, e: Entry) -> None:
    if str(e["subject"]).startswith("0x"):
        records.results.append(ResultRecord(str(e["subject"]), OrderState.UNKNOWN.name, wall_ms(e), False))


def _overdue(records: RunRecords, e: Entry) -> None:
    after = PositionState.FLATTEN_FAILED.name
    records.transitions.append(
        Transition(wall_ms(e), "position", str(e["coin"]), PositionState.CLOSING.name, after, PositionEvent.OVERDUE.name)
    )


def _closed(records: RunRecords, e: Entry) -> None:
    fees, funding = _number(e["fees_usd"]), _number(e.get("funding_usd", 0))
    expected, exit_ms = e.get("expected_edge_bps"), wall_ms(e)
    records.trades.append(
        TradeRecord(
            coin=str(e["coin"]),
            side=str(e["side"]),
            sz=_number(e["sz"]),
            entry_px=_number(e["entry_px"]),
            exit_px=_number(e["exit_px"]),
            entry_ms=exit_ms - int(str(e["holding_ms"])),
            exit_ms=exit_ms,
            realized_usd=_number(e["pnl_usd"]) + fees - funding,
            fees_usd=fees,
            funding_usd=funding,
            exit_reason=str(e["exit_reason"]),
            signal_id=None if e.get("signal") is None else str(e["signal"]),
            expected_edge_bps=None if expected is None else _number(expected),
            actual_edge_bps=_number(e["actual_edge_bps"]),
        )
    )


def _number(value: object) -> Decimal:
    """A decimal of the journal. Raises ValueError for text that is none, NaN and infinity included."""
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError(f"a finite number is expected, got {value}")
    return number


_TAKES: Mapping[str, Callable[[RunRecords, Entry], None]] = {
    "run_started": _started,
    "network": _network,
    "signer_address": _account,
    "safety_guards": _guards,
    "journal_turned": _turned,
    "recovered": _recovered,
    "signal": _signal,
    "signal_judged": _judged,
    "signal_replaced": _replaced,
    "follow_up": _follow_up,
    "order_enqueued": _queued,
    "reduce_only_enqueued": _queued,
    "stop_enqueued": _queued,
    "order_sent": _sent,
    "in_doubt": _doubted,
    "flatten_failed": _overdue,
    "position_closed": _closed,
    **dict.fromkeys(_ENDS, _ended),
}
"""What is read of each event; the rest of a journal is for people."""
