"""The writer without a kernel: regions of a made-up ring become a capture, over a day, while the clock is set."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracectl.recorder import decode, flight, probes, writing
from tracectl.recorder.flight import Keep
from tracectl.recorder.probes import Probes
from tracectl.recorder.program import COUNTERS_PER_STREAM, HEADER_FIELDS, Record
from tracectl.recorder.writing import Writer
from tracectl.store import writer as store_writer
from tracectl.store.capture import Capture
from tracectl.store.database import Database
from tracectl.store.events import KINDS, Catalogue, Event
from tracectl.store.footer import Footer
from tracectl.store.relations import Relations
from tracectl.store.schema import capture_schema
from tracectl.store.writer import SegmentWriter

SECOND = 10**9
EVENT = KINDS["softirq_entry"]
DTYPE = np.dtype(HEADER_FIELDS + [(c.name, c.type.numpy) for c in EVENT.fields], align=True)
SCHEMA = capture_schema(Catalogue(), [EVENT.kind])


@dataclass
class Source:
    records: dict[int, Record]


@dataclass
class Selected:
    events: tuple[Event, ...] = (EVENT,)


@dataclass
class Kernel:
    """What a Writer asks of Probes: counters of two CPUs."""

    source: Source = field(default_factory=lambda: Source({1: Record(1, EVENT, DTYPE, EVENT.probes)}))
    selection: Selected = field(default_factory=Selected)
    streams: tuple[str, ...] = (EVENT.stream,)
    cpus: tuple[int, ...] = (0, 1)
    emitted: list[int] = field(default_factory=lambda: [0, 0])

    def counts(self) -> Any:
        return np.array([self.emitted, *[[0, 0]] * (COUNTERS_PER_STREAM - 1)], np.uint64)

    def misses(self) -> dict[str, int]:
        return {}

    def ring_losses(self) -> dict[tuple[str, int], int]:
        return {}

    def region(self, cpu: int, times: list[int]) -> Any:
        """The bytes of a ring with one event at each of these times."""
        rows = np.zeros(len(times), DTYPE)
        rows["ts"], rows["kind"], rows["tid"], rows["comm"] = times, 1, cpu + 7, b"worker"
        size = (12 + DTYPE.itemsize + 7) // 8 * 8
        region = np.zeros((len(times), size), np.uint8)
        region[:, :8] = np.frombuffer(struct.pack("=IHH", 9, 2, size), np.uint8)
        region[:, 12 : 12 + DTYPE.itemsize] = rows.view(np.uint8).reshape(len(times), -1)
        self.emitted[cpu] += len(times)
        return region.ravel()


@pytest.fixture(autouse=True)
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(decode, "cached_task_state", lambda: str)
    monkeypatch.setattr(writing, "tasks", lambda: iter(()))
    monkeypatch.setattr(writing, "clocks", clock.read)
    monkeypatch.setattr(writing.time, "monotonic_ns", lambda: clock.now)
    monkeypatch.setattr("os.fsync", lambda _: None)  # a day's worth of them takes minutes
    return clock


@dataclass
class Clock:
    now: int = SECOND
    set_by: int = 0

    def read(self) -> dict[str, int]:
        return {"ts": self.now, "boottime": self.now + 5, "realtime": 1_700_000_000 * SECOND + self.now + self.set_by}


def writer_of(output: Path, clock: Clock, keep: Keep | None = None) -> tuple[Kernel, Writer]:
    kernel = Kernel()
    segments = SegmentWriter(output, SCHEMA, stay=keep is not None)
    footer = Footer([EVENT.kind], [0, 1], clock.now, clock.now)
    return kernel, Writer(kernel, segments, footer, keep)  # type: ignore[arg-type]


def second(kernel: Kernel, writer: Writer, clock: Clock, events: int = 3) -> None:
    """A second goes by; each CPU emits some events in it."""
    begin = clock.now
    clock.now += SECOND
    for cpu in (0, 1):
        times = [begin + (at + 1) * SECOND // (events + 1) + cpu for at in range(events)]
        writer.region(EVENT.stream, cpu, kernel.region(cpu, times))
    writer.cycle(clock.now, 50_000_000)


def finished(kernel: Kernel, writer: Writer, clock: Clock) -> Capture:
    writer.closed(clock.now)
    return Capture.open(writer.segments.finish(writer.close(clock.now)))


def test_what_is_written_at_the_stop_is_not_late(tmp_path: Path, no_kernel: Clock, monkeypatch: Any) -> None:
    kernel, writer = writer_of(tmp_path / "c.parquet", no_kernel)
    late = []
    plain = writer.segments.write
    monkeypatch.setattr(
        writer.segments,
        "write",
        lambda tables, footer, tail: (late.append(footer.late), plain(tables, footer, tail))[1],
    )
    for _ in range(3):
        second(kernel, writer, no_kernel, 20)
    capture = finished(kernel, writer, no_kernel)
    assert late == [False] * 5  # three seconds, what was left when the gate closed, what is said of the end
    assert [line.residue for line in capture.ledger()] == [0, 0]
    with capture.database() as database:
        rows = database.execute(f"SELECT ts, tid FROM '{capture.files[0]}' WHERE tid IS NOT NULL ORDER BY seq").rows()
    events = [row for row in rows if row[1] in (7, 8)]
    assert len(events) == 120
    assert events == sorted(events)


def test_a_clock_that_is_set_while_recording_changes_no_event(tmp_path: Path, no_kernel: Clock) -> None:
    kernel, writer = writer_of(tmp_path / "c.parquet", no_kernel)
    for number in range(6):
        no_kernel.set_by = -3600 * SECOND if number >= 3 else 0
        second(kernel, writer, no_kernel)
    capture = finished(kernel, writer, no_kernel)
    with capture.database() as database:
        source = f"FROM '{capture.files[0]}' WHERE kind ="
        times = [row[0] for row in database.execute(f"SELECT ts {source} 'softirq_entry' ORDER BY seq").rows()]
        shown = database.execute(f"SELECT realtime - ts, COUNT(*) {source} 'clock' GROUP BY ALL ORDER BY 1").rows()
    assert len(times) == 36
    assert times == sorted(times)
    assert SECOND <= times[0] <= times[-1] <= 7 * SECOND
    assert not capture.footer.late
    # Both readings are there, so that it can be seen that, and when, it was set.
    before = 1_700_000_000 * SECOND
    assert [offset for offset, _ in shown] == [before - 3600 * SECOND, before]


def test_a_day_of_segments_in_bounded_space(tmp_path: Path, no_kernel: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 hours, in segments of five minutes with files left empty, to save time: neither disk nor memory grows."""
    monkeypatch.setattr(flight, "_LONGEST_SEGMENT", 300 * SECOND)
    monkeypatch.setattr(flight, "_SEGMENTS_KEPT", 24)
    monkeypatch.setattr(store_writer, "write_file", lambda path, *_, **__: (path.touch(), 1000)[1])
    kernel, writer = writer_of(tmp_path / "flight", no_kernel, Keep(2 * 3600 * SECOND))
    assert writer.flight is not None
    step = writer.flight.keep.segment_ns // SECOND
    assert step == 300
    steps = 24 * 3600 // step
    sizes, files = [], []
    tracemalloc.start()
    try:
        for number in range(1, steps + 1):
            no_kernel.now += (step - 1) * SECOND
            second(kernel, writer, no_kernel)
            if number % (steps // 8) == 0:
                sizes.append(tracemalloc.get_traced_memory()[0])
                files.append(len(list(writer.segments.directory.iterdir())))
    finally:
        tracemalloc.stop()
    assert files == [24 + 1] * 8  # those kept, and the tail
    assert max(sizes) < sizes[0] + 100_000, sizes


def test_a_gate_that_moved_too_late_is_a_gap_of_unknown_size(tmp_path: Path, no_kernel: Clock) -> None:
    kernel, writer = writer_of(tmp_path / "c.parquet", no_kernel)
    begin = no_kernel.now
    writer.ledger.late(kernel.streams, [(begin, begin + 1_000)])
    second(kernel, writer, no_kernel)
    capture = finished(kernel, writer, no_kernel)
    with Database(capture.files) as database:
        sql = f"{Relations(capture).with_clause(['lost'])} SELECT stream, cpu, from_ts, ts, lost_count, cause FROM lost"
        found = database.execute(sql).rows()
    assert found == [(EVENT.stream, None, begin, begin + 1_000, None, "not_attached")]


@pytest.mark.parametrize("slow", [False, True])
def test_what_the_gate_s_times_are_worth(monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    """A move that ends after the time it was meant for leaves a time in which nothing is known; all else is whole."""
    made = Probes.__new__(Probes)
    made.from_ts, made.late = 0, []
    now, moves = SECOND, []

    def move(*interval: int) -> None:
        nonlocal now
        moves.append(interval)
        now += SECOND if slow and len(moves) % 2 == 0 else 1_000  # the first of two tries how long it takes

    monkeypatch.setattr(made, "_set_gate", move)
    monkeypatch.setattr(probes.time, "monotonic_ns", lambda: now)
    monkeypatch.setattr(probes, "_sleep_until", lambda ts: None)
    made.open_gate()
    made.close_gate()
    shut, (opened, _), still_open, (kept, closed) = moves
    assert min(shut) > 100 * SECOND
    assert still_open == (opened, shut[1])
    assert opened == kept == made.from_ts
    if slow:
        assert made.late == [(opened, 2 * SECOND + 1_000), (closed, 3 * SECOND + 2_000)]
        assert made.to_ts == 3 * SECOND + 2_000
    else:
        assert made.late == []
        assert made.to_ts == closed
