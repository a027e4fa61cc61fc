"""The engine: admitted actions and the source's events in, answers and effects out. Synchronous, no clock, no network.

It is a state machine over blocks: `begin_block` sets the one time that everything in the block carries, `apply` takes
what the outside world did, `execute` runs one action of one account. Refuses to look at signatures (see `admission`).
"""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve

from hip3.core.ids import OrderSide, TimeInForce
from hip3.core.units import ZERO
from hip3.exchange import texts
from hip3.exchange.account import Account, Agent, Leverage
from hip3.exchange.book import Order
from hip3.exchange.config import ExchangeConfig
from hip3.exchange.faults import World
from hip3.exchange.funding import next_funding_ms, pay_funding
from hip3.exchange.market import Directory
from hip3.exchange.placing import meet_outside, place, print_through, validate
from hip3.exchange.requests import (
    Action,
    ApproveAgent,
    CancelOrders,
    JsonObject,
    ModifyOrders,
    Noop,
    NotSimulated,
    OrderRequest,
    PlaceOrders,
    ScheduleCancel,
    UpdateLeverage,
)
from hip3.exchange.seam import BookChange, CtxChange, SourceEvent
from hip3.exchange.state import State
from hip3.exchange.texts import BatchRefused, Refused
from hip3.exchange.triggers import fire_reached

MAX_ITEMS = 200  # PROTOCOL 4.1
SCHEDULE_LEAD_MS = 5000  # PROTOCOL 4.3
AGENT_LIFE_MS = 180 * 86_400_000  # PROTOCOL 4.3
NAMED_AGENTS = 3
NO_AGENT = "0x" + "0" * 40
EXTRA_CANCELS = 100_000  # cancels may go to min(limit + 100000, 2 * limit), PROTOCOL 8


def items_of(action: Action) -> int:
    """What an action costs of the address budget: one per order or cancel, failing ones included (PROTOCOL 8)."""
    match action:
        case PlaceOrders(orders=items) | CancelOrders(cancels=items) | ModifyOrders(modifies=items):
            return max(1, len(items))
        case _:
            return 1


def rank_of(action: Action) -> int:
    """Place in a block: without GTC and IOC first, then cancels, then the rest (PROTOCOL 6)."""
    orders: tuple[OrderRequest, ...] = ()
    if isinstance(action, CancelOrders):
        return 1
    if isinstance(action, PlaceOrders):
        orders = action.orders
    elif isinstance(action, ModifyOrders):
        orders = tuple(order for _, order in action.modifies)
    # A trigger order has neither word; that the venue ranks it by this letter is UNVERIFIED.
    return 2 if any(order.tif is not TimeInForce.ALO and order.trigger is None for order in orders) else 0


def ok(kind: str, statuses: list[JsonObject | str] | None = None) -> JsonObject:
    """`status: ok` in the venue's shape (PROTOCOL 4.2)."""
    response: JsonObject = {"type": kind}
    if statuses is not None:
        response["data"] = {"statuses": statuses}
    return {"status": "ok", "response": response}


def err(text: str) -> JsonObject:
    """The whole action refused: `response` is a string (PROTOCOL 4.2)."""
    return {"status": "err", "response": text}


class Engine:
    """Accounts, markets and rules of one exchange."""

    def __init__(self, directory: Directory, config: ExchangeConfig, world: World) -> None:
        self.state = State(directory, config, world)
        self._retired_agents: set[str] = set()
        self._one_sided: set[str] = set()
        self._funding_ms: int | None = None
        """When funding is paid next; None before the first block."""

    def begin_block(self, now_ms: int) -> None:
        """Starts a block at `now_ms` (Unix ms), which must not go back; runs the dead-man switches that are due."""
        state = self.state
        if now_ms < state.now_ms:
            raise ValueError(f"block time went back from {state.now_ms} to {now_ms}")
        state.now_ms = now_ms
        self._hide_sides()
        if self._funding_ms is None or now_ms >= self._funding_ms:
            if self._funding_ms is not None:
                pay_funding(state)
            self._funding_ms = next_funding_ms(now_ms)
        for account in state.accounts.values():
            due = account.scheduled_cancel_ms
            if due is not None and due <= now_ms:
                account.scheduled_cancel_ms = None
                for order in list(account.open.values()):
                    state.end(order, "scheduledCancel")

    def _hide_sides(self) -> None:
        """Makes the one-sided books of the world so, and those that were it whole again."""
        missing = self.state.world.one_sided
        for coin in self._one_sided | missing.keys():
            self.state.directory.by_coin[coin].book.hidden = missing.get(coin)
        self._one_sided = set(missing)

    def apply(self, event: SourceEvent) -> None:
        """What the outside world did. Raises ValueError for a coin that is not listed."""
        market = self.state.directory.by_coin.get(event.coin)
        if market is None:
            raise ValueError(f"the source speaks of {event.coin!r}, which it does not list")
        if isinstance(event, BookChange):
            market.book.replace_external(event.bids, event.asks)
            meet_outside(self.state, market)
        elif isinstance(event, CtxChange):
            market.change_ctx(event, oracle_frozen=market.coin in self.state.world.frozen_oracles)
            fire_reached(self.state, market)
        else:
            self.state.print_trade(market, event.side, event.px, event.sz)
            print_through(self.state, market, event.side, event.px, event.sz)

    def execute(self, address: str, action: Action) -> JsonObject:
        """Runs an admitted action of the account at `address`; the answer is the body of `/exchange`."""
        account = self.state.account(address)
        if items_of(action) > MAX_ITEMS:
            return err(texts.OVER_WEIGHT)
        try:
            self._charge(account, action)
            return self._dispatch(account, action)
        except Refused as refusal:
            return err(refusal.text)

    def _dispatch(self, account: Account, action: Action) -> JsonObject:
        match action:
            case PlaceOrders():
                return self._place(account, action)
            case CancelOrders():
                return ok("cancel", [self._cancel(account, *cancel, fast=action.fast) for cancel in action.cancels])
            case ModifyOrders():
                return self._modify(account, action)
            case ScheduleCancel():
                return self._schedule(account, action)
            case UpdateLeverage():
                return self._leverage(account, action)
            case ApproveAgent():
                return self._approve(account, action)
            case Noop():
                return ok("default")
            case NotSimulated():
                raise Refused(texts.not_simulated(action.kind))

    def budget_cap(self, account: Account) -> int:
        """Requests that the address may have made in its life (PROTOCOL 8)."""
        return self.state.config.free_requests + int(account.budget_volume_usd)

    def charge_expired(self, address: str) -> None:
        """An action that came too late costs five (PROTOCOL 4.3)."""
        self.state.account(address).requests_used += 5

    def _charge(self, account: Account, action: Action) -> None:
        cap = self.budget_cap(account)
        if isinstance(action, CancelOrders):
            cap = min(cap + EXTRA_CANCELS, 2 * cap)
        cost = items_of(action)
        if account.requests_used + cost > cap:
            last, now = account.last_trickle_ms, self.state.now_ms
            if last is not None and now - last < self.state.config.budget_trickle_ms:
                raise Refused(texts.budget(account.requests_used + cost, cap, account.volume_usd))
            account.last_trickle_ms = now
        account.requests_used += cost

    def _place(self, account: Account, action: PlaceOrders) -> JsonObject:
        if action.grouping != "na":
            raise Refused(texts.not_simulated(f"grouping {action.grouping}"))
        try:
            validate(self.state, action.orders)
        except BatchRefused as refusal:
            return ok("order", [{"error": refusal.text}])
        if action.builder:
            return ok("order", [{"error": texts.with_asset(texts.BUILDER, o.asset)} for o in action.orders])
        return ok("order", [place(self.state, account, order) for order in action.orders])

    def _own(self, account: Account, key: int | str) -> Order | None:
        """An open order of the account by oid or cloid."""
        order = account.find(key)
        return order if order is not None and order.is_open else None

    def _cancel(self, account: Account, asset: int, key: int | str, *, fast: bool) -> JsonObject | str:
        order = self._own(account, key)
        if order is None or order.asset != asset:
            return {"error": texts.with_asset(texts.GONE, asset)}
        if fast and order.is_waiting:
            return {"error": texts.with_asset(texts.TRIGGER_FAST_CANCEL, asset)}
        self.state.end(order, "canceled")
        return "success"

    def _modify(self, account: Account, action: ModifyOrders) -> JsonObject:
        try:
            validate(self.state, tuple(order for _, order in action.modifies))
        except BatchRefused as refusal:
            return err(refusal.text) if action.single else ok("order", [{"error": refusal.text}])
        statuses: list[JsonObject | str] = []
        for key, request in action.modifies:
            old = self._own(account, key)
            if old is None or old.asset != request.asset:
                if action.single:
                    raise Refused(texts.CANNOT_MODIFY)
                statuses.append({"error": texts.with_asset(texts.CANNOT_MODIFY + ".", request.asset)})
                continue
            if request.trigger is not None and not action.always_place:
                statuses.append({"error": texts.with_asset(texts.TRIGGER_MODIFY, request.asset)})
                continue
            statuses.append(self._replace(account, old, request, action.always_place))
        return ok("default") if action.single else ok("order", statuses)

    def _replace(self, account: Account, old: Order, request: OrderRequest, always_place: bool) -> JsonObject:
        """Cancel and new oid under the same cloid. Without `a` the replacement is made post-only (PROTOCOL 4.3).

        UNVERIFIED: a replacement that is refused leaves the old order cancelled, the worse case for a client.
        """
        cloid = request.cloid if request.cloid is not None else old.cloid
        replacement = evolve(request, tif=request.tif if always_place else TimeInForce.ALO, cloid=cloid)
        self.state.end(old, "canceled")
        return place(self.state, account, replacement)

    def _schedule(self, account: Account, action: ScheduleCancel) -> JsonObject:
        required = self.state.config.scheduled_cancel_volume_usd
        if account.volume_usd < required:
            raise Refused(texts.schedule_gate(required, account.volume_usd))
        if action.time_ms is not None and action.time_ms < self.state.now_ms + SCHEDULE_LEAD_MS:
            raise Refused(texts.SCHEDULE_EARLY)
        account.scheduled_cancel_ms = action.time_ms
        return ok("default")

    def _leverage(self, account: Account, action: UpdateLeverage) -> JsonObject:
        market = self.state.directory.by_asset.get(action.asset)
        if market is None:
            raise Refused(texts.UNKNOWN_ASSET)
        if not 1 <= action.leverage <= market.listing.max_leverage:
            raise Refused(texts.INVALID_LEVERAGE)
        if action.is_cross and market.is_isolated_only:
            raise Refused(texts.NO_CROSS)
        held = account.holdings.get(action.asset)
        before = account.leverage.get(action.asset)
        is_cross = before.is_cross if before is not None else not market.is_isolated_only
        if held is not None and is_cross != action.is_cross:
            raise Refused(texts.LEVERAGE_SWITCH)
        account.leverage[action.asset] = Leverage(action.is_cross, action.leverage)
        return ok("default")

    def _approve(self, account: Account, action: ApproveAgent) -> JsonObject:
        now = self.state.now_ms
        until = action.valid_until_ms if action.valid_until_ms is not None else now + AGENT_LIFE_MS
        if not now < until <= now + AGENT_LIFE_MS:
            raise Refused(texts.AGENT_EXPIRED)
        self.approve(account.address, Agent(action.agent, action.name, until))
        return ok("default")

    def approve(self, master: str, agent: Agent) -> None:
        """Registers an agent under its name, replacing the one before; the zero address removes it. Raises Refused."""
        account = self.state.account(master)
        old = account.agents.get(agent.name)
        if agent.address == NO_AGENT:
            if old is not None:
                self._retired_agents.add(account.agents.pop(agent.name).address)
            return
        if agent.address in self._retired_agents or self.master_of(agent.address) is not None:
            raise Refused(texts.AGENT_USED)
        if agent.name and old is None and sum(1 for name in account.agents if name) >= NAMED_AGENTS:
            raise Refused(texts.TOO_MANY_AGENTS)
        if old is not None:
            self._retired_agents.add(old.address)
        account.agents[agent.name] = agent

    def master_of(self, address: str) -> str | None:
        """The account that an unexpired agent at `address` acts for."""
        for account in self.state.accounts.values():
            for agent in account.agents.values():
                if agent.address == address and agent.valid_until_ms > self.state.now_ms:
                    return account.address
        return None

    def fund(self, address: str, dex: str, usd: Decimal) -> None:
        """Deposits `usd` on a dex; from then on the address exists."""
        if self.state.directory.dex(dex) is None:
            raise ValueError(f"there is no dex {dex!r} to fund")
        cash = self.state.account(address).cash
        cash[dex] = cash.get(dex, ZERO) + usd

    def resting(self, coin: str, side: OrderSide) -> list[Order]:
        """Orders of accounts that rest on one side, in priority."""
        return list(self.state.directory.by_coin[coin].book.resting(side))
