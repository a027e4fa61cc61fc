"""The bot's heartbeat: a small file in the state folder, replaced at a fixed period, for a watchdog beside it (DEAD-1).

It is written by a task of its own in the bot's event loop: where the loop hangs, the file grows old. A bot that ended says
so in its last one. Nothing that trades reads it.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import trio
from attrs import asdict, define, field, frozen

from hip3.bot import Bot
from hip3.fsm.lifecycle import LifecycleState
from hip3.ops.files import replace_file

FILE = "heartbeat.json"
MOST_BYTES = 4096
"""A beat has some 400."""


@frozen
class Beat:
    """One heartbeat. `account` is None where the run can open nothing; `wall_ms` Unix ms, `mono_ms` the machine's."""

    run_id: int
    seq: int
    pid: int
    wall_ms: int
    mono_ms: int
    network: str
    account: str | None
    signer: str | None
    state: str
    exposed: bool
    positions: int
    orders: int

    @property
    def has_ended_flat(self) -> bool:
        """The run is over and its certificate says flat."""
        return self.state == LifecycleState.STOPPED.name


class NoBeat(Exception):
    """There is no heartbeat that can be read: where, and why."""


def read_beat(state: Path) -> Beat:
    """The newest heartbeat of a state folder. Raises NoBeat for a missing or damaged one."""
    path = state / FILE
    try:
        data = path.read_bytes()
    except OSError as e:
        raise NoBeat(f"{path}: {e.strerror or e}") from None
    if len(data) > MOST_BYTES:
        raise NoBeat(f"{path}: damaged: {len(data)} bytes, more than {MOST_BYTES}")
    try:
        return msgspec.json.decode(data, type=Beat)
    except (ValueError, msgspec.DecodeError) as e:
        raise NoBeat(f"{path}: damaged: {e}") from None


@define
class Heart:
    """Writes the heartbeats of one bot."""

    bot: Bot
    state: Path
    pid: int
    period_ms: int
    _seq: int = field(default=0, init=False)
    _is_failing: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            self.beat()
            await trio.sleep(self.period_ms / 1000)

    def beat(self) -> None:
        """Writes one; a disk that fails is told of once, for a watchdog will take the bot for dead."""
        self._seq += 1
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.state / FILE, json.dumps(asdict(self._now())) + "\n")
        except OSError as e:
            why = f"{self.state / FILE}: {e.strerror or e}"
            if not self._is_failing:
                self.bot.note("error", "heartbeat_not_written", why=why)
            self._is_failing = True
            self.bot.disconnect.on_heart(why)
        else:
            self._is_failing = False
            self.bot.disconnect.on_heart(None)

    def _now(self) -> Beat:
        bot, trader = self.bot, self.bot.trader
        sends = trader is not None and bot.run_mode.sends
        return Beat(
            run_id=bot.run_id,
            seq=self._seq,
            pid=self.pid,
            wall_ms=bot.io.machine.wall_ms(),
            mono_ms=bot.io.clock.mono_ms(),
            network=bot.settings.network.value,
            account=trader.account.user.lower() if trader is not None and sends else None,
            signer=trader.account.signer.address.lower() if trader is not None and sends else None,
            state=bot.lifecycle.state.name,
            exposed=bot.is_exposed,
            positions=len(bot.ledger.held()),
            orders=len(bot.ledger.orders),
        )
