"""`hip3 verify` as it is called: a real process on the embedded exchange, its table, its exit codes (RUN-1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.cli_venue import call_hip3, run_hip3


def test_a_verification_on_paper_passes_and_ends_flat(tmp_path: Path) -> None:
    """RUN-1, END-3, OPS-1: exit code 0, one object with evidence for each item, the log on standard error, a certificate."""
    code, out, err = run_hip3("verify", "--network", "paper", "--items", "6,2,3,4,5", "--json", cwd=tmp_path)
    report = json.loads(out)
    assert (code, report["exit_code"], report["passed"], report["flat"]) == (0, 0, True, True), err
    assert [(row["item"], row["verdict"]) for row in report["items"]] == [(n, "PASS") for n in range(1, 7)]
    assert "action_signed nonce" in report["items"][1]["evidence"][0]
    assert report["certificate"]["flat"] is True
    assert "closed (verification)" in err
    assert "verification, item 6: PASS" in err
    [journal] = (tmp_path / "journal").glob("*")
    events = {json.loads(line)["event"] for line in journal.read_text().splitlines()}
    start = {"config_loaded", "network", "mode", "signer_address", "allowed_markets", "safety_guards"}
    assert start | {"inflight", "nonce_issued", "inflight_high_water", "position_reconciled"} <= events


def test_an_item_that_fails_is_exit_code_1(tmp_path: Path) -> None:
    """RUN-1: where one entry is all that a day allows, the second is refused by the gates: FAIL, and flat."""
    (tmp_path / "tight.toml").write_text('network = "paper"\n[safety]\nmax_daily_trades = 1\n')
    arguments = ("verify", "--network", "paper", "--config", "tight.toml", "--items", "1,10")
    code, out, err = run_hip3(*arguments, cwd=tmp_path)
    assert code == 1, err
    assert "PASS       1  WS and subscriptions" in out
    assert "FAIL      10  failures" in out
    assert "1 of 2 items of 10 passed on paper; FLAT" in out


@pytest.mark.parametrize(
    ("network", "arguments", "text", "says"),
    [
        ("mainnet", (), 'network = "mainnet"', "network mainnet: a verification trades to try failures"),
        ("testnet", (), 'network = "paper"', "--network testnet: the configuration is for paper"),
        ("paper", (), 'network = "paper"\nmode = "observation"', "set mode = trading"),
        ("paper", ("--items", "12"), 'network = "paper"', "'12' is no item"),
    ],
)
def test_what_cannot_be_verified_is_refused(
    network: str, arguments: tuple[str, ...], text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RUN-1: exit code 2, with nothing asked of any venue."""
    needs = """
user_address = "0x3434343434343434343434343434343434343434"
[signer]
key_source = {type = "env_var", var_name = "BOT_KEY"}
[safety]
mainnet = true
max_notional_usd = 50
max_daily_trades = 10
[[markets]]
coin = "BTC"
"""
    (tmp_path / "bot.toml").write_text(text + (needs if network == "mainnet" else ""))
    assert call_hip3("verify", "--network", network, "--config", "bot.toml", *arguments, cwd=tmp_path) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
