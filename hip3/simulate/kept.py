"""What a bot under watch makes durable, looked at as it is committed: intents first, chains of transitions, no secret.

Invariants 7, 11 and 12 of DESIGN 9, as far as records and notes show them; the hash chain is the store's own (hip3/store).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from attrs import define, field

from hip3.bot import Bot
from hip3.core.clock import Clock
from hip3.core.ledger import KEPT_FILLS
from hip3.core.records import FillRecord, IntentRecord, Record, TradeRecord, Transition
from hip3.fsm.machines import ALL_TABLES

KEPT_INTENTS = 5_000
"""An order reaches the venue or is lost within half a minute; this is many times what a run sends in that time."""
_TERMINAL = {table.name: frozenset(state.name for state in table.terminal) for table in ALL_TABLES}

Say = Callable[[int, str, str], None]
"""Number of the invariant, what was seen, its subject."""


@define
class Kept:
    """Given to a recorder as `on_commit`. `secrets` are texts that may stand nowhere."""

    clock: Clock
    say: Say
    secrets: tuple[str, ...] = ()
    transitions: int = 0
    trades: int = 0
    booked: OrderedDict[tuple[str, int, int], None] = field(factory=OrderedDict)
    """Keys of the fills of all processes, as the ledger keeps them."""
    _intents: dict[tuple[str, int], int] = field(factory=dict)
    """Wall ms of the commit, by cloid and nonce."""
    _states: dict[tuple[str, str], str] = field(factory=dict)
    """Last state by category and entity, of what has not ended."""

    def new_process(self) -> None:
        """The machines of the next one begin anew; what it takes over from the last one begins where that one left it."""
        self._states.clear()

    def on_commit(self, records: Iterable[Record]) -> None:
        for record in records:
            if isinstance(record, IntentRecord):
                self._intents[record.cloid, record.nonce] = self.clock.wall_ms()
            elif isinstance(record, Transition):
                self._follow(record)
            elif isinstance(record, FillRecord):
                self.booked[record.coin, record.time_ms, record.tid] = None
            self.trades += isinstance(record, TradeRecord)
            self.read(record)
        while len(self.booked) > KEPT_FILLS:
            self.booked.popitem(last=False)
        for old in list(self._intents)[:-KEPT_INTENTS]:
            del self._intents[old]

    def read(self, said: object) -> None:
        """Invariant 12: looks through whatever is about to leave the process."""
        if not self.secrets:
            return
        text = repr(said).lower()
        if any(secret in text for secret in self.secrets):
            self.say(12, f"a secret stands in a {type(said).__name__}", type(said).__name__)

    def is_before(self, cloid: str, nonce: int, arrived_ms: int) -> bool:
        """True where the intent of an order that arrived then (wall ms) was durable by then."""
        committed = self._intents.get((cloid, nonce))
        return committed is not None and committed <= arrived_ms

    def _follow(self, row: Transition) -> None:
        if row.category not in _TERMINAL:
            return  # an operator's or a procedure's: no machine
        self.transitions += 1
        key = row.category, row.entity_id
        known = self._states.get(key)
        if known is not None and row.from_state != known:
            self.say(
                11, f"{row.category} {row.entity_id} went on from {row.from_state}, its last row says {known}", str(key)
            )
        if not row.reason_code:
            self.say(11, f"{row.category} {row.entity_id} became {row.to_state} without a reason", str(key))
        if row.category in ("order", "post") and row.to_state in _TERMINAL[row.category]:
            self._states.pop(key, None)
        else:
            self._states[key] = row.to_state

    def compare(self, bot: Bot) -> None:
        """Invariant 11 at the end: what every machine shows is what its last row says."""
        for category, entity, state in _shown(bot):
            row = self._states.get((category, entity))
            if row is not None and row != state:
                self.say(11, f"{category} {entity} is {state}, its last row says {row}", f"{category} {entity} shown")


def _shown(bot: Bot) -> Iterator[tuple[str, str, str]]:
    yield "lifecycle", "process", bot.lifecycle.state.name
    yield "safety", "process", bot.safety.mode.name
    yield "ready", "trading", bot.ready.state.name
    for coin, position in bot.ledger.positions.items():
        yield "position", coin, position.state.name
    for order in bot.ledger.orders.values():
        yield "order", order.cloid.value, order.state.name
