"""One writer for one store (LESSONS 35): a lock that the kernel, or the server, holds for the life of its owner.

On one machine it is `flock` on a file that is never deleted: deleting it would let two processes hold two different files of
the same name. On PostgreSQL the writer's own connection holds an advisory lock besides, so a write without the lock is not
possible: where the connection is lost, both are.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from attrs import define
from sqlalchemy import Connection, text

from hip3.store.database import is_postgres, try_advisory_lock
from hip3.store.errors import StoreInUse, StoreUnusable, os_words
from hip3.store.held import Held, hold_file

ADVISORY_KEY = 0x68697033  # "hip3" in ASCII
_HOLDER = text(
    "SELECT l.pid, a.application_name, host(a.client_addr) FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = :key AND l.granted "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1"
)
"""Of this database: each has advisory locks of its own. What the session says of itself only its own user may see."""


@define
class StoreLock:
    """The lock of a store on this machine."""

    path: Path
    _fd: int

    @property
    def is_held(self) -> bool:
        return self._fd >= 0

    def release(self) -> None:
        """Lets another process have it; the file stays. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def take_lock(path: Path, pid: int) -> StoreLock:
    """Takes the lock. Raises StoreInUse, with the process that holds it, and StoreUnusable."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return StoreLock(path, hold_file(path, pid))
    except Held as holder:
        raise StoreInUse(
            f"{path}: process {holder} writes to this store; stop it first, or give each bot a state folder of its own"
        ) from None
    except OSError as e:
        raise StoreUnusable(f"{path}: {os_words(e)}") from e


def lock_holder(path: Path) -> str | None:
    """The process that holds the lock, None where nobody does; leaves everything as it is. Raises StoreUnusable.

    The look itself holds the lock shared for some microseconds, for the kernel has no other way to ask.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StoreUnusable(f"{path}: {os_words(e)}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(fd, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(fd)
    return None


def server_lock_holder(connection: Connection) -> str | None:
    """On PostgreSQL: who holds the lock, in words, None where nobody does; None for a file."""
    if not is_postgres(connection):
        return None
    found = connection.execute(_HOLDER, {"key": ADVISORY_KEY}).first()
    if found is None:
        return None
    session, name, address = found
    where = f", from {address}" if address else ""
    return f"{name} (session {session} of the server{where})" if name else f"session {session} of the server"


def hold_server_lock(connection: Connection, place: str) -> None:
    """On PostgreSQL: the lock of this connection's session. Raises StoreInUse. A file needs no second one."""
    if not is_postgres(connection):
        return
    with connection.begin():
        if not try_advisory_lock(connection, ADVISORY_KEY):
            raise StoreInUse(
                f"{place}: {server_lock_holder(connection) or 'another session of the server'} writes to this store; "
                "stop the bot behind it first, or give each bot a database of its own"
            )
