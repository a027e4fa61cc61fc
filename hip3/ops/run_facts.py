"""What a run leaves in the store about its settings, for those who read it when the run has ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from attrs import asdict, frozen

from hip3.settings.schema import Executor, PositionKeys, ReconcileKeys, Safety, Settings, StartupPolicy

KEY = "run_settings"
"""The `StateRecord` that holds them; the last run's of an account."""


@frozen
class RunFacts:
    """Settings of a run, times in ms. What a store does not say is the default."""

    time_stop_ms: int = PositionKeys().time_stop_ms
    post_timeout_ms: int = Executor().post_timeout_ms
    backfill_window_ms: int = ReconcileKeys().backfill_window_ms
    auto_stop_loss_usd: Decimal = Safety().auto_stop_loss_usd
    startup_policy: StartupPolicy = Safety().startup_policy


def dump(settings: Settings) -> str:
    """The text of `settings`."""
    facts = RunFacts(
        settings.position.time_stop_ms,
        settings.executor.post_timeout_ms,
        settings.reconcile.backfill_window_ms,
        settings.safety.auto_stop_loss_usd,
        settings.safety.startup_policy,
    )
    values = asdict(facts)
    return json.dumps(
        {k: v if isinstance(v, int) else getattr(v, "value", str(v)) for k, v in values.items()}, sort_keys=True
    )


def read(text: str | None) -> RunFacts | None:
    """What `dump` wrote; None for nothing, or for what it did not write."""
    try:
        return None if text is None else RunFacts(**{k: _READ.get(k, int)(v) for k, v in json.loads(text).items()})
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return None


_READ: dict[str, Callable[[Any], Any]] = {"auto_stop_loss_usd": Decimal, "startup_policy": StartupPolicy}
"""How the values that are no whole numbers are read."""
