"""`hip3 exchange` as a process of its own with one account and two agents, and a hand that trades on it over REST."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import define

from hip3.cli.main import make_app
from hip3.core import units
from hip3.core.ids import CloidFactory, MarketSpec, OrderSide, TimeInForce
from hip3.core.orders import OrderIntent
from hip3.io.clock import SystemClock
from hip3.ops.drill import PAPER_CONFIG
from hip3.venue.hyperliquid import actions, info
from hip3.venue.hyperliquid.endpoints import Network
from hip3.venue.hyperliquid.metadata import resolve_markets
from hip3.venue.hyperliquid.nonce import NonceSource
from hip3.venue.hyperliquid.signing import Signer, TradingKey

USER = "0x" + "34" * 20
BOT_KEY, GUARD_KEY = "0x" + "7e" * 32, "0x" + "7d" * 32
"""Nobody's keys; the exchange is on loopback and ends with its process."""
NVDA = "xyz:NVDA"


@contextmanager
def hip3(*arguments: str, cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A running command of the program; killed at the end where it still runs."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "hip3", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HIP3_STATE_DIR": str(cwd), "BOT_KEY": BOT_KEY, "GUARD_KEY": GUARD_KEY, **environment},
        cwd=cwd,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def run_hip3(*arguments: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """A command to its end: exit code, standard output, standard error."""
    with hip3(*arguments, cwd=cwd, **environment) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def call_hip3(*arguments: str, cwd: Path) -> int:
    """The exit code of a command that starts nothing: in this process, in the same surroundings as `hip3`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        for name, value in {"HIP3_STATE_DIR": str(cwd), "BOT_KEY": BOT_KEY, "GUARD_KEY": GUARD_KEY}.items():
            patch.setenv(name, value)
        code = make_app()(arguments, exit_on_error=False)
    assert isinstance(code, int)
    return code


@define
class ExternalVenue:
    """A venue in another process."""

    url: str
    process: subprocess.Popen[str]
    nonces: NonceSource
    cloids: CloidFactory

    def ask(self, request: dict[str, object]) -> Any:
        return httpx.post(f"{self.url}/info", json=request, timeout=10).json()

    def positions(self) -> list[str]:
        return [p["position"]["coin"] for p in self.ask(info.clearinghouse_state(USER, "xyz"))["assetPositions"]]

    def open_orders(self) -> list[int]:
        return [row["oid"] for row in self.ask(info.frontend_open_orders(USER, "xyz"))]

    def spec(self, coin: str) -> MarketSpec:
        return resolve_markets(self.ask(info.perp_dexs()), {"xyz": self.ask(info.meta("xyz"))})[coin]

    def place(self, coin: str, usd: int, *, tif: TimeInForce = TimeInForce.IOC) -> Any:
        """Buys for about `usd` with the bot's agent: at once through 1 % of the mid, or resting 2 % below it."""
        spec, mid = self.spec(coin), Decimal(self.ask(info.all_mids("xyz"))[coin])
        px = units.round_price(
            mid * (Decimal("1.01") if tif is TimeInForce.IOC else Decimal("0.98")), spec.sz_decimals, up=True
        )
        sz = units.round_size_up(usd / px, spec.sz_decimals)
        order = OrderIntent(self.cloids.next(), spec, OrderSide.BUY, sz, px, tif, False, 0)
        signer = Signer(TradingKey.from_text(BOT_KEY), Network.PAPER)
        body = signer.sign(actions.order_action([order]), self.nonces.next()).body()
        return httpx.post(f"{self.url}/exchange", json=body, timeout=10).json()["response"]["data"]["statuses"][0]


@contextmanager
def external_venue(cwd: Path) -> Iterator[ExternalVenue]:
    """`hip3 exchange` on a free port with `USER` funded on xyz and the two keys as its agents."""
    bot, guard = (TradingKey.from_text(key).address for key in (BOT_KEY, GUARD_KEY))
    options = ("--port", "0", "--fund", f"{USER}=1000", "--latency-ms", "10")
    agents = ("--agent", f"{USER}={bot}=bot", "--agent", f"{USER}={guard}=guard")
    with hip3("exchange", *options, *agents, cwd=cwd) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, f"{line}{process.stderr.read() if process.stderr else ''}"
        clock = SystemClock()
        yield ExternalVenue(found[0], process, NonceSource(clock.wall_ms), CloidFactory(clock.wall_ms()))


def configured(tmp_path: Path, venue: ExternalVenue) -> Path:
    """The file of a bot of `USER` at the venue; it takes the first quote that is better than the oracle at all."""
    path, signer = tmp_path / "bot.toml", TradingKey.from_text(BOT_KEY).address
    ws = f"{venue.url.replace('http', 'ws')}/ws"
    path.write_text(PAPER_CONFIG.format(url=venue.url, ws=ws, account=USER, signer=signer, key="BOT_KEY"))
    return path


def last_json(text: str) -> dict[str, Any]:
    """The report on the last line of standard output."""
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found
