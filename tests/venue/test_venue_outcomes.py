"""What an answer says about each order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.core.events import PostResponse
from hip3.core.orders import OrderOutcome, OutcomeKind
from hip3.venue.hyperliquid.outcomes import (
    cancel_outcomes_of,
    http_outcome,
    order_outcomes_of,
    read_cancel_outcomes,
    read_default_outcome,
    read_order_outcomes,
)
from hip3.venue.hyperliquid.refusals import RefusalReason, classify_error, classify_rejection, split_asset
from hip3.venue.hyperliquid.statuses import StatusClass, classify_status

CONFIRMED, REFUSED, IN_DOUBT = OutcomeKind.CONFIRMED, OutcomeKind.REFUSED, OutcomeKind.IN_DOUBT


def ok(*statuses: object, kind: str = "order") -> dict[str, object]:
    """A processed action with the given statuses."""
    return {"status": "ok", "response": {"type": kind, "data": {"statuses": list(statuses)}}}


def err(text: str) -> dict[str, object]:
    """A refused action."""
    return {"status": "err", "response": text}


def observed(shared_data: Path) -> Iterator[tuple[str, Any]]:
    """Name and body of every answer recorded from the venue."""
    folder = shared_data / "exchange"
    for line in (folder / "observed_responses.jsonl").read_text().splitlines():
        entry = json.loads(line)
        yield entry["what"], entry["response"]
    for entry in json.loads((folder / "go_sdk_testnet_cassettes.json").read_text())["entries"]:
        yield entry["cassette"], json.loads(entry["response_body"])
    transcript = json.loads((folder / "testnet_transcript_20260907.json").read_text())
    for entry in [*transcript["signed_request_response"], *transcript["log"]]:
        if "response" in entry:
            yield entry["step"], entry["response"]


def test_each_order_has_its_own_outcome() -> None:
    """POST-2: `status: ok` says nothing; every status is read for its order."""
    found = read_order_outcomes(
        ok(
            {"resting": {"oid": 77738308, "cloid": "0x01"}},
            {"filled": {"totalSz": "0.02", "avgPx": "1891.4", "oid": 77747314}},
            {"error": "Order must have minimum value of $10. asset=110016"},
            "waitingForTrigger",
        ),
        4,
    )
    assert found == [
        OrderOutcome(CONFIRMED, oid=77738308),
        OrderOutcome(CONFIRMED, oid=77747314, filled_sz=Decimal("0.02"), avg_px=Decimal("1891.4")),
        OrderOutcome(REFUSED, error="Order must have minimum value of $10. asset=110016"),
        OrderOutcome(CONFIRMED),
    ]


@pytest.mark.parametrize("payload", [ok({"error": "Order has invalid size."}), err("Action already expired")])
def test_one_error_stands_for_the_batch(payload: object) -> None:
    """POST-2: a pre-validation error, as one status or as the whole answer, refuses every order of the batch."""
    outcomes = read_order_outcomes(payload, 3)
    assert [o.kind for o in outcomes] == [REFUSED] * 3
    assert len({o.error for o in outcomes}) == 1


def test_partial_fill_is_a_fill() -> None:
    """POST-2: `filled` with less than was asked is CONFIRMED with the size that was filled."""
    (found,) = read_order_outcomes(ok({"filled": {"totalSz": "136.0", "avgPx": "0.2876", "oid": 62014694776}}), 1)
    assert (found.kind, found.filled_sz) == (CONFIRMED, Decimal(136))


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "",
        [],
        {},
        {"status": "ok"},
        {"status": "ok", "response": {"type": "default"}},
        {"status": "ok", "response": "text"},
        {"status": "err", "response": {"unexpected": 1}},
        {"status": "weird", "response": "x"},
        ok(),
        ok({"resting": {"oid": 1}}),
        ok({"resting": {"oid": 1}}, {"error": "x"}, {"error": "y"}),
        ok({"resting": {}}, {"resting": {"oid": "7"}}),
        ok("success", "somethingNew"),
        ok({"filled": {"oid": 1, "totalSz": "NaN", "avgPx": "1"}}, {"filled": {"oid": 1, "totalSz": "0", "avgPx": "1"}}),
        ok({"filled": {"oid": 1, "totalSz": 0.5, "avgPx": "1"}}, {"filled": {"oid": 1, "avgPx": "1"}}),
        ok(None, 7),
    ],
)
def test_unexpected_forms_are_in_doubt(payload: object) -> None:
    """POST-2: what is not understood is IN_DOUBT for the orders concerned, with an excerpt; never an exception."""
    outcomes = read_order_outcomes(payload, 2)
    assert [o.kind for o in outcomes] == [IN_DOUBT] * 2
    assert all(o.error for o in outcomes)


def test_doubt_about_one_order_leaves_the_others() -> None:
    """POST-2: one status that is not understood does not spoil those beside it."""
    kinds = [o.kind for o in read_order_outcomes(ok({"resting": {"oid": 1}}, {"new": 1}, {"error": "x"}), 3)]
    assert kinds == [CONFIRMED, IN_DOUBT, REFUSED]


def test_duplicate_nonce_is_doubt() -> None:
    """POST-2, POST-4: a duplicate nonce says that something with it was admitted, so the order is not called refused."""
    outcomes = read_order_outcomes(err("Invalid nonce: duplicate nonce 1767225600000"), 2)
    assert [o.kind for o in outcomes] == [IN_DOUBT] * 2
    assert read_order_outcomes(err("Invalid nonce: nonce too low 1 < 2"), 1)[0].kind is REFUSED


def test_cancels() -> None:
    """POST-2: a cancel succeeded or found nothing to cancel; an error for the whole batch fans out."""
    gone = "Order was never placed, already canceled, or filled. asset=4"
    found = read_cancel_outcomes(ok("success", {"error": gone}, "new", kind="cancel"), 3)
    assert [o.kind for o in found] == [CONFIRMED, REFUSED, IN_DOUBT]
    assert classify_error(found[1].error or "") is RefusalReason.NOT_RESTING
    assert [o.kind for o in read_cancel_outcomes(err("Vault not registered: 0x00"), 2)] == [REFUSED] * 2


def test_default_answers() -> None:
    """POST-2: modify, noop and the like answer `default`, a refusal or something unexpected."""
    assert read_default_outcome({"status": "ok", "response": {"type": "default"}}).kind is CONFIRMED
    assert read_default_outcome(err("Invalid leverage value")).kind is REFUSED
    twap = {"status": "ok", "response": {"type": "twapOrder", "data": {"status": {"error": "no"}}}}
    assert read_default_outcome(twap) == OrderOutcome(REFUSED, error="no")
    assert read_default_outcome(None).kind is IN_DOUBT


def test_refused_post_is_of_type_action() -> None:
    """POST-2: a refusal arrives as kind `action` with status err (PROTOCOL 2.5)."""
    response = PostResponse(id=12, kind="action", payload=err("Unable to recover signer."))
    assert order_outcomes_of(response, 1) == [OrderOutcome(REFUSED, error="Unable to recover signer.")]
    assert cancel_outcomes_of(response, 1) == order_outcomes_of(response, 1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("422 Unprocessable Entity: Failed to deserialize the JSON body into the target type", REFUSED),
        ("HTTP 400 Bad Request", REFUSED),
        ("Failed to deserialize the JSON body into the target type", REFUSED),
        ("429 Too Many Requests", IN_DOUBT),
        ("status code: 429", IN_DOUBT),
        ("500 Internal Server Error", IN_DOUBT),
        ("503", IN_DOUBT),
        ("something went wrong", IN_DOUBT),
        ("order 422 is unknown", IN_DOUBT),
        (None, IN_DOUBT),
    ],
)
def test_transport_errors_of_a_post(text: object, kind: OutcomeKind) -> None:
    """POST-2: of the errors of the transport only those of the schema prove that nothing was admitted (PROTOCOL 4.5)."""
    response = PostResponse(id=1, kind="error", payload=text)
    assert [o.kind for o in order_outcomes_of(response, 2)] == [kind] * 2
    assert [o.kind for o in cancel_outcomes_of(response, 2)] == [kind] * 2


def test_post_of_another_kind_is_doubt() -> None:
    """POST-2: an answer of kind `info` to an order says nothing about it."""
    assert order_outcomes_of(PostResponse(1, "info", ok({"resting": {"oid": 1}})), 1)[0].kind is IN_DOUBT


@pytest.mark.parametrize(
    ("status", "kind"), [(400, REFUSED), (415, REFUSED), (422, REFUSED), (429, IN_DOUBT), (502, IN_DOUBT)]
)
def test_http_statuses(status: int, kind: OutcomeKind) -> None:
    """POST-2: 4xx of the schema refuse, 429 and 5xx leave doubt (PROTOCOL 4.5)."""
    outcome = http_outcome(status, "null")
    assert outcome.kind is kind
    assert str(status) in (outcome.error or "")


def test_recorded_answers_are_understood(shared_data: Path) -> None:
    """POST-2: no answer recorded from the venue to an order, a cancel or a plain action is left in doubt needlessly."""
    seen = 0
    for name, body in observed(shared_data):
        if body["status"] == "err":
            outcomes = [read_default_outcome(body)]
        elif body["response"]["type"] == "order":
            outcomes = read_order_outcomes(body, len(body["response"]["data"]["statuses"]))
        elif body["response"]["type"] == "cancel":
            outcomes = read_cancel_outcomes(body, len(body["response"]["data"]["statuses"]))
        elif body["response"]["type"] in {"default", "twapOrder"}:
            outcomes = [read_default_outcome(body)]
        else:
            continue
        seen += 1
        for outcome in outcomes:
            duplicate = "duplicate nonce" in (outcome.error or "")
            assert (outcome.kind is IN_DOUBT) == duplicate, (name, outcome)
    assert seen > 50


def test_documented_error_texts_have_a_reason(shared_data: Path) -> None:
    """TYP-5: every order error that the venue documents is classified, with and without the asset suffix."""
    document = json.loads((shared_data / "exchange" / "error_strings_documented.json").read_text())
    texts = [text for text in _strings(document) if text.startswith(("Order ", "Price ", "Insufficient m", "Reduce only"))]
    assert len(texts) >= 8
    for text in texts:
        assert classify_error(text) is not RefusalReason.OTHER, text
        assert classify_error(f"{text} asset=110016") is classify_error(text)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (s for item in value.values() for s in _strings(item))
    elif isinstance(value, list):
        yield from (s for item in value for s in _strings(item))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Order could not immediately match against any resting orders. asset=78", RefusalReason.NO_MATCH),
        ("Reduce only order would increase position. asset=4", RefusalReason.REDUCE_ONLY),
        ("Order must have minimum value of 10 USDC.", RefusalReason.MIN_NOTIONAL),
    ],
)
def test_benign_refusals(text: str, reason: RefusalReason) -> None:
    """RISK-1: no match, reduce-only and minimum notional are benign, by prefix, whatever stands behind them."""
    assert classify_error(text) is reason
    assert reason.is_benign


def test_other_refusals_are_not_benign() -> None:
    """RISK-1, TYP-5: everything else counts, a text never seen before included."""
    assert {r for r in RefusalReason if r.is_benign} == {
        RefusalReason.NO_MATCH,
        RefusalReason.REDUCE_ONLY,
        RefusalReason.MIN_NOTIONAL,
    }
    assert classify_error("A text of tomorrow") is RefusalReason.OTHER
    assert classify_error("L1 error: User or API Wallet 0x00 does not exist.") is RefusalReason.SIGNER


def test_asset_suffix() -> None:
    """TYP-5: the asset suffix is split off where it is there."""
    assert split_asset("Trading is halted.") == ("Trading is halted.", None)
    assert split_asset("Price too far from oracle asset=110016") == ("Price too far from oracle", 110016)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        ("open", StatusClass.OPEN),
        ("triggered", StatusClass.OPEN),
        ("filled", StatusClass.FILLED),
        ("canceled", StatusClass.CANCELED),
        ("scheduledCancel", StatusClass.CANCELED),
        ("internalCancel", StatusClass.CANCELED),
        ("selfTradeCanceled", StatusClass.CANCELED),
        ("somethingNewCanceled", StatusClass.CANCELED),
        ("rejected", StatusClass.REJECTED),
        ("iocCancelRejected", StatusClass.REJECTED),
        ("somethingNewRejected", StatusClass.REJECTED),
        ("Open", StatusClass.UNKNOWN),
        ("partiallyFilled", StatusClass.UNKNOWN),
        ("", StatusClass.UNKNOWN),
    ],
)
def test_statuses(status: str, meaning: StatusClass) -> None:
    """TYP-5: a status is known by table, then by suffix, else UNKNOWN; it never raises (PROTOCOL 7.1)."""
    assert classify_status(status) is meaning


def test_every_documented_status_is_known() -> None:
    """TYP-5: every status of PROTOCOL 7.1 is known, and only the live ones are not terminal."""
    documented = [
        "open",
        "triggered",
        "filled",
        "canceled",
        "scheduledCancel",
        "marginCanceled",
        "vaultWithdrawalCanceled",
        "openInterestCapCanceled",
        "selfTradeCanceled",
        "reduceOnlyCanceled",
        "siblingFilledCanceled",
        "delistedCanceled",
        "liquidatedCanceled",
        "outcomeSettledCanceled",
        "internalCancel",
        "rejected",
        "tickRejected",
        "minTradeNtlRejected",
        "minTradeSpotNtlRejected",
        "perpMarginRejected",
        "reduceOnlyRejected",
        "badAloPxRejected",
        "iocCancelRejected",
        "badTriggerPxRejected",
        "marketOrderNoLiquidityRejected",
        "positionIncreaseAtOpenInterestCapRejected",
        "positionFlipAtOpenInterestCapRejected",
        "tooAggressiveAtOpenInterestCapRejected",
        "openInterestIncreaseRejected",
        "insufficientSpotBalanceRejected",
        "oracleRejected",
        "perpMaxPositionRejected",
        "tooManyOpenOrdersRejected",
    ]
    classes = {status: classify_status(status) for status in documented}
    assert StatusClass.UNKNOWN not in classes.values()
    assert [s for s, c in classes.items() if not c.is_terminal] == ["open", "triggered"]
    for status, meaning in classes.items():
        if meaning is StatusClass.REJECTED and status != "rejected":
            assert classify_rejection(status) is not RefusalReason.OTHER, status
    assert classify_rejection("rejected") is RefusalReason.OTHER


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["status", "response", "data", "statuses", "error", "filled", "resting", "oid", "totalSz", "avgPx"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.integers(min_value=0, max_value=4),
)
def test_any_payload_gives_one_outcome_an_order(payload: object, count: int) -> None:
    """POST-2: whatever comes back, there is exactly one outcome for each order and nothing is raised."""
    assert len(read_order_outcomes(payload, count)) == count
    assert len(read_cancel_outcomes(payload, count)) == count
    assert len(order_outcomes_of(PostResponse(1, "error", payload), count)) == count
    assert read_default_outcome(payload).kind in OutcomeKind
