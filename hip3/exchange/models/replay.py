"""A recording as market data: what was recorded happens again, on the exchange's own clock.

`bbo` gives one level a side, `l2Book` the depth, `activeAssetCtx` the context, `trades` the prints. A recording states
facts and nothing more: makers do not react to what accounts take, and a recording without an oracle has none unless the
caller says what stands for it, which `notes` then says to everybody. Frames that cannot be read are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
from attrs import define, evolve, field

from hip3.core.events import AssetCtx, Bbo, Book, Ignored, Level
from hip3.core.ids import MarketKey, OrderSide
from hip3.core.market import Reference
from hip3.core.units import ZERO
from hip3.exchange.models.calibration import ORACLE_PERIOD_MS
from hip3.exchange.models.universe import builder_dexs, main_dex
from hip3.exchange.recording import RecordedFrame, Recording, RecordingError
from hip3.exchange.seam import BookChange, CtxChange, DexListing, MarketListing, Print, SourceEvent, TimedEvent
from hip3.venue.hyperliquid.errors import WireError
from hip3.venue.hyperliquid.parse import parse_frame

# A market that no capture lists: the venue's lowest maximum leverage on the main dex of 2025-08-22.
UNLISTED_MAX_LEVERAGE = 3


class _Trade(msgspec.Struct):
    coin: str
    side: OrderSide
    px: Decimal
    sz: Decimal


class _Trades(msgspec.Struct):
    data: list[_Trade]


_trades_decoder = msgspec.json.Decoder(_Trades)


@define
class _Seen:
    """What the first reading learned of one coin."""

    sz_decimals: int = 0
    reference: Decimal | None = None
    quotes: int = 0


@define
class _Depth:
    """The last `l2Book` of one coin, and when its mid was last stated."""

    bids: tuple[Level, ...] = ()
    asks: tuple[Level, ...] = ()
    mid_stated_ms: int | None = None


@define
class ReplaySource:
    """A MarketSource over a recording, made by `open_replay`. `events()` ends with the recording and may be repeated."""

    recording: Recording
    reference: Reference
    speed: float
    notes: tuple[str, ...]
    coins: tuple[str, ...] = ()
    """Markets that have quotes and a reference: those that can be traded."""
    started_wall_ms: int = 0
    """Receipt of the first frame, Unix ms."""
    unreadable_frames: int = 0
    """Of the last complete reading."""
    start_ms: int = 0
    """Frames received before this time of the recording are left out."""
    limit_ms: int | None = None
    """Frames received this much later than the first one taken are left out; None: to the end."""
    _held: tuple[TimedEvent, ...] | None = field(default=None, init=False, repr=False)
    _dexs: tuple[DexListing, ...] = field(default=(), repr=False)

    def listings(self) -> Sequence[DexListing]:
        """Mainnet's order as far as captures tell it; a recorded market that is not in it is appended to its dex."""
        return self._dexs

    def events(self) -> Iterator[TimedEvent]:
        """Every recorded change, dated by its receipt divided by `speed`; a clock that stepped back stands still.

        Raises RecordingError where the file ends badly.
        """
        if self._held is not None:
            yield from self._held
            return
        self.unreadable_frames = 0
        depths: dict[str, _Depth] = {}
        start_ms = None
        at_ms = 0
        for frame in _excerpt(self.recording, self.start_ms, self.limit_ms):
            start_ms = frame.recv_ms if start_ms is None else start_ms
            at_ms = max(at_ms, frame.recv_ms - start_ms)
            try:
                events = self._events_of(frame, depths, at_ms)
            except (WireError, msgspec.DecodeError):
                self.unreadable_frames += 1
                continue
            for event in events:
                yield int(at_ms / self.speed), event

    def hold(self) -> None:
        """Keeps the events in memory, for many runs over one reading. Raises RecordingError."""
        self._held = tuple(self.events())

    def on_take(self, coin: str, side: OrderSide, px: Decimal, sz: Decimal, at_ms: int) -> Sequence[TimedEvent]:  # noqa: ARG002 - the protocol's arguments
        """The past does not react."""
        return ()

    def _events_of(self, frame: RecordedFrame, depths: dict[str, _Depth], at_ms: int) -> Sequence[SourceEvent]:
        event = parse_frame(frame.raw)
        match event:
            case Bbo():
                depth = depths.setdefault(event.coin, _Depth())
                bids = _corrected(event.bid, depth.bids, OrderSide.BUY)
                asks = _corrected(event.ask, depth.asks, OrderSide.SELL)
                return self._book(BookChange(coin=event.coin, bids=bids, asks=asks), depth, at_ms)
            case Book():
                depth = depths.setdefault(event.coin, _Depth())
                depth.bids, depth.asks = event.bids, event.asks
                change = BookChange(coin=event.coin, bids=event.bids, asks=event.asks)
                return self._book(change, depth, at_ms)
            case AssetCtx():
                return (self._ctx(event),)
            case Ignored(channel="trades"):
                trades = _trades_decoder.decode(frame.raw).data
                return [Print(t.coin, t.side, t.px, t.sz) for t in trades]
            case _:
                return ()

    def _book(self, change: BookChange, depth: _Depth, at_ms: int) -> Sequence[SourceEvent]:
        due = depth.mid_stated_ms is None or at_ms - depth.mid_stated_ms >= ORACLE_PERIOD_MS
        if self.reference is not Reference.MID or not due or not change.bids or not change.asks:
            return (change,)
        depth.mid_stated_ms = at_ms
        mid = (change.bids[0].px + change.asks[0].px) / 2
        return (change, CtxChange(coin=change.coin, oracle_px=mid, mark_px=mid))

    def _ctx(self, ctx: AssetCtx) -> CtxChange:
        oracle = {Reference.ORACLE: ctx.oracle_px, Reference.MARK: ctx.mark_px, Reference.MID: None}[self.reference]
        return CtxChange(
            coin=ctx.coin,
            oracle_px=oracle,
            mark_px=None if self.reference is Reference.MID else ctx.mark_px,
            open_interest=ctx.open_interest,
            funding=ctx.funding,
        )


def open_replay(
    path: Path,
    *,
    reference: Reference = Reference.ORACLE,
    speed: float = 1.0,
    sz_decimals: dict[str, int] | None = None,
    allow_truncated: bool = False,
    start_s: int = 0,
    limit_s: int | None = None,
) -> ReplaySource:
    """Reads the file once to learn its markets. `speed` 2 replays twice as fast; `reference` stands for the oracle.

    `start_s` and `limit_s` take an excerpt, in seconds of the recording.

    szDecimals: `sz_decimals` where given, else the captured universe, else the most decimals of any recorded size (which
    is too few where no size used the last one). Raises RecordingError for a damaged file and for one where the
    reference is missing for every quoted market, ValueError for a speed that is not positive.
    """
    if not speed > 0:
        raise ValueError(f"speed: expected a positive factor, got {speed}")
    recording = Recording(path, allow_truncated=allow_truncated)
    start_ms, limit_ms = start_s * 1000, None if limit_s is None else limit_s * 1000
    first = next(_excerpt(recording, start_ms, limit_ms), None)
    if first is None:
        raise RecordingError(path, 0, f"it is over before second {start_s}, where the excerpt starts")
    seen, unreadable = _survey(_excerpt(recording, start_ms, limit_ms), reference)
    quoted = {coin: s for coin, s in seen.items() if s.quotes}
    if not quoted:
        raise RecordingError(path, 0, "no readable bbo or l2Book frame; there is nothing to replay")
    priced = {coin: s for coin, s in quoted.items() if s.reference is not None}
    if not priced:
        raise RecordingError(
            path, 0, f"no {reference.value} price for {', '.join(quoted)}; choose another reference (oracle, mark or mid)"
        )
    notes = [f"replay of {path.name}" + ("" if speed == 1 else f" at {speed:g} times its speed")]
    if reference is not Reference.ORACLE:
        notes.append(f"the recorded {reference.value} stands for the oracle")
    if unpriced := sorted(set(quoted) - set(priced)):
        notes.append(f"left without an oracle: {', '.join(unpriced)}")
    if unreadable:
        notes.append(f"{unreadable} frames could not be read")
    if start_s or limit_s is not None:
        notes.append(f"from second {start_s}" + ("" if limit_s is None else f", {limit_s} s of it"))
    dexs = _listings(seen, sz_decimals or {})
    return ReplaySource(
        recording,
        reference,
        speed,
        tuple(notes),
        tuple(sorted(priced)),
        first.recv_ms,
        start_ms=start_ms,
        limit_ms=limit_ms,
        dexs=dexs,
    )


def _excerpt(recording: Recording, start_ms: int, limit_ms: int | None) -> Iterator[RecordedFrame]:
    """Frames from `start_ms` after the first one, for `limit_ms` from the first one given. Raises RecordingError."""
    began = taken = None
    for frame in recording.frames():
        began = frame.recv_ms if began is None else began
        if frame.recv_ms - began < start_ms:
            continue
        taken = frame.recv_ms if taken is None else taken
        if limit_ms is not None and frame.recv_ms - taken > limit_ms:
            return
        yield frame


def _survey(frames: Iterable[RecordedFrame], reference: Reference) -> tuple[dict[str, _Seen], int]:
    seen: dict[str, _Seen] = {}
    unreadable = 0
    for frame in frames:
        try:
            event = parse_frame(frame.raw)
        except WireError:
            unreadable += 1
            continue
        if isinstance(event, AssetCtx):
            value = {Reference.ORACLE: event.oracle_px, Reference.MARK: event.mark_px}.get(reference)
            _refer(seen.setdefault(event.coin, _Seen()), value)
        elif isinstance(event, Bbo | Book):
            bids, asks = _sides(event)
            coin = seen.setdefault(event.coin, _Seen())
            coin.quotes += 1
            coin.sz_decimals = max([coin.sz_decimals, *(_decimals(level.sz) for level in (*bids, *asks))])
            if reference is Reference.MID and bids and asks:
                _refer(coin, (bids[0].px + asks[0].px) / 2)
    return seen, unreadable


def _sides(event: Bbo | Book) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    if isinstance(event, Book):
        return event.bids, event.asks
    return () if event.bid is None else (event.bid,), () if event.ask is None else (event.ask,)


def _refer(coin: _Seen, value: Decimal | None) -> None:
    if coin.reference is None and value is not None and value > ZERO:
        coin.reference = value


def _decimals(value: Decimal) -> int:
    return max(0, -int(value.normalize().as_tuple().exponent))


def _corrected(best: Level | None, levels: tuple[Level, ...], side: OrderSide) -> tuple[Level, ...]:
    """The side with `best` on top: deeper levels of the last depth stay where they lie behind it."""
    if best is None:
        return ()
    return (best, *(level for level in levels if (best.px - level.px) * side.sign > 0))


def _listings(seen: dict[str, _Seen], sz_decimals: dict[str, int]) -> tuple[DexListing, ...]:
    dexs = {dex.name: dex for dex in (main_dex(), *builder_dexs())}
    for coin, facts in seen.items():
        if facts.reference is None:
            continue
        name = MarketKey.parse(coin).dex
        dex = dexs.setdefault(name, DexListing(name=name, universe=()))
        known = next((listing for listing in dex.universe if listing.coin == coin), None)
        if known is None:
            decimals = sz_decimals.get(coin, facts.sz_decimals)
            listing = MarketListing(coin, decimals, UNLISTED_MAX_LEVERAGE, facts.reference)
            dexs[name] = evolve(dex, universe=(*dex.universe, listing))
            continue
        decimals = sz_decimals.get(coin, known.sz_decimals)
        listing = evolve(known, sz_decimals=decimals, oracle_px=facts.reference, delisted=False)
        dexs[name] = evolve(dex, universe=tuple(listing if it is known else it for it in dex.universe))
    return tuple(dexs.values())
