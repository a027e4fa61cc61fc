"""The metadata task step by step: what it compares, and how long its last reading holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import define, evolve

from hip3.core.causes import Safety
from hip3.core.ids import MarketKey, MarketSpec
from hip3.core.journal import Journal
from hip3.core.market import MarketState
from hip3.io.rest import QueryFailed
from hip3.tasks.metadata import MAX_AGE_MS, MetadataTask, differences
from hip3.venue.hyperliquid.signing import SignedAction

SPEC = MarketSpec(MarketKey.parse("xyz:A"), asset_id=110_000, sz_decimals=3, max_leverage=10, fee_scale=Decimal(1))
DEXS = [None, {"name": "xyz", "deployerFeeScale": "1.0", "assetToStreamingOiCap": [["xyz:A", "25000000.0"]]}]
META = {"universe": [{"szDecimals": 3, "name": "xyz:A", "maxLeverage": 10}], "collateralToken": 0}


@define
class Hand:
    """A clock that is set by hand."""

    now: int = 0

    def wall_ms(self) -> int:
        return self.now

    def mono_ms(self) -> int:
        return self.now


@define
class Answers:
    """A venue that says what it was given, or nothing."""

    known: dict[str, Any] | None

    async def info(self, request: dict[str, object]) -> object:
        if self.known is None:
            raise QueryFailed("no answer")
        return self.known[str(request["type"])]

    async def exchange(self, signed: SignedAction) -> object:
        raise NotImplementedError("metadata send nothing")


def task(known: dict[str, Any] | None, clock: Hand) -> MetadataTask:
    markets = {"xyz:A": MarketState(SPEC)}
    safety = Safety(lambda *_: None, clock.wall_ms)
    return MetadataTask(Answers(known), markets, ("xyz",), safety, lambda: False, clock, Journal(), clock.mono_ms())


async def test_a_reading_holds_for_three_periods() -> None:
    """META-1: a question that failed leaves the last reading, which does not hold for ever; the next answer does."""
    clock = Hand()
    asked = task(None, clock)
    missing = []
    for clock.now in (300_000, 310_000, MAX_AGE_MS, MAX_AGE_MS + 1):
        await asked.read()
        missing.append(asked.missing)
    assert missing == [None, None, None, f"metadata are {MAX_AGE_MS + 1} ms old"]
    assert [n.event for n in asked.journal.drain()] == ["metadata_unread"]  # told once for a row of failures (LESSONS 29)
    asked.rest = Answers({"perpDexs": DEXS, "meta": META})
    await asked.read()
    assert asked.missing is None
    assert asked.markets["xyz:A"].oi_cap_usd == 25_000_000


@pytest.mark.parametrize("body", [None, {}, {"universe": "none"}, []])
async def test_an_answer_that_cannot_be_read_is_no_change(body: object) -> None:
    """META-1, LESSONS 30: a malformed answer is unknown and not a market that is gone."""
    asked = task({"perpDexs": DEXS, "meta": body}, Hand(300_000))
    asked.read_ms = 0
    await asked.read()
    assert asked.read_ms == 0
    assert asked.safety.blocking_promotion() == ()
    assert not asked.markets["xyz:A"].halted


def test_only_what_matters_is_a_difference() -> None:
    """META-4: asset id, size decimals, fee and margin mode; leverage tiers and collateral names are not."""
    assert list(differences(SPEC, evolve(SPEC, max_leverage=5))) == []
    changed = evolve(SPEC, asset_id=110_001, sz_decimals=2, fee_scale=None, growth_mode=True, margin_mode="noCross")
    assert len(list(differences(SPEC, changed))) == 5
    assert list(differences(SPEC, None)) == ["asset_id 110000 is no longer listed"]
