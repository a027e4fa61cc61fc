"""The dead-man of another process: where a bot's heartbeat has stopped and its account is exposed, it flattens (DEAD-1).

While the bot is well, nothing is asked of the venue. Age is the time since a new heartbeat was last seen, by this process's
own monotonic clock, so a clock that is set changes nothing. A missing or damaged file is an old one. It flattens by the one
procedure, with an agent key of its own: two processes with one key would collide in their nonces (PROTOCOL 5.5).
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field

from hip3.core.clock import Clock
from hip3.io.certificate import FlatCertificate
from hip3.ops.flatten_tool import Tool
from hip3.ops.heartbeat import Beat, NoBeat
from hip3.ops.stop import Stop

POLL_S = 0.25
FIRST_LOOK_MS = 3000
"""A file that looks old at the start may be that of a bot that lives, after a clock was set: it gets time for a new one."""
FLATTEN_S = 20.0
"""One attempt; as a bot's own (END-1)."""
BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 10.0
LOOK_AGAIN_S = 15.0
"""How often a flat account of a dead bot is looked at: some 130 of weight for six dexes, of 1200 a minute (PROTOCOL 8)."""


class SharedSigner(Exception):
    """The bot signs with the watchdog's key."""


@define
class Watchdog:
    """Guards one account. `say` is told a level and a sentence; `keep` puts certificates away."""

    tool: Tool
    read: Callable[[], Beat]
    """The bot's newest heartbeat. Raises NoBeat."""
    stale_ms: int
    clock: Clock
    stop: Stop
    say: Callable[[str, str], None]
    keep: Callable[[FlatCertificate], str | None]
    certificate: FlatCertificate | None = None
    """Of the last flatten."""
    _seen: Beat | None = field(default=None, init=False)
    _seen_ms: int = field(init=False)
    """Monotonic time of the last news, at first that of the start."""
    _began_ms: int = field(init=False)
    _told: str = field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self._seen_ms = self._began_ms = self.clock.mono_ms()

    async def run(self) -> None:
        """Guards until the stop. Raises SharedSigner."""
        while not self.stop.requested.is_set():
            trouble = self.trouble()
            pause_s = POLL_S if trouble is None else await self._guard(trouble)
            with trio.move_on_after(pause_s):
                await self.stop.requested.wait()

    def trouble(self) -> str | None:
        """Why the account must be looked after, None where there is no need. Raises SharedSigner."""
        try:
            beat = self.read()
        except NoBeat as e:
            return self._if_old(str(e))
        own = self.tool.order.signer
        if own is not None and beat.signer == own.address.lower():
            raise SharedSigner(
                f"process {beat.pid} trades with signer {beat.signer}, which is this watchdog's; approve a second agent "
                "(API wallet) of the account for the watchdog and give its key"
            )
        if beat.account is not None and own is not None and beat.network != own.network.value:
            return self._if_old(f"the heartbeat is of network {beat.network}")
        if beat.account is not None and beat.account != self.tool.order.account.lower():
            return self._if_old(f"the heartbeat is of account {beat.account}")
        if self._seen is None or (beat.run_id, beat.seq) != (self._seen.run_id, self._seen.seq):
            # Its own clock says how old the first one was when this process came; later ones are dated by being new.
            age_ms = max(0, self.clock.wall_ms() - beat.wall_ms) if self._seen is None else 0
            self._seen, self._seen_ms = beat, self.clock.mono_ms() - age_ms
        needs_nothing = "has ended flat" if beat.has_ended_flat else "sends nothing" if beat.account is None else None
        trouble = None if needs_nothing else self._if_old(f"process {beat.pid} in state {beat.state}")
        if trouble is None:
            what = f"process {beat.pid} is well" if needs_nothing is None else f"run {beat.run_id:x} {needs_nothing}"
            self._tell("info", what)
        return trouble

    def _if_old(self, what: str) -> str | None:
        now = self.clock.mono_ms()
        age_ms = now - self._seen_ms
        if age_ms <= self.stale_ms or now - self._began_ms < FIRST_LOOK_MS:
            return None
        return f"no heartbeat for {age_ms} ms: {what}"

    async def _guard(self, trouble: str) -> float:
        """Flattens until the venue shows nothing, the bot is back or somebody stops it; seconds until the next look."""
        self._tell("critical", "the bot's heartbeat has stopped", trouble)
        backoff_s = BACKOFF_FIRST_S
        while True:
            certificate = await self._flatten(trouble)
            if certificate is None:
                return 0
            did_something = bool(certificate.cancelled or certificate.closed)
            if self.certificate is None or did_something or not certificate.flat or not self.certificate.flat:
                self._record(certificate)
            self.certificate = certificate
            if certificate.flat:
                self._tell("info", "the venue shows no order and no position" + ("" if did_something else "; nothing to do"))
                return LOOK_AGAIN_S
            self.say("critical", f"FLATTEN_FAILED: {'; '.join(certificate.residual)}")
            with trio.move_on_after(backoff_s):
                await self.stop.requested.wait()
            backoff_s = min(2 * backoff_s, BACKOFF_MOST_S)
            if self.stop.requested.is_set() or self.trouble() is None:
                return 0

    async def _flatten(self, trouble: str) -> FlatCertificate | None:
        """One attempt, which a first signal lets end; None where a second one gave it up."""
        certificate: FlatCertificate | None = None
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                nonlocal certificate
                certificate = await self.tool.flatten(FLATTEN_S, f"watchdog: {trouble}")
                nursery.cancel_scope.cancel()

            nursery.start_soon(work)
            await self.stop.gave_up.wait()
            nursery.cancel_scope.cancel()
        return certificate

    def _record(self, certificate: FlatCertificate) -> None:
        why_not = self.keep(certificate)
        if why_not is not None:
            self.say("error", f"the certificate could not be written: {why_not}")

    def _tell(self, level: str, sentence: str, more: str = "") -> None:
        """Once, until something else was told."""
        if sentence != self._told:
            self._told = sentence
            self.say(level, f"{sentence}: {more}" if more else sentence)
