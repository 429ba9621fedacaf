"""Events of Perfetto bundles as columns: all whole events of a kind at once, and compact switches and wakings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tracectl.recorder.import_bytes import Positions
from tracectl.recorder.import_rows import coded, text_column
from tracectl.recorder.import_spool import Columns, Totals
from tracectl.store.events import KINDS

LATEST = 1 << 62
WAKING, WHOLE, SWITCH = range(3)  # the order within a bundle where times are equal
NO_FLAGS = -1
_TARGET = {"comm": "target_comm", "pid": "target_tid", "prio": "target_prio", "target_cpu": "target_cpu"}
# Field of the message -> column of the kind.
_COLUMNS: dict[str, dict[str, str]] = {
    "sched_switch": {
        "prev_comm": "comm", "prev_pid": "tid", "prev_prio": "prev_prio", "prev_state": "prev_state",
        "next_comm": "next_comm", "next_pid": "next_tid", "next_prio": "next_prio",
    },
    "sched_waking": _TARGET, "sched_wakeup": _TARGET, "sched_wakeup_new": _TARGET,
    "sched_migrate_task": {**_TARGET, "orig_cpu": "orig_cpu", "dest_cpu": "dest_cpu"},
    "sched_process_fork": {"child_comm": "child_comm", "child_pid": "child_tid"},
    "sched_process_exec": {"filename": "filename", "pid": "tid", "old_pid": "old_tid"},
    "sched_process_exit": {"comm": "comm", "pid": "tid"},
    "softirq_raise": {"vec": "vec"}, "softirq_entry": {"vec": "vec"}, "softirq_exit": {"vec": "vec"},
    "irq_handler_entry": {"irq": "irq", "name": "irq_name"}, "irq_handler_exit": {"irq": "irq", "ret": "ret"},
    "hrtimer_expire_entry": {"hrtimer": "hrtimer"}, "hrtimer_expire_exit": {"hrtimer": "hrtimer"},
    "inet_sock_set_state": {
        "skaddr": "socket", "family": "family", "protocol": "protocol", "oldstate": "old_state",
        "newstate": "new_state", "sport": "sport", "dport": "dport",
    },
}  # fmt: skip
# Of compact_sched: the times, as differences; the names, as indices, and their column; column -> whole numbers.
_COMPACT = {
    "sched_switch": (SWITCH, "switch_timestamp", "switch_next_comm_index", "next_comm", {
        "prev_state": "switch_prev_state", "next_tid": "switch_next_pid", "next_prio": "switch_next_prio",
    }),
    "sched_waking": (WAKING, "waking_timestamp", "waking_comm_index", "target_comm", {
        "target_tid": "waking_pid", "target_cpu": "waking_target_cpu", "target_prio": "waking_prio",
    }),
}  # fmt: skip


class Names:
    """Names of threads, each once."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, name: Any) -> int:
        """The number of a name; -1 for None."""
        return -1 if name is None else self._numbers.setdefault(name, len(self._numbers))

    def numbers(self, names: Iterable[Any]) -> Positions:
        """The numbers of several."""
        return np.array([self.number(name) for name in names], np.int64)

    def known(self) -> list[Any]:
        """All so far, by their numbers."""
        return list(self._numbers)

    def column(self, numbers: Positions) -> pa.DictionaryArray:
        """The names that have these numbers; null for -1."""
        return coded(numbers, list(self._numbers))


@dataclass
class Part:
    """Events of one kind, one element of every array per event.

    Attributes:
        rank: what comes first in a bundle where times are equal.
        bundle: number of each event's bundle. place: its place among those of that rank in the bundle.
        tid: who was current; None: who was brought in last.
        numbers: columns of whole numbers. names: those of names, by number. columns: all others.
        flags: common_flags of wakings.
    """

    kind: str
    rank: int
    ts: Positions
    bundle: Positions
    place: Positions
    tid: Positions | None = None
    numbers: dict[str, Positions] = field(default_factory=dict)
    names: dict[str, Positions] = field(default_factory=dict)
    columns: Columns = field(default_factory=dict)
    flags: Positions | None = None


Whole = tuple[list[Any], list[int], list[int]]  # events, the bundle of each, its place there


def whole_events(kind: str, taken: Whole, names: Names, totals: Totals) -> Part:
    """Events that have a message each; a kind that the catalogue does not have gets all their fields, as texts."""
    events, bundles, places = taken
    ts = np.array([event.timestamp for event in events], np.int64)
    part = Part(kind, WHOLE, ts, np.array(bundles, np.int64), np.array(places, np.int64))
    part.tid = np.array([event.pid for event in events], np.int64)
    messages = [getattr(event, kind) for event in events]
    if kind in _COLUMNS:
        _known_columns(part, messages, names, totals)
    else:
        part.kind = f"{kind}_event" if kind in KINDS else kind
        part.columns = dict(_other_columns(part.kind, messages, totals))
    if kind == "sched_waking":
        flags = [event.common_flags if event.HasField("common_flags") else NO_FLAGS for event in events]
        part.flags = np.array(flags, np.int64)
    return part


def _known_columns(part: Part, messages: list[Any], names: Names, totals: Totals) -> None:
    fields = messages[0].DESCRIPTOR.fields_by_name
    types = {column.name: column.type.arrow for column in KINDS[part.kind].columns}
    for name, column in _COLUMNS[part.kind].items():
        if name not in fields:
            continue
        values = [getattr(message, name) for message in messages]
        if column.endswith("comm"):
            part.names[column] = names.numbers(values)
        elif types[column] == "string":
            part.columns[column] = text_column(values, totals)
        else:
            unsigned = fields[name].cpp_type == fields[name].CPPTYPE_UINT64
            part.numbers[column] = np.array(values, np.uint64 if unsigned else np.int64).view(np.int64)
    part.tid = part.numbers.pop("tid", part.tid)


def _other_columns(kind: str, messages: list[Any], totals: Totals) -> Iterator[tuple[str, pa.Array]]:
    given = [{one.name: value for one, value in message.ListFields()} for message in messages]
    for name in dict.fromkeys(name for fields in given for name in fields):
        yield f"{kind}__{name}", text_column([fields.get(name) for fields in given], totals)


def compact_events(sched: Any, number: int, names: Names) -> Iterator[Part]:
    """The compact switches and wakings of a bundle; times that cannot be are left out."""
    interned = np.append(names.numbers(sched.intern_table), -1)
    for kind, (rank, times, index, name, fields) in _COMPACT.items():
        count = min(len(getattr(sched, column)) for column in (times, index, *fields.values()))
        ts = np.cumsum(np.array(getattr(sched, times)[:count], np.uint64))
        place = np.flatnonzero(ts < LATEST)
        part = Part(kind, rank, ts[place].astype(np.int64), np.full(len(place), number), place)
        for column, source in fields.items():
            part.numbers[column] = np.array(getattr(sched, source)[:count], np.int64)[place]
        comm = np.array(getattr(sched, index)[:count], np.int64)[place]
        part.names[name] = interned[np.minimum(comm, len(interned) - 1)]
        if kind == "sched_waking":
            flags = np.array(sched.waking_common_flags[:count], np.int64)
            part.flags = np.append(flags, np.full(count - len(flags), NO_FLAGS))[place]
        if len(place):
            yield part
