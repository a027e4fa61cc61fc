"""What the journal of the last run says of its mode and its end: for a bot that does not run any more. Reads only."""

from __future__ import annotations

from pathlib import Path

from attrs import define

from hip3.ops.journal_file import FIRST_EVENT, entries, journals


@define
class LastRun:
    """The last lines of a run about mode, lifecycle and flatten; None where it has none."""

    journal: Path
    mode: dict[str, object] | None = None
    lifecycle: dict[str, object] | None = None
    flatten: dict[str, object] | None = None
    crash: dict[str, object] | None = None


_KEPT = {"safety_mode": "mode", "lifecycle": "lifecycle", "halt_flatten": "flatten", "task_crashed": "crash"}


def last_run(state: Path) -> LastRun | None:
    """The newest run of a state folder; None where there is no journal. Raises OSError for one that cannot be read."""
    found = journals(state)
    if not found:
        return None
    run = LastRun(found[0])
    for entry in entries(found[0]):
        if entry.get("event") == FIRST_EVENT:
            run = LastRun(found[0])
        elif (name := _KEPT.get(str(entry.get("event")))) is not None:
            setattr(run, name, entry)
    return run
