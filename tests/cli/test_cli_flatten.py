"""`hip3 flatten` as a user runs it: a process of its own against an exchange in another one, and no bot anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hip3.core.ids import TimeInForce
from hip3.venue.hyperliquid.signing import TradingKey
from tests.cli.cli_venue import BOT_KEY, GUARD_KEY, NVDA, USER, external_venue, last_json, run_hip3


def test_it_looks_flattens_and_verifies(tmp_path: Path) -> None:
    """OPS-6, STOP-2, END-3: exposed is 4, the flatten is 0, then it is verified; each wrote its certificate, mode 0600."""
    with external_venue(tmp_path) as venue:
        assert "filled" in venue.place(NVDA, 50)
        assert "resting" in venue.place("xyz:TSLA", 30, tif=TimeInForce.GTC)
        where = ("--account", USER, "--network", "paper", "--url", venue.url)

        code, out, _ = run_hip3("flatten", *where, "--verify", "--json", cwd=tmp_path)
        seen = last_json(out)
        assert (code, seen["exit_code"], seen["flat"]) == (4, 4, False)
        assert [line.split()[0] for line in seen["residual"]] == ["order", "position:"]
        assert (len(venue.positions()), len(venue.open_orders())) == (1, 1)

        code, out, err = run_hip3("flatten", *where, "--env-var", "GUARD_KEY", cwd=tmp_path)
        assert (code, err) == (0, "")
        assert f"FLAT: account {USER}" in out
        assert "dex flx, positions: 0 held" in out
        assert (venue.positions(), venue.open_orders()) == ([], [])

        code, out, _ = run_hip3("flatten", *where, "--verify", "--json", cwd=tmp_path)
        assert (code, last_json(out)["flat"]) == (0, True)
        assert {row["dex"] for row in last_json(out)["asked"]} == {"main", "xyz", "flx"}

        kept = sorted((tmp_path / "certificates").iterdir())
        assert {p.stat().st_mode & 0o777 for p in kept} == {0o600}
        assert [json.loads(p.read_text())["flat"] for p in kept if p.suffix == ".json"] == [False, True, True]
        written = out + "".join(p.read_text() for p in kept)
        assert GUARD_KEY[2:] not in written.lower()

        agent = TradingKey.from_text(BOT_KEY).address
        code, out, err = run_hip3("flatten", "--account", agent, *where[2:], "--verify", "--json", cwd=tmp_path)
        assert (code, last_json(out)["flat"]) == (3, None)
        assert f"is an agent of {USER}" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--account", "0x12", "--network", "paper", "--url", "http://127.0.0.1:9"), "--account 0x12: expected an address"),
        (("--account", USER, "--network", "paper"), "--url is needed on paper"),
        (("--account", USER, "--network", "testnet"), "a key is needed"),
        (("--account", USER, "--network", "testnet", "--url", "http://example.com"), "--url http://example.com"),
        (
            ("--account", USER, "--network", "testnet", "--url", "https://api.hyperliquid.xyz", "--verify"),
            "is mainnet, but --network is testnet",
        ),
        (
            ("--account", USER, "--network", "mainnet", "--url", "http://127.0.0.1:9", "--verify"),
            "is paper, but --network is mainnet",
        ),
        (("--account", USER, "--network", "testnet", "--verify", "--deadline-s", "0"), "--deadline-s 0"),
        (("--account", USER, "--network", "testnet", "--env-var", "NOT_SET_HERE"), "NOT_SET_HERE is not set"),
    ],
)
def test_a_wrong_argument_is_named(
    tmp_path: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """OPS-6, END-3: exit code 2, place, value, what is expected; nothing is asked of any venue."""
    from hip3.cli.main import main  # noqa: PLC0415 - the command line is this test's subject only

    with pytest.raises(SystemExit) as ended:
        main(["flatten", *arguments])
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_venue_that_is_not_there_is_not_flat(tmp_path: Path) -> None:
    """OPS-6, LESSONS 7: nobody answers: exit code 4, everything is "not known"."""
    where = ("--account", USER, "--network", "paper", "--url", "http://127.0.0.1:9")
    code, out, _ = run_hip3("flatten", *where, "--verify", "--json", "--deadline-s", "1", cwd=tmp_path)
    assert code == 4
    assert last_json(out)["residual"][-1] == f"what {USER} is: not known"
