"""Asking the process to stop: once to end flat, twice to give up flattening (END-1, END-2)."""

from __future__ import annotations

import signal

import trio

HANGUP = "the terminal was closed"


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a process to stop. SIGHUP, a closed terminal, is left alone where it is ignored (nohup)."""
    asks = (signal.SIGINT, signal.SIGTERM)
    return asks if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*asks, signal.SIGHUP)


class Stop:
    """The first request starts the way out; a second one gives up what is left of it."""

    def __init__(self) -> None:
        self.requested = trio.Event()
        self.gave_up = trio.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        if not self.requested.is_set():
            self.reason = reason
            self.requested.set()
        else:
            self.gave_up.set()

    def on_signal(self, number: int) -> None:
        """What a signal asks for. A terminal that closes is no second signal: nobody gave up."""
        if number == signal.SIGHUP:
            self.request_once(HANGUP)
        else:
            self.request("Ctrl+C" if number == signal.SIGINT else signal.Signals(number).name)

    def request_once(self, reason: str) -> None:
        """As `request`, but never counts as the second: for limits and ends of data, which are not a person's hand."""
        if not self.requested.is_set():
            self.request(reason)
