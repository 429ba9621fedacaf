"""Captures as Perfetto traces: scheduling, interrupts, gaps, and the answer's rows as a track of their own.

All times become boottime, Perfetto's own clock; the snapshots of the capture's clocks tell it monotonic and real time.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tracectl.export_clock import Clocks
from tracectl.export_perfetto_sched import SchedBundles, numbers
from tracectl.export_protobuf import (
    BUNDLE_EVENT,
    EVENT_TIMESTAMP,
    PACKET_FTRACE_EVENTS,
    TRACE_PACKET,
    Int64s,
    TraceFile,
    delimited,
    distinct,
    lanes,
    messages,
    stamped,
    varint,
)
from tracectl.export_rows import row_name

if TYPE_CHECKING:
    from tracectl.export_source import Source

_CLOCKS = {"realtime": 1, "monotonic": 3, "boottime": 6}  # perfetto.protos.BuiltinClock
# States are written with the bits that they have since this release; Perfetto chooses by the release.
_RELEASE_OF_STATES = (4, 14)


def write_perfetto(stream: IO[bytes], source: Source) -> None:
    """A Perfetto trace, for ui.perfetto.dev and trace_processor.

    Raises:
        UserError: the perfetto package is not installed.
    """
    pb = messages()
    asked = source.keep_answer("perfetto")
    trace = TraceFile(stream, pb)
    clocks = Clocks(source.capture)
    _machine(trace, source, clocks)
    _threads(trace, source)
    kinds = source.capture.kinds
    if "sched_switch" in kinds or "sched_waking" in kinds:
        for bundle in SchedBundles(pb, clocks).pages(source):
            trace.packet(ftrace_events=bundle)
    _births(trace, source, clocks)
    _handlers(trace, source, clocks)
    _own_tracks(trace, source, clocks)
    _gaps(trace, source, clocks)
    if asked:
        _answer(trace, source, clocks)


def _machine(trace: TraceFile, source: Source, clocks: Clocks) -> None:
    """The clocks, and which kernel it was."""
    pb, footer = trace.pb, source.capture.footer
    for clock in clocks.from_start(source.capture.start_ts):
        now = int(clocks.boottime(np.array([clock["ts"]]))[0])
        times = {"realtime": clock["realtime"], "monotonic": clock["ts"], "boottime": now}
        read = [pb.ClockSnapshot.Clock(clock_id=_CLOCKS[name], timestamp=time) for name, time in times.items()]
        trace.packet(
            timestamp=now, clock_snapshot=pb.ClockSnapshot(clocks=read, primary_trace_clock=_CLOCKS["boottime"])
        )
    found = re.match(r"(\d+)\.(\d+)", footer.kernel)
    known = found is not None and (int(found[1]), int(found[2])) >= _RELEASE_OF_STATES
    release = footer.kernel if known else ".".join(map(str, _RELEASE_OF_STATES)) + ".0"
    name = pb.Utsname(sysname="Linux", release=release, machine=footer.machine)
    trace.packet(system_info=pb.SystemInfo(utsname=name, num_cpus=len(source.capture.cpus)))


def _threads(trace: TraceFile, source: Source) -> None:
    """Names of the threads and processes that were there before their first event; the others are born."""
    rows = source.table(
        ["tasks", "sched_process_fork"],
        "SELECT tid, arg_max(pid, seq), arg_max(comm, seq) FROM tasks "
        "WHERE tid > 0 AND seq NOT IN (SELECT seq FROM sched_process_fork) GROUP BY 1",
    )
    tree = trace.pb.ProcessTree()
    for tid, pid, comm in zip(*rows.to_pydict().values(), strict=True):
        if tid == pid:
            tree.processes.add(pid=pid, cmdline=[comm or ""])
        elif pid:
            tree.threads.add(tid=tid, tgid=pid, name=comm or "")
    trace.packet(process_tree=tree)


def _ftrace(trace: TraceFile, cpus: Any, bodies: list[bytes], which: Any, times: Any) -> None:
    """Write whole ftrace events, ``bodies[which]`` at their times on their CPUs."""
    for cpu in np.unique(cpus).tolist():
        mine = cpus == cpu
        events = stamped(BUNDLE_EVENT, EVENT_TIMESTAMP, bodies, which[mine], times[mine])
        bundle = varint(1 << 3) + varint(cpu) + events
        trace.stream.write(delimited(TRACE_PACKET, delimited(PACKET_FTRACE_EVENTS, bundle)))


def _births(trace: TraceFile, source: Source, clocks: Clocks) -> None:
    """New threads: without these a tid that is used again would be one thread."""
    pb = trace.pb
    clone_thread = 0x10000

    def made(tid: int, pid: int, child: int, child_pid: int, comm: str) -> bytes:
        flags = clone_thread if child_pid == pid and child != child_pid else 0
        event = pb.FtraceEvent(pid=tid)
        event.task_newtask.pid, event.task_newtask.comm, event.task_newtask.clone_flags = child, comm or "", flags
        body: bytes = event.SerializeToString()
        return body

    # The last name of its life: the one at the fork is its parent's.
    source.keep(
        "births",
        ["sched_process_fork", "tasks"],
        "SELECT fork.seq, fork.ts, fork.cpu, fork.tid, fork.pid, child_tid, child_pid, COALESCE(task.comm, child_comm) "
        "AS name FROM sched_process_fork AS fork "
        "LEFT JOIN tasks AS task ON task.seq = fork.seq AND task.tid = child_tid "
        "WHERE child_tid IS NOT NULL",
    )
    for page in source.pages(["capture"], "SELECT * FROM births WHERE seq BETWEEN $first AND $last ORDER BY seq"):
        columns = [page.column(name).to_pylist() for name in ("tid", "pid", "child_tid", "child_pid", "name")]
        bodies, which = distinct(zip(*columns, strict=True), made)
        _ftrace(trace, numbers(page, "cpu"), bodies, which, clocks.boottime(numbers(page, "ts")))


def _edges(source: Source, table: str, names: list[str], sql: str) -> str:
    """Keep a relation's spans; returns the statement that reads a page of their begins and ends, in order."""
    source.keep(table, names, sql)
    rest = "* EXCLUDE (seq, ts, end_seq, end_ts)"
    return (
        f"SELECT * FROM (SELECT seq, ts, TRUE AS begins, {rest} FROM {table} "
        f"UNION ALL SELECT end_seq, end_ts, FALSE, {rest} FROM {table}) "
        "WHERE seq BETWEEN $first AND $last ORDER BY seq"
    )


def _handlers(trace: TraceFile, source: Source, clocks: Clocks) -> None:
    """Softirqs and device interrupts as the kernel's own events, for which Perfetto has tracks per CPU."""
    pb = trace.pb

    def softirq(begins: bool, tid: int, number: int, name: str) -> bytes:
        event = pb.FtraceEvent(pid=tid or 0)
        (event.softirq_entry if begins else event.softirq_exit).vec = number
        body: bytes = event.SerializeToString()
        return body

    def handler(begins: bool, tid: int, number: int, name: str) -> bytes:
        event = pb.FtraceEvent(pid=tid or 0)
        if begins:
            event.irq_handler_entry.irq, event.irq_handler_entry.name = number, name or ""
        else:
            event.irq_handler_exit.irq, event.irq_handler_exit.ret = number, 1
        body: bytes = event.SerializeToString()
        return body

    softirqs = "SELECT seq, ts, end_seq, end_ts, cpu, tid, vec AS number, name FROM softirqs"
    irqs = "SELECT seq, ts, end_seq, end_ts, cpu, tid, irq AS number, name FROM irqs WHERE source = 'handler'"
    for table, sql, made in (("softirqs", softirqs, softirq), ("irqs", irqs, handler)):
        for page in source.pages(["capture"], _edges(source, f"kept_{table}", [table], sql)):
            columns = [page.column(name).to_pylist() for name in ("begins", "tid", "number", "name")]
            bodies, which = distinct(zip(*columns, strict=True), made)
            _ftrace(trace, numbers(page, "cpu"), bodies, which, clocks.boottime(numbers(page, "ts")))


def _own_tracks(trace: TraceFile, source: Source, clocks: Clocks) -> None:
    """Timers and a CPU's own interrupts, as tracks of ours per CPU."""
    pb = trace.pb
    titles = {"hrtimer": "Hrtimer Cpu", "vector": "Vector Cpu"}
    tracks: dict[tuple[str, int], int] = {}

    def edge(begins: bool, kind: str, cpu: int, name: str) -> bytes:
        if (kind, cpu) not in tracks:
            tracks[kind, cpu] = trace.track(f"{titles[kind]} {cpu}")
        if not begins:
            return trace.event(type=pb.TrackEvent.TYPE_SLICE_END, track_uuid=tracks[kind, cpu])
        return trace.event(type=pb.TrackEvent.TYPE_SLICE_BEGIN, track_uuid=tracks[kind, cpu], name=name or kind)

    sql = "SELECT seq, ts, end_seq, end_ts, cpu, source AS kind, name FROM irqs WHERE source <> 'handler'"
    for page in source.pages(["capture"], _edges(source, "kept_own", ["irqs"], sql)):
        columns = [page.column(name).to_pylist() for name in ("begins", "kind", "cpu", "name")]
        bodies, which = distinct(zip(*columns, strict=True), edge)
        trace.events(bodies, which, clocks.boottime(numbers(page, "ts")))


def _gaps(trace: TraceFile, source: Source, clocks: Clocks) -> None:
    """Lost events, per CPU and stream a track: from the last event before the gap to the first after it."""
    columns = ("from_ts", "ts", "cpu", "stream", "lost_count", "cause")
    rows = source.table(
        ["lost"],
        f"SELECT COALESCE(from_ts, {source.capture.start_ts}) AS from_ts, "
        f"{', '.join(columns[1:])} FROM lost ORDER BY 1, seq",
    ).to_pylist()
    places = [f"Lost Cpu {'all' if row['cpu'] is None else row['cpu']}, {row['stream'] or 'all'}" for row in rows]
    for place in sorted(set(places)):
        mine = [row for row, its in zip(rows, places, strict=True) if its == place]
        names = [f"lost {'?' if row['lost_count'] is None else row['lost_count']} events" for row in mine]
        times = np.array([(row["from_ts"], row["ts"]) for row in mine], dtype=np.int64)
        _rows(trace, place, clocks.boottime(times), names, mine)


def _answer(trace: TraceFile, source: Source, clocks: Clocks) -> None:
    """The answer's rows: slices where they have a duration, else instants; what overlaps has a lane each."""
    table = source.answer_spans()
    times = np.stack([numbers(table, "begin"), numbers(table, "until")], axis=1)
    rows = table.drop_columns(["begin", "until"]).to_pylist()
    _rows(trace, f"Answer: {source.question}", clocks.boottime(times), [row_name(row) for row in rows], rows)


def _rows(trace: TraceFile, title: str, times: Int64s, names: list[str], rows: list[dict[str, Any]]) -> None:
    """Write rows as slices on a track, in as many lanes below it as overlap.

    Args:
        times: begin and end of each, boottime ns, in order of begin.
        names: what each is called.
        rows: their values.
    """
    parent = trace.track(title)
    tracks: list[int] = []
    spans = times.tolist()
    for (begin, end), name, row, lane in zip(spans, names, rows, lanes(spans), strict=True):
        if lane == len(tracks):
            tracks.append(trace.track(title, parent))
        trace.slice(tracks[lane], begin, max(begin, end), name, row.items())
