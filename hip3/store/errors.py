"""Why a store cannot be opened, read, copied or restored. Each message names the place, what was found and what to do."""

from __future__ import annotations

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
