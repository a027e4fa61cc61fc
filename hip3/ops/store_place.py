"""Which store a configuration means: its database, its spool and its backups, below the state folder (SPEC 18)."""

from __future__ import annotations

from pathlib import Path

from hip3.settings.schema import Settings
from hip3.store.database import Place, place_of_file, place_of_url
from hip3.store.store import StoreConfig

FOLDER = "store"
BACKUPS = "backups"


def store_place(settings: Settings, state: Path) -> Place:
    """The database of `store.url`, else a file of the network; the spool is always on this machine."""
    file = state / FOLDER / f"{settings.network.value}.db"
    if settings.store.url is None:
        return place_of_file(file)
    return place_of_url(settings.store.url, Path(f"{file}.spool"))


def backup_folder(settings: Settings, state: Path) -> Path:
    """Where the network's backups are."""
    return state / FOLDER / BACKUPS / settings.network.value


def store_config(settings: Settings, state: Path) -> StoreConfig:
    """How the store is kept."""
    keys = settings.store
    return StoreConfig(
        queue_rows=keys.queue_rows,
        group_commit_ms=keys.group_commit_ms,
        backups=backup_folder(settings, state),
        backup_keep=keys.backup_keep,
    )
