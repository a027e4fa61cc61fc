"""`hip3 run`: the main job. Trades until Ctrl+C, SIGTERM or `--duration`, then ends flat or says what is left."""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Protocol

import trio
from attrs import evolve, frozen
from cyclopts import Parameter
from rich.console import Console

import hip3
from hip3.app import App, stop_after
from hip3.bot import Bot
from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.keys_cmd import terminal_passphrase
from hip3.cli.outlet import direct, unheard_is_no_error
from hip3.cli.printer import JournalReader
from hip3.cli.status import LiveStatus, can_show
from hip3.cli.status_cmd import events_view
from hip3.cli.summary import summary_lines, summary_object
from hip3.core.clock import Clock
from hip3.core.errors import first_leaf
from hip3.core.journal import Journal
from hip3.core.run_mode import RunMode
from hip3.exchange.faults import Faults
from hip3.exchange.recording import RecordingError
from hip3.exchange.server import NotLoopback, PortBusy
from hip3.io.clock import SystemClock
from hip3.io.keys import KeySourceError
from hip3.ops.boot import PreflightRefused
from hip3.ops.certificates import keep_in
from hip3.ops.commands import Operator
from hip3.ops.control_server import open_control_socket
from hip3.ops.files import PidTaken, remove_pid, write_pid
from hip3.ops.heartbeat import Heart
from hip3.ops.journal_file import LogFile, LogUnwritable, open_run_journal, state_dir
from hip3.ops.keep import CLOSE_S, keep, store_view
from hip3.ops.local_socket import SocketUnavailable
from hip3.ops.reach import configured_key, reach_venue
from hip3.ops.session import Ended, StoppedEarly, run_session, settle_garbage_collector
from hip3.ops.status_server import open_status_socket
from hip3.ops.status_view import status_view
from hip3.ops.stop import Stop, stop_signals
from hip3.ops.verify_trail import Trail
from hip3.settings import ConfigError, LoadedSettings, describe, load
from hip3.settings.describe import StartLine
from hip3.store.errors import SchemaVersionMismatch, StoreError, StoreInUse
from hip3.store.store import Store
from hip3.venue.hyperliquid.signing import TradingKey

EXIT_OK, EXIT_CONFIGURATION, EXIT_PREFLIGHT, EXIT_EXPOSED, EXIT_INTERNAL, EXIT_IN_USE = 0, 2, 3, 4, 5, 6  # END-3
PID_FILE = "run.pid"
Debug = Annotated[bool, Parameter(negative="", help="Show a trace-back where something unexpected breaks.")]


class Rider(Protocol):
    """What rides along on a session: hears its notes, begins with its bot, and reports in place of the run (RUN-1)."""

    @property
    def trail(self) -> Trail: ...

    def begin(self, process: trio.Nursery, app: App, stop: Stop, faults: Faults | None) -> None:
        """Starts its own tasks. `faults` are those of the embedded exchange, None elsewhere."""

    def report(self, ended: Ended, loaded: LoadedSettings) -> int:
        """Prints what it found; the exit code."""
        ...


@frozen
class RunOptions:
    """What the command line adds to the configuration. `rider` and its command's `name` are those of `hip3 verify`."""

    duration_s: float | None
    as_json: bool
    plain: bool
    log: Path | None
    debug: bool
    run_mode: RunMode = RunMode.LIVE
    name: str = "run"
    rider: Rider | None = None


def run(
    *,
    config: Config = None,
    duration: Annotated[float | None, Parameter(help="Seconds to trade; then as Ctrl+C.")] = None,
    as_json: Json = False,
    plain: Annotated[bool, Parameter(negative="", help="Lines instead of the live picture.")] = False,
    mode: Annotated[RunMode, Parameter(help="dry-run sends nothing; backfill-only books what was missed and ends.")] = (
        RunMode.LIVE
    ),
    log: Annotated[Path | None, Parameter(help="Write the journal to this file, without a bound.")] = None,
    debug: Debug = False,
) -> int:
    """Trade until Ctrl+C, then cancel, flatten, verify and exit. Without a configuration: on paper.

    Exit code 0: flat and clean; 2: configuration; 3: venue or store refused the start; 4: something is left (listed);
    5: internal error or lost records, flat; 6: another process writes to this store.

    Example: hip3 run --duration 60
    """
    options = RunOptions(duration, as_json, plain, log, debug, mode)
    try:
        if duration is not None and not duration > 0:
            return refused(EXIT_CONFIGURATION, f"--duration {duration}: expected seconds above 0", options)
        loaded = load(config, os.environ)
        key = configured_key(loaded, os.environ, state_dir(os.environ), terminal_passphrase())
        return supervise(loaded, key, options)
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except KeySourceError as e:
        return refused(EXIT_CONFIGURATION, str(e), options)


def supervise(loaded: LoadedSettings, key: TradingKey | None, options: RunOptions) -> int:
    """One session in this process, to its end; the exit code."""
    with unheard_is_no_error(), _pid_file(options.name):
        return trio.run(_main, loaded, key, options, restrict_keyboard_interrupt_to_checkpoints=True)


@contextmanager
def _pid_file(name: str) -> Iterator[None]:
    """Names this process in the state folder while it lives, for the stop script; where it cannot, it says so (RUN-2)."""
    path, pid = state_dir(os.environ) / PID_FILE, os.getpid()
    try:
        write_pid(path, pid)
    except (OSError, PidTaken) as e:
        why = str(e) if isinstance(e, PidTaken) else f"{path}: {e.strerror or e}"
        print(f"hip3 {name}: WARNING no pid file, the stop script cannot find this bot: {why}", file=sys.stderr)
    try:
        yield
    finally:
        with suppress(OSError):
            remove_pid(path, pid)


def refused(code: int, message: str, options: RunOptions) -> int:
    """One clear line on standard error; for machines an object on standard output as well."""
    print(f"hip3 {options.name}: {message}", file=sys.stderr)
    if options.as_json:
        print(json.dumps({"exit_code": code, "error": message, "flat": None, "residual": []}, sort_keys=True))
    return code


async def _main(loaded: LoadedSettings, key: TradingKey | None, options: RunOptions) -> int:
    """Ring 0: signals, the exchange on paper, the display; around one session."""
    stop = Stop()
    code = EXIT_INTERNAL
    try:
        async with trio.open_nursery() as process:
            await process.start(_watch_signals, stop)  # first, so that whoever reads the pid file can stop it
            code = await _session(process, loaded, key, options, stop)
            process.cancel_scope.cancel()
    except* (PreflightRefused, PortBusy, NotLoopback, RecordingError) as group:
        code = refused(EXIT_PREFLIGHT, str(first_leaf(group)), options)
    except* StoreInUse as group:
        code = refused(EXIT_IN_USE, str(first_leaf(group)), options)
    except* StoreError as group:
        error = first_leaf(group)
        name = "SCHEMA_VERSION_MISMATCH" if isinstance(error, SchemaVersionMismatch) else "STORAGE_UNAVAILABLE"
        code = refused(EXIT_PREFLIGHT, f"{name}: {error}. Nothing was started.", options)
    except* LogUnwritable as group:
        code = refused(EXIT_CONFIGURATION, str(first_leaf(group)), options)
    except* StoppedEarly as group:
        message = f"stopped before anything was sent ({first_leaf(group)})"
        print(f"hip3 {options.name}: {message}", file=sys.stderr)
        if options.as_json:
            print(json.dumps({"exit_code": 0, "flat": None, "residual": [], "note": message}, sort_keys=True))
        code = EXIT_OK
    except* Exception as group:
        error = first_leaf(group)
        if options.debug:
            traceback.print_exception(group)
        message = f"internal error: {type(error).__name__}: {error} (run with --debug for the trace-back)"
        code = refused(EXIT_INTERNAL, message, options)
    return code


async def _watch_signals(stop: Stop, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """SIGINT and SIGTERM alike: the first ends flat, the second gives up flattening (END-1, END-2); SIGHUP ends flat."""
    with trio.open_signal_receiver(*stop_signals()) as received:
        task_status.started()
        async for number in received:
            stop.on_signal(number)


async def _session(
    process: trio.Nursery, loaded: LoadedSettings, key: TradingKey | None, options: RunOptions, stop: Stop
) -> int:
    settings, clock, rider = loaded.settings, SystemClock(), options.rider
    journal = Journal(tap=None if rider is None else rider.trail.hear)
    reached = await reach_venue(process, loaded, key, on_end=lambda: stop.request_once("the recording has ended"))
    reach = reached.reach
    out = sys.stderr if options.as_json or rider is not None else sys.stdout
    console = Console()
    in_lines = options.plain or options.as_json or not can_show(console)
    user, signer = (reach.account.user, reach.account.signer.address) if reach.account else (None, None)
    lines = describe(loaded, endpoints=reached.endpoints, signer=signer, account=user)
    reader = _first_words(lines, options.log, journal, clock, direct(out))
    display: LiveStatus | None = None
    heart: Heart | None = None
    process.start_soon(stop_after, options.duration_s, stop)
    running: list[Bot] = []

    def trouble(what: str | None) -> None:
        for bot in running:
            bot.on_database(what)

    kept = await keep(
        settings,
        loaded.hash,
        user,
        state_dir(os.environ),
        clock,
        on_trouble=trouble,
        on_upkeep=lambda level, event, what: journal.note(clock.wall_ms(), level, event, what=what),
    )
    journal.note(clock.wall_ms(), "info", "store", place=kept.store.place.name, recovered=kept.store.recovered)
    reader.poll()
    await process.start(kept.store.writer.run)

    def show(app: App) -> None:
        nonlocal display, heart
        settle_garbage_collector()
        state = state_dir(os.environ)
        app.keep_certificate = keep_in(state, os.getpid())
        heart = Heart(app.bot, state, os.getpid(), settings.watchdog.heartbeat_ms)
        process.start_soon(heart.run)
        running.append(app.bot)
        reader.count_filters(app.bot.detector.rejected)
        app.bot.note("info", "run_started", run=f"{app.bot.run_id:x}", process=os.getpid(), version=hip3.__version__)
        _serve_status(process, app.bot, reader, loaded.hash, kept.store)
        _take_commands(process, app.bot)
        if rider is not None:
            rider.begin(process, app, stop, reached.faults)
        if in_lines:
            process.start_soon(reader.run)
            return
        reader.say_no_more()
        display = LiveStatus(app.bot, app, reader, console)
        process.start_soon(display.run)

    try:
        ended = await run_session(
            settings,
            reach,
            clock=clock,
            rng=random.Random(),
            journal=journal,
            stop=stop,
            on_app=show,
            keeping=kept.keeping,
            run_mode=options.run_mode,
        )
    finally:
        if heart is not None:
            heart.beat()  # the last one: how it ended
        await _close_store(kept.store)
        if display is not None:
            display.finish()
        reader.close()
    return _report(_unless_lost(ended, kept.store), loaded, options, reached.notes)


async def _close_store(store: Store) -> None:
    """The last to close; says what the database did not take."""
    if not await store.drain_and_close(CLOSE_S):
        why = store.writer.trouble or f"it took longer than {CLOSE_S:g} s"
        print(f"store: what is not in the database is in the spool, the next start writes it: {why}", file=sys.stderr)


def _unless_lost(ended: Ended, store: Store) -> Ended:
    """The end as it was; where records were lost with the process it is flat, and not clean (END-3)."""
    if not store.lost_rows:
        return ended
    print(f"store: {store.lost_rows} records could be written nowhere and are lost", file=sys.stderr)
    code = ended.outcome.exit_code or EXIT_INTERNAL
    return evolve(ended, outcome=evolve(ended.outcome, exit_code=code))


def _first_words(
    lines: Sequence[StartLine], log: Path | None, journal: Journal, clock: Clock, out: IO[str]
) -> JournalReader:
    """What the run is, said before anything can refuse the start, by the reader that says all the rest."""
    for line in lines:
        journal.note(clock.wall_ms(), "info", line.event, **dict(line.fields))
    reader = JournalReader(journal, clock, log=_journal_file(log, journal, clock), plain=out)
    reader.poll()
    return reader


def _journal_file(given: Path | None, journal: Journal, clock: Clock) -> LogFile | None:
    """The run's journal: the file named by --log, else a new one in the state folder. Raises LogUnwritable for a named one.

    A state folder that cannot be written costs the evidence, not the run; the start says so.
    """
    try:
        file = LogFile(given) if given is not None else open_run_journal(state_dir(os.environ), clock.wall_ms(), os.getpid())
    except LogUnwritable as e:
        if given is not None:
            raise
        journal.note(clock.wall_ms(), "warning", "journal_not_kept", why=str(e))
        return None
    journal.note(clock.wall_ms(), "info", "journal", file=str(file.path))
    return file


def _serve_status(process: trio.Nursery, bot: Bot, reader: JournalReader, config_hash: str, store: Store) -> None:
    """Ring 0 answers `hip3 status` until the process ends; where it cannot, the run says why and goes on."""
    pid = os.getpid()
    try:
        status = open_status_socket(state_dir(os.environ), pid)
    except SocketUnavailable as e:
        bot.note("warning", "status_unavailable", why=str(e))
        return

    def answer() -> dict[str, object]:
        events = events_view(list(reader.recent), bot.io.clock.wall_ms())
        return status_view(bot, pid=pid, config_hash=config_hash) | {"events": events, "store": store_view(store)}

    process.start_soon(status.serve, answer)


def _take_commands(process: trio.Nursery, bot: Bot) -> None:
    """Ring 0 takes the commands of `hip3 ops` until the process ends; without them signals still stop it."""
    try:
        control = open_control_socket(state_dir(os.environ), os.getpid())
    except SocketUnavailable as e:
        bot.note("warning", "control_unavailable", why=str(e))
        return
    process.start_soon(control.serve, Operator(bot).answer)


def _report(ended: Ended, loaded: LoadedSettings, options: RunOptions, notes: tuple[str, ...]) -> int:
    """Summary for people, one object for machines, and the exit code of END-3; a rider reports in its place."""
    if options.rider is not None:
        return options.rider.report(ended, loaded)
    outcome = ended.outcome
    print(summary_lines(ended.bot, outcome, notes=notes), file=sys.stderr if options.as_json else sys.stdout)
    if outcome.error is not None:
        error = first_leaf(outcome.error)
        print(f"hip3 run: a task crashed: {type(error).__name__}: {error}", file=sys.stderr)
        if options.debug:
            traceback.print_exception(outcome.error)
    if options.as_json:
        print(json.dumps(summary_object(ended.bot, outcome, config_hash=loaded.hash, notes=notes), sort_keys=True))
    return outcome.exit_code
