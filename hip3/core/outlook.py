"""What happened to each signal: the last verdicts, and the counts that the operator sees (OBS-1, DET-5)."""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal

from attrs import define, field

from hip3.core.detector import Signal, edge_bps
from hip3.core.gates import Verdict
from hip3.core.market import MarketState

FOLLOW_UP_MS = (1000, 3000, 5000)  # DET-5
KEPT_SIGNALS = 500


def signal_fields(signal: Signal) -> dict[str, object]:
    """What the journal says of a signal: enough to see why it was one."""
    return {
        "signal": signal.id,
        "coin": signal.coin,
        "side": signal.side.name,
        "px": signal.px,
        "sz": signal.sz,
        "reference_px": signal.reference_px,
        "edge_bps": signal.edge_bps,
        "cost_bps": signal.cost_bps,
        "bbo_age_ms": signal.bbo_age_ms,
        "ctx_age_ms": signal.ctx_age_ms,
    }


@define
class SignalRecord:
    """One signal, its verdict, and how its edge decayed after 1, 3 and 5 seconds (None: no price then)."""

    signal: Signal
    verdict: Verdict | None = None
    follow_ups: dict[int, Decimal | None] = field(factory=dict)


@define
class SignalBook:
    """Signals of this run, newest last, with counts per verdict."""

    records: deque[SignalRecord] = field(factory=lambda: deque(maxlen=KEPT_SIGNALS))
    count: int = 0
    verdicts: Counter[str] = field(factory=Counter)
    last_by_coin: dict[str, SignalRecord] = field(factory=dict)
    count_by_coin: Counter[str] = field(factory=Counter)
    _open: deque[SignalRecord] = field(factory=deque)

    def add(self, signal: Signal) -> SignalRecord:
        record = SignalRecord(signal)
        self.records.append(record)
        self._open.append(record)
        self.last_by_coin[signal.coin] = record
        self.count += 1
        self.count_by_coin[signal.coin] += 1
        return record

    def judged(self, signal: Signal, verdict: Verdict) -> None:
        """Records what the gates said. A signal that a newer one replaced never reaches them."""
        self.verdicts[str(verdict)] += 1
        record = next((r for r in reversed(self.records) if r.signal.id == signal.id), None)
        if record is not None:
            record.verdict = verdict

    def follow_up(self, markets: dict[str, MarketState], mono_ms: int) -> list[tuple[SignalRecord, int, Decimal | None]]:
        """Takes the follow-ups that are due now: the edge left at the touch against the present reference, in bps."""
        due: list[tuple[SignalRecord, int, Decimal | None]] = []
        for record in self._open:
            age = mono_ms - record.signal.detected_mono_ms
            for after in FOLLOW_UP_MS:
                if age < after or after in record.follow_ups:
                    continue
                market = markets[record.signal.coin]
                px, reference = market.touch(record.signal.side), market.reference_px
                edge = edge_bps(record.signal.side, px, reference) if px and reference else None
                record.follow_ups[after] = edge
                due.append((record, after, edge))
        while self._open and len(self._open[0].follow_ups) == len(FOLLOW_UP_MS):
            self._open.popleft()
        return due
