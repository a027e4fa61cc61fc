"""REST client: queries, and actions where no WebSocket is to be had.

A query that failed in any way raises `QueryFailed`: its answer is unknown, never empty (META-1). Nothing is retried in
here; who asks knows what a repetition may do.
"""

from __future__ import annotations

from typing import Protocol

import httpx
import msgspec
import trio

from hip3.core.clock import Clock
from hip3.core.rate import SlidingWindow
from hip3.venue.hyperliquid import weights
from hip3.venue.hyperliquid.errors import excerpt
from hip3.venue.hyperliquid.signing import SignedAction

QUERY_TIMEOUT_S = 5.0
WEIGHT_RESERVE = 300
"""Kept for the flatten: about 2.5 times what it took for five positions and fifty orders (116)."""
_HEADERS = {"Content-Type": "application/json"}


def ip_weight() -> SlidingWindow:
    """A minute's weight of one IP, less what the way out may need (PROTOCOL 3, 8)."""
    return SlidingWindow(weights.LIMIT_PER_MINUTE - WEIGHT_RESERVE, 60_000)


class QueryFailed(Exception):
    """A question to the venue has no answer: what was asked, where, and what came instead."""


class Venue(Protocol):
    """What the procedures need of a REST client; `RestClient` is the one there is."""

    async def info(self, request: dict[str, object]) -> object: ...

    async def exchange(self, signed: SignedAction) -> object: ...


class RestClient:
    """Talks to one venue over one `httpx.AsyncClient`, within the weight limit of the IP (PROTOCOL 3: 1200 a minute)."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        clock: Clock,
        base_url: str,
        weight: SlidingWindow | None = None,
        *,
        waits: bool = True,
        sends: bool = True,
    ) -> None:
        """`weight` is shared by every client of the process, for the limit is per IP. `waits` False: queries are counted
        and never held back; for the way out, which has nothing to wait for. `sends` False: signed actions are refused."""
        self.base_url = base_url.rstrip("/")
        self.weight = weight if weight is not None else ip_weight()
        self._waits = waits
        self._sends = sends
        self._client = client
        self._clock = clock

    async def info(self, request: dict[str, object]) -> object:
        """The decoded JSON answer to a query. Raises QueryFailed."""
        await self._afford(weights.info_weight(request))
        answer = await self._post("/info", request, str(request.get("type")))
        if isinstance(answer, list):
            extra = weights.info_weight(request, len(answer)) - weights.info_weight(request)
            self.weight.spend(self._clock.mono_ms(), extra)
        return answer

    async def exchange(self, signed: SignedAction) -> object:
        """The decoded JSON answer to a signed action. Raises QueryFailed, after which the action is in doubt."""
        if not self._sends:
            raise QueryFailed(f"action {signed.action['type']}: this run sends nothing")
        # Actions are never held back by the budget of queries: they may be what closes a position.
        self.weight.spend(self._clock.mono_ms(), weights.action_weight(1))
        return await self._post("/exchange", signed.body(), f"action {signed.action['type']}")

    async def _afford(self, units: int) -> None:
        now = self._clock.mono_ms()
        while self._waits and (wait := self.weight.wait_ms(now, units)):
            await trio.sleep(wait / 1000)
            now = self._clock.mono_ms()
        self.weight.spend(now, units)

    async def _post(self, path: str, body: object, what: str) -> object:
        url = self.base_url + path
        try:
            response = await self._client.post(url, content=msgspec.json.encode(body), headers=_HEADERS)
        except (httpx.HTTPError, OSError) as e:
            raise QueryFailed(f"{what}: no answer from {url}: {type(e).__name__}: {e}".rstrip(": ")) from e
        if response.status_code != httpx.codes.OK:
            raise QueryFailed(f"{what}: {url} answered {response.status_code}: {excerpt(response.text)}")
        try:
            return msgspec.json.decode(response.content)
        except msgspec.DecodeError as e:
            raise QueryFailed(f"{what}: {url} answered text that is no JSON: {excerpt(response.text)}") from e


def http_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client with our time-outs and without the environment's proxies; `transport` is for an exchange in this process."""
    return httpx.AsyncClient(timeout=QUERY_TIMEOUT_S, transport=transport, trust_env=False)
