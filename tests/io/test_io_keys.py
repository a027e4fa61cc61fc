"""Keys at rest: what is accepted, what is refused, and that no key is ever shown."""

from __future__ import annotations

import itertools
import json
import logging
import os
import pty
import stat
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from cyclopts import App
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from hip3.cli.keys_cmd import keys_address, keys_new
from hip3.io.keys import KeySourceError, check_address, create_keystore, load_trading_key
from hip3.settings.schema import EnvVarKey, FileKey, KeySource, KeystoreKey
from hip3.venue.hyperliquid.signing import TradingKey

KEY = "0123456789abcdef" * 4
KEY_BYTES = bytes.fromhex(KEY)
ADDRESS = Account.from_key(KEY_BYTES).address
PASSPHRASE = "correct horse"
FAST = 2  # the smallest work factor of scrypt: these files guard nothing
OTHER = "0x" + "1a" * 20


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.key"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(Account.encrypt(KEY_BYTES, PASSPHRASE, kdf="scrypt", iterations=FAST)))
    return path


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HIP3_CONFIG", "HIP3_KEYSTORE_PASSPHRASE", "AGENT"):
        monkeypatch.delenv(name, raising=False)


def refusal(call: Callable[[], object]) -> KeySourceError:
    with pytest.raises(KeySourceError) as refused:
        call()
    assert refused.value.exit_code == 2
    return refused.value


@pytest.mark.parametrize("text", [KEY, f"0x{KEY}", f"  0x{KEY.upper()}\n", f"\t{KEY}\r\n"])
def test_io_keys_environment_and_file_take_hex_text(text: str, key_file: Path) -> None:
    """KEY-1: 64 hex digits, optional 0x, white space trimmed, from a variable or a file."""
    assert load_trading_key(EnvVarKey(var_name="K"), {"K": text}).address == ADDRESS
    key_file.write_text(text)
    assert load_trading_key(FileKey(path=str(key_file)), {}).address == ADDRESS


@pytest.mark.parametrize("text", ["", "  ", KEY[:-1], KEY + "0", "g" * 64, "0x0x" + KEY[:60], "0" * 64, "f" * 64])
def test_io_keys_other_text_is_refused(text: str, key_file: Path) -> None:
    """KEY-1: anything else is refused with the place and the form expected."""
    message = str(refusal(lambda: load_trading_key(EnvVarKey(var_name="K"), {"K": text})))
    assert "environment variable K" in message
    assert "64 hex digits" in message
    key_file.write_text(text)
    message = str(refusal(lambda: load_trading_key(FileKey(path=str(key_file)), {})))
    assert f"key file {key_file}" in message
    assert "64 hex digits" in message


def test_io_keys_unset_variable_is_named() -> None:
    """KEY-1: a variable that is not set is refused by its name."""
    assert "K is not set" in str(refusal(lambda: load_trading_key(EnvVarKey(var_name="K"), {})))


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_io_keys_private_file_is_read(mode: int, key_file: Path) -> None:
    """KEY-1: mode 0600 and stricter."""
    key_file.chmod(mode)
    assert load_trading_key(FileKey(path=str(key_file)), {}).address == ADDRESS


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o700, 0o660])
def test_io_keys_file_open_to_others_is_refused(mode: int, key_file: Path) -> None:
    """KEY-1: any wider mode is refused, naming mode, file and command; a link does not hide the mode of its target."""
    key_file.chmod(mode)
    link = key_file.with_name("link")
    link.symlink_to(key_file)
    for path in (key_file, link):
        message = str(refusal(partial(load_trading_key, FileKey(path=str(path)), {})))
        assert f"{mode:04o}" in message
        assert f"chmod 600 {path}" in message


@pytest.mark.parametrize("content", [bytes.fromhex(KEY), b"\x00" * 32, b"A" * 31 + b"\x80", b"\xff" * 64])
def test_io_keys_binary_file_is_refused(content: bytes, key_file: Path) -> None:
    """KEY-1: a raw 32-byte key and other binary content are refused as such."""
    key_file.write_bytes(content)
    message = str(refusal(lambda: load_trading_key(FileKey(path=str(key_file)), {})))
    assert ("a raw 32-byte key" if len(content) == 32 else "binary") in message


def test_io_keys_odd_files_are_refused(tmp_path: Path, key_file: Path) -> None:
    """KEY-1: a missing file, a directory, a named pipe and a huge file are refused at once, without hanging."""
    pipe, huge = tmp_path / "pipe", tmp_path / "huge"
    os.mkfifo(pipe, 0o600)
    huge.write_bytes(b"a" * 5000)
    huge.chmod(0o600)
    for path, text in (
        (tmp_path / "none", "cannot be opened"),
        (tmp_path, "not a regular file"),
        (pipe, "not a regular file"),
        (huge, "longer than"),
    ):
        message = str(refusal(partial(load_trading_key, FileKey(path=str(path)), {})))
        assert str(path) in message
        assert text in message


def test_io_keys_path_is_resolved_by_the_caller(key_file: Path) -> None:
    """KEY-1: a relative path is made absolute by the configuration that holds it."""
    source = FileKey(path="agent.key")
    assert load_trading_key(source, {}, resolve=lambda text: key_file.parent / text).address == ADDRESS


def test_io_keys_keystore_opens_with_its_passphrase(keystore: Path) -> None:
    """KEY-1: a Web3 v3 keystore opens with the passphrase of the named variable, else with the one typed."""
    source = KeystoreKey(path=str(keystore), passphrase_env="P")
    assert load_trading_key(source, {"P": PASSPHRASE}).address == ADDRESS
    assert load_trading_key(source, {}, passphrase=lambda: PASSPHRASE).address == ADDRESS
    assert "set environment variable P" in str(refusal(lambda: load_trading_key(source, {})))
    assert "does not open" in str(refusal(lambda: load_trading_key(source, {"P": "wrong"})))


def test_io_keys_keystore_of_another_kdf_opens(tmp_path: Path) -> None:
    """KEY-1: pbkdf2 keystores of other programs open too."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps(Account.encrypt(KEY_BYTES, PASSPHRASE, kdf="pbkdf2", iterations=1)))
    source = KeystoreKey(path=str(path))
    assert load_trading_key(source, {"HIP3_KEYSTORE_PASSPHRASE": PASSPHRASE}).address == ADDRESS


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"version": 3}', '{"version": 4, "crypto": {}}', '{"version": 3, "crypto": 5}', "[" * 9999, KEY],
)
def test_io_keys_broken_keystore_is_refused(content: str, tmp_path: Path) -> None:
    """KEY-1: what is no usable v3 keystore is refused, naming the file."""
    path = tmp_path / "broken.json"
    path.write_text(content)
    message = str(refusal(lambda: load_trading_key(KeystoreKey(path=str(path)), {}, passphrase=lambda: "x")))
    assert f"keystore {path}" in message


_JUNK = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=6), st.just({}), st.just([]))


@given(st.data())
def test_io_keys_damaged_keystore_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """KEY-4: whatever is damaged in a keystore, the error is ours and not a library's, whose text we do not control."""
    damaged = json.loads(_KEYSTORE_TEXT)
    table = data.draw(
        st.sampled_from([damaged["crypto"], damaged["crypto"]["kdfparams"], damaged["crypto"]["cipherparams"]])
    )
    name = data.draw(st.sampled_from(sorted(table)))
    table[name] = data.draw(_JUNK)
    path = tmp_path_factory.mktemp("damaged") / "k.json"
    path.write_text(json.dumps(damaged))
    with suppress(KeySourceError):
        load_trading_key(KeystoreKey(path=str(path)), {}, passphrase=lambda: PASSPHRASE)


_KEYSTORE_TEXT = json.dumps(Account.encrypt(KEY_BYTES, PASSPHRASE, kdf="scrypt", iterations=FAST))


def test_io_keys_wrong_address_names_both() -> None:
    """KEY-2: a key whose address is not signer_address refuses, naming both; case does not matter."""
    key = TradingKey.from_text(KEY)
    check_address(key, ADDRESS.lower())
    check_address(key, None)
    message = str(refusal(lambda: check_address(key, OTHER)))
    assert ADDRESS in message
    assert OTHER in message


def test_io_keys_new_keystore_is_private_and_opens(tmp_path: Path) -> None:
    """KEY-1: a new keystore holds a fresh key, has mode 0600 whatever the umask, and opens with its passphrase only."""
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    old = os.umask(0)
    try:
        address = create_keystore(first, PASSPHRASE, scrypt_n=FAST)
    finally:
        os.umask(old)
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert load_trading_key(KeystoreKey(path=str(first)), {}, passphrase=lambda: PASSPHRASE).address == address
    assert json.loads(first.read_text())["crypto"]["kdf"] == "scrypt"
    assert create_keystore(second, PASSPHRASE, scrypt_n=FAST) != address


def test_io_keys_new_keystore_overwrites_nothing(tmp_path: Path) -> None:
    """KEY-1: an existing file and a link, even a dangling one, are left alone; an empty passphrase creates nothing."""
    existing, link, target = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    existing.write_text("precious")
    link.symlink_to(target)
    for path in (existing, link):
        assert "not overwritten" in str(refusal(partial(create_keystore, path, PASSPHRASE, scrypt_n=FAST)))
    assert existing.read_text() == "precious"
    assert not target.exists()
    assert "must not be empty" in str(refusal(lambda: create_keystore(tmp_path / "d", "")))
    assert not (tmp_path / "d").exists()
    assert "cannot be created" in str(refusal(lambda: create_keystore(tmp_path / "no" / "x", "p", scrypt_n=FAST)))


def test_io_keys_no_output_ever_shows_a_key(
    key_file: Path,
    keystore: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """KEY-4: success and every refusal, with full tracebacks and debug logs: neither key nor passphrase is in any output."""
    caplog.set_level(logging.DEBUG)
    wide, spoiled = tmp_path / "wide.key", tmp_path / "spoiled.key"
    wide.write_text(KEY)
    wide.chmod(0o644)
    spoiled.write_text(f"key={KEY}")
    spoiled.chmod(0o600)
    raw = tmp_path / "raw.key"
    raw.write_bytes(bytes.fromhex(KEY))
    raw.chmod(0o600)
    written = tmp_path / "secret.toml"
    written.write_text(f'network = "paper"\nagent = "{KEY}"\n')
    config = tmp_path / "c.toml"
    config.write_text(
        f'network = "testnet"\nuser_address = "{OTHER}"\nsigner_address = "{"0x" + "2b" * 20}"\n[[markets]]\ncoin = "BTC"\n'
        '[signer]\nkey_source = {type = "file", path = "agent.key"}\n'
    )
    texts: list[str] = []
    sources: tuple[KeySource, ...] = (
        EnvVarKey(var_name="GOOD"),
        EnvVarKey(var_name="BAD"),
        *(FileKey(path=str(path)) for path in (key_file, wide, spoiled, raw)),
        KeystoreKey(path=str(keystore), passphrase_env="PASS"),
        KeystoreKey(path=str(key_file), passphrase_env="PASS"),
        KeystoreKey(path=str(keystore), passphrase_env="BAD"),
    )
    env = {"GOOD": KEY, "BAD": f"{KEY}!", "PASS": PASSPHRASE}
    for source in sources:
        try:
            key = load_trading_key(source, env)
            texts += [repr(key), str(key), f"{key!r}"]
            check_address(key, OTHER)
        except KeySourceError as e:
            texts += ["".join(traceback.format_exception(e)), repr(e), repr(e.args)]
    monkeypatch.setenv("AGENT", f"{KEY}!")
    assert [keys_address(env_var="AGENT"), keys_address(config=config), keys_address(config=written)] == [2, 2, 2]
    assert keys_address(file=key_file) == 0
    shown = capfd.readouterr()
    texts += [shown.out, shown.err, caplog.text]
    everything = "\n".join(texts).lower()
    assert ADDRESS.lower() in everything
    for hidden in (KEY, KEY[:16], KEY[-16:], str(int(KEY, 16)), repr(KEY_BYTES)[2:-1].lower(), PASSPHRASE):
        assert hidden not in everything


def test_io_keys_address_command_compares_with_configuration(
    key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY-2: `keys address` of a configuration finds the key beside the file and refuses another signer_address with 2."""
    config = tmp_path / "c.toml"
    text = (
        f'network = "testnet"\nuser_address = "{OTHER}"\nsigner_address = "{ADDRESS}"\n[[markets]]\ncoin = "BTC"\n'
        '[signer]\nkey_source = {type = "file", path = "agent.key"}\n'
    )
    config.write_text(text)
    assert keys_address(config=config, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"address": ADDRESS}
    wrong = "0x" + "2b" * 20
    config.write_text(text.replace(ADDRESS, wrong))
    assert keys_address(config=config) == 2
    err = capsys.readouterr().err
    assert ADDRESS in err
    assert wrong in err


def test_io_keys_address_command_takes_one_place(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: two places at once, a bad name, or a configuration without a key are refused with exit code 2."""
    places: dict[str, object] = {"env_var": "K", "file": key_file, "keystore": key_file, "config": key_file}
    for a, b in itertools.combinations(places, 2):
        assert keys_address(**{a: places[a], b: places[b]}) == 2  # type: ignore[arg-type]  # every pair of options
        assert "give one of" in capsys.readouterr().err
    assert keys_address(env_var="not a name") == 2
    assert keys_address() == 2
    assert "names no signer.key_source" in capsys.readouterr().err


def test_io_keys_new_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: `keys new` makes a keystore, prints the address and what to configure; a second time it refuses with 2."""
    app = App(name="keys", result_action="return_value")
    app.command(keys_new, name="new")
    app.command(keys_address, name="address")
    path = tmp_path / "agent.json"
    monkeypatch.setenv("HIP3_KEYSTORE_PASSPHRASE", PASSPHRASE)
    assert app(["new", "--out", str(path)], exit_on_error=False) == 0
    out = capsys.readouterr().out
    assert app(["address", "--keystore", str(path)], exit_on_error=False) == 0
    address = capsys.readouterr().out.strip()
    assert f'signer_address = "{address}"' in out
    assert f'key_source = {{type = "keystore", path = "{path}"}}' in out
    assert app(["new", "--out", str(path), "--json"], exit_on_error=False) == 2
    assert "not overwritten" in capsys.readouterr().err


def test_io_keys_new_command_without_passphrase_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY-1: with neither variable nor terminal nothing is created."""
    with (tmp_path / "empty").open("w+") as no_terminal:
        monkeypatch.setattr("sys.stdin", no_terminal)
        assert keys_new(out=tmp_path / "k.json") == 2
    assert "HIP3_KEYSTORE_PASSPHRASE" in capsys.readouterr().err
    assert not (tmp_path / "k.json").exists()


@pytest.mark.parametrize(("typed", "code"), [(("a b", "a b"), 0), (("a b", "a c"), 2)])
def test_io_keys_new_command_asks_twice(
    typed: tuple[str, str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KEY-1: in a terminal the passphrase is typed twice, and a slip creates nothing."""
    answers = iter(typed)
    leader, follower = pty.openpty()
    with os.fdopen(follower) as terminal, os.fdopen(leader, "rb"):
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("getpass.getpass", lambda _prompt: next(answers))
        assert keys_new(out=tmp_path / "k.json") == code
    assert (tmp_path / "k.json").exists() is (code == 0)
