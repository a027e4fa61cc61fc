"""READY-TRADING (RDY-1, RDY-2): whether the account's own picture is complete. Four conditions, counted beside the state."""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class ReadyState(enum.Enum):
    NOT_READY = "no live session"
    SYNCING = "a session lives; some condition is missing"
    READY = "all four conditions hold"


class ReadyEvent(enum.Enum):
    LINK_UP = "the session is subscribed"
    LINK_DOWN = "the session is gone"
    COMPLETE = "the last missing condition holds"
    LOST = "a condition no longer holds"


class Condition(enum.Enum):
    """The four conditions, by the names of the specification."""

    MD_READY = "md_ready"
    ORDER_SNAPSHOT = "order_snapshot"
    FILLS_SNAPSHOT = "fills_snapshot"
    POSITION_SYNCED = "position_synced"


_S, _E = ReadyState, ReadyEvent

READY_TABLE: Table[ReadyState, ReadyEvent] = Table(
    "ready",
    initial=_S.NOT_READY,
    terminal=(),
    rows=[
        Row(_E.LINK_UP, _S.NOT_READY, _S.SYNCING, "state is rebuilt from nothing after each connect"),
        Row(
            _E.COMPLETE,
            _S.SYNCING,
            _S.READY,
            "orders, fills, positions and market data agree",
            "md_ready, order_snapshot, fills_snapshot and position_synced hold",
        ),
        Row(_E.LINK_DOWN, _S.SYNCING, _S.NOT_READY, "what was read is stale"),
        Row(_E.LOST, _S.READY, _S.SYNCING, "entries stop until it holds again"),
        Row(_E.LINK_DOWN, _S.READY, _S.NOT_READY, "own events may have been missed"),
    ],
    ignored=[
        Ignore(_E.LINK_UP, (_S.SYNCING, _S.READY), "already up"),
        Ignore(_E.LINK_DOWN, (_S.NOT_READY,), "already down"),
        Ignore(_E.LOST, (_S.NOT_READY, _S.SYNCING), "it was not ready"),
        Ignore(_E.COMPLETE, (_S.READY,), "said again"),
    ],
    refused_why="conditions cannot be complete without a session",
)
