"""The kernel side of a running recording: program, rings and the gate that starts and stops all of them at once."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tracectl.recorder import attach, btf
from tracectl.recorder.bpf import Program, cpus
from tracectl.recorder.filters import MAX_WATCHED, TaskFilter, seed_key
from tracectl.recorder.program import COUNTERS_PER_STREAM, STACK, generate, streams_of_function
from tracectl.recorder.ring import PAGE_SIZE, PerfRing
from tracectl.recorder.selection import Selection
from tracectl.store.errors import UserError

_NEVER = 2**63 - 1
DEFAULT_FREQUENCY = 99  # not 100: in step with the timer tick, samples would see the same things each time
# How far ahead of time the gate is set: long enough for the update to be seen on every CPU before it takes effect.
# 5 ms were too short on an emulated machine; where all is slow, so many times what a move takes.
_GATE_AHEAD_NS = 50_000_000
_TIMES_A_MOVE = 10
# How long a probe that passed the gate may take to hand over its event (an interrupt may hold it up).
_IN_FLIGHT_NS = 20_000_000


class Probes:
    """Program and rings, attached but emitting nothing until :meth:`open_gate`; a context manager that removes all.

    Args:
        buffer_bytes: of each ring; 0: :func:`automatic_buffer`.
        frequency: of CPU samples, in Hz.

    Attributes:
        source: what was generated: records, streams.
        cpus: online CPUs; each has a ring per stream.
        rings: by (stream, cpu).
        late: times in which events passed the gate on some CPUs and not on others, since it was moved too late.

    Raises:
        RecordError: something that recording needs is missing or refused.
    """

    def __init__(
        self,
        selection: Selection,
        task_filter: TaskFilter,
        buffer_bytes: int,
        debug: bool = False,
        frequency: int = DEFAULT_FREQUENCY,
    ) -> None:
        self.selection = selection
        self._frequency = frequency
        self.task_filter = task_filter
        self.source = generate(selection, task_filter, btf.kernel())
        self.streams = self.source.streams
        self.cpus = cpus("online")
        self.rings: dict[tuple[str, int], PerfRing] = {}
        self.from_ts = self.to_ts = 0
        self.late: list[tuple[int, int]] = []
        self.program = Program(self.source.text, debug=debug)
        try:
            self._set_gate(_NEVER, _NEVER)
            for function in self.source.functions:
                attach.load(self.program, function.name, function.probe, raw=function.raw)
            pages = _pages(buffer_bytes or automatic_buffer(len(self.source.rings) * len(self.cpus)))
            for stream in self.source.rings:
                map_fd = self.program.map_fd(f"ring_{stream}")
                for cpu in self.cpus:
                    self.rings[stream, cpu] = PerfRing(cpu, pages, map_fd, wake_at_once=stream == STACK.stream)
            self._attach()
            self._seed_filter()
            _give_back_memory()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        for function in self.source.functions:
            attach.attach(self.program, function.name, function.probe, raw=function.raw, frequency=self._frequency)

    def _seed_filter(self) -> None:
        if not self.task_filter:
            return
        try:
            for tid in self.task_filter.matching_threads():
                self.program.update("watched", *seed_key(tid))
        except OSError as error:
            raise UserError(
                f"the filter matches more than {MAX_WATCHED} threads", "a narrower filter, or none"
            ) from error

    def _set_gate(self, from_ts: int, to_ts: int) -> None:
        self.program.update("gate", struct.pack("=i", 0), struct.pack("=QQ", from_ts, to_ts))

    def open_gate(self) -> None:
        """Let events pass from ``from_ts`` (ns monotonic, set here) on; returns when that time has come."""
        self.from_ts = self._move_gate(lambda ts: (ts, _NEVER))
        _sleep_until(self.from_ts)

    def close_gate(self) -> None:
        """Let no event pass after ``to_ts`` (set here); the rings keep what is in them."""
        ts = self._move_gate(lambda ts: (self.from_ts, ts))
        self.to_ts = max([ts, *(until for _, until in self.late)])
        _sleep_until(self.to_ts + _IN_FLIGHT_NS)

    def _move_gate(self, to: Callable[[int], tuple[int, int]]) -> int:
        """Move the gate to a time that has not come, and return it; ``late`` tells where the machine was too slow."""
        begin = time.monotonic_ns()
        self._set_gate(*to(_NEVER))  # where it is already: tells how long a move takes on this machine now
        ts = time.monotonic_ns() + max(_GATE_AHEAD_NS, _TIMES_A_MOVE * (time.monotonic_ns() - begin))
        self._set_gate(*to(ts))
        done = time.monotonic_ns()
        if done > ts:
            self.late.append((ts, done))
        return ts

    def detach(self) -> None:
        """Detach: takes a tenth of a second for each classic tracepoint, after which none of its programs runs."""
        for function in reversed(self.source.functions):
            self.program.detach(function.name)

    def counts(self) -> NDArray[np.uint64]:
        """The kernel's counters, u64 [COUNTERS_PER_STREAM for each stream, cpu number]."""
        return self.program.percpu_u64("counts")

    def misses(self) -> dict[str, int]:
        """Per stream, how often the kernel skipped one of its probes."""
        streams = streams_of_function(self.source.functions)
        total: Counter[str] = Counter()
        for function, count in self.program.misses().items():
            for stream in streams.get(function, ()):
                total[stream] += count
        return dict(total)

    def ring_losses(self) -> dict[tuple[str, int], int]:
        """Events each ring had no room for, in the whole recording: its own counter, else the failed submits."""
        counts = self.counts()
        losses = {}
        for (stream, cpu), ring in self.rings.items():
            if stream not in self.streams:
                continue  # stacks have an account of their own
            total = ring.lost_total()
            losses[stream, cpu] = (
                int(counts[self.streams.index(stream) * COUNTERS_PER_STREAM + 1, cpu]) if total is None else total
            )
        return losses

    def close(self) -> None:
        """Detach everything and free it. Can be repeated."""
        for ring in self.rings.values():
            ring.close()
        self.rings.clear()
        self.program.close()

    def __enter__(self) -> Probes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def automatic_buffer(rings: int, memory: int | None = None) -> int:
    """Bytes for each of so many rings: together a 256th of the machine's memory, each from 512 KiB to 8 MiB.

    A ring of 8 MiB holds a tenth of a second of what one CPU can emit at most (measured: some 80 MB a second), twice
    the longest pause between two drains.

    Args:
        memory: of the machine, in bytes; None: of this one.
    """
    if memory is None:
        memory = os.sysconf("SC_PHYS_PAGES") * PAGE_SIZE
    return min(max(memory // 256 // rings, 512 << 10), 8 << 20)


def _pages(buffer_bytes: int) -> int:
    """Pages of a ring, a power of two.

    Raises:
        UserError: less than one page.
    """
    if buffer_bytes < PAGE_SIZE:
        raise UserError(f"--buffer {buffer_bytes}: a ring has at least one page ({PAGE_SIZE} bytes)", "--buffer 1M")
    return 1 << (buffer_bytes // PAGE_SIZE).bit_length() - 1


def _give_back_memory() -> None:
    """Return to the system what the compiler has freed (some 100 MB), before the writer inherits it."""
    with suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _sleep_until(ts: int) -> None:
    while (left := ts - time.monotonic_ns()) > 0:
        time.sleep(left / 1e9)
