"""Who may act: signatures, agents, nonces, expiry, and the schema before all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from eth_account import Account as EthAccount
from hyperliquid.utils.signing import sign_agent

from hip3.exchange.exchange import Exchange
from hip3.exchange.inmemory import InMemory
from hip3.exchange.nonces import KEPT, NonceSet
from hip3.exchange.texts import Refused

if TYPE_CHECKING:
    from tests.exchange.conftest import Trader

D = Decimal
NewExchange = Callable[..., Exchange]
START_MS = 1_767_225_600_000
DAY_MS = 86_400_000
NOOP = {"type": "noop"}


async def post(exchange: Exchange, body: Any, path: str = "/exchange") -> Any:
    """One request over the in-memory transport, in virtual time; the answer's JSON."""
    memory = InMemory(exchange)
    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        async with httpx.AsyncClient(transport=memory.transport(), base_url="http://exchange.invalid") as client:
            answer = await client.post(path, json=body, timeout=60)
        nursery.cancel_scope.cancel()
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_signed_order_executes(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: an order signed with source "b" runs for its signer."""
    exchange = new_exchange()
    answer = await post(exchange, trader.order(wire_order("buy", "601", "0.1")))
    assert answer["response"]["data"]["statuses"][0]["filled"]["totalSz"] == "0.1"
    (position,) = exchange.positions(trader.address)
    assert (position.coin, position.szi) == ("xyz:SNDK", D("0.1"))


async def test_padded_numbers_and_stripped_zeros_verify(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: the server hashes its own normal form, and left-pads `r` and `s` as SDK clients strip zeros."""
    body = trader.order(wire_order("buy", "601", "0.1"))
    body["action"]["orders"][0] |= {"p": "601.00", "s": "0.100"}
    for part in ("r", "s"):
        body["signature"][part] = hex(int(body["signature"][part], 16))
    answer = await post(new_exchange(), body)
    assert "filled" in answer["response"]["data"]["statuses"][0]


async def test_wrong_bytes_name_an_address_that_does_not_exist(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: a changed price or the other network's signature recovers to somebody else, as on the venue."""
    body = trader.order(wire_order("buy", "601", "0.1"))
    body["action"]["orders"][0]["p"] = "602"
    answer = await post(new_exchange(), body)
    assert re.fullmatch(r"User or API Wallet 0x[0-9a-f]{40} does not exist\.", answer["response"])
    answer = await post(new_exchange(is_mainnet=True), trader.sign(NOOP))
    assert re.fullmatch(r"User or API Wallet 0x[0-9a-f]{40} does not exist\.", answer["response"])


async def test_zero_signature_cannot_be_recovered(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: `Unable to recover signer.`, and the nonce stays unused."""
    exchange = new_exchange()
    body = trader.sign(NOOP)
    zero = {**body, "signature": {"r": "0x0", "s": "0x0", "v": 27}}
    assert await post(exchange, zero) == {"status": "err", "response": "Unable to recover signer."}
    assert exchange.nonces() == ()


async def test_agents_act_for_their_master_until_they_expire(
    new_exchange: NewExchange, trader: Trader, stranger: Trader, wire_order: Callable[..., Any],
    autojump_clock: trio.testing.MockClock,
) -> None:  # fmt: skip
    """SIM-2: an approved agent trades for the master's account; before approval and after expiry it is nobody."""
    exchange = new_exchange()
    unknown = {"status": "err", "response": f"User or API Wallet {stranger.address} does not exist."}
    assert await post(exchange, stranger.sign(NOOP)) == unknown
    exchange.approve_agent(trader.address, stranger.address, START_MS + 60_000, name="bot")
    answer = await post(exchange, stranger.order(wire_order("buy", "601", "0.1")))
    assert "filled" in answer["response"]["data"]["statuses"][0]
    assert exchange.positions(stranger.address) == ()
    assert len(exchange.positions(trader.address)) == 1
    await trio.sleep(61)
    assert await post(exchange, stranger.sign(NOOP)) == unknown


def approve_agent(key_number: int, agent: str, name: str | None, nonce: int, *, mainnet: bool = False) -> Any:
    """An approveAgent as the official SDK signs and posts it."""
    action: dict[str, Any] = {"type": "approveAgent", "agentAddress": agent, "agentName": name or "", "nonce": nonce}
    wallet = EthAccount.from_key(key_number.to_bytes(32, "big"))
    signature = sign_agent(wallet, action, mainnet)
    if name is None:
        del action["agentName"]
    return {"action": action, "nonce": nonce, "signature": signature, "vaultAddress": None, "expiresAfter": None}


async def test_approve_agent_as_the_official_sdk_signs_it(
    new_exchange: NewExchange, trader: Trader, stranger: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: named and unnamed approvals verify, show in extraAgents and userRole, and a used address is refused."""
    exchange = new_exchange()
    ok = {"status": "ok", "response": {"type": "default"}}
    until = START_MS + DAY_MS
    named = approve_agent(7, stranger.address, f"bot valid_until {until}", START_MS)
    assert await post(exchange, named) == ok
    assert await post(exchange, {"type": "extraAgents", "user": trader.address}, "/info") == [
        {"name": "bot", "address": stranger.address, "validUntil": until}
    ]
    role = await post(exchange, {"type": "userRole", "user": stranger.address}, "/info")
    assert role == {"role": "agent", "data": {"user": trader.address}}
    again = await post(exchange, approve_agent(7, stranger.address, None, START_MS + 1))
    assert again["response"] == "Extra agent already used."
    past = await post(exchange, approve_agent(7, "0x" + "5" * 40, f"x valid_until {START_MS - 1}", START_MS + 2))
    assert past["response"] == "Agent valid_until already expired."
    assert await post(exchange, approve_agent(7, "0x" + "0" * 40, "bot", START_MS + 3)) == ok
    assert await post(exchange, {"type": "userRole", "user": stranger.address}, "/info") == {"role": "missing"}


async def test_approve_agent_refusals(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: inner nonce, network, deposit and the number of named agents are checked."""
    exchange = new_exchange()
    body = approve_agent(7, "0x" + "1" * 40, "a", START_MS)
    assert (await post(exchange, {**body, "nonce": START_MS + 1}))["response"] == "Nonce mismatch."
    wrong = await post(exchange, approve_agent(7, "0x" + "1" * 40, "a", START_MS, mainnet=True))
    assert wrong["response"] == "Mainnet and testnet require different signature."
    poor = await post(exchange, approve_agent(9, "0x" + "1" * 40, "a", START_MS))
    assert poor["response"].startswith("Must deposit before performing actions. User: 0x")
    vault = await post(exchange, {**body, "vaultAddress": "0x" + "2" * 40})
    assert vault["response"] == "Vault may not perform this action."
    expiring = await post(exchange, {**body, "expiresAfter": START_MS + 99_999})
    assert expiring["response"] == "Action does not support expires_after"
    for number in range(3):
        answer = await post(exchange, approve_agent(7, f"0x{number + 1:040x}", f"n{number}", START_MS + 10 + number))
        assert answer["status"] == "ok"
    answer = await post(exchange, approve_agent(7, f"0x{9:040x}", "n9", START_MS + 20))
    assert answer["response"].startswith("Too many extra agents for cumulative volume traded.")


async def test_unknown_vault_is_refused_before_the_nonce_is_used(
    new_exchange: NewExchange, trader: Trader, autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: there are no vaults here; the text names the address."""
    exchange, vault = new_exchange(), "0x" + "ab" * 20
    answer = await post(exchange, trader.sign(NOOP, vault=vault))
    assert answer["response"] == f"Vault not registered: {vault}"
    assert exchange.nonces() == ()


async def test_nonces_of_the_wire(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: a second use of a nonce is a duplicate, whatever the action; far nonces are named with their bound."""
    exchange = new_exchange()
    assert (await post(exchange, trader.sign(NOOP, nonce=START_MS)))["status"] == "ok"
    duplicate = await post(exchange, trader.order(wire_order("buy", "601", "1"), nonce=START_MS))
    assert duplicate["response"] == f"Invalid nonce: duplicate nonce {START_MS}"
    assert exchange.positions(trader.address) == ()
    high = await post(exchange, trader.sign(NOOP, nonce=START_MS + DAY_MS))
    assert re.fullmatch(rf"Invalid nonce: nonce too high {START_MS + DAY_MS} > \d+", high["response"])
    low = await post(exchange, trader.sign(NOOP, nonce=START_MS - 2 * DAY_MS))
    assert re.fullmatch(rf"Invalid nonce: nonce too low {START_MS - 2 * DAY_MS} < \d+", low["response"])
    assert [a.nonce for a in exchange.nonces()] == [START_MS]


def test_nonces_may_arrive_out_of_order_within_the_hundred_highest() -> None:
    """SIM-2: below the smallest of the hundred highest a nonce is too low; above it any unused one is good."""
    nonces, now = NonceSet(), START_MS
    for number in range(KEPT):
        nonces.admit(now + 2 * number, now)
    nonces.admit(now + 1, now)  # out of order, above the floor
    with pytest.raises(Refused, match=f"duplicate nonce {now + 1}"):
        nonces.admit(now + 1, now)
    with pytest.raises(Refused, match=f"too low {now - 1} < {now + 1}"):
        nonces.admit(now - 1, now)
    with pytest.raises(Refused, match=f"duplicate nonce {now}"):
        nonces.admit(now, now)  # dropped from the hundred, still remembered within the window


async def test_an_expired_action_uses_its_nonce_and_costs_five(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: expiry is judged when the block runs; an order that came too late never executes and leaves no record."""
    exchange, cloid = new_exchange(), "0x" + "0" * 31 + "1"
    late = trader.order(wire_order("buy", "601", "0.1", cloid=cloid), expires=START_MS + 100)
    assert await post(exchange, late) == {"status": "err", "response": "Action already expired"}
    status = await post(exchange, {"type": "orderStatus", "user": trader.address, "oid": cloid}, "/info")
    assert status == {"status": "unknownOid"}
    again = await post(exchange, late)
    assert again["response"].startswith("Invalid nonce: duplicate nonce")
    limits = await post(exchange, {"type": "userRateLimit", "user": trader.address}, "/info")
    assert limits["nRequestsUsed"] == 5
    in_time = trader.order(wire_order("buy", "601", "0.1"), expires=START_MS + 60_000)
    assert (await post(exchange, in_time))["status"] == "ok"


async def test_a_noop_with_the_same_nonce_kills_an_order_in_flight(
    new_exchange: NewExchange, trader: Trader, wire_order: Callable[..., Any], autojump_clock: trio.testing.MockClock
) -> None:
    """SIM-2: in one block the noop goes first, and the order is refused as a duplicate."""
    exchange = new_exchange()
    answers: list[Any] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(exchange.run)
        exchange.submit(trader.order(wire_order("buy", "601", "0.1"), nonce=START_MS + 5), answers.append)
        exchange.submit(trader.sign(NOOP, nonce=START_MS + 5), answers.append)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    texts = [answer.body for answer in answers]
    assert '"status":"ok"' in texts[0]
    assert f"duplicate nonce {START_MS + 5}" in texts[1]
    assert exchange.positions(trader.address) == ()
