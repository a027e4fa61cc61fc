"""Life of one post, the request that carries one signed action (POST-1).

What became of its orders is the order machine's business: a post only says whether bytes left and whether an answer came.
"""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class PostState(enum.Enum):
    REGISTERED = "signed and recorded; no byte has left"
    SENT = "bytes were handed to the socket"
    ACCEPTED = "answered; each order's own status is inside"
    REJECTED = "the whole action was refused"
    TIMED_OUT = "no answer before the deadline; its orders are in doubt"
    DISCONNECTED = "the link broke before an answer; its orders are in doubt"
    SEND_ERROR = "no byte left; its orders are PENDING again (closing) or dropped (entries)"


class PostEvent(enum.Enum):
    HANDED_OVER = "the socket took the bytes"
    SEND_FAILED = "the socket was dead before any byte"
    ANSWERED = "an answer that was processed"
    REFUSED = "an answer that refuses the action"
    DEADLINE = "the deadline passed"
    LINK_LOST = "the link broke"


_S, _E = PostState, PostEvent
POST_TERMINAL = frozenset({_S.ACCEPTED, _S.REJECTED, _S.TIMED_OUT, _S.DISCONNECTED, _S.SEND_ERROR})
_ENDED = tuple(sorted(POST_TERMINAL, key=lambda s: s.name))

POST_TABLE: Table[PostState, PostEvent] = Table(
    "post",
    initial=_S.REGISTERED,
    terminal=POST_TERMINAL,
    rows=[
        Row(_E.HANDED_OVER, _S.REGISTERED, _S.SENT, "counted as in flight from here"),
        Row(_E.SEND_FAILED, _S.REGISTERED, _S.SEND_ERROR, "nothing left, so nothing is in doubt"),
        Row(
            _E.DEADLINE,
            _S.REGISTERED,
            _S.TIMED_OUT,
            "the socket did not take all of it in time; whether any of it left is not known",
        ),
        Row(_E.LINK_LOST, _S.REGISTERED, _S.DISCONNECTED, "the link broke while it was being handed over"),
        Row(_E.ANSWERED, _S.SENT, _S.ACCEPTED, "statuses are read per order"),
        Row(_E.REFUSED, _S.SENT, _S.REJECTED, "nothing of it was executed"),
        Row(_E.DEADLINE, _S.SENT, _S.TIMED_OUT, "unanswered is not 'not executed'"),
        Row(_E.LINK_LOST, _S.SENT, _S.DISCONNECTED, "unanswered is not 'not executed'"),
    ],
    ignored=[
        Ignore(_E.HANDED_OVER, _ENDED, "the hand-over returned after the end was decided"),
        Ignore(_E.SEND_FAILED, _ENDED, "its end is decided"),
        Ignore(_E.ANSWERED, _ENDED, "a late answer still reaches the orders"),
        Ignore(_E.REFUSED, _ENDED, "a late answer still reaches the orders"),
        Ignore(_E.DEADLINE, _ENDED, "its end is decided"),
        Ignore(_E.LINK_LOST, _ENDED, "its end is decided"),
    ],
    refused_why="an answer to bytes that never left",
)
