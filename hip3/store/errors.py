"""Why a store cannot be opened, read, copied or restored. Each message names the place, what was found and what to do."""

from __future__ import annotations

import errno

from sqlalchemy.exc import SQLAlchemyError


class StoreError(Exception):
    """Something about a store is not as it must be; nothing was changed."""


class StoreInUse(StoreError):
    """Another process writes to this store (exit code 6)."""


class StoreMissing(StoreError):
    """There is no store where one was to be read."""


class StoreUnusable(StoreError):
    """The file, the folder or the server cannot be used: permissions, a full disk, no connection."""


class StoreDamaged(StoreError):
    """Bytes are not what was written: a database file, a spool segment, a backup."""


class SchemaVersionMismatch(StoreError):
    """The schema of the database is newer than the program's, unknown to it, or incomplete (STO-5)."""


FAILURES = (SQLAlchemyError, StoreError, OSError, ValueError, TypeError, OverflowError)
"""What a write may meet; it is told of and tried again. The last three: a value that the database cannot take."""

REMEDY = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the quota of the disk is used up: free some space",
    errno.EROFS: "the file system is read-only: mount it writable, or set another state folder",
    errno.EFBIG: "the file may not grow further: raise the limit of the file size (ulimit -f)",
    errno.EACCES: "be the user whose it is, give this one the right to it, or set another state folder",
    errno.EEXIST: "a file is where a folder must be: move it away, or set another state folder",
    errno.ENOTDIR: "a file is where a folder must be: move it away, or set another state folder",
    errno.EIO: "the disk fails: look at the system's log and move the state folder to another one",
}


def os_words(error: OSError) -> str:
    """What the system said, and what helps."""
    return f"{error.strerror or error}; {REMEDY.get(error.errno or 0, 'look at the file system of this folder')}"
