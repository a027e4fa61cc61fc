"""The synthetic market: a seeded world of shares whose oracle moves and whose makers lag, withdraw and are raced.

It is the default of paper. It is calibrated where a capture exists (`calibration.py`) and says where it assumes; the
rate of jumps is one of the assumptions, chosen so that a run of a minute shows trades. It refuses to flatter: what is
taken is gone until its maker thinks again, makers may withdraw first, others race for the same quote, some dislocations
never revert and some point the wrong way (SIM-3).
"""

from __future__ import annotations

import enum
import heapq
import math
import random
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from attrs import field, frozen, validators

from hip3.core.ids import OrderSide
from hip3.exchange.models import calibration as cal
from hip3.exchange.models.makers import BPS, Maker
from hip3.exchange.models.markets import Market, book_change, ctx_change, endangered, make_market, visible
from hip3.exchange.models.oracle import Jump, JumpMix
from hip3.exchange.models.universe import builder_dexs, main_dex
from hip3.exchange.seam import DexListing, Print, SourceEvent, TimedEvent

_positive = validators.gt(0.0)
_share = validators.and_(validators.ge(0.0), validators.le(1.0))


@frozen
class SyntheticConfig:
    """What may be set. Defaults without a source are ASSUMED; `docs/calibration.md` says what they aim at.

    `coins` restricts what is quoted; every market stays listed, so asset ids do not change.
    """

    seed: int = 1
    coins: tuple[str, ...] = tuple(model.coin for model in cal.MARKETS)
    jumps_per_min: float = field(default=5.0, validator=validators.ge(0.0))
    jump_min_bps: float = field(default=10.0, validator=_positive)
    jump_mean_excess_bps: float = field(default=8.0, validator=_positive)
    lagged_share: float = field(default=0.45, validator=_share)
    led_share: float = field(default=0.25, validator=_share)
    lag_half_life_ms: float = field(default=1500.0, validator=_positive)  # LESSONS 26: 1 to 3 s
    withdraw_share: float = field(default=0.3, validator=_share)
    """Chance that a maker cancels endangered quotes within 0.2 s instead of leaving them."""
    race_mean_ms: float = field(default=2500.0, validator=_positive)
    """Mean time until another taker lifts a dislocated quote."""
    one_sided_per_min: float = field(default=0.5, validator=validators.ge(0.0))
    depth_levels: int = field(default=20, validator=validators.in_(range(1, 21)))  # l2Book shows 20 (PROTOCOL 2.3)

    def __attrs_post_init__(self) -> None:
        if self.lagged_share + self.led_share > 1:
            raise ValueError(f"lagged_share + led_share must be at most 1, got {self.lagged_share + self.led_share}")
        known = [model.coin for model in cal.MARKETS]
        unknown = [coin for coin in self.coins if coin not in known]
        if unknown or not self.coins:
            raise ValueError(f"coins: no model of {unknown or 'nothing'}; choose from {', '.join(known)}")


class _Task(enum.Enum):
    PUBLISH = enum.auto()
    JUMP = enum.auto()
    THINK = enum.auto()
    WITHDRAW = enum.auto()
    RACE = enum.auto()
    FLICKER = enum.auto()
    TRADE = enum.auto()
    PULL = enum.auto()
    SHOW = enum.auto()


# A maker re-quotes once its belief is off by this much: half a tick of most stocks (0.5 to 0.7 bps). ASSUMED.
REPRICE_BPS = 0.5
# A maker's shortest reaction: the venue's block period of about 0.07 s (PROTOCOL 12).
MIN_REACTION_MS = 70


@frozen
class _Due:
    at_ms: int
    task: _Task
    market: Market | None
    maker: Maker | None


class SyntheticSource:
    """A MarketSource. The same seed and the same takes give the same events; other takes give the same oracle."""

    def __init__(self, config: SyntheticConfig, rng: random.Random | None = None) -> None:
        self.config = config
        self.notes: tuple[str, ...] = ("synthetic market: the rate of dislocations is chosen, not measured",)
        seeds = rng or random.Random(config.seed)
        self._publish_rng = random.Random(seeds.getrandbits(64))
        listings = {listing.coin: listing for dex in self.listings() for listing in dex.universe}
        # Every model draws its seeds, quoted or not: a market's path does not depend on which others are shown.
        made = [make_market(model, listings[model.coin], _jumps(config, model), seeds) for model in cal.MARKETS]
        self._markets = {m.model.coin: m for m in made if m.model.coin in config.coins}
        self._heap: list[tuple[int, int, _Due]] = []
        self._seq = 0
        self._now_ms = 0
        self._last_publish_ms = 0
        self._started = False
        self._handlers: dict[_Task, Callable[[_Due], Sequence[SourceEvent]]] = {
            _Task.PUBLISH: self._publish,
            _Task.JUMP: self._jump,
            _Task.THINK: self._think,
            _Task.WITHDRAW: self._withdraw,
            _Task.RACE: self._race,
            _Task.FLICKER: self._flicker,
            _Task.TRADE: self._trade,
            _Task.PULL: self._pull,
            _Task.SHOW: self._show,
        }

    def listings(self) -> Sequence[DexListing]:
        return (main_dex(), *builder_dexs())

    def events(self) -> Iterator[TimedEvent]:
        """Endless; may be called once, because the makers remember what was taken."""
        if self._started:
            raise RuntimeError("events() of this source was already called; make a new source for a new run")
        self._started = True
        return self._run()

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:
        """What an account took is gone; its makers think again soon, and some pull that side at once.

        Their reaction comes through `events()`, in order with everything else, so the answer is empty.
        """
        market = self._markets.get(coin)
        if market is None:
            return ()
        book = market.book
        lost = book.take(side, int(px.scaleb(book.grid.decimals)), int(sz.scaleb(book.grid.sz_decimals)))
        for maker in lost:
            if market.rng.random() < self.config.withdraw_share:
                book.withdraw(maker, side.opposite())
        if lost:
            self._rethink(market, lost, at_ms, 600)
            self._due(_Task.SHOW, at_ms + MIN_REACTION_MS, market)
        return ()

    # ---- the loop

    def _run(self) -> Iterator[TimedEvent]:
        self._due(_Task.PUBLISH, 0)
        for market in self._markets.values():
            yield 0, book_change(market, self.config.depth_levels)
            self._due_jump(market, 0)
            self._due(_Task.FLICKER, 0, market)
            self._due(_Task.TRADE, _wait(market.rng, market.model.trades_per_s), market)
            if self.config.one_sided_per_min > 0:
                self._due(_Task.PULL, _wait(market.rng, self.config.one_sided_per_min / 60), market)
        while True:
            due = heapq.heappop(self._heap)[2]
            # A reaction to a take may be dated before an event that was already pulled: it comes now.
            self._now_ms = max(self._now_ms, due.at_ms)
            for event in self._handlers[due.task](due):
                yield self._now_ms, event

    def _due(self, task: _Task, at_ms: int, market: Market | None = None, maker: Maker | None = None) -> None:
        self._seq += 1
        heapq.heappush(self._heap, (at_ms, self._seq, _Due(at_ms, task, market, maker)))

    def _due_jump(self, market: Market, now_ms: int) -> None:
        wait = market.path.wait_ms()
        if wait is not None:
            self._due(_Task.JUMP, now_ms + wait, market)

    def _due_think(self, market: Market, maker: Maker, at_ms: int) -> None:
        if maker.reprice_at_ms is None or at_ms < maker.reprice_at_ms:
            maker.reprice_at_ms = at_ms
            self._due(_Task.THINK, at_ms, market, maker)

    def _rethink(self, market: Market, makers: Sequence[Maker], now_ms: int, within_ms: int) -> None:
        for maker in makers:
            self._due_think(market, maker, now_ms + market.rng.randint(MIN_REACTION_MS, within_ms))

    def _changed(self, market: Market) -> Sequence[SourceEvent]:
        return (book_change(market, self.config.depth_levels),)

    # ---- the oracle

    def _publish(self, _: _Due) -> Sequence[SourceEvent]:
        elapsed_s = (self._now_ms - self._last_publish_ms) / 1000
        self._last_publish_ms = self._now_ms
        gap_ms = max(cal.ORACLE_MIN_PERIOD_MS, self._publish_rng.gauss(cal.ORACLE_PERIOD_MS, 150))  # sd ASSUMED
        self._due(_Task.PUBLISH, self._now_ms + round(gap_ms))
        events: list[SourceEvent] = []
        for market in self._markets.values():
            market.path.publish(elapsed_s)
            events.append(ctx_change(market, elapsed_s))
            self._react(market)
        return events

    def _react(self, market: Market) -> None:
        """Makers notice what was published: some withdraw, the others follow with their lag; others race."""
        path = market.path
        in_danger = endangered(market) is not None
        for maker in market.book.makers:
            if in_danger and market.rng.random() < self.config.withdraw_share:
                at_ms = self._now_ms + market.rng.randint(MIN_REACTION_MS, 200)
                self._due(_Task.WITHDRAW, at_ms, market, maker)
            if abs(path.quote_centre / maker.belief - 1) * BPS >= REPRICE_BPS:
                half_life_ms = self.config.lag_half_life_ms * maker.style.lag_scale * market.model.lag_scale
                lag_ms = market.rng.expovariate(math.log(2) / half_life_ms)
                self._due_think(market, maker, self._now_ms + MIN_REACTION_MS + round(lag_ms))
        if in_danger:
            self._due_race(market)

    def _jump(self, due: _Due) -> Sequence[SourceEvent]:
        market = _of(due)
        if market.path.jump() is Jump.LED:
            self._rethink(market, market.book.makers, self._now_ms, 500)
        self._due_jump(market, self._now_ms)
        return ()

    # ---- makers

    def _think(self, due: _Due) -> Sequence[SourceEvent]:
        market, maker = _of(due), due.maker
        if maker is None or maker.reprice_at_ms != due.at_ms:
            return ()  # it thought earlier, for another reason
        maker.reprice_at_ms = None
        if market.book.quote(maker, market.path.quote_centre):
            self._rethink(market, [maker], self._now_ms, 800)
        return self._changed(market)

    def _withdraw(self, due: _Due) -> Sequence[SourceEvent]:
        market, maker = _of(due), due.maker
        side = endangered(market)
        if maker is None or side is None or not maker.side(side):
            return ()
        market.book.withdraw(maker, side)
        self._rethink(market, [maker], self._now_ms, 2 * round(self.config.lag_half_life_ms))
        return self._changed(market)

    def _flicker(self, due: _Due) -> Sequence[SourceEvent]:
        """The steady life of the touch: sizes change, the quick maker quotes anew around what it believes."""
        market = _of(due)
        gap_ms = cal.UPDATE_GAP_MEDIAN_MS * market.rng.lognormvariate(0.0, cal.UPDATE_GAP_LOG_SD)
        self._due(_Task.FLICKER, self._now_ms + max(MIN_REACTION_MS, round(gap_ms)), market)
        quick = market.book.makers[0]
        side = OrderSide.BUY if market.rng.random() < 0.5 else OrderSide.SELL
        if quick.hit or not quick.side(side):
            return ()
        if market.rng.random() < 0.25:
            market.book.quote(quick, quick.belief)
        else:
            market.book.resize_front(quick, side)
        return self._changed(market)

    def _pull(self, due: _Due) -> Sequence[SourceEvent]:
        """All of one side is gone for an instant (captured on mainnet: a bbo with one null side)."""
        market = _of(due)
        market.pulled = OrderSide.BUY if market.rng.random() < 0.5 else OrderSide.SELL
        self._due(_Task.SHOW, self._now_ms + market.rng.randint(100, 800), market)
        self._due(_Task.PULL, self._now_ms + 1000 + _wait(market.rng, self.config.one_sided_per_min / 60), market)
        return self._changed(market)

    def _show(self, due: _Due) -> Sequence[SourceEvent]:
        market = _of(due)
        market.pulled = None
        return self._changed(market)

    # ---- other takers

    def _due_race(self, market: Market) -> None:
        if not market.racing:
            market.racing = True
            wait_ms = market.rng.expovariate(1 / self.config.race_mean_ms)
            self._due(_Task.RACE, self._now_ms + MIN_REACTION_MS + round(wait_ms), market)

    def _race(self, due: _Due) -> Sequence[SourceEvent]:
        market = _of(due)
        market.racing = False
        side = endangered(market)
        if side is None:
            return ()
        events = self._lift(market, side.opposite())
        self._due_race(market)
        return events

    def _trade(self, due: _Due) -> Sequence[SourceEvent]:
        market = _of(due)
        self._due(_Task.TRADE, self._now_ms + _wait(market.rng, market.model.trades_per_s), market)
        return self._lift(market, OrderSide.BUY if market.rng.random() < 0.5 else OrderSide.SELL)

    def _lift(self, market: Market, taker: OrderSide) -> Sequence[SourceEvent]:
        """Another taker's order: one size, through at most three prices, then the book that is left."""
        book, rng = market.book, market.rng
        usd = cal.TRADE_USD_MEDIAN * rng.lognormvariate(0.0, cal.TRADE_USD_LOG_SD)
        prints: list[SourceEvent] = []
        for level in visible(market, taker.opposite(), 3):
            wanted = int(usd / float(level.px) * 10**book.grid.sz_decimals)
            lots = min(wanted, int(level.sz.scaleb(book.grid.sz_decimals)))
            if lots < 1:
                break
            units = int(level.px.scaleb(book.grid.decimals))
            self._rethink(market, book.take(taker, units, lots), self._now_ms, 1000)
            sz = book.grid.size(lots)
            prints.append(Print(market.model.coin, taker, level.px, sz))
            market.last_trade = units
            market.open_interest += float(sz) * rng.choice((-1, 0, 1))
            usd -= float(sz * level.px)
        return (*prints, *self._changed(market)) if prints else ()


def _wait(rng: random.Random, per_s: float) -> int:
    """Milliseconds to the next event of a Poisson process."""
    return round(rng.expovariate(per_s) * 1000)


def _of(due: _Due) -> Market:
    if due.market is None:
        raise RuntimeError(f"{due.task.name} was scheduled without its market")
    return due.market


def _jumps(config: SyntheticConfig, model: cal.MarketModel) -> JumpMix:
    return JumpMix(
        per_min=config.jumps_per_min * model.jump_scale,
        min_bps=config.jump_min_bps,
        mean_excess_bps=config.jump_mean_excess_bps,
        lagged_share=config.lagged_share,
        led_share=config.led_share,
    )
