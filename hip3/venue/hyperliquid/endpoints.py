"""Networks and their endpoints. A network is always stated; it is never guessed from a URL (PRD-1, PROTOCOL 1.1).

The official SDK signs for mainnet only when its base URL equals one string, so a proxy or a slash silently turns mainnet
signatures into testnet ones; here the network is a setting and the URL has no say in it.
"""

from __future__ import annotations

import enum

from attrs import frozen

MESSAGES_PER_MINUTE = 2000
"""Sent over WebSocket by all clients of one IP (PROTOCOL 2.6)."""


class Network(enum.Enum):
    """Where orders go. Only MAINNET signs with source `a`; paper and testnet share `b` (SIG-1)."""

    PAPER = "paper"
    TESTNET = "testnet"
    MAINNET = "mainnet"

    @property
    def is_mainnet(self) -> bool:
        return self is Network.MAINNET


@frozen
class Endpoints:
    """Base URL of REST (`/info` and `/exchange` lie below it) and URL of the WebSocket."""

    rest_url: str
    ws_url: str


_ENDPOINTS = {
    Network.MAINNET: Endpoints("https://api.hyperliquid.xyz", "wss://api.hyperliquid.xyz/ws"),
    Network.TESTNET: Endpoints("https://api.hyperliquid-testnet.xyz", "wss://api.hyperliquid-testnet.xyz/ws"),
}


def endpoints_for(network: Network) -> Endpoints:
    """The venue's own endpoints of a network (PROTOCOL 1.1).

    Raises ValueError for PAPER: its exchange is started by this program on a free port, so its URLs exist at run time
    only.
    """
    endpoints = _ENDPOINTS.get(network)
    if endpoints is None:
        raise ValueError(f"network {network.value} has no fixed endpoints; take them from the embedded exchange")
    return endpoints
