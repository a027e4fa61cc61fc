"""What `[store]` of the configuration decides: where records go, how many may wait, how they are written and copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hip3.core.records import StorageUnavailable
from hip3.ops.keep import backup_folder, store_config, store_place
from hip3.settings.schema import Settings, StoreKeys
from hip3.store.backup import backups_in
from hip3.store.store import Store, open_store
from hip3.store.writer import inline
from tests.store.store_builders import HandClock, intent, kill, put_all, run_info

DAY_MS = 86_400_000


def settings_with(**store: object) -> Settings:
    return Settings(store=StoreKeys(**store))  # type: ignore[arg-type]  # the keys of the section


def opened(settings: Settings, state: Path, clock: HandClock | None = None) -> Store:
    place, config = store_place(settings, state), store_config(settings, state)
    return open_store(place, run_info(), clock or HandClock(), config, run_sync=inline)


@pytest.mark.parametrize(("rows", "fit"), [(2, 2), (5, 5)])
def test_the_bound_is_where_the_store_refuses(tmp_path: Path, rows: int, fit: int) -> None:
    """STO-4: store.queue_rows records may wait for the database."""
    store = opened(settings_with(queue_rows=rows), tmp_path)
    for n in range(fit):
        put_all(store, intent(n))
    with pytest.raises(StorageUnavailable):
        put_all(store, intent(fit))
    kill(store)


@pytest.mark.parametrize(("wait_ms", "transactions"), [(0, 10), (1000, 1)])
async def test_the_group_commit_decides_how_many_transactions_there_are(
    tmp_path: Path, wait_ms: int, transactions: int, autojump_clock: MockClock
) -> None:
    """STO-4: what comes within store.group_commit_ms shares a transaction."""
    store = opened(settings_with(group_commit_ms=wait_ms), tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        for n in range(10):
            put_all(store, intent(n))
            await trio.sleep(0.05)
        assert await store.drain_and_close(5)
    assert store.writer.transactions == transactions


async def test_so_many_daily_backups_are_kept(tmp_path: Path, autojump_clock: MockClock) -> None:
    """STO-6: a backup for each day of UTC while the bot runs; the newest store.backup_keep stay."""
    clock, settings = HandClock(), settings_with(backup_keep=2)
    store = opened(settings, tmp_path, clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.writer.run)
        for _ in range(4):
            await trio.sleep(130)
            clock.now_ms += DAY_MS
        assert await store.drain_and_close(5)
    found = [path.name for path in backups_in(backup_folder(settings, tmp_path))]
    assert found == ["backup-20260104-0000.db", "backup-20260103-0000.db"]
