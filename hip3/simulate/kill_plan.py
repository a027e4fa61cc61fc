"""The moments at which real runs of the bot are killed: drawn from a seed, before anything runs (`kill.py`)."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator

from attrs import frozen


class Kind(enum.Enum):
    """What the bot is doing when it is killed."""

    TRADING = "trading"
    ORDER = "order"
    """Right after its first action reached the venue."""
    STARTING = "starting"
    LEAVING = "leaving"


WEIGHTS = {Kind.TRADING: 6, Kind.ORDER: 6, Kind.STARTING: 4, Kind.LEAVING: 4}


@frozen
class Moment:
    """One kill, `after_s` after the first action of a run. `then_s` is further from the SIGINT on or, as a share of its
    time to READY, from the start of the next run on."""

    number: int
    kind: Kind
    after_s: float
    then_s: float
    pause_s: float
    """Until the next start."""
    is_busy: bool
    """The market goes on giving signals while the next run starts."""


def draw(seed: int, count: int) -> Iterator[Moment]:
    """The plan of a seed."""
    rng = random.Random(seed)
    for number in range(1, count + 1):
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        share = rng.random()
        # Half of them within 31 ms of the order: what is in the spool and not in the database is 20 ms old at most.
        after = 0.25 * share**3 if kind is Kind.ORDER else {Kind.TRADING: 3.0}.get(kind, 1.0) * share
        then = {Kind.STARTING: 1.1, Kind.LEAVING: 0.8}.get(kind, 0.0) * rng.random()
        pause = rng.choice((0.0, 0.0, 0.0, rng.uniform(0, 2)))
        yield Moment(number, kind, after, then, pause, is_busy=rng.random() < 0.5)
