"""What a start says about its configuration: file, hash, network, addresses, markets, every guard and cap (CFG-8).

Built from the Settings that run, so that the log cannot say something else than what is in force.
"""

from __future__ import annotations

import attrs
from attrs import frozen

from hip3.settings.caps import effective_caps
from hip3.settings.load import LoadedSettings
from hip3.settings.risk_limits import breaker_config, max_positions, risk_config, throttle_config
from hip3.settings.schema import Settings
from hip3.venue.hyperliquid.endpoints import Endpoints, Network, endpoints_for


@frozen
class StartLine:
    """One line of the start log: its event name (RUN-1) and its fields in order."""

    event: str
    fields: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.event}: " + ", ".join(f"{name} {value}" for name, value in self.fields)


def endpoints_of(settings: Settings) -> Endpoints | None:
    """The endpoints in force; None where the embedded exchange will say them when it has a port."""
    if settings.network is Network.PAPER:
        if settings.info_url is None or settings.ws_url is None:
            return None
        return Endpoints(rest_url=settings.info_url, ws_url=settings.ws_url)
    own = endpoints_for(settings.network)
    return Endpoints(rest_url=settings.info_url or own.rest_url, ws_url=settings.ws_url or own.ws_url)


def describe(
    loaded: LoadedSettings, *, endpoints: Endpoints | None = None, signer: str | None = None, account: str | None = None
) -> list[StartLine]:
    """The lines of the start log. `endpoints`, `signer` and `account` are those of the run, where they are known by now."""
    settings = loaded.settings
    urls = endpoints or endpoints_of(settings)
    unknown = "of the embedded exchange"
    network = (
        ("network", settings.network.value),
        ("rest_url", urls.rest_url if urls else unknown),
        ("ws_url", urls.ws_url if urls else unknown),
    )
    addresses = (
        ("signer", signer or settings.signer_address or "none"),
        ("account", account or settings.user_address or "none"),
        ("vault", settings.vault_address or "none"),
    )
    return [
        StartLine("config_loaded", (("file", str(loaded.source_path)), ("hash", loaded.hash))),
        StartLine("network", network),
        StartLine("mode", (("mode", settings.mode.value), ("startup_policy", settings.safety.startup_policy.value))),
        StartLine("signer_address", addresses),
        StartLine("allowed_markets", _markets(settings)),
        StartLine("safety_guards", _guards(settings)),
        StartLine("risk_limits", _risk(settings)),
        StartLine("caps", _caps(settings)),
    ]


def _markets(settings: Settings) -> tuple[tuple[str, str], ...]:
    allowed = settings.safety.allowed_markets
    return (
        ("markets", " ".join(market.coin for market in settings.markets)),
        ("allowed", "those" if allowed is None else " ".join(allowed)),
    )


def _guards(settings: Settings) -> tuple[tuple[str, str], ...]:
    safety, position = settings.safety, settings.position
    daily = "no limit" if safety.max_daily_trades is None else str(safety.max_daily_trades)
    return (
        ("testnet_only", str(safety.testnet_only).lower()),
        ("mainnet", str(safety.mainnet).lower()),
        ("max_daily_trades", daily),
        ("auto_stop_loss_usd", f"{safety.auto_stop_loss_usd:f}"),
        ("halt_on_disconnect", safety.halt_on_disconnect.value),
        ("time_stop_ms", str(position.time_stop_ms)),
        ("reduce_only_timeout_ms", str(position.reduce_only_timeout_ms)),
    )


def _risk(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Every limit of `[risk]` in force, those that follow from the network included."""
    limits: dict[str, object] = {}
    for config in (risk_config(settings), breaker_config(settings), throttle_config(settings)):
        limits |= attrs.asdict(config)
    limits["max_open_positions"] = max_positions(settings)
    limits["maintenance_windows"] = ", ".join(settings.risk.maintenance_windows or ()) or None
    return tuple((name, "off" if limit is None else f"{limit}") for name, limit in limits.items())


def _caps(settings: Settings) -> tuple[tuple[str, str], ...]:
    caps = effective_caps(settings)
    return (("order", str(caps.order)), ("per_market", str(caps.per_market)), ("total", str(caps.total)))
