"""What is read from the venue before anything may start (META-1...3, KEY-3, DET-2). Any doubt refuses the start.

Every question names its dex and the account, never the agent. Nothing here signs.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from hip3.core import units
from hip3.core.ids import MarketSpec
from hip3.io.rest import QueryFailed, RestClient
from hip3.settings.schema import Mode, Settings
from hip3.venue.hyperliquid import info
from hip3.venue.hyperliquid.errors import MetadataError, WireError
from hip3.venue.hyperliquid.fees import taker_rate
from hip3.venue.hyperliquid.metadata import require_market, resolve_markets
from hip3.venue.hyperliquid.parse import (
    parse_exchange_status,
    parse_extra_agents,
    parse_fees,
    parse_rate_limit,
    parse_user_role,
)

DAY_MS = 86_400_000
EXPIRY_WARNING_DAYS = 14  # KEY-3


class PreflightRefused(Exception):
    """The start is refused; the message says what was asked, what came, and what to do (exit code 3)."""


@frozen
class VenueFacts:
    """What the venue said before the start. Rates are fractions, fees basis points."""

    specs: dict[str, MarketSpec]
    """The configured markets by coin."""
    taker_fee_bps: dict[str, Decimal]
    fee_source: str
    server_ms: int
    budget_used: int
    budget_cap: int
    warnings: tuple[str, ...]

    @property
    def dexes(self) -> tuple[str, ...]:
        """Every dex traded."""
        return tuple(sorted({spec.key.dex for spec in self.specs.values()}))


async def read_venue(rest: RestClient, settings: Settings, user: str | None, signer: str | None) -> VenueFacts:
    """Reads and checks. `user` is None in observation. Raises PreflightRefused."""
    try:
        specs = await _markets(rest, settings)
        status = parse_exchange_status(await rest.info(info.exchange_status()))
        warnings: list[str] = []
        if user is None or settings.mode is Mode.OBSERVATION:
            configured = dict.fromkeys(specs, settings.detector.taker_fee_bps)
            return VenueFacts(specs, configured, "configured", status.time_ms, 0, 0, ())
        if signer is not None:
            warnings += await _check_agent(rest, user, signer, status.time_ms)
        fees, source = await _fees(rest, settings, user, specs)
        rate = parse_rate_limit(await rest.info(info.user_rate_limit(user)))
    except QueryFailed as e:
        raise PreflightRefused(f"{e}. Is the venue up, and is the URL right? Nothing was started.") from e
    except WireError as e:
        raise PreflightRefused(f"an answer could not be read: {e}. Nothing was started.") from e
    except MetadataError as e:
        raise PreflightRefused(str(e)) from e
    return VenueFacts(specs, fees, source, status.time_ms, rate.used, rate.cap, tuple(warnings))


async def _markets(rest: RestClient, settings: Settings) -> dict[str, MarketSpec]:
    """The configured markets, by name through the order of `meta`; a configured id that disagrees refuses."""
    perp_dexs = await rest.info(info.perp_dexs())
    metas = {dex: await rest.info(info.meta(dex)) for dex in sorted({m.market_key.dex for m in settings.markets})}
    known = resolve_markets(perp_dexs, metas)
    return {m.coin: require_market(known, m.coin, m.asset_idx) for m in settings.markets}


async def _check_agent(rest: RestClient, user: str, signer: str, now_ms: int) -> list[str]:
    """KEY-3: the signer is an approved, unexpired agent of the account, or the account itself."""
    if signer.lower() == user.lower():
        return ["the account's own key signs; an agent (API wallet) key could not withdraw and is safer"]
    role = parse_user_role(await rest.info(info.user_role(signer)))
    if role.role != "agent":
        raise PreflightRefused(
            f"signer {signer} is not an agent, the venue says role {role.role!r}; approve it for {user} first"
        )
    if role.account is not None and role.account.lower() != user.lower():
        raise PreflightRefused(
            f"signer {signer} is an agent of {role.account}, but user_address is {user}. Correct one of the two."
        )
    agents = parse_extra_agents(await rest.info(info.extra_agents(user)))
    named = next((a for a in agents if a.address.lower() == signer.lower()), None)
    if named is None or named.valid_until_ms is None:
        return []
    if named.valid_until_ms <= now_ms:
        raise PreflightRefused(f"agent {signer} ({named.name}) has expired. Approve a new agent; never reuse an address.")
    days = (named.valid_until_ms - now_ms) // DAY_MS
    return [f"agent {signer} expires in {days} days; plan its rotation"] if days < EXPIRY_WARNING_DAYS else []


async def _fees(
    rest: RestClient, settings: Settings, user: str, specs: dict[str, MarketSpec]
) -> tuple[dict[str, Decimal], str]:
    """The account's taker fee per market in bps, or the configured one, marked as such (DET-2)."""
    try:
        fees = parse_fees(await rest.info(info.user_fees(user)))
    except (QueryFailed, WireError):
        return dict.fromkeys(specs, settings.detector.taker_fee_bps), "configured (the venue did not say)"
    rates = {coin: taker_rate(fees.cross_rate, spec) * units.BPS for coin, spec in specs.items()}
    return rates, "venue"
