"""`hip3 keys new|address`: makes and identifies API wallet keys. Never prints a key; there is no option to do so."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.io.keys import KeySourceError, check_address, create_keystore, load_trading_key
from hip3.settings import ConfigError, load_for_check
from hip3.settings.errors import NotAllowed
from hip3.settings.schema import EnvVarKey, FileKey, KeySource, KeystoreKey
from hip3.venue.hyperliquid.signing import TradingKey

PASSPHRASE_VAR = "HIP3_KEYSTORE_PASSPHRASE"  # noqa: S105 - the name of a variable


def keys_new(
    *,
    out: Annotated[Path, Parameter(name="--out", help="File to create; an existing one is never overwritten.")],
    passphrase_env: Annotated[str, Parameter(help="Variable that holds the passphrase; not set: you type it.")] = (
        PASSPHRASE_VAR
    ),
    as_json: Json = False,
) -> int:
    """Make a fresh API wallet (agent) key in an encrypted keystore, mode 0600, and print its address.

    Exit code 0: made; 2: the file exists or cannot be written, or there is no passphrase.

    Example: hip3 keys new --out ~/.hip3/agent.json
    """
    path = out.expanduser()
    try:
        address = create_keystore(path, new_passphrase(os.environ, passphrase_env))
    except KeySourceError as e:
        return _failed(e)
    if as_json:
        print(json.dumps({"address": address, "keystore": str(path)}))
        return 0
    print(f"address   {address}\nkeystore  {path}\n")
    print("Next: approve this address as an API wallet of your account at the venue, then set in the configuration:")
    print(f'  signer_address = "{address}"\n  [signer]')
    place = f"path = {json.dumps(str(path.absolute()))}{env_part(passphrase_env)}"
    print(f'  key_source = {{type = "keystore", {place}}}')
    return 0


def keys_address(
    *,
    config: Config = None,
    env_var: Annotated[str | None, Parameter(help="Variable that holds the key.")] = None,
    file: Annotated[Path | None, Parameter(help="File that holds the key, mode 0600.")] = None,
    keystore: Annotated[Path | None, Parameter(help="Encrypted keystore.")] = None,
    passphrase_env: Annotated[str, Parameter(help="Variable that holds the keystore's passphrase.")] = PASSPHRASE_VAR,
    as_json: Json = False,
) -> int:
    """Print the address of a key: of the place named, else of the configuration's [signer], checked against it.

    Exit code 0: printed; 2: there is no such key, it cannot be read, or it is not the one that is configured.

    Example: hip3 keys address --config config/testnet.toml
    """
    try:
        named = named_source(env_var, file, keystore, passphrase_env, config)
        if named is None:
            key = _configured_key(config)
        else:
            key = load_trading_key(named, os.environ, passphrase=terminal_passphrase())
    except ConfigError as e:
        print_config_error(e)
        return e.exit_code
    except KeySourceError as e:
        return _failed(e)
    print(json.dumps({"address": key.address}) if as_json else key.address)
    return 0


def terminal_passphrase() -> Callable[[], str] | None:
    """A prompt for a keystore's passphrase that echoes nothing, or None where no terminal is attached."""
    return (lambda: getpass.getpass("Passphrase of the keystore: ")) if sys.stdin.isatty() else None


def _configured_key(config: Path | None) -> TradingKey:
    loaded = load_for_check(config, os.environ)
    source = loaded.settings.signer.key_source
    if source is None:
        raise KeySourceError(
            f"configuration {loaded.source_path} names no signer.key_source; set it, or give --env-var, --file or --keystore"
        )
    key = load_trading_key(source, os.environ, passphrase=terminal_passphrase(), resolve=loaded.resolve_path)
    check_address(key, loaded.settings.signer_address)
    return key


def named_source(
    env_var: str | None, file: Path | None, keystore: Path | None, passphrase_env: str, config: Path | None = None
) -> KeySource | None:
    """The place given by options, None where it is the configuration's. Raises KeySourceError for more than one."""
    if sum(each is not None for each in (env_var, file, keystore, config)) > 1:
        raise KeySourceError("give one of --config, --env-var, --file and --keystore")
    try:
        if env_var is not None:
            return EnvVarKey(var_name=env_var)
        if file is not None:
            return FileKey(path=str(file.expanduser()))
        if keystore is not None:
            return KeystoreKey(path=str(keystore.expanduser()), passphrase_env=passphrase_env)
    except NotAllowed as e:
        raise KeySourceError(f"not a place of a key: {e.allowed}") from None
    return None


def new_passphrase(env: Mapping[str, str], variable: str) -> str:
    """From the environment, else typed twice."""
    found = env.get(variable)
    if found:
        return found
    if not sys.stdin.isatty():
        raise KeySourceError(f"a passphrase is needed: set environment variable {variable}, or run this in a terminal")
    typed = getpass.getpass("New passphrase: ")
    if typed != getpass.getpass("Again: "):
        raise KeySourceError("the two passphrases differ; nothing was created")
    return typed


def env_part(variable: str) -> str:
    return "" if variable == PASSPHRASE_VAR else f", passphrase_env = {json.dumps(variable)}"


def _failed(error: KeySourceError) -> int:
    print(f"key: {error}", file=sys.stderr)
    return error.exit_code
