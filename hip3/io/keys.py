"""Trading keys at rest: read from an environment variable, a file or an encrypted keystore; new ones encrypted (KEY-1).

Refuses a key file that others may read, a raw binary key, and to overwrite anything. No error, log or repr from here
shows what a source held: messages name the place and the form expected, and causes are not chained, because the text of
a library's exception is not under our control (KEY-4).

Decrypting a keystore takes about a second of CPU by design; call it before the Trio run or in a thread.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from hip3.settings.errors import EXIT_CONFIGURATION
from hip3.settings.schema import EnvVarKey, FileKey, KeySource, KeystoreKey
from hip3.venue.hyperliquid.errors import BadKeyText
from hip3.venue.hyperliquid.signing import TradingKey

MAX_KEY_BYTES = 1024
"""A key is 66 characters; the rest is room for white space."""
MAX_KEYSTORE_BYTES = 64 * 1024
"""A v3 keystore has about 500 bytes."""
SCRYPT_N = 1 << 18
"""Work factor of new keystores, the one of the Web3 v3 definition and of geth."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_KEY_FORM = "64 hex digits, optionally after 0x"


class KeySourceError(Exception):
    """A key cannot be had or is the wrong one: the place, what is wrong, the remedy; never the contents. Exit code 2."""

    exit_code = EXIT_CONFIGURATION


def load_trading_key(
    source: KeySource,
    env: Mapping[str, str],
    *,
    passphrase: Callable[[], str] | None = None,
    resolve: Callable[[str], Path] = Path,
) -> TradingKey:
    """The key of `source`.

    A keystore's passphrase is taken from its environment variable, else from `passphrase()` (a prompt), else refused.
    `resolve` makes a path of the configuration absolute (`LoadedSettings.resolve_path`). Raises KeySourceError.
    """
    if isinstance(source, EnvVarKey):
        return _from_env(source.var_name, env)
    if isinstance(source, FileKey):
        return _from_file(resolve(source.path))
    return _from_keystore(resolve(source.path), _passphrase(source, env, passphrase))


def check_address(key: TradingKey, signer_address: str | None) -> None:
    """Raises KeySourceError, naming both addresses, where the key's is not the configured one (KEY-2)."""
    if signer_address is not None and key.address.lower() != signer_address.lower():
        raise KeySourceError(
            f"the trading key's address is {key.address}, but signer_address is {signer_address}; "
            "give the key of that API wallet, or correct signer_address"
        )


def create_keystore(path: Path, passphrase: str, *, scrypt_n: int = SCRYPT_N) -> str:
    """Writes a keystore with a fresh random key, mode 0600, and returns the key's checksum address.

    Refuses an empty passphrase and an existing `path` (a symbolic link included). Raises KeySourceError.
    """
    if not passphrase:
        raise KeySourceError("the passphrase of a keystore must not be empty")
    secret, key = _fresh()
    from eth_account import Account  # noqa: PLC0415 - half a second of imports that a start on paper does without

    # The kdf is stated because eth-account takes it from an environment variable otherwise.
    keystore = Account.encrypt(secret, passphrase, kdf="scrypt", iterations=scrypt_n)
    _write_new(path, json.dumps(keystore).encode("ascii"))
    return key.address


def create_key_file(path: Path) -> str:
    """Writes a fresh random key as 64 hex digits, mode 0600 and not encrypted, and returns its checksum address.

    Refuses an existing `path` (a symbolic link included). Raises KeySourceError.
    """
    secret, key = _fresh()
    _write_new(path, secret.hex().encode("ascii") + b"\n")
    return key.address


def _fresh() -> tuple[bytes, TradingKey]:
    secret = secrets.token_bytes(32)
    try:
        return secret, TradingKey(secret)
    except BadKeyText:  # zero or past the curve's order: 1 in 2**128
        raise KeySourceError("the random key was not valid; try again") from None


def _from_env(name: str, env: Mapping[str, str]) -> TradingKey:
    text = env.get(name)
    if text is None or not text.strip():
        state = "not set" if text is None else "empty"
        raise KeySourceError(
            f"environment variable {name} is {state}; signer.key_source names it: put the key of the API wallet there "
            f"({_KEY_FORM})"
        )
    return _from_text(text, f"environment variable {name}")


def _from_file(path: Path) -> TradingKey:
    content = _read(path, MAX_KEY_BYTES, private=True)
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() and not text.replace("\r", "").replace("\n", "").replace("\t", "").isprintable():
        text = ""
    if content and not text:
        what = "a raw 32-byte key" if len(content) == 32 else "binary"
        raise KeySourceError(f"key file {path} is {what}, expected text: {_KEY_FORM}; write the key as hex")
    if not text.strip():
        raise KeySourceError(f"key file {path} is empty, expected {_KEY_FORM}")
    return _from_text(text, f"key file {path}")


def _from_text(text: str, where: str) -> TradingKey:
    try:
        return TradingKey.from_text(text)
    except BadKeyText:
        found = len(text.strip())
        raise KeySourceError(
            f"{where} holds no private key: expected {_KEY_FORM} and a number within the curve's order, "
            f"found {found} characters"
        ) from None


def _passphrase(source: KeystoreKey, env: Mapping[str, str], ask: Callable[[], str] | None) -> str:
    found = env.get(source.passphrase_env)
    if found:
        return found
    if ask is None:
        raise KeySourceError(
            f"keystore {source.path} needs its passphrase: set environment variable {source.passphrase_env}, "
            "or start from a terminal and type it"
        )
    return ask()


def _from_keystore(path: Path, passphrase: str) -> TradingKey:
    content = _read(path, MAX_KEYSTORE_BYTES, private=False)
    try:
        keystore = json.loads(content)
    except (ValueError, RecursionError):
        keystore = None
    if not isinstance(keystore, dict) or keystore.get("version") != 3:
        raise KeySourceError(
            f'keystore {path} is not a Web3 keystore of version 3 (a JSON object with "version": 3 and "crypto"); '
            "make one with `hip3 keys new --out FILE`"
        )
    from eth_account import Account  # noqa: PLC0415 - as above

    try:
        secret = bytes(Account.decrypt(keystore, passphrase))
    except Exception as e:  # whatever a library trips over in a foreign file, the fact for the operator is the same
        if isinstance(e, ValueError) and "MAC mismatch" in str(e):
            raise KeySourceError(f"the passphrase does not open keystore {path}; type it again") from None
        raise KeySourceError(
            f"keystore {path} cannot be decrypted: parts of it are missing, damaged or unknown; restore it from a backup"
        ) from None
    try:
        return TradingKey(secret)
    except BadKeyText:
        raise KeySourceError(f"keystore {path} holds no valid private key; make another one") from None


def _read(path: Path, limit: int, *, private: bool) -> bytes:
    """The bytes of a regular file; the mode is read from the open file, so it is that of what is read."""
    try:
        # Without O_NONBLOCK a named pipe would hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise KeySourceError(f"{path} cannot be opened: {e.strerror}; check signer.key_source") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise KeySourceError(f"{path} is not a regular file; a key is read from a file only")
        if private and stat.S_IMODE(info.st_mode) & (_OTHERS | stat.S_IXUSR):
            mode = f"{stat.S_IMODE(info.st_mode):04o}"
            raise KeySourceError(f"key file {path} has mode {mode}, expected 0600 or stricter; run: chmod 600 {path}")
        content = os.read(descriptor, limit + 1)  # far below what one read of a regular file returns whole
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise KeySourceError(f"{path} is longer than {limit} bytes and is no key; check signer.key_source")
    return content


def _write_new(path: Path, content: bytes) -> None:
    """Creates `path` with mode 0600 whatever the umask, writes and syncs it; removes it again where that fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeySourceError(f"{path} exists and is not overwritten; choose another name") from None
    except OSError as e:
        raise KeySourceError(f"{path} cannot be created: {e.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        path.unlink(missing_ok=True)
        raise KeySourceError(f"{path} cannot be written: {e.strerror}") from None
