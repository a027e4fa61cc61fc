"""One flatten (DESIGN 3): cancel everything that the venue lists, verify, close what it lists, verify, certify.

Shutdown, HALT, `hip3 flatten` and `hip3 watchdog` call this same procedure. It talks over REST with a client of its own, so
it works when the WebSocket is dead, and it looks at nothing but the venue's answers: orders and positions of anyone on the
account are included, every dex is asked, and a failed question is never "flat". It never raises; what it could not do is
residue.

Stops that protect (reduce-only triggers) are cancelled last, when the venue shows no position for them. They cannot open
anything, and where every close fails they are what is left to end the loss; both being reduce-only, a stop that fires
beside a close ends at zero as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import trio
from attrs import define, field, frozen

from hip3.core import units
from hip3.core.budget import TRICKLE_MS
from hip3.core.clock import Clock
from hip3.core.events import OrderUpdate, Position
from hip3.core.exits import ExitConfig, closing_price
from hip3.core.ids import CloidFactory, MarketSpec, OrderSide, TimeInForce
from hip3.core.orders import CancelIntent, OrderIntent, OrderOutcome, OutcomeKind
from hip3.io.certificate import FlatCertificate, Sent
from hip3.io.rest import QueryFailed, Venue
from hip3.io.survey import Survey, is_protection, order_text
from hip3.venue.hyperliquid import actions
from hip3.venue.hyperliquid.errors import excerpt
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.outcomes import read_cancel_outcomes, read_order_outcomes
from hip3.venue.hyperliquid.refusals import RefusalReason, classify_error
from hip3.venue.hyperliquid.signing import Signer

RETRY_FIRST_S = 0.25
"""Between rounds; a block and its answer take about 0.3 s (PROTOCOL 7.2). Doubled after the second."""
RETRY_MOST_S = 1.5
QUICK_ROUNDS = 4
"""Rounds that go as fast as the answers come: an ordinary flatten needs three."""
WEIGHT_PER_S = 12.5
"""Of the questions of later rounds: 750 a minute, of the 1200 that this IP has (PROTOCOL 3)."""
PACED_MOST_S = 8.0
ITEMS_PER_ACTION = 50  # BAT-1
QUIET_LOOK_S = 0.1
"""How often it is asked whether an order in doubt is settled; a look at memory."""
MOST_PROBLEMS = 200
"""Different problems that a certificate keeps; the newest is always the last."""

Progress = Callable[[str, str], None]
"""Told what is being done: a word (`cancel`, `close`, `verify`, `wait`, `retry`) and a sentence."""


def _not_kept(_orders: Sequence[OrderIntent], _nonce: int) -> None:
    """There is no store."""


def _not_told(_order: OrderIntent, _outcome: OrderOutcome) -> None:
    """There is no store."""


@frozen
class FlattenTarget:
    """Whose exposure ends: the account (never the agent), the dexes to ask, and the markets known beforehand."""

    user: str
    dexes: Sequence[str] | None = None
    """Only these; None is every dex that the venue lists, the main one included."""
    specs: Mapping[str, MarketSpec] = field(factory=dict)
    quiet_after_ms: Callable[[], int] = lambda: 0
    """No verdict before this wall time: until then an order in doubt may still be admitted. Asked again and again, for a
    fence or an answer may settle it earlier."""
    reason: str = "flatten"
    """Why, for the certificate."""


@define
class _Slots:
    """When the next action may go, by kind, once the venue has said that the budget for it is used up (PROTOCOL 8).

    Cancels have the larger allowance: where it is used up, the other one is as well, and both share one action in
    `TRICKLE_MS`.
    """

    _next_ms: dict[str, int] = field(factory=dict)

    def refused(self, kind: str, now_ms: int) -> None:
        self._next_ms[kind] = now_ms + TRICKLE_MS
        if kind == "cancel":
            self._next_ms["order"] = now_ms + TRICKLE_MS

    def accepted(self, kind: str, now_ms: int) -> None:
        if kind in self._next_ms:
            self._next_ms = dict.fromkeys(self._next_ms, now_ms + TRICKLE_MS)

    def wait_ms(self, kind: str, now_ms: int) -> int:
        return max(0, self._next_ms.get(kind, 0) - now_ms)

    @property
    def is_shared(self) -> bool:
        return "cancel" in self._next_ms


@define
class Flattener:
    """One flatten of one account; made anew for each."""

    rest: Venue
    signer: Signer | None
    """None can only look."""
    nonces: NonceSource
    cloids: CloidFactory
    exits: ExitConfig
    clock: Clock
    progress: Progress
    on_closes: Callable[[Sequence[OrderIntent], int], None] = _not_kept
    """Told of closing orders and their nonce before their bytes leave (STO-4). Must not raise: a close is never held up."""
    on_outcome: Callable[[OrderIntent, OrderOutcome], None] = _not_told
    """Told what the venue answered about one of them."""
    _sent: list[Sent] = field(factory=list, init=False)
    _cancelled: list[str] = field(factory=list, init=False)
    _closed: list[str] = field(factory=list, init=False)
    _problems: dict[str, None] = field(factory=dict, init=False)
    _attempts: dict[str, int] = field(factory=dict, init=False)
    _too_far: set[str] = field(factory=set, init=False)
    """Coins whose last close was refused as too far from the oracle."""
    _slots: _Slots = field(factory=_Slots, init=False)
    _held_ms: int = field(default=0, init=False)
    """How long what could not go in this round has to wait for its slot."""
    _acted: bool = field(default=False, init=False)
    """Something went out in this round."""
    _insists: bool = field(default=False, init=False)
    """A round has ended with orders listed, or not known; closing waits for them no longer."""
    _early: bool = field(default=False, init=False)
    """Some answer is of a time at which an order in doubt could still come, whatever has become of that order since."""
    _waits: bool = field(default=False, init=False)
    """Everything was clean but for an order in doubt, and this was said."""

    async def run(self, target: FlattenTarget, deadline_s: float) -> FlatCertificate:
        """Works until the venue shows nothing or `deadline_s` have passed. Never raises but for cancellation."""
        started, survey = self.clock.wall_ms(), self._survey(target)
        with trio.move_on_after(deadline_s) as scope:
            rounds, answered = 0, True
            while True:
                began, before = trio.current_time(), (survey.weight, survey.answers)
                if (answered or await survey.is_there()) and await self._round(survey, target):
                    break
                answered = survey.answers > before[1]
                rounds += 1
                survey.is_patient = rounds >= QUICK_ROUNDS
                await trio.sleep(self._pause_s(rounds, survey.weight - before[0], trio.current_time() - began))
        if scope.cancelled_caught:
            self._problem(f"not verified flat within {deadline_s:g} s")
        return self._certificate(survey, target, started, complete=not scope.cancelled_caught)

    async def look(self, target: FlattenTarget, deadline_s: float) -> FlatCertificate:
        """Only asks, until every dex has answered or the time is over; cancels and closes nothing."""
        started, survey = self.clock.wall_ms(), self._survey(target)
        with trio.move_on_after(deadline_s) as scope:
            while True:
                await survey.read(whatever_rests=True)
                if survey.is_complete and None not in (*survey.orders.values(), *survey.positions.values()):
                    break
                await trio.sleep(RETRY_FIRST_S)
        return self._certificate(survey, target, started, complete=not scope.cancelled_caught)

    def _survey(self, target: FlattenTarget) -> Survey:
        survey = Survey(
            self.rest, target.user, self.clock, self._problem, dict(target.specs), every_dex=target.dexes is None
        )
        # Those known beforehand are asked while the list of the others is still on its way.
        survey.add_dexes(*(target.dexes if target.dexes is not None else ("", *_dexes_of(target))))
        return survey

    def _pause_s(self, rounds: int, weight: int, took_s: float) -> float:
        pause = min(RETRY_FIRST_S * (1 << min(10, max(0, rounds - 2))), RETRY_MOST_S)
        if rounds >= QUICK_ROUNDS:
            pause = max(pause, min(weight / WEIGHT_PER_S - took_s, PACED_MOST_S))
        return pause if self._acted else max(pause, self._held_ms / 1000)

    def _certificate(self, survey: Survey, target: FlattenTarget, started_ms: int, *, complete: bool) -> FlatCertificate:
        residual = survey.residual()
        wait_ms = target.quiet_after_ms() - self.clock.wall_ms()
        if wait_ms > 0:
            residual.append(f"an order in doubt: it may still be admitted for another {wait_ms} ms")
        return FlatCertificate(
            account=target.user,
            reason=target.reason,
            flat=complete and not residual,
            started_ms=started_ms,
            finished_ms=self.clock.wall_ms(),
            asked=tuple(survey.asked.values()),
            sent=tuple(self._sent),
            cancelled=tuple(self._cancelled),
            closed=tuple(self._closed),
            orders_sent=sum(self._attempts.values()),
            residual=tuple(residual),
            problems=tuple(self._problems),
        )

    # ---- rounds

    async def _round(self, survey: Survey, target: FlattenTarget) -> bool:
        """Asks what is unsettled and acts on it; True where every dex listed nothing."""
        self._held_ms, self._acted = 0, False
        self._early = self._early or target.quiet_after_ms() > self.clock.wall_ms()
        await survey.read(whatever_rests=self._insists)
        waiting = [(dex, o) for dex, o in survey.resting() if not is_protection(o) or survey.is_flat(o.coin, dex)]
        unknown = not survey.is_complete or None in survey.orders.values()
        if waiting and not self._yields(survey):
            await self._cancel(survey, waiting)
        if (waiting or unknown) and not self._insists:
            # Positions are closed when nothing rests that could fill; but what cannot be cancelled, or not be listed, holds
            # them up once and no longer (LESSONS 6).
            self._insists = True
            return False
        await self._close_listed(survey)
        if survey.unsettled() or not survey.is_complete:
            return False
        return await self._is_quiet(survey, target)

    def _yields(self, survey: Survey) -> bool:
        """One slot for both kinds: a position loses money now, an order only may, so the close takes it."""
        return self._slots.is_shared and any(True for _ in survey.held())

    async def _is_quiet(self, survey: Survey, target: FlattenTarget) -> bool:
        """True where no order in doubt can come any more; else waits a little and has its dexes asked again."""
        wait_ms = target.quiet_after_ms() - self.clock.wall_ms()
        if wait_ms <= 0 and not self._early:
            return True
        if wait_ms <= 0:
            self._early = self._waits = False
            survey.forget(survey.dexes)  # the certificate holds answers of a time at which nothing could come any more
            return False
        if not self._waits:
            self._waits = True
            self.progress("wait", f"an order in doubt may be admitted for another {wait_ms} ms")
        with trio.move_on_after(RETRY_MOST_S):
            while target.quiet_after_ms() > self.clock.wall_ms():  # noqa: ASYNC110 - a time that moves, not an event
                await trio.sleep(QUIET_LOOK_S)
        survey.forget(_dexes_of(target) or survey.dexes)  # it can only be admitted where the bot trades
        return False

    # ---- cancelling

    async def _cancel(self, survey: Survey, listed: Sequence[tuple[str, OrderUpdate]]) -> None:
        if self._must_wait("cancel"):
            return
        found: list[tuple[OrderUpdate, CancelIntent]] = []
        for dex, order in listed:
            spec = await survey.spec(order.coin, dex)
            if spec is not None:
                found.append((order, CancelIntent(spec, None, order.oid)))
        for start in range(0, len(found), ITEMS_PER_ACTION):
            batch = found[start : start + ITEMS_PER_ACTION]
            what = f"cancelling {len(batch)} orders on {', '.join(sorted({i.spec.key.dex or 'main' for _, i in batch}))}"
            self.progress("cancel", what)
            payload = await self._act(actions.cancel_action([intent for _, intent in batch]), "cancel", what)
            if payload is None:
                return
            for (order, _), outcome in zip(batch, read_cancel_outcomes(payload, len(batch)), strict=True):
                if outcome.kind is OutcomeKind.CONFIRMED:
                    self._cancelled.append(order_text(order))
                elif outcome.error:
                    self._problem(f"cancel of oid {order.oid}: {outcome.error}")

    # ---- closing

    async def _close_listed(self, survey: Survey) -> None:
        """A reduce-only IOC for each position that is listed, priced from the book of this moment (EXIT-4)."""
        held = list(survey.held())
        if not held or self._must_wait("order"):
            return
        intents: dict[int, OrderIntent] = {}
        known = [(n, p, await survey.spec(p.coin, dex)) for n, (dex, p) in enumerate(held)]

        async def price(n: int, position: Position, spec: MarketSpec) -> None:
            intent = await self._closing(survey, position, spec)
            if intent is not None:
                intents[n] = intent

        async with trio.open_nursery() as nursery:
            for n, position, spec in known:
                if spec is not None:
                    nursery.start_soon(price, n, position, spec)
        ordered = [intents[n] for n in sorted(intents)]
        for start in range(0, len(ordered), ITEMS_PER_ACTION):
            await self._close(ordered[start : start + ITEMS_PER_ACTION])

    async def _closing(self, survey: Survey, position: Position, spec: MarketSpec) -> OrderIntent | None:
        side = OrderSide.SELL if position.szi > 0 else OrderSide.BUY
        attempt = self._attempts.get(spec.coin, 0) + 1
        touch = await survey.touch(spec.coin, side)
        if touch is None:
            px = await self._price_without_a_book(survey, spec, side, attempt)
        elif spec.coin in self._too_far:
            px = units.round_price(touch, spec.sz_decimals, up=side.is_buy)  # no further out than the level itself
        else:
            px = closing_price(spec, side, touch, self.exits, attempt) if touch else None
        if px is None:
            self._problem(f"{spec.coin}: no level to close against" if touch == 0 else f"{spec.coin}: no price is known")
            return None
        self._attempts[spec.coin] = attempt
        self.progress("close", f"{side.name.lower()} {abs(position.szi)} {spec.coin} at {px} or better (attempt {attempt})")
        return OrderIntent(
            cloid=self.cloids.next(),
            spec=spec,
            side=side,
            sz=abs(position.szi),
            px=px,
            tif=TimeInForce.IOC,
            reduce_only=True,
            created_at_ms=self.clock.wall_ms(),
        )

    async def _price_without_a_book(self, survey: Survey, spec: MarketSpec, side: OrderSide, attempt: int) -> Decimal | None:
        """From the mark, and no further from the oracle than the venue lets a trade be (1/maxLeverage, PROTOCOL 6)."""
        found = await survey.mark(spec.coin, spec.key.dex)
        if found is None:
            return None
        mark, oracle = found
        band = oracle / max(1, spec.max_leverage)
        bound = closing_price(spec, side, mark, self.exits, attempt)
        bound = min(bound, oracle + band) if side.is_buy else max(bound, oracle - band)
        self._problem(f"{spec.coin}: its book could not be read; priced from the mark of {mark}")
        return units.round_price(bound, spec.sz_decimals, up=not side.is_buy)  # inwards, so that it stays in the band

    async def _close(self, intents: Sequence[OrderIntent]) -> None:
        what = f"close of {', '.join(intent.coin for intent in intents)}"
        payload = await self._act(actions.order_action(intents), "order", what, intents)
        if payload is None:
            return
        for intent, outcome in zip(intents, read_order_outcomes(payload, len(intents)), strict=True):
            self.on_outcome(intent, outcome)
            far = outcome.error is not None and classify_error(outcome.error) is RefusalReason.PRICE_BAND
            (self._too_far.add if far else self._too_far.discard)(intent.coin)
            if outcome.filled_sz is not None:
                self._closed.append(f"{intent.side.name.lower()} {outcome.filled_sz} {intent.coin} at {outcome.avg_px}")
            else:
                self._problem(f"close of {intent.coin}: {outcome.error or outcome.kind.value}")

    # ---- actions

    def _must_wait(self, kind: str) -> bool:
        """True where the next slot for actions of this kind is still to come."""
        wait_ms = self._slots.wait_ms(kind, self.clock.mono_ms())
        self._held_ms = max(self._held_ms, wait_ms)
        return wait_ms > 0

    async def _act(
        self, action: dict[str, object], kind: str, what: str, closes: Sequence[OrderIntent] = ()
    ) -> object | None:
        """The answer to an action; None where there was none, or where it has to wait for its slot."""
        assert self.signer is not None, "only `look` works without a signer"
        if self._must_wait(kind):
            return None
        nonce = self.nonces.next()
        if closes:
            self.on_closes(closes, nonce)
        try:
            payload = await self.rest.exchange(self.signer.sign(action, nonce))
        except QueryFailed as e:
            self._problem(f"{what}: {e}")
            self._sent.append(Sent(what, self.clock.wall_ms(), "no answer"))
            return None
        self._sent.append(Sent(what, self.clock.wall_ms(), excerpt(payload)))
        self._note_budget(payload, kind)
        return payload

    def _note_budget(self, payload: object, kind: str) -> None:
        now = self.clock.mono_ms()
        match payload:
            case {"status": "err", "response": str(text)} if classify_error(text) is RefusalReason.BUDGET:
                self._slots.refused(kind, now)
                self._held_ms = max(self._held_ms, TRICKLE_MS)
                self._problem(f"the action budget is used up: one {kind} action in {TRICKLE_MS} ms from now on")
            case _:
                self._slots.accepted(kind, now)
                self._acted = True

    def _problem(self, text: str) -> None:
        is_news = next(reversed(self._problems), None) != text
        self._problems.pop(text, None)
        if len(self._problems) >= MOST_PROBLEMS:
            del self._problems[next(iter(self._problems))]
        self._problems[text] = None
        if is_news:
            self.progress("retry", text)


def _dexes_of(target: FlattenTarget) -> tuple[str, ...]:
    """The dexes of the markets known beforehand, in order."""
    return tuple(dict.fromkeys(spec.key.dex for spec in target.specs.values()))
