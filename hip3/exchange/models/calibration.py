"""Numbers of the synthetic market and where each comes from. It computes nothing and reads no file.

Sources are public captures; `docs/calibration.md` says how each number is computed, and a test recomputes them where the
captures are at hand. Short names used below:
  CTX   metaAndAssetCtxs of dex xyz, mainnet, 2026-09-02 (first 18 markets)
  CTX2  the same, 2026-02-06 (43 markets)      META  metaAndAssetCtxs of the main dex, 2025-08-22
  DAILY open interest and price of every dex, 12 snapshots over 7 days of August 2026
  FILLS 8,082 HIP-3 fills of 15 wallets, April to July 2026
  SNAP  touch of 177 main-dex perps, 2026-07-17 BBO   2 h of BTC bbo and mark, 2026-05-10
  L2    23 min of ETH depth, 2025-12-10
  FUND  48 hourly premiums and rates of xyz:NVDA, 2026-08-26 to 28
  TOUCH the ten touch sizes of single captured frames (NVDA, AMD, MU, SKHY of 2026-08-15, AAPL of 2026-09-02)
A number that is chosen and not measured says ASSUMED.
"""

from __future__ import annotations

from attrs import frozen

# BBO: gaps between updates, median 133 ms, quartiles 68 and 265: log-sd = ln(265/68) / 1.349. PROTOCOL 2.3 has 0.10 s.
UPDATE_GAP_MEDIAN_MS = 133
UPDATE_GAP_LOG_SD = 1.0
# TOUCH: median notional 1,548 USD, quartiles 726 and 2,325: log-sd 0.86.
TOUCH_USD_MEDIAN = 1550
TOUCH_USD_LOG_SD = 0.86
# FILLS: what takers of SNDK took from the inner levels of a sweep, median 2,019 USD, quartiles 739 and 6,205.
LEVEL_USD_MEDIAN = 2000
LEVEL_USD_LOG_SD = 1.58
# FILLS: distance between adjacent levels in sweeps of SNDK, mean 0.86 bps (median 0.57, one tick).
LEVEL_GAP_BPS = 0.86
# FILLS: taker fills of SNDK, median 1,313 USD, quartiles 402 and 4,270: log-sd 1.75; mean 3,856 USD.
TRADE_USD_MEDIAN = 1313
TRADE_USD_LOG_SD = 1.75
# PROTOCOL 1.5: a deployer publishes every 3 s and never within 2.5 s.
ORACLE_PERIOD_MS = 3000
ORACLE_MIN_PERIOD_MS = 2500
# FUND: premium mean +1.8 bps (median 2.2, -5.9 to +8.4), sd 3.2; autocorrelation from hour to hour 0.58, so a memory of
# 3,600 / -ln(0.58) s.
PREMIUM_MEAN_BPS = 1.8
PREMIUM_SD_BPS = 3.2
PREMIUM_MEMORY_S = 6600
# PROTOCOL 1.5: the mark moves at most 1 % per update.
MARK_MAX_STEP = 0.01
# FUND: every one of the 48 rates is 0.5/8 * (P + clamp(0.0001 - P, -0.0003, 0.0003)).
FUNDING_MULTIPLIER = 0.5
FUNDING_INTEREST = 0.0001
FUNDING_CLAMP = 0.0003


@frozen
class MarketModel:
    """One quoted market. `sigma_bps` is the oracle's diffusion in bps per square root of a second."""

    coin: str
    sigma_bps: float
    half_spread_bps: float
    trades_per_s: float
    touch_usd: float = TOUCH_USD_MEDIAN
    jump_scale: float = 1.0
    """Multiplies the configured jump rate; 0 for markets without dislocations."""
    lag_scale: float = 1.0
    """Multiplies the configured lag."""
    open_interest: float = 0.0


# sigma: square root of (sum of squared log returns / elapsed seconds), stocks over DAILY, BTC over the mids of BBO and
# ETH over those of L2 at 3 s; SOL has ETH's.
# half spread: CTX, half of (impact ask - impact bid) / oracle; main dex: SNAP, half the touch spread.
# trades: CTX dayNtlVlm / 86,400 / mean taker fill of FILLS (3,856 USD SNDK, 4,345 MU, 3,456 NVDA; NVDA's for TSLA, AMD);
# main dex: 1 a second, ASSUMED (these markets are decor, and real rates of tens a second would only cost time).
# touch: TOUCH for stocks; main dex: ASSUMED 50,000 USD, far below BTC's 402,044 of BBO, more than any order here takes.
# jump and lag scale of the main dex: BBO has 57 episodes of 1 bps in 2 h and none above 2.5, so no jumps, and makers
# at a tenth of the lag, ASSUMED.
# open interest: CTX; main dex: META.
MARKETS = (
    MarketModel("xyz:SNDK", 1.63, 0.33, 0.49, open_interest=87018.034),
    MarketModel("xyz:NVDA", 0.38, 0.67, 0.19, open_interest=598277.336),
    MarketModel("xyz:TSLA", 0.85, 0.65, 0.094, open_interest=123317.6),
    MarketModel("xyz:MU", 1.26, 0.35, 0.20, open_interest=133483.208),
    MarketModel("xyz:AMD", 0.90, 1.63, 0.021, open_interest=28911.796),
    MarketModel("BTC", 0.17, 0.08, 1.0, touch_usd=50_000, jump_scale=0.0, lag_scale=0.1, open_interest=25877.14916),
    MarketModel("ETH", 1.55, 0.27, 1.0, touch_usd=50_000, jump_scale=0.0, lag_scale=0.1, open_interest=1082156.57160),
    MarketModel("SOL", 1.55, 0.07, 1.0, touch_usd=50_000, jump_scale=0.0, lag_scale=0.1, open_interest=4811432.44),
)
