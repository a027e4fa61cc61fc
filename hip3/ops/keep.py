"""The store of a run: opened before anything is sent, closed last (DESIGN 3, ring 0; SPEC 18).

One store a network, in the state folder or on a server; within it everything belongs to an account. Paper makes an account
for each run unless it was given a key, so there nothing is gone on from.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import trio
from attrs import evolve, frozen

from hip3.core.clock import Clock
from hip3.core.remembered import NOTHING, RUN_KEY, Remembered
from hip3.ops.heartbeat import NoBeat, read_beat
from hip3.ops.session import Keeping
from hip3.settings.schema import Settings
from hip3.store.database import Place, place_of_file, place_of_url
from hip3.store.memory import remember
from hip3.store.store import OnUpkeep, RunInfo, Store, StoreConfig, open_store
from hip3.store.writer import OnTrouble, RunSync, in_thread

FOLDER = "store"
CLOSE_S = 10.0
"""How long the way out waits for what is not in the database yet; it is in the spool all the while."""
OBSERVER = "observation"
"""Stands for the account where there is none."""


def store_place(settings: Settings, state: Path) -> Place:
    """Where the store of these settings is."""
    folder, network = state / FOLDER, settings.network.value
    if settings.store.url is not None:
        return place_of_url(settings.store.url, folder / f"{network}.spool")
    return place_of_file(folder / f"{network}.db")


def backup_folder(settings: Settings, state: Path) -> Path:
    """Each network has its own: a backup's name says when, not of what."""
    return state / FOLDER / "backups" / settings.network.value


def store_config(settings: Settings, state: Path) -> StoreConfig:
    keys = settings.store
    backups = backup_folder(settings, state) if keys.backup_keep else None
    return StoreConfig(
        queue_rows=keys.queue_rows,
        group_commit_ms=keys.group_commit_ms,
        backups=backups,
        backup_keep=keys.backup_keep,
        trail_days=keys.trail_days,
    )


@frozen
class Kept:
    """An open store and what a session needs of it."""

    store: Store
    keeping: Keeping


def account_of_store(account: str | None) -> str:
    """The account under which records are kept: in lower case, and a stand-in for none."""
    return account.lower() if account is not None else OBSERVER


def store_view(store: Store) -> dict[str, object]:
    """How the store of a run is, for `hip3 status`: `file` is None for a server, `trouble` while the database works."""
    file = store.place.file
    return {
        "place": store.place.name,
        "file": None if file is None else str(file),
        "waiting_rows": store.waiting_rows,
        "peak_rows": store.peak_rows,
        "most_rows": store.writer.spool.max_rows,
        "trouble": store.writer.trouble,
    }


async def keep(
    settings: Settings,
    config_hash: str,
    account: str | None,
    state: Path,
    clock: Clock,
    *,
    on_trouble: OnTrouble,
    on_upkeep: OnUpkeep,
    run_sync: RunSync = in_thread,
) -> Kept:
    """Opens the store for one run of `account`. Raises StoreError, with nothing changed."""
    run_id = clock.wall_ms()
    owner = account_of_store(account)
    run = RunInfo(account=owner, run_id=f"{run_id:x}", config_hash=config_hash, pid=os.getpid())
    place, config = store_place(settings, state), store_config(settings, state)
    opening = partial(open_store, place, run, clock, config, run_sync=run_sync, on_trouble=on_trouble, on_upkeep=on_upkeep)
    store: Store = await trio.to_thread.run_sync(opening) if run_sync is in_thread else opening()

    def memory(_account: str | None) -> Remembered:
        if account is None:
            return NOTHING
        found = remember(store.repository, owner, clock.wall_ms())
        return evolve(found, alive_ms=_alive_ms(state, found.values.get(RUN_KEY, "")))

    return Kept(store, Keeping(store.recorder, memory, config_hash, run_id))


def _alive_ms(state: Path, last_run: str) -> int | None:
    """Our time of the last heartbeat of the run that `RUN_KEY` names; None where the file is another's, or none."""
    try:
        beat = read_beat(state)
    except NoBeat:
        return None
    return beat.wall_ms if str(beat.run_id) == last_run.partition("|")[0] else None
