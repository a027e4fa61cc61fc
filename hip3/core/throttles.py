"""Entry throttles (RISK-6): reasons to let a good signal pass by, each off or set. Pure; times are wall ms.

`Throttles` keeps what happened; `view` gives what the gates look at for one market, frozen, so that `hip3 explain` can ask
them again later. Maximum concurrent positions is one of them, and is counted from the ledger (`gates.risk_gate`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from attrs import define, field, fields_dict, frozen

from hip3.core import units
from hip3.core.rate import SlidingWindow

HOUR_MS = 3_600_000
BURST_MS = 60_000


@frozen
class ThrottleConfig:
    """None is off. `tilt_losses` in a row stop entries for `tilt_pause_ms` after the last of them."""

    max_hourly_drawdown_usd: Decimal | None = None
    reentry_delay_ms: int | None = None
    correlation_cooldown_ms: int | None = None
    max_entries_per_market_per_min: int | None = None
    tilt_losses: int | None = None
    tilt_pause_ms: int | None = None


@frozen
class ThrottleView:
    """What is known for one market in the step of the decision; None where it never happened."""

    config: ThrottleConfig = ThrottleConfig()
    hour_loss_usd: Decimal = units.ZERO
    since_close_ms: int | None = None
    other_entry: tuple[str, int] | None = None
    """The latest entry in another market of the same dex, and how long ago it was."""
    entries_in_a_minute: int = 0
    losses_in_a_row: int = 0
    since_loss_ms: int | None = None


NOTHING = ThrottleView()
"""With every throttle off."""


def hourly_drawdown(view: ThrottleView) -> str | None:
    """Why the loss of the last 60 minutes forbids an entry. Profits of the hour count against it."""
    most = view.config.max_hourly_drawdown_usd
    if most is None or view.hour_loss_usd <= most:
        return None
    return f"lost {view.hour_loss_usd:.4f} USD in an hour, more than risk.max_hourly_drawdown_usd = {most}"


def reentry_delay(view: ThrottleView) -> str | None:
    """Why a market that was left just now is not entered again yet."""
    wait, since = view.config.reentry_delay_ms, view.since_close_ms
    if wait is None or since is None or since >= wait:
        return None
    return f"closed {since} ms ago, risk.reentry_delay_ms = {wait}"


def correlation_cooldown(view: ThrottleView) -> str | None:
    """Why an entry elsewhere forbids one here: markets of one dex move together, and two positions are one bet."""
    wait, other = view.config.correlation_cooldown_ms, view.other_entry
    if wait is None or other is None or other[1] >= wait:
        return None
    return f"{other[0]} was entered {other[1]} ms ago, risk.correlation_cooldown_ms = {wait}"


def burst_limit(view: ThrottleView) -> str | None:
    """Why a market that was entered so often in a minute rests."""
    most = view.config.max_entries_per_market_per_min
    if most is None or view.entries_in_a_minute < most:
        return None
    return f"{view.entries_in_a_minute} entries in a minute, risk.max_entries_per_market_per_min = {most}"


def tilt_guard(view: ThrottleView) -> str | None:
    """Why a row of losses makes the bot pause."""
    row, pause, since = view.config.tilt_losses, view.config.tilt_pause_ms, view.since_loss_ms
    if row is None or pause is None or since is None or view.losses_in_a_row < row or since >= pause:
        return None
    return f"{view.losses_in_a_row} losses in a row (risk.tilt_losses = {row}), risk.tilt_pause_ms = {pause}"


@define
class Throttles:
    """What happened that a throttle may look at. Entries count when the gates let them pass, trades when they end."""

    config: ThrottleConfig = ThrottleConfig()
    trades: deque[tuple[str, Decimal, int]] = field(factory=deque)
    """Coin, profit in USD after fees, end; of the last hour, oldest first."""
    hour_usd: Decimal = units.ZERO
    losses_in_a_row: int = 0
    last_loss_ms: int | None = None
    is_off: bool = field(init=False)
    """Looked at on the way of every signal, so it is not computed there."""
    _closed_ms: dict[str, int] = field(factory=dict)
    _entered_ms: dict[str, int] = field(factory=dict)
    _bursts: dict[str, SlidingWindow] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.is_off = all(getattr(self.config, name) is None for name in fields_dict(ThrottleConfig))

    def on_entry(self, coin: str, wall_ms: int) -> None:
        """An entry passed the gates."""
        if self.is_off:
            return
        self._entered_ms[coin] = wall_ms
        most = self.config.max_entries_per_market_per_min
        if most is not None:
            self._bursts.setdefault(coin, SlidingWindow(most, BURST_MS)).spend(wall_ms)

    def on_trade(self, coin: str, pnl_usd: Decimal, wall_ms: int) -> None:
        """A position ended."""
        if self.is_off:
            return
        self._closed_ms[coin] = wall_ms
        self.trades.append((coin, pnl_usd, wall_ms))
        self.hour_usd += pnl_usd
        if pnl_usd < 0:
            self.losses_in_a_row += 1
            self.last_loss_ms = wall_ms
        elif pnl_usd > 0:
            self.losses_in_a_row = 0
        self._expire(wall_ms)

    def _expire(self, wall_ms: int) -> None:
        while self.trades and self.trades[0][2] <= wall_ms - HOUR_MS:
            self.hour_usd -= self.trades.popleft()[1]

    def view(self, coin: str, wall_ms: int) -> ThrottleView:
        """What the gates look at for `coin` now."""
        if self.is_off:
            return NOTHING
        self._expire(wall_ms)
        burst = self._bursts.get(coin)
        return ThrottleView(
            config=self.config,
            hour_loss_usd=-self.hour_usd,
            since_close_ms=_since(wall_ms, self._closed_ms.get(coin)),
            other_entry=self._other_entry(coin, wall_ms),
            entries_in_a_minute=0 if burst is None else burst.limit - burst.room(wall_ms),
            losses_in_a_row=self.losses_in_a_row,
            since_loss_ms=_since(wall_ms, self.last_loss_ms),
        )

    def _other_entry(self, coin: str, wall_ms: int) -> tuple[str, int] | None:
        if self.config.correlation_cooldown_ms is None:
            return None
        dex = _dex(coin)
        others = [(at, other) for other, at in self._entered_ms.items() if other != coin and _dex(other) == dex]
        if not others:
            return None
        at, other = max(others)
        return other, wall_ms - at

    # ---- over the life of the process

    def state(self) -> dict[str, str]:
        """The trades of the last hour and the row of losses, as text; what concerns minutes starts anew with the process."""
        return {
            "trades": " ".join(f"{coin}={pnl}@{at}" for coin, pnl, at in self.trades),
            "losses_in_a_row": str(self.losses_in_a_row),
            "last_loss_ms": "" if self.last_loss_ms is None else str(self.last_loss_ms),
        }

    def restore(self, state: Mapping[str, str]) -> None:
        """Goes on from what `state` gave. Raises ValueError, with nothing changed, for what it never gives."""
        try:
            trades = deque(_trade(text) for text in state["trades"].split())
            row, last = int(state["losses_in_a_row"]), state["last_loss_ms"]
            last_ms = int(last) if last else None
        except (KeyError, ValueError, InvalidOperation) as e:
            raise ValueError(f"throttles: {dict(state)} cannot be what an earlier run kept: {e!r}") from e
        self.trades, self.losses_in_a_row, self.last_loss_ms = trades, row, last_ms
        self.hour_usd = sum((pnl for _, pnl, _ in trades), units.ZERO)
        self._closed_ms = {coin: at for coin, _, at in trades}


def _trade(text: str) -> tuple[str, Decimal, int]:
    coin, _, rest = text.rpartition("=")
    pnl, _, at = rest.partition("@")
    amount = Decimal(pnl)
    if not coin or not amount.is_finite():
        raise ValueError(f"expected coin=usd@ms, found {text!r}")
    return coin, amount, int(at)


def _since(now_ms: int, then_ms: int | None) -> int | None:
    return None if then_ms is None else now_ms - then_ms


def _dex(coin: str) -> str:
    dex, colon, _ = coin.partition(":")
    return dex if colon else ""
