"""Switches and wakeups as Perfetto's ftrace bundles: compact columns, and whole events where these would be wrong.

A compact switch has no thread that leaves, a compact waking no waker: Perfetto takes whom the switch before brought in.
Where that is not so (the first switch of a CPU, after a gap, two events at the same time) the whole event is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracectl.export_clock import Clocks
from tracectl.export_protobuf import Int64s
from tracectl.export_source import Source

Bools = npt.NDArray[np.bool_]

SWITCHES = (
    "SELECT ts, cpu, tid, comm, prev_prio, prev_state, next_tid, next_prio, next_comm FROM sched_switch "
    "WHERE seq BETWEEN $first AND $last ORDER BY cpu, seq"
)
# common_flags of the kernel's ring buffer, as far as Perfetto reads them: TRACE_FLAG_HARDIRQ 8, TRACE_FLAG_SOFTIRQ 16.
WAKINGS = (
    "SELECT ts, cpu, waker_tid, tid, comm, prio, prev_cpu, CASE WHEN context = 'task' THEN 0 "
    "WHEN context = 'softirq' THEN 16 WHEN context IN ('hardirq', 'hrtimer', 'ipi', 'nmi') THEN 8 END AS flags "
    "FROM wakeups WHERE seq BETWEEN $first AND $last ORDER BY cpu, seq"
)
# Bits of a task's state as the tracepoint prints them since Linux 4.14 (include/trace/events/sched.h).
_STATES = {"S": 1, "D": 2, "T": 4, "t": 8, "X": 16, "Z": 32, "P": 64, "I": 128, "+": 256}
_UNKNOWN_STATE = 512
NO_TID = -1


def state_bits(state: str | None) -> int:
    """The kernel's number for a state as ftrace prints it: ``S``, ``R+``, ``D|K`` …"""
    if not state:
        return _UNKNOWN_STATE
    return sum({_STATES.get(letter, 0 if letter == "R" else _UNKNOWN_STATE) for letter in state if letter != "|"})


def numbers(table: pa.Table, name: str, null: int = 0) -> Int64s:
    """A column of whole numbers; null becomes the given one."""
    values: Int64s = table.column(name).cast(pa.int64()).fill_null(null).to_numpy()
    return values


class Interned:
    """The names of one bundle, each once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def of(self, column: pa.ChunkedArray) -> list[int]:
        """The place of each name."""
        coded = column.fill_null("").combine_chunks().dictionary_encode()
        places = [self.places.setdefault(name, len(self.places)) for name in coded.dictionary.to_pylist()]
        taken: list[int] = np.array(places, dtype=np.int64)[coded.indices.to_numpy()].tolist() if places else []
        return taken


class SchedBundles:
    """Makes the bundles of a capture, page after page; remembers per CPU who runs.

    Args:
        pb: Perfetto's message classes.
        clocks: converts to boottime.
    """

    def __init__(self, pb: Any, clocks: Clocks) -> None:
        self.pb = pb
        self.clocks = clocks
        self._running: dict[int, tuple[int, int]] = {}  # cpu -> (ts of its last switch, tid since then)

    def pages(self, source: Source) -> Iterator[Any]:
        """All bundles of a capture."""
        wakings = (
            iter(source.pages(["wakeups"], WAKINGS, every=True)) if "sched_waking" in source.capture.kinds else None
        )
        for switches in source.pages(["sched_switch"], SWITCHES, every=True):
            woken = next(wakings) if wakings is not None else None
            yield from self._page(switches, woken)

    def _page(self, switches: pa.Table, wakings: pa.Table | None) -> Iterator[Any]:
        switch_cpus = numbers(switches, "cpu")
        waking_cpus = numbers(wakings, "cpu") if wakings is not None else np.empty(0, dtype=np.int64)
        for cpu in np.union1d(switch_cpus, waking_cpus).tolist():
            bundle = self.pb.FtraceEventBundle(cpu=cpu)
            names = Interned()
            mine = _part(switches, switch_cpus, cpu)
            if wakings is not None:
                self._wakings(bundle, names, _part(wakings, waking_cpus, cpu), mine, cpu)
            self._switches(bundle, names, mine, cpu)
            bundle.compact_sched.intern_table.extend(names.places)
            yield bundle

    def _switches(self, bundle: Any, names: Interned, rows: pa.Table, cpu: int) -> None:
        if not rows.num_rows:
            return
        tids, following = numbers(rows, "tid"), numbers(rows, "next_tid")
        _, before = self._running.get(cpu, (0, NO_TID))
        follows: Bools = tids == np.concatenate(([before], following[:-1]))
        self._running[cpu] = (int(numbers(rows, "ts")[-1]), int(following[-1]))
        for row in rows.filter(pa.array(~follows)).to_pylist():
            self._whole(bundle, row, row["tid"], "sched_switch").SetInParent()
            event = bundle.event[-1].sched_switch
            event.prev_comm, event.prev_pid, event.prev_prio = row["comm"] or "", row["tid"], row["prev_prio"] or 0
            event.next_comm, event.next_pid = row["next_comm"] or "", row["next_tid"]
            event.next_prio, event.prev_state = row["next_prio"] or 0, state_bits(row["prev_state"])
        rows = rows.filter(pa.array(follows))
        compact = bundle.compact_sched
        compact.switch_timestamp.extend(self._deltas(rows))
        states = rows.column("prev_state").combine_chunks().dictionary_encode(null_encoding="encode")
        bits = np.array([state_bits(state) for state in states.dictionary.to_pylist()] or [0], dtype=np.int64)
        compact.switch_prev_state.extend(bits[states.indices.to_numpy()].tolist())
        compact.switch_next_pid.extend(numbers(rows, "next_tid").tolist())
        compact.switch_next_prio.extend(numbers(rows, "next_prio").tolist())
        compact.switch_next_comm_index.extend(names.of(rows.column("next_comm")))

    def _wakings(self, bundle: Any, names: Interned, rows: pa.Table, switches: pa.Table, cpu: int) -> None:
        """Write the wakings of a page; ``switches`` are those of the same page and CPU, not yet written."""
        if not rows.num_rows:
            return
        began, before = self._running.get(cpu, (-1, NO_TID))
        switch_ts = np.concatenate(([began], numbers(switches, "ts")))
        running = np.concatenate(([before], numbers(switches, "next_tid")))
        times = numbers(rows, "ts")
        earlier = np.searchsorted(switch_ts, times, side="left")
        unambiguous = earlier == np.searchsorted(switch_ts, times, side="right")
        known = ~rows.column("flags").is_null().to_numpy()
        same = running[np.maximum(earlier - 1, 0)] == numbers(rows, "waker_tid", NO_TID - 1)
        follows: Bools = (earlier > 0) & unambiguous & same & known
        for row in rows.filter(pa.array(~follows)).to_pylist():
            self._whole(bundle, row, row["waker_tid"] or 0, "sched_waking")
            if row["flags"] is not None:
                bundle.event[-1].common_flags = row["flags"]
            event = bundle.event[-1].sched_waking
            event.comm, event.pid, event.prio = row["comm"] or "", row["tid"], row["prio"] or 0
            event.success, event.target_cpu = 1, row["prev_cpu"] or 0
        rows = rows.filter(pa.array(follows))
        compact = bundle.compact_sched
        compact.waking_timestamp.extend(self._deltas(rows))
        compact.waking_pid.extend(numbers(rows, "tid").tolist())
        compact.waking_target_cpu.extend(numbers(rows, "prev_cpu").tolist())
        compact.waking_prio.extend(numbers(rows, "prio").tolist())
        compact.waking_comm_index.extend(names.of(rows.column("comm")))
        compact.waking_common_flags.extend(numbers(rows, "flags").tolist())

    def _whole(self, bundle: Any, row: dict[str, Any], current: int, kind: str) -> Any:
        event = bundle.event.add(timestamp=int(self.clocks.boottime(np.array([row["ts"]]))[0]), pid=current)
        return getattr(event, kind)

    def _deltas(self, rows: pa.Table) -> list[int]:
        """Times as the compact form has them: the first, then the differences."""
        times = self.clocks.boottime(numbers(rows, "ts"))
        deltas: list[int] = np.diff(times, prepend=0).tolist()
        return deltas


def _part(table: pa.Table, cpus: Int64s, cpu: int) -> pa.Table:
    """The rows of one CPU; the table is in order of CPU."""
    first, end = np.searchsorted(cpus, [cpu, cpu + 1]).tolist()
    return table.slice(first, end - first)
