"""Numbers of the simulated exchange, each with its source. Refuses values that would make the block clock meaningless."""

from __future__ import annotations

from decimal import Decimal

from attrs import field, frozen, validators

_at_least_0 = validators.ge(0)
_at_least_1 = validators.ge(1)


@frozen(kw_only=True)
class ExchangeConfig:
    """How the simulated venue behaves.

    The three delays add up to about 340 ms from send to answer, the venue's measured end-to-end time for a cancel or
    post-only order being 380 ms (PROTOCOL 7.2): 150 ms to the mempool, on average half a block, 150 ms back.
    """

    latency_ms: int = field(default=150, validator=_at_least_0)
    """From the client's send to the mempool."""
    block_ms: int = field(default=85, validator=_at_least_1)
    """Block period; the venue's is 70-100 ms (PROTOCOL 12)."""
    response_ms: int = field(default=150, validator=_at_least_0)
    """From the commit of a block to the client: answers, user frames and market data alike."""
    is_mainnet: bool = False
    """Which signature source is accepted; False is "b", which SDK clients use for any local URL (PROTOCOL 1.1)."""

    user_cross_rate: Decimal = Decimal("0.00045")
    """Taker base rate before the HIP-3 scale, tier 0 (PROTOCOL 9)."""
    user_add_rate: Decimal = Decimal("0.00015")
    """Maker base rate, tier 0 (PROTOCOL 9)."""
    oracle_band: Decimal | None = None
    """Largest distance of an execution price from the oracle; None is 1/maxLeverage, which fits the observed refusals
    but is UNVERIFIED (PROTOCOL 6)."""
    static_band: Decimal = Decimal("0.8")
    """Largest distance of a limit price from the reference (PROTOCOL 6); we take the mark, UNVERIFIED on perps."""
    min_notional_usd: Decimal = Decimal(10)
    """PROTOCOL 6."""
    scheduled_cancel_volume_usd: Decimal = Decimal(1_000_000)
    """Volume that unlocks scheduleCancel (PROTOCOL 4.3)."""

    free_requests: int = field(default=10_000, validator=_at_least_0)
    """Address budget before any volume (PROTOCOL 8)."""
    budget_trickle_ms: int = field(default=10_000, validator=_at_least_0)
    """With the budget used up, one action passes per this time (PROTOCOL 8)."""
    ip_weight_per_min: int = field(default=1200, validator=_at_least_1)
    """REST weight of all clients together: on loopback they share one IP (PROTOCOL 8)."""
    max_connections: int = field(default=10, validator=_at_least_1)
    """WebSocket connections at once (PROTOCOL 2.6)."""
    max_subscriptions: int = field(default=1000, validator=_at_least_1)
    """Channels of one connection (PROTOCOL 2.6)."""
    max_users: int = field(default=15, validator=_at_least_1)
    """Users on the user channels of one connection, as measured (PROTOCOL 2.6)."""
    max_pending_posts: int = field(default=100, validator=_at_least_1)
    """Posts in flight on one connection (PROTOCOL 2.6)."""
    max_open_orders: int = field(default=1000, validator=_at_least_1)
    """Resting orders of one account (PROTOCOL 8)."""

    order_retention: int = field(default=2000, validator=_at_least_1)
    """Order records that orderStatus remembers per account (PROTOCOL 3)."""
    fill_retention: int = field(default=12_000, validator=_at_least_1)
    """Fills remembered per account; 12,000 and more were observed (PROTOCOL 3)."""
    order_status_delay_ms: int = field(default=0, validator=_at_least_0)
    """How long a new order is still `unknownOid`; the venue was seen at 0.4-1.1 s (PROTOCOL 3)."""

    ws_idle_close_ms: int = field(default=60_000, validator=_at_least_1)
    """A socket on which the server sent nothing for this long is cut (PROTOCOL 2.1)."""
    ws_outbox_frames: int = field(default=4096, validator=_at_least_1)
    """User facts and answers waiting for a slow client; one more closes its connection. Ours: the venue's is unknown."""
    ctx_every_ms: int = 1000
    """Cadence of activeAssetCtx (PROTOCOL 2.3)."""
    l2_fast_every_ms: int = 500
    """Cadence of l2Book with `fast` (PROTOCOL 2.3)."""
    slow_every_ms: int = 5000
    """Cadence of l2Book, allMids, openOrders and clearinghouseState (PROTOCOL 2.3)."""
    log_entries: int = field(default=10_000, validator=_at_least_1)
    """Length of the bounded log of a run."""
