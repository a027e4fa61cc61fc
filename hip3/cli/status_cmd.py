"""`hip3 status`: asks the running bot how it is; where none runs, the store says what the last one left. Reads only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from hip3.cli.config_cmd import Config, Json, print_config_error
from hip3.cli.stored_lines import stored_lines
from hip3.cli.words import age_text, bps_text, printable, px_text, sentence, usd_text, verdict_words
from hip3.core import units
from hip3.core.journal import Note
from hip3.io.clock import SystemClock
from hip3.ops.journal_file import state_dir
from hip3.ops.local_socket import NoAnswer
from hip3.ops.status_server import ask
from hip3.ops.stored_status import stored_view
from hip3.ops.stores import known_sources, reading
from hip3.settings import ConfigError
from hip3.store.errors import StoreError

EXIT_OK, EXIT_CONFIGURATION, EXIT_NO_BOT, EXIT_NO_ANSWER = 0, 2, 3, 5
WITHIN_S = 5.0
EVENTS = 10
UNKNOWN = "?"


def status(*, config: Config = None, as_json: Json = False) -> int:
    """Show how the running bot is: mode and causes, READY, markets, positions, orders, last events, each with its age.

    With no bot running: what the store says of the last run and of the next start. --config names another store.
    Exit code 0: a bot answered; 3: no bot is running; 5: one is, but did not answer; 2: configuration.

    Example: hip3 status --json
    """
    try:
        answer = ask(state_dir(os.environ), WITHIN_S)
    except NoAnswer as e:
        return _failed(str(e), EXIT_NO_ANSWER, as_json=as_json) if e.running else _no_bot(str(e), config, as_json=as_json)
    if "error" in answer:
        return _failed(str(answer["error"]), EXIT_NO_ANSWER, as_json=as_json)
    print(json.dumps(answer, sort_keys=True) if as_json else "\n".join(map(printable, status_lines(answer))))
    return EXIT_OK


def _no_bot(message: str, config: Path | None, *, as_json: bool) -> int:
    """No bot is the answer; what the store says is beside it, with ages."""
    stored, trouble = None, None
    try:
        with reading(known_sources(state_dir(os.environ), config, os.environ)) as stores:
            stored = stored_view(stores, SystemClock().wall_ms())
    except ConfigError as e:
        print_config_error(e, as_json=as_json)
        return EXIT_CONFIGURATION
    except StoreError as e:
        trouble = str(e)
    if as_json:
        said = {"exit_code": EXIT_NO_BOT, "error": message, "stored": stored, "store_error": trouble}
        print(json.dumps(said, sort_keys=True))
    print(f"hip3 status: {message}", file=sys.stderr)
    if trouble is not None:
        print(printable(f"hip3 status: the store cannot be read: {trouble}"), file=sys.stderr)
    if stored is not None and not as_json:
        print("\n".join(map(printable, stored_lines(stored))))
    return EXIT_NO_BOT


def _failed(message: str, code: int, *, as_json: bool) -> int:
    print(f"hip3 status: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"exit_code": code, "error": message}, sort_keys=True))
    return code


def events_view(notes: Sequence[Note], wall_ms: int) -> list[dict[str, object]]:
    """The newest notes in words, newest last, with their ages; part of the answer."""
    return [
        {"age_ms": wall_ms - n.wall_ms, "level": n.level, "event": n.event, "text": sentence(n)} for n in notes[-EVENTS:]
    ]


# ---- for people


def status_lines(answer: Mapping[str, Any]) -> list[str]:
    """The answer of a bot as text; what it does not know is `?`."""
    run, safety, ready = answer["run"], answer["safety"], answer["ready"]
    lines = [
        f"run      {run['id']} on {run['network']}, {run['mode']}, for {_age(run['age_ms'])}, process {run['pid']}",
        f"         account {run['account'] or 'none'}, config {run['config_hash']}",
        f"         hip3 {run['versions']['hip3']}, Python {run['versions']['python']}, trio {run['versions']['trio']}",
        f"state    {answer['lifecycle']['state']} for {_age(answer['lifecycle']['age_ms'])}",
        f"mode     {safety['mode']} for {_age(safety['age_ms'])}" + ("" if safety["causes"] else ", no cause in force"),
        *(_cause(cause) for cause in safety["causes"]),
        f"ready    {ready['state']} for {_age(ready['age_ms'])}",
        *(_condition(name, held) for name, held in ready["conditions"].items()),
        *(_guard(guard) for guard in answer.get("guards", [])),
        *(_link(link) for link in answer["links"]),
        *_section("markets", [_market(m) for m in answer["markets"]]),
    ]
    if "counts" in answer:
        lines += [
            *_section("positions", [_position(p) for p in answer["positions"]]),
            *_section("orders", [_order(o) for o in answer["orders"]]),
            *_money(answer),
        ]
    lines += _section("events", [f"{_age(e['age_ms']):>5} ago  {e['text']}" for e in answer.get("events", [])])
    return lines


def _section(title: str, rows: Iterable[str]) -> list[str]:
    return [f"{title}:", *(f"  {row}" for row in rows or ["none"])]


def _age(ms: int | None) -> str:
    if ms is None:
        return UNKNOWN
    return f"{ms} ms" if ms < 1000 else age_text(ms)


def _number(value: str | None, words: Callable[[Decimal], str] = units.wire) -> str:
    return UNKNOWN if value is None else words(Decimal(value))


def _cause(cause: Mapping[str, Any]) -> str:
    head = f"         {cause['severity']} {cause['code']} by {cause['source']} for {_age(cause['age_ms'])}"
    return f"{head}, clears: {cause['clears']}: {cause['message']}"


def _condition(name: str, held: Mapping[str, Any]) -> str:
    evidence = "no evidence" if held["age_ms"] is None else f"evidence {_age(held['age_ms'])} old"
    return f"         {'yes' if held['holds'] else 'NO '} {name}, {evidence}"


def _guard(guard: Mapping[str, Any]) -> str:
    said = "no evidence" if guard["evidence"] is None else f"{guard['evidence']}, {_age(guard['age_ms'])} ago"
    return f"guard    {guard['level']:<5} {guard['name']}: {said}"


def _link(link: Mapping[str, Any]) -> str:
    live = "" if link["live_age_ms"] is None else f" live for {_age(link['live_age_ms'])},"
    return f"link     {link['name']} {link['state']},{live} last message {_age(link['last_message_age_ms'])} ago"


def _market(m: Mapping[str, Any]) -> str:
    bid, ask = (_number(m[side]["px"], px_text) if m[side] else UNKNOWN for side in ("bid", "ask"))
    text = f"{m['coin']}: {bid} / {ask} ({_age(m['bbo_age_ms'])} old), {m['reference']} "
    text += f"{_number(m['reference_px'], px_text)}, mark {_number(m['mark_px'], px_text)} ({_age(m['ctx_age_ms'])} old)"
    if m["missing"]:
        text += f", NOT READY: {m['missing']}"
    last = m["last_signal"]
    if last is None:
        return f"{text}, no signal"
    verdict = "not judged" if last["verdict"] is None else verdict_words(last["verdict"])
    edge = bps_text(Decimal(last["edge_bps"]))
    return f"{text}, {m['signals']} signals, last {last['id']} {_age(last['age_ms'])} ago: {edge} bps, {verdict}"


def _position(p: Mapping[str, Any]) -> str:
    open_usd = _number(p["unrealized_usd"], lambda v: usd_text(v, sign=True))
    return (
        f"{p['coin']}: {_number(p['szi'])} at {_number(p['entry_px'], px_text)} for {_age(p['age_ms'])}, {p['state']}, "
        f"{open_usd} USD at the mark of {_age(p['mark_age_ms'])} ago"
    )


def _order(o: Mapping[str, Any]) -> str:
    kind = "close" if o["reduce_only"] else "entry"
    return (
        f"{o['coin']}: {kind} {o['side'].lower()} {_number(o['sz'])} at {_number(o['px'], px_text)}, {o['state']}, "
        f"{_number(o['filled_sz'])} filled, {_age(o['age_ms'])} old, {o['cloid']}"
    )


def _switch(switch: Mapping[str, Any]) -> str:
    due = f", fires in {_age(switch['fires_in_ms'])}" if switch["fires_in_ms"] is not None else ""
    why = f": {switch['why']}" if switch["why"] else ""
    return f"dead-man scheduleCancel {switch['state']}{due}{why}"


def _money(answer: Mapping[str, Any]) -> list[str]:
    posts, budget, day, c = answer["posts"], answer["budget"], answer["day"], answer["counts"]
    return [
        f"posts    {posts['in_flight']} in flight (most {posts['high_water']}), oldest {_age(posts['oldest_age_ms'])}, "
        f"{posts['queued']} orders queued, {c['in_doubt']} in doubt",
        f"account  read {_age(answer['account_read_age_ms'])} ago; action budget {budget['left']} left, "
        f"read {_age(budget['age_ms'])} ago",
        f"run      {c['entries']} entries, {c['entries_filled']} filled, {c['trades']} trades ({c['wins']} won), "
        f"{_number(c['pnl_usd'], lambda v: usd_text(v, sign=True))} USD after fees",
        f"today    {day['entries']} entries of {day['max_entries'] if day['max_entries'] is not None else 'no limit'}, "
        f"{_number(day['pnl_usd'], lambda v: usd_text(v, sign=True))} USD, "
        f"stop at -{_number(day['max_loss_usd'], usd_text)} USD",
        _switch(answer["dead_man"]),
    ]
