"""An operator's commands as bytes, the answers as he reads them, and what the audit log keeps of both."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import trio
import trio.testing

from hip3.core.records import Transition
from hip3.ops.commands import Operator
from hip3.simulate.world import World

T = TypeVar("T")
BRIEF = {"position.time_stop_ms": 2000}
LIVE, SAFE, HALT = "ARMED_LIVE", "ARMED_SAFE", "HALT"


async def beside(call: Callable[[], T]) -> T:
    """Runs `call` in a real thread. Virtual time stands still, or it would jump over the deadlines of the other side."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    before, clock.autojump_threshold = clock.autojump_threshold, math.inf
    try:
        return await trio.to_thread.run_sync(call)
    finally:
        clock.autojump_threshold = before


def operate(world: World, name: str, **options: object) -> dict[str, Any]:
    """A command of the user ada, as its bytes come over the socket; the answer as they go back."""
    raw = json.dumps({"command": name, "reason": "a test", **options}).encode()
    answer: dict[str, Any] = json.loads(json.dumps(Operator(world.bot).answer(raw, "ada")))
    return answer


def audit(world: World) -> list[tuple[str, str, str, str]]:
    """Rows of the operator in the audit log: who, from, to, code."""
    rows = [r for r in world.recorder.records if isinstance(r, Transition) and r.category == "operator"]
    return [(r.entity_id, r.from_state, r.to_state, r.reason_code) for r in rows]


def refusals(answer: dict[str, Any]) -> list[str]:
    assert answer["ok"] is False
    return [o["what"] for o in answer["refused"]]


def codes(answer: dict[str, Any]) -> list[str]:
    return [c["code"] for c in answer["causes"]]


async def flat_in_halt(world: World) -> None:
    """Until the flatten of the last HALT is certified."""
    await world.until(lambda: world.bot.halt_flatten is not None and is_certified(world), 90)


def is_certified(world: World) -> bool:
    last = world.bot.halt_flatten
    return last is not None and last.incident == world.bot.safety.incident and last.certificate.flat
