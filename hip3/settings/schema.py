# ruff: noqa: RUF009 - `setting` and its short forms make attrs fields, which ruff cannot see
"""The one schema of the configuration (CFG-2, CFG-3): every key, its kind, its limits and its default.

Only keys whose behaviour exists in this version are here; everything else is refused when a file is read. Units are in
the names: `_ms`, `_s`, `_bps` (basis points), `_usd`. Money and rates are Decimal.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import attrs
from attrs import frozen

from hip3.core.ids import MarketKey
from hip3.settings.fields import Address, Choice, Flag, Number, PostgresUrl, Text, TextList, Url, Whole, Windows, setting
from hip3.settings.risk_keys import RiskKeys
from hip3.venue.hyperliquid.endpoints import Network

COIN = Text(
    r"([a-z0-9]{1,16}:)?[A-Za-z0-9@/_.-]{1,32}", 'the venue\'s name of a market, dex prefix included, such as "xyz:SNDK"'
)
"""Characters seen in `meta` of the main and the builder dexs (PROTOCOL 1.2, 1.3); lengths are ours: they bound a line."""
_PATH = Text(r"[^\x00-\x1f]{1,4096}", "a path, not empty")
_VAR_NAME = Text(r"[A-Za-z_][A-Za-z0-9_]{0,254}", "the name of an environment variable: letters, digits and _")
_BELOW_ALL = Decimal(9999)  # 10,000 bps is the whole price: a sell would be priced at zero


class Mode(enum.Enum):
    """OBSERVATION computes signals and needs no key (PRD-1)."""

    OBSERVATION = "observation"
    TRADING = "trading"


class StartupPolicy(enum.Enum):
    """Who promotes to ARMED_LIVE (SAFE-3)."""

    MANUAL = "manual"
    AUTO = "auto"


class HaltOnDisconnect(enum.Enum):
    """When a lost WebSocket is a HALT (STOP-3)."""

    EXPOSED = "exposed"
    ALWAYS = "always"
    NEVER = "never"


class Reference(enum.Enum):
    """What the detector compares quotes with; MARK only for recordings that hold no oracle price."""

    ORACLE = "oracle"
    MARK = "mark"


class PaperSource(enum.Enum):
    """Where the embedded exchange takes its market data from (SIM-3)."""

    SYNTHETIC = "synthetic"
    REPLAY = "replay"


def _whole(default: int | None, *, low: int = 1, high: int | None = None) -> Any:
    return setting(Whole(low, high), default=default)


def _usd(default: str | None, *, low: str = "0", above_low: bool = True) -> Any:
    return setting(Number(Decimal(low), None, above_low), default=None if default is None else Decimal(default))


def _multiple(default: str) -> Any:
    return setting(Number(Decimal(0)), default=Decimal(default))


def _bps(default: str | None, *, above_low: bool = False) -> Any:
    return setting(Number(Decimal(0), _BELOW_ALL, above_low), default=None if default is None else Decimal(default))


@frozen(kw_only=True)
class Market:
    """One entry of `[[markets]]`."""

    coin: str = setting(COIN)
    asset_idx: int | None = _whole(None, low=0)
    """The asset id that we expect, compared at start with the resolved one (META-3)."""
    threshold_bps: Decimal | None = _bps(None, above_low=True)
    """Total cost of this market, in place of fee + slippage + minimum edge (DET-1)."""

    @property
    def market_key(self) -> MarketKey:
        return MarketKey.parse(self.coin)


PAPER_MARKETS = tuple(Market(coin=f"xyz:{name}") for name in ("SNDK", "NVDA", "TSLA", "MU", "AMD"))
"""What paper trades where a file names no market: the stocks that the synthetic model quotes."""


@frozen(kw_only=True)
class EnvVarKey:
    """The key is the text of an environment variable (KEY-1)."""

    var_name: str = setting(_VAR_NAME)


@frozen(kw_only=True)
class FileKey:
    """The key is the text of a file of mode 0600 or stricter (KEY-1)."""

    path: str = setting(_PATH)


@frozen(kw_only=True)
class KeystoreKey:
    """The key is in an encrypted Web3 v3 keystore; the passphrase is in `passphrase_env` or is asked for (KEY-1)."""

    path: str = setting(_PATH)
    passphrase_env: str = setting(_VAR_NAME, default="HIP3_KEYSTORE_PASSPHRASE")


KeySource = EnvVarKey | FileKey | KeystoreKey
KEY_SOURCES: dict[str, type[KeySource]] = {"env_var": EnvVarKey, "file": FileKey, "keystore": KeystoreKey}
"""`key_source.type` and what it holds."""


@frozen(kw_only=True)
class Signer:
    """`[signer]`: where the trading key is; the key itself is never in a file of ours (CFG-7)."""

    key_source: KeySource | None = None


@frozen(kw_only=True)
class Safety:
    """`[safety]`: what the operator forbids (CFG-3, CFG-4)."""

    testnet_only: bool = setting(Flag(), default=False)
    mainnet: bool = setting(Flag(), default=False)
    """The operator's word that real money is meant; network "mainnet" needs it (CFG-5)."""
    max_notional_usd: Decimal | None = _usd(None)
    """Caps an order, a market and the total (CFG-5: the smallest cap wins everywhere)."""
    allowed_markets: tuple[str, ...] | None = setting(TextList(COIN), default=None)
    """Full names (`xyz:SNDK`) or names that match on every dex (`SNDK`); not set: those of `[[markets]]`."""
    max_daily_trades: int | None = _whole(None)
    auto_stop_loss_usd: Decimal = _usd("20")  # RISK-1, CFG-4
    startup_policy: StartupPolicy = setting(Choice(StartupPolicy), default=StartupPolicy.MANUAL)
    halt_on_disconnect: HaltOnDisconnect = setting(Choice(HaltOnDisconnect), default=HaltOnDisconnect.EXPOSED)
    halt_on_retry_budget: bool = setting(Flag(), default=False)
    """An order that stays in doubt is a HALT and not only ARMED_SAFE (POST-4)."""


@frozen(kw_only=True)
class FilterKeys:
    """`[detector.filters]`: filters of the detector besides dedup and direction, each off at 0 or not set (DET-4)."""

    min_oracle_move_bps: Decimal = _bps("0")
    min_oracle_run: int = _whole(0, low=0)
    quote_lag_min_ms: int = _whole(0, low=0)
    quote_lag_max_ms: int = _whole(0, low=0)
    max_spread_bps: Decimal = _bps("0")
    adaptive_spread_multiple: Decimal = _multiple("0")
    adaptive_ewma_ms: int = _whole(60_000)
    """Twenty times the half-life of a real edge, 1 to 3 s (LESSONS 26): it hardly moves the mean that it is judged by."""
    baseline_ewma_ms: int = _whole(0, low=0)
    baseline_warmup_ms: int = _whole(60_000, low=0)
    """As `adaptive_ewma_ms`."""
    session_windows: tuple[str, ...] | None = setting(Windows(), default=None)
    min_confidence: Decimal = setting(Number(Decimal(0), Decimal(1)), default=Decimal(0))


@frozen(kw_only=True)
class QualityKeys:
    """`[detector.quality]`: gates on the quality of a market's data, each off at 0, false or not set (DET-6)."""

    bbo_age_cooldown_ms: int = _whole(0, low=0)
    ctx_age_cooldown_ms: int = _whole(0, low=0)
    time_back_ms: int = _whole(0, low=0)
    time_back_cooldown_ms: int = _whole(0, low=0)
    mark_mid_bps: Decimal = _bps("0")
    mark_mid_cooldown_ms: int = _whole(0, low=0)
    spread_shock_multiple: Decimal = _multiple("0")
    spread_shock_ewma_ms: int = _whole(60_000)
    """As `adaptive_ewma_ms`."""
    spread_shock_cooldown_ms: int = _whole(0, low=0)
    oi_cap_share: Decimal = setting(Number(Decimal(0), Decimal(1)), default=Decimal(0))
    oi_cap_cooldown_ms: int = _whole(0, low=0)
    halted: bool = setting(Flag(), default=True)
    """On: the venue refuses orders there, and asking costs one look at a flag."""
    halted_cooldown_ms: int = _whole(0, low=0)
    blackout_windows: tuple[str, ...] | None = setting(Windows(), default=None)
    blackout_cooldown_ms: int = _whole(0, low=0)


@frozen(kw_only=True)
class Detector:
    """`[detector]`: the oracle-dislocation taker (DET-1 to DET-6)."""

    taker_fee_bps: Decimal = _bps("4")
    """Used only until the account's real fee is read (DET-2)."""
    slippage_bps: Decimal = _bps("2")
    min_edge_bps: Decimal = _bps("5")
    size_alpha: Decimal = setting(Number(Decimal(0), Decimal(1), above_low=True), default=Decimal("0.05"))
    """Share of the touched size that is taken (DET-3, CFG-4)."""
    min_order_notional_usd: Decimal = _usd("11")
    max_order_notional_usd: Decimal | None = _usd(None)
    min_book_notional_usd: Decimal = _usd("500", above_low=False)
    normal_book_notional_usd: Decimal = _usd("5000")
    reference: Reference = setting(Choice(Reference), default=Reference.ORACLE)
    max_bbo_age_ms: int = _whole(10_000, low=0)
    """0 is no limit. A quote comes when it changes (PROTOCOL 2.3), so an old one may still hold; 10 s is MD-2's limit."""
    max_ctx_age_ms: int = _whole(3000)
    """The context comes about once a second even when nothing changes (PROTOCOL 2.3): three were missed."""
    depth: bool = setting(Flag(), default=False)
    """`l2Book` besides `bbo`: a quiet quote is confirmed every 0.55 s (PROTOCOL 2.3), at a frame each."""
    dedup: bool = setting(Flag(), default=True)
    direction: bool = setting(Flag(), default=True)
    filters: FilterKeys = attrs.field(factory=FilterKeys)
    quality: QualityKeys = attrs.field(factory=QualityKeys)


@frozen(kw_only=True)
class Limits:
    """`[limits]`: Phase B limits of exposure, positions and pending orders together (CFG-4, GATE-2)."""

    max_notional_per_market_usd: Decimal = _usd("50")
    max_notional_total_usd: Decimal = _usd("100")


@frozen(kw_only=True)
class PositionKeys:
    """`[position]`: exits (CFG-4, EXIT-1, EXIT-2, EXIT-4, EXIT-5). A rule that is not set is off."""

    time_stop_ms: int = _whole(30_000)
    reduce_only_timeout_ms: int = _whole(60_000)
    flatten_slippage_bps: Decimal = _bps("50", above_low=True)
    flatten_slippage_step_bps: Decimal = _bps("25")
    """Added at each further attempt (EXIT-4)."""
    flatten_slippage_cap_bps: Decimal = _bps("200", above_low=True)
    min_holding_ms: int = _whole(0, low=0)
    """No rule of EXIT-2 looks at a younger position."""
    exit_threshold_bps: Decimal | None = _bps(None)
    take_profit_bps: Decimal | None = _bps(None, above_low=True)
    edge_evaporation_bps: Decimal | None = _bps(None)
    oracle_reversal_bps: Decimal | None = _bps(None, above_low=True)
    protective_stop_bps: Decimal | None = _bps(None, above_low=True)


@frozen(kw_only=True)
class Executor:
    """`[executor]`: scheduler and posts (BAT-1 to BAT-4, POST-1, POST-4)."""

    period_ms: int = _whole(100)
    max_inflight: int = _whole(100, high=100)  # the venue's limit of posts in flight, PROTOCOL 2.6
    high_water: int = _whole(80, high=100)
    queue_new: int = _whole(1000)
    queue_reduce_only: int = _whole(500)
    queue_cancel: int = _whole(200)
    max_batch: int = _whole(50, high=50)  # BAT-1
    actions_per_min: int = _whole(34)
    """Of 50,000 actions that a unified account has in a day (PROTOCOL 1.6), 34.7 are a minute's share."""
    messages_per_min: int = _whole(2000, low=100)  # the venue's limit per IP, PROTOCOL 2.6
    """Below it where other programs share the IP; three tenths are kept for what is no entry (WS-3)."""
    post_timeout_ms: int = _whole(5000)
    expires_after_ms: int = _whole(10_000, high=29_999)  # absence must be proved within the 30 s of POST-4
    max_order_notional_usd: Decimal | None = _usd(None)


@frozen(kw_only=True)
class StoreKeys:
    """`[store]`: what outlives the process, and where it is kept (STO-1, STO-4, STO-6)."""

    url: str | None = setting(PostgresUrl(), default=None)
    """PostgreSQL; None is a SQLite file of the network in the state folder."""
    group_commit_ms: int = _whole(20, low=0)
    queue_rows: int = _whole(8192)
    failed_after_ms: int = _whole(10_000, low=0)
    backup_keep: int = _whole(7, low=0)
    trail_days: int = _whole(30, low=0)
    """A month; ours: what a gate said is asked of the last days, what was traded of all of them."""


@frozen(kw_only=True)
class ReconcileKeys:
    """`[reconcile]`: how far the books may be from the venue, and how long it may be left unfollowed (REC-3, REC-4)."""

    backfill_window_ms: int = _whole(600_000)
    # Ours: cents apart is the venue's rounding; the smallest order (10 USD) apart is an order that we do not know.
    drift_warn_sz: Decimal = _usd("0", above_low=False)
    drift_warn_usd: Decimal = _usd("1", above_low=False)
    drift_critical_usd: Decimal = _usd("10")
    drift_critical_sz: Decimal | None = _usd(None)


@frozen(kw_only=True)
class Shutdown:
    """`[shutdown]` (END-1)."""

    settle_ms: int = _whole(2000, low=0)
    flatten_deadline_s: int = _whole(20)


@frozen(kw_only=True)
class WatchdogKeys:
    """`[watchdog]`: the heartbeat, and when a watchdog takes the bot for dead (DEAD-1)."""

    heartbeat_ms: int = _whole(1000)
    stale_ms: int = _whole(10_000)
    """Ten heartbeats; ours. A bot that is only slow must not be taken for dead."""
    schedule_cancel_s: int = _whole(0, low=0)
    """How far ahead the venue's `scheduleCancel` is set, renewed three times in it; 0 is off. It takes 5 s at least."""


@frozen(kw_only=True)
class Paper:
    """`[paper]`: the embedded exchange. Delays as in the exchange's own defaults (PROTOCOL 7.2 and 12)."""

    seed: int = _whole(1, low=0)
    latency_ms: int = _whole(150, low=0)
    """From send to the mempool."""
    block_ms: int = _whole(85)
    response_ms: int = _whole(150, low=0)
    """From the commit of a block to the client."""
    deposit_usd: Decimal = _usd("1000")
    """Ours: ten times the largest total exposure of Phase B, so that margin never is the limit."""
    source: PaperSource = setting(Choice(PaperSource), default=PaperSource.SYNTHETIC)
    recording: str | None = setting(_PATH, default=None)
    speed: Decimal = setting(Number(Decimal(0), None, above_low=True), default=Decimal(1))
    """Of a replay: 2 is twice as fast as it was recorded."""
    port: int = _whole(0, low=0, high=65_535)
    """On 127.0.0.1; 0 takes a free one."""


@frozen(kw_only=True)
class Settings:
    """The whole configuration. Immutable; `attrs.evolve` makes variants for tests."""

    network: Network = setting(Choice(Network), default=Network.PAPER)
    mode: Mode = setting(Choice(Mode), default=Mode.TRADING)
    ws_url: str | None = setting(Url(("wss", "ws")), default=None)
    info_url: str | None = setting(Url(("https", "http")), default=None)
    """Base of REST: `/info` and `/exchange` lie below it."""
    user_address: str | None = setting(Address(), default=None)
    """The account; positions and orders are read of it."""
    signer_address: str | None = setting(Address(), default=None)
    """Address of the API wallet whose key signs; compared with the key's own (KEY-2)."""
    vault_address: str | None = setting(Address(), default=None)
    markets: tuple[Market, ...] = ()
    signer: Signer = attrs.field(factory=Signer)
    safety: Safety = attrs.field(factory=Safety)
    detector: Detector = attrs.field(factory=Detector)
    limits: Limits = attrs.field(factory=Limits)
    position: PositionKeys = attrs.field(factory=PositionKeys)
    risk: RiskKeys = attrs.field(factory=RiskKeys)
    executor: Executor = attrs.field(factory=Executor)
    store: StoreKeys = attrs.field(factory=StoreKeys)
    reconcile: ReconcileKeys = attrs.field(factory=ReconcileKeys)
    shutdown: Shutdown = attrs.field(factory=Shutdown)
    watchdog: WatchdogKeys = attrs.field(factory=WatchdogKeys)
    paper: Paper | None = None
    """None without an embedded exchange; `resolved` fills it in."""


LATER_SECTIONS = ("alerts", "console")
"""Sections of the specification whose behaviour is not built yet."""


def resolved(settings: Settings) -> Settings:
    """`settings` with what the embedded exchange of paper supplies: its section and, where none is named, its markets.

    Unchanged on the real networks, and on paper with URLs of another exchange.
    """
    if settings.network is not Network.PAPER or settings.ws_url is not None:
        return settings
    return attrs.evolve(settings, paper=settings.paper or Paper(), markets=settings.markets or PAPER_MARKETS)
