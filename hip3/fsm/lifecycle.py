"""The process from start to exit. Every way out leads through CANCELING and FLATTENING, and ends in one of two words."""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class LifecycleState(enum.Enum):
    BOOT = "configuration and key are being read"
    PREFLIGHT = "metadata, account and clock are being checked"
    SYNC = "tasks run; READY-TRADING is awaited"
    RUNNING = "READY-TRADING was reached once; the mode decides about trading"
    STOPPING = "entries have ended; posts in flight settle"
    CANCELING = "the orders that the venue lists are being cancelled, but stops of open positions"
    FLATTENING = "every position the venue lists is being closed, and what still rests cancelled"
    FLAT = "certified: the venue shows nothing"
    STOPPED = "ended: certified flat, or before anything was sent (then the venue was not asked)"
    STOPPED_EXPOSED = "ended with something left, listed, or with nothing proved"


class LifecycleEvent(enum.Enum):
    LOADED = "configuration and key are good"
    CHECKED = "the venue answered and agrees"
    READY = "first READY-TRADING"
    STOP = "signal, crash, limit or end of the given time"
    SETTLED = "no post is in flight, or the wait is over"
    CANCELED = "nothing else rests, or what could not be cancelled has held the closing up for a round"
    VERIFIED_FLAT = "the venue lists no order and no position"
    GAVE_UP = "second signal, or the deadline passed with something left"
    CLOSED = "services and sockets are closed"


_S, _E = LifecycleState, LifecycleEvent
_WAY_OUT = (_S.STOPPING, _S.CANCELING, _S.FLATTENING)

LIFECYCLE_TABLE: Table[LifecycleState, LifecycleEvent] = Table(
    "lifecycle",
    initial=_S.BOOT,
    terminal=(_S.STOPPED, _S.STOPPED_EXPOSED),
    rows=[
        Row(_E.LOADED, _S.BOOT, _S.PREFLIGHT, "nothing has been opened yet"),
        Row(_E.CHECKED, _S.PREFLIGHT, _S.SYNC, "markets, account and clock are known"),
        Row(_E.READY, _S.SYNC, _S.RUNNING, "orders, fills and positions agree"),
        Row(_E.STOP, _S.BOOT, _S.STOPPED, "nothing was sent; what an earlier run left is still there"),
        Row(_E.STOP, _S.PREFLIGHT, _S.STOPPED, "nothing was sent; what an earlier run left is still there"),
        Row(_E.STOP, _S.SYNC, _S.STOPPING, "an earlier run may have left something: the venue is asked"),
        Row(_E.STOP, _S.RUNNING, _S.STOPPING, "market data and entries end first"),
        Row(
            _E.SETTLED,
            _S.STOPPING,
            _S.CANCELING,
            "what was in flight is known, or will be by query",
            "no post in flight, or shutdown.settle_ms over",
        ),
        Row(_E.CANCELED, _S.CANCELING, _S.FLATTENING, "positions are what is left to do"),
        Row(
            _E.VERIFIED_FLAT,
            _S.FLATTENING,
            _S.FLAT,
            "said by the venue, per dex",
            "a certificate that says flat: every dex was asked after the last order, and lists nothing",
        ),
        *(
            Row(
                _E.GAVE_UP,
                s,
                _S.STOPPED_EXPOSED,
                "what is left is listed and the exit code says so",
                "a second signal, or shutdown.flatten_deadline_s over",
            )
            for s in _WAY_OUT
        ),
        Row(_E.CLOSED, _S.FLAT, _S.STOPPED, "the store is the last to close"),
    ],
    ignored=[
        Ignore(_E.STOP, (*_WAY_OUT, _S.FLAT, _S.STOPPED, _S.STOPPED_EXPOSED), "already on the way out"),
        Ignore(_E.READY, (_S.RUNNING, *_WAY_OUT, _S.FLAT), "READY comes and goes; the process goes on"),
        Ignore(_E.GAVE_UP, (_S.FLAT, _S.STOPPED, _S.STOPPED_EXPOSED), "nothing is left to give up"),
        Ignore(_E.CLOSED, (_S.STOPPED, _S.STOPPED_EXPOSED), "already ended"),
    ],
    refused_why="steps of a process come in order",
)
