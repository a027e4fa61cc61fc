"""Episodes: counted once each, per market, by the definition; and the recording that pins the count."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hip3.cli.replay_cmd import replay_detector_only
from hip3.core.episodes import Episode, EpisodeCounter, QuoteSource
from hip3.core.events import AssetCtx, Bbo, Book, Level, MarketEvent
from hip3.core.ids import OrderSide
from hip3.core.market import Reference


def ctx(px: str, coin: str = "A") -> AssetCtx:
    return AssetCtx(coin, Decimal(px), None, None, None, None)


def bbo(time_ms: int, bid: str | None, ask: str | None, coin: str = "A") -> Bbo:
    one = Decimal(1)
    return Bbo(
        coin,
        time_ms,
        None if bid is None else Level(Decimal(bid), one),
        None if ask is None else Level(Decimal(ask), one),
    )


def run(events: list[MarketEvent], threshold: str = "10") -> tuple[EpisodeCounter, list[Episode]]:
    counter = EpisodeCounter(Reference.ORACLE, Decimal(threshold))
    ended = [episode for event in events if (episode := counter.observe(event)) is not None]
    return counter, [*ended, *counter.finish()]


def test_models_episodes_recorded_btc(shared_data: Path) -> None:
    """LESSONS 25: two recorded hours of BTC hold exactly 57 episodes of 1 bps against the mark in 33,749 updates."""
    out = io.StringIO()
    path = shared_data / "recordings" / "btc_bbo_mark_2h_20260510.jsonl.gz"
    code = replay_detector_only(path, reference="mark", threshold_bps=Decimal("1.0"), as_json=True, out=out)
    report = json.loads(out.getvalue())
    assert code == 0
    assert (report["episodes"], report["bbo_updates"]) == (57, 33749)
    assert report["bbo_before_reference"] == 3
    assert report["coins"]["BTC"]["episodes"] == 57
    assert report["unreadable_frames"] == 0
    assert any("reference is the mark" in note for note in report["notes"])


def test_models_episodes_a_run_counts_once() -> None:
    """LESSONS 25: a dislocation quoted three times is one episode, from its first update to the one that ended it."""
    counter, episodes = run(
        [
            ctx("1000"),
            bbo(1, "999", "1001"),
            bbo(2, "998", "999"),
            bbo(3, "997", "998"),
            bbo(4, "998", "999"),
            bbo(9, "999", "1001"),
        ]
    )
    assert episodes == [Episode("A", OrderSide.BUY, 2, 9, 3, Decimal(20))]
    assert (counter.episodes, counter.bbo_updates) == (1, 5)
    assert episodes[0].duration_ms == 7


def test_models_episodes_threshold_is_inclusive() -> None:
    """LESSONS 25: an edge equal to the threshold is an episode, exactly, with no division to round it."""
    assert run([ctx("3"), bbo(1, "2", "2.997")], "10")[0].episodes == 1
    assert run([ctx("3"), bbo(1, "2", "2.9970000000000000000000001")], "10")[0].episodes == 0


def test_models_episodes_need_a_reference() -> None:
    """Updates before a market's first reference are counted apart and are no episode."""
    counter, episodes = run([bbo(1, "1", "2"), bbo(2, "1", "2", "B"), ctx("1000", "B"), bbo(3, "1", "2")])
    assert (counter.episodes, counter.bbo_updates, episodes) == (0, 0, [])
    assert counter.tallies["A"].before_reference == 2


def test_models_episodes_one_sided_book() -> None:
    """A book of one side has that side's edge; an empty book has none and ends the run."""
    counter, episodes = run(
        [ctx("1000"), bbo(1, None, "998"), bbo(2, "1002", None), bbo(3, None, None), bbo(4, "1002", None)]
    )
    assert [(e.side, e.start_ms, e.end_ms, e.updates) for e in episodes] == [
        (OrderSide.BUY, 1, 3, 2),
        (OrderSide.SELL, 4, 4, 1),
    ]
    assert counter.tallies["A"].one_sided == 4


def test_models_episodes_absent_reference_keeps_the_last() -> None:
    """A context without the reference leaves the last one, as the venue states what it knows."""
    gone = AssetCtx("A", None, Decimal(5), None, None, None)
    counter, _ = run([ctx("1000"), gone, bbo(1, "990", "998")])
    assert (counter.episodes, counter.reference_updates) == (1, 1)


def test_models_episodes_books_as_quotes() -> None:
    """A recording of depth alone can be counted against the middle of the book before."""
    counter = EpisodeCounter(Reference.MID, Decimal(10), quotes=QuoteSource.BOOK)
    for time_ms, px in ((1, "100"), (2, "100"), (3, "101"), (4, "101")):
        level = (Level(Decimal(px), Decimal(1)),)
        counter.observe(Book("A", time_ms, level, (Level(Decimal(px) + Decimal("0.02"), Decimal(1)),)))
    assert (counter.bbo_updates, counter.episodes) == (3, 1)


@pytest.mark.parametrize("threshold", ["-1", "NaN", "Infinity"])
def test_models_episodes_threshold_must_be_a_number(threshold: str) -> None:
    """CFG-2: a threshold that means nothing is refused with its value."""
    with pytest.raises(ValueError, match="threshold_bps"):
        EpisodeCounter(Reference.ORACLE, Decimal(threshold))


PRICES = st.integers(990, 1010).map(Decimal)
SIDES = st.one_of(st.none(), PRICES.map(lambda px: Level(px, Decimal(1))))
COINS = st.sampled_from(["A", "xyz:B"])
EVENTS = st.lists(
    st.one_of(
        st.builds(lambda coin, bid, ask: Bbo(coin, 0, bid, ask), COINS, SIDES, SIDES),
        st.builds(lambda coin, px: AssetCtx(coin, px, None, None, None, None), COINS, st.one_of(st.none(), PRICES)),
    ),
    max_size=60,
)


def naive(events: list[MarketEvent], coin: str, threshold: Decimal) -> tuple[int, int, list[int]]:
    """The definition, read literally for one market: updates judged, episodes, updates in each."""
    flags: list[bool] = []
    reference = None
    for event in events:
        if event.coin != coin:
            continue
        if isinstance(event, AssetCtx):
            reference = reference if event.oracle_px is None else event.oracle_px
        elif isinstance(event, Bbo) and reference is not None:
            edges = []
            if event.ask is not None:
                edges.append((reference - event.ask.px) * 10_000 / reference)
            if event.bid is not None:
                edges.append((event.bid.px - reference) * 10_000 / reference)
            flags.append(bool(edges) and max(edges) >= threshold)
    text = "".join("x" if flag else " " for flag in flags)
    runs = [len(part) for part in text.split()]
    return len(flags), len(runs), runs


@given(EVENTS, st.integers(1, 80).map(Decimal))
def test_models_episodes_equal_the_definition(events: list[MarketEvent], threshold: Decimal) -> None:
    """Any stream of quotes and references of two markets gives the episodes of a literal reading of the definition."""
    counter = EpisodeCounter(Reference.ORACLE, threshold)
    ended = [episode for event in events if (episode := counter.observe(event)) is not None]
    ended += counter.finish()
    for coin in ("A", "xyz:B"):
        updates, count, runs = naive(events, coin, threshold)
        tally = counter.tallies.get(coin)
        assert (0 if tally is None else tally.bbo_updates) == updates
        assert (0 if tally is None else tally.episodes) == count
        assert [episode.updates for episode in ended if episode.coin == coin] == runs
