"""The causes that outlive the process, as text: what holds HALT, and what an operator must end (SAFE-2, STOP-1).

A run that begins with it keeps or tightens, never loosens. Text that cannot be read is a HALT of its own: nobody knows
what it said. What each start measures anew before it may trade is not kept: a link, a clock, an account, an order in doubt.
"""

from __future__ import annotations

import hashlib
import json

from attrs import evolve

from hip3.core.causes import Cause, Clears, ReasonCode, Safety, Severity

KEY = "safety"
"""The `StateRecord` that holds the text; without one, nothing was kept."""
VERSION = 1
SOURCE = "latch"


class Damaged(Exception):
    """The text is not what `dump` gives: what was expected and found."""


def kept(safety: Safety) -> tuple[Cause, ...]:
    """The causes in force that outlive the process.

    BOOTSTRAP is each start's own. RUNAWAY would end by itself, after a time that the next process has not counted: a
    restart must not cut that short.
    """
    return tuple(
        c
        for c in safety.causes
        if c.severity is Severity.HALT
        or (c.clears is Clears.OPERATOR and c.code is not ReasonCode.BOOTSTRAP)
        or c.code is ReasonCode.RUNAWAY
    )


def dump(safety: Safety) -> str | None:
    """What `restore` goes on from; None where nothing is to be kept."""
    return write(kept(safety))


def write(causes: tuple[Cause, ...]) -> str | None:
    """`causes` as text with a checksum; None for none."""
    if not causes:
        return None
    rows = [
        {
            "code": c.code.value,
            "severity": c.severity.name,
            "source": c.source,
            "since_ms": c.since_ms,
            "message": c.message,
            "clears": c.clears.value,
        }
        for c in causes
    ]
    return json.dumps({"version": VERSION, "causes": rows, "check": _check(rows)}, sort_keys=True)


def read(text: str) -> tuple[Cause, ...]:
    """The causes in `text`. Raises Damaged."""
    try:
        whole = json.loads(text)
        version, rows, check = whole["version"], whole["causes"], whole["check"]
        if version != VERSION:
            raise Damaged(f"version {version!r}, expected {VERSION}")
        if check != _check(rows) or not rows:
            raise Damaged("its checksum does not fit")
        return tuple(
            Cause(
                ReasonCode(row["code"]),
                Severity[row["severity"]],
                str(row["source"]),
                int(row["since_ms"]),
                str(row["message"]),
                Clears(row["clears"]),
            )
            for row in rows
        )
    except (ValueError, KeyError, TypeError) as e:
        raise Damaged(f"{type(e).__name__}: {e}") from None


def restore(safety: Safety, text: str | None) -> None:
    """Puts the causes of `text` in force; damaged text is a HALT.

    What ended with its process only is an operator's to end now: that process has ended, and nobody has looked.
    """
    if text is None:
        return
    try:
        causes = read(text)
    except Damaged as e:
        message = f"the safety state that an earlier run left cannot be read ({e}); look at its journal before unhalting"
        safety.add(ReasonCode.INTERNAL_ERROR, Severity.HALT, SOURCE, message, Clears.OPERATOR)
        return
    for cause in causes:
        safety.keep(evolve(cause, clears=Clears.OPERATOR))


def _check(rows: object) -> str:
    """Of what is kept; against damage, not against forgery."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]
