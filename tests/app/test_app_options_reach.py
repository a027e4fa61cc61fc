"""The keys that decide where a run goes, for whom and with which key, up to the request that leaves (CFG-3, KEY-1 to KEY-3).

Through the very functions of `hip3 run`; what needs sockets uses loopback ones. Nothing is sent to a real venue.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
from attrs import frozen
from eth_account import Account as EthAccount

from hip3.exchange.seam import BookChange, TimedEvent
from hip3.io.keys import KeySourceError
from hip3.ops.journal_file import state_dir
from hip3.ops.paper import paper_source
from hip3.ops.reach import configured_key, reach_venue
from hip3.ops.session import Reach
from hip3.settings import ConfigError, LoadedSettings, load
from hip3.venue.hyperliquid.signing import TradingKey
from tests.app.app_builders import toml

A, B = "0x" + "a1" * 20, "0x" + "b2" * 20
KEYS = [TradingKey((n).to_bytes(32, "big")) for n in (7, 8)]
TEXTS = ["0x" + n.to_bytes(32, "big").hex() for n in (7, 8)]
PASSPHRASE = "correct horse"
TESTNET: Mapping[str, object] = {"network": "testnet", "user_address": A}


@frozen
class Files:
    """Where the files of a case are: configuration, keys, recordings."""

    folder: Path

    def load(self, values: Mapping[str, object], key_source: str | None) -> LoadedSettings:
        """The configuration of a file with these keys and, as TOML, this `key_source`."""
        text = toml(values, ("xyz:SNDK",))
        if key_source is not None:
            text += f"[signer]\nkey_source = {key_source}\n"
        path = self.folder / "config.toml"
        path.write_text(text)
        return load(path, {})

    def reach(self, values: Mapping[str, object], key_source: str | None) -> Reach:
        """How `hip3 run` would reach the venue of this file."""
        loaded = self.load(values, key_source)
        key = configured_key(loaded, os.environ, state_dir(os.environ), None)
        reaches: list[Reach] = []

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                reached = await reach_venue(nursery, loaded, key)
                reaches.append(reached.reach)
                nursery.cancel_scope.cancel()

        trio.run(run)
        return reaches[0]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    for number, text in enumerate(TEXTS, 1):
        monkeypatch.setenv(f"KEY_{number}", text)
        hex_file = tmp_path / f"key_{number}.txt"
        hex_file.write_text(text)
        hex_file.chmod(0o600)
        # PBKDF2 with few rounds: the format is what counts here, not its strength
        sealed = EthAccount.encrypt(bytes.fromhex(text[2:]), PASSPHRASE, kdf="pbkdf2", iterations=2)
        keystore = tmp_path / f"store_{number}.json"
        keystore.write_text(json.dumps(sealed))
        keystore.chmod(0o600)
    monkeypatch.setenv("RIGHT", PASSPHRASE)
    monkeypatch.setenv("WRONG", "battery staple")
    return Files(tmp_path)


ENV_1 = '{type = "env_var", var_name = "KEY_1"}'
SOURCES: dict[str, tuple[str, str]] = {
    "env_var.var_name": (ENV_1, '{type = "env_var", var_name = "KEY_2"}'),
    "file.path": ('{type = "file", path = "key_1.txt"}', '{type = "file", path = "key_2.txt"}'),
    "keystore.path": (
        '{type = "keystore", path = "store_1.json", passphrase_env = "RIGHT"}',
        '{type = "keystore", path = "store_2.json", passphrase_env = "RIGHT"}',
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_another_place_of_the_key_signs_with_another_key(source: str, files: Files) -> None:
    """KEY-1: the key is read from the place that the file names, beside the file where it is a relative path."""
    accounts = [files.reach(TESTNET, text).account for text in SOURCES[source]]
    signers = [account.signer.address for account in accounts if account is not None]
    assert signers == [key.address for key in KEYS]


def test_the_passphrase_comes_from_the_variable_that_is_named(files: Files) -> None:
    """KEY-1: with the variable of another passphrase the keystore does not open and nothing starts."""
    text = '{{type = "keystore", path = "store_1.json", passphrase_env = "{}"}}'
    assert files.reach(TESTNET, text.format("RIGHT")).account is not None
    with pytest.raises(KeySourceError):
        files.reach(TESTNET, text.format("WRONG"))


def test_the_signer_address_is_compared_with_the_key(files: Files) -> None:
    """KEY-2: the address of the key starts, another one refuses."""
    assert files.reach({**TESTNET, "signer_address": KEYS[0].address}, ENV_1).account is not None
    with pytest.raises(KeySourceError):
        files.reach({**TESTNET, "signer_address": KEYS[1].address}, ENV_1)


def test_the_user_address_is_whose_account_is_read(files: Files) -> None:
    """KEY-3: positions and orders are asked of this address."""
    accounts = [files.reach({"network": "testnet", "user_address": user}, ENV_1).account for user in (A, B)]
    assert [account.user for account in accounts if account is not None] == [A, B]


def test_the_vault_address_is_in_what_is_signed(files: Files) -> None:
    """SIG-1: a sub-account or vault is named in the envelope and covered by the signature."""
    bodies = []
    for extra in ({}, {"vault_address": B}):
        account = files.reach({**TESTNET, **extra}, ENV_1).account
        assert account is not None
        bodies.append(account.signer.sign({"type": "noop"}, 1_767_225_600_000).body())
    assert ["vaultAddress" in body for body in bodies] == [False, True]
    assert bodies[1]["vaultAddress"] == B
    assert bodies[0]["signature"] != bodies[1]["signature"]


def test_the_network_is_where_requests_go_and_how_they_are_signed(files: Files) -> None:
    """PRD-1, SIG-1: the same file with another network goes to another host and signs another source."""
    seen = []
    for values in (TESTNET, {"network": "mainnet", "user_address": A, "safety.mainnet": True}):
        reach = files.reach(values, ENV_1)
        assert reach.account is not None
        signed = reach.account.signer.sign({"type": "noop"}, 1_767_225_600_000)
        seen.append((reach.rest_url, signed.signature))
    assert [url for url, _ in seen] == ["https://api.hyperliquid-testnet.xyz", "https://api.hyperliquid.xyz"]
    assert seen[0][1] != seen[1][1]


@pytest.mark.parametrize(
    ("key", "allowed", "refused"),
    [
        ("safety.mainnet", {"network": "mainnet", "safety.mainnet": True}, {"network": "mainnet", "safety.mainnet": False}),
        (
            "safety.testnet_only",
            {"network": "mainnet", "safety.mainnet": True, "safety.testnet_only": False},
            {"network": "mainnet", "safety.mainnet": True, "safety.testnet_only": True},
        ),
    ],
    ids=["safety.mainnet", "safety.testnet_only"],
)
def test_real_money_needs_the_operators_word(
    key: str, allowed: Mapping[str, object], refused: Mapping[str, object], files: Files
) -> None:
    """CFG-5: without safety.mainnet, or with safety.testnet_only, mainnet is not reached."""
    assert files.reach({**allowed, "user_address": A}, ENV_1).rest_url == "https://api.hyperliquid.xyz"
    with pytest.raises(ConfigError, match=key):
        files.reach({**refused, "user_address": A}, ENV_1)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_the_paper_port_is_where_the_exchange_listens(files: Files) -> None:
    """SIM-1: another port is another address of the embedded exchange."""
    port = free_port()
    assert files.reach({"network": "paper", "paper.port": port}, None).rest_url == f"http://127.0.0.1:{port}"
    assert files.reach({"network": "paper"}, None).rest_url != f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("key", ["ws_url", "info_url"])
def test_the_urls_are_where_the_run_connects(key: str, files: Files) -> None:
    """CFG-3: with the URLs of an exchange on this machine both ends answer; with one of them elsewhere that end does not."""
    port, elsewhere = free_port(), free_port()
    embedded = files.load({"network": "paper", "paper.port": port}, None)
    urls = {"ws_url": f"ws://127.0.0.1:{port}/ws", "info_url": f"http://127.0.0.1:{port}"}
    wrong = {**urls, key: urls[key].replace(str(port), str(elsewhere))}
    seen: list[tuple[bool, str]] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            await reach_venue(nursery, embedded, None)
            for values in (urls, wrong):
                loaded = files.load({"network": "paper", "user_address": A, **values}, ENV_1)
                reach = (await reach_venue(nursery, loaded, KEYS[0])).reach
                connected = False
                try:
                    async with reach.dial():
                        connected = True
                except* OSError:
                    pass
                seen.append((connected, reach.rest_url))
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert seen[0] == (True, urls["info_url"])
    assert seen[1] == ((False, urls["info_url"]) if key == "ws_url" else (True, wrong["info_url"]))


# ---- market data of paper


def events_of(loaded: LoadedSettings, count: int = 200) -> list[TimedEvent]:
    assert loaded.settings.paper is not None
    source = paper_source(loaded.settings.paper, loaded.settings, loaded.resolve_path)
    return list(itertools.islice(source.events(), count))


def test_another_seed_is_another_market(files: Files) -> None:
    """SIM-3: the synthetic market is seeded: the same seed gives the same events, another one others."""
    one, again, other = (events_of(files.load({"network": "paper", "paper.seed": seed}, None)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def record(path: Path, ask: str) -> None:
    """An oracle price and two quotes of SNDK, two seconds apart."""
    ctx = {"coin": "xyz:SNDK", "ctx": {"oraclePx": "600", "markPx": "600"}}
    rows: list[tuple[int, dict[str, object]]] = [(1000, {"channel": "activeAssetCtx", "data": ctx})]
    for recv_ms, px in ((1000, ask), (3000, "610")):
        sides = [{"px": "590", "sz": "1", "n": 1}, {"px": px, "sz": "1", "n": 1}]
        rows.append((recv_ms, {"channel": "bbo", "data": {"coin": "xyz:SNDK", "time": recv_ms, "bbo": sides}}))
    path.write_text("".join(json.dumps({"recv_ms": at, "frame": frame}) + "\n" for at, frame in rows))


def test_source_recording_and_speed_decide_what_is_replayed(files: Files) -> None:
    """SIM-3: synthetic or replay, this recording or that one, as fast as recorded or twice as fast."""
    record(files.folder / "one.jsonl", "601")
    record(files.folder / "two.jsonl", "602")
    replay = {"network": "paper", "paper.source": "replay", "paper.recording": "one.jsonl"}

    def quotes(values: Mapping[str, object]) -> list[tuple[int, str]]:
        events = events_of(files.load(values, None))
        return [(at, str(event.asks[0].px)) for at, event in events if isinstance(event, BookChange)]

    assert quotes(replay) == [(0, "601"), (2000, "610")]
    assert quotes({**replay, "paper.recording": "two.jsonl"}) == [(0, "602"), (2000, "610")]
    assert quotes({**replay, "paper.speed": 2}) == [(0, "601"), (1000, "610")]
    assert quotes({"network": "paper"})[:2] != quotes(replay)
