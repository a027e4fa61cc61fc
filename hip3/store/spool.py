"""The spool: an append-only file in front of the database, so that `commit` costs microseconds and survives a kill.

One commit is one line and one `write`. The bytes are then the operating system's: they survive the death of the process,
not that of the machine, for nothing here waits for a disk (docs/decisions/0013). Groups stay in memory as well until the
database has them; how many is bounded, and a full spool refuses.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import define, field

from hip3.core.records import Record, StorageUnavailable, Transition
from hip3.store.encoding import encode_records, frame
from hip3.store.errors import StoreUnusable, os_words
from hip3.store.segments import Group, Header, Segment, header_line, segment_path

SEGMENT_BYTES = 4 << 20
"""Ours: some 8,000 orders; small enough that a drained spool gives its space back soon."""


def _nothing() -> None:
    """Nobody waits for groups."""


@define
class Spool:
    """Takes records (the `Recorder` of hip3.core.records) and keeps committed groups until the database has them."""

    folder: Path
    header: Header
    """Of the segments that this process writes; `first_seq` is that of the first."""
    max_rows: int
    """Most records that may wait for the database, and as many again for a commit."""
    segment_bytes: int = SEGMENT_BYTES
    on_commit: Callable[[], None] = _nothing
    """Called after each group: the writer's bell. Must not raise or wait."""
    waiting: deque[Group] = field(factory=deque)
    """Committed, not yet in the database; in order."""
    rows: int = 0
    """Records in `waiting`."""
    peak_rows: int = 0
    lost: int = 0
    """Records that no longer fit while commits failed; the next commit that succeeds says so in the audit log."""
    _pending: list[Record] = field(factory=list, init=False)
    _unpublished: list[tuple[int, list[Record]]] = field(factory=list, init=False)
    """In the file, and not yet in `waiting`: a few, for the rest of a step."""
    _fd: int = field(default=-1, init=False)
    _size: int = field(default=0, init=False)
    _torn: bool = field(default=False, init=False)
    _file_seq: int = field(default=0, init=False)
    """Number of the first group of the present segment."""
    old: deque[tuple[int, Path]] = field(factory=deque)
    """Earlier segments, each with the number of its last group."""
    _seq: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._seq = self.header.first_seq

    @property
    def next_seq(self) -> int:
        """Number of the group that comes next."""
        return self._seq

    @property
    def unwritten(self) -> int:
        """Records that are neither in the file nor in the database, and would be lost with the process."""
        return len(self._pending) + self.lost

    def put(self, record: Record) -> None:
        """Joins the next commit. Never raises: beyond the bound a record is dropped and counted in `lost`."""
        if len(self._pending) < self.max_rows:
            self._pending.append(record)
        else:
            self.lost += 1

    def commit(self, *, more: bool = False) -> None:
        """Writes everything put since the last commit as one group. Raises StorageUnavailable: then none of it is durable.

        With `more` the writer is told by the next commit of the same step: an order's bytes are about to leave. After a
        failure the records wait for the next commit, which writes them first: a fact that was seen is not given up because
        the disk was full for a second.
        """
        if not self._pending:
            if not more:
                self.publish()
            return
        if self.rows + len(self._pending) > self.max_rows:
            raise StorageUnavailable(
                f"spool {self.folder}: {self.rows} records wait for the database, which takes none; the limit is "
                f"{self.max_rows} (store.queue_rows). Look at the database: its disk, its server, its locks"
            )
        if self.lost:
            self._say_what_was_lost()
        self._write(frame(self._seq, self._encoded()))
        self._unpublished.append((self._seq, self._pending))
        self._pending = []
        self._seq += 1
        if not more:
            self.publish()

    def publish(self) -> None:
        """Tells the writer of what was committed with `more`."""
        if not self._unpublished:
            return
        for seq, records in self._unpublished:
            self.waiting.append(Group(seq, self.header, tuple(records)))
            self.rows += len(records)
        self._unpublished.clear()
        self.peak_rows = max(self.peak_rows, self.rows)
        self.on_commit()

    def _encoded(self) -> bytes:
        """Raises StorageUnavailable for a value that cannot be written, and lets its group go: it never could be."""
        try:
            return encode_records(self._pending)
        except (TypeError, ValueError, OverflowError) as e:
            found = ", ".join(sorted({type(record).__name__ for record in self._pending}))
            self.lost += len(self._pending)
            self._pending.clear()
            raise StorageUnavailable(
                f"spool {self.folder}: a group of {found} holds a value that cannot be written ({type(e).__name__}: {e}); "
                "the group is lost. This is a defect of the program: please report it"
            ) from e

    def _say_what_was_lost(self) -> None:
        at_ms = max((r.at_ms for r in self._pending if isinstance(r, Transition)), default=self.header.opened_ms)
        what = f"{self.lost} records were lost while nothing could be written"
        metadata = {"lost": self.lost}
        self._pending.append(Transition(at_ms, "store", "spool", "full", "open", "RECORDS_LOST", what, metadata=metadata))
        self.lost = 0

    # ---- the file

    def _write(self, line: bytes) -> None:
        try:
            if self._torn:
                os.ftruncate(self._fd, self._size)
                self._torn = False
            if self._fd < 0 or (self._size + len(line) > self.segment_bytes and self._seq > self._file_seq):
                self._turn()
            written = os.write(self._fd, line)
        except OSError as e:
            self._torn = self._fd >= 0
            raise self._unavailable(e) from e
        if written < len(line):
            self._torn = True
            self._cut_tail()
            raise self._unavailable(OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were taken"))
        self._size += written

    def _cut_tail(self) -> None:
        """Takes away half a group at once where that is possible; else before the next one is written."""
        try:
            os.ftruncate(self._fd, self._size)
            self._torn = False
        except OSError:
            self._torn = True

    def _unavailable(self, error: OSError) -> StorageUnavailable:
        return StorageUnavailable(f"spool {self.folder}: cannot be written: {os_words(error)}")

    def why_gone(self) -> str | None:
        """A sentence where the present segment was removed under this process: what is committed would not survive it."""
        if self._fd < 0 or os.fstat(self._fd).st_nlink:
            return None
        name = segment_path(self.folder, self._file_seq).name
        return (
            f"spool {self.folder}: {name} was removed while this process writes to it; end the bot (it flattens) and start "
            "it again"
        )

    def open(self) -> None:
        """Makes the folder and this run's first segment. Raises StoreUnusable."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._turn()
        except OSError as e:
            raise StoreUnusable(str(self._unavailable(e))) from e

    def _turn(self) -> None:
        """Goes on in a new file. The old one stays until the database has its groups."""
        path = segment_path(self.folder, self._seq)
        header = header_line(_from(self.header, self._seq))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(fd, header)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            os.close(self._fd)
            self.old.append((self._seq - 1, segment_path(self.folder, self._file_seq)))
        self._fd, self._size, self._torn, self._file_seq = fd, len(header), False, self._seq

    # ---- the writer's side

    def take(self, most_rows: int) -> list[Group]:
        """The first groups that wait, whole ones, at least one and at most about `most_rows` records; they stay here."""
        taken: list[Group] = []
        count = 0
        for group in self.waiting:
            if taken and count + len(group.records) > most_rows:
                break
            taken.append(group)
            count += len(group.records)
        return taken

    def applied(self, seq: int) -> None:
        """The database has all groups up to `seq`: they are forgotten, and segments that hold no other are deleted."""
        while self.waiting and self.waiting[0].seq <= seq:
            self.rows -= len(self.waiting.popleft().records)
        while self.old and self.old[0][0] <= seq:
            self.old.popleft()[1].unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file; what waits stays in it for the next run. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_whole(fd: int, data: bytes) -> None:
    """Raises OSError where not all of it was taken."""
    taken = os.write(fd, data)
    if taken < len(data):
        raise OSError(errno.ENOSPC, f"only {taken} of {len(data)} bytes were taken")


def _from(header: Header, first_seq: int) -> Header:
    return Header(
        header.format,
        header.spool_id,
        header.account,
        header.run_id,
        header.config_hash,
        first_seq,
        header.opened_ms,
    )


def cut_torn_tail(segments: Sequence[Segment]) -> None:
    """Takes half a group, or half a first line, off the end before another run writes on. Raises OSError."""
    if not segments or segments[-1].damage:
        return
    last = segments[-1]
    if last.header is None:
        last.path.unlink(missing_ok=True)
    elif last.path.stat().st_size > last.good_bytes:
        os.truncate(last.path, last.good_bytes)
