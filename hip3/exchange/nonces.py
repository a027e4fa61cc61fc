"""Nonces of one signer: window, duplicates, floor of the hundred highest (PROTOCOL 5.5). Refuses to know actions."""

from __future__ import annotations

import heapq

from hip3.exchange import texts

KEPT = 100
MARGIN_MS = 120_000  # the measured window is this much tighter than the documented one on both ends
PAST_MS = 2 * 86_400_000 - MARGIN_MS
FUTURE_MS = 86_400_000 - MARGIN_MS


class NonceSet:
    """The nonces that one key has used."""

    def __init__(self) -> None:
        self._highest: list[int] = []
        self._seen: set[int] = set()
        self._order: list[int] = []

    def admit(self, nonce: int, now_ms: int) -> None:
        """Uses `nonce` up, or raises `Refused` with the venue's text: window first, then duplicate, then floor."""
        oldest, newest = now_ms - PAST_MS, now_ms + FUTURE_MS
        if nonce < oldest:
            raise texts.Refused(texts.nonce_too_low(nonce, oldest))
        if nonce > newest:
            raise texts.Refused(texts.nonce_too_high(nonce, newest))
        if nonce in self._seen:
            raise texts.Refused(texts.duplicate_nonce(nonce))
        if len(self._highest) == KEPT and nonce <= self._highest[0]:
            raise texts.Refused(texts.nonce_too_low(nonce, self._highest[0]))
        self._use(nonce, oldest)

    def is_used(self, nonce: int) -> bool:
        """Whether it was admitted within the window."""
        return nonce in self._seen

    def _use(self, nonce: int, oldest: int) -> None:
        self._seen.add(nonce)
        heapq.heappush(self._order, nonce)
        while self._order[0] < oldest:  # outside the window the window answers, so memory stays bounded by it
            self._seen.discard(heapq.heappop(self._order))
        if len(self._highest) < KEPT:
            heapq.heappush(self._highest, nonce)
        else:
            heapq.heappushpop(self._highest, nonce)

    @property
    def seen(self) -> frozenset[int]:
        """Every nonce admitted within the window."""
        return frozenset(self._seen)
