"""Which file is read, what it hashes to, what the start log says, and the `config` commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
from cyclopts import App

import hip3
from hip3.cli.config_cmd import config_check, config_hash, config_show
from hip3.settings import ConfigError, describe, effective_caps, from_text, load, load_for_check, packaged_config
from hip3.settings.schema import HaltOnDisconnect, Mode, PaperSource, StartupPolicy
from hip3.venue.hyperliquid.endpoints import Endpoints, Network

SHIPPED = ("paper.toml", "testnet.toml", "mainnet_micro.toml", "observation.toml")
ACCOUNT = "0x" + "1a" * 20
AGENT = "0x" + "2b" * 20


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.toml"
    path.write_text('network = "paper"\n[position]\ntime_stop_ms = 1234\n')
    return path


@pytest.fixture(autouse=True)
def no_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIP3_CONFIG", raising=False)


def test_settings_selection_order(minimal: Path, tmp_path: Path) -> None:
    """CFG-1: --config wins over HIP3_CONFIG, which wins over the packaged paper default."""
    other = tmp_path / "other.toml"
    other.write_text('network = "paper"\nmode = "observation"\n')
    env = {"HIP3_CONFIG": str(other)}
    assert load(minimal, env).source_path == minimal
    assert load(None, env).settings.mode is Mode.OBSERVATION
    assert load(None, {}).source_path == packaged_config("paper.toml")


@pytest.mark.parametrize(("path", "env"), [("", {}), (None, {"HIP3_CONFIG": "  "})])
def test_settings_empty_selection_refuses(path: str | None, env: dict[str, str]) -> None:
    """CFG-1: a selection that is set and empty is a slip in a script, not the wish for paper."""
    with pytest.raises(ConfigError, match="set and empty"):
        load(path, env)


def test_settings_unreadable_file_refuses(tmp_path: Path) -> None:
    """CFG-2: a missing file, a directory, a huge file and text that is not UTF-8 refuse, naming the file."""
    big, latin = tmp_path / "big.toml", tmp_path / "latin.toml"
    big.write_bytes(b"#" * ((1 << 20) + 1))
    latin.write_bytes(b'network = "p\xe4per"\n')
    for path, text in ((tmp_path / "no.toml", "No such file"), (tmp_path, "directory"), (big, "too long"), (latin, "UTF-8")):
        with pytest.raises(ConfigError, match=text) as refused:
            load(path, {})
        assert str(path) in str(refused.value)


def test_settings_a_wheel_carries_the_configurations() -> None:
    """CFG-1: an installed wheel finds its defaults inside the package, where the build puts them."""
    pyproject = (Path(hip3.__file__).parents[1] / "pyproject.toml").read_text()
    assert 'config = "hip3/_config"' in pyproject
    assert "_config" in packaged_config.__code__.co_consts


@pytest.mark.parametrize("name", SHIPPED)
def test_settings_shipped_files_are_right(name: str) -> None:
    """CFG-1: every shipped file passes the check; the trading ones say exactly what to fill in."""
    loaded = load_for_check(packaged_config(name), {})
    fill_in = ["user_address", "signer.key_source"] if name in {"testnet.toml", "mainnet_micro.toml"} else []
    assert [problem.path for problem in loaded.needed] == fill_in
    if fill_in:
        with pytest.raises(ConfigError, match="needed to trade"):
            load(packaged_config(name), {})


@pytest.mark.parametrize("name", ["paper.toml", "testnet.toml", "mainnet_micro.toml"])
def test_settings_shipped_files_hold_phase_b_limits(name: str) -> None:
    """CFG-4: size_alpha 0.05, 50 and 100 USD, 30 s time stop, 60 s reduce-only time-out."""
    settings = load_for_check(packaged_config(name), {}).settings
    assert settings.detector.size_alpha == Decimal("0.05")
    assert settings.limits.max_notional_per_market_usd == 50
    assert settings.limits.max_notional_total_usd == 100
    assert settings.position.time_stop_ms == 30_000
    assert settings.position.reduce_only_timeout_ms == 60_000


def test_settings_testnet_guard_set() -> None:
    """CFG-4: the guards of testnet.toml."""
    safety = load_for_check(packaged_config("testnet.toml"), {}).settings.safety
    assert (safety.testnet_only, safety.mainnet) == (True, False)
    assert (safety.max_notional_usd, safety.auto_stop_loss_usd) == (Decimal(100), Decimal(20))
    assert safety.max_daily_trades == 50
    assert safety.allowed_markets == ("BTC", "ETH", "SOL")


def test_settings_mainnet_micro_guard_set() -> None:
    """CFG-4: the guards of mainnet_micro.toml; 50 USD is the smallest cap and bounds the total as well (CFG-5)."""
    settings = load_for_check(packaged_config("mainnet_micro.toml"), {}).settings
    safety = settings.safety
    assert (settings.network, safety.mainnet, safety.startup_policy) == (Network.MAINNET, True, StartupPolicy.MANUAL)
    assert (safety.max_notional_usd, safety.auto_stop_loss_usd) == (Decimal(50), Decimal(20))
    assert safety.max_daily_trades == 100
    assert safety.allowed_markets == ("SNDK",)
    assert effective_caps(settings).total_usd == 50


def test_settings_defaults_are_those_of_the_specification() -> None:
    """PRD-1, CFG-3: paper and trading by default, halt on disconnect when exposed, a synthetic market of five stocks."""
    settings = from_text('mode = "trading"\n')
    assert (settings.network, settings.mode) == (Network.PAPER, Mode.TRADING)
    assert settings.safety.halt_on_disconnect is HaltOnDisconnect.EXPOSED
    assert settings.paper is not None
    assert settings.paper.source is PaperSource.SYNTHETIC
    assert settings.markets[0].coin == "xyz:SNDK"


def test_settings_packaged_default_is_the_main_job() -> None:
    """PRD-2: without argument and configuration the paper default runs by itself: automatic start, five markets."""
    loaded = load(None, {})
    assert (loaded.settings.network, loaded.settings.mode) == (Network.PAPER, Mode.TRADING)
    assert loaded.settings.safety.startup_policy is StartupPolicy.AUTO
    assert len(loaded.settings.markets) == 5


def test_settings_observation_needs_no_key() -> None:
    """PRD-1: observation starts without account and key."""
    settings = load(packaged_config("observation.toml"), {}).settings
    assert (settings.mode, settings.signer.key_source, settings.user_address) == (Mode.OBSERVATION, None, None)


def test_settings_hash_does_not_depend_on_how_the_file_is_written(tmp_path: Path) -> None:
    """CFG-6: order of keys, comments, spelling of numbers, the place of the file and stated defaults change nothing."""
    texts = (
        "mode='trading'\n[limits]\nmax_notional_total_usd = 80\n[position]\ntime_stop_ms = 9000\n[detector]\nsize_alpha=0.1",
        '[detector] # c\nsize_alpha = "0.10"\n[position]\ntime_stop_ms = 9_000\n[limits]\nmax_notional_total_usd = 80.00\n',
        "[limits]\nmax_notional_total_usd = 8e1\n[detector]\nsize_alpha = 1e-1\n[position]\ntime_stop_ms = 0x2328\n",
    )
    hashes = set()
    for index, text in enumerate(texts):
        path = tmp_path / str(index) / "c.toml"
        path.parent.mkdir()
        path.write_text(text)
        hashes.add(load(path, {}).hash)
    assert len(hashes) == 1
    assert len(hashes.pop()) == 64


def test_settings_hash_is_the_same_in_another_process() -> None:
    """CFG-6: the hash depends on no process state, such as the seed of Python's own hashing."""
    code = "from hip3.settings import load; print(load(None, {}).hash)"
    hashes = {
        subprocess.run(  # noqa: S603 - our own interpreter and a constant
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert hashes == {load(None, {}).hash}


def test_settings_paths_lie_beside_the_file(minimal: Path) -> None:
    """CFG-3: a relative path of the configuration is relative to its file, wherever the bot is started."""
    loaded = load(minimal, {})
    assert loaded.resolve_path("a/b.jsonl") == minimal.parent / "a" / "b.jsonl"
    assert loaded.resolve_path("/x") == Path("/x")
    assert loaded.resolve_path("~/k") == Path.home() / "k"


def test_settings_start_lines_name_everything_in_force() -> None:
    """CFG-8: file, hash, network, URLs, mode, addresses, markets, every guard and cap, under RUN-1's event names."""
    loaded = load_for_check(packaged_config("mainnet_micro.toml"), {})
    lines = {line.event: dict(line.fields) for line in describe(loaded, signer=AGENT, account=ACCOUNT)}
    assert list(lines)[:6] == ["config_loaded", "network", "mode", "signer_address", "allowed_markets", "safety_guards"]
    assert lines["config_loaded"] == {"file": str(loaded.source_path), "hash": loaded.hash}
    assert lines["network"] == {
        "network": "mainnet",
        "rest_url": "https://api.hyperliquid.xyz",
        "ws_url": "wss://api.hyperliquid.xyz/ws",
    }
    assert lines["mode"] == {"mode": "trading", "startup_policy": "manual"}
    assert lines["signer_address"] == {"signer": AGENT, "account": ACCOUNT, "vault": "none"}
    assert lines["allowed_markets"] == {"markets": "xyz:SNDK", "allowed": "SNDK"}
    assert lines["safety_guards"]["max_daily_trades"] == "100"
    assert lines["safety_guards"]["auto_stop_loss_usd"] == "20"
    assert lines["risk_limits"]["max_rejects_per_hour"] == "10"
    assert lines["risk_limits"]["max_slippage_bps"] == "50"
    assert lines["risk_limits"]["max_orders"] == "200"
    assert lines["risk_limits"]["max_open_positions"] == "off"
    assert lines["caps"]["order"] == "50 USD (limits.max_notional_per_market_usd)"
    assert lines["caps"]["total"] == "50 USD (safety.max_notional_usd)"


def test_settings_start_lines_take_the_urls_of_the_run() -> None:
    """CFG-8: on paper the URLs are those of the exchange that was started."""
    run = Endpoints(rest_url="http://127.0.0.1:4001", ws_url="ws://127.0.0.1:4001/ws")
    lines = {line.event: dict(line.fields) for line in describe(load(None, {}), endpoints=run)}
    assert lines["network"]["rest_url"] == run.rest_url


def test_settings_start_lines_follow_the_settings() -> None:
    """CFG-8: each guard and cap in the log is read from the Settings that run."""
    loaded = load(None, {})
    settings = loaded.settings
    tighter = attrs.evolve(
        loaded,
        settings=attrs.evolve(
            settings,
            safety=attrs.evolve(settings.safety, max_notional_usd=Decimal(20), max_daily_trades=3),
            position=attrs.evolve(settings.position, time_stop_ms=5000),
        ),
    )
    text = "\n".join(str(line) for line in describe(tighter))
    assert "max_daily_trades 3" in text
    assert "time_stop_ms 5000" in text
    assert "total 20 USD (safety.max_notional_usd)" in text


def test_settings_check_command_accepts(minimal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: `config check` of a right file prints what is in force and returns 0."""
    assert config_check(config=minimal) == 0
    out = capsys.readouterr().out
    assert "time_stop_ms 1234" in out
    assert out.endswith("configuration ok, ready to start\n")


def test_settings_check_command_refuses_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CFG-2, END-3: a wrong file gives exit code 2, every problem on standard error, nothing on standard output."""
    path = tmp_path / "bad.toml"
    path.write_text("time_stop_ms = 3\nnetwork = 'x'\n")
    for command in (config_check, config_show, config_hash):
        assert command(config=path) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "2 problems, nothing was started" in shown.err
        assert "time_stop_ms: 3: not a key of the top level; it belongs in [position]" in shown.err


def test_settings_check_command_tells_incomplete_from_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """CFG-2: what only the operator can fill in is listed with code 0, and refused with 2 where a start is asked for."""
    path = packaged_config("testnet.toml")
    assert config_check(config=path) == 0
    out = capsys.readouterr().out
    assert "NOT ready to start: 2 keys to fill in" in out
    assert "user_address: not set: needed to trade" in out
    assert config_check(config=path, start=True) == 2


def test_settings_commands_speak_json(minimal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: with --json each command prints one JSON object, also for a refusal."""
    assert config_check(config=minimal, as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["ready_to_start"], report["problems"]) == (True, True, [])
    assert config_show(config=minimal, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["position"]["time_stop_ms"] == 1234
    assert config_hash(config=minimal, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["hash"] == load(minimal, {}).hash
    bad = tmp_path / "bad.toml"
    bad.write_text("[limits]\nx = 1\n")
    assert config_check(config=bad, as_json=True) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["problems"][0]["path"] == "limits.x"


def test_settings_show_command_prints_a_loadable_file(
    minimal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-1: the output of `config show` is a configuration file with the same hash."""
    assert config_show(config=minimal) == 0
    copy = tmp_path / "copy.toml"
    copy.write_text(capsys.readouterr().out)
    assert load(copy, {}).hash == load(minimal, {}).hash


def test_settings_commands_parse_their_arguments(minimal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OPS-1: the functions take the documented options on a command line and follow HIP3_CONFIG."""
    app = App(name="config", result_action="return_value")
    for name, command in (("check", config_check), ("show", config_show), ("hash", config_hash)):
        app.command(command, name=name)
    assert app(["check", "--config", str(minimal), "--start", "--json"], exit_on_error=False) == 0
    assert app(["hash", "--config", str(minimal)], exit_on_error=False) == 0
    assert capsys.readouterr().out.endswith(f"{load(minimal, {}).hash}\n")


def test_settings_check_command_follows_the_environment(
    minimal: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CFG-1: without --config the commands read the file that HIP3_CONFIG names, as `run` does."""
    monkeypatch.setenv("HIP3_CONFIG", str(minimal))
    assert config_check() == 0
    assert str(minimal) in capsys.readouterr().out
