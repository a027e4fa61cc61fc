"""What an operator commands a running bot to do, each in one step, answered with what it did or why not (OPS-5, STOP-5).

Hold and kill need one person, no reason and nobody's leave. What loosens is asked for, and refused by name as long as
anything stands against it. Every command is a row of the audit log, a refused one too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec
from attrs import define

from hip3.bot import Bot
from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.core.clearing import Obstacle, endable, halts, holds
from hip3.core.records import IncidentRecord
from hip3.fsm.safety import SafetyMode
from hip3.ops import modes

SOURCE = "operator"
MOST_REASON = 500
"""Characters of a reason that are kept; a longer one is cut, never refused: it might be a kill's."""
NO_REASON = "no reason given"
RESET_CODES: Mapping[SafetyMode, frozenset[ReasonCode]] = {
    SafetyMode.HALT: frozenset({ReasonCode.OPERATOR_KILL}),
    SafetyMode.ARMED_SAFE: frozenset({ReasonCode.MANUAL_UNHALT, ReasonCode.OPERATOR_HOLD}),
    SafetyMode.ARMED_LIVE: frozenset({ReasonCode.MANUAL_PROMOTE}),
}
"""Which reason codes an operator may give for which mode (SAFE-4)."""

Answer = dict[str, object]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """One command as it comes over the socket. `mode`, `reason_code` and `allow_non_halt` belong to reset-safety."""

    command: Literal["hold", "kill", "promote", "unhalt", "maintenance-skip", "reset-safety"]
    reason: str = ""
    accept_residue: bool = False
    mode: str = ""
    reason_code: str = ""
    allow_non_halt: bool = False


@define
class Operator:
    """The operator's hand on one bot."""

    bot: Bot

    def answer(self, raw: bytes, who: str) -> Answer:
        """Does what the JSON in `raw` commands. What cannot be read is an `error` and changes nothing."""
        try:
            request = msgspec.json.decode(raw, type=Request)
        except msgspec.DecodeError as e:
            return {"error": f"not a command: {e}"}
        if lacks_reason(request):
            return {"error": f"{request.command} needs a reason; it stands in the audit log"}
        return self.obey(request, who)

    def obey(self, request: Request, who: str) -> Answer:
        """Does one command of the user `who`, in one step; a row of the audit log says so before the answer does."""
        bot = self.bot
        before = bot.safety.mode
        reason = " ".join(request.reason.split())[:MOST_REASON] or NO_REASON
        said = f"{who}: {reason}"
        bot.scribe.event_id = f"operator:{request.command}"
        if request.command not in ("hold", "kill"):
            # A row of the asking as well: it shows besides whether the store can be written.
            bot.scribe.transition("operator", who, before.name, before.name, asked_code(request), reason)
            bot.scribe.commit()
        refused, did = self._do(request, said)
        after = bot.safety.mode
        facts: dict[str, object] = {"command": request.command, "did": did, "refused": [o.as_dict() for o in refused]}
        code = "REFUSED" if refused else asked_code(request)
        bot.scribe.transition("operator", who, before.name, after.name, code, reason, facts)
        bot.scribe.commit()
        bot.scribe.event_id = ""
        if refused:
            why = "; ".join(f"{o.what}: {o.why}" for o in refused)
            bot.note("warning", "operator_refused", by=who, command=request.command, refused=why)
        else:
            bot.note("warning", "operator_command", by=who, command=request.command, did=did, reason=reason)
        return {
            "ok": not refused,
            "command": request.command,
            "by": who,
            "did": did,
            "refused": [o.as_dict() for o in refused],
            "before": before.name,
            "mode": after.name,
            "causes": modes.causes_view(bot),
        }

    def _do(self, request: Request, said: str) -> tuple[list[Obstacle], str]:
        """What refused it, or nothing and what it did."""
        commands: Mapping[str, Callable[[], tuple[list[Obstacle], str]]] = {
            "hold": lambda: self._hold(said),
            "kill": lambda: self._kill(said),
            "promote": lambda: self._promote(said),
            "unhalt": lambda: self._unhalt(said, accept_residue=request.accept_residue),
            "maintenance-skip": lambda: self._skip(said),
            "reset-safety": lambda: self._reset(request, said),
        }
        return commands[request.command]()

    # ---- tightening: nobody's leave (STOP-5)

    def _hold(self, said: str) -> tuple[list[Obstacle], str]:
        self.bot.safety.add(ReasonCode.OPERATOR_HOLD, Severity.SAFE, SOURCE, said, Clears.OPERATOR)
        return [], "no entry leaves any more; exits and cancels go on"

    def _kill(self, said: str) -> tuple[list[Obstacle], str]:
        self.bot.safety.add(ReasonCode.OPERATOR_KILL, Severity.HALT, SOURCE, said, Clears.OPERATOR)
        return [], "HALT: every order is cancelled and every position closed, until the venue shows none"

    # ---- loosening: only where nothing stands against it

    def _promote(self, said: str) -> tuple[list[Obstacle], str]:
        safety = self.bot.safety
        if safety.mode is SafetyMode.ARMED_LIVE:
            return [], "nothing: ARMED_LIVE already"
        lacks = modes.promotion_obstacles(self.bot, ReasonCode.MANUAL_PROMOTE)
        if lacks:
            return lacks, ""
        if held := holds(safety):
            safety.end(held, ReasonCode.MANUAL_UNHALT, SOURCE, said)
        safety.promote(ReasonCode.MANUAL_PROMOTE, said)
        ended = "".join(f", {c.code.value} ended" for c in held)
        return [], f"ARMED_LIVE: entries leave from now on{ended}"

    def _unhalt(self, said: str, *, accept_residue: bool) -> tuple[list[Obstacle], str]:
        safety = self.bot.safety
        if safety.mode is not SafetyMode.HALT:
            return [Obstacle("MODE", f"{safety.mode.name}: there is no HALT to end")], ""
        lacks = modes.release_obstacles(self.bot, accept_residue=accept_residue)
        if lacks:
            return lacks, ""
        ended = halts(safety)
        left = " with what is left accepted" if accept_residue else ""
        safety.end(ended, ReasonCode.MANUAL_UNHALT, SOURCE, f"{said}{left}")
        names = ", ".join(c.code.value for c in ended)
        return [], f"ARMED_SAFE{left}: {names} ended; entries wait for a promotion"

    def _skip(self, said: str) -> tuple[list[Obstacle], str]:
        """REC-3: the gap is not to be filled; for this incident only. The HALT ends by STOP-4, on its other evidence."""
        bot, code = self.bot, ReasonCode.BACKFILL_WINDOW_EXCEEDED
        gap = next((c for c in bot.safety.causes if c.code is code), None)
        if gap is None:
            return [Obstacle(code.value, "not in force: there is no gap to skip")], ""
        now = bot.io.clock.wall_ms()
        bot.evidence.skipped(bot.safety.incident)
        what = {"skipped": gap.message, "since_ms": gap.since_ms}
        bot.scribe.put(IncidentRecord(f"skip:{gap.since_ms}", "MAINTENANCE_SKIP", now, said, now, what))
        return [], f"the gap is skipped: {gap.message}"

    def _reset(self, request: Request, said: str) -> tuple[list[Obstacle], str]:
        """OPS-5: the mode that is wanted, by the rules of the command that leads there."""
        safety, mode = self.bot.safety, wanted_mode(request)
        if isinstance(mode, Obstacle):
            return [mode], ""
        if mode is SafetyMode.HALT:
            return self._kill(said)
        if request.reason_code == ReasonCode.OPERATOR_HOLD.value:
            return self._hold(said)
        if safety.mode is SafetyMode.HALT:
            if mode is SafetyMode.ARMED_LIVE:
                return [Obstacle("MODE", "a HALT is left towards ARMED_SAFE; promote in a second step")], ""
            return self._unhalt(said, accept_residue=request.accept_residue)
        if not request.allow_non_halt:
            return [Obstacle("MODE", f"{safety.mode.name}: no HALT to reset; --allow-non-halt resets all the same")], ""
        return self._promote(said) if mode is SafetyMode.ARMED_LIVE else self._calm(said)

    def _calm(self, said: str) -> tuple[list[Obstacle], str]:
        """ARMED_SAFE as after an unhalt: what an operator can end has ended, and a promotion is needed."""
        safety = self.bot.safety
        ended = endable(safety, holds(safety))
        safety.end(ended, ReasonCode.MANUAL_UNHALT, SOURCE, said)
        names = ", ".join(c.code.value for c in ended) or "no cause"
        return [], f"ARMED_SAFE: {names} ended; entries wait for a promotion"


def wanted_mode(request: Request) -> SafetyMode | Obstacle:
    """The mode that a reset wants, where its reason code goes with it."""
    mode = SafetyMode.__members__.get(request.mode)
    if mode is None:
        return Obstacle("--mode", f"{request.mode!r}; expected one of {', '.join(SafetyMode.__members__)}")
    allowed = sorted(c.value for c in RESET_CODES[mode])
    if request.reason_code in allowed:
        return mode
    why = f"{request.reason_code!r} is no operator's reason for {mode.name}; expected {' or '.join(allowed)}"
    return Obstacle("--reason-code", why)


def lacks_reason(request: Request) -> bool:
    """True for a command that loosens and does not say why (STOP-1); what tightens needs no reason (STOP-5)."""
    tightens = request.command in ("hold", "kill") or (
        request.command == "reset-safety"
        and (request.mode == SafetyMode.HALT.name or request.reason_code == ReasonCode.OPERATOR_HOLD.value)
    )
    return not tightens and not request.reason.strip()


def asked_code(request: Request) -> str:
    """The reason code that stands in the audit log for a command."""
    codes = {
        "hold": ReasonCode.OPERATOR_HOLD,
        "kill": ReasonCode.OPERATOR_KILL,
        "promote": ReasonCode.MANUAL_PROMOTE,
        "unhalt": ReasonCode.MANUAL_UNHALT,
        "maintenance-skip": ReasonCode.MAINTENANCE_SKIP,
    }
    code = codes.get(request.command)
    return request.reason_code[:64] if code is None else code.value
