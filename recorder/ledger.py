"""The account of a recording: what the kernel emitted, what was recorded, what was lost where, when and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracectl.recorder.parse import Parsed
from tracectl.recorder.program import COUNTERS_PER_STREAM
from tracectl.recorder.sink import Numbers
from tracectl.store.footer import LedgerLine

Place = tuple[str, int]  # stream, cpu
_FAILURES = {
    2: "not_attached",
    3: "busy",
    4: "sampled",
    5: "map_full",
}  # offset among a stream's counters; 1 is the ring's own loss


class Notes(Protocol):
    """Where bookkeeping rows go."""

    def note(self, kind: str, ts: int, cpu: int | None = None, **columns: Any) -> None:
        """Take a bookkeeping row."""


@dataclass(frozen=True)
class Drop:
    """A region that there was no room for.

    Attributes:
        records: records in it.
        lost: events lost with it: its samples, and what its markers tell.
        marked: of these, what its markers tell.
        last_ts: time of its last sample; None: it had none.
        ts: when it was dropped.
    """

    records: int
    lost: int
    marked: int
    last_ts: int | None
    ts: int


@dataclass
class _RingState:
    """What is known of one ring so far; ``last_ts`` is the time of the last sample, in ring order."""

    last_ts: int
    records: int = 0
    marked: int = 0
    open_gap: int = 0


@dataclass
class Ledger:
    """Loss of every kind, turned into ``lost`` rows as soon as its interval is known.

    Args:
        start_ts: begin of the recording: the earliest begin of any gap.
    """

    start_ts: int
    notes: Notes
    lost: Counter[Place] = field(default_factory=Counter)
    by_cause: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    _rings: dict[Place, _RingState] = field(default_factory=dict)
    _failures: dict[tuple[str, int, str], int] = field(default_factory=lambda: defaultdict(int))
    _polled_ts: int = 0
    _gaps: dict[tuple[str, int | None], list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def total_lost(self) -> int:
        """Events lost so far against our will, as far as is known while the recording runs."""
        return sum(self.lost.values()) - self.by_cause["sampled"]

    def ring(self, stream: str, cpu: int) -> _RingState:
        """State of a ring."""
        return self._rings.setdefault((stream, cpu), _RingState(self.start_ts))

    def region(self, stream: str, cpu: int, parsed: Parsed, times: tuple[Numbers, Numbers]) -> None:
        """Account for one parsed region, in ring order.

        Args:
            times: (position, ts) of its samples, sorted by position; without lost records the first and last will do.
        """
        state = self.ring(stream, cpu)
        position, ts = times
        if state.open_gap and len(ts):
            self._gap((stream, cpu), (state.last_ts, int(ts[0])), state.open_gap, "ring_full")
            state.open_gap = 0
        for at, count in parsed.lost:
            state.marked += count
            after = int(np.searchsorted(position, at))
            before_ts = int(ts[after - 1]) if after else state.last_ts
            if after < len(ts):
                self._gap((stream, cpu), (before_ts, int(ts[after])), count, "ring_full")
            else:
                state.open_gap += count
        if len(ts):
            state.last_ts = int(ts[-1])
        state.records += parsed.count

    def dropped(self, stream: str, cpu: int, drop: Drop) -> None:
        """Account for a region that the reader had no room for."""
        state = self.ring(stream, cpu)
        state.marked += drop.marked
        state.records += drop.records
        self._gap((stream, cpu), (state.last_ts, drop.ts), drop.lost + state.open_gap, "reader")
        state.open_gap = 0
        if drop.last_ts is not None:  # not drop.ts: what lies behind the region may be older than that moment
            state.last_ts = drop.last_ts

    def poll(
        self,
        now: int,
        streams: tuple[str, ...],
        counts: NDArray[np.uint64],
        misses: dict[str, int],
        begin: int | None = None,
    ) -> None:
        """Account for loss that no ring tells of, as having happened since the last poll.

        Args:
            now: when the counters had been read.
            begin: when they began to be; what was counted until ``now`` may have happened after. None: as ``now``.
            counts: the kernel's counters [COUNTERS_PER_STREAM for each stream, cpu].
            misses: per stream, how often the kernel skipped a probe.
        """
        since = self._polled_ts or self.start_ts
        for index, stream in enumerate(streams):
            for offset, cause in _FAILURES.items():
                for cpu, total in enumerate(counts[index * COUNTERS_PER_STREAM + offset]):
                    known = self._failures[stream, cpu, cause]
                    if int(total) > known:
                        self._gap((stream, cpu), (since, now), int(total) - known, cause)
                        self._failures[stream, cpu, cause] = int(total)
        for stream, total in misses.items():
            new = total - self.skipped[stream]
            if new > 0:
                self.skipped[stream] = total
                self.by_cause["nested"] += new
                self._gaps[stream, None].append((since, now))
                self.notes.note("lost", now, None, stream=stream, from_ts=since, lost_count=new, cause="nested")
        self._polled_ts = now if begin is None else begin

    def close(self, end_ts: int, totals: dict[Place, int]) -> None:
        """Account for the loss behind the last record of each ring.

        Args:
            totals: each ring's own count of lost events, of the whole recording.
        """
        for (stream, cpu), total in totals.items():
            state = self.ring(stream, cpu)
            if state.open_gap:
                self._gap((stream, cpu), (state.last_ts, end_ts), state.open_gap, "ring_full")
            tail = total - state.marked
            if tail > 0:
                self._gap((stream, cpu), (state.last_ts, end_ts), tail, "tail")

    def undeclared(self, stream: str, cpu: int, from_ts: int, ts: int) -> None:
        """Something is missing between two events: declare it, unless a gap there is declared already."""
        known = self._gaps[stream, cpu] + self._gaps[stream, None]
        # The events at both ends of a gap were recorded, what was lost lies between them: a gap that only touches this
        # interval tells of a loss on the other side. Where times are equal, declaring twice is the safe side.
        if not any(gap_from < ts and gap_to > from_ts for gap_from, gap_to in known):
            self.by_cause["undeclared"] += 1
            self.notes.note("lost", ts, cpu, stream=stream, from_ts=from_ts, lost_count=None, cause="undeclared")

    def late(self, streams: tuple[str, ...], intervals: list[tuple[int, int]]) -> None:
        """The gate was moved too late: in these times some CPUs' events passed it and others' did not."""
        for from_ts, ts in intervals:
            self.by_cause["not_attached"] += 1
            for stream in streams:
                self._gaps[stream, None].append((from_ts, ts))
                self.notes.note("lost", ts, None, stream=stream, from_ts=from_ts, lost_count=None, cause="not_attached")

    def forget(self, ts: int) -> None:
        """Nothing earlier will be asked for."""
        for place, gaps in self._gaps.items():
            self._gaps[place] = [gap for gap in gaps if gap[1] >= ts]

    def lines(
        self, streams: tuple[str, ...], cpus: list[int], counts: NDArray[np.uint64], recorded: Counter[Place]
    ) -> list[LedgerLine]:
        """The ledger per stream and CPU."""
        lines = []
        for index, stream in enumerate(streams):
            emitted = counts[index * COUNTERS_PER_STREAM]
            late = {int(cpu) for cpu in np.flatnonzero(emitted)}  # came online later
            for cpu in sorted(late.union(cpus)):
                place = stream, cpu
                lines.append(LedgerLine(stream, cpu, int(emitted[cpu]), recorded[place], self.lost[place]))
        return lines + [LedgerLine(stream, -1, 0, 0, 0, skipped) for stream, skipped in self.skipped.items() if skipped]

    def _gap(self, place: Place, interval: tuple[int, int], count: int, cause: str) -> None:
        stream, cpu = place
        # An interrupt's event goes into the ring before the one it interrupted, whose time was taken earlier.
        from_ts, ts = interval = min(interval), max(interval)
        self.lost[place] += count
        self.by_cause[cause] += count
        self._gaps[place].append(interval)
        self.notes.note("lost", ts, cpu, stream=stream, from_ts=from_ts, lost_count=count, cause=cause)
