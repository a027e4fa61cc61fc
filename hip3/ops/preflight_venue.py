"""The checks of `hip3 preflight` that ask the venue: REST, WebSocket, clock, agent, markets, prices, balance. Signs nothing.

The rules are those of the start (`boot.py`, `start_state.py`); here each is asked by itself, so that one that fails does
not hide the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import attrs
import trio
from attrs import define, field

from hip3.core.clock import Clock
from hip3.core.errors import first_leaf
from hip3.core.events import AccountState, OrderUpdate, Pong
from hip3.core.ids import MarketSpec
from hip3.io.dial import CONNECTION_FAILURES, Dial
from hip3.io.rest import QueryFailed, RestClient
from hip3.ops import boot
from hip3.ops.findings import Finding, PreflightCheck, failed, passed, warned
from hip3.ops.start_state import account_warnings
from hip3.settings.caps import effective_caps
from hip3.settings.schema import Mode, Settings
from hip3.venue.hyperliquid import info
from hip3.venue.hyperliquid.endpoints import Endpoints
from hip3.venue.hyperliquid.errors import MetadataError, WireError
from hip3.venue.hyperliquid.nonce import ERROR_SKEW_MS, WARN_SKEW_MS, Skew, judge_skew
from hip3.venue.hyperliquid.parse import parse_exchange_status, parse_frame
from hip3.venue.hyperliquid.subscriptions import PING

PONG_WITHIN_S = 10.0  # WS-2
REFUSALS = (QueryFailed, WireError, MetadataError, boot.PreflightRefused)
UP = "is the venue up, and is the URL right?"
SYNCHRONISE = "synchronise the clock (NTP)"
POOLED = ("unifiedAccount", "portfolioMargin")
"""Modes in which the balances of the dexes say nothing (PROTOCOL 1.6)."""


@define
class VenueChecks:
    """One look at a venue. `user` is None where there is no account, `signer` where no address is known to sign."""

    settings: Settings
    rest: RestClient
    dial: Dial
    endpoints: Endpoints
    clock: Clock
    user: str | None
    signer: str | None
    found: list[Finding] = field(factory=list)
    """Grows as the answers come, so that what was answered counts where something else hangs."""

    async def run(self) -> None:
        """Makes every check. Raises nothing of the venue."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._websocket)
            server_ms = await self._rest()
            questions = boot.questions_of(self.settings, self.user)
            if self.user is not None:
                questions["abstraction"] = info.user_abstraction(self.user)
            answers = await boot.ask_all(self.rest, questions)
            await self._agent(answers, server_ms)
            specs = self._markets(answers)
            self._prices(answers, specs)
            self._balance(answers, specs)

    def _note(self, finding: Finding) -> None:
        self.found.append(finding)

    # ---- the way there

    async def _rest(self) -> int | None:
        """REST and clock, out of the lightest question there is; the venue's time."""
        asked_ms, url = self.clock.mono_ms(), self.rest.base_url
        try:
            server_ms = parse_exchange_status(await self.rest.info(info.exchange_status())).time_ms
        except (QueryFailed, WireError) as e:
            self._note(failed(PreflightCheck.REST, str(e), UP))
            return None
        took_ms = self.clock.mono_ms() - asked_ms
        self._note(passed(PreflightCheck.REST, f"{url} answered within {took_ms} ms"))
        # The venue said its time somewhere between question and answer; the middle is off by half the way at most.
        self._note(self._skew(server_ms - self.clock.wall_ms() + took_ms // 2))
        return server_ms

    def _skew(self, offset_ms: int) -> Finding:
        """NON-2: how far the local clock is from the venue's."""
        value = f"the local clock is {-offset_ms:+d} ms from the venue's"
        skew = judge_skew(offset_ms)
        if skew is Skew.OK:
            return passed(PreflightCheck.CLOCK, value)
        if skew is Skew.WARN:
            return warned(PreflightCheck.CLOCK, f"{value}, more than {WARN_SKEW_MS}", SYNCHRONISE)
        return failed(PreflightCheck.CLOCK, f"{value}, more than {ERROR_SKEW_MS}: no entry would leave", SYNCHRONISE)

    async def _websocket(self) -> None:
        check, url, asked_ms = PreflightCheck.WEBSOCKET, self.endpoints.ws_url, self.clock.mono_ms()
        problem = f"no pong within {PONG_WITHIN_S:g} s"
        try:
            with trio.move_on_after(PONG_WITHIN_S):
                async with self.dial() as ws:
                    await ws.send_message(PING)
                    while not isinstance(parse_frame(await ws.get_message()), Pong):
                        pass
                    problem = ""
        except* CONNECTION_FAILURES as group:
            error = first_leaf(group)
            problem = f"{type(error).__name__}: {error}".rstrip(": ")
        except* WireError as group:
            problem = f"a frame could not be read: {first_leaf(group)}"
        if problem:
            self._note(failed(check, f"{url}: {problem}", UP))
        else:
            self._note(passed(check, f"{url}: pong within {self.clock.mono_ms() - asked_ms} ms"))

    # ---- what is there

    async def _agent(self, answers: boot.Answers, server_ms: int | None) -> None:
        """KEY-3."""
        check = PreflightCheck.AGENT
        if self._has_no_account(check):
            return
        if self.signer is None:
            self._note(failed(check, "not checked: no key and no signer_address", "correct the key first"))
            return
        if server_ms is None:
            self._note(failed(check, "not checked: the venue's time is not known", UP))
            return
        assert self.user is not None  # or there was no account
        try:
            warnings = await boot.check_agent(self.rest, answers, self.user, self.signer, server_ms)
        except REFUSALS as e:
            self._note(failed(check, str(e)))
            return
        value = f"{self.signer} signs for {self.user}"
        self._note(warned(check, f"{value}; {'; '.join(warnings)}") if warnings else passed(check, value))

    def _markets(self, answers: boot.Answers) -> dict[str, MarketSpec]:
        """META-1, META-3: each market by itself; those that can be traded."""
        specs: dict[str, MarketSpec] = {}
        problems: list[str] = []
        for market in self.settings.markets:
            try:
                specs |= boot.markets_of(answers, attrs.evolve(self.settings, markets=(market,)))
            except REFUSALS as e:
                problems.append(str(e))
        if problems:
            self._note(failed(PreflightCheck.MARKETS, "; ".join(dict.fromkeys(problems))))
        else:
            ids = ", ".join(f"{coin} is asset {spec.asset_id}" for coin, spec in specs.items())
            self._note(passed(PreflightCheck.MARKETS, ids))
        return specs

    def _prices(self, answers: boot.Answers, specs: dict[str, MarketSpec]) -> None:
        """META-1: each market that was found is what its name says, and has prices."""
        check = PreflightCheck.PRICES
        problems: list[str] = []
        warnings: list[str] = []
        for coin, spec in specs.items():
            alone = attrs.evolve(self.settings, markets=tuple(m for m in self.settings.markets if m.coin == coin))
            try:
                warnings += boot.price_warnings(answers, alone, {coin: spec})
            except REFUSALS as e:
                problems.append(str(e))
        if problems or not specs:
            self._note(failed(check, "; ".join(dict.fromkeys(problems)) or "not checked: no market was found"))
        elif warnings:
            self._note(warned(check, "; ".join(warnings)))
        else:
            self._note(passed(check, f"{len(specs)} markets have mark, {self.settings.detector.reference.value} and quotes"))

    # ---- the account

    def _has_no_account(self, check: PreflightCheck) -> bool:
        if self.settings.mode is Mode.OBSERVATION:
            self._note(passed(check, "none, observation has no account"))
        elif self.user is None:
            self._note(failed(check, "not checked: user_address is not set", "name the account"))
        return self.settings.mode is Mode.OBSERVATION or self.user is None

    def _balance(self, answers: boot.Answers, specs: dict[str, MarketSpec]) -> None:
        """Collateral and margin of each dex, against what the smallest order and the caps need."""
        check = PreflightCheck.BALANCE
        if self._has_no_account(check):
            return
        try:
            states, orders = boot.account_of(answers, self.settings)
            mode = answers.of("abstraction")
        except REFUSALS as e:
            self._note(failed(check, str(e), UP))
            return
        if mode in POOLED:
            value = f"account mode {mode}: the dexes' own balances say nothing"
            self._note(warned(check, value, "look at the account's spot USDC; it has 50,000 actions a day"))
            return
        self._note(self._judge(states, orders, specs))

    def _judge(
        self, states: tuple[AccountState, ...], orders: tuple[OrderUpdate, ...], specs: dict[str, MarketSpec]
    ) -> Finding:
        settings, check = self.settings, PreflightCheck.BALANCE
        least, all_of_it = settings.detector.min_order_notional_usd, effective_caps(settings).total_usd
        value = "; ".join(f"{s.dex or 'the main dex'}: {s.account_value:f} USD, {s.withdrawable:f} free" for s in states)
        poor = list(_below(states, specs, least))
        if poor:
            need = f"an order of {least:f} USD needs more margin on {', '.join(poor)}"
            return failed(check, f"{value}; {need}", "transfer USDC to that dex, or remove its markets")
        known = [text for text in account_warnings(states, orders) if "no collateral" not in text]
        short = list(_below(states, specs, all_of_it))
        if short:
            known.append(f"the cap of {all_of_it:f} USD cannot be used whole on {', '.join(short)}")
        return warned(check, f"{value}; {'; '.join(known)}") if known else passed(check, value)


def _below(states: tuple[AccountState, ...], specs: dict[str, MarketSpec], notional_usd: Decimal) -> Iterator[str]:
    """Dexes whose free collateral does not carry a position of `notional_usd` at the most leverage that is allowed there."""
    for state in states:
        leverages = [spec.max_leverage for spec in specs.values() if spec.key.dex == state.dex]
        if leverages and state.withdrawable * max(leverages) < notional_usd:
            yield state.dex or "the main dex"
