"""One run against one venue, real or simulated: reach it, read it, trade, end. Shared by `run`, `observe` and `replay`."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable

import httpx
import trio
from attrs import frozen

from hip3.app import App, Outcome
from hip3.bot import Account, Bot, BotIO
from hip3.core.clock import Clock
from hip3.core.ids import MarketKey
from hip3.core.journal import Journal
from hip3.core.records import NoRecorder, Recorder
from hip3.core.remembered import NOTHING, Remembered
from hip3.core.run_mode import RunMode
from hip3.io.clock import SteadyClock
from hip3.io.dial import Dial
from hip3.io.link import TooManySubscriptions
from hip3.io.rest import RestClient, http_client, ip_weight
from hip3.ops.boot import PreflightRefused, read_venue
from hip3.ops.stop import Stop
from hip3.settings.schema import Mode, Settings
from hip3.venue.hyperliquid.signing import assert_backend
from hip3.wiring import build

BOOT_S = 30.0
"""A venue that has not answered a handful of questions by then is not one to trade on."""


@frozen
class Reach:
    """How a venue is reached. `transport` None is the network; `account` None observes only."""

    rest_url: str
    dial: Dial
    account: Account | None
    transport: httpx.AsyncBaseTransport | None = None


@frozen
class Keeping:
    """What outlives the process: where records go, and what earlier runs of an account left (its address, or None)."""

    recorder: Recorder
    memory: Callable[[str | None], Remembered]
    config_hash: str = ""
    run_id: int | None = None
    """Unix ms; None takes the start of the bot."""


NOT_KEEPING = Keeping(NoRecorder(), lambda _account: NOTHING)


@frozen
class Ended:
    """A finished run."""

    bot: Bot
    outcome: Outcome


def settle_garbage_collector() -> None:
    """For a process that only trades: what lives since the start is never looked at again, and collections are rarer.

    With the defaults a collection starts every 700 new objects, which is about one order; it then runs between a quote and
    its order.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class StoppedEarly(Exception):
    """The stop was requested before anything was sent; nothing of ours can be left."""


async def run_session(
    settings: Settings,
    reach: Reach,
    *,
    clock: Clock,
    rng: random.Random,
    journal: Journal,
    stop: Stop,
    on_app: Callable[[App], None] = lambda _app: None,
    keeping: Keeping = NOT_KEEPING,
    run_mode: RunMode = RunMode.LIVE,
) -> Ended:
    """Reads the venue, then runs one bot to its end. Raises PreflightRefused and StoppedEarly.

    `clock` is the machine's; somebody may set it while the bot runs.
    """
    assert_backend()
    async with http_client(reach.transport) as client, http_client(reach.transport) as own_client:
        weight, steady = ip_weight(), SteadyClock.over(clock)
        io = BotIO(
            clock=steady,
            machine=clock,
            rng=rng,
            dial=reach.dial,
            rest=RestClient(client, steady, reach.rest_url, weight, sends=run_mode.sends),
            flatten_rest=RestClient(own_client, steady, reach.rest_url, weight, waits=False, sends=run_mode.sends),
        )
        account = None if settings.mode is Mode.OBSERVATION else reach.account
        bot = await _boot(settings, io, journal, account, stop, keeping, run_mode)
        app = App(bot, stop)
        on_app(app)
        return Ended(bot, await app.run())


async def _boot(
    settings: Settings, io: BotIO, journal: Journal, account: Account | None, stop: Stop, keeping: Keeping, run_mode: RunMode
) -> Bot:
    """Reads the venue under a deadline; a stop ends it at once, for nothing has been started."""
    bot: Bot | None = None
    with trio.move_on_after(BOOT_S) as deadline:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await stop.requested.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                user, signer = (account.user, account.signer.address) if account else (None, None)
                venue = await read_venue(io.rest, settings, user, signer, io.clock)
                bot = build(
                    settings,
                    io,
                    venue,
                    journal,
                    account,
                    keeping.recorder,
                    keeping.memory(user),
                    keeping.config_hash,
                    keeping.run_id,
                    run_mode,
                )
            except TooManySubscriptions as e:
                raise PreflightRefused(f"{e}. Nothing was started.") from e
            finally:
                nursery.cancel_scope.cancel()
    if deadline.cancelled_caught:
        raise PreflightRefused(f"{io.rest.base_url} did not answer within {BOOT_S:g} s. Nothing was started.")
    if bot is None:
        raise StoppedEarly(stop.reason)
    for state in bot.venue.accounts:
        found = {"value_usd": state.account_value, "withdrawable_usd": state.withdrawable, "positions": len(state.positions)}
        orders = [o for o in bot.venue.open_orders if MarketKey.parse(o.coin).dex == state.dex]
        bot.note("info", "account_found", dex=state.dex or "main", **found, orders=len(orders))
    for warning in bot.venue.warnings:
        bot.note("warning", "preflight_warning", message=warning)
    return bot
