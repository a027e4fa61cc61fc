"""`hip3 watchdog`: a process beside the bot that flattens the account when the bot's heartbeat stops (DEAD-1)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.keys_cmd import PASSPHRASE_VAR, named_source, terminal_passphrase
from hip3.cli.outlet import unheard_is_no_error
from hip3.cli.words import printable
from hip3.core.errors import first_leaf
from hip3.io.certificate import FlatCertificate
from hip3.io.clock import SystemClock
from hip3.io.keys import KeySourceError, load_trading_key
from hip3.io.rest import http_client
from hip3.ops.boot import PreflightRefused
from hip3.ops.certificates import certificate_text, write_certificate
from hip3.ops.exit_config import exit_config
from hip3.ops.files import PidTaken, remove_pid, write_pid
from hip3.ops.flatten_tool import FlattenOrder, Tool, make_tool
from hip3.ops.heartbeat import NoBeat, read_beat
from hip3.ops.journal_file import iso_text, state_dir
from hip3.ops.stop import Stop, stop_signals
from hip3.ops.watchdog import SharedSigner, Watchdog
from hip3.settings import ConfigError, load
from hip3.settings.describe import endpoints_of
from hip3.settings.schema import Settings
from hip3.venue.hyperliquid.signing import Signer, TradingKey

EXIT_OK, EXIT_CONFIGURATION, EXIT_PREFLIGHT, EXIT_EXPOSED, EXIT_TAKEN = 0, 2, 3, 4, 6  # END-3
PID_FILE = "watchdog.pid"


def watchdog(
    *,
    config: Config = None,
    env_var: Annotated[str | None, Parameter(help="Environment variable that holds the watchdog's own key.")] = None,
    file: Annotated[Path | None, Parameter(help="Key file, mode 0600.")] = None,
    keystore: Annotated[Path | None, Parameter(help="Encrypted keystore.")] = None,
    passphrase_env: Annotated[str, Parameter(help="Variable with the keystore's passphrase.")] = PASSPHRASE_VAR,
    as_json: Json = False,
) -> int:
    """Guard the account of a bot: flatten it when its heartbeat is older than `watchdog.stale_ms`.

    Uses the bot's configuration and state folder, and an agent key of its own (a second API wallet of the account). Asks
    nothing of the venue while the bot is well. SIGINT or SIGTERM ends it; a flatten under way is finished first, a second
    signal gives it up. Exit code 0: ended, nothing left; 2: configuration or key; 3: the venue refuses account or key; 4: a
    flatten left something (listed); 6: another watchdog guards this state folder.

    Example: hip3 watchdog --config config/mainnet_micro.toml --keystore watchdog.json
    """
    say = _Speaker(as_json)
    try:
        settings = load(config, os.environ).settings
        source = named_source(env_var, file, keystore, passphrase_env)
        if source is None:
            return say.refuse(EXIT_CONFIGURATION, "an agent key of its own is needed: --env-var, --file or --keystore")
        if source == settings.signer.key_source:
            return say.refuse(
                EXIT_CONFIGURATION,
                "the key is signer.key_source, the bot's own: nonces of two processes collide. Approve a second agent (API "
                "wallet) of the account and give its key",
            )
        order = _order(settings, load_trading_key(source, os.environ, passphrase=terminal_passphrase()))
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except (KeySourceError, _NotGuardable) as e:
        return say.refuse(EXIT_CONFIGURATION, str(e))
    with unheard_is_no_error():
        return _guarded(order, settings.watchdog.stale_ms, say)


def _guarded(order: FlattenOrder, stale_ms: int, say: _Speaker) -> int:
    """Runs as the one watchdog of its state folder."""
    state, pid = state_dir(os.environ), os.getpid()
    try:
        write_pid(state / PID_FILE, pid)
    except PidTaken as e:
        return say.refuse(EXIT_TAKEN, str(e))
    except OSError as e:
        return say.refuse(EXIT_CONFIGURATION, f"{state}: {e.strerror or e}")
    code = EXIT_OK
    try:
        code = trio.run(_main, order, stale_ms, state, say)
    except* PreflightRefused as group:
        code = say.refuse(EXIT_PREFLIGHT, str(first_leaf(group)))
    except* SharedSigner as group:
        code = say.refuse(EXIT_CONFIGURATION, str(first_leaf(group)))
    finally:
        remove_pid(state / PID_FILE, pid)
    return code


async def _main(order: FlattenOrder, stale_ms: int, state: Path, say: _Speaker) -> int:
    stop, clock = Stop(), SystemClock()

    async def watch(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*stop_signals()) as received:
            task_status.started()
            async for number in received:
                stop.on_signal(number)

    def keep(certificate: FlatCertificate) -> str | None:
        say.certificate(certificate)
        try:
            write_certificate(state, certificate, os.getpid())
        except OSError as e:
            return f"{state}: {e.strerror or e}"
        return None

    async with trio.open_nursery() as nursery, http_client() as client:
        await nursery.start(watch)
        tool = make_tool(order, client, clock, lambda word, sentence: say("info", f"{word}: {sentence}"))
        dog = Watchdog(tool, lambda: read_beat(state), stale_ms, clock, stop, say, keep)
        await _begin(dog, tool, state, say)
        await dog.run()
        nursery.cancel_scope.cancel()
    say("info", f"ended: {stop.reason}")
    return EXIT_OK if dog.certificate is None or dog.certificate.flat else EXIT_EXPOSED


async def _begin(dog: Watchdog, tool: Tool, state: Path, say: _Speaker) -> None:
    """Says what is guarded, and refuses what can never work. A venue that does not answer now does not keep it away."""
    dog.trouble()  # raises where the bot that runs now signs with the same key
    unsure = await tool.identify()
    if unsure is not None:
        say("warning", f"{unsure}; guarding all the same")
    try:
        found = f"process {read_beat(state).pid}"
    except NoBeat as e:
        found = f"no heartbeat yet ({e})"
    say("info", f"watchdog of account {tool.order.account}, {found}, stale after {dog.stale_ms} ms")


class _NotGuardable(Exception):
    """A configuration without an account or a venue that outlives the bot: what, and what to do."""


def _order(settings: Settings, key: TradingKey) -> FlattenOrder:
    """Whose account, where, with which key. Raises _NotGuardable."""
    endpoints = endpoints_of(settings)
    if endpoints is None:
        raise _NotGuardable(
            "the embedded exchange ends with its bot, so there is nothing to guard; on paper set ws_url and info_url to "
            "those of `hip3 exchange`"
        )
    if settings.user_address is None:
        raise _NotGuardable("user_address is not set; name the account to guard")
    if settings.signer_address is not None and key.address.lower() == settings.signer_address:
        raise _NotGuardable(
            f"the key's address {key.address} is signer_address, the bot's own signer: nonces of two processes collide. "
            "Approve a second agent (API wallet) of the account and give its key"
        )
    signer = Signer(key, settings.network, settings.vault_address)
    has_vault = settings.vault_address is not None
    return FlattenOrder(
        settings.user_address, endpoints.rest_url, exit_config(settings), signer, None, has_vault, "hip3 watchdog"
    )


class _Speaker:
    """Lines for people, or JSON lines for machines, on standard output."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, level: str, sentence: str) -> None:
        now = iso_text(SystemClock().wall_ms())
        text = printable(sentence)
        line = json.dumps({"time": now, "level": level, "what": text}) if self._as_json else f"{now} {level}: {text}"
        print(line, flush=True)

    def certificate(self, certificate: FlatCertificate) -> None:
        print(json.dumps(certificate.as_dict()) if self._as_json else certificate_text(certificate), flush=True)

    def refuse(self, code: int, message: str) -> int:
        print(f"hip3 watchdog: {message}", file=sys.stderr)
        if self._as_json:
            print(json.dumps({"exit_code": code, "error": message}))
        return code
