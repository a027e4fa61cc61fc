"""Keys that are legal alone and contradict each other, and keys that a start needs (CFG-5, SAFE-3, KEY-3).

Each rule looks at the Settings as written (before paper's own defaults are filled in) and yields what it finds; rules
know nothing of each other. A number of the venue is compared where it is known, never repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from urllib.parse import urlsplit

from hip3.core.detector import CAP_HEADROOM, VENUE_MIN_NOTIONAL_USD
from hip3.settings.caps import configured_caps, effective_caps
from hip3.settings.errors import Contradiction, Kind, Problem
from hip3.settings.fields import is_loopback
from hip3.settings.risk_keys import RiskKeys
from hip3.settings.schema import Mode, PaperSource, Reference, Settings, StartupPolicy
from hip3.venue.hyperliquid.endpoints import MESSAGES_PER_MINUTE, Network, endpoints_for

Found = Iterator[Contradiction]


def _contradiction(path: str, value: object, allowed: str, *involves: str) -> Contradiction:
    return Contradiction(Problem(path, str(value), allowed), (path, *involves))


def network_of_host(host: str) -> Network | None:
    """The network that a host belongs to (PROTOCOL 1.1), None for a stranger's; used to contradict, never to choose."""
    if is_loopback(host):
        return Network.PAPER
    for network in (Network.TESTNET, Network.MAINNET):
        if host == urlsplit(endpoints_for(network).rest_url).hostname:
            return network
    return None


def urls_agree(settings: Settings) -> Found:
    """CFG-3: `ws_url` and `info_url` must agree with `network`."""
    stated = settings.network
    for path, url in (("ws_url", settings.ws_url), ("info_url", settings.info_url)):
        if url is None:
            continue
        host = urlsplit(url).hostname or ""
        of = network_of_host(host)
        if of is stated:
            continue
        belongs = f'is a host of network "{of.value}"' if of else "is no host of the venue that this version knows"
        expected = "127.0.0.1" if stated is Network.PAPER else urlsplit(endpoints_for(stated).rest_url).hostname
        remedy = f'{host} {belongs}, but network = "{stated.value}" (which is at {expected}); correct one of the two'
        yield _contradiction(path, f'"{url}"', remedy, "network")


def paper_urls_come_together(settings: Settings) -> Found:
    """Paper has no endpoints of its own; one URL alone would mix a foreign exchange with the embedded one."""
    if settings.network is Network.PAPER and (settings.ws_url is None) != (settings.info_url is None):
        missing = "ws_url" if settings.ws_url is None else "info_url"
        problem = Problem(missing, None, "on paper set both URLs (another exchange on this machine) or neither")
        yield Contradiction(problem, ("network", "ws_url", "info_url"))


def testnet_only_holds(settings: Settings) -> Found:
    """CFG-5: `testnet_only` with mainnet; the two permissions exclude each other."""
    if not settings.safety.testnet_only:
        return
    urls = (("ws_url", settings.ws_url), ("info_url", settings.info_url))
    for path, url in urls:
        if url is not None and network_of_host(urlsplit(url).hostname or "") is Network.MAINNET:
            remedy = f"safety.testnet_only = true forbids mainnet, and {path} = {url} is mainnet; correct one of the two"
            yield _contradiction("safety.testnet_only", "true", remedy, path)
    if settings.network is Network.MAINNET:
        remedy = 'forbids network = "mainnet"; remove it, or set network = "testnet"'
        yield _contradiction("safety.testnet_only", "true", remedy, "network")
    if settings.safety.mainnet:
        remedy = "contradicts safety.mainnet = true; keep one of the two"
        yield _contradiction("safety.testnet_only", "true", remedy, "safety.mainnet")


def mainnet_is_meant(settings: Settings) -> Found:
    """CFG-5: `network = "mainnet"` needs `safety.mainnet = true`."""
    if settings.network is Network.MAINNET and not settings.safety.mainnet:
        remedy = 'network = "mainnet" needs safety.mainnet = true; set it if real money is meant'
        yield _contradiction("safety.mainnet", "false", remedy, "network")


def mainnet_is_promoted_by_hand(settings: Settings) -> Found:
    """SAFE-3: `startup_policy = "auto"` is refused on mainnet."""
    if settings.network is Network.MAINNET and settings.safety.startup_policy is StartupPolicy.AUTO:
        yield _contradiction("safety.startup_policy", '"auto"', 'on network "mainnet" only "manual" is allowed', "network")


def markets_are_allowed(settings: Settings) -> Found:
    """CFG-5: no market outside `allowed_markets`; `SNDK` there allows SNDK of any dex (CFG-4)."""
    allowed = settings.safety.allowed_markets
    if allowed is None:
        return
    for index, market in enumerate(settings.markets):
        if not is_allowed(market.coin, allowed):
            remedy = f"not in safety.allowed_markets ({', '.join(allowed)}); add it there or remove the market"
            yield _contradiction(f"markets[{index}].coin", f'"{market.coin}"', remedy, "markets", "safety.allowed_markets")


def is_allowed(coin: str, allowed: tuple[str, ...]) -> bool:
    """True where `coin` or its name without the dex prefix is listed."""
    return coin in allowed or coin.partition(":")[2] in allowed


def markets_are_distinct(settings: Settings) -> Found:
    """A market named twice has two thresholds, of which one would silently lose."""
    seen: dict[str, int] = {}
    for index, market in enumerate(settings.markets):
        if market.coin in seen:
            remedy = f"already named by markets[{seen[market.coin]}]; keep one"
            yield _contradiction(f"markets[{index}].coin", f'"{market.coin}"', remedy, "markets")
        seen.setdefault(market.coin, index)


def markets_are_named(settings: Settings) -> Found:
    """Paper's synthetic market brings its own markets; everything else trades what the operator names."""
    if settings.markets:
        return
    replay = settings.paper is not None and settings.paper.source is PaperSource.REPLAY
    if settings.network is not Network.PAPER or replay or settings.ws_url is not None:
        problem = Problem("markets", None, 'at least one is needed here: [[markets]] with coin = "xyz:SNDK"')
        yield Contradiction(problem, ("markets", "network", "paper"))


def caps_allow_an_order(settings: Settings) -> Found:
    """CFG-5: a cap below the venue's minimum (PROTOCOL 6) permits no order, and looks like a bot without signals."""
    minimum = settings.detector.min_order_notional_usd
    below = [cap for cap in configured_caps(settings) if cap.usd < VENUE_MIN_NOTIONAL_USD]
    for cap in below:
        remedy = f"below the venue's minimum order of {VENUE_MIN_NOTIONAL_USD} USD: no order could be sent; raise it"
        yield _contradiction(cap.key, f"{cap.usd:f}", remedy)
    if minimum < VENUE_MIN_NOTIONAL_USD:
        remedy = f"at least the venue's minimum order of {VENUE_MIN_NOTIONAL_USD} USD; it refuses smaller ones"
        yield _contradiction("detector.min_order_notional_usd", f"{minimum:f}", remedy)
    smallest = effective_caps(settings).order
    if not below and minimum > smallest.usd * CAP_HEADROOM:
        remedy = (
            f"no order fits: the smallest cap is {smallest}, of which {CAP_HEADROOM} is used; lower this or raise the cap"
        )
        yield _contradiction("detector.min_order_notional_usd", f"{minimum:f}", remedy, smallest.key)


def executor_cap_is_smallest(settings: Settings) -> Found:
    """CFG-5: an executor cap above the smallest configured cap refuses."""
    own = settings.executor.max_order_notional_usd
    others = [cap for cap in configured_caps(settings) if not cap.key.startswith("executor.")]
    smallest = min(others, key=lambda cap: cap.usd)
    if own is not None and own > smallest.usd:
        remedy = f"above the smallest configured cap, {smallest}; lower it to that or remove it"
        yield _contradiction("executor.max_order_notional_usd", f"{own:f}", remedy, smallest.key)


def _ordered(path: str, value: object, other: str, bound: object, word: str) -> Contradiction:
    return _contradiction(path, value, f"must be {word} {other}, which is {bound}; change one of the two", other)


def numbers_are_in_order(settings: Settings) -> Found:
    """Pairs of limits of which one must not pass the other."""
    position, executor, detector = settings.position, settings.executor, settings.detector
    least, most = "at least", "at most"
    if position.reduce_only_timeout_ms < position.time_stop_ms:
        timeout = position.reduce_only_timeout_ms
        yield _ordered("position.reduce_only_timeout_ms", timeout, "position.time_stop_ms", position.time_stop_ms, least)
    slippage, cap = position.flatten_slippage_bps, position.flatten_slippage_cap_bps
    if slippage > cap:
        yield _ordered("position.flatten_slippage_cap_bps", cap, "position.flatten_slippage_bps", slippage, least)
    if executor.high_water > executor.max_inflight:
        yield _ordered("executor.high_water", executor.high_water, "executor.max_inflight", executor.max_inflight, most)
    thin, normal = detector.min_book_notional_usd, detector.normal_book_notional_usd
    if thin >= normal:
        yield _ordered("detector.min_book_notional_usd", thin, "detector.normal_book_notional_usd", normal, "below")


def exit_rules_have_an_effect(settings: Settings) -> Found:
    """EXIT-2: a minimum holding time without a rule that waits for it, or one that the time stop forestalls."""
    p = settings.position
    rules = (p.exit_threshold_bps, p.take_profit_bps, p.edge_evaporation_bps, p.oracle_reversal_bps)
    if p.min_holding_ms and all(rule is None for rule in rules):
        remedy = (
            "has no effect without exit_threshold_bps, take_profit_bps, edge_evaporation_bps or oracle_reversal_bps; "
            "set one of them or remove this"
        )
        yield _contradiction("position.min_holding_ms", p.min_holding_ms, remedy, "position")
    elif p.min_holding_ms >= p.time_stop_ms:
        yield _ordered("position.min_holding_ms", p.min_holding_ms, "position.time_stop_ms", p.time_stop_ms, "below")


_COMPANIONS = (
    ("filters.adaptive_ewma_ms", 60_000, "filters.adaptive_spread_multiple"),
    ("filters.baseline_warmup_ms", 60_000, "filters.baseline_ewma_ms"),
    ("quality.bbo_age_cooldown_ms", 0, "max_bbo_age_ms"),
    ("quality.time_back_cooldown_ms", 0, "quality.time_back_ms"),
    ("quality.mark_mid_cooldown_ms", 0, "quality.mark_mid_bps"),
    ("quality.spread_shock_ewma_ms", 60_000, "quality.spread_shock_multiple"),
    ("quality.spread_shock_cooldown_ms", 0, "quality.spread_shock_multiple"),
    ("quality.oi_cap_cooldown_ms", 0, "quality.oi_cap_share"),
    ("quality.halted_cooldown_ms", 0, "quality.halted"),
    ("quality.blackout_cooldown_ms", 0, "quality.blackout_windows"),
)
"""Keys of `[detector]` that mean something only while another one is on: key, default, the other."""


def filters_are_complete(settings: Settings) -> Found:
    """A number of a filter or gate that is off has no effect; a window must not end before it begins."""
    for key, default, needed in _COMPANIONS:
        value = attrgetter(key)(settings.detector)
        if value != default and not attrgetter(needed)(settings.detector):
            remedy = f"has no effect while detector.{needed} is off; switch that on or remove this"
            yield _contradiction(f"detector.{key}", value, remedy, f"detector.{needed}")
    low, high = settings.detector.filters.quote_lag_min_ms, settings.detector.filters.quote_lag_max_ms
    if 0 < high < low:
        yield _ordered("detector.filters.quote_lag_min_ms", low, "detector.filters.quote_lag_max_ms", high, "at most")


def risk_keys_have_an_effect(settings: Settings) -> Found:
    """A pause without losses that lead to it, and a cooldown of a breaker that cannot trip."""
    risk, default = settings.risk, RiskKeys()
    if risk.tilt_pause_ms != default.tilt_pause_ms and not risk.tilt_losses:
        remedy = "has no effect while risk.tilt_losses is off; set that or remove this"
        yield _contradiction("risk.tilt_pause_ms", risk.tilt_pause_ms, remedy, "risk.tilt_losses")
    limits = ("max_orders_per_min", "max_orders_per_market_per_min", "max_cancels_per_min", "max_cancels_per_market_per_min")
    if risk.runaway_cooldown_ms != default.runaway_cooldown_ms and not any(getattr(risk, name) for name in limits):
        remedy = f"has no effect with {', '.join(limits)} all 0; set one of them or remove this"
        yield _contradiction("risk.runaway_cooldown_ms", risk.runaway_cooldown_ms, remedy, *(f"risk.{n}" for n in limits))


def paper_stays_on_paper(settings: Settings) -> Found:
    """`[paper]` and what goes with it have no effect elsewhere, so there they are misplaced."""
    if settings.network is not Network.PAPER and settings.paper is not None:
        remedy = f'has no effect with network = "{settings.network.value}"; remove the section'
        yield _contradiction("paper", "a table", remedy, "network")
    if settings.network is Network.PAPER and settings.ws_url is not None and settings.paper is not None:
        remedy = "has no effect with ws_url and info_url, which name another exchange; remove it or them"
        yield _contradiction("paper", "a table", remedy, "ws_url", "network")
    if settings.network is Network.PAPER and settings.vault_address is not None:
        remedy = 'has no effect with network = "paper", whose exchange has no vaults; remove it'
        yield _contradiction("vault_address", f'"{settings.vault_address}"', remedy, "network")


def replay_is_complete(settings: Settings) -> Found:
    """A replay needs its recording; keys of a replay mean nothing without one."""
    paper = settings.paper
    replay = paper is not None and paper.source is PaperSource.REPLAY
    if paper is not None and replay and paper.recording is None:
        problem = Problem("paper.recording", None, 'paper.source = "replay" needs the path of a recording')
        yield Contradiction(problem, ("paper.recording", "paper.source"))
    if paper is not None and not replay and paper.recording is not None:
        remedy = 'has no effect unless paper.source = "replay"; set that or remove it'
        yield _contradiction("paper.recording", f'"{paper.recording}"', remedy, "paper.source")
    if paper is not None and not replay and paper.speed != 1:
        remedy = 'has no effect unless paper.source = "replay"; set that or remove it'
        yield _contradiction("paper.speed", f"{paper.speed:f}", remedy, "paper.source")
    if settings.detector.reference is Reference.MARK and not replay:
        remedy = 'only for a replay (paper.source = "replay") of a recording without oracle prices; use "oracle"'
        yield _contradiction("detector.reference", '"mark"', remedy, "paper", "network")


def agent_is_not_the_account(settings: Settings) -> Found:
    """KEY-3: orders are signed by an API wallet, whose address differs from the account's."""
    if settings.signer_address is not None and settings.signer_address == settings.user_address:
        remedy = "is the account itself (user_address); sign with an approved API wallet and name its address here"
        yield _contradiction("signer_address", f'"{settings.signer_address}"', remedy, "user_address")


def paper_key_has_an_account(settings: Settings) -> Found:
    """On paper the key is a throw-away one. A key of one's own needs its account, and another exchange needs both."""
    if settings.network is not Network.PAPER or settings.mode is not Mode.TRADING:
        return
    has_key, has_account = settings.signer.key_source is not None, settings.user_address is not None
    foreign = settings.ws_url is not None
    involves = ("user_address", "signer.key_source", "network", "mode", "ws_url")
    if not has_account and (has_key or foreign):
        why = "ws_url (another exchange) on paper" if foreign else "signer.key_source on paper"
        yield Contradiction(Problem("user_address", None, f"{why} needs the account that the key signs for"), involves)
    if not has_key and (has_account or foreign):
        why = "ws_url (another exchange) on paper" if foreign else "user_address on paper"
        yield Contradiction(Problem("signer.key_source", None, f"{why} needs the key that signs for it"), involves)
    if not has_key and settings.signer_address is not None:
        remedy = "on paper without signer.key_source the key is a throw-away one; remove this or name the key"
        yield _contradiction("signer_address", f'"{settings.signer_address}"', remedy, *involves)


def account_and_key_are_named(settings: Settings) -> Found:
    """What only the operator can fill in: trading on a real network needs an account and its API wallet's key (KEY-3)."""
    if settings.network is Network.PAPER or settings.mode is not Mode.TRADING:
        return
    if settings.user_address is None:
        needed = 'needed to trade: user_address = "0x..." (the account, not the API wallet)'
        yield Contradiction(Problem("user_address", None, needed, Kind.NEEDED), ("user_address", "network", "mode"))
    if settings.signer.key_source is None:
        needed = (
            'needed to trade: [signer] key_source = {type = "env_var", var_name = "HIP3_AGENT_KEY"} '
            "(or a file, or a keystore made by `hip3 keys new`)"
        )
        yield Contradiction(
            Problem("signer.key_source", None, needed, Kind.NEEDED), ("signer.key_source", "network", "mode")
        )


def messages_fit_the_venue(settings: Settings) -> Found:
    """WS-3: more messages than the venue takes from one IP are for a venue of one's own."""
    most = settings.executor.messages_per_min
    if settings.network is not Network.PAPER and most > MESSAGES_PER_MINUTE:
        remedy = f"the venue takes {MESSAGES_PER_MINUTE} a minute from one IP; only paper takes more"
        yield _contradiction("executor.messages_per_min", str(most), remedy, "network")


def heartbeats_outpace_the_watchdog(settings: Settings) -> Found:
    """DEAD-1: a bot whose heartbeat is merely late must not be taken for dead."""
    w = settings.watchdog
    if w.stale_ms < 3 * w.heartbeat_ms:
        remedy = f"at least three heartbeats (3 x {w.heartbeat_ms}); raise it or lower watchdog.heartbeat_ms"
        yield _contradiction("watchdog.stale_ms", str(w.stale_ms), remedy, "watchdog.heartbeat_ms")
    if 0 < w.schedule_cancel_s < 15:  # renewed three times in it, each at least 5 s ahead (PROTOCOL 4.3)
        remedy = "0, which is off, or at least 15: the venue takes no time nearer than 5 s"
        yield _contradiction("watchdog.schedule_cancel_s", str(w.schedule_cancel_s), remedy)


RULES: tuple[Callable[[Settings], Found], ...] = (
    urls_agree,
    paper_urls_come_together,
    testnet_only_holds,
    mainnet_is_meant,
    mainnet_is_promoted_by_hand,
    markets_are_allowed,
    markets_are_distinct,
    markets_are_named,
    caps_allow_an_order,
    executor_cap_is_smallest,
    numbers_are_in_order,
    messages_fit_the_venue,
    heartbeats_outpace_the_watchdog,
    exit_rules_have_an_effect,
    filters_are_complete,
    risk_keys_have_an_effect,
    paper_stays_on_paper,
    replay_is_complete,
    agent_is_not_the_account,
    paper_key_has_an_account,
    account_and_key_are_named,
)


def contradictions(settings: Settings, wrong: tuple[str, ...] = ()) -> list[Problem]:
    """What the rules find in `settings`, without what involves one of the `wrong` paths."""

    def is_touched(paths: tuple[str, ...]) -> bool:
        return any(_overlap(path, bad) for path in paths for bad in wrong)

    found = (each for rule in RULES for each in rule(settings))
    return [each.problem for each in found if not is_touched(each.involves)]


def _overlap(a: str, b: str) -> bool:
    return a == b or any(longer.startswith((f"{shorter}.", f"{shorter}[")) for longer, shorter in ((a, b), (b, a)))
