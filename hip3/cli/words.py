"""Words for people: numbers, times, verdicts and journal notes as one reads them. Text in, text out; nothing is decided.

Names of the code (events, verdicts, filters) get their words here and nowhere else, so that the live status, the plain
lines and the summary say the same. What has no words yet is shown as it is, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from hip3.core import units
from hip3.core.gates import Refusal
from hip3.core.journal import Note
from hip3.fsm.lifecycle import LifecycleState

NAMED_IN_A_MINUTE = 6
"""Counts named in the line of a minute, the largest first; the log has them all."""

# ---- numbers and times as people read them


def px_text(value: Decimal) -> str:
    """A price as the venue writes it; an average is cut to six significant figures, one more than a price has."""
    decimals = max(0, units.MAX_SIGNIFICANT_FIGURES - value.adjusted()) if value else 0
    return units.wire(round(value, decimals))


def usd_text(value: Decimal, *, sign: bool = False) -> str:
    """USD with four decimals below 10, with two from there on."""
    rounded = round(value, 4 if abs(value) < 10 else 2) + 0  # adding zero makes minus zero plain zero
    return f"{rounded:{'+' if sign else ''},f}"


def size_text(value: Decimal) -> str:
    """A size of the book with three significant figures, thousands as `k`: `0.407`, `16.8`, `12.3k`."""
    for unit, suffix in ((Decimal(1_000_000), "M"), (Decimal(1000), "k")):
        if value >= unit:
            return units.wire(round(value / unit, max(0, 2 - (value / unit).adjusted()))) + suffix
    return units.wire(round(value, max(0, 2 - value.adjusted()))) if value else "0"


def bps_text(value: Decimal, *, sign: bool = True) -> str:
    """Basis points with one decimal."""
    return f"{round(value, 1) + 0:{'+' if sign else ''}f}"


def clock_text(wall_ms: int) -> str:
    """`HH:MM:SS` of the day, UTC."""
    return datetime.fromtimestamp(wall_ms // 1000, UTC).strftime("%H:%M:%S")


def duration_text(ms: int) -> str:
    """`42s`, `3m 05s` or `2h 03m 05s`."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m {seconds:02d}s"
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"


def age_text(ms: int) -> str:
    """An age in its largest whole unit: `9s`, `5m`, `2h`."""
    seconds = max(0, ms) // 1000
    if seconds < 60:
        return f"{seconds}s"
    return f"{seconds // 60}m" if seconds < 3600 else f"{seconds // 3600}h"


def printable(text: str) -> str:
    """Text of others without control characters: the venue's words must not steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


# ---- notes in words

REFUSED_WORDS: dict[Refusal, str] = {
    Refusal.HARD_STOP: "entries are stopped",
    Refusal.NOT_READY: "not ready",
    Refusal.MAX_POSITION_PER_MARKET: "over the market cap",
    Refusal.MAX_POSITION_TOTAL: "over the total cap",
    Refusal.MAX_OPEN_POSITIONS: "too many open positions",
    Refusal.RISK_GATE_ERROR: "the exposure could not be computed",
    Refusal.ALREADY_HAS_POSITION: "position already open",
    Refusal.PENDING_ORDER_EXISTS: "order in flight",
    Refusal.HOURLY_DRAWDOWN: "lost too much in an hour",
    Refusal.TILT_GUARD: "pause after losses",
    Refusal.REENTRY_DELAY: "closed just now",
    Refusal.CORRELATION_COOLDOWN: "another market was entered just now",
    Refusal.BURST_LIMIT: "too many entries in a minute",
    Refusal.DAILY_TRADE_LIMIT: "daily trade limit",
    Refusal.BUDGET_EXHAUSTED: "action budget used up",
    Refusal.QUEUE_FULL: "order queue full",
    Refusal.INFLIGHT_FULL: "too many posts in flight",
}

FILTER_WORDS: dict[str, str] = {
    "one_sided": "one-sided book",
    "session": "outside the session",
    "oracle_move": "reference moved too little",
    "oracle_run": "too few moves in a row",
    "quote_lag": "outside the quote-lag window",
    "spread": "spread too wide",
    "adaptive_threshold": "edge below the usual spread",
    "baseline_gap": "the usual gap to the reference",
    "confidence": "confidence too low",
    "halted": "market halted",
    "blackout": "blackout window",
    "time_back": "the venue's time went back",
    "mark_mid": "mark and middle apart",
    "spread_shock": "spread shock",
    "oi_cap": "open interest at its cap",
    "stale_bbo": "quote too old",
    "stale_reference": "reference too old",
    "direction": "reference moved the other way",
    "dedup": "same dislocation as before",
    "lot_above_cap": "one lot is over the cap",
    "thin_book": "too little at the touch",
    "below_venue_minimum": "below the venue's minimum",
}
"""The detector's own names of what it did not signal."""

EXIT_WORDS: dict[str, str] = {
    "time_stop": "time stop",
    "protective_stop": "protective stop",
    "take_profit": "profit taken",
    "mark_regression": "book back at the oracle",
    "edge_evaporation": "edge gone",
    "oracle_reversal": "oracle turned",
    "recovered": "begun by the run before",
    "verify": "verification",
    "halt": "halt",
    "shutdown": "way out",
    "unknown": "not by us",
}
"""Reasons of a trade's end. `unknown` is a close that neither an exit nor a flatten of ours explains."""

_ACCEPTED = {"Queued": "accepted", "QueuedDegraded": "accepted, queue is filling"}

SENTENCES: dict[str, str] = {
    "ready_trading": "READY: market data, orders, fills and positions are known",
    "not_ready": "not READY, missing: {missing}",
    "still_not_ready": "not READY for {for_s} s, missing: {missing}; market data: {markets}",
    "metadata_unread": "the venue's metadata could not be read, trying again: {error}",
    "params_changed": "{coin}: the venue changed {changes}; it trades again after a new start",
    "market_halted": "{coin}: does not trade at the venue any more",
    "market_resumed": "{coin}: trades at the venue again",
    "position_adopted": "{coin}: the venue holds {venue} from before this run; it is taken over",
    "dry_run": "{coin}: dry run, {side} {sz} was not sent, order {cloid}",
    "database_refuses": "the database takes nothing; the spool does: {why}",
    "database_back": "the database takes records again",
    "store": "store: {place}, {recovered} commits of an earlier run written",
    "store_backup": "{what}",
    "store_pruned": "store: {what}",
    "recovered": "going on from the last run: {positions} positions, {orders} orders in doubt",
    "not_recovered": "{subject}: what the last run left of it could not be taken over: {why}",
    "stray_order": "{coin}: order {oid} is an earlier run's; it is being cancelled",
    "foreign_order": "{coin}: order {oid} at the venue is not one of this bot's",
    "storage_unavailable": "nothing can be stored any more: {why}",
    "safety_mode": "{before} -> {after}: {reason} ({message})",
    "way_out": "{step}: {what}",
    "signal": "{coin}: {side} signal, {sz} at {px}, edge {edge_bps} bps against a cost of {cost_bps}",
    "signal_replaced": "{coin}: a newer signal took its place before the gates were asked",
    "signal_trail": "{coin}: what every filter and gate says is kept for hip3 explain {signal}",
    "order_enqueued": "{coin}: order {cloid} queued",
    "order_sent": "{coin}: sent {side} {sz} at {px}, order {cloid}",
    "action_signed": "post {post} signed: {type}, nonce {nonce}, {hash}",
    "nonce_issued": "nonce {nonce}",
    "inflight": "posts in flight: {current}, {sent} sent, {completed} ended",
    "inflight_high_water": "most posts in flight so far: {high_water}",
    "requeued": "post {post}: what closes or cancels goes again",
    "order_filled": "{coin}: order {cloid} filled, {filled}",
    "order_canceled": "{coin}: order {cloid} cancelled, {filled} filled",
    "order_rejected": "{coin}: order {cloid} refused by the venue",
    "order_expired": "{coin}: order {cloid} never reached the book",
    "action_rejected": "{coin}: order {cloid} refused: {error}",
    "funding": "{coin}: funding {usd} USD on {szi}",
    "fill": "{coin}: {side} {sz} filled at {px}, fee {fee} USD",
    "position_closed": "{coin}: closed ({exit_reason}), {pnl_usd} USD after fees",
    "slippage_measured": "{coin}: {slippage_bps} bps less than expected",
    "position_reconciled": "{coin}: our size {tracker}, the venue's {venue}, apart {diff}",
    "position_corrected": "{coin}: position corrected from {ours} to the venue's {venue}, {why}",
    "time_stop_triggered": "{coin}: time stop, held for {age_ms}, closing",
    "flatten_triggered": "{coin}: closing ({reason})",
    "reduce_only_enqueued": "{coin}: close of {sz} queued at {px} or better, order {cloid}",
    "stop_enqueued": "{coin}: stop of {sz} queued, fires at {trigger_px}, order {cloid}",
    "stop_withdrawn": "{coin}: stop {cloid} is taken back: {why}",
    "stop_refused": "{coin}: the venue refused the stop {cloid}: {error}",
    "order_open": "{coin}: order {cloid} rests at the venue",
    "cancel_answered": "cancel of order {cloid}: {outcome} {error}",
    "cancel_queue_full": "{coin}: the queue of cancels is full; order {cloid} is taken back later",
    "close_refused": "{coin}: the venue refused the closing order {cloid}: {error}",
    "reduce_only_queue_full": "{coin}: the queue of closing orders is full; the next look asks again",
    "close_unpriced": "{coin}: cannot be closed yet: {why}",
    "preflight_warning": "{message}",
    "cause": "cause {code} of {source}: {before} -> {after}: {message}",
    "guard": "guard {guard}: {state}: {evidence}",
    "runaway": "runaway breaker: {why}; no entries for {cooldown_ms} ms",
    "risk_acknowledged": "{code} was cleared by an operator; its count starts anew",
    "flatten_failed": "{coin}: {szi} still open after {age_ms}; closing goes on",
    "in_doubt": "in doubt: {subject}: {why}",
    "doubt_answered": "doubt resolved: order {cloid} is {status}",
    "doubt_absent": "doubt resolved: order {cloid} never was at the venue ({proof})",
    "doubt_fenced": "order {cloid}: a noop was sent with its nonce {nonce}: {why}",
    "budget_exhausted": "the venue's action budget is used up: no entries, one exit every {every_ms}",
    "fee_mismatch": "{coin}: the fee was {measured_bps} bps, {assumed_bps} was assumed; from now on {used_bps}",
    "doubt_unanswered": "order {cloid} still in doubt after {tries} questions: {error}",
    "order_send_failure": "{coin}: an entry could not be sent or got no answer, {in_a_row} in a row: {why}",
    "order_not_sent": "{coin}: order {cloid} was dropped, no byte of it left: {why}",
    "send_failure": "post {post} failed: {why}",
    "mark_released": "{coin}: order {cloid} was taken back before it was sent: {reason}",
    "market_excluded": "{coin}: left out until it has data: {missing}",
    "market_retried": "{coin}: its subscriptions are made anew",
    "market_included": "{coin}: has data, taken in",
    "fills_unread": "the fills could not be read: {error}",
    "books_unread": "the last fills could not be read, the sums below may lack them",
    "account_found": "account on {dex}: {value_usd} USD, {positions} positions and {orders} orders at the start",
    "account_unread": "the account could not be read: {error}",
    "service_unread": "budget and clock could not be read: {error}",
    "clock_stepped": "the machine's clock was set, or stood still: {by_ms} ms; it is compared with the venue's",
    "clock_skew": "the clock is {offset_ms} ms from the venue's",
    "user_fills_snapshot": "fills so far are known: {count}",
    "open_orders_loaded": "open orders at the venue: {count}",
    "ws_connected": "{link} link connected",
    "ws_lost": "{link} link lost: {reason}",
    "subscribed": "{link} link: {channel} {coin} subscribed",
    "channel_error": "{link} link: the venue says: {text}",
    "frame_unreadable": "{link} link: a frame could not be read: {error}",
    "subscribe_unacknowledged": "{link} link: not acknowledged: {missing}",
    "task_crashed": "a task crashed, leaving: {error}",
    "display_failed": "the live display failed; trading goes on: {error}",
    "run_started": "run {run} of hip3 {version}, process {process}",
    "journal": "journal of this run: {file}",
    "journal_not_kept": "no journal is kept, hip3 explain will know nothing of this run: {why}",
    "journal_turned": "the journal went on in a new part",
    "dead_man": "dead-man switch of the venue (scheduleCancel): {state} {why}",
    "dead_man_unanswered": "dead-man switch of the venue: {why}; it is tried again",
    "dead_man_withdrawn": "dead-man switch of the venue taken back: {why}",
    "heartbeat_not_written": "the heartbeat cannot be written, a watchdog will take this bot for dead: {why}",
    "certificate_not_kept": "the flat certificate could not be written: {why}",
    "status_unavailable": "hip3 status cannot ask this bot: {why}",
    "control_unavailable": "hip3 ops cannot command this bot, signals still stop it: {why}",
    "verify_item": "verification, item {item}: {verdict}: {evidence}",
    "operator_command": "{by} commands {command}: {did}",
    "operator_refused": "{by} commands {command}, refused: {refused}",
    "log_unwritable": "the log cannot be written; trading goes on, notes are lost: {error}",
    "output_lost": "the output cannot be written; trading goes on: {error}",
    "notes_dropped": "{count} notes were dropped: their reader did not keep up",
}


def sentence(note: Note) -> str:
    """One line of plain words for a note; an event without words of its own is its name and fields."""
    special = SPECIAL.get(note.event)
    if special is not None:
        return printable(special(note.fields))
    template = SENTENCES.get(note.event)
    shown = {name: _shown(name, value) for name, value in note.fields.items()}
    try:
        text = template.format_map(shown) if template is not None else None
    except KeyError:  # the note carries other fields than its words expect: show what it has
        text = None
    if text is None:
        text = f"{note.event}: " + ", ".join(f"{name} {value}" for name, value in shown.items())
    return printable(" ".join(text.split()))  # a field may be empty


def verdict_words(verdict: str, detail: str = "") -> str:
    """`Rejected(MaxPositionTotal)` and its numbers in words; an unknown verdict stays as it is."""
    if verdict in _ACCEPTED:
        return _ACCEPTED[verdict]
    refusal = refusal_of(verdict)
    if refusal is None:
        return verdict
    words = REFUSED_WORDS[refusal]
    return f"{words} ({detail})" if detail else words


def refusal_of(verdict: str) -> Refusal | None:
    """The refusal named in a verdict's text; None where it was accepted."""
    name = verdict.partition("(")[2].rstrip(")")
    return next((r for r in Refusal if r.value == name), None)


def _judged(fields: Mapping[str, object]) -> str:
    coin, verdict, detail = fields.get("coin"), str(fields.get("verdict", "")), str(fields.get("detail", ""))
    if verdict in _ACCEPTED:
        return f"{coin}: signal {_ACCEPTED[verdict]}, order {_shown('cloid', detail)}"
    return f"{coin}: not traded, {verdict_words(verdict, detail.removeprefix(f'{coin}: '))}"


def _moved(fields: Mapping[str, object]) -> str:
    szi, entry = fields.get("szi"), fields.get("entry_px")
    if not szi:
        return f"{fields.get('coin')}: flat"
    return f"{fields.get('coin')}: position {_shown('szi', szi)}, entry {_shown('px', entry)}"


def _stepped(fields: Mapping[str, object]) -> str:
    after = str(fields.get("after", ""))
    words = LifecycleState[after].value if after in LifecycleState.__members__ else "?"
    return f"{after}: {words}"


def _halted(fields: Mapping[str, object]) -> str:
    left = fields.get("residual")
    if fields.get("flat"):
        return "HALT: the venue shows no order and no position; waiting for the operator"
    return f"HALT: not flat yet: {'; '.join(map(str, left)) if isinstance(left, Iterable) else left}"


def _answered(fields: Mapping[str, object]) -> str:
    words = "refused" if fields.get("refused") else "answered"
    error = f": {fields['error']}" if fields.get("error") else ""
    return f"post {fields.get('post')} {words}{' late' if fields.get('late') else ''}{error}"


def _not_traded(fields: Mapping[str, object]) -> str:
    """The counts of a minute: signals that the gates refused, then what gave no signal at all."""
    refused = _largest(fields.get("refused"), verdict_words)
    filtered = _largest(fields.get("filtered"), lambda name: FILTER_WORDS.get(name, name))
    parts = [f"signals refused: {refused}"] if refused else []
    parts += [f"evaluations without a signal: {filtered}"] if filtered else []
    return f"last minute, {'; '.join(parts)}"


def _largest(counts: object, words: Callable[[str], str]) -> str:
    """`coin words xN` of the largest counts in a map of coins to reasons to counts; the rest in one number."""
    whole = counts if isinstance(counts, dict) else {}
    flat = [(n, f"{coin} {words(why)}") for coin, whys in whole.items() for why, n in whys.items()]
    flat.sort(key=lambda item: -item[0])
    rest = sum(n for n, _ in flat[NAMED_IN_A_MINUTE:])
    return ", ".join([f"{what} x{n}" for n, what in flat[:NAMED_IN_A_MINUTE]] + ([f"other x{rest}"] if rest else []))


SPECIAL: dict[str, Callable[[Mapping[str, object]], str]] = {
    "signal_judged": _judged,
    "position_updated": _moved,
    "lifecycle": _stepped,
    "halt_flatten": _halted,
    "not_traded": _not_traded,
    "post_response": _answered,
    "repeated": lambda fields: "last minute, again: " + ", ".join(f"{what} x{n}" for what, n in fields.items()),
}


def _shown(name: str, value: object) -> str:
    """A field for people: edges with one decimal, money with four, our order ids by their number."""
    if isinstance(value, Decimal):
        if name.endswith("_bps"):
            return bps_text(value, sign=name != "cost_bps")
        if name.endswith("_usd"):
            return usd_text(value, sign=True)
        return px_text(value) if name.endswith("px") else units.wire(value)
    text = "" if value is None else str(value)
    if name == "cloid" and len(text) == 34 and text.startswith("0x"):
        return f"#{int(text[26:], 16)}"
    if name == "side":
        return text.lower()
    if name == "exit_reason":
        return EXIT_WORDS.get(text, text)
    if name == "age_ms" and isinstance(value, int):
        return f"{value / 1000:.1f} s"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    return text
