"""Safety mode (SAFE-1): computed from the causes that hold; this table says which changes are possible and why.

HALT never leads straight to ARMED_LIVE: whoever ends a HALT stands in ARMED_SAFE first. An event is a change of the causes,
found by whoever changes them; the table says what the change does to the mode.
"""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class SafetyMode(enum.Enum):
    ARMED_SAFE = "reduce-only and cancels"
    ARMED_LIVE = "everything that passes the gates"
    HALT = "only the halt procedure, and the flatten of a stop or of an operator"


class SafetyEvent(enum.Enum):
    PROMOTE = "promotion was granted, or the last passing cause of a promoted bot ended"
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
            "nothing in force but what this promotion ends; READY-TRADING and reconciled books",
        ),
        Row(_E.HOLD, _S.ARMED_LIVE, _S.ARMED_SAFE, "entries stop; exits and cancels go on"),
        Row(_E.HALT, _S.ARMED_SAFE, _S.HALT, "flatten, then wait for the operator or for STOP-4"),
        Row(_E.HALT, _S.ARMED_LIVE, _S.HALT, "flatten, then wait for the operator or for STOP-4"),
        Row(
            _E.RELEASE,
            _S.HALT,
            _S.ARMED_SAFE,
            "a HALT is left towards safe, never straight to live",
            "no HALT cause holds still; certified flat since the last one, or the operator accepts what is left",
        ),
    ],
    ignored=[
        Ignore(_E.HOLD, (_S.ARMED_SAFE, _S.HALT), "already as strict; the cause is added"),
        Ignore(_E.HALT, (_S.HALT,), "already halted; the cause is added"),
        Ignore(_E.RELEASE, (_S.ARMED_SAFE, _S.ARMED_LIVE), "no HALT holds"),
        Ignore(_E.PROMOTE, (_S.ARMED_LIVE,), "already live"),
    ],
    refused_why="nothing loosens a mode except the clearing of every cause that holds it",
)
