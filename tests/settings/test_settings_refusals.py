"""What refuses to start: unknown, misplaced, empty and contradictory configuration, and secrets in it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hip3.settings import ConfigError, effective_caps, from_text
from hip3.settings.rules import RULES

ACCOUNT = "0x" + "1a" * 20
KEY_HEX = "c0ffee" * 10 + "beef"
PAPER = 'network = "paper"\n'
TESTNET = f"""
network = "testnet"
user_address = "{ACCOUNT}"
[[markets]]
coin = "BTC"
[signer]
key_source = {{type = "env_var", var_name = "K"}}
"""
MAINNET = TESTNET.replace("testnet", "mainnet") + "[safety]\nmainnet = true\n"


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        from_text(text)
    return refused.value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("time_stop_ms = 3\n", "time_stop_ms: 3: not a key of the top level; it belongs in [position]"),
        ("[detector]\ntime_stop_ms = 3\n", "detector.time_stop_ms: 3: unknown here; it belongs in [position]"),
        ("max_order_notional_usd = 3\n", "it belongs in [detector] or in [executor]"),
        (f'[safety]\nuser_address = "{ACCOUNT}"\n', "it belongs at the top of the file, before the first [section]"),
        ("[detector]\nsize_alfa = 1\n", 'detector.size_alfa: 1: unknown key; did you mean "size_alpha"?'),
        ("[[market]]\ncoin = 'BTC'\n", 'market: [a table]: unknown key; did you mean "markets"?'),
        ("[nonsense]\na = 1\n", "nonsense: a table: unknown key; known here: detector, executor"),
        ("[[markets]]\ncoin = 'BTC'\nsize = 1\n", "markets[0].size: 1: unknown key"),
        ("[[markets]]\nasset_idx = 1\n", "markets[0].coin: not set: required here"),
        ("markets = []\n", "markets: []: an array of tables"),
        ("markets = ['BTC']\n", 'markets: ["BTC"]: an array of tables'),
        ("[markets]\ncoin = 'BTC'\n", "markets: a table: an array of tables"),
        ("[detector]\n", "detector: a table: an empty section"),
        ("detector = 5\n", "detector: 5: a table: [detector]"),
    ],
)
def test_settings_unknown_or_misplaced_key_is_refused_with_remedy(text: str, line: str) -> None:
    """CFG-2, LESSONS 4: unknown, misplaced and empty keys refuse, naming path and value, and say where the key belongs."""
    assert line in str(refusal(text))


@pytest.mark.parametrize("section", ["console", "alerts"])
def test_settings_sections_without_behaviour_are_refused(section: str) -> None:
    """CFG-2: a section whose behaviour is not in this version is not accepted silently."""
    assert f"{section}: a table: this section has no effect in this version" in str(refusal(f"[{section}]\na = 1\n"))


def test_settings_all_problems_are_reported_at_once() -> None:
    """CFG-2: wrong values, unknown keys and contradictions of one file come in one message."""
    text = """
time_stop_ms = 3
network = "mainnetz"
[detector]
size_alpha = 2
[position]
time_stop_ms = 70000
[safety]
max_notional_usd = 5
extra = 1
"""
    paths = [problem.path for problem in refusal(text).problems]
    assert sorted(paths) == [
        "detector.size_alpha",
        "network",
        "position.reduce_only_timeout_ms",
        "safety.extra",
        "safety.max_notional_usd",
        "time_stop_ms",
    ]


def test_settings_no_contradiction_is_derived_from_a_wrong_key() -> None:
    """CFG-2: a key that is itself wrong gives one problem, not a second one about its default."""
    text = MAINNET.replace("mainnet = true", 'mainnet = "true"')
    assert [problem.path for problem in refusal(text).problems] == ["safety.mainnet"]


@pytest.mark.parametrize("text", ["", "\n\n", "# network = 'paper'\n", "\ufeff"])
def test_settings_empty_file_is_refused(text: str) -> None:
    """CFG-2, LESSONS 4: an empty file does not silently run the defaults."""
    assert "nothing set" in str(refusal(text))


def test_settings_syntax_error_names_line_and_column() -> None:
    """CFG-2: broken TOML is refused with the place of the error."""
    assert "at line 2, column 8" in str(refusal('network = "paper"\nmode = tru\n'))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (MAINNET + "testnet_only = true\n", ["safety.testnet_only: true", 'network = "mainnet"', "safety.mainnet"]),
        (
            TESTNET.replace("network", 'info_url = "https://api.hyperliquid.xyz"\nnetwork')
            + "[safety]\ntestnet_only=true\n",
            ["safety.testnet_only: true", "info_url = https://api.hyperliquid.xyz is mainnet"],
        ),
        (MAINNET.replace("[safety]\nmainnet = true\n", ""), ["safety.mainnet: false", 'network = "mainnet" needs']),
        (
            TESTNET + "[executor]\nmessages_per_min = 2001\n",
            ["executor.messages_per_min: 2001", "takes 2000 a minute from one IP"],
        ),
        (MAINNET + 'startup_policy = "auto"\n', ["safety.startup_policy", '"auto"', "manual"]),
        (
            TESTNET + '[safety]\nallowed_markets = ["ETH", "xyz:SNDK"]\n',
            ["markets[0].coin", '"BTC"', "safety.allowed_markets (ETH, xyz:SNDK)"],
        ),
        (PAPER + "[safety]\nmax_notional_usd = 9.99\n", ["safety.max_notional_usd: 9.99", "minimum order of 10 USD"]),
        (PAPER + "[limits]\nmax_notional_total_usd = 9\n", ["limits.max_notional_total_usd: 9", "minimum order"]),
        (PAPER + "[detector]\nmin_order_notional_usd = 9\n", ["detector.min_order_notional_usd: 9", "venue's minimum"]),
        (PAPER + "[safety]\nmax_notional_usd = 11\n", ["no order fits", "11 USD (safety.max_notional_usd)"]),
        (
            PAPER + "[executor]\nmax_order_notional_usd = 50.01\n",
            ["executor.max_order_notional_usd: 50.01", "50 USD (limits.max_notional_per_market_usd)"],
        ),
        (
            PAPER + "[executor]\nmax_order_notional_usd = 21\n[safety]\nmax_notional_usd = 20\n",
            ["executor.max_order_notional_usd: 21", "20 USD (safety.max_notional_usd)"],
        ),
        (
            PAPER + "[executor]\nmax_order_notional_usd = 16\n[detector]\nmax_order_notional_usd = 15\n",
            ["executor.max_order_notional_usd: 16", "15 USD (detector.max_order_notional_usd)"],
        ),
    ],
)
def test_settings_contradictions_refuse_and_name_both_sides(text: str, parts: list[str]) -> None:
    """CFG-5: testnet_only with mainnet, unstated mainnet, forbidden market, useless cap, loose executor cap (SAFE-3 too)."""
    message = str(refusal(text))
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (TESTNET + "[paper]\nseed = 2\n", "paper"),
        (PAPER + '[[markets]]\ncoin = "BTC"\n[paper]\nsource = "replay"\n', "paper.recording"),
        (PAPER + '[paper]\nrecording = "x"\n', "paper.recording"),
        (PAPER + "[paper]\nspeed = 2\n", "paper.speed"),
        (PAPER + '[paper]\nsource = "replay"\nrecording = "x"\n', "markets"),
        (PAPER + '[detector]\nreference = "mark"\n', "detector.reference"),
        (TESTNET + '[detector]\nreference = "mark"\n', "detector.reference"),
        (PAPER + f'vault_address = "{ACCOUNT}"\n', "vault_address"),
        (PAPER + f'user_address = "{ACCOUNT}"\n', "signer.key_source"),
        (PAPER + f'signer_address = "{ACCOUNT}"\n', "signer_address"),
        (PAPER + '[signer]\nkey_source = {type = "env_var", var_name = "K"}\n', "user_address"),
        (f'signer_address = "{ACCOUNT}"' + TESTNET, "signer_address"),
        (PAPER + '[[markets]]\ncoin = "BTC"\n[[markets]]\ncoin = "BTC"\n', "markets[1].coin"),
        (TESTNET.replace('[[markets]]\ncoin = "BTC"\n', ""), "markets"),
        (PAPER + "[executor]\nmax_inflight = 70\n", "executor.high_water"),
        (PAPER + "[position]\ntime_stop_ms = 60001\n", "position.reduce_only_timeout_ms"),
        (PAPER + "[position]\nflatten_slippage_bps = 201\n", "position.flatten_slippage_cap_bps"),
        (PAPER + "[position]\nmin_holding_ms = 1000\n", "position.min_holding_ms"),
        (PAPER + "[position]\nmin_holding_ms = 30000\ntake_profit_bps = 5\n", "position.min_holding_ms"),
        (PAPER + "[detector]\nmin_book_notional_usd = 5000\n", "detector.min_book_notional_usd"),
        (TESTNET.replace(f'user_address = "{ACCOUNT}"\n', ""), "user_address"),
        (TESTNET.replace('[signer]\nkey_source = {type = "env_var", var_name = "K"}\n', ""), "signer.key_source"),
    ],
)
def test_settings_keys_without_effect_or_out_of_order_refuse(text: str, path: str) -> None:
    """CFG-2: a key that could have no effect, or that another key makes meaningless, refuses and names its path."""
    assert [problem.path for problem in refusal(text).problems] == [path]


@pytest.mark.parametrize(
    ("network", "key", "url", "agrees"),
    [
        ("testnet", "ws_url", "wss://api.hyperliquid-testnet.xyz/ws", True),
        ("testnet", "ws_url", "wss://api.hyperliquid.xyz/ws", False),
        ("testnet", "info_url", "http://127.0.0.1:3001", False),
        ("testnet", "info_url", "https://api.hyperliquid-testnet.xyz.example.org", False),
        ("mainnet", "info_url", "https://api.hyperliquid.xyz/", True),
        ("mainnet", "info_url", "https://api.hyperliquid-testnet.xyz", False),
    ],
)
def test_settings_urls_must_agree_with_network(network: str, key: str, url: str, agrees: bool) -> None:
    """CFG-3: an override that belongs to another network refuses, naming the network and the host."""
    base = TESTNET if network == "testnet" else MAINNET
    text = f'{key} = "{url}"' + base
    if agrees:
        assert getattr(from_text(text), key) == url.rstrip("/")
        return
    problem = next(p for p in refusal(text).problems if p.path == key)
    assert f'network = "{network}"' in problem.allowed
    assert url.split("/")[2].split(":", maxsplit=1)[0] in problem.allowed


def test_settings_paper_may_name_another_exchange_on_this_machine() -> None:
    """CFG-3: on paper both URLs point at loopback, with an account and key of one's own; one URL alone refuses."""
    key = f'user_address = "{ACCOUNT}"\n[signer]\nkey_source = {{type = "env_var", var_name = "K"}}\n'
    ws, info = 'ws_url = "ws://127.0.0.1:3001/ws"\n', 'info_url = "http://127.0.0.1:3001"\n'
    market = '[[markets]]\ncoin = "BTC"\n'
    settings = from_text(PAPER + ws + info + key + market)
    assert settings.paper is None
    assert "info_url: not set: on paper set both" in str(refusal(PAPER + ws + key + market))
    assert "user_address" in str(refusal(PAPER + ws + info + market))
    assert "no host of the venue" in str(refusal(PAPER + 'ws_url = "wss://example.org/ws"\n' + info + key + market))


def test_settings_allowed_market_matches_with_and_without_dex() -> None:
    """CFG-4: `SNDK` allows xyz:SNDK; `xyz:SNDK` allows no SNDK of another dex."""
    text = TESTNET.replace("BTC", "xyz:SNDK") + '[safety]\nallowed_markets = ["SNDK"]\n'
    assert from_text(text).safety.allowed_markets == ("SNDK",)
    other = TESTNET.replace("BTC", "abc:SNDK") + '[safety]\nallowed_markets = ["xyz:SNDK"]\n'
    assert "markets[0].coin" in str(refusal(other))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", (50, 50, 100)),
        ("[safety]\nmax_notional_usd = 20\n", (20, 20, 20)),
        ("[safety]\nmax_notional_usd = 500\n", (50, 50, 100)),
        ("[limits]\nmax_notional_per_market_usd = 500\nmax_notional_total_usd = 600\n", (500, 500, 600)),
        ("[limits]\nmax_notional_per_market_usd = 500\n[safety]\nmax_notional_usd = 20\n", (20, 20, 20)),
        ("[limits]\nmax_notional_total_usd = 30\n", (30, 30, 30)),
        ("[detector]\nmax_order_notional_usd = 15\n", (15, 50, 100)),
        ("[detector]\nmax_order_notional_usd = 400\n", (50, 50, 100)),
        ("[executor]\nmax_order_notional_usd = 25\n", (25, 50, 100)),
    ],
)
def test_settings_smallest_cap_wins_everywhere(keys: str, expected: tuple[int, int, int]) -> None:
    """CFG-5, LESSONS 4: order, market and total caps are the smallest set; no looser default overrides a tighter key."""
    caps = effective_caps(from_text(PAPER + keys))
    assert [caps.order_usd, caps.per_market_usd, caps.total_usd] == [Decimal(usd) for usd in expected]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f'network = "paper"\nagent = "{KEY_HEX}"\n', "agent:"),
        (f'network = "paper"\nagent = "0x{KEY_HEX.upper()}"\n', "agent:"),
        (f"agent = 0x{KEY_HEX}\n", "agent:"),
        (f"agent = {int(KEY_HEX, 16)}\n", "agent:"),
        (f"agent = {int(KEY_HEX, 16)}.0\n", "agent:"),
        (
            f"network = 'paper'\n[signer]\nkey_source = {{type = 'env_var', var_name = '{KEY_HEX}'}}\n",
            "signer.key_source.var_",
        ),
        (f"network = 'paper'\n[safety]\nallowed_markets = ['{KEY_HEX}']\n", "safety.allowed_markets[0]:"),
        (f"network = 'paper'\n[[markets]]\ncoin = '{KEY_HEX}'\n", "markets[0].coin:"),
        ("[signer]\nprivate_key = 'short'\n", "signer.private_key:"),
        (
            "[signer]\nkey_source = {type = 'env_var', var_name = 'K', PrivateKey = 'short'}\n",
            "signer.key_source.PrivateKey:",
        ),
        ("[signer]\nmnemonic = ['a', 'b']\n", "signer.mnemonic:"),
        (f"network = 'paper' # {KEY_HEX}\n", "line 1"),
        (f"network = 'paper'\n# old: {KEY_HEX}\n", "line 2"),
        (f"network = 'paper'\nagent_hex = {KEY_HEX}\n", "line 2 (agent_hex)"),
        (f"{KEY_HEX} = 1\n", "<hidden>"),
        (f'network = \'paper\'\nx = """{KEY_HEX}\n"""\n', "x:"),
    ],
)
def test_settings_raw_key_is_refused_without_its_value(text: str, place: str) -> None:
    """CFG-7: a raw private key anywhere in the file refuses; the error names the place and never the value."""
    error = refusal(text)
    message = f"{error} {error!r}"
    assert place in message
    assert "a secret in a configuration file is refused" in message
    assert "short" not in message
    for hidden in (KEY_HEX, KEY_HEX.upper(), str(int(KEY_HEX, 16)), KEY_HEX[:16]):
        assert hidden not in message
        assert hidden not in str(error.__context__)


def test_settings_no_rule_raises_on_defaults() -> None:
    """CFG-5: every rule holds for the defaults of paper, so the table of rules is complete and runs."""
    settings = from_text(PAPER)
    assert [found for rule in RULES for found in rule(settings)] == []


def test_settings_a_password_in_a_url_is_not_repeated() -> None:
    """KEY-4, CFG-7: a URL with a user and a password is refused, and the message does not show them."""
    said = str(refusal('[store]\nurl = "postgresql://hip3:hunter2@127.0.0.1/hip3"\n'))
    assert "hunter2" not in said
    assert "postgresql://<hidden>@127.0.0.1/hip3" in said
