"""Signing: every vector, the oracle, and the key that never shows."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import sys
import traceback
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from hip3.core.ids import CloidFactory, MarketKey, MarketSpec, OrderSide, TimeInForce
from hip3.core.orders import OrderIntent
from hip3.venue.hyperliquid.actions import LISTED, canonicalise, noop_action, order_action, pack
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.errors import BackendMissing, BadKeyText, NoTradingKey, UnsupportedAction
from hip3.venue.hyperliquid.signing import (
    Signature,
    Signer,
    TradingKey,
    action_hash,
    agent_digest,
    assert_backend,
    encode_post,
    recover_signer,
)

# The public test key of the official SDK (PROTOCOL 5.1).
KEY_TEXT = "0xe908f86dbb4d55ac876378565aafeabc187f6690f046459397b17d9b9a19688e"
ADDRESS = "0xcD49bbAc6E85fdEB167EB7cA41A945d2b8758F6F"
KEY = TradingKey.from_text(KEY_TEXT)
NONCE = 1767225600000


def load(shared_data: Path, name: str) -> Any:
    return json.loads((shared_data / "signing" / name).read_text())


def numbers(r: str, s: str, v: int) -> tuple[int, int, int]:
    """A signature as numbers: the SDKs write `r` and `s` without leading zeros."""
    return int(r, 16), int(s, 16), v


def network(is_mainnet: bool) -> Network:
    return Network.MAINNET if is_mainnet else Network.TESTNET


def signed_by_us(key: TradingKey, case: dict[str, Any], hashed: bytes) -> Signature:
    """The signature of a case: by the signer where the type is listed, else over the hash."""
    if case["action"]["type"] in LISTED and "builder" not in case["action"]:
        signer = Signer(key, network(case["is_mainnet"]), case["vault_address"])
        return signer.sign(case["action"], case["nonce"], case["expires_after"]).signature
    return key.sign_digest(agent_digest(hashed, case["is_mainnet"]))


def test_sdk_vectors(shared_data: Path) -> None:
    """SIG-3: hash and signature of the 40 actions signed with the official SDK."""
    cases = load(shared_data, "sdk_vectors.json")
    assert len(cases) == 40
    for index, case in enumerate(cases):
        key = TradingKey.from_text(case["key"])
        assert key.address == case["address"]
        packed = pack(canonicalise(case["action"]))
        hashed = action_hash(packed, case["nonce"], case["vault_address"], case["expires_after"])
        assert f"0x{hashed.hex()}" == case["action_hash"], index
        ours = signed_by_us(key, case, hashed)
        assert numbers(ours.r, ours.s, ours.v) == numbers(**case["signature"]), index
        assert recover_signer(hashed, Signature(**case["signature"]), case["is_mainnet"]) == case["address"]


def test_l1_vectors_on_both_networks(shared_data: Path) -> None:
    """SIG-3: the 21 L1 cases, with vault, expiry, builder, trigger, priority and flags, on both networks."""
    file = load(shared_data, "l1_vectors.json")
    key = TradingKey.from_text(file["key"])
    assert key.address == file["signer"]
    cases = {name: case for name, case in file["cases"].items() if "hash" in case}
    assert len(cases) == 21
    for name, case in cases.items():
        packed = pack(canonicalise(case["action"]))
        hashed = action_hash(packed, file["nonce"], case["vaultAddress"], case["expiresAfter"])
        assert f"0x{hashed.hex()}" == case["hash"], name
        for is_mainnet, expected in ((True, case["sig_mainnet"]), (False, case["sig_testnet"])):
            flat = {
                "action": case["action"],
                "nonce": file["nonce"],
                "vault_address": case["vaultAddress"],
                "expires_after": case["expiresAfter"],
                "is_mainnet": is_mainnet,
            }
            ours = signed_by_us(key, flat, hashed)
            assert numbers(ours.r, ours.s, ours.v) == numbers(**expected), name


def test_official_test_suite_vectors(shared_data: Path) -> None:
    """SIG-3: the L1 literals of the official SDK's own tests, types that the venue does not have included."""
    seen = 0
    for case in load(shared_data, "python_sdk_signing_test.json")["vectors"]:
        if case["kind"] not in {"l1_action", "connection_id_only"}:
            continue
        action = case["action"]
        packed = pack(action) if action["type"] == "dummy" else pack(canonicalise(action))
        hashed = action_hash(packed, case["nonce"], case["vault_address"], case["expires_after"])
        expected = case["expected"]
        if case["kind"] == "connection_id_only":
            assert f"0x{hashed.hex()}" == expected["connectionId"]
        else:
            assert f"0x{hashed.hex()}" == case["connection_id"]
            ours = signed_by_us(TradingKey.from_text(case["private_key"]), case, hashed)
            assert numbers(ours.r, ours.s, ours.v) == numbers(**expected)
        seen += 1
    assert seen == 19


def test_rust_sdk_vectors(shared_data: Path) -> None:
    """SIG-3: the literals of the Rust SDK's tests; their padded prices are hashed as they stand, which no server does."""
    for case in load(shared_data, "rust_sdk_tests.json")["vectors"]:
        hashed = action_hash(msgpack.packb(case["action"]), case["nonce"], case["vault_address"], None)
        ours = TradingKey.from_text(case["private_key"]).sign_digest(agent_digest(hashed, case["is_mainnet"]))
        expected = case["expected_signature"].removeprefix("0x")
        assert f"{ours.r[2:]}{ours.s[2:]}{ours.v:02x}" == expected, case["test"]


def test_typescript_sdk_vectors(shared_data: Path) -> None:
    """SIG-3: hashes with and without vault and expiry, and both signatures, of the TypeScript SDK."""
    case = load(shared_data, "nktkas_l1_vectors.json")["vector"]
    packed = pack(canonicalise(case["action"]))
    vault, expires = case["vaultAddress"], case["expiresAfter"]
    found = {
        "base": action_hash(packed, case["nonce"], None, None),
        "withVault": action_hash(packed, case["nonce"], vault, None),
        "withExpires": action_hash(packed, case["nonce"], None, expires),
        "withBoth": action_hash(packed, case["nonce"], vault, expires),
    }
    assert {name: f"0x{value.hex()}" for name, value in found.items()} == case["hash"]
    key = TradingKey.from_text(case["private_key"])
    for name, expected in case["signature"].items():
        ours = Signer(key, Network(name)).sign(case["action"], case["nonce"]).signature
        assert ours.as_dict() == expected


def test_signatures_that_the_venue_itself_recovered(shared_data: Path) -> None:
    """SIG-1, SIG-3: our hash of four actions is the one under which the testnet found the right signer."""
    cases = [c for c in load(shared_data, "venue_seen_signatures_testnet_20260907.json")["vectors"] if c["kind"] == "l1"]
    assert len(cases) == 4
    for case in cases:
        packed = pack(canonicalise(case["action"]))
        hashed = action_hash(packed, case["nonce"], case["vault_address"], case["expires_after"])
        assert f"0x{hashed.hex()}" == case["l1_action_hash"], case["step"]
        found = recover_signer(hashed, Signature(**case["signature"]), case["is_mainnet"])
        assert found is not None
        assert found.lower() == case["expect_signer"]


def typed_data(connection_id: bytes, is_mainnet: bool) -> dict[str, Any]:
    """The phantom agent as EIP-712 data, for the oracle."""
    return {
        "domain": {"name": "Exchange", "version": "1", "chainId": 1337, "verifyingContract": "0x" + "00" * 20},
        "types": {
            "Agent": [{"name": "source", "type": "string"}, {"name": "connectionId", "type": "bytes32"}],
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
        },
        "primaryType": "Agent",
        "message": {"source": "a" if is_mainnet else "b", "connectionId": connection_id},
    }


@settings(max_examples=40, deadline=None)
@given(
    secret=st.integers(min_value=1, max_value=2**255).map(lambda n: n.to_bytes(32, "big")),
    nonce=st.integers(min_value=0, max_value=2**64 - 1),
    expires=st.none() | st.integers(min_value=0, max_value=2**64 - 1),
    vault=st.none() | st.binary(min_size=20, max_size=20).map(lambda b: f"0x{b.hex()}"),
    net=st.sampled_from(Network),
)
def test_typed_data_of_eth_account_agrees(
    secret: bytes, nonce: int, expires: int | None, vault: str | None, net: Network
) -> None:
    """SIG-5: for any key, nonce, expiry, vault and network our signature is the one of eth-account's typed data."""
    ours = Signer(TradingKey(secret), net, vault).sign(noop_action(), nonce, expires).signature
    hashed = action_hash(pack(noop_action()), nonce, vault, expires)
    message = encode_typed_data(full_message=typed_data(hashed, net.is_mainnet))
    oracle = Account.from_key(secret).sign_message(message)
    assert ours == Signature(f"0x{oracle.r:064x}", f"0x{oracle.s:064x}", oracle.v)


@settings(max_examples=60, deadline=None)
@given(nonce=st.integers(min_value=0, max_value=2**63))
def test_wire_form_of_signatures(nonce: int) -> None:
    """SIG-4: `r` and `s` always have 64 digits, `v` is 27 or 28, and the signer is recovered from them."""
    for net in (Network.MAINNET, Network.TESTNET):
        signed = Signer(KEY, net).sign(noop_action(), nonce)
        signature = signed.signature
        assert len(signature.r) == len(signature.s) == 66
        assert signature.v in (27, 28)
        hashed = action_hash(pack(signed.action), nonce, None, None)
        assert recover_signer(hashed, signature, net.is_mainnet) == ADDRESS
        assert recover_signer(hashed, signature, not net.is_mainnet) not in (None, ADDRESS)


def test_short_and_broken_signatures() -> None:
    """SIM-2: a server takes 1 to 64 digits, and gets None for what recovers to nothing (PROTOCOL 4)."""
    hashed = bytes(32)
    for broken in (
        Signature("0x0", "0x0", 27),
        Signature("0x1", "0x1", 29),
        Signature("1", "0x1", 27),
        Signature("0x", "0x1", 27),
        Signature("0x" + "f" * 65, "0x1", 27),
        Signature("0x" + "f" * 64, "0x1", 27),
    ):
        assert recover_signer(hashed, broken, True) is None
    short = Signature("0x1", "0x1", 27)
    padded = Signature("0x" + "1".zfill(64), "0x" + "1".zfill(64), 27)
    assert recover_signer(hashed, short, True) == recover_signer(hashed, padded, True)


def test_post_id_is_no_input_of_signing() -> None:
    """SIG-3: by type, neither the signer nor the hash can be given a post id; the frame carries it outside."""
    assert list(inspect.signature(Signer.sign).parameters) == ["self", "action", "nonce", "expires_after"]
    assert list(inspect.signature(action_hash).parameters) == ["encoded", "nonce", "vault", "expires_after"]
    signed = Signer(KEY, Network.TESTNET).sign(noop_action(), NONCE)
    first, second = json.loads(encode_post(1, signed)), json.loads(encode_post(2, signed))
    assert first["request"] == second["request"]
    assert first == {"method": "post", "id": 1, "request": {"type": "action", "payload": signed.body()}}


def test_envelope() -> None:
    """SIG-2: the envelope holds exactly what was signed; absent vault and expiry are left out."""
    signed = Signer(KEY, Network.TESTNET).sign(noop_action(), NONCE)
    assert signed.body() == {"action": {"type": "noop"}, "nonce": NONCE, "signature": signed.signature.as_dict()}
    vault = "0x1719884EB866CB12B2287399B15F7DB5E7D775EA"
    body = Signer(KEY, Network.TESTNET, vault).sign(noop_action(), NONCE, NONCE + 5000).body()
    assert body["vaultAddress"] == vault.lower()
    assert body["expiresAfter"] == NONCE + 5000


def test_signed_order_is_the_posted_order() -> None:
    """SIG-2: the action in the body is the normal form that was hashed, so a server's bytes are ours."""
    spec = MarketSpec(key=MarketKey.parse("xyz:SNDK"), asset_id=110016, sz_decimals=3, max_leverage=10)
    intent = OrderIntent(
        cloid=CloidFactory(NONCE).next(),
        spec=spec,
        side=OrderSide.SELL,
        sz=Decimal("0.050"),
        px=Decimal("612.340"),
        tif=TimeInForce.IOC,
        reduce_only=True,
        created_at_ms=NONCE,
    )
    signer = Signer(KEY, Network.PAPER)
    received = json.loads(encode_post(9, signer.sign(order_action([intent]), NONCE, NONCE + 1)))["request"]["payload"]
    hashed = action_hash(pack(canonicalise(received["action"])), received["nonce"], None, received["expiresAfter"])
    assert recover_signer(hashed, Signature(**received["signature"]), False) == signer.address == ADDRESS


def test_signer_refuses_unlisted_actions() -> None:
    """PRD-6: the signer itself refuses what is not listed."""
    signer = Signer(KEY, Network.TESTNET)
    with pytest.raises(UnsupportedAction):
        signer.sign({"type": "withdraw3", "destination": ADDRESS, "amount": "1"}, NONCE)


def test_signing_without_a_key() -> None:
    """KEY-3: an observer has no address of a signer and signs nothing."""
    observer = Signer(None, Network.MAINNET)
    with pytest.raises(NoTradingKey):
        observer.sign(noop_action(), NONCE)
    with pytest.raises(NoTradingKey):
        _ = observer.address


@pytest.mark.parametrize("nonce", [-1, 2**64])
def test_nonces_that_do_not_fit(nonce: int) -> None:
    """SIG-1: a nonce is 64 bits; another one is refused with its value."""
    with pytest.raises(ValueError, match="nonce must fit in 64 bits"):
        Signer(KEY, Network.TESTNET).sign(noop_action(), nonce)


def test_malformed_vault_is_refused_at_construction() -> None:
    """SIG-1: a vault that is no address never reaches a hash."""
    with pytest.raises(ValueError, match="40 hex digits"):
        Signer(KEY, Network.TESTNET, "0x1234")


@pytest.mark.parametrize("text", [KEY_TEXT, KEY_TEXT[2:], f"  {KEY_TEXT}\n", KEY_TEXT[2:].upper()])
def test_key_texts(text: str) -> None:
    """KEY-1: 64 hex digits, `0x` optional, white space around trimmed."""
    assert TradingKey.from_text(text).address == ADDRESS


@pytest.mark.parametrize(
    "text",
    ["", "0x", KEY_TEXT[:-1], KEY_TEXT + "0", KEY_TEXT[:-1] + "g", "0X" + KEY_TEXT[2:], "0x" + "0" * 64, "0x" + "f" * 64],
)
def test_bad_key_texts_are_refused_without_showing_them(text: str) -> None:
    """KEY-1, KEY-4: the error describes the expected form; the value is in neither the message nor the traceback."""
    with pytest.raises(BadKeyText) as caught:
        TradingKey.from_text(text)
    shown = "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None
    if len(text) > 4:
        assert text[2:-1] not in shown


def test_key_never_shows() -> None:
    """KEY-4: repr, str, format, nesting and pickling of key and signer give the address or refuse."""
    signer = Signer(KEY, Network.TESTNET)
    shown = f"{KEY} {KEY!r} {[KEY]} {signer} {signer!r} {signer.sign(noop_action(), NONCE)}"
    assert ADDRESS in shown
    assert KEY_TEXT[2:] not in shown.lower()
    assert not hasattr(KEY, "__dict__")
    for attempt in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            attempt(KEY)


def test_backend_is_asserted(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIG-5: with coincurve the assertion passes; without it nothing signs, and the error says what to install."""
    assert_backend()
    monkeypatch.setitem(sys.modules, "coincurve", None)
    with pytest.raises(BackendMissing, match="coincurve"):
        assert_backend()
    with pytest.raises(BackendMissing):
        TradingKey.from_text(KEY_TEXT)


def test_paper_and_testnet_share_a_source() -> None:
    """PRD-1: the network decides the source of the agent; only mainnet signs with `a`."""
    paper, testnet, mainnet = (Signer(KEY, n).sign(noop_action(), NONCE).signature for n in Network)
    assert paper == testnet != mainnet
