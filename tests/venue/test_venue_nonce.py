"""Nonces: unique, increasing, following the venue's clock."""

from __future__ import annotations

import itertools

import pytest
import trio
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from hip3.venue.hyperliquid.errors import ClockSkewError
from hip3.venue.hyperliquid.nonce import NonceSource, Skew

NOW = 1_767_225_600_000


@define
class Wall:
    """A wall clock that shows what it is set to."""

    ms: int = NOW

    def __call__(self) -> int:
        return self.ms


def test_starts_at_now() -> None:
    """NON-1: the first nonce is the time, never 0 or 1."""
    assert NonceSource(Wall()).next() == NOW


def test_monotonic_while_the_clock_stands() -> None:
    """NON-1, NON-3: nonces of one millisecond differ and increase."""
    source = NonceSource(Wall())
    assert [source.next() for _ in range(3)] == [NOW, NOW + 1, NOW + 2]
    assert source.last == NOW + 2


@pytest.mark.parametrize(("server_ms", "apart_ms"), [(-150, 0), (0, 0), (-2000, -1700), (400, 400)])
def test_the_way_of_the_answer_is_no_distance(server_ms: int, apart_ms: int) -> None:
    """NON-2, EXIT-1: asked 300 ms ago, its time may be any since then; only what is beyond that is a distance."""
    source = NonceSource(Wall())
    assert source.sync(NOW + server_ms, NOW - 300).offset_ms == source.apart_ms == apart_ms
    assert source.offset_ms == server_ms


def test_clock_steps_back() -> None:
    """NON-3: a wall clock that steps back does not repeat a nonce."""
    wall = Wall()
    source = NonceSource(wall)
    first = source.next()
    wall.ms = NOW - 3_600_000
    assert source.next() == first + 1


def test_continues_after_a_restart() -> None:
    """NON-1: a run that is given the last nonce of the one before goes on above it, even if that ran ahead of the clock."""
    assert NonceSource(Wall(), last=NOW + 500).next() == NOW + 501
    with pytest.raises(ValueError, match="negative"):
        NonceSource(Wall(), last=-1)


async def test_no_duplicate_from_concurrent_tasks() -> None:
    """NON-3: tasks that interleave at every checkpoint never share a nonce."""
    source = NonceSource(Wall())
    taken: list[int] = []

    async def take() -> None:
        for _ in range(20):
            taken.append(source.next())
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(take)
    assert len(taken) == len(set(taken)) == 400
    assert taken == sorted(taken)


def test_fast_forward_on_sync() -> None:
    """NON-2, NON-3: after a sync the next nonce is the server's time, even when the local clock then steps back."""
    wall = Wall()
    source = NonceSource(wall)
    source.next()
    check = source.sync(NOW + 60_000)
    assert check.offset_ms == source.offset_ms == 60_000
    wall.ms -= 10_000
    assert source.next() == NOW + 60_000


def test_sync_never_goes_backwards() -> None:
    """NON-2: a server clock behind ours lowers the offset, not the counter."""
    source = NonceSource(Wall())
    last = source.next()
    source.sync(NOW - 60_000)
    assert source.next() == last + 1


def test_follows_server_time() -> None:
    """NON-3: as both clocks advance, nonces keep to the server's."""
    wall = Wall()
    source = NonceSource(wall)
    source.sync(NOW + 1_500)
    wall.ms += 10_000
    assert source.next() == NOW + 11_500
    source.sync(wall.ms + 700)
    wall.ms += 10_000
    assert source.next() == wall.ms + 700


@pytest.mark.parametrize(
    ("offset", "skew"),
    [
        (0, Skew.OK),
        (2_000, Skew.OK),
        (2_001, Skew.WARN),
        (-2_001, Skew.WARN),
        (5_000, Skew.WARN),
        (5_001, Skew.ERROR),
        (-5_001, Skew.ERROR),
    ],
)
def test_skew_bounds(offset: int, skew: Skew) -> None:
    """NON-2, NON-3: warns from 2001 ms, is an error from 5001 ms, either way."""
    assert NonceSource(Wall()).sync(NOW + offset).skew is skew


def test_an_error_names_the_difference() -> None:
    """NON-2: a caller that requires a sane clock gets an error with the difference and the remedy."""
    NonceSource(Wall()).sync(NOW + 5_000).require()
    with pytest.raises(ClockSkewError, match=r"-6000 ms.*NTP"):
        NonceSource(Wall()).sync(NOW + 6_000).require()


@given(st.lists(st.tuples(st.sampled_from(["next", "sync", "clock"]), st.integers(-10_000_000, 10_000_000)), max_size=60))
def test_always_increases(steps: list[tuple[str, int]]) -> None:
    """NON-1: whatever the clocks do, every nonce is above the one before."""
    wall = Wall()
    source = NonceSource(wall)
    issued = [source.next()]
    for what, amount in steps:
        if what == "next":
            issued.append(source.next())
        elif what == "sync":
            source.sync(NOW + amount)
        else:
            wall.ms = NOW + amount
    assert all(a < b for a, b in itertools.pairwise(issued))
