"""`hip3 flatten`: cancels and closes everything on an account, or looks what there is; needs no bot, store or config."""

from __future__ import annotations

import json
import os
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import trio
from attrs import frozen
from cyclopts import Parameter

from hip3.cli.config_cmd import Json
from hip3.cli.keys_cmd import PASSPHRASE_VAR, named_source, terminal_passphrase
from hip3.cli.outlet import unheard_is_no_error
from hip3.cli.words import printable
from hip3.core.errors import first_leaf
from hip3.core.exits import ExitConfig
from hip3.io.certificate import FlatCertificate
from hip3.io.clock import SystemClock
from hip3.io.keys import KeySourceError, load_trading_key
from hip3.ops.boot import PreflightRefused
from hip3.ops.certificates import certificate_text, keep_in
from hip3.ops.flatten_tool import FlattenOrder, flatten_account
from hip3.ops.journal_file import state_dir
from hip3.ops.stop import Stop, stop_signals
from hip3.settings.errors import NotAllowed
from hip3.settings.fields import Address, Url
from hip3.settings.rules import network_of_host
from hip3.settings.schema import PositionKeys
from hip3.venue.hyperliquid.endpoints import Network, endpoints_for
from hip3.venue.hyperliquid.signing import Signer

EXIT_FLAT, EXIT_CONFIGURATION, EXIT_PREFLIGHT, EXIT_EXPOSED = 0, 2, 3, 4  # END-3
MAIN = "main"
"""How the venue's own dex is written on the command line; its name is the empty text."""


@frozen
class KeyOptions:
    """Where the signing key is: one of three places."""

    env_var: str | None
    file: Path | None
    keystore: Path | None
    passphrase_env: str


class WrongArgument(Exception):
    """An argument that means nothing: option, value, what is expected."""


def flatten(
    *,
    account: Annotated[str, Parameter(help="The account (0x…), never an agent's address.")],
    network: Annotated[Network, Parameter(help="paper, testnet or mainnet; decides how actions are signed.")],
    url: Annotated[str | None, Parameter(help="Base URL of the venue; needed on paper.")] = None,
    dex: Annotated[tuple[str, ...], Parameter(help='Only this dex ("main" is the own one); else every dex.')] = (),
    env_var: Annotated[str | None, Parameter(help="Environment variable that holds the agent's key.")] = None,
    file: Annotated[Path | None, Parameter(help="Key file, mode 0600.")] = None,
    keystore: Annotated[Path | None, Parameter(help="Encrypted keystore.")] = None,
    passphrase_env: Annotated[str, Parameter(help="Variable with the keystore's passphrase.")] = PASSPHRASE_VAR,
    vault: Annotated[bool, Parameter(negative="", help="The account is a sub-account or vault.")] = False,
    verify: Annotated[bool, Parameter(negative="", help="Only look; no key needed.")] = False,
    deadline_s: Annotated[float, Parameter(help="Seconds until it gives up and lists what is left.")] = 60,
    as_json: Json = False,
) -> int:
    """Cancel every order and close every position of an account, verify, and write the certificate.

    Exit code 0: the venue shows no order and no position; 2: an argument or the key is wrong; 3: the venue says that
    this is no account, or that the key may not act for it; 4: something is left, or not known (listed). Ctrl+C gives up.
    While a bot runs, use an agent key of its own: two programs with one key collide.

    Example: hip3 flatten --account 0x… --network mainnet --keystore agent.json
    """
    try:
        _check_deadline(deadline_s)
        where = _rest_url(network, url)
        owner = _account(account)
        signer = None if verify else _signer(KeyOptions(env_var, file, keystore, passphrase_env), network, owner, vault)
        dexes = tuple("" if name == MAIN else name for name in dex) or None
        reason = "hip3 flatten --verify" if verify else "hip3 flatten"
        order = FlattenOrder(owner, where, default_exits(), signer, dexes, vault, reason)
    except (WrongArgument, KeySourceError) as e:
        return _refused(EXIT_CONFIGURATION, str(e), as_json=as_json)
    with unheard_is_no_error():
        return _flattened(order, deadline_s, as_json=as_json)


def _flattened(order: FlattenOrder, deadline_s: float, *, as_json: bool) -> int:
    try:
        certificate = trio.run(_main, order, deadline_s, as_json)
    except* PreflightRefused as group:  # out of the nursery that watches for signals
        code = _refused(EXIT_PREFLIGHT, str(first_leaf(group)), as_json=as_json)
    else:
        code = _report(certificate, as_json=as_json)
    return code


async def _main(order: FlattenOrder, deadline_s: float, as_json: bool) -> FlatCertificate:
    stop = Stop()

    async def watch(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*stop_signals()) as received:
            task_status.started()
            async for number in received:
                if number != signal.SIGHUP:  # the terminal was closed: nobody gave up, and it is finished
                    stop.on_signal(number)

    def say(word: str, sentence: str) -> None:
        print(f"{word}: {printable(sentence)}", file=sys.stderr if as_json else sys.stdout, flush=True)

    async with trio.open_nursery() as nursery:
        await nursery.start(watch)
        certificate = await flatten_account(order, SystemClock(), stop, deadline_s, progress=say)
        nursery.cancel_scope.cancel()
    return certificate


def _report(certificate: FlatCertificate, *, as_json: bool) -> int:
    """Prints the certificate and keeps it; the exit code."""
    why_not = keep_in(state_dir(os.environ), os.getpid())(certificate)
    if why_not is not None:
        print(f"hip3 flatten: the certificate could not be written: {why_not}", file=sys.stderr)
    code = EXIT_FLAT if certificate.flat else EXIT_EXPOSED
    print(json.dumps(certificate.as_dict() | {"exit_code": code}) if as_json else certificate_text(certificate))
    return code


def _refused(code: int, message: str, *, as_json: bool) -> int:
    print(f"hip3 flatten: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"exit_code": code, "error": message, "flat": None}))
    return code


def default_exits() -> ExitConfig:
    """Prices of closes as a bot without `[position]` makes them (EXIT-4); times are a bot's business."""
    p = PositionKeys()
    return ExitConfig(
        p.time_stop_ms,
        p.reduce_only_timeout_ms,
        p.flatten_slippage_bps,
        p.flatten_slippage_step_bps,
        Decimal(p.flatten_slippage_cap_bps),
    )


def _check_deadline(seconds: float) -> None:
    if not seconds > 0:
        raise WrongArgument(f"--deadline-s {seconds}: expected seconds above 0")


def _account(text: str) -> str:
    try:
        return Address().parse(text)
    except NotAllowed as e:
        raise WrongArgument(f"--account {text}: expected {e.allowed}") from None


def _rest_url(network: Network, url: str | None) -> str:
    """The venue's base URL. Raises WrongArgument for one that belongs to another network."""
    if url is None:
        if network is Network.PAPER:
            raise WrongArgument("--url is needed on paper: the base URL of the exchange, as `hip3 exchange` prints it")
        return endpoints_for(network).rest_url
    try:
        parsed = Url(("https", "http")).parse(url)
    except NotAllowed as e:
        raise WrongArgument(f"--url {url}: expected {e.allowed}") from None
    of = network_of_host(urlsplit(parsed).hostname or "")
    if of is not None and of is not network:
        raise WrongArgument(f"--url {url} is {of.value}, but --network is {network.value}. Correct one of the two")
    return parsed


def _signer(options: KeyOptions, network: Network, account: str, vault: bool) -> Signer:
    source = named_source(options.env_var, options.file, options.keystore, options.passphrase_env)
    if source is None:
        raise WrongArgument("a key is needed to cancel and close: give --env-var, --file or --keystore; --verify only looks")
    key = load_trading_key(source, os.environ, passphrase=terminal_passphrase())
    return Signer(key, network, account if vault else None)
