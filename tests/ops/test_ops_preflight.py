"""`hip3 preflight`, check by check: each one fails where what it looks at is not well, and the others go on (OPS-2)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import trio
from attrs import evolve, frozen

from hip3.core.records import StateRecord
from hip3.core.remembered import RUN_KEY
from hip3.exchange.engine import NO_AGENT
from hip3.exchange.faults import Disconnect, Drop, FaultAction, Faults, HttpAnswer, Point, ReplaceBody, Rule
from hip3.exchange.inmemory import InMemory
from hip3.io.clock import SystemClock, TrioClock
from hip3.io.rest import RestClient, http_client
from hip3.ops.agents import RetiredAgent, retire
from hip3.ops.findings import Finding, Level, PreflightCheck, all_ok, complete, finding_lines
from hip3.ops.keep import store_place
from hip3.ops.paper import PaperVenue, make_paper
from hip3.ops.preflight import check_config, check_environment
from hip3.ops.preflight_local import AMPLE_BYTES, LEAST_BYTES, check_disk, check_hash, check_key, check_store
from hip3.ops.preflight_venue import VenueChecks
from hip3.ops.reach import configured_key
from hip3.settings import LoadedSettings, load_for_check
from hip3.settings.load import packaged_config
from hip3.settings.schema import Settings
from hip3.simulate.world import START_MS
from hip3.store.database import place_of_file
from hip3.store.lock import take_lock
from hip3.store.segments import FORMAT, Header
from hip3.store.spool import Spool
from hip3.store.store import RunInfo, open_store
from hip3.venue.hyperliquid.endpoints import Endpoints
from hip3.venue.hyperliquid.errors import BackendMissing
from hip3.venue.hyperliquid.signing import TradingKey
from tests.app.app_builders import FAST, MU, SNDK, Script, bot_settings

DAY_MS = 86_400_000
C = PreflightCheck
VENUE_CHECKS = {C.AGENT, C.REST, C.WEBSOCKET, C.CLOCK, C.MARKETS, C.PRICES, C.BALANCE}
USER, OTHER = "0x" + "12" * 20, "0x" + "34" * 20
KEY = TradingKey((7).to_bytes(32, "big"))
KEY_TEXT = "0x" + (7).to_bytes(32, "big").hex()


def answer(kind: str, action: FaultAction) -> Rule:
    return Rule(Point.INFO, action, lambda subject: subject == kind, uses=None)


async def ask(
    settings: Settings,
    *rules: Rule,
    before: Callable[[PaperVenue], None] = lambda _venue: None,
    ahead_ms: int = 0,
    signer: str | None = "its own",
) -> dict[PreflightCheck, Finding]:
    """What the checks of the venue find; the local clock is `ahead_ms` ahead. Nothing is sent but questions."""
    clock, faults = TrioClock.starting_at(START_MS), Faults()
    venue = make_paper(settings, Script().calm(SNDK, MU).source(), clock, faults=faults, config=FAST)
    before(venue)
    faults.add(*rules)
    memory = InMemory(venue.exchange)
    found: list[Finding] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(memory.run)
        await trio.sleep(1)  # the first block brings the prices
        ours = evolve(clock, start_wall_ms=START_MS + ahead_ms)
        async with http_client(memory.transport()) as client:
            rest = RestClient(client, ours, "http://exchange.invalid")
            urls = Endpoints("http://exchange.invalid", "ws://exchange.invalid/ws")
            address = venue.account.signer.address if signer == "its own" else signer
            checks = VenueChecks(settings, rest, memory.dial, urls, ours, venue.account.user, address, found)
            await checks.run()
        nursery.cancel_scope.cancel()
    assert not venue.exchange.received
    assert {f.check for f in found} | {C.CLOCK} == VENUE_CHECKS
    return {f.check: f for f in found if isinstance(f.check, PreflightCheck)}


def levels(found: Mapping[PreflightCheck, Finding], *but: PreflightCheck) -> set[Level]:
    return {finding.level for check, finding in found.items() if check not in but}


async def test_a_good_venue_passes_everything(autojump_clock: object) -> None:
    """OPS-2: the asset ids, the offset of the clock, the balance and the signer are told."""
    found = await ask(bot_settings(coins=(SNDK, MU)))
    assert levels(found) == {Level.PASS}
    assert found[C.MARKETS].value == "xyz:SNDK is asset 110002, xyz:MU is asset 110003"
    assert "1000" in found[C.BALANCE].value


async def test_a_silent_rest_fails_and_the_websocket_is_still_tried(autojump_clock: object) -> None:
    """OPS-2, META-1: a question that failed is no answer; what does not depend on it goes on."""
    found = await ask(bot_settings(), Rule(Point.INFO, Drop(), uses=None))
    assert found[C.REST].level is Level.FAIL
    assert found[C.WEBSOCKET].level is Level.PASS
    assert C.CLOCK not in found  # `complete` makes a FAIL of it
    assert levels(found, C.WEBSOCKET) == {Level.FAIL}


@pytest.mark.parametrize(
    "rule", [Rule(Point.CONNECT, Disconnect(), uses=None), Rule(Point.FRAME, Drop(), uses=None)], ids=["refused", "mute"]
)
async def test_a_websocket_that_is_not_there_fails_alone(rule: Rule, autojump_clock: object) -> None:
    """OPS-2, WS-2: it is really reached, with a ping and its pong."""
    found = await ask(bot_settings(), rule)
    assert found[C.WEBSOCKET].level is Level.FAIL
    assert levels(found, C.WEBSOCKET) == {Level.PASS}


@pytest.mark.parametrize(
    ("ahead_ms", "level"),
    [(-1900, Level.PASS), (3000, Level.WARN), (-3000, Level.WARN), (6000, Level.FAIL), (-6000, Level.FAIL)],
)
async def test_a_skewed_clock(ahead_ms: int, level: Level, autojump_clock: object) -> None:
    """OPS-2, NON-2: WARN above 2 s, FAIL above 5 s, with the sign and the remedy."""
    finding = (await ask(bot_settings(), ahead_ms=ahead_ms))[C.CLOCK]
    assert finding.level is level
    assert f"clock is {'+' if ahead_ms > 0 else '-'}" in finding.value
    assert ("NTP" in finding.remedy) is (level is not Level.PASS)


async def test_a_missing_market_is_named_and_the_other_one_is_still_looked_at(autojump_clock: object) -> None:
    """OPS-2, META-3: unknown and with a wrong id, each with what the venue says."""
    found = await ask(bot_settings(coins=("xyz:SNKD", SNDK)))
    assert found[C.MARKETS].level is Level.FAIL
    assert "did you mean xyz:SNDK" in found[C.MARKETS].value
    assert found[C.PRICES].value.startswith("1 markets")
    wrong = await ask(bot_settings(market={"asset_idx": 28}))
    assert "28" in wrong[C.MARKETS].value
    assert wrong[C.PRICES].level is Level.FAIL


async def test_a_market_without_prices_fails(autojump_clock: object) -> None:
    """OPS-2, META-1: halted or not open yet."""
    found = await ask(bot_settings(), answer("allMids", ReplaceBody("{}")))
    assert found[C.PRICES].level is Level.FAIL
    assert SNDK in found[C.PRICES].value


async def test_no_collateral_fails_and_little_warns(autojump_clock: object) -> None:
    """OPS-2, LESSONS 39: no margin for the smallest order, caps that cannot be used whole, and another abstraction mode."""
    none = await ask(bot_settings({"paper.deposit_usd": 0.5}))
    assert none[C.BALANCE].level is Level.FAIL
    assert "xyz" in none[C.BALANCE].value
    assert "transfer USDC" in none[C.BALANCE].remedy
    little = await ask(bot_settings({"paper.deposit_usd": 5}))
    assert little[C.BALANCE].level is Level.WARN
    pooled = await ask(bot_settings(), answer("userAbstraction", ReplaceBody('"unifiedAccount"')))
    assert pooled[C.BALANCE].level is Level.WARN
    unread = await ask(bot_settings(), answer("clearinghouseState", HttpAnswer(502)))
    assert unread[C.BALANCE].level is Level.FAIL


def revoke(venue: PaperVenue) -> None:
    venue.exchange.approve_agent(venue.account.user, NO_AGENT, START_MS + DAY_MS, "hip3")


async def test_an_agent_that_is_not_approved_fails(autojump_clock: object) -> None:
    """OPS-2, KEY-3: not approved, about to expire, and not known at all."""
    assert (await ask(bot_settings(), before=revoke))[C.AGENT].level is Level.FAIL
    assert (await ask(bot_settings(), signer=None))[C.AGENT].level is Level.FAIL

    def soon(venue: PaperVenue) -> None:
        agents = venue.exchange.engine.state.account(venue.account.user.lower()).agents
        agents["hip3"] = evolve(agents["hip3"], valid_until_ms=START_MS + 3 * DAY_MS)

    finding = (await ask(bot_settings(), before=soon))[C.AGENT]
    assert (finding.level, "expires in 2 days" in finding.value) == (Level.WARN, True)


# ---- without a venue


@frozen
class Start:
    """A configuration file and a state folder."""

    folder: Path

    def load(self, text: str) -> LoadedSettings:
        path = self.folder / "bot.toml"
        path.write_text(text)
        return load_for_check(path, {})

    def key(self, text: str, env: Mapping[str, str]) -> Finding:
        loaded = self.load(text)
        return check_key(loaded, lambda: configured_key(loaded, env, self.state, None))[0]

    @property
    def state(self) -> Path:
        return self.folder / "state"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


SIGNED = (
    f'network = "paper"\nuser_address = "{USER}"\n{{}}\n[signer]\nkey_source = {{{{type = "env_var", var_name = "K"}}}}\n'
)


def test_a_wrong_key_fails(start: Start) -> None:
    """OPS-2, KEY-1, KEY-2, KEY-5: missing, of another address, replaced before; and what a key may be without."""
    good = SIGNED.format(f'signer_address = "{KEY.address}"')
    assert start.key(good, {"K": KEY_TEXT}).level is Level.PASS
    assert start.key(good, {}).level is Level.FAIL
    other = start.key(SIGNED.format(f'signer_address = "{OTHER}"'), {"K": KEY_TEXT})
    assert other.level is Level.FAIL
    assert KEY.address in other.value
    assert KEY_TEXT not in other.value
    retire(start.state, RetiredAgent(KEY.address, USER, "paper", USER, 1))
    assert "never used again" in start.key(good, {"K": KEY_TEXT}).value
    assert start.key('network = "paper"', {}).level is Level.PASS
    assert start.key('network = "testnet"\nmode = "observation"\n[[markets]]\ncoin = "BTC"', {}).level is Level.PASS
    assert start.key('network = "testnet"\n[[markets]]\ncoin = "BTC"', {}).level is Level.FAIL


def test_a_configuration_that_is_not_filled_in_fails(start: Start) -> None:
    """OPS-2, CFG-2: what only the operator can fill in is named; a full one passes."""
    assert check_config(start.load('network = "paper"')).level is Level.PASS
    finding = check_config(start.load('network = "testnet"\n[[markets]]\ncoin = "BTC"'))
    assert finding.level is Level.FAIL
    assert "user_address" in finding.value


def test_an_environment_that_cannot_sign_fails_and_real_money_warns(start: Start) -> None:
    """OPS-2, SIG-5, PRD-1: the signature library is tried; mainnet is named."""
    paper = start.load('network = "paper"')

    def broken() -> None:
        raise BackendMissing("coincurve derives another address; reinstall it")

    assert check_environment(paper, lambda: None).level is Level.PASS
    assert check_environment(paper, broken).level is Level.FAIL
    real = check_environment(load_for_check(packaged_config("mainnet_micro.toml"), {}), lambda: None)
    assert (real.level, "real money" in real.value) == (Level.WARN, True)


def make_store(start: Start, loaded: LoadedSettings, last_hash: str | None = None) -> Path:
    """A store as a run leaves it behind."""
    place = store_place(loaded.settings, start.state)
    run = RunInfo(account=USER, run_id="1", config_hash=last_hash or loaded.hash, pid=1)
    store = open_store(place, run, SystemClock())
    if last_hash is not None:
        store.recorder.put(StateRecord(RUN_KEY, f"1|1|{last_hash}", 1))
        store.recorder.commit()
        store.writer.applier.apply(store.writer.spool.take(100))
    store.close()
    assert place.file is not None
    return place.file


def of_store(start: Start, loaded: LoadedSettings, own: str | None = None) -> dict[PreflightCheck, Finding]:
    found = list(check_store(loaded.settings, start.state, own))
    return {f.check: f for f in found if isinstance(f.check, PreflightCheck)}


def test_a_new_store_and_a_good_one_pass_and_nothing_is_made(start: Start) -> None:
    """OPS-2: before the first run there is no store, and after the check there is none."""
    loaded = start.load('network = "paper"')
    assert levels(of_store(start, loaded)) == {Level.PASS}
    assert check_hash(loaded, USER, start.state).level is Level.PASS
    assert not start.state.exists()
    make_store(start, loaded)
    found = of_store(start, loaded)
    assert levels(found) == {Level.PASS}
    assert set(found) == {C.STORE, C.SCHEMA, C.LOCK}


def test_a_newer_schema_fails_and_is_not_touched(start: Start) -> None:
    """OPS-2, STO-5: the version is told, and it stays."""
    loaded = start.load('network = "paper"')
    file = make_store(start, loaded)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("update schema_version set version_num = '9999'")
    found = of_store(start, loaded)
    assert found[C.SCHEMA].level is Level.FAIL
    assert "9999" in found[C.SCHEMA].value
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("select version_num from schema_version").fetchall() == [("9999",)]


def test_a_spool_that_a_start_would_refuse_fails(start: Start) -> None:
    """OPS-2, STO-4: preflight says what the start would: which group is not what was written, and what helps."""
    loaded = start.load('network = "paper"')
    place = place_of_file(make_store(start, loaded))
    for made in place.spool.iterdir():
        made.unlink()
    spool = Spool(place.spool, Header(FORMAT, "spool-1", "0xaa", "run-1", "", 1, 1), 8)
    spool.open()
    for n in range(3):
        spool.put(StateRecord("key", str(n), n))
        spool.commit()
    spool.close()
    (segment,) = place.spool.iterdir()
    segment.write_bytes(segment.read_bytes().replace(b'"1"', b'"7"', 1))
    found = of_store(start, loaded)
    assert found[C.STORE].level is Level.FAIL
    assert "group 2 has another checksum" in found[C.STORE].value
    assert "`hip3 store rebuild`" in found[C.STORE].value


def test_a_store_that_is_no_database_fails(start: Start) -> None:
    """OPS-2, STO-1: the file and the remedy are named; where the version cannot be read nothing is said of it."""
    loaded = start.load('network = "paper"')
    file = make_store(start, loaded)
    for beside in file.parent.glob(f"{file.name}-*"):
        beside.unlink()
    file.write_bytes(b"not a database, but longer than the header of one" * 100)
    found = of_store(start, loaded)
    assert found[C.STORE].level is Level.FAIL
    assert C.SCHEMA not in found
    assert found[C.LOCK].level is Level.PASS


def test_a_store_in_use_fails_but_for_the_bot_that_is_validated(start: Start) -> None:
    """OPS-2, LESSONS 35: the process that writes is named; looking takes and changes nothing."""
    loaded = start.load('network = "paper"')
    make_store(start, loaded)
    lock = take_lock(store_place(loaded.settings, start.state).lock_file, 4711)
    finding = of_store(start, loaded)[C.LOCK]
    assert finding.level is Level.FAIL
    assert "process 4711" in finding.value
    assert of_store(start, loaded, "4711")[C.LOCK].level is Level.PASS
    assert of_store(start, loaded, "4712")[C.LOCK].level is Level.FAIL
    lock.release()
    assert of_store(start, loaded)[C.LOCK].level is Level.PASS


def test_another_hash_than_that_of_the_last_run_warns(start: Start) -> None:
    """OPS-2, CFG-6: such a start waits for the operator (CONFIG_HASH_CHANGED), so it is told before."""
    loaded = start.load('network = "paper"')
    make_store(start, loaded, "d" * 64)
    finding = check_hash(loaded, USER, start.state)
    assert finding.level is Level.WARN
    assert "d" * 64 in finding.value
    assert "promote" in finding.remedy
    assert check_hash(loaded, "0x" + "99" * 20, start.state).level is Level.PASS
    assert check_hash(loaded, None, start.state).level is Level.PASS


def test_a_full_disk_fails(start: Start) -> None:
    """OPS-2: too little for one run fails, for the journals that are kept warns; a reading that fails is no PASS."""

    def level(free: int) -> Level:
        return check_disk(start.state, lambda _folder: free).level

    assert [level(n) for n in (LEAST_BYTES - 1, LEAST_BYTES, AMPLE_BYTES - 1, AMPLE_BYTES)] == [
        Level.FAIL,
        Level.WARN,
        Level.WARN,
        Level.PASS,
    ]

    def broken(_folder: Path) -> int:
        raise OSError(5, "Input/output error")

    assert check_disk(start.state, broken).level is Level.FAIL
    in_the_way = start.folder / "file"
    in_the_way.write_text("")
    assert check_disk(in_the_way / "state", lambda _folder: AMPLE_BYTES).level is Level.FAIL


def test_a_check_that_nobody_answered_fails() -> None:
    """OPS-2, LESSONS 3: it has a line all the same, and the verdict is false; of nothing as well."""
    found = complete(PreflightCheck, [], "the venue did not answer")
    assert len(found) == len(PreflightCheck)
    assert not all_ok(found)
    assert not all_ok([])
    lines = finding_lines(found, "preflight_ok")
    assert lines[0] == "FAIL  config       not checked: the venue did not answer"
    assert lines[-1] == "preflight_ok false"
