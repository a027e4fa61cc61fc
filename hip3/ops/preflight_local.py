"""The checks of `hip3 preflight` that need no venue: key, hash, store, schema, lock, disk. They change nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from hip3.core.remembered import Remembered
from hip3.io.keys import KeySourceError
from hip3.ops.findings import Finding, PreflightCheck, failed, passed, warned
from hip3.ops.journal_file import KEPT_RUNS, PART_BYTES, STATE_VAR
from hip3.ops.keep import account_of_store, store_place
from hip3.settings import LoadedSettings
from hip3.settings.schema import Mode, Settings
from hip3.store.database import Place, connect, open_reader
from hip3.store.errors import SchemaVersionMismatch, StoreError, StoreMissing, StoreUnusable
from hip3.store.lock import lock_holder, server_lock_holder
from hip3.store.repository import everything_in
from hip3.store.versions import check_version, program_versions
from hip3.venue.hyperliquid.signing import TradingKey

LEAST_BYTES = 4 * PART_BYTES
"""Ours: the journal of one run, and as much for its store and spool."""
AMPLE_BYTES = LEAST_BYTES + 2 * PART_BYTES * KEPT_RUNS
"""The journals of every run that is kept besides."""
MIB = 1 << 20

SameKey = Callable[[], TradingKey | None]


def free_bytes(folder: Path) -> int:
    """What the user may still write to the disk of a folder. Raises OSError."""
    return shutil.disk_usage(folder).free


def check_key(loaded: LoadedSettings, load_key: SameKey) -> tuple[Finding, TradingKey | None]:
    """KEY-1, KEY-2, KEY-5: the key can be had, is that of `signer_address`, and was not replaced before."""
    check, settings = PreflightCheck.KEY, loaded.settings
    try:
        key = load_key()
    except KeySourceError as e:
        return failed(check, str(e)), None
    if key is not None:
        what = "that of signer_address" if settings.signer_address else "signer_address is not set to compare it with"
        return passed(check, f"address {key.address}, {what}, not replaced before"), key
    if settings.mode is Mode.OBSERVATION:
        return passed(check, "none, observation signs nothing"), None
    if settings.paper is not None and settings.info_url is None:
        return passed(check, "none named; the embedded exchange gets a throw-away key at each start"), None
    return failed(check, "signer.key_source is not set", "name the place of the API wallet's key"), None


def check_hash(loaded: LoadedSettings, account: str | None, state: Path) -> Finding:
    """CFG-6: the hash, and whether the last run of the account had another."""
    check = PreflightCheck.HASH
    if account is None:
        return passed(check, f"{loaded.hash}, no earlier run to compare it with: there is no account")
    repository = None
    try:
        repository = everything_in(store_place(loaded.settings, state))
        values = repository.state(account_of_store(account))
    except StoreMissing:
        return passed(check, f"{loaded.hash}, the first run of this state folder")
    except (StoreError, OSError) as e:
        return warned(check, f"{loaded.hash}; that of the last run is not known: {e}")
    finally:
        if repository is not None:
            repository.close()
    last = Remembered(values).config_hash
    if last is None or last == loaded.hash:
        return passed(check, f"{loaded.hash}, {'as in the last run' if last else 'no earlier run of this account'}")
    return warned(
        check, f"{loaded.hash}, the last run had {last}", "CONFIG_HASH_CHANGED: the start waits for hip3 ops promote"
    )


def check_store(settings: Settings, state: Path, own_holder: str | None = None) -> Iterator[Finding]:
    """STO-1, STO-5: the database is read, its version known, and no other process writes to it.

    `own_holder` is the process that may hold the lock: the bot that is being validated.
    """
    try:
        place = store_place(settings, state)
    except StoreError as e:
        yield failed(PreflightCheck.STORE, str(e))
        return
    yield from check_place(place, own_holder)


def check_place(place: Place, own_holder: str | None = None) -> Iterator[Finding]:
    """The same of a place; its lock is looked at whatever the database says."""
    yield from _check_database(place)
    yield _check_lock(place, own_holder)


def _check_database(place: Place) -> Iterator[Finding]:
    store, schema = PreflightCheck.STORE, PreflightCheck.SCHEMA
    try:
        newest = program_versions().head
        engine = open_reader(place)
    except StoreMissing:
        yield passed(store, f"{place.name}: none yet, the start makes it")
        yield passed(schema, f"{newest}, new")
        return
    except StoreUnusable as e:
        yield failed(store, str(e))
        return
    except SchemaVersionMismatch as e:
        yield failed(schema, str(e))
        return
    try:
        with connect(engine, place) as connection:
            version = check_version(connection, program_versions(), place.name)
        yield _spool(place) if version == newest else passed(store, place.name)
        yield _version(version, newest)
    except SchemaVersionMismatch as e:
        yield passed(store, place.name)
        yield failed(schema, str(e))
    except StoreError as e:
        yield failed(store, str(e))
    finally:
        engine.dispose()


def _spool(place: Place) -> Finding:
    """What waits in front of the database can be applied to it, as the start will do."""
    repository = everything_in(place)
    try:
        repository.accounts()
    finally:
        repository.close()
    trouble = None if repository.spool is None else repository.spool.trouble
    if trouble is not None:
        return failed(PreflightCheck.STORE, trouble)
    return passed(PreflightCheck.STORE, place.name)


def _version(found: str | None, newest: str) -> Finding:
    if found is None:
        return passed(PreflightCheck.SCHEMA, f"{newest}, new in an empty database")
    if found == newest:
        return passed(PreflightCheck.SCHEMA, found)
    return warned(
        PreflightCheck.SCHEMA, f"{found}, this program works with {newest}", "the start migrates it after a backup"
    )


def _check_lock(place: Place, own_holder: str | None) -> Finding:
    check = PreflightCheck.LOCK
    try:
        holder = lock_holder(place.lock_file)
        session = None if holder is not None or place.file is not None else _session(place)
    except StoreError as e:
        return failed(check, str(e))
    if holder is not None and holder == own_holder:
        return passed(check, f"{place.lock_file}: held by process {holder}, the bot that is validated")
    if holder is not None or (session is not None and own_holder is None):
        who = f"process {holder}" if holder is not None else session
        remedy = f"stop it first, or give each bot a {STATE_VAR} or a database of its own"
        return failed(check, f"{place.lock_file}: {who} writes to this store", remedy)
    return passed(check, f"{place.lock_file}: free")


def _session(place: Place) -> str | None:
    engine = open_reader(place)
    try:
        with connect(engine, place) as connection:
            return server_lock_holder(connection)
    finally:
        engine.dispose()


def check_disk(state: Path, free: Callable[[Path], int]) -> Finding:
    """There is room below the state folder, and it can be written."""
    check = PreflightCheck.DISK
    folder = next(p for p in (state, *state.parents) if p.exists())
    another = f"or set {STATE_VAR} to another folder"
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return failed(check, f"{state}: {folder} cannot be written", f"correct its rights, {another}")
    try:
        room = free(folder)
    except OSError as e:
        return failed(check, f"{state}: the room of its disk is not known: {e.strerror or e}", f"look at it, {another}")
    value = f"{state}: {room // MIB} MiB free"
    if room < LEAST_BYTES:
        return failed(check, f"{value}, at least {LEAST_BYTES // MIB} are needed", f"make room, {another}")
    if room < AMPLE_BYTES:
        return warned(check, f"{value}, a run with its predecessors may need {AMPLE_BYTES // MIB}", f"make room, {another}")
    return passed(check, value)
