"""What a start takes from its configuration to reach a venue: the trading key, and the embedded exchange or the URLs.

Shared by `hip3 run` and `hip3 preflight`, so that what was checked is what is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import trio
from attrs import frozen

from hip3.bot import Account
from hip3.exchange.faults import Faults
from hip3.exchange.server import serve
from hip3.io.clock import SystemClock
from hip3.io.dial import dialer
from hip3.io.keys import check_address, load_trading_key
from hip3.ops.agents import refuse_retired
from hip3.ops.paper import make_paper, paper_source
from hip3.ops.session import Reach
from hip3.settings import LoadedSettings
from hip3.settings.describe import endpoints_of
from hip3.settings.schema import Mode
from hip3.venue.hyperliquid.endpoints import Endpoints
from hip3.venue.hyperliquid.signing import Signer, TradingKey


@frozen
class Reached:
    """A venue that can be asked; `notes` are those of a recording that is replayed."""

    reach: Reach
    endpoints: Endpoints
    notes: tuple[str, ...] = ()
    faults: Faults | None = None
    """Those of the embedded exchange."""


def configured_key(
    loaded: LoadedSettings, env: Mapping[str, str], state: Path, passphrase: Callable[[], str] | None
) -> TradingKey | None:
    """The trading key that the configuration names; None where it names none or only observes.

    Raises KeySourceError: it cannot be had, is not that of `signer_address` (KEY-2), or was replaced before (KEY-5).
    """
    settings = loaded.settings
    if settings.signer.key_source is None or settings.mode is Mode.OBSERVATION:
        return None
    key = load_trading_key(settings.signer.key_source, env, passphrase=passphrase, resolve=loaded.resolve_path)
    check_address(key, settings.signer_address)
    refuse_retired(state, key.address)
    return key


async def reach_venue(
    process: trio.Nursery, loaded: LoadedSettings, key: TradingKey | None, *, on_end: Callable[[], None] = lambda: None
) -> Reached:
    """The venue of the configuration: the embedded exchange, started in `process`, or a URL.

    `on_end` is called when the market data of the embedded exchange end. Raises PortBusy, NotLoopback, RecordingError and
    ValueError.
    """
    settings = loaded.settings
    if settings.paper is not None and settings.info_url is None:
        source = paper_source(settings.paper, settings, loaded.resolve_path)
        given = None if key is None or settings.user_address is None else (settings.user_address, key)
        paper = make_paper(settings, source, SystemClock(), given=given, on_end=on_end)
        port: int = await process.start(serve, paper.exchange, "127.0.0.1", settings.paper.port)
        urls = Endpoints(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/ws")
        return Reached(Reach(urls.rest_url, dialer(urls.ws_url), paper.account), urls, source.notes, paper.exchange.faults)
    endpoints = endpoints_of(settings)
    assert endpoints is not None  # only the embedded exchange has none before it runs
    account = None
    if key is not None:
        assert settings.user_address is not None  # the schema's rules demand it with a key
        account = Account(settings.user_address, Signer(key, settings.network, settings.vault_address))
    return Reached(Reach(endpoints.rest_url, dialer(endpoints.ws_url), account), endpoints)
