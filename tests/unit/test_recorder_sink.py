"""Rows on their way to disk: each comes out once, in the order of (ts, cpu, place), or is said to be late."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracectl.recorder import decode
from tracectl.recorder.decode import Decoder
from tracectl.recorder.program import HEADER_FIELDS, Record
from tracectl.recorder.sink import RowBuffer
from tracectl.store.capture import Capture
from tracectl.store.database import source_sql
from tracectl.store.events import KINDS, Catalogue
from tracectl.store.footer import Footer
from tracectl.store.schema import capture_schema
from tracectl.store.writer import SegmentWriter

NAMES = {1: "softirq_entry", 2: "softirq_exit", 3: "sched_process_exit"}
SCHEMA = capture_schema(Catalogue(), NAMES.values())
END = 2**63 - 1


def record(number: int) -> Record:
    event = KINDS[NAMES[number]]
    dtype = np.dtype(HEADER_FIELDS + [(c.name, c.type.numpy) for c in event.fields], align=True)
    return Record(number, event, dtype, event.probes)


RECORDS = {number: record(number) for number in NAMES}


@pytest.fixture(autouse=True, scope="module")
def no_kernel() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "cached_task_state", lambda: str)
        yield


@dataclass
class Recording:
    """A buffer, and what went in and came out; ``pid`` of a row is its number, ``boottime`` that of a note."""

    buffer: RowBuffer = field(default_factory=lambda: RowBuffer(RECORDS, SCHEMA, Decoder(RECORDS)))
    given: dict[int, tuple[Any, ...]] = field(default_factory=dict)  # number -> ts, cpu, ring, place, kind
    places: Counter[Any] = field(default_factory=Counter)
    segments: list[tuple[dict[str, pa.Table], bool]] = field(default_factory=list)

    def add(self, number: int, cpu: int, times: list[int]) -> None:
        ring = (RECORDS[number].event.stream, cpu)
        rows = np.zeros(len(times), RECORDS[number].dtype)
        place = np.arange(self.places[ring], self.places[ring] + len(times))
        self.places[ring] += len(times)
        for i, ts in enumerate(times):
            self.given[len(self.given) + 1] = (ts, cpu, ring, int(place[i]), NAMES[number])
            rows[i]["ts"], rows[i]["pid"] = ts, len(self.given)
        self.buffer.add(number, cpu, rows.view(np.uint8).reshape(len(times), -1), place)

    def note(self, ts: int, cpu: int | None) -> None:
        place = self.places["notes"]
        self.places["notes"] += 1
        self.given[len(self.given) + 1] = (ts, -1 if cpu is None else cpu, "notes", place, "clock")
        self.buffer.note("clock", ts, cpu, boottime=len(self.given))

    def take(self, watermark: int) -> None:
        tables = dict(self.buffer.take(watermark))
        assert all(len(set(table["kind"].to_pylist())) == 1 for table in tables.values())
        assert all(max(table["ts"].to_pylist()) <= watermark for table in tables.values())
        assert all(table["seq"].to_pylist() == sorted(table["seq"].to_pylist()) for table in tables.values())
        if tables:
            self.segments.append((tables, self.buffer.late))
            self.buffer.late = False

    def out(self) -> list[tuple[int, int]]:
        """(seq, number) of what came out, by seq."""
        found = []
        for tables, _ in self.segments:
            for kind, table in tables.items():
                numbers = table["boottime" if kind == "clock" else "pid"].to_pylist()
                found += list(zip(table["seq"].to_pylist(), numbers, strict=True))
        return sorted(found)

    def in_order(self, numbers: list[int]) -> bool:
        """Whether rows are by (ts, cpu) and, within a ring, by place."""
        keys = [self.given[number][:2] for number in numbers]
        rings = defaultdict(list)
        for number in numbers:
            ts, cpu, ring, place, _ = self.given[number]
            rings[ring, ts, cpu].append(place)
        return keys == sorted(keys) and all(places == sorted(places) for places in rings.values())


TIMES = st.integers(0, 12)
STEPS = st.lists(
    st.tuples(
        st.just("add"),
        st.sampled_from(sorted(NAMES)),
        st.integers(0, 2),
        st.lists(TIMES, min_size=1, max_size=6) | st.lists(TIMES, min_size=1, max_size=6).map(sorted),
    )
    | st.tuples(st.just("note"), TIMES, st.none() | st.integers(0, 2))
    | st.tuples(st.just("take"), TIMES | st.just(END)),
    max_size=15,
)


def played(steps: list[tuple[Any, ...]]) -> Recording:
    recording = Recording()
    for name, *arguments in steps:
        getattr(recording, name)(*arguments)
    recording.take(END)
    return recording


@given(STEPS)
def test_every_row_comes_out_once_with_a_number_of_its_own(steps: list[tuple[Any, ...]]) -> None:
    recording = played(steps)
    seqs, numbers = zip(*recording.out(), strict=True) if recording.given else ((), ())
    assert list(seqs) == list(range(1, len(recording.given) + 1))
    assert sorted(numbers) == sorted(recording.given)
    assert recording.buffer.pending == 0
    rows = [(ring, kind) for _, _, ring, _, kind in recording.given.values() if ring != "notes"]
    assert recording.buffer.recorded == Counter(ring for ring, _ in rows)
    assert recording.buffer.written == len(rows)


@given(STEPS)
def test_the_order_is_right_or_said_to_be_late(steps: list[tuple[Any, ...]]) -> None:
    recording = played(steps)
    numbers = [number for _, number in recording.out()]
    assert recording.in_order(numbers) or any(late for _, late in recording.segments)
    for tables, _ in recording.segments:
        seqs = {seq for table in tables.values() for seq in table["seq"].to_pylist()}
        assert recording.in_order([number for seq, number in recording.out() if seq in seqs])


@given(STEPS)
def test_nothing_is_late_when_no_row_comes_behind_the_watermark(steps: list[tuple[Any, ...]]) -> None:
    recording = Recording()
    watermark = 0
    for name, *arguments in steps:
        if name == "take" and arguments[0] != END:
            watermark += arguments[0]
            recording.take(watermark)
        elif name == "add":
            number, cpu, times = arguments
            recording.add(number, cpu, [watermark + 1 + ts for ts in times])
        elif name == "note":
            recording.note(watermark + 1 + arguments[0], arguments[1])
    recording.take(END)
    assert not any(late for _, late in recording.segments)
    assert recording.in_order([number for _, number in recording.out()])


@settings(max_examples=30)
@given(STEPS)
def test_compaction_restores_the_order(steps: list[tuple[Any, ...]]) -> None:
    recording = played(steps)
    with tempfile.TemporaryDirectory() as directory:
        segments = SegmentWriter(Path(directory) / "c.parquet", SCHEMA)
        for tables, late in recording.segments:
            segments.write(tables, Footer(list(NAMES.values()), [0, 1, 2], 0, 99, late=late))
        capture = Capture.open(segments.finish(Footer(list(NAMES.values()), [0, 1, 2], 0, 99)))
        with capture.database() as database:
            sql = f"SELECT seq, coalesce(boottime, pid), ts, kind FROM {source_sql(capture.files)} ORDER BY seq"
            rows = database.execute(sql).rows()
    numbers = [number for _, number, _, _ in rows]
    assert [seq for seq, *_ in rows] == list(range(1, len(recording.given) + 1))
    assert sorted(numbers) == sorted(recording.given)
    assert [(ts, kind) for _, _, ts, kind in rows] == [recording.given[n][0::4] for n in numbers]
    assert recording.in_order(numbers)


def test_a_watermark_that_goes_back_does_not_hide_a_late_row() -> None:
    recording = Recording()
    recording.add(1, 0, [180])
    recording.take(200)
    recording.add(1, 0, [90])
    recording.take(100)
    recording.add(1, 0, [150])
    recording.take(END)
    assert [late for _, late in recording.segments] == [False, True, True]


def test_a_tie_with_the_watermark_is_late() -> None:
    recording = Recording()
    recording.add(1, 1, [100])
    recording.take(100)
    recording.add(1, 0, [100])
    recording.take(101)
    assert [late for _, late in recording.segments] == [False, True]


def test_ready_is_what_the_next_take_writes() -> None:
    recording = Recording()
    recording.add(1, 0, [5, 1, 9])
    recording.add(1, 1, [4])
    recording.add(1, 0, [6])
    recording.add(2, 0, [2])
    found = {cpu: rows["ts"].tolist() for cpu, rows in recording.buffer.ready("softirq_entry", 6, ("ts",))}
    assert found == {0: [5, 1, 6], 1: [4]}
    recording.take(6)
    assert [recording.given[number][0] for _, number in recording.out()] == [1, 2, 4, 5, 6]
    assert recording.buffer.pending == 1


def test_nothing_to_take() -> None:
    assert Recording().buffer.take(END) == {}
