"""When an order in doubt is asked about, and when asking has failed (POST-4). Pure: times in, times out.

Two questions in the first seconds find what was executed. The third waits until absence can be proved, because before
the expiry "unknown" proves nothing (PROTOCOL 3). After that the questions go on at the same rate, three in 30 s: an order
is never given up.
"""

from __future__ import annotations

TRIES = 3  # POST-4, `retry_budget`
TRY_EVERY_MS = 2_000  # POST-4
BUDGET_MS = 30_000  # POST-4


def next_try_ms(tries: int, asked_ms: int, provable_ms: int, doubted_ms: int) -> int:
    """Wall time of the next question after `tries` of them, the last one at `asked_ms`.

    `provable_ms` is when absence becomes a proof. The third question waits for it, but not beyond the 30 s of the budget.
    """
    if tries == 0:
        return doubted_ms
    if tries < TRIES - 1:
        return asked_ms + TRY_EVERY_MS
    if tries == TRIES - 1:
        return max(asked_ms + TRY_EVERY_MS, min(provable_ms, doubted_ms + BUDGET_MS))
    return asked_ms + BUDGET_MS // TRIES


def is_exceeded(tries: int, doubted_ms: int, now_ms: int) -> bool:
    """True where the budget is used up: three questions told nothing, or 30 s have passed."""
    return tries >= TRIES or now_ms - doubted_ms >= BUDGET_MS
