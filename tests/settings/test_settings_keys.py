"""Every key of the schema: it is read, it is bounded, and changing it changes what runs."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.settings import ConfigError, config_hash, from_text, plain, to_toml
from hip3.settings.schema import KEY_SOURCES, Market, Settings
from hip3.settings.structure import sections, structure

ACCOUNT = "0x" + "1a" * 20
AGENT = "0x" + "2b" * 20
VAULT = "0x" + "3c" * 20
PAPER = 'network = "paper"\n'
RULED = PAPER + "[position]\nexit_threshold_bps = 3\n"
REPLAY = PAPER + '[[markets]]\ncoin = "BTC"\n[paper]\nsource = "replay"\nrecording = "a.jsonl.gz"\n'
TESTNET = f"""
network = "testnet"
user_address = "{ACCOUNT}"
[[markets]]
coin = "xyz:SNDK"
[signer]
key_source = {{type = "env_var", var_name = "K"}}
"""
KEYSTORE = TESTNET.replace('{type = "env_var", var_name = "K"}', '{type = "keystore", path = "a"}')
MAINNET = TESTNET.replace("testnet", "mainnet") + "[safety]\nmainnet = true\n"
FILTERS, QUALITY = PAPER + "[detector.filters]\n", PAPER + "[detector.quality]\n"
ADAPTIVE, BASELINE = FILTERS + "adaptive_spread_multiple = 0.5\n", FILTERS + "baseline_ewma_ms = 60000\n"
TIME_BACK, MARK_MID = QUALITY + "time_back_ms = 1\n", QUALITY + "mark_mid_bps = 50\n"
SHOCK, OI_CAP = QUALITY + "spread_shock_multiple = 3\n", QUALITY + "oi_cap_share = 0.95\n"
TILT = PAPER + "[risk]\ntilt_losses = 2\n"
BLACKOUT = QUALITY + 'blackout_windows = ["22:00-02:00"]\n'

# key, a file without it, the same file with another value of it
CASES: dict[str, tuple[str, str]] = {
    "network": (PAPER, TESTNET),
    "mode": (PAPER, PAPER + 'mode = "observation"\n'),
    "ws_url": (TESTNET, 'ws_url = "wss://api.hyperliquid-testnet.xyz/ws"' + TESTNET),
    "info_url": (TESTNET, 'info_url = "https://api.hyperliquid-testnet.xyz"' + TESTNET),
    "user_address": (TESTNET, TESTNET.replace(ACCOUNT, VAULT)),
    "signer_address": (TESTNET, f'signer_address = "{AGENT}"' + TESTNET),
    "vault_address": (TESTNET, f'vault_address = "{VAULT}"' + TESTNET),
    "markets": (PAPER, PAPER + '[[markets]]\ncoin = "xyz:SNDK"\n'),
    "markets.coin": (TESTNET, TESTNET.replace("xyz:SNDK", "BTC")),
    "markets.asset_idx": (TESTNET, TESTNET.replace('"xyz:SNDK"', '"xyz:SNDK"\nasset_idx = 110016')),
    "markets.threshold_bps": (TESTNET, TESTNET.replace('"xyz:SNDK"', '"xyz:SNDK"\nthreshold_bps = 12.5')),
    "signer.key_source": (TESTNET, KEYSTORE),
    "signer.key_source.var_name": (TESTNET, TESTNET.replace('"K"', '"L"')),
    "signer.key_source.path": (KEYSTORE, KEYSTORE.replace('"a"', '"b"')),
    "signer.key_source.passphrase_env": (KEYSTORE, KEYSTORE.replace('"a"', '"a", passphrase_env = "P"')),
    "safety.testnet_only": (PAPER, PAPER + "[safety]\ntestnet_only = true\n"),
    "safety.mainnet": (PAPER, PAPER + "[safety]\nmainnet = true\n"),
    "safety.max_notional_usd": (PAPER, PAPER + "[safety]\nmax_notional_usd = 20\n"),
    "safety.allowed_markets": (TESTNET, TESTNET + '[safety]\nallowed_markets = ["SNDK"]\n'),
    "safety.max_daily_trades": (PAPER, PAPER + "[safety]\nmax_daily_trades = 7\n"),
    "safety.auto_stop_loss_usd": (PAPER, PAPER + "[safety]\nauto_stop_loss_usd = 7.5\n"),
    "safety.startup_policy": (PAPER, PAPER + '[safety]\nstartup_policy = "auto"\n'),
    "safety.halt_on_disconnect": (PAPER, PAPER + '[safety]\nhalt_on_disconnect = "always"\n'),
    "risk.max_cumulative_loss_usd": (PAPER, PAPER + "[risk]\nmax_cumulative_loss_usd = 7.5\n"),
    "risk.max_consecutive_losses": (PAPER, PAPER + "[risk]\nmax_consecutive_losses = 7\n"),
    "risk.max_flatten_failures": (PAPER, PAPER + "[risk]\nmax_flatten_failures = 7\n"),
    "risk.max_rejects_per_hour": (PAPER, PAPER + "[risk]\nmax_rejects_per_hour = 7\n"),
    "risk.max_slippage_bps": (PAPER, PAPER + "[risk]\nmax_slippage_bps = 7.5\n"),
    "risk.max_orders_per_min": (PAPER, PAPER + "[risk]\nmax_orders_per_min = 7\n"),
    "risk.max_orders_per_market_per_min": (PAPER, PAPER + "[risk]\nmax_orders_per_market_per_min = 7\n"),
    "risk.max_cancels_per_min": (PAPER, PAPER + "[risk]\nmax_cancels_per_min = 7\n"),
    "risk.max_cancels_per_market_per_min": (PAPER, PAPER + "[risk]\nmax_cancels_per_market_per_min = 7\n"),
    "risk.runaway_cooldown_ms": (PAPER, PAPER + "[risk]\nrunaway_cooldown_ms = 7\n"),
    "risk.max_open_positions": (PAPER, PAPER + "[risk]\nmax_open_positions = 7\n"),
    "risk.max_hourly_drawdown_usd": (PAPER, PAPER + "[risk]\nmax_hourly_drawdown_usd = 7.5\n"),
    "risk.reentry_delay_ms": (PAPER, PAPER + "[risk]\nreentry_delay_ms = 7\n"),
    "risk.correlation_cooldown_ms": (PAPER, PAPER + "[risk]\ncorrelation_cooldown_ms = 7\n"),
    "risk.max_entries_per_market_per_min": (PAPER, PAPER + "[risk]\nmax_entries_per_market_per_min = 7\n"),
    "risk.tilt_losses": (PAPER, PAPER + "[risk]\ntilt_losses = 7\n"),
    "risk.tilt_pause_ms": (TILT, TILT + "tilt_pause_ms = 7\n"),
    "risk.maintenance_windows": (PAPER, PAPER + '[risk]\nmaintenance_windows = ["Sun 10:00-11:00"]\n'),
    "detector.taker_fee_bps": (PAPER, PAPER + "[detector]\ntaker_fee_bps = 0.9\n"),
    "detector.slippage_bps": (PAPER, PAPER + "[detector]\nslippage_bps = 0\n"),
    "detector.min_edge_bps": (PAPER, PAPER + "[detector]\nmin_edge_bps = 7\n"),
    "detector.size_alpha": (PAPER, PAPER + "[detector]\nsize_alpha = 0.1\n"),
    "detector.min_order_notional_usd": (PAPER, PAPER + "[detector]\nmin_order_notional_usd = 12\n"),
    "detector.max_order_notional_usd": (PAPER, PAPER + "[detector]\nmax_order_notional_usd = 15\n"),
    "detector.min_book_notional_usd": (PAPER, PAPER + "[detector]\nmin_book_notional_usd = 600\n"),
    "detector.normal_book_notional_usd": (PAPER, PAPER + "[detector]\nnormal_book_notional_usd = 6000\n"),
    "detector.reference": (REPLAY, REPLAY + '[detector]\nreference = "mark"\n'),
    "detector.max_bbo_age_ms": (PAPER, PAPER + "[detector]\nmax_bbo_age_ms = 500\n"),
    "detector.max_ctx_age_ms": (PAPER, PAPER + "[detector]\nmax_ctx_age_ms = 500\n"),
    "detector.depth": (PAPER, PAPER + "[detector]\ndepth = true\n"),
    "detector.dedup": (PAPER, PAPER + "[detector]\ndedup = false\n"),
    "detector.direction": (PAPER, PAPER + "[detector]\ndirection = false\n"),
    "detector.filters.min_oracle_move_bps": (PAPER, FILTERS + "min_oracle_move_bps = 3\n"),
    "detector.filters.min_oracle_run": (PAPER, FILTERS + "min_oracle_run = 2\n"),
    "detector.filters.quote_lag_min_ms": (PAPER, FILTERS + "quote_lag_min_ms = 500\n"),
    "detector.filters.quote_lag_max_ms": (PAPER, FILTERS + "quote_lag_max_ms = 3000\n"),
    "detector.filters.max_spread_bps": (PAPER, FILTERS + "max_spread_bps = 20\n"),
    "detector.filters.adaptive_spread_multiple": (PAPER, ADAPTIVE),
    "detector.filters.adaptive_ewma_ms": (ADAPTIVE, ADAPTIVE + "adaptive_ewma_ms = 30000\n"),
    "detector.filters.baseline_ewma_ms": (PAPER, BASELINE),
    "detector.filters.baseline_warmup_ms": (BASELINE, BASELINE + "baseline_warmup_ms = 0\n"),
    "detector.filters.session_windows": (PAPER, FILTERS + 'session_windows = ["Mon-Fri 13:30-20:00"]\n'),
    "detector.filters.min_confidence": (PAPER, FILTERS + "min_confidence = 0.3\n"),
    "detector.quality.bbo_age_cooldown_ms": (PAPER, QUALITY + "bbo_age_cooldown_ms = 1000\n"),
    "detector.quality.ctx_age_cooldown_ms": (PAPER, QUALITY + "ctx_age_cooldown_ms = 1000\n"),
    "detector.quality.time_back_ms": (PAPER, TIME_BACK),
    "detector.quality.time_back_cooldown_ms": (TIME_BACK, TIME_BACK + "time_back_cooldown_ms = 1000\n"),
    "detector.quality.mark_mid_bps": (PAPER, MARK_MID),
    "detector.quality.mark_mid_cooldown_ms": (MARK_MID, MARK_MID + "mark_mid_cooldown_ms = 1000\n"),
    "detector.quality.spread_shock_multiple": (PAPER, SHOCK),
    "detector.quality.spread_shock_ewma_ms": (SHOCK, SHOCK + "spread_shock_ewma_ms = 30000\n"),
    "detector.quality.spread_shock_cooldown_ms": (SHOCK, SHOCK + "spread_shock_cooldown_ms = 1000\n"),
    "detector.quality.oi_cap_share": (PAPER, OI_CAP),
    "detector.quality.oi_cap_cooldown_ms": (OI_CAP, OI_CAP + "oi_cap_cooldown_ms = 1000\n"),
    "detector.quality.halted": (PAPER, QUALITY + "halted = false\n"),
    "detector.quality.halted_cooldown_ms": (PAPER, QUALITY + "halted_cooldown_ms = 1000\n"),
    "detector.quality.blackout_windows": (PAPER, BLACKOUT),
    "detector.quality.blackout_cooldown_ms": (BLACKOUT, BLACKOUT + "blackout_cooldown_ms = 1000\n"),
    "limits.max_notional_per_market_usd": (PAPER, PAPER + "[limits]\nmax_notional_per_market_usd = 25\n"),
    "limits.max_notional_total_usd": (PAPER, PAPER + "[limits]\nmax_notional_total_usd = 25\n"),
    "position.time_stop_ms": (PAPER, PAPER + "[position]\ntime_stop_ms = 5000\n"),
    "position.reduce_only_timeout_ms": (PAPER, PAPER + "[position]\nreduce_only_timeout_ms = 50000\n"),
    "position.flatten_slippage_bps": (PAPER, PAPER + "[position]\nflatten_slippage_bps = 40\n"),
    "position.flatten_slippage_step_bps": (PAPER, PAPER + "[position]\nflatten_slippage_step_bps = 0\n"),
    "position.flatten_slippage_cap_bps": (PAPER, PAPER + "[position]\nflatten_slippage_cap_bps = 300\n"),
    "position.min_holding_ms": (RULED, RULED + "min_holding_ms = 1000\n"),
    "position.exit_threshold_bps": (PAPER, RULED),
    "position.take_profit_bps": (PAPER, PAPER + "[position]\ntake_profit_bps = 12\n"),
    "position.edge_evaporation_bps": (PAPER, PAPER + "[position]\nedge_evaporation_bps = 0\n"),
    "position.oracle_reversal_bps": (PAPER, PAPER + "[position]\noracle_reversal_bps = 10\n"),
    "position.protective_stop_bps": (PAPER, PAPER + "[position]\nprotective_stop_bps = 150\n"),
    "executor.period_ms": (PAPER, PAPER + "[executor]\nperiod_ms = 50\n"),
    "executor.max_inflight": (PAPER, PAPER + "[executor]\nmax_inflight = 90\n"),
    "executor.high_water": (PAPER, PAPER + "[executor]\nhigh_water = 70\n"),
    "executor.queue_new": (PAPER, PAPER + "[executor]\nqueue_new = 10\n"),
    "executor.queue_reduce_only": (PAPER, PAPER + "[executor]\nqueue_reduce_only = 10\n"),
    "executor.queue_cancel": (PAPER, PAPER + "[executor]\nqueue_cancel = 10\n"),
    "executor.max_batch": (PAPER, PAPER + "[executor]\nmax_batch = 10\n"),
    "safety.halt_on_retry_budget": (PAPER, PAPER + "[safety]\nhalt_on_retry_budget = true\n"),
    "executor.actions_per_min": (PAPER, PAPER + "[executor]\nactions_per_min = 10\n"),
    "executor.messages_per_min": (PAPER, PAPER + "[executor]\nmessages_per_min = 500\n"),
    "executor.post_timeout_ms": (PAPER, PAPER + "[executor]\npost_timeout_ms = 4000\n"),
    "executor.expires_after_ms": (PAPER, PAPER + "[executor]\nexpires_after_ms = 9000\n"),
    "executor.max_order_notional_usd": (PAPER, PAPER + "[executor]\nmax_order_notional_usd = 20\n"),
    "store.url": (PAPER, PAPER + '[store]\nurl = "postgresql://hip3@127.0.0.1:5432/hip3"\n'),
    "store.group_commit_ms": (PAPER, PAPER + "[store]\ngroup_commit_ms = 5\n"),
    "store.queue_rows": (PAPER, PAPER + "[store]\nqueue_rows = 100\n"),
    "store.failed_after_ms": (PAPER, PAPER + "[store]\nfailed_after_ms = 0\n"),
    "store.backup_keep": (PAPER, PAPER + "[store]\nbackup_keep = 0\n"),
    "store.trail_days": (PAPER, PAPER + "[store]\ntrail_days = 0\n"),
    "reconcile.backfill_window_ms": (PAPER, PAPER + "[reconcile]\nbackfill_window_ms = 60_000\n"),
    "reconcile.drift_warn_sz": (PAPER, PAPER + '[reconcile]\ndrift_warn_sz = "0.01"\n'),
    "reconcile.drift_warn_usd": (PAPER, PAPER + "[reconcile]\ndrift_warn_usd = 2\n"),
    "reconcile.drift_critical_usd": (PAPER, PAPER + "[reconcile]\ndrift_critical_usd = 20\n"),
    "reconcile.drift_critical_sz": (PAPER, PAPER + "[reconcile]\ndrift_critical_sz = 1\n"),
    "watchdog.heartbeat_ms": (PAPER, PAPER + "[watchdog]\nheartbeat_ms = 500\n"),
    "watchdog.schedule_cancel_s": (PAPER, PAPER + "[watchdog]\nschedule_cancel_s = 30\n"),
    "watchdog.stale_ms": (PAPER, PAPER + "[watchdog]\nstale_ms = 5000\n"),
    "shutdown.settle_ms": (PAPER, PAPER + "[shutdown]\nsettle_ms = 0\n"),
    "shutdown.flatten_deadline_s": (PAPER, PAPER + "[shutdown]\nflatten_deadline_s = 30\n"),
    "paper.seed": (PAPER, PAPER + "[paper]\nseed = 2\n"),
    "paper.latency_ms": (PAPER, PAPER + "[paper]\nlatency_ms = 0\n"),
    "paper.block_ms": (PAPER, PAPER + "[paper]\nblock_ms = 70\n"),
    "paper.response_ms": (PAPER, PAPER + "[paper]\nresponse_ms = 0\n"),
    "paper.deposit_usd": (PAPER, PAPER + "[paper]\ndeposit_usd = 500\n"),
    "paper.source": (PAPER, REPLAY),
    "paper.recording": (REPLAY, REPLAY.replace("a.jsonl", "b.jsonl")),
    "paper.speed": (REPLAY, REPLAY + "speed = 10\n"),
    "paper.port": (PAPER, PAPER + "[paper]\nport = 4001\n"),
}

WRONG = {
    "network": '"live"',
    "mode": "1",
    "ws_url": '"http://api.hyperliquid.xyz"',
    "info_url": '"ftp://127.0.0.1"',
    "user_address": '"0x12"',
    "signer_address": '"' + "0x" + "0" * 40 + '"',
    "vault_address": "5",
    "safety.testnet_only": '"yes"',
    "safety.mainnet": "1",
    "safety.max_notional_usd": "0",
    "safety.allowed_markets": "[]",
    "safety.max_daily_trades": "0",
    "safety.auto_stop_loss_usd": "-20",
    "safety.startup_policy": '"automatic"',
    "safety.halt_on_disconnect": "true",
    "risk.max_cumulative_loss_usd": "-1",
    "risk.max_consecutive_losses": "1.5",
    "risk.max_flatten_failures": "-1",
    "risk.max_rejects_per_hour": "-1",
    "risk.max_slippage_bps": "-1",
    "risk.max_orders_per_min": "1.5",
    "risk.max_orders_per_market_per_min": "1.5",
    "risk.max_cancels_per_min": "1.5",
    "risk.max_cancels_per_market_per_min": "1.5",
    "risk.runaway_cooldown_ms": "1.5",
    "risk.max_open_positions": "1.5",
    "risk.max_hourly_drawdown_usd": "-1",
    "risk.reentry_delay_ms": "1.5",
    "risk.correlation_cooldown_ms": "1.5",
    "risk.max_entries_per_market_per_min": "1.5",
    "risk.tilt_losses": "1.5",
    "risk.tilt_pause_ms": "0",
    "risk.maintenance_windows": '["25:00-26:00"]',
    "detector.taker_fee_bps": "nan",
    "detector.slippage_bps": "-1",
    "detector.min_edge_bps": '"1e1"',
    "detector.size_alpha": "1.01",
    "detector.min_order_notional_usd": "inf",
    "detector.max_order_notional_usd": "1e30",
    "detector.min_book_notional_usd": "-0.01",
    "detector.normal_book_notional_usd": "0",
    "detector.reference": '"mid"',
    "detector.max_bbo_age_ms": "-1",
    "detector.max_ctx_age_ms": "3.0",
    "detector.depth": "1",
    "detector.dedup": "0",
    "detector.direction": '"off"',
    "detector.filters.min_oracle_move_bps": "-1",
    "detector.filters.min_oracle_run": "1.5",
    "detector.filters.quote_lag_min_ms": "-1",
    "detector.filters.quote_lag_max_ms": '"1 s"',
    "detector.filters.max_spread_bps": "10000",
    "detector.filters.adaptive_spread_multiple": "-0.5",
    "detector.filters.adaptive_ewma_ms": "0",
    "detector.filters.baseline_ewma_ms": "true",
    "detector.filters.baseline_warmup_ms": "-1",
    "detector.filters.session_windows": '["25:00-26:00"]',
    "detector.filters.min_confidence": "1.1",
    "detector.quality.bbo_age_cooldown_ms": "-1",
    "detector.quality.ctx_age_cooldown_ms": "-1",
    "detector.quality.time_back_ms": "-1",
    "detector.quality.time_back_cooldown_ms": "0.5",
    "detector.quality.mark_mid_bps": "-50",
    "detector.quality.mark_mid_cooldown_ms": "-1",
    "detector.quality.spread_shock_multiple": "nan",
    "detector.quality.spread_shock_ewma_ms": "0",
    "detector.quality.spread_shock_cooldown_ms": "-1",
    "detector.quality.oi_cap_share": "95",
    "detector.quality.oi_cap_cooldown_ms": "-1",
    "detector.quality.halted": "1",
    "detector.quality.halted_cooldown_ms": "-1",
    "detector.quality.blackout_windows": '["22:00-22:00"]',
    "detector.quality.blackout_cooldown_ms": "-1",
    "limits.max_notional_per_market_usd": '""',
    "limits.max_notional_total_usd": "false",
    "position.time_stop_ms": '"30000"',
    "position.reduce_only_timeout_ms": "0",
    "position.flatten_slippage_bps": "0",
    "position.flatten_slippage_step_bps": "-1",
    "position.flatten_slippage_cap_bps": "10000",
    "position.min_holding_ms": "-1",
    "position.exit_threshold_bps": "-1",
    "position.take_profit_bps": "0",
    "position.edge_evaporation_bps": "10000",
    "position.oracle_reversal_bps": "0",
    "position.protective_stop_bps": "0",
    "executor.period_ms": "0",
    "executor.max_inflight": "101",
    "executor.high_water": "101",
    "executor.queue_new": "0",
    "executor.queue_reduce_only": "true",
    "executor.queue_cancel": "-1",
    "executor.max_batch": "51",
    "safety.halt_on_retry_budget": '"safe"',
    "executor.actions_per_min": "0",
    "executor.messages_per_min": "99",
    "executor.post_timeout_ms": "0",
    "executor.expires_after_ms": "30000",
    "executor.max_order_notional_usd": "[50]",
    "store.url": '"postgresql://hip3:secret@127.0.0.1/hip3"',
    "store.group_commit_ms": "-1",
    "store.queue_rows": "0",
    "store.failed_after_ms": "-1",
    "store.backup_keep": "-1",
    "store.trail_days": "-1",
    "reconcile.backfill_window_ms": "0",
    "reconcile.drift_warn_sz": "-1",
    "reconcile.drift_warn_usd": "-1",
    "reconcile.drift_critical_usd": "0",
    "reconcile.drift_critical_sz": "0",
    "watchdog.heartbeat_ms": "0",
    "watchdog.schedule_cancel_s": "-1",
    "watchdog.stale_ms": "0",
    "shutdown.settle_ms": "-1",
    "shutdown.flatten_deadline_s": "0",
    "paper.seed": "-1",
    "paper.latency_ms": "-1",
    "paper.block_ms": "0",
    "paper.response_ms": "1.5",
    "paper.deposit_usd": "0",
    "paper.source": '"live"',
    "paper.recording": '""',
    "paper.speed": "0",
    "paper.port": "65536",
}


def schema_keys() -> set[str]:
    """Dotted name of every key that a file may hold."""
    keys: set[str] = set()
    keys |= {top.name for top in attrs.fields(Settings) if top.metadata}
    keys |= {"markets"} | {f"markets.{a.name}" for a in attrs.fields(Market)}
    for name, cls in sections():
        inner = {other for other, _ in sections(cls)}
        keys |= {f"{name}.{a.name}" for a in attrs.fields(cls) if a.name not in inner}
    for source in KEY_SOURCES.values():
        keys |= {f"signer.key_source.{a.name}" for a in attrs.fields(source)}
    return keys


def test_settings_every_key_is_in_these_tables() -> None:
    """CFG-3: no key of the schema is without a test that it changes what runs, and none of section keys without a limit."""
    assert set(CASES) == schema_keys()
    assert schema_keys() - set(WRONG) == {key for key in schema_keys() if key.startswith(("markets", "signer.key_source"))}


@pytest.mark.parametrize("key", CASES)
def test_settings_changing_a_key_changes_settings_and_hash(key: str) -> None:
    """CFG-6: each key reaches the resolved Settings, and the hash sees it."""
    before, after = (from_text(text) for text in CASES[key])
    assert before != after
    assert config_hash(before) != config_hash(after)


@pytest.mark.parametrize("key", CASES)
def test_settings_shown_toml_loads_to_the_same(key: str) -> None:
    """CFG-6: what `config show` prints is the resolved configuration: it loads to equal Settings and the same hash."""
    settings = from_text(CASES[key][1])
    again = from_text(to_toml(settings))
    assert again == settings
    assert config_hash(again) == config_hash(settings)


@pytest.mark.parametrize("key", WRONG)
def test_settings_wrong_value_names_path_and_what_is_allowed(key: str) -> None:
    """CFG-2: a value outside a key's limits is refused with its path, the value and what is allowed."""
    section, _, name = key.rpartition(".")
    head = f"[{section}]\n" if section else ""
    with pytest.raises(ConfigError) as refused:
        from_text(f"{head}{name} = {WRONG[key]}\n")
    problem = next(p for p in refused.value.problems if p.path == key)
    assert problem.value
    assert problem.allowed
    assert f"{key}: {problem.value}: {problem.allowed}" in str(refused.value)


@pytest.mark.parametrize("key", sorted(WRONG))
def test_settings_wrong_value_is_refused_in_code_too(key: str) -> None:
    """CFG-2: Settings built in code obey the limits of the file, so no test or caller runs with an illegal value."""
    section, _, name = key.rpartition(".")
    cls = Settings if not section else dict(sections())[section]
    with pytest.raises(ValueError, match=f"^{name}: "):
        cls(**{name: object()})


def test_settings_numbers_are_exact() -> None:
    """TYP-1: 0.05 in the file is the Decimal 0.05, whether a TOML float or a string; no binary fraction appears."""
    for text in ("0.05", '"0.05"', "5e-2"):
        assert from_text(f"{PAPER}[detector]\nsize_alpha = {text}\n").detector.size_alpha == Decimal("0.05")


def test_settings_checksummed_address_is_checked_and_lowered() -> None:
    """CFG-2: a mixed-case address is accepted with its right checksum only, which catches a mistyped digit."""
    right = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"  # an example of EIP-55
    assert from_text(TESTNET.replace(ACCOUNT, right)).user_address == right.lower()
    with pytest.raises(ConfigError, match=r"user_address.*EIP-55"):
        from_text(TESTNET.replace(ACCOUNT, right.replace("fB", "Fb")))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ('{type = "env_var"}', "signer.key_source.var_name: not set: required"),
        ('{type = "env_var", var_name = "1 x"}', 'signer.key_source.var_name: "1 x": the name of an environment'),
        ('{type = "env_var", var_name = "K", path = "x"}', 'signer.key_source.path: "x": unknown key'),
        ('{type = "file", path = ""}', 'signer.key_source.path: "": a path'),
        ('{type = "hsm", path = "x"}', "signer.key_source: a table: one of"),
        ('{path = "x"}', "signer.key_source: a table: one of"),
        ('"K"', 'signer.key_source: "K": one of'),
    ],
)
def test_settings_key_source_is_one_of_three(source: str, path: str) -> None:
    """KEY-1: a key comes from an environment variable, a file or a keystore, each with its own fields only."""
    with pytest.raises(ConfigError) as refused:
        from_text(TESTNET.replace('{type = "env_var", var_name = "K"}', source))
    assert path in str(refused.value)


_NAMES = sorted({part for key in schema_keys() for part in key.split(".")} | {"type", "risk", "nonsense"})
_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.decimals(),
    st.sampled_from(["", "paper", "mainnet", "xyz:SNDK", "env_var", "0x" + "ab" * 20, "wss://[x", "http://127.0.0.1:99999"]),
    st.text(max_size=12),
)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(_NAMES), _DATA, max_size=6))
def test_settings_any_data_gives_settings_or_problems(data: dict[str, object]) -> None:
    """CFG-2: whatever a file holds, the answer is Settings or a list of problems, never another exception."""
    settings, problems = structure(data)
    assert problems or settings is not None
    assert all(problem.path and problem.allowed for problem in problems)
    if settings is not None:
        assert len(config_hash(settings)) == 64
        assert "Decimal" not in repr(plain(settings))
