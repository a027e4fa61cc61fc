"""The seam for faults: named points where the exchange asks whether something goes wrong, and what the world looks like.

Deterministic: a fault is a rule with a number of uses, not a probability. A random plan is somebody else's list of
rules made from a seed. Refuses to know the engine; the shell carries the actions out.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable

from attrs import Factory, define, frozen

from hip3.core.ids import OrderSide

STRUCK_KEPT = 1000
"""How many strikes are kept for inspection."""


class Point(enum.Enum):
    """Where a fault can strike. The subject that a rule sees is in brackets."""

    CONNECT = "connect"
    """A WebSocket is about to be accepted. ["ws"]"""
    INFO = "info"
    """An info query, over either transport. [its type]"""
    BEFORE_ADMISSION = "before_admission"
    """An action arrived and nothing looked at it yet. [its type]"""
    AFTER_COMMIT = "after_commit"
    """The block is final; the answer has not left. [the action's type]"""
    FRAME = "frame"
    """A WebSocket frame is about to be sent. [its channel]"""


@frozen
class Drop:
    """Nothing happens: the request is never answered, the frame never sent."""


@frozen
class Delay:
    """Late by `ms`; what comes after it overtakes it, so a delay is also a reordering."""

    ms: int


@frozen
class Duplicate:
    """The frame is sent twice. Only at FRAME."""


@frozen
class Disconnect:
    """The connection is cut without a word. At CONNECT it is never opened."""


@frozen
class RefuseText:
    """`status: err` with this text. At BEFORE_ADMISSION the action is not executed."""

    text: str


@frozen
class HttpAnswer:
    """This status and body instead of the answer. Over a WebSocket post it is `type: error` with status and text."""

    status: int
    body: str = "null"


@frozen
class ReplaceBody:
    """This JSON text instead of the answer or the frame, with a normal status."""

    body: str


FaultAction = Drop | Delay | Duplicate | Disconnect | RefuseText | HttpAnswer | ReplaceBody


@define
class Rule:
    """At `point`, for subjects that `matches` accepts, after `skip` of them, `uses` times (None: for ever)."""

    point: Point
    action: FaultAction
    matches: Callable[[str], bool] = lambda _subject: True
    skip: int = 0
    uses: int | None = 1


@define
class World:
    """Conditions of the simulated world that last until they are changed back. Coins by full name."""

    frozen_oracles: set[str] = Factory(set)
    one_sided: dict[str, OrderSide] = Factory(dict)
    """The side that is missing; only external depth goes, orders of accounts stay."""
    halted: set[str] = Factory(set)
    post_only: bool = False
    unknown_order_status: bool = False
    """orderStatus answers `unknownOid` for everything."""


class Faults:
    """The rules in force and the state of the world. Without rules nothing goes wrong."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = list(rules)
        self.world = World()
        self.struck: deque[tuple[Point, str, FaultAction]] = deque(maxlen=STRUCK_KEPT)
        self.strikes = 0
        """How many there were, the forgotten ones included."""

    def add(self, *rules: Rule) -> None:
        self.rules.extend(rules)

    def at(self, point: Point, subject: str) -> FaultAction | None:
        """The action of the first rule that applies, which thereby uses one of its uses; None for a normal course."""
        for rule in self.rules:
            if rule.point is not point or rule.uses == 0 or not rule.matches(subject):
                continue
            if rule.skip > 0:
                rule.skip -= 1
                continue
            if rule.uses is not None:
                rule.uses -= 1
            self.struck.append((point, subject, rule.action))
            self.strikes += 1
            return rule.action
        return None
