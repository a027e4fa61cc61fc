#!/usr/bin/env python
"""Checks a file of signing vectors: scripts/check_vectors.py FILE

The file is a list of `{key, address, action, nonce, vault_address, expires_after, is_mainnet, action_hash, signature}`,
or one object with `key`, `signer`, `nonce` and named `cases`, each signed for both networks (its user-signed cases are no
L1 actions and are skipped). Every case is hashed and signed again; what may be signed goes through the bot's own signer.
Each failing case is named and the last line is `N passed, M failed`. Exit code: 0 all pass, 1 a case fails, 2 the file
cannot be read. No key is ever printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_VENV = Path(__file__).resolve().parents[1] / ".venv"
if Path(sys.prefix) != _VENV and (_VENV / "bin" / "python").exists():
    # Called with another Python: the packages are in the environment that scripts/run and scripts/test make.
    os.execv(_VENV / "bin" / "python", [str(_VENV / "bin" / "python"), *sys.argv])  # noqa: S606 - no shell is meant

import msgspec

from hip3.venue.hyperliquid.actions import LISTED, canonicalise, pack
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.errors import ActionError, BadKeyText, UnsupportedAction
from hip3.venue.hyperliquid.signing import (
    Signature,
    Signer,
    TradingKey,
    action_hash,
    agent_digest,
    assert_backend,
    recover_signer,
)


class WireSignature(msgspec.Struct):
    """A signature as an SDK writes it: leading zeros may be missing."""

    r: str
    s: str
    v: int


class Vector(msgspec.Struct):
    """One case of the list shape."""

    key: str
    address: str
    action: dict[str, object]
    nonce: int
    is_mainnet: bool
    action_hash: str
    signature: WireSignature
    vault_address: str | None = None
    expires_after: int | None = None


class NamedCase(msgspec.Struct):
    """One case of the shape with names; a user-signed one has no hash."""

    action: dict[str, object]
    hash: str | None = None
    sig_mainnet: WireSignature | None = None
    sig_testnet: WireSignature | None = None
    vault: str | None = msgspec.field(default=None, name="vaultAddress")
    expires_after: int | None = msgspec.field(default=None, name="expiresAfter")


class NamedFile(msgspec.Struct):
    """The shape with names: one key and nonce for all cases."""

    key: str
    signer: str
    nonce: int
    cases: dict[str, NamedCase]


def read(path: Path) -> list[tuple[str, Vector]]:
    """Names and cases of a file. Raises OSError, or ValueError that says what is wrong without showing a value."""
    try:
        vectors = list(_cases(path.read_bytes()))
    except (msgspec.MsgspecError, RecursionError) as e:
        raise ValueError(f"is not a file of signing vectors: {e}") from None
    if not vectors:
        raise ValueError("holds no case of an L1 action")
    return vectors


def _cases(raw: bytes) -> Iterator[tuple[str, Vector]]:
    found = msgspec.json.decode(raw, type=list[Vector] | NamedFile)
    if isinstance(found, list):
        yield from ((f"case {index} ({vector.action.get('type')})", vector) for index, vector in enumerate(found))
        return
    for name, case in found.cases.items():
        for network, signature in (("mainnet", case.sig_mainnet), ("testnet", case.sig_testnet)):
            if case.hash is not None and signature is not None:
                yield (
                    f"{name} on {network}",
                    Vector(
                        key=found.key,
                        address=found.signer,
                        action=case.action,
                        nonce=found.nonce,
                        is_mainnet=network == "mainnet",
                        action_hash=case.hash,
                        signature=signature,
                        vault_address=case.vault,
                        expires_after=case.expires_after,
                    ),
                )


def check(vector: Vector) -> str | None:
    """What is wrong with one case, or None."""
    try:
        key = TradingKey.from_text(vector.key)
        if key.address.lower() != vector.address.lower():
            return f"the key's address is {key.address}, the case says {vector.address}"
        hashed = action_hash(_packed(vector.action), vector.nonce, vector.vault_address, vector.expires_after)
        if f"0x{hashed.hex()}" != vector.action_hash.lower():
            return f"action hash is 0x{hashed.hex()}, the case says {vector.action_hash}"
        ours = _sign(key, vector, hashed)
        expected = Signature(vector.signature.r, vector.signature.s, vector.signature.v)
        same = _normal(ours) == _normal(expected)
    except (ActionError, BadKeyText, ValueError, OverflowError) as e:
        return str(e)
    if not same:
        return f"signature is {ours}, the case says {expected}"
    if recover_signer(hashed, expected, vector.is_mainnet) != key.address:
        return "the signature does not recover to the case's address"
    return None


def _packed(action: dict[str, object]) -> bytes:
    try:
        return pack(canonicalise(action))
    except UnsupportedAction:
        # A type that our table does not have: the file's own key order is the only one known.
        return pack(action)


def _sign(key: TradingKey, vector: Vector, hashed: bytes) -> Signature:
    if vector.action.get("type") in LISTED and "builder" not in vector.action:
        network = Network.MAINNET if vector.is_mainnet else Network.TESTNET
        signer = Signer(key, network, vector.vault_address)
        return signer.sign(vector.action, vector.nonce, vector.expires_after).signature
    return key.sign_digest(agent_digest(hashed, vector.is_mainnet))


def _normal(signature: Signature) -> tuple[int, int, int]:
    return int(signature.r, 16), int(signature.s, 16), signature.v


def main(arguments: list[str]) -> int:
    """Runs the check and returns the exit code."""
    if len(arguments) != 1 or arguments[0] in {"-h", "--help"}:
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    assert_backend()
    try:
        vectors = read(Path(arguments[0]))
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        print(f"{arguments[0]}: {reason}", file=sys.stderr)
        return 2
    failed = 0
    for name, vector in vectors:
        problem = check(vector)
        if problem is not None:
            failed += 1
            print(f"FAILED {name}: {problem}")
    print(f"{len(vectors) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
