"""Order statuses of the venue: what each one means for us. The set is open; new ones ship unannounced (PROTOCOL 7.1).

A status is looked up in the table first and judged by its suffix second. What neither knows is UNKNOWN, which the caller
counts, reports and resolves by query; nothing here raises (TYP-5).
"""

from __future__ import annotations

import enum


class StatusClass(enum.Enum):
    """What a status says about an order. CANCELED and REJECTED are terminal but say nothing about earlier fills.

    FILLED does not mean completely: an IOC that was filled in part ends as `filled` too (PROTOCOL 7.1).
    """

    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        return self in {StatusClass.FILLED, StatusClass.CANCELED, StatusClass.REJECTED}


_TABLE = {
    "open": StatusClass.OPEN,
    "triggered": StatusClass.OPEN,
    "filled": StatusClass.FILLED,
    "canceled": StatusClass.CANCELED,
    "rejected": StatusClass.REJECTED,
}
# Every other documented status has one of these endings: scheduledCancel, internalCancel, marginCanceled, tickRejected …
_SUFFIXES = (
    ("Rejected", StatusClass.REJECTED),
    ("Canceled", StatusClass.CANCELED),
    ("Cancel", StatusClass.CANCELED),
)


def classify_status(status: str) -> StatusClass:
    """The class of an order status, by table and then by suffix."""
    known = _TABLE.get(status)
    if known is not None:
        return known
    for suffix, meaning in _SUFFIXES:
        if status.endswith(suffix):
            return meaning
    return StatusClass.UNKNOWN
