"""BCC's own tools at the same time as a recording: what they print is in it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.vm.conftest import Files

# Two programs at one tracepoint see it microseconds apart, and as far apart as the emulator stands still between them.
NEAR_US, STILL_US = 2_000, 400_000


class Line(NamedTuple):
    """A wait as runqslower prints it."""

    comm: str
    tid: int
    latency_us: int
    prev_tid: int


def _lines(text: str) -> Iterator[Line]:
    """TIME COMM TID LAT(us) PREV-COMM PREV-TID; names may have spaces."""
    for line in text.splitlines():
        words = line.split()
        at = next((i for i in range(2, len(words) - 1) if words[i].isdigit() and words[i + 1].isdigit()), None)
        if words and words[0].count(":") == 2 and at is not None:
            yield Line(" ".join(words[1:at]), int(words[at]), int(words[at + 1]), int(words[-1]))


def _distances(theirs: list[int], ours: list[int]) -> list[int]:
    """How far each of their latencies is from the one of ours that it is taken for, nearest pairs first."""
    pairs = sorted((abs(their - our), i, j) for i, their in enumerate(theirs) for j, our in enumerate(ours))
    used: tuple[set[int], set[int]] = (set(), set())
    found = []
    for distance, i, j in pairs:
        if i not in used[0] and j not in used[1] and distance <= STILL_US:
            used[0].add(i)
            used[1].add(j)
            found.append(distance)
    return found


def test_every_line_of_runqslower_is_among_the_delays(scenario: Callable[[str], Files]) -> None:
    files = scenario("peers")
    begun = files.json("begun")
    capture = files.capture("peers")
    assert {(line.lost, line.residue) for line in capture.capture.ledger()} == {(0, 0)}
    theirs: dict[tuple[int, str, int], list[int]] = defaultdict(list)
    # The first lines are of waits before the recording began.
    printed = files.text("runqslower.txt").splitlines()[begun["lines"] :]
    for line in _lines("\n".join(printed)):
        theirs[line.tid, line.comm, line.prev_tid].append(line.latency_us)
    ours: dict[tuple[int, str, int], list[int]] = defaultdict(list)
    for tid, comm, prev_tid, duration in capture.rows("SELECT tid, comm, prev_tid, dur FROM delays WHERE certain"):
        ours[tid, comm, prev_tid].append(duration // 1000)
    assert sum(map(len, theirs.values())) > 50
    distances = {key: _distances(latencies, ours[key]) for key, latencies in theirs.items()}
    absent = {key: latencies for key, latencies in theirs.items() if len(distances[key]) < len(latencies)}
    assert absent == {}
    apart = [distance for of_one in distances.values() for distance in of_one]
    assert statistics.median(apart) < NEAR_US / 10
    assert sum(distance < NEAR_US for distance in apart) > 0.9 * len(apart)
