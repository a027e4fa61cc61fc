"""What the store says when no bot runs, as text: the last run, the next start, positions and orders as last booked."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from hip3.cli.words import age_text, px_text, usd_text
from hip3.core import units

UNKNOWN = "?"
ENDED_WORDS = {
    "flat": "ended flat: the venue showed nothing",
    "exposed": "ended EXPOSED: something was left at the venue",
    "killed": "did NOT end in order: killed, or the machine went down",
    "running": "runs; ask it where it runs, its status is not in the store",
    "not_traded": "sent nothing: it only observed, or ended before it had read the account",
}


def stored_lines(view: Mapping[str, Any]) -> list[str]:
    """Every value with its age; nothing here says how the account stands now."""
    run, start, day = view["run"], view["next_start"], view["day"]
    ended = f", {_age(run['ended_age_ms'])} ago" if run["ended_age_ms"] is not None else ""
    followed = view["followed_age_ms"]
    seen = "never followed" if followed is None else f"last followed {_age(followed)} ago"
    return [
        f"stored   in {view['store']}; only the venue knows what became of it since",
        *([f"writer   {view['writer']} writes to it"] if view["writer"] is not None else []),
        *_behind(view["commits_in_spool"]),
        f"last run {run['id']} on {view['network'] or UNKNOWN}, begun {_age(run['age_ms'])} ago, "
        f"config {run['config_hash'][:12]}",
        f"         {ENDED_WORDS[run['ended']]}{ended}",
        f"account  {view['account'] or 'none'}, {seen}",
        f"next     a start would begin in {start['mode']}:",
        *(_cause(cause) for cause in start["causes"]),
        *_section("positions as last booked", [_position(p) for p in view["positions"]]),
        *_section("orders not known to have ended", [_order(o) for o in view["orders"]]),
        f"today    {day['signals']} signals, {day['entries']} entries, {day['fills']} fills, {day['trades']} trades, "
        f"{usd_text(Decimal(day['pnl_usd']), sign=True)} USD after fees",
        *_others(view),
    ]


def _behind(commits: int | None) -> list[str]:
    if commits is None:
        return ["         its spool could not be read: there may be commits that are in nothing below"]
    if not commits:
        return []
    return [f"         {commits} commits are in its spool alone, and in all that follows; the next start writes them"]


def _others(view: Mapping[str, Any]) -> list[str]:
    if not view["others_count"]:
        return []
    lines = [f"others   {view['others_count']} more accounts that the books do not show flat:"]
    for other in view["others"]:
        lines.append(
            f"  {other['account']} on {other['network'] or UNKNOWN}, run {other['run']} {_age(other['age_ms'])} ago, "
            f"{other['ended'].replace('_', ' ')}: positions {', '.join(other['positions']) or 'none'}, "
            f"orders {other['orders']}"
        )
    return lines


def _cause(cause: Mapping[str, Any]) -> str:
    head = f"         {cause['severity']} {cause['code']} by {cause['source']}"
    return f"{head}, for {_age(cause['age_ms'])}, clears: {cause['clears']}: {cause['message']}"


def _position(p: Mapping[str, Any]) -> str:
    if p["error"] is not None:
        return f"{p['coin']}: NOT READABLE, booked {_age(p['booked_age_ms'])} ago: {p['error']}"
    held = f"{units.wire(Decimal(p['szi']))} at {px_text(Decimal(p['entry_px']))}, entered {_age(p['age_ms'])} ago"
    return f"{p['coin']}: {held}, booked {_age(p['booked_age_ms'])} ago"


def _order(o: Mapping[str, Any]) -> str:
    kind = "close" if o["reduce_only"] else "entry"
    known = f"{o['state']} {_age(o['booked_age_ms'])} ago" if o["state"] is not None else "no answer on record"
    size, px = units.wire(Decimal(o["sz"])), px_text(Decimal(o["px"]))
    return f"{o['coin']}: {kind} {o['side'].lower()} {size} at {px}, sent {_age(o['age_ms'])} ago, {known}, {o['cloid']}"


def _section(title: str, rows: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {row}" for row in rows or ["none"])]


def _age(ms: int | None) -> str:
    if ms is None:
        return UNKNOWN
    return f"{ms} ms" if ms < 1000 else age_text(ms)
