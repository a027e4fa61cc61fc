"""The price of one synthetic market: what it is worth, what is published of it, what makers know.

Three prices: `fair` is what the share is worth elsewhere, `oracle` what the deployer last published, `known` what
makers quote around once they think. The path never depends on what accounts do. Jumps come in three kinds, because a
dislocation from the oracle is a stale quote only in some of them (LESSONS 26).
"""

from __future__ import annotations

import enum
import math
import random

from attrs import define, frozen

from hip3.exchange.models.calibration import PREMIUM_MEAN_BPS, PREMIUM_MEMORY_S, PREMIUM_SD_BPS

BPS = 1e4


class Jump(enum.Enum):
    LAGGED = "lagged"
    """The worth moved; makers learn it from the oracle and follow with their lag. The edge is real."""
    LED = "led"
    """Makers saw it first; the oracle follows at its next turn. The edge points the wrong way."""
    TRANSIENT = "transient"
    """The oracle alone moved and comes back; the edge is none."""


@frozen
class JumpMix:
    """Jumps of one market: how many, how large, of which kind. The rest of the shares is TRANSIENT."""

    per_min: float
    min_bps: float
    mean_excess_bps: float
    lagged_share: float
    led_share: float


@define
class OraclePath:
    """State of one market's price; `premium_bps` is the structural distance of quotes from the oracle."""

    rng: random.Random
    sigma_bps: float
    jumps: JumpMix
    fair: float
    oracle: float
    known: float
    premium_bps: float
    glitch_bps: float = 0.0
    glitch_turns: int = 0

    @classmethod
    def start(cls, px: float, sigma_bps: float, jumps: JumpMix, rng: random.Random) -> OraclePath:
        """A path at `px` with a premium drawn from its long-run distribution."""
        premium = rng.gauss(PREMIUM_MEAN_BPS, PREMIUM_SD_BPS)
        return cls(rng=rng, sigma_bps=sigma_bps, jumps=jumps, fair=px, oracle=px, known=px, premium_bps=premium)

    @property
    def quote_centre(self) -> float:
        """Where a maker that thinks now puts the middle of its quotes."""
        return self.known * (1 + self.premium_bps / BPS)

    def wait_ms(self) -> int | None:
        """Time to the next jump (exponential); None where this market never jumps."""
        if self.jumps.per_min <= 0:
            return None
        return round(self.rng.expovariate(self.jumps.per_min / 60_000))

    def jump(self) -> Jump:
        """A jump happens; returns its kind."""
        size = self.jumps.min_bps + self.rng.expovariate(1 / self.jumps.mean_excess_bps)
        signed = size if self.rng.random() < 0.5 else -size
        kind = self._kind()
        if kind is Jump.TRANSIENT:
            self.glitch_bps = signed
            self.glitch_turns = self.rng.randint(1, 3)
            return kind
        self.fair *= 1 + signed / BPS
        if kind is Jump.LED:
            self.known = self.fair
        return kind

    def publish(self, elapsed_s: float) -> None:
        """The deployer's turn: the worth diffuses by the time gone, the oracle states it, makers can know it."""
        self.fair *= 1 + self.rng.gauss(0.0, self.sigma_bps * math.sqrt(elapsed_s)) / BPS
        self._wander(elapsed_s)
        self.known = self.fair
        self.oracle = self.fair
        if self.glitch_turns:
            self.oracle *= 1 + self.glitch_bps / BPS
            self.glitch_turns -= 1

    def _kind(self) -> Jump:
        draw = self.rng.random()
        if draw < self.jumps.lagged_share:
            return Jump.LAGGED
        return Jump.LED if draw < self.jumps.lagged_share + self.jumps.led_share else Jump.TRANSIENT

    def _wander(self, elapsed_s: float) -> None:
        """Ornstein-Uhlenbeck step, exact in distribution: mean, sd and memory from the calibration."""
        keep = math.exp(-elapsed_s / PREMIUM_MEMORY_S)
        noise = self.rng.gauss(0.0, PREMIUM_SD_BPS * math.sqrt(1 - keep * keep))
        self.premium_bps = PREMIUM_MEAN_BPS + (self.premium_bps - PREMIUM_MEAN_BPS) * keep + noise
