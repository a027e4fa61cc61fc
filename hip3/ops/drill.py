"""Rehearsals of what an operator must be able to rely on: kill, disconnect, watchdog, restart (OPS-8).

Every part is a process of its own and is used as an operator would: `hip3 run`, `hip3 ops`, `hip3 watchdog`, `hip3 flatten`.
A drill reaches into none of them; the one thing of its own is a relay before the paper exchange, whose lines it can cut.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field, frozen

from hip3.ops.drill_relay import Relay
from hip3.ops.heartbeat import Beat, NoBeat, read_beat
from hip3.venue.hyperliquid.signing import TradingKey

POLL_S = 0.05
START_S = 30.0
"""Ours: for a process to come up on a busy machine."""
STOP_S = 20.0  # the way out of a bot (END-1)
FLAT_S = 60.0  # as the bot's own bound of a close (RUN-1, item 6)
WATCHDOG_S = 5.0  # DEAD-1: flat within stale_ms and these
BOT_KEY, WATCHDOG_KEY = "HIP3_DRILL_BOT_KEY", "HIP3_DRILL_WATCHDOG_KEY"
"""Environment variables of the throw-away keys on paper."""
PAPER_CONFIG = """network = "paper"
info_url = "{url}"
ws_url = "{ws}"
user_address = "{account}"
signer_address = "{signer}"
[signer]
key_source = {{type = "env_var", var_name = "{key}"}}
[safety]
startup_policy = "auto"
[detector]
dedup = false
direction = false
[watchdog]
heartbeat_ms = 200
stale_ms = 2000
[[markets]]
coin = "xyz:NVDA"
threshold_bps = 0.1
[[markets]]
coin = "xyz:TSLA"
threshold_bps = 0.1
"""
"""Takes the first quote that is better than the oracle at all, so that a position is there in seconds."""


class DrillFailed(Exception):
    """What the rehearsal expected and did not see."""


@frozen
class Site:
    """Where a drill takes place. `url` is that of REST where it is not the network's own; `relay` is there on paper only."""

    network: str
    account: str
    config: Path
    stale_ms: int
    watchdog_key: str
    """The environment variable with the watchdog's own key."""
    url: str | None = None
    relay: Relay | None = None
    promotes: bool = False
    """The bot waits for an operator's promotion (`safety.startup_policy` is manual)."""


@define
class Stage:
    """The processes of one drill, their folder and what was seen so far."""

    folder: Path
    env: Mapping[str, str]
    wait_s: float
    """How long the bot may take to hold a position."""
    steps: list[str] = field(factory=list)
    _processes: list[trio.Process] = field(factory=list, init=False)

    def saw(self, what: str) -> None:
        self.steps.append(what)

    async def start(self, name: str, *arguments: str) -> trio.Process:
        """A command of this program in the background; its output goes to `NAME.log` in the drill's folder."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "hip3", *arguments],
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=self.folder,
                start_new_session=True,  # Ctrl+C at the terminal is the drill's: a bot would take it for the first of two
            )
        self._processes.append(process)
        return process

    async def call(self, *arguments: str) -> tuple[int, str]:
        """A command to its end: exit code and standard output."""
        ended = await trio.run_process(
            [sys.executable, "-m", "hip3", *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            start_new_session=True,
            env=self.env,
            cwd=self.folder,
        )
        return ended.returncode, ended.stdout.decode(errors="replace")

    def log(self, name: str) -> str:
        try:
            return (self.folder / f"{name}.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def beat(self) -> Beat | None:
        try:
            return read_beat(self.folder)
        except NoBeat:
            return None

    def is_exposed(self) -> bool:
        """True where the newest heartbeat tells of a position."""
        beat = self.beat()
        return beat is not None and beat.positions > 0

    async def until(self, what: str, condition: Callable[[], bool], within_s: float) -> None:
        """Waits for another process. Raises DrillFailed."""
        with trio.move_on_after(within_s) as scope:
            while not condition():  # noqa: ASYNC110 - other processes announce nothing
                await trio.sleep(POLL_S)
        if scope.cancelled_caught:
            raise DrillFailed(f"{what}: not within {within_s:g} s; {self.folder} has the logs")

    # ---- what an operator does

    async def run_bot(self, site: Site, *, exposed: bool = True, trades: bool = True) -> trio.Process:
        """`hip3 run`, promoted where it `trades`, until it holds a position, or until it is there. Raises DrillFailed."""
        bot = await self.start("bot", "run", "--config", str(site.config), "--plain")

        def is_there() -> bool:
            if bot.poll() is not None:
                raise DrillFailed(f"the bot ended with exit code {bot.returncode}: {self.log('bot')[-400:]}")
            beat = self.beat()
            return beat is not None and beat.pid == bot.pid

        await self.until("the bot's heartbeat", is_there, START_S)
        if site.promotes and trades:
            await self.promote()
        if exposed:
            await self.until("a position of the bot", self.is_exposed, self.wait_s)
        self.saw(f"hip3 run: process {bot.pid}{' holds a position' if exposed else ''}")
        return bot

    async def end_bot(self, bot: trio.Process) -> None:
        """SIGTERM; it must end flat. Raises DrillFailed."""
        bot.send_signal(signal.SIGTERM)
        with trio.move_on_after(FLAT_S):
            code = await bot.wait()
            if code != 0:
                raise DrillFailed(f"the bot ended with exit code {code}: {self.log('bot')[-400:]}")
            self.saw("SIGTERM: exit code 0")
            return
        raise DrillFailed(f"the bot did not end within {FLAT_S:g} s after SIGTERM")

    async def kill_bot(self, bot: trio.Process) -> None:
        """`kill -9` while a position is held."""
        bot.kill()
        await bot.wait()
        self.saw(f"kill -9 of process {bot.pid}")

    async def ops(self, command: str) -> dict[str, Any]:
        """`hip3 ops COMMAND`, and its answer. Raises DrillFailed where there is none."""
        code, out = await self.call("ops", command, "--reason", "drill", "--json")
        try:
            answer: dict[str, Any] = json.loads(out)
        except ValueError:
            raise DrillFailed(f"hip3 ops {command}: exit code {code}, no answer") from None
        return answer

    async def promote(self) -> None:
        """`hip3 ops promote` until it is granted, which it is once the bot is READY. Raises DrillFailed."""
        answer: dict[str, Any] = {}
        with trio.move_on_after(START_S):
            while not (answer := await self.ops("promote")).get("ok"):  # noqa: ASYNC110 - refused until it is READY
                await trio.sleep(10 * POLL_S)
        if not answer.get("ok"):
            raise DrillFailed(f"promote is refused for {START_S:g} s: {answer.get('refused')}")
        self.saw("hip3 ops promote: granted")

    async def unhalt(self) -> None:
        """`hip3 ops unhalt` until it is granted, which it is only with a flat certificate. Raises DrillFailed."""
        answer: dict[str, Any] = {}
        with trio.move_on_after(FLAT_S):
            while not (answer := await self.ops("unhalt")).get("ok"):  # noqa: ASYNC110 - refused until it is flat
                await trio.sleep(10 * POLL_S)
        if not answer.get("ok"):
            raise DrillFailed(f"unhalt is refused for {FLAT_S:g} s: {answer.get('refused')}")
        self.saw(f"hip3 ops unhalt: {answer['did']}")

    async def verify_flat(self, site: Site) -> None:
        """`hip3 flatten --verify`: the venue shows nothing. Raises DrillFailed."""
        where = () if site.url is None else ("--url", site.url)
        code, out = await self.call("flatten", "--account", site.account, "--network", site.network, *where, "--verify")
        if code != 0:
            raise DrillFailed(f"hip3 flatten --verify: exit code {code}: {out[-400:]}")
        self.saw("hip3 flatten --verify: the venue shows no order and no position")

    async def stop_all(self) -> None:
        """Ends what was started, newest first; each within STOP_S, then by SIGKILL."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
            with trio.move_on_after(STOP_S, shield=True) as scope:
                await process.wait()
            if scope.cancelled_caught:
                process.kill()


# ---- the drills


async def drill_kill(stage: Stage, site: Site) -> None:
    """OPERATOR_KILL while exposed: flat, unhalted, ended."""
    bot = await stage.run_bot(site)
    answer = await stage.ops("kill")
    if answer.get("mode") != "HALT":
        raise DrillFailed(f"hip3 ops kill: {answer}")
    stage.saw("hip3 ops kill: HALT, OPERATOR_KILL")
    await stage.unhalt()
    await stage.verify_flat(site)
    await stage.end_bot(bot)


async def drill_disconnect(stage: Stage, site: Site) -> None:
    """The WebSocket is cut while exposed: HALT by `safety.halt_on_disconnect`, flat over REST."""
    if site.relay is None:
        raise DrillFailed("only on paper: the connection to another venue is encrypted and cannot be cut from here")
    bot = await stage.run_bot(site)
    stage.saw(f"{site.relay.cut()} connections cut")
    await stage.until("HALT by WS_DISCONNECT", lambda: "HALT: WS_DISCONNECT" in stage.log("bot"), START_S)
    stage.saw("HALT: WS_DISCONNECT, by safety.halt_on_disconnect = exposed")
    flat = "HALT: the venue shows no order and no position"
    await stage.until("the flatten of the HALT", lambda: flat in stage.log("bot"), FLAT_S)
    stage.saw(flat)
    await stage.end_bot(bot)
    await stage.verify_flat(site)


async def drill_watchdog(stage: Stage, site: Site) -> None:
    """`kill -9` while exposed: the watchdog flattens within stale_ms and 5 s."""
    bot = await stage.run_bot(site, exposed=False)
    dog = await stage.start("watchdog", "watchdog", "--config", str(site.config), "--env-var", site.watchdog_key)
    await stage.until("a watchdog that sees the bot", lambda: "is well" in stage.log("watchdog"), START_S)
    await stage.until("a position of the bot", stage.is_exposed, stage.wait_s)
    await stage.kill_bot(bot)
    began = trio.current_time()
    within_s = site.stale_ms / 1000 + WATCHDOG_S
    await stage.until("the watchdog's flatten", lambda: "FLAT: account" in stage.log("watchdog"), within_s)
    stage.saw(f"the watchdog flattened after {trio.current_time() - began:.1f} s, at most {within_s:g} s")
    await stage.verify_flat(site)
    dog.terminate()
    await dog.wait()


async def drill_restart(stage: Stage, site: Site) -> None:
    """`kill -9` while exposed, a new start, which ends flat; the audit chain is whole."""
    await stage.kill_bot(await stage.run_bot(site))
    bot = await stage.run_bot(site, exposed=False, trades=False)
    await stage.until("READY after the restart", lambda: stage.log("bot").count("READY: ") >= 2, START_S)
    taken_over = [line for line in stage.log("bot").splitlines() if "going on from the last run" in line]
    if not taken_over:
        raise DrillFailed("the second run did not go on from the first: no line 'going on from the last run'")
    stage.saw(f"started again: {taken_over[-1].partition('  ')[2]}; READY")
    await stage.end_bot(bot)
    await stage.verify_flat(site)
    code, out = await stage.call("audit", "verify", "--config", str(site.config))
    if code != 0:
        raise DrillFailed(f"hip3 audit verify: exit code {code}: {out[-400:]}")
    stage.saw("hip3 audit verify: the chain is whole")


DRILLS: Mapping[str, Callable[[Stage, Site], Awaitable[None]]] = {
    "kill": drill_kill,
    "disconnect": drill_disconnect,
    "watchdog": drill_watchdog,
    "restart": drill_restart,
}


@asynccontextmanager
async def paper_site(stage: Stage, account: str, keys: tuple[str, str]) -> AsyncIterator[Site]:
    """`hip3 exchange` as a process of its own, a relay before it, and a configuration that trades at once."""
    signers = [TradingKey.from_text(key).address for key in keys]
    agents = [
        a
        for signer, name in zip(signers, ("bot", "watchdog"), strict=True)
        for a in ("--agent", f"{account}={signer}={name}")
    ]
    await stage.start("exchange", "exchange", "--port", "0", "--fund", f"{account}=1000", *agents)
    await stage.until("the exchange", lambda: _port(stage) is not None, START_S)
    port = _port(stage)
    assert port is not None
    async with trio.open_nursery() as nursery:
        relay = Relay(port)
        own_port: int = await nursery.start(relay.run)
        url, path = f"http://127.0.0.1:{port}", stage.folder / "bot.toml"
        ws = f"ws://127.0.0.1:{own_port}/ws"
        path.write_text(PAPER_CONFIG.format(url=url, ws=ws, account=account, signer=signers[0], key=BOT_KEY))
        yield Site("paper", account, path, 2000, WATCHDOG_KEY, url, relay)
        nursery.cancel_scope.cancel()


def _port(stage: Stage) -> int | None:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", stage.log("exchange"))
    return None if found is None else int(found[1])


def throw_away() -> tuple[str, tuple[str, str]]:
    """An account's address and two agent keys that nobody has; for the exchange of one drill."""
    return TradingKey(secrets.token_bytes(32)).address.lower(), ("0x" + secrets.token_hex(32), "0x" + secrets.token_hex(32))


def child_env(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a drill's processes: their state is the drill's folder."""
    return {**os.environ, "HIP3_STATE_DIR": str(folder), "PYTHONUNBUFFERED": "1", **extra}
