"""Who signed, for whom, and may it run: signature, vault, agent, nonce, expiry, in the venue's order (PROTOCOL 12).

Recovers the signer from its own serialisation of the action, so a client that signed other bytes is told of an address
that does not exist, as on the venue. Refuses to execute anything.
"""

from __future__ import annotations

from collections import deque

from attrs import frozen

from hip3.exchange import texts
from hip3.exchange.engine import Engine
from hip3.exchange.nonces import NonceSet
from hip3.exchange.requests import ApproveAgent, Envelope, NotSimulated, parse_address
from hip3.exchange.texts import Refused, SchemaError
from hip3.venue.hyperliquid import signing
from hip3.venue.hyperliquid.actions import canonicalise, pack
from hip3.venue.hyperliquid.errors import ActionError

NONCES_KEPT = 10_000
"""Admitted nonces kept for inspection."""

# EIP-712 of user-signed actions (PROTOCOL 5.2).
_APPROVE_AGENT_FIELDS = [
    {"name": "hyperliquidChain", "type": "string"},
    {"name": "agentAddress", "type": "address"},
    {"name": "agentName", "type": "string"},
    {"name": "nonce", "type": "uint64"},
]
_DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


@frozen
class Admitted:
    """A nonce that was used up: by which key, when."""

    signer: str
    nonce: int
    time_ms: int


def recover_l1(envelope: Envelope, *, is_mainnet: bool) -> str | None:
    """The lower-case address that signed an L1 action, or None. Raises SchemaError where the action has a wrong field."""
    try:
        packed = pack(canonicalise(envelope.raw_action))
    except ActionError as error:
        raise SchemaError(str(error)) from error
    hashed = signing.action_hash(packed, envelope.nonce, envelope.vault, envelope.expires_after_ms)
    wire = envelope.signature
    address = signing.recover_signer(hashed, signing.Signature(wire.r, wire.s, wire.v), is_mainnet)
    return address.lower() if address is not None else None


def recover_approve_agent(envelope: Envelope) -> str | None:
    """The lower-case address that signed an approveAgent, or None where the signature recovers nothing."""
    action = envelope.raw_action
    message = {
        "primaryType": "HyperliquidTransaction:ApproveAgent",
        "domain": {
            "name": "HyperliquidSignTransaction",
            "version": "1",
            "chainId": _chain_id(action["signatureChainId"]),
            "verifyingContract": "0x" + "0" * 40,
        },
        "types": {"HyperliquidTransaction:ApproveAgent": _APPROVE_AGENT_FIELDS, "EIP712Domain": _DOMAIN_FIELDS},
        "message": {
            "hyperliquidChain": action["hyperliquidChain"],
            "agentAddress": parse_address(action["agentAddress"]),
            "agentName": action.get("agentName") or "",
            "nonce": action["nonce"],
        },
    }
    from eth_account import Account  # noqa: PLC0415 - half a second of imports that a start on paper does without
    from eth_account.messages import encode_typed_data  # noqa: PLC0415 - the same

    wire = envelope.signature
    try:
        vrs = (wire.v, int(wire.r, 16), int(wire.s, 16))
        address = Account.recover_message(encode_typed_data(full_message=message), vrs=vrs)
    except ValueError:
        return None
    return str(address).lower()


def _chain_id(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError as error:
        raise SchemaError(f"signatureChainId: expected hex, found {text!r}") from error


class Admission:
    """The gate of one exchange."""

    def __init__(self, engine: Engine, *, is_mainnet: bool) -> None:
        self._engine = engine
        self._is_mainnet = is_mainnet
        self._nonces: dict[str, NonceSet] = {}
        self.admitted: deque[Admitted] = deque(maxlen=NONCES_KEPT)

    def recover(self, envelope: Envelope) -> str | None:
        """The lower-case address whose key signed, or None. Raises SchemaError. Needs no state, so it is done on arrival."""
        if isinstance(envelope.action, ApproveAgent):
            return recover_approve_agent(envelope)
        if isinstance(envelope.action, NotSimulated):
            return None
        return recover_l1(envelope, is_mainnet=self._is_mainnet)

    def admit(self, envelope: Envelope, signer: str | None) -> str:
        """The account that the action of `signer` runs for, its nonce used up. Raises Refused.

        An expired action uses its nonce up before it is refused (PROTOCOL 4.5).
        """
        if isinstance(envelope.action, ApproveAgent):
            address = self._admit_user_signed(envelope, envelope.action, signer)
        else:
            address = self._admit_l1(envelope, signer)
        expires = envelope.expires_after_ms
        if expires is not None and self._engine.state.now_ms > expires:
            self._engine.charge_expired(address)
            raise Refused(texts.EXPIRED)
        return address

    def _admit_l1(self, envelope: Envelope, signer: str | None) -> str:
        if isinstance(envelope.action, NotSimulated):
            raise Refused(texts.not_simulated(envelope.action.kind))
        if envelope.vault is not None:  # there are no vaults and no sub-accounts here
            raise Refused(texts.no_vault(envelope.vault))
        if signer is None:
            raise Refused(texts.NO_SIGNER)
        account = signer if self._exists(signer) else self._engine.master_of(signer)
        if account is None:
            raise Refused(texts.no_user(signer))
        if not self._exists(account):
            raise Refused(texts.must_deposit(account))
        self._use_nonce(signer, envelope.nonce)
        return account

    def _admit_user_signed(self, envelope: Envelope, action: ApproveAgent, signer: str | None) -> str:
        if action.nonce != envelope.nonce:
            raise Refused(texts.NONCE_MISMATCH)
        if action.chain != ("Mainnet" if self._is_mainnet else "Testnet"):
            raise Refused(texts.WRONG_CHAIN)
        if envelope.vault is not None:
            raise Refused(texts.VAULT_REFUSED)
        if envelope.expires_after_ms is not None:
            raise Refused(texts.NO_EXPIRY)
        if signer is None:
            raise Refused(texts.NO_SIGNER)
        if not self._exists(signer):
            raise Refused(texts.must_deposit(signer))
        self._use_nonce(signer, envelope.nonce)
        return signer

    def _exists(self, address: str) -> bool:
        account = self._engine.state.accounts.get(address)
        return account is not None and account.exists

    def is_used(self, signer: str | None, nonce: int) -> bool:
        """Whether `signer` has used up `nonce`: nothing else that carries it can run any more."""
        known = self._nonces.get(signer) if signer is not None else None
        return known is not None and known.is_used(nonce)

    def _use_nonce(self, signer: str, nonce: int) -> None:
        now = self._engine.state.now_ms
        self._nonces.setdefault(signer, NonceSet()).admit(nonce, now)
        self.admitted.append(Admitted(signer, nonce, now))
