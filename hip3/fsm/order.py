"""Order lifecycle (ORD-1).

The venue gives no order between a post's answer, `orderUpdates` and `userFills`, and an IOC may end without any frame at
all. So every event is legal in every state that it can reach, terminal states stay terminal, and quantities are kept
beside the state: they come from fills only. A time-out is doubt, not failure; doubt ends by proof, never by resending an
entry.
"""

from __future__ import annotations

import enum

from hip3.fsm.table import Ignore, Row, Table


class OrderState(enum.Enum):
    PENDING = "queued here; no byte has left"
    SENT = "its bytes are with the socket; no answer yet"
    OPEN = "the venue has it"
    PARTIALLY_FILLED = "part of it was executed and the rest may still live"
    UNKNOWN = "in doubt: it may or may not be at the venue"
    FILLED = "executed, an IOC perhaps in part; nothing of it rests"
    CANCELED = "ended; a part may have been executed, or it was never sent"
    REJECTED = "the venue refused it"
    EXPIRED = "proved that it was not admitted and cannot be any more"


class OrderEvent(enum.Enum):
    SEND = "bytes handed to the socket"
    UNSENT = "the hand-over failed before any byte"
    DROP = "taken out of the queue, or failed before any byte left"
    ACK = "the venue lists it as open"
    FILL_PART = "a fill that leaves some of it"
    FILL_ALL = "a fill that completes it"
    SETTLE = "the venue says filled; an IOC's rest is gone"
    CANCEL = "the venue says canceled"
    REJECT = "the venue says refused"
    DOUBT = "no answer in time, or the link broke after sending"
    ABSENT = "absence proved: neither status nor fills know it, and it cannot come any more"


TERMINAL = frozenset({OrderState.FILLED, OrderState.CANCELED, OrderState.REJECTED, OrderState.EXPIRED})

_S, _E = OrderState, OrderEvent
_ENDED = tuple(sorted(TERMINAL, key=lambda s: s.name))

ORDER_TABLE: Table[OrderState, OrderEvent] = Table(
    "order",
    initial=_S.PENDING,
    terminal=TERMINAL,
    rows=[
        Row(_E.SEND, _S.PENDING, _S.SENT, "the executor handed its bytes to the socket"),
        Row(_E.DROP, _S.PENDING, _S.CANCELED, "a stop or HALT; an entry also where storage or socket refuse it"),
        Row(_E.DOUBT, _S.PENDING, _S.UNKNOWN, "the socket failed while its bytes were being handed over"),
        Row(_E.UNSENT, _S.SENT, _S.PENDING, "no byte of it left: it is as it was before"),
        Row(_E.ACK, _S.SENT, _S.OPEN, "it rests"),
        Row(_E.FILL_PART, _S.SENT, _S.PARTIALLY_FILLED, "a fill may come before the answer"),
        Row(_E.FILL_ALL, _S.SENT, _S.FILLED, "a fill may come before the answer"),
        Row(_E.SETTLE, _S.SENT, _S.FILLED, "the post's answer settles an IOC without any frame"),
        Row(_E.CANCEL, _S.SENT, _S.CANCELED, "cancelled before we saw it rest"),
        Row(_E.REJECT, _S.SENT, _S.REJECTED, "refused by the answer or by a reject frame"),
        Row(_E.DOUBT, _S.SENT, _S.UNKNOWN, "no answer is not 'not sent'"),
        Row(_E.FILL_PART, _S.OPEN, _S.PARTIALLY_FILLED, "it was hit"),
        Row(_E.FILL_ALL, _S.OPEN, _S.FILLED, "it was hit whole"),
        Row(_E.SETTLE, _S.OPEN, _S.FILLED, "status may come before its fills"),
        Row(_E.CANCEL, _S.OPEN, _S.CANCELED, "cancelled by us or by the venue"),
        Row(_E.REJECT, _S.OPEN, _S.REJECTED, "an IOC is shown open, then refused for want of a match"),
        Row(_E.DOUBT, _S.OPEN, _S.UNKNOWN, "its end may have been in the frames that were lost"),
        Row(_E.FILL_ALL, _S.PARTIALLY_FILLED, _S.FILLED, "the last part"),
        Row(_E.SETTLE, _S.PARTIALLY_FILLED, _S.FILLED, "an IOC's rest is gone"),
        Row(_E.CANCEL, _S.PARTIALLY_FILLED, _S.CANCELED, "the rest was cancelled"),
        Row(_E.REJECT, _S.PARTIALLY_FILLED, _S.CANCELED, "what was executed stands; only the rest was refused"),
        Row(_E.DOUBT, _S.PARTIALLY_FILLED, _S.UNKNOWN, "its end may have been in the frames that were lost"),
        Row(_E.SEND, _S.UNKNOWN, _S.SENT, "executed twice it only reduces", "reduce-only; a new order is never sent again"),
        Row(_E.ACK, _S.UNKNOWN, _S.OPEN, "open is an answer"),
        Row(_E.FILL_PART, _S.UNKNOWN, _S.PARTIALLY_FILLED, "a fill proves that it was admitted"),
        Row(_E.FILL_ALL, _S.UNKNOWN, _S.FILLED, "a fill proves that it was admitted"),
        Row(_E.SETTLE, _S.UNKNOWN, _S.FILLED, "proved by status"),
        Row(_E.CANCEL, _S.UNKNOWN, _S.CANCELED, "proved by status"),
        Row(_E.REJECT, _S.UNKNOWN, _S.REJECTED, "proved by status or by a late answer"),
        Row(
            _E.ABSENT,
            _S.UNKNOWN,
            _S.EXPIRED,
            "it can no longer be admitted",
            "no status and no fill after expiresAfter and a margin, or its nonce was burned",
        ),
    ],
    ignored=[
        Ignore(_E.ACK, (_S.OPEN, _S.PARTIALLY_FILLED, *_ENDED), "old news"),
        Ignore(_E.FILL_PART, (_S.PARTIALLY_FILLED,), "another part; the quantity is beside the state"),
        *(
            Ignore(event, ends, why)
            for ends, why in (
                ((_S.CANCELED, _S.FILLED), "a late fill moves the position and is counted; the order stays ended"),
                ((_S.EXPIRED, _S.REJECTED), "it moves the position and contradicts that end: the account is read at once"),
            )
            for event in (_E.FILL_PART, _E.FILL_ALL)
        ),
        Ignore(_E.SETTLE, _ENDED, "answer and frame say it twice"),
        Ignore(_E.CANCEL, _ENDED, "answer and frame say it twice"),
        Ignore(_E.REJECT, _ENDED, "answer and frame say it twice"),
        Ignore(_E.DOUBT, (_S.UNKNOWN, *_ENDED), "nothing is less certain than before"),
        Ignore(_E.ABSENT, _ENDED, "its end is known already"),
        Ignore(_E.DROP, _ENDED, "it is out of the queue already"),
    ],
    refused_why="the order cannot be there. Said by the venue, it is doubt: the venue is asked; by our own path, a defect",
)
