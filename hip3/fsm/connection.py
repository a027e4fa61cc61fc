"""One link to the venue (WS-1). Any state falls to BACKOFF; a link that is being stopped goes DOWN and stays there."""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class ConnectionState(enum.Enum):
    DOWN = "not wanted"
    DIALING = "opening the socket"
    SUBSCRIBING = "open; acks are awaited"
    SYNCING = "subscribed; state is being read"
    READY = "live"
    BACKOFF = "waiting before the next attempt"


class ConnectionEvent(enum.Enum):
    DIAL = "a connection is wanted"
    CONNECTED = "the handshake is done"
    SUBSCRIBED = "every ack has come"
    SYNCED = "state was read"
    LOST = "failed, closed or silent"
    STOP = "no longer wanted"


_S, _E = ConnectionState, ConnectionEvent
_LIVE = (_S.DIALING, _S.SUBSCRIBING, _S.SYNCING, _S.READY)

CONNECTION_TABLE: Table[ConnectionState, ConnectionEvent] = Table(
    "connection",
    initial=_S.DOWN,
    terminal=(),
    rows=[
        Row(_E.DIAL, _S.DOWN, _S.DIALING, "first attempt"),
        Row(_E.DIAL, _S.BACKOFF, _S.DIALING, "the wait is over"),
        Row(_E.CONNECTED, _S.DIALING, _S.SUBSCRIBING, "every subscription is renewed"),
        Row(_E.SUBSCRIBED, _S.SUBSCRIBING, _S.SYNCING, "gaps are filled over REST"),
        Row(_E.SYNCED, _S.SYNCING, _S.READY, "nothing is older than the connection"),
        *(Row(_E.LOST, s, _S.BACKOFF, "reconnects are routine on this venue") for s in _LIVE),
        *(Row(_E.STOP, s, _S.DOWN, "shutdown") for s in (*_LIVE, _S.BACKOFF)),
    ],
    ignored=[
        Ignore(_E.LOST, (_S.DOWN, _S.BACKOFF), "already gone"),
        Ignore(_E.STOP, (_S.DOWN,), "already down"),
        Ignore(_E.SYNCED, (_S.READY,), "read again"),
    ],
    refused_why="steps of a session come in order",
)
