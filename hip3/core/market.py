"""Latest market data of one market, with the age of each part. Values replace each other; nothing is queued (MD-1).

Age is the time since the last *receipt*, by the monotonic clock: a quiet market is not a stale one (LESSONS 24).
"""

from __future__ import annotations

import enum
from decimal import Decimal

from attrs import define, field

from hip3.core.events import AssetCtx, Bbo, Book
from hip3.core.ids import MarketSpec, OrderSide


class Reference(enum.Enum):
    """What quotes are compared with. ORACLE is the strategy's; the others serve recordings that have no oracle.

    MID is what quotes were, not what they ought to be.
    """

    ORACLE = "oracle"
    MARK = "mark"
    MID = "mid"


def reference_of(ctx: AssetCtx, reference: Reference) -> Decimal | None:
    """The price in USD that a context states for `reference`; None where it lacks it."""
    if reference is Reference.ORACLE:
        return ctx.oracle_px
    return ctx.mark_px if reference is Reference.MARK else ctx.mid_px


@define
class MarketState:
    """What is known of one market now. `*_recv_ms` are monotonic milliseconds; None is never received."""

    spec: MarketSpec
    reference: Reference = Reference.ORACLE
    bbo: Bbo | None = None
    bbo_recv_ms: int | None = None
    book: Book | None = None
    """Depth, where it is subscribed."""
    ctx: AssetCtx | None = None
    ctx_recv_ms: int | None = None
    reference_px: Decimal | None = None
    reference_move: int = 0
    """Direction of the reference's last change: +1 up, -1 down, 0 not yet seen to move."""
    reference_run: int = 0
    """How many changes in a row went that way, as far as they were seen on this connection."""
    reference_was: Decimal | None = None
    """The reference before its last change; None where that change was not seen to happen on this connection."""
    reference_moved_ms: int | None = None
    """When that change was received; None likewise."""
    acked: set[str] = field(factory=set)
    """Subscription kinds that the venue has acknowledged since the last connect."""
    bbo_count: int = 0
    connects: int = 0
    """Counts connections: what was remembered of an earlier one does not hold on this one."""
    oi_cap_usd: Decimal | None = None
    """The venue's cap of the open interest in USD; None where it states none."""
    halted: bool = False
    """The venue's metadata say that the market does not trade."""

    @property
    def coin(self) -> str:
        return self.spec.key.coin

    @property
    def both_px(self) -> tuple[Decimal, Decimal] | None:
        """Best bid and best ask; None while a side is missing."""
        bbo = self.bbo
        if bbo is None or bbo.bid is None or bbo.ask is None:
            return None
        return bbo.bid.px, bbo.ask.px

    def on_bbo(self, bbo: Bbo, now_ms: int) -> None:
        self.bbo = bbo
        self.bbo_recv_ms = now_ms
        self.bbo_count += 1

    def on_book(self, book: Book, now_ms: int) -> None:
        """Depth: its best levels are the quote of its time, which is newer than a BBO that has not changed since (MD-1).

        A book older than the BBO, by the venue's clock, says nothing about the quote: the channels have their own cadence.
        """
        self.book = book
        if self.bbo is None or book.time_ms >= self.bbo.time_ms:
            bid, ask = book.bids[0] if book.bids else None, book.asks[0] if book.asks else None
            self.bbo = Bbo(book.coin, book.time_ms, bid, ask)
            self.bbo_recv_ms = now_ms

    def on_ctx(self, ctx: AssetCtx, now_ms: int) -> None:
        first = self.ctx is None  # of this connection: what changed since the last one, changed at an unknown time
        self.ctx = ctx
        self.ctx_recv_ms = now_ms
        px = reference_of(ctx, self.reference)
        if px is None:
            self.reference_px = None  # the last one would pass for as young as this context
            return
        if self.reference_px is not None and px != self.reference_px:
            self._move(self.reference_px, px, None if first else now_ms)
        self.reference_px = px

    def _move(self, was: Decimal, px: Decimal, seen_ms: int | None) -> None:
        move = 1 if px > was else -1
        known = 0 if move != self.reference_move else self.reference_run
        self.reference_move = move
        self.reference_run = 0 if seen_ms is None else known + 1
        self.reference_was = None if seen_ms is None else was
        self.reference_moved_ms = seen_ms

    def on_connect(self) -> None:
        """A new connection starts from nothing: no ack, no age, no move seen."""
        self.connects += 1
        self.reference_run = 0
        self.reference_was = None
        self.reference_moved_ms = None
        self.acked.clear()
        self.bbo = None
        self.book = None
        self.ctx = None
        self.bbo_recv_ms = None
        self.ctx_recv_ms = None

    def bbo_age_ms(self, now_ms: int) -> int | None:
        return None if self.bbo_recv_ms is None else now_ms - self.bbo_recv_ms

    def ctx_age_ms(self, now_ms: int) -> int | None:
        return None if self.ctx_recv_ms is None else now_ms - self.ctx_recv_ms

    def mark(self, now_ms: int, max_age_ms: int) -> Decimal | None:
        """The mark price in USD, or None where it is missing or older than `max_age_ms`."""
        age = self.ctx_age_ms(now_ms)
        if self.ctx is None or age is None or age > max_age_ms:
            return None
        return self.ctx.mark_px

    def touch(self, side: OrderSide) -> Decimal | None:
        """The best price that an order of `side` would meet."""
        if self.bbo is None:
            return None
        level = self.bbo.ask if side is OrderSide.BUY else self.bbo.bid
        return level.px if level else None


def missing_market_data(state: MarketState, now_ms: int, max_bbo_age_ms: int, max_ctx_age_ms: int) -> str | None:
    """READY-MD of one market (MD-2): None where it is ready, else the first thing that is missing.

    `max_bbo_age_ms` 0 is no limit: a quiet book is not sent again while nothing changes (PROTOCOL 2.3).
    """
    for kind in ("bbo", "activeAssetCtx"):
        if kind not in state.acked:
            return f"no ack of {kind}"
    if state.bbo is None or state.bbo_recv_ms is None:
        return "no BBO yet"
    if state.bbo.bid is None or state.bbo.ask is None:
        return "one-sided book"
    if 0 < max_bbo_age_ms < now_ms - state.bbo_recv_ms:
        return f"BBO is {now_ms - state.bbo_recv_ms} ms old"
    if state.ctx is None or state.ctx_recv_ms is None or state.reference_px is None:
        return f"no {state.reference.value} price yet"
    if now_ms - state.ctx_recv_ms > max_ctx_age_ms:
        return f"{state.reference.value} is {now_ms - state.ctx_recv_ms} ms old"
    return None
