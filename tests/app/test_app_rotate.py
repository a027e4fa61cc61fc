"""From one agent to the next: `hip3 keys rotate` against the embedded exchange, and starts with an agent of before (KEY-5).

The command and the exchange talk over loopback sockets; the exchange runs beside it in real time.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from hip3.cli.main import make_app
from hip3.exchange.exchange import Exchange
from hip3.exchange.server import serve
from hip3.io.clock import SystemClock
from hip3.ops.agents import FILE, retired_agents
from hip3.ops.paper import make_paper
from hip3.venue.hyperliquid.signing import TradingKey
from tests.app.app_builders import Script, bot_settings, toml

USER, OTHER = "0x" + "a1" * 20, "0x" + "b2" * 20
OLD = TradingKey((7).to_bytes(32, "big"))
OLD_TEXT = (7).to_bytes(32, "big").hex()
DAY_MS = 86_400_000


@frozen
class Desk:
    """An operator's machine beside a venue: the configuration, the state folder, and the command line."""

    folder: Path
    exchange: Exchange
    port: int

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def config(self, signer: str = OLD.address, key: Path | None = None) -> str:
        """The path of a configuration with this agent."""
        url = f"127.0.0.1:{self.port}"
        values = {"network": "paper", "info_url": f"http://{url}", "ws_url": f"ws://{url}/ws"}
        text = toml({**values, "user_address": USER, "signer_address": signer})
        text += f'[signer]\nkey_source = {{type = "file", path = {json.dumps(str(key or self.folder / "old.key"))}}}\n'
        path = self.folder / "config.toml"
        path.write_text(text)
        return str(path)

    async def hip3(self, *tokens: str) -> int:
        """The exit code of one command."""
        return int(await trio.to_thread.run_sync(partial(make_app(), list(tokens), exit_on_error=False)))

    async def rotate(self, *tokens: str, out: str = "new.key", config: str | None = None) -> int:
        place = ["--out", str(self.folder / out), "--plain"]
        return await self.hip3("keys", "rotate", "--config", config or self.config(), *place, *tokens)

    def approve(self, address: str, user: str = USER, *, for_ms: int = 30 * DAY_MS) -> None:
        self.exchange.approve_agent(user, address, SystemClock().wall_ms() + for_ms, "second")

    def new_address(self) -> str:
        return TradingKey.from_text((self.folder / "new.key").read_text()).address


Scene = Callable[[Desk], Any]


@pytest.fixture
def at_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scene], None]:
    """Runs a scene beside a venue that knows the old agent."""
    monkeypatch.setenv("HIP3_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "old.key").write_text(OLD_TEXT)
    (tmp_path / "old.key").chmod(0o600)

    def play(scene: Scene) -> None:
        async def main() -> None:
            settings = bot_settings()
            venue = make_paper(settings, Script().calm().source(), SystemClock(), given=(USER, OLD))
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    port: int = await nursery.start(serve, venue.exchange, "127.0.0.1", 0)
                    await scene(Desk(tmp_path, venue.exchange, port))
                    nursery.cancel_scope.cancel()

        trio.run(main)

    return play


def test_a_rotation_from_the_new_key_to_the_old_one_refused(
    at_desk: Callable[[Scene], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY-5, KEY-4: key, address, approval, record, lines of the configuration; no key is printed.

    Then neither a start nor a rotation takes the old agent again.
    """
    said: list[str] = []

    def told() -> str:
        out = capsys.readouterr()
        said.append(out.out + out.err)
        return said[-1]

    async def scene(desk: Desk) -> None:
        assert await desk.rotate() == 3
        new = desk.new_address()
        text = told()
        assert new in text
        assert "'missing'; approve it" in text
        assert "run the same command again" in text
        assert stat.S_IMODE((desk.folder / "new.key").stat().st_mode) == 0o600
        assert retired_agents(desk.state) == []

        desk.approve(new)
        assert await desk.rotate() == 0
        text = told()
        assert f'signer_address = "{new}"' in text
        assert f'key_source = {{type = "file", path = "{desk.folder / "new.key"}"}}' in text
        (record,) = retired_agents(desk.state)
        assert (record.address, record.user, record.replaced_by) == (OLD.address.lower(), USER, new)
        assert stat.S_IMODE((desk.state / FILE).stat().st_mode) == 0o600

        assert await desk.hip3("run", "--config", desk.config(), "--duration", "1") == 2
        assert f"agent {OLD.address} was replaced by {new}" in told()
        changed = desk.config(new, desk.folder / "new.key")
        assert await desk.rotate(out="old.key", config=changed) == 2
        assert "never used again" in told()
        said.append((desk.folder / "new.key").read_text().strip())

    at_desk(scene)
    key = said.pop()
    assert len(key) == 64
    assert not any(secret in text for text in said for secret in (key, OLD_TEXT))


def test_what_is_no_new_agent_of_the_account_is_not_taken(
    at_desk: Callable[[Scene], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY-5, KEY-3: an agent of another account, an expired one and the one in use retire nobody."""

    async def scene(desk: Desk) -> None:
        assert await desk.rotate(out="old.key") == 2
        assert "uses already" in capsys.readouterr().err
        assert await desk.rotate() == 3
        desk.approve(desk.new_address(), OTHER)
        capsys.readouterr()
        assert await desk.rotate("--json") == 3
        out = capsys.readouterr()
        assert f"is an agent of {OTHER}" in out.err
        assert json.loads(out.out)["approved"] is False
        assert retired_agents(desk.state) == []

    at_desk(scene)


def test_a_venue_that_does_not_answer_approves_nobody(
    at_desk: Callable[[Scene], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY-5, META-1: no answer is not "approved": exit code 3, nothing on record."""

    async def scene(desk: Desk) -> None:
        nowhere = Desk(desk.folder, desk.exchange, 1)
        assert await nowhere.rotate() == 3
        assert "no answer" in capsys.readouterr().err
        assert retired_agents(desk.state) == []

    at_desk(scene)


def test_a_record_that_cannot_be_read_refuses_the_start(
    at_desk: Callable[[Scene], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """KEY-5, LESSONS 3: not knowing whether the agent was replaced is no leave to use it."""

    async def scene(desk: Desk) -> None:
        desk.state.mkdir()
        (desk.state / FILE).write_text('{"address": "0x')
        assert await desk.hip3("run", "--config", desk.config(), "--duration", "1") == 2
        assert "whether the key was used before is not known" in capsys.readouterr().err

    at_desk(scene)


def test_a_keystore_is_made_by_default(
    at_desk: Callable[[Scene], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """KEY-5, KEY-1: without --plain the new key lies encrypted, and waits for its approval."""
    monkeypatch.setenv("HIP3_KEYSTORE_PASSPHRASE", "correct horse")

    async def scene(desk: Desk) -> None:
        out = desk.folder / "agent.json"
        assert await desk.hip3("keys", "rotate", "--config", desk.config(), "--out", str(out)) == 3
        assert json.loads(out.read_text())["version"] == 3
        assert f"key        {out}" in capsys.readouterr().out

    at_desk(scene)
