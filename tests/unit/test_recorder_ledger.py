"""The ledger against an obvious walk along each ring: every loss is counted once and lies between its neighbours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracectl.recorder.ledger import Drop, Ledger
from tracectl.recorder.parse import Parsed
from tracectl.recorder.program import COUNTERS_PER_STREAM
from tracectl.store.events import CAUSES
from tracectl.store.footer import LedgerLine

START, END = 1000, 9000
RING = ("sched", 1)
SAMPLE = "sample"


@dataclass
class Notes:
    rows: list[dict[str, Any]] = field(default_factory=list)

    def note(self, kind: str, ts: int, cpu: int | None = None, **columns: Any) -> None:
        assert kind == "lost"
        self.rows.append({"ts": ts, "cpu": cpu, **columns})

    def by_interval(self, cause: str) -> Counter[tuple[int, int]]:
        found: Counter[tuple[int, int]] = Counter()
        for row in self.rows:
            assert (row["stream"], row["cpu"]) == RING
            assert row["from_ts"] <= row["ts"]
            assert row["cause"] in CAUSES
            if row["cause"] == cause:
                found[row["from_ts"], row["ts"]] += row["lost_count"]
        return found


def region(items: list[int | str], first_ts: int, step: int = 10) -> tuple[Parsed, tuple[Any, Any]]:
    """A region of samples and lost records (their counts): what parse makes of it, and its samples' times."""
    positions = [i for i, item in enumerate(items) if item == SAMPLE]
    times = [first_ts + step * i for i in range(len(positions))]
    lost = [(i, item) for i, item in enumerate(items) if isinstance(item, int)]
    if not lost and positions:
        positions, times = [positions[0], positions[-1]], [times[0], times[-1]]
    return Parsed(lost=lost, count=len(items)), (np.array(positions, np.int64), np.array(times, np.int64))


def drop(parsed: Parsed, times: tuple[Any, Any], ts: int) -> Drop:
    """The region, dropped at ``ts``."""
    marked = sum(count for _, count in parsed.lost)
    last = int(times[1][-1]) if len(times[1]) else None
    return Drop(parsed.count, len(times[1]) + marked, marked, last, ts)


ITEMS = st.lists(st.just(SAMPLE) | st.integers(1, 50), max_size=8)


@given(st.lists(ITEMS, max_size=6), st.integers(0, 5))
@example([[3, SAMPLE]], 0)
@example([[SAMPLE, 3]], 0)
@example([[SAMPLE, 3, 4], [], [5], [6, SAMPLE, 7]], 2)
@example([[3]], 1)
def test_markers_lie_between_their_neighbours(regions: list[list[int | str]], tail: int) -> None:
    notes = Notes()
    ledger = Ledger(START, notes)
    ts = START
    for items in regions:
        samples = items.count(SAMPLE)
        ledger.region(*RING, *region(items, ts + 10))
        ts += 10 * samples
    marked = sum(item for items in regions for item in items if isinstance(item, int))
    ledger.close(END, {RING: marked + tail})

    wanted: Counter[tuple[int, int]] = Counter()
    waiting, last = 0, START
    for item in (item for items in regions for item in items):
        if item == SAMPLE:
            wanted[last, last + 10] += waiting
            waiting, last = 0, last + 10
        else:
            waiting += int(item)
    wanted[last, END] += waiting
    assert notes.by_interval("ring_full") == +wanted
    assert notes.by_interval("tail") == +Counter({(last, END): tail})
    assert ledger.lost == +Counter({RING: marked + tail})
    assert ledger.by_cause == +Counter(ring_full=marked, tail=tail)
    assert ledger.total_lost == marked + tail


@given(st.lists(st.tuples(ITEMS, st.booleans()), max_size=7), st.integers(0, 5))
@example([([SAMPLE], False), ([SAMPLE, 5], True), ([6, SAMPLE], False)], 0)
def test_dropped_regions_are_losses_of_the_reader(regions: list[tuple[list[int | str], bool]], tail: int) -> None:
    notes = Notes()
    ledger = Ledger(START, notes)
    ts = START
    spans: list[tuple[int, int]] = []  # in which something was lost
    open_from: int | None = None
    lost = recorded = 0
    for items, dropped in regions:
        first = ts + 10
        parsed, times = region(items, first)
        times = region([*items, 1], first)[1] if dropped else times
        for item in items:
            if item == SAMPLE:
                ts += 10
                if open_from is not None:
                    spans.append((open_from, ts))
                open_from = None
                recorded += not dropped
                lost += dropped
                if dropped:
                    spans.append((ts, ts))
            else:
                lost += int(item)
                open_from = ts if open_from is None else open_from
        if dropped:
            # The writer hears of it when samples of later regions were taken already.
            ledger.dropped(*RING, drop(parsed, times, ts + 35))
        else:
            ledger.region(*RING, parsed, times)
    if tail:
        spans.append((ts, END))
    markers = sum(item for items, _ in regions for item in items if isinstance(item, int))
    ledger.close(END, {RING: markers + tail})
    lost += tail

    assert ledger.lost[RING] == lost == sum(row["lost_count"] for row in notes.rows)
    assert sum(ledger.by_cause.values()) == lost
    assert all(row["from_ts"] <= row["ts"] for row in notes.rows)
    for begin, end in spans:
        assert any(row["from_ts"] <= begin and end <= row["ts"] for row in notes.rows) or covered(notes, begin, end)
    counts = np.zeros((COUNTERS_PER_STREAM, 2), np.uint64)
    counts[0, 1] = recorded + lost
    lines = ledger.lines(("sched",), [1], counts, Counter({RING: recorded}))
    assert lines == [LedgerLine("sched", 1, recorded + lost, recorded, lost)]
    assert lines[0].residue == 0


def test_the_region_behind_a_dropped_one_follows_its_last_sample() -> None:
    notes = Notes()
    ledger = Ledger(START, notes)
    ledger.dropped(*RING, drop(*region([SAMPLE, SAMPLE, 1], 1100), 5000))
    ledger.region(*RING, *region([3, SAMPLE], 1200))
    assert notes.by_interval("reader") == {(START, 5000): 3}
    assert notes.by_interval("ring_full") == {(1110, 1200): 3}


def covered(notes: Notes, begin: int, end: int) -> bool:
    """Whether gaps that overlap cover an interval together."""
    for row in sorted(notes.rows, key=lambda row: row["from_ts"]):
        if row["from_ts"] <= begin <= row["ts"]:
            begin = row["ts"]
    return begin >= end


def test_a_gap_between_samples_out_of_order_holds_both() -> None:
    """An interrupt's event overtakes the one it interrupted: the ring is not in the order of times."""
    notes = Notes()
    ledger = Ledger(START, notes)
    parsed = Parsed(lost=[(1, 4)], count=3)
    ledger.region(*RING, parsed, (np.array([0, 2]), np.array([1100, 1095])))
    assert notes.by_interval("ring_full") == {(1095, 1100): 4}


def test_rings_are_apart() -> None:
    ledger = Ledger(START, Notes())
    ledger.region("sched", 0, *region([SAMPLE, 5], 1100))
    ledger.region("irq", 0, *region([SAMPLE], 1200))
    ledger.region("sched", 1, *region([7, SAMPLE], 1300))
    assert ledger.lost == {("sched", 1): 7}
    ledger.close(END, {("sched", 0): 5, ("irq", 0): 2, ("sched", 1): 7})
    assert ledger.lost == {("sched", 0): 5, ("sched", 1): 7, ("irq", 0): 2}


def test_refused_events_and_skipped_probes_are_polled() -> None:
    notes = Notes()
    ledger = Ledger(START, notes)
    streams = ("sched", "irq")
    counts = np.zeros((2 * COUNTERS_PER_STREAM, 2), np.uint64)
    ledger.poll(2000, streams, counts, {"sched": 0})
    assert notes.rows == []
    counts[2, 0], counts[3, 1], counts[COUNTERS_PER_STREAM + 2, 1] = 3, 5, 2
    counts[1] = 99  # the ring's own loss, which markers tell of
    ledger.poll(3000, streams, counts, {"sched": 4})
    ledger.poll(3500, streams, counts, {"sched": 4})
    counts[3, 1] = 6
    ledger.poll(4000, streams, counts, {"sched": 4, "irq": 1})
    found = [(r["stream"], r["cpu"], r["from_ts"], r["ts"], r["lost_count"], r["cause"]) for r in notes.rows]
    assert found == [
        ("sched", 0, 2000, 3000, 3, "not_attached"),
        ("sched", 1, 2000, 3000, 5, "busy"),
        ("irq", 1, 2000, 3000, 2, "not_attached"),
        ("sched", None, 2000, 3000, 4, "nested"),
        ("sched", 1, 3500, 4000, 1, "busy"),
        ("irq", None, 3500, 4000, 1, "nested"),
    ]
    assert ledger.lost == {("sched", 0): 3, ("sched", 1): 6, ("irq", 1): 2}
    assert ledger.skipped == {"sched": 4, "irq": 1}
    # Skipped probes never emitted: they are apart from what adds up.
    assert ledger.total_lost == 11
    counts[0], counts[COUNTERS_PER_STREAM] = [10, 20], [7, 2]
    lines = ledger.lines(streams, [0, 1], counts, Counter({("sched", 0): 7, ("sched", 1): 14, ("irq", 0): 7}))
    assert lines == [
        LedgerLine("sched", 0, 10, 7, 3),
        LedgerLine("sched", 1, 20, 14, 6),
        LedgerLine("irq", 0, 7, 7, 0),
        LedgerLine("irq", 1, 2, 0, 2),
        LedgerLine("sched", -1, 0, 0, 0, 4),
        LedgerLine("irq", -1, 0, 0, 0, 1),
    ]
    assert all(line.residue == 0 for line in lines)


def test_the_first_poll_reaches_back_to_the_start() -> None:
    notes = Notes()
    counts = np.zeros((COUNTERS_PER_STREAM, 1), np.uint64)
    counts[3, 0] = 1
    Ledger(START, notes).poll(2000, ("sched",), counts, {})
    assert (notes.rows[0]["from_ts"], notes.rows[0]["ts"]) == (START, 2000)


def test_a_cpu_that_came_online_later_is_in_the_ledger() -> None:
    ledger = Ledger(START, Notes())
    counts = np.zeros((COUNTERS_PER_STREAM, 4), np.uint64)
    counts[0], counts[2] = [5, 0, 0, 9], [0, 0, 0, 9]
    ledger.poll(2000, ("sched",), counts, {})
    lines = ledger.lines(("sched",), [0, 1], counts, Counter({("sched", 0): 5}))
    assert lines == [LedgerLine("sched", 0, 5, 5, 0), LedgerLine("sched", 1, 0, 0, 0), LedgerLine("sched", 3, 9, 0, 9)]


def test_a_missing_row_is_a_residue() -> None:
    counts = np.full((5, 1), 8, np.uint64)
    (line,) = Ledger(START, Notes()).lines(("sched",), [0], counts, Counter({("sched", 0): 5}))
    assert line.residue == 3


@pytest.mark.parametrize("interval", ((2000, 2100), (1500, 1600)))
def test_undeclared_gaps_are_declared_once(interval: tuple[int, int]) -> None:
    notes = Notes()
    ledger = Ledger(START, notes)
    ledger.region(*RING, *region([SAMPLE, 5, SAMPLE], 2040))
    known = len(notes.rows)
    ledger.undeclared(*RING, *interval)
    assert len(notes.rows) - known == (interval == (1500, 1600))
    ledger.forget(5000)
    ledger.undeclared(*RING, 2040, 2050)
    assert notes.rows[-1]["lost_count"] is None
    assert ledger.by_cause["undeclared"] >= 1
    assert ledger.lost[RING] == 5


def test_what_was_left_out_on_purpose_is_declared_up_to_when_it_was_counted() -> None:
    """Counters are read while events go on: one that is counted may be later than the begin of the reading."""
    notes = Notes()
    ledger = Ledger(START, notes)
    counts = np.zeros((COUNTERS_PER_STREAM, 2), np.uint64)
    counts[0, 1], counts[4, 1] = 100, 90
    ledger.poll(2010, ("sched",), counts, {}, 2000)
    counts[0, 1], counts[4, 1] = 200, 180
    ledger.poll(3010, ("sched",), counts, {}, 3000)
    assert notes.by_interval("sampled") == {(START, 2010): 90, (2000, 3010): 90}
    assert ledger.total_lost == 0
    assert ledger.lines(("sched",), [1], counts, Counter({RING: 20})) == [LedgerLine("sched", 1, 200, 20, 180)]
