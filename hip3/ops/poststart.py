"""`hip3 poststart`: whether the bot that was started does its work (OPS-3). Reads the status socket and the store.

Two looks some seconds apart show what grows. It reads and can change nothing; what could not be read is a FAIL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trio
from attrs import field, frozen

from hip3.core.clock import Clock
from hip3.core.remembered import Remembered
from hip3.fsm.connection import ConnectionState
from hip3.fsm.ready import Condition, ReadyState
from hip3.fsm.safety import SafetyMode
from hip3.io.link import LinkConfig
from hip3.ops.findings import Finding, PoststartCheck, complete, failed, passed, warned
from hip3.ops.journal_file import journals
from hip3.ops.keep import account_of_store, store_place
from hip3.ops.local_socket import NoAnswer
from hip3.settings import LoadedSettings
from hip3.settings.schema import Mode
from hip3.store.database import place_of_file
from hip3.store.errors import StoreError
from hip3.store.repository import Repository
from hip3.tasks.reconcile import READ_EVERY_MS

WITHIN_S = 10.0
LOOK_S = 0.5
OLD_MS = 3 * READ_EVERY_MS
"""Three readings of the account were missed (POS-3)."""
START = "start it with hip3 run; hip3 doctor tells how the last run ended"
DOCTOR = "hip3 doctor says what ends it"


@frozen(kw_only=True)
class Poststart:
    """What a poststart looks at. `ask` gives the bot's status and raises NoAnswer; `state` is its state folder."""

    loaded: LoadedSettings
    state: Path
    ask: Callable[[], Mapping[str, Any]]
    clock: Clock
    within_s: float = WITHIN_S


@frozen
class Look:
    """What was seen at `wall_ms`: the bot's own word, and what its store holds of it; `trouble` where that was not read."""

    status: Mapping[str, Any]
    wall_ms: int
    memory: Remembered = field(factory=Remembered)
    audit_rows: int = 0
    audit_run: str = ""
    """The run that wrote the last row of the audit log."""
    trouble: str = ""

    @property
    def observes(self) -> bool:
        return str(self.status["run"]["mode"]) == Mode.OBSERVATION.value


async def poststart(given: Poststart) -> list[Finding]:
    """One finding for each PoststartCheck, in their order; ends as soon as the audit log has grown."""
    try:
        first = second = look(given)
        deadline = trio.current_time() + given.within_s
        while second.audit_rows <= first.audit_rows and not second.trouble and trio.current_time() < deadline:
            await trio.sleep(LOOK_S)
            second = look(given)
    except NoAnswer as e:
        remedy = "look at it, and at its journal" if e.running else START
        return complete(PoststartCheck, [failed(PoststartCheck.RUNNING, str(e), remedy)], "no bot answered")
    found = [
        running(second),
        config(second, given.loaded),
        mode(second),
        ready(second),
        links(second),
        cursor(second, given.loaded.settings.reconcile.backfill_window_ms),
        audit(first, second),
        records(second),
        backlog(second),
        journal(second, given.state),
    ]
    return complete(PoststartCheck, found, "")


def look(given: Poststart) -> Look:
    """One look. Raises NoAnswer."""
    status = given.ask()
    if "error" in status:
        raise NoAnswer(str(status["error"]), running=True)
    now = given.clock.wall_ms()
    repository = None
    try:
        file = status["store"]["file"]
        place = store_place(given.loaded.settings, given.state) if file is None else place_of_file(Path(file))
        repository = Repository(place)
        values = repository.state(account_of_store(status["run"]["account"]))
        rows = repository.audit_tail(1)
    except (StoreError, OSError) as e:
        return Look(status, now, trouble=str(e))
    finally:
        if repository is not None:
            repository.close()
    last = rows[-1] if rows else None
    return Look(status, now, Remembered(values), last.seq if last else 0, last.run_id if last else "")


# ---- by the bot's own word


def running(seen: Look) -> Finding:
    run, state = seen.status["run"], seen.status["lifecycle"]["state"]
    value = f"run {run['id']} on {run['network']}, process {run['pid']}, for {run['age_ms']} ms, {state}"
    if state in ("SYNC", "RUNNING"):
        return passed(PoststartCheck.RUNNING, value)
    return failed(PoststartCheck.RUNNING, value, "it is on its way out; the summary at its end says why")


def config(seen: Look, loaded: LoadedSettings) -> Finding:
    """CFG-6: the bot runs the configuration that was meant."""
    theirs = str(seen.status["run"]["config_hash"])
    if theirs == loaded.hash:
        return passed(PoststartCheck.CONFIG, f"{theirs}, that of {loaded.source_path}")
    value = f"the bot runs {theirs}; {loaded.source_path} is {loaded.hash}"
    return failed(PoststartCheck.CONFIG, value, "name its file with --config, or restart the bot")


def mode(seen: Look) -> Finding:
    """SAFE-1: the mode and why."""
    safety, check = seen.status["safety"], PoststartCheck.MODE
    causes = "; ".join(f"{c['code']} by {c['source']}: {c['message']}" for c in safety["causes"])
    value = f"{safety['mode']} for {safety['age_ms']} ms, {causes or 'no cause in force'}"
    if safety["mode"] == SafetyMode.HALT.name:
        return failed(check, value, DOCTOR)
    if safety["mode"] == SafetyMode.ARMED_LIVE.name or seen.observes:
        return passed(check, value)
    return warned(check, value, DOCTOR)


def ready(seen: Look) -> Finding:
    """MD-2: each condition of READY, with the age of what it rests on."""
    state, held = seen.status["ready"], seen.status["ready"]["conditions"]
    wanted = [Condition.MD_READY.value] if seen.observes else list(held)
    rows = "; ".join(f"{c} {'yes' if held[c]['holds'] else 'NO'}, {_age(held[c]['age_ms'])}" for c in wanted)
    value = f"{state['state']} for {state['age_ms']} ms: {rows}"
    holds = all(held[c]["holds"] for c in wanted) and (seen.observes or state["state"] == ReadyState.READY.name)
    if holds:
        return passed(PoststartCheck.READY, value)
    return failed(PoststartCheck.READY, value, "entries wait for it; look at the links and the markets in hip3 status")


def _age(ms: int | None) -> str:
    return "no evidence" if ms is None else f"evidence {ms} ms old"


def links(seen: Look) -> Finding:
    """WS-1, WS-2: every link is up, and heard something within the time after which it counts as silent."""
    rows, bad = [], False
    for link in seen.status["links"]:
        age = link["last_message_age_ms"]
        rows.append(f"{link['name']} {link['state']}, last message {'never' if age is None else f'{age} ms ago'}")
        bad |= link["state"] != ConnectionState.READY.name or age is None or age > LinkConfig().silent_after_ms
    value = "; ".join(rows)
    if bad:
        return failed(PoststartCheck.LINKS, value, "is the venue up? the bot dials again by itself")
    return passed(PoststartCheck.LINKS, value)


def backlog(seen: Look) -> Finding:
    """STO-4: what waits for the database."""
    store, check = seen.status["store"], PoststartCheck.BACKLOG
    value = f"{store['waiting_rows']} of {store['most_rows']} rows wait (most so far {store['peak_rows']}), {store['place']}"
    if store["trouble"] is not None:
        return failed(check, f"{value}; {store['trouble']}", "make the database writable; the records wait in the spool")
    if 2 * store["waiting_rows"] > store["most_rows"]:
        return warned(check, value, "the database is too slow; a full spool is a HALT")
    return passed(check, value)


def journal(seen: Look, state: Path) -> Finding:
    """OBS-1: evidence is written, and none of it was lost."""
    told, pid, check = seen.status["journal"], seen.status["run"]["pid"], PoststartCheck.JOURNAL
    value = f"{told['notes']} notes, {told['dropped']} lost"
    file = next((path for path in journals(state) if path.stem.endswith(f"-{pid}")), None)
    if told["dropped"]:
        return failed(check, value, "the disk or the machine is too slow for the journal; hip3 explain has gaps")
    if file is None:
        return warned(check, f"{value}; no file of this run below {state}", "it was given by --log, or is not kept")
    return passed(check, f"{value}, {file}")


# ---- by the store


def cursor(seen: Look, window_ms: int) -> Finding:
    """REC-2, REC-3: up to when everything of the account is in the books."""
    check, at_ms = PoststartCheck.CURSOR, seen.memory.cursor_ms
    if seen.trouble:
        return failed(check, f"not checked: {seen.trouble}")
    if seen.observes:
        return passed(check, "none, observation has no account")
    if at_ms is None:
        return failed(
            check, "last_processed_timestamp_ms is not set: the account was not read yet", "look again in a minute"
        )
    age_ms = seen.wall_ms - at_ms
    value = f"last_processed_timestamp_ms {at_ms}, {age_ms} ms old"
    if age_ms > window_ms:
        remedy = "is the account link up? a start after such a gap is a HALT"
        return failed(check, f"{value}, more than reconcile.backfill_window_ms {window_ms}", remedy)
    if age_ms > OLD_MS:
        return warned(check, f"{value}, more than {OLD_MS}", "it stands still while the books move or do not agree")
    return passed(check, value)


def audit(first: Look, second: Look) -> Finding:
    """STO-3: the audit log grows. A bot to which nothing happens between the looks writes nothing: that is a WARN."""
    check, run = PoststartCheck.AUDIT, second.status["run"]["id"]
    if second.trouble:
        return failed(check, f"not checked: {second.trouble}")
    value = f"{second.audit_rows} rows, {first.audit_rows} at the first look {second.wall_ms - first.wall_ms} ms before"
    if second.audit_rows < first.audit_rows or second.audit_run != run:
        remedy = "is this the store that the bot writes? see the backlog"
        return failed(check, f"{value}; the last is of run {second.audit_run or 'none'}, not of {run}", remedy)
    if second.audit_rows == first.audit_rows:
        return warned(check, f"{value}; the last is of this run", "nothing happened meanwhile; look again after a signal")
    return passed(check, value)


def records(seen: Look) -> Finding:
    """STO-4, POS-3: the last reading of the account is in the store, and is young."""
    check, at_ms = PoststartCheck.RECORDS, seen.memory.ingest_ms
    if seen.trouble:
        return failed(check, f"not checked: {seen.trouble}")
    if seen.observes:
        return passed(check, "none, observation has no account")
    if at_ms is None:
        return failed(check, "no reading of the account is in the store", "see the backlog, and look again in a minute")
    value = f"account read and recorded {seen.wall_ms - at_ms} ms ago"
    if seen.wall_ms - at_ms > OLD_MS:
        return failed(check, f"{value}, more than {OLD_MS}", "see the links and the backlog")
    return passed(check, value)
