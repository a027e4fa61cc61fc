"""What is read from the venue before anything may start (META-1...3, KEY-3, DET-2). Any doubt refuses the start.

Every question names its dex and the account, never the agent. Nothing here signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import trio
from attrs import evolve, field, frozen

from hip3.core import units
from hip3.core.clock import Clock
from hip3.core.events import AccountState, OrderUpdate
from hip3.core.ids import MarketSpec
from hip3.core.market import Reference
from hip3.io.rest import QueryFailed, RestClient
from hip3.ops.start_state import account_warnings, check_listing, check_prices
from hip3.settings.schema import Settings
from hip3.venue.hyperliquid import info
from hip3.venue.hyperliquid.errors import MetadataError, WireError
from hip3.venue.hyperliquid.fees import taker_rate
from hip3.venue.hyperliquid.metadata import open_interest_caps, require_market, resolve_markets
from hip3.venue.hyperliquid.parse import (
    ExtraAgent,
    parse_account_state,
    parse_all_mids,
    parse_asset_ctxs,
    parse_exchange_status,
    parse_extra_agents,
    parse_fees,
    parse_open_orders,
    parse_rate_limit,
    parse_user_role,
)

DAY_MS = 86_400_000
EXPIRY_WARNING_DAYS = 14  # KEY-3
FROM_VENUE = "venue"
"""Source of fees that the venue stated."""


class PreflightRefused(Exception):
    """The start is refused; the message says what was asked, what came, and what to do (exit code 3)."""


class NotApproved(PreflightRefused):
    """The venue does not know the address as an agent: not yet, or not any more."""


@frozen
class VenueFacts:
    """What the venue said before the start. Rates are fractions, fees basis points."""

    specs: dict[str, MarketSpec]
    """The configured markets by coin."""
    taker_fee_bps: dict[str, Decimal]
    fee_source: str
    server_ms: int
    """The venue's time, between `asked_ms` and `heard_ms` of our wall clock."""
    asked_ms: int
    heard_ms: int
    budget_used: int
    budget_cap: int
    warnings: tuple[str, ...]
    oi_caps_usd: dict[str, Decimal] = field(factory=dict)
    """Cap of the open interest by coin, of those that have one."""
    accounts: tuple[AccountState, ...] = ()
    """The account on each dex traded, as it was found."""
    open_orders: tuple[OrderUpdate, ...] = ()
    """What rested there."""

    @property
    def dexes(self) -> tuple[str, ...]:
        """Every dex traded."""
        return tuple(sorted({spec.key.dex for spec in self.specs.values()}))


async def read_venue(rest: RestClient, settings: Settings, user: str | None, signer: str | None, clock: Clock) -> VenueFacts:
    """Asks everything at once, then checks. `user` is None in observation. Raises PreflightRefused."""
    asked_ms = clock.wall_ms()
    answers = await ask_all(rest, questions_of(settings, user))
    time = asked_ms, clock.wall_ms()
    try:
        specs = markets_of(answers, settings)
        caps = open_interest_caps(answers.of("dexs"))
        warnings = price_warnings(answers, settings, specs)
        status = parse_exchange_status(answers.of("status"))
        if user is None:
            configured = dict.fromkeys(specs, settings.detector.taker_fee_bps)
            return VenueFacts(specs, configured, "configured", status.time_ms, *time, 0, 0, tuple(warnings), caps)
        if signer is not None:
            warnings += await check_agent(rest, answers, user, signer, status.time_ms)
        accounts, orders = account_of(answers, settings)
        warnings += account_warnings(accounts, orders)
        fees, source = _fees(answers, settings, specs)
        rate = parse_rate_limit(answers.of("rate"))
    except QueryFailed as e:
        raise PreflightRefused(f"{e}. Is the venue up, and is the URL right? Nothing was started.") from e
    except WireError as e:
        raise PreflightRefused(f"an answer could not be read: {e}. Nothing was started.") from e
    except MetadataError as e:
        raise PreflightRefused(str(e)) from e
    facts = VenueFacts(specs, fees, source, status.time_ms, *time, rate.used, rate.cap, tuple(warnings), caps)
    return evolve(facts, accounts=accounts, open_orders=orders)


@frozen
class Answers:
    """Answers by the name of their question; a question that failed raises where its answer is wanted."""

    found: dict[str, object]

    def of(self, name: str) -> object:
        answer = self.found[name]
        if isinstance(answer, QueryFailed):
            raise answer
        return answer


async def ask_all(rest: RestClient, questions: dict[str, info.Request]) -> Answers:
    """The answers to all questions, asked at once. Raises nothing: a failed one raises where its answer is wanted."""
    found: dict[str, object] = {}

    async def ask(name: str, request: info.Request) -> None:
        try:
            found[name] = await rest.info(request)
        except QueryFailed as e:
            found[name] = e

    async with trio.open_nursery() as nursery:
        for name, request in questions.items():
            nursery.start_soon(ask, name, request)
    return Answers(found)


def questions_of(settings: Settings, user: str | None) -> dict[str, info.Request]:
    """What a start asks, by name; of an account only where there is one."""
    questions = {"dexs": info.perp_dexs(), "status": info.exchange_status()}
    for dex in dexes_of(settings):
        questions |= {f"meta {dex}": info.meta(dex), f"mids {dex}": info.all_mids(dex)}
        questions[f"ctxs {dex}"] = info.meta_and_asset_ctxs(dex)
        if user is not None:
            questions[f"account {dex}"] = info.clearinghouse_state(user, dex)
            questions[f"orders {dex}"] = info.frontend_open_orders(user, dex)
    if user is not None:
        questions |= {"fees": info.user_fees(user), "rate": info.user_rate_limit(user), "agents": info.extra_agents(user)}
    return questions


def dexes_of(settings: Settings) -> list[str]:
    """Every dex of the configured markets; "" is the main one."""
    return sorted({m.market_key.dex for m in settings.markets})


def markets_of(answers: Answers, settings: Settings) -> dict[str, MarketSpec]:
    """The configured markets, by name through the order of `meta`; a configured id that disagrees refuses.

    Raises QueryFailed, WireError and MetadataError.
    """
    dexs = answers.of("dexs")
    known = resolve_markets(dexs, {dex: answers.of(f"meta {dex}") for dex in dexes_of(settings)})
    return {m.coin: require_market(known, m.coin, m.asset_idx) for m in settings.markets}


def price_warnings(answers: Answers, settings: Settings, specs: dict[str, MarketSpec]) -> list[str]:
    """Prices by place against prices by name, per dex traded; the warnings. Raises as `markets_of`."""
    warnings: list[str] = []
    for dex in dexes_of(settings):
        both = answers.of(f"ctxs {dex}")
        ctxs, mids = parse_asset_ctxs(both), parse_all_mids(answers.of(f"mids {dex}"))
        own = {coin: spec for coin, spec in specs.items() if spec.key.dex == dex}
        assert isinstance(both, list)  # parse_asset_ctxs has read it as a pair
        check_listing(own, resolve_markets(answers.of("dexs"), {dex: both[0]}))
        warnings += check_prices(own, ctxs, mids, Reference(settings.detector.reference.value))
    return warnings


def account_of(answers: Answers, settings: Settings) -> tuple[tuple[AccountState, ...], tuple[OrderUpdate, ...]]:
    """Positions and resting orders of every dex traded: asked with its name, or the main dex alone would answer.

    Raises QueryFailed and WireError.
    """
    dexes = dexes_of(settings)
    states = [parse_account_state(dex, answers.of(f"account {dex}")) for dex in dexes]
    orders = [order for dex in dexes for order in parse_open_orders(answers.of(f"orders {dex}"))]
    return tuple(states), tuple(orders)


async def check_agent(rest: RestClient, answers: Answers, user: str, signer: str, now_ms: int) -> list[str]:
    """KEY-3: the signer is an approved, unexpired agent of the account, or the account itself.

    The account's list of named agents is asked first: an address that is not on it may still be its unnamed agent, and that
    question weighs 60 of the 1200 of a minute (PROTOCOL 3), which a HALT right after the start would miss. Returns warnings;
    raises as `find_agent`.
    """
    if signer.lower() == user.lower():
        return ["the account's own key signs; an agent (API wallet) key could not withdraw and is safer"]
    agent = await find_agent(rest, user, signer, parse_extra_agents(answers.of("agents")), now_ms)
    if agent.valid_until_ms is None:
        return []
    days = (agent.valid_until_ms - now_ms) // DAY_MS
    return [f"agent {signer} expires in {days} days; plan its rotation"] if days < EXPIRY_WARNING_DAYS else []


async def find_agent(rest: RestClient, user: str, signer: str, agents: Sequence[ExtraAgent], now_ms: int) -> ExtraAgent:
    """The account's agent of this address; one that the venue's list of named `agents` lacks is without name and expiry.

    Raises NotApproved; PreflightRefused for an agent of another account and one that has expired at `now_ms`; QueryFailed
    and WireError for the question about an address that is not on the list.
    """
    named = next((a for a in agents if a.address.lower() == signer.lower()), None)
    if named is not None:
        if named.valid_until_ms is not None and named.valid_until_ms <= now_ms:
            raise PreflightRefused(
                f"agent {signer} ({named.name}) has expired. Approve a new agent; never reuse an address."
            )
        return named
    role = parse_user_role(await rest.info(info.user_role(signer)))
    if role.role != "agent":
        raise NotApproved(f"signer {signer} is not an agent, the venue says role {role.role!r}; approve it for {user} first")
    if role.account is not None and role.account.lower() != user.lower():
        raise PreflightRefused(
            f"signer {signer} is an agent of {role.account}, but user_address is {user}. Correct one of the two."
        )
    return ExtraAgent("", signer, None)


def _fees(answers: Answers, settings: Settings, specs: dict[str, MarketSpec]) -> tuple[dict[str, Decimal], str]:
    """The account's taker fee per market in bps, or the configured one, marked as such (DET-2)."""
    try:
        fees = parse_fees(answers.of("fees"))
    except (QueryFailed, WireError):
        return dict.fromkeys(specs, settings.detector.taker_fee_bps), "configured (the venue did not say)"
    rates = {coin: taker_rate(fees.cross_rate, spec) * units.BPS for coin, spec in specs.items()}
    return rates, FROM_VENUE
