"""What the venue says before the start, and starts that are refused with nothing sent (META-1 to META-3, KEY-3, END-3)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from hip3.exchange.engine import NO_AGENT
from hip3.exchange.faults import Drop, FaultAction, Faults, HttpAnswer, Point, ReplaceBody, Rule
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
    role = {"role": "agent", "data": {"user": other}}
    text = await refusal(
        bot_settings(), answer("extraAgents", ReplaceBody("[]")), answer("userRole", ReplaceBody(json.dumps(role)))
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


QUESTIONS = (
    *("perpDexs", "meta", "metaAndAssetCtxs", "allMids", "clearinghouseState", "frontendOpenOrders"),
    *("exchangeStatus", "userRole", "extraAgents", "userRateLimit"),  # the role of an agent without a name
)


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize(
    ("action", "says"),
    [(HttpAnswer(502, "<html>bad gateway"), "502"), (Drop(), "no answer"), (ReplaceBody('{"oops":1}'), "")],
    ids=["error", "silence", "nonsense"],
)
async def test_a_question_without_a_good_answer_refuses_the_start(kind: str, action: FaultAction, says: str) -> None:
    """META-1: a failed query is unknown, never empty: nothing starts on it, and the text names the question."""
    unnamed = [answer("extraAgents", ReplaceBody("[]"))] if kind == "userRole" else []
    text = await refusal(bot_settings(), answer(kind, action), *unnamed)
    assert kind in text
    assert says in text


async def test_a_venue_that_is_down_is_said_to_be() -> None:
    """END-3: the refusal asks whether the venue is up and the URL right, and says that nothing was started."""
    text = await refusal(bot_settings(), Rule(Point.INFO, HttpAnswer(503), uses=None))
    assert "Is the venue up" in text
    assert "Nothing was started" in text


async def test_every_question_of_the_start_names_its_dex() -> None:
    """META-1, LESSONS 22: account and orders are asked of the dex traded, where the collateral is, and told of."""
    async with open_world(bot_settings(), Script().calm().source(), config=FAST) as world:
        await world.started.wait()
        (found,) = world.events("account_found")
        assert found.fields == {"dex": "xyz", "value_usd": 1000, "withdrawable_usd": 1000, "positions": 0, "orders": 0}
        assert world.events("preflight_warning") == []


POSITION = {
    "marginSummary": {"accountValue": "0.0"},
    "withdrawable": "0.0",
    "time": START_MS,
    "assetPositions": [
        {
            "type": "oneWay",
            "position": {
                "coin": SNDK,
                "szi": "-0.05",
                "leverage": {"type": "cross", "value": 5},
                "entryPx": "600",
                "unrealizedPnl": "0.0",
                "marginUsed": "6.0",
            },
        }
    ],
}
ORDER = {"coin": SNDK, "side": "B", "limitPx": "500.5", "sz": "0.1", "oid": 7, "timestamp": START_MS, "origSz": "0.1"}


async def test_what_the_account_holds_at_the_start_is_said() -> None:
    """META-1: a position, a resting order and an empty collateral are warnings of the start, with their numbers."""
    rules = [
        answer("clearinghouseState", ReplaceBody(json.dumps(POSITION))),
        answer("frontendOpenOrders", ReplaceBody(json.dumps([ORDER]))),
    ]
    async with open_world(bot_settings(), Script().calm().source(), config=FAST, faults=Faults(rules)) as world:
        await world.started.wait()
        said = " / ".join(str(n.fields["message"]) for n in world.events("preflight_warning"))
        assert "no collateral on xyz" in said
        assert f"holds -0.05 {SNDK}" in said
        assert f"{SNDK} BUY 0.1 at 500.5 (oid 7)" in said


async def test_a_halted_market_refuses_the_start() -> None:
    """META-3: the venue has halted the market, which its metadata show as delisted: refused, and it says both words."""
    text = await refusal(bot_settings(), before=lambda world: world.faults.world.halted.add(SNDK))
    assert "delisted or halted" in text
    assert SNDK in text


PLACE = ASSETS[SNDK] - 110_000
Ctx = dict[str, str | None]


def venue_says(coins: list[str], ctxs: list[Ctx], decimals: int = 3) -> Rule:
    """`metaAndAssetCtxs` with these markets at their places and these contexts."""
    universe = [{"name": coin, "szDecimals": decimals, "maxLeverage": 10} for coin in coins]
    return answer("metaAndAssetCtxs", ReplaceBody(json.dumps([{"universe": universe, "collateralToken": 0}, ctxs])))


ORDERED = ["xyz:XYZ100", "xyz:GONE", SNDK]
GOOD: Ctx = {"oraclePx": "600", "markPx": "600", "midPx": "600"}


@pytest.mark.parametrize(
    ("coins", "own", "decimals", "says"),
    [
        (ORDERED, {**GOOD, "markPx": None}, 3, "no mark price"),
        (ORDERED, {**GOOD, "oraclePx": "0.0"}, 3, "no oracle price"),
        (ORDERED, {**GOOD, "midPx": "61.2"}, 3, "the mid at its place in the listing is 61.2, that of its name is 600"),
        (ORDERED, GOOD, 2, "asset 110002 with 2 size decimals"),
        (["xyz:NEW", *ORDERED], GOOD, 3, "asset 110003 with 3 size decimals"),
        (ORDERED[:2], GOOD, 3, "says nothing"),
    ],
    ids=["no mark", "no oracle", "another price", "other decimals", "another id", "not listed"],
)
async def test_contexts_that_are_not_those_of_the_name_refuse_the_start(
    coins: list[str], own: Ctx, decimals: int, says: str
) -> None:
    """META-3, LESSONS 21: name, decimals and price of the market at the id are verified before anything is traded on it."""
    ctxs = [own if coin == SNDK else GOOD for coin in coins]
    assert says in await refusal(bot_settings(), venue_says(coins, ctxs, decimals))


async def test_a_market_without_quotes_warns_and_starts() -> None:
    """META-3, MD-2: an empty side at the start is no halt: it is said, and entries wait for the quotes as they do anyhow."""
    script = Script().calm().quote(0, "599.9", None).quote(3000, "599.9", "600.1").rising(5, 8)
    async with open_world(bot_settings(), script.source(), config=FAST) as world:
        await world.started.wait()
        (warning,) = world.events("preflight_warning")
        assert "no quotes on both sides" in str(warning.fields["message"])
        await world.until(lambda: bool(world.positions()), 8)


async def test_an_agent_without_a_name_starts() -> None:
    """KEY-3: the account's list names no agent of this address; its role says whose agent it is."""
    faults = Faults([answer("extraAgents", ReplaceBody("[]"))])
    async with open_world(bot_settings(), Script().calm().source(), config=FAST, faults=faults) as world:
        await world.ready()
