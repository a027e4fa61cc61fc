"""Execution events: what the position task and the executor tell the risk task (POS-2)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from hip3.core.consequences import Closed, Corrected, Filled, OrderRejected
from hip3.core.orders import CancelIntent, OrderIntent


@frozen
class ActionSent:
    """An action's bytes were handed to the socket: the coins of its orders and cancels, once for each."""

    orders: tuple[str, ...]
    cancels: tuple[str, ...]

    @classmethod
    def of(cls, orders: Iterable[OrderIntent], cancels: Iterable[CancelIntent]) -> ActionSent:
        return cls(tuple(o.coin for o in orders), tuple(c.spec.key.coin for c in cancels))


@frozen
class FlattenFailed:
    """A position is still there after `reduce_only_timeout_ms`; closing goes on."""

    coin: str
    szi: Decimal
    age_ms: int


@frozen
class SendFailed:
    """An entry could not be sent, or was sent and got no answer."""

    coin: str
    cloid: str
    why: str
    signal_id: str | None = None


@frozen
class SlippageMeasured:
    """A trade whose signal is known has ended: expected less actual edge in bps (JRN-1), positive where it cost us.

    `at_ms` is the venue's time of the last fill.
    """

    coin: str
    slippage_bps: Decimal
    signal_id: str | None
    at_ms: int


ExecutionEvent = Filled | Closed | Corrected | OrderRejected | ActionSent | FlattenFailed | SendFailed | SlippageMeasured


class EventSink(Protocol):
    """Where execution events go: judged in the step of the sender, so that a limit holds before anything else happens."""

    def put(self, event: ExecutionEvent) -> None:
        """Raises ChannelFull where the events cannot be kept for the log."""
        ...
