"""The watchdog beside the whole bot, in virtual time: the bot dies in any way, and the account is flattened (DEAD-1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from attrs import define, field

from hip3.core.ids import OrderSide
from hip3.io.certificate import FlatCertificate
from hip3.io.rest import http_client
from hip3.ops.certificates import FOLDER, keep_in
from hip3.ops.exit_config import exit_config
from hip3.ops.flatten_tool import FlattenOrder, make_tool
from hip3.ops.heartbeat import FILE, Heart, read_beat
from hip3.ops.stop import Stop
from hip3.ops.watchdog import SharedSigner, Watchdog
from hip3.settings.schema import Settings
from hip3.simulate.world import World
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.signing import Signer, TradingKey
from tests.app.failures.scenes import (
    NVDA,
    SNDK,
    URL,
    another_hand,
    calm,
    holding,
    script,
    settings_of,
    trading,
    world_of,
)

GUARD = TradingKey((99).to_bytes(32, "big"))


class Counting(httpx.AsyncBaseTransport):
    """Counts what is asked through it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return await self.inner.handle_async_request(request)


@define
class Kennel:
    """A bot with a heartbeat and a watchdog with a key of its own."""

    world: World
    state: Path
    counting: Counting
    dog: Watchdog
    heart: trio.CancelScope
    said: list[tuple[str, str]]
    ended: trio.Event = field(factory=trio.Event)

    async def kill_bot(self) -> None:
        """`kill -9`: no way out, no last heartbeat."""
        self.heart.cancel()
        await self.world.kill()

    def certificates(self) -> list[Path]:
        return sorted((self.state / FOLDER).glob("*.json")) if (self.state / FOLDER).exists() else []


@asynccontextmanager
async def kennel(
    tmp_path: Path, settings: Settings, *coins: str, key: Callable[[World], Signer] | None = None
) -> AsyncIterator[Kennel]:
    """The bot trades `coins` once each; the watchdog runs from the start."""
    async with world_of(settings, trading(*coins) if coins else script(calm(SNDK))) as world, trio.open_nursery() as nursery:
        await world.started.wait()
        world.exchange.approve_agent(world.user, GUARD.address, world.clock.wall_ms() + 86_400_000, "watchdog")
        heart = Heart(world.bot, tmp_path, 4711, settings.watchdog.heartbeat_ms)
        scope = trio.CancelScope()

        async def beats() -> None:
            with scope:
                await heart.run()
            if world.result is not None:
                heart.beat()

        nursery.start_soon(beats)
        counting = Counting(world.memory.transport())
        async with http_client(counting) as client:
            signer = key(world) if key else Signer(GUARD, Network.PAPER)
            order = FlattenOrder(world.user.lower(), URL, exit_config(settings), signer)
            said: list[tuple[str, str]] = []

            def keep(certificate: FlatCertificate) -> str | None:
                return keep_in(tmp_path, 4712)(certificate)

            tool = make_tool(order, client, world.clock)
            stale_ms = settings.watchdog.stale_ms
            dog = Watchdog(
                tool, lambda: read_beat(tmp_path), stale_ms, world.clock, Stop(), lambda *words: said.append(words), keep
            )
            k = Kennel(world, tmp_path, counting, dog, scope, said)

            async def guard() -> None:
                await dog.run()
                k.ended.set()

            nursery.start_soon(guard)
            yield k
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stale_ms", [4000, 10_000])
async def test_a_killed_bot_that_holds_is_flattened_when_its_heartbeat_is_old(
    autojump_clock: object, tmp_path: Path, stale_ms: int
) -> None:
    """DEAD-1, END-4: not before `stale_ms`, and flat within 5 s of it; orders of anyone go too, the certificate stays."""
    async with kennel(tmp_path, settings_of(SNDK, watchdog={"stale_ms": stale_ms}), SNDK) as k:
        await holding(k.world, SNDK)
        async with another_hand(k.world) as hand:
            await hand.rest_bids(NVDA, 2)
        await k.kill_bot()
        last_ms = read_beat(tmp_path).mono_ms
        await k.world.until(lambda: not k.world.positions() and not k.world.open_orders())
        flat_after_ms = k.world.clock.mono_ms() - last_ms
        assert stale_ms < flat_after_ms < stale_ms + 5000
        await k.world.until(lambda: bool(k.certificates()))
        assert k.dog.certificate is not None
        assert k.dog.certificate.flat
        assert k.dog.certificate.reason.startswith("watchdog: no heartbeat for ")
        assert [p.stat().st_mode & 0o777 for p in k.certificates()] == [0o600]


async def test_nothing_is_asked_while_the_bot_is_well(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1: a bot that holds, closes and goes on is left alone, and the venue hears nothing of the watchdog."""
    async with kennel(tmp_path, settings_of(SNDK), SNDK) as k:
        await holding(k.world, SNDK)
        await trio.sleep(60)
        assert k.counting.requests == 0
        assert k.said == [("info", "process 4711 is well")]


async def test_a_bot_that_ended_flat_leaves_nothing_to_guard(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1: a clean stop says so in its last heartbeat; however old that grows, nothing is asked."""
    async with kennel(tmp_path, settings_of(SNDK), SNDK) as k:
        await holding(k.world, SNDK)
        assert (await k.world.end()).flat
        k.heart.cancel()
        await trio.sleep(60)
        assert read_beat(tmp_path).state == "STOPPED"
        assert k.counting.requests == 0


async def test_a_bot_that_gave_up_is_flattened(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1, END-2: the way out was given up; what it left is closed when its heartbeat is old."""
    async with kennel(tmp_path, settings_of(SNDK), SNDK) as k:
        await holding(k.world, SNDK)
        k.world.stop.request("Ctrl+C")
        outcome = await k.world.end("Ctrl+C again")
        assert outcome.exit_code == 4
        k.heart.cancel()
        await k.world.until(lambda: not k.world.positions())


@pytest.mark.parametrize("damage", ["gone", "cut", "foreign", "network"])
async def test_a_missing_or_damaged_heartbeat_is_an_old_one(autojump_clock: object, tmp_path: Path, damage: str) -> None:
    """DEAD-1: no file, half a file, or that of another account or network: after `stale_ms` the account is flattened."""
    async with kennel(tmp_path, settings_of(SNDK), SNDK) as k:
        await holding(k.world, SNDK)
        await k.kill_bot()
        path = tmp_path / FILE
        if damage == "gone":
            path.unlink()
        elif damage == "cut":
            path.write_text(path.read_text()[:50])
        elif damage == "foreign":
            path.write_text(path.read_text().replace(k.world.user.lower(), "0x" + "12" * 20))
        else:
            path.write_text(path.read_text().replace('"paper"', '"mainnet"'))
        await k.world.until(lambda: not k.world.positions())
        says = {"gone": "No such file", "cut": "damaged", "foreign": "of account 0x1212", "network": "of network mainnet"}
        assert any(says[damage] in text for _, text in k.said)


async def test_it_keeps_trying_and_says_so(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1, STOP-2: no buyer for a minute: FLATTEN_FAILED is said each time, and when one comes the position goes."""
    async with kennel(tmp_path, settings_of(SNDK), SNDK) as k:
        await holding(k.world, SNDK)
        k.world.faults.world.one_sided[SNDK] = OrderSide.BUY
        await k.kill_bot()
        await trio.sleep(80)
        assert [level for level, text in k.said if text.startswith("FLATTEN_FAILED: position")].count("critical") >= 2
        k.world.faults.world.one_sided.clear()
        await k.world.until(lambda: not k.world.positions())
        await k.world.until(lambda: k.said[-1] == ("info", "the venue shows no order and no position"))


async def test_a_flat_account_of_a_dead_bot_is_looked_at_again(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1: the bot died flat; a position that appears later is closed, and until then nothing is sent."""
    async with kennel(tmp_path, settings_of(SNDK)) as k:
        await k.world.ready()
        await k.kill_bot()
        await trio.sleep(30)
        assert k.world.actions() == []
        async with another_hand(k.world) as hand:
            await hand.take(SNDK, OrderSide.BUY, "0.1")
        await k.world.until(lambda: not k.world.positions())


async def test_the_bots_own_signer_is_refused(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1, NON-1: with the bot's key the nonces of the two would collide; the error names the remedy."""
    with pytest.RaisesGroup(SharedSigner, flatten_subgroups=True, match=None) as raised:
        async with kennel(tmp_path, settings_of(SNDK), SNDK, key=lambda world: world.venue.account.signer) as k:
            await holding(k.world, SNDK)
            await trio.sleep(5)
    assert "approve a second agent" in repr(raised.value)


async def test_a_signal_lets_a_flatten_end_and_then_it_ends(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1: SIGTERM in the middle of the flatten: the position is closed first; without one it ends at once."""
    async with kennel(tmp_path, settings_of(SNDK), SNDK) as k:
        await holding(k.world, SNDK)
        await k.kill_bot()
        await k.world.until(lambda: bool(k.world.closes))
        k.dog.stop.request("SIGTERM")
        await k.ended.wait()
        assert k.world.positions() == {}
        assert k.dog.certificate is not None
        assert k.dog.certificate.flat


@pytest.mark.parametrize("heartbeat_ms", [500, 2000])
async def test_the_heartbeat_has_its_period(autojump_clock: object, tmp_path: Path, heartbeat_ms: int) -> None:
    """DEAD-1: `watchdog.heartbeat_ms` is the time between two; each says who, when, in which state, and what is held."""
    async with kennel(tmp_path, settings_of(SNDK, watchdog={"heartbeat_ms": heartbeat_ms}), SNDK) as k:
        await holding(k.world, SNDK)
        await trio.sleep(2.1)
        first = read_beat(tmp_path)
        await trio.sleep(10)
        later = read_beat(tmp_path)
        assert later.seq - first.seq == 10_000 // heartbeat_ms
        assert later.wall_ms - first.wall_ms == 10_000
        assert (first.account, first.signer) == (k.world.user.lower(), k.world.venue.account.signer.address.lower())
        assert (first.state, first.exposed, first.positions, first.pid) == ("RUNNING", True, 1, 4711)


async def test_a_disk_that_fails_is_told_once(autojump_clock: object, tmp_path: Path) -> None:
    """DEAD-1: the heartbeat cannot be written: the bot trades on and says it once."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.ready()
        heart = Heart(world.bot, blocked, 1, 1000)
        heart.beat()
        heart.beat()
        assert len(world.events("heartbeat_not_written")) == 1
