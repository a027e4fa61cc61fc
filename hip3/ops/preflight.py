"""`hip3 preflight`: whether a start with this configuration would be a good one. Signs nothing, changes nothing (OPS-2).

On paper it starts the embedded exchange on a free loopback port, asks it, and ends it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import attrs
import trio
from attrs import frozen

import hip3
from hip3.core.clock import Clock
from hip3.core.errors import first_leaf
from hip3.exchange.recording import RecordingError
from hip3.exchange.server import NotLoopback, PortBusy
from hip3.io.clock import SystemClock
from hip3.io.rest import RestClient, http_client
from hip3.ops.findings import Finding, PreflightCheck, complete, failed, passed, warned
from hip3.ops.journal_file import state_dir
from hip3.ops.preflight_local import check_disk, check_hash, check_key, check_store, free_bytes
from hip3.ops.preflight_venue import VenueChecks
from hip3.ops.reach import configured_key, reach_venue
from hip3.ops.session import BOOT_S
from hip3.settings import ConfigError, LoadedSettings, load_for_check
from hip3.settings.schema import Mode
from hip3.venue.hyperliquid.errors import BackendMissing
from hip3.venue.hyperliquid.signing import TradingKey, assert_backend


@frozen(kw_only=True)
class Preflight:
    """What a preflight is made of; everything that a test sets otherwise is a field."""

    config: Path | None = None
    env: Mapping[str, str] = attrs.field(factory=lambda: dict(os.environ))
    clock: Clock = attrs.field(factory=SystemClock)
    passphrase: Callable[[], str] | None = None
    free: Callable[[Path], int] = free_bytes
    backend: Callable[[], None] = assert_backend
    own_holder: str | None = None
    """The process of the running bot, where it is what is validated: it may hold the store's lock."""

    @property
    def state(self) -> Path:
        return state_dir(self.env)


async def preflight(given: Preflight) -> list[Finding]:
    """One finding for each PreflightCheck, in their order. Raises nothing of what it looks at."""
    disk = check_disk(given.state, given.free)
    try:
        loaded = load_for_check(given.config, given.env)
    except ConfigError as e:
        problems = "; ".join(str(problem) for problem in e.problems)
        config = failed(PreflightCheck.CONFIG, f"{e.source}: {problems}", "correct the file")
        return complete(PreflightCheck, [config, disk], "there is no usable configuration")
    load_key = partial(configured_key, loaded, given.env, given.state, given.passphrase)
    of_key, key = check_key(loaded, load_key)
    account = None if loaded.settings.mode is Mode.OBSERVATION else loaded.settings.user_address
    found = [
        check_config(loaded),
        check_hash(loaded, account, given.state),
        check_environment(loaded, given.backend),
        of_key,
        *check_store(loaded.settings, given.state, given.own_holder),
        disk,
    ]
    if all(finding.check is not PreflightCheck.SCHEMA for finding in found):
        found.append(failed(PreflightCheck.SCHEMA, "not checked: the store cannot be read"))
    of_venue, why_missing = await ask_venue(loaded, key, given.clock)
    return complete(PreflightCheck, [*found, *of_venue], why_missing)


def check_config(loaded: LoadedSettings) -> Finding:
    """CFG-1, CFG-2: the file is right, and nothing is left to be filled in."""
    check, file = PreflightCheck.CONFIG, str(loaded.source_path)
    if not loaded.needed:
        return passed(check, file)
    needed = "; ".join(str(problem) for problem in loaded.needed)
    return failed(check, f"{file}: {needed}", "fill in what only you can know")


def check_environment(loaded: LoadedSettings, backend: Callable[[], None]) -> Finding:
    """PRD-1, SIG-5: the network, the mode, the versions, and a signature library that computes what it must."""
    check, settings = PreflightCheck.ENVIRONMENT, loaded.settings
    versions = f"hip3 {hip3.__version__}, Python {platform.python_version()}, trio {trio.__version__}"
    value = f"{settings.network.value}, {settings.mode.value}; {versions}"
    try:
        backend()
    except BackendMissing as e:
        return failed(check, f"{value}; {e}")
    if settings.network.is_mainnet and settings.mode is not Mode.OBSERVATION:
        return warned(check, f"{value}; real money")
    return passed(check, value)


async def ask_venue(loaded: LoadedSettings, key: TradingKey | None, clock: Clock) -> tuple[list[Finding], str]:
    """What the venue of the configuration answers within the time of a start, and why anything is missing of it."""
    settings = loaded.settings
    if settings.paper is not None:
        settings = attrs.evolve(settings, paper=attrs.evolve(settings.paper, port=0))  # a bot may run on the other
    usable = key if settings.user_address is not None else None
    found: list[Finding] = []
    why_missing = "the venue did not answer"
    try:
        async with trio.open_nursery() as process:
            reached = await reach_venue(process, attrs.evolve(loaded, settings=settings), usable)
            account, signer = reached.reach.account, key.address if key else settings.signer_address
            async with http_client(reached.reach.transport) as client:
                checks = VenueChecks(
                    settings,
                    RestClient(client, clock, reached.reach.rest_url, sends=False),
                    reached.reach.dial,
                    reached.endpoints,
                    clock,
                    None if settings.mode is Mode.OBSERVATION else account.user if account else settings.user_address,
                    account.signer.address if account else signer,
                    found,
                )
                with trio.move_on_after(BOOT_S):
                    await checks.run()
            process.cancel_scope.cancel()
    except* (PortBusy, NotLoopback, RecordingError, ValueError, OSError) as group:
        why_missing = f"the embedded exchange cannot be started: {first_leaf(group)}"
    return found, why_missing
