"""Opens a store for the bot: lock, schema, what an earlier run left in the spool, then a spool and a writer of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import define, frozen

from hip3.core.clock import Clock
from hip3.core.records import Recorder
from hip3.store.apply import Applier, note_by_hand
from hip3.store.backup import Contents, DailyBackup, make_backup, restore
from hip3.store.database import SAVE_THE_REST, Place, in_words, open_engine
from hip3.store.errors import StoreDamaged, StoreUnusable, os_words
from hip3.store.lock import StoreLock, take_lock
from hip3.store.repository import Repository
from hip3.store.retention import Retention
from hip3.store.segments import FORMAT, REBUILD, Group, Header, Segment, pending, read_spool
from hip3.store.spool import Spool, cut_torn_tail
from hip3.store.versions import bring_up_to_date, program_versions
from hip3.store.writer import MOST_ROWS, OnTrouble, RunSync, Writer, in_thread

QUEUE_ROWS = 8192  # DESIGN 4
GROUP_COMMIT_MS = 20
BACKUP_KEEP = 7


OnUpkeep = Callable[[str, str, str], None]
"""Told of what was done beside the writing: level, event, sentence."""


def _ignore(_level: str, _event: str, _sentence: str) -> None:
    """Nobody is told."""


def _no_trouble(_trouble: str | None) -> None:
    """Nobody is told."""


@frozen(kw_only=True)
class StoreConfig:
    """How a store is kept. `backup_keep` daily backups in `backups`; none are made where that is None.

    Trails of signals stay for `trail_days`, for ever where it is 0; None prunes nothing at all.
    """

    queue_rows: int = QUEUE_ROWS
    group_commit_ms: int = GROUP_COMMIT_MS
    backups: Path | None = None
    backup_keep: int = BACKUP_KEEP
    trail_days: int | None = None


@frozen(kw_only=True)
class RunInfo:
    """Whose records these are: the account in lower case, the run, its configuration and process."""

    account: str
    run_id: str
    config_hash: str
    pid: int


@define
class Store:
    """An open store: `recorder` takes records, `repository` reads, `run` is the writer's task."""

    place: Place
    repository: Repository
    writer: Writer
    recovered: int
    """Groups of earlier runs that were applied when it was opened."""
    _spool: Spool
    _lock: StoreLock

    @property
    def recorder(self) -> Recorder:
        return self._spool

    @property
    def waiting_rows(self) -> int:
        """Records that the database does not have yet."""
        return self._spool.rows

    @property
    def lost_rows(self) -> int:
        """Records that neither the database nor the spool could take; gone with the process."""
        return self._spool.unwritten

    @property
    def peak_rows(self) -> int:
        """The most that ever waited."""
        return self._spool.peak_rows

    async def drain_and_close(self, deadline_s: float) -> bool:
        """Writes what waits and lets the store go; True where all of it is in the database. A second call does nothing."""
        if self._lock.is_held:
            try:
                return await self.writer.drain_and_close(deadline_s)
            finally:
                self.close()
        return not self._spool.waiting

    def close(self) -> None:
        """Lets the store go at once; what waits stays in the spool for the next start."""
        self._spool.close()
        self.writer.let_go()
        self.repository.close()
        self._lock.release()


def open_store(
    place: Place,
    run: RunInfo,
    clock: Clock,
    config: StoreConfig | None = None,
    *,
    run_sync: RunSync = in_thread,
    on_trouble: OnTrouble = _no_trouble,
    on_upkeep: OnUpkeep = _ignore,
) -> Store:
    """Opens, or makes, the store of `place` and applies what an earlier run left. Blocks for as long as that takes.

    Raises StoreInUse (another process writes to it), SchemaVersionMismatch, StoreDamaged and StoreUnusable.
    """
    config = config or StoreConfig()
    lock = take_lock(place.lock_file, run.pid)
    applier = None
    try:
        applier = open_applier(place, clock, config.backups)
        with in_words(place):
            applier.check_audit_end()
            spool, recovered = _open_spool(place, applier, run, clock, config.queue_rows)
        daily = None
        if config.backups is not None and place.file is not None:
            daily = DailyBackup(place.file, config.backups, config.backup_keep, _of("store_backup", on_upkeep))
        prune = None if config.trail_days is None else Retention(config.trail_days, _of("store_pruned", on_upkeep))
        writer = Writer(spool, applier, clock, config.group_commit_ms, run_sync, on_trouble, daily, prune)
        return Store(place, Repository(place), writer, recovered, spool, lock)
    except BaseException:
        if applier is not None:
            applier.close()
        lock.release()
        raise


def _of(event: str, on_upkeep: OnUpkeep) -> Callable[[str, str], None]:
    return lambda level, sentence: on_upkeep(level, event, sentence)


def restore_store(place: Place, backup: Path, clock: Clock) -> tuple[Path | None, Contents]:
    """`backup.restore`, with the schema brought up to date and an audit row about it; the caller holds the lock."""
    kept, contents = restore(place, backup, clock.wall_ms())
    applier = open_applier(place, clock, None)
    try:
        with in_words(place):
            note_by_hand(applier, "RESTORED", f"restored from {backup.name}", {"audit_head": contents.head.hash})
    finally:
        applier.close()
    return kept, contents


def open_applier(place: Place, clock: Clock, backups: Path | None) -> Applier:
    """A connection that writes, to a database of this version; an older one is copied into `backups` and migrated."""

    def backup() -> None:
        if place.file is not None:
            make_backup(place.file, backups or place.file.parent / "backups", clock.wall_ms())

    if place.file is not None:
        make_file(place.file)
    applier = Applier(place, open_engine(place, writes=True), clock)
    try:
        with in_words(place):
            bring_up_to_date(applier.connection(), program_versions(), place.name, backup)
    except BaseException:
        applier.close()
        raise
    return applier


def make_file(file: Path) -> None:
    """The database file, mode 0600, where there is none. Raises StoreUnusable."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            file.touch(mode=0o600)
    except OSError as e:
        raise StoreUnusable(f"{file}: cannot be made: {os_words(e)}") from e


def _open_spool(place: Place, applier: Applier, run: RunInfo, clock: Clock, queue_rows: int) -> tuple[Spool, int]:
    """Applies the tail of an earlier run, then begins this run's first segment. Raises StoreDamaged, StoreUnusable."""
    segments, applied, left = groups_left(place, applier)
    heads = [segment.header for segment in segments if segment.header is not None]
    now = clock.wall_ms()
    spool_id = heads[-1].spool_id if heads else f"{now:x}-{run.pid}"
    apply_all(applier, left)
    try:
        cut_torn_tail(segments)
    except OSError as e:
        raise StoreUnusable(f"spool {place.spool}: cannot be written: {os_words(e)}") from e
    last = max([applied or 0, *(segment.last_seq for segment in segments)])
    header = Header(FORMAT, spool_id, run.account, run.run_id, run.config_hash, last + 1, now)
    spool = Spool(place.spool, header, queue_rows)
    spool.open()
    spool.old.extend((s.last_seq, s.path) for s in _other_files(segments, spool))
    spool.applied(last)
    applier.begin_run(header)
    return spool, len(left)


def groups_left(place: Place, applier: Applier) -> tuple[list[Segment], int | None, list[Group]]:
    """The spool of a place, how far the database has it (None: not at all), and the groups that it does not have.

    Raises StoreDamaged where one of them is missing or unreadable, and StoreUnusable.
    """
    try:
        segments = read_spool(place.spool)
    except OSError as e:
        raise StoreUnusable(f"spool {place.spool}: cannot be read: {os_words(e)}") from e
    heads = [segment.header for segment in segments if segment.header is not None]
    applied = applier.position(heads[-1].spool_id) if heads else None
    remedy = SAVE_THE_REST if place.file is not None else _moved(place)
    if applied is None and heads and heads[0].first_seq > 1:
        raise StoreDamaged(
            f"{place.name}: knows nothing of the spool {place.spool}, which goes on at group {heads[0].first_seq}: the "
            f"database was removed, or another one put in its place. {remedy}. To begin anew, move the spool away"
        )
    try:
        return segments, applied, pending(segments, applied, REBUILD if place.file is not None else _moved(place))
    except StoreDamaged as e:
        raise StoreDamaged(f"{place.spool}: {e}") from e


def _moved(place: Place) -> str:
    return f"Was an older dump restored? Then move {place.spool} away: it holds what came later, and a start asks the venue"


def _other_files(segments: Sequence[Segment], spool: Spool) -> list[Segment]:
    """The segments of earlier runs; an empty one whose name the new one took is none of them."""
    return [s for s in segments if s.header is not None and s.header.first_seq != spool.header.first_seq]


def apply_all(applier: Applier, groups: Sequence[Group]) -> None:
    """Applies groups in transactions of a bounded size."""
    rows = 0
    steps: list[list[Group]] = []
    for group in groups:
        if not steps or rows + len(group.records) > MOST_ROWS:
            steps.append([])
            rows = 0
        steps[-1].append(group)
        rows += len(group.records)
    for step in steps:
        applier.apply(step)
