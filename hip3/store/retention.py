"""What a store lets go with time, so that a bot may run for months: trails of signals, keys of processed events (STO-2).

A trail, what every filter and gate said of a signal, is three quarters of what a signal costs. After `store.trail_days` it
is replaced by the time of that; the signal, its inputs, verdict and follow-ups stay. A key of a processed event says no more
than the fill that was booked with it, which stays and is unique; it is kept for EVENT_DAYS behind the cursor. Orders,
intents, results, fills, trades and the audit log are never touched.

One pass a day of UTC, in transactions of a few rows on the connection that writes, between those of the writer. How far a
pass has come moves in the same transaction, so a killed one is gone on with; at its end an audit row says what it took.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import msgspec
import trio
from attrs import define
from sqlalchemy import Connection, select, tuple_

from hip3.core.clock import Clock
from hip3.core.records import Transition
from hip3.core.scribe import CURSOR_TIME_KEY
from hip3.store import schema
from hip3.store.apply import Applier, own_state
from hip3.store.audit import head_of, head_text
from hip3.store.database import cause_of
from hip3.store.encoding import mapping_text
from hip3.store.errors import FAILURES
from hip3.store.rows import Batch
from hip3.store.segments import Header

DAY_MS = 86_400_000
EVENT_DAYS = 7
"""Ours: the fills that a start asks for reach back to the cursor less 5 s (REC-1); a week is for whoever looks at it."""
STEP_ROWS = 200
"""Of one transaction: some 10 ms, for which the writer's next one waits; a commit goes to the spool meanwhile."""
PAUSE_S = 0.1
LOOK_S = 60.0
RETRY_S = 3600.0
STATE = "retention"
"""In `system_state` under the store's own account: how far the pass of the day has come."""
PRUNED_MS = "pruned_ms"
"""In place of a trail: when it was taken away, Unix ms."""


class Progress(msgspec.Struct, frozen=True):
    """A pass: its day, the spans of what it takes, the place that it has come to, and how many rows it took."""

    day_ms: int
    since_ms: int
    """Trails of before it were taken by earlier passes."""
    before_ms: int
    account: str = ""
    detected_ms: int = 0
    signal_id: str = ""
    trails: int = 0
    events: int = 0
    ended: bool = False

    @property
    def took_any(self) -> bool:
        """It has ended, and the store is smaller for it."""
        return self.ended and bool(self.trails or self.events)


@define
class Retention:
    """Runs beside the writer, one transaction at a time through `in_database`."""

    trail_days: int
    """0 keeps trails for ever."""
    on_done: Callable[[str, str], None]
    """Level and sentence of what a pass did."""

    async def run(
        self,
        applier: Applier,
        header: Header,
        clock: Clock,
        in_database: Callable[[Callable[[], Progress | None]], Awaitable[Progress | None]],
    ) -> None:
        """A pass at the beginning of each day of UTC, or once a bot runs on it; until cancelled. What fails is told of."""
        while True:
            try:
                done = await in_database(partial(step, applier, header, self.trail_days, clock.wall_ms()))
            except FAILURES as e:
                self.on_done("error", f"nothing more was pruned: {cause_of(e)}; it is tried again in an hour")
                await trio.sleep(RETRY_S)
                continue
            if done is not None and done.took_any:
                self.on_done("info", f"pruned: {said(done)}")
            await trio.sleep(LOOK_S if done is None else PAUSE_S)


def step(applier: Applier, header: Header, trail_days: int, now_ms: int) -> Progress | None:
    """One transaction of the pass of the day, which it begins where it has to; None once that has ended.

    Raises SQLAlchemyError and StoreError; then nothing was changed.
    """
    connection = applier.connection()
    try:
        with connection.begin():
            return _step(connection, header, trail_days, now_ms)
    except BaseException:
        applier.disconnect()
        raise


def _step(connection: Connection, header: Header, trail_days: int, now_ms: int) -> Progress | None:
    own = own_state(connection)
    old = msgspec.json.decode(own[STATE], type=Progress) if STATE in own else Progress(0, 0, 0, ended=True)
    today = now_ms - now_ms % DAY_MS
    if old.ended and old.day_ms >= today:
        return None
    progress = _begin(old, today, trail_days) if old.ended else old
    done = _take(connection, progress, today, now_ms)
    batch = Batch(head_of(own.get(schema.AUDIT_HEAD)))
    batch.set_state(schema.OWN, STATE, msgspec.json.encode(done).decode(), now_ms)
    if done.took_any:
        batch.add(_said(done, now_ms), header)
        batch.set_state(schema.OWN, schema.AUDIT_HEAD, head_text(batch.head), now_ms)
    batch.write(connection)
    return done


def _begin(old: Progress, today: int, trail_days: int) -> Progress:
    """A longer `trail_days` than before brings nothing back; 0 takes nothing more."""
    before = max(old.before_ms, today - trail_days * DAY_MS) if trail_days else old.before_ms
    return Progress(today, since_ms=old.before_ms, before_ms=before, detected_ms=old.before_ms)


def _take(connection: Connection, at: Progress, today: int, now_ms: int) -> Progress:
    """The next rows of the account that the pass has come to, or of the first one after it that has any."""
    accounts = connection.execute(select(schema.runs.c.account).distinct().order_by(schema.runs.c.account)).scalars().all()
    for account in accounts:
        if account < at.account:
            continue
        if account > at.account:
            at = msgspec.structs.replace(at, account=account, detected_ms=at.since_ms, signal_id="")
        last, trails = _prune_trails(connection, at, now_ms)
        if last is not None:
            detected_ms, signal_id = last
            return msgspec.structs.replace(at, detected_ms=detected_ms, signal_id=signal_id, trails=at.trails + trails)
        events = _delete_events(connection, account, today)
        if events:
            return msgspec.structs.replace(at, events=at.events + events)
    return msgspec.structs.replace(at, ended=True)


def _prune_trails(connection: Connection, at: Progress, now_ms: int) -> tuple[tuple[int, str] | None, int]:
    """The last of the signals whose trails were taken, None where none is left, and their number."""
    table = schema.signals
    place = tuple_(table.c.detected_ms, table.c.signal_id)
    query = (
        select(*(column for column in table.columns if column is not table.c.trail))
        .where(table.c.account == at.account, table.c.detected_ms >= at.detected_ms, table.c.detected_ms < at.before_ms)
        .where(place > (at.detected_ms, at.signal_id), table.c.trail != mapping_text({}))
        .order_by(table.c.detected_ms, table.c.signal_id)
        .limit(STEP_ROWS)
    )
    found = connection.execute(query).mappings().all()
    if not found:
        return None, 0
    ids = [row["signal_id"] for row in found]
    gone = mapping_text({PRUNED_MS: now_ms})
    # Not an update: a row that shrinks leaves the rest of its page empty, and SQLite fills only pages that are free.
    connection.execute(table.delete().where(table.c.account == at.account, table.c.signal_id.in_(ids)))
    connection.execute(table.insert(), [dict(row) | {"trail": gone} for row in found])
    return (found[-1]["detected_ms"], ids[-1]), len(found)


def _delete_events(connection: Connection, account: str, today: int) -> int:
    """Takes keys that are older than EVENT_DAYS, and than the cursor by as much; how many."""
    state, table = schema.system_state, schema.processed_events
    where = (state.c.account == account, state.c.key == CURSOR_TIME_KEY)
    cursor = connection.execute(select(state.c.value).where(*where)).scalar()
    if cursor is None:
        return 0
    before = min(today, int(cursor)) - EVENT_DAYS * DAY_MS
    query = select(table.c.event_key).where(table.c.account == account, table.c.time_ms < before)
    keys = connection.execute(query.order_by(table.c.time_ms).limit(STEP_ROWS)).scalars().all()
    if keys:
        connection.execute(table.delete().where(table.c.account == account, table.c.event_key.in_(keys)))
    return len(keys)


def said(done: Progress) -> str:
    """What a pass took, in a few words."""
    day = datetime.fromtimestamp(done.before_ms // 1000, UTC)
    trails = f"{done.trails} trails of signals of before {day:%Y-%m-%d}"
    return f"{trails}, {done.events} keys of events more than {EVENT_DAYS} days behind the cursor"


def _said(done: Progress, now_ms: int) -> Transition:
    facts = {
        "trails": done.trails,
        "trails_before_ms": done.before_ms,
        "events": done.events,
        "event_days": EVENT_DAYS,
    }
    return Transition(now_ms, "store", "retention", "", "PRUNED", "STORE_PRUNED", f"pruned: {said(done)}", "", facts)
