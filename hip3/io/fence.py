"""The fence: a `noop` signed with the nonce of an action in doubt. Whichever of the two is admitted first wins (POST-4).

The venue admits each nonce of a key once (PROTOCOL 4.5, 5.5). Where the noop is accepted, what was signed with that nonce
was never admitted and never will be. Refuses to take anything but these two answers for a proof.
"""

from __future__ import annotations

import enum

import trio

from hip3.core.orders import OutcomeKind
from hip3.io.rest import QueryFailed, Venue
from hip3.venue.hyperliquid.actions import noop_action
from hip3.venue.hyperliquid.outcomes import read_default_outcome
from hip3.venue.hyperliquid.refusals import RefusalReason, classify_error
from hip3.venue.hyperliquid.signing import Signer

ANSWER_WITHIN_S = 2.0
"""One interval of questions (POST-4), twice the venue's slowest answer over REST (PROTOCOL 7.2): the next question is not
held up by a noop that gets none."""


class Fenced(enum.Enum):
    BURNED = "the nonce was free: what was signed with it was never admitted and never will be"
    USED = "something with this nonce was admitted"
    UNKNOWN = "no answer that says either"


async def burn_nonce(rest: Venue, signer: Signer, nonce: int) -> Fenced:
    """Sends a noop with `nonce` and says what its answer proves; never raises for a venue that does not answer.

    USED is the action in doubt, or an earlier noop whose answer was lost; only status and fills tell the two apart.
    """
    with trio.move_on_after(ANSWER_WITHIN_S):
        try:
            outcome = read_default_outcome(await rest.exchange(signer.sign(noop_action(), nonce)))
        except QueryFailed:
            return Fenced.UNKNOWN
        if outcome.kind is OutcomeKind.CONFIRMED:
            return Fenced.BURNED
        if outcome.error is not None and classify_error(outcome.error) is RefusalReason.DUPLICATE_NONCE:
            return Fenced.USED
    return Fenced.UNKNOWN
