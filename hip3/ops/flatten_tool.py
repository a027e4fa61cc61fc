"""The one flatten without a bot: an account, a venue and a key are all it needs (OPS-6, STOP-2).

It first makes sure that the address is an account and that the key may act for it: the venue answers for an agent's address
as for an account without anything, and without an error (LESSONS 22, 39). What could not be made sure of is not flat.
"""

from __future__ import annotations

import httpx
import trio
from attrs import evolve, field, frozen

from hip3.core.clock import Clock
from hip3.core.exits import ExitConfig
from hip3.core.ids import CloidFactory
from hip3.io.certificate import FlatCertificate
from hip3.io.flatten import Flattener, FlattenTarget, Progress
from hip3.io.rest import QueryFailed, RestClient, Venue, http_client
from hip3.ops.boot import PreflightRefused
from hip3.ops.stop import Stop
from hip3.venue.hyperliquid import info
from hip3.venue.hyperliquid.errors import MetadataError, WireError
from hip3.venue.hyperliquid.metadata import dex_names
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.parse import UserRole, parse_exchange_status, parse_user_role
from hip3.venue.hyperliquid.signing import Signer

IDENTITY_TRIES = 4
IDENTITY_PAUSE_S = 0.25
LAST_LOOK_S = 3.0
"""After a flatten was given up: how long the venue is asked what is left."""
TOOL_TAG = 2
"""Strategy tag in the order ids of closes that no bot sent (TYP-4)."""


@frozen
class FlattenOrder:
    """Whose exposure ends, where and by whom. `dexes` None is every dex; `signer` None can only look."""

    account: str
    rest_url: str
    exits: ExitConfig
    signer: Signer | None = None
    dexes: tuple[str, ...] | None = None
    acts_for_vault: bool = False
    """The account is a sub-account or vault, for which the master's agent signs."""
    reason: str = "hip3 flatten"


@frozen
class Tool:
    """Flattens and looks with one client, one source of nonces, one source of order ids."""

    order: FlattenOrder
    rest: Venue
    clock: Clock
    nonces: NonceSource
    cloids: CloidFactory
    progress: Progress = field(default=lambda _word, _sentence: None)

    async def identify(self) -> str | None:
        """Makes sure of account and key, and follows the venue's clock. What could not be asked, as a sentence.

        Raises PreflightRefused where the venue says that the address is no account, or that the key may not act for it.
        """
        await self._follow_clock()
        await self._refuse_unknown_dexes()
        role = await self._role(self.order.account)
        if role is None:
            return f"what {self.order.account} is: not known"
        refuse_unless_account(self.order.account, role)
        signer = None if self.order.signer is None else self.order.signer.address.lower()
        if signer is None or signer == self.order.account.lower():
            return None
        acts = await self._role(signer)
        if acts is None:
            return f"what the signer {signer} is: not known"
        refuse_unless_agent(signer, acts, None if self.order.acts_for_vault else self.order.account)
        return None

    async def flatten(self, deadline_s: float, reason: str | None = None) -> FlatCertificate:
        """The procedure; `reason` instead of the order's."""
        return await self._flattener().run(self._target(reason), deadline_s)

    async def look(self, deadline_s: float) -> FlatCertificate:
        """Asks what there is; sends nothing."""
        return await self._flattener().look(self._target(), deadline_s)

    def _flattener(self) -> Flattener:
        o = self.order
        return Flattener(self.rest, o.signer, self.nonces, self.cloids, o.exits, self.clock, self.progress)

    def _target(self, reason: str | None = None) -> FlattenTarget:
        return FlattenTarget(self.order.account, self.order.dexes, reason=reason or self.order.reason)

    async def _follow_clock(self) -> None:
        """Nonces must be near the venue's time (PROTOCOL 5.5), whatever this machine's clock says."""
        answer = await self._ask(info.exchange_status())
        if answer is not None:
            try:
                self.nonces.sync(parse_exchange_status(answer).time_ms)
            except WireError as e:
                self.progress("retry", str(e))

    async def _refuse_unknown_dexes(self) -> None:
        """A dex that the venue does not list cannot be asked about. Raises PreflightRefused."""
        answer = await self._ask(info.perp_dexs()) if self.order.dexes is not None else None
        try:
            listed = None if answer is None else dex_names(answer)
        except MetadataError as e:
            self.progress("retry", str(e))
            return
        for dex in self.order.dexes or ():
            if listed is not None and dex not in listed:
                known = ", ".join(name or "main" for name in listed)
                raise PreflightRefused(f"the venue lists no dex {dex!r}; it lists {known}. Correct --dex")

    async def _role(self, address: str) -> UserRole | None:
        answer = await self._ask(info.user_role(address))
        try:
            return None if answer is None else parse_user_role(answer)
        except WireError as e:
            self.progress("retry", str(e))
            return None

    async def _ask(self, request: info.Request) -> object | None:
        for attempt in range(IDENTITY_TRIES):
            if attempt:
                await trio.sleep(IDENTITY_PAUSE_S)
            try:
                return await self.rest.info(request)
            except QueryFailed as e:
                self.progress("retry", str(e))
        return None


def refuse_unless_account(address: str, role: UserRole) -> None:
    """Raises PreflightRefused for an address of which the venue lists nothing because it is no account."""
    if role.role == "agent":
        raise PreflightRefused(
            f"{address} is an agent of {role.account}: the venue lists nothing under it. Give the account's address"
        )
    if role.role == "missing":
        raise PreflightRefused(
            f"the venue does not know {address}: nothing can be said of it. Correct the account's address"
        )


def refuse_unless_agent(signer: str, role: UserRole, account: str | None) -> None:
    """Raises PreflightRefused where `signer` is no agent, or not of `account` (None: of whom is not compared)."""
    if role.role != "agent":
        raise PreflightRefused(f"signer {signer} is no approved agent, the venue says role {role.role!r}; approve it first")
    if account is not None and role.account is not None and role.account.lower() != account.lower():
        raise PreflightRefused(f"signer {signer} is an agent of {role.account}, not of {account}. Correct one of the two")


def make_tool(
    order: FlattenOrder, client: httpx.AsyncClient, clock: Clock, progress: Progress = lambda _word, _sentence: None
) -> Tool:
    """A tool over its own REST client, which nothing holds back."""
    rest = RestClient(client, clock, order.rest_url, waits=False)
    return Tool(order, rest, clock, NonceSource(clock.wall_ms), CloidFactory(clock.wall_ms(), TOOL_TAG), progress)


async def flatten_account(
    order: FlattenOrder,
    clock: Clock,
    stop: Stop,
    deadline_s: float,
    *,
    progress: Progress = lambda _word, _sentence: None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> FlatCertificate:
    """Ends all exposure of an account, or with no signer looks what there is. Raises PreflightRefused.

    A stop gives up and has the venue asked what is left. Flat is claimed only of an address that is an account.
    """
    async with http_client(transport) as client:
        tool = make_tool(order, client, clock, progress)
        unsure: str | None = "what the account is: not asked"
        certificate: FlatCertificate | None = None
        refused: PreflightRefused | None = None

        async def work() -> None:
            nonlocal unsure, certificate, refused
            try:
                unsure = await tool.identify()
                certificate = await (tool.look if order.signer is None else tool.flatten)(deadline_s)
            except PreflightRefused as e:
                refused = e
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await stop.requested.wait()
            nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused
        if certificate is None:
            progress("gave_up", "given up; asking the venue what is left")
            seen = await tool.look(LAST_LOOK_S)
            problems = (*seen.problems, f"given up: {stop.reason}")
            certificate = evolve(seen, flat=False, problems=problems)
    if unsure is not None and not (certificate.cancelled or certificate.closed):
        return evolve(certificate, flat=False, residual=(*certificate.residual, unsure))
    return certificate
