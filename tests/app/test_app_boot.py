"""What the venue says before the start, and starts that are refused with nothing sent (META-1 to META-3, KEY-3, END-3)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hip3.exchange.engine import NO_AGENT
from hip3.exchange.faults import Drop, FaultAction, HttpAnswer, Point, ReplaceBody, Rule
from hip3.ops.boot import PreflightRefused
from hip3.settings.schema import Settings
from hip3.simulate.world import START_MS, World, open_world
from tests.app.app_builders import ASSETS, FAST, SNDK, Script, bot_settings

DAY_MS = 86_400_000


def answer(kind: str, action: FaultAction, uses: int | None = 1) -> Rule:
    return Rule(Point.INFO, action, lambda subject: subject == kind, uses=uses)


async def refusal(settings: Settings, *rules: Rule, before: Callable[[World], None] = lambda _world: None) -> str:
    """The text with which a start is refused; nothing was sent and nothing was subscribed."""
    worlds: list[World] = []
    texts: list[str] = []
    try:
        async with open_world(settings, Script().calm().source(), config=FAST) as world:
            worlds.append(world)
            before(world)
            world.faults.add(*rules)
            await world.ended.wait()
    except* PreflightRefused as group:
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        texts.append(str(leaf))
    assert worlds[0].actions() == []
    assert worlds[0].exchange.hub.sessions == []
    assert worlds[0].app is None
    assert len(texts) == 1, "the start was not refused"
    return texts[0]


async def test_a_wrong_asset_idx_prints_both_numbers() -> None:
    """META-3, LESSONS 21: the id that the configuration expects is compared with that of the name."""
    text = await refusal(bot_settings(market={"asset_idx": 28}))
    assert "28" in text
    assert str(ASSETS[SNDK]) in text


async def test_a_right_asset_idx_starts() -> None:
    """META-3: the right id is no obstacle."""
    settings = bot_settings(market={"asset_idx": ASSETS[SNDK]})
    async with open_world(settings, Script().calm().source(), config=FAST) as world:
        await world.ready()


@pytest.mark.parametrize(
    ("coin", "says"),
    [
        ("xyz:SNKD", "did you mean xyz:SNDK"),
        ("xyz:GONE", "is delisted"),
        ("usd:SNDK", "collateral must be USDC"),
    ],
    ids=["unknown", "delisted", "other collateral"],
)
async def test_markets_that_cannot_be_traded_refuse_the_start(coin: str, says: str) -> None:
    """META-3: a coin that is missing, delisted or not collateralised in USDC refuses, and says what to do."""
    assert says in await refusal(bot_settings(coins=(coin,)))


def revoke(world: World) -> None:
    """The account takes the agent's approval back."""
    world.exchange.approve_agent(world.user, NO_AGENT, START_MS + DAY_MS, "hip3")


async def test_an_agent_that_is_not_approved_refuses_the_start() -> None:
    """KEY-3: the signer must be an approved agent; the text names it and the account."""
    seen: list[World] = []

    def before(world: World) -> None:
        revoke(world)
        seen.append(world)

    text = await refusal(bot_settings(), before=before)
    assert seen[0].venue.account.signer.address in text
    assert seen[0].user in text
    assert "'missing'" in text


async def test_an_agent_of_another_account_refuses_the_start() -> None:
    """KEY-3, LESSONS 39: an agent of somebody else would trade somebody else's account."""
    other = "0x" + "ab" * 20
    text = await refusal(
        bot_settings(), answer("userRole", ReplaceBody(json.dumps({"role": "agent", "data": {"user": other}})))
    )
    assert other in text
    assert "user_address" in text


def agent_until(world: World, valid_until_ms: int) -> Rule:
    row = {"name": "hip3", "address": world.venue.account.signer.address, "validUntil": valid_until_ms}
    return answer("extraAgents", ReplaceBody(json.dumps([row])))


async def test_an_expired_agent_refuses_the_start() -> None:
    """KEY-3: expired is refused, and the remedy is a new agent, never the old address again."""
    text = await refusal(bot_settings(), before=lambda world: world.faults.add(agent_until(world, START_MS - 1)))
    assert "has expired" in text
    assert "never reuse" in text


async def test_an_agent_that_expires_soon_warns_and_starts() -> None:
    """KEY-3: within 14 days the start warns with the days that are left."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        world.faults.add(agent_until(world, START_MS + 12 * DAY_MS + DAY_MS // 2))
        await world.ready()
        (warning,) = world.events("preflight_warning")
        assert "expires in 12 days" in str(warning.fields["message"])


@pytest.mark.parametrize("kind", ["perpDexs", "meta", "exchangeStatus", "userRole", "extraAgents", "userRateLimit"])
@pytest.mark.parametrize(
    ("action", "says"),
    [(HttpAnswer(502, "<html>bad gateway"), "502"), (Drop(), "no answer"), (ReplaceBody('{"oops":1}'), "")],
    ids=["error", "silence", "nonsense"],
)
async def test_a_question_without_a_good_answer_refuses_the_start(kind: str, action: FaultAction, says: str) -> None:
    """META-1: a failed query is unknown, never empty: nothing starts on it, and the text names the question."""
    text = await refusal(bot_settings(), answer(kind, action))
    assert kind in text
    assert says in text


async def test_a_venue_that_is_down_is_said_to_be() -> None:
    """END-3: the refusal asks whether the venue is up and the URL right, and says that nothing was started."""
    text = await refusal(bot_settings(), Rule(Point.INFO, HttpAnswer(503), uses=None))
    assert "Is the venue up" in text
    assert "Nothing was started" in text
