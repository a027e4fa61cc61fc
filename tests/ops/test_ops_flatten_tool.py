"""The stand-alone flatten in virtual time: whose account, whose key, and what cannot be made sure of (OPS-6)."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio

from hip3.cli.flatten_cmd import default_exits
from hip3.core.ids import OrderSide
from hip3.exchange.faults import HttpAnswer, Point
from hip3.io.certificate import FlatCertificate
from hip3.ops.boot import PreflightRefused
from hip3.ops.flatten_tool import FlattenOrder, flatten_account
from hip3.ops.stop import Stop
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.signing import Signer, TradingKey
from tests.app.failures.scenes import NVDA, SNDK, URL, lost
from tests.io.flatten_desk import Desk, desk

STRANGER = Signer(TradingKey((5).to_bytes(32, "big")), Network.PAPER)


async def tool(
    d: Desk,
    signer: Signer | None,
    account: str | None = None,
    stop: Stop | None = None,
    dexes: tuple[str, ...] | None = None,
) -> FlatCertificate:
    order = FlattenOrder(account or d.world.user, URL, default_exits(), signer, dexes)
    return await flatten_account(
        order,
        d.world.clock,
        stop or Stop(),
        20,
        transport=d.world.memory.transport(),
        progress=lambda *step: d.steps.append(step),
    )


async def test_an_account_is_emptied_by_any_agent_of_it(autojump_clock: object) -> None:
    """OPS-6: cancel, verify, close, verify, on every dex, with another key than the bot's."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        await d.hand.rest_bids(NVDA, 3)
        certificate = await tool(d, d.hand.signer)
        assert certificate.flat
        assert (d.world.positions(), d.world.open_orders()) == ({}, ())
        assert {a.dex for a in certificate.asked if a.what == "positions"} == {"", "xyz"}


async def test_an_agents_address_is_not_flat(autojump_clock: object) -> None:
    """LESSONS 22, 39: under an agent's address the venue lists nothing, without an error: that is refused, not certified."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        with pytest.raises(PreflightRefused, match="is an agent of"):
            await tool(d, None, d.hand.signer.address.lower())


async def test_a_dex_that_the_venue_does_not_list_is_named(autojump_clock: object) -> None:
    """OPS-6, LESSONS 21: with those that it lists, at once; nothing is asked of it and nothing is flat."""
    async with desk() as d:
        with pytest.raises(PreflightRefused, match=r"the venue lists no dex 'zzz'; it lists main, .*xyz.*. Correct --dex"):
            await tool(d, None, d.world.user, dexes=("xyz", "zzz"))


async def test_an_address_that_the_venue_does_not_know_is_not_flat(autojump_clock: object) -> None:
    """LESSONS 7: a typing error in the address would list nothing as well."""
    async with desk() as d:
        with pytest.raises(PreflightRefused, match="does not know"):
            await tool(d, None, "0x" + "ab" * 20)


async def test_a_key_of_somebody_else_is_refused_before_anything_is_sent(autojump_clock: object) -> None:
    """KEY-3, OPS-6: not an agent, or one of another account."""
    async with desk() as d:
        with pytest.raises(PreflightRefused, match="no approved agent"):
            await tool(d, STRANGER)
        other = "0x" + "cd" * 20
        d.world.exchange.fund(other, "xyz", Decimal(10))
        d.world.exchange.approve_agent(other, STRANGER.address, d.world.clock.wall_ms() + 86_400_000, "other")
        with pytest.raises(PreflightRefused, match=f"is an agent of {other}, not of"):
            await tool(d, STRANGER)
        assert d.world.actions() == []


async def test_what_could_not_be_made_sure_of_is_left(autojump_clock: object) -> None:
    """LESSONS 7: the venue does not say what the address is: nothing listed is then no proof."""
    async with desk() as d:
        d.world.faults.add(lost("userRole", Point.INFO, action=HttpAnswer(500)))
        certificate = await tool(d, None)
        assert (certificate.flat, certificate.residual) == (False, (f"what {d.world.user} is: not known",))
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        closed = await tool(d, d.hand.signer)
        assert closed.flat  # what it closed was there, so the address is the account's


async def test_a_stop_gives_up_and_lists_what_is_left(autojump_clock: object) -> None:
    """END-2: a signal ends the flatten; the last look says what remains, and it is not flat."""
    async with desk() as d:
        await d.hand.take(SNDK, OrderSide.BUY, "0.2")
        d.world.faults.world.one_sided[SNDK] = OrderSide.BUY
        stop = Stop()
        async with trio.open_nursery() as nursery:

            async def later() -> None:
                await trio.sleep(3)
                stop.request("SIGINT")

            nursery.start_soon(later)
            certificate = await tool(d, d.hand.signer, stop=stop)
        assert certificate.flat is False
        assert certificate.residual == (f"position: 0.2 {SNDK}, entry 600.24",)
        assert certificate.problems[-1] == "given up: SIGINT"
