"""The reader: empties the rings, and hands what was in them to a process of its own that writes."""

from __future__ import annotations

import gc
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tracectl._version import __version__
from tracectl.recorder.chain import KIND as SWITCH
from tracectl.recorder.flight import Keep
from tracectl.recorder.handover import Channel, Counters, Slab
from tracectl.recorder.parse import parse
from tracectl.recorder.priority import Hurry
from tracectl.recorder.probes import Probes
from tracectl.recorder.program import STACK
from tracectl.recorder.ring import PAGE_SIZE
from tracectl.recorder.selection import Selection
from tracectl.recorder.snapshot import irq_names, machine, syscall_names
from tracectl.recorder.stacks import Spaces
from tracectl.recorder.writing import Writer, drop_of
from tracectl.store.errors import RecordError, TracectlError
from tracectl.store.events import EXTRA, Catalogue
from tracectl.store.footer import Footer, LedgerLine, event_to_json
from tracectl.store.schema import capture_schema
from tracectl.store.writer import SegmentWriter

# Bytes copied from the rings and not yet written; beyond, regions are dropped and declared lost (cause reader).
QUEUE_BYTES = 64 * 1024 * 1024
# Above this part of it the writer runs before others, below the lower one no more.
_BEHIND, _CAUGHT_UP = 0.25, 0.05
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Status:
    """A running recording.

    Attributes:
        elapsed_ns: since its begin.
        events, lost: since then.
        size: bytes on disk.
        queue: how full the memory between reader and writer is, 0 to 1.
        drain_delay_ns: longest time between two drains since the last status.
        reader_cpu_ns, writer_cpu_ns: CPU time of the two processes.
    """

    elapsed_ns: int
    events: int
    lost: int
    size: int
    queue: float = 0.0
    drain_delay_ns: int = 0
    reader_cpu_ns: int = 0
    writer_cpu_ns: int = 0


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
        cpu_ns: CPU time the recorder used, reading and writing.
        reader_cpu_ns: of this, reading alone.
        delays_ns: time between two drains of all rings: (median, 99th percentile, longest).
        filter: the task filter in words, with the machine's own ids; None: there was none.
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
    reader_cpu_ns: int = 0
    delays_ns: tuple[int, int, int] = (0, 0, 0)
    filter: str | None = None


def slab_bytes(largest_ring: int) -> int:
    """Size of the memory between reader and writer: an empty one has room for any region."""
    return max(QUEUE_BYTES, 2 * largest_ring)


class Drain:
    """Empties the rings of a recording; its capture is written by a process that :meth:`begin` starts.

    Args:
        probes: attached, the gate still closed.
        segments: where to write.
        command_line: noted in the capture.
        keep: how much of it; None: all.
    """

    def __init__(
        self, probes: Probes, segments: SegmentWriter, command_line: tuple[str, ...], keep: Keep | None = None
    ) -> None:
        self._keep = keep
        self._probes = probes
        self._segments = segments
        self._footer = _footer(probes, command_line)
        self._slab = Slab(slab_bytes(max(ring.pages for ring in probes.rings.values()) * PAGE_SIZE))
        self._counters = Counters()
        self._sizes = {number: record.dtype.itemsize for number, record in probes.source.records.items()}
        self._channel, self._writer_end = Channel.pair()
        self._poll = select.epoll()
        for ring in probes.rings.values():
            self._poll.register(ring.fileno(), select.EPOLLIN)
        self._poll.register(self._channel.fileno(), select.EPOLLIN)
        self._spaces = Spaces()
        self._writer_pid = 0
        self._last_cycle = 0
        self._handed_over = self._longest_delay = 0
        self._cpu_at_start = time.process_time_ns()

    @staticmethod
    def schema_of(selection: Selection) -> pa.Schema:
        """Schema of the capture of a selection."""
        catalogue = Catalogue.of(selection.events)
        return capture_schema(catalogue, (event.kind for event in selection.events))

    def begin(self) -> None:
        """Start the writer, and let events in."""
        self._writer_pid = os.fork()
        if self._writer_pid == 0:
            self._channel.close()
            _writer_process(self)
        self._writer_end.close()
        self._hurry = Hurry(self._writer_pid)
        self._probes.open_gate()
        self._last_cycle = self._footer.start_ts = self._probes.from_ts
        self._channel.send("begin", self._footer.start_ts, self._probes.late)

    def cycle(self, timeout: float) -> None:
        """Wait until a ring is a quarter full or ``timeout`` seconds have gone, then empty all rings.

        Raises:
            RecordError: the writer had to give up (the disk is full).
        """
        ready = self._poll.poll(timeout)
        now = self._drain_all()
        self._channel.send("cycle", now, now - self._last_cycle, time.process_time_ns() - self._cpu_at_start)
        self._longest_delay = max(self._longest_delay, now - self._last_cycle)
        self._last_cycle = now
        if any(fd == self._channel.fileno() for fd, _ in ready):
            self._result()  # before the end, only a failure comes

    def _drain_all(self) -> int:
        """Empty all rings; returns when that began."""
        now = time.monotonic_ns()
        for (stream, cpu), ring in self._probes.rings.items():
            region = ring.take(self._slab.room)
            if region is None:
                continue
            if stream == STACK.stream:
                self._note_spaces(region)
            if self._slab.start is not None:
                self._handed_over += len(region)
                self._channel.send("region", stream, cpu, self._slab.start, len(region))
            else:
                self._channel.send("dropped", stream, cpu, drop_of(region, self._sizes, now))
        used = self._slab.used
        if used > _BEHIND or used < _CAUGHT_UP:
            self._hurry(used > _BEHIND)
        return now

    def _note_spaces(self, region: NDArray[np.uint8]) -> None:
        """Tell the writer what is mapped where, while the processes live."""
        for number, (records, _) in parse(region, self._sizes).by_kind.items():
            for pid, space, text in self._spaces.new(records.view(self._probes.source.records[number].dtype)[:, 0]):
                self._channel.send("maps", pid, space, text)

    # -- for the session --

    @property
    def elapsed_ns(self) -> int:
        """Time since the recording began."""
        return time.monotonic_ns() - self._footer.start_ts

    @property
    def events(self) -> int:
        """Events taken from the rings; for what the writer has not looked at yet, by its bytes."""
        seen = self._counters["bytes"]
        return self._counters["events"] * self._handed_over // seen if seen else 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._counters["size"]

    def status(self) -> Status:
        """How it goes."""
        delay, self._longest_delay = self._longest_delay, 0
        return Status(
            self.elapsed_ns, self.events, self._counters["lost"], self.size, self._slab.used, delay,
            time.process_time_ns() - self._cpu_at_start, self._counters["cpu_ns"],
        )  # fmt: skip

    def stop(self) -> None:
        """Let no further event in, and hand over what is in the rings; most of it is written while probes detach."""
        known = len(self._probes.late)
        self._probes.close_gate()
        self._drain_all()
        self._channel.send("closed", self._probes.to_ts, self._probes.late[known:])
        self._probes.detach()
        self._drain_all()  # of a probe that was held up on its way to the ring

    def finish(self, stopped_by: str, command_exit: int | None) -> Outcome:
        """Have the rest written, the ledger closed and the capture file made.

        Raises:
            RecordError: the disk is full; the segments stay.
        """
        self._hurry(False)
        self._channel.send("finish", self._probes.to_ts, stopped_by, command_exit)
        self._channel.flush(wait=True)
        outcome = self._result()
        self._end()
        return outcome

    def abort(self) -> None:
        """Give up after an error: the finished segments stay, an empty directory goes."""
        if self._writer_pid:
            self._end()
        else:
            self._writer_end.close()
            self._channel.close()
            self._poll.close()
            self._segments.discard_if_empty()

    def _result(self) -> Outcome:
        """What the writer has to say in the end.

        Raises:
            TracectlError: why it gave up.
        """
        match self._channel.receive():
            case ("done", Outcome() as outcome):
                return outcome
            case ("failed", kind, problem, remedy):
                raise kind(problem, remedy)
            case _:
                kept = f"what was recorded until then can be asked: tracectl query {self._segments.directory} …"
                raise RecordError("the process that writes the capture ended without a word", kept)

    def _end(self) -> None:
        """Hang up, and wait for the writer; it writes what it has and ends."""
        self._channel.close()
        self._poll.close()
        if self._writer_pid:
            os.waitpid(self._writer_pid, 0)
            self._writer_pid = 0

    # -- the process that writes --

    def write(self) -> None:
        """Be the writer: until the reader says that it is over, or is gone."""
        writer: Writer | None = None
        while (message := self._writer_end.receive()) is not None:
            match message:
                case ("begin", start_ts, late):
                    self._footer.start_ts = start_ts
                    writer = Writer(self._probes, self._segments, self._footer, self._keep)
                    writer.ledger.late(self._probes.streams, late)
                case ("region", stream, cpu, start, length) if writer:
                    writer.region(stream, cpu, self._slab.region(start, length))
                    self._slab.give_back(start, length)
                    self._counters["bytes"] += length
                case ("maps", pid, space, text) if writer:
                    writer.stacks.user.learn(pid, space, text)
                case ("dropped", stream, cpu, drop) if writer:
                    writer.dropped(stream, cpu, drop)
                case ("cycle", ts, delay, cpu_ns) if writer:
                    writer.reader_cpu_ns = cpu_ns
                    writer.cycle(ts, delay)
                    self._count(writer)
                case ("closed", end_ts, late) if writer:
                    writer.ledger.late(self._probes.streams, late)
                    writer.closed(end_ts)
                case ("finish", end_ts, stopped_by, command_exit) if writer:
                    footer = writer.close(end_ts)
                    path = self._segments.finish(footer)
                    self._writer_end.send("done", _outcome(writer, path, stopped_by, command_exit))
                    return
        if writer is not None:
            writer.cut_short()
        self._segments.discard_if_empty()

    def _count(self, writer: Writer) -> None:
        self._counters["events"] = writer.events
        self._counters["cpu_ns"] = writer.cpu_ns - writer.reader_cpu_ns
        self._counters["lost"] = writer.ledger.total_lost
        self._counters["size"] = self._segments.bytes_written

    def tell(self, error: Exception) -> None:
        """Tell the reader why the writer gives up."""
        if isinstance(error, OSError):
            kept = f"what was recorded until then can be asked: tracectl query {self._segments.directory} …"
            problem = f"writing to {self._segments.directory} failed: {error.strerror or error}"
            self._writer_end.send("failed", RecordError, problem, kept)
        elif isinstance(error, TracectlError):
            self._writer_end.send("failed", type(error), error.problem, error.remedy)
        else:
            self._writer_end.send("failed", RecordError, f"the writer failed: {type(error).__name__}: {error}", "")

    def leave_probes_to_the_reader(self) -> None:
        """In the writer: let go of what is attached, so that it is gone when the reader detaches or dies."""
        self._probes.program.forget_links()


def _writer_process(drain: Drain) -> NoReturn:
    """Run the writer in this, a forked, process; never returns."""
    status = 1
    gc.freeze()  # what the reader's process left to be collected (open databases, say) is not to be ended here
    try:
        for number in _ENDING_SIGNALS:  # a terminal's Ctrl-C reaches both; the reader decides
            signal.signal(number, signal.SIG_IGN)
        Path("/proc/self/comm").write_text("tracectl-writer")
        drain.leave_probes_to_the_reader()
        drain.write()
        status = 0
    except Exception as error:  # noqa: BLE001 -- told by the process that waits for this one
        drain.tell(error)
    finally:
        # Nothing of the reader's (exit handlers, buffered output, temporary files) is to run here.
        os._exit(status)


def _outcome(writer: Writer, path: Path, stopped_by: str, command_exit: int | None) -> Outcome:
    footer = writer.footer
    return Outcome(
        path=path,
        events=writer.events,
        lost=writer.ledger.total_lost,
        size=path.stat().st_size if path.is_file() else writer.segments.bytes_written,
        elapsed_ns=footer.end_ts - footer.start_ts,
        cpu_ns=writer.cpu_ns,
        ledger=footer.ledger,
        causes=dict(writer.ledger.by_cause),
        missing=footer.missing,
        stopped_by=stopped_by,
        command_exit=command_exit,
        reader_cpu_ns=writer.reader_cpu_ns,
        delays_ns=writer.delays.summary(),
        filter=footer.filter,
    )


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
        filled=selection.filled,
        names={"irq": irq_names()} | ({"syscall": syscall_names()} if "sys_enter" in selection.tracepoints else {}),
        complete=False,
        min_delay_ns=selection.min_delay_ns,
        breaks_declared=SWITCH in selection.tracepoints and not probes.task_filter,
    )
