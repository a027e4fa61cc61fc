"""The REST client: a question without a usable answer is QueryFailed, and the weight limit holds back questions only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from hip3.exchange.faults import Delay, Disconnect, Drop, FaultAction, HttpAnswer, Point, ReplaceBody, Rule
from hip3.io.rest import WEIGHT_RESERVE, QueryFailed, RestClient, http_client
from hip3.simulate.world import World
from hip3.venue.hyperliquid import actions, info
from hip3.venue.hyperliquid.signing import SignedAction
from tests.app.failures.scenes import SNDK, URL, calm, script, settings_of, world_of


@asynccontextmanager
async def client_of(world: World) -> AsyncIterator[RestClient]:
    async with http_client(world.memory.transport()) as client:
        yield RestClient(client, world.clock, URL)


@asynccontextmanager
async def venue(*rules: Rule) -> AsyncIterator[tuple[World, RestClient]]:
    """A running exchange (and bot, which is left alone) with faults, and a client of ours."""
    async with world_of(settings_of(SNDK), script(calm(SNDK))) as world:
        await world.started.wait()
        world.faults.add(*rules)
        async with client_of(world) as rest:
            yield world, rest


def on_mids(action: FaultAction) -> Rule:
    return Rule(Point.INFO, action, lambda kind: kind == "allMids")


def signed_noop(world: World) -> SignedAction:
    return world.venue.account.signer.sign(actions.noop_action(), world.clock.wall_ms())


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (HttpAnswer(429), "allMids: http://exchange.invalid/info answered 429: 'null'"),
        (HttpAnswer(500), "allMids: http://exchange.invalid/info answered 500: 'null'"),
        (HttpAnswer(502, "<html>Bad Gateway</html>"), "answered 502: '<html>Bad Gateway</html>'"),
        (ReplaceBody("<html>maintenance</html>"), "answered text that is no JSON: '<html>maintenance</html>'"),
        (Drop(), "allMids: no answer from http://exchange.invalid/info: ReadTimeout"),
        (Delay(6000), "allMids: no answer from http://exchange.invalid/info: ReadTimeout"),
        (Disconnect(), "allMids: no answer from http://exchange.invalid/info: ReadError"),
    ],
    ids=["429", "500", "502 html", "html", "no answer", "late", "cut"],
)
async def test_a_question_without_an_answer_names_what_and_where(
    action: FaultAction, says: str, autojump_clock: object
) -> None:
    """META-1: every way of not answering is QueryFailed with the question, the URL and what came; the next one works."""
    async with venue(on_mids(action)) as (_, rest):
        began = trio.current_time()
        with pytest.raises(QueryFailed) as failed:
            await rest.info(info.all_mids("xyz"))
        assert says in str(failed.value)
        assert trio.current_time() - began <= 5
        assert isinstance(await rest.info(info.all_mids("xyz")), dict)


async def test_an_empty_answer_is_an_answer(autojump_clock: object) -> None:
    """META-1, LESSONS 30: `null` and `[]` are what the venue said; only the asker knows what they mean."""
    async with venue() as (_, rest):
        assert await rest.info(info.l2_book("xyz:NOBODY")) is None
        assert await rest.info(info.frontend_open_orders("0x" + "9" * 40, "xyz")) == []


async def test_a_venue_that_is_not_there_is_named(autojump_clock: object) -> None:
    """META-1: a connection that is refused is QueryFailed too."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    async with venue() as (world, _), http_client(httpx.MockTransport(refuse)) as client:
        rest = RestClient(client, world.clock, "http://nowhere.invalid/")
        with pytest.raises(QueryFailed, match=r"exchangeStatus: no answer from http://nowhere\.invalid/info: ConnectError"):
            await rest.info(info.exchange_status())


async def test_an_action_without_an_answer_is_in_doubt(autojump_clock: object) -> None:
    """POST-2: an action whose answer is lost raises, and the text says which; it is never repeated in here."""
    lost = Rule(Point.AFTER_COMMIT, Drop(), lambda kind: kind == "noop")
    async with venue(lost) as (world, rest):
        with pytest.raises(QueryFailed, match=r"action noop: no answer from http://exchange\.invalid/exchange"):
            await rest.exchange(signed_noop(world))
        assert len(world.actions("noop")) == 1


async def test_a_refused_action_is_an_answer(autojump_clock: object) -> None:
    """POST-2: HTTP 200 with `status: err` is the venue's answer, for the reader of outcomes."""
    async with venue() as (world, rest):
        signed = signed_noop(world)
        assert await rest.exchange(signed) == {"status": "ok", "response": {"type": "default"}}
        again = await rest.exchange(signed)
        assert isinstance(again, dict)
        assert again["status"] == "err"


async def test_no_secret_and_no_key_is_in_an_error(autojump_clock: object) -> None:
    """KEY-4: the error of an action names its type and not its signature."""
    lost = Rule(Point.AFTER_COMMIT, HttpAnswer(500), lambda kind: kind == "noop")
    async with venue(lost) as (world, rest):
        signed = signed_noop(world)
        with pytest.raises(QueryFailed) as failed:
            await rest.exchange(signed)
        assert str(signed.signature.as_dict()["r"]) not in str(failed.value)


async def test_questions_wait_for_the_weight_of_the_minute(autojump_clock: object) -> None:
    """PROTOCOL 3, WS-3: the minute's weight less the reserve of the way out is for questions; the next one waits."""
    async with venue() as (world, rest):
        rest.weight.spend(world.clock.mono_ms(), 1200 - WEIGHT_RESERVE - 20)
        began = trio.current_time()
        await rest.info(info.user_fees(world.user))
        assert trio.current_time() - began < 1
        await rest.info(info.user_fees(world.user))
        assert trio.current_time() - began == pytest.approx(60.2, abs=0.3)


async def test_actions_never_wait_for_the_weight(autojump_clock: object) -> None:
    """PROTOCOL 8, STOP-2: with the weight used up an action goes out at once, and is counted."""
    async with venue() as (world, rest):
        rest.weight.spend(world.clock.mono_ms(), 1200)
        began = trio.current_time()
        await rest.exchange(signed_noop(world))
        assert trio.current_time() - began < 1
        assert rest.weight.used == 1201


async def test_long_answers_cost_more(autojump_clock: object) -> None:
    """PROTOCOL 3: fills cost one more for each twenty rows, which is known only when they are there."""
    rows = [{"n": n} for n in range(45)]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=rows)

    async with venue() as (world, _), http_client(httpx.MockTransport(answer)) as client:
        rest = RestClient(client, world.clock, URL)
        await rest.info(info.user_fills(world.user))
        assert rest.weight.used == 22
