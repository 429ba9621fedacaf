"""The writer: regions become rows, rows segments, and everything that was lost a row of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracectl.recorder import namespace
from tracectl.recorder.chain import KIND as SWITCH
from tracectl.recorder.chain import SwitchChain
from tracectl.recorder.decode import Decoder
from tracectl.recorder.delays import Delays
from tracectl.recorder.flight import Flight, Keep
from tracectl.recorder.ledger import Drop, Ledger
from tracectl.recorder.parse import Parsed, parse
from tracectl.recorder.probes import Probes
from tracectl.recorder.program import STACK
from tracectl.recorder.recovery import tail
from tracectl.recorder.settlement import Settlement
from tracectl.recorder.sink import Numbers, RowBuffer
from tracectl.recorder.snapshot import clocks, tasks
from tracectl.recorder.stacks import COLUMNS as STACK_COLUMNS
from tracectl.recorder.stacks import Stacks
from tracectl.store.compaction import Tables
from tracectl.store.events import KINDS
from tracectl.store.footer import Footer, LedgerLine
from tracectl.store.writer import SegmentWriter, table_of_rows

# An event may be this much older than the moment its ring was emptied without having been in it.
_WATERMARK_LAG_NS = 100_000_000
_SEGMENT_NS = 1_000_000_000
_SEGMENT_ROWS = 400_000
_ALL = 2**63 - 1
_NOTHING = np.empty(0, np.int64)


@dataclass
class Writer:
    """Everything between regions and segments.

    Args:
        probes: their counters and rings are read; nothing is attached or detached here.
        footer: of the capture to be; ``start_ts`` is set.
        keep: drop segments beyond this; None: keep all.

    Attributes:
        events: events taken from the rings.
        reader_cpu_ns: CPU time that the reading process has used.
    """

    probes: Probes
    segments: SegmentWriter
    footer: Footer
    keep: Keep | None = None
    events: int = 0
    reader_cpu_ns: int = 0
    _cpu_at_start: int = field(default_factory=time.process_time_ns)
    _last_segment: int = 0
    _last_cycle: int = 0
    _worst_delay: int = 0
    delays: Delays = field(default_factory=Delays)
    _begin: int = 0
    settlement: Settlement = field(default_factory=Settlement)

    def __post_init__(self) -> None:
        source = self.probes.source
        self._sizes = {number: record.dtype.itemsize for number, record in source.records.items()}
        self.rows = RowBuffer(source.records, self.segments.schema, Decoder(source.records))
        self._stacked = {n for n, record in source.records.items() if STACK_COLUMNS & set(record.dtype.names or ())}
        self.stacks = Stacks(again=self.keep is not None)
        self.ledger = Ledger(self.footer.start_ts, self.rows)
        self.chain = SwitchChain()
        self._last_segment = self._last_cycle = self._begin = self.footer.start_ts
        self.footer.end_ts = self.footer.start_ts
        self._note_clock()
        self.segments.begin(self._tail())
        self.flight = Flight(self.keep, self.segments) if self.keep else None
        self._segment_ns = self.keep.segment_ns if self.keep else _SEGMENT_NS
        self._note_tasks()

    @property
    def cpu_ns(self) -> int:
        """CPU time that reading and writing have used."""
        return self.reader_cpu_ns + time.process_time_ns() - self._cpu_at_start

    def region(self, stream: str, cpu: int, data: NDArray[np.uint8]) -> None:
        """Take one region."""
        state = self.ledger.ring(stream, cpu)
        parsed = parse(data, self._sizes)
        if stream == STACK.stream:
            for number, (records, _) in parsed.by_kind.items():
                self.stacks.define(records.view(self.probes.source.records[number].dtype)[:, 0])
            return
        for number, (records, position) in parsed.by_kind.items():
            self.rows.add(number, cpu, records, position + state.records)
            if number in self._stacked:
                self.stacks.refer(records.view(self.probes.source.records[number].dtype)[:, 0])
            self.events += len(records)
        self.ledger.region(stream, cpu, parsed, _times(parsed) if parsed.lost else _ends(parsed))

    def dropped(self, stream: str, cpu: int, drop: Drop) -> None:
        """A region that there was no room for; stacks in it are missed when rows refer to them."""
        if stream != STACK.stream:
            self.ledger.dropped(stream, cpu, drop)

    def cycle(self, ts: int, delay: int) -> None:
        """All rings were emptied after ``ts``, ``delay`` after the time before: write a segment when it is time."""
        self._worst_delay = max(self._worst_delay, delay)
        self.delays.add(delay)
        self._last_cycle = ts
        if ts - self._last_segment >= self._segment_ns or self.rows.pending >= _SEGMENT_ROWS:
            self._observe(ts)
            self._segment(ts - _WATERMARK_LAG_NS)
            self._last_segment = ts

    def closed(self, end_ts: int) -> None:
        """No event later than ``end_ts`` comes, and hardly an earlier one: write what there is."""
        self._observe(end_ts - 1)
        self._segment(end_ts - 1)  # what is to be said of the end has that time

    def cut_short(self) -> None:
        """The reader is gone: write what is known to be whole as the last segment."""
        self._segment(self._last_cycle - _WATERMARK_LAG_NS)

    def close(self, end_ts: int) -> Footer:
        """Account for the tail, write all that is left; returns the final footer."""
        self.ledger.close(end_ts, self.probes.ring_losses())
        self._observe(end_ts, ended=True)
        self._note_stacks(end_ts, last=True)
        for event in self.probes.selection.events:
            self.rows.note(
                "coverage", end_ts, None, stream=event.stream, from_ts=self.footer.start_ts,
                covered_kind=event.kind, filter=self.footer.filter_of(event.kind),
            )  # fmt: skip
        self.footer.end_ts = end_ts
        self._segment(_ALL)
        self.segments.remove_tail()
        self.footer.complete = True
        self.footer.ledger = self.settlement.without(self._account(), self.flight.dropped if self.flight else ())
        return self.footer

    def _segment(self, watermark: int) -> None:
        self._note_clock()
        self._check_switches(watermark)
        self._note_stacks(min(self._begin + 1, watermark))
        tables = self.rows.take(watermark)
        if not tables:
            return
        places = [(line.stream, line.cpu) for line in self._account()]
        lines = self.settlement.settle(places, self.rows.recorded, tables)
        if watermark != _ALL:
            self.footer.end_ts = max(self._begin, watermark)
        # Whole in itself: what is missing behind it stands in the tail.
        footer = replace(self.footer, start_ts=self._begin, ledger=lines, complete=True, late=self.rows.late)
        self.segments.write(tables, footer, self._tail())
        pa.default_memory_pool().release_unused()
        self.rows.late = False
        self._begin = self.footer.end_ts
        if self.flight is not None:
            self.flight.wrote(self._begin, lines)
            if self._begin - self._tasks_noted > self.flight.keep.ns // 4:
                self._note_tasks()  # the segment with the last ones will go
                self.stacks.write_again()

    def _account(self) -> list[LedgerLine]:
        return self.ledger.lines(self.probes.streams, self.probes.cpus, self.probes.counts(), self.rows.recorded)

    def _tail(self) -> tuple[Tables, Footer]:
        """What is missing in case that nothing more is written."""
        rows, footer = tail(self.footer, self.probes.streams, self.settlement.unsettled(self._account()))
        return {"lost": table_of_rows(self.segments.schema, KINDS["lost"], rows)}, footer

    def _check_switches(self, watermark: int) -> None:
        """Declare what is missing between two switches of a CPU; with a filter, neighbours need not follow."""
        if not self.footer.breaks_declared:
            return
        for cpu, rows in self.rows.ready(SWITCH, watermark, ("ts", "tid", "next_tid")):
            for from_ts, ts in self.chain.breaks(cpu, rows):
                self.ledger.undeclared(KINDS[SWITCH].stream, cpu, from_ts, ts)
        self.ledger.forget(watermark - _WATERMARK_LAG_NS)

    def _observe(self, now: int, *, ended: bool = False) -> None:
        """Rows about the recorder itself, one for each of its processes, and loss that only counters tell of."""
        begin = time.monotonic_ns()
        counts, misses = self.probes.counts(), self.probes.misses()
        read = now if ended else time.monotonic_ns()
        self.ledger.poll(read, self.probes.streams, counts, misses, min(begin, read))
        reader, writer = namespace.own()
        self.rows.note(
            "recorder", now, None, pid=reader, tid=reader, comm="tracectl", events_in=self.events,
            drain_delay=self._worst_delay, cpu_time=self.reader_cpu_ns,
        )  # fmt: skip
        self.rows.note(
            "recorder", now, None, pid=writer, tid=writer, comm="tracectl-writer", events_out=self.rows.written,
            lost_count=self.ledger.total_lost, cpu_time=self.cpu_ns - self.reader_cpu_ns,
        )  # fmt: skip
        self._worst_delay = 0

    def _note_tasks(self) -> None:
        now = self._tasks_noted = time.monotonic_ns()
        for task in tasks():
            self.rows.note("task", now, None, **task)

    def _note_stacks(self, ts: int, *, last: bool = False) -> None:
        for row in self.stacks.rows(last=last):
            self.rows.note("stack", ts, None, **row)
        if last and self.stacks.lost:
            self.ledger.by_cause["stack"] += self.stacks.lost
            self.rows.note(
                "lost", ts, None, stream=STACK.stream, from_ts=self.footer.start_ts, lost_count=self.stacks.lost,
                cause="stack",
            )  # fmt: skip

    def _note_clock(self) -> None:
        now = clocks()
        self.rows.note("clock", now["ts"], None, boottime=now["boottime"], realtime=now["realtime"])
        # The first and the newest are enough to convert; every one of them is a row.
        self.footer.clocks = [*self.footer.clocks[:1], now]


def drop_of(data: NDArray[np.uint8], sizes: dict[int, int], now: int) -> Drop:
    """What is lost with a region that there was no room for."""
    parsed = parse(data, sizes)
    _, ts = _times(parsed)
    lost = len(ts) + sum(count for _, count in parsed.lost)
    return Drop(parsed.count, lost, lost - len(ts), int(ts[-1]) if len(ts) else None, now)


def _times(parsed: Parsed) -> tuple[Numbers, Numbers]:
    """(position, ts) of a region's samples, in ring order."""
    parts = parsed.by_kind.values()
    if not parts:
        return _NOTHING, _NOTHING
    position = np.concatenate([position for _, position in parts])
    ts = np.concatenate([_ts(records) for records, _ in parts])
    order = np.argsort(position)
    return position[order], ts[order]


def _ends(parsed: Parsed) -> tuple[Numbers, Numbers]:
    """The same of the first and last sample only."""
    ends = [
        (int(position[i]), int(_ts(records[i][None])[0]))
        for records, position in parsed.by_kind.values()
        for i in (0, -1)
    ]
    if not ends:
        return _NOTHING, _NOTHING
    position, ts = zip(min(ends), max(ends), strict=True)
    return np.array(position), np.array(ts)


def _ts(records: NDArray[np.uint8]) -> Numbers:
    """The struct's first member."""
    return np.ascontiguousarray(records[:, :8]).view(np.int64).ravel()
