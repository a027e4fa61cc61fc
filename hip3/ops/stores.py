"""Which store a reading command reads: the one of the configuration, else every one of the state folder, newest run first.

Reads need no bot and no lock and change nothing: the database is opened read-only, and what the spool has besides is laid
over it in the reader's own memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from hip3.ops.keep import FOLDER, store_place
from hip3.settings import load_for_check
from hip3.settings.errors import NotAllowed
from hip3.settings.fields import PostgresUrl
from hip3.settings.load import CONFIG_VAR
from hip3.store.database import NO_SPOOL, Place, place_of_file, place_of_url
from hip3.store.errors import StoreUnusable, os_words
from hip3.store.repository import Repository, RunRow, everything_in
from hip3.venue.hyperliquid.endpoints import Network


@frozen
class Source:
    """Where a store is, and the network whose records are in it; "" where its name does not say."""

    network: str
    place: Place


@frozen
class OpenStore:
    """A store that is being read. `runs` of all its accounts, the oldest first."""

    source: Source
    reader: Repository
    runs: tuple[RunRow, ...]

    @property
    def name(self) -> str:
        return self.source.place.name

    @property
    def newest_ms(self) -> int:
        """When its last run began; 0 where nothing ever ran."""
        return self.runs[-1].started_ms if self.runs else 0

    @property
    def in_spool(self) -> int | None:
        """Commits that are seen here and that only the spool has; None where it cannot be read: then there may be more."""
        spool = self.reader.spool
        return None if spool is None or spool.trouble is not None else spool.groups


def known_sources(state: Path, config: Path | None, env: Mapping[str, str]) -> list[Source]:
    """The store of `config` or of HIP3_CONFIG where one is named, else those of the state folder. None that is not there.

    Raises ConfigError.
    """
    if config is not None or CONFIG_VAR in env:
        settings = load_for_check(config, env).settings
        found = [Source(settings.network.value, store_place(settings, state))]
    else:
        found = [source_at(str(path)) for path in _databases(state / FOLDER)]
    return [s for s in found if s.place.file is None or s.place.file.exists()]


def _databases(folder: Path) -> list[Path]:
    """Raises StoreUnusable for a folder that cannot be read: another user's, or a file."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(".db"))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise StoreUnusable(f"{folder}: {os_words(e)}") from e


def source_at(text: str) -> Source:
    """The store at a path, or at a `postgresql://` URL. Raises StoreUnusable for another URL, or one with a password."""
    if "://" in text:
        try:
            return Source("", place_of_url(PostgresUrl().parse(text), NO_SPOOL))
        except NotAllowed as e:
            raise StoreUnusable(f"--store: expected {e.allowed}, or a file") from None
    stem = Path(text).stem
    return Source(stem if stem in {n.value for n in Network} else "", place_of_file(Path(text)))


@contextmanager
def reading(sources: Sequence[Source]) -> Iterator[list[OpenStore]]:
    """The stores, the one that ran last first; closed at the end. Raises the errors of the store."""
    readers = [(source, everything_in(source.place)) for source in sources]
    try:
        opened = [OpenStore(source, reader, _runs(reader)) for source, reader in readers]
        yield sorted(opened, key=lambda o: (-o.newest_ms, o.name))
    finally:
        for _, reader in readers:
            reader.close()


def _runs(reader: Repository) -> tuple[RunRow, ...]:
    runs = (run for account in reader.accounts() for run in reader.runs(account))
    return tuple(sorted(runs, key=lambda r: (r.started_ms, r.run_id)))
