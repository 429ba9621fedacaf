"""Perfetto's protobuf traces: the kernel's events in them (ftrace bundles, also compact ones) and names of threads.

Read with the classes of the ``perfetto`` package. Track events go to :mod:`import_tracks`; packets of other sources are
passed over and counted. In a compact bundle, the thread that leaves a CPU or wakes another is the one that the switch
before brought in. The softirq that a wakeup happened in is looked up at the end, since it may be in a later packet.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import accumulate
from typing import Any

from tracectl.recorder.import_spool import LONGEST_UNPARSED
from tracectl.recorder.import_tracks import TAKEN, Tracks
from tracectl.store.errors import RecordError, UserError
from tracectl.store.events import KINDS

Row = dict[str, Any]
_LONGEST_PACKET = 64 << 20
_PACKET_TAG = 0x0A
_TOO_LARGE = 1 << 31
_TARGET = {"comm": "target_comm", "pid": "target_tid", "prio": "target_prio", "target_cpu": "target_cpu"}
_WIDTHS = {"int16": 1 << 15, "int32": 1 << 31, "int64": 1 << 63}
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
# Bits of common_flags (include/linux/trace_events.h); the first that is set is the innermost.
_FLAGS = ((0x40, "nmi"), (0x08, "hardirq"), (0x10, "softirq"))


def is_perfetto(head: bytes) -> bool:
    """Whether a file is such a trace: packets one after the other, each with its tag and length."""
    at, packets = 0, 0
    while at < len(head) and packets < 3:
        size, start = _varint(head, at + 1) if head[at] == _PACKET_TAG else (0, 0)
        if not start or not size or size > _LONGEST_PACKET:
            return False
        at = start + size
        packets += 1
    # One packet alone could also be a text that begins with an empty line.
    return packets > 0 and any(byte < 9 or byte > 127 for byte in head[:64])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it); position 0 where it does not end."""
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
    return 0, 0


def packet_class() -> Any:
    """Perfetto's class of packets.

    Raises:
        RecordError: the package is not installed.
    """
    try:
        module = import_module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")  # an extra, and slow to import
    except ImportError as error:
        raise RecordError(
            "a Perfetto trace needs Perfetto's classes, which are not installed", "pip install perfetto"
        ) from error
    return module.TracePacket


class PerfettoTrace:
    """Reads one file.

    Attributes:
        passed_over: packets of other data sources, by what they hold.
    """

    def __init__(self, name: str) -> None:
        self.passed_over: Counter[str] = Counter()
        self._name = name
        self._class = packet_class()
        self._threads: dict[int, tuple[int | None, str | None]] = {0: (0, None)}
        self._running: dict[int, tuple[int, str, int | None]] = {}  # CPU -> tid, comm, priority
        self._softirqs: dict[int, list[tuple[int, int]]] = defaultdict(
            list
        )  # CPU -> (ts, vector, -1 at the end of one)
        self._in_softirq: list[Row] = []
        self._undecodable: type[Exception] = import_module("google.protobuf.message").DecodeError
        self._last_ts = 0
        self._last_by_cpu: dict[int, int] = {}
        self._tracks = Tracks(self.passed_over, self._threads)

    def batches(self, chunks: Iterable[bytes]) -> Iterator[list[Row]]:
        """The rows of one packet after the other, those of wakeups in a softirq and of tracks last."""
        yield from self._batches(chunks)
        for steps in self._softirqs.values():
            steps.sort()
        yield [{**row, "context_vec": self._vector(row["cpu"], row["ts"])} for row in self._in_softirq]
        yield self._tracks.rows()

    def _vector(self, cpu: int, ts: int) -> int | None:
        """The softirq that ran on a CPU at a time; one that ended at that very time still counts."""
        steps = self._softirqs[cpu]
        at = bisect_right(steps, (ts, _TOO_LARGE)) - 1
        if at > 0 and steps[at] == (ts, -1):
            at -= 1
        return steps[at][1] if at >= 0 and steps[at][1] >= 0 else None

    def _batches(self, chunks: Iterable[bytes]) -> Iterator[list[Row]]:
        number = 0
        for data in _packets(chunks, self._name):
            number += 1
            try:
                packet = self._class.FromString(data)
                inner = zlib.decompressobj().decompress(packet.compressed_packets, _LONGEST_PACKET)
            except (ValueError, zlib.error, self._undecodable):
                text = repr(data[:LONGEST_UNPARSED])
                self._tracks.unread()
                yield [
                    {"kind": "unparsed", "ts": self._last_ts or self._tracks.last_ts or 0, "line": number, "text": text}
                ]
                continue
            if inner:
                yield from self._batches([inner])
            elif rows := self._rows(packet):
                yield rows

    def _rows(self, packet: Any) -> list[Row]:
        self._tracks.take(packet)
        what = packet.WhichOneof("data")
        if what == "process_tree":
            for process in packet.process_tree.processes:
                self._threads[process.pid] = process.pid, process.cmdline[0] if process.cmdline else None
            for thread in packet.process_tree.threads:
                self._threads[thread.tid] = thread.tgid, thread.name or None
        elif what == "ftrace_events":
            return self._bundle(packet.ftrace_events)
        elif what and what not in TAKEN:
            self.passed_over[what] += 1
            if what == "zstd_compressed_packets":
                self._tracks.unread()
        return []

    def _bundle(self, bundle: Any) -> list[Row]:
        cpu = bundle.cpu
        steps = [(event.timestamp, 1, event) for event in bundle.event if event.WhichOneof("event")]
        steps += [(row["ts"], 0 if row["kind"] == "sched_waking" else 2, row) for row in _compact(bundle.compact_sched)]
        steps.sort(key=lambda step: step[:2])
        rows = [row for _, _, step in steps if (row := self._step(step, cpu)) is not None]
        if bundle.lost_events and rows:
            ts = rows[0]["ts"]
            since = min(self._last_by_cpu[cpu], ts) if cpu in self._last_by_cpu else None
            rows.insert(0, {"kind": "lost", "ts": ts, "cpu": cpu, "from_ts": since, "cause": "ring_full"})
        if rows:
            self._last_by_cpu[cpu] = rows[-1]["ts"]
        return rows

    def _step(self, step: Any, cpu: int) -> Row | None:
        """One event as a row, and what it does to the CPU's state; None for a row that comes at the end."""
        tid, comm, prio = self._running.get(cpu, (None, None, None))
        if isinstance(step, dict):
            row = {"tid": tid, "comm": comm, **step}
            if row["kind"] == "sched_switch":
                row["prev_prio"] = prio
        else:
            row = _event_row(step)
            if row["tid"] != tid:
                comm = None
            row.setdefault("comm", comm)
        row["cpu"] = cpu
        known = self._threads.get(row["tid"], (None, None))
        row["pid"] = known[0]
        row["comm"] = row["comm"] or (f"swapper/{cpu}" if row["tid"] == 0 else known[1])
        self._last_ts = row["ts"]
        kind = row["kind"]
        if kind == "sched_switch":
            row["prev_state"] = str(row["prev_state"])
            self._running[cpu] = row["next_tid"], row["next_comm"], row["next_prio"]
        elif kind in ("softirq_entry", "softirq_exit"):
            self._softirqs[cpu].append((row["ts"], row["vec"] if kind == "softirq_entry" else -1))
        elif kind == "sched_waking" and "flags" in row:
            flags = row.pop("flags")
            row["context"] = next((context for bit, context in _FLAGS if flags & bit), "task")
            row["context_source"] = "flags"
            if row["context"] == "softirq":
                self._in_softirq.append(row)
                return None
        return row


def _packets(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The packets of a trace; what is behind the last whole one is left out."""
    data = b""
    for chunk in chunks:
        data += chunk
        at = 0
        while at + 6 <= len(data) or (at < len(data) and len(chunk) < 6):
            size, start = _varint(data, at + 1)
            if data[at] != _PACKET_TAG or size > _LONGEST_PACKET:
                raise UserError(f"{name} is damaged as a Perfetto trace", "copy it again from where it was recorded")
            if not start or start + size > len(data):
                break
            yield data[start : start + size]
            at = start + size
        data = data[at:]


def _compact(sched: Any) -> Iterator[Row]:
    """Rows of the compact columns; times are differences, names indices."""
    names = sched.intern_table
    switches = zip(
        accumulate(sched.switch_timestamp), sched.switch_prev_state, sched.switch_next_pid, sched.switch_next_prio,
        sched.switch_next_comm_index, strict=False,
    )  # fmt: skip
    for ts, state, tid, prio, comm in switches:
        yield {
            "kind": "sched_switch", "ts": ts, "prev_state": state, "next_tid": tid, "next_prio": prio,
            "next_comm": names[comm] if comm < len(names) else None,
        }  # fmt: skip
    wakings = zip(
        accumulate(sched.waking_timestamp), sched.waking_pid, sched.waking_target_cpu, sched.waking_prio,
        sched.waking_comm_index, strict=False,
    )  # fmt: skip
    flags = sched.waking_common_flags
    for number, (ts, tid, cpu, prio, comm) in enumerate(wakings):
        own = {"flags": flags[number]} if number < len(flags) else {}
        yield {
            "kind": "sched_waking", "ts": ts, "target_tid": tid, "target_cpu": cpu, "target_prio": prio,
            "target_comm": names[comm] if comm < len(names) else None, **own,
        }  # fmt: skip


def _event_row(event: Any) -> Row:
    kind = event.WhichOneof("event")
    message = getattr(event, kind)
    row: Row = {"kind": kind, "ts": event.timestamp, "tid": event.pid}
    columns = _COLUMNS.get(kind)
    if columns is None:
        own = f"{kind}_event" if kind in KINDS else kind
        return {
            **{f"field_{f.name}" if f.name in row else f.name: value for f, value in message.ListFields()},
            **row,
            "kind": own,
        }
    types = {column.name: column.type.arrow for column in KINDS[kind].columns}
    for name, column in columns.items():
        if name in message.DESCRIPTOR.fields_by_name:
            row[column] = _fitting(getattr(message, name), types[column])
    if kind == "sched_waking" and event.HasField("common_flags"):
        row["flags"] = event.common_flags
    return row


def _fitting(value: Any, form: str) -> Any:
    """A number as the signed one of its column; None where it does not fit."""
    limit = _WIDTHS.get(form)
    if limit is None:
        return value
    if form == "int64" and value >= limit:
        value -= 2 * limit
    return value if -limit <= value < limit else None
