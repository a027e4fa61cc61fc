"""One market's position and its flatten (EXIT-3). At most one closing order is in flight, whatever the number of reasons."""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class PositionState(enum.Enum):
    FLAT = "our books show no position"
    OPENING = "an entry is in flight"
    OPEN = "a position is held"
    CLOSING = "one closing order is in flight"
    FLATTEN_FAILED = "held for longer than position.reduce_only_timeout_ms; it keeps trying and says so"


class PositionEvent(enum.Enum):
    ENTRY_PLACED = "an entry was registered"
    ENTRY_ENDED = "the entry ended and nothing is held"
    HOLDS = "the size is not zero"
    WENT_FLAT = "the size is zero"
    CLOSE_PLACED = "a closing order was registered"
    CLOSE_ENDED = "the closing order ended and something is left"
    OVERDUE = "it should have been flat by now"


_S, _E = PositionState, PositionEvent

POSITION_TABLE: Table[PositionState, PositionEvent] = Table(
    "position",
    initial=_S.FLAT,
    terminal=(),
    rows=[
        Row(_E.ENTRY_PLACED, _S.FLAT, _S.OPENING, "the one entry of this market"),
        Row(_E.HOLDS, _S.FLAT, _S.OPEN, "found at the venue, or a late fill"),
        Row(_E.ENTRY_ENDED, _S.OPENING, _S.FLAT, "refused, cancelled or absent"),
        Row(_E.HOLDS, _S.OPENING, _S.OPEN, "the first fill"),
        Row(
            _E.WENT_FLAT,
            _S.OPENING,
            _S.FLAT,
            "filled and closed again before we looked; while the entry is pending, no other",
        ),
        Row(_E.CLOSE_PLACED, _S.OPEN, _S.CLOSING, "some exit wants it flat"),
        Row(_E.WENT_FLAT, _S.OPEN, _S.FLAT, "closed by someone else: liquidation, settlement, the operator"),
        Row(_E.OVERDUE, _S.OPEN, _S.FLATTEN_FAILED, "said loudly; closing goes on"),
        Row(_E.CLOSE_ENDED, _S.CLOSING, _S.OPEN, "refused or partial: the next attempt takes a fresh price"),
        Row(_E.WENT_FLAT, _S.CLOSING, _S.FLAT, "done"),
        Row(_E.OVERDUE, _S.CLOSING, _S.FLATTEN_FAILED, "said loudly; closing goes on"),
        Row(_E.WENT_FLAT, _S.FLATTEN_FAILED, _S.FLAT, "late, but done"),
    ],
    ignored=[
        Ignore(_E.ENTRY_PLACED, (_S.OPEN, _S.CLOSING, _S.FLATTEN_FAILED), "a late registration; the holding rules"),
        Ignore(_E.ENTRY_ENDED, (_S.FLAT, _S.OPEN, _S.CLOSING, _S.FLATTEN_FAILED), "what it filled is held already"),
        Ignore(_E.HOLDS, (_S.OPEN, _S.CLOSING, _S.FLATTEN_FAILED), "the size changed; it is beside the state"),
        Ignore(_E.WENT_FLAT, (_S.FLAT,), "still flat"),
        Ignore(_E.CLOSE_PLACED, (_S.FLATTEN_FAILED,), "it keeps trying"),
        Ignore(_E.CLOSE_ENDED, (_S.FLAT, _S.OPEN, _S.FLATTEN_FAILED), "the fill came before the end of its order"),
        Ignore(_E.OVERDUE, (_S.FLAT, _S.OPENING, _S.FLATTEN_FAILED), "nothing held, or said already"),
    ],
    refused_why="a closing order without a position to close, or a second one in flight: a defect of our own path",
)
