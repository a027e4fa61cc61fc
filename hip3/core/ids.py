"""Names of things: markets, sides, order ids.

A market is keyed everywhere by the venue's own coin name, dex prefix included (`xyz:SNDK`, `BTC`), because that is the
one name that books, fills, orders and subscriptions share (PROTOCOL 1.2).
"""

from __future__ import annotations

import enum
import re
from decimal import Decimal

from attrs import field, frozen, validators


class OrderSide(enum.Enum):
    """Side of an order. The values are the venue's letters: B bids, A asks."""

    BUY = "B"
    SELL = "A"

    @property
    def is_buy(self) -> bool:
        return self is OrderSide.BUY

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is OrderSide.BUY else -1

    def opposite(self) -> OrderSide:
        return OrderSide.SELL if self is OrderSide.BUY else OrderSide.BUY


class TimeInForce(enum.Enum):
    """The values are the venue's words."""

    IOC = "Ioc"
    GTC = "Gtc"
    ALO = "Alo"


@frozen(order=True)
class MarketKey:
    """A market: the dex (empty for the venue's own) and the coin's full wire name, prefix included."""

    dex: str
    coin: str

    @classmethod
    def parse(cls, coin: str) -> MarketKey:
        """`xyz:SNDK` is SNDK on dex xyz; a name without a colon is on the main dex."""
        dex, colon, _ = coin.partition(":")
        return cls(dex=dex if colon else "", coin=coin)

    def __str__(self) -> str:
        return self.coin


@frozen
class MarketSpec:
    """What the venue's metadata says about one market; a change of it while trading is a PARAM_CHANGE."""

    key: MarketKey
    asset_id: int
    sz_decimals: int
    max_leverage: int
    margin_mode: str = "cross"
    """`cross` (the flag is absent), `noCross` or `strictIsolated`."""
    fee_scale: Decimal | None = None
    """The deployer's fee scale; None on the main dex."""
    growth_mode: bool = False
    delisted: bool = False
    collateral_token: int = 0
    """Spot token index of the collateral; 0 is USDC."""

    @property
    def coin(self) -> str:
        return self.key.coin


_CLOID = re.compile(r"0x[0-9a-f]{32}")
_OURS = "68697033"  # "hip3"


@frozen
class ClientOrderId:
    """A 128-bit client order id: `0x` and 32 lower-case hex digits (PROTOCOL 5.4).

    Layout of ours: 4 bytes `hip3`, 2 bytes strategy tag, 6 bytes run id (Unix ms at start), 4 bytes sequence. An order
    found on the venue is thereby ours or foreign without a database (TYP-4). It is a name, never an idempotency key:
    the venue executes the same cloid again once the first order is terminal.
    """

    value: str = field(validator=validators.matches_re(_CLOID))

    def __str__(self) -> str:
        return self.value

    @property
    def is_ours(self) -> bool:
        return self.value[2:10] == _OURS

    @property
    def strategy_tag(self) -> int:
        return int(self.value[10:14], 16)

    @property
    def run_id(self) -> int:
        return int(self.value[14:26], 16)

    @property
    def sequence(self) -> int:
        return int(self.value[26:34], 16)


def is_our_cloid(text: str | None) -> bool:
    """True where an id seen on the venue has our layout; anything else, malformed text included, is foreign."""
    return text is not None and _CLOID.fullmatch(text) is not None and text[2:10] == _OURS


class CloidFactory:
    """Issues the ids of one run in sequence. `run_id` is the Unix ms of the start, so runs never share an id."""

    def __init__(self, run_id: int, strategy_tag: int = 1) -> None:
        if not 0 <= run_id < 1 << 48:
            raise ValueError(f"run_id must fit in 48 bits, got {run_id}")
        if not 0 <= strategy_tag < 1 << 16:
            raise ValueError(f"strategy_tag must fit in 16 bits, got {strategy_tag}")
        self._prefix = f"0x{_OURS}{strategy_tag:04x}{run_id:012x}"
        self._sequence = 0

    def next(self) -> ClientOrderId:
        """A new id; raises OverflowError after 2**32 - 1 orders of one run."""
        self._sequence += 1
        if self._sequence >= 1 << 32:
            raise OverflowError("the order sequence of this run is used up; start a new run")
        return ClientOrderId(f"{self._prefix}{self._sequence:08x}")
