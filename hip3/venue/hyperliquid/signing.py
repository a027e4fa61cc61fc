"""Signing of L1 actions, and recovery of a signer (PROTOCOL 5.1, SIG-1 to SIG-5).

An action is hashed with its nonce, vault and expiry; the hash is the `connectionId` of a phantom agent, and that agent is
what EIP-712 signs. The post id of a WebSocket request is not an input anywhere here: `Signer.sign` has no parameter for it.

Refused: to sign without a key, to sign an action type that is not listed (PRD-6), and to run on anything but the C
secp256k1 of coincurve (the pure Python one takes milliseconds). Key bytes live in `TradingKey` alone; its repr is the
address, it cannot be copied into a pickle, and no error shows what it was made from.

The slow way, eth-account's typed data, is the oracle of the tests and not used here.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import msgspec
from attrs import frozen
from eth_hash.backends.pysha3 import keccak256 as keccak
from eth_utils.address import to_checksum_address

from hip3.venue.hyperliquid.actions import Action, pack, signable
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.errors import BackendMissing, BadKeyText, NoTradingKey

if TYPE_CHECKING:
    from coincurve import PrivateKey

_KEY_TEXT = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")
_KEY_FORM = "64 hex digits, optionally after 0x"
_HEX_32 = re.compile(r"0x[0-9a-fA-F]{1,64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_U64 = 1 << 64

# EIP-712 of the phantom agent (PROTOCOL 5.1). None of this depends on the action, so it is hashed once, here.
_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_CHAIN_ID = 1337
_DOMAIN_SEPARATOR = keccak(
    keccak(_DOMAIN_TYPE) + keccak(b"Exchange") + keccak(b"1") + _CHAIN_ID.to_bytes(32, "big") + bytes(32)
)
_AGENT_TYPE = keccak(b"Agent(string source,bytes32 connectionId)")
_MAINNET_AGENT = _AGENT_TYPE + keccak(b"a")
_OTHER_AGENT = _AGENT_TYPE + keccak(b"b")
_DIGEST_PREFIX = b"\x19\x01" + _DOMAIN_SEPARATOR


def _backend() -> ModuleType:
    """The coincurve module, imported late so that its absence is our error and not an import failure at start-up."""
    try:
        import coincurve  # noqa: PLC0415 - late on purpose, see above
    except ImportError as e:
        raise BackendMissing(
            "coincurve (C secp256k1) cannot be imported; expected version 21 or newer. "
            "Install the locked requirements and start again."
        ) from e
    return coincurve


def assert_backend() -> None:
    """Checks that coincurve is there and computes the known address of private key 1. Raises BackendMissing (SIG-5)."""
    expected = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"  # private key 1, in every Ethereum test suite
    found = TradingKey((1).to_bytes(32, "big")).address
    if found != expected:
        raise BackendMissing(f"coincurve derives {found} from private key 1, expected {expected}; reinstall it")


def _address_of(public_key: bytes) -> str:
    """Checksum address of an uncompressed public key (65 bytes, the first is the format)."""
    address: str = to_checksum_address(keccak(public_key[1:])[-20:])
    return address


@frozen
class Signature:
    """Wire signature: `r` and `s` are `0x` and 64 hex digits, zero-padded; `v` is 27 or 28 (SIG-4).

    Foreign ones may be shorter: the official SDK strips leading zeros (PROTOCOL 4).
    """

    r: str
    s: str
    v: int

    def as_dict(self) -> dict[str, object]:
        return {"r": self.r, "s": self.s, "v": self.v}


class TradingKey:
    """A private key. Shows its address and nothing else (KEY-4)."""

    __slots__ = ("_key", "address")

    _key: PrivateKey
    address: str
    """Checksum address."""

    def __init__(self, secret: bytes) -> None:
        """From 32 bytes. Raises BadKeyText where they are no valid private key, BackendMissing without coincurve."""
        coincurve = _backend()
        if len(secret) != 32:
            raise BadKeyText(f"a private key has 32 bytes, got {len(secret)}")
        try:
            self._key = coincurve.PrivateKey(secret)
        except ValueError:
            # Not chained: the cause belongs to a library, and its text is not under our control.
            raise BadKeyText("the private key is zero or not below the order of the curve; use another key") from None
        self.address = _address_of(self._key.public_key.format(compressed=False))

    @classmethod
    def from_text(cls, text: str) -> TradingKey:
        """From 64 hex digits, `0x` optional, white space around trimmed (KEY-1). Raises BadKeyText."""
        match = _KEY_TEXT.fullmatch(text.strip())
        if match is None:
            raise BadKeyText(f"a private key is {_KEY_FORM}; got {len(text.strip())} characters that are not that")
        return cls(bytes.fromhex(match[1]))

    def sign_digest(self, digest: bytes) -> Signature:
        """Deterministic (RFC 6979) signature of a 32-byte digest."""
        raw = self._key.sign_recoverable(digest, hasher=None)
        return Signature(f"0x{raw[:32].hex()}", f"0x{raw[32:64].hex()}", raw[64] + 27)

    def __repr__(self) -> str:
        return f"<TradingKey {self.address}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a trading key is not pickled or copied; pass the object")


def action_hash(encoded: bytes, nonce: int, vault: str | None, expires_after: int | None) -> bytes:
    """keccak of `msgpack ‖ nonce u64 BE ‖ vault tag ‖ expiry tag` (SIG-1).

    `vault` is an address in any case; `nonce` and `expires_after` are Unix ms. Raises ValueError for a value that does
    not fit its field.
    """
    data = encoded + _u64(nonce, "nonce")
    data += b"\x00" if vault is None else b"\x01" + _address_bytes(vault)
    if expires_after is not None:
        data += b"\x00" + _u64(expires_after, "expires_after")
    digest: bytes = keccak(data)
    return digest


def agent_digest(connection_id: bytes, is_mainnet: bool) -> bytes:
    """The 32 bytes that are signed: EIP-712 digest of the phantom agent over an action hash (SIG-1)."""
    agent = _MAINNET_AGENT if is_mainnet else _OTHER_AGENT
    digest: bytes = keccak(_DIGEST_PREFIX + keccak(agent + connection_id))
    return digest


def recover_signer(action_hash: bytes, signature: Signature, is_mainnet: bool) -> str | None:
    """Checksum address that signed `action_hash`, or None where nothing can be recovered.

    For servers. `r` and `s` may have 1 to 64 hex digits, as the venue accepts (PROTOCOL 4). A wrong hash or network does
    not give None but some other address; so does the venue.
    """
    if not (_HEX_32.fullmatch(signature.r) and _HEX_32.fullmatch(signature.s) and signature.v in (27, 28)):
        return None
    raw = bytes.fromhex(signature.r[2:].zfill(64) + signature.s[2:].zfill(64)) + bytes([signature.v - 27])
    coincurve = _backend()
    try:
        key = coincurve.PublicKey.from_signature_and_message(raw, agent_digest(action_hash, is_mainnet), hasher=None)
    except ValueError:
        return None
    return _address_of(key.format(compressed=False))


@frozen
class SignedAction:
    """An action with everything that its signature covers."""

    action: dict[str, object]
    nonce: int
    signature: Signature
    vault: str | None
    expires_after: int | None
    hash: str
    """Of the action with nonce, vault and expiry, hexadecimal: what was signed (SIG-1)."""

    def body(self) -> dict[str, object]:
        """The `/exchange` envelope; absent options are left out (PROTOCOL 4)."""
        body: dict[str, object] = {
            "action": self.action,
            "nonce": self.nonce,
            "signature": self.signature.as_dict(),
        }
        if self.vault is not None:
            body["vaultAddress"] = self.vault
        if self.expires_after is not None:
            body["expiresAfter"] = self.expires_after
        return body


class Signer:
    """Signs actions of one key for one network, on behalf of `vault` (a vault or sub-account) where given."""

    def __init__(self, key: TradingKey | None, network: Network, vault: str | None = None) -> None:
        """`key` None observes only. Raises ValueError for a malformed vault address."""
        if vault is not None:
            _address_bytes(vault)
        self._key = key
        self.network = network
        self.vault = None if vault is None else vault.lower()

    @property
    def address(self) -> str:
        """Checksum address of the key. Raises NoTradingKey."""
        return self._require().address

    def sign(self, action: Action, nonce: int, expires_after: int | None = None) -> SignedAction:
        """Signs the normal form of `action`; `nonce` and `expires_after` are Unix ms.

        Raises NoTradingKey, UnsupportedAction and MalformedAction (`actions.signable`), ValueError for a nonce or expiry
        that does not fit 64 bits.
        """
        key = self._require()
        canonical = signable(action)
        hashed = action_hash(pack(canonical), nonce, self.vault, expires_after)
        signature = key.sign_digest(agent_digest(hashed, self.network.is_mainnet))
        return SignedAction(canonical, nonce, signature, self.vault, expires_after, f"0x{hashed.hex()}")

    def __repr__(self) -> str:
        return f"<Signer {self.network.value} {self._key.address if self._key else 'without key'}>"

    def _require(self) -> TradingKey:
        if self._key is None:
            raise NoTradingKey("nothing can be signed in observation; configure signer.key_source to trade")
        return self._key


def encode_post(post_id: int, signed: SignedAction) -> str:
    """The WebSocket post frame as JSON text (PROTOCOL 2.5). The id correlates the answer; it is not signed."""
    request = {"type": "action", "payload": signed.body()}
    return msgspec.json.encode({"method": "post", "id": post_id, "request": request}).decode()


def _u64(value: int, name: str) -> bytes:
    if not 0 <= value < _U64:
        raise ValueError(f"{name} must fit in 64 bits, got {value}")
    return value.to_bytes(8, "big")


def _address_bytes(address: str) -> bytes:
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"an address is 0x and 40 hex digits, got {len(address)} characters that are not that")
    return bytes.fromhex(address[2:])
