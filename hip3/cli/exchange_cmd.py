"""`hip3 exchange`: serves the simulated exchange on a loopback port, for this bot and for any other client (SIM-1)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated

import trio
from cyclopts import Parameter

from hip3.core.errors import first_leaf
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.exchange import Exchange
from hip3.exchange.models.synthetic import SyntheticConfig, SyntheticSource
from hip3.exchange.server import NotLoopback, PortBusy, serve
from hip3.exchange.texts import Refused
from hip3.io.clock import SystemClock
from hip3.ops.paper import AGENT_LIFE_MS
from hip3.ops.stop import stop_signals

EXIT_OK, EXIT_CONFIGURATION, EXIT_PREFLIGHT = 0, 2, 3  # END-3


def exchange(
    *,
    port: Annotated[int, Parameter(help="On 127.0.0.1; 0 takes a free one.")] = 3001,
    seed: Annotated[int, Parameter(help="Of the synthetic market.")] = 1,
    fund: Annotated[tuple[str, ...], Parameter(help="ADDRESS=USD, or ADDRESS=USD@DEX; else dex xyz. Repeatable.")] = (),
    agent: Annotated[
        tuple[str, ...], Parameter(help="ACCOUNT=AGENT or ACCOUNT=AGENT=NAME: an approved API wallet. Repeatable.")
    ] = (),
    latency_ms: Annotated[int, Parameter(help="From send to the mempool.")] = ExchangeConfig().latency_ms,
) -> int:
    """Serve the simulated exchange until Ctrl+C.

    Exit code 0: ended by Ctrl+C or SIGTERM; 2: an argument that means nothing; 3: the port is taken.

    Example: hip3 exchange --port 3001 --fund 0x…=1000
    """
    try:
        funds = [_pair(text, "--fund") for text in fund]
        agents = _agents(agent)
        amounts = [(address, *_deposit(text)) for address, text in funds]
    except ValueError as e:
        print(f"hip3 exchange: {e}", file=sys.stderr)
        return EXIT_CONFIGURATION
    made = Exchange(SyntheticSource(SyntheticConfig(seed=seed)), SystemClock(), ExchangeConfig(latency_ms=latency_ms))
    try:
        for address, usd, dex in amounts:
            made.fund(address, dex, usd)
        for account, signer, name in agents:
            made.approve_agent(account, signer, SystemClock().wall_ms() + AGENT_LIFE_MS, name)
        trio.run(_serve, made, port)
    except* (PortBusy, NotLoopback) as group:
        print(f"hip3 exchange: {first_leaf(group)}", file=sys.stderr)
        return_code = EXIT_PREFLIGHT
    except* (Refused, ValueError) as group:
        print(f"hip3 exchange: {first_leaf(group)}", file=sys.stderr)
        return_code = EXIT_CONFIGURATION
    else:
        return_code = EXIT_OK
    return return_code


def _pair(text: str, option: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals or not left.startswith("0x") or len(left) != 42:
        raise ValueError(f"{option} {text}: expected an address (0x and 40 hex digits), =, and a value")
    return left, right


def _agents(texts: Sequence[str]) -> list[tuple[str, str, str]]:
    """Account, agent and name of each. Names differ, for an agent replaces the one of its name (PROTOCOL 4.3)."""
    found: list[tuple[str, str, str]] = []
    for text in texts:
        account, rest = _pair(text, "--agent")
        signer, _, name = rest.partition("=")
        earlier = sum(1 for other, _, _ in found if other.lower() == account.lower())
        found.append((account, signer, name or ("hip3" if not earlier else f"hip3-{earlier + 1}")))
    return found


def _deposit(text: str) -> tuple[Decimal, str]:
    """An amount above 0 and its dex; `main` is the venue's own."""
    amount, at, dex = text.partition("@")
    try:
        usd = Decimal(amount)
    except InvalidOperation:
        raise ValueError(f"--fund: {amount!r} is no amount of USD") from None
    if not (usd.is_finite() and usd > 0):
        raise ValueError(f"--fund: {amount} USD: expected an amount above 0")
    return usd, ("" if dex == "main" else dex) if at else "xyz"


async def _serve(made: Exchange, port: int) -> None:
    with trio.open_signal_receiver(*stop_signals()) as received:
        async with trio.open_nursery() as nursery:
            real: int = await nursery.start(serve, made, "127.0.0.1", port)
            print(f"exchange on http://127.0.0.1:{real} (WebSocket ws://127.0.0.1:{real}/ws); Ctrl+C ends it", flush=True)
            async for _ in received:
                break
            nursery.cancel_scope.cancel()
