"""Who was current at the events of Perfetto bundles: by the events themselves, or the switch before on that CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Mask, Positions
from tracectl.recorder.import_messages import Names, Part
from tracectl.recorder.import_spool import Columns

Threads = dict[int, tuple[int | None, str | None]]  # tid -> pid, name


class _Running(NamedTuple):
    """Who a switch brought in; the switch is the last one before the events at hand."""

    epoch: int
    tid: int
    name: Any
    prio: int


class Current:
    """:meth:`begin` for a batch of events, then :meth:`columns` for each part of it, then :meth:`end`."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._running: dict[int, _Running] = {}  # by CPU

    def begin(
        self, parts: list[Part], orders: list[Positions], cpus: Positions, epochs: Positions, names: Names
    ) -> None:
        """Take up a batch.

        Args:
            orders: the places of each part's events in the batch.
            cpus, epochs: of each bundle; what was known before an epoch of a CPU, is not in it.
        """
        self._cpus, self._epochs, self._names = cpus, epochs, names
        self._places = 1 + sum(map(len, orders))  # place 0 is that of the switches before the batch
        before = [(cpu, 0, r.epoch, r.tid, names.number(r.name), r.prio) for cpu, r in self._running.items()]
        columns = [np.array(before, np.int64).reshape(-1, 6)]
        for part, order in zip(parts, orders, strict=True):
            if part.kind == "sched_switch":
                at = cpus[part.bundle], 1 + order, epochs[part.bundle]
                columns.append(
                    np.stack(
                        [*at, part.numbers["next_tid"], part.names["next_comm"], part.numbers["next_prio"]], axis=1
                    )
                )
        switches = np.concatenate(columns)
        switches = switches[np.lexsort((switches[:, 1], switches[:, 0]))]
        self._cpu, place, self._epoch, self._tid, self._name, self._prio = switches.T
        self._keys = self._cpu * self._places + place

    def _before(self, part: Part, order: Positions) -> tuple[Mask, Positions]:
        """Of each event: whether the switch before it on its CPU is known, and which it is."""
        cpu = self._cpus[part.bundle]
        at = np.searchsorted(self._keys, cpu * self._places + 1 + order) - 1
        if not len(self._keys):
            return np.zeros(len(order), np.bool_), at
        return (at >= 0) & (self._cpu[at] == cpu) & (self._epoch[at] == self._epochs[part.bundle]), at

    def columns(self, part: Part, order: Positions) -> Columns:
        """ts, cpu, pid, tid and comm of a part's events; for compact switches also the priority of who left."""
        known, at = self._before(part, order)
        tid, name, prio = (
            np.where(known, column[at] if len(column) else -1, -1) for column in (self._tid, self._name, self._prio)
        )
        own: Columns = {}
        if part.tid is not None:
            name = part.names.get("comm", np.where(known & (part.tid == tid), name, -1))
            tid, known = part.tid, np.ones(len(order), np.bool_)
        elif part.kind == "sched_switch":
            own["prev_prio"] = pa.array(prio, mask=~known)
        cpu = self._cpus[part.bundle]
        pid, name = self._of_threads(cpu, tid, known, name)
        return own | {
            "ts": pa.array(part.ts),
            "cpu": pa.array(cpu),
            "pid": pa.array(pid, mask=pid < 0),
            "tid": pa.array(tid, mask=~known),
            "comm": self._names.column(name),
        }

    def _of_threads(self, cpu: Positions, tid: Positions, known: Mask, name: Positions) -> tuple[Positions, Positions]:
        """Processes of threads, -1 for not known, and their names, where the events do not tell them."""
        distinct, place = np.unique(tid, return_inverse=True)
        threads = [self._threads.get(one, (None, None)) for one in distinct.tolist()]
        pid = np.array([-1 if process is None else process for process, _ in threads], np.int64)[place]
        pid = np.where(known, pid, -1)
        empty = [number for number, text in enumerate(self._names.known()) if not text]
        missing = known & ((name < 0) | np.isin(name, empty))
        idle = missing & (tid == 0)
        cpus, which = np.unique(cpu[idle], return_inverse=True)
        by_thread = self._names.numbers(text or None for _, text in threads)[place]
        found = np.where(missing, by_thread, np.where(known, name, -1))
        found[idle] = self._names.numbers(f"swapper/{one}" for one in cpus.tolist())[which]
        return pid, found

    def end(self) -> None:
        """Remember who runs on at the end of the batch."""
        names = self._names.known()
        for at in np.flatnonzero(np.diff(self._cpu, append=-1)).tolist():  # the last of each CPU
            name = int(self._name[at])
            self._running[int(self._cpu[at])] = _Running(
                int(self._epoch[at]), int(self._tid[at]), names[name] if name >= 0 else None, int(self._prio[at])
            )
