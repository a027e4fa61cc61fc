"""Safety mode (SAFE-1): computed from the causes that hold; this table says which changes are possible and why.

HALT never leads straight to ARMED_LIVE: whoever ends a HALT stands in ARMED_SAFE first.
"""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class SafetyMode(enum.Enum):
    ARMED_SAFE = "reduce-only and cancels"
    ARMED_LIVE = "everything"
    HALT = "only the halt procedure and the operator's flatten"


class SafetyEvent(enum.Enum):
    PROMOTE = "no cause holds and promotion was granted"
    HOLD = "a cause that forbids entries came"
    HALT = "a cause that ends trading came"
    RELEASE = "the last HALT cause was cleared"


_S, _E = SafetyMode, SafetyEvent

SAFETY_TABLE: Table[SafetyMode, SafetyEvent] = Table(
    "safety",
    initial=_S.ARMED_SAFE,
    terminal=(),
    rows=[
        Row(
            _E.PROMOTE,
            _S.ARMED_SAFE,
            _S.ARMED_LIVE,
            "entries leave from here on, and from nowhere else",
            "READY-TRADING, books reconciled, no other cause in force",
        ),
        Row(_E.HOLD, _S.ARMED_LIVE, _S.ARMED_SAFE, "entries stop; exits and cancels go on"),
        Row(_E.HALT, _S.ARMED_SAFE, _S.HALT, "flatten and wait for the operator"),
        Row(_E.HALT, _S.ARMED_LIVE, _S.HALT, "flatten and wait for the operator"),
        Row(
            _E.RELEASE,
            _S.HALT,
            _S.ARMED_SAFE,
            "a HALT is left towards safe, never straight to live",
            "no HALT cause holds still, and the account is certified flat or its residue accepted",
        ),
    ],
    ignored=[
        Ignore(_E.HOLD, (_S.ARMED_SAFE, _S.HALT), "already as strict"),
        Ignore(_E.HALT, (_S.HALT,), "already halted; the cause is added"),
        Ignore(_E.RELEASE, (_S.ARMED_SAFE, _S.ARMED_LIVE), "no HALT holds"),
        Ignore(_E.PROMOTE, (_S.ARMED_LIVE,), "already live"),
    ],
    refused_why="nothing loosens a mode except the clearing of every cause that holds it",
)
