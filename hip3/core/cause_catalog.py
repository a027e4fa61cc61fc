"""Every kind of cause: when it comes, what it forbids, who ends it and how. For people: `hip3 doctor` and docs/safety.md.

It decides nothing: a cause in force says of itself what it forbids and who may end it. A test compares the two.
"""

from __future__ import annotations

import enum

from attrs import frozen

from hip3.core.causes import Clears, ReasonCode, Severity
from hip3.fsm.safety import SafetyEvent

_C, _SAFE, _HALT = ReasonCode, Severity.SAFE, Severity.HALT
_AUTO, _OPERATOR, _NEVER = Clears.AUTO, Clears.OPERATOR, Clears.NEVER


@frozen
class Kind:
    """One way in which a code is put in force. `severity` None: no cause, only the reason of a change."""

    code: ReasonCode
    severity: Severity | None
    clears: Clears | None
    when: str
    ends: str


KINDS: tuple[Kind, ...] = (
    Kind(_C.BOOTSTRAP, _SAFE, _OPERATOR, "each start", "promotion, by policy `auto` or by hand"),
    Kind(_C.MANUAL_UNHALT, _SAFE, _OPERATOR, "an operator ended a HALT or other causes", "promotion by hand"),
    Kind(_C.HALT_RECOVERY_AUTO, _SAFE, _OPERATOR, "a HALT ended by itself (STOP-4)", "promotion by hand"),
    Kind(_C.OPERATOR_HOLD, _SAFE, _OPERATOR, "`hip3 ops hold`", "promotion by hand"),
    Kind(_C.OPERATOR_KILL, _HALT, _OPERATOR, "`hip3 ops kill`", "unhalt"),
    Kind(_C.AUTO_PROMOTE, None, None, "policy `auto` found nothing against ARMED_LIVE at a start", ""),
    Kind(_C.MANUAL_PROMOTE, None, None, "`hip3 ops promote`", ""),
    Kind(_C.MAINTENANCE_SKIP, None, None, "`hip3 ops maintenance-skip`: the gap is not followed up", ""),
    Kind(_C.OBSERVATION, _SAFE, _NEVER, "mode = observation, or --mode backfill-only", "a start that trades"),
    Kind(_C.SHUTDOWN, _SAFE, _NEVER, "the way out has begun", "the next start"),
    Kind(
        _C.WS_DISCONNECT,
        _SAFE,
        _AUTO,
        "the account link was lost while flat (`safety.halt_on_disconnect`)",
        "by itself, when READY-TRADING is back: link up, orders, fills and positions read again",
    ),
    Kind(
        _C.WS_DISCONNECT,
        _HALT,
        _OPERATOR,
        "the account link was lost while a position, an order or a post was there (`safety.halt_on_disconnect`)",
        "unhalt, once READY-TRADING is back and the flatten is certified",
    ),
    Kind(
        _C.CLOCK_SKEW, _SAFE, _AUTO, "the clock is more than 5 s from the venue's", "by itself, with a reading that agrees"
    ),
    Kind(
        _C.CLOCK_SKEW,
        _SAFE,
        _OPERATOR,
        "a start 5 s or more before the last row of the store: the clock was set back, or was ahead when that was written",
        "promotion by hand, after a look at the clock",
    ),
    Kind(
        _C.SNAPSHOT_STALE,
        _SAFE,
        _AUTO,
        "the account could not be read",
        "by itself, with the next reading of every dex",
    ),
    Kind(
        _C.SNAPSHOT_STALE,
        _HALT,
        _OPERATOR,
        "exposed, and the account could not be read for 3 min",
        "by itself after one clean reconcile, certified flat (STOP-4); or unhalt",
    ),
    Kind(
        _C.RECONCILE_WARN,
        _SAFE,
        _AUTO,
        "books and venue differed by more than `reconcile.drift_warn_*`",
        "by itself, when a statement of the venue agrees with the books",
    ),
    Kind(
        _C.RECONCILE_CRITICAL,
        _HALT,
        _OPERATOR,
        "they differed by more than `reconcile.drift_critical_*`, or only one of them held the market",
        "by itself after three clean reconciles in a row, certified flat (STOP-4); or unhalt",
    ),
    Kind(
        _C.BACKFILL_WINDOW_EXCEEDED,
        _HALT,
        _OPERATOR,
        "nobody followed the account for more than `reconcile.backfill_window_ms`",
        "maintenance-skip, then by itself after one clean reconcile (STOP-4); or unhalt",
    ),
    Kind(_C.CONFIG_HASH_CHANGED, _SAFE, _OPERATOR, "the configuration is not the last run's", "promotion by hand"),
    Kind(_C.FOREIGN_ORDERS, _SAFE, _OPERATOR, "orders of somebody else were there at the start", "promotion by hand"),
    Kind(
        _C.FLATTEN_FAILED,
        _SAFE,
        _AUTO,
        "a position is there after `position.reduce_only_timeout_ms`, or a flatten in HALT did not end flat",
        "by itself, when the market is flat; that of the halt procedure with a certificate that says flat",
    ),
    Kind(
        _C.FLATTEN_FAILED,
        _HALT,
        _OPERATOR,
        "more than `risk.max_flatten_failures` positions were not closed in time, or so many tries in HALT failed in a row, "
        "or the last run held one in a market that is not configured any more",
        "unhalt, once a certificate says flat",
    ),
    Kind(
        _C.EXECUTION_RETRY_BUDGET_EXCEEDED,
        _SAFE,
        _AUTO,
        "an order stays in doubt after three questions",
        "by itself, when the venue has answered for it",
    ),
    Kind(
        _C.EXECUTION_RETRY_BUDGET_EXCEEDED,
        _HALT,
        _OPERATOR,
        "the same with `safety.halt_on_retry_budget`",
        "unhalt, once the venue has answered for it",
    ),
    Kind(
        _C.PARAM_CHANGE,
        _SAFE,
        _NEVER,
        "the venue changed a market's id, decimals, fees or margin while flat",
        "the next start",
    ),
    Kind(_C.PARAM_CHANGE, _HALT, _NEVER, "the same while exposed", "a new start, and unhalt there"),
    Kind(
        _C.DAILY_LOSS,
        _HALT,
        _OPERATOR,
        "the day's loss is over `safety.auto_stop_loss_usd`",
        "unhalt, from the next UTC day on",
    ),
    Kind(
        _C.CUMULATIVE_LOSS,
        _HALT,
        _OPERATOR,
        "the loss since the books began, or since its last unhalt, is over `risk.max_cumulative_loss_usd`",
        "unhalt",
    ),
    Kind(_C.CONSECUTIVE_LOSSES, _HALT, _OPERATOR, "more losses in a row than `risk.max_consecutive_losses`", "unhalt"),
    Kind(_C.REJECT_RATE, _HALT, _OPERATOR, "more rejections in an hour than `risk.max_rejects_per_hour`", "unhalt"),
    Kind(_C.SLIPPAGE, _HALT, _OPERATOR, "three trades in a row slipped by more than `risk.max_slippage_bps`", "unhalt"),
    Kind(
        _C.RUNAWAY,
        _SAFE,
        _AUTO,
        "more orders or cancels left in a minute than `risk.max_orders_*` or `risk.max_cancels_*` allow",
        "by itself, after `risk.runaway_cooldown_ms`",
    ),
    Kind(_C.RUNAWAY, _SAFE, _OPERATOR, "the same, and the process ended before that time was over", "promotion by hand"),
    Kind(
        _C.GUARD_HOLD,
        _SAFE,
        _AUTO,
        "a guard has never reported, or not for too long",
        "by itself, with its next report",
    ),
    Kind(
        _C.GUARD_HOLD,
        _SAFE,
        _OPERATOR,
        "a guard measured what a person must look at",
        "promotion by hand, once the guard has reported something better",
    ),
    Kind(
        _C.MAINTENANCE_WINDOW,
        _SAFE,
        _AUTO,
        "a window of `risk.maintenance_windows` is open",
        "by itself, at its end",
    ),
    Kind(
        _C.STORAGE_UNAVAILABLE,
        _SAFE,
        _AUTO,
        "the database refuses records; the spool has them meanwhile",
        "by itself, when the database takes records again",
    ),
    Kind(
        _C.STORAGE_UNAVAILABLE,
        _HALT,
        _OPERATOR,
        "the spool takes nothing more, the database refused for longer than `store.failed_after_ms`, or a value that the "
        "last run kept cannot be read",
        "unhalt, once it can: the command's own row is the proof",
    ),
    Kind(_C.INTERNAL_ERROR, _HALT, _NEVER, "a task crashed; the process flattens and ends", "a new start, and unhalt there"),
    Kind(
        _C.INTERNAL_ERROR,
        _HALT,
        _OPERATOR,
        "an earlier run crashed, or what it kept of its safety state is damaged",
        "unhalt, after a look at its journal",
    ),
)


_ON_THE_WAY_OUT = (_C.SHUTDOWN, _C.INTERNAL_ERROR)


def kind_of(code: ReasonCode, severity: Severity, clears: Clears) -> Kind | None:
    """The kind of a cause in force; one that an earlier run could not end is an operator's now."""
    same = [k for k in KINDS if k.code is code and k.severity is severity]
    return next((k for k in same if k.clears is clears), same[0] if same else None)


def remedy(code: ReasonCode, severity: Severity, clears: Clears) -> str:
    """The command that an operator gives for a cause; what must be done where no command can."""
    if code in _ON_THE_WAY_OUT and clears is Clears.NEVER:
        return "wait until this process has ended, for a Ctrl+C now gives the flatten up; then start anew"
    if clears is Clears.NEVER:
        return "end this process (Ctrl+C) and start anew"
    if clears is Clears.AUTO:
        return "none needed: it ends by itself"
    return 'hip3 ops unhalt --reason "..."' if severity is Severity.HALT else 'hip3 ops promote --reason "..."'


def codes_by_event() -> dict[enum.Enum, tuple[str, ...]]:
    """The reason codes that each event of the safety machine can carry, for its drawing."""
    promotions = (_C.AUTO_PROMOTE, _C.MANUAL_PROMOTE)
    releases = (_C.MANUAL_UNHALT, _C.HALT_RECOVERY_AUTO)

    def of(severity: Severity) -> tuple[str, ...]:
        return tuple(dict.fromkeys(k.code.value for k in KINDS if k.severity is severity and k.code is not _C.BOOTSTRAP))

    return {
        SafetyEvent.PROMOTE: tuple(c.value for c in promotions),
        SafetyEvent.HOLD: of(_SAFE),
        SafetyEvent.HALT: of(_HALT),
        SafetyEvent.RELEASE: tuple(c.value for c in releases),
    }
