"""The reader: rings are emptied in one thread, rows ordered and written in another, with a bounded queue between."""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracectl._version import __version__
from tracectl.recorder.chain import KIND as SWITCH
from tracectl.recorder.chain import SwitchChain
from tracectl.recorder.decode import Decoder
from tracectl.recorder.ledger import Ledger
from tracectl.recorder.parse import Parsed, parse
from tracectl.recorder.probes import Probes
from tracectl.recorder.selection import Selection
from tracectl.recorder.sink import Numbers, RowBuffer
from tracectl.recorder.snapshot import clocks, machine, tasks
from tracectl.store.errors import RecordError
from tracectl.store.events import EXTRA, KINDS, Catalogue
from tracectl.store.footer import Footer, LedgerLine, event_to_json
from tracectl.store.schema import capture_schema
from tracectl.store.writer import SegmentWriter

# Bytes copied from the rings and not yet written; beyond, regions are dropped and declared lost (cause reader).
QUEUE_BYTES = 192 * 1024 * 1024
# An event may be this much older than the moment its ring was emptied without having been in it.
_WATERMARK_LAG_NS = 100_000_000
_SEGMENT_NS = 1_000_000_000
_SEGMENT_ROWS = 1_000_000
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True)
class _Region:
    """What was copied out of one ring; ``data`` None: dropped, ``parsed`` tells what it held."""

    stream: str
    cpu: int
    data: NDArray[np.uint8] | None
    parsed: Parsed | None = None


@dataclass(frozen=True)
class _Cycle:
    """All rings were emptied after ``ts``; ``delay`` is the time since the cycle before."""

    ts: int
    delay: int


@dataclass(frozen=True)
class Status:
    """A running recording; ``elapsed_ns`` since its begin, counts since then, ``size`` in bytes on disk."""

    elapsed_ns: int
    events: int
    lost: int
    size: int


@dataclass(frozen=True)
class Outcome:
    """A finished recording.

    Attributes:
        path: the capture.
        ledger: per stream and CPU.
        causes: events lost by cause (``skipped`` ones of cause ``nested`` are outside the ledger).
        missing: kinds this kernel could not give, with the reason.
        stopped_by: why it ended, in words.
        command_exit: exit status of the command as a shell has it (128 + signal); None without a command.
        cpu_ns: CPU time the recorder used while recording.
    """

    path: Path
    events: int
    lost: int
    size: int
    elapsed_ns: int
    cpu_ns: int
    ledger: list[LedgerLine]
    causes: dict[str, int]
    missing: dict[str, str]
    stopped_by: str
    command_exit: int | None


class Drain:
    """Empties the rings of a recording and writes its capture.

    Args:
        probes: attached, the gate still closed.
        segments: where to write.
        command_line: noted in the capture.
    """

    def __init__(self, probes: Probes, segments: SegmentWriter, command_line: tuple[str, ...]) -> None:
        self._probes = probes
        self._segments = segments
        self._footer = _footer(probes, command_line)
        self._queue: queue.SimpleQueue[_Region | _Cycle | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._lock = threading.Lock()
        self._poll = select.epoll()
        for ring in probes.rings.values():
            self._poll.register(ring.fileno(), select.EPOLLIN)
        self._writer: _Writer | None = None
        self._thread: threading.Thread | None = None
        self._last_cycle = 0
        self.events = 0

    @staticmethod
    def schema_of(selection: Selection) -> pa.Schema:
        """Schema of the capture of a selection."""
        catalogue = Catalogue.of(selection.events)
        return capture_schema(catalogue, (event.kind for event in selection.events))

    # -- the thread that empties the rings --

    def begin(self) -> None:
        """Let events in, and start writing."""
        self._probes.open_gate()
        self._last_cycle = self._footer.start_ts = self._probes.from_ts
        self._writer = _Writer(self._probes, self._segments, self._footer)
        self._thread = threading.Thread(target=self._write, name="tracectl-writer", daemon=True)
        self._thread.start()

    def cycle(self, timeout: float) -> None:
        """Wait until a ring is a quarter full or ``timeout`` seconds have gone, then empty all rings.

        Raises:
            RecordError: the writer had to give up (the disk is full).
        """
        self._poll.poll(timeout)
        self._drain_all()
        if self._writer is not None and self._writer.failure is not None:
            raise self._writer.failure

    def _drain_all(self) -> None:
        now = time.monotonic_ns()
        for (stream, cpu), ring in self._probes.rings.items():
            data = ring.take()
            if data is not None:
                self._hand_over(stream, cpu, data)
        self._queue.put(_Cycle(now, now - self._last_cycle))
        self._last_cycle = now

    def _hand_over(self, stream: str, cpu: int, data: NDArray[np.uint8]) -> None:
        with self._lock:
            fits = self._queued_bytes + len(data) <= QUEUE_BYTES
            if fits:
                self._queued_bytes += len(data)
        if fits:
            self._queue.put(_Region(stream, cpu, data))
        else:
            sizes = {number: record.dtype.itemsize for number, record in self._probes.source.records.items()}
            self._queue.put(_Region(stream, cpu, None, parse(data, sizes)))

    # -- the thread that writes --

    def _write(self) -> None:
        writer = self._writer
        if writer is None:
            raise RuntimeError("begin() was not called")
        while (item := self._queue.get()) is not None:
            try:
                if isinstance(item, _Cycle):
                    writer.cycle(item)
                else:
                    writer.region(item)
                    self.events = writer.events
            except OSError as error:
                writer.failure = _cannot_write(error, self._segments)
            except Exception as error:  # noqa: BLE001 -- told by the thread that waits for this one
                writer.failure = error
            if isinstance(item, _Region) and item.data is not None:
                with self._lock:
                    self._queued_bytes -= len(item.data)
            if writer.failure is not None:
                return

    # -- for the session --

    @property
    def elapsed_ns(self) -> int:
        """Time since the recording began."""
        return time.monotonic_ns() - self._footer.start_ts

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._segments.bytes_written

    def status(self) -> Status:
        """How it goes."""
        lost = self._writer.ledger.total_lost if self._writer else 0
        return Status(self.elapsed_ns, self.events, lost, self.size)

    def stop(self) -> None:
        """Let no further event in, and take what is in the rings."""
        self._probes.close_gate()
        self._drain_all()
        self._queue.put(None)

    def finish(self, stopped_by: str, command_exit: int | None) -> Outcome:
        """Write the rest, close the ledger and make the capture file.

        Raises:
            RecordError: the disk is full; the segments stay.
        """
        if self._thread is None or self._writer is None:
            raise RuntimeError("begin() was not called")
        self._thread.join()
        if self._writer.failure is not None:
            raise self._writer.failure
        try:
            footer = self._writer.close(self._probes.to_ts)
            path = self._segments.finish(footer)
        except OSError as error:
            raise _cannot_write(error, self._segments) from error
        self._poll.close()
        return Outcome(
            path=path,
            events=self._writer.events,
            lost=self._writer.ledger.total_lost,
            size=path.stat().st_size,
            elapsed_ns=footer.end_ts - footer.start_ts,
            cpu_ns=time.process_time_ns() - self._writer.cpu_at_start,
            ledger=footer.ledger,
            causes=dict(self._writer.ledger.by_cause),
            missing=footer.missing,
            stopped_by=stopped_by,
            command_exit=command_exit,
        )

    def abort(self) -> None:
        """Give up after an error: the finished segments stay, an empty directory goes."""
        self._queue.put(None)
        self._poll.close()
        if self._thread is not None:
            self._thread.join()
        self._segments.discard_if_empty()


@dataclass
class _Writer:
    """The writing thread's own state: nothing here is touched by the other one but counters it reads."""

    probes: Probes
    segments: SegmentWriter
    footer: Footer
    events: int = 0
    failure: Exception | None = None
    cpu_at_start: int = field(default_factory=time.process_time_ns)
    _last_segment: int = 0
    _worst_delay: int = 0

    def __post_init__(self) -> None:
        source = self.probes.source
        self._sizes = {number: record.dtype.itemsize for number, record in source.records.items()}
        self.rows = RowBuffer(source.records, self.segments.schema, Decoder(source.records))
        self.ledger = Ledger(self.footer.start_ts, self.rows)
        self.chain = SwitchChain()
        self._last_segment = self.footer.start_ts
        self._note_clock()
        now = time.monotonic_ns()
        for task in tasks():
            self.rows.note("task", now, None, **task)

    def region(self, item: _Region) -> None:
        """Take one region, or learn that it was dropped."""
        state = self.ledger.ring(item.stream, item.cpu)
        if item.data is None:
            parsed = item.parsed or Parsed()
            self.ledger.dropped(item.stream, item.cpu, parsed, _times(parsed), time.monotonic_ns())
            return
        parsed = parse(item.data, self._sizes)
        for number, (records, position) in parsed.by_kind.items():
            self.rows.add(number, item.cpu, records, position + state.records)
            self.events += len(records)
        self.ledger.region(item.stream, item.cpu, parsed, _times(parsed) if parsed.lost else _ends(parsed))

    def cycle(self, item: _Cycle) -> None:
        """All rings were emptied after ``item.ts``: write a segment when it is time."""
        self._worst_delay = max(self._worst_delay, item.delay)
        if item.ts - self._last_segment >= _SEGMENT_NS or self.rows.pending >= _SEGMENT_ROWS:
            self._observe(item.ts)
            self._segment(item.ts - _WATERMARK_LAG_NS)
            self._last_segment = item.ts

    def close(self, end_ts: int) -> Footer:
        """Account for the tail, write all that is left; returns the final footer."""
        self.ledger.close(end_ts, self.probes.ring_losses())
        self._observe(end_ts)
        for event in self.probes.selection.events:
            self.rows.note(
                "coverage", end_ts, None, stream=event.stream, from_ts=self.footer.start_ts,
                covered_kind=event.kind, filter=self.footer.filter,
            )  # fmt: skip
        self.footer.complete = True
        self.footer.end_ts = end_ts
        self._segment(2**63 - 1)
        return self.footer

    def _segment(self, watermark: int) -> None:
        self._note_clock()
        self._check_switches(watermark)
        tables = self.rows.take(watermark)
        if not self.footer.complete:
            self.footer.end_ts = max(self.footer.start_ts, watermark)
        self.footer.late = self.rows.late
        self.rows.late = False
        self.footer.ledger = self.ledger.lines(
            self.probes.streams, self.probes.cpus, self.probes.counts(), self.rows.recorded
        )
        if tables:
            self.segments.write(tables, self.footer)

    def _check_switches(self, watermark: int) -> None:
        """Declare what is missing between two switches of a CPU; with a filter, neighbours need not follow."""
        if not self.footer.breaks_declared:
            return
        for cpu, rows in self.rows.ready(SWITCH, watermark):
            for from_ts, ts in self.chain.breaks(cpu, rows):
                self.ledger.undeclared(KINDS[SWITCH].stream, cpu, from_ts, ts)
        self.ledger.forget(watermark - _WATERMARK_LAG_NS)

    def _observe(self, now: int) -> None:
        """A row about the recorder itself, and loss that only counters tell of."""
        self.ledger.poll(now, self.probes.streams, self.probes.counts(), self.probes.misses())
        self.rows.note(
            "recorder", now, None, pid=os.getpid(), tid=threading.get_native_id(), comm="tracectl",
            events_in=self.events, events_out=self.rows.written, lost_count=self.ledger.total_lost,
            drain_delay=self._worst_delay, cpu_time=time.process_time_ns() - self.cpu_at_start,
        )  # fmt: skip
        self._worst_delay = 0

    def _note_clock(self) -> None:
        now = clocks()
        self.rows.note("clock", now["ts"], None, boottime=now["boottime"], realtime=now["realtime"])
        # The first and the newest are enough to convert; every one of them is a row.
        self.footer.clocks = [*self.footer.clocks[:1], now]


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


def _footer(probes: Probes, command_line: tuple[str, ...]) -> Footer:
    selection = probes.selection
    here = machine()
    return Footer(
        kinds=[event.kind for event in selection.events],
        cpus=list(probes.cpus),
        start_ts=0,
        end_ts=0,
        version=__version__,
        host=here["host"],
        boot_id=here["boot_id"],
        kernel=here["kernel"],
        machine=here["machine"],
        command_line=list(command_line),
        filter=probes.task_filter.describe(),
        missing=selection.missing,
        extra_events=[event_to_json(event) for event in selection.events if event.stream == EXTRA],
        complete=False,
        breaks_declared=SWITCH in selection.tracepoints and not probes.task_filter,
    )


def _cannot_write(error: OSError, segments: SegmentWriter) -> RecordError:
    kept = f"what was recorded until then can be asked: tracectl query {segments.directory} …"
    return RecordError(f"writing to {segments.directory} failed: {error.strerror or error}", kept)
