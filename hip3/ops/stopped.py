"""An operator's commands to a bot that does not run: they act on what it kept of its causes (STOP-1, OPS-1).

The same words with the same rules, as far as a store can answer for them. What only a running bot can find out (READY, a
reconciled account) refuses what needs it; nothing is closed here, that is `hip3 flatten`.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from hip3.core.causes import Cause, Clears, ReasonCode, Safety, Severity, Watch
from hip3.core.clearing import Obstacle, endable, halts, holds, obstacles
from hip3.core.explain import cause_dict
from hip3.core.records import StateRecord, Transition
from hip3.core.remembered import ENDED_KEY, Remembered
from hip3.core.risk import DailyLimits
from hip3.fsm.safety import SafetyMode
from hip3.ops import latch
from hip3.ops.commands import MOST_REASON, NO_REASON, SOURCE, Answer, Request, asked_code, wanted_mode

Said = tuple[list[Obstacle], str]


@frozen
class Obeyed:
    """The answer, and what must be committed for it to be true."""

    answer: Answer
    records: tuple[Transition | StateRecord, ...]


def obey_stopped(request: Request, who: str, memory: Remembered, limits: DailyLimits, now_ms: int) -> Obeyed:
    """Does one command on what `memory` holds. `limits` are those of today. The records are the caller's to commit."""
    safety = kept_safety(memory, limits, now_ms)
    before, reason = safety.mode, " ".join(request.reason.split())[:MOST_REASON] or NO_REASON
    refused, did = _do(request, f"{who}: {reason}", safety, memory)
    text = latch.dump(safety)
    code = "REFUSED" if refused else asked_code(request)
    told = [o.as_dict() for o in refused]
    facts: dict[str, object] = {"command": request.command, "did": did, "refused": told, "stopped": True}
    event = f"operator:{request.command}"
    rows: list[Transition | StateRecord] = [
        Transition(now_ms, "operator", who, before.name, safety.mode.name, code, reason, event, facts)
    ]
    if not refused:
        rows.append(StateRecord(latch.KEY, text, now_ms))
    answer: Answer = {
        "ok": not refused,
        "command": request.command,
        "by": who,
        "did": did,
        "refused": told,
        "before": before.name,
        "mode": safety.mode.name,
        "causes": [cause_dict(c, now_ms) | {"still": safety.why_still(c)} for c in safety.causes],
    }
    return Obeyed(answer, tuple(rows))


def kept_safety(memory: Remembered, limits: DailyLimits, now_ms: int) -> Safety:
    """The causes with which the next run begins."""
    safety = Safety(lambda *_: None, lambda: now_ms)
    safety.watch(ReasonCode.DAILY_LOSS, Watch(lambda _cause: limits.exceeded(now_ms)))
    latch.restore(safety, memory.values.get(latch.KEY))
    return safety


def _do(request: Request, said: str, safety: Safety, memory: Remembered) -> Said:
    commands: dict[str, Callable[[], Said]] = {
        "hold": lambda: _add(safety, ReasonCode.OPERATOR_HOLD, Severity.SAFE, said),
        "kill": lambda: _add(safety, ReasonCode.OPERATOR_KILL, Severity.HALT, said),
        "promote": lambda: ([Obstacle("MODE", "no process runs: start it, then promote")], ""),
        "maintenance-skip": lambda: ([Obstacle("MODE", "the gap is judged by the next run: start it first")], ""),
        "unhalt": lambda: _unhalt(safety, memory, said, accept_residue=request.accept_residue),
        "reset-safety": lambda: _reset(request, safety, memory, said),
    }
    return commands[request.command]()


def _add(safety: Safety, code: ReasonCode, severity: Severity, said: str) -> Said:
    safety.add(code, severity, SOURCE, said, Clears.OPERATOR)
    if severity is Severity.HALT:
        return [], "the next start begins in HALT and flattens; nothing is closed now (hip3 flatten does that)"
    return [], "the next start is not promoted by policy"


def _unhalt(safety: Safety, memory: Remembered, said: str, *, accept_residue: bool) -> Said:
    causes = halts(safety)
    if not causes:
        return [Obstacle("MODE", f"{safety.mode.name}: there is no HALT to end")], ""
    if lacks := unhalt_obstacles(safety, memory, accept_residue=accept_residue):
        return lacks, ""
    accepted = " with what is left accepted" if accept_residue else ""
    safety.end(causes, ReasonCode.MANUAL_UNHALT, SOURCE, f"{said}{accepted}")
    names = ", ".join(c.code.value for c in causes)
    return [], f"{names} ended{accepted}; the next start is ARMED_SAFE until a promotion"


def unhalt_obstacles(safety: Safety, memory: Remembered, *, accept_residue: bool) -> list[Obstacle]:
    """What stands against the end of the HALT that `kept_safety` gave, while no bot runs."""
    causes = halts(safety)
    lacks = obstacles(safety, causes)
    if not accept_residue and (left := _not_flat(memory, causes)) is not None:
        lacks.append(left)
    return lacks


def _not_flat(memory: Remembered, causes: tuple[Cause, ...]) -> Obstacle | None:
    """The last run must have ended flat after the last of the causes; a cause since then was never looked at."""
    how, _, at = memory.values.get(ENDED_KEY, "").partition("|")
    if how != "flat":
        why = "the last run did not end in order" if not how else "the last run ended with something left"
        return Obstacle("FLAT_CERTIFICATE", f"{why}: hip3 flatten --verify says what is there; --accept-residue accepts it")
    if not at.isdecimal() or int(at) < max(c.since_ms for c in causes):
        return Obstacle("FLAT_CERTIFICATE", "a cause came after the last run had ended flat: start it, and it looks")
    return None


def _reset(request: Request, safety: Safety, memory: Remembered, said: str) -> Said:
    mode = wanted_mode(request)
    if isinstance(mode, Obstacle):
        return [mode], ""
    if mode is SafetyMode.ARMED_LIVE:
        return [Obstacle("MODE", "no process runs: start it, then promote")], ""
    if mode is SafetyMode.HALT:
        return _add(safety, ReasonCode.OPERATOR_KILL, Severity.HALT, said)
    if request.reason_code == ReasonCode.OPERATOR_HOLD.value:
        return _add(safety, ReasonCode.OPERATOR_HOLD, Severity.SAFE, said)
    if halts(safety):
        return _unhalt(safety, memory, said, accept_residue=request.accept_residue)
    if not request.allow_non_halt:
        return [Obstacle("MODE", f"{safety.mode.name}: no HALT to reset; --allow-non-halt resets all the same")], ""
    ended = endable(safety, holds(safety))
    safety.end(ended, ReasonCode.MANUAL_UNHALT, SOURCE, said)
    names = ", ".join(c.code.value for c in ended) or "no cause"
    return [], f"{names} ended; the next start is ARMED_SAFE until a promotion"
