"""What an answer to a post says about each of its orders (PROTOCOL 2.5, 4.2, 4.5; POST-2).

`status: ok` says only that the action was processed: statuses are read one by one. A single error, as a status or as the
whole answer, stands for every order of the batch. Everything that is not understood is IN_DOUBT for the orders it
concerns, never an exception and never a guess: IN_DOUBT is settled by query, a wrong REFUSED would free an order that lives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation

from hip3.core.events import PostResponse
from hip3.core.orders import OrderOutcome, OutcomeKind
from hip3.venue.hyperliquid.errors import excerpt
from hip3.venue.hyperliquid.refusals import RefusalReason, classify_error
from hip3.venue.hyperliquid.wire import number

_REFUSED_BEFORE_ADMISSION = frozenset({400, 415, 422})
"""HTTP statuses of a request that was never understood, so nothing of it ran and its nonce is unused (PROTOCOL 4.5)."""

_STATUS = re.compile(r"(?:http|status|code|error|\W)*([1-5]\d\d)\b", re.ASCII | re.IGNORECASE)
_ACCEPTED_WORDS = frozenset({"waitingForFill", "waitingForTrigger"})

Reader = Callable[[object], OrderOutcome]


def read_order_outcomes(payload: object, count: int) -> list[OrderOutcome]:
    """Outcomes of the `count` orders of one `order` action, in their order.

    `payload` is the decoded body of `/exchange`, or the payload of a WebSocket answer of kind `action`.
    """
    return _read(payload, count, _order_status)


def read_cancel_outcomes(payload: object, count: int) -> list[OrderOutcome]:
    """Outcomes of the `count` cancels of one action: CONFIRMED is cancelled, REFUSED was not there to cancel.

    The refusal does not tell filled from unknown (PROTOCOL 4.3); fills and order status do.
    """
    return _read(payload, count, _cancel_status)


def read_default_outcome(payload: object) -> OrderOutcome:
    """Outcome of an action that answers `default`: modify, noop, updateLeverage, scheduleCancel, updateIsolatedMargin."""
    match payload:
        case {"status": "ok", "response": {"type": "default"}}:
            return OrderOutcome(OutcomeKind.CONFIRMED)
    return _whole(payload)


def order_outcomes_of(response: PostResponse, count: int) -> list[OrderOutcome]:
    """As `read_order_outcomes`, for a WebSocket answer of any kind."""
    if response.kind == "action":
        return read_order_outcomes(response.payload, count)
    return [_transport_error(response)] * count


def cancel_outcomes_of(response: PostResponse, count: int) -> list[OrderOutcome]:
    """As `read_cancel_outcomes`, for a WebSocket answer of any kind."""
    if response.kind == "action":
        return read_cancel_outcomes(response.payload, count)
    return [_transport_error(response)] * count


def http_outcome(status: int, text: str) -> OrderOutcome:
    """What an HTTP status other than 200 says about every order of the request.

    400, 415 and 422 are answered before the nonce is looked at: REFUSED. A 429 may come after the request was processed
    (PROTOCOL 4.5), a 5xx says nothing at all: IN_DOUBT.
    """
    kind = OutcomeKind.REFUSED if status in _REFUSED_BEFORE_ADMISSION else OutcomeKind.IN_DOUBT
    return OrderOutcome(kind, error=f"HTTP {status}: {excerpt(text)}")


def _transport_error(response: PostResponse) -> OrderOutcome:
    """An answer of kind `error` mirrors HTTP status and text; the exact form is not documented (PROTOCOL 2.5)."""
    text = response.payload if isinstance(response.payload, str) else excerpt(response.payload)
    if response.kind != "error":
        return OrderOutcome(OutcomeKind.IN_DOUBT, error=f"answer of unexpected kind {excerpt(response.kind)}: {text}")
    status = _STATUS.match(text)
    if status is not None:
        return http_outcome(int(status[1]), text)
    # Without a number only the two schema texts prove that the request never got as far as its nonce.
    refused = classify_error(text) is RefusalReason.SCHEMA
    return OrderOutcome(OutcomeKind.REFUSED if refused else OutcomeKind.IN_DOUBT, error=text)


def _read(payload: object, count: int, read_one: Reader) -> list[OrderOutcome]:
    match payload:
        case {"status": "ok", "response": {"data": {"statuses": list(statuses)}}}:
            if len(statuses) == count:
                return [read_one(status) for status in statuses]
            if len(statuses) == 1:
                only = read_one(statuses[0])
                if only.error is not None:
                    # One pre-validation error for the whole batch: nothing of it ran (PROTOCOL 4.2).
                    return [only] * count
            error = f"{len(statuses)} statuses for {count} orders: {excerpt(statuses)}"
            return [OrderOutcome(OutcomeKind.IN_DOUBT, error=error)] * count
    return [_whole(payload)] * count


def _whole(payload: object) -> OrderOutcome:
    """An answer that speaks of the action as one."""
    match payload:
        case {"status": "err", "response": str(text)}:
            return _error(text)
        case {"status": "ok", "response": {"data": {"status": {"error": str(text)}}}}:
            return _error(text)
    return OrderOutcome(OutcomeKind.IN_DOUBT, error=f"answer of unexpected form: {excerpt(payload)}")


def _error(text: str) -> OrderOutcome:
    # A duplicate nonce says that *something* with this nonce was admitted. It may have been a copy of this very action,
    # or the noop that was to kill it; only a query tells (PROTOCOL 4.5, POST-4).
    doubt = classify_error(text) is RefusalReason.DUPLICATE_NONCE
    return OrderOutcome(OutcomeKind.IN_DOUBT if doubt else OutcomeKind.REFUSED, error=text)


def _order_status(status: object) -> OrderOutcome:
    match status:
        case {"error": str(text)}:
            return _error(text)
        case {"resting": {"oid": int(oid)}}:
            return OrderOutcome(OutcomeKind.CONFIRMED, oid=oid)
        case {"filled": {"oid": int(oid)} as filled}:
            return _filled(oid, filled)
        case str(word) if word in _ACCEPTED_WORDS:
            return OrderOutcome(OutcomeKind.CONFIRMED)
    return OrderOutcome(OutcomeKind.IN_DOUBT, error=f"status of unexpected form: {excerpt(status)}")


def _filled(oid: int, filled: Mapping[str, object]) -> OrderOutcome:
    """A fill, perhaps partial: the rest of an IOC is gone without a word (PROTOCOL 4.2)."""
    size, price = _positive(filled.get("totalSz")), _positive(filled.get("avgPx"))
    if size is None or price is None:
        # It did execute, but not how much: the fills will say, and the order must not be dropped until then.
        return OrderOutcome(OutcomeKind.IN_DOUBT, oid=oid, error=f"fill of unexpected form: {excerpt(filled)}")
    return OrderOutcome(OutcomeKind.CONFIRMED, oid=oid, filled_sz=size, avg_px=price)


def _positive(value: object) -> Decimal | None:
    if not isinstance(value, str):
        return None
    try:
        found = number(Decimal(value))
    except (InvalidOperation, ValueError):
        return None
    return found if found > 0 else None


def _cancel_status(status: object) -> OrderOutcome:
    match status:
        case "success":
            return OrderOutcome(OutcomeKind.CONFIRMED)
        case {"error": str(text)}:
            return _error(text)
    return OrderOutcome(OutcomeKind.IN_DOUBT, error=f"status of unexpected form: {excerpt(status)}")
