"""`hip3 keys rotate`: from one agent to the next (KEY-5). Makes a key, says what to approve, looks whether it is, records.

The same command again goes on where it stopped. Never prints a key, approves nothing and changes no configuration: the one
needs the account's own key, the other is the operator's file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import trio
from attrs import frozen
from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.keys_cmd import PASSPHRASE_VAR, env_part, new_passphrase, terminal_passphrase
from hip3.io.clock import SystemClock
from hip3.io.keys import KeySourceError, create_key_file, create_keystore, load_trading_key
from hip3.io.rest import QueryFailed, RestClient, http_client
from hip3.ops.agents import RetiredAgent, refuse_retired, retire
from hip3.ops.boot import NotApproved, PreflightRefused, find_agent
from hip3.ops.journal_file import state_dir
from hip3.settings import ConfigError, LoadedSettings, load
from hip3.settings.describe import endpoints_of
from hip3.settings.schema import FileKey, KeystoreKey
from hip3.venue.hyperliquid import info
from hip3.venue.hyperliquid.errors import WireError
from hip3.venue.hyperliquid.parse import ExtraAgent, parse_extra_agents

EXIT_PREFLIGHT = 3  # END-3
ASK_EVERY_S = 5.0
"""An approval is an action of a person; a question about it weighs 80 of the 1200 of a minute at most (PROTOCOL 3)."""
Wait = Annotated[float, Parameter(help="Seconds to wait for the approval, asking every 5.")]


@frozen
class Place:
    """Where the new key is, and in which form."""

    path: Path
    plain: bool
    passphrase_env: str

    @property
    def toml(self) -> str:
        where = f"path = {json.dumps(str(self.path))}"
        if self.plain:
            return f'{{type = "file", {where}}}'
        return f'{{type = "keystore", {where}{env_part(self.passphrase_env)}}}'

    def address(self) -> str:
        """Of the key that is there, else of a fresh one that is made there. Raises KeySourceError."""
        if not self.path.exists():
            if self.plain:
                return create_key_file(self.path)
            return create_keystore(self.path, new_passphrase(os.environ, self.passphrase_env))
        source = (
            FileKey(path=str(self.path))
            if self.plain
            else KeystoreKey(path=str(self.path), passphrase_env=self.passphrase_env)
        )
        return load_trading_key(source, os.environ, passphrase=terminal_passphrase()).address


def keys_rotate(
    *,
    out: Annotated[Path, Parameter(name="--out", help="File of the new key; made if it is not there, never overwritten.")],
    config: Config = None,
    plain: Annotated[bool, Parameter(negative="", help="64 hex digits, mode 0600, in place of a keystore.")] = False,
    passphrase_env: Annotated[str, Parameter(help="Variable that holds the keystore's passphrase.")] = PASSPHRASE_VAR,
    wait: Wait = 0.0,
    as_json: Json = False,
) -> int:
    """Change to a new agent: makes its key, prints the address to approve, verifies the approval, retires the old address.

    Run it again with the same --out once the address is approved. Exit code 0: approved, and the old agent is on record;
    3: not approved yet, or the venue did not answer; 2: configuration or key.

    Example: hip3 keys rotate --config config/testnet.toml --out ~/.hip3/agent-2.json --wait 300
    """
    try:
        loaded = load(config, os.environ)
        place = Place(out.expanduser().absolute(), plain, passphrase_env)
        user, old = _account(loaded), _old_address(loaded)
        new = _new_address(place, user, old)
        if not as_json:
            _guide(user, old, new, place)
        agent = trio.run(_approval, loaded, user, new, wait)
        if old.lower() != user.lower():  # the account's own key was no agent
            now_ms = SystemClock().wall_ms()
            retire(state_dir(os.environ), RetiredAgent(old, user, loaded.settings.network.value, new, now_ms))
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return e.exit_code
    except KeySourceError as e:
        return _failed(str(e), e.exit_code, as_json=as_json)
    except (PreflightRefused, QueryFailed, WireError) as e:
        return _failed(str(e), EXIT_PREFLIGHT, as_json=as_json)
    _done(old, new, place, agent, as_json=as_json)
    return 0


def _account(loaded: LoadedSettings) -> str:
    if loaded.settings.user_address is None or endpoints_of(loaded.settings) is None:
        raise KeySourceError(
            f"{loaded.source_path} names no account at a venue (user_address); there is no agent to replace"
        )
    return loaded.settings.user_address


def _old_address(loaded: LoadedSettings) -> str:
    """The configured agent's. Raises KeySourceError where the configuration names neither address nor key."""
    settings = loaded.settings
    if settings.signer_address is not None:
        return settings.signer_address
    if settings.signer.key_source is None:
        raise KeySourceError(f"{loaded.source_path} names neither signer_address nor signer.key_source; use `hip3 keys new`")
    return load_trading_key(
        settings.signer.key_source, os.environ, passphrase=terminal_passphrase(), resolve=loaded.resolve_path
    ).address


def _new_address(place: Place, user: str, old: str) -> str:
    """The new agent's address; refuses one that is in use, was used, or is the account's own."""
    new = place.address()
    if new.lower() == old.lower():
        raise KeySourceError(
            f"{place.path} holds the key of {old}, which the configuration uses already; choose another --out"
        )
    if new.lower() == user.lower():
        raise KeySourceError(f"{place.path} holds the key of the account itself; an agent needs one of its own")
    refuse_retired(state_dir(os.environ), new)
    return new


async def _approval(loaded: LoadedSettings, user: str, new: str, wait_s: float) -> ExtraAgent:
    """The venue's word on the new agent. Raises NotApproved when the time is over, QueryFailed and WireError."""
    endpoints = endpoints_of(loaded.settings)
    assert endpoints is not None  # _account has looked
    deadline, clock = trio.current_time() + wait_s, SystemClock()
    async with http_client() as client:
        rest = RestClient(client, clock, endpoints.rest_url)
        while True:
            try:
                agents = parse_extra_agents(await rest.info(info.extra_agents(user)))
                return await find_agent(rest, user, new, agents, clock.wall_ms())
            except NotApproved:
                if trio.current_time() + ASK_EVERY_S > deadline:
                    raise
            await trio.sleep(ASK_EVERY_S)


def _guide(user: str, old: str, new: str, place: Place) -> None:
    print(f"account    {user}\nold agent  {old}\nnew agent  {new}\nkey        {place.path}\n")
    print("Approve the new agent as an API wallet of the account at the venue. Give it a name of its own: under the name of")
    print("the old agent it would end that one at once, while the bot may still be trading with it.\n")


def _done(old: str, new: str, place: Place, agent: ExtraAgent, *, as_json: bool) -> None:
    if as_json:
        said = {"approved": True, "old": old, "new": new, "name": agent.name or None, "valid_until_ms": agent.valid_until_ms}
        print(json.dumps({**said, "key_source": place.toml}, sort_keys=True))
        return
    print(f"approved{f' as {agent.name}' if agent.name else ''}. Set in the configuration, then start anew:\n")
    print(f'  signer_address = "{new}"\n  [signer]\n  key_source = {place.toml}\n')
    print(f"{old} is on record as replaced: no start takes it any more. Remove its approval at the venue and its key.")


def _failed(message: str, code: int, *, as_json: bool) -> int:
    print(f"hip3 keys rotate: {message}", file=sys.stderr)
    if code == EXIT_PREFLIGHT:
        print("The new key is kept; run the same command again when that is done.", file=sys.stderr)
    if as_json:
        print(json.dumps({"approved": False, "exit_code": code, "error": message}, sort_keys=True))
    return code
