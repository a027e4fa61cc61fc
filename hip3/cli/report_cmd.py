"""`hip3 report`: the trade journal as figures, and whether to go on (JRN-1, JRN-2, JRN-3)."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.words import printable
from hip3.core.checkpoints import Decision, Judgement
from hip3.core.report import Report, ReportInput, make_report
from hip3.ops.files import replace_file
from hip3.ops.journal_file import journals, state_dir
from hip3.ops.report_object import report_object
from hip3.ops.report_source import NothingToReport, Selection, read_journals
from hip3.ops.report_store import read_stores
from hip3.ops.report_view import (
    TRADE_COLUMNS_NARROW,
    Sheet,
    checkpoint_sheet,
    headline,
    number_sheets,
    origin_lines,
    trades_sheet,
)
from hip3.ops.stores import known_sources, source_at
from hip3.settings import ConfigError
from hip3.store.errors import StoreError

EXIT_OK, EXIT_CONFIGURATION, EXIT_NOTHING = 0, 2, 3
TRADES_PRINTED = 20
PAGE_BEGINS = b"<!doctype html>"
PLAIN_WIDTH = 150
"""Columns where standard output is no terminal, and those from which a terminal has room for the whole table of trades."""
DECISION_STYLES = {
    Decision.GO: "bold white on green",
    Decision.NOT_YET: "bold black on yellow",
    Decision.NO_GO: "bold white on red",
    Decision.STOP: "bold white on red",
}
JUDGEMENT_STYLES = {
    Judgement.PASSED: "green",
    Judgement.NOT_YET: "yellow",
    Judgement.FAIL: "bold red",
    Judgement.STOP: "bold red",
}
_SPAN = re.compile(r"(\d+)([mhd])")
_SPAN_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def report(
    *,
    html: Annotated[Path | None, Parameter(help="Also write a page with plots there, in place of an earlier one.")] = None,
    since: Annotated[
        str | None, Parameter(help="Only what is later: 2026-01-31, 2026-01-31T12:00, or 30m, 24h, 7d.")
    ] = None,
    run: Annotated[str | None, Parameter(help="Only this run, by its id.")] = None,
    account: Annotated[str | None, Parameter(help="Only this account, by its address.")] = None,
    journal: Annotated[Path | None, Parameter(help="Journal to read in place of the store.")] = None,
    store: Annotated[str | None, Parameter(help="Store to read: its file, or postgresql://...; else the kept one.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> int:
    """Print the Go/No-Go verdict with numbers and confidence intervals, from the trades in the store.

    Where there is no store yet, from the journals kept. --config reads the store of that configuration.

    Exit code 0: a report was printed, whatever its verdict; 2: an argument or a file is wrong; 3: nothing to report yet.

    Example: hip3 report --since 7d --html report.html
    """
    state = state_dir(os.environ)
    if journal is not None and store is not None:
        return _failed(EXIT_CONFIGURATION, "--journal and --store exclude each other", as_json=as_json)
    try:
        selection = Selection(run, account, None if since is None else since_ms(since, round(time.time() * 1000)))
        sources = [] if journal else [source_at(store)] if store else known_sources(state, config, os.environ)
        paths = [journal] if journal is not None else journals(state)
        made = _make(read_stores(sources, selection) if sources else read_journals(paths, selection))
        if html is not None:
            _write_page(html, made)
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except NothingToReport as e:
        return _failed(EXIT_NOTHING, f"nothing to report: {e}. Looked in {store or journal or state}", as_json=as_json)
    except (ValueError, StoreError) as e:
        return _failed(EXIT_CONFIGURATION, str(e), as_json=as_json)
    except OSError as e:
        return _failed(EXIT_CONFIGURATION, f"{e.filename or journal or state}: {e.strerror or e}", as_json=as_json)
    if as_json:
        print(json.dumps(report_object(made) | {"exit_code": EXIT_OK}, sort_keys=True))
    else:
        print_report(made, html)
    return EXIT_OK


def _make(given: ReportInput) -> Report:
    made = make_report(given)
    if made.is_empty:
        raise NothingToReport("all that is on record is earlier than --since; choose an earlier time")
    return made


def since_ms(text: str, now_ms: int) -> int:
    """Unix ms of `--since`: an ISO date or time (UTC without a zone), or a span back from `now_ms`. Raises ValueError."""
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        return max(0, now_ms - int(span[1]) * _SPAN_MS[span[2]])
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as e:
        raise ValueError(
            f"--since {text}: expected a date (2026-01-31), a time (2026-01-31T12:00) or a span (30m, 24h, 7d)"
        ) from e
    return round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _write_page(path: Path, made: Report) -> None:
    from hip3.ops.report_html import report_page  # noqa: PLC0415 - plotly costs half a second, and only this needs it

    try:
        if path.exists() and not (path.is_file() and path.read_bytes().startswith(PAGE_BEGINS)):
            raise ValueError(f"--html {path}: is there already, and is no page of hip3; name another file, or remove it")
        replace_file(path, report_page(made))
    except OSError as e:
        raise ValueError(f"--html {path}: cannot be written: {e.strerror or e}; name another file") from e


def _failed(code: int, message: str, *, as_json: bool) -> int:
    print(f"hip3 report: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"exit_code": code, "error": message}, sort_keys=True))
    return code


# ---- for people


class _Console(Console):
    """A console whose reader may go away (`| head`): `main` knows the exit code of that, rich would say 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_report(made: Report, page: Path | None) -> None:
    """The verdict first, then what it rests on, then what it cannot say; tables as wide as the terminal."""
    console = _Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(
        Text.assemble((f" {made.decision.value} ", DECISION_STYLES[made.decision]), " ", printable(headline(made)))
    )
    for line in origin_lines(made):
        console.print(Text(printable(line), "dim"))
    for judged in made.checkpoints:
        _print(console, checkpoint_sheet(judged), JUDGEMENT_STYLES[judged.judgement])
    trades = trades_sheet(made, TRADES_PRINTED)
    if console.width < PLAIN_WIDTH:
        trades = trades.only(TRADE_COLUMNS_NARROW)
    for sheet in (*number_sheets(made), trades):
        _print(console, sheet)
    console.print()
    console.print(Text("What these numbers cannot say", "bold"))
    listed = Table.grid(padding=(0, 1))
    for caveat in made.caveats:
        listed.add_row(" -", Text(printable(caveat)))
    console.print(listed)
    if page is not None:
        console.print(Text(f"page: {page}"))


def _print(console: Console, sheet: Sheet, style: str = "") -> None:
    if not sheet.rows:
        return
    console.print()
    console.print(Text(printable(sheet.title), f"bold {style}".strip()))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for column in sheet.columns:
        table.add_column(column, justify="left" if column in sheet.words else "right")
    for row in sheet.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)
    if sheet.note:
        console.print(Text(printable(sheet.note), "dim"))
