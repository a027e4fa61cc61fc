"""`hip3 replay FILE --faults-seed N` and `--seeds A..B`: the bot over a recording while things go wrong (SIM-4, SIM-5).

One seed is one run in virtual time, with every invariant watched. Many seeds are shared by processes of this same program,
each of which reads the recording once; the report says which seeds broke what, and the command that repeats one.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator

import trio
from attrs import define, field

from hip3.cli.replay_run import EXIT_CONFIGURATION, EXIT_PREFLIGHT, ReplayOptions
from hip3.cli.summary import summary_lines
from hip3.core.errors import first_leaf
from hip3.exchange.recording import RecordingError
from hip3.ops.boot import PreflightRefused
from hip3.simulate.plan import make_plan
from hip3.simulate.trial import NeverEnded, Trial, run_trial

EXIT_BROKEN = 1
"""An invariant did not hold. END-3 leaves 1 free, which is also what a crash of the interpreter gives."""
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")


def replay_seed(options: ReplayOptions, seed: int, *, as_json: bool) -> int:
    """One run, told in full: its faults, its summary, what broke. The run's exit code, or 1 where something broke."""
    trials = _trials(options, range(seed, seed + 1))
    if isinstance(trials, int):
        return trials
    trial = next(trials)
    if isinstance(trial, str):
        print(f"hip3 replay: seed {seed}: {trial}", file=sys.stderr)
        return EXIT_PREFLIGHT
    if as_json:
        print(json.dumps(_row(trial)))
    else:
        for point, subject, action in trial.watch.exchange.faults.struck:
            print(f"fault at {point.value}, {subject}: {action}")
        print(summary_lines(trial.ended.bot, trial.ended.outcome, notes=()))
        print(trial.line)
    return EXIT_BROKEN if trial.broken else trial.exit_code


def replay_seeds(options: ReplayOptions, seeds: str, *, jobs: int, as_json: bool) -> int:
    """Many runs, one line each, and a summary; 1 where any seed broke an invariant, 2 for arguments that mean nothing."""
    wanted = _RANGE.fullmatch(seeds)
    if wanted is None or int(wanted[1]) > int(wanted[2]) or jobs < 1:
        print(f"hip3 replay: --seeds: expected A..B with A <= B, found {seeds!r}; --jobs: 1 or more", file=sys.stderr)
        return EXIT_CONFIGURATION
    chosen = range(int(wanted[1]), int(wanted[2]) + 1)
    report = _Report(options, as_json)
    if jobs == 1 or len(chosen) == 1:
        trials = _trials(options, chosen)
        if isinstance(trials, int):
            return trials
        for seed, trial in zip(chosen, trials, strict=True):
            report.add(
                {"seed": seed, "line": f"seed {seed:5}  {trial}", "broken": [trial]}
                if isinstance(trial, str)
                else _row(trial)
            )
    else:
        code = trio.run(_share, options, chosen, jobs, report)
        if code not in (0, EXIT_BROKEN):
            return code
    return report.finish()


@define
class _Report:
    """Rows as they come, and what they add up to."""

    options: ReplayOptions
    as_json: bool
    runs: int = 0
    trades: int = 0
    faults: int = 0
    kills: int = 0
    codes: dict[int, int] = field(factory=dict)
    broken: list[int] = field(factory=list)

    def add(self, row: dict[str, object]) -> None:
        print(json.dumps(row) if self.as_json else row["line"], flush=True)
        self.runs += 1
        self.trades += _count(row, "trades")
        self.faults += _count(row, "faults")
        self.kills += _count(row, "kills")
        code = _count(row, "exit_code")
        self.codes[code] = self.codes.get(code, 0) + 1
        if row["broken"]:
            self.broken.append(_count(row, "seed"))

    def finish(self) -> int:
        out = sys.stderr if self.as_json else sys.stdout
        codes = ", ".join(f"{n} with exit code {code}" for code, n in sorted(self.codes.items()))
        print(f"{self.runs} runs ({codes}), {self.trades} trades, {self.faults} faults, {self.kills} kills", file=out)
        if not self.broken:
            print("every invariant held", file=out)
            return 0
        print(f"broken by {len(self.broken)} seeds: {', '.join(map(str, sorted(self.broken)))}; to repeat one:", file=out)
        command = [*self.options.arguments(), "--faults-seed", str(min(self.broken))]
        print(f"  hip3 {shlex.join(command)}", file=out)
        return EXIT_BROKEN


def _count(row: dict[str, object], name: str) -> int:
    value = row.get(name, 0)
    return value if isinstance(value, int) else 0


def _row(trial: Trial) -> dict[str, object]:
    return {
        "seed": trial.seed,
        "exit_code": trial.exit_code,
        "trades": trial.trades,
        "entries": trial.entries,
        "faults": trial.strikes,
        "kills": trial.kills,
        "mode": trial.mode,
        "broken": [str(b) for b in trial.broken],
        "line": trial.line,
    }


def _trials(options: ReplayOptions, seeds: range) -> Iterator[Trial | str] | int:
    """The runs, over one reading of the file; an exit code where it cannot be used. A run that raised is its error."""
    try:
        source, settings = options.open()
        source.hold()
    except (RecordingError, ValueError) as e:
        print(f"hip3 replay: {e}", file=sys.stderr)
        return EXIT_CONFIGURATION

    def run(seed: int) -> Trial | str:
        why = ""
        try:
            return run_trial(settings, source, make_plan(seed))
        except* (PreflightRefused, NeverEnded) as group:
            why = str(first_leaf(group))
        return why

    return (run(seed) for seed in seeds)


async def _share(options: ReplayOptions, seeds: range, jobs: int, report: _Report) -> int:
    """Processes of this program, each with its part of the seeds; the worst of their exit codes."""
    part = -(-len(seeds) // jobs)
    codes: list[int] = []

    async def run(some: range) -> None:
        words = [*options.arguments(), "--seeds", f"{some[0]}..{some[-1]}", "--jobs", "1", "--json"]
        process = await trio.lowlevel.open_process([sys.executable, "-m", "hip3", *words], stdout=-1, stderr=-1)
        assert process.stdout is not None
        assert process.stderr is not None
        async with trio.open_nursery() as readers:
            readers.start_soon(_read_rows, process.stdout, report)
            complaint = b"".join([chunk async for chunk in process.stderr])
        codes.append(await process.wait())
        if codes[-1] not in (0, EXIT_BROKEN):
            print(complaint.decode(errors="replace"), file=sys.stderr, end="")

    async with trio.open_nursery() as nursery:
        for start in range(0, len(seeds), part):
            nursery.start_soon(run, seeds[start : start + part])
    return max(codes)


async def _read_rows(stream: trio.abc.ReceiveStream, report: _Report) -> None:
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            report.add(json.loads(line))
