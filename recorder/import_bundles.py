"""Perfetto's ftrace bundles: taken in one by one, their events put in order and read many bundles at once.

In a compact bundle, the thread that leaves a CPU or wakes another is the one that the switch before brought in; behind
a loss on that CPU it is not known. The softirq that a wakeup happened in is looked up at the end, since it may be in a
later packet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Positions
from tracectl.recorder.import_context import named
from tracectl.recorder.import_current import Current, Threads
from tracectl.recorder.import_messages import LATEST, Names, Part, Whole, compact_events, whole_events
from tracectl.recorder.import_prints import PRINT, Prints
from tracectl.recorder.import_rows import add_rows
from tracectl.recorder.import_softirqs import Softirqs
from tracectl.recorder.import_spool import Columns, Spool
from tracectl.store.events import CONTEXTS

_PROBE = "ftrace event of a Perfetto trace"
_AT_ONCE = 100_000  # events
_UNKNOWN = "ftrace_events whose kind or time is not known"
# Bits of common_flags (include/linux/trace_events.h); the last that is set is the innermost.
_FLAGS = ((0x10, "softirq"), (0x08, "hardirq"), (0x40, "nmi"))


@dataclass
class _Taken:
    """What was taken and not yet given to the spool; cpus, epochs: by bundle."""

    whole: dict[str, Whole] = field(default_factory=lambda: defaultdict(lambda: ([], [], [])))
    parts: list[Part] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    cpus: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    events: int = 0


class Bundles:
    """Takes bundles in the order of the file.

    Args:
        threads: who has which tid, as far as it is known; :meth:`flush` before a tid becomes another's.
        passed_over: where what is not kept is counted.

    Attributes:
        last_ts: time of the last event so far, 0 before the first.
    """

    def __init__(self, spool: Spool, threads: Threads, passed_over: Counter[str]) -> None:
        self.last_ts = 0
        self._spool = spool
        self._passed_over = passed_over
        self._taken = _Taken()
        self._current = Current(threads)
        self._softirqs = Softirqs()
        self._prints = Prints()
        self._drops: Counter[int] = Counter()  # sequence -> losses in it
        self._seen: dict[tuple[int, int], int] = {}  # sequence, CPU -> those that were noted for that CPU
        self._epochs: Counter[int] = Counter()  # CPU -> losses on it
        self._told: Counter[int] = Counter()  # CPU -> those that the spool has
        self._last: dict[int, int] = {}  # CPU -> time of the latest event in its last bundle

    def drop(self, sequence: int | None) -> None:
        """Packets of a sequence (None: of whichever) were lost: events of any CPU may have been in them."""
        sequences = {number for number, _ in self._seen} if sequence is None else {sequence}
        self._drops.update(sequences)

    def take(self, bundle: Any, sequence: int) -> None:
        """Note the events of one bundle."""
        taken, number, cpu = self._taken, len(self._taken.cpus), bundle.cpu
        dropped = self._seen.get((sequence, cpu), 0) != self._drops[sequence]
        self._seen[sequence, cpu] = self._drops[sequence]
        self._epochs[cpu] += bundle.lost_events or dropped
        taken.cpus.append(cpu)
        taken.epochs.append(self._epochs[cpu])
        for place, event in enumerate(bundle.event):
            kind = event.WhichOneof("event")
            if kind is None or event.timestamp >= LATEST:
                self._passed_over[_UNKNOWN] += 1
                continue
            events, bundles, places = taken.whole[kind]
            events.append(event)
            bundles.append(number)
            places.append(place)
            self.last_ts = event.timestamp
        taken.events += len(bundle.event)
        compact = bundle.compact_sched
        unread = len(compact.switch_timestamp) + len(compact.waking_timestamp)
        for part in compact_events(compact, number, taken.names) if unread else ():
            taken.parts.append(part)
            taken.events += len(part.ts)
            unread -= len(part.ts)
            self.last_ts = int(part.ts[-1])
        if unread:
            self._passed_over[_UNKNOWN] += unread
        if taken.events >= _AT_ONCE:
            self.flush()

    def finish(self) -> None:
        """Give the spool all that is left; losses that no event follows reach to the end."""
        self.flush()
        for (sequence, cpu), drops in self._seen.items():
            self._epochs[cpu] += drops != self._drops[sequence]
        for cpu, epoch in self._epochs.items():
            if epoch != self._told[cpu]:
                self._spool.lost(self._spool.end_ts, cpu, self._last.get(cpu), None)
        self._spool.end_block()
        for columns, order in self._softirqs.wakings():
            self._spool.add("sched_waking", _PROBE, columns, order)
            self._spool.end_block()
        add_rows(self._spool, self._prints.rows(), _PROBE)

    def flush(self) -> None:
        """Give the spool what was taken so far."""
        taken, self._taken = self._taken, _Taken()
        names = taken.names
        parts = taken.parts + [
            whole_events(kind, events, names, self._spool.totals) for kind, events in taken.whole.items()
        ]
        if not parts:
            return
        bundle, ts, place = (np.concatenate([getattr(p, name) for p in parts]) for name in ("bundle", "ts", "place"))
        rank = np.repeat([part.rank for part in parts], [len(part.ts) for part in parts])
        order = np.empty(len(ts), np.int64)
        order[np.lexsort((place, rank, ts, bundle))] = np.arange(len(ts))
        orders = np.split(order, np.cumsum([len(part.ts) for part in parts])[:-1])
        cpus, epochs = np.array(taken.cpus, np.int64), np.array(taken.epochs, np.int64)
        self._note_losses(bundle, ts, cpus, epochs)
        self._current.begin(parts, orders, cpus, epochs, names)
        for part, own in zip(parts, orders, strict=True):
            self._give(part, own, cpus[part.bundle], self._current.columns(part, own), names)
        self._current.end()
        self._spool.end_block()

    def _note_losses(self, bundle: Positions, ts: Positions, cpus: Positions, epochs: Positions) -> None:
        """Losses before bundles: after the last event of that CPU and before the first in the bundle."""
        first, last = np.full(len(cpus), LATEST), np.full(len(cpus), -1)
        np.minimum.at(first, bundle, ts)
        np.maximum.at(last, bundle, ts)
        for number in np.flatnonzero(last >= 0).tolist():
            cpu, begin = int(cpus[number]), int(first[number])
            if epochs[number] != self._told[cpu]:
                since = min(self._last[cpu], begin) if cpu in self._last else None
                self._spool.lost(begin, cpu, since, None)
                self._softirqs.forget(cpu, begin)
                self._told[cpu] = int(epochs[number])
            self._last[cpu] = int(last[number])

    def _give(self, part: Part, order: Positions, cpu: Positions, base: Columns, names: Names) -> None:
        """Give the spool one part."""
        columns = {name: pa.array(values) for name, values in part.numbers.items()}
        columns |= {name: names.column(numbers) for name, numbers in part.names.items() if name != "comm"}
        columns |= {**part.columns, **base}
        kind = part.kind
        if kind == "sched_switch":
            columns["prev_state"] = columns["prev_state"].cast(pa.string()).dictionary_encode()
        elif kind in ("softirq_entry", "softirq_exit"):
            self._softirqs.step(cpu, part.ts, part.numbers["vec"] if kind == "softirq_entry" else None)
        elif part.flags is not None:
            context = _contexts(part.flags)
            columns["context"] = named(context, CONTEXTS)
            columns["context_source"] = named(np.where(context >= 0, 0, -1), ("flags",))
            later = context == CONTEXTS.index("softirq")
            deferred, columns = (
                {name: column.filter(pa.array(which)) for name, column in columns.items()} for which in (later, ~later)
            )
            self._softirqs.defer(deferred, cpu[later], part.ts[later], order[later])
            order = order[~later]
        elif kind == PRINT:
            others = self._prints.take(columns)
            columns = {name: column.filter(others) for name, column in columns.items()}
            order = order[np.asarray(others)]
        if len(order):
            self._spool.add(kind, _PROBE, columns, order)


def _contexts(flags: Positions) -> Positions:
    """What wakings happened in, by their place in CONTEXTS; -1 where no flags were kept."""
    found = np.where(flags >= 0, CONTEXTS.index("task"), -1)
    for bit, context in _FLAGS:
        found[(flags >= 0) & (flags & bit > 0)] = CONTEXTS.index(context)
    return found
