"""Switches and wakeups as Perfetto's ftrace bundles: compact columns, and whole events where these would be wrong.

A compact switch has no thread that leaves, a compact waking no waker: Perfetto takes whom the switch before brought in.
Where that is not so (the first switch of a CPU, after a gap) or not clear (a switch and a waking at the same
time) the whole event is written; Perfetto then knows the waker, but not whether an interrupt woke.
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
    "SELECT seq, ts, cpu, tid, comm, prev_prio, prev_state, next_tid, next_prio, next_comm FROM sched_switch "
    "WHERE seq BETWEEN $first AND $last ORDER BY cpu, seq"
)
# common_flags of the kernel's ring buffer, as far as Perfetto reads them: TRACE_FLAG_HARDIRQ 8, TRACE_FLAG_SOFTIRQ 16.
WAKINGS = (
    "SELECT seq, ts, cpu, waker_tid, tid, comm, prio, prev_cpu, CASE WHEN context = 'task' THEN 0 "
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
        # Of a sched_wakeup, current may be a bystander: no waker to draw an arrow from.
        only = WAKINGS if "sched_waking" in source.capture.kinds else WAKINGS.replace("WHERE", "WHERE FALSE AND")
        wakings = source.pages(["wakeups"], only, every=True)
        switches = source.pages(["sched_switch"], SWITCHES, every=True)
        for page in zip(switches, wakings, strict=True):
            yield from self._page(*page)

    def _page(self, switches: pa.Table, wakings: pa.Table) -> Iterator[Any]:
        switch_cpus, waking_cpus = numbers(switches, "cpu"), numbers(wakings, "cpu")
        for cpu in np.union1d(switch_cpus, waking_cpus).tolist():
            mine, woken = _part(switches, switch_cpus, cpu), _part(wakings, waking_cpus, cpu)
            tied = np.intersect1d(numbers(mine, "ts"), numbers(woken, "ts"))
            compact_wakings = self._waker_runs(woken, mine, cpu) & ~np.isin(numbers(woken, "ts"), tied)
            compact_switches = self._continues(mine, cpu) & ~np.isin(numbers(mine, "ts"), tied)
            bundle, names = self.pb.FtraceEventBundle(cpu=cpu), Interned()
            self._switches(bundle.compact_sched, names, mine.filter(pa.array(compact_switches)))
            self._wakings(bundle.compact_sched, names, woken.filter(pa.array(compact_wakings)))
            bundle.compact_sched.intern_table.extend(names.places)
            rest = (mine.filter(pa.array(~compact_switches)), woken.filter(pa.array(~compact_wakings)))
            for row in sorted((row for table in rest for row in table.to_pylist()), key=lambda row: row["seq"]):
                self._whole(bundle, row)
            yield bundle

    def _continues(self, switches: pa.Table, cpu: int) -> Bools:
        """Whether the thread that leaves is the one that came before; remembers the last one."""
        if not switches.num_rows:
            return np.empty(0, dtype=np.bool_)
        following = numbers(switches, "next_tid")
        _, before = self._running.get(cpu, (0, NO_TID))
        self._running[cpu] = (int(numbers(switches, "ts")[-1]), int(following[-1]))
        same: Bools = numbers(switches, "tid") == np.concatenate(([before], following[:-1]))
        return same

    def _waker_runs(self, wakings: pa.Table, switches: pa.Table, cpu: int) -> Bools:
        """Whether the waker is who the last switch brought in, and the context is known."""
        began, before = self._running.get(cpu, (-1, NO_TID))
        running = np.concatenate(([before], numbers(switches, "next_tid")))
        switch_ts = np.concatenate(([began], numbers(switches, "ts")))
        last = np.maximum(np.searchsorted(switch_ts, numbers(wakings, "ts"), side="left") - 1, 0)
        known = numbers(wakings, "flags", -1) >= 0
        runs: Bools = known & (running[last] == numbers(wakings, "waker_tid", NO_TID - 1))
        return runs

    def _switches(self, compact: Any, names: Interned, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        compact.switch_timestamp.extend(self._deltas(rows))
        states = rows.column("prev_state").combine_chunks().dictionary_encode(null_encoding="encode")
        bits = np.array([state_bits(state) for state in states.dictionary.to_pylist()], dtype=np.int64)
        compact.switch_prev_state.extend(bits[states.indices.to_numpy()].tolist())
        compact.switch_next_pid.extend(numbers(rows, "next_tid").tolist())
        compact.switch_next_prio.extend(numbers(rows, "next_prio").tolist())
        compact.switch_next_comm_index.extend(names.of(rows.column("next_comm")))

    def _wakings(self, compact: Any, names: Interned, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        compact.waking_timestamp.extend(self._deltas(rows))
        compact.waking_pid.extend(numbers(rows, "tid").tolist())
        compact.waking_target_cpu.extend(numbers(rows, "prev_cpu").tolist())
        compact.waking_prio.extend(numbers(rows, "prio").tolist())
        compact.waking_comm_index.extend(names.of(rows.column("comm")))
        compact.waking_common_flags.extend(numbers(rows, "flags").tolist())

    def _whole(self, bundle: Any, row: dict[str, Any]) -> None:
        """Write a switch or a waking as an event of its own."""
        event = bundle.event.add(timestamp=int(self.clocks.boottime(np.array([row["ts"]]))[0]))
        if "waker_tid" in row:
            event.pid = row["waker_tid"] or 0
            if row["flags"] is not None:
                event.common_flags = row["flags"]
            waking = event.sched_waking
            waking.comm, waking.pid, waking.prio = row["comm"] or "", row["tid"], row["prio"] or 0
            waking.success, waking.target_cpu = 1, row["prev_cpu"] or 0
            return
        event.pid = row["tid"]
        switch = event.sched_switch
        switch.prev_comm, switch.prev_pid, switch.prev_prio = row["comm"] or "", row["tid"], row["prev_prio"] or 0
        switch.next_comm, switch.next_pid = row["next_comm"] or "", row["next_tid"]
        switch.next_prio, switch.prev_state = row["next_prio"] or 0, state_bits(row["prev_state"])

    def _deltas(self, rows: pa.Table) -> list[int]:
        """Times as the compact form has them: the first, then the differences."""
        times = self.clocks.boottime(numbers(rows, "ts"))
        deltas: list[int] = np.diff(times, prepend=0).tolist()
        return deltas


def _part(table: pa.Table, cpus: Int64s, cpu: int) -> pa.Table:
    """The rows of one CPU; the table is in order of CPU."""
    first, end = np.searchsorted(cpus, [cpu, cpu + 1]).tolist()
    return table.slice(first, end - first)
