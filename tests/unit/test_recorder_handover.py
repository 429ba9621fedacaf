"""Shared memory and socket between reader and writer: what goes in comes out, once, in order, or is refused."""

from __future__ import annotations

import os
from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracectl.recorder.handover import Channel, Counters, Slab

SIZE = 64
# (length of the next region to be put in, or 0 to take the oldest one out)
STEPS = st.lists(st.one_of(st.integers(1, SIZE), st.just(0)), max_size=60)


def taken(slab: Slab, start: int, length: int) -> bytes:
    content = slab.region(start, length).tobytes()
    slab.give_back(start, length)
    return content


@given(STEPS)
def test_a_slab_keeps_every_region_until_it_is_taken(steps: list[int]) -> None:
    slab = Slab(SIZE)
    inside: deque[tuple[int, bytes]] = deque()
    for number, length in enumerate(steps):
        if length:
            content = bytes([number % 251] * length)
            slab.room(length)[:] = np.frombuffer(content, np.uint8)
            if slab.start is not None:
                inside.append((slab.start, content))
            else:
                # Refused only when the regions inside, or the unused rest of a turn, leave too little room.
                assert sum(len(kept) for _, kept in inside) + 2 * length > SIZE or inside
        elif inside:
            start, content = inside.popleft()
            assert taken(slab, start, len(content)) == content
    for start, content in inside:
        assert taken(slab, start, len(content)) == content


def test_an_empty_slab_has_room_for_half_its_size_at_any_place() -> None:
    slab = Slab(SIZE)
    for _ in range(200):
        slab.room(SIZE // 2 - 1)
        assert slab.start is not None
        taken(slab, slab.start, SIZE // 2 - 1)


def test_a_full_slab_refuses_and_leaves_what_is_inside() -> None:
    slab = Slab(SIZE)
    slab.room(SIZE)[:] = 7
    start = slab.start
    assert start is not None
    slab.room(1)[:] = 9
    assert slab.start is None
    assert set(taken(slab, start, SIZE)) == {7}


def test_memory_is_shared_with_a_forked_process() -> None:
    slab, counters = Slab(SIZE), Counters()
    ours, theirs = Channel.pair()
    child = os.fork()
    if child == 0:
        ours.close()
        message = theirs.receive()
        region = slab.region(*message) if message else np.empty(0)
        counters["events"] = int(region.sum())
        theirs.send("done", len(region))
        os._exit(0)
    theirs.close()
    slab.room(10)[:] = 3
    ours.send(slab.start, 10)
    assert ours.receive() == ("done", 10)
    os.waitpid(child, 0)
    assert counters["events"] == 30
    assert ours.receive() is None  # it is gone


def test_messages_wait_when_nobody_reads_and_none_is_lost() -> None:
    ours, theirs = Channel.pair()
    for number in range(50_000):
        ours.send(number, "x" * 100)
    received = []
    while len(received) < 50_000:
        ours.flush()
        received.append(theirs.receive())
    assert received == [(number, "x" * 100) for number in range(50_000)]
    theirs.close()
    ours.send("into the void")  # no error: receive() tells
    assert ours.receive() is None
    ours.close()
