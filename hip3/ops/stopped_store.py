"""The store of a bot that does not run, as far as an operator's command needs it: read, judge, write, close."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from attrs import evolve

from hip3.core.clock import Clock
from hip3.core.remembered import Remembered, resume_limits
from hip3.core.risk import DailyLimits
from hip3.ops.commands import Answer, Request
from hip3.ops.keep import CLOSE_S, store_config, store_place
from hip3.ops.stopped import obey_stopped
from hip3.settings.load import LoadedSettings
from hip3.settings.schema import Settings
from hip3.store.apply import BY_HAND
from hip3.store.errors import StoreMissing
from hip3.store.memory import remember
from hip3.store.repository import everything_in
from hip3.store.store import RunInfo, open_store


def kept_memory(settings: Settings, state: Path, now_ms: int) -> Remembered:
    """What the runs of the configured account left. Raises StoreError; StoreMissing also where there is no account."""
    if settings.user_address is None:
        raise StoreMissing(
            "this configuration names no user_address: each of its runs has its own; --config names the bot's"
        )
    repository = everything_in(store_place(settings, state))
    try:
        return remember(repository, settings.user_address.lower(), now_ms)
    finally:
        repository.close()


def today(settings: Settings, memory: Remembered, now_ms: int) -> DailyLimits:
    """The day's counts, as the next run would begin with them."""
    limits = DailyLimits(settings.safety.max_daily_trades, settings.safety.auto_stop_loss_usd)
    resume_limits(limits, memory, now_ms)
    return limits


def command_stopped(loaded: LoadedSettings, state: Path, request: Request, who: str, clock: Clock) -> Answer:
    """Does one command on the store of a stopped bot. Raises StoreError, StorageUnavailable: then nothing was changed."""
    settings, now = loaded.settings, clock.wall_ms()
    kept_memory(settings, state, now)  # a store that does not exist is not made by asking
    assert settings.user_address is not None
    account = settings.user_address.lower()
    run = RunInfo(account=account, run_id=f"{BY_HAND}{now:x}", config_hash=loaded.hash, pid=os.getpid())
    config = evolve(store_config(settings, state), backups=None, trail_days=None)  # a command is not the day's upkeep
    store = open_store(store_place(settings, state), run, clock, config)
    try:
        memory = remember(store.repository, account, now)
        obeyed = obey_stopped(request, who, memory, today(settings, memory, now), now)
        for record in obeyed.records:
            store.recorder.put(record)
        store.recorder.commit()

        async def write() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(store.writer.run)
                await store.drain_and_close(CLOSE_S)
                nursery.cancel_scope.cancel()

        trio.run(write)
    finally:
        store.close()
    return obeyed.answer
