"""What the simulation looks at in records and notes, and that it sees what is wrong there (DESIGN 9.7, 9.10 to 9.12)."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import attrs
import pytest
import trio.testing

from hip3.cli.replay_run import ReplayOptions
from hip3.core.journal import Note
from hip3.core.records import IntentRecord, MemoryRecorder, StateRecord, Transition
from hip3.exchange.faults import Delay, Disconnect, Drop, FaultAction, Point
from hip3.io.clock import TrioClock
from hip3.simulate.kept import Kept
from hip3.simulate.plan import Plan, Strike, make_plan
from hip3.simulate.trial import Trial, run_trial
from hip3.simulate.world import START_MS

SECRET = "5e" * 32
INTENT = IntentRecord("0xa", "xyz:SNDK", 1, "BUY", Decimal(1), Decimal(600), "IOC", False, 7, 1, 1)
WLFI = ReplayOptions(Path("wlfi_l2_trades_9min_20250903.jsonl.gz"), "mid", Decimal("1.5"), time_stop_ms=2000, limit_s=90)


def moved(before: str, after: str, *, why: str = "FILL", category: str = "order", entity: str = "0xa") -> Transition:
    return Transition(1, category, entity, before, after, why)


@pytest.fixture
def said() -> list[int]:
    """Numbers of what was found broken."""
    return []


@pytest.fixture
async def kept(said: list[int], autojump_clock: trio.testing.MockClock) -> Kept:
    return Kept(TrioClock.starting_at(START_MS), lambda number, _what, _subject: said.append(number), (SECRET,))


async def test_simulate_kept_an_intent_counts_from_its_commit(kept: Kept) -> None:
    """DESIGN 9.7, STO-4: an order that arrives before its intent is durable, or with another nonce, is seen."""
    kept.on_commit([INTENT])
    assert kept.is_before("0xa", 7, START_MS)
    assert not kept.is_before("0xa", 7, START_MS - 1)
    assert not kept.is_before("0xa", 8, START_MS)
    assert not kept.is_before("0xb", 7, START_MS)


async def test_simulate_kept_chains_of_transitions_have_no_gap(kept: Kept, said: list[int]) -> None:
    """DESIGN 9.11, STO-3: each row goes on from the one before, and says why; after a kill chains begin anew."""
    kept.on_commit([moved("", "PENDING"), moved("PENDING", "SENT"), moved("SENT", "FILLED")])
    kept.on_commit([moved("NOT_READY", "SYNCING", category="ready", entity="trading")])
    kept.new_process()
    kept.on_commit([moved("NOT_READY", "SYNCING", category="ready", entity="trading")])
    assert said == []
    kept.on_commit([moved("READY", "NOT_READY", category="ready", entity="trading")])
    assert said == [11]
    kept.on_commit([moved("", "SENT", entity="0xb", why="")])
    assert said == [11, 11]


async def test_simulate_kept_sees_a_secret_wherever_it_stands(kept: Kept, said: list[int]) -> None:
    """DESIGN 9.12, KEY-4: in a record, in a field of a note, in either case of its letters."""
    kept.on_commit([StateRecord("agent", f"0x{SECRET.upper()}", 1)])
    kept.read(Note(1, "info", "started", {"of": {"key": SECRET}}))
    kept.read(Note(1, "info", "started", {"of": "nothing"}))
    assert said == [12, 12]


def test_simulate_kept_recorder_tells_and_may_forget() -> None:
    """DESIGN 9: a soak's recorder hands each commit on, whole, and keeps none of it."""
    seen: list[int] = []
    recorder = MemoryRecorder(lambda commit: seen.append(len(commit)), keeps=False)
    recorder.put(INTENT)
    recorder.put(INTENT)
    recorder.commit()
    recorder.commit()
    assert (seen, recorder.records) == ([2], [])


BTC = ReplayOptions(
    Path("btc_bbo_mark_2h_20260510.jsonl.gz"), "mark", Decimal("0.1"), time_stop_ms=2000, start_s=120, limit_s=120
)


def each(point: Point, subject: str, action: FaultAction, step: int = 1, first: int = 0) -> tuple[Strike, ...]:
    """Every `step`-th of its kind, from the `first` on."""
    return tuple(Strike(point, subject, nth, action) for nth in range(first, 60, step))


def tried(shared_data: Path, plan: Plan, options: ReplayOptions = WLFI) -> Trial:
    source, settings = attrs.evolve(options, path=shared_data / "recordings" / options.path).open()
    return run_trial(settings, source, plan)


def test_simulate_kept_a_process_that_is_killed_goes_on(shared_data: Path) -> None:
    """DESIGN 9.10, REC-1: killed again and again while trading, each next process opens nothing twice and ends flat."""
    plan = Plan(1, 0.0, ends_trading=False, strikes=(), kills_ms=(4_000, 14_700, 30_030, 45_000))
    trial = tried(shared_data, plan)
    assert (trial.broken, trial.exit_code, trial.kills) == ((), 0, 4)
    assert trial.watch.exchange.positions(trial.watch.user) == ()
    assert trial.trades == trial.entries >= 3
    assert trial.watch.kept.transitions > 100


def test_simulate_kept_kills_among_faults(shared_data: Path) -> None:
    """DESIGN 9.10, SIM-5: killed while orders, answers and queries are lost: the same truth, and flat."""
    plan = make_plan(24)
    assert plan.kills_ms
    trial = tried(shared_data, plan)
    assert (trial.broken, trial.exit_code) == ((), 0)
    assert trial.kills > 0


@pytest.mark.parametrize(
    "strikes",
    [
        [("post", Drop()), ("orderUpdates", Drop()), ("userFills", Drop(), 1, 1)],
        [("userFills", Disconnect(), 3, 2)],
        [("post", Disconnect(), 2)],
        [("userFills", Delay(25_000), 2, 1)],
    ],
    ids=["nothing is told", "cut at each third fill", "cut at each second answer", "every second fill 25 s late"],
)
def test_simulate_kept_hard_plans(shared_data: Path, strikes: list[tuple[str, FaultAction]]) -> None:
    """SIM-4, DESIGN 9: answers, updates and fills lost one and all, or the link with them: trades go on, the end is flat."""
    plan = Plan(1000, 0.0, ends_trading=False, strikes=tuple(s for given in strikes for s in each(Point.FRAME, *given)))
    trial = tried(shared_data, plan)
    assert (trial.broken, trial.exit_code) == ((), 0)
    assert trial.trades >= 5


def test_simulate_kept_starts_that_use_up_the_weight_of_a_minute(shared_data: Path) -> None:
    """DESIGN 9.8, LESSONS 38: five starts in half a minute leave the flatten no weight to ask with: it waits and
    is flat when the venue answers again."""
    kills = (3_000, 9_000, 17_000, 26_000)
    cuts = each(Point.FRAME, "userFills", Disconnect(), 3, 2)
    trial = tried(shared_data, Plan(1003, 0.0, ends_trading=True, strikes=cuts, kills_ms=kills), BTC)
    assert trial.watch.exchange.over_weight > 0
    assert (trial.broken, trial.exit_code, trial.kills) == ((), 0, 4)
    flat = [note.fields["flat"] for note in trial.watch.notes if note.event == "halt_flatten"]
    assert flat
    assert flat[-1] is True


def test_simulate_kept_plans_kill_every_third_seed() -> None:
    """DESIGN 9.10: kills are part of the plan of a seed, within the time of the excerpts."""
    killed = [seed for seed in range(12) if make_plan(seed).kills_ms]
    assert killed == [0, 3, 6, 9]
