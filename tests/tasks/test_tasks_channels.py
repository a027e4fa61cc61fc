"""Channels between tasks: facts queue and never get lost in silence, state conflates, bells do not pile up (DESIGN 4)."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from attrs import evolve

from hip3.tasks.channels import ANSWERS, CHANNELS, EVENTS, EXITS, FACTS, ChannelFull, Doorbell, Mailbox, WhenFull


async def test_a_full_channel_of_facts_says_whose_reader_is_stuck(autojump_clock: object) -> None:
    """DESIGN 4, LESSONS 16: the fact that does not fit raises, naming channel, reader and size; none is dropped."""
    box: Mailbox[int] = Mailbox(evolve(FACTS, capacity=3))
    for n in range(3):
        box.put(n)
    with pytest.raises(ChannelFull, match=r"channel facts \(position\) is full at 3: its reader does not keep up"):
        box.put(3)
    assert [box.get_nowait() for _ in range(4)] == [0, 1, 2, None]
    assert box.peak == 3


async def test_a_reader_gets_everything_in_order(autojump_clock: object) -> None:
    """DESIGN 4: first in, first out, whether read one by one, by iteration or without waiting."""
    box: Mailbox[int] = Mailbox(EXITS)
    for n in range(4):
        box.put(n)
    assert await box.get() == 0
    assert box.get_nowait() == 1
    read = []
    async for item in box:
        read.append(item)
        if not len(box):
            break
    assert read == [2, 3]


async def test_a_reader_that_crashes_leaves_nothing_behind(autojump_clock: object) -> None:
    """END-2: iteration holds no generator that a crash would leave to the garbage collector."""
    box: Mailbox[int] = Mailbox(EVENTS)
    box.put(1)
    box.put(2)

    async def crash() -> None:
        async for item in box:
            _ = item // 0

    with pytest.raises(ZeroDivisionError):
        await crash()
    assert await box.get() == 2


async def test_a_bell_rung_often_wakes_once_and_a_bell_rung_early_is_heard(autojump_clock: object) -> None:
    """DESIGN 4: state wakes its reader; three rings are one, and none is lost while the reader works."""
    bell = Doorbell()
    for _ in range(3):
        bell.ring()
    await bell.wait()
    with trio.move_on_after(1) as scope:
        await bell.wait()
    assert scope.cancelled_caught


async def test_every_channel_is_bounded_or_one_slot_per_market(autojump_clock: object) -> None:
    """DESIGN 4: no channel without a capacity; only the one of signals replaces, and it has one place per market."""
    assert {c.name: c.capacity for c in CHANNELS if c.when_full is WhenFull.HALT} == {
        "facts": 1024,
        "exits": 64,
        "answers": 256,
        "events": 1024,
    }
    assert [c.name for c in CHANNELS if c.capacity is None] == ["signals"]
    assert len({c.name for c in CHANNELS}) == len(CHANNELS)
    assert ANSWERS in CHANNELS
